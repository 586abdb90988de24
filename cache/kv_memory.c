/* One mapping for all planes; each layer's blocks of a node are bound to it. */
#include "cache/kv_memory.h"

#include <string.h>

#include "base/bits.h"
#include "base/error.h"

static const size_t plane_alignment = (size_t)2 << 20;

static quire_status size_planes(const qr_kv_memory_options *options, qr_kv_memory *memory, uint64_t *bytes_out,
                                quire_error *error)
{
    uint64_t plane = 0, aligned = 0;
    if (!qr_mul_u64(options->num_blocks, options->block_bytes, &plane) ||
        !qr_add_u64(plane, plane_alignment - 1, &aligned) ||
        !qr_mul_u64(aligned / plane_alignment * plane_alignment, options->layers, bytes_out))
        return qr_fail(error, QUIRE_ERR_INVALID, "KV cache: %u layers of %u blocks of %zu bytes are more than memory",
                       options->layers, options->num_blocks, options->block_bytes);
    *memory = (qr_kv_memory){
        .layers      = options->layers,
        .num_blocks  = options->num_blocks,
        .block_bytes = options->block_bytes,
        .plane_bytes = aligned / plane_alignment * plane_alignment,
        .node_count  = options->node_count,
    };
    memcpy(memory->first_block, options->first_block, (options->node_count + 1) * sizeof *memory->first_block);
    return QUIRE_OK;
}

static quire_status bind_layer(const qr_kv_memory_options *options, const qr_kv_memory *memory, uint32_t layer,
                               quire_error *error)
{
    const qr_bind_options report = {.strict = options->bind.strict};
    for (uint32_t node = 0; node < options->node_count; node++) {
        const size_t first = options->first_block[node], end = options->first_block[node + 1];
        /* the first layer speaks for all: a machine refuses every plane alike */
        QR_TRY(qr_mapping_bind(&memory->mapping, layer * memory->plane_bytes + first * options->block_bytes,
                               (end - first) * options->block_bytes, options->node_os[node], options->machine_nodes,
                               layer == 0 ? &options->bind : &report, error));
    }
    return QUIRE_OK;
}

quire_status qr_kv_memory_create(const qr_kv_memory_options *options, qr_kv_memory *memory_out, quire_error *error)
{
    uint64_t bytes = 0;
    *memory_out    = (qr_kv_memory){0};
    QR_TRY(size_planes(options, memory_out, &bytes, error));
    quire_status status = qr_mapping_create(bytes, &options->bind, "KV cache", &memory_out->mapping, error);
    for (uint32_t layer = 0; status == QUIRE_OK && layer < options->layers; layer++)
        status = bind_layer(options, memory_out, layer, error);
    if (status != QUIRE_OK) qr_kv_memory_destroy(memory_out);
    return status;
}

void qr_kv_memory_visit(const qr_kv_memory *memory, qr_memory_visitor *visit, void *context)
{
    for (uint32_t layer = 0; layer < memory->layers; layer++)
        for (uint32_t node = 0; node < memory->node_count; node++) {
            const size_t first = memory->first_block[node], end = memory->first_block[node + 1];
            visit(context, QUIRE_MEMORY_KV, qr_kv_memory_plane(memory, layer) + first * memory->block_bytes,
                  (end - first) * memory->block_bytes, node);
        }
}

void qr_kv_memory_destroy(qr_kv_memory *memory)
{
    qr_mapping_destroy(&memory->mapping);
    *memory = (qr_kv_memory){0};
}
