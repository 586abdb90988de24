/* A property: what a sequence's tokens and logits are does not depend on what is computed with it, to the last bit.
 * Random requests run one by one, then together through engines that differ in everything that must not matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/rng.h"
#include "support/sanitized.h"
#include "support/small_engine.h"

enum {
    VOCAB      = 256,
    REQUESTS   = 80,
    PROMPT_MAX = 90,
    OUTPUT_MAX = 24,
    TRIALS     = QR_SANITIZED ? 1 : 8,
    BANDS      = 5 /* of rows of a step: 1, 2 to 6, 7 to 16, 17 to 64, more; where kernels change */
};

typedef struct answer {
    int32_t  tokens[OUTPUT_MAX];
    float    logprobs[OUTPUT_MAX];
    float    logits[VOCAB]; /* of the last token */
    uint32_t count;
} answer;

typedef struct run {
    uint32_t requests, vocab;
    answer   answers[REQUESTS];
    uint32_t steps[BANDS], preempted;
} run;

static uint32_t draw(uint64_t stream, uint64_t i, uint32_t from, uint32_t to)
{
    return from + qr_random_below(stream, i, 0, to - from + 1);
}

static void submit(quire_engine *engine, uint32_t number, run *to)
{
    int32_t        prompt[PROMPT_MAX];
    const uint32_t count = draw(1, number, 1, PROMPT_MAX);
    for (uint32_t i = 0; i < count; i++) prompt[i] = (int32_t)qr_random_below(2, number, i, to->vocab);
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = count,
                                   .max_tokens   = draw(3, number, 1, OUTPUT_MAX),
                                   .ignore_eos   = true,
                                   .logits       = QUIRE_LOGITS_LAST,
                                   .user_data    = &to->answers[number]};
    quire_request_id    id;
    assert_int_equal(quire_engine_submit(engine, &request, &id, NULL), QUIRE_OK);
}

static uint32_t take_events(quire_engine *engine, uint32_t vocab)
{
    quire_event  events[32];
    const size_t count = quire_engine_poll(engine, events, 32);
    uint32_t     ended = 0;
    for (size_t i = 0; i < count; i++) {
        answer *to = events[i].user_data;
        if (events[i].kind == QUIRE_EVENT_FINISHED) {
            assert_int_equal(events[i].status, QUIRE_OK);
            ended += events[i].last;
            continue;
        }
        const quire_token_detail *detail = events[i].detail;
        if (detail != NULL && detail->logits != NULL) memcpy(to->logits, detail->logits, vocab * sizeof *to->logits);
        to->tokens[to->count]     = events[i].token;
        to->logprobs[to->count++] = events[i].logprob;
    }
    return ended;
}

static uint32_t band_of(uint32_t rows)
{
    static const uint32_t last[BANDS - 1] = {1, 6, 16, 64};
    uint32_t              band            = 0;
    while (band < BANDS - 1 && rows > last[band]) band++;
    return band;
}

static void finish(quire_engine *engine, uint32_t requests, run *to)
{
    for (uint32_t ended = 0; ended < requests; ended += take_events(engine, to->vocab)) {
        quire_step step = {.size = sizeof step};
        assert_int_equal(quire_engine_step(engine, &step), QUIRE_OK);
        if (step.rows > 0) to->steps[band_of(step.rows)]++;
        to->preempted += step.preempted;
    }
}

static quire_engine_options plain_options(quire_dtype kv)
{
    quire_engine_options options   = small_engine_options();
    options.max_num_seqs           = 1;
    options.max_num_batched_tokens = PROMPT_MAX;
    options.max_model_len          = 256;
    options.kv_dtype               = kv;
    options.threads                = 1;
    options.max_logits_in_flight   = 64;
    options.enable_prefix_caching  = QUIRE_TOGGLE_OFF;
    return options;
}

/* Few blocks preempt, many sequences make many rows, a small budget cuts prompts. */
static quire_engine_options random_options(quire_dtype kv, uint64_t trial)
{
    quire_engine_options options         = plain_options(kv);
    options.max_num_seqs                 = draw(10, trial, 2, 64);
    options.max_num_batched_tokens       = qr_max_u32(options.max_num_seqs, draw(11, trial, 7, 160));
    options.num_kv_blocks                = draw(12, trial, 0, 1) ? draw(19, trial, 10, 40) : 400;
    options.threads                      = draw(13, trial, 1, 2);
    options.extents                      = draw(14, trial, 0, 1) ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_OFF;
    options.enable_prefix_caching        = draw(15, trial, 0, 1) ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_OFF;
    options.max_num_partial_prefills     = draw(16, trial, 1, qr_min_u32(4, options.max_num_seqs));
    options.long_prefill_token_threshold = draw(17, trial, 5, options.max_num_batched_tokens);
    return options;
}

static void run_alone(quire_model *model, quire_dtype kv, run *to)
{
    const quire_engine_options options = plain_options(kv);
    quire_engine              *engine  = small_engine(&options, model);
    for (uint32_t i = 0; i < to->requests; i++) {
        submit(engine, i, to);
        finish(engine, 1, to);
    }
    quire_engine_destroy(engine);
}

static void run_together(quire_model *model, quire_dtype kv, uint64_t trial, run *to)
{
    const quire_engine_options options = random_options(kv, trial);
    quire_engine              *engine  = small_engine(&options, model);
    const uint32_t             first   = draw(18, trial, 0, to->requests - 1);
    for (uint32_t i = 0; i < to->requests; i++) submit(engine, (first + i * 7) % to->requests, to);
    finish(engine, to->requests, to);
    quire_engine_destroy(engine);
}

static void assert_same(const run *alone, const run *together, quire_dtype weights, quire_dtype kv, uint64_t trial)
{
    for (uint32_t i = 0; i < alone->requests; i++)
        if (memcmp(&alone->answers[i], &together->answers[i], sizeof(answer)) != 0)
            fail_msg("%s weights, %s KV, trial %u: request %u differs from itself alone", quire_dtype_name(weights),
                     quire_dtype_name(kv), (unsigned)trial, i);
}

static quire_model *golden_model(const char *name, quire_dtype weights)
{
    char         path[512];
    quire_error  error = {0};
    quire_model *model = NULL;
    snprintf(path, sizeof path, QUIRE_SOURCE_DIR "/tests/models/%s", name);
    const quire_model_options options = {.size = sizeof options, .weight_dtype = weights};
    if (quire_model_load(path, &options, &model, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return model;
}

static void check(quire_dtype weights, quire_dtype kv)
{
    /* 1100 inputs of the last projection: more than one chunk of the sum, and a rest */
    static const quire_shape_override shape   = {"intermediate_size", 1100};
    const quire_model_options         options = {
                .size = sizeof options, .weight_dtype = weights, .weight_seed = 3, .shape = &shape, .shape_count = 1};
    quire_model *model = small_engine_model("tiny", &options);
    run         *runs  = calloc(2, sizeof *runs);
    assert_non_null(runs);
    runs[0].requests = runs[1].requests = REQUESTS;
    runs[0].vocab = runs[1].vocab = VOCAB;
    run_alone(model, kv, &runs[0]);
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        memset(runs[1].answers, 0, sizeof runs[1].answers);
        run_together(model, kv, trial, &runs[1]);
        assert_same(&runs[0], &runs[1], weights, kv, trial);
    }
    for (int band = 0; band < BANDS && !QR_SANITIZED; band++) assert_true(runs[1].steps[band] > 0);
    assert_true(runs[1].preempted > 0 || QR_SANITIZED);
    quire_model_destroy(model);
    free(runs);
}

/* Of each family that differs in what a row goes through. */
static void every_decoder_gives_a_sequence_the_same_bits_in_any_batch(void **state)
{
    (void)state;
    static const char *const names[] = {"smollm3", "granite",   "olmo2",   "phi3",         "gemma2",
                                        "gemma3",  "qwen3-moe", "mixtral", "gpt-oss-mxfp4"};
    run                     *runs    = calloc(2, sizeof *runs);
    assert_non_null(runs);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const quire_dtype weights = i % 2 == 0 ? QUIRE_DTYPE_BF16 : QUIRE_DTYPE_INT8;
        quire_model      *model   = golden_model(names[i], weights);
        memset(runs, 0, 2 * sizeof *runs);
        runs[0].requests = runs[1].requests = 24;
        runs[0].vocab = runs[1].vocab = 96;
        run_alone(model, QUIRE_DTYPE_BF16, &runs[0]);
        run_together(model, QUIRE_DTYPE_BF16, i, &runs[1]);
        assert_same(&runs[0], &runs[1], weights, QUIRE_DTYPE_BF16, i);
        quire_model_destroy(model);
    }
    free(runs);
}

static void f32_weights_give_a_sequence_the_same_bits_in_any_batch(void **state)
{
    (void)state;
    check(QUIRE_DTYPE_F32, QUIRE_DTYPE_F32);
}

static void bf16_weights_give_a_sequence_the_same_bits_in_any_batch(void **state)
{
    (void)state;
    check(QUIRE_DTYPE_BF16, QUIRE_DTYPE_BF16);
}

static void int8_weights_give_a_sequence_the_same_bits_in_any_batch(void **state)
{
    (void)state;
    check(QUIRE_DTYPE_INT8, QUIRE_DTYPE_INT8);
}

static void int4_weights_give_a_sequence_the_same_bits_in_any_batch(void **state)
{
    (void)state;
    check(QUIRE_DTYPE_INT4, QUIRE_DTYPE_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_weights_give_a_sequence_the_same_bits_in_any_batch),
        cmocka_unit_test(bf16_weights_give_a_sequence_the_same_bits_in_any_batch),
        cmocka_unit_test(int8_weights_give_a_sequence_the_same_bits_in_any_batch),
        cmocka_unit_test(every_decoder_gives_a_sequence_the_same_bits_in_any_batch),
        cmocka_unit_test(int4_weights_give_a_sequence_the_same_bits_in_any_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
