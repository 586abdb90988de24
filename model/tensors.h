/* The tensors of a model's files in one table, whatever the files' format: what safetensors.h opens.
 *
 * A file may be hostile: its table is checked before it is believed (by the readers of the formats), and numbers come
 * by pread, so that a file that is truncated while it is read is an error and not a signal. */
#ifndef QR_TENSORS_H
#define QR_TENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "model/tensor_format.h"

#include "quire/status.h"

enum {
    QR_TENSORS_MAX       = 1000000,
    QR_TENSORS_MAX_NAME  = 1024,
    QR_TENSORS_MAX_RANK  = 8,
    QR_TENSORS_MAX_FILES = 1000,
};

/* Why a tensor must not be used. */
typedef enum qr_tensor_doubt {
    QR_TENSOR_SURE,
    QR_TENSOR_MISPLACED, /* the list of shards says that another file holds it, which does not */
    QR_TENSOR_CONTESTED, /* another file holds it with other values */
} qr_tensor_doubt;

typedef struct qr_tensor {
    const char             *name;
    const qr_tensor_format *format;
    uint64_t                shape[QR_TENSORS_MAX_RANK]; /* the last is the one along which elements lie side by side */
    uint32_t                rank;
    uint32_t                file;       /* number of the file in the table */
    uint64_t                begin, end; /* in that file, from its first byte */
    uint32_t paired_rows;               /* 0, or: in every so many rows, row i of the first half and row i of the second
                                         * stand side by side; read as if the halves were one after the other */
    float                   raised;     /* what was added to each element as it was stored; read without */
    bool                    listed;     /* the list of shards says that this file holds it */
    const struct qr_packed *packed;     /* NULL: the elements stand in the file as `format` says; else packed.h */
    qr_tensor_doubt         doubt;
} qr_tensor;

typedef struct qr_tensors qr_tensors;

void qr_tensors_close(qr_tensors *files); /* NULL is allowed */

uint32_t         qr_tensors_count(const qr_tensors *files);
const qr_tensor *qr_tensors_at(const qr_tensors *files, uint32_t index); /* ascending by name */

/* The tensor called `name`, or NULL. */
const qr_tensor *qr_tensors_find(const qr_tensors *files, const char *name);

/* The list of shards, or the one file there is; a tensor's own file. With the end of the folder's path: for messages.
 */
const char *qr_tensors_name(const qr_tensors *files);
const char *qr_tensors_file_name(const qr_tensors *files, const qr_tensor *tensor);

/* What describes the model beside the tensors: "config.json", for messages. */
const char *qr_tensors_config_name(const qr_tensors *files);

/* Elements [first, first + count) as f32. The range must lie inside the tensor and begin and end with a block; with a
 * row, where rows are paired or packed. ERR_IO: reading failed or the file changed since it was opened.
 * ERR_UNSUPPORTED: a format without f32. Thread: any. */
quire_status qr_tensors_read(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                             float *out, quire_error *error);

/* Bytes [offset, offset + count) of the tensor as they are. ERR_IO. Thread: any. */
quire_status qr_tensors_read_bytes(const qr_tensors *files, const qr_tensor *tensor, uint64_t offset, uint64_t count,
                                   void *out, quire_error *error);

/* How products can read the tensor, a matrix, as it is stored; no bits: they cannot. */
qr_code_format qr_tensors_codes(const qr_tensor *tensor);

/* Rows [first, first + count) in that form, as of qr_weight_source. Errors and thread as qr_tensors_read. */
quire_status qr_tensors_read_codes(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                   uint8_t *codes, float *scales, float *minima, quire_error *error);

/* Whether two tensors have the same shape and values. ERR_IO. */
quire_status qr_tensors_same(const qr_tensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                             quire_error *error);

/* Part number `part` of `parts` of the tensor is wanted soon. */
void qr_tensors_expect(const qr_tensors *files, const qr_tensor *tensor, uint32_t part, uint32_t parts);

/* "[64, 32]", cut to what `capacity` holds: for messages. */
void qr_tensors_format_shape(char *text, size_t capacity, const qr_tensor *tensor);

/* ERR_UNSUPPORTED: qr_tensors_read cannot convert its format. */
quire_status qr_tensors_check_readable(const qr_tensors *files, const qr_tensor *tensor, quire_error *error);

#endif
