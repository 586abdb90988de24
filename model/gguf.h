/* The tensors and the metadata of a GGUF file, or of the files that one was split into, checked before they are
 * believed.
 *
 * Format (github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian: "GGUF", version, number of tensors and of
 * keys; keys, each with type and value; tensors, each with name, dimensions, type and offset; their bytes, aligned. A
 * file may be hostile: memory is taken for what the file really holds, arrays and long text are passed over, and all
 * sizes go through checked arithmetic. */
#ifndef QR_GGUF_H
#define QR_GGUF_H

#include <jansson.h>

#include "model/tensors.h"

#include "quire/hooks.h"

enum {
    QR_GGUF_MAX_KEYS   = 65536,
    QR_GGUF_MAX_KEY    = 256,  /* bytes */
    QR_GGUF_MAX_TEXT   = 1024, /* bytes of a value that is kept */
    QR_GGUF_NAME_BYTES = 128,  /* of a tensor's name, with its NUL */
};

/* The GGUF file that `path` means, into found_out[capacity]: itself, or the only one of a folder without safetensors,
 * where parts of one model count as one file; "": none. ERR_FORMAT: several. */
quire_status qr_gguf_find(const char *path, char *found_out, size_t capacity, quire_error *error);

/* The file, and its other parts where it is the first of several: name-00001-of-00003.gguf. Tensors have GGUF's names;
 * their shapes are in the order of qr_tensor. *metadata_out: an object of the first part's keys, the caller's to
 * release; a value that is not kept is an empty array or text. ERR_IO; ERR_FORMAT: the message names file, key or
 * tensor, and offset. */
quire_status qr_gguf_open(const char *path, const quire_allocator *allocator, qr_tensors **files_out,
                          json_t **metadata_out, quire_error *error);

#endif
