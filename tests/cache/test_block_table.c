/* Operations on block tables: all or nothing, copy-on-write, fork, truncate, slide, reservations, runs, nodes. */
#include "cache/fixture.h"

static sequence a, b, c;

static void create_pool(uint32_t num_blocks, bool extents, bool prefix_caching)
{
    qr_cache_options options      = default_options(num_blocks, 4);
    options.extents               = extents;
    options.enable_prefix_caching = prefix_caching;
    create(&cache, &options);
}

static void append_is_all_or_nothing(void **state)
{
    (void)state;
    create_pool(4, false, true);
    start(&a, 0, 8, 0);
    prefill(&cache, &a);
    start(&b, 50, 12, 0);
    assert_int_equal(qr_block_table_missing(&cache.pool, &b.table, 12), 3);
    assert_false(qr_block_table_append(&cache.pool, &b.table, 12));
    assert_int_equal(b.table.count, 0);
    assert_int_equal(qr_block_pool_available(&cache.pool), 2);
    assert_true(qr_block_table_append(&cache.pool, &b.table, 8));
    assert_true(qr_block_table_append(&cache.pool, &b.table, 5)); /* covered already */
    assert_blocks(&b.table, 2, 3);
    assert_sound(&cache, &a, &b);
}

static void an_injected_fault_refuses_the_nth_acquisition_only(void **state)
{
    (void)state;
    create_pool(8, true, true);
    start(&a, 0, 32, 0);
    cache.pool.fail_after = 2;
    assert_true(qr_block_table_append(&cache.pool, &a.table, 4));
    assert_false(qr_block_table_append(&cache.pool, &a.table, 8));
    assert_int_equal(a.table.count, 1);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 8));
    start(&b, 0, 0, 0);
    qr_block_table_fork(&cache.pool, &a.table, &b.table);
    qr_block_copy copy;
    cache.pool.fail_after = 1;
    assert_false(qr_block_table_make_writable(&cache.pool, &b.table, 5, &copy));
    assert_blocks(&b.table, 0, 1);
    assert_true(qr_block_table_make_writable(&cache.pool, &b.table, 5, &copy));
    qr_block_pool_unpin(&cache.pool, copy.from);
    assert_sound(&cache, &a, &b);
}

/* V11: a prompt of 5 forked into 5; copies run before rows, so the last writer of the shared tail needs none. */
static void v11_forks_copy_the_tail_but_for_the_last_writer(void **state)
{
    (void)state;
    create_pool(8, false, false);
    static sequence s[5];
    sequence       *all[5];
    start(&s[4], 0, 5, 0);
    prefill(&cache, &s[4]);
    assert_blocks(&s[4].table, 0, 1);
    assert_int_equal(qr_block_pool_available(&cache.pool), 6);
    for (uint32_t i = 0; i < 4; i++) {
        start(&s[i], 0, 5, 0);
        qr_block_table_fork(&cache.pool, &s[4].table, &s[i].table);
    }
    qr_block_copy copies[5];
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(qr_block_table_needs_copy(&cache.pool, &s[i].table, 5), i < 4);
        assert_true(qr_block_table_make_writable(&cache.pool, &s[i].table, 5, &copies[i]));
        assert_int_equal(copies[i].from, 1);
        assert_int_equal(copies[i].to, i < 4 ? 2 + i : 1);
        assert_int_equal(copies[i].slots, i < 4 ? 1 : 0);
        const uint32_t expected[2] = {0, i < 4 ? 2 + i : 1};
        assert_memory_equal(s[i].table.blocks, expected, sizeof expected);
        all[i] = &s[i];
    }
    assert_int_equal(qr_block_pool_available(&cache.pool), 2);
    assert_int_equal(cache.pool.blocks[1].pins, 4);
    qr_cache_holder holders[5];
    for (uint32_t i = 0; i < 5; i++) holders[i] = (qr_cache_holder){&s[i].table, 5, 6, 0};
    assert_null(qr_cache_check(&cache, &(qr_cache_holders){holders, 5, copies, 5, NULL, 0}));
    for (uint32_t i = 0; i < 4; i++) qr_block_pool_unpin(&cache.pool, copies[i].from);
    assert_null(check(&cache, all, 5));
}

static void a_pinned_block_stays_used_until_it_is_unpinned(void **state)
{
    (void)state;
    create_pool(4, false, true);
    start(&a, 0, 6, 0);
    prefill(&cache, &a);
    start(&b, 0, 6, 0);
    qr_block_table_fork(&cache.pool, &a.table, &b.table);
    qr_block_copy copy;
    assert_true(qr_block_table_make_writable(&cache.pool, &b.table, 6, &copy));
    assert_int_equal(copy.from, 1);
    assert_int_equal(copy.slots, 2);
    release(&cache, &a); /* block 0 is shared with b, block 1 is only pinned now */
    assert_int_equal(cache.pool.blocks[1].refs, 0);
    assert_int_equal(cache.pool.blocks[1].state, QR_BLOCK_USED);
    assert_int_equal(qr_block_pool_available(&cache.pool), 1);
    qr_block_pool_unpin(&cache.pool, 1);
    assert_int_equal(cache.pool.blocks[1].state, QR_BLOCK_FREE);
    assert_int_equal(qr_block_pool_available(&cache.pool), 2);
    b.computed = 6;
    assert_sound(&cache, &b);
}

static void a_pinned_indexed_block_goes_to_the_cache_when_unpinned(void **state)
{
    (void)state;
    create_pool(4, false, true);
    start(&a, 0, 4, 0);
    prefill(&cache, &a);
    qr_block_pool_pin(&cache.pool, 0);
    release(&cache, &a);
    assert_int_equal(cache.pool.blocks[0].state, QR_BLOCK_USED);
    qr_block_pool_unpin(&cache.pool, 0);
    assert_int_equal(cache.pool.blocks[0].state, QR_BLOCK_CACHED);
}

/* A block the index promises is not written, even by its only holder; at slot 0 there is nothing to copy. */
static void an_indexed_block_is_replaced_before_it_is_written(void **state)
{
    (void)state;
    create_pool(4, false, true);
    start(&a, 0, 8, 0);
    prefill(&cache, &a);
    a.computed = 4; /* as if the second block had to be computed again */
    qr_block_copy copy;
    assert_true(qr_block_table_make_writable(&cache.pool, &a.table, 4, &copy));
    assert_int_equal(copy.slots, 0);
    assert_int_not_equal(copy.from, copy.to);
    assert_blocks(&a.table, 0, 2);
    assert_int_equal(cache.pool.blocks[1].state, QR_BLOCK_CACHED);
    assert_int_equal(a.table.published, 1);
    assert_true(a.table.chain == cache.pool.blocks[0].serial);
    assert_sound(&cache, &a);
    /* Computed again with the same tokens, it is the twin of what is cached. */
    a.computed = 8;
    qr_prefix_index_publish(&cache.prefix, &a.table, a.tokens, 8);
    assert_int_equal(cache.pool.blocks[2].index, QR_INDEX_NONE);
    assert_true(cache.pool.blocks[2].chain == cache.pool.blocks[1].serial);
    assert_sound(&cache, &a);
}

static void truncate_gives_the_tail_back_and_the_chain_with_it(void **state)
{
    (void)state;
    create_pool(8, false, true);
    start(&a, 0, 18, 0);
    prefill(&cache, &a);
    assert_int_equal(a.table.published, 4);
    qr_block_table_truncate(&cache.pool, &a.table, 2);
    a.computed = 8;
    assert_blocks(&a.table, 0, 1);
    assert_int_equal(a.table.published, 2);
    assert_true(a.table.chain == cache.pool.blocks[1].serial);
    assert_reuse(&cache, 5, 6, 7, 4, 3, 2);
    assert_sound(&cache, &a);
    uint32_t hits[8], cached = 0; /* what was dropped is hit again */
    assert_int_equal(qr_prefix_index_lookup(&cache.prefix, &a.table, a.tokens, 18, hits, &cached), 2);
    assert_int_equal(cached, 2);
    assert_int_equal(hits[0], 2);
    assert_int_equal(hits[1], 3);
    assert_reuse(&cache, 5, 6, 7, 4, 3, 2); /* looking changes nothing */
}

static void a_window_leaves_blocks_behind_at_the_exact_position(void **state)
{
    (void)state;
    create_pool(8, false, true);
    start(&a, 0, 20, 0);
    prefill(&cache, &a);
    const uint32_t window = 6;
    for (uint32_t computed = 0; computed <= 20; computed++) {
        qr_block_table_slide(&cache.pool, &a.table, computed, window);
        /* The next query is at `computed` and sees positions above computed - window. */
        const uint32_t visible = computed >= window ? computed - window + 1 : 0;
        assert_int_equal(a.table.first, visible / 4);
    }
    assert_int_equal(a.table.blocks[2], QR_BLOCK_NONE);
    assert_int_equal(a.table.blocks[3], 3);
    assert_int_equal(qr_block_pool_available(&cache.pool), 6);
    qr_block_table_release(&cache.pool, &a.table);
    assert_int_equal(a.table.first, 0);
    assert_int_equal(cache.pool.used, 0);
}

static void hits_below_the_window_are_not_referenced(void **state)
{
    (void)state;
    create_pool(8, false, true);
    start(&a, 0, 20, 0);
    prefill(&cache, &a);
    release(&cache, &a);
    start(&b, 0, 20, 0);
    uint32_t       hits[8];
    const uint32_t count = qr_prefix_index_lookup(&cache.prefix, &b.table, b.tokens, 20, hits, NULL);
    assert_int_equal(count, 4);
    qr_block_table_adopt(&cache.pool, &b.table, hits, count, 2);
    assert_blocks(&b.table, QR_BLOCK_NONE, QR_BLOCK_NONE, 2, 3);
    assert_int_equal(cache.pool.used, 2);
    assert_int_equal(b.table.published, 4);
    b.computed = 16;
    assert_true(qr_block_table_append(&cache.pool, &b.table, 20));
    qr_prefix_index_publish(&cache.prefix, &b.table, b.tokens, 20);
    b.computed = 20;
    assert_true(b.table.chain == cache.pool.blocks[4].serial); /* twin: block 4 of the first sequence is cached */
    assert_sound(&cache, &b);
}

static void leaving_the_running_state_frees_what_is_reserved(void **state)
{
    (void)state;
    create_pool(32, true, true);
    start(&a, 0, 10 * 4, 0);
    prefill(&cache, &a);
    assert_int_equal(cache.pool.reserved, 6);
    assert_int_equal(cache.pool.blocks[10].state, QR_BLOCK_RESERVED);
    qr_block_table_set_running(&cache.pool, &a.table, false);
    assert_int_equal(cache.pool.reserved, 0);
    assert_int_equal(cache.pool.blocks[10].state, QR_BLOCK_FREE);
    assert_int_equal(cache.pool.run_blocks, 0);
    qr_block_table_set_running(&cache.pool, &a.table, true); /* and it goes on in its extent */
    assert_true(qr_block_table_append(&cache.pool, &a.table, 11 * 4));
    assert_int_equal(a.table.blocks[10], 10);
    assert_sound(&cache, &a);
}

static void a_robbed_sequence_goes_on_elsewhere(void **state)
{
    (void)state;
    create_pool(16, true, true);
    start(&a, 0, 9 * 4, 0);
    prefill(&cache, &a); /* [0..8], RESERVED 9..15 */
    start(&b, 100, 6 * 4, 0);
    prefill(&cache, &b); /* steals 15..10 */
    assert_blocks(&b.table, 15, 14, 13, 12, 11, 10);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 10 * 4));
    assert_int_equal(a.table.blocks[9], 9);
    assert_false(qr_block_table_append(&cache.pool, &a.table, 11 * 4));
    release(&cache, &b);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 11 * 4));
    a.computed = 9 * 4;
    assert_sound(&cache, &a);
}

static void runs_follow_every_operation(void **state)
{
    (void)state;
    create_pool(16, false, false);
    start(&a, 0, 12, 0);
    prefill(&cache, &a); /* 0 1 2 */
    start(&b, 0, 4, 0);
    prefill(&cache, &b); /* 3 */
    assert_true(qr_block_table_append(&cache.pool, &a.table, 20));
    assert_blocks(&a.table, 0, 1, 2, 4, 5);
    assert_int_equal(a.table.runs, 2);
    assert_int_equal(cache.pool.runs, 3);
    assert_int_equal(cache.pool.run_blocks, 6);
    start(&c, 0, 20, 0);
    qr_block_table_fork(&cache.pool, &a.table, &c.table);
    assert_int_equal(c.table.runs, 2);
    qr_block_table_set_running(&cache.pool, &c.table, true);
    qr_block_copy copy;
    assert_true(qr_block_table_make_writable(&cache.pool, &c.table, 6, &copy)); /* 0 6 2 4 5 */
    qr_block_pool_unpin(&cache.pool, copy.from);
    assert_int_equal(c.table.runs, 4);
    assert_int_equal(cache.pool.runs, 7);
    qr_block_table_slide(&cache.pool, &c.table, 7, 4); /* - 6 2 4 5 */
    assert_int_equal(c.table.runs, 3);
    qr_block_table_truncate(&cache.pool, &c.table, 3); /* - 6 2 */
    assert_int_equal(c.table.runs, 2);
    c.computed = 7;
    assert_sound(&cache, &a, &b, &c);
    release(&cache, &c);
    assert_int_equal(cache.pool.runs, 3);
}

static void sequences_live_on_their_node_and_spill_to_the_nearest(void **state)
{
    (void)state;
    const uint32_t   distance[9] = {10, 30, 20, 30, 10, 20, 20, 20, 10};
    qr_cache_options options     = default_options(24, 4);
    options.node_count           = 3;
    options.distance             = distance;
    create(&cache, &options);
    assert_int_equal(cache.pool.nodes[1].first, 8);
    assert_int_equal(qr_block_pool_home(&cache.pool, NULL, 0, 0), 0);
    start(&a, 0, 9 * 4, 0);
    a.table.home = 0;
    prefill(&cache, &a); /* node 0 is full, the rest is on node 2, which is nearer than node 1 */
    assert_int_equal(a.table.blocks[7], 7);
    assert_int_equal(a.table.blocks[8], 16);
    assert_int_equal(cache.pool.spilled, 1);
    assert_int_equal(qr_block_pool_home(&cache.pool, NULL, 0, 0), 1); /* most blocks available */
    const uint32_t hits[3] = {16, 0, 17};
    assert_int_equal(qr_block_pool_home(&cache.pool, hits, 3, 0), 2); /* most hits */
    assert_sound(&cache, &a);
    release(&cache, &a);
    start(&b, 100, 4, 0); /* home CACHED before the FREE blocks of another node */
    b.table.home = 0;
    prefill(&cache, &b);
    assert_int_equal(cache.pool.blocks[b.table.blocks[0]].node, 0);
    assert_sound(&cache, &b);
}

static uint32_t home_with(uint32_t hits_on_0, uint32_t hits_on_1, uint32_t fresh)
{
    uint32_t hits[16], count = 0;
    for (uint32_t i = 0; i < hits_on_0; i++) hits[count++] = i;
    for (uint32_t i = 0; i < hits_on_1; i++) hits[count++] = 64 + i;
    return qr_block_pool_home(&cache.pool, hits, count, fresh);
}

/* Two nodes of 64 blocks, the second with three times the threads. */
static void a_sequence_goes_to_its_prefix_where_the_load_allows(void **state)
{
    (void)state;
    const uint32_t   threads[2] = {2, 6}, distance[4] = {10, 21, 21, 10};
    qr_cache_options options = default_options(128, 4);
    options.node_count       = 2;
    options.node_threads     = threads;
    options.distance         = distance;
    create(&cache, &options);
    assert_int_equal(cache.pool.nodes[0].percent[1], 210);
    assert_int_equal(home_with(0, 0, 8), 1); /* more threads */
    assert_int_equal(home_with(8, 0, 1), 0); /* its prefix; 9 by two is less than 2.1 times (8 * 2.1 + 1) by six */
    start(&a, 0, 30 * 4, 0);
    a.table.home = 1;
    prefill(&cache, &a);
    assert_int_equal(cache.pool.nodes[1].load, 30);
    assert_int_equal(home_with(0, 8, 1), 1);
    assert_int_equal(home_with(0, 0, 63), 0); /* node 1 has 34 left, the rest would be on the other */
    start(&b, 1000, 50 * 4, 0);
    b.table.home = 1;
    prefill(&cache, &b); /* 32 fit beside what is reserved for the other, 18 spill to node 0 */
    assert_int_equal(cache.pool.spilled, 18);
    assert_int_equal(cache.pool.nodes[1].load, 80);
    assert_int_equal(home_with(0, 8, 1), 1);
    assert_int_equal(home_with(0, 2, 1), 0); /* 82 by six is more than 2.1 times (2 * 2.1 + 1) by two */
    assert_sound(&cache, &a, &b);
    release(&cache, &a);
    release(&cache, &b);
    assert_int_equal(cache.pool.nodes[1].load, 0);
}

static void nodes_get_their_shares_of_the_blocks(void **state)
{
    (void)state;
    uint32_t       first[4];
    const uint32_t share[3] = {3, 1, 4};
    qr_block_pool_split(160, 3, share, first);
    const uint32_t want[4] = {0, 56, 80, 160}; /* 60 and 80, at whole extents */
    assert_memory_equal(first, want, sizeof want);
}

static void small_nodes_are_split_evenly_and_large_ones_at_extents(void **state)
{
    (void)state;
    uint32_t first[5];
    qr_block_pool_split(10, 4, NULL, first);
    const uint32_t small[5] = {0, 2, 5, 7, 10};
    assert_memory_equal(first, small, sizeof small);
    qr_block_pool_split(100, 4, NULL, first);
    const uint32_t large[5] = {0, 24, 48, 72, 100};
    assert_memory_equal(first, large, sizeof large);
    qr_block_pool_split(10, 1, NULL, first);
    assert_int_equal(first[1], 10);
    create_pool(1, true, true);
}

/* Kept blocks that the window of the hits no longer shows are given back. */
static void hits_move_the_window_past_kept_blocks(void **state)
{
    (void)state;
    create_pool(16, false, true);
    start(&a, 0, 32, 0);
    prefill(&cache, &a);
    start(&b, 0, 32, 0);
    uint32_t hits[8];
    qr_block_table_adopt(&cache.pool, &b.table, a.table.blocks, 2, 0);
    const uint32_t count = qr_prefix_index_lookup(&cache.prefix, &b.table, b.tokens, 32, hits, NULL);
    assert_int_equal(count, 5);
    qr_block_table_adopt(&cache.pool, &b.table, hits, count, 4);
    assert_blocks(&b.table, QR_BLOCK_NONE, QR_BLOCK_NONE, QR_BLOCK_NONE, QR_BLOCK_NONE, 4, 5, 6);
    b.computed = 28;
    assert_sound(&cache, &a, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(append_is_all_or_nothing, destroy),
        cmocka_unit_test_teardown(an_injected_fault_refuses_the_nth_acquisition_only, destroy),
        cmocka_unit_test_teardown(v11_forks_copy_the_tail_but_for_the_last_writer, destroy),
        cmocka_unit_test_teardown(a_pinned_block_stays_used_until_it_is_unpinned, destroy),
        cmocka_unit_test_teardown(a_pinned_indexed_block_goes_to_the_cache_when_unpinned, destroy),
        cmocka_unit_test_teardown(an_indexed_block_is_replaced_before_it_is_written, destroy),
        cmocka_unit_test_teardown(truncate_gives_the_tail_back_and_the_chain_with_it, destroy),
        cmocka_unit_test_teardown(a_window_leaves_blocks_behind_at_the_exact_position, destroy),
        cmocka_unit_test_teardown(hits_below_the_window_are_not_referenced, destroy),
        cmocka_unit_test_teardown(leaving_the_running_state_frees_what_is_reserved, destroy),
        cmocka_unit_test_teardown(a_robbed_sequence_goes_on_elsewhere, destroy),
        cmocka_unit_test_teardown(runs_follow_every_operation, destroy),
        cmocka_unit_test_teardown(sequences_live_on_their_node_and_spill_to_the_nearest, destroy),
        cmocka_unit_test_teardown(a_sequence_goes_to_its_prefix_where_the_load_allows, destroy),
        cmocka_unit_test_teardown(nodes_get_their_shares_of_the_blocks, destroy),
        cmocka_unit_test_teardown(small_nodes_are_split_evenly_and_large_ones_at_extents, destroy),
        cmocka_unit_test_teardown(hits_move_the_window_past_kept_blocks, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
