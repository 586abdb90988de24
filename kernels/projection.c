/* The life of projections: their context, shapes, shards and scratch.
 *
 * A product of few rows (or of any number, where oneDNN has no packed matmul) goes group by group through the own
 * kernel and the epilogue, so that sums never leave the cache. oneDNN computes blocks of up to 128 rows of the whole
 * shard into scratch, then the same epilogue runs. Both give the same bits, which is checked before it is relied on. */
#include "base/assert.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/projection_parts.h"

enum { K_MAX = 65536 /* sums of int8 products stay below 2^31 */ };

static size_t projection_size(const qr_projection_context *c)
{
    return sizeof(qr_projection) + c->options.thread_count * sizeof(qr_projection_share);
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
    const size_t           size = sizeof(qr_projection_context) + options->thread_count * sizeof(qr_projection_scratch);
    qr_projection_context *c    = qr_allocate(&options->allocator, size, QR_PACK_ALIGNMENT);
    if (c == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "projections: %zu bytes of memory are missing", size);
    c->options = *options;
    if (c->options.shared.allocate == NULL) c->options.shared = options->allocator;
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

void qr_projection_context_destroy(qr_projection_context *c)
{
    if (c == NULL) return;
    for (qr_projection_plan *p = c->plans, *next; p != NULL; p = next) {
        next = p->next;
        qr_projection_plan_destroy(c, p);
    }
    for (qr_projection_verdict *v = c->verdicts, *next; v != NULL; v = next) {
        next = v->next;
        qr_deallocate(&c->options.allocator, v, sizeof *v);
    }
    qr_onednn_destroy(c->onednn);
    const quire_allocator allocator = c->options.allocator;
    for (uint32_t i = 0; i < c->options.thread_count; i++)
        qr_deallocate(&c->options.shared, c->scratch[i].memory, c->scratch[i].bytes);
    qr_deallocate(&allocator, c, sizeof *c + c->options.thread_count * sizeof(qr_projection_scratch));
}

void qr_projection_visit_memory(const qr_projection_context *context, const uint32_t *thread_node,
                                qr_memory_visitor *visit, void *context_of_visit)
{
    for (uint32_t t = 0; t < context->options.thread_count; t++)
        if (context->scratch[t].memory != NULL)
            visit(context_of_visit, QUIRE_MEMORY_SCRATCH, context->scratch[t].memory, context->scratch[t].bytes,
                  thread_node[t]);
}

const char *qr_projection_implementation(const qr_projection_context *context) { return context->implementation; }

bool qr_projection_batch_invariant(const qr_projection_context *context) { return context->batch_invariant; }

bool qr_projection_take_lost(qr_projection_context *context) { return atomic_exchange(&context->lost, false); }

/* ---- scratch ---- */

static size_t take(size_t *bytes, size_t count)
{
    const size_t at = *bytes;
    *bytes += qr_round_up(count, QR_PACK_ALIGNMENT);
    return at;
}

qr_scratch_layout qr_projection_layout_scratch(const qr_projection *p, const qr_projection_share *s)
{
    qr_scratch_layout at = {0};
    const size_t      rows =
        p->onednn ? qr_projection_bucket_rows(p->plain, qr_projection_bucket_for(p->plain, qr_projection_block_rows(p)))
                       : 0;
    const size_t pack = (size_t)QR_GROUP_COLUMNS * p->shape.k * sizeof(float) + /* qr_projection_pack reads there */
                        (qr_has_scale_groups(&p->shape) ? qr_projection_codes_scratch(&p->shape) : 0);
    const size_t rows_own = p->format->arrange ? qr_own_rows(p) / QR_PRODUCT_ROWS * qr_arranged_bytes(p) : 0;
    at.own_x              = take(&at.bytes, pack > rows_own ? pack : rows_own);
    at.own_sums           = take(&at.bytes, sizeof(float) * qr_product_rows(p) * QR_GROUP_COLUMNS * p->halves);
    at.onednn_x           = take(&at.bytes, rows * p->k * qr_dtype_bytes(p->shape.dtype));
    at.onednn_sums        = take(&at.bytes, rows * qr_packed_columns(p, s) * sizeof(float));
    at.onednn_scratch     = take(&at.bytes, s->plan ? s->plan->scratch_bytes : 0);
    const size_t gathered = p->shape.gathers ? qr_max_u64(rows, qr_own_rows(p)) : 0;
    at.gathered           = take(&at.bytes, gathered * qr_row_stride(p->context->kernels, p->shape.dtype, p->k) *
                                                qr_dtype_bytes(p->shape.dtype));
    at.gathered_scales    = take(&at.bytes, gathered * qr_ceil_div_u32(p->shape.k, QR_CODES_BLOCK) * sizeof(float));
    return at;
}

static quire_status reserve_scratch(qr_projection *p, uint32_t thread, quire_error *error)
{
    const quire_allocator *allocator = &p->context->options.shared;
    qr_projection_scratch *scratch   = &p->context->scratch[thread];
    const size_t           bytes     = qr_projection_layout_scratch(p, &p->shards[thread]).bytes;
    if (bytes <= scratch->bytes) return QUIRE_OK;
    char *memory = qr_allocate(allocator, bytes, QR_PACK_ALIGNMENT);
    if (memory == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: %zu bytes of scratch are not available", p->shape.name, bytes);
    qr_deallocate(allocator, scratch->memory, scratch->bytes);
    *scratch = (qr_projection_scratch){memory, bytes};
    return QUIRE_OK;
}

/* ---- create ---- */

uint32_t qr_row_stride(const qr_kernels *kernels, qr_dtype dtype, uint32_t dim)
{
    const uint32_t rounded = qr_round_up_u32(dim, QR_K_MULTIPLE), line = 64 / (uint32_t)qr_dtype_bytes(dtype);
    return kernels->projection->formats[dtype].tiled && rounded / line % 2 == 0 ? rounded + line : rounded;
}

static quire_status check_codes(const qr_projection_shape *s, quire_error *error)
{
    const qr_code_format *c     = &s->codes;
    const bool            bits  = c->bits == 4 || (c->bits == 8 && !c->has_minimum);
    const bool            group = c->group == 32 || c->group == 64 || c->group == 128;
    if (c->bits == 0 || (s->dtype == QR_INT8 && bits && group)) return QUIRE_OK;
    return qr_fail(
        error, QUIRE_ERR_INVALID,
        "%s: codes of %u bits in groups of %u%s; there are 4 bits, and 8 without minima, in groups of 32, 64 "
        "or 128, beside int8 inputs",
        s->name, c->bits, c->group, c->has_minimum ? " with minima" : "");
}

quire_status qr_projection_check(const qr_projection_shape *s, quire_error *error)
{
    QR_TRY(check_codes(s, error));
    if (s->k == 0 || s->k > K_MAX)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %u input features; must be 1 to %d", s->name, s->k, K_MAX);
    if (s->columns == 0 || s->columns > UINT32_MAX / 4)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %u output features; must be 1 to %u", s->name, s->columns,
                       UINT32_MAX / 4);
    return QUIRE_OK;
}

static void divide_columns(qr_projection *p, uint32_t thread_count)
{
    const uint64_t groups = qr_ceil_div_u32(p->shape.columns, QR_GROUP_COLUMNS);
    for (uint32_t t = 0; t < thread_count; t++) {
        const uint32_t first = (uint32_t)(groups * t / thread_count), end = (uint32_t)(groups * (t + 1) / thread_count);
        p->shards[(t + p->shape.turn) % thread_count] =
            (qr_projection_share){.first_group = first, .group_count = end - first};
    }
}

quire_status qr_projection_create(qr_projection_context *context, const qr_projection_shape *shape,
                                  qr_projection **projection_out, quire_error *error)
{
    *projection_out = NULL;
    QR_TRY(qr_projection_check(shape, error));
    qr_projection *p = qr_allocate(&context->options.allocator, projection_size(context), QR_PACK_ALIGNMENT);
    if (p == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: %zu bytes of memory are missing", shape->name,
                       projection_size(context));
    p->context = context;
    p->shape   = *shape;
    p->format  = qr_has_scale_groups(shape) ? context->kernels->projection->grouped
                                            : &context->kernels->projection->formats[shape->dtype];
    p->k       = qr_round_up_u32(shape->k, QR_K_MULTIPLE);
    p->halves  = shape->gated ? 2 : 1;
    divide_columns(p, context->options.thread_count);
    quire_status status = qr_projection_choose_path(p, error);
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

/* Bytes that a column has beside its weights: int8's sum and scale. */
static size_t column_extras(const qr_projection_shape *shape)
{
    return qr_has_column_scales(shape) ? sizeof(int32_t) + sizeof(float) : 0;
}

size_t qr_projection_shard_bytes(const qr_projection *p, uint32_t thread)
{
    const qr_projection_share *s = &p->shards[thread];
    return s->group_count * p->halves * qr_group_bytes(p) + qr_packed_columns(p, s) * column_extras(&p->shape);
}

uint64_t qr_projection_packed_bytes(const qr_projection_shape *shape)
{
    const uint64_t columns = qr_round_up_u32(shape->columns, QR_GROUP_COLUMNS) * (shape->gated ? 2ull : 1);
    return columns * (qr_column_bytes(shape) + column_extras(shape));
}

uint64_t qr_projection_bytes(const qr_projection *p) { return qr_projection_packed_bytes(&p->shape); }
