/* Dense attention in double precision, straight from the formulas: what the paged kernels are compared with. */
#ifndef REFERENCE_ATTENTION_H
#define REFERENCE_ATTENTION_H

#include "kernels/attention.h"

/* One sequence: keys 0 .. keys-1, query rows at positions first .. first + rows - 1. Raw rows, before norm and rope. */
typedef struct reference_sequence {
    uint32_t     keys, first, rows;
    const float *q;     /* [rows][heads * head_dim] */
    const float *k, *v; /* [keys][kv_heads * head_dim] */
} reference_sequence;

/* out[rows][heads * head_dim]. */
void reference_attention(const qr_attention_shape *shape, const qr_attention_prologue *prologue,
                         const qr_attention_bias *bias, const float *sinks, const reference_sequence *sequence,
                         double *out);

#endif
