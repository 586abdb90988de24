/* config.json, as Hugging Face writes it, becomes a checked qr_architecture.
 *
 * Every number has a range, and what belongs together is compared. A feature quire does not have is refused by name
 * rather than ignored: an ignored key would be a model that silently answers something else. */
#ifndef QR_CONFIG_JSON_H
#define QR_CONFIG_JSON_H

#include <jansson.h>

#include "model/architecture.h"

#include "quire/model.h"

enum { QR_CONFIG_MAX_BYTES = 1 << 20 };

/* `origin` names the text in messages. ERR_FORMAT: not JSON, a value of the wrong type or out of range, values that
 * contradict each other; ERR_UNSUPPORTED: an architecture or feature quire does not have. The message names the key and
 * the values. `overrides` replace numbers of the text before it is read; ERR_INVALID: no such key. */
quire_status qr_architecture_parse(const char *text, size_t length, const char *origin,
                                   const quire_shape_override *overrides, uint32_t override_count,
                                   qr_architecture *architecture_out, quire_error *error);

/* The same from a parsed object; messages call it `origin` as it is. */
quire_status qr_architecture_of(const json_t *root, const char *origin, qr_architecture *architecture_out,
                                quire_error *error);

/* The same from a file of at most QR_CONFIG_MAX_BYTES; ERR_IO: it cannot be read. */
quire_status qr_architecture_read(const char *path, qr_architecture *architecture_out, quire_error *error);

#endif
