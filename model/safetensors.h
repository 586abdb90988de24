/* The tensor table of one or several safetensors files, checked before it is believed.
 *
 * Format (github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON object {name: {dtype, shape,
 * data_offsets}}, then the tensors' bytes without gaps. A file may be hostile: nothing larger than the file is
 * allocated before the header passed, all sizes go through checked arithmetic, and weights come by pread, so that a
 * file that is truncated while it is read is an error and not a signal. */
#ifndef QR_SAFETENSORS_H
#define QR_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

#include "quire/status.h"

enum {
    QR_SAFETENSORS_MAX_HEADER  = 100000000,
    QR_SAFETENSORS_MAX_TENSORS = 1000000,
    QR_SAFETENSORS_MAX_NAME    = 1024,
    QR_SAFETENSORS_MAX_RANK    = 8,
    QR_SAFETENSORS_MAX_DEPTH   = 8,
    QR_SAFETENSORS_MAX_FILES   = 1000,
};

/* Why a tensor must not be used. */
typedef enum qr_tensor_doubt {
    QR_TENSOR_SURE,
    QR_TENSOR_MISPLACED, /* the list of shards says that another file holds it, which does not */
    QR_TENSOR_CONTESTED, /* another file holds it with other values */
} qr_tensor_doubt;

typedef struct qr_tensor {
    const char     *name;
    const char     *dtype; /* "F32": static text */
    uint64_t        shape[QR_SAFETENSORS_MAX_RANK];
    uint32_t        rank;
    uint32_t        file;       /* number of the file in the table */
    uint64_t        begin, end; /* in that file, from its first byte */
    bool            listed;     /* the list of shards says that this file holds it */
    qr_tensor_doubt doubt;
} qr_tensor;

typedef struct qr_safetensors qr_safetensors;

/* `folder` with model.safetensors, or model.safetensors.index.json and the shards it names.
 * ERR_IO: missing or unreadable. ERR_FORMAT: not what it says; the message names file, tensor and offset. Where shards
 * and their list disagree about a tensor, it is warned of, since a model may not need it; see qr_tensor_doubt. */
quire_status qr_safetensors_open(const char *folder, const quire_allocator *allocator, qr_log *log,
                                 qr_safetensors **files_out, quire_error *error);
/* One file. */
quire_status qr_safetensors_open_file(const char *path, const quire_allocator *allocator, qr_safetensors **files_out,
                                      quire_error *error);
void         qr_safetensors_close(qr_safetensors *files); /* NULL is allowed */

uint32_t         qr_safetensors_count(const qr_safetensors *files);
const qr_tensor *qr_safetensors_at(const qr_safetensors *files, uint32_t index); /* ascending by name */

/* The tensor called `name`, or NULL. */
const qr_tensor *qr_safetensors_find(const qr_safetensors *files, const char *name);

/* The list of shards, or the one file there is; a tensor's own file. With the end of the folder's path: for messages.
 */
const char *qr_safetensors_name(const qr_safetensors *files);
const char *qr_safetensors_file_name(const qr_safetensors *files, const qr_tensor *tensor);

/* Elements [first, first + count) of a tensor of dtype F32, BF16 or F16, as f32. The range must lie inside the tensor.
 * ERR_IO: reading failed or the file changed since it was opened. ERR_UNSUPPORTED: another dtype. Thread: any. */
quire_status qr_safetensors_read(const qr_safetensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                 float *out, quire_error *error);

/* Whether two tensors have the same shape and values. ERR_IO. */
quire_status qr_safetensors_same(const qr_safetensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                                 quire_error *error);

/* Part number `part` of `parts` of the tensor is wanted soon. */
void qr_safetensors_expect(const qr_safetensors *files, const qr_tensor *tensor, uint32_t part, uint32_t parts);

/* ERR_UNSUPPORTED: qr_safetensors_read cannot convert its dtype. */
quire_status qr_safetensors_check_readable(const qr_safetensors *files, const qr_tensor *tensor, quire_error *error);

#endif
