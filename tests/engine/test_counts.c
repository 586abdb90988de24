/* What a step counts against numbers computed by hand: tinyllama's shape with two of its layers.
 *
 * A layer: q, k, v 2048 x (2048 + 2 * 256), output 2048 x 2048, gate and up 2048 x 2 * 5632, down 5632 x 2048:
 * 44,040,192 weights. The head: 32,000 x 2048. Keys and values of a token in a layer: 2 * 4 heads * 64 * 2 bytes =
 * 1,024. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "support/small_engine.h"

enum { LAYERS = 2, ALL_LAYERS = 22, CONTEXT = 512, ROWS = 16 };

static const uint64_t layer_weights = 44040192, head_weights = UINT64_C(32000) * 2048, token_bytes = 1024;
static const uint64_t row_bytes = 2048 * 2; /* of the embedding */

static quire_model  *model;
static quire_engine *engine;

static int open_engine(void **state)
{
    (void)state;
    const quire_shape_override shape[]       = {{"num_hidden_layers", LAYERS}};
    const quire_model_options  model_options = {
         .size = sizeof model_options, .weight_dtype = QUIRE_DTYPE_BF16, .shape = shape, .shape_count = 1};
    quire_engine_options options   = small_engine_options();
    options.max_num_seqs           = ROWS;
    options.max_num_batched_tokens = ROWS * CONTEXT;
    options.num_kv_blocks          = ROWS * (CONTEXT / 32 + 2);
    options.max_model_len          = CONTEXT + 64;
    model                          = small_engine_model("tinyllama-1.1b", &model_options);
    engine                         = small_engine(&options, model);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return 0;
}

static void submit(uint32_t tokens, uint32_t first_token, uint32_t n)
{
    int32_t prompt[CONTEXT];
    for (uint32_t i = 0; i < tokens; i++) prompt[i] = (int32_t)(i == 0 ? first_token : 5 + i % 100);
    const quire_request request = {.size                 = sizeof request,
                                   .prompt               = prompt,
                                   .prompt_count         = tokens,
                                   .max_tokens           = 2,
                                   .n                    = n,
                                   .ignore_eos           = true,
                                   .sampling.temperature = n > 1 ? 1 : 0};
    quire_error         error   = {0};
    if (quire_engine_submit(engine, &request, NULL, &error) != QUIRE_OK) fail_msg("%s", error.message);
}

static quire_step step(void)
{
    quire_step done = {.size = sizeof done};
    assert_int_equal(quire_engine_step(engine, &done), QUIRE_OK);
    return done;
}

static void finish(void)
{
    quire_event events[64];
    while (quire_engine_poll(engine, events, 64) > 0) {
    }
    for (int i = 0; i < 4; i++) (void)step();
    while (quire_engine_poll(engine, events, 64) > 0) {
    }
    quire_engine_flush_cache(engine);
}

/* Steps that all prompts go through at once, then the one in which each sequence has a row at position 511. */
static quire_step decode_step(void)
{
    const quire_step prompts = step();
    assert_true(prompts.rows_prompt > 0);
    const quire_step decode = step();
    assert_int_equal(decode.rows_prompt, 0);
    return decode;
}

static void one_row_at_context_512_moves_all_weights_and_its_keys_and_values(void **state)
{
    (void)state;
    submit(CONTEXT - 1, 1, 1);
    const quire_step s = decode_step();
    assert_int_equal(s.rows, 1);
    assert_int_equal(s.projection_bytes, LAYERS * layer_weights * 2 + row_bytes);
    assert_int_equal(s.logits_bytes, head_weights * 2);
    assert_int_equal(s.weight_bytes, s.projection_bytes + s.logits_bytes);
    assert_int_equal(s.kv_bytes, LAYERS * (CONTEXT + 1) * token_bytes); /* read, and the row's own written */
    assert_int_equal(s.projection_flops, 2 * LAYERS * layer_weights);
    assert_int_equal(s.logits_flops, 2 * head_weights);
    assert_int_equal(s.attention_flops, LAYERS * UINT64_C(4) * 64 * 32 * CONTEXT);
    /* with all 22 layers: 2.07 GB of weights, 11.5 MB of keys and values */
    assert_true(fabs((double)(ALL_LAYERS * layer_weights * 2 + s.logits_bytes) - 2.07e9) < 5e6);
    assert_true(fabs((double)s.kv_bytes / LAYERS * ALL_LAYERS - 11.5e6) < 0.1e6);
    finish();
}

static void sixteen_rows_compute_sixteen_times_as_much_and_move_the_weights_once(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) submit(CONTEXT - 1, 200 + i, 1);
    const quire_step s = decode_step();
    assert_int_equal(s.rows, ROWS);
    assert_int_equal(s.projection_bytes, LAYERS * layer_weights * 2 + ROWS * row_bytes);
    assert_int_equal(s.kv_bytes, ROWS * LAYERS * (CONTEXT + 1) * token_bytes);
    assert_int_equal(s.flops,
                     ROWS * (2 * LAYERS * layer_weights + 2 * head_weights + LAYERS * UINT64_C(4) * 64 * 32 * CONTEXT));
    const double all = ROWS * (2.0 * ALL_LAYERS * (double)layer_weights + 2.0 * (double)head_weights +
                               ALL_LAYERS * 4.0 * 64 * 32 * CONTEXT);
    assert_true(fabs(all - 34.6e9) < 0.05e9);
    finish();
}

static void a_prompt_computes_one_triangle_of_attention(void **state)
{
    (void)state;
    submit(100, 1, 1);
    const quire_step s = step();
    assert_int_equal(s.rows, 100);
    assert_int_equal(s.attention_flops, LAYERS * UINT64_C(4) * 64 * 32 * (100 * 101 / 2));
    assert_int_equal(s.kv_bytes, LAYERS * 2 * 100 * token_bytes);
    assert_int_equal(s.logits_flops, 2 * head_weights); /* the last row alone */
    finish();
}

/* Four sequences of one prompt share its blocks: read once, computed four times. */
static void shared_blocks_move_once(void **state)
{
    (void)state;
    submit(CONTEXT - 32 + 0, 1, 4); /* 15 whole blocks */
    const quire_step s       = decode_step();
    const uint64_t   visible = CONTEXT - 32 + 1;
    assert_int_equal(s.rows, 4);
    assert_int_equal(s.attention_flops, 4 * LAYERS * UINT64_C(4) * 64 * 32 * visible);
    assert_int_equal(s.kv_bytes, LAYERS * (CONTEXT - 32 + 4 + 4) * token_bytes);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_row_at_context_512_moves_all_weights_and_its_keys_and_values),
        cmocka_unit_test(sixteen_rows_compute_sixteen_times_as_much_and_move_the_weights_once),
        cmocka_unit_test(a_prompt_computes_one_triangle_of_attention),
        cmocka_unit_test(shared_blocks_move_once),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
