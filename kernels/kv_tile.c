/* Writing keys and values into tiles, in the layout of docs/KERNELS.md, Cache geometry. Plain C: a decode step writes
 * one slot per kv head, strided whatever the instruction set. */
#include <float.h>
#include <math.h>

#include "kernels/attention_kernels.h"

static void store_f32(float *tile, uint32_t dim, uint32_t slot, const float *k, const float *v)
{
    float *k_part = tile, *v_part = tile + QR_TILE_TOKENS * dim;
    for (uint32_t d = 0; d < dim; d++) k_part[d * QR_TILE_TOKENS + slot] = k[d];
    memcpy(v_part + slot * dim, v, dim * sizeof *v);
}

static void store_bf16(qr_bf16 *tile, uint32_t dim, uint32_t slot, const float *k, const float *v)
{
    qr_bf16 *k_part = tile + slot * 2, *v_part = tile + (QR_TILE_TOKENS + slot / 2 * 2) * dim + slot % 2;
    for (uint32_t d = 0; d < dim; d += 2) {
        k_part[d * QR_TILE_TOKENS]     = qr_bf16_of_f32(k[d]);
        k_part[d * QR_TILE_TOKENS + 1] = qr_bf16_of_f32(k[d + 1]);
    }
    for (uint32_t d = 0; d < dim; d++) v_part[d * 2] = qr_bf16_of_f32(v[d]);
}

/* Codes of x[dim]; element d goes to to[d / 4 * quad_stride + d % 4 * stride]. Returns the scale; *sum_out = the sum of
 * the codes. NaN or infinity anywhere make the scale NaN. */
static float store_codes(const float *x, uint32_t dim, int8_t *to, size_t quad_stride, size_t stride, int32_t *sum_out)
{
    float top = 0;
    for (uint32_t d = 0; d < dim; d++) top = fabsf(x[d]) > top || isnan(x[d]) ? fabsf(x[d]) : top;
    const float code = top > 0 && top <= FLT_MAX ? 127 / top : 0;
    int32_t     sum  = 0;
    for (uint32_t d = 0; d < dim; d++) {
        const int32_t rounded                    = code > 0 ? (int32_t)lrintf(x[d] * code) : 0;
        to[d / 4 * quad_stride + d % 4 * stride] = (int8_t)rounded;
        sum += rounded;
    }
    *sum_out = sum;
    return top <= FLT_MAX ? top / 127 : NAN;
}

static void store_int8(int8_t *tile, uint32_t dim, uint32_t slot, const float *k, const float *v)
{
    int8_t *k_part = tile, *v_part = tile + (size_t)QR_TILE_TOKENS * dim;
    float  *k_scale = (float *)(v_part + (size_t)QR_TILE_TOKENS * dim), *v_scale = k_scale + QR_TILE_TOKENS;
    float  *k_sum = v_scale + QR_TILE_TOKENS;
    int32_t sum;
    k_scale[slot] = store_codes(k, dim, k_part + (size_t)slot * 4, 4 * QR_TILE_TOKENS, 1, &sum);
    k_sum[slot]   = 128.0f * (float)sum; /* exact: below 2^24 */
    v_scale[slot] = store_codes(v, dim, v_part + (size_t)(slot / 4) * 4 * dim + slot % 4, 16, 4, &sum);
}

void qr_kv_tile_store(const qr_kv_shape *shape, char *tile, uint32_t slot, const float *k, const float *v)
{
    const uint32_t dim = qr_kv_padded_dim(shape);
    if (shape->dtype == QR_F32)
        store_f32((float *)tile, dim, slot, k, v);
    else if (shape->dtype == QR_INT8)
        store_int8((int8_t *)tile, dim, slot, k, v);
    else
        store_bf16((qr_bf16 *)tile, dim, slot, k, v);
}

void qr_kv_copy_block(const qr_kv_shape *shape, char *plane, uint32_t from, uint32_t to, uint32_t slots)
{
    const size_t bytes = qr_ceil_div_u32(slots, QR_TILE_TOKENS) * shape->kv_heads * qr_kv_tile_bytes(shape);
    memcpy(plane + qr_kv_tile_offset(shape, to, 0, 0), plane + qr_kv_tile_offset(shape, from, 0, 0), bytes);
}
