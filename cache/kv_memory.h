/* The bytes of keys and values: one mapping, a plane of blocks per layer, blocks of a node bound to that node.
 *
 *   block b of layer l starts at base + l * plane_bytes + b * block_bytes
 *
 * Blocks are numbered node by node: node i owns [first_block[i], first_block[i + 1]), so that a layer's extents of one
 * node are adjacent. First touch is left to the threads of the node (tiles are zeroed when their slot 0 is written). */
#ifndef QR_KV_MEMORY_H
#define QR_KV_MEMORY_H

#include "base/memory.h"
#include "topology/bind.h"

typedef struct qr_kv_memory {
    qr_mapping mapping;
    uint32_t   layers, num_blocks;
    size_t     block_bytes; /* of one block in one layer */
    size_t     plane_bytes; /* a multiple of 2 MiB */
    uint32_t   node_count;
    uint32_t   first_block[QR_MAX_NODES + 1]; /* [node_count + 1] */
} qr_kv_memory;

typedef struct qr_kv_memory_options {
    uint32_t        layers, num_blocks;
    size_t          block_bytes;
    const uint32_t *first_block; /* [node_count + 1] */
    const uint32_t *node_os;     /* [node_count] */
    uint32_t        node_count;
    uint32_t        machine_nodes; /* more than 1: blocks are bound */
    qr_bind_options bind;
} qr_kv_memory_options;

quire_status qr_kv_memory_create(const qr_kv_memory_options *options, qr_kv_memory *memory_out, quire_error *error);
void         qr_kv_memory_destroy(qr_kv_memory *memory);

/* Shows each node's blocks, plane by plane. */
void qr_kv_memory_visit(const qr_kv_memory *memory, qr_memory_visitor *visit, void *context);

static inline char *qr_kv_memory_plane(const qr_kv_memory *memory, uint32_t layer)
{
    return memory->mapping.base + (size_t)layer * memory->plane_bytes;
}

#endif
