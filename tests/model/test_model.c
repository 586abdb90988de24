/* quire_model through its public calls: load, synthetic, describe, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/model.h"

#define GOLDENS QUIRE_SOURCE_DIR "/tests/models/"

static void a_folder_is_described(void **state)
{
    (void)state;
    quire_model *model = NULL;
    quire_error  error = {0};
    if (quire_model_load(GOLDENS "llama3-gqa/", NULL, &model, &error) != QUIRE_OK) fail_msg("%s", error.message);
    quire_model_info info = {.size = sizeof info};
    quire_model_describe(model, &info);
    assert_string_equal(info.name, "llama3-gqa");
    assert_string_equal(info.architecture, "llama");
    assert_true(info.vocab_size == 320 && info.layers == 3 && info.heads == 8 && info.kv_heads == 2);
    assert_true(info.encoder_layers == 0 && info.decoder_start_token_id == -1);
    assert_true(info.eos_count == 1 && info.eos_token_ids[0] == 2);
    const uint64_t layer = 2 * 128 + 128 * (128 + 32 + 32 + 128) + 3 * 128 * 352;
    assert_int_equal(info.parameters, 3 * layer + 128 + 2 * 320 * 128);
    qr_model_facts facts;
    qr_model_facts_of(model, &facts);
    assert_true(!facts.encoder_decoder && facts.decoder_layers == 3 && facts.max_position_embeddings == 2048);
    quire_model_destroy(model);
}

static void a_caller_with_a_smaller_struct_gets_what_fits(void **state)
{
    (void)state;
    quire_model *model = NULL;
    assert_int_equal(quire_model_synthetic("t5-small", NULL, &model, NULL), QUIRE_OK);
    struct {
        quire_model_info info;
        char             guard[8];
    } small;
    memset(&small, 0x5a, sizeof small);
    small.info.size = offsetof(quire_model_info, parameters);
    quire_model_describe(model, &small.info);
    assert_string_equal(small.info.architecture, "t5");
    assert_int_equal(small.info.size, offsetof(quire_model_info, parameters));
    for (size_t i = offsetof(quire_model_info, parameters); i < sizeof small; i++)
        assert_int_equal(((unsigned char *)&small)[i], 0x5a);
    quire_model_destroy(model);
}

static void a_tied_matrix_counts_once(void **state)
{
    (void)state;
    static const quire_shape_override untied = {"tie_word_embeddings", 0};
    quire_model_info                  info   = {.size = sizeof info};
    uint64_t                          parameters[2];
    for (int i = 0; i < 2; i++) {
        const quire_model_options options = {.size = sizeof options, .shape = &untied, .shape_count = (uint32_t)i};
        quire_model              *model;
        assert_int_equal(quire_model_synthetic("qwen3-0.6b", &options, &model, NULL), QUIRE_OK);
        quire_model_describe(model, &info);
        parameters[i] = info.parameters;
        quire_model_destroy(model);
    }
    assert_int_equal(parameters[0], 596049920); /* as published */
    assert_int_equal(parameters[1] - parameters[0], (uint64_t)151936 * 1024);
}

static uint64_t info_parameters(const char *preset)
{
    quire_model_info info = {.size = sizeof info};
    quire_model     *model;
    assert_int_equal(quire_model_synthetic(preset, NULL, &model, NULL), QUIRE_OK);
    quire_model_describe(model, &info);
    quire_model_destroy(model);
    return info.parameters;
}

static void the_weight_dtype_decides_the_bytes(void **state)
{
    (void)state;
    static const quire_dtype dtypes[] = {QUIRE_DTYPE_F32, QUIRE_DTYPE_BF16, QUIRE_DTYPE_INT8, QUIRE_DTYPE_INT4,
                                         QUIRE_DTYPE_INT4};
    uint64_t                 bytes[5];
    for (int i = 0; i < 5; i++) {
        const quire_model_options options = {
            .size = sizeof options, .weight_dtype = dtypes[i], .weight_group_size = i == 4 ? 128 : 0};
        quire_model_info info = {.size = sizeof info};
        quire_model     *model;
        assert_int_equal(quire_model_synthetic("tinyllama-1.1b", &options, &model, NULL), QUIRE_OK);
        quire_model_describe(model, &info);
        assert_int_equal(info.weight_dtype, dtypes[i]);
        bytes[i] = info.weight_bytes;
        quire_model_destroy(model);
    }
    const uint64_t table = 2ull * 32000 * 2048; /* the embedding's rows stay bf16 beside int8 */
    assert_true((double)bytes[0] > 1.99 * (double)bytes[1]);
    assert_true((double)(bytes[1] - table) > 1.95 * (double)(bytes[2] - table));
    /* 4 bits and 16 of a scale for 32 or 128 weights; lm_head's are bytes with 16 bits for 128 */
    const uint64_t head = 32000 * 2048, body = info_parameters("tinyllama-1.1b") - 2 * head;
    const double   scaled[] = {4 + 16.0 / 32, 4 + 16.0 / 128};
    for (int i = 0; i < 2; i++) {
        const double expected = (double)body * scaled[i] / 8 + (double)head * (8 + 16.0 / 128) / 8;
        assert_true(fabs((double)(bytes[3 + i] - table) / expected - 1) < 0.001);
    }
    assert_string_equal(quire_dtype_name(QUIRE_DTYPE_INT8), "int8");
    assert_string_equal(quire_dtype_name(QUIRE_DTYPE_INT4), "int4");
    assert_string_equal(quire_dtype_name((quire_dtype)9), "?");
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    const quire_model_options no_size = {.size = 0}, bad_dtype = {.size = sizeof bad_dtype, .weight_dtype = 5},
                              no_shape  = {.size = sizeof no_shape, .shape_count = 1},
                              bad_group = {.size = sizeof bad_group, .weight_group_size = 48};
    static const struct {
        const char  *path, *preset, *words;
        int          options;
        quire_status status;
    } cases[] = {
        {"", NULL, "model.path", 0, QUIRE_ERR_INVALID},
        {GOLDENS "absent", NULL, "absent/config.json", 0, QUIRE_ERR_IO},
        {GOLDENS "llama3-gqa/config.json", NULL, "does not begin with \"GGUF\"", 0, QUIRE_ERR_FORMAT},
        {GOLDENS "llama3-gqa", NULL, "size", 1, QUIRE_ERR_INVALID},
        {GOLDENS "llama3-gqa", NULL, "weight_dtype", 2, QUIRE_ERR_INVALID},
        {NULL, "tiny", "model.shape", 3, QUIRE_ERR_INVALID},
        {NULL, "tiny", "weight_group_size", 4, QUIRE_ERR_INVALID},
        {NULL, "huge", "not one of tiny, tinyllama-1.1b", 0, QUIRE_ERR_INVALID},
        {NULL, NULL, "model.preset", 0, QUIRE_ERR_INVALID},
    };
    const quire_model_options *options[] = {NULL, &no_size, &bad_dtype, &no_shape, &bad_group};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        quire_model       *model = (quire_model *)(uintptr_t)1;
        quire_error        error = {0};
        const quire_status status =
            cases[i].path ? quire_model_load(cases[i].path, options[cases[i].options], &model, &error)
                          : quire_model_synthetic(cases[i].preset, options[cases[i].options], &model, &error);
        if (status != cases[i].status || strstr(error.message, cases[i].words) == NULL)
            fail_msg("case %zu: %d, %s", i, status, error.message);
        assert_null(model);
    }
    quire_model_destroy(NULL);
}

/* ---- files changed on the way ---- */

static void copy(const char *from, const char *to, long cut)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in != NULL && out != NULL);
    char *bytes = malloc(4 << 20);
    long  count = (long)fread(bytes, 1, 4 << 20, in);
    assert_int_equal(fwrite(bytes, 1, (size_t)(count + cut), out), count + cut);
    fclose(in);
    fclose(out);
    free(bytes);
}

static void a_shard_of_the_wrong_length_is_refused_before_anything_runs(void **state)
{
    (void)state;
    char folder[] = "/dev/shm/quire-test-XXXXXX", path[256], source[512];
    if (mkdtemp(folder) == NULL) skip();
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (long cut = -4; cut <= 0; cut += 4) {
        for (int i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "%s/%s", folder, names[i]);
            snprintf(source, sizeof source, GOLDENS "qwen2-bias/%s", names[i]);
            copy(source, path, i == 1 ? cut : 0);
        }
        quire_model *model = NULL;
        quire_error  error = {0};
        assert_int_equal(quire_model_load(folder, NULL, &model, &error), cut ? QUIRE_ERR_FORMAT : QUIRE_OK);
        if (cut) assert_non_null(strstr(error.message, "model.safetensors: tensor \""));
        quire_model_destroy(model);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_described),
        cmocka_unit_test(a_caller_with_a_smaller_struct_gets_what_fits),
        cmocka_unit_test(a_tied_matrix_counts_once),
        cmocka_unit_test(the_weight_dtype_decides_the_bytes),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(a_shard_of_the_wrong_length_is_refused_before_anything_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
