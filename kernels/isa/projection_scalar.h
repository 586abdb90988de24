/* Projections in plain C: the reference, and what runs on a machine without AVX2. */
#include "base/bits.h"
#include "kernels/projection_kernels.h"

static void finish_chunk(const qr_product *p, uint32_t row, bool first, const float *sums)
{
    float *out = p->out + row * p->out_stride;
    for (uint32_t c = 0; c < QR_GROUP_COLUMNS; c++) out[c] = first ? sums[c] : out[c] + sums[c];
}

static void product_f32(const qr_product *p)
{
    const uint32_t chunk = qr_sum_chunk(p->k);
    for (uint32_t row = 0; row < p->rows; row++) {
        const float *x = (const float *)((const char *)p->x + row * p->x_stride), *w = p->group;
        for (uint32_t from = 0; from < p->k; from += chunk) {
            float sums[QR_GROUP_COLUMNS] = {0};
            for (uint32_t k = from; k < qr_min_u32(from + chunk, p->k); k++, w += QR_GROUP_COLUMNS)
                for (uint32_t c = 0; c < QR_GROUP_COLUMNS; c++) sums[c] += x[k] * w[c];
            finish_chunk(p, row, from == 0, sums);
        }
    }
}

static void product_bf16(const qr_product *p)
{
    const uint32_t chunk = qr_sum_chunk(p->k);
    for (uint32_t row = 0; row < p->rows; row++) {
        const float   *x = (const float *)((const char *)p->x + row * p->x_stride);
        const qr_bf16 *w = p->group;
        for (uint32_t from = 0; from < p->k; from += chunk) {
            float sums[QR_GROUP_COLUMNS] = {0};
            for (uint32_t k = from; k < qr_min_u32(from + chunk, p->k); k++, w += QR_GROUP_COLUMNS)
                for (uint32_t c = 0; c < QR_GROUP_COLUMNS; c++) sums[c] += x[k] * qr_f32_of_bf16(w[c]);
            finish_chunk(p, row, from == 0, sums);
        }
    }
}

static void product_int8(const qr_product *p)
{
    for (uint32_t row = 0; row < p->rows; row++) {
        const int8_t *x = (const int8_t *)p->x + row * p->x_stride, *w = p->group;
        int32_t       sums[QR_GROUP_COLUMNS] = {0};
        for (uint32_t k = 0; k < p->k; k++, w += QR_GROUP_COLUMNS)
            for (uint32_t c = 0; c < QR_GROUP_COLUMNS; c++) sums[c] += x[k] * w[c];
        for (uint32_t c = 0; c < QR_GROUP_COLUMNS; c++) p->out[row * p->out_stride + c] = (float)sums[c];
    }
}

static void arrange_bf16(const qr_arrange *a)
{
    for (uint32_t row = 0; row < a->rows; row++) {
        const qr_bf16 *x   = (const void *)((const char *)a->x + row * a->x_stride);
        float         *out = (float *)a->out + (size_t)row * a->k;
        for (uint32_t i = 0; i < a->k; i++) out[i] = qr_f32_of_bf16(x[i]);
    }
}

static void arrange_quads(const qr_arrange *a) { qr_interleave_quads(a); }

#define QR_OWN_NAME "own:scalar"
static const qr_panel_format panel_formats[] = {
    [QR_F32]  = {.panel_columns = 64, .step = 1, .product = product_f32},
    [QR_BF16] = {.panel_columns = 64, .step = 1, .product = product_bf16, .arrange = arrange_bf16, .x_bytes = 4},
    [QR_INT8] = {.panel_columns = 64, .step = 1, .product = product_int8},
};
#include "kernels/projection_template.h"
