/* Tensors by name, as f32 rows, wherever they come from: safetensors files or a seeded generator.
 *
 * Names are Hugging Face's, given as a printf format with the layer number:
 *   qr_weights_find(weights, hidden, columns, &matrix, error, "model.layers.%u.mlp.gate_proj.weight", layer)
 * Reading is concurrent: a qr_weights does not change after it was opened. */
#ifndef QR_WEIGHTS_H
#define QR_WEIGHTS_H

#include <stdbool.h>

#include "model/architecture.h"
#include "model/safetensors.h"

#include "quire/model.h"

typedef struct qr_weights {
    const qr_architecture *architecture;
    const qr_safetensors  *files; /* NULL: synthetic */
    uint64_t               seed;  /* synthetic */
} qr_weights;

/* One tensor of shape [rows][columns], found and checked. A value: copy it, keep it as long as the model lives. */
typedef struct qr_matrix {
    const qr_weights *weights;
    const qr_tensor  *tensor; /* files */
    uint32_t          rows, columns;
    uint64_t          key;   /* synthetic: of the random numbers */
    float             scale; /* synthetic: standard deviation; 0: every element is 1 (norms) */
} qr_matrix;

/* ERR_FORMAT names the tensor and both shapes. rows = outputs, columns = inputs, as stored. */
quire_status qr_weights_find(const qr_weights *weights, uint32_t rows, uint32_t columns, qr_matrix *matrix_out,
                             quire_error *error, const char *name_format, ...) __attribute__((format(printf, 6, 7)));

/* Rows [first, first + count) as f32 into out[count][columns]. ERR_IO, ERR_FORMAT: the file changed since it was
 * opened. Thread: any, concurrently. */
quire_status qr_matrix_read(const qr_matrix *matrix, uint32_t first, uint32_t count, float *out, quire_error *error);

/* Part number `part` of `parts` of its rows is read soon: where it lies in a file, the system reads ahead. */
void qr_matrix_expect(const qr_matrix *matrix, uint32_t part, uint32_t parts);

/* The matrix as the source of a projection; borrowed while the source is in use. */
qr_weight_source qr_matrix_source(const qr_matrix *matrix);

/* A one-dimensional tensor (a norm, a bias) as out[count]. */
quire_status qr_weights_vector(const qr_weights *weights, uint32_t count, float *out, quire_error *error,
                               const char *name_format, ...) __attribute__((format(printf, 5, 6)));

bool qr_weights_has(const qr_weights *weights, const char *name);

/* Compares the files with the architecture: every tensor it needs is there in its shape and a readable dtype, and
 * nothing else is there but leftovers known to be harmless. */
quire_status qr_weights_check(const qr_weights *weights, quire_error *error);

/* What a model is made of, for the forward passes. Both live as long as the model. */
const qr_architecture *qr_model_architecture(const quire_model *model);
const qr_weights      *qr_model_weights(const quire_model *model);
/* As resolved from the options for this CPU under `isa_cap` (NULL: none): of weights and activations. */
qr_dtype qr_model_weight_dtype(const quire_model *model, const char *isa_cap);

#endif
