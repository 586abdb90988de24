/* The tensors of one or several safetensors files, checked before they are believed.
 *
 * Format (github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON object {name: {dtype, shape,
 * data_offsets}}, then the tensors' bytes without gaps. A file may be hostile: nothing larger than the file is
 * allocated before the header passed, and all sizes go through checked arithmetic. */
#ifndef QR_SAFETENSORS_H
#define QR_SAFETENSORS_H

#include "base/log.h"
#include "model/tensors.h"

enum { QR_SAFETENSORS_MAX_HEADER = 100000000, QR_SAFETENSORS_MAX_DEPTH = 8 };

/* `folder` with model.safetensors, or model.safetensors.index.json and the shards it names.
 * ERR_IO: missing or unreadable. ERR_FORMAT: not what it says; the message names file, tensor and offset. Where shards
 * and their list disagree about a tensor, it is warned of, since a model may not need it; see qr_tensor_doubt. */
quire_status qr_safetensors_open(const char *folder, const quire_allocator *allocator, qr_log *log,
                                 qr_tensors **files_out, quire_error *error);
/* One file. */
quire_status qr_safetensors_open_file(const char *path, const quire_allocator *allocator, qr_tensors **files_out,
                                      quire_error *error);

#endif
