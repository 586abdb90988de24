/* Reading memory as a decode step reads keys, for measuring at start-up. What the bytes are does not matter: the query
 * is zero and the result is thrown away. */
#include "kernels/attention_kernels.h"

size_t qr_attention_walk_floats(const qr_attention_shape *shape)
{
    const size_t dim = qr_kv_padded_dim(&shape->kv);
    return qr_round_up(shape->heads * (dim + dim + QR_ATTENTION_STATE_TAIL), 16);
}

uint32_t qr_attention_block_heads(const qr_kernels *kernels, const qr_kv_shape *shape)
{
    return kernels->attention->by_dtype[shape->dtype].attend_split != NULL ? QR_ATTENTION_BLOCK : 0;
}

/* Tiles `stride` bytes apart, in whole splits; the last one takes the first tiles again. */
static uint64_t walk_splits(const qr_attention_kernels *kernels, qr_dtype dtype, const qr_attention_tile *first,
                            const char *memory, size_t stride, uint64_t count)
{
    qr_attention_split s = {.rest = *first};
    s.rest.visible_end   = QR_SPLIT_TOKENS;
    s.tile_count         = QR_SPLIT_TILES;
    uint64_t i           = 0;
    for (; i < count; i += QR_SPLIT_TILES) {
        for (uint32_t j = 0; j < QR_SPLIT_TILES; j++) s.tiles[j] = memory + (i + j) % count * stride;
        s.rest.next = first->prefetch && i + QR_SPLIT_TILES < count ? memory + (i + QR_SPLIT_TILES) * stride : NULL;
        kernels->by_dtype[dtype].attend_split(&s);
    }
    return i * QR_TILE_TOKENS;
}

uint64_t qr_attention_walk(const qr_kernels *kernels, const qr_attention_shape *shape, const char *memory, size_t bytes,
                           bool prefetch, float *scratch)
{
    const qr_kv_shape *kv  = &shape->kv;
    const uint32_t     dim = qr_kv_padded_dim(kv), group = shape->heads / kv->kv_heads;
    const size_t       stride = qr_kv_tile_bytes(kv) * kv->kv_heads;
    const uint64_t     count  = qr_max_u64(1, bytes / stride);
    memset(scratch, 0, qr_attention_walk_floats(shape) * sizeof *scratch);
    qr_attention_tile t = {.tile_bytes  = qr_kv_tile_bytes(kv),
                           .prefetch    = prefetch,
                           .padded_dim  = dim,
                           .heads       = kv->kv_heads,
                           .rows        = 1,
                           .group       = group,
                           .head_rows   = group,
                           .q           = (const char *)scratch,
                           .state       = scratch + (size_t)shape->heads * dim,
                           .visible_end = QR_TILE_TOKENS};
    if (kernels->attention->by_dtype[kv->dtype].attend_split != NULL)
        return walk_splits(kernels->attention, kv->dtype, &t, memory, stride, count);
    for (uint64_t i = 0; i < count; i++) {
        t.tile = memory + i * stride;
        t.next = prefetch && i + 1 < count ? t.tile + stride : NULL;
        kernels->attention->by_dtype[kv->dtype].attend(&t);
    }
    return count * QR_TILE_TOKENS;
}
