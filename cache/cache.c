/* Creation of the cache's integer part: checks the options, lays everything out in one arena. */
#include "cache/cache.h"

#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cache/layout.h"

/* Of the local pool as a pool. */
static qr_cache_options local_options(const qr_cache_options *options)
{
    qr_cache_options local = *options;
    local.num_blocks       = options->local_blocks;
    local.first_block      = NULL;
    return local;
}

static void layout_local(qr_cache *cache, const qr_cache_options *options, qr_arena *arena)
{
    const qr_cache_options local = local_options(options);
    qr_block_pool_layout(&cache->local, &local, arena);
    cache->pool.partner  = QR_ARENA_TAKE(arena, uint32_t, options->num_blocks);
    cache->local.partner = QR_ARENA_TAKE(arena, uint32_t, options->local_blocks);
}

static void layout(qr_cache *cache, const qr_cache_options *options, qr_arena *arena)
{
    qr_block_pool_layout(&cache->pool, options, arena);
    cache->pool.tokens = QR_ARENA_TAKE(arena, int32_t, (size_t)options->num_blocks * options->block_size);
    qr_prefix_index_layout(&cache->prefix, options, arena);
    if (options->encoder_decoder) qr_cross_index_layout(&cache->cross, options, arena);
    if (options->local_window > 0) layout_local(cache, options, arena);
    qr_journal_layout(&cache->journal, options, arena);
    cache->check_refs = QR_ARENA_TAKE(arena, uint32_t, options->num_blocks);
    cache->check_seen = QR_ARENA_TAKE(arena, uint32_t, options->num_blocks);
}

static void init_local(qr_cache *cache, const qr_cache_options *options)
{
    const qr_cache_options local = local_options(options);
    qr_block_pool_init(&cache->local, &local);
    memset(cache->pool.partner, 0xff, options->num_blocks * sizeof *cache->pool.partner);
    memset(cache->local.partner, 0xff, options->local_blocks * sizeof *cache->local.partner);
    cache->local.window = options->local_window;
    cache->local.prefix = &cache->prefix;
    cache->pool.local   = &cache->local;
}

static quire_status check_range(const char *name, uint64_t value, uint64_t low, uint64_t high, quire_error *error)
{
    if (value >= low && value <= high) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "cache: %s: %llu is not in %llu..%llu", name, (unsigned long long)value,
                   (unsigned long long)low, (unsigned long long)high);
}

static quire_status check_split(const qr_cache_options *options, quire_error *error)
{
    const uint32_t *first = options->first_block;
    if (first == NULL) return QUIRE_OK;
    bool valid = first[0] == 0 && first[options->node_count] == options->num_blocks;
    for (uint32_t n = 0; n < options->node_count; n++) valid = valid && first[n] <= first[n + 1];
    if (valid) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "cache: first_block: does not split %u blocks over %u nodes",
                   options->num_blocks, options->node_count);
}

static quire_status check_options(const qr_cache_options *options, quire_error *error)
{
    QR_TRY(check_range("num_blocks", options->num_blocks, 1, 1u << 30, error));
    QR_TRY(check_range("block_size", options->block_size, 1, 1u << 16, error));
    if (!qr_is_power_of_two(options->block_size))
        return qr_fail(error, QUIRE_ERR_INVALID, "cache: block_size: %u is not a power of two", options->block_size);
    QR_TRY(check_range("node_count", options->node_count, 1, QR_MAX_NODES, error));
    QR_TRY(check_range("max_tenants", options->max_tenants, 1, 1u << 16, error));
    QR_TRY(check_range("hash_bits", options->hash_bits, 1, 64, error));
    QR_TRY(check_range("local_blocks", options->local_blocks, options->local_window > 0,
                       options->local_window > 0 ? options->num_blocks : 0, error));
    return check_split(options, error);
}

size_t qr_cache_bytes(const qr_cache_options *options)
{
    qr_cache counted = {0};
    qr_arena arena   = {0};
    layout(&counted, options, &arena);
    return arena.used;
}

quire_status qr_cache_create(const qr_cache_options *options, qr_cache *cache, quire_error *error)
{
    *cache = (qr_cache){0};
    QR_TRY(check_options(options, error));
    qr_arena arena = {0};
    layout(cache, options, &arena);
    QR_TRY(qr_arena_create(&arena, &options->allocator, "cache", error));
    layout(cache, options, &arena);
    cache->arena = arena;
    qr_block_pool_init(&cache->pool, options);
    qr_prefix_index_init(&cache->prefix, options, &cache->pool);
    cache->pool.prefix = &cache->prefix;
    if (options->local_window > 0) init_local(cache, options);
    qr_journal_init(&cache->journal, options);
    cache->prefix.journal = &cache->journal;
    if (!options->encoder_decoder) return QUIRE_OK;
    qr_cross_index_init(&cache->cross, options, &cache->pool);
    cache->pool.cross = &cache->cross;
    return QUIRE_OK;
}

void qr_cache_destroy(qr_cache *cache)
{
    qr_arena_destroy(&cache->arena);
    *cache = (qr_cache){0};
}
