/* Cross content: one set of blocks per encoder input, referenced and evicted as a whole. */
#include "cache/fixture.h"

/* Their tokens are encoder ids. */
static sequence a, b, c;

static void create_pool(uint32_t num_blocks, bool prefix_caching)
{
    qr_cache_options options      = default_options(num_blocks, 4);
    options.extents               = false;
    options.enable_prefix_caching = prefix_caching;
    create(&cache, &options);
}

static void encoder_input(sequence *x, int32_t first, uint32_t count, uint32_t tenant)
{
    start(x, first, count, tenant);
    x->table.grows = false;
}

static uint32_t lookup(const sequence *x)
{
    return qr_cross_index_lookup(&cache.cross, &x->table.root, x->tokens, x->len);
}

static uint64_t run(sequence *x)
{
    assert_true(qr_block_table_append(&cache.pool, &x->table, x->len));
    x->computed = x->len;
    return qr_cross_index_publish(&cache.cross, &x->table, x->tokens, x->len);
}

static void share(sequence *x)
{
    const uint32_t entry = lookup(x);
    assert_int_not_equal(entry, QR_BLOCK_NONE);
    qr_cross_index_share(&cache.cross, entry, &x->table);
    x->computed = x->len;
}

static void equal_inputs_hold_one_set_of_blocks(void **state)
{
    (void)state;
    create_pool(16, true);
    encoder_input(&a, 0, 10, 0);
    encoder_input(&b, 0, 10, 0);
    assert_int_equal(lookup(&b), QR_BLOCK_NONE);
    const uint64_t content = run(&a);
    assert_true(content == cache.pool.blocks[0].serial);
    share(&b);
    assert_blocks(&b.table, 0, 1, 2);
    assert_int_equal(cache.pool.used, 3);
    assert_true(qr_cross_index_content(&cache.cross, &b.table) == content);
    assert_sound(&cache, &a, &b);
    qr_block_table_release(&cache.pool, &a.table);
    assert_int_equal(cache.pool.used, 3);
    qr_block_table_release(&cache.pool, &b.table);
    assert_int_equal(cache.pool.cached, 3);
    encoder_input(&c, 0, 10, 0);
    assert_int_equal(qr_cross_index_cached(&cache.cross, lookup(&c)), 3);
    share(&c);
    assert_int_equal(cache.pool.used, 3);
    assert_int_equal(qr_cross_index_cached(&cache.cross, lookup(&c)), 0);
    assert_sound(&cache, &c);
}

static void identity_is_tenant_salt_and_all_ids(void **state)
{
    (void)state;
    qr_cache_options options = default_options(16, 4);
    options.max_tenants      = 16;
    options.hash_bits        = 1; /* the hash must not be what tells them apart */
    create(&cache, &options);
    encoder_input(&a, 0, 10, 0);
    run(&a);
    for (uint32_t tenant = 1; tenant < 16; tenant++) {
        encoder_input(&b, 0, 10, tenant);
        assert_int_equal(lookup(&b), QR_BLOCK_NONE);
    }
    for (uint32_t salt = 1; salt < 16; salt++) {
        encoder_input(&b, 0, 10, 0);
        b.table.root.salt[salt] = (uint8_t)salt;
        assert_int_equal(lookup(&b), QR_BLOCK_NONE);
    }
    for (uint32_t len = 1; len <= 12; len++) {
        encoder_input(&b, 0, len, 0);
        assert_int_equal(lookup(&b), len == 10 ? 0 : QR_BLOCK_NONE);
    }
    for (uint32_t i = 0; i < 10; i++) {
        encoder_input(&b, 0, 10, 0);
        b.tokens[i] = -5;
        assert_int_equal(lookup(&b), QR_BLOCK_NONE);
    }
}

static void evicting_one_block_frees_the_others(void **state)
{
    (void)state;
    create_pool(6, true);
    encoder_input(&a, 0, 16, 0);
    run(&a);
    qr_block_table_release(&cache.pool, &a.table);
    assert_int_equal(cache.pool.cached, 4);
    encoder_input(&b, 100, 12, 0);
    run(&b); /* 2 FREE and 1 evicted */
    assert_int_equal(cache.pool.cached, 0);
    assert_int_equal(cache.pool.free, 3);
    assert_int_equal(lookup(&a), QR_BLOCK_NONE);
    assert_int_equal(cache.cross.entries, 1);
    assert_sound(&cache, &b);
}

static void without_prefix_caching_it_lives_as_long_as_its_users(void **state)
{
    (void)state;
    create_pool(8, false);
    encoder_input(&a, 0, 10, 0);
    run(&a);
    encoder_input(&b, 0, 10, 0);
    share(&b);
    qr_block_table_release(&cache.pool, &a.table);
    assert_int_equal(lookup(&b), 0);
    assert_sound(&cache, &b);
    qr_block_table_release(&cache.pool, &b.table);
    assert_int_equal(lookup(&b), QR_BLOCK_NONE);
    assert_int_equal(cache.pool.free, 8);
    assert_int_equal(cache.cross.entries, 0);
}

/* Both compute the same input in one step; the serial of a. */
static uint64_t publish_twice(void)
{
    create_pool(8, true);
    encoder_input(&a, 0, 8, 0);
    encoder_input(&b, 0, 8, 0);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 8));
    assert_true(qr_block_table_append(&cache.pool, &b.table, 8));
    const uint64_t content = run(&a);
    assert_true(run(&b) == content);
    return content;
}

static void content_published_twice_keeps_the_first(void **state)
{
    (void)state;
    const uint64_t content = publish_twice();
    assert_true(run(&b) == content); /* again: nothing happens */
    assert_true(qr_cross_index_content(&cache.cross, &b.table) == content);
    assert_int_equal(cache.cross.entries, 1);
    assert_sound(&cache, &a, &b);
    qr_block_table_release(&cache.pool, &b.table);
    assert_int_equal(cache.pool.used, 2);
    assert_int_equal(cache.pool.cached, 0);
}

/* The decoder's root is the first answer: it does not change when the twin is gone. */
static void the_serial_of_a_content_does_not_change(void **state)
{
    (void)state;
    const uint64_t content = publish_twice();
    qr_block_table_release(&cache.pool, &a.table);
    qr_block_pool_flush(&cache.pool);
    assert_true(run(&b) == content);
    assert_int_equal(cache.cross.entries, 0);
    assert_sound(&cache, &b);
}

/* The decoder's blocks hang on the content's serial: content computed anew is not the old one. */
static void decoder_blocks_follow_the_content(void **state)
{
    (void)state;
    static sequence d;
    create_pool(8, true);
    encoder_input(&a, 0, 8, 0);
    const uint64_t content = run(&a);
    start(&d, 500, 5, 0);
    d.table.root.content = content;
    prefill(&cache, &d);
    release(&cache, &d);
    assert_int_equal(prefill(&cache, &d), 1);
    assert_sound(&cache, &d, &a);
    release(&cache, &d);
    qr_block_table_release(&cache.pool, &a.table);
    qr_block_pool_flush(&cache.pool);
    assert_int_equal(cache.pool.free, 8);
    encoder_input(&a, 0, 8, 0);
    assert_true(run(&a) != content);
}

static void inputs_in_one_bucket_are_told_apart(void **state)
{
    (void)state;
    qr_cache_options options = default_options(64, 4);
    options.hash_bits        = 1;
    create(&cache, &options);
    static sequence many[12];
    for (int32_t i = 0; i < 12; i++) {
        encoder_input(&many[i], 10 * i, 10, 0);
        run(&many[i]);
    }
    for (int32_t i = 0; i < 12; i++) assert_int_equal(lookup(&many[i]), many[i].table.blocks[0]);
    for (int32_t i = 0; i < 12; i += 2) qr_block_table_release(&cache.pool, &many[i].table);
    qr_block_pool_flush(&cache.pool);
    for (int32_t i = 0; i < 12; i++)
        assert_int_equal(lookup(&many[i]), i % 2 ? many[i].table.blocks[0] : QR_BLOCK_NONE);
    assert_int_equal(cache.cross.entries, 6);
}

static void words_of_features_tell_them_apart(void **state)
{
    (void)state;
    float   features[6] = {1, 2, 3, 4, 5, 6};
    int32_t words[7], same[7], other[7];
    qr_cross_words(features, 6, words, 7);
    qr_cross_words(features, 6, same, 7);
    assert_memory_equal(words, same, sizeof words);
    assert_int_equal(words[4], words[0]); /* 128 bits, then again */
    assert_true(words[0] != words[1] && words[0] != words[2] && words[1] != words[3]);
    features[5] = 7;
    qr_cross_words(features, 6, other, 7);
    for (int i = 0; i < 7; i++) assert_int_not_equal(words[i], other[i]);
    qr_cross_words(features, 5, same, 7);
    assert_int_not_equal(words[0], same[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(equal_inputs_hold_one_set_of_blocks, destroy),
        cmocka_unit_test(words_of_features_tell_them_apart),
        cmocka_unit_test_teardown(identity_is_tenant_salt_and_all_ids, destroy),
        cmocka_unit_test_teardown(evicting_one_block_frees_the_others, destroy),
        cmocka_unit_test_teardown(without_prefix_caching_it_lives_as_long_as_its_users, destroy),
        cmocka_unit_test_teardown(content_published_twice_keeps_the_first, destroy),
        cmocka_unit_test_teardown(the_serial_of_a_content_does_not_change, destroy),
        cmocka_unit_test_teardown(decoder_blocks_follow_the_content, destroy),
        cmocka_unit_test_teardown(inputs_in_one_bucket_are_told_apart, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
