/* Local layers beside others: two tables that move together, and prefixes that need what the window shows of both. */
#include "cache/fixture.h"

enum { BS = 4, WINDOW = 6 }; /* a row at position p sees from p - 5 on */

static sequence a, b;

static void begin(uint32_t num_blocks, uint32_t local_blocks)
{
    qr_cache_options options = default_options(num_blocks, BS);
    options.encoder_decoder  = false;
    options.extents          = false;
    options.local_window     = WINDOW;
    options.local_blocks     = local_blocks;
    create(&cache, &options);
}

/* As start(), with a local table. */
static void start_both(sequence *s, int32_t first, uint32_t len)
{
    const qr_prefix_root root = {0};
    start(s, first, len, 0);
    init_tables(s, &root, true);
}

static void slide(sequence *s) { qr_block_table_slide(&cache.pool, &s->table, s->computed, 0); }

static uint32_t hits_of(sequence *s)
{
    uint32_t hits[MAX_BLOCKS];
    return qr_prefix_index_lookup(&cache.prefix, &s->table, s->tokens, s->len, hits, NULL);
}

static void local_blocks_are_given_back_when_they_leave_the_window(void **state)
{
    (void)state;
    begin(16, 16);
    start_both(&a, 100, 18);
    prefill(&cache, &a);
    assert_int_equal(cache.local.used, 5);
    slide(&a); /* position 18 sees from 13 on */
    assert_int_equal(a.table.first, 0);
    assert_int_equal(a.local.first, 3);
    assert_int_equal(cache.pool.used, 5);
    assert_int_equal(cache.local.used, 2);
    assert_int_equal(qr_block_table_left_behind(&a.table), 3);
    assert_sound(&cache, &a);
    release(&cache, &a);
    assert_int_equal(cache.pool.used + cache.local.used, 0);
    assert_null(check(&cache, NULL, 0));
}

static void a_prefix_takes_only_what_its_window_shows(void **state)
{
    (void)state;
    begin(16, 16);
    start_both(&a, 100, 18);
    prefill(&cache, &a);
    slide(&a);
    release(&cache, &a);
    start_both(&b, 100, 18);
    assert_int_equal(prefill(&cache, &b), 4);
    assert_int_equal(b.local.first, 2);    /* position 16 sees from 11 on */
    assert_int_equal(cache.local.used, 3); /* 2 and 3 found, 4 its own */
    slide(&b);
    assert_sound(&cache, &b);
    release(&cache, &b);
}

static void a_prefix_without_its_window_is_none(void **state)
{
    (void)state;
    begin(16, 16);
    start_both(&a, 100, 18);
    prefill(&cache, &a);
    const uint32_t third = a.local.blocks[2];
    slide(&a);
    release(&cache, &a);
    start_both(&b, 100, 18);
    assert_int_equal(hits_of(&b), 4);
    qr_prefix_index_part(&cache.prefix, cache.local.partner[third]);
    assert_int_equal(cache.local.blocks[third].state, QR_BLOCK_FREE);
    assert_int_equal(hits_of(&b), 2); /* the first two are whole: position 8 sees from 3 on */
    assert_null(check(&cache, NULL, 0));
}

/* What is computed anew becomes the part of the block that is there already. */
static void a_twin_brings_the_lost_local_block_back(void **state)
{
    (void)state;
    begin(16, 16);
    start_both(&a, 100, 18);
    prefill(&cache, &a);
    for (uint32_t i = 0; i < 4; i++) qr_prefix_index_part(&cache.prefix, a.table.blocks[i]);
    release(&cache, &a);
    start_both(&b, 100, 18);
    assert_int_equal(prefill(&cache, &b), 0);
    slide(&b);
    assert_sound(&cache, &b);
    release(&cache, &b);
    start_both(&a, 100, 18);
    assert_int_equal(hits_of(&a), 4);
    assert_null(check(&cache, NULL, 0));
}

static void an_evicted_block_takes_its_local_one_along(void **state)
{
    (void)state;
    begin(5, 5);
    start_both(&a, 100, 17);
    prefill(&cache, &a);
    release(&cache, &a);
    assert_int_equal(cache.local.cached, 4);
    start_both(&b, 500, 8);
    prefill(&cache, &b); /* one was FREE, one is evicted: the tail of a's chain */
    assert_int_equal(cache.pool.cached, 3);
    assert_int_equal(cache.local.cached, 3);
    assert_sound(&cache, &b);
    release(&cache, &b);
}

static void a_fork_copies_both_blocks_on_write(void **state)
{
    (void)state;
    qr_block_copy copy[2];
    begin(16, 16);
    start_both(&a, 100, 18);
    prefill(&cache, &a);
    slide(&a);
    start_both(&b, 100, 18);
    qr_block_table_fork(&cache.pool, &a.table, &b.table);
    b.computed = 18;
    assert_int_equal(b.local.first, 3);
    assert_sound(&cache, &a, &b);
    assert_true(qr_block_table_make_writable(&cache.pool, &b.table, 18, copy));
    assert_int_equal(copy[0].slots, 2);
    assert_int_equal(copy[1].slots, 2);
    assert_int_equal(copy[1].from, a.local.blocks[4]);
    assert_int_equal(copy[1].to, b.local.blocks[4]);
    qr_block_pool_unpin(&cache.pool, copy[0].from);
    qr_block_pool_unpin(&cache.local, copy[1].from);
    assert_sound(&cache, &a, &b);
    release(&cache, &a);
    release(&cache, &b);
}

static void too_few_local_blocks_refuse_an_append(void **state)
{
    (void)state;
    begin(16, 3);
    start_both(&a, 100, 16);
    qr_block_table_set_running(&cache.pool, &a.table, true);
    assert_int_equal(qr_block_pool_available(&cache.pool), 3);
    assert_false(qr_block_table_append(&cache.pool, &a.table, 16));
    assert_int_equal(a.table.count + cache.pool.used, 0);
    assert_true(qr_block_table_append(&cache.pool, &a.table, 12));
    assert_int_equal(a.local.count, 3);
    release(&cache, &a);
}

static void a_broken_pair_is_found(void **state)
{
    (void)state;
    begin(16, 16);
    start_both(&a, 100, 18);
    prefill(&cache, &a);
    sequence *const all[] = {&a};
    slide(&a);
    assert_sound(&cache, &a);
    const uint32_t first = a.local.blocks[3], partner = cache.local.partner[first];
    cache.local.partner[first] = a.table.blocks[1];
    assert_memory_equal(check(&cache, all, 1), "C16", 3);
    cache.local.partner[first]      = partner;
    cache.local.blocks[first].index = QR_INDEX_NONE;
    assert_memory_equal(check(&cache, all, 1), "C16", 3);
    cache.local.blocks[first].index = QR_INDEX_PARTNER;
    a.local.count--;
    assert_non_null(check(&cache, all, 1));
    a.local.count++;
    assert_sound(&cache, &a);
    release(&cache, &a);
}

static void wrong_numbers_are_refused(void **state)
{
    (void)state;
    quire_error      error   = {0};
    qr_cache_options options = default_options(8, BS);
    options.local_window     = WINDOW;
    assert_int_equal(qr_cache_create(&options, &cache, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "cache: local_blocks: 0 is not in 1..8");
    options.local_blocks = 9;
    assert_int_equal(qr_cache_create(&options, &cache, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "cache: local_blocks: 9 is not in 1..8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(local_blocks_are_given_back_when_they_leave_the_window, destroy),
        cmocka_unit_test_teardown(a_prefix_takes_only_what_its_window_shows, destroy),
        cmocka_unit_test_teardown(a_prefix_without_its_window_is_none, destroy),
        cmocka_unit_test_teardown(a_twin_brings_the_lost_local_block_back, destroy),
        cmocka_unit_test_teardown(an_evicted_block_takes_its_local_one_along, destroy),
        cmocka_unit_test_teardown(a_fork_copies_both_blocks_on_write, destroy),
        cmocka_unit_test_teardown(too_few_local_blocks_refuse_an_append, destroy),
        cmocka_unit_test_teardown(a_broken_pair_is_found, destroy),
        cmocka_unit_test(wrong_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
