/* Micro-benchmarks of the kernels, for `quire kernel`. They see internals and print ratios: absolute numbers of a
 * shared machine mean little. */
#ifndef QR_MICRO_H
#define QR_MICRO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/number.h"

enum { QR_MICRO_LIST_MAX = 16 };

/* Values of a flag such as --rows 1,4,16; count 0: the benchmark's own choice. */
typedef struct qr_micro_list {
    uint32_t count;
    uint64_t values[QR_MICRO_LIST_MAX];
} qr_micro_list;

enum { QR_MICRO_INT4 = QR_INT8 + 1 }; /* in a list of dtypes: weights of 4 bits, beside what else is int8 */

static inline const char *qr_micro_dtype_name(uint32_t dtype)
{
    return dtype == QR_MICRO_INT4 ? "int4" : qr_dtype_name((qr_dtype)dtype);
}

/* 0, NULL and empty lists mean the default. Every combination of the lists is a variant of its own. */
typedef struct qr_micro_options {
    const char   *isa, *cpus;
    uint32_t      threads, rounds;
    bool          json;
    qr_micro_list dtypes; /* qr_dtype or QR_MICRO_INT4; of weights or of the KV cache */
    qr_micro_list rows;   /* of a projection; query rows of each sequence */
    /* attention */
    qr_micro_list q_heads, run_bytes; /* run_bytes: contiguous keys and values; 0 = all */
    uint32_t      head_dim, kv_heads, context, sequences, block_size;
    uint32_t      shortest, longest; /* ragged: lengths drawn between these; 0 = all `context` */
    /* projection, rowwise */
    uint32_t k, columns;
    /* projection, step */
    uint32_t group_size; /* of int4: inputs that share a scale */
    /* step */
    const char *model;  /* folder or preset */
    uint32_t    layers; /* of a preset, num_hidden_layers; 0: its own */
    uint32_t    prompt; /* tokens of a prefill; 0: none */
    /* scheduler */
    uint32_t steps; /* of each load */
} qr_micro_options;

/* Each returns 0, or after a message on stderr 1, or 2 where an option cannot be. */
int qr_micro_attention(const qr_micro_options *options, FILE *out);
int qr_micro_projection(const qr_micro_options *options, FILE *out);
int qr_micro_rowwise(const qr_micro_options *options, FILE *out);
int qr_micro_barrier(const qr_micro_options *options, FILE *out);
int qr_micro_limits(const qr_micro_options *options, FILE *out);
int qr_micro_step(const qr_micro_options *options, FILE *out);
int qr_micro_scheduler(const qr_micro_options *options, FILE *out); /* of a model that takes no time */

#endif
