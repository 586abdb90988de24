/* The pool's order: golden vectors V1 to V7 (extents off) and V12 to V15 (extents on) of docs/CACHE.md. */
#include "cache/fixture.h"

static sequence a, b, c, d, e;

static void fresh_pool_in_release_order(uint32_t num_blocks)
{
    qr_cache_options options = default_options(num_blocks, 16);
    options.extents          = false;
    options.max_tenants      = 1;
    create(&cache, &options);
}

/* A and B share 48 tokens. */
static void v1_to_v5_reproduce_the_order_of_release(void **state)
{
    (void)state;
    fresh_pool_in_release_order(10);
    start(&a, 100, 55, 0); /* V1 */
    assert_int_equal(prefill(&cache, &a), 0);
    assert_blocks(&a.table, 0, 1, 2, 3);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(cache.pool.blocks[i].index, i < 3 ? QR_INDEX_PREFIX : QR_INDEX_NONE);
        assert_int_equal(cache.pool.blocks[i].refs, 1);
    }
    start(&b, 100, 53, 0); /* V2 */
    b.tokens[48] = -1;
    assert_int_equal(prefill(&cache, &b), 3);
    assert_blocks(&b.table, 0, 1, 2, 4);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(cache.pool.blocks[i].refs, 2);
    assert_int_equal(qr_block_pool_available(&cache.pool), 5);
    assert_sound(&cache, &a, &b);
    release(&cache, &a); /* V3 */
    release(&cache, &b);
    assert_reuse(&cache, 5, 6, 7, 8, 9, 3, 4, 2, 1, 0);
    start(&c, 100, 54, 0); /* V4 */
    assert_int_equal(prefill(&cache, &c), 3);
    assert_blocks(&c.table, 0, 1, 2, 5);
    assert_int_equal(qr_block_pool_available(&cache.pool), 6);
    assert_sound(&cache, &c);
    release(&cache, &c);
    assert_reuse(&cache, 6, 7, 8, 9, 3, 4, 5, 2, 1, 0);
    start(&d, 5000, 160, 0); /* V5 */
    assert_int_equal(prefill(&cache, &d), 0);
    assert_blocks(&d.table, 6, 7, 8, 9, 3, 4, 5, 2, 1, 0);
    assert_int_equal(qr_block_pool_available(&cache.pool), 0);
    assert_int_equal(cache.prefix.entries, 10);
    assert_sound(&cache, &d);
}

static void v6_and_v7_evict_tails_before_heads(void **state)
{
    (void)state;
    fresh_pool_in_release_order(10);
    start(&e, 100, 87, 0); /* V6 */
    prefill(&cache, &e);
    start(&a, 1000, 48, 0);
    prefill(&cache, &a);
    release(&cache, &e);
    release(&cache, &a);
    assert_reuse(&cache, 9, 5, 4, 3, 2, 1, 0, 8, 7, 6);
    start(&b, 100, 35, 0); /* V7 */
    assert_int_equal(prefill(&cache, &b), 2);
    assert_blocks(&b.table, 0, 1, 9);
    assert_int_equal(qr_block_pool_available(&cache.pool), 7);
    assert_sound(&cache, &b);
}

static void v12_to_v15_hand_out_extents(void **state)
{
    (void)state;
    qr_cache_options options      = default_options(32, 16);
    options.enable_prefix_caching = false;
    create(&cache, &options);
    const uint32_t bs = 16;
    start(&a, 0, 20 * bs, 0); /* V12 */
    prefill(&cache, &a);
    assert_blocks(&a.table, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19);
    for (uint32_t i = 20; i < 24; i++) assert_int_equal(cache.pool.blocks[i].state, QR_BLOCK_RESERVED);
    assert_int_equal(cache.pool.reserved, 4);
    start(&b, 0, 3 * bs, 0); /* V13 */
    prefill(&cache, &b);
    assert_blocks(&b.table, 24, 25, 26);
    start(&c, 0, 2 * bs, 0);
    prefill(&cache, &c);
    assert_blocks(&c.table, 27, 28);
    assert_true(qr_block_table_append(&cache.pool, &b.table, 4 * bs)); /* V14 */
    assert_blocks(&b.table, 24, 25, 26, 29);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 21 * bs));
    assert_int_equal(a.table.blocks[20], 20);
    assert_int_equal(cache.pool.run_blocks, 27);
    assert_int_equal(cache.pool.runs, 4);
    start(&d, 0, 5 * bs, 0); /* V15 */
    prefill(&cache, &d);
    assert_blocks(&d.table, 30, 31, 23, 22, 21);
    assert_int_equal(cache.pool.reservation_thefts, 3);
    assert_sound(&cache, &a, &b, &c, &d);
}

static void create_extents(uint32_t num_blocks)
{
    qr_cache_options options = default_options(num_blocks, 16);
    create(&cache, &options);
}

/* Full blocks of `tenant` that are CACHED afterwards. */
static void cache_blocks(sequence *s, int32_t first, uint32_t count, uint32_t tenant)
{
    start(s, first, count * 16, tenant);
    prefill(&cache, s);
    release(&cache, s);
}

static void a_whole_old_extent_is_better_than_scattered_free_blocks(void **state)
{
    (void)state;
    create_extents(48);
    cache_blocks(&a, 0, 8, 0); /* the first extent, and then four younger ones */
    cache_blocks(&d, 5000, 32, 0);
    start(&b, 7000, 16, 0);
    prefill(&cache, &b); /* one block of the last extent */
    assert_blocks(&b.table, 40);
    start(&c, 9000, 8 * 16, 0);
    prefill(&cache, &c);
    assert_blocks(&c.table, 0, 1, 2, 3, 4, 5, 6, 7);
    assert_int_equal(cache.pool.extents_evicted, 1);
    assert_int_equal(cache.pool.free, 7);
    assert_sound(&cache, &b, &c);
}

static void a_young_extent_is_not_evicted_whole(void **state)
{
    (void)state;
    create_extents(16);
    start(&b, 7000, 16, 0);
    cache_blocks(&a, 0, 8, 0);
    prefill(&cache, &b); /* one block of the second extent */
    start(&c, 9000, 8 * 16, 0);
    prefill(&cache, &c);
    assert_int_equal(c.table.blocks[0], 9);
    assert_int_equal(cache.pool.extents_evicted, 0);
    assert_int_equal(cache.pool.cached, 7);
    assert_sound(&cache, &b, &c);
}

/* Node 0 ends in the middle of an extent; the blocks behind it are FREE, but another node's. */
static void an_extent_cut_by_the_end_of_a_node_is_never_whole(void **state)
{
    (void)state;
    const uint32_t   first_block[3] = {0, 12, 32};
    qr_cache_options options        = default_options(32, 16);
    options.node_count              = 2;
    options.first_block             = first_block;
    create(&cache, &options);
    start(&b, 7000, 8 * 16, 0);
    prefill(&cache, &b);
    cache_blocks(&a, 0, 4, 0); /* [8..11] */
    assert_true(qr_block_table_append(&cache.pool, &b.table, 9 * 16));
    assert_int_equal(b.table.blocks[8], 11);
    assert_int_equal(cache.pool.reserved, 0);
    assert_int_equal(cache.pool.cached, 3);
    assert_sound(&cache, &b);
}

/* Tenant 2 needs a block and is the heaviest: it must not evict tenant 1 only because they share an extent. */
static void an_extent_shared_with_another_tenant_is_not_evicted_whole(void **state)
{
    (void)state;
    create_extents(16);
    start(&b, 7000, 8 * 16, 2);
    prefill(&cache, &b); /* [0..7] */
    cache_blocks(&a, 0, 4, 1);
    start(&c, 100, 4 * 16, 2);
    prefill(&cache, &c); /* the other four: a's are cached, FREE comes first */
    release(&cache, &c);
    assert_int_equal(cache.pool.tenants[1].cached, 4);
    assert_int_equal(cache.pool.tenants[2].cached, 4);
    assert_true(qr_block_table_append(&cache.pool, &b.table, 9 * 16));
    assert_int_equal(cache.pool.tenants[1].cached, 4);
    assert_int_equal(cache.pool.tenants[2].cached, 3);
    assert_sound(&cache, &b);
}

/* A full pool of CACHED blocks, released [0..3], then [4..7], [8..11], [12..15], each last block first. */
static void blocks_wanted_together_evict_a_run_and_growth_goes_on_in_it(void **state)
{
    (void)state;
    create_extents(16);
    for (int32_t i = 0; i < 4; i++) cache_blocks(&a, 1000 * i, 4, 1);
    assert_int_equal(cache.pool.cached, 16);
    start(&b, 7000, 2 * 16, 1);
    prefill(&cache, &b);
    assert_blocks(&b.table, 0, 1);
    assert_true(qr_block_table_append(&cache.pool, &b.table, 3 * 16));
    assert_true(qr_block_table_append(&cache.pool, &b.table, 4 * 16));
    assert_blocks(&b.table, 0, 1, 2, 3);
    assert_int_equal(cache.pool.cached, 12);
    assert_sound(&cache, &b);
}

static void a_young_cached_block_is_left_alone(void **state)
{
    (void)state;
    create_extents(16);
    cache_blocks(&c, 0, 4, 1);
    cache_blocks(&c, 1000, 4, 1);
    start(&a, 2000, 16, 1);
    prefill(&cache, &a);
    assert_blocks(&a.table, 8);
    cache_blocks(&b, 3000, 7, 1); /* [9..15] */
    assert_int_equal(cache.pool.free, 0);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 2 * 16));
    assert_blocks(&a.table, 8, 3); /* the one released longest ago */
    assert_int_equal(cache.pool.blocks[9].state, QR_BLOCK_CACHED);
    assert_sound(&cache, &a);
}

static void bytes_are_known_before_creation(void **state)
{
    (void)state;
    qr_cache_options options = default_options(4096, 32);
    options.node_count       = 3;
    create(&cache, &options);
    assert_int_equal(qr_cache_bytes(&options), cache.arena.capacity);
    assert_int_equal(cache.arena.used, cache.arena.capacity);
    assert_true(cache.arena.capacity < 4096 * (150 + 4 * 32));
    options.encoder_decoder = false;
    assert_true(qr_cache_bytes(&options) < 4096 * (128 + 4 * 32));
}

static void options_out_of_range_are_named(void **state)
{
    (void)state;
    quire_error      error   = {0};
    qr_cache_options options = default_options(16, 16);
    options.block_size       = 24;
    assert_int_equal(qr_cache_create(&options, &cache, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "cache: block_size: 24 is not a power of two");
    options            = default_options(16, 16);
    options.node_count = 65;
    assert_int_equal(qr_cache_create(&options, &cache, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "cache: node_count: 65 is not in 1..64");
    const uint32_t first_block[2] = {0, 15};
    options                       = default_options(16, 16);
    options.first_block           = first_block;
    assert_int_equal(qr_cache_create(&options, &cache, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "cache: first_block: does not split 16 blocks over 1 nodes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(v1_to_v5_reproduce_the_order_of_release, destroy),
        cmocka_unit_test_teardown(v6_and_v7_evict_tails_before_heads, destroy),
        cmocka_unit_test_teardown(v12_to_v15_hand_out_extents, destroy),
        cmocka_unit_test_teardown(a_whole_old_extent_is_better_than_scattered_free_blocks, destroy),
        cmocka_unit_test_teardown(a_young_extent_is_not_evicted_whole, destroy),
        cmocka_unit_test_teardown(an_extent_cut_by_the_end_of_a_node_is_never_whole, destroy),
        cmocka_unit_test_teardown(an_extent_shared_with_another_tenant_is_not_evicted_whole, destroy),
        cmocka_unit_test_teardown(blocks_wanted_together_evict_a_run_and_growth_goes_on_in_it, destroy),
        cmocka_unit_test_teardown(a_young_cached_block_is_left_alone, destroy),
        cmocka_unit_test_teardown(bytes_are_known_before_creation, destroy),
        cmocka_unit_test_teardown(options_out_of_range_are_named, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
