/* config.json at its boundaries: each case changes keys of a valid file and names the status and the words that the
 * message must hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config_json.h"

static const char LLAMA[] =
    "{\"model_type\":\"llama\",\"vocab_size\":320,\"hidden_size\":128,\"intermediate_size\":352,"
    "\"num_hidden_layers\":3,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"head_dim\":16,"
    "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":2048,\"rope_theta\":10000.0,\"eos_token_id\":2}";
static const char T5[] = "{\"model_type\":\"t5\",\"vocab_size\":256,\"d_model\":64,\"d_kv\":16,\"d_ff\":128,"
                         "\"num_layers\":2,\"num_decoder_layers\":3,\"num_heads\":4,\"decoder_start_token_id\":0,"
                         "\"eos_token_id\":1,\"feed_forward_proj\":\"relu\",\"tie_word_embeddings\":true}";

static const char BART[] =
    "{\"model_type\":\"bart\",\"vocab_size\":300,\"d_model\":64,\"encoder_layers\":2,\"decoder_layers\":3,"
    "\"encoder_attention_heads\":4,\"decoder_attention_heads\":4,\"encoder_ffn_dim\":128,\"decoder_ffn_dim\":128,"
    "\"max_position_embeddings\":512,\"pad_token_id\":1,\"eos_token_id\":2}";

typedef struct one_case {
    const char  *changes; /* a JSON object: its keys replace those of the base, "remove" is an array of keys */
    quire_status status;
    const char  *words[3]; /* in the message */
} one_case;

static char *changed(const char *base, const char *changes)
{
    json_t *root  = json_loads(base, 0, NULL);
    json_t *delta = json_loads(changes, JSON_ALLOW_NUL, NULL);
    json_t *gone  = json_object_get(delta, "remove");
    assert_non_null(root);
    assert_non_null(delta);
    for (size_t i = 0; i < json_array_size(gone); i++)
        assert_int_equal(json_object_del(root, json_string_value(json_array_get(gone, i))), 0);
    json_object_del(delta, "remove");
    json_object_update(root, delta);
    char *text = json_dumps(root, 0);
    json_decref(root);
    json_decref(delta);
    return text;
}

static quire_status parse(const char *base, const char *changes, qr_architecture *a, quire_error *error)
{
    char              *text   = changed(base, changes);
    const quire_status status = qr_architecture_parse(text, strlen(text), "config.json", NULL, 0, a, error);
    free(text);
    return status;
}

static void check(const char *base, const one_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        qr_architecture    a;
        quire_error        error  = {0};
        const quire_status status = parse(base, cases[i].changes, &a, &error);
        if (status != cases[i].status) fail_msg("%s: %d, %s", cases[i].changes, status, error.message);
        for (size_t w = 0; w < 3 && cases[i].words[w] != NULL; w++)
            if (strstr(error.message, cases[i].words[w]) == NULL)
                fail_msg("%s: \"%s\" is not in: %s", cases[i].changes, cases[i].words[w], error.message);
        if (status != QUIRE_OK) assert_int_equal(error.status, status);
    }
}
#define CHECK(base, cases) check((base), (cases), sizeof(cases) / sizeof *(cases))
#define FORMAT QUIRE_ERR_FORMAT
#define UNSUPPORTED QUIRE_ERR_UNSUPPORTED

/* ---- values ---- */

static const struct {
    const char *key;
    long long   high;
} sizes[] = {{"vocab_size", 1 << 24},
             {"hidden_size", 1 << 20},
             {"intermediate_size", 1 << 20},
             {"num_hidden_layers", 4096},
             {"num_attention_heads", 4096},
             {"num_key_value_heads", 4096},
             {"max_position_embeddings", 1 << 24},
             {"head_dim", 1024}};

/* Values by JSON text; each must be refused with the key in the message. */
static void every_size_refuses_what_is_no_positive_integer(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "0", "-1", "1.0", "1e3", "\"8\"", "true", "[8]", "{}", "-9223372036854775808", "9223372036854775807"};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t b = 0; b <= sizeof bad / sizeof *bad; b++) {
            char above[32], changes[128];
            snprintf(above, sizeof above, "%lld", sizes[k].high + 1);
            const char *value = b < sizeof bad / sizeof *bad ? bad[b] : above;
            snprintf(changes, sizeof changes, "{\"%s\": %s}", sizes[k].key, value);
            const one_case one = {changes, FORMAT, {sizes[k].key}};
            check(LLAMA, &one, 1);
        }
}

static void every_required_key_is_missed_by_name(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{\"remove\": [\"model_type\"]}", FORMAT, {"model_type", "missing"}},
        {"{\"remove\": [\"vocab_size\"]}", FORMAT, {"vocab_size", "missing"}},
        {"{\"remove\": [\"hidden_size\"]}", FORMAT, {"hidden_size", "missing"}},
        {"{\"remove\": [\"intermediate_size\"]}", FORMAT, {"intermediate_size", "missing"}},
        {"{\"remove\": [\"num_hidden_layers\"]}", FORMAT, {"num_hidden_layers", "missing"}},
        {"{\"remove\": [\"num_attention_heads\"]}", FORMAT, {"num_attention_heads", "missing"}},
        {"{\"vocab_size\": null}", FORMAT, {"vocab_size", "missing"}},
    };
    CHECK(LLAMA, cases);
    static const one_case t5[] = {
        {"{\"remove\": [\"d_model\"]}", FORMAT, {"d_model", "missing"}},
        {"{\"remove\": [\"d_kv\"]}", FORMAT, {"d_kv", "missing"}},
        {"{\"remove\": [\"d_ff\"]}", FORMAT, {"d_ff", "missing"}},
        {"{\"remove\": [\"num_layers\"]}", FORMAT, {"num_layers", "missing"}},
        {"{\"remove\": [\"num_heads\"]}", FORMAT, {"num_heads", "missing"}},
    };
    CHECK(T5, t5);
}

static void contradictions_name_both_values(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{\"num_key_value_heads\": 3}", FORMAT, {"num_attention_heads: 8", "num_key_value_heads 3"}},
        {"{\"num_key_value_heads\": 16}", FORMAT, {"num_attention_heads: 8", "num_key_value_heads 16"}},
        {"{\"hidden_size\": 100, \"remove\": [\"head_dim\"]}", FORMAT, {"hidden_size: 100", "8"}},
        {"{\"head_dim\": 15}", UNSUPPORTED, {"head_dim", "15"}},
        {"{\"hidden_size\": 120, \"head_dim\": null}", UNSUPPORTED, {"head_dim", "15"}},
        {"{\"num_attention_heads\": 4096, \"num_key_value_heads\": 1, \"head_dim\": 1024}",
         UNSUPPORTED,
         {"4096", "1024"}},
        {"{\"hidden_size\": 120}", QUIRE_OK, {NULL}}, /* head_dim is given and need not be hidden / heads */
        {"{\"rms_norm_eps\": 0}", FORMAT, {"rms_norm_eps"}},
        {"{\"rms_norm_eps\": -1e-6}", FORMAT, {"rms_norm_eps"}},
        {"{\"rms_norm_eps\": \"1e-6\"}", FORMAT, {"rms_norm_eps", "a string"}},
        {"{\"rope_theta\": 0}", FORMAT, {"rope_theta"}},
        {"{\"rope_theta\": 1e13}", FORMAT, {"rope_theta"}},
        {"{\"rope_theta\": 500000}", QUIRE_OK, {NULL}},
        {"{\"attention_bias\": 1}", FORMAT, {"attention_bias", "true or false"}},
        {"{\"tie_word_embeddings\": \"no\"}", FORMAT, {"tie_word_embeddings"}},
        {"{\"model_type\": 7}", FORMAT, {"model_type", "a string"}},
    };
    CHECK(LLAMA, cases);
}

static void what_quire_lacks_is_refused_by_name(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{\"model_type\": \"gpt2\"}", UNSUPPORTED, {"model_type", "gpt2", "qwen3"}},
        {"{\"model_type\": \"Llama\"}", UNSUPPORTED, {"Llama"}},
        {"{\"model_type\": \"llama4_text_and_a_very_long_name_indeed\"}", UNSUPPORTED, {"llama4_text"}},
        {"{\"model_type\": \"\"}", UNSUPPORTED, {"model_type"}},
        {"{\"quantization_config\": {\"bits\": 3}}", UNSUPPORTED, {"3 bits", "4 and 8"}},
        {"{\"quantization_config\": {\"bits\": 4}}", QUIRE_OK, {NULL}},
        {"{\"quantization_config\": {\"bits\": 4, \"checkpoint_format\": \"marlin\"}}", UNSUPPORTED, {"marlin"}},
        {"{\"quantization_config\": {\"bits\": 4, \"dynamic\": {\"a\": {}}}}", UNSUPPORTED, {"dynamic"}},
        {"{\"quantization_config\": {\"quant_method\": \"awq\", \"version\": \"gemv\"}}", UNSUPPORTED, {"gemv"}},
        {"{\"quantization_config\": {\"quant_method\": \"fp8\"}}", UNSUPPORTED, {"\"fp8\"", "awq"}},
        {"{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\"}}",
         UNSUPPORTED,
         {"float-quantized"}},
        {"{\"quantization_config\": null}", QUIRE_OK, {NULL}},
        {"{\"num_experts\": 8}", UNSUPPORTED, {"num_experts", "experts"}},
        {"{\"num_local_experts\": 8}", UNSUPPORTED, {"num_local_experts"}},
        {"{\"num_experts\": 0}", QUIRE_OK, {NULL}},
        {"{\"hidden_act\": \"quick_gelu\"}", UNSUPPORTED, {"hidden_act", "quick_gelu", "gelu_pytorch_tanh"}},
        {"{\"mlp_bias\": true}", UNSUPPORTED, {"mlp_bias"}},
        {"{\"mlp_bias\": false}", QUIRE_OK, {NULL}},
        {"{\"partial_rotary_factor\": 0.5}", UNSUPPORTED, {"partial_rotary_factor"}},
        {"{\"model_type\": \"phi3\", \"partial_rotary_factor\": 0.5}", QUIRE_OK, {NULL}},
        {"{\"model_type\": \"phi3\", \"partial_rotary_factor\": 0.01}", UNSUPPORTED, {"partial_rotary_factor", "even"}},
        {"{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4}}",
         UNSUPPORTED,
         {"rope_scaling", "dynamic", "yarn"}},
        {"{\"rope_parameters\": {\"rope_type\": \"mrope\"}}", UNSUPPORTED, {"rope_parameters", "mrope"}},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}", UNSUPPORTED, {"layer type"}},
        {"{\"rope_parameters\": {\"rope_theta\": 10000.0}, \"rope_scaling\": {\"rope_type\": \"llama3\"}}",
         FORMAT,
         {"rope_scaling.factor", "missing"}},
        {"{\"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_scaling\": {\"type\": \"default\"}}",
         QUIRE_OK,
         {NULL}},
        {"{\"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_scaling\": null}", QUIRE_OK, {NULL}},
        {"{\"architectures\": [\"GPT2LMHeadModel\"]}", UNSUPPORTED, {"architectures", "GPT2LMHeadModel", "llama"}},
        {"{\"architectures\": [\"LlamaForSequenceClassification\"]}",
         UNSUPPORTED,
         {"LlamaForSequenceClassification", "\"llama\"", "LlamaForCausalLM"}},
        {"{\"architectures\": [\"LlamaForCausalLM\", \"Other\"]}", UNSUPPORTED, {"Other"}},
        {"{\"architectures\": \"LlamaForCausalLM\"}", FORMAT, {"architectures", "a string"}},
        {"{\"architectures\": [7]}", FORMAT, {"architectures[0]", "an integer"}},
        {"{\"architectures\": [\"LlamaForCausalLM\"]}", QUIRE_OK, {NULL}},
        {"{\"architectures\": [\"LLaMAForCausalLM\"]}", QUIRE_OK, {NULL}}, /* of the first conversions */
        {"{\"architectures\": null}", QUIRE_OK, {NULL}},
        {"{\"model_type\": \"mistral\", \"architectures\": [\"MistralForCausalLM\"]}", QUIRE_OK, {NULL}},
        {"{\"model_type\": \"qwen2\", \"architectures\": [\"Qwen2ForCausalLM\"]}", QUIRE_OK, {NULL}},
        {"{\"model_type\": \"qwen3\", \"architectures\": [\"Qwen2ForCausalLM\"]}", UNSUPPORTED, {"qwen3"}},
        {"{\"rope_scaling\": {\"factor\": 2}}", FORMAT, {"rope_type", "missing"}},
        {"{\"rope_scaling\": [2]}", FORMAT, {"rope_scaling", "an array"}},
        {"{\"rope_scaling\": {\"rope_type\": 3}}", FORMAT, {"rope_type", "string"}},
    };
    CHECK(LLAMA, cases);
}

/* ---- rope ---- */

#define LLAMA3                                                                                                         \
    "\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "                      \
    "\"original_max_position_embeddings\": 64"

static void both_forms_of_rope_settings_read_the_same(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "{\"rope_theta\": 5e5, \"rope_scaling\": {" LLAMA3 "}}",
        "{\"remove\": [\"rope_theta\"], \"rope_parameters\": {\"rope_theta\": 5e5, " LLAMA3 "}}",
        "{\"rope_theta\": 1e4, \"rope_parameters\": {\"rope_theta\": 500000, " LLAMA3 "}}",
    };
    for (size_t i = 0; i < 3; i++) {
        qr_architecture a;
        assert_int_equal(parse(LLAMA, forms[i], &a, NULL), QUIRE_OK);
        assert_true(a.rope.theta == 5e5 && a.rope.type == QR_ROPE_LLAMA3 && a.rope.factor == 8);
        assert_true(a.rope.low_freq_factor == 1 && a.rope.high_freq_factor == 4);
        assert_int_equal(a.rope.original_max_position_embeddings, 64);
    }
    qr_architecture plain;
    assert_int_equal(parse(LLAMA, "{\"rope_scaling\": {\"rope_type\": \"default\"}}", &plain, NULL), QUIRE_OK);
    assert_int_equal(plain.rope.type, QR_ROPE_DEFAULT);
    assert_true(plain.rope.theta == 10000);
    assert_int_equal(parse(LLAMA, "{\"remove\": [\"rope_theta\"]}", &plain, NULL), QUIRE_OK);
    assert_true(plain.rope.theta == 10000);
}

static void a_rope_scaling_that_is_not_empty_goes_before_rope_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double      factor, theta;
        const char *contradiction;
    } cases[] = {
        {"{\"rope_theta\": 7, \"rope_parameters\": {}, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", 2, 7,
         NULL},
        {"{\"rope_theta\": 7, \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4}, \"rope_scaling\": {}}",
         4, 7, NULL},
        {"{\"rope_parameters\": {\"rope_theta\": 7, \"rope_type\": \"linear\", \"factor\": 2},"
         "\"rope_scaling\": {\"rope_theta\": 7.0, \"type\": \"linear\", \"factor\": 2.0}}",
         2, 7, NULL},
        {"{\"rope_theta\": 7, \"rope_parameters\": {\"rope_theta\": 7, \"rope_type\": \"linear\", \"factor\": 4},"
         "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
         2, 7, "factor"},
        {"{\"rope_theta\": 7, \"rope_parameters\": {\"rope_theta\": 8, \"rope_type\": \"linear\", \"factor\": 2},"
         "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
         2, 7, "rope_theta"},
        {"{\"rope_theta\": 7, \"rope_parameters\": {\"rope_theta\": 7},"
         "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
         2, 7, "rope_type"},
        {"{\"rope_theta\": 7, \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2},"
         "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"original_max_position_embeddings\": 512}}",
         2, 7, "original_max_position_embeddings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(LLAMA, cases[i].text, &a, &error) != QUIRE_OK) fail_msg("%s: %s", cases[i].text, error.message);
        const char *wanted = cases[i].contradiction, *found = a.rope.contradiction;
        if (a.rope.factor != cases[i].factor || a.rope.theta != cases[i].theta ||
            strcmp(wanted ? wanted : "", found ? found : "") != 0)
            fail_msg("%s: %g, %g, %s", cases[i].text, a.rope.factor, a.rope.theta, found ? found : "none");
    }
}

static void llama3_scaling_needs_all_its_numbers(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\"}}", FORMAT, {"factor", "missing"}},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}", FORMAT, {"low_freq_factor", "missing"}},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1}}",
         FORMAT,
         {"high_freq_factor", "missing"}},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
         "\"high_freq_factor\": 4}}",
         FORMAT,
         {"original_max_position_embeddings", "missing"}},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}",
         FORMAT,
         {"high_freq_factor: 4", "low_freq_factor 4"}},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 0.5, \"low_freq_factor\": 1, "
         "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}",
         FORMAT,
         {"factor", "0.5"}},
    };
    CHECK(LLAMA, cases);
}

#define FACTORS "\"short_factor\": [1, 1, 1, 1, 1, 1, 1, 1], \"long_factor\": [1, 1.5, 2, 3, 4, 5, 6, 7]"

static void every_scaling_gives_the_length_that_it_is_for(void **state)
{
    (void)state;
    static const struct {
        const char  *changes; /* max_position_embeddings is 2048 */
        qr_rope_type type;
        double       factor, magnitude;
        uint32_t     original, longest;
    } cases[] = {
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 1}}", QR_ROPE_LINEAR, 1, 1, 0, 2048},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}}", QR_ROPE_LINEAR, 2.5, 1, 0, 5120},
        {"{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4}}", QR_ROPE_LINEAR, 4, 1, 0, 8192},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 1e6}}", QR_ROPE_LINEAR, 1e6, 1, 0, 1 << 24},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 512}}",
         QR_ROPE_YARN, 4, 1.138629436, 512, 2048},
        {"{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4}}", QR_ROPE_YARN, 4, 1.138629436, 2048, 8192},
        {"{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, \"attention_factor\": 0.5}}", QR_ROPE_YARN, 4,
         0.5, 2048, 8192},
        {"{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 40, \"mscale\": 0.707, \"mscale_all_dim\": 1}}",
         QR_ROPE_YARN, 40, 0.921042383, 2048, 81920},
        {"{\"original_max_position_embeddings\": 512, \"rope_parameters\": {\"rope_type\": \"yarn\"}}", QR_ROPE_YARN, 4,
         1.138629436, 512, 2048},
        {"{\"original_max_position_embeddings\": 512, \"rope_scaling\": {\"type\": \"su\", " FACTORS "}}",
         QR_ROPE_LONGROPE, 4, 1.105541597, 512, 2048},
        {"{\"rope_parameters\": {\"rope_type\": \"longrope\", \"factor\": 1, \"original_max_position_embeddings\": "
         "512, " FACTORS "}}",
         QR_ROPE_LONGROPE, 1, 1, 512, 2048},
        {"{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
         "\"high_freq_factor\": 4, "
         "\"original_max_position_embeddings\": 64}}",
         QR_ROPE_LLAMA3, 8, 1, 64, 2048},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(LLAMA, cases[i].changes, &a, &error) != QUIRE_OK) fail_msg("%s", error.message);
        if (a.rope.type != cases[i].type || a.rope.factor != cases[i].factor ||
            !(fabs((double)a.rope.magnitude - cases[i].magnitude) < 1e-7) ||
            a.rope.original_max_position_embeddings != cases[i].original ||
            a.max_position_embeddings != cases[i].longest)
            fail_msg("%s: factor %g, magnitude %.9g, original %u, longest %u", cases[i].changes, a.rope.factor,
                     (double)a.rope.magnitude, a.rope.original_max_position_embeddings, a.max_position_embeddings);
    }
    static const one_case refused[] = {
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", FORMAT, {"rope_scaling.factor", "missing"}},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}}", FORMAT, {"rope_scaling.factor", "0.5"}},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": \"4\"}}", FORMAT, {"factor", "a string"}},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1]}}",
         FORMAT,
         {"rope_scaling.short_factor", "8", "1"}},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1, 0, 1, 1, 1, 1, 1]}}",
         FORMAT,
         {"short_factor[2]"}},
        {"{\"rope_theta\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}",
         FORMAT,
         {"rope_theta", "above 1"}},
    };
    CHECK(LLAMA, refused);
}

/* ---- families ---- */

static void each_family_has_its_biases_norms_and_window(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        bool        qkv_bias, output_bias, qk_norm;
        uint32_t    window; /* of all layers */
    } cases[] = {
        {"{}", false, false, false, 0},
        {"{\"attention_bias\": true}", true, true, false, 0},
        {"{\"sliding_window\": 24}", false, false, false, 0}, /* llama has none */
        {"{\"model_type\": \"mistral\", \"sliding_window\": 24}", false, false, false, 24},
        {"{\"model_type\": \"mistral\", \"sliding_window\": null}", false, false, false, 0},
        {"{\"model_type\": \"mistral\"}", false, false, false, 4096},
        {"{\"model_type\": \"qwen2\"}", true, false, false, 0},
        {"{\"model_type\": \"qwen2\", \"sliding_window\": 24}", true, false, false, 0},
        {"{\"model_type\": \"qwen2\", \"sliding_window\": 24, \"use_sliding_window\": true}", true, false, false, 0},
        {"{\"model_type\": \"qwen2\", \"sliding_window\": 24, \"use_sliding_window\": true, \"max_window_layers\": 0}",
         true, false, false, 24},
        {"{\"model_type\": \"qwen2\", \"sliding_window\": 24, \"use_sliding_window\": true, \"layer_types\": "
         "[\"sliding_attention\", \"sliding_attention\", \"sliding_attention\"]}",
         true, false, false, 24},
        {"{\"model_type\": \"phi3\"}", false, false, false, 0},
        {"{\"model_type\": \"phi3\", \"sliding_window\": 24}", false, false, false, 24},
        {"{\"model_type\": \"qwen3\"}", false, false, true, 0},
        {"{\"model_type\": \"qwen3\", \"attention_bias\": true}", true, true, true, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(LLAMA, cases[i].changes, &a, &error) != QUIRE_OK) fail_msg("%s", error.message);
        assert_int_equal(a.qkv_bias, cases[i].qkv_bias);
        assert_int_equal(a.output_bias, cases[i].output_bias);
        assert_int_equal(a.qk_norm, cases[i].qk_norm);
        if (a.window != cases[i].window || a.full_layers != 0) fail_msg("%s: window %u", cases[i].changes, a.window);
    }
}

#define QWEN "\"model_type\": \"qwen2\", \"sliding_window\": 24, \"use_sliding_window\": true"

static void a_window_is_a_property_of_a_layer(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        uint32_t    windows[3], widest;
    } cases[] = {
        {"{" QWEN ", \"max_window_layers\": 0}", {24, 24, 24}, 24},
        {"{" QWEN ", \"max_window_layers\": 1}", {0, 24, 24}, 0},
        {"{" QWEN ", \"max_window_layers\": 3}", {0, 0, 0}, 0},
        {"{" QWEN ", \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]}", {0, 24, 0}, 0},
        {"{" QWEN
         ", \"max_window_layers\": 0, \"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]}",
         {0, 0, 0},
         0},
        {"{\"model_type\": \"mistral\", \"sliding_window\": 9, \"layer_types\": [\"sliding_attention\", "
         "\"full_attention\", "
         "\"sliding_attention\"]}",
         {9, 0, 9},
         0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(LLAMA, cases[i].changes, &a, &error) != QUIRE_OK) fail_msg("%s", error.message);
        for (uint32_t layer = 0; layer < 3; layer++)
            if (qr_layer_window(&a, layer) != cases[i].windows[layer])
                fail_msg("%s: layer %u: window %u", cases[i].changes, layer, qr_layer_window(&a, layer));
        assert_int_equal(qr_widest_window(&a), cases[i].widest);
    }
    static const one_case refused[] = {
        {"{" QWEN ", \"max_window_layers\": -1}", FORMAT, {"max_window_layers"}},
        {"{" QWEN ", \"layer_types\": [\"full_attention\"]}", FORMAT, {"layer_types", "3", "1"}},
        {"{" QWEN ", \"layer_types\": [\"full_attention\", \"linear_attention\", \"full_attention\"]}",
         UNSUPPORTED,
         {"layer_types[1]", "linear_attention"}},
        {"{" QWEN ", \"layer_types\": [\"full_attention\", 7, \"full_attention\"]}", UNSUPPORTED, {"layer_types[1]"}},
        {"{" QWEN ", \"layer_types\": \"full_attention\"}", FORMAT, {"layer_types"}},
        {"{\"model_type\": \"mistral\", \"sliding_window\": 0}", FORMAT, {"sliding_window"}},
    };
    CHECK(LLAMA, refused);
}

static void smollm3_has_layers_without_rope(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        bool        unrotated[3];
        uint32_t    windows[3];
    } cases[] = {
        {"{\"model_type\": \"smollm3\"}", {false, false, false}, {0, 0, 0}},
        {"{\"model_type\": \"smollm3\", \"no_rope_layer_interval\": 2}", {false, true, false}, {0, 0, 0}},
        {"{\"model_type\": \"smollm3\", \"no_rope_layers\": [0, 1, 0]}", {true, false, true}, {0, 0, 0}},
        {"{\"model_type\": \"smollm3\", \"no_rope_layers\": [0, 1, 0], \"use_sliding_window\": true, "
         "\"sliding_window\": 9}",
         {true, false, true},
         {9, 0, 9}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(LLAMA, cases[i].changes, &a, &error) != QUIRE_OK) fail_msg("%s", error.message);
        for (uint32_t layer = 0; layer < 3; layer++)
            if (qr_layer_set_has(&a.unrotated, layer) != cases[i].unrotated[layer] ||
                qr_layer_window(&a, layer) != cases[i].windows[layer])
                fail_msg("%s: layer %u", cases[i].changes, layer);
    }
    static const one_case refused[] = {
        {"{\"model_type\": \"smollm3\", \"no_rope_layers\": [1]}", FORMAT, {"no_rope_layers", "3", "1"}},
        {"{\"model_type\": \"smollm3\", \"no_rope_layers\": [1, 2, 1]}", FORMAT, {"no_rope_layers[1]", "0 or 1"}},
        {"{\"model_type\": \"smollm3\", \"no_rope_layers\": [1, true, 1]}", FORMAT, {"no_rope_layers[1]"}},
        {"{\"model_type\": \"smollm3\", \"no_rope_layer_interval\": 0}", FORMAT, {"no_rope_layer_interval"}},
        {"{\"model_type\": \"granite\", \"logits_scaling\": 0}", FORMAT, {"logits_scaling"}},
    };
    CHECK(LLAMA, refused);
}

static const char GEMMA[] =
    "{\"model_type\":\"gemma3_text\",\"vocab_size\":320,\"hidden_size\":64,\"intermediate_size\":96,"
    "\"num_hidden_layers\":3,\"num_attention_heads\":4,\"head_dim\":16,\"sliding_window\":9,"
    "\"sliding_window_pattern\":2,\"rope_local_base_freq\":500,\"eos_token_id\":1}";
#define LOCAL "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 700}"

static void gemma_has_local_layers_and_caps(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        uint32_t    windows[3];
        float       score_cap, logits_cap;
        double      theta, local_theta;
    } cases[] = {
        {"{}", {9, 0, 9}, 0, 0, 1e6, 500},
        {"{\"remove\": [\"sliding_window_pattern\", \"rope_local_base_freq\"]}", {9, 9, 9}, 0, 0, 1e6, 1e4},
        {"{\"_sliding_window_pattern\": 3, \"remove\": [\"sliding_window_pattern\"]}", {9, 9, 0}, 0, 0, 1e6, 500},
        {"{\"_sliding_window_pattern\": 2}", {9, 0, 9}, 0, 0, 1e6, 500},
        {"{\"rope_parameters\": {" LOCAL ", \"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8, "
         "\"rope_theta\": 2e6}}}",
         {9, 0, 9},
         0,
         0,
         2e6,
         700},
        {"{\"model_type\": \"gemma2\", \"remove\": [\"sliding_window_pattern\"]}", {9, 0, 9}, 50, 30, 1e4, 0},
        {"{\"model_type\": \"gemma2\", \"attn_logit_softcapping\": null, \"final_logit_softcapping\": 7}",
         {9, 0, 9},
         0,
         7,
         1e4,
         0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(GEMMA, cases[i].changes, &a, &error) != QUIRE_OK) fail_msg("%s", error.message);
        for (uint32_t layer = 0; layer < 3; layer++)
            if (qr_layer_window(&a, layer) != cases[i].windows[layer])
                fail_msg("%s: layer %u: window %u", cases[i].changes, layer, qr_layer_window(&a, layer));
        if (a.attention_cap != cases[i].score_cap || a.logits_cap != cases[i].logits_cap ||
            a.rope.theta != cases[i].theta || a.local_rope.theta != cases[i].local_theta || !a.norms_less_one)
            fail_msg("%s: caps %g and %g, thetas %g and %g", cases[i].changes, (double)a.attention_cap,
                     (double)a.logits_cap, a.rope.theta, a.local_rope.theta);
        assert_true(a.embedding_scale == 8 && a.attention_scale == 1.0f / 16 && a.max_position_embeddings > 4096);
    }
    static const one_case refused[] = {
        {"{\"sliding_window\": null}", UNSUPPORTED, {"sliding_window", "null"}},
        {"{\"_sliding_window_pattern\": 3}", FORMAT, {"sliding_window_pattern: 2", "_sliding_window_pattern 3"}},
        {"{\"sliding_window_pattern\": 0}", FORMAT, {"sliding_window_pattern"}},
        {"{\"use_bidirectional_attention\": true}", UNSUPPORTED, {"use_bidirectional_attention"}},
        {"{\"final_logit_softcapping\": -1}", FORMAT, {"final_logit_softcapping"}},
        {"{\"rope_parameters\": {\"sliding_attention\": {\"rope_type\": \"linear\", \"factor\": 2}}}",
         UNSUPPORTED,
         {"rope_parameters", "sliding_attention"}},
        {"{\"rope_parameters\": {\"sliding_attention\": 3}}", FORMAT, {"rope_parameters.sliding_attention", "object"}},
        {"{\"model_type\": \"gemma2\", \"rope_parameters\": {" LOCAL "}}", UNSUPPORTED, {"layer type"}},
    };
    CHECK(GEMMA, refused);
}

#define MIXTRAL "\"model_type\": \"mixtral\", \"num_local_experts\": 8"
#define GPT_OSS "\"model_type\": \"gpt_oss\", \"num_local_experts\": 8, \"num_experts_per_tok\": 3"
#define QWEN_MOE "\"model_type\": \"qwen3_moe\", \"num_experts\": 16, \"moe_intermediate_size\": 24"

#define LEFT_OUT                                                                                                       \
    "\"remove\": [\"rms_norm_eps\", \"rope_theta\", \"max_position_embeddings\", \"num_key_value_heads\", "            \
    "\"head_dim\"]"

/* As transformers 5.24 has them: of models with 32 heads, hidden_size 1024 and 64 layers. */
static void keys_left_out_are_as_in_the_configuration_class(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float       epsilon;
        double      theta;
        uint32_t    longest, kv_heads, head_dim, window, experts, per_token, expert_size;
        bool        tied;
    } cases[] = {
        {"llama", 1e-6f, 1e4, 2048, 32, 32, 0, 0, 0, 0, false},
        {"mistral", 1e-6f, 1e4, 131072, 8, 32, 4096, 0, 0, 0, false},
        {"qwen2", 1e-6f, 1e4, 32768, 32, 32, 0, 0, 0, 0, false},
        {"qwen3", 1e-6f, 1e4, 32768, 32, 128, 0, 0, 0, 0, false},
        {"smollm3", 1e-6f, 2e6, 32768, 4, 32, 0, 0, 0, 0, true},
        {"granite", 1e-6f, 1e4, 2048, 32, 32, 0, 0, 0, 0, false},
        {"phi3", 1e-5f, 1e4, 4096, 32, 32, 0, 0, 0, 0, false},
        {"olmo2", 1e-5f, 1e4, 2048, 32, 32, 0, 0, 0, 0, false},
        {"gemma2", 1e-6f, 1e4, 8192, 4, 256, 4096, 0, 0, 0, true},
        {"gemma3_text", 1e-6f, 1e6, 131072, 4, 256, 4096, 0, 0, 0, true},
        {"mixtral", 1e-5f, 1e6, 131072, 8, 32, 0, 8, 2, 352, false},
        {"qwen3_moe", 1e-6f, 1e4, 32768, 4, 32, 0, 128, 8, 768, false},
        {"gpt_oss", 1e-5f, 150000, 131072, 8, 64, 128, 128, 4, 352, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char            changes[256];
        qr_architecture a;
        quire_error     error = {0};
        snprintf(changes, sizeof changes,
                 "{\"model_type\": \"%s\", \"num_attention_heads\": 32, \"hidden_size\": 1024, " LEFT_OUT "}",
                 cases[i].type);
        if (parse(LLAMA, changes, &a, &error) != QUIRE_OK) fail_msg("%s: %s", cases[i].type, error.message);
        if (a.norm_epsilon != cases[i].epsilon || a.rope.theta != cases[i].theta ||
            a.max_position_embeddings != cases[i].longest || a.window != cases[i].window || a.tied != cases[i].tied)
            fail_msg("%s: epsilon %g, theta %g, length %u, window %u, tied %d", cases[i].type, (double)a.norm_epsilon,
                     a.rope.theta, a.max_position_embeddings, a.window, a.tied);
        if (a.kv_heads != cases[i].kv_heads || a.head_dim != cases[i].head_dim || a.experts != cases[i].experts ||
            a.experts_per_token != cases[i].per_token || a.expert_size != cases[i].expert_size)
            fail_msg("%s: %u heads of %u, %u experts, %u per token, of %u", cases[i].type, a.kv_heads, a.head_dim,
                     a.experts, a.experts_per_token, a.expert_size);
    }
    static const one_case refused[] = {
        {"{\"model_type\": \"mistral\", \"num_attention_heads\": 4, \"remove\": [\"num_key_value_heads\"]}",
         FORMAT,
         {"num_key_value_heads 8"}},
        {"{\"model_type\": \"mistral\", \"num_attention_heads\": 4, \"num_key_value_heads\": null}", QUIRE_OK, {NULL}},
        {"{\"model_type\": \"qwen3_moe\", \"moe_intermediate_size\": true}", FORMAT, {"moe_intermediate_size"}},
    };
    CHECK(LLAMA, refused);
}

static void gpt_oss_is_scaled_where_its_settings_are_left_out(void **state)
{
    (void)state;
    static const struct {
        const char  *changes;
        qr_rope_type type;
        double       theta;
    } cases[] = {
        {"{\"model_type\": \"gpt_oss\", \"remove\": [\"rope_theta\"]}", QR_ROPE_YARN, 150000},
        {"{\"model_type\": \"gpt_oss\", \"rope_theta\": 7, \"rope_scaling\": null}", QR_ROPE_YARN, 7},
        {"{\"model_type\": \"gpt_oss\", \"rope_theta\": 7, \"rope_parameters\": {}}", QR_ROPE_DEFAULT, 7},
        {"{\"model_type\": \"gpt_oss\", \"rope_parameters\": {\"rope_theta\": 9}}", QR_ROPE_DEFAULT, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        assert_int_equal(parse(LLAMA, cases[i].changes, &a, NULL), QUIRE_OK);
        if (a.rope.type != cases[i].type || a.rope.theta != cases[i].theta)
            fail_msg("%s: type %d, theta %g", cases[i].changes, a.rope.type, a.rope.theta);
        if (a.rope.type == QR_ROPE_YARN)
            assert_true(a.rope.factor == 32 && a.rope.original_max_position_embeddings == 4096 && !a.rope.truncate);
    }
}

#define PHI3_SCALED "\"short_factor\": [1, 1, 1, 1, 1, 1, 1, 1], \"long_factor\": [2, 2, 2, 2, 2, 2, 2, 2]"

static void a_length_given_twice_is_one_length(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{\"original_max_position_embeddings\": 64, \"rope_scaling\": {" LLAMA3 "}}", QUIRE_OK, {NULL}},
        {"{\"original_max_position_embeddings\": 32, \"rope_scaling\": {" LLAMA3 "}}",
         FORMAT,
         {"original_max_position_embeddings", "32", "64"}},
        {"{\"original_max_position_embeddings\": 512, \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2, "
         "\"original_max_position_embeddings\": 256}}",
         FORMAT,
         {"original_max_position_embeddings", "512", "256"}},
        {"{\"original_max_position_embeddings\": 512, \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2, "
         "\"original_max_position_embeddings\": \"512\"}}",
         FORMAT,
         {"rope_parameters.original_max_position_embeddings", "integer"}},
        {"{\"model_type\": \"phi3\", \"partial_rotary_factor\": 0.5, \"rope_parameters\": {\"partial_rotary_factor\": "
         "0.75}}",
         FORMAT,
         {"partial_rotary_factor", "0.5", "0.75"}},
        {"{\"model_type\": \"phi3\", \"partial_rotary_factor\": 0.5, \"rope_parameters\": {\"partial_rotary_factor\": "
         "0.5}}",
         QUIRE_OK,
         {NULL}},
    };
    CHECK(LLAMA, cases);
    static const char *const types[] = {"longrope", "su", "yarn"};
    for (size_t i = 0; i < 3; i++) {
        char            changes[256];
        qr_architecture a;
        snprintf(changes, sizeof changes,
                 "{\"model_type\": \"phi3\", \"max_position_embeddings\": 8192, \"rope_scaling\": {\"type\": "
                 "\"%s\", " PHI3_SCALED "}}",
                 types[i]);
        assert_int_equal(parse(LLAMA, changes, &a, NULL), QUIRE_OK);
        assert_true(a.rope.type == QR_ROPE_LONGROPE && a.rope.factor == 2);
        assert_int_equal(a.rope.original_max_position_embeddings, 4096);
    }
}

static void mixtures_of_experts_have_their_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        uint32_t    experts, per_token, size;
        bool        renormalised, dense[3];
    } cases[] = {
        {"{" MIXTRAL "}", 8, 2, 352, true, {false, false, false}},
        {"{" MIXTRAL ", \"num_experts_per_tok\": 3}", 8, 3, 352, true, {false, false, false}},
        {"{" GPT_OSS "}", 8, 3, 352, true, {false, false, false}},
        {"{" QWEN_MOE "}", 16, 8, 24, false, {false, false, false}},
        {"{" QWEN_MOE ", \"norm_topk_prob\": true, \"mlp_only_layers\": [2]}", 16, 8, 24, true, {false, false, true}},
        {"{" QWEN_MOE ", \"decoder_sparse_step\": 2}", 16, 8, 24, false, {true, false, true}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(LLAMA, cases[i].changes, &a, &error) != QUIRE_OK) fail_msg("%s", error.message);
        if (a.experts != cases[i].experts || a.experts_per_token != cases[i].per_token ||
            a.expert_size != cases[i].size || a.experts_renormalised != cases[i].renormalised)
            fail_msg("%s: %u experts of %u, %u per token", cases[i].changes, a.experts, a.expert_size,
                     a.experts_per_token);
        for (uint32_t layer = 0; layer < 3; layer++)
            if (qr_layer_set_has(&a.dense, layer) != cases[i].dense[layer])
                fail_msg("%s: layer %u", cases[i].changes, layer);
    }
    static const one_case refused[] = {
        {"{" GPT_OSS "}", QUIRE_OK, {NULL}},
        {"{" GPT_OSS ", \"quantization_config\": {\"quant_method\": \"mxfp4\"}}", QUIRE_OK, {NULL}},
        {"{" GPT_OSS ", \"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}", UNSUPPORTED, {"mxfp4"}},
        {"{" MIXTRAL ", \"quantization_config\": {\"quant_method\": \"mxfp4\"}}", UNSUPPORTED, {"quantization_config"}},
        {"{" GPT_OSS ", \"swiglu_limit\": 6}", UNSUPPORTED, {"swiglu_limit", "7"}},
        {"{" GPT_OSS ", \"swiglu_alpha\": 1}", UNSUPPORTED, {"swiglu_alpha", "1.702"}},
        {"{" MIXTRAL ", \"num_experts\": 4}", FORMAT, {"num_local_experts: 8", "num_experts 4"}},
        {"{" QWEN_MOE ", \"num_local_experts\": 8}", FORMAT, {"num_experts: 16", "num_local_experts 8"}},
        {"{" QWEN_MOE ", \"num_local_experts\": 16}", QUIRE_OK, {NULL}},
        {"{" QWEN_MOE ", \"num_local_experts\": true}", FORMAT, {"num_local_experts", "true"}},
        {"{" MIXTRAL ", \"num_experts_per_tok\": 9}", FORMAT, {"num_experts_per_tok", "9", "8"}},
        {"{\"model_type\": \"mixtral\", \"num_local_experts\": 4096}", FORMAT, {"num_local_experts", "1024"}},
        {"{" QWEN_MOE ", \"mlp_only_layers\": [3]}", FORMAT, {"mlp_only_layers[0]", "0 to 2"}},
        {"{" QWEN_MOE ", \"mlp_only_layers\": [null]}", FORMAT, {"mlp_only_layers[0]"}},
        {"{" QWEN_MOE ", \"decoder_sparse_step\": 0}", FORMAT, {"decoder_sparse_step"}},
        {"{\"model_type\": \"gemma2\", \"num_experts\": 4}", UNSUPPORTED, {"num_experts", "model_type"}},
    };
    CHECK(LLAMA, refused);
}

static void end_of_sequence_is_one_id_or_up_to_eight(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 319]}", QUIRE_OK, {NULL}},
        {"{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}", UNSUPPORTED, {"eos_token_id", "9", "8"}},
        {"{\"eos_token_id\": 320}", FORMAT, {"eos_token_id: 320", "319"}},
        {"{\"eos_token_id\": -1}", FORMAT, {"eos_token_id: -1"}},
        {"{\"eos_token_id\": [1, 4294967298]}", FORMAT, {"eos_token_id: 4294967298"}},
        {"{\"eos_token_id\": \"</s>\"}", FORMAT, {"eos_token_id", "a string"}},
        {"{\"eos_token_id\": [[2]]}", FORMAT, {"eos_token_id", "an array"}},
    };
    CHECK(LLAMA, cases);
    qr_architecture a;
    assert_int_equal(parse(LLAMA, "{\"eos_token_id\": [5, 3]}", &a, NULL), QUIRE_OK);
    assert_int_equal(a.eos_count, 2);
    assert_int_equal(a.eos_token_ids[0], 5);
    assert_int_equal(a.eos_token_ids[1], 3);
    assert_int_equal(parse(LLAMA, "{\"eos_token_id\": null}", &a, NULL), QUIRE_OK);
    assert_int_equal(a.eos_count, 0);
    static const struct {
        const char *type;
        int         id; /* -1: none */
    } left_out[] = {{"llama", 2},   {"mistral", 2},    {"qwen2", -1},    {"qwen3", -1}, {"smollm3", 128001},
                    {"granite", 2}, {"phi3", 32000},   {"olmo2", 50279}, {"gemma2", 1}, {"gemma3_text", 1},
                    {"mixtral", 2}, {"qwen3_moe", -1}, {"gpt_oss", -1}};
    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++) {
        char changes[160];
        snprintf(changes, sizeof changes,
                 "{\"model_type\": \"%s\", \"vocab_size\": 200000, \"remove\": [\"eos_token_id\"]}", left_out[i].type);
        assert_int_equal(parse(LLAMA, changes, &a, NULL), QUIRE_OK);
        assert_int_equal(a.eos_count, left_out[i].id >= 0);
        if (a.eos_count > 0) assert_int_equal(a.eos_token_ids[0], left_out[i].id);
    }
    assert_int_equal(parse(LLAMA, "{\"model_type\": \"phi3\", \"remove\": [\"eos_token_id\"]}", &a, NULL), QUIRE_OK);
    assert_int_equal(a.eos_count, 0);
}

static void t5_scales_its_output_when_tied_unless_told(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        float       scale;
    } cases[] = {
        {"{}", 0.125f},
        {"{\"remove\": [\"tie_word_embeddings\"]}", 0.125f},
        {"{\"tie_word_embeddings\": false}", 1},
        {"{\"tie_word_embeddings\": false, \"scale_decoder_outputs\": true}", 0.125f},
        {"{\"tie_word_embeddings\": true, \"scale_decoder_outputs\": false}", 1},
        {"{\"scale_decoder_outputs\": null}", 0.125f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        assert_int_equal(parse(T5, cases[i].changes, &a, NULL), QUIRE_OK);
        if (a.logits_scale != cases[i].scale) fail_msg("%s: %g", cases[i].changes, (double)a.logits_scale);
    }
}

static void t5_is_checked_like_the_others(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{\"feed_forward_proj\": \"gated-gelu\"}", QUIRE_OK, {NULL}},
        {"{\"feed_forward_proj\": \"gated-gelu\", \"dense_act_fn\": \"gelu_new\", \"is_gated_act\": true}",
         QUIRE_OK,
         {NULL}},
        {"{\"feed_forward_proj\": \"gated-tanh\"}", UNSUPPORTED, {"feed_forward_proj: \"tanh\"", "silu"}},
        {"{\"feed_forward_proj\": \"gated\"}", UNSUPPORTED, {"feed_forward_proj", "gated"}},
        {"{\"dense_act_fn\": \"tanh\"}", UNSUPPORTED, {"dense_act_fn: \"tanh\"", "relu"}},
        {"{\"dense_act_fn\": 7}", FORMAT, {"dense_act_fn", "a string"}},
        {"{\"is_gated_act\": true}", FORMAT, {"is_gated_act: true", "relu"}},
        {"{\"is_gated_act\": false, \"feed_forward_proj\": \"gated-silu\"}", FORMAT, {"is_gated_act: false"}},
        {"{\"relative_attention_num_buckets\": 3}", FORMAT, {"relative_attention_num_buckets: 3"}},
        {"{\"relative_attention_num_buckets\": 33}", UNSUPPORTED, {"relative_attention_num_buckets: 33"}},
        {"{\"relative_attention_max_distance\": 16}", FORMAT, {"relative_attention_max_distance: 16", "32"}},
        {"{\"relative_attention_max_distance\": 17}", QUIRE_OK, {NULL}},
        {"{\"decoder_start_token_id\": 256}", FORMAT, {"decoder_start_token_id: 256", "255"}},
        {"{\"decoder_start_token_id\": -1}", FORMAT, {"decoder_start_token_id: -1"}},
        {"{\"d_kv\": 0}", FORMAT, {"d_kv: 0"}},
        {"{\"num_decoder_layers\": 0}", FORMAT, {"num_decoder_layers: 0"}},
        {"{\"is_encoder_decoder\": false}", UNSUPPORTED, {"is_encoder_decoder"}},
    };
    CHECK(T5, cases);
    qr_architecture a;
    assert_int_equal(parse(T5, "{\"remove\": [\"num_decoder_layers\"]}", &a, NULL), QUIRE_OK);
    assert_int_equal(a.layers, 2);
    assert_int_equal(parse(T5, "{\"remove\": [\"decoder_start_token_id\"], \"pad_token_id\": 7}", &a, NULL), QUIRE_OK);
    assert_int_equal(a.decoder_start_token_id, 7);
    assert_int_equal(parse(T5,
                           "{\"model_type\": \"umt5\", \"remove\": [\"decoder_start_token_id\"], \"pad_token_id\": 7}",
                           &a, NULL),
                     QUIRE_OK);
    assert_int_equal(a.decoder_start_token_id, 0);
}

static void an_activation_that_is_given_decides(void **state)
{
    (void)state;
    static const struct {
        const char   *base, *changes;
        bool          gated;
        qr_activation activation;
    } cases[] = {
        {T5, "{}", false, QR_ACTIVATION_RELU},
        {T5, "{\"feed_forward_proj\": \"gelu\"}", false, QR_ACTIVATION_GELU},
        {T5, "{\"feed_forward_proj\": \"gated-gelu\"}", true, QR_ACTIVATION_GELU_NEW},
        {T5, "{\"feed_forward_proj\": \"gated-silu\"}", true, QR_ACTIVATION_SILU},
        {T5, "{\"feed_forward_proj\": \"gated-gelu\", \"dense_act_fn\": \"gelu\"}", true, QR_ACTIVATION_GELU},
        {T5, "{\"dense_act_fn\": \"gelu_new\"}", false, QR_ACTIVATION_GELU_NEW},
        {T5, "{\"model_type\": \"mt5\", \"remove\": [\"feed_forward_proj\"]}", true, QR_ACTIVATION_GELU_NEW},
        {LLAMA, "{}", true, QR_ACTIVATION_SILU},
        {LLAMA, "{\"hidden_act\": \"swish\"}", true, QR_ACTIVATION_SILU},
        {LLAMA, "{\"hidden_act\": \"gelu_pytorch_tanh\"}", true, QR_ACTIVATION_GELU_NEW},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        if (parse(cases[i].base, cases[i].changes, &a, &error) != QUIRE_OK) fail_msg("%s", error.message);
        if (a.gated != cases[i].gated || a.activation != cases[i].activation)
            fail_msg("%s: %d, %s", cases[i].changes, a.activation, a.gated ? "gated" : "not gated");
    }
}

static void boundaries_of_every_key_of_bart(void **state)
{
    (void)state;
    static const one_case cases[] = {
        {"{}", QUIRE_OK, {NULL}},
        {"{\"d_model\": 66}", FORMAT, {"d_model: 66", "encoder_attention_heads 4"}},
        {"{\"decoder_attention_heads\": 8}", UNSUPPORTED, {"encoder_attention_heads: 4", "8"}},
        {"{\"decoder_ffn_dim\": 64}", UNSUPPORTED, {"encoder_ffn_dim: 128", "64"}},
        {"{\"remove\": [\"decoder_layers\"]}", FORMAT, {"decoder_layers: missing"}},
        {"{\"encoder_layers\": 0}", FORMAT, {"encoder_layers: 0"}},
        {"{\"activation_function\": \"tanh\"}", UNSUPPORTED, {"activation_function: \"tanh\""}},
        {"{\"is_encoder_decoder\": false}", UNSUPPORTED, {"is_encoder_decoder"}},
        {"{\"decoder_start_token_id\": 300}", FORMAT, {"decoder_start_token_id: 300", "299"}},
        {"{\"max_position_embeddings\": 0}", FORMAT, {"max_position_embeddings: 0"}},
        {"{\"architectures\": [\"BartForSequenceClassification\"]}", UNSUPPORTED, {"BartForSequenceClassification"}},
        {"{\"model_type\": \"marian\", \"decoder_start_token_id\": 1, \"decoder_vocab_size\": 200}",
         UNSUPPORTED,
         {"decoder_vocab_size: 200"}},
        {"{\"model_type\": \"marian\", \"decoder_start_token_id\": 1, \"pad_token_id\": 300}",
         FORMAT,
         {"pad_token_id: 300"}},
        {"{\"model_type\": \"marian\", \"decoder_start_token_id\": 1, \"d_model\": 60, \"encoder_attention_heads\": 4}",
         QUIRE_OK,
         {NULL}},
        {"{\"model_type\": \"m2m_100\", \"d_model\": 2, \"encoder_attention_heads\": 1,"
         " \"decoder_attention_heads\": 1}",
         UNSUPPORTED,
         {"d_model: 2"}},
    };
    CHECK(BART, cases);
}

static void defaults_of_bart_are_those_of_the_type(void **state)
{
    (void)state;
    static const struct {
        const char   *type;
        qr_activation activation;
        bool          post_norm;
        float         embedding_scale;
        int32_t       start;
    } cases[] = {
        {"bart", QR_ACTIVATION_GELU, true, 1, 2},
        {"mbart", QR_ACTIVATION_GELU, false, 1, 0},
        {"m2m_100", QR_ACTIVATION_RELU, false, 8, 2},
        {"marian", QR_ACTIVATION_GELU, true, 1, 58100},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        char            change[64];
        snprintf(change, sizeof change, "{\"model_type\": \"%s\", \"vocab_size\": 58101}", cases[i].type);
        assert_int_equal(parse(BART, change, &a, NULL), QUIRE_OK);
        assert_int_equal(a.activation, cases[i].activation);
        assert_int_equal(a.post_norm, cases[i].post_norm);
        assert_true(a.embedding_scale == cases[i].embedding_scale && a.attention_scale == 0.25f);
        assert_int_equal(a.decoder_start_token_id, cases[i].start);
        assert_int_equal(a.max_encoder_positions, 512);
    }
    static const one_case small[] = {
        {"{\"model_type\": \"marian\"}", FORMAT, {"decoder_start_token_id: missing"}},
        {"{\"model_type\": \"marian\", \"decoder_start_token_id\": 299}", QUIRE_OK, {NULL}},
    };
    CHECK(BART, small);
    qr_architecture a;
    assert_int_equal(parse(BART, "{\"model_type\": \"mbart\", \"bos_token_id\": 7}", &a, NULL), QUIRE_OK);
    assert_int_equal(a.decoder_start_token_id, 7);
}

static void mt5_is_tied_and_does_not_scale_its_output(void **state)
{
    (void)state;
    qr_architecture a;
    assert_int_equal(parse(T5, "{\"model_type\": \"mt5\", \"tie_word_embeddings\": false}", &a, NULL), QUIRE_OK);
    assert_true(a.tied && !a.never_tied && a.logits_scale == 1);
    static const one_case classes[] = {
        {"{\"model_type\": \"mt5\", \"architectures\": [\"MT5ForConditionalGeneration\"]}", QUIRE_OK, {NULL}},
        {"{\"model_type\": \"mt5\", \"architectures\": [\"MT5EncoderModel\"]}", UNSUPPORTED, {"MT5EncoderModel"}},
    };
    CHECK(T5, classes);
}

/* Every pair of a few boundary values of two keys: never a crash, and what is accepted keeps the invariants. */
static void accepted_pairs_keep_the_invariants(void **state)
{
    (void)state;
    static const char *const keys[]   = {"vocab_size",          "hidden_size", "num_attention_heads",
                                         "num_key_value_heads", "head_dim",    "num_hidden_layers"};
    static const char *const values[] = {"0", "1", "2", "3", "64", "4096", "1048576", "16777217", "null"};
    unsigned                 accepted = 0, refused = 0;
    for (size_t i = 0; i < 6; i++)
        for (size_t j = i + 1; j < 6; j++)
            for (size_t v = 0; v < 81; v++) {
                char            changes[128];
                qr_architecture a;
                quire_error     error = {0};
                snprintf(changes, sizeof changes, "{\"%s\": %s, \"%s\": %s}", keys[i], values[v / 9], keys[j],
                         values[v % 9]);
                if (parse(LLAMA, changes, &a, &error) != QUIRE_OK) {
                    assert_true(error.message[0] != '\0');
                    refused++;
                    continue;
                }
                accepted++;
                assert_true(a.heads % a.kv_heads == 0 && a.head_dim % 2 == 0 && a.head_dim > 0 && a.vocab_size > 0);
                assert_true(a.eos_count == 1 && a.eos_token_ids[0] < (int32_t)a.vocab_size);
            }
    assert_true(accepted > 50 && refused > 500);
}

/* ---- the text ---- */

static void broken_text_is_located(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "config.json:1:1"},    {"{\n\"vocab_size\": }", "config.json:2:"},
        {"[]", "an array"},         {"null", "expected"},
        {"{} x", "config.json:1:"}, {"\xff{}", "config.json:1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_architecture a;
        quire_error     error = {0};
        assert_int_equal(
            qr_architecture_parse(cases[i].text, strlen(cases[i].text), "config.json", NULL, 0, &a, &error), FORMAT);
        if (strstr(error.message, cases[i].words) == NULL) fail_msg("case %zu: %s", i, error.message);
    }
}

/* As Python writes and reads it: what nobody asks for may be anything. */
static void a_key_that_is_not_read_may_hold_anything(void **state)
{
    (void)state;
    static const char *const texts[] = {"NaN",
                                        "[0.0, Infinity, -Infinity]",
                                        "1000000000000000019884624838656",
                                        "-99999999999999999999",
                                        "1e999",
                                        "1, \"unread\": 2",
                                        "{\"a\": 1, \"a\": [NaN]}",
                                        "\"\\u0000\"",
                                        "1, \"unread\": {}, \"rope_scaling\": null"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char            text[1024];
        qr_architecture a;
        quire_error     error = {0};
        snprintf(text, sizeof text, "{\"unread\": %s, \"rope_scaling\": null, %s", texts[i], LLAMA + 1);
        if (qr_architecture_parse(text, strlen(text), "config.json", NULL, 0, &a, &error) != QUIRE_OK)
            fail_msg("%s: %s", texts[i], error.message);
        assert_true(a.vocab_size == 320 && a.rope.theta == 10000);
    }
}

static void a_key_that_is_read_must_be_proper(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *words;
    } cases[] = {
        {"rms_norm_eps", "NaN", "expected a number, found NaN"},
        {"rope_theta", "Infinity", "expected a number, found Infinity"},
        {"rope_theta", "-1e999", "expected a number, found -Infinity"},
        {"rope_theta", "99999999999999999999", "1e+20 is outside"},
        {"vocab_size", "99999999999999999999", "expected an integer, found a number beyond 64 bits"},
        {"vocab_size", "320, \"vocab_size\": 321", "found the key twice, with different values"},
        {"vocab_size", "320, \"vocab_size\": null", "found the key twice, with different values"},
        {"eos_token_id", "2, \"eos_token_id\": [2]", "found the key twice, with different values"},
        {"rope_scaling", "{\"rope_type\": \"default\"}, \"rope_scaling\": {}", "found the key twice"},
        {"rope_scaling", "{\"rope_type\": \"default\", \"rope_type\": \"llama3\"}", "found the key twice"},
        {"hidden_act", "\"silu\\u0000\"", "holds a NUL"},
        {"attention_bias", "NaN", "expected true or false, found NaN"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char            text[1024];
        qr_architecture a;
        quire_error     error = {0};
        json_t         *root  = json_loads(LLAMA, 0, NULL);
        json_object_del(root, cases[i].key);
        char *rest = json_dumps(root, 0);
        snprintf(text, sizeof text, "{\"%s\": %s, %s", cases[i].key, cases[i].value, rest + 1);
        if (qr_architecture_parse(text, strlen(text), "config.json", NULL, 0, &a, &error) != FORMAT ||
            strstr(error.message, cases[i].words) == NULL)
            fail_msg("%s: %s", cases[i].value, error.message);
        json_decref(root);
        free(rest);
    }
}

static void a_text_cut_anywhere_is_an_error(void **state)
{
    (void)state;
    for (size_t length = 0; length < strlen(LLAMA); length++) {
        qr_architecture a;
        assert_int_equal(qr_architecture_parse(LLAMA, length, "config.json", NULL, 0, &a, NULL), FORMAT);
    }
}

static void deep_nesting_is_an_error(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *text = malloc(DEPTH);
    memset(text, '[', DEPTH);
    qr_architecture a;
    assert_int_equal(qr_architecture_parse(text, DEPTH, "config.json", NULL, 0, &a, NULL), FORMAT);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_refuses_what_is_no_positive_integer),
        cmocka_unit_test(every_required_key_is_missed_by_name),
        cmocka_unit_test(contradictions_name_both_values),
        cmocka_unit_test(what_quire_lacks_is_refused_by_name),
        cmocka_unit_test(both_forms_of_rope_settings_read_the_same),
        cmocka_unit_test(a_rope_scaling_that_is_not_empty_goes_before_rope_parameters),
        cmocka_unit_test(llama3_scaling_needs_all_its_numbers),
        cmocka_unit_test(every_scaling_gives_the_length_that_it_is_for),
        cmocka_unit_test(each_family_has_its_biases_norms_and_window),
        cmocka_unit_test(a_window_is_a_property_of_a_layer),
        cmocka_unit_test(smollm3_has_layers_without_rope),
        cmocka_unit_test(gemma_has_local_layers_and_caps),
        cmocka_unit_test(keys_left_out_are_as_in_the_configuration_class),
        cmocka_unit_test(gpt_oss_is_scaled_where_its_settings_are_left_out),
        cmocka_unit_test(a_length_given_twice_is_one_length),
        cmocka_unit_test(mixtures_of_experts_have_their_sizes),
        cmocka_unit_test(end_of_sequence_is_one_id_or_up_to_eight),
        cmocka_unit_test(t5_scales_its_output_when_tied_unless_told),
        cmocka_unit_test(t5_is_checked_like_the_others),
        cmocka_unit_test(an_activation_that_is_given_decides),
        cmocka_unit_test(boundaries_of_every_key_of_bart),
        cmocka_unit_test(defaults_of_bart_are_those_of_the_type),
        cmocka_unit_test(mt5_is_tied_and_does_not_scale_its_output),
        cmocka_unit_test(accepted_pairs_keep_the_invariants),
        cmocka_unit_test(broken_text_is_located),
        cmocka_unit_test(a_key_that_is_not_read_may_hold_anything),
        cmocka_unit_test(a_key_that_is_read_must_be_proper),
        cmocka_unit_test(a_text_cut_anywhere_is_an_error),
        cmocka_unit_test(deep_nesting_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
