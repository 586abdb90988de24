/* What a GGUF file says, in Hugging Face's words: so that families and configurations are described once. */
#ifndef QR_GGUF_CONFIG_H
#define QR_GGUF_CONFIG_H

#include <jansson.h>

#include "model/tensors.h"

/* Gives the tensors the names that transformers has for them, and makes of the metadata the object that config.json
 * would be, the caller's to release. Rows of q and k that llama.cpp keeps in pairs are marked to be read in halves;
 * tables of rotary factors move from the tensors into the object. ERR_FORMAT: a key is missing, of the wrong type or
 * contradicts another; ERR_UNSUPPORTED: an architecture or a feature that quire does not have. */
quire_status qr_gguf_translate(qr_tensors *files, const json_t *metadata, json_t **config_out, quire_error *error);

#endif
