/* A reader of cache events beside an engine and beside a planner: applied in order they give the blocks that the prefix
 * index has, whatever was evicted, preempted, forked or flushed meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/engine.h"
#include "scheduler/state.h"
#include "support/cache_mirror.h"
#include "support/small_engine.h"

enum { JOBS = 24, PROMPT = 100, BLOCK = 32, READ = 7 };

static cache_mirror mirror;

static quire_engine *open_engine(quire_model *model, quire_toggle cache_events, quire_toggle prefix_caching)
{
    quire_engine_options options   = small_engine_options();
    options.max_num_batched_tokens = 32;
    options.num_kv_blocks          = 16;
    options.max_model_len          = 256;
    options.cache_events           = cache_events;
    options.enable_prefix_caching  = prefix_caching;
    memset(&mirror, 0, sizeof mirror);
    return small_engine(&options, model);
}

/* Prompts that share their first block or two, of two tenants and with a salt now and then; some fork. */
static void submit(quire_engine *engine, uint32_t job)
{
    int32_t prompt[PROMPT];
    for (uint32_t k = 0; k < PROMPT; k++) prompt[k] = (int32_t)((k < BLOCK * (1 + job % 3) ? k : k * (job + 3)) % 256);
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = PROMPT,
                                   .max_tokens   = 40,
                                   .ignore_eos   = true,
                                   .n            = job % 5 == 0 ? 2 : 1,
                                   .sampling     = {.temperature = 1, .seed = job},
                                   .tenant       = job % 2 == 0 ? "a" : "b",
                                   .cache_salt   = job % 7 == 0 ? "salt" : NULL};
    assert_int_equal(quire_engine_submit(engine, &request, NULL, NULL), QUIRE_OK);
}

static size_t read_events(quire_engine *engine, size_t capacity)
{
    quire_cache_event events[200];
    int32_t           tokens[200 * BLOCK];
    const size_t      count = quire_engine_poll_cache_events(engine, events, tokens, capacity);
    for (size_t i = 0; i < count; i++) {
        const char *wrong = cache_mirror_apply(&mirror, &events[i], tokens + i * BLOCK, BLOCK);
        if (wrong != NULL) fail_msg("%s", wrong);
    }
    return count;
}

/* All that is to be told has been, so the comparison has nothing left to read. */
static void assert_mirrored(quire_engine *engine)
{
    qr_cache *cache = &engine->planner.scheduler->cache;
    while (read_events(engine, 200) > 0) {
    }
    assert_int_equal(cache->journal.open.count, 0);
    const char *wrong = cache_mirror_compare(&mirror, cache);
    if (wrong != NULL) fail_msg("%s", wrong);
}

static uint32_t step(quire_engine *engine)
{
    quire_event events[64];
    uint32_t    ended = 0;
    assert_int_equal(quire_engine_step(engine, NULL), QUIRE_OK);
    for (size_t got; (got = quire_engine_poll(engine, events, 64)) > 0;)
        for (size_t i = 0; i < got; i++) ended += events[i].kind == QUIRE_EVENT_FINISHED && events[i].last;
    return ended;
}

static void events_follow_evictions_preemptions_and_forks(void **state)
{
    (void)state;
    quire_model  *model  = small_engine_model("tiny", NULL);
    quire_engine *engine = open_engine(model, QUIRE_TOGGLE_ON, QUIRE_TOGGLE_ON);
    quire_stats   stats  = {.size = sizeof stats};
    uint32_t      ended  = 0;
    for (uint32_t i = 0; i < JOBS; i++) submit(engine, i);
    for (uint32_t i = 0; i < 10000 && ended < JOBS; i++) {
        ended += step(engine);
        assert_null(quire_engine_check(engine));
        if (i % 3 == 0) read_events(engine, i % READ);
        if (i % 50 == 49) assert_mirrored(engine);
        if (i == 120) quire_engine_restart_cache_events(engine);
    }
    assert_int_equal(ended, JOBS);
    assert_mirrored(engine);
    quire_engine_stats(engine, &stats);
    assert_true(stats.preemptions > 0 && stats.forks > 0 && stats.prefix_hits > 0);
    assert_true(mirror.removed > 0 && mirror.count > 0);
    assert_int_equal(mirror.cleared, 1);
    quire_engine_flush_cache(engine);
    step(engine);
    assert_mirrored(engine);
    assert_int_equal(mirror.count, 0);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

typedef struct reader {
    quire_engine *engine;
    atomic_bool   stop;
} reader;

static void *read_on(void *context)
{
    reader *r = context;
    while (!r->stop) read_events(r->engine, 64);
    return NULL;
}

static void a_thread_of_its_own_may_read(void **state)
{
    (void)state;
    quire_model  *model  = small_engine_model("tiny", NULL);
    quire_engine *engine = open_engine(model, QUIRE_TOGGLE_ON, QUIRE_TOGGLE_ON);
    reader        r      = {.engine = engine};
    uint32_t      ended  = 0;
    pthread_t     thread;
    assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
    for (uint32_t i = 0; i < JOBS; i++) submit(engine, i);
    for (uint32_t i = 0; i < 10000 && ended < JOBS; i++) ended += step(engine);
    r.stop = true;
    pthread_join(thread, NULL);
    assert_int_equal(ended, JOBS);
    assert_mirrored(engine);
    assert_true(mirror.stored > 16);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

static void nothing_is_told_where_nobody_asked_or_nothing_is_kept(void **state)
{
    (void)state;
    static const quire_toggle cases[][2] = {{QUIRE_TOGGLE_AUTO, QUIRE_TOGGLE_ON}, {QUIRE_TOGGLE_ON, QUIRE_TOGGLE_OFF}};
    quire_model              *model      = small_engine_model("tiny", NULL);
    for (size_t i = 0; i < 2; i++) {
        quire_engine *engine = open_engine(model, cases[i][0], cases[i][1]);
        submit(engine, 1);
        while (step(engine) == 0) {
        }
        quire_engine_restart_cache_events(engine);
        assert_int_equal(read_events(engine, 200), 0);
        quire_engine_destroy(engine);
    }
    quire_model_destroy(model);
}

static void a_planner_tells_the_same(void **state)
{
    (void)state;
    const quire_planner_model  model     = {.size = sizeof model, .vocab_size = 100, .num_blocks = 8, .block_size = 4};
    const quire_engine_options options   = {.size                  = sizeof options,
                                            .max_model_len         = 32,
                                            .enable_prefix_caching = QUIRE_TOGGLE_ON,
                                            .cache_events          = QUIRE_TOGGLE_ON};
    const int32_t              prompt[9] = {5, 6, 7, 8, 9, 10, 11, 12, 13};
    const quire_request        request = {.size = sizeof request, .prompt = prompt, .prompt_count = 9, .max_tokens = 1};
    const quire_sampled        sampled = {.token = 1};
    const quire_plan          *plan;
    quire_planner             *planner;
    quire_cache_event          events[4];
    int32_t                    tokens[4 * 4];
    assert_int_equal(quire_planner_create(&options, &model, &planner, NULL), QUIRE_OK);
    assert_int_equal(quire_planner_submit(planner, &request, 1, NULL, NULL), QUIRE_OK);
    assert_int_equal(quire_planner_plan(planner, 2, &plan, NULL), QUIRE_OK);
    assert_int_equal(quire_planner_poll_cache_events(planner, events, tokens, 4), 0); /* not computed yet */
    assert_int_equal(quire_planner_commit(planner, &sampled, 1, 3, NULL), QUIRE_OK);
    assert_int_equal(quire_planner_poll_cache_events(planner, events, tokens, SIZE_MAX), 2);
    assert_memory_equal(tokens, prompt, 8 * sizeof *tokens);
    assert_int_equal(events[1].parent_hash, events[0].block_hash);
    quire_planner_restart_cache_events(planner);
    quire_planner_flush_cache(planner);
    assert_int_equal(quire_planner_poll_cache_events(planner, events, tokens, 4), 1);
    assert_int_equal(events[0].kind, QUIRE_CACHE_CLEARED);
    quire_planner_destroy(planner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_follow_evictions_preemptions_and_forks),
        cmocka_unit_test(a_thread_of_its_own_may_read),
        cmocka_unit_test(nothing_is_told_where_nobody_asked_or_nothing_is_kept),
        cmocka_unit_test(a_planner_tells_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
