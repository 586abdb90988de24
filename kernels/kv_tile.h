/* Keys and values in memory: tiles of 32 tokens of one kv head, K part then V part (docs/KERNELS.md, Keys and values in
 * memory). A block is block_size / 32 tiles x kv_heads; the cache knows its bytes only. */
#ifndef QR_KV_TILE_H
#define QR_KV_TILE_H

#include "base/bits.h"
#include "base/number.h"

enum { QR_TILE_TOKENS = 32, QR_SPLIT_TOKENS = 256 };

typedef struct qr_kv_shape {
    qr_dtype dtype;
    uint32_t kv_heads;
    uint32_t head_dim;   /* D */
    uint32_t block_size; /* tokens, a multiple of 32 */
} qr_kv_shape;

/* D rounded up to 16; the added columns are zero. */
static inline uint32_t qr_kv_padded_dim(const qr_kv_shape *shape) { return qr_round_up_u32(shape->head_dim, 16); }

static inline size_t qr_kv_tile_bytes(const qr_kv_shape *shape)
{
    const size_t dim = qr_kv_padded_dim(shape);
    return shape->dtype == QR_F32 ? 256 * dim : shape->dtype == QR_BF16 ? 128 * dim : 64 * dim + 384;
}

/* Bytes of one block in one layer. */
static inline size_t qr_kv_block_bytes(const qr_kv_shape *shape)
{
    return (size_t)(shape->block_size / QR_TILE_TOKENS) * shape->kv_heads * qr_kv_tile_bytes(shape);
}

/* Offset of a tile in a layer's plane of blocks. */
static inline size_t qr_kv_tile_offset(const qr_kv_shape *shape, uint32_t block, uint32_t tile, uint32_t kv_head)
{
    return (((size_t)block * (shape->block_size / QR_TILE_TOKENS) + tile) * shape->kv_heads + kv_head) *
           qr_kv_tile_bytes(shape);
}

#endif
