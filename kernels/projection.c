/* The driver of projections: shards, packing, the choice between oneDNN and quire's own kernels, the self-test.
 *
 * A product of few rows (or of any number, where oneDNN has no packed matmul) goes group by group through the own
 * kernel and the epilogue, so that sums never leave the cache. oneDNN computes blocks of up to 128 rows of the whole
 * shard into scratch, then the same epilogue runs. Both give the same bits, which is checked before it is relied on. */
#include "kernels/projection.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernels/cpu.h"
#include "kernels/onednn.h"
#include "kernels/projection_kernels.h"

enum {
    SMALL_M          = 16,  /* the own kernel is chosen up to here where oneDNN could run */
    ONEDNN_ROWS      = 128, /* most rows of one oneDNN call; speed no longer grows there */
    GEMM_ROWS        = 6,   /* oneDNN's unpacked AVX2 matmul: rows differ unless M is a multiple of this */
    BUCKETS_MAX      = 48,
    K_MAX            = 65536, /* sums of int8 products stay below 2^31 */
    ALIGNMENT        = 64,
    SELF_TEST_GROUPS = 1,
};

/* ---- objects ---- */

/* oneDNN's matmuls of one (dtype, k, columns) for one thread; shared by the layers of a model. */
typedef struct plan {
    struct plan       *next;
    uint32_t           thread, k, columns;
    qr_dtype           dtype;
    qr_onednn_weights *weights;
    qr_onednn_matmul  *matmuls[BUCKETS_MAX]; /* [bucket_count] */
    uint32_t           bucket_count;
    size_t             scratch_bytes;
} plan;

/* What the self-test found, once per shape: columns = 0 is the own kernel alone, else oneDNN's product. */
typedef struct verdict {
    struct verdict *next;
    qr_dtype        dtype;
    uint32_t        k, columns;
    bool            rows_agree; /* a row has the same bits in every number of rows */
    bool            own_agrees; /* and the own kernel gives them too */
} verdict;

typedef struct thread_scratch {
    char  *memory;
    size_t bytes;
} thread_scratch;

struct qr_projection_context {
    qr_projection_context_options options;
    const qr_kernels             *kernels;
    qr_onednn                    *onednn; /* NULL: not used by this instruction set */
    plan                         *plans;
    verdict                      *verdicts;
    char                          implementation[64], logged[64];
    bool                          refused[3]; /* by dtype: oneDNN has no packed matmul, which was logged */
    bool                          batch_invariant;
    thread_scratch                scratch[]; /* [thread_count] */
};

typedef struct shard {
    uint32_t first_group, group_count; /* of output columns */
    char    *memory;                   /* panels | int8: compensation[columns], scales[columns] */
    plan    *plan;
} shard;

struct qr_projection {
    qr_projection_context *context;
    qr_projection_shape    shape;
    const qr_panel_format *format;
    uint32_t               k;         /* padded */
    uint32_t               halves;    /* 2 when gated: groups of gate and up alternate */
    bool                   plain;     /* [columns][k] for oneDNN's unpacked matmul */
    bool                   onednn;    /* oneDNN runs where the own kernel is not chosen */
    bool                   small_own; /* the own kernel runs up to SMALL_M rows */
    shard                  shards[];  /* [thread_count] */
};

static size_t projection_size(const qr_projection_context *c)
{
    return sizeof(qr_projection) + c->options.thread_count * sizeof(shard);
}

static uint32_t packed_columns(const qr_projection *p, const shard *s)
{
    return s->group_count * p->halves * QR_GROUP_COLUMNS;
}

static size_t group_bytes(const qr_projection *p)
{
    return (size_t)QR_GROUP_COLUMNS * p->k * qr_dtype_bytes(p->shape.dtype);
}

/* The int8 extras behind the panels, where oneDNN looks for its compensation as well. */
static int32_t *compensation_of(const qr_projection *p, const shard *s)
{
    return (int32_t *)(void *)(s->memory + s->group_count * p->halves * group_bytes(p));
}

static float *column_scales_of(const qr_projection *p, const shard *s)
{
    return (float *)(void *)(compensation_of(p, s) + packed_columns(p, s));
}

/* ---- context ---- */

static bool wants_onednn(const qr_projection_context *c)
{
    const qr_panel_format *formats = c->kernels->projection->formats;
    return formats[QR_F32].onednn_layout || c->options.small_m == QUIRE_SMALL_M_ONEDNN;
}

quire_status qr_projection_context_create(const qr_projection_context_options *options,
                                          qr_projection_context **context_out, quire_error *error)
{
    *context_out = NULL;
    if (options->thread_count == 0 || options->max_rows == 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "projections: %u threads and %u rows, at least 1 of each",
                       options->thread_count, options->max_rows);
    qr_assert(options->kernels != NULL && options->kernels->projection != NULL);
    const size_t           size = sizeof(qr_projection_context) + options->thread_count * sizeof(thread_scratch);
    qr_projection_context *c    = qr_allocate(&options->allocator, size, ALIGNMENT);
    if (c == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "projections: %zu bytes of memory are missing", size);
    c->options         = *options;
    c->kernels         = options->kernels;
    c->batch_invariant = true;
    if (wants_onednn(c)) {
        const quire_status status =
            qr_onednn_create(c->kernels->isa, options->thread_count, &options->allocator, &c->onednn, error);
        if (status != QUIRE_OK) {
            qr_projection_context_destroy(c);
            return status;
        }
    }
    *context_out = c;
    return QUIRE_OK;
}

static void plan_destroy(qr_projection_context *c, plan *p)
{
    if (p == NULL) return;
    for (uint32_t i = 0; i < p->bucket_count; i++) qr_onednn_matmul_destroy(p->matmuls[i]);
    qr_onednn_weights_destroy(p->weights);
    qr_deallocate(&c->options.allocator, p, sizeof *p);
}

void qr_projection_context_destroy(qr_projection_context *c)
{
    if (c == NULL) return;
    for (plan *p = c->plans, *next; p != NULL; p = next) {
        next = p->next;
        plan_destroy(c, p);
    }
    for (verdict *v = c->verdicts, *next; v != NULL; v = next) {
        next = v->next;
        qr_deallocate(&c->options.allocator, v, sizeof *v);
    }
    qr_onednn_destroy(c->onednn);
    const quire_allocator allocator = c->options.allocator;
    for (uint32_t i = 0; i < c->options.thread_count; i++)
        qr_deallocate(&allocator, c->scratch[i].memory, c->scratch[i].bytes);
    qr_deallocate(&allocator, c, sizeof *c + c->options.thread_count * sizeof(thread_scratch));
}

const char *qr_projection_implementation(const qr_projection_context *context) { return context->implementation; }

bool qr_projection_batch_invariant(const qr_projection_context *context) { return context->batch_invariant; }

qr_dtype qr_projection_preferred_dtype(const qr_kernels *kernels)
{
    return kernels->projection->native_bf16 ? QR_BF16 : QR_F32;
}

/* ---- plans ---- */

/* Row counts that oneDNN is prepared for, ascending: every one to 32, then multiples of 8 and 16; the unpacked matmul:
 * multiples of 6. Rows in between are padded. */
static uint32_t bucket_rows(bool plain, uint32_t bucket)
{
    if (plain) return GEMM_ROWS * (bucket + 1);
    if (bucket < 32) return bucket + 1;
    return bucket < 36 ? 32 + 8 * (bucket - 31) : 64 + 16 * (bucket - 35);
}

static uint32_t bucket_for(bool plain, uint32_t rows)
{
    uint32_t bucket = plain ? (rows - 1) / GEMM_ROWS : rows <= 32 ? rows - 1 : 32;
    while (bucket_rows(plain, bucket) < rows) bucket++;
    return bucket;
}

/* Most rows of one oneDNN call. */
static uint32_t block_rows(const qr_projection *p)
{
    const uint32_t limit = p->plain ? ONEDNN_ROWS / GEMM_ROWS * GEMM_ROWS : ONEDNN_ROWS;
    return qr_min_u32(p->context->options.max_rows, limit);
}

static plan *plan_find(const qr_projection_context *c, const plan *key)
{
    for (plan *p = c->plans; p != NULL; p = p->next)
        if (p->thread == key->thread && p->k == key->k && p->columns == key->columns && p->dtype == key->dtype)
            return p;
    return NULL;
}

static quire_status plan_fill(const qr_projection *projection, plan *p, quire_error *error)
{
    const qr_onednn_shape shape = {p->dtype, p->k, p->columns, !projection->plain};
    QR_TRY(qr_onednn_weights_create(projection->context->onednn, &shape, &p->weights, error));
    const uint32_t last = bucket_for(projection->plain, block_rows(projection));
    while (p->bucket_count <= last) {
        qr_onednn_matmul **matmul = &p->matmuls[p->bucket_count];
        QR_TRY(qr_onednn_matmul_create(p->weights, p->thread, bucket_rows(projection->plain, p->bucket_count), matmul,
                                       error));
        const size_t scratch = qr_onednn_matmul_scratch_bytes(*matmul);
        if (scratch > p->scratch_bytes) p->scratch_bytes = scratch;
        p->bucket_count++;
    }
    return QUIRE_OK;
}

static quire_status plan_get(qr_projection *projection, uint32_t thread, plan **plan_out, quire_error *error)
{
    qr_projection_context *c   = projection->context;
    const plan             key = {.thread  = thread,
                                  .k       = projection->k,
                                  .columns = packed_columns(projection, &projection->shards[thread]),
                                  .dtype   = projection->shape.dtype};
    *plan_out                  = plan_find(c, &key);
    if (*plan_out != NULL) return QUIRE_OK;
    plan *p = qr_allocate(&c->options.allocator, sizeof *p, ALIGNMENT);
    if (p == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "projections: %zu bytes of memory are missing", sizeof *p);
    *p                        = key;
    const quire_status status = plan_fill(projection, p, error);
    if (status != QUIRE_OK) {
        plan_destroy(c, p);
        return status;
    }
    p->next   = c->plans;
    c->plans  = p;
    *plan_out = p;
    return QUIRE_OK;
}

/* Once per dtype: where brgemm is what this instruction set is meant to run, its absence must be seen. */
static void report_refusal(qr_projection_context *c, qr_dtype dtype, const char *why)
{
    static const char names[][5] = {[QR_F32] = "f32", [QR_BF16] = "bf16", [QR_INT8] = "int8"};
    if (!c->refused[dtype])
        qr_log_write(c->options.log, QUIRE_LOG_WARN, "projections in %s run on quire's own kernels: %s", names[dtype],
                     why);
    c->refused[dtype] = true;
}

/* ERR_UNSUPPORTED turns oneDNN off for this projection; other errors are the caller's. */
static quire_status choose_path(qr_projection *p, quire_error *error)
{
    qr_projection_context *c = p->context;
    p->plain = !p->format->onednn_layout && p->shape.dtype == QR_F32 && strcmp(c->kernels->isa, "avx2") == 0 &&
               c->options.small_m == QUIRE_SMALL_M_ONEDNN;
    if (c->onednn == NULL || !(p->format->onednn_layout || p->plain)) return QUIRE_OK;
    p->onednn = true;
    for (uint32_t t = 0; t < c->options.thread_count; t++) {
        quire_error why = {0};
        if (p->shards[t].group_count == 0) continue;
        const quire_status status = plan_get(p, t, &p->shards[t].plan, &why);
        if (status == QUIRE_ERR_UNSUPPORTED) {
            report_refusal(p->context, p->shape.dtype, why.message);
            p->onednn = p->plain = false;
            return QUIRE_OK;
        }
        if (status != QUIRE_OK) {
            if (error) *error = why;
            return status;
        }
    }
    return QUIRE_OK;
}

/* ---- scratch of a thread: rows as the own kernel reads them, its sums | rows for oneDNN, its sums, its own ---- */

typedef struct scratch_layout {
    size_t own_x, own_sums, onednn_x, onednn_sums, onednn_scratch, bytes;
} scratch_layout;

static size_t take(size_t *bytes, size_t count)
{
    const size_t at = *bytes;
    *bytes += qr_round_up(count, ALIGNMENT);
    return at;
}

static scratch_layout layout_scratch(const qr_projection *p, const shard *s)
{
    scratch_layout at   = {0};
    const size_t   rows = p->onednn ? bucket_rows(p->plain, bucket_for(p->plain, block_rows(p))) : 0;
    const size_t   pack = (size_t)QR_GROUP_COLUMNS * p->shape.k * sizeof(float); /* qr_projection_pack reads there */
    const size_t   rows_own = (size_t)QR_PRODUCT_ROWS * p->k * p->format->x_bytes + QR_ARRANGE_SLACK;
    at.own_x                = take(&at.bytes, pack > rows_own ? pack : rows_own);
    at.own_sums             = take(&at.bytes, sizeof(float) * QR_PRODUCT_ROWS * QR_GROUP_COLUMNS * p->halves);
    at.onednn_x             = take(&at.bytes, rows * p->k * qr_dtype_bytes(p->shape.dtype));
    at.onednn_sums          = take(&at.bytes, rows * packed_columns(p, s) * sizeof(float));
    at.onednn_scratch       = take(&at.bytes, s->plan ? s->plan->scratch_bytes : 0);
    return at;
}

static quire_status reserve_scratch(qr_projection *p, uint32_t thread, quire_error *error)
{
    const quire_allocator *allocator = &p->context->options.allocator;
    thread_scratch        *scratch   = &p->context->scratch[thread];
    const size_t           bytes     = layout_scratch(p, &p->shards[thread]).bytes;
    if (bytes <= scratch->bytes) return QUIRE_OK;
    char *memory = qr_allocate(allocator, bytes, ALIGNMENT);
    if (memory == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: %zu bytes of scratch are not available", p->shape.name, bytes);
    qr_deallocate(allocator, scratch->memory, scratch->bytes);
    *scratch = (thread_scratch){memory, bytes};
    return QUIRE_OK;
}

/* ---- create ---- */

static quire_status check_shape(const qr_projection_shape *s, quire_error *error)
{
    if (s->k == 0 || s->k > K_MAX)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %u input features, 1 to %d are possible", s->name, s->k, K_MAX);
    if (s->columns == 0 || s->columns > UINT32_MAX / 4)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %u output features, 1 to %u are possible", s->name, s->columns,
                       UINT32_MAX / 4);
    return QUIRE_OK;
}

static void divide_columns(qr_projection *p, uint32_t thread_count)
{
    const uint64_t groups = qr_ceil_div_u32(p->shape.columns, QR_GROUP_COLUMNS);
    for (uint32_t t = 0; t < thread_count; t++) {
        const uint32_t first = (uint32_t)(groups * t / thread_count), end = (uint32_t)(groups * (t + 1) / thread_count);
        p->shards[t].first_group = first;
        p->shards[t].group_count = end - first;
    }
}

quire_status qr_projection_create(qr_projection_context *context, const qr_projection_shape *shape,
                                  qr_projection **projection_out, quire_error *error)
{
    *projection_out = NULL;
    QR_TRY(check_shape(shape, error));
    qr_projection *p = qr_allocate(&context->options.allocator, projection_size(context), ALIGNMENT);
    if (p == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: %zu bytes of memory are missing", shape->name,
                       projection_size(context));
    p->context = context;
    p->shape   = *shape;
    p->format  = &context->kernels->projection->formats[shape->dtype];
    p->k       = qr_round_up_u32(shape->k, QR_K_MULTIPLE);
    p->halves  = shape->gated ? 2 : 1;
    divide_columns(p, context->options.thread_count);
    quire_status status = choose_path(p, error);
    for (uint32_t t = 0; t < context->options.thread_count && status == QUIRE_OK; t++)
        status = reserve_scratch(p, t, error);
    if (status != QUIRE_OK) {
        qr_projection_destroy(p);
        return status;
    }
    *projection_out = p;
    return QUIRE_OK;
}

void qr_projection_destroy(qr_projection *projection)
{
    if (projection == NULL) return;
    const quire_allocator allocator = projection->context->options.allocator;
    qr_deallocate(&allocator, projection, projection_size(projection->context));
}

size_t qr_projection_shard_bytes(const qr_projection *p, uint32_t thread)
{
    const shard *s      = &p->shards[thread];
    const size_t extras = p->shape.dtype == QR_INT8 ? sizeof(int32_t) + sizeof(float) : 0;
    return s->group_count * p->halves * group_bytes(p) + packed_columns(p, s) * extras;
}

void qr_projection_shard(const qr_projection *p, uint32_t thread, uint32_t *first, uint32_t *count)
{
    const shard   *s   = &p->shards[thread];
    const uint32_t end = qr_min_u32((s->first_group + s->group_count) * QR_GROUP_COLUMNS, p->shape.columns);
    *first             = qr_min_u32(s->first_group * QR_GROUP_COLUMNS, end);
    *count             = end - *first;
}

uint64_t qr_projection_bytes(const qr_projection *p)
{
    uint64_t bytes = 0;
    for (uint32_t t = 0; t < p->context->options.thread_count; t++) bytes += qr_projection_shard_bytes(p, t);
    return bytes;
}

/* ---- packing ---- */

/* Columns [first, first + count) of the sources standing one after the other. */
static quire_status read_columns(const qr_projection *p, const qr_weight_source *sources, uint32_t source_count,
                                 uint32_t first, uint32_t count, float *out, quire_error *error)
{
    for (uint32_t i = 0; i < source_count && count > 0; i++) {
        const qr_weight_source *s = &sources[i];
        if (first >= s->columns) {
            first -= s->columns;
            continue;
        }
        const uint32_t here = qr_min_u32(count, s->columns - first);
        QR_TRY(s->read(s->context, first, here, out, error));
        out += (size_t)here * p->shape.k;
        count -= here;
        first = 0;
    }
    return QUIRE_OK;
}

/* Element (column, k) of a group is at panel + (k / step) * panel_columns * step + k % step. */
static size_t panel_offset(const qr_projection *p, uint32_t column)
{
    const qr_panel_format *f = p->format;
    if (p->plain) return (size_t)column * p->k;
    return (size_t)(column / f->panel_columns) * f->panel_columns * p->k + column % f->panel_columns * f->step;
}

/* Elements [from, to) of one column of W into its panel; from is a multiple of the step. */
static void pack_run(const qr_projection *p, void *group, uint32_t column, const float *w, uint32_t from, uint32_t to,
                     float to_code)
{
    const uint32_t step   = p->plain ? 1 : p->format->step;
    const size_t   stride = p->plain ? 1 : (size_t)p->format->panel_columns * step;
    size_t         at     = panel_offset(p, column) + from / step * stride;
    for (uint32_t k = from; k < to; k += step, at += stride)
        for (uint32_t i = 0; i < step && k + i < to; i++) switch (p->shape.dtype) {
            case QR_F32: ((float *)group)[at + i] = w[k + i]; break;
            case QR_BF16: ((qr_bf16 *)group)[at + i] = qr_bf16_of_f32(w[k + i]); break;
            default: ((int8_t *)group)[at + i] = (int8_t)lrintf(w[k + i] * to_code); break;
            }
}

/* Symmetric int8 of one column: its scale, 127 / its greatest magnitude, and -128 * the sum of its codes. */
static float quantize_column(const float *w, uint32_t k, float *scale, int32_t *compensation)
{
    float greatest = 0.0f;
    for (uint32_t i = 0; i < k; i++) greatest = fmaxf(greatest, fabsf(w[i]));
    const float to_code = greatest > 0.0f ? 127.0f / greatest : 0.0f;
    int32_t     sum     = 0;
    for (uint32_t i = 0; i < k; i++) sum += (int32_t)lrintf(w[i] * to_code);
    *scale        = greatest / 127.0f;
    *compensation = -128 * sum;
    return to_code;
}

enum { PACK_RUN = 64 }; /* k at a time, so that the lines of a panel are written while in L1 */

static void pack_group(const qr_projection *p, const shard *s, uint32_t group, const float *rows, uint32_t columns)
{
    float to_code[QR_GROUP_COLUMNS] = {0};
    char *to                        = s->memory + group * group_bytes(p);
    memset(to, 0, group_bytes(p));
    if (p->shape.dtype == QR_INT8) {
        int32_t *compensation = compensation_of(p, s) + group * QR_GROUP_COLUMNS;
        float   *scales       = column_scales_of(p, s) + group * QR_GROUP_COLUMNS;
        memset(compensation, 0, QR_GROUP_COLUMNS * sizeof *compensation);
        memset(scales, 0, QR_GROUP_COLUMNS * sizeof *scales);
        for (uint32_t c = 0; c < columns; c++)
            to_code[c] = quantize_column(rows + (size_t)c * p->shape.k, p->shape.k, &scales[c], &compensation[c]);
    }
    for (uint32_t k = 0; k < p->shape.k; k += PACK_RUN)
        for (uint32_t c = 0; c < columns; c++)
            pack_run(p, to, c, rows + (size_t)c * p->shape.k, k, qr_min_u32(k + PACK_RUN, p->shape.k), to_code[c]);
}

static quire_status check_sources(const qr_projection *p, const qr_weight_source *sources, uint32_t count,
                                  quire_error *error)
{
    uint64_t   columns = 0;
    const bool gated   = p->shape.gated;
    bool       fits    = !gated || count == 2;
    for (uint32_t i = 0; i < count; i++) {
        columns += sources[i].columns;
        fits = fits && (!gated || sources[i].columns == p->shape.columns);
    }
    if (fits && columns == (uint64_t)p->shape.columns * p->halves) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: %u sources of %llu output features, expected %u%s", p->shape.name,
                   count, (unsigned long long)columns, p->shape.columns, gated ? " of gate and as many of up" : "");
}

quire_status qr_projection_pack(qr_projection *p, uint32_t thread, void *memory, const qr_weight_source *sources,
                                uint32_t source_count, quire_error *error)
{
    shard *s    = &p->shards[thread];
    float *rows = (float *)(void *)(p->context->scratch[thread].memory + layout_scratch(p, s).own_x);
    QR_TRY(check_sources(p, sources, source_count, error));
    s->memory = memory;
    for (uint32_t group = 0; group < s->group_count; group++) {
        const uint32_t first = (s->first_group + group) * QR_GROUP_COLUMNS;
        const uint32_t count = qr_min_u32(QR_GROUP_COLUMNS, p->shape.columns - first);
        for (uint32_t half = 0; half < p->halves; half++) {
            const uint32_t from = half * p->shape.columns + first; /* the up half is the second source */
            QR_TRY(read_columns(p, sources, source_count, from, count, rows, error));
            pack_group(p, s, group * p->halves + half, rows, count);
        }
    }
    return QUIRE_OK;
}

/* ---- running ---- */

/* Rows [row, row + count) of x, padded to the shard's k. */
typedef struct row_block {
    const qr_rows *x;
    uint32_t       row, count;
} row_block;

static const char *row_of(const qr_rows *x, uint32_t row)
{
    return (const char *)x->data + (size_t)row * x->stride * qr_dtype_bytes(x->dtype);
}

static void finish_group(const qr_projection *p, const shard *s, uint32_t group, const row_block *block,
                         const float *sums, size_t sums_stride, const qr_projection_out *out)
{
    const uint32_t column   = (s->first_group + group) * QR_GROUP_COLUMNS;
    const size_t   to       = ((size_t)block->row * out->to.stride + column) * qr_dtype_bytes(out->to.dtype);
    qr_epilogue    epilogue = {.acc        = sums,
                               .up         = p->shape.gated ? sums + QR_GROUP_COLUMNS : NULL,
                               .acc_stride = sums_stride,
                               .rows       = block->count,
                               .columns    = qr_min_u32(QR_GROUP_COLUMNS, p->shape.columns - column),
                               .bias       = out->bias ? out->bias + column : NULL,
                               .multiply   = out->multiply != 0.0f ? out->multiply : 1.0f,
                               .activation = p->shape.activation,
                               .add        = out->add,
                               .out_dtype  = out->to.dtype,
                               .out        = (char *)out->to.data + to,
                               .out_stride = out->to.stride};
    if (p->shape.dtype == QR_INT8) {
        epilogue.row_scales    = block->x->scales + block->row;
        epilogue.column_scales = column_scales_of(p, s) + group * p->halves * QR_GROUP_COLUMNS;
        epilogue.up_scales     = epilogue.column_scales + QR_GROUP_COLUMNS;
    }
    p->context->kernels->projection->epilogue(&epilogue);
}

/* The block's rows in the own kernel's form; *stride in bytes. */
static const void *own_rows(const qr_projection *p, const row_block *block, char *scratch, size_t *stride)
{
    const size_t x_stride = block->x->stride * qr_dtype_bytes(block->x->dtype);
    *stride               = p->format->arrange ? (size_t)p->k * p->format->x_bytes : x_stride;
    if (p->format->arrange == NULL) return row_of(block->x, block->row);
    p->format->arrange(&(qr_arrange){scratch, row_of(block->x, block->row), x_stride, block->count, p->k});
    return scratch;
}

/* One packed group times at most QR_PRODUCT_ROWS rows. */
static void own_group(const qr_projection *p, const shard *s, uint32_t packed_group, qr_product *product)
{
    product->group        = s->memory + packed_group * group_bytes(p);
    product->compensation = p->shape.dtype == QR_INT8 ? compensation_of(p, s) + packed_group * QR_GROUP_COLUMNS : NULL;
    p->format->product(product);
}

static void run_own(const qr_projection *p, uint32_t thread, const row_block *block, const qr_projection_out *out)
{
    const shard         *s       = &p->shards[thread];
    char                *scratch = p->context->scratch[thread].memory;
    const scratch_layout at      = layout_scratch(p, s);
    float *const         sums    = (float *)(void *)(scratch + at.own_sums);
    const size_t         stride  = (size_t)QR_GROUP_COLUMNS * p->halves;
    qr_product           product = {.rows = block->count, .k = p->k, .out_stride = stride};
    product.x                    = own_rows(p, block, scratch + at.own_x, &product.x_stride);
    for (uint32_t group = 0; group < s->group_count; group++) {
        for (uint32_t half = 0; half < p->halves; half++) {
            product.out = sums + half * QR_GROUP_COLUMNS;
            own_group(p, s, group * p->halves + half, &product);
        }
        finish_group(p, s, group, block, sums, stride, out);
    }
}

/* The shard's bare product by oneDNN; rows are copied where they must be padded. */
static const float *onednn_product(const qr_projection *p, uint32_t thread, const row_block *block)
{
    const shard         *s       = &p->shards[thread];
    char                *scratch = p->context->scratch[thread].memory;
    const scratch_layout at      = layout_scratch(p, s);
    const uint32_t       bucket  = bucket_for(p->plain, block->count);
    const size_t         bytes   = (size_t)p->k * qr_dtype_bytes(p->shape.dtype);
    const void          *x       = row_of(block->x, block->row);
    float *const         sums    = (float *)(void *)(scratch + at.onednn_sums);
    if (block->x->stride != p->k || bucket_rows(p->plain, bucket) != block->count) {
        char *copy = scratch + at.onednn_x;
        for (uint32_t i = 0; i < block->count; i++) memcpy(copy + i * bytes, row_of(block->x, block->row + i), bytes);
        memset(copy + block->count * bytes, 0, (bucket_rows(p->plain, bucket) - block->count) * bytes);
        x = copy;
    }
    qr_onednn_matmul_run(s->plan->matmuls[bucket], x, s->memory, sums, scratch + at.onednn_scratch);
    return sums;
}

static void run_onednn(const qr_projection *p, uint32_t thread, const row_block *block, const qr_projection_out *out)
{
    const shard *s      = &p->shards[thread];
    const float *sums   = onednn_product(p, thread, block);
    const size_t stride = packed_columns(p, s);
    for (uint32_t group = 0; group < s->group_count; group++)
        finish_group(p, s, group, block, sums + (size_t)group * p->halves * QR_GROUP_COLUMNS, stride, out);
}

void qr_projection_run(const qr_projection *p, uint32_t thread, const qr_rows *x, uint32_t row_count,
                       const qr_projection_out *out)
{
    qr_assert(x->dtype == p->shape.dtype && x->dim == p->shape.k && x->stride >= p->k);
    qr_assert(row_count <= p->context->options.max_rows && (!out->add || out->to.dtype == QR_F32));
    if (p->shards[thread].group_count == 0) return;
    for (uint32_t row = 0; row < row_count;) {
        const uint32_t  rest  = row_count - row;
        const bool      own   = !p->onednn || (p->small_own && rest <= SMALL_M);
        const uint32_t  limit = own ? (uint32_t)QR_PRODUCT_ROWS : block_rows(p);
        const uint32_t  count = qr_ceil_div_u32(rest, qr_ceil_div_u32(rest, limit)); /* blocks of about equal height */
        const row_block block = {x, row, count};
        if (own)
            run_own(p, thread, &block, out);
        else
            run_onednn(p, thread, &block, out);
        row += count;
    }
}

/* ---- the self-test: does a row have the same bits alone as in every number of rows? ---- */

static void fill_row(const qr_rows *x, uint32_t row, uint64_t stream)
{
    char *to = (char *)(uintptr_t)row_of(x, row);
    for (uint32_t i = 0; i < x->dim; i++) {
        const double u = (double)(int32_t)(qr_mix64(stream << 32 ^ i) >> 32) * 0x1p-31; /* [-1, 1) */
        switch (x->dtype) {
        case QR_F32: ((float *)(void *)to)[i] = (float)u; break;
        case QR_BF16: ((qr_bf16 *)(void *)to)[i] = qr_bf16_of_f32((float)u); break;
        default: ((int8_t *)to)[i] = (int8_t)(127.0 * u); break;
        }
    }
}

/* The first row once more as row `last`: the end of a batch is where kernels differ. */
static void repeat_first_row(const qr_rows *x, uint32_t last)
{
    memmove((char *)(uintptr_t)row_of(x, last), row_of(x, 0), x->stride * qr_dtype_bytes(x->dtype));
}

/* Sums of the first groups of the shard by the own kernel: [count][groups * 64] in `sums`. */
static void own_sums(const qr_projection *p, uint32_t thread, const row_block *block, uint32_t groups, float *sums)
{
    const shard         *s       = &p->shards[thread];
    char                *scratch = p->context->scratch[thread].memory;
    const scratch_layout at      = layout_scratch(p, s);
    qr_product           product = {.rows = block->count, .k = p->k, .out_stride = (size_t)groups * QR_GROUP_COLUMNS};
    product.x                    = own_rows(p, block, scratch + at.own_x, &product.x_stride);
    for (uint32_t group = 0; group < groups; group++) {
        product.out = sums + group * QR_GROUP_COLUMNS;
        own_group(p, s, group, &product);
    }
}

/* Whether rows 0 and count - 1 of sums[count][stride] begin with alone[columns]. */
static bool row_is_equal(const float *sums, size_t stride, uint32_t count, const float *alone, uint32_t columns)
{
    return memcmp(sums, alone, columns * sizeof *alone) == 0 &&
           memcmp(sums + (count - 1) * stride, alone, columns * sizeof *alone) == 0;
}

typedef struct self_test {
    const qr_projection *projection;
    uint32_t             thread, groups; /* groups of the own kernel's arm */
    qr_rows              x;              /* [ONEDNN_ROWS] */
    float               *own;            /* [QR_PRODUCT_ROWS][groups * 64] */
    float               *alone;          /* [packed columns] */
} self_test;

static bool own_rows_agree(const self_test *t)
{
    const uint32_t columns = t->groups * QR_GROUP_COLUMNS;
    own_sums(t->projection, t->thread, &(row_block){&t->x, 0, 1}, t->groups, t->alone);
    for (uint32_t count = 2; count <= QR_PRODUCT_ROWS; count += count <= SMALL_M ? 1 : 47) {
        repeat_first_row(&t->x, count - 1);
        own_sums(t->projection, t->thread, &(row_block){&t->x, 0, count}, t->groups, t->own);
        if (!row_is_equal(t->own, columns, count, t->alone, columns)) return false;
    }
    return true;
}

static bool onednn_rows_agree(const self_test *t)
{
    const shard   *s       = &t->projection->shards[t->thread];
    const uint32_t columns = packed_columns(t->projection, s);
    memcpy(t->alone, onednn_product(t->projection, t->thread, &(row_block){&t->x, 0, 1}), columns * sizeof(float));
    for (uint32_t i = 0; i < s->plan->bucket_count; i++) {
        const uint32_t count = qr_min_u32(bucket_rows(t->projection->plain, i), block_rows(t->projection));
        repeat_first_row(&t->x, count - 1);
        const float *sums = onednn_product(t->projection, t->thread, &(row_block){&t->x, 0, count});
        if (!row_is_equal(sums, columns, count, t->alone, columns)) return false;
    }
    return true;
}

static bool own_agrees_with_onednn(const self_test *t)
{
    const uint32_t columns = t->groups * QR_GROUP_COLUMNS;
    memcpy(t->alone, onednn_product(t->projection, t->thread, &(row_block){&t->x, 0, 1}), columns * sizeof(float));
    own_sums(t->projection, t->thread, &(row_block){&t->x, 0, 1}, t->groups, t->own);
    return memcmp(t->own, t->alone, columns * sizeof(float)) == 0;
}

static void self_test_run(const self_test *t, verdict *v)
{
    for (uint32_t row = 0; row < ONEDNN_ROWS; row++) fill_row(&t->x, row, row);
    if (v->columns == 0) {
        v->rows_agree = v->own_agrees = own_rows_agree(t);
    } else {
        v->rows_agree = onednn_rows_agree(t);
        v->own_agrees = !t->projection->plain && own_agrees_with_onednn(t);
    }
}

static quire_status self_test_thread(const qr_projection *p, uint32_t thread, verdict *v, quire_error *error)
{
    const quire_allocator *allocator = &p->context->options.allocator;
    const uint32_t         packed    = p->shards[thread].group_count * p->halves;
    self_test              t     = {.projection = p, .thread = thread, .groups = qr_min_u32(packed, SELF_TEST_GROUPS)};
    qr_arena               arena = {0};
    t.x                          = (qr_rows){.dtype = p->shape.dtype, .dim = p->shape.k, .stride = p->k};
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) QR_TRY(qr_arena_create(&arena, allocator, "the self-test of projections", error));
        t.x.data = qr_arena_take(&arena, (size_t)ONEDNN_ROWS * p->k, qr_dtype_bytes(p->shape.dtype));
        t.own    = QR_ARENA_TAKE(&arena, float, (size_t)QR_PRODUCT_ROWS *t.groups *QR_GROUP_COLUMNS);
        t.alone  = QR_ARENA_TAKE(&arena, float, (size_t)packed *QR_GROUP_COLUMNS);
    }
    self_test_run(&t, v);
    qr_arena_destroy(&arena);
    return QUIRE_OK;
}

/* The verdict on `columns` (0: the own kernel), tested on the thread's shard unless an equal shape was before. */
static quire_status judge(const qr_projection *p, uint32_t thread, uint32_t columns, const verdict **verdict_out,
                          quire_error *error)
{
    qr_projection_context *c = p->context;
    for (verdict *v = c->verdicts; v != NULL; v = v->next)
        if (v->dtype == p->shape.dtype && v->k == p->k && v->columns == columns) {
            *verdict_out = v;
            return QUIRE_OK;
        }
    verdict *v = qr_allocate(&c->options.allocator, sizeof *v, ALIGNMENT);
    if (v == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "projections: %zu bytes of memory are missing", sizeof *v);
    *v           = (verdict){.next = c->verdicts, .dtype = p->shape.dtype, .k = p->k, .columns = columns};
    c->verdicts  = v;
    *verdict_out = v;
    return self_test_thread(p, thread, v, error);
}

/* ---- finish ---- */

/* What the self-test allows. Bits must not depend on the thread either: one failure decides for all shards. */
static void settle_path(qr_projection *p, const verdict *own, const verdict *onednn)
{
    qr_projection_context *c   = p->context;
    const quire_small_m    m   = c->options.small_m;
    qr_log                *log = c->options.log;
    if (p->onednn && !onednn->rows_agree && own->rows_agree && c->options.batch_invariant &&
        m != QUIRE_SMALL_M_ONEDNN) {
        qr_log_write(log, QUIRE_LOG_WARN, "%s: oneDNN's rows depend on their number: not used", p->shape.name);
        p->onednn = false;
    }
    p->small_own = p->onednn && (m == QUIRE_SMALL_M_OWN || (m == QUIRE_SMALL_M_AUTO && onednn->own_agrees));
    if (p->onednn && m == QUIRE_SMALL_M_AUTO && !onednn->own_agrees)
        qr_log_write(log, QUIRE_LOG_WARN, "%s: quire's kernel for few rows differs from this oneDNN in bits: not used",
                     p->shape.name);
    const bool invariant = p->onednn ? onednn->rows_agree && (!p->small_own || onednn->own_agrees) : own->rows_agree;
    if (invariant) return;
    c->batch_invariant = false;
    qr_log_write(log, QUIRE_LOG_WARN, "%s: a row's bits depend on the batch it is in", p->shape.name);
}

static void report(qr_projection *p)
{
    qr_projection_context *c    = p->context;
    const char            *name = c->kernels->projection->name;
    for (uint32_t t = 0; t < c->options.thread_count && p->onednn; t++)
        if (p->shards[t].plan) name = qr_onednn_weights_implementation(p->shards[t].plan->weights);
    strncpy(c->implementation, name, sizeof c->implementation - 1);
    if (strcmp(c->implementation, c->logged) == 0) return;
    memcpy(c->logged, c->implementation, sizeof c->logged);
    if (strncmp(name, "brg", 3) == 0)
        qr_log_write(c->options.log, QUIRE_LOG_INFO, "projections: %s%s", name,
                     p->small_own ? ", quire's own kernel up to 16 rows" : "");
    else if (strncmp(c->kernels->isa, "avx512", 6) == 0)
        qr_log_write(c->options.log, QUIRE_LOG_WARN, "projections: %s, not oneDNN's packed matmul (brgemm)", name);
    else
        qr_log_write(c->options.log, QUIRE_LOG_INFO,
                     "projections: %s has no packed oneDNN matmul (brgemm needs AVX-512); using %s%s",
                     qr_cpu_features() & QR_CPU_AVX512F ? c->kernels->isa : "this CPU",
                     strncmp(name, "own:", 4) == 0 ? "quire's own kernels, " : "", name);
}

quire_status qr_projection_finish(qr_projection *p, quire_error *error)
{
    const verdict *found = NULL;
    verdict        own = {.rows_agree = true}, onednn = {.rows_agree = true, .own_agrees = true};
    for (uint32_t t = 0; t < p->context->options.thread_count; t++) {
        if (p->shards[t].group_count == 0) continue;
        qr_assert(p->shards[t].memory != NULL);
        if (!p->plain) {
            QR_TRY(judge(p, t, 0, &found, error));
            own.rows_agree = own.rows_agree && found->rows_agree;
        }
        if (!p->onednn) continue;
        QR_TRY(judge(p, t, packed_columns(p, &p->shards[t]), &found, error));
        onednn.rows_agree = onednn.rows_agree && found->rows_agree;
        onednn.own_agrees = onednn.own_agrees && own.rows_agree && found->own_agrees;
    }
    settle_path(p, &own, &onednn);
    report(p);
    return QUIRE_OK;
}
