/* y = x * W^T for few to many rows, W packed once, sharded by columns over the team's threads.
 *
 * Each thread owns a multiple of 64 columns of every matrix (the last may be padded), packs it into its own node's
 * memory itself and computes those columns for all rows: no reduction, no remote weights. The products come from
 * oneDNN's packed matmul (brgemm), or from quire's own panel kernels where oneDNN has no packed one or is slower; both
 * sum in one order for every row count, so that a row's bits do not depend on the batch. */
#ifndef QR_PROJECTION_H
#define QR_PROJECTION_H

#include "base/log.h"
#include "base/memory.h"
#include "kernels/kernels.h"

#include "quire/hooks.h"
#include "quire/status.h"
#include "quire/types.h"

/* What all projections of an engine share: the oneDNN engine, a stream and scratch per thread, the chosen paths. */
typedef struct qr_projection_context qr_projection_context;

typedef struct qr_projection_context_options {
    const qr_kernels *kernels;
    const char       *isa_cap; /* also caps oneDNN */
    uint32_t          thread_count;
    uint32_t          max_rows; /* of one call */
    quire_small_m     small_m;
    bool              batch_invariant;
    qr_log           *log; /* gets one line naming the implementation, a warning where it is not brgemm */
    quire_allocator   allocator;
    quire_allocator   shared; /* of the threads' scratch; without functions: allocator */
} qr_projection_context_options;

quire_status qr_projection_context_create(const qr_projection_context_options *options,
                                          qr_projection_context **context_out, quire_error *error);
void         qr_projection_context_destroy(qr_projection_context *context);

/* For reports: "brg:avx512_core_bf16", "gemm:jit", "own:avx2"; valid once a projection was finished. */
const char *qr_projection_implementation(const qr_projection_context *context);
/* Whether every finished projection passed its self-test of row independence. */
bool qr_projection_batch_invariant(const qr_projection_context *context);

typedef enum qr_activation {
    QR_ACTIVATION_NONE,
    QR_ACTIVATION_SILU,
    QR_ACTIVATION_GELU,     /* by erf */
    QR_ACTIVATION_GELU_NEW, /* by tanh */
    QR_ACTIVATION_RELU,
    QR_ACTIVATION_SWIGLU_OAI, /* gpt-oss, gated only: g sigmoid(1.702 g) (u + 1), g up to 7 and u within 7 of 0 */
} qr_activation;

/* Integer weights in scale groups: `group` adjacent input features of one column share a scale and, where there are
 * minima, a minimum. value = scale * code + minimum; 4-bit codes are 0 to 15 and, without minima, stand for code - 8;
 * 8-bit codes are -128 to 127 and have no minima. Scales and minima are kept as f16. */
typedef struct qr_code_format {
    uint32_t bits;  /* 4, 8; 0: no scale groups */
    uint32_t group; /* 32, 64, 128 */
    bool     has_minimum;
} qr_code_format;

static inline bool qr_codes_are_equal(const qr_code_format *a, const qr_code_format *b)
{
    return a->bits == b->bits && a->group == b->group && a->has_minimum == b->has_minimum;
}

typedef struct qr_projection_shape {
    uint32_t      k;       /* input features */
    uint32_t      columns; /* output features; of one half when gated */
    bool          gated;   /* two matrices of `columns`: out = activation(gate) * up, one pass */
    qr_activation activation;
    qr_dtype      dtype;   /* of weights and of x */
    bool          gathers; /* x may have an index */
    uint32_t      turn;    /* the thread with the first columns, modulo the team: many small matrices use all threads */
    qr_code_format
                codes; /* int8 only: the weights are in scale groups, and x has a scale per QR_CODES_BLOCK elements */
    const char *name;  /* for messages; borrowed for the projection's life */
} qr_projection_shape;

enum { QR_CODES_BLOCK = 128 }; /* scale_block of x beside weights in scale groups */

/* Where rows of W come from: files or a generator. Several sources stand one after the other (q, k, v); a gated
 * projection has exactly two (gate, up). `read` and `read_codes` are called on team threads, concurrently, once per row
 * range. */
typedef struct qr_weight_source {
    quire_status (*read)(void *context, uint32_t first_column, uint32_t column_count, float *out /* [count][k] */,
                         quire_error *error);
    void    *context;
    uint32_t columns;
    /* NULL, or instead of `read` where the projection has scale groups: the codes as they are stored, in the shape's
     * format, one a byte (8-bit ones as int8_t); scales and minima [count][ceil(k / group)], minima NULL without. */
    quire_status (*read_codes)(void *context, uint32_t first_column, uint32_t column_count,
                               uint8_t *codes /* [count][k] */, float *scales, float *minima, quire_error *error);
} qr_weight_source;

typedef struct qr_projection qr_projection;

/* The stride, in elements, of rows that projections read, at least `dim` rounded up to 64: an odd number of cache lines
 * where a kernel reads 16 rows at once, which would otherwise share sets of a cache. */
uint32_t qr_row_stride(const qr_kernels *kernels, qr_dtype dtype, uint32_t dim);

/* ERR_INVALID: a shape that no kernel can multiply, a format of codes that is none. */
quire_status qr_projection_check(const qr_projection_shape *shape, quire_error *error);

/* Divides the columns. Refuses what qr_projection_check() does. Thread: any. */
quire_status qr_projection_create(qr_projection_context *context, const qr_projection_shape *shape,
                                  qr_projection **projection_out, quire_error *error);
void         qr_projection_destroy(qr_projection *projection);

/* Bytes of thread's packed shard, 64-byte multiple; 0 when it has no columns. */
size_t qr_projection_shard_bytes(const qr_projection *projection, uint32_t thread);

/* Packs the thread's shard into `memory` (64-byte aligned, shard_bytes long, owned by the caller for the projection's
 * life). Runs on that thread. */
quire_status qr_projection_pack(qr_projection *projection, uint32_t thread, void *memory,
                                const qr_weight_source *sources, uint32_t source_count, quire_error *error);

/* After all threads packed: prepares every row count and runs the self-test. Thread: any, once. */
quire_status qr_projection_finish(qr_projection *projection, quire_error *error);

typedef struct qr_projection_out {
    qr_rows      to;          /* f32 or bf16; [rows][columns] */
    bool         add;         /* f32 only: to += result (the residual) */
    const float *bias;        /* [columns], when gated those of up behind them, or NULL; added before the activation */
    float        multiply;    /* 0 = 1; applied last but for the cap (T5's scaled logits) */
    const float *row_weights; /* [rows] multiply too, each its row; NULL: all 1 */
    float        softcap;     /* 0 = none; results become c * tanh(result / c) (Gemma 2's logits) */

    /* Of the results, made while they are in cache; f32 only, not with `add`. NULL: none. Then `to` needs to be written
     * in the rows that are `kept` only. */
    const qr_partial_lse *partial_lse;
    const bool           *kept; /* [rows], with partial log-sum-exp; NULL: all */
} qr_projection_out;

/* The thread's columns for all rows. Runs on that thread inside the team. Allocates nothing, but oneDNN does
 * (onednn.h); where it cannot, quire's kernel takes its place if both give the same bits, else results are lost. */
void qr_projection_run(const qr_projection *projection, uint32_t thread, const qr_rows *x, uint32_t row_count,
                       const qr_projection_out *out);

/* Shows each thread's scratch; `thread_node`: [threads]. */
void qr_projection_visit_memory(const qr_projection_context *context, const uint32_t *thread_node,
                                qr_memory_visitor *visit, void *context_of_visit);

/* Whether results were lost since this was last asked. Thread: any, between steps. */
bool qr_projection_take_lost(qr_projection_context *context);

/* Packed bytes of all threads, however many; also before anything is created, from the shape alone. */
uint64_t qr_projection_packed_bytes(const qr_projection_shape *shape);
uint64_t qr_projection_bytes(const qr_projection *projection);

#endif
