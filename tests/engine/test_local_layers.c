/* A model with local layers: its KV memory in use is what the windows say, and prefixes are found all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/small_engine.h"

enum { WINDOW = 40, BLOCK = 32, PROMPT = 200, OUTPUT = 40 };

static quire_engine *engine;
static quire_model  *model;

/* Two of eight layers see everything. */
static void begin(void)
{
    static const quire_shape_override shape[] = {{"num_hidden_layers", 8},   {"hidden_size", 64},
                                                 {"intermediate_size", 64},  {"vocab_size", 100},
                                                 {"sliding_window", WINDOW}, {"sliding_window_pattern", 4}};
    const quire_model_options options = {.size = sizeof options, .shape = shape, .shape_count = 6, .weight_seed = 5};
    quire_engine_options      small   = small_engine_options();
    small.max_num_batched_tokens      = 64;
    model                             = small_engine_model("gemma-3-1b", &options);
    engine                            = small_engine(&small, model);
}

static int end(void **state)
{
    (void)state;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return 0;
}

static quire_stats stats(void)
{
    quire_stats now = {.size = sizeof now};
    quire_engine_stats(engine, &now);
    return now;
}

typedef struct answer {
    int32_t     tokens[OUTPUT];
    uint32_t    count, cached;
    quire_stats most; /* in use after a step */
} answer;

static answer run(void)
{
    int32_t prompt[PROMPT];
    for (int32_t i = 0; i < PROMPT; i++) prompt[i] = i * 7 % 100;
    const quire_request request = {
        .size = sizeof request, .prompt = prompt, .prompt_count = PROMPT, .max_tokens = OUTPUT, .ignore_eos = true};
    quire_request_id id;
    answer           to   = {0};
    bool             done = false;
    assert_int_equal(quire_engine_submit(engine, &request, &id, NULL), QUIRE_OK);
    while (!done) {
        quire_step  step = {.size = sizeof step};
        quire_event event;
        assert_int_equal(quire_engine_step(engine, &step), QUIRE_OK);
        const quire_stats now = stats();
        assert_int_equal(step.kv_used_bytes, now.kv_used_bytes);
        if (now.kv_used_bytes > to.most.kv_used_bytes) to.most = now;
        while (quire_engine_poll(engine, &event, 1) == 1) {
            done |= event.kind == QUIRE_EVENT_FINISHED;
            if (event.kind == QUIRE_EVENT_FINISHED)
                to.cached = ((const quire_finish_detail *)event.detail)->cached_tokens;
            else
                to.tokens[to.count++] = event.token;
        }
    }
    return to;
}

static void local_layers_use_what_their_window_shows(void **state)
{
    (void)state;
    begin();
    const answer      got       = run();
    const quire_stats now       = stats();
    const uint64_t    per_layer = now.kv_bytes_per_token * BLOCK / 8;
    assert_int_equal(got.most.blocks_used, (PROMPT + OUTPUT + BLOCK - 1) / BLOCK);
    assert_in_range(got.most.local_blocks_used, 2, 3); /* 40 tokens lie in 2 or 3 blocks of 32 */
    assert_int_equal(got.most.kv_used_bytes, per_layer * (got.most.blocks_used * 2 + got.most.local_blocks_used * 6));
    assert_int_equal(now.kv_used_bytes, 0);
    assert_int_equal(now.kv_cache_bytes, per_layer * (now.blocks * 2 + now.local_blocks * 6));
}

static void a_prompt_is_found_and_gives_the_same_tokens(void **state)
{
    (void)state;
    begin();
    const answer first = run(), second = run();
    assert_int_equal(first.cached, 0);
    assert_int_equal(second.cached, (PROMPT - 1) / BLOCK * BLOCK);
    assert_int_equal(second.count, OUTPUT);
    assert_memory_equal(first.tokens, second.tokens, sizeof first.tokens);
    assert_null(quire_engine_check(engine));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(local_layers_use_what_their_window_shows, end),
        cmocka_unit_test_teardown(a_prompt_is_found_and_gives_the_same_tokens, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
