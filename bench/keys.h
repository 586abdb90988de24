/* The configuration keys that bench/ reads (keys.inc), and the rules between them. */
#ifndef QR_BENCH_KEYS_H
#define QR_BENCH_KEYS_H

#include "quire/config.h"

/* quire_config_create() and these keys. */
quire_status qr_bench_config_create(quire_config **config_out, quire_error *error);

/* The rules between keys; after quire_config_check(). ERR_INVALID, with the place of the key at fault. */
quire_status qr_bench_config_check(const quire_config *config, quire_error *error);

#endif
