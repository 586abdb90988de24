/* oneDNN's prepared products: one per number of rows, thread and shape, created before the first step. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "kernels/projection_parts.h"

enum { GEMM_ROWS = 6 /* oneDNN's unpacked AVX2 matmul: rows differ unless M is a multiple of this */ };

/* Row counts that oneDNN is prepared for, ascending: every one to 32, then multiples of 8 and 16; the unpacked matmul:
 * multiples of 6. Rows in between are padded. */
uint32_t qr_projection_bucket_rows(bool plain, uint32_t bucket)
{
    if (plain) return GEMM_ROWS * (bucket + 1);
    if (bucket < 32) return bucket + 1;
    return bucket < 36 ? 32 + 8 * (bucket - 31) : 64 + 16 * (bucket - 35);
}

uint32_t qr_projection_bucket_for(bool plain, uint32_t rows)
{
    uint32_t bucket = plain ? (rows - 1) / GEMM_ROWS : rows <= 32 ? rows - 1 : 32;
    while (qr_projection_bucket_rows(plain, bucket) < rows) bucket++;
    return bucket;
}

/* Most rows of one oneDNN call. */
uint32_t qr_projection_block_rows(const qr_projection *p)
{
    const uint32_t limit = p->plain ? QR_ONEDNN_ROWS / GEMM_ROWS * GEMM_ROWS : QR_ONEDNN_ROWS;
    return qr_min_u32(p->context->options.max_rows, limit);
}

void qr_projection_plan_destroy(qr_projection_context *c, qr_projection_plan *p)
{
    if (p == NULL) return;
    for (uint32_t i = 0; i < p->bucket_count; i++) qr_onednn_matmul_destroy(p->matmuls[i]);
    qr_onednn_weights_destroy(p->weights);
    qr_deallocate(&c->options.allocator, p, sizeof *p);
}

static qr_projection_plan *plan_find(const qr_projection_context *c, const qr_projection_plan *key)
{
    for (qr_projection_plan *p = c->plans; p != NULL; p = p->next)
        if (p->thread == key->thread && p->k == key->k && p->columns == key->columns && p->dtype == key->dtype)
            return p;
    return NULL;
}

static quire_status plan_fill(const qr_projection *projection, qr_projection_plan *p, quire_error *error)
{
    const qr_onednn_shape shape = {p->dtype, p->k, p->columns, !projection->plain};
    QR_TRY(qr_onednn_weights_create(projection->context->onednn, &shape, &p->weights, error));
    const uint32_t last = qr_projection_bucket_for(projection->plain, qr_projection_block_rows(projection));
    while (p->bucket_count <= last) {
        qr_onednn_matmul **matmul = &p->matmuls[p->bucket_count];
        QR_TRY(qr_onednn_matmul_create(p->weights, p->thread,
                                       qr_projection_bucket_rows(projection->plain, p->bucket_count), matmul, error));
        const size_t scratch = qr_onednn_matmul_scratch_bytes(*matmul);
        if (scratch > p->scratch_bytes) p->scratch_bytes = scratch;
        p->bucket_count++;
    }
    return QUIRE_OK;
}

static quire_status plan_get(qr_projection *projection, uint32_t thread, qr_projection_plan **plan_out,
                             quire_error *error)
{
    qr_projection_context   *c   = projection->context;
    const qr_projection_plan key = {.thread  = thread,
                                    .k       = projection->k,
                                    .columns = qr_packed_columns(projection, &projection->shards[thread]),
                                    .dtype   = projection->shape.dtype};
    *plan_out                    = plan_find(c, &key);
    if (*plan_out != NULL) return QUIRE_OK;
    qr_projection_plan *p = qr_allocate(&c->options.allocator, sizeof *p, QR_PACK_ALIGNMENT);
    if (p == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "projections: %zu bytes of memory are missing", sizeof *p);
    *p                        = key;
    const quire_status status = plan_fill(projection, p, error);
    if (status != QUIRE_OK) {
        qr_projection_plan_destroy(c, p);
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
    if (!c->refused[dtype])
        qr_log_write(c->options.log, QUIRE_LOG_WARN, "projections in %s run on quire's own kernels: %s",
                     qr_dtype_name(dtype), why);
    c->refused[dtype] = true;
}

/* ERR_UNSUPPORTED turns oneDNN off for this projection; other errors are the caller's. */
quire_status qr_projection_choose_path(qr_projection *p, quire_error *error)
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
