/* The description of a model, as it counts, checks golden files, and names tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "model/config_json.h"
#include "model/declare.h"
#include "model/presets.h"
#include "model/safetensors.h"

/* ---- names ---- */

typedef struct search {
    const char    *name;
    qr_tensor_spec found;
} search;

static quire_status look(void *context, const qr_tensor_spec *spec, qr_matrix *matrix_out, quire_error *error)
{
    (void)error;
    search *s   = context;
    *matrix_out = (qr_matrix){0};
    if (strcmp(spec->name, s->name) == 0) s->found = *spec;
    return QUIRE_OK;
}

/* Of rank 0: the preset has no such tensor. */
static qr_tensor_spec tensor_of(const char *preset, const char *name)
{
    qr_architecture a;
    qr_parameters   parameters;
    qr_arena        arena = {0};
    search          s     = {.name = name};
    assert_int_equal(qr_architecture_preset(preset, NULL, 0, &a, NULL), QUIRE_OK);
    qr_declare(&(qr_declaration){
        .architecture = &a, .parameters = &parameters, .arena = &arena, .visit = look, .context = &s});
    return s.found;
}

static void a_model_has_the_tensors_of_its_architecture_only(void **state)
{
    (void)state;
    static const struct {
        const char *preset, *name;
        uint32_t    rank, rows, columns;
    } cases[] = {
        {"qwen3-0.6b", "model.layers.27.self_attn.q_norm.weight", 1, 1, 128},
        {"qwen3-0.6b", "model.layers.28.self_attn.q_norm.weight", 0, 0, 0},
        {"qwen3-0.6b", "model.layers.0.self_attn.q_proj.bias", 0, 0, 0},
        {"qwen3-0.6b", "lm_head.weight", 0, 0, 0},
        {"qwen3-0.6b", "model.embed_tokens.weight", 2, 151936, 1024},
        {"tinyllama-1.1b", "lm_head.weight", 2, 32000, 2048},
        {"tinyllama-1.1b", "model.layers.21.mlp.down_proj.weight", 2, 2048, 5632},
        {"flan-t5-xl", "decoder.block.23.layer.2.DenseReluDense.wi_1.weight", 2, 5120, 2048},
        {"flan-t5-xl", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 2, 32, 32},
        {"flan-t5-xl", "lm_head.weight", 2, 32128, 2048},
        {"t5-small", "decoder.block.5.layer.1.EncDecAttention.o.weight", 2, 512, 512},
        {"t5-small", "decoder.block.5.layer.2.DenseReluDense.wi.weight", 2, 2048, 512},
        {"t5-small", "encoder.block.5.layer.2.layer_norm.weight", 0, 0, 0},
        {"t5-small", "lm_head.weight", 0, 0, 0},
        {"bart-large", "model.decoder.embed_positions.weight", 2, 1026, 1024},
        {"bart-large", "model.encoder.layers.11.self_attn.k_proj.bias", 1, 1, 1024},
        {"bart-large", "model.encoder.layers.0.encoder_attn.k_proj.weight", 0, 0, 0},
        {"bart-large", "model.decoder.layer_norm.weight", 0, 0, 0},
        {"bart-large", "final_logits_bias", 2, 1, 50265},
        {"nllb-600m", "model.decoder.layer_norm.bias", 1, 1, 1024},
        {"nllb-600m", "final_logits_bias", 0, 0, 0},
        {"opus-mt", "model.decoder.embed_positions.weight", 0, 0, 0},
        {"whisper-base", "model.encoder.conv1.weight", 3, 512, 240},
        {"whisper-base", "model.encoder.layers.0.self_attn.k_proj.bias", 0, 0, 0},
        {"whisper-base", "model.encoder.layers.0.self_attn.v_proj.bias", 1, 1, 512},
        {"whisper-base", "model.decoder.embed_positions.weight", 2, 448, 512},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const qr_tensor_spec spec = tensor_of(cases[i].preset, cases[i].name);
        if (spec.rank != cases[i].rank || spec.rows != cases[i].rows || spec.columns != cases[i].columns)
            fail_msg("%s, %s: rank %u, [%u, %u]", cases[i].preset, cases[i].name, spec.rank, spec.rows, spec.columns);
    }
}

/* ---- files ---- */

static qr_tensors *open_golden(const char *name, qr_architecture *a)
{
    char        path[512];
    quire_error error = {0};
    qr_tensors *files;
    snprintf(path, sizeof path, QUIRE_SOURCE_DIR "/tests/models/%s/config.json", name);
    if (qr_architecture_read(path, a, &error) != QUIRE_OK) fail_msg("%s", error.message);
    *strrchr(path, '/') = '\0';
    if (qr_safetensors_open(path, NULL, NULL, &files, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return files;
}

static void golden_files_agree_with_their_configurations(void **state)
{
    (void)state;
    static const char *const names[] = {"llama3-gqa", "mistral-swa", "qwen2-bias",    "qwen3-qknorm", "t5-relu",
                                        "t5-gated",   "umt5",        "bart",          "mbart",        "m2m100",
                                        "marian",     "phi3",        "gemma2",        "gemma3",       "mixtral",
                                        "qwen3-moe",  "gpt-oss",     "gpt-oss-mxfp4", "olmo2",        "whisper"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        qr_architecture  a;
        quire_error      error   = {0};
        qr_tensors      *files   = open_golden(names[i], &a);
        const qr_weights weights = {.architecture = &a, .files = files};
        if (qr_declare_check(&weights, NULL, &error) != QUIRE_OK) fail_msg("%s: %s", names[i], error.message);
        qr_tensors_close(files);
    }
}

/* What config.json says is changed, one number at a time; the files must contradict it by tensor. */
static void every_disagreement_names_a_tensor(void **state)
{
    (void)state;
    qr_architecture a;
    qr_tensors     *files = open_golden("llama3-gqa", &a);
    for (int change = 0; change < 10; change++) {
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
        case 8: changed.qk_norm = QR_QK_NORM_HEADS; break;
        default: changed.head_name = changed.embedding_name; break; /* lm_head.weight left over */
        }
        assert_int_equal(qr_declare_check(&weights, NULL, &error), QUIRE_ERR_FORMAT);
        if (strstr(error.message, "tensor \"") == NULL) fail_msg("change %d: %s", change, error.message);
    }
    qr_tensors_close(files);
}

/* ---- bytes ---- */

/* 64 columns and inputs at a time: a vocabulary of 65 packs like one of 128. */
static void counted_bytes_are_those_of_the_packed_projections(void **state)
{
    (void)state;
    static const quire_shape_override odd = {"vocab_size", 65}, even = {"vocab_size", 128};
    qr_architecture                   a[2];
    uint64_t                          parameters[2], bytes[2];
    assert_int_equal(qr_architecture_preset("tiny", &odd, 1, &a[0], NULL), QUIRE_OK);
    assert_int_equal(qr_architecture_preset("tiny", &even, 1, &a[1], NULL), QUIRE_OK);
    for (int i = 0; i < 2; i++)
        qr_declare_count(&(qr_weights){.architecture = &a[i]}, QR_F32, &(qr_code_format){0}, &parameters[i], &bytes[i]);
    const uint64_t rows = 128 - 65;
    assert_int_equal(parameters[1] - parameters[0], 2 * rows * 64);
    assert_int_equal(bytes[1] - bytes[0], rows * 64 * sizeof(float)); /* of the embedding; the output is padded */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_has_the_tensors_of_its_architecture_only),
        cmocka_unit_test(golden_files_agree_with_their_configurations),
        cmocka_unit_test(every_disagreement_names_a_tensor),
        cmocka_unit_test(counted_bytes_are_those_of_the_packed_projections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
