/* What the files of the projection driver share: projection.c (life), projection_plan.c (oneDNN's prepared products),
 * projection_pack.c, projection_run.c, projection_self_test.c (and finish). */
#ifndef QR_PROJECTION_PARTS_H
#define QR_PROJECTION_PARTS_H

#include <stdatomic.h>

#include "base/bits.h"
#include "kernels/onednn.h"
#include "kernels/projection.h"
#include "kernels/projection_kernels.h"

enum {
    QR_SMALL_M        = QR_PRODUCT_ROWS, /* the own kernel is chosen up to here where oneDNN could run */
    QR_OWN_BLOCKS     = 4,               /* of QR_PRODUCT_ROWS rows that share each reading of the weights at most */
    QR_ARRANGED_BYTES = 1 << 20,         /* and of their rows: a part of L2 is left for the weights */
    QR_TILED_BYTES    = 9 << 17, /* of the rows of one tiled product: with two panels of 64 KB, half of L2 and a bit */
    QR_ONEDNN_ROWS    = 128,     /* most rows of one oneDNN call; speed no longer grows there */
    QR_BUCKETS_MAX    = 48,
    QR_PACK_ALIGNMENT = 64,
};

/* oneDNN's matmuls of one (dtype, k, columns) for one thread; shared by the layers of a model. */
typedef struct qr_projection_plan {
    struct qr_projection_plan *next;
    uint32_t                   thread, k, columns;
    qr_dtype                   dtype;
    qr_onednn_weights         *weights;
    qr_onednn_matmul          *matmuls[QR_BUCKETS_MAX]; /* [bucket_count] */
    uint32_t                   bucket_count;
    size_t                     scratch_bytes;
} qr_projection_plan;

/* What the self-test found, once per shape: columns = 0 is the own kernel alone, else oneDNN's product. */
typedef struct qr_projection_verdict {
    struct qr_projection_verdict *next;
    qr_dtype                      dtype;
    qr_code_format                codes;
    uint32_t                      k, columns;
    bool                          rows_agree; /* a row has the same bits in every number of rows */
    bool                          own_agrees; /* and the own kernel gives them too */
} qr_projection_verdict;

typedef struct qr_projection_scratch {
    char  *memory;
    size_t bytes;
} qr_projection_scratch;

struct qr_projection_context {
    qr_projection_context_options options;
    const qr_kernels             *kernels;
    qr_onednn                    *onednn; /* NULL: not used by this instruction set */
    qr_projection_plan           *plans;
    qr_projection_verdict        *verdicts;
    char                          implementation[64], logged[64];
    bool                          refused[3]; /* by dtype: oneDNN has no packed matmul, which was logged */
    bool                          batch_invariant;
    _Atomic bool                  lost;      /* results, since qr_projection_take_lost() */
    qr_projection_scratch         scratch[]; /* [thread_count] */
};

typedef struct qr_projection_share {
    uint32_t            first_group, group_count; /* of output columns */
    char               *memory;                   /* panels | int8: compensation[columns], scales[columns] */
    qr_projection_plan *plan;
} qr_projection_share;

struct qr_projection {
    qr_projection_context *context;
    qr_projection_shape    shape;
    const qr_panel_format *format;
    uint32_t               k;          /* padded */
    uint32_t               halves;     /* 2 when gated: groups of gate and up alternate */
    bool                   plain;      /* [columns][k] for oneDNN's unpacked matmul */
    bool                   onednn;     /* oneDNN runs where the own kernel is not chosen */
    bool                   small_own;  /* the own kernel runs up to QR_SMALL_M rows */
    bool                   own_agrees; /* with oneDNN, in bits */
    qr_projection_share    shards[];   /* [thread_count] */
};

static inline uint32_t qr_packed_columns(const qr_projection *p, const qr_projection_share *s)
{
    return s->group_count * p->halves * QR_GROUP_COLUMNS;
}

static inline bool qr_has_scale_groups(const qr_projection_shape *shape) { return shape->codes.bits != 0; }

/* Most rows of one product call: those of a tiled format, a multiple of 32 but for a large k, stay in L2. */
static inline uint32_t qr_product_rows(const qr_projection *p)
{
    if (!p->format->tiled) return QR_PRODUCT_ROWS;
    const uint32_t fit = (uint32_t)(QR_TILED_BYTES / ((size_t)p->k * p->format->x_bytes)) / 32 * 32;
    return qr_max_u32(QR_PRODUCT_ROWS, qr_min_u32(fit, QR_TILED_ROWS));
}

/* What QR_PRODUCT_ROWS rows take in the own kernel's form. */
static inline size_t qr_arranged_bytes(const qr_projection *p)
{
    return (size_t)QR_PRODUCT_ROWS * p->k * p->format->x_bytes + QR_ARRANGE_SLACK;
}

/* Most rows that the own kernel takes through a thread's columns together. Codes in scale groups are too few bytes for
 * that to gain anything. */
static inline uint32_t qr_own_rows(const qr_projection *p)
{
    if (p->format->tiled) return qr_product_rows(p);
    const uint64_t blocks = qr_has_scale_groups(&p->shape) ? 1 : QR_ARRANGED_BYTES / qr_arranged_bytes(p);
    return (uint32_t)(blocks < 1 ? 1 : qr_min_u64(blocks, QR_OWN_BLOCKS)) * QR_PRODUCT_ROWS;
}

/* Of one column's codes and scales of the first `k` inputs. */
static inline size_t qr_code_bytes(const qr_code_format *codes, uint32_t k)
{
    return (size_t)k * codes->bits / 8 + qr_ceil_div_u32(k, codes->group) * qr_group_scale_bytes(codes);
}

/* Packed bytes of one column in its panel. */
static inline size_t qr_column_bytes(const qr_projection_shape *shape)
{
    const uint32_t k = qr_round_up_u32(shape->k, QR_K_MULTIPLE);
    return qr_has_scale_groups(shape) ? qr_code_bytes(&shape->codes, k) : k * qr_dtype_bytes(shape->dtype);
}

static inline size_t qr_group_bytes(const qr_projection *p) { return QR_GROUP_COLUMNS * qr_column_bytes(&p->shape); }

/* int8 without scale groups has a scale and a sum per column. */
static inline bool qr_has_column_scales(const qr_projection_shape *shape)
{
    return shape->dtype == QR_INT8 && !qr_has_scale_groups(shape);
}

/* Those extras behind the panels, where oneDNN looks for its compensation as well. */
static inline int32_t *qr_compensation_of(const qr_projection *p, const qr_projection_share *s)
{
    return (int32_t *)(void *)(s->memory + s->group_count * p->halves * qr_group_bytes(p));
}

static inline float *qr_column_scales_of(const qr_projection *p, const qr_projection_share *s)
{
    return (float *)(void *)(qr_compensation_of(p, s) + qr_packed_columns(p, s));
}

/* Rows [row, row + count) of x, padded to the shard's k; those of `out` begin at out_row. */
typedef struct qr_row_block {
    const qr_rows *x;
    uint32_t       row, count, out_row;
} qr_row_block;

static inline const char *qr_row_of(const qr_rows *x, uint32_t row)
{
    return (const char *)x->data + (size_t)row * x->stride * qr_dtype_bytes(x->dtype);
}

/* ---- a thread's scratch: rows as the own kernel reads them, its sums | rows for oneDNN, its sums, its own | rows
 * gathered by index, their scales ---- */

typedef struct qr_scratch_layout {
    size_t own_x, own_sums, onednn_x, onednn_sums, onednn_scratch, gathered, gathered_scales, bytes;
} qr_scratch_layout;

qr_scratch_layout qr_projection_layout_scratch(const qr_projection *p, const qr_projection_share *s);

/* ---- projection_plan.c ---- */

/* Chooses oneDNN where it has a packed matmul and prepares it. ERR_UNSUPPORTED of oneDNN is not an error here: the own
 * kernels do the work. */
quire_status qr_projection_choose_path(qr_projection *p, quire_error *error);
void         qr_projection_plan_destroy(qr_projection_context *c, qr_projection_plan *p);
/* Rows of prepared product number `bucket`, ascending; the number of the first that holds `rows`. */
uint32_t qr_projection_bucket_rows(bool plain, uint32_t bucket);
uint32_t qr_projection_bucket_for(bool plain, uint32_t rows);
/* Most rows of one oneDNN call. */
uint32_t qr_projection_block_rows(const qr_projection *p);

/* ---- projection_pack_codes.c ---- */

/* Where columns of W come from, several sources standing one after the other. */
typedef struct qr_source_range {
    const qr_weight_source *source;
    uint32_t                first, count; /* columns of the source */
} qr_source_range;

/* The first part of columns [first, first + count) of all sources that one source has; count > 0. */
qr_source_range qr_projection_source_of(const qr_weight_source *sources, uint32_t first, uint32_t count);

/* Bytes of scratch that packing scale groups needs. */
size_t qr_projection_codes_scratch(const qr_projection_shape *shape);

/* Columns [first, first + count), at most QR_GROUP_COLUMNS, into a group of panels with scale groups. */
quire_status qr_projection_pack_codes(const qr_projection *p, const qr_weight_source *sources, uint32_t first,
                                      uint32_t count, void *scratch, char *group, quire_error *error);

/* ---- projection_run.c: bare sums, for the self-test ---- */

/* The first groups of the shard by the own kernel: [count][groups * 64] in `sums`. */
void qr_projection_own_sums(const qr_projection *p, uint32_t thread, const qr_row_block *block, uint32_t groups,
                            float *sums);
/* The whole shard by oneDNN: [count][packed columns], in the thread's scratch until the next call. */
float *qr_projection_onednn_sums(const qr_projection *p, uint32_t thread, const qr_row_block *block);

#endif
