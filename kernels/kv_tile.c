/* Writing keys and values into tiles, in the layout of docs/KERNELS.md, Keys and values in memory. Plain C: a decode
 * step writes one slot per kv head, strided whatever the instruction set. */
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
    qr_bf16  narrow[QR_HEAD_DIM_MAX]; /* by itself, so that the compiler takes several at once */
    for (uint32_t d = 0; d < dim; d++) narrow[d] = qr_bf16_of_f32(k[d]);
    for (uint32_t d = 0; d < dim; d += 2) memcpy(k_part + (size_t)d * QR_TILE_TOKENS, narrow + d, 2 * sizeof *narrow);
    for (uint32_t d = 0; d < dim; d++) narrow[d] = qr_bf16_of_f32(v[d]);
    for (uint32_t d = 0; d < dim; d++) v_part[d * 2] = narrow[d];
}

static void store_int8(const qr_attention_kernels *kernels, int8_t *tile, uint32_t dim, uint32_t slot, const float *k,
                       const float *v)
{
    int8_t *k_part = tile + (size_t)slot * 4, *v_part = tile + (size_t)(QR_TILE_TOKENS + slot / 4 * 4) * dim + slot % 4;
    float  *k_scale = (float *)(tile + (size_t)2 * QR_TILE_TOKENS * dim), *v_scale = k_scale + QR_TILE_TOKENS;
    float  *k_sum = v_scale + QR_TILE_TOKENS;
    int8_t  codes[QR_HEAD_DIM_MAX];
    int32_t sum   = 0;
    k_scale[slot] = kernels->quantize(k, dim, codes);
    for (uint32_t d = 0; d < dim; d++) sum += codes[d];
    for (uint32_t d = 0; d < dim; d += 4) memcpy(k_part + (size_t)d * QR_TILE_TOKENS, codes + d, 4);
    k_sum[slot]   = 128.0f * (float)sum; /* exact: below 2^24 */
    v_scale[slot] = kernels->quantize(v, dim, codes);
    for (uint32_t d = 0; d < dim; d++) v_part[(size_t)d * 4] = codes[d];
}

/* Whether the cache can hold the row: bf16 rounds the last numbers below infinity to it. */
static bool stays_finite(qr_dtype dtype, const float *x, uint32_t dim)
{
    const uint32_t limit    = dtype == QR_BF16 ? 0x7f7f8000 : 0x7f800000;
    uint32_t       greatest = 0;
    for (uint32_t d = 0; d < dim; d++) greatest = qr_max_u32(greatest, qr_bits_of_f32(x[d]) & 0x7fffffff);
    return greatest < limit;
}

/* A row that does not see a key gives its value the weight zero, and 0 * inf is NaN. So a value that is not finite
 * becomes zeros and its key NaN: it shows in the rows that see the key, through their scores, and in no other. */
void qr_kv_tile_store(const qr_attention_kernels *kernels, const qr_kv_shape *shape, char *tile, uint32_t slot,
                      const float *k, const float *v)
{
    const uint32_t     dim = qr_kv_padded_dim(shape);
    float              nans[QR_HEAD_DIM_MAX];
    static const float zeros[QR_HEAD_DIM_MAX];
    if (!stays_finite(shape->dtype, v, dim)) {
        for (uint32_t d = 0; d < dim; d++) nans[d] = NAN;
        k = nans, v = zeros;
    }
    if (shape->dtype == QR_F32)
        store_f32((float *)tile, dim, slot, k, v);
    else if (shape->dtype == QR_INT8)
        store_int8(kernels, (int8_t *)tile, dim, slot, k, v);
    else
        store_bf16((qr_bf16 *)tile, dim, slot, k, v);
}

void qr_kv_copy_block(const qr_kv_shape *shape, char *plane, uint32_t from, uint32_t to, uint32_t slots)
{
    const size_t bytes = qr_ceil_div_u32(slots, QR_TILE_TOKENS) * shape->kv_heads * qr_kv_tile_bytes(shape);
    memcpy(plane + qr_kv_tile_offset(shape, to, 0, 0), plane + qr_kv_tile_offset(shape, from, 0, 0), bytes);
}
