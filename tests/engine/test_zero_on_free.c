/* What the KV memory holds after its blocks lost their users, and that the walker can be called at any time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "scheduler/state.h"
#include "support/small_engine.h"

enum { JOBS = 10, PROMPT = 70 };

typedef struct answers {
    int32_t     tokens[JOBS][64];
    uint32_t    counts[JOBS];
    quire_stats stats;
} answers;

static quire_engine *open_engine(quire_model *model, quire_toggle zero_on_free)
{
    quire_engine_options options   = small_engine_options();
    options.max_num_batched_tokens = 32;
    options.num_kv_blocks          = 10;
    options.max_model_len          = 256;
    options.zero_on_free           = zero_on_free;
    return small_engine(&options, model);
}

static void step(quire_engine *engine, answers *a, uint32_t *ended)
{
    quire_event events[8];
    assert_int_equal(quire_engine_step(engine, NULL), QUIRE_OK);
    assert_null(quire_engine_check(engine));
    for (size_t got; (got = quire_engine_poll(engine, events, 8)) > 0;)
        for (size_t i = 0; i < got; i++) {
            const size_t j = (uintptr_t)events[i].user_data;
            if (events[i].kind == QUIRE_EVENT_TOKEN) a->tokens[j][a->counts[j]++] = events[i].token;
            *ended += events[i].kind == QUIRE_EVENT_FINISHED && events[i].last;
        }
}

static void run(quire_engine *engine, answers *a)
{
    static int32_t prompt[PROMPT];
    uint32_t       ended = 0;
    *a                   = (answers){.stats = {.size = sizeof a->stats}};
    for (uint32_t i = 0; i < JOBS; i++) {
        for (uint32_t k = 0; k < PROMPT; k++) prompt[k] = (int32_t)((k < 32 ? k : k * (i + 3)) % 256);
        const quire_request request = {.size         = sizeof request,
                                       .prompt       = prompt,
                                       .prompt_count = PROMPT,
                                       .max_tokens   = 50,
                                       .ignore_eos   = true,
                                       .user_data    = (void *)(uintptr_t)i};
        assert_int_equal(quire_engine_submit(engine, &request, NULL, NULL), QUIRE_OK);
    }
    for (int i = 0; i < 10000 && ended < JOBS; i++) step(engine, a, &ended);
    assert_int_equal(ended, JOBS);
    quire_engine_stats(engine, &a->stats);
}

static uint64_t bytes_with_content(const quire_engine *engine)
{
    const qr_kv_memory *kv    = &engine->kv;
    uint64_t            count = 0;
    for (uint32_t layer = 0; layer < kv->layers; layer++)
        for (size_t i = 0; i < kv->num_blocks * kv->block_bytes; i++) count += qr_kv_memory_plane(kv, layer)[i] != 0;
    return count;
}

static void freed_blocks_are_overwritten_and_no_answer_changes(void **state)
{
    (void)state;
    static answers found[2];
    quire_model   *model = small_engine_model("tiny", NULL);
    for (int on = 0; on < 2; on++) {
        quire_engine *engine = open_engine(model, on ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_OFF);
        run(engine, &found[on]);
        assert_true(found[on].stats.preemptions > 0);
        assert_true(found[on].stats.blocks_cached > 0);
        const uint64_t cached_bytes = found[on].stats.blocks_cached * engine->kv.block_bytes * engine->kv.layers;
        assert_true(bytes_with_content(engine) > 0);
        if (on) assert_true(bytes_with_content(engine) <= cached_bytes);
        quire_engine_flush_cache(engine);
        assert_int_equal(quire_engine_step(engine, NULL), QUIRE_OK);
        assert_int_equal(bytes_with_content(engine) == 0, on);
        quire_engine_destroy(engine);
    }
    assert_memory_equal(found[0].tokens, found[1].tokens, sizeof found[0].tokens);
    quire_model_destroy(model);
}

static void the_walker_tells_of_a_broken_rule(void **state)
{
    (void)state;
    quire_model        *model      = small_engine_model("tiny", NULL);
    quire_engine       *engine     = open_engine(model, QUIRE_TOGGLE_OFF);
    const int32_t       prompt[40] = {1};
    const quire_request request    = {.size = sizeof request, .prompt = prompt, .prompt_count = 40, .max_tokens = 9};
    assert_int_equal(quire_engine_submit(engine, &request, NULL, NULL), QUIRE_OK);
    assert_int_equal(quire_engine_step(engine, NULL), QUIRE_OK);
    assert_null(quire_engine_check(engine));
    const qr_sequence *running = engine->planner.scheduler->sequences;
    while (running->state != QR_SEQUENCE_RUNNING) running++;
    uint32_t *blocks = running->self.blocks, first = blocks[0];
    blocks[0] = blocks[1];
    assert_non_null(quire_engine_check(engine));
    blocks[0] = first;
    assert_null(quire_engine_check(engine));
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freed_blocks_are_overwritten_and_no_answer_changes),
        cmocka_unit_test(the_walker_tells_of_a_broken_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
