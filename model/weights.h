/* Tensors by Hugging Face's names, as f32 rows, wherever they come from: safetensors files or a seeded generator.
 * Reading is concurrent: a qr_weights does not change after it was opened. */
#ifndef QR_WEIGHTS_H
#define QR_WEIGHTS_H

#include <stdbool.h>

#include "model/architecture.h"
#include "model/tensors.h"

#include "quire/model.h"

typedef struct qr_weights {
    const qr_architecture *architecture;
    const qr_tensors      *files;       /* NULL: synthetic */
    uint64_t               seed;        /* synthetic */
    bool                   keeps_codes; /* products read the files' codes where they can, whatever their size */
    bool                   check;       /* files: a value that is not finite is an error */
} qr_weights;

/* How files hold a matrix. All but the first are of stacks: several matrices in one tensor, one after the other. */
typedef enum qr_matrix_form {
    QR_MATRIX_ROWS,
    QR_MATRIX_COLUMNS,   /* [stack][columns][rows] */
    QR_MATRIX_MXFP4,     /* [stack][rows][columns / 32][16] bytes of two codes; and beside it: */
    QR_MATRIX_EXPONENTS, /* [stack][rows][columns / 32] bytes. OCP Microscaling Formats 1.0, 5.2 */
} qr_matrix_form;

/* One tensor of shape [rows][columns] or a part of its rows, found and checked. A value: copy it, keep it as long as
 * the model lives. */
typedef struct qr_matrix {
    const qr_weights *weights;
    const qr_tensor  *tensor; /* files */
    uint32_t          rows, columns;
    uint32_t          slice; /* the tensor has several such matrices, one after the other: which */
    qr_matrix_form    form;
    uint32_t          part, parts; /* of a stack: row r is row r * parts + part of the slice; parts 0: as 1 */
    const qr_tensor  *exponents;   /* MXFP4 */
    uint64_t          key;         /* synthetic: of the random numbers */
    float             scale;       /* synthetic: as in the spec */
} qr_matrix;

enum { QR_TAPS = 3 }; /* of a convolution over rows, the last dimension of its weights */

/* What a model needs of a tensor. */
typedef struct qr_tensor_spec {
    const char    *name;
    uint32_t       rank;          /* 1, 2; 3: a stack, or in rows those of a convolution */
    uint32_t       rows, columns; /* outputs and inputs, times QR_TAPS of a convolution; rank 1: rows = 1 */
    uint32_t       stack;         /* so many of them */
    qr_matrix_form form;
    float    scale; /* synthetic: standard deviation; 0: a norm, whose elements are 1, or 0 as norms_less_one has it */
    qr_dtype dtype; /* what it is loaded as */
    qr_code_format codes; /* int8: in scale groups */
} qr_tensor_spec;

/* ERR_FORMAT: the files have no such tensor, or another shape; ERR_UNSUPPORTED: a dtype that cannot be read. */
quire_status qr_weights_find(const qr_weights *weights, const qr_tensor_spec *spec, qr_matrix *matrix_out,
                             quire_error *error);

/* Rows [first, first + count) as f32 into out[count][columns]. ERR_IO, ERR_FORMAT: the file changed since it was
 * opened. ERR_FORMAT, too: a value is not finite in bf16, where weights->check is set; the message names it. Thread:
 * any, concurrently. */
quire_status qr_matrix_read(const qr_matrix *matrix, uint32_t first, uint32_t count, float *out, quire_error *error);

/* Matrix i of a stack, every parts-th of its rows from `part` on. */
qr_matrix qr_stack_part(const qr_matrix *stack, uint32_t i, uint32_t parts, uint32_t part);

/* Part number `part` of `parts` of its rows is read soon: where it lies in a file, the system reads ahead. */
void qr_matrix_expect(const qr_matrix *matrix, uint32_t part, uint32_t parts);

/* How the files store the matrix called `name`; no bits: not as codes that products read, or there is no such one. */
qr_code_format qr_weights_codes(const qr_weights *weights, const char *name);

/* The matrix as the source of a projection whose weights are in `codes`; borrowed while the source is in use. */
qr_weight_source qr_matrix_source(const qr_matrix *matrix, const qr_code_format *codes);

/* What a model is made of, for the forward passes. Both live as long as the model. */
const qr_architecture *qr_model_architecture(const quire_model *model);
const qr_weights      *qr_model_weights(const quire_model *model);
/* As resolved from the options; of the weights. */
qr_dtype qr_model_weight_dtype(const quire_model *model);
/* Of weights that are in scale groups; no bits: none are. */
qr_code_format qr_model_weight_codes(const quire_model *model);

#endif
