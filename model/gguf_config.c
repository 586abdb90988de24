#include "model/gguf_config.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "model/config_reader.h"
#include "model/gguf_names.h"
#include "model/tensor_files.h"

enum { KEY_BYTES = 96 };

typedef struct translation {
    qr_config_reader            reader; /* of the metadata */
    qr_tensors                 *files;
    json_t                     *config;
    const qr_gguf_architecture *found;
    const char                 *architecture;
    char                        key[KEY_BYTES]; /* the one that is read */
} translation;

/* ---- keys ---- */

static void set(translation *t, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        QR_COMPLAIN(&t->reader, QUIRE_ERR_NO_MEMORY, "%s: no memory for its metadata", t->reader.origin);
}

/* "llama.block_count" of "block_count", until the next call. */
static const char *key_of(translation *t, const char *key)
{
    snprintf(t->key, sizeof t->key, "%s.%s", t->architecture, key);
    return t->key;
}

static bool has(translation *t, const char *key) { return qr_config_has(&t->reader, key_of(t, key)); }

static int64_t integer(translation *t, const char *key, int64_t fallback)
{
    return qr_config_integer(&t->reader, t->reader.root, key_of(t, key), 0, INT64_MAX, fallback);
}

static double number(translation *t, const char *key, double fallback)
{
    return qr_config_number(&t->reader, t->reader.root, key_of(t, key), -1e30, 1e30, fallback);
}

static void find_architecture(translation *t)
{
    t->architecture = qr_config_string(&t->reader, t->reader.root, "general.architecture", "");
    t->found        = qr_gguf_find_architecture(t->architecture, integer(t, "expert_count", 0) > 0);
    if (t->found == NULL)
        QR_COMPLAIN(&t->reader, QUIRE_ERR_UNSUPPORTED,
                    "%s: general.architecture: \"%.40s\" is not supported, only gemma2, gemma3, granite, llama, qwen2, "
                    "qwen3, qwen3moe and smollm3",
                    t->reader.origin, t->architecture);
}

static void translate_sizes(translation *t)
{
    static const struct {
        const char *key, *name;
        bool        required;
    } sizes[] = {
        {"vocab_size", "vocab_size", false},
        {"context_length", "max_position_embeddings", true},
        {"embedding_length", "hidden_size", true},
        {"feed_forward_length", "intermediate_size", true},
        {"block_count", "num_hidden_layers", true},
        {"attention.head_count", "num_attention_heads", true},
        {"attention.head_count_kv", "num_key_value_heads", false},
        {"attention.key_length", "head_dim", false},
        {"expert_count", "num_experts", false},
        {"expert_used_count", "num_experts_per_tok", false},
        {"expert_feed_forward_length", "moe_intermediate_size", false},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t size = integer(t, sizes[i].key, sizes[i].required ? QR_REQUIRED : -1);
        if (size >= 0) set(t, t->config, sizes[i].name, json_integer(size));
    }
    if (!has(t, "attention.head_count_kv")) /* the model_type may have another default than the format */
        set(t, t->config, "num_key_value_heads", json_null());
    if (!has(t, "attention.key_length")) set(t, t->config, "head_dim", json_null());
    const qr_tensor *embedding = qr_tensors_find(t->files, "model.embed_tokens.weight");
    if (!has(t, "vocab_size") && embedding != NULL)
        set(t, t->config, "vocab_size", json_integer((json_int_t)embedding->shape[0]));
    set(t, t->config, "rms_norm_eps", json_real(number(t, "attention.layer_norm_rms_epsilon", QR_REQUIRED_NUMBER)));
}

/* Granite has them all. */
static void translate_scales(translation *t)
{
    static const struct {
        const char *key, *name;
    } scales[]         = {{"attention.scale", "attention_multiplier"},
                          {"embedding_scale", "embedding_multiplier"},
                          {"residual_scale", "residual_multiplier"},
                          {"logit_scale", "logits_scaling"}};
    const bool granite = strcmp(t->architecture, "granite") == 0;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        const double scale = number(t, scales[i].key, granite ? QR_REQUIRED_NUMBER : 0);
        if (granite)
            set(t, t->config, scales[i].name, json_real(scale));
        else
            qr_config_refuse(&t->reader, scale != 0, key_of(t, scales[i].key), "not supported");
    }
}

enum { SOFTMAX = 1 };

/* What changes the arithmetic, with the value that changes nothing. By the names of ggml's gguf-py, constants.py. */
static void refuse_changes(translation *t)
{
    static const struct {
        const char *key;
        double      neutral;
    } refused[] = {
        {"rope.scaling.attn_factor", 1},
        {"rope.scaling.yarn_attn_factor", 1},
        {"rope.scaling.yarn_log_multiplier", 0},
        {"rope.scaling.alpha", 1},
        {"rope.dimension_count_swa", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attention.output_scale", 1},
        {"attention.temperature_length", 0},
        {"attention.temperature_scale", 0},
        {"attention.key_length_swa", 0},
        {"attention.value_length_swa", 0},
        {"attention.shared_kv_layers", 0},
        {"nextn_predict_layers", 0},
        {"n_deepstack_layers", 0},
        {"expert_shared_count", 0},
        {"expert_weights_scale", 1},
        {"expert_group_count", 0},
        {"leading_dense_block_count", 0},
        {"interleave_moe_layer_step", 0},
    };
    static const char *const present[]  = {"rope.dimension_sections", "swiglu_clamp_exp", "swiglu_clamp_shexp",
                                           "activation_sparsity_scale"};
    static const char *const of_gemma[] = {"rope.freq_base_swa", "attn_logit_softcapping", "final_logit_softcapping",
                                           "attention.sliding_window_pattern"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        qr_config_refuse(&t->reader, number(t, refused[i].key, refused[i].neutral) != refused[i].neutral,
                         key_of(t, refused[i].key), "not supported");
    for (size_t i = 0; i < sizeof of_gemma / sizeof *of_gemma && !t->found->gemma; i++)
        qr_config_refuse(&t->reader, has(t, of_gemma[i]) && number(t, of_gemma[i], 0) != 0, key_of(t, of_gemma[i]),
                         "not supported");
    for (size_t i = 0; i < sizeof present / sizeof *present; i++)
        qr_config_refuse(&t->reader, has(t, present[i]), key_of(t, present[i]), "not supported");
    qr_config_refuse(&t->reader, integer(t, "expert_gating_func", SOFTMAX) > SOFTMAX, key_of(t, "expert_gating_func"),
                     "only 1, softmax, is supported");
    qr_config_refuse(&t->reader, !qr_config_boolean(&t->reader, key_of(t, "expert_weights_norm"), true),
                     key_of(t, "expert_weights_norm"), "only true is supported");
    qr_config_refuse(&t->reader, qr_config_boolean(&t->reader, key_of(t, "use_parallel_residual"), false),
                     key_of(t, "use_parallel_residual"), "only false is supported");
    qr_config_refuse(&t->reader, !qr_config_boolean(&t->reader, key_of(t, "attention.causal"), true),
                     key_of(t, "attention.causal"), "only true is supported");
}

/* How much of YaRN's interpolation is mixed in: all of it or, without YaRN, nothing; negative is that as well. */
static void check_yarn_mix(translation *t)
{
    static const char key[] = "rope.scaling.yarn_ext_factor";
    const char       *type  = qr_config_string(&t->reader, t->reader.root, key_of(t, "rope.scaling.type"), "linear");
    const double      whole = strcmp(type, "yarn") == 0 ? 1 : 0, mix = number(t, key, whole);
    qr_config_refuse(&t->reader, mix >= 0 && mix != whole, key_of(t, key),
                     whole > 0 ? "only 1 is supported" : "only 0 is supported without yarn");
}

/* Of features that others have not only a window is known here. */
static void translate_features(translation *t)
{
    refuse_changes(t);
    check_yarn_mix(t);
    if (!has(t, "attention.sliding_window")) return;
    const int64_t window = integer(t, "attention.sliding_window", 0);
    qr_config_refuse(&t->reader, window > 0 && !t->found->windowed, key_of(t, "attention.sliding_window"),
                     "a window is supported with llama and gemma only");
    if (window > 0) set(t, t->config, "sliding_window", json_integer(window));
}

/* As llama.cpp, which divides by the length of keys but in the models of 27 billion parameters, known by their layers.
 */
static int64_t gemma_scalar(translation *t)
{
    const bool    older = strcmp(t->architecture, "gemma2") == 0;
    const int64_t width = integer(t, "embedding_length", 1), heads = integer(t, "attention.head_count", 1);
    if (integer(t, "block_count", 0) == (older ? 46 : 62) && heads > 0) return width / heads;
    return integer(t, "attention.key_length", heads > 0 ? width / heads : 1);
}

static void translate_cap(translation *t, const char *key, double fallback)
{
    const double cap = number(t, key, fallback);
    set(t, t->config, key, cap != 0 ? json_real(cap) : json_null());
}

static void translate_gemma(translation *t)
{
    const bool    older   = strcmp(t->architecture, "gemma2") == 0;
    const int64_t pattern = integer(t, "attention.sliding_window_pattern", 0);
    const double  base    = number(t, "rope.freq_base", 10000),
                 local    = number(t, "rope.freq_base_swa", older ? base : 10000);
    set(t, t->config, "query_pre_attn_scalar", json_integer(gemma_scalar(t)));
    translate_cap(t, "attn_logit_softcapping", older ? 50 : 0);
    translate_cap(t, "final_logit_softcapping", older ? 30 : 0);
    if (pattern > 0) set(t, t->config, "sliding_window_pattern", json_integer(pattern));
    if (!older && json_object_get(t->config, "sliding_window") == NULL)
        set(t, t->config, "sliding_window", json_null()); /* no layer has a window */
    qr_config_refuse(&t->reader, older && local != base, key_of(t, "rope.freq_base_swa"), "not supported");
    if (!older) set(t, t->config, "rope_local_base_freq", json_real(local));
}

/* llama.cpp ends a text at any of these. */
static void translate_ends(translation *t)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    json_t                  *ends   = json_array();
    int64_t                  taken[3];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        taken[i]  = qr_config_integer(&t->reader, t->reader.root, keys[i], 0, INT64_MAX, -1);
        bool seen = taken[i] < 0;
        for (size_t j = 0; j < i; j++) seen |= taken[j] == taken[i];
        if (!seen) json_array_append_new(ends, json_integer(taken[i]));
    }
    set(t, t->config, "eos_token_id", ends);
}

/* ---- heads and rotary embedding ---- */

static uint32_t head_dim(translation *t)
{
    const int64_t heads = integer(t, "attention.head_count", 0), width = integer(t, "embedding_length", 0);
    const int64_t given = integer(t, "attention.key_length", heads > 0 ? width / heads : 0);
    return given > 0 && given <= QR_MAX_HEAD_DIM ? (uint32_t)given : 0;
}

static void check_head_dim(translation *t, uint32_t dim)
{
    static const char *const keys[] = {"attention.value_length", "rope.dimension_count"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const int64_t other = integer(t, keys[i], dim);
        if (other != dim)
            QR_COMPLAIN(&t->reader, QUIRE_ERR_UNSUPPORTED, "%s: %s: %lld is not the length of keys, %u",
                        t->reader.origin, key_of(t, keys[i]), (long long)other, dim);
    }
}

/* The tensor's numbers as an array, and it leaves the table; NULL: no such tensor. */
static json_t *take_factors(translation *t, const char *name, uint32_t pairs)
{
    float            factors[QR_ROPE_MAX_PAIRS];
    const qr_tensor *tensor = qr_tensors_find(t->files, name);
    if (tensor == NULL || t->reader.status != QUIRE_OK) return NULL;
    const char *file = qr_tensors_file_name(t->files, tensor);
    if (tensor->rank != 1 || tensor->shape[0] != pairs || pairs > QR_ROPE_MAX_PAIRS) {
        t->reader.status = QR_BAD_TENSOR(t->reader.error, file, tensor, "%llu factors, expected %u; the limit is %d",
                                         (unsigned long long)tensor->shape[0], pairs, QR_ROPE_MAX_PAIRS);
        return NULL;
    }
    t->reader.status = qr_tensors_read(t->files, tensor, 0, pairs, factors, t->reader.error);
    json_t *array    = json_array();
    for (uint32_t i = 0; i < pairs && t->reader.status == QUIRE_OK; i++)
        json_array_append_new(array, json_real((double)factors[i]));
    qr_tensors_drop(t->files, tensor);
    return array;
}

/* A factor of each pair's own is longrope with one list: llama.cpp's form of llama3's scaling. */
static json_t *given_factors(translation *t, uint32_t pairs)
{
    json_t *both  = take_factors(t, "rope_freqs.weight", pairs);
    json_t *first = both ? json_incref(both) : take_factors(t, "rope_factors_short.weight", pairs);
    json_t *later = both ? both : take_factors(t, "rope_factors_long.weight", pairs);
    if (first == NULL && later == NULL) return NULL;
    json_t       *settings = json_object();
    const int64_t length   = integer(t, "context_length", 1);
    set(t, settings, "rope_type", json_string("longrope"));
    set(t, settings, "short_factor", first ? first : json_array());
    set(t, settings, "long_factor", later ? later : json_array());
    set(t, settings, "original_max_position_embeddings",
        json_integer(both ? length : integer(t, "rope.scaling.original_context_length", length)));
    if (both) set(t, settings, "attention_factor", json_integer(1));
    return settings;
}

static json_t *given_scaling(translation *t)
{
    static const struct {
        const char *key, *name;
    } optional[]         = {{"rope.scaling.yarn_beta_fast", "beta_fast"}, {"rope.scaling.yarn_beta_slow", "beta_slow"}};
    const char   *type   = qr_config_string(&t->reader, t->reader.root, key_of(t, "rope.scaling.type"), "linear");
    const double  factor = number(t, "rope.scaling.factor", number(t, "rope.scale_linear", 0));
    const int64_t length = integer(t, "rope.scaling.original_context_length", 0);
    if (strcmp(type, "none") == 0 || factor == 0) return NULL;
    json_t *settings = json_object();
    set(t, settings, "rope_type", json_string(type));
    set(t, settings, "factor", json_real(factor));
    if (length > 0) set(t, settings, "original_max_position_embeddings", json_integer(length));
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        if (has(t, optional[i].key)) set(t, settings, optional[i].name, json_real(number(t, optional[i].key, 0)));
    return settings;
}

static void translate_rope(translation *t, uint32_t dim)
{
    check_head_dim(t, dim);
    set(t, t->config, "rope_theta", json_real(number(t, "rope.freq_base", 10000)));
    json_t *settings = given_factors(t, dim / 2);
    if (settings == NULL) settings = given_scaling(t);
    if (settings != NULL) set(t, t->config, "rope_scaling", settings);
}

/* ---- all of it ---- */

static void translate(translation *t)
{
    find_architecture(t);
    if (t->found == NULL) return;
    const uint32_t dim     = head_dim(t);
    const uint64_t experts = (uint64_t)integer(t, "expert_count", 0);
    if (t->reader.status == QUIRE_OK)
        t->reader.status = qr_gguf_rename(t->files, t->found, dim, experts, t->reader.error);
    translate_sizes(t);
    translate_rope(t, dim);
    translate_scales(t);
    translate_features(t);
    if (t->found->gemma) translate_gemma(t);
    if (t->found->experts) set(t, t->config, "norm_topk_prob", json_true());
    translate_ends(t);
    const bool mistral =
        strcmp(t->found->model_type, "llama") == 0 && json_object_get(t->config, "sliding_window") != NULL;
    set(t, t->config, "model_type", json_string(mistral ? "mistral" : t->found->model_type));
    const bool tied = qr_tensors_find(t->files, "lm_head.weight") == NULL;
    const bool bias = qr_tensors_find(t->files, "model.layers.0.self_attn.o_proj.bias") != NULL;
    set(t, t->config, "tie_word_embeddings", json_boolean(tied));
    set(t, t->config, "attention_bias", json_boolean(bias));
}

quire_status qr_gguf_translate(qr_tensors *files, const json_t *metadata, json_t **config_out, quire_error *error)
{
    translation t = {.reader = {.root = metadata, .origin = qr_tensors_name(files), .error = error},
                     .files  = files,
                     .config = json_object()};
    if (t.config == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its metadata", t.reader.origin);
    translate(&t);
    *config_out = t.config;
    if (t.reader.status == QUIRE_OK) return QUIRE_OK;
    json_decref(t.config);
    *config_out = NULL;
    return t.reader.status;
}
