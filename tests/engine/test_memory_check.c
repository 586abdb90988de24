/* The pages of an engine, counted by where they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

#include "quire/quire.h"

enum { BLOCKS = 64, ABSENT_NODE = 63 };

static quire_model  *model;
static quire_engine *engine;

static void check(uint32_t node, quire_memory_check *out)
{
    quire_error error         = {0};
    *out                      = (quire_memory_check){.size = sizeof *out};
    const quire_status status = quire_engine_check_memory(engine, node, out, &error);
    if (status == QUIRE_ERR_UNSUPPORTED) exit(77);
    assert_int_equal(status, QUIRE_OK);
}

static quire_pages sum_of(const quire_memory_check *check)
{
    quire_pages sum = {0};
    for (int m = 0; m < QUIRE_MEMORIES; m++) {
        sum.right += check->pages[m].right;
        sum.wrong += check->pages[m].wrong;
        sum.absent += check->pages[m].absent;
    }
    return sum;
}

static int create(void **state)
{
    (void)state;
    const quire_model_options model_options = {.size = sizeof model_options};
    quire_engine_options      options       = {.size = sizeof options, .num_kv_blocks = BLOCKS, .threads = 1};
    quire_error               error         = {0};
    assert_int_equal(quire_model_synthetic("tiny", &model_options, &model, &error), QUIRE_OK);
    assert_int_equal(quire_engine_create(&options, model, &engine, &error), QUIRE_OK);
    return 0;
}

static int destroy(void **state)
{
    (void)state;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return 0;
}

static void decode_something(void)
{
    static int32_t      prompt[40];
    const quire_request request = {
        .size = sizeof request, .prompt = prompt, .prompt_count = 40, .max_tokens = 30, .ignore_eos = true};
    assert_int_equal(quire_engine_submit(engine, &request, NULL, NULL), QUIRE_OK);
    for (int i = 0; i < 5; i++) assert_int_equal(quire_engine_step(engine, NULL), QUIRE_OK);
}

static void every_page_is_where_it_should_be(void **state)
{
    (void)state;
    quire_memory_check before, after;
    check(QUIRE_ALL_NODES, &before);
    assert_int_equal(before.pages[QUIRE_MEMORY_KV].right, 0); /* nobody has written a key */
    assert_true(before.pages[QUIRE_MEMORY_KV].absent > 0);
    assert_true(before.pages[QUIRE_MEMORY_WEIGHTS].right > 0);
    assert_true(before.pages[QUIRE_MEMORY_EMBEDDING].right > 0);
    assert_true(before.pages[QUIRE_MEMORY_SCRATCH].right > 0);
    assert_true(before.pages[QUIRE_MEMORY_QUEUES].right > 0);
    decode_something();
    check(QUIRE_ALL_NODES, &after);
    assert_true(after.pages[QUIRE_MEMORY_KV].right > 0);
    assert_true(after.pages[QUIRE_MEMORY_BUFFERS].right > 0);
    assert_int_equal(sum_of(&after).wrong, 0);
    assert_int_equal(after.blocks_home, 2);
    assert_int_equal(after.blocks_away, 0);
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(engine, &stats);
    assert_int_equal(stats.numa_pages_checked, sum_of(&after).right);
    assert_int_equal(stats.numa_pages_misplaced, 0);
    assert_int_equal(quire_engine_step(engine, NULL), QUIRE_OK);
    quire_engine_stats(engine, &stats);
    assert_int_equal(stats.numa_pages_checked, sum_of(&after).right); /* a step forgets nothing */
}

/* The plan says a node that does not exist: so all that exists is elsewhere. */
static void pages_on_other_nodes_than_planned_are_counted(void **state)
{
    (void)state;
    qr_placement      *placement = (qr_placement *)(uintptr_t)qr_team_placement(engine->team);
    const uint32_t     node      = placement->node_os[0];
    quire_memory_check counted;
    decode_something();
    placement->node_os[0] = ABSENT_NODE;
    check(QUIRE_ALL_NODES, &counted);
    placement->node_os[0] = node;
    for (int m = 0; m < QUIRE_MEMORIES; m++) {
        assert_true(counted.pages[m].wrong > 0);
        assert_int_equal(counted.pages[m].right, 0);
    }
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(engine, &stats);
    assert_int_equal(stats.numa_pages_misplaced, sum_of(&counted).wrong);
    check(QUIRE_ALL_NODES, &counted);
    assert_int_equal(sum_of(&counted).wrong, 0);
}

static void a_node_is_counted_alone(void **state)
{
    (void)state;
    const qr_placement *placement = qr_team_placement(engine->team);
    quire_memory_check  all, one;
    quire_error         error = {0};
    check(QUIRE_ALL_NODES, &all);
    check(placement->node_os[0], &one);
    assert_int_equal(one.pages[QUIRE_MEMORY_WEIGHTS].right, all.pages[QUIRE_MEMORY_WEIGHTS].right);
    assert_int_equal(one.pages[QUIRE_MEMORY_QUEUES].right, 0); /* of any node */
    assert_true(all.pages[QUIRE_MEMORY_QUEUES].right > 0);
    assert_int_equal(quire_engine_check_memory(engine, ABSENT_NODE, &one, &error), QUIRE_ERR_NOT_FOUND);
    assert_string_equal(error.message, "no thread of this engine is on NUMA node 63");
}

static void kinds_of_memory_have_distinct_names(void **state)
{
    (void)state;
    for (int a = 0; a < QUIRE_MEMORIES; a++)
        for (int b = 0; b < a; b++)
            assert_string_not_equal(quire_memory_name((quire_memory)a), quire_memory_name((quire_memory)b));
    assert_string_equal(quire_memory_name(QUIRE_MEMORIES), "unknown");
    assert_string_equal(quire_memory_name((quire_memory)-1), "unknown");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, create, destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_page_is_where_it_should_be),
        TEST(pages_on_other_nodes_than_planned_are_counted),
        TEST(a_node_is_counted_alone),
        cmocka_unit_test(kinds_of_memory_have_distinct_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
