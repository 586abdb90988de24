/* What the readers of cache events are told, one case at a time; test_random.c and the simulator have the rest. */
#include "cache/fixture.h"

#include "support/cache_mirror.h"

static qr_cache     cache;
static cache_mirror mirror;
static sequence     a, b;

static void open_cache(uint32_t num_blocks, bool keep_journal)
{
    qr_cache_options options = default_options(num_blocks, 4);
    options.keep_journal     = keep_journal;
    create(&cache, &options);
    memset(&mirror, 0, sizeof mirror);
}

static void assert_mirrored(uint64_t stored, uint64_t removed)
{
    const char *wrong = cache_mirror_compare(&mirror, &cache);
    if (wrong != NULL) fail_msg("%s", wrong);
    assert_int_equal(mirror.stored, stored);
    assert_int_equal(mirror.removed, removed);
}

static void full_blocks_are_told_with_tokens_and_parents(void **state)
{
    (void)state;
    quire_cache_event events[4];
    int32_t           tokens[4 * 4];
    open_cache(16, true);
    start(&a, 100, 9, 0);
    prefill(&cache, &a);
    assert_int_equal(qr_journal_read(&cache.journal, &cache.pool, events, tokens, 4), 2); /* the third is not full */
    assert_int_equal(events[0].kind, QUIRE_CACHE_STORED);
    assert_int_equal(events[0].parent_hash, 0);
    assert_int_equal(events[1].parent_hash, events[0].block_hash);
    assert_true(events[0].block_hash != 0 && events[1].block_hash != events[0].block_hash);
    for (int i = 0; i < 8; i++) assert_int_equal(tokens[i], 100 + i);
    assert_int_equal(qr_journal_read(&cache.journal, &cache.pool, events, tokens, 4), 0);
    release(&cache, &a);
    qr_cache_destroy(&cache);
}

static void a_hit_a_fork_and_a_copy_tell_nothing(void **state)
{
    (void)state;
    qr_block_copy copy;
    open_cache(16, true);
    start(&a, 100, 8, 0);
    prefill(&cache, &a);
    assert_mirrored(2, 0);
    const qr_prefix_root root = {.tenant = 0};
    qr_block_table_init(&b.table, b.storage, MAX_BLOCKS, true, &root);
    qr_block_table_fork(&cache.pool, &a.table, &b.table);
    assert_true(qr_block_table_make_writable(&cache.pool, &b.table, 7, &copy));
    qr_block_pool_unpin(&cache.pool, copy.from);
    qr_block_table_release(&cache.pool, &b.table);
    release(&cache, &a);
    start(&b, 100, 9, 0);
    assert_int_equal(prefill(&cache, &b), 2);
    release(&cache, &b);
    assert_mirrored(2, 0);
    qr_cache_destroy(&cache);
}

static void equal_tokens_of_tenants_and_salts_are_blocks_of_their_own(void **state)
{
    (void)state;
    open_cache(16, true);
    start(&a, 100, 4, 0);
    prefill(&cache, &a);
    start(&b, 100, 4, 1);
    assert_int_equal(prefill(&cache, &b), 0);
    release(&cache, &b);
    start(&b, 100, 4, 0);
    b.table.root.salt[0] = 1;
    assert_int_equal(prefill(&cache, &b), 0);
    assert_mirrored(3, 0);
    release(&cache, &a);
    release(&cache, &b);
    qr_cache_destroy(&cache);
}

static void an_evicted_block_is_removed_before_its_successor_comes(void **state)
{
    (void)state;
    open_cache(4, true);
    start(&a, 100, 16, 0);
    prefill(&cache, &a);
    assert_mirrored(4, 0);
    release(&cache, &a);
    start(&b, 500, 16, 0);
    assert_int_equal(prefill(&cache, &b), 0);
    assert_mirrored(8, 4);
    release(&cache, &b);
    qr_block_pool_flush(&cache.pool);
    assert_mirrored(8, 8);
    assert_int_equal(mirror.count, 0);
    qr_cache_destroy(&cache);
}

static void what_came_and_went_between_two_reads_is_not_told(void **state)
{
    (void)state;
    open_cache(4, true);
    for (int i = 0; i < 100; i++) {
        start(&a, 1000 * i, 16, 0);
        prefill(&cache, &a);
        release(&cache, &a);
    }
    assert_int_equal(cache.journal.open.count, 4); /* as many as there are blocks, however late the reader is */
    assert_mirrored(4, 0);
    qr_cache_destroy(&cache);
}

static void a_restart_tells_all_that_is_there(void **state)
{
    (void)state;
    open_cache(8, true);
    start(&a, 100, 16, 0);
    prefill(&cache, &a);
    assert_mirrored(4, 0);
    start(&b, 500, 16, 0);
    prefill(&cache, &b);
    release(&cache, &a);
    qr_block_pool_flush(&cache.pool); /* told blocks are gone, others were not told yet */
    qr_journal_restart(&cache.journal, &cache.pool);
    assert_mirrored(8, 0);
    assert_int_equal(mirror.cleared, 1);
    assert_int_equal(mirror.count, 4);
    qr_journal_restart(&cache.journal, &cache.pool);
    qr_journal_restart(&cache.journal, &cache.pool);
    assert_mirrored(12, 0);
    assert_int_equal(mirror.cleared, 2);
    release(&cache, &b);
    qr_cache_destroy(&cache);
}

static void without_a_journal_nothing_is_told(void **state)
{
    (void)state;
    quire_cache_event event;
    int32_t           tokens[4];
    open_cache(8, false);
    start(&a, 100, 16, 0);
    prefill(&cache, &a);
    qr_journal_restart(&cache.journal, &cache.pool);
    assert_int_equal(qr_journal_read(&cache.journal, &cache.pool, &event, tokens, 1), 0);
    release(&cache, &a);
    qr_cache_destroy(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_blocks_are_told_with_tokens_and_parents),
        cmocka_unit_test(a_hit_a_fork_and_a_copy_tell_nothing),
        cmocka_unit_test(equal_tokens_of_tenants_and_salts_are_blocks_of_their_own),
        cmocka_unit_test(an_evicted_block_is_removed_before_its_successor_comes),
        cmocka_unit_test(what_came_and_went_between_two_reads_is_not_told),
        cmocka_unit_test(a_restart_tells_all_that_is_there),
        cmocka_unit_test(without_a_journal_nothing_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
