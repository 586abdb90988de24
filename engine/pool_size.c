/* A pool is given as bytes, as a number of blocks, or as a share of the memory that is left; the first and the last are
 * divided by what a block costs with its bookkeeping and rounded down to whole extents. Of local blocks there are as
 * many windows as the other blocks hold longest sequences, at least what the scheduler needs not to wait for them. */
#include "engine/pool_size.h"

#include <stdio.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/printable.h"
#include "base/sized_struct.h"
#include "engine/options.h"
#include "kernels/kv_tile.h"

enum {
    BOOKKEEPING_BYTES = 96,      /* per block, besides its token ids */
    SPARE_BYTES       = 1 << 28, /* that automatic sizing leaves alone, at least, where half is left */
    USEFUL_TIMES      = 4,       /* automatic sizing stops at so many times max_num_seqs longest sequences */
    EXTENT_BLOCKS     = 8,
    MAX_BLOCKS        = 1 << 28,
};

/* What a pool is made of; `costs` are bytes with bookkeeping, of a block and of a local one. */
typedef struct parts {
    qr_scheduler_options scheduler;
    uint64_t             block_bytes, local_block_bytes;
    uint64_t             cost, local_cost;
} parts;

/* Of one block in one layer. */
static uint64_t layer_bytes(const quire_engine_options *options, const qr_model_facts *facts)
{
    qr_network_options network;
    qr_options_network(options, facts, &network);
    const qr_kv_shape shape = {.dtype      = network.kv_dtype,
                               .kv_heads   = facts->kv_heads,
                               .head_dim   = facts->head_dim,
                               .block_size = options->block_size};
    return (uint64_t)qr_kv_block_bytes(&shape);
}

static parts parts_of(const quire_engine_options *options, const qr_model_facts *facts)
{
    const uint64_t layer = layer_bytes(options, facts);
    parts          p     = {.block_bytes       = layer * (facts->decoder_layers - facts->local_layers),
                            .local_block_bytes = layer * facts->local_layers};
    p.cost               = p.block_bytes + BOOKKEEPING_BYTES + sizeof(int32_t) * options->block_size;
    p.local_cost         = facts->local_layers > 0 ? p.local_block_bytes + BOOKKEEPING_BYTES : 0;
    qr_options_scheduler(options, facts, &p.scheduler);
    return p;
}

static uint64_t useful_blocks(const parts *p)
{
    const qr_scheduler_options *o       = &p->scheduler;
    const uint32_t              encoder = o->encoder_decoder ? o->max_num_encoder_input_tokens : 0;
    return (uint64_t)qr_scheduler_blocks_needed(o, 1, o->max_model_len - 1, encoder) * o->max_num_seqs * USEFUL_TIMES;
}

/* Beside so many others. */
static uint64_t local_blocks(const parts *p, uint64_t blocks)
{
    qr_scheduler_options o = p->scheduler;
    if (o.local_window == 0) return 0;
    o.num_blocks           = (uint32_t)blocks;
    const uint64_t window  = qr_ceil_div_u32(o.local_window, o.block_size) + 1;
    const uint64_t longest = qr_ceil_div_u32(o.max_model_len, o.block_size);
    return qr_min_u64(blocks, qr_max_u64(qr_scheduler_local_blocks(&o), qr_ceil_div_u64(blocks * window, longest)));
}

static uint64_t bytes_of(const parts *p, uint64_t blocks)
{
    return blocks * p->cost + local_blocks(p, blocks) * p->local_cost;
}

/* The most blocks that fit, with the local ones that go with them. */
static uint64_t blocks_in(const parts *p, uint64_t bytes)
{
    uint64_t low = 0, high = qr_min_u64(bytes / p->cost, MAX_BLOCKS);
    while (low < high) {
        const uint64_t middle = low + (high - low + 1) / 2;
        if (bytes_of(p, middle) <= bytes)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static uint64_t automatic_bytes(uint64_t available, float fraction)
{
    const uint64_t spare = qr_min_u64(qr_max_u64(SPARE_BYTES, available / 20), available / 2);
    return (uint64_t)((double)(available - spare) * (double)fraction);
}

/* Whole extents on each node where there are enough. */
static uint64_t round_to_extents(uint64_t blocks, uint32_t node_count)
{
    const uint64_t extents = (uint64_t)EXTENT_BLOCKS * node_count;
    return blocks >= extents ? blocks / extents * extents : blocks;
}

static quire_status check_count(uint32_t num_blocks, uint64_t bytes, uint64_t available, quire_error *error)
{
    if (bytes <= available) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "[kv_cache] num_kv_blocks: %u blocks are %llu bytes, above the %llu this process can take",
                   num_blocks, (unsigned long long)bytes, (unsigned long long)available);
}

static quire_status check_bytes(uint64_t bytes, uint64_t available, quire_error *error)
{
    if (bytes <= available) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "[kv_cache] size: %llu bytes are above the %llu this process can take",
                   (unsigned long long)bytes, (unsigned long long)available);
}

static quire_status check_holds_one(const char *option, uint64_t bytes, uint64_t cost, quire_error *error)
{
    if (bytes >= cost) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "[kv_cache] %s: %llu bytes do not hold one block of %llu", option,
                   (unsigned long long)bytes, (unsigned long long)cost);
}

quire_status qr_pool_size(const quire_engine_options *options, const qr_model_facts *facts, uint64_t available_bytes,
                          uint32_t node_count, quire_kv_pool *pool_out, quire_error *error)
{
    const parts    p      = parts_of(options, facts);
    const uint64_t given  = options->kv_cache_bytes;
    uint64_t       blocks = options->num_kv_blocks;
    if (blocks > 0) {
        QR_TRY(check_count((uint32_t)blocks, bytes_of(&p, blocks), available_bytes, error));
    } else {
        const uint64_t bytes = given ? given : automatic_bytes(available_bytes, options->memory_fraction);
        QR_TRY(check_bytes(given, available_bytes, error));
        QR_TRY(check_holds_one(given ? "size" : "memory_fraction", bytes, bytes_of(&p, 1), error));
        blocks = qr_min_u64(blocks_in(&p, bytes), given ? MAX_BLOCKS : useful_blocks(&p));
        blocks = round_to_extents(blocks, node_count);
    }
    *pool_out = (quire_kv_pool){.size              = sizeof *pool_out,
                                .num_blocks        = (uint32_t)blocks,
                                .block_size        = options->block_size,
                                .block_bytes       = p.block_bytes,
                                .num_local_blocks  = local_blocks(&p, blocks),
                                .local_block_bytes = p.local_block_bytes};
    return QUIRE_OK;
}

uint64_t qr_pool_bytes(const quire_kv_pool *pool, uint64_t blocks, uint64_t local)
{
    return blocks * pool->block_bytes + local * pool->local_block_bytes;
}

/* ---- what it holds ---- */

static uint32_t blocks_of_longest(const qr_scheduler_options *options, uint32_t length)
{
    const uint32_t encoder = options->encoder_decoder ? options->max_num_encoder_input_tokens : 0;
    return qr_scheduler_blocks_needed(options, 1, length - 1, encoder);
}

/* Prompt + output tokens of the longest request that the pool can hold beside the longest encoder input; 0: none. */
static uint32_t longest_fit(const qr_scheduler_options *options)
{
    uint32_t low = 1, high = options->max_model_len;
    while (low < high) {
        const uint32_t middle = low + (high - low + 1) / 2;
        if (blocks_of_longest(options, middle) <= options->num_blocks)
            low = middle;
        else
            high = middle - 1;
    }
    return low < 2 ? 0 : low;
}

bool qr_pool_is_short(const qr_scheduler_options *options, char *warning_out, size_t size)
{
    const uint32_t longest = longest_fit(options);
    if (longest >= options->max_model_len) return false;
    snprintf(warning_out, size,
             "KV cache: %u block%s of %u tokens hold a sequence of %u tokens at most, the last of which is not stored; "
             "max_model_len is %u",
             options->num_blocks, qr_plural(options->num_blocks), options->block_size, longest, options->max_model_len);
    return true;
}

/* ---- for hosts ---- */

quire_status quire_kv_pool_plan(const quire_engine_options *options, const quire_model_info *model,
                                uint64_t available_bytes, uint32_t node_count, quire_kv_pool *pool_out,
                                quire_error *error)
{
    quire_engine_options resolved;
    quire_model_info     info;
    quire_kv_pool        pool;
    if (options == NULL || model == NULL || pool_out == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_kv_pool_plan: options, model or pool_out is NULL");
    QR_TRY(qr_options_copy("quire_engine_options", options, sizeof options->size, &resolved, sizeof resolved, error));
    QR_TRY(qr_options_copy("quire_model_info", model, sizeof model->size, &info, sizeof info, error));
    const qr_model_facts facts = qr_model_facts_from(&info);
    QR_TRY(qr_options_resolve(&resolved, &facts, error));
    QR_TRY(qr_pool_size(&resolved, &facts, available_bytes, qr_max_u32(node_count, 1), &pool, error));
    qr_options_give(&pool, sizeof pool, pool_out);
    return QUIRE_OK;
}

/* ---- shares of the nodes ---- */

/* Deals `bytes` to the nodes that are not full, by their threads; those that it is too much for become full. */
static bool deal(uint64_t bytes, uint32_t node_count, const uint32_t *threads, const uint64_t *room, bool *full,
                 uint64_t *held)
{
    uint64_t all = 0, left = bytes;
    bool     filled = false;
    for (uint32_t n = 0; n < node_count; n++) all += full[n] ? 0 : threads[n], left -= full[n] ? held[n] : 0;
    for (uint32_t n = 0; n < node_count; n++) {
        if (full[n]) continue;
        held[n] = (uint64_t)((double)left * threads[n] / (double)all);
        if (held[n] <= room[n]) continue;
        held[n] = room[n];
        full[n] = filled = true;
    }
    return filled;
}

void qr_pool_share(uint64_t pool_bytes, uint32_t node_count, const uint32_t *threads, const uint64_t *free_bytes,
                   uint32_t *share_out)
{
    uint64_t room[QR_MAX_NODES], held[QR_MAX_NODES], all = 0;
    bool     full[QR_MAX_NODES] = {false};
    for (uint32_t n = 0; n < node_count; n++) {
        room[n] = free_bytes[n] / 10 * 9;
        all     = room[n] > UINT64_MAX - all ? UINT64_MAX : all + room[n];
    }
    if (all <= pool_bytes)
        memcpy(held, room, sizeof *held * node_count);
    else
        while (deal(pool_bytes, node_count, threads, room, full, held)) continue;
    for (uint32_t n = 0; n < node_count; n++) /* in millionths of the pool: 32 bits hold those of any */
        share_out[n] = 1 + (uint32_t)((double)held[n] / (double)qr_max_u64(pool_bytes, 1) * 1000000);
}
