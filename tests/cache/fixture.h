/* What the tests of cache/ share: a cache of n blocks, sequences with tokens, short ways to fill and publish them. */
#ifndef TESTS_CACHE_FIXTURE_H
#define TESTS_CACHE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/rng.h"
#include "cache/cache.h"

enum { MAX_BLOCKS = 512, MAX_TOKENS = 4096 };

/* One sequence: its table, its tokens, and how far committed steps came. */
typedef struct sequence {
    qr_block_table table;
    uint32_t       storage[MAX_BLOCKS];
    int32_t        tokens[MAX_TOKENS];
    uint32_t       len, computed;
    qr_block_table local; /* table.local where the cache has local blocks */
    uint32_t       local_storage[MAX_BLOCKS];
} sequence;

static inline qr_cache_options default_options(uint32_t num_blocks, uint32_t block_size)
{
    return (qr_cache_options){.num_blocks            = num_blocks,
                              .block_size            = block_size,
                              .node_count            = 1,
                              .max_tenants           = 4,
                              .extents               = true,
                              .enable_prefix_caching = true,
                              .encoder_decoder       = true,
                              .hash_seed             = 7,
                              .hash_bits             = 64};
}

static inline void create(qr_cache *cache, const qr_cache_options *options)
{
    quire_error error = {0};
    assert_int_equal(qr_cache_create(options, cache, &error), QUIRE_OK);
}

static inline void init_tables(sequence *s, const qr_prefix_root *root, bool with_local)
{
    qr_block_table_init(&s->table, s->storage, MAX_BLOCKS, true, root);
    qr_block_table_init(&s->local, s->local_storage, MAX_BLOCKS, true, root);
    if (with_local) s->table.local = &s->local;
}

/* Tokens first, first + 1, ...: equal `first` means an equal prompt. */
static inline void start(sequence *s, int32_t first, uint32_t len, uint32_t tenant)
{
    const qr_prefix_root root = {.tenant = tenant};
    qr_block_table_init(&s->table, s->storage, MAX_BLOCKS, true, &root);
    s->len = len, s->computed = 0;
    for (uint32_t i = 0; i < len; i++) s->tokens[i] = first + (int32_t)i;
}

/* Admits, computes and commits the whole sequence; returns the number of hits. */
static inline uint32_t prefill(qr_cache *cache, sequence *s)
{
    uint32_t       hits[MAX_BLOCKS];
    const uint32_t count = qr_prefix_index_lookup(&cache->prefix, &s->table, s->tokens, s->len, hits, NULL);
    qr_block_table_set_running(&cache->pool, &s->table, true);
    qr_block_table_adopt(&cache->pool, &s->table, hits, count, 0);
    assert_true(qr_block_table_append(&cache->pool, &s->table, s->len));
    s->computed = s->len;
    qr_prefix_index_publish(&cache->prefix, &s->table, s->tokens, s->computed);
    return count;
}

static inline void release(qr_cache *cache, sequence *s)
{
    qr_block_table_set_running(&cache->pool, &s->table, false);
    qr_block_table_release(&cache->pool, &s->table);
    s->computed = 0;
}

#define assert_blocks(table, ...)                                                                                      \
    do {                                                                                                               \
        const uint32_t expected_[] = {__VA_ARGS__};                                                                    \
        assert_int_equal((table)->count, sizeof expected_ / 4);                                                        \
        assert_memory_equal((table)->blocks, expected_, sizeof expected_);                                             \
    } while (0)

/* FREE blocks in release order, then CACHED ones: what acquiring everything would give with extents off. */
static inline uint32_t order_of_reuse(const qr_cache *cache, uint32_t *order)
{
    const qr_pool_node *node  = &cache->pool.nodes[0];
    uint32_t            count = 0;
    for (uint32_t b = node->free_list.head; b != QR_BLOCK_NONE; b = cache->pool.blocks[b].link.next) order[count++] = b;
    for (uint32_t b = node->cached_lists[0].head; b != QR_BLOCK_NONE; b = cache->pool.blocks[b].link.next)
        order[count++] = b;
    return count;
}

#define assert_reuse(cache, ...)                                                                                       \
    do {                                                                                                               \
        const uint32_t expected_[] = {__VA_ARGS__};                                                                    \
        uint32_t       order_[MAX_BLOCKS];                                                                             \
        assert_int_equal(order_of_reuse(cache, order_), sizeof expected_ / 4);                                         \
        assert_memory_equal(order_, expected_, sizeof expected_);                                                      \
    } while (0)

/* The walker's verdict on up to 64 sequences between steps. */
static inline const char *check(const qr_cache *cache, sequence *const *sequences, uint32_t count)
{
    qr_cache_holder holders[64];
    for (uint32_t i = 0; i < count; i++)
        holders[i] = (qr_cache_holder){
            .table = &sequences[i]->table, .computed = sequences[i]->computed, .write_end = sequences[i]->computed};
    return qr_cache_check(cache, &(qr_cache_holders){.tables = holders, .table_count = count});
}

#define assert_sound(cache, ...)                                                                                       \
    do {                                                                                                               \
        sequence *const all_[]   = {__VA_ARGS__};                                                                      \
        const char     *verdict_ = check(cache, all_, sizeof all_ / sizeof *all_);                                     \
        if (verdict_ != NULL) fail_msg("%s", verdict_);                                                                \
    } while (0)

/* The cache that the tests of a file create, one after the other. */
static qr_cache cache;

static inline int destroy(void **state)
{
    (void)state;
    qr_cache_destroy(&cache);
    return 0;
}

static inline double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

#endif
