/* What `quire shapes` shows against what an engine counts while it runs the same sequences: rows of each step, and the
 * floating-point operations of projections, attention and logits, to the last one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "cli/shape_table.h"
#include "support/small_engine.h"

enum { STEPS = 30, SEQUENCES = 3, VOCABULARY = 64 };

static const qr_shape_run decoder_run = {.steps = STEPS, .sequence_count = SEQUENCES, .prompt_tokens = {5, 3, 1}};
static const qr_shape_run encoder_run = {
    .steps = STEPS, .sequence_count = SEQUENCES, .prompt_tokens = {2, 0, 1}, .encoder_tokens = {7, 4, 40}};

static quire_engine_options options(void)
{
    quire_engine_options o = small_engine_options();
    o.max_model_len        = 64; /* the least of the models' */
    return o;
}

static void submit(quire_engine *engine, const qr_shape_run *run, uint32_t feature_size)
{
    static float features[2 * VOCABULARY * 128];
    for (uint32_t s = 0; s < run->sequence_count; s++) {
        int32_t tokens[VOCABULARY];
        for (uint32_t i = 0; i < VOCABULARY; i++) tokens[i] = (int32_t)((s + i) % VOCABULARY);
        const quire_request request = {.size          = sizeof request,
                                       .prompt        = run->prompt_tokens[s] > 0 ? tokens : NULL,
                                       .prompt_count  = run->prompt_tokens[s],
                                       .encoder_input = run->encoder_tokens[s] > 0 && feature_size == 0 ? tokens : NULL,
                                       .encoder_count = feature_size == 0 ? run->encoder_tokens[s] : 0,
                                       .encoder_features = feature_size > 0 ? features : NULL,
                                       .encoder_frames   = feature_size > 0 ? 2 * run->encoder_tokens[s] : 0,
                                       .max_tokens       = STEPS,
                                       .ignore_eos       = true};
        quire_error         error   = {0};
        features[0]                 = (float)s; /* no input is another's */
        if (quire_engine_submit(engine, &request, NULL, &error) != QUIRE_OK) fail_msg("%s", error.message);
    }
}

/* (row, key) pairs that are not masked. */
static uint64_t pairs(const qr_product *p, const qr_shape *s)
{
    const uint32_t keys  = p->sums ? s->k : s->n;
    uint64_t       count = 0;
    if (p->kind != QR_PRODUCT_SELF) return (uint64_t)s->m * keys;
    assert_true(s->m == 0 || p->window == 0 || keys - s->m + 1 <= p->window); /* the first row's */
    for (uint32_t row = 0; row < s->m; row++) {
        const uint32_t seen = keys - s->m + row + 1;
        count += p->window > 0 ? qr_min_u32(seen, p->window) : seen;
    }
    return count;
}

typedef struct flops {
    uint64_t projections, attention, logits;
} flops;

static flops flops_of(const qr_shape_table *table, uint32_t step)
{
    flops sum = {0};
    for (size_t i = 0; i < table->product_count; i++) {
        const qr_product *p     = &table->products[i];
        const qr_shape   *s     = qr_shape_at(table, step, i);
        const uint64_t    times = 2ull * p->layers * p->heads * p->matrices;
        if (qr_product_is_attention(p))
            sum.attention += times * pairs(p, s) * (p->sums ? s->n : s->k);
        else
            *(p->kind == QR_PRODUCT_LOGITS_ROWS ? &sum.logits : &sum.projections) += times * s->m * s->k * s->n;
    }
    return sum;
}

static void compare(const qr_shape_table *table, quire_engine *engine)
{
    for (uint32_t step = 0; step < STEPS; step++) {
        const qr_shape_step *shown = &table->steps[step];
        const flops          sum   = flops_of(table, step);
        quire_step           done  = {.size = sizeof done};
        quire_event          event;
        assert_int_equal(quire_engine_step(engine, &done), QUIRE_OK);
        while (quire_engine_poll(engine, &event, 1) == 1) continue;
        assert_int_equal(shown->rows, done.rows);
        assert_int_equal(shown->rows_prompt, done.rows_prompt);
        assert_int_equal(shown->rows_encoder, done.rows_encoder);
        assert_int_equal(shown->rows_logits, done.rows_logits);
        assert_int_equal(sum.projections, done.projection_flops);
        assert_int_equal(sum.attention, done.attention_flops);
        assert_int_equal(sum.logits, done.logits_flops);
        assert_true(sum.projections > 0 && sum.attention > 0 && sum.logits > 0);
    }
}

static void check(const char *name)
{
    char                       path[256];
    quire_error                error         = {0};
    quire_model_info           info          = {.size = sizeof info};
    const quire_model_options  model_options = {.size = sizeof model_options, .weight_dtype = QUIRE_DTYPE_F32};
    const quire_engine_options o             = options();
    qr_shape_table             table         = {0};
    quire_model               *model;
    snprintf(path, sizeof path, QUIRE_SOURCE_DIR "/tests/models/%s", name);
    if (quire_model_load(path, &model_options, &model, &error) != QUIRE_OK) fail_msg("%s", error.message);
    quire_model_describe(model, &info);
    const qr_shape_run *run = info.encoder_layers > 0 ? &encoder_run : &decoder_run;
    if (qr_shape_table_init(&table, model, &o, run, &error) != QUIRE_OK) fail_msg("%s", error.message);
    quire_engine *engine = small_engine(&o, model);
    submit(engine, run, info.encoder_feature_size);
    compare(&table, engine);
    qr_shape_table_deinit(&table);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

static void decoders_do_what_is_shown(void **state)
{
    (void)state;
    check("llama3-gqa");
    check("phi3");
    check("qwen2-bias");
}

static void windows_of_some_layers_do(void **state)
{
    (void)state;
    check("mistral-swa");
    check("qwen2-mixed-window");
    check("gemma3");
}

static void mixtures_of_experts_do(void **state)
{
    (void)state;
    check("mixtral");
    check("qwen3-moe");
    check("gpt-oss-mxfp4");
}

static void encoder_decoders_do(void **state)
{
    (void)state;
    check("t5-gated");
    check("t5-relu");
    check("bart");
    check("marian");
    check("whisper");
}

static void a_prompt_is_cut_as_the_planner_cuts_it(void **state)
{
    (void)state;
    const qr_shape_run   run   = {.steps = 4, .sequence_count = 2, .prompt_tokens = {12, 12}};
    qr_shape_table       table = {0};
    quire_model         *model = small_engine_model("tiny", NULL);
    quire_engine_options o     = options();
    quire_error          error = {0};
    o.max_num_batched_tokens   = 16;
    assert_int_equal(qr_shape_table_init(&table, model, &o, &run, &error), QUIRE_OK);
    const qr_shape *second = qr_shape_at(&table, 0, 3), *rest = qr_shape_at(&table, 1, 3);
    assert_true(table.products[3].kind == QR_PRODUCT_SELF && table.products[3].sequence == 1);
    assert_true(second->m == 4 && second->n == 4 && rest->m == 8 && rest->n == 12);
    assert_int_equal(table.steps[1].rows, 9);
    qr_shape_table_deinit(&table);
    quire_model_destroy(model);
}

static void what_the_planner_refuses_is_refused(void **state)
{
    (void)state;
    const qr_shape_run         run   = {.steps = 4, .sequence_count = 1, .prompt_tokens = {96}};
    qr_shape_table             table = {0};
    quire_model               *model = small_engine_model("tiny", NULL);
    const quire_engine_options o     = options();
    quire_error                error = {0};
    assert_int_equal(qr_shape_table_init(&table, model, &o, &run, &error), QUIRE_ERR_TOO_LONG);
    assert_non_null(strstr(error.message, "max_model_len"));
    qr_shape_table_deinit(&table);
    quire_model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoders_do_what_is_shown),
        cmocka_unit_test(windows_of_some_layers_do),
        cmocka_unit_test(mixtures_of_experts_do),
        cmocka_unit_test(encoder_decoders_do),
        cmocka_unit_test(a_prompt_is_cut_as_the_planner_cuts_it),
        cmocka_unit_test(what_the_planner_refuses_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
