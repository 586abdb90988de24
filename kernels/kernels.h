/* The compute primitives, one table per instruction set.
 *
 * Primitives are single-threaded, allocate nothing, and know raw arrays and sizes only. They are spread over cores by
 * the drivers (attention.c, projection.c) and by model/, which contain no intrinsics. Every row is computed alone, in
 * f32, its sums in one fixed order per instruction set, so that its bits do not depend on the batch. */
#ifndef QR_KERNELS_H
#define QR_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/number.h"

#include "quire/status.h"

/* Activations as a projection reads them. Row r starts at data + r * stride * element size; elements [dim, stride) are
 * zero; data and rows are 64-byte aligned, see qr_row_stride() in projection.h. */
typedef struct qr_rows {
    void    *data;
    qr_dtype dtype;
    uint32_t dim, stride; /* elements */
    float   *scales;      /* int8 only: value = code * scale; [rows], or [rows][qr_row_scales()] */
    uint32_t scale_block; /* int8: elements of a row that share a scale; 0: all */

    /* Of what a projection reads or writes: its row r is row index[r]. NULL: row r. */
    const uint32_t *index;
} qr_rows;

/* Scales of one row of int8 codes. */
static inline uint32_t qr_row_scales(const qr_rows *rows)
{
    return rows->scale_block > 0 ? (rows->dim + rows->scale_block - 1) / rows->scale_block : 1;
}

enum { QR_LSE_COLUMNS = 64 };

/* Of a row of logits, by groups of 64 columns: what its best column and the sum of its exponentials need, made while
 * the group is in cache. Groups are absolute, so that the bits do not depend on who computed which. [rows][groups] */
typedef struct qr_partial_lse {
    float    *greatest; /* of the group; NaN where one of its columns is not finite */
    float    *sum_exp;  /* exp(x - greatest), over the group */
    uint32_t *best;     /* lowest column that holds it */
    uint32_t  groups;   /* ceil(columns / 64) */
} qr_partial_lse;

/* Those of one row and the ones after it, from `group` on. */
static inline qr_partial_lse qr_partial_lse_at(const qr_partial_lse *partial_lse, uint32_t row, uint32_t group)
{
    const size_t at = (size_t)row * partial_lse->groups + group;
    return (qr_partial_lse){partial_lse->greatest + at, partial_lse->sum_exp + at, partial_lse->best + at,
                            partial_lse->groups};
}

typedef struct qr_kernels {
    const char *isa; /* "avx2": as printed in logs and reports */

    /* ---- rowwise (rowwise_template.h) ---- */

    /* out[dim] = in[dim] * weight[dim] / sqrt(mean(in^2) + epsilon), written as row `row` of `out` in its dtype.
     * Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4; the same is T5LayerNorm. */
    void (*rms_norm)(const qr_rows *out, uint32_t row, const float *in, const float *weight, float epsilon);

    /* out[dim] = (in[dim] - mean(in)) * weight[dim] / sqrt(variance(in) + epsilon) + bias[dim], likewise. `in` may be
     * the row itself, in f32. Ba et al. 2016, arXiv:1607.06450, eq. 4. */
    void (*layer_norm)(const qr_rows *out, uint32_t row, const float *in, const float *weight, const float *bias,
                       float epsilon);

    /* Writes in[dim] as row `row` of `out`: to bf16 nearest even, to int8 symmetric with scale max|x| / 127, of the row
     * or of each of its blocks. scale_block is a multiple of 16. */
    void (*convert)(const qr_rows *out, uint32_t row, const float *in);

    /* Index of the greatest of x[count], the lowest of equals; NaN never wins. *value_out = that element. count >= 1.
     */
    uint32_t (*argmax)(const float *x, uint32_t count, float *value_out);

    /* The partial log-sum-exp of columns [first, first + count) of a row, count <= 64, to the first element of `out`.
     */
    void (*partial_lse)(const qr_partial_lse *out, const float *x, uint32_t first, uint32_t count);

    /* Sum over a row's groups of sum_exp * exp(greatest - top); count <= 4096 (callers add segments). */
    float (*merge_exp)(const qr_partial_lse *partial_lse, uint32_t count, float top);

    /* scaled[i] = (x[i] - top) / temperature and weights[i] = exp(scaled[i]), 0 below -87; returns the sum of the
     * weights. top is the greatest of x, temperature > 0, count <= 4096 (callers add segments in ascending order). */
    float (*exp_scaled)(float *scaled, float *weights, const float *x, uint32_t count, float top, float temperature);

    /* Sum of weights[i] over those i < count with x[i] >= floor; 0 <= count <= 4096. */
    float (*sum_from)(const float *x, const float *weights, uint32_t count, float floor);

    /* out[i] += in[i] * scale. */
    void (*axpy)(float *out, const float *in, float scale, uint32_t count);

    const struct qr_limit_loops *limits; /* limits.h */

    /* Further slots are private to kernels/: see attention.h and projection.h for what drives them. */
    const struct qr_attention_kernels  *attention;
    const struct qr_projection_kernels *projection;
} qr_kernels;

/* Best table this machine can run, at most `cap` ("avx2"; NULL = no cap; the environment's QUIRE_ISA caps as well).
 * NULL if a cap is unknown. Where that is avx512_bf16 and no cap names it, a probe of 1 ms, once per process, takes
 * avx512_vnni instead if this CPU multiplies bf16 faster when it is widened to f32. */
const qr_kernels *qr_kernels_select(const char *cap);
/* The same of a machine that has no more than these QR_CPU_ features. */
const qr_kernels *qr_kernels_select_with(uint32_t features, const char *cap);
/* What the user should know of the choice, as a sentence; NULL: nothing. */
const char *qr_kernels_remark(const qr_kernels *chosen);
/* Whether the loop of f32 multiplies clearly faster than that of bf16. Takes 1 ms. */
bool qr_bf16_is_faster_widened(const struct qr_limit_loops *loops);

/* Refuses a cap that qr_kernels_select() would not know, ERR_INVALID with the name of key or variable. */
quire_status qr_kernels_check_cap(const char *cap, quire_error *error);

/* All tables this machine can run, best first; the last one is scalar, the reference. */
uint32_t qr_kernels_available(const qr_kernels **tables, uint32_t capacity);

#endif
