/* A pool is given as bytes, as a number of blocks, or as a share of the memory that is left; the first and the last are
 * divided by what a block costs with its bookkeeping and rounded down to whole extents. */
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

static uint64_t block_bytes(const quire_engine_options *options, const qr_model_facts *facts)
{
    qr_network_options network;
    qr_options_network(options, facts, &network);
    const qr_kv_shape shape = {.dtype      = network.kv_dtype,
                               .kv_heads   = facts->kv_heads,
                               .head_dim   = facts->head_dim,
                               .block_size = options->block_size};
    return (uint64_t)qr_kv_block_bytes(&shape) * facts->decoder_layers;
}

static uint64_t useful_blocks(const quire_engine_options *options, const qr_model_facts *facts)
{
    qr_scheduler_options scheduler;
    qr_options_scheduler(options, facts, &scheduler);
    const uint32_t encoder = facts->encoder_decoder ? options->max_num_encoder_input_tokens : 0;
    const uint64_t longest = qr_scheduler_blocks_needed(&scheduler, 1, options->max_model_len - 1, encoder);
    return longest * options->max_num_seqs * USEFUL_TIMES;
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
    const uint64_t of_block = block_bytes(options, facts);
    const uint64_t cost     = of_block + BOOKKEEPING_BYTES + sizeof(int32_t) * options->block_size;
    const uint64_t given    = options->kv_cache_bytes;
    uint64_t       blocks   = options->num_kv_blocks;
    if (blocks > 0) {
        QR_TRY(check_count((uint32_t)blocks, blocks * cost, available_bytes, error));
    } else {
        const uint64_t bytes = given ? given : automatic_bytes(available_bytes, options->memory_fraction);
        QR_TRY(check_bytes(given, available_bytes, error));
        QR_TRY(check_holds_one(given ? "size" : "memory_fraction", bytes, cost, error));
        blocks = qr_min_u64(bytes / cost, given ? MAX_BLOCKS : qr_min_u64(useful_blocks(options, facts), MAX_BLOCKS));
        blocks = round_to_extents(blocks, node_count);
    }
    *pool_out = (quire_kv_pool){.size        = sizeof *pool_out,
                                .num_blocks  = (uint32_t)blocks,
                                .block_size  = options->block_size,
                                .block_bytes = of_block};
    return QUIRE_OK;
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

static qr_model_facts facts_of(const quire_model_info *info)
{
    return (qr_model_facts){.encoder_decoder         = info->encoder_layers > 0,
                            .vocab_size              = info->vocab_size,
                            .decoder_layers          = info->layers,
                            .encoder_layers          = info->encoder_layers,
                            .heads                   = info->heads,
                            .kv_heads                = info->kv_heads,
                            .head_dim                = info->head_dim,
                            .window                  = info->window,
                            .max_position_embeddings = info->max_position_embeddings,
                            .decoder_start_token_id  = info->decoder_start_token_id};
}

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
    const qr_model_facts facts = facts_of(&info);
    QR_TRY(qr_options_resolve(&resolved, &facts, error));
    QR_TRY(qr_pool_size(&resolved, &facts, available_bytes, qr_max_u32(node_count, 1), &pool, error));
    qr_options_give(&pool, sizeof pool, pool_out);
    return QUIRE_OK;
}
