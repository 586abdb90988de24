/* The self-test: does a row have the same bits alone as in every number of rows, and from both kernels? Its
 * qr_projection_verdict chooses the path. */
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernels/projection_parts.h"

enum { SELF_TEST_GROUPS = 1, TEST_ROWS = QR_TILED_ROWS };
_Static_assert((int)TEST_ROWS >= (int)QR_ONEDNN_ROWS, "rows for either kernel");

static void fill_row(const qr_rows *x, uint32_t row, uint64_t stream)
{
    char *to = (char *)(uintptr_t)qr_row_of(x, row);
    for (uint32_t i = 0; i < x->dim; i++) {
        const double u = (double)(int32_t)(qr_mix64(stream << 32 ^ i) >> 32) * 0x1p-31; /* [-1, 1) */
        switch (x->dtype) {
        case QR_F32: ((float *)(void *)to)[i] = (float)u; break;
        case QR_BF16: ((qr_bf16 *)(void *)to)[i] = qr_bf16_of_f32((float)u); break;
        default: ((int8_t *)to)[i] = (int8_t)(127.0 * u); break;
        }
    }
    const uint32_t scales = x->scale_block > 0 ? qr_row_scales(x) : 0;
    for (uint32_t i = 0; i < scales; i++)
        x->scales[(size_t)row * scales + i] = (float)(qr_mix64(stream << 32 ^ ~(uint64_t)i) >> 40) * 0x1p-24f;
}

/* The first row once more as row `last`: the end of a batch is where kernels differ. */
static void repeat_first_row(const qr_rows *x, uint32_t last)
{
    const size_t scales = qr_row_scales(x);
    memmove((char *)(uintptr_t)qr_row_of(x, last), qr_row_of(x, 0), x->stride * qr_dtype_bytes(x->dtype));
    if (x->scale_block > 0) memmove(x->scales + last * scales, x->scales, scales * sizeof *x->scales);
}

/* Whether rows 0 and count - 1 of sums[count][stride] begin with alone[columns]. */
static bool row_is_equal(const float *sums, size_t stride, uint32_t count, const float *alone, uint32_t columns)
{
    return memcmp(sums, alone, columns * sizeof *alone) == 0 &&
           memcmp(sums + (count - 1) * stride, alone, columns * sizeof *alone) == 0;
}

typedef struct self_test {
    const qr_projection *projection;
    uint32_t             thread, groups; /* groups of the own kernel's variant */
    qr_rows              x;              /* [TEST_ROWS] */
    float               *own;            /* [qr_product_rows()][groups * 64] */
    float               *alone;          /* [packed columns] */
    bool                 starved;        /* oneDNN found no memory */
} self_test;

static bool own_rows_agree(const self_test *t)
{
    const uint32_t columns = t->groups * QR_GROUP_COLUMNS;
    qr_projection_own_sums(t->projection, t->thread, &(qr_row_block){.x = &t->x, .count = 1}, t->groups, t->alone);
    for (uint32_t count = 2; count <= qr_product_rows(t->projection);
         count += count < 25 ? 1 : 13) { /* all tile heights and some */
        repeat_first_row(&t->x, count - 1);
        qr_projection_own_sums(t->projection, t->thread, &(qr_row_block){.x = &t->x, .count = count}, t->groups,
                               t->own);
        if (!row_is_equal(t->own, columns, count, t->alone, columns)) return false;
    }
    return true;
}

/* Of the first `count` rows. NULL: starved. */
static const float *onednn_sums(self_test *t, uint32_t count)
{
    const float *sums =
        qr_projection_onednn_sums(t->projection, t->thread, &(qr_row_block){.x = &t->x, .count = count});
    t->starved = t->starved || sums == NULL;
    return sums;
}

static bool onednn_row_alone(self_test *t, uint32_t columns)
{
    const float *sums = onednn_sums(t, 1);
    if (sums != NULL) memcpy(t->alone, sums, columns * sizeof *sums);
    return sums != NULL;
}

static bool onednn_rows_agree(self_test *t)
{
    const qr_projection_share *s       = &t->projection->shards[t->thread];
    const uint32_t             columns = qr_packed_columns(t->projection, s);
    if (!onednn_row_alone(t, columns)) return false;
    for (uint32_t i = 0; i < s->plan->bucket_count; i++) {
        const uint32_t count =
            qr_min_u32(qr_projection_bucket_rows(t->projection->plain, i), qr_projection_block_rows(t->projection));
        repeat_first_row(&t->x, count - 1);
        const float *sums = onednn_sums(t, count);
        if (sums == NULL || !row_is_equal(sums, columns, count, t->alone, columns)) return false;
    }
    return true;
}

static bool own_agrees_with_onednn(self_test *t)
{
    const uint32_t columns = t->groups * QR_GROUP_COLUMNS;
    if (!onednn_row_alone(t, columns)) return false;
    qr_projection_own_sums(t->projection, t->thread, &(qr_row_block){.x = &t->x, .count = 1}, t->groups, t->own);
    return memcmp(t->own, t->alone, columns * sizeof(float)) == 0;
}

static void self_test_run(self_test *t, qr_projection_verdict *v)
{
    for (uint32_t row = 0; row < TEST_ROWS; row++) fill_row(&t->x, row, row);
    if (v->columns == 0) {
        v->rows_agree = v->own_agrees = own_rows_agree(t);
    } else {
        v->rows_agree = onednn_rows_agree(t);
        v->own_agrees = !t->projection->plain && own_agrees_with_onednn(t);
    }
}

static quire_status self_test_thread(const qr_projection *p, uint32_t thread, qr_projection_verdict *v,
                                     quire_error *error)
{
    const quire_allocator *allocator = &p->context->options.allocator;
    const uint32_t         packed    = p->shards[thread].group_count * p->halves;
    self_test              t     = {.projection = p, .thread = thread, .groups = qr_min_u32(packed, SELF_TEST_GROUPS)};
    qr_arena               arena = {0};
    t.x                          = (qr_rows){
                                 .dtype = p->shape.dtype, .dim = p->shape.k, .stride = qr_row_stride(p->context->kernels, p->shape.dtype, p->k)};
    t.x.scale_block = qr_has_scale_groups(&p->shape) ? QR_CODES_BLOCK : 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) QR_TRY(qr_arena_create(&arena, allocator, "the self-test of projections", error));
        t.x.data   = qr_arena_take(&arena, (size_t)TEST_ROWS * t.x.stride, qr_dtype_bytes(p->shape.dtype));
        t.x.scales = QR_ARENA_TAKE(&arena, float, (size_t)TEST_ROWS *qr_row_scales(&t.x));
        t.own      = QR_ARENA_TAKE(&arena, float, (size_t)qr_product_rows(p) * t.groups * QR_GROUP_COLUMNS);
        t.alone    = QR_ARENA_TAKE(&arena, float, (size_t)packed *QR_GROUP_COLUMNS);
    }
    self_test_run(&t, v);
    qr_arena_destroy(&arena);
    if (t.starved)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: not enough memory for a product of oneDNN", p->shape.name);
    return QUIRE_OK;
}

/* The verdict on `columns` (0: the own kernel), tested on the thread's shard unless an equal shape was before. */
static quire_status judge(const qr_projection *p, uint32_t thread, uint32_t columns,
                          const qr_projection_verdict **verdict_out, quire_error *error)
{
    qr_projection_context *c = p->context;
    for (qr_projection_verdict *v = c->verdicts; v != NULL; v = v->next)
        if (v->dtype == p->shape.dtype && qr_codes_are_equal(&v->codes, &p->shape.codes) && v->k == p->k &&
            v->columns == columns) {
            *verdict_out = v;
            return QUIRE_OK;
        }
    qr_projection_verdict *v = qr_allocate(&c->options.allocator, sizeof *v, QR_PACK_ALIGNMENT);
    if (v == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "projections: %zu bytes of memory are missing", sizeof *v);
    *v = (qr_projection_verdict){
        .next = c->verdicts, .dtype = p->shape.dtype, .codes = p->shape.codes, .k = p->k, .columns = columns};
    c->verdicts  = v;
    *verdict_out = v;
    return self_test_thread(p, thread, v, error);
}

/* ---- finish ---- */

/* What the self-test allows. Bits must not depend on the thread either: one failure decides for all shards. */
static void settle_path(qr_projection *p, const qr_projection_verdict *own, const qr_projection_verdict *onednn)
{
    qr_projection_context *c   = p->context;
    const quire_small_m    m   = c->options.small_m;
    qr_log                *log = c->options.log;
    if (p->onednn && !onednn->rows_agree && own->rows_agree && c->options.batch_invariant &&
        m != QUIRE_SMALL_M_ONEDNN) {
        qr_log_write(log, QUIRE_LOG_WARN, "%s: oneDNN's rows depend on their number: not used", p->shape.name);
        p->onednn = false;
    }
    p->own_agrees = onednn->own_agrees;
    p->small_own  = p->onednn && (m == QUIRE_SMALL_M_OWN || (m == QUIRE_SMALL_M_AUTO && onednn->own_agrees));
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
    qr_projection_context *c     = p->context;
    const char            *name  = c->kernels->projection->name;
    const bool             ahead = /* of oneDNN, for every number of rows */
        p->format->outruns && (p->small_own || !p->format->onednn_layout);
    for (uint32_t t = 0; t < c->options.thread_count && p->onednn && !ahead; t++)
        if (p->shards[t].plan) name = qr_onednn_weights_implementation(p->shards[t].plan->weights);
    strncpy(c->implementation, name, sizeof c->implementation - 1);
    if (strcmp(c->implementation, c->logged) == 0) return;
    memcpy(c->logged, c->implementation, sizeof c->logged);
    if (strncmp(name, "brg", 3) == 0)
        qr_log_write(c->options.log, QUIRE_LOG_INFO, "projections: %s%s", name,
                     p->small_own ? ", quire's own kernel up to 64 rows" : "");
    else if (ahead)
        qr_log_write(c->options.log, QUIRE_LOG_INFO, "projections: %s, which is faster here than oneDNN's", name);
    else if (qr_has_scale_groups(&p->shape)) /* oneDNN has no such product */
        qr_log_write(c->options.log, QUIRE_LOG_INFO, "projections: %s", name);
    else if (p->format->onednn_layout)
        qr_log_write(c->options.log, QUIRE_LOG_WARN, "projections: %s, not oneDNN's packed matmul (brgemm)", name);
    else
        qr_log_write(c->options.log, QUIRE_LOG_INFO,
                     "projections: %s; oneDNN has no packed matmul (brgemm) of %s for %s", name,
                     qr_dtype_name(p->shape.dtype), c->kernels->isa);
}

quire_status qr_projection_finish(qr_projection *p, quire_error *error)
{
    const qr_projection_verdict *found = NULL;
    qr_projection_verdict        own = {.rows_agree = true}, onednn = {.rows_agree = true, .own_agrees = true};
    for (uint32_t t = 0; t < p->context->options.thread_count; t++) {
        if (p->shards[t].group_count == 0) continue;
        qr_assert(p->shards[t].memory != NULL);
        if (!p->plain) {
            QR_TRY(judge(p, t, 0, &found, error));
            own.rows_agree = own.rows_agree && found->rows_agree;
        }
        if (!p->onednn) continue;
        QR_TRY(judge(p, t, qr_packed_columns(p, &p->shards[t]), &found, error));
        onednn.rows_agree = onednn.rows_agree && found->rows_agree;
        onednn.own_agrees = onednn.own_agrees && own.rows_agree && found->own_agrees;
    }
    settle_path(p, &own, &onednn);
    report(p);
    return QUIRE_OK;
}
