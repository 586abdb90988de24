/* quire topo --verify: the pages of a running engine, counted by where they are. */
#ifndef QR_TOPO_VERIFY_H
#define QR_TOPO_VERIFY_H

#include "quire/quire.h"

enum { QR_VERIFY_STEPS = 200 };

/* Creates the configured engine, counts, runs `steps` steps of random requests, counts again and prints both. The exit
 * status: QR_EXIT_FAILED where a page is wrong, or where the kernel does not say. */
int qr_topo_verify(const quire_config *config, uint32_t steps);

#endif
