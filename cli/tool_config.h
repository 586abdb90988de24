/* A configuration with all keys that the tool knows: the library's, those of bench/ and those of the commands. */
#ifndef QR_TOOL_CONFIG_H
#define QR_TOOL_CONFIG_H

#include "quire/config.h"

quire_status qr_tool_config_create(quire_config **config_out, quire_error *error);

/* Everything that depends on several keys. ERR_INVALID, with the place of the key at fault. */
quire_status qr_tool_config_check(quire_config *config, quire_error *error);

/* Makes the list of all keys, once. */
quire_status qr_tool_keys_load(quire_error *error);

/* The i-th key of the list, NULL past the end: for flags, completion and help. */
const quire_config_key *qr_tool_key_at(size_t index);

#endif
