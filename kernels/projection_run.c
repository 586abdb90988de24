/* One call: rows in blocks, through the own kernel or oneDNN, then the epilogue. */
#include <string.h>

#include "base/assert.h"
#include "kernels/projection_parts.h"

_Static_assert((int)QR_LSE_COLUMNS == (int)QR_GROUP_COLUMNS, "a thread has whole groups");

/* The group's results replaced its sums: their partial log-sum-exp, and a copy of the rows that somebody will read. */
static void partial_lse_of_group(const qr_projection *p, const qr_epilogue *done, uint32_t column, uint32_t first_row,
                                 const qr_projection_out *out)
{
    for (uint32_t i = 0; i < done->rows; i++) {
        const uint32_t       row         = first_row + i;
        const float         *results     = (const float *)done->out + i * done->out_stride;
        const qr_partial_lse partial_lse = qr_partial_lse_at(out->partial_lse, row, column / QR_GROUP_COLUMNS);
        p->context->kernels->partial_lse(&partial_lse, results, column, done->columns);
        if (out->kept == NULL || out->kept[row])
            memcpy((float *)out->to.data + (size_t)row * out->to.stride + column, results,
                   done->columns * sizeof *results);
    }
}

/* The epilogue; row by row where rows have places or weights of their own. */
static void run_epilogue(const qr_projection *p, const qr_epilogue *all, const qr_projection_out *out, uint32_t out_row,
                         uint32_t column)
{
    void (*epilogue)(const qr_epilogue *) = p->context->kernels->projection->epilogue;
    if (out->to.index == NULL && out->row_weights == NULL) {
        epilogue(all);
        return;
    }
    for (uint32_t i = 0; i < all->rows; i++) {
        qr_epilogue  one = *all;
        const size_t row = out->to.index != NULL ? out->to.index[out_row + i] : out_row + i;
        one.rows         = 1;
        one.acc += i * all->acc_stride;
        if (one.up != NULL) one.up += i * all->acc_stride;
        if (one.row_scales != NULL) one.row_scales += i;
        if (out->row_weights != NULL) one.multiply *= out->row_weights[out_row + i];
        one.out = (char *)out->to.data + (row * out->to.stride + column) * qr_dtype_bytes(out->to.dtype);
        epilogue(&one);
    }
}

static void finish_group(const qr_projection *p, const qr_projection_share *s, uint32_t group,
                         const qr_row_block *block, float *sums, size_t sums_stride, const qr_projection_out *out)
{
    const uint32_t column   = (s->first_group + group) * QR_GROUP_COLUMNS;
    const size_t   to       = ((size_t)block->out_row * out->to.stride + column) * qr_dtype_bytes(out->to.dtype);
    qr_epilogue    epilogue = {.acc        = sums,
                               .up         = p->shape.gated ? sums + QR_GROUP_COLUMNS : NULL,
                               .acc_stride = sums_stride,
                               .int32_sums = p->format->int32_sums,
                               .rows       = block->count,
                               .columns    = qr_min_u32(QR_GROUP_COLUMNS, p->shape.columns - column),
                               .bias       = out->bias ? out->bias + column : NULL,
                               .up_bias    = out->bias && p->shape.gated ? out->bias + p->shape.columns + column : NULL,
                               .multiply   = out->multiply != 0.0f ? out->multiply : 1.0f,
                               .softcap    = out->softcap,
                               .activation = p->shape.activation,
                               .add        = out->add,
                               .out_dtype  = out->to.dtype,
                               .out        = (char *)out->to.data + to,
                               .out_stride = out->to.stride};
    if (qr_has_column_scales(&p->shape)) {
        epilogue.row_scales    = block->x->scales + block->row;
        epilogue.column_scales = qr_column_scales_of(p, s) + group * p->halves * QR_GROUP_COLUMNS;
        epilogue.up_scales     = epilogue.column_scales + QR_GROUP_COLUMNS;
    }
    if (out->partial_lse != NULL) {
        epilogue.out        = sums; /* in place */
        epilogue.out_stride = sums_stride;
    }
    if (out->partial_lse == NULL) {
        run_epilogue(p, &epilogue, out, block->out_row, column);
        return;
    }
    p->context->kernels->projection->epilogue(&epilogue);
    partial_lse_of_group(p, &epilogue, column, block->out_row, out);
}

/* The block's rows in the own kernel's form; *stride in bytes. */
static const void *own_rows(const qr_projection *p, const qr_row_block *block, char *scratch, size_t *stride)
{
    const size_t x_stride = block->x->stride * qr_dtype_bytes(block->x->dtype);
    *stride               = p->format->arrange ? (size_t)p->k * p->format->x_bytes : x_stride;
    if (p->format->arrange == NULL) return qr_row_of(block->x, block->row);
    qr_arrange arrange = {
        .out = scratch, .x = qr_row_of(block->x, block->row), .x_stride = x_stride, .rows = block->count, .k = p->k};
    if (qr_has_scale_groups(&p->shape)) {
        arrange.codes       = p->shape.codes;
        arrange.scale_count = qr_row_scales(block->x);
        arrange.scales      = block->x->scales + (size_t)block->row * arrange.scale_count;
    }
    p->format->arrange(&arrange);
    return scratch;
}

/* One packed group times at most qr_product_rows() rows. */
static void own_group(const qr_projection *p, const qr_projection_share *s, uint32_t packed_group, qr_product *product)
{
    product->group = s->memory + packed_group * qr_group_bytes(p);
    product->compensation =
        qr_has_column_scales(&p->shape) ? qr_compensation_of(p, s) + packed_group * QR_GROUP_COLUMNS : NULL;
    p->format->product(product);
}

/* Sums of the first groups of the shard by the own kernel: [count][groups * 64] in `sums`. */
void qr_projection_own_sums(const qr_projection *p, uint32_t thread, const qr_row_block *block, uint32_t groups,
                            float *sums)
{
    const qr_projection_share *s       = &p->shards[thread];
    char                      *scratch = p->context->scratch[thread].memory;
    const qr_scratch_layout    at      = qr_projection_layout_scratch(p, s);
    qr_product                 product = {
                        .rows = block->count, .k = p->k, .codes = p->shape.codes, .out_stride = (size_t)groups * QR_GROUP_COLUMNS};
    product.x = own_rows(p, block, scratch + at.own_x, &product.x_stride);
    for (uint32_t group = 0; group < groups; group++) {
        product.out = sums + group * QR_GROUP_COLUMNS;
        own_group(p, s, group, &product);
    }
}

/* Up to qr_own_rows() rows: they take turns at each group of columns, which is then in L2 for all but the first. */
static void run_own(const qr_projection *p, uint32_t thread, const qr_row_block *block, const qr_projection_out *out)
{
    const qr_projection_share *s       = &p->shards[thread];
    char                      *scratch = p->context->scratch[thread].memory;
    const qr_scratch_layout    at      = qr_projection_layout_scratch(p, s);
    float *const               sums    = (float *)(void *)(scratch + at.own_sums);
    const size_t               stride  = (size_t)QR_GROUP_COLUMNS * p->halves;
    const uint32_t             parts   = qr_ceil_div_u32(block->count, qr_product_rows(p));
    qr_row_block               part[QR_OWN_BLOCKS];
    qr_product                 product[QR_OWN_BLOCKS];
    qr_assert(parts <= QR_OWN_BLOCKS);
    for (uint32_t i = 0; i < parts; i++) {
        const uint32_t first = block->count * i / parts, end = block->count * (i + 1) / parts;
        part[i]      = (qr_row_block){block->x, block->row + first, end - first, block->out_row + first};
        product[i]   = (qr_product){.rows = end - first, .k = p->k, .codes = p->shape.codes, .out_stride = stride};
        product[i].x = own_rows(p, &part[i], scratch + at.own_x + i * qr_arranged_bytes(p), &product[i].x_stride);
    }
    for (uint32_t group = 0; group < s->group_count; group++)
        for (uint32_t i = 0; i < parts; i++) {
            for (uint32_t half = 0; half < p->halves; half++) {
                product[i].out = sums + half * QR_GROUP_COLUMNS;
                own_group(p, s, group * p->halves + half, &product[i]);
            }
            finish_group(p, s, group, &part[i], sums, stride, out);
        }
}

/* The shard's bare product by oneDNN; rows are copied where they must be padded. NULL: it found no memory. */
float *qr_projection_onednn_sums(const qr_projection *p, uint32_t thread, const qr_row_block *block)
{
    const qr_projection_share *s       = &p->shards[thread];
    char                      *scratch = p->context->scratch[thread].memory;
    const qr_scratch_layout    at      = qr_projection_layout_scratch(p, s);
    const uint32_t             bucket  = qr_projection_bucket_for(p->plain, block->count);
    const size_t               bytes   = (size_t)p->k * qr_dtype_bytes(p->shape.dtype);
    const void                *x       = qr_row_of(block->x, block->row);
    float *const               sums    = (float *)(void *)(scratch + at.onednn_sums);
    if (block->x->stride != p->k || qr_projection_bucket_rows(p->plain, bucket) != block->count) {
        char *copy = scratch + at.onednn_x;
        for (uint32_t i = 0; i < block->count; i++)
            memcpy(copy + i * bytes, qr_row_of(block->x, block->row + i), bytes);
        memset(copy + block->count * bytes, 0, (qr_projection_bucket_rows(p->plain, bucket) - block->count) * bytes);
        x = copy;
    }
    const bool ran = qr_onednn_matmul_run(s->plan->matmuls[bucket], x, s->memory, sums, scratch + at.onednn_scratch);
    return ran ? sums : NULL;
}

/* False: oneDNN found no memory. */
static bool run_onednn(const qr_projection *p, uint32_t thread, const qr_row_block *block, const qr_projection_out *out)
{
    const qr_projection_share *s      = &p->shards[thread];
    float                     *sums   = qr_projection_onednn_sums(p, thread, block);
    const size_t               stride = qr_packed_columns(p, s);
    for (uint32_t group = 0; sums != NULL && group < s->group_count; group++)
        finish_group(p, s, group, block, sums + (size_t)group * p->halves * QR_GROUP_COLUMNS, stride, out);
    return sums != NULL;
}

/* In oneDNN's place, where that gives the same bits; else the results are lost. */
static void run_instead(const qr_projection *p, uint32_t thread, const qr_row_block *block,
                        const qr_projection_out *out)
{
    if (!p->own_agrees) {
        atomic_store(&p->context->lost, true);
        return;
    }
    for (uint32_t done = 0; done < block->count; done += QR_PRODUCT_ROWS) {
        const uint32_t count = qr_min_u32(QR_PRODUCT_ROWS, block->count - done);
        run_own(p, thread, &(qr_row_block){block->x, block->row + done, count, block->out_row + done}, out);
    }
}

/* The block's rows side by side in scratch. */
static qr_rows gather(const qr_projection *p, uint32_t thread, const qr_rows *x, uint32_t first, uint32_t count)
{
    char                   *scratch = p->context->scratch[thread].memory;
    const qr_scratch_layout at      = qr_projection_layout_scratch(p, &p->shards[thread]);
    const uint32_t          stride  = qr_row_stride(p->context->kernels, x->dtype, p->k);
    const size_t            bytes = (size_t)stride * qr_dtype_bytes(x->dtype), scales = qr_row_scales(x);
    qr_rows                 rows = {.data        = scratch + at.gathered,
                                    .dtype       = x->dtype,
                                    .dim         = x->dim,
                                    .stride      = stride,
                                    .scale_block = x->scale_block,
                                    .scales      = x->scales ? (float *)(void *)(scratch + at.gathered_scales) : NULL};
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t row = x->index[first + i];
        memcpy((char *)rows.data + i * bytes, qr_row_of(x, row), (size_t)p->k * qr_dtype_bytes(x->dtype));
        if (x->scales != NULL) memcpy(rows.scales + i * scales, x->scales + row * scales, scales * sizeof(float));
    }
    return rows;
}

/* Blocks of about equal height; of tiles, pairs of which are full. */
static uint32_t block_rows(const qr_projection *p, uint32_t rest, uint32_t limit)
{
    const uint32_t equal = qr_ceil_div_u32(rest, qr_ceil_div_u32(rest, limit));
    return p->format->tiled && rest > limit ? qr_min_u32(qr_round_up_u32(equal, 32), limit) : equal;
}

void qr_projection_run(const qr_projection *p, uint32_t thread, const qr_rows *x, uint32_t row_count,
                       const qr_projection_out *out)
{
    qr_assert(x->dtype == p->shape.dtype && x->dim == p->shape.k && x->stride >= p->k);
    qr_assert(row_count <= p->context->options.max_rows && (!out->add || out->to.dtype == QR_F32));
    qr_assert(x->scale_block == (qr_has_scale_groups(&p->shape) ? QR_CODES_BLOCK : 0));
    qr_assert(out->partial_lse == NULL || (out->to.dtype == QR_F32 && !out->add));
    qr_assert(out->partial_lse == NULL || (out->to.index == NULL && out->row_weights == NULL));
    qr_assert(x->index == NULL || p->shape.gathers);
    if (p->shards[thread].group_count == 0) return;
    for (uint32_t row = 0; row < row_count;) {
        const uint32_t     rest     = row_count - row;
        const bool         own      = !p->onednn || (p->small_own && (p->format->outruns || rest <= QR_SMALL_M));
        const uint32_t     limit    = own ? qr_own_rows(p) : qr_projection_block_rows(p);
        const uint32_t     count    = block_rows(p, rest, limit);
        const qr_rows      gathered = x->index != NULL ? gather(p, thread, x, row, count) : *x;
        const qr_row_block block    = {&gathered, x->index != NULL ? 0 : row, count, row};
        if (own)
            run_own(p, thread, &block, out);
        else if (!run_onednn(p, thread, &block, out))
            run_instead(p, thread, &block, out);
        row += count;
    }
}
