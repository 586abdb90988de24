/* Tensors by name: golden files, generated numbers, and files that disagree with their config.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config_json.h"
#include "model/presets.h"
#include "model/weights.h"

#define GOLDENS QUIRE_SOURCE_DIR "/tests/models/"

static qr_safetensors *open_golden(const char *name, qr_architecture *a)
{
    char            path[512];
    quire_error     error = {0};
    qr_safetensors *files;
    snprintf(path, sizeof path, GOLDENS "%s/config.json", name);
    if (qr_architecture_read(path, a, &error) != QUIRE_OK) fail_msg("%s", error.message);
    snprintf(path, sizeof path, GOLDENS "%s", name);
    if (qr_safetensors_open(path, NULL, &files, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return files;
}

static void golden_files_agree_with_their_configurations(void **state)
{
    (void)state;
    static const char *const names[] = {"llama3-gqa",   "mistral-swa", "qwen2-bias",
                                        "qwen3-qknorm", "t5-relu",     "t5-gated"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        qr_architecture  a;
        quire_error      error   = {0};
        qr_safetensors  *files   = open_golden(names[i], &a);
        const qr_weights weights = {.architecture = &a, .files = files};
        if (qr_weights_check(&weights, &error) != QUIRE_OK) fail_msg("%s: %s", names[i], error.message);
        qr_safetensors_close(files);
    }
}

/* The same rows, whole or in pieces, from files in F32 (three shards) and in BF16. */
static void rows_read_in_pieces_are_those_read_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *model, *tensor;
        uint32_t    rows, columns;
    } cases[] = {{"llama3-gqa", "model.layers.1.mlp.up_proj.weight", 352, 128},
                 {"qwen3-qknorm", "model.layers.1.mlp.down_proj.weight", 80, 208}};
    for (size_t i = 0; i < 2; ++i) {
        qr_architecture  a;
        qr_safetensors  *files   = open_golden(cases[i].model, &a);
        const qr_weights weights = {.architecture = &a, .files = files};
        qr_matrix        matrix;
        const uint32_t   rows = cases[i].rows, columns = cases[i].columns;
        assert_int_equal(qr_weights_find(&weights, rows, columns, &matrix, NULL, "%s", cases[i].tensor), QUIRE_OK);
        const size_t elements = (size_t)rows * columns;
        float       *whole = malloc(elements * sizeof *whole), *pieces = malloc(elements * sizeof *pieces);
        assert_int_equal(qr_matrix_read(&matrix, 0, rows, whole, NULL), QUIRE_OK);
        const qr_weight_source source = qr_matrix_source(&matrix);
        assert_int_equal(source.columns, rows);
        for (uint32_t row = 0; row < rows;) {
            const uint32_t count = row % 7 + 1 < rows - row ? row % 7 + 1 : rows - row;
            assert_int_equal(source.read(source.context, row, count, pieces + (size_t)row * columns, NULL), QUIRE_OK);
            row += count;
        }
        assert_memory_equal(whole, pieces, elements * sizeof *whole);
        double squares = 0;
        for (size_t e = 0; e < elements; ++e) squares += (double)whole[e] * whole[e];
        assert_true(squares > 1 && squares < 1e6);
        free(whole);
        free(pieces);
        qr_safetensors_close(files);
    }
}

static void a_wrong_shape_or_name_is_an_error_with_both_shapes(void **state)
{
    (void)state;
    qr_architecture  a;
    quire_error      error   = {0};
    qr_safetensors  *files   = open_golden("llama3-gqa", &a);
    const qr_weights weights = {.architecture = &a, .files = files};
    qr_matrix        matrix;
    float            vector[128];
    assert_int_equal(qr_weights_find(&weights, 351, 128, &matrix, &error, "model.layers.%u.mlp.up_proj.weight", 0),
                     QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "model.layers.0.mlp.up_proj.weight"));
    assert_non_null(strstr(error.message, "[352, 128]"));
    assert_non_null(strstr(error.message, "[351, 128]"));
    assert_int_equal(qr_weights_find(&weights, 352, 128, &matrix, &error, "model.layers.%u.mlp.up_proj.weight", 3),
                     QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "model.layers.3.mlp.up_proj.weight"));
    assert_non_null(strstr(error.message, "missing"));
    assert_int_equal(qr_weights_vector(&weights, 127, vector, &error, "model.norm.weight"), QUIRE_ERR_FORMAT);
    assert_int_equal(qr_weights_vector(&weights, 128, vector, &error, "model.norm.weight"), QUIRE_OK);
    qr_safetensors_close(files);
}

/* What config.json says is changed, one number at a time; the files must contradict it by tensor. */
static void every_disagreement_names_a_tensor(void **state)
{
    (void)state;
    qr_architecture a;
    qr_safetensors *files = open_golden("llama3-gqa", &a);
    for (int change = 0; change < 10; ++change) {
        qr_architecture  changed = a;
        quire_error      error   = {0};
        const qr_weights weights = {.architecture = &changed, .files = files};
        switch (change) {
        case 0: changed.vocab_size += 1; break;
        case 1: changed.hidden_size -= 2; break;
        case 2: changed.intermediate_size += 64; break;
        case 3: changed.layers += 1; break;
        case 4: changed.layers -= 1; break; /* tensors that no layer uses */
        case 5: changed.heads = 4; break;
        case 6: changed.kv_heads = 4; break;
        case 7: changed.qkv_bias = true; break;
        case 8: changed.qk_norm = true; break;
        default: changed.output_name = changed.embedding_name; break; /* lm_head.weight left over */
        }
        assert_int_equal(qr_weights_check(&weights, &error), QUIRE_ERR_FORMAT);
        if (strstr(error.message, "tensor \"") == NULL) fail_msg("change %d: %s", change, error.message);
    }
    qr_safetensors_close(files);
}

/* ---- synthetic
 * ------------------------------------------------------------------------------------------------------- */

static qr_weights synthetic(const char *preset, uint64_t seed, qr_architecture *a)
{
    assert_int_equal(qr_architecture_preset(preset, NULL, 0, a, NULL), QUIRE_OK);
    return (qr_weights){.architecture = a, .seed = seed};
}

static void generated_rows_do_not_depend_on_how_they_are_read(void **state)
{
    (void)state;
    static const quire_shape_override odd[] = {{"hidden_size", 63}};
    qr_architecture                   a;
    assert_int_equal(qr_architecture_preset("tiny", odd, 1, &a, NULL), QUIRE_OK);
    const qr_weights weights = {.architecture = &a, .seed = 5};
    qr_matrix        matrix;
    float            whole[176 * 63], row[63];
    assert_int_equal(qr_weights_find(&weights, 176, 63, &matrix, NULL, "model.layers.%u.mlp.up_proj.weight", 1),
                     QUIRE_OK);
    assert_int_equal(qr_matrix_read(&matrix, 0, 176, whole, NULL), QUIRE_OK);
    for (uint32_t i = 0; i < 176; ++i) {
        assert_int_equal(qr_matrix_read(&matrix, i, 1, row, NULL), QUIRE_OK);
        assert_memory_equal(row, whole + i * 63, sizeof row);
    }
}

static void generated_tensors_differ_by_name_and_seed_and_repeat(void **state)
{
    (void)state;
    qr_architecture  a;
    const qr_weights one = synthetic("tiny", 1, &a), two = {.architecture = &a, .seed = 2};
    float            x[4][64];
    qr_matrix        m;
    assert_int_equal(qr_weights_find(&one, 64, 64, &m, NULL, "model.layers.%u.self_attn.q_proj.weight", 0), QUIRE_OK);
    assert_int_equal(qr_matrix_read(&m, 3, 1, x[0], NULL), QUIRE_OK);
    assert_int_equal(qr_matrix_read(&m, 3, 1, x[1], NULL), QUIRE_OK);
    assert_memory_equal(x[0], x[1], sizeof x[0]);
    assert_int_equal(qr_weights_find(&one, 64, 64, &m, NULL, "model.layers.%u.self_attn.q_proj.weight", 1), QUIRE_OK);
    assert_int_equal(qr_matrix_read(&m, 3, 1, x[2], NULL), QUIRE_OK);
    assert_int_equal(qr_weights_find(&two, 64, 64, &m, NULL, "model.layers.%u.self_attn.q_proj.weight", 0), QUIRE_OK);
    assert_int_equal(qr_matrix_read(&m, 3, 1, x[3], NULL), QUIRE_OK);
    assert_memory_not_equal(x[0], x[2], sizeof x[0]);
    assert_memory_not_equal(x[0], x[3], sizeof x[0]);
}

static void generated_weights_have_the_width_that_keeps_activations_sane(void **state)
{
    (void)state;
    qr_architecture  a;
    const qr_weights weights = synthetic("tinyllama-1.1b", 1, &a);
    qr_matrix        m;
    enum { ROWS = 64, COLUMNS = 2048 };
    float *x = malloc(sizeof(float) * ROWS * COLUMNS);
    assert_int_equal(qr_weights_find(&weights, 5632, COLUMNS, &m, NULL, "model.layers.%u.mlp.up_proj.weight", 21),
                     QUIRE_OK);
    assert_int_equal(qr_matrix_read(&m, 5632 - ROWS, ROWS, x, NULL), QUIRE_OK);
    double sum = 0, squares = 0, neighbours = 0;
    for (int i = 0; i < ROWS * COLUMNS; ++i) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        if (i > 0) neighbours += (double)x[i] * x[i - 1];
    }
    const double n = ROWS * COLUMNS;
    assert_true(fabs(sum / n) < 5 / sqrt(n * COLUMNS));
    assert_true(fabs(squares / n * COLUMNS - 1) < 0.02);
    assert_true(fabs(neighbours / squares) < 5 / sqrt(n));
    free(x);
    float norm[2048];
    assert_int_equal(qr_weights_vector(&weights, 2048, norm, NULL, "model.norm.weight"), QUIRE_OK);
    assert_true(norm[0] == 1 && norm[2047] == 1);
}

static void a_synthetic_model_has_the_tensors_of_its_architecture_only(void **state)
{
    (void)state;
    qr_architecture  a;
    const qr_weights tied = synthetic("qwen3-0.6b", 1, &a);
    assert_true(qr_weights_has(&tied, "model.layers.27.self_attn.q_norm.weight"));
    assert_false(qr_weights_has(&tied, "model.layers.28.self_attn.q_norm.weight"));
    assert_false(qr_weights_has(&tied, "lm_head.weight"));
    assert_false(qr_weights_has(&tied, "model.layers.0.self_attn.q_proj.bias"));
    qr_matrix   m;
    quire_error error = {0};
    assert_int_equal(qr_weights_find(&tied, 1, 1, &m, &error, "model.layers.%u.mlp.up_proj.weight", 0),
                     QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "mlp.up_proj"));
    const qr_weights t5 = synthetic("flan-t5-xl", 1, &a);
    assert_true(qr_weights_has(&t5, "decoder.block.23.layer.2.DenseReluDense.wi_1.weight"));
    assert_true(qr_weights_has(&t5, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"));
    assert_true(qr_weights_has(&t5, "lm_head.weight"));
    const qr_weights small = synthetic("t5-small", 1, &a);
    assert_true(qr_weights_has(&small, "decoder.block.5.layer.1.EncDecAttention.o.weight"));
    assert_true(qr_weights_has(&small, "decoder.block.5.layer.2.DenseReluDense.wi.weight"));
    assert_false(qr_weights_has(&small, "lm_head.weight"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files_agree_with_their_configurations),
        cmocka_unit_test(rows_read_in_pieces_are_those_read_at_once),
        cmocka_unit_test(a_wrong_shape_or_name_is_an_error_with_both_shapes),
        cmocka_unit_test(every_disagreement_names_a_tensor),
        cmocka_unit_test(generated_rows_do_not_depend_on_how_they_are_read),
        cmocka_unit_test(generated_tensors_differ_by_name_and_seed_and_repeat),
        cmocka_unit_test(generated_weights_have_the_width_that_keeps_activations_sane),
        cmocka_unit_test(a_synthetic_model_has_the_tensors_of_its_architecture_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
