/* The prefix index: what may be hit, when it can be hit, and by whom. */
#include "cache/fixture.h"

static sequence a, b, c;

static void create_pool(uint32_t num_blocks, uint32_t hash_bits)
{
    qr_cache_options options = default_options(num_blocks, 4);
    options.extents          = false;
    options.hash_bits        = hash_bits;
    create(&cache, &options);
}

static uint32_t hits_of(const sequence *s)
{
    uint32_t hits[MAX_BLOCKS];
    return qr_prefix_index_lookup(&cache.prefix, &s->table, s->tokens, s->len, hits, NULL);
}

static void the_last_token_is_never_a_hit(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 8, 0);
    prefill(&cache, &a);
    assert_int_equal(cache.prefix.entries, 2);
    const uint32_t expected[] = {0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2};
    for (uint32_t len = 0; len <= 10; len++) {
        start(&b, 0, len, 0);
        assert_int_equal(hits_of(&b), expected[len]);
    }
}

static void only_full_committed_blocks_can_be_hit(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 12, 0);
    start(&b, 0, 13, 0);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 12));
    for (uint32_t computed = 0; computed <= 12; computed++) {
        a.computed = computed;
        qr_prefix_index_publish(&cache.prefix, &a.table, a.tokens, computed);
        assert_int_equal(hits_of(&b), computed / 4);
        assert_sound(&cache, &a);
    }
}

static void a_twin_stays_out_and_continues_the_chain_of_the_first(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 9, 0);
    start(&b, 0, 14, 0); /* both miss: nothing is published yet */
    assert_true(qr_block_table_append(&cache.pool, &a.table, 9));
    assert_true(qr_block_table_append(&cache.pool, &b.table, 14));
    qr_prefix_index_publish(&cache.prefix, &a.table, a.tokens, 9);
    qr_prefix_index_publish(&cache.prefix, &b.table, b.tokens, 14);
    a.computed = 9, b.computed = 14;
    assert_blocks(&b.table, 3, 4, 5, 6); /* tables are not rewritten */
    assert_int_equal(cache.pool.blocks[3].index, QR_INDEX_NONE);
    assert_true(cache.pool.blocks[4].chain == cache.pool.blocks[1].serial);
    assert_int_equal(cache.pool.blocks[5].index, QR_INDEX_PREFIX);
    assert_sound(&cache, &a, &b);
    uint32_t hits[4];
    start(&c, 0, 14, 0); /* a's blocks, then b's */
    assert_int_equal(qr_prefix_index_lookup(&cache.prefix, &c.table, c.tokens, 14, hits, NULL), 3);
    assert_int_equal(hits[0], 0);
    assert_int_equal(hits[1], 1);
    assert_int_equal(hits[2], 5);
    release(&cache, &b);
    assert_int_equal(cache.pool.blocks[3].state, QR_BLOCK_FREE);
    assert_int_equal(cache.pool.blocks[5].state, QR_BLOCK_CACHED);
}

static void tenants_salts_and_contents_never_share(void **state)
{
    (void)state;
    create_pool(64, 1); /* the hash must not be what tells them apart */
    start(&a, 0, 9, 0);
    prefill(&cache, &a);
    for (uint32_t i = 1; i < 16; i++) {
        start(&b, 0, 9, i);
        assert_int_equal(hits_of(&b), 0);
        start(&b, 0, 9, 0);
        b.table.root.salt[i] = (uint8_t)i;
        assert_int_equal(hits_of(&b), 0);
        b.table.root.salt[i] = 0;
        b.table.root.content = i;
        assert_int_equal(hits_of(&b), 0);
    }
    b.table.root.content = QR_CONTENT_UNKNOWN;
    assert_int_equal(prefill(&cache, &b), 0);
    assert_int_equal(b.table.published, 0); /* not known, so not published */
    b.table.root.content = 0;
    release(&cache, &b);
    assert_int_equal(hits_of(&b), 2);
    assert_sound(&cache, &a);
}

static void equal_blocks_of_different_parents_are_different(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 9, 0);
    prefill(&cache, &a);
    start(&b, 0, 9, 0);
    b.tokens[0] = 99; /* the second block has the same tokens */
    assert_int_equal(prefill(&cache, &b), 0);
    assert_int_equal(cache.prefix.entries, 4);
    assert_sound(&cache, &a, &b);
}

static void eviction_forgets_the_block_at_once(void **state)
{
    (void)state;
    create_pool(4, 64);
    start(&a, 0, 9, 0);
    prefill(&cache, &a);
    const uint64_t old = cache.pool.blocks[1].serial;
    release(&cache, &a);
    start(&b, 100, 12, 0);
    prefill(&cache, &b); /* FREE 3 and 2, then evicts block 1 */
    assert_blocks(&b.table, 3, 2, 1);
    assert_true(cache.pool.blocks[1].serial > old);
    start(&c, 0, 9, 0);
    assert_int_equal(hits_of(&c), 1);
    assert_sound(&cache, &b);
    /* The second block comes again under a new serial; what continued the old one stays unreachable. */
    release(&cache, &b);
    prefill(&cache, &c);
    assert_sound(&cache, &c);
}

static void a_forgotten_tenant_leaves_nothing_behind(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 9, 1);
    prefill(&cache, &a);
    release(&cache, &a);
    start(&b, 0, 9, 2);
    prefill(&cache, &b);
    release(&cache, &b);
    qr_block_pool_forget_tenant(&cache.pool, 1);
    assert_int_equal(hits_of(&a), 0);
    assert_int_equal(hits_of(&b), 2);
    assert_int_equal(cache.pool.tenants[1].cached, 0);
    qr_block_pool_flush(&cache.pool);
    assert_int_equal(hits_of(&b), 0);
    assert_int_equal(cache.pool.free, 16);
    assert_int_equal(cache.prefix.entries, 0);
    assert_sound(&cache, &a);
}

/* The victim's tenant has the largest (USED + CACHED) / weight: a flood evicts itself. */
static void a_flooding_tenant_evicts_itself(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 16, 1);
    prefill(&cache, &a);
    release(&cache, &a); /* the oldest blocks are the victim's: 4 of tenant 1 */
    for (int32_t i = 0; i < 20; i++) {
        start(&b, 1000 + 100 * i, 16, 2);
        prefill(&cache, &b);
        release(&cache, &b);
    }
    start(&a, 0, 17, 1);
    assert_int_equal(hits_of(&a), 4);
    qr_block_pool_set_weight(&cache.pool, 2, 100); /* 12 / 100 < 4 / 1: now tenant 1 gives way */
    start(&b, 9000, 16, 2);
    prefill(&cache, &b);
    assert_int_equal(hits_of(&a), 0);
    assert_sound(&cache, &b);
}

static void caching_off_publishes_nothing(void **state)
{
    (void)state;
    qr_cache_options options      = default_options(16, 4);
    options.enable_prefix_caching = false;
    create(&cache, &options);
    start(&a, 0, 16, 0);
    prefill(&cache, &a);
    assert_int_equal(cache.prefix.entries, 0);
    release(&cache, &a);
    assert_int_equal(cache.pool.free, 16);
}

static void a_fork_does_not_publish_a_shared_block_twice(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 9, 0);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 9));
    start(&b, 0, 9, 0);
    qr_block_table_fork(&cache.pool, &a.table, &b.table);
    qr_prefix_index_publish(&cache.prefix, &a.table, a.tokens, 9);
    qr_prefix_index_publish(&cache.prefix, &b.table, b.tokens, 9);
    a.computed = b.computed = 9;
    assert_int_equal(cache.prefix.entries, 2);
    assert_true(a.table.chain == b.table.chain);
    assert_sound(&cache, &a, &b);
}

/* One bit: two buckets for everything, and still exact. */
static void colliding_hashes_change_no_decision(void **state)
{
    (void)state;
    create_pool(64, 1);
    for (int32_t i = 0; i < 10; i++) {
        start(&a, 1000 * i, 13, 0);
        assert_int_equal(prefill(&cache, &a), 0);
        assert_sound(&cache, &a);
        release(&cache, &a);
    }
    assert_true(cache.prefix.longest_bucket >= 15);
    for (int32_t i = 0; i < 10; i++) {
        start(&a, 1000 * i, 13, 0);
        assert_int_equal(hits_of(&a), 3);
    }
}

/* b has committed half of its second block: what follows the first block in the index is not its third. */
static void a_partial_tail_is_not_continued(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 9, 0);
    prefill(&cache, &a);
    start(&b, 0, 6, 0);
    prefill(&cache, &b);
    b.len = 20;
    for (uint32_t i = 8; i < 20; i++) b.tokens[i] = a.tokens[i - 4];
    assert_int_equal(b.table.published, 1);
    assert_int_equal(hits_of(&b), 0);
}

/* A twin that is written again has other content: it must not continue the old chain. */
static void a_rewritten_twin_starts_a_chain_of_its_own(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 13, 0);
    start(&b, 0, 8, 0);
    assert_true(qr_block_table_append(&cache.pool, &b.table, 8));
    prefill(&cache, &a);
    qr_prefix_index_publish(&cache.prefix, &b.table, b.tokens, 8); /* both blocks are twins */
    qr_block_copy copy;
    b.computed = 6; /* two tokens are taken back */
    assert_true(qr_block_table_make_writable(&cache.pool, &b.table, 6, &copy));
    assert_int_equal(copy.slots, 0);
    b.tokens[6] = b.tokens[7] = -3;
    b.computed                = 8;
    qr_prefix_index_publish(&cache.prefix, &b.table, b.tokens, 8);
    assert_true(b.table.chain == cache.pool.blocks[b.table.blocks[1]].serial);
    b.len = 13;
    memcpy(b.tokens + 8, a.tokens + 8, 5 * sizeof *a.tokens);
    assert_int_equal(hits_of(&b), 0);
    assert_sound(&cache, &a, &b);
}

/* What a block continues is unknown once the window left all of it behind: it is not published at all. */
static void blocks_without_a_known_parent_stay_out(void **state)
{
    (void)state;
    create_pool(16, 64);
    start(&a, 0, 12, 0);
    prefill(&cache, &a);
    qr_block_table_slide(&cache.pool, &a.table, 12, 4);
    assert_int_equal(a.table.first, 2);
    qr_block_table_truncate(&cache.pool, &a.table, 2);
    assert_int_equal(a.table.published, 2);
    assert_int_equal(hits_of(&a), 0);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 12));
    const uint32_t entries = cache.prefix.entries;
    qr_prefix_index_publish(&cache.prefix, &a.table, a.tokens, 12);
    assert_int_equal(a.table.published, 2);
    assert_int_equal(cache.prefix.entries, entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_last_token_is_never_a_hit, destroy),
        cmocka_unit_test_teardown(only_full_committed_blocks_can_be_hit, destroy),
        cmocka_unit_test_teardown(a_twin_stays_out_and_continues_the_chain_of_the_first, destroy),
        cmocka_unit_test_teardown(tenants_salts_and_contents_never_share, destroy),
        cmocka_unit_test_teardown(equal_blocks_of_different_parents_are_different, destroy),
        cmocka_unit_test_teardown(eviction_forgets_the_block_at_once, destroy),
        cmocka_unit_test_teardown(a_forgotten_tenant_leaves_nothing_behind, destroy),
        cmocka_unit_test_teardown(a_flooding_tenant_evicts_itself, destroy),
        cmocka_unit_test_teardown(caching_off_publishes_nothing, destroy),
        cmocka_unit_test_teardown(a_fork_does_not_publish_a_shared_block_twice, destroy),
        cmocka_unit_test_teardown(colliding_hashes_change_no_decision, destroy),
        cmocka_unit_test_teardown(a_partial_tail_is_not_continued, destroy),
        cmocka_unit_test_teardown(a_rewritten_twin_starts_a_chain_of_its_own, destroy),
        cmocka_unit_test_teardown(blocks_without_a_known_parent_stay_out, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
