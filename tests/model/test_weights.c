/* Tensors by name: golden files and generated numbers. */
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

#include "model/config_json.h"
#include "model/gguf.h"
#include "model/safetensors.h"
#include "model/weights.h"

#define GOLDENS QUIRE_SOURCE_DIR "/tests/models/"

static qr_tensors *open_golden(const char *name, qr_architecture *a)
{
    char        path[512];
    quire_error error = {0};
    qr_tensors *files;
    snprintf(path, sizeof path, GOLDENS "%s/config.json", name);
    if (qr_architecture_read(path, a, &error) != QUIRE_OK) fail_msg("%s", error.message);
    snprintf(path, sizeof path, GOLDENS "%s", name);
    if (qr_safetensors_open(path, NULL, NULL, &files, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return files;
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
    for (size_t i = 0; i < 2; i++) {
        qr_architecture  a;
        qr_tensors      *files   = open_golden(cases[i].model, &a);
        const qr_weights weights = {.architecture = &a, .files = files};
        qr_matrix        matrix;
        const uint32_t   rows = cases[i].rows, columns = cases[i].columns;
        assert_int_equal(
            qr_weights_find(&weights,
                            &(qr_tensor_spec){.name = cases[i].tensor, .rank = 2, .rows = rows, .columns = columns},
                            &matrix, NULL),
            QUIRE_OK);
        const size_t elements = (size_t)rows * columns;
        float       *whole = malloc(elements * sizeof *whole), *pieces = malloc(elements * sizeof *pieces);
        assert_int_equal(qr_matrix_read(&matrix, 0, rows, whole, NULL), QUIRE_OK);
        const qr_weight_source source = qr_matrix_source(&matrix, &(qr_code_format){0});
        assert_int_equal(source.columns, rows);
        for (uint32_t row = 0; row < rows;) {
            const uint32_t count = row % 7 + 1 < rows - row ? row % 7 + 1 : rows - row;
            assert_int_equal(source.read(source.context, row, count, pieces + (size_t)row * columns, NULL), QUIRE_OK);
            row += count;
        }
        assert_memory_equal(whole, pieces, elements * sizeof *whole);
        double squares = 0;
        for (size_t e = 0; e < elements; e++) squares += (double)whole[e] * whole[e];
        assert_true(squares > 1 && squares < 1e6);
        free(whole);
        free(pieces);
        qr_tensors_close(files);
    }
}

/* Of gpt-oss: the up half of expert 2, whose rows alternate with the gate's and are stored as columns. */
static void a_matrix_of_a_stack_is_read_as_rows(void **state)
{
    (void)state;
    enum { HIDDEN = 32, INNER = 24, EXPERT = 2 };
    const char          *name = "model.layers.0.mlp.experts.gate_up_proj";
    qr_architecture      a;
    qr_tensors          *files   = open_golden("gpt-oss", &a);
    const qr_weights     weights = {.architecture = &a, .files = files};
    const qr_tensor_spec spec    = {
           .name = name, .rank = 3, .stack = 4, .rows = 2 * INNER, .columns = HIDDEN, .form = QR_MATRIX_COLUMNS};
    qr_matrix stack;
    float     stored[HIDDEN][2 * INNER], whole[INNER][HIDDEN], piece[5][HIDDEN];
    assert_int_equal(qr_weights_find(&weights, &spec, &stack, NULL), QUIRE_OK);
    const qr_matrix up = qr_stack_part(&stack, EXPERT, 2, 1);
    assert_int_equal(up.rows, INNER);
    assert_int_equal(
        qr_tensors_read(files, stack.tensor, EXPERT * HIDDEN * 2 * INNER, HIDDEN * 2 * INNER, stored[0], NULL),
        QUIRE_OK);
    assert_int_equal(qr_matrix_read(&up, 0, INNER, whole[0], NULL), QUIRE_OK);
    for (uint32_t r = 0; r < INNER; r++)
        for (uint32_t k = 0; k < HIDDEN; k++) assert_true(whole[r][k] == stored[k][2 * r + 1]);
    assert_int_equal(qr_matrix_read(&up, 7, 5, piece[0], NULL), QUIRE_OK);
    assert_memory_equal(piece, whole[7], sizeof piece);
    qr_tensors_close(files);
}

/* Bytes, in whole blocks. */
static void mxfp4_is_two_tensors_of_bytes(void **state)
{
    (void)state;
    qr_architecture      a;
    qr_tensors          *files     = open_golden("gpt-oss-mxfp4", &a);
    const qr_weights     weights   = {.architecture = &a, .files = files};
    const qr_tensor_spec codes     = {.name    = "model.layers.0.mlp.experts.down_proj_blocks",
                                      .rank    = 3,
                                      .stack   = 4,
                                      .rows    = 32,
                                      .columns = 64,
                                      .form    = QR_MATRIX_MXFP4};
    qr_tensor_spec       exponents = codes, wrong = codes;
    qr_matrix            matrix;
    uint8_t              byte, exponent;
    float                row[64];
    exponents.name    = "model.layers.0.mlp.experts.down_proj_scales";
    exponents.form    = QR_MATRIX_EXPONENTS;
    wrong.name        = exponents.name;
    quire_error error = {0};
    assert_int_equal(qr_weights_find(&weights, &wrong, &matrix, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "[4, 32, 2, 16]"));
    assert_int_equal(qr_weights_find(&weights, &exponents, &matrix, NULL), QUIRE_OK);
    const qr_tensor *beside = matrix.tensor;
    assert_int_equal(qr_weights_find(&weights, &codes, &matrix, NULL), QUIRE_OK);
    matrix.exponents     = beside;
    const qr_matrix down = qr_stack_part(&matrix, 3, 1, 0);
    assert_int_equal(qr_matrix_read(&down, 5, 1, row, NULL), QUIRE_OK);
    const uint64_t at = 3 * 32 + 5; /* the row among all */
    assert_int_equal(qr_tensors_read_bytes(files, matrix.tensor, at * 32 + 16 + 2, 1, &byte, NULL), QUIRE_OK);
    assert_int_equal(qr_tensors_read_bytes(files, beside, at * 2 + 1, 1, &exponent, NULL), QUIRE_OK);
    static const float values[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const float        scale    = (float)exp2(exponent - 127.0);
    assert_true(row[36] == values[byte & 7] * scale * ((byte & 8) != 0 ? -1.0f : 1.0f));
    assert_true(row[37] == values[byte >> 4 & 7] * scale * ((byte & 128) != 0 ? -1.0f : 1.0f));
    qr_tensors_close(files);
}

static void a_wrong_shape_or_name_is_an_error_with_both_shapes(void **state)
{
    (void)state;
    static const struct {
        qr_tensor_spec spec;
        const char    *words[3];
    } cases[] = {
        {{.name = "model.layers.0.mlp.up_proj.weight", .rank = 2, .rows = 351, .columns = 128},
         {"layers.0.mlp.up_proj", "[352, 128]", "[351, 128]"}},
        {{.name = "model.layers.3.mlp.up_proj.weight", .rank = 2, .rows = 352, .columns = 128},
         {"layers.3.mlp.up_proj", "missing", ""}},
        {{.name = "model.norm.weight", .rank = 1, .rows = 1, .columns = 127}, {"model.norm.weight", "[128]", "[127]"}},
        {{.name = "model.norm.weight", .rank = 2, .rows = 1, .columns = 128},
         {"model.norm.weight", "[128]", "[1, 128]"}},
    };
    qr_architecture  a;
    qr_tensors      *files   = open_golden("llama3-gqa", &a);
    const qr_weights weights = {.architecture = &a, .files = files};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_matrix   matrix;
        quire_error error = {0};
        assert_int_equal(qr_weights_find(&weights, &cases[i].spec, &matrix, &error), QUIRE_ERR_FORMAT);
        for (size_t w = 0; w < 3; w++)
            if (strstr(error.message, cases[i].words[w]) == NULL)
                fail_msg("case %zu: \"%s\" is not in: %s", i, cases[i].words[w], error.message);
    }
    qr_tensors_close(files);
}

/* ---- synthetic ---- */

static qr_matrix generated(uint64_t seed, const char *name, uint32_t rows, uint32_t columns, float scale)
{
    static qr_architecture plain;
    static qr_weights      weights;
    qr_matrix              matrix;
    const qr_tensor_spec   spec = {.name = name, .rank = 2, .rows = rows, .columns = columns, .scale = scale};
    weights                     = (qr_weights){.architecture = &plain, .seed = seed};
    assert_int_equal(qr_weights_find(&weights, &spec, &matrix, NULL), QUIRE_OK);
    return matrix;
}

static void generated_rows_do_not_depend_on_how_they_are_read(void **state)
{
    (void)state;
    enum { ROWS = 176, COLUMNS = 63 }; /* an odd number: rows begin in the middle of a pair */
    const qr_matrix matrix = generated(5, "up", ROWS, COLUMNS, 1);
    float           whole[ROWS * COLUMNS], row[COLUMNS];
    assert_int_equal(qr_matrix_read(&matrix, 0, ROWS, whole, NULL), QUIRE_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_int_equal(qr_matrix_read(&matrix, i, 1, row, NULL), QUIRE_OK);
        assert_memory_equal(row, whole + i * COLUMNS, sizeof row);
    }
}

static void generated_tensors_differ_by_name_and_seed_and_repeat(void **state)
{
    (void)state;
    static const struct {
        uint64_t    seed;
        const char *name;
    } of[] = {{1, "q"}, {1, "q"}, {1, "k"}, {2, "q"}};
    float x[4][64];
    for (int i = 0; i < 4; i++) {
        const qr_matrix m = generated(of[i].seed, of[i].name, 64, 64, 1);
        assert_int_equal(qr_matrix_read(&m, 3, 1, x[i], NULL), QUIRE_OK);
    }
    assert_memory_equal(x[0], x[1], sizeof x[0]);
    assert_memory_not_equal(x[0], x[2], sizeof x[0]);
    assert_memory_not_equal(x[0], x[3], sizeof x[0]);
}

static void generated_numbers_have_the_asked_deviation_or_are_ones(void **state)
{
    (void)state;
    enum { ROWS = 64, COLUMNS = 2048 };
    const qr_matrix m = generated(1, "up", 5632, COLUMNS, 0.25f), ones = generated(1, "norm", 1, COLUMNS, 0);
    float          *x = malloc(sizeof(float) * ROWS * COLUMNS);
    assert_int_equal(qr_matrix_read(&m, 5632 - ROWS, ROWS, x, NULL), QUIRE_OK);
    double sum = 0, squares = 0, neighbours = 0;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        if (i > 0) neighbours += (double)x[i] * x[i - 1];
    }
    const double n = ROWS * COLUMNS;
    assert_true(fabs(sum / n) < 5 * 0.25 / sqrt(n));
    assert_true(fabs(squares / n * 16 - 1) < 0.02);
    assert_true(fabs(neighbours / squares) < 5 / sqrt(n));
    assert_int_equal(qr_matrix_read(&ones, 0, 1, x, NULL), QUIRE_OK);
    assert_true(x[0] == 1 && x[COLUMNS - 1] == 1);
    free(x);
}

static void codes_are_read_where_a_projection_has_the_format_of_the_file(void **state)
{
    (void)state;
    static const qr_code_format stored = {.bits = 4, .group = 32, .has_minimum = true},
                                other  = {.bits = 4, .group = 32};
    enum { ROWS = 3, COLUMNS = 256, GROUPS = COLUMNS / 32 };
    static float   values[ROWS * COLUMNS], scales[ROWS * GROUPS], minima[ROWS * GROUPS];
    static uint8_t codes[ROWS * COLUMNS];
    qr_tensors    *files;
    json_t        *metadata;
    quire_error    error = {0};
    qr_matrix      matrix;
    assert_int_equal(
        qr_gguf_open(QUIRE_SOURCE_DIR "/tests/fuzz/corpus/gguf/blocks.gguf", NULL, &files, &metadata, NULL), QUIRE_OK);
    json_decref(metadata);
    const qr_weights weights = {.files = files, .check = true};
    assert_int_equal(qr_weights_find(&weights,
                                     &(qr_tensor_spec){.name = "Q4_1", .rank = 2, .rows = ROWS, .columns = COLUMNS},
                                     &matrix, &error),
                     QUIRE_OK);
    assert_null(qr_matrix_source(&matrix, &other).read_codes);
    assert_null(qr_matrix_source(&matrix, &(qr_code_format){0}).read_codes);
    const qr_weight_source source = qr_matrix_source(&matrix, &stored);
    assert_non_null(source.read_codes);
    assert_int_equal(source.read(source.context, 1, ROWS - 1, values, &error), QUIRE_OK);
    assert_int_equal(source.read_codes(source.context, 1, ROWS - 1, codes, scales, minima, &error), QUIRE_OK);
    for (uint32_t i = 0; i < (ROWS - 1) * COLUMNS; i++)
        assert_true(values[i] == scales[i / 32] * (float)codes[i] + minima[i / 32]);
    qr_tensors_close(files);
}

/* A Q4_0 block of the scale infinity. */
static void scales_that_are_not_finite_are_refused_with_their_tensor(void **state)
{
    (void)state;
    static const qr_code_format stored     = {.bits = 4, .group = 32};
    unsigned char               bytes[128] = "GGUF\3";
    char                        path[64];
    bytes[8] = 1;                                           /* a tensor */
    memcpy(bytes + 24, "\1\0\0\0\0\0\0\0w\2\0\0\0\40", 14); /* its name, two dimensions, 32 and */
    bytes[45] = 1;                                          /* 1, */
    bytes[53] = 2;                                          /* the type Q4_0, and offset 0 */
    memcpy(bytes + 96, "\0\x7c", 2);
    strcpy(path, "/tmp/quire-test-XXXXXX");
    const int file = mkstemp(path);
    assert_true(file >= 0 && write(file, bytes, sizeof bytes) == sizeof bytes && close(file) == 0);
    qr_tensors *files;
    json_t     *metadata;
    quire_error error = {0};
    if (qr_gguf_open(path, NULL, &files, &metadata, &error) != QUIRE_OK) fail_msg("%s", error.message);
    json_decref(metadata);
    qr_weights weights = {.files = files, .check = true};
    qr_matrix  matrix;
    assert_int_equal(
        qr_weights_find(&weights, &(qr_tensor_spec){.name = "w", .rank = 2, .rows = 1, .columns = 32}, &matrix, &error),
        QUIRE_OK);
    const qr_weight_source source = qr_matrix_source(&matrix, &stored);
    uint8_t                codes[32];
    float                  scale;
    assert_int_equal(source.read_codes(source.context, 0, 1, codes, &scale, NULL, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "tensor \"w\", rows 0 to 0: a scale or minimum is not finite"));
    weights.check = false;
    assert_int_equal(source.read_codes(source.context, 0, 1, codes, &scale, NULL, &error), QUIRE_OK);
    qr_tensors_close(files);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_read_in_pieces_are_those_read_at_once),
        cmocka_unit_test(a_matrix_of_a_stack_is_read_as_rows),
        cmocka_unit_test(mxfp4_is_two_tensors_of_bytes),
        cmocka_unit_test(a_wrong_shape_or_name_is_an_error_with_both_shapes),
        cmocka_unit_test(generated_rows_do_not_depend_on_how_they_are_read),
        cmocka_unit_test(generated_tensors_differ_by_name_and_seed_and_repeat),
        cmocka_unit_test(generated_numbers_have_the_asked_deviation_or_are_ones),
        cmocka_unit_test(codes_are_read_where_a_projection_has_the_format_of_the_file),
        cmocka_unit_test(scales_that_are_not_finite_are_refused_with_their_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
