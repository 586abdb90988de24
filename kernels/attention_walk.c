/* Reading memory as a decode step reads keys, for measuring at start-up. What the bytes are does not matter: the query
 * is zero and the result is thrown away. */
#include "kernels/attention_kernels.h"

size_t qr_attention_walk_floats(const qr_attention_shape *shape)
{
    const size_t dim = qr_kv_padded_dim(&shape->kv);
    return qr_round_up(shape->heads * (dim + dim + QR_ATTENTION_STATE_TAIL), 16);
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
    for (uint64_t i = 0; i < count; i++) {
        t.tile = memory + i * stride;
        t.next = prefetch && i + 1 < count ? t.tile + stride : NULL;
        kernels->attention->by_dtype[kv->dtype].attend(&t);
    }
    return count * QR_TILE_TOKENS;
}
