/* Each rule of qr_cache_check, violated on purpose, is reported by its number; the sound scene is not. */
#include "cache/fixture.h"

static sequence        a, b, d, encoder, other;
static qr_cache_holder holders[4];
static const uint32_t  BS = 4;

static const char *verdict(void)
{
    return qr_cache_check(&cache, &(qr_cache_holders){.tables = holders, .table_count = 4});
}

static void assert_rule(const char *rule)
{
    const char *sentence = verdict();
    if (sentence == NULL) fail_msg("%s was not reported", rule);
    if (strncmp(sentence, rule, strlen(rule)) != 0) fail_msg("%s expected, but: %s", rule, sentence);
}

/* Violates, asserts, restores. */
#define assert_violation(rule, lvalue, value)                                                                          \
    do {                                                                                                               \
        __typeof__(lvalue) *place_ = &(lvalue), sound_ = *place_;                                                      \
        *place_ = (value);                                                                                             \
        assert_rule(rule);                                                                                             \
        *place_ = sound_;                                                                                              \
        assert_null(verdict());                                                                                        \
    } while (0)

/* a: 9 blocks, the rest of its second extent RESERVED; b shares a's head; d was released, its full blocks are CACHED;
 * encoder: cross content in use; other: cross content CACHED. */
static int scene(void **state)
{
    (void)state;
    qr_cache_options options = default_options(64, BS);
    options.keep_journal     = true;
    create(&cache, &options);
    start(&d, 900, 10, 0);
    prefill(&cache, &d);
    start(&a, 0, 35, 0);
    prefill(&cache, &a);
    start(&b, 0, 10, 0);
    prefill(&cache, &b);
    release(&cache, &d);
    start(&encoder, 100, 10, 0);
    start(&other, 200, 10, 0);
    encoder.table.grows = other.table.grows = false;
    assert_true(qr_block_table_append(&cache.pool, &encoder.table, 10));
    assert_true(qr_block_table_append(&cache.pool, &other.table, 10));
    qr_cross_index_publish(&cache.cross, &encoder.table, encoder.tokens, 10);
    qr_cross_index_publish(&cache.cross, &other.table, other.tokens, 10);
    qr_block_table_release(&cache.pool, &other.table);
    encoder.computed      = 10;
    sequence *const all[] = {&a, &b, &encoder, &d};
    for (uint32_t i = 0; i < 4; i++)
        holders[i] = (qr_cache_holder){&all[i]->table, all[i]->computed, all[i]->computed, 0};
    assert_null(verdict());
    assert_true(cache.pool.reserved > 0 && cache.pool.cached == 2 + 3);
    return 0;
}

static uint32_t in_state(qr_block_state state)
{
    uint32_t id = 0;
    while (cache.pool.blocks[id].state != state) id++;
    return id;
}

static qr_block *block(uint32_t id) { return &cache.pool.blocks[id]; }

static void c1_states_and_counters_agree(void **state)
{
    (void)state;
    assert_violation("C1", cache.pool.free, cache.pool.free + 1);
    assert_violation("C1", cache.pool.nodes[0].cached, 4);
    assert_violation("C1", block(in_state(QR_BLOCK_FREE))->state, QR_BLOCK_USED);
    assert_violation("C1", block(0)->state, 7);
    assert_violation("C1", block(0)->node, 1);
    assert_violation("C1", cache.pool.num_blocks, 63);
}

static void c2_references_and_pins_are_recounted(void **state)
{
    (void)state;
    assert_violation("C2", block(a.table.blocks[0])->refs, 3);
    assert_violation("C2", block(a.table.blocks[0])->refs, 1);
    assert_violation("C2", block(in_state(QR_BLOCK_FREE))->refs, 1);
    assert_violation("C2", block(a.table.blocks[0])->pins, 1);
    assert_violation("C2", holders[1].table, &d.table); /* b was forgotten */
}

static void c3_states_follow_from_use(void **state)
{
    (void)state;
    assert_violation("C3", block(in_state(QR_BLOCK_FREE))->index, QR_INDEX_PREFIX);
    assert_violation("C3", block(in_state(QR_BLOCK_CACHED))->index, QR_INDEX_NONE);
    assert_violation("C3", block(in_state(QR_BLOCK_RESERVED))->owner, NULL);
    assert_violation("C3", block(in_state(QR_BLOCK_RESERVED))->owner, &b.table);
    assert_violation("C3", block(in_state(QR_BLOCK_FREE))->owner, &a.table);
    assert_violation("C3", a.table.running, false);
}

static void c4_lists_are_linked_both_ways_in_release_order(void **state)
{
    (void)state;
    qr_list *list = &cache.pool.nodes[0].cached_lists[0];
    assert_violation("C4", block(list->head)->link.next, list->head);
    assert_violation("C4", block(list->tail)->link.prev, QR_BLOCK_NONE);
    assert_violation("C4", block(list->head)->released, UINT64_MAX);
    assert_violation("C4", list->tail, list->head);
    assert_violation("C4", block(list->tail)->link.next, in_state(QR_BLOCK_USED));
    assert_violation("C4", block(list->tail)->link.next, 1000);
    assert_violation("C4", cache.pool.nodes[0].active_count, 0);
    assert_violation("C4", cache.pool.nodes[0].active[0], 1);
    assert_violation("C4", cache.pool.nodes[0].reserved_list.count, 1);
    assert_violation("C4", block(list->head)->tenant, 1);
}

static void c5_extents_know_their_free_blocks(void **state)
{
    (void)state;
    qr_pool_node *node = &cache.pool.nodes[0];
    assert_violation("C5", node->free_mask[0], node->free_mask[0] ^ 1);
    assert_violation("C5", node->by_free[8].words[0], 0);
    assert_violation("C5", node->by_free[8].summary[0], 0);
    assert_violation("C5", node->by_free[3].words[0], ~0ull);
}

static void c6_tables_name_blocks_of_the_pool_once(void **state)
{
    (void)state;
    assert_violation("C6", a.table.blocks[3], 64);
    assert_violation("C6", a.table.blocks[3], a.table.blocks[2]);
    const qr_block_copy copy     = {.from = 64, .to = 0, .slots = 1};
    const char         *sentence = qr_cache_check(&cache, &(qr_cache_holders){holders, 4, &copy, 1, NULL, 0});
    assert_non_null(sentence);
    assert_memory_equal(sentence, "C6", 2);
}

static void c7_the_indexes_find_what_is_flagged(void **state)
{
    (void)state;
    const uint32_t id = a.table.blocks[1];
    assert_violation("C7", cache.prefix.entries, 0);
    assert_violation("C7", cache.pool.tokens[id * BS], -7);
    assert_violation("C7", block(id)->parent, 12345);
    assert_violation("C7", block(id)->bucket, block(id)->bucket ^ 1);
    assert_violation("C7", block(id)->chain, 1);
    assert_violation("C7", cache.prefix.buckets[block(id)->bucket], QR_BLOCK_NONE);
    assert_violation("C7", cache.cross.entries, 3);
    assert_violation("C7", cache.cross.entry_of[encoder.table.blocks[1]], encoder.table.blocks[1]);
    assert_violation("C7", cache.cross.buckets[block(encoder.table.blocks[0])->bucket], QR_BLOCK_NONE);
    /* The key of another: the same tokens below the same parent. */
    const qr_block sound = *block(id);
    int32_t        tokens[4];
    memcpy(tokens, cache.pool.tokens + id * BS, sizeof tokens);
    memcpy(cache.pool.tokens + id * BS, cache.pool.tokens + a.table.blocks[0] * BS, sizeof tokens);
    block(id)->parent = block(a.table.blocks[0])->parent;
    block(id)->root   = true;
    assert_rule("C7");
    *block(id) = sound;
    memcpy(cache.pool.tokens + id * BS, tokens, sizeof tokens);
    assert_null(verdict());
}

static void c8_only_committed_blocks_are_indexed(void **state)
{
    (void)state;
    assert_violation("C8", holders[0].computed, 31);
    holders[2].write_end = 0;
    holders[2].computed  = 0;
    assert_rule("C8");
}

static void c9_plans_write_to_blocks_of_their_own(void **state)
{
    (void)state;
    assert_violation("C9", holders[2].write_end, 11); /* the tail of indexed cross content */
    sequence *fork = &other;
    start(fork, 0, 35, 0);
    qr_block_table_fork(&cache.pool, &a.table, &fork->table);
    holders[3] = (qr_cache_holder){&fork->table, 35, 35, 0};
    assert_null(verdict());
    assert_violation("C9", holders[3].write_end, 36);
    assert_violation("C9", holders[0].write_end, 36);
}

static void c10_blocks_of_a_table_have_its_tenant(void **state)
{
    (void)state;
    assert_violation("C10", b.table.root.tenant, 1);
    assert_violation("C10", block(encoder.table.blocks[1])->tenant, 1);
    uint32_t cached = 0; /* of the cross entry that nobody uses: no table tells */
    while (block(cached)->state != QR_BLOCK_CACHED || block(cached)->index != QR_INDEX_CROSS) cached++;
    assert_violation("C", block(cached)->tenant, 1);
}

static void c11_cross_content_is_cached_or_used_as_a_whole(void **state)
{
    (void)state;
    const uint32_t entry = encoder.table.blocks[0];
    assert_violation("C11", cache.cross.lengths[entry], 13);
    start(&d, 0, 4, 0); /* a table with one block of the CACHED entry */
    const qr_prefix_root root = {0};
    for (int32_t i = 0; i < 10; i++) d.tokens[i] = 200 + i;
    const uint32_t found = qr_cross_index_lookup(&cache.cross, &root, d.tokens, 10);
    assert_int_not_equal(found, QR_BLOCK_NONE);
    qr_block_table_adopt(&cache.pool, &d.table, &found, 1, 0);
    holders[3].computed = holders[3].write_end = 4;
    assert_rule("C11");
}

static void c12_tables_cover_what_was_computed(void **state)
{
    (void)state;
    holders[0].computed = holders[0].write_end = 37;
    assert_rule("C12");
    holders[0].computed = holders[0].write_end = 35;
    assert_violation("C12", holders[0].write_end, 34);
    assert_violation("C12", holders[0].window, 8);
    assert_violation("C12", a.table.first, 1);
    assert_violation("C12", a.table.blocks[3], QR_BLOCK_NONE);
    assert_violation("C12", a.table.capacity, 8);
    assert_violation("C12", a.table.published, 10);
}

static void c13_nothing_live_means_nothing_used(void **state)
{
    (void)state;
    const char *sentence = qr_cache_check(&cache, &(qr_cache_holders){0});
    assert_non_null(sentence);
    assert_memory_equal(sentence, "C13", 3);
    release(&cache, &a);
    release(&cache, &b);
    qr_block_table_release(&cache.pool, &encoder.table);
    assert_null(qr_cache_check(&cache, &(qr_cache_holders){0}));
    qr_block_pool_flush(&cache.pool);
    assert_null(qr_cache_check(&cache, &(qr_cache_holders){0}));
    assert_int_equal(cache.pool.free, 64);
}

static void c14_tenants_add_up(void **state)
{
    (void)state;
    assert_violation("C14", cache.pool.tenants[0].used, 0);
    assert_violation("C14", cache.pool.tenants[3].cached, 1);
}

static void c15_runs_are_recounted(void **state)
{
    (void)state;
    assert_violation("C15", a.table.runs, 9);
    assert_violation("C15", cache.pool.runs, 0);
    assert_violation("C15", cache.pool.run_blocks, 0);
}

static void c17_the_journal_has_what_is_to_be_told(void **state)
{
    (void)state;
    quire_cache_event event;
    int32_t           tokens[4];
    qr_journal       *journal = &cache.journal;
    assert_int_equal(qr_journal_read(journal, &cache.pool, &event, tokens, 1), 1);
    const uint32_t told = journal->told.head, open = journal->open.head;
    assert_violation("C17", journal->blocks[told].told, 1 + cache.pool.blocks[told].serial);
    assert_violation("C17", journal->blocks[told].place, QR_JOURNAL_OPEN);
    assert_violation("C17", journal->blocks[open].place, QR_JOURNAL_NOWHERE);
    assert_violation("C17", journal->open.count, journal->open.count - 1);
    assert_violation("C17", journal->open.head, journal->blocks[open].link.next);
    assert_violation("C17", journal->told.head, QR_NONE);
    assert_violation("C17", journal->blocks[a.table.blocks[8]].told, 1); /* not full */
}

#define SCENE(function) cmocka_unit_test_setup_teardown(function, scene, destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(c1_states_and_counters_agree),
        SCENE(c2_references_and_pins_are_recounted),
        SCENE(c3_states_follow_from_use),
        SCENE(c4_lists_are_linked_both_ways_in_release_order),
        SCENE(c5_extents_know_their_free_blocks),
        SCENE(c6_tables_name_blocks_of_the_pool_once),
        SCENE(c7_the_indexes_find_what_is_flagged),
        SCENE(c8_only_committed_blocks_are_indexed),
        SCENE(c9_plans_write_to_blocks_of_their_own),
        SCENE(c10_blocks_of_a_table_have_its_tenant),
        SCENE(c11_cross_content_is_cached_or_used_as_a_whole),
        SCENE(c12_tables_cover_what_was_computed),
        SCENE(c13_nothing_live_means_nothing_used),
        SCENE(c14_tenants_add_up),
        SCENE(c15_runs_are_recounted),
        SCENE(c17_the_journal_has_what_is_to_be_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
