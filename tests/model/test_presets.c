/* The presets: their shapes, what can be changed in them, and where their names must stand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "model/architecture.h"
#include "model/presets.h"

static void presets_have_their_published_shapes(void **state)
{
    (void)state;
    qr_architecture a;
    uint32_t        count = 0;
    for (; qr_preset_name(count) != NULL; count++)
        assert_int_equal(qr_architecture_preset(qr_preset_name(count), NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(count > 0);
    assert_int_equal(qr_architecture_preset("llama-3.2-1b", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.rope.type == QR_ROPE_LLAMA3 && a.rope.factor == 32 && a.vocab_size == 128256 && a.tied);
    assert_int_equal(qr_architecture_preset("flan-t5-xl", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.gated && a.logits_scale == 1 && a.encoder_layers == 24 && !a.tied);
    assert_int_equal(qr_architecture_preset("qwen3-0.6b", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.qk_norm == QR_QK_NORM_HEADS && a.head_dim == 128 && a.hidden_size == 1024);
    assert_int_equal(qr_architecture_preset("phi-4-mini", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.rope.type == QR_ROPE_LONGROPE && a.rope.rotary_dim == 96 && a.head_dim == 128 && a.tied);
    assert_int_equal(qr_architecture_preset("gemma-3-1b", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.full_layers == 4 && a.window == 512 && a.local_rope.theta == 10000 && a.attention_scale == 1.0f / 16);
    assert_int_equal(qr_architecture_preset("mixtral-8x7b", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.experts == 8 && a.experts_per_token == 2 && a.expert_size == 14336);
    assert_int_equal(qr_architecture_preset("qwen3-30b-a3b", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.experts == 128 && a.experts_per_token == 8 && a.expert_size == 768 && !qr_has_dense_layers(&a));
    assert_int_equal(qr_architecture_preset("gpt-oss-20b", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.experts == 32 && a.full_layers == 12 && a.window == 128 && a.max_position_embeddings == 131072);
    assert_int_equal(qr_architecture_preset("opus-mt", NULL, 0, &a, NULL), QUIRE_OK);
    assert_true(a.post_norm && a.decoder_start_token_id == 58100 && a.max_encoder_positions == 512 && a.tied);
}

static void overrides_change_a_preset_by_the_names_of_config_json(void **state)
{
    (void)state;
    static const quire_shape_override good[] = {
        {"num_hidden_layers", 4}, {"vocab_size", 1000}, {"tie_word_embeddings", 0}};
    qr_architecture a;
    assert_int_equal(qr_architecture_preset("llama-3.2-1b", good, 3, &a, NULL), QUIRE_OK);
    assert_true(a.layers == 4 && a.vocab_size == 1000 && !a.tied);
    assert_int_equal(a.eos_count, 0); /* 128001 is not in this vocabulary */

    static const struct {
        quire_shape_override change;
        const char          *words;
    } bad[] = {
        {{"num_layers", 4}, "num_layers"},
        {{"num_attention_heads", 7}, "num_key_value_heads 8"},
        {{"num_hidden_layers", 0}, "num_hidden_layers"},
        {{"rope_scaling", 1}, "rope_scaling"},
        {{"model_type", 1}, "model_type"},
        {{"hidden_size", INT64_MIN}, "hidden_size"},
        {{NULL, 1}, "model.shape"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        quire_error error = {0};
        assert_int_equal(qr_architecture_preset("llama-3.2-1b", &bad[i].change, 1, &a, &error), QUIRE_ERR_INVALID);
        assert_int_equal(error.status, QUIRE_ERR_INVALID);
        if (strstr(error.message, bad[i].words) == NULL) fail_msg("case %zu: %s", i, error.message);
    }
}

/* Keys that a published config.json of the type has, if only as null. */
static void what_a_published_file_has_can_be_overridden(void **state)
{
    (void)state;
    static const quire_shape_override window[] = {
        {"use_sliding_window", 1}, {"sliding_window", 24}, {"max_window_layers", 0}};
    static const quire_shape_override pad[] = {{"pad_token_id", 7}};
    qr_architecture                   a;
    assert_int_equal(qr_architecture_preset("qwen3-0.6b", window, 3, &a, NULL), QUIRE_OK);
    assert_int_equal(a.window, 24);
    assert_int_equal(qr_architecture_preset("t5-small", pad, 1, &a, NULL), QUIRE_OK);
    assert_int_equal(a.decoder_start_token_id, 0);
}

static void an_unknown_preset_is_answered_with_some_of_the_list(void **state)
{
    (void)state;
    qr_architecture a;
    quire_error     error = {0};
    assert_int_equal(qr_architecture_preset("a-name-of-forty-characters-which-is-none", NULL, 0, &a, &error),
                     QUIRE_ERR_INVALID);
    assert_non_null(
        strstr(error.message, "\"a-name-of-forty-characters-which-is-none\" is not one of tiny, tinyllama"));
    assert_non_null(strstr(error.message, " more (quire models)"));
}

/* The key table's row of docs/CONFIGURATION.md is compared with the table itself by test_cli_config_docs. */
static void every_preset_is_in_the_key_table(void **state)
{
    (void)state;
    static char text[1 << 20];
    FILE       *in = fopen(QUIRE_SOURCE_DIR "/docs/CONFIGURATION.md", "r");
    assert_non_null(in);
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    fclose(in);
    char *list = strstr(text, "| tiny \\| ");
    if (list == NULL) fail_msg("docs/CONFIGURATION.md has no list of presets");
    *strchr(list, '\n') = '\0';
    for (uint32_t i = 0; qr_preset_name(i) != NULL; i++)
        if (strstr(list, qr_preset_name(i)) == NULL) fail_msg("%s is not listed", qr_preset_name(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_have_their_published_shapes),
        cmocka_unit_test(overrides_change_a_preset_by_the_names_of_config_json),
        cmocka_unit_test(what_a_published_file_has_can_be_overridden),
        cmocka_unit_test(an_unknown_preset_is_answered_with_some_of_the_list),
        cmocka_unit_test(every_preset_is_in_the_key_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
