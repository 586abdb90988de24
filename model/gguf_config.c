#include "model/gguf_config.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "model/config_reader.h"
#include "model/gguf.h"
#include "model/tensor_files.h"

enum { KEY_BYTES = 96 };

typedef struct translation {
    qr_config_reader reader; /* of the metadata */
    qr_tensors      *files;
    json_t          *config;
    const char      *architecture;
    char             key[KEY_BYTES]; /* the one that is read */
} translation;

/* ---- architectures ---- */

typedef struct architecture {
    const char *name, *model_type;
    bool        paired; /* rows of q and k stand in pairs that rotate together */
} architecture;

static const architecture architectures[] = {
    {"llama", "llama", .paired = true},
    {"granite", "granite", .paired = true},
    {"smollm3", "smollm3", .paired = true}, /* every fourth layer is not rotated, as where config.json does not say */
    {"qwen2", "qwen2", false},
    {"qwen3", "qwen3", false}};

bool qr_gguf_has_type(const char *model_type)
{
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (strcmp(architectures[i].model_type, model_type) == 0) return true;
    return false;
}

static const architecture *find_architecture(translation *t)
{
    t->architecture = qr_config_string(&t->reader, t->reader.root, "general.architecture", "");
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (strcmp(architectures[i].name, t->architecture) == 0) return &architectures[i];
    QR_COMPLAIN(&t->reader, QUIRE_ERR_UNSUPPORTED,
                "%s: general.architecture: \"%.40s\" is not supported, only llama, granite, smollm3, qwen2 and qwen3",
                t->reader.origin, t->architecture);
    return NULL;
}

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
        {"rope.freq_base_swa", 0},
        {"rope.dimension_count_swa", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attention.output_scale", 1},
        {"attention.temperature_length", 0},
        {"attention.temperature_scale", 0},
        {"attention.key_length_swa", 0},
        {"attention.value_length_swa", 0},
        {"attention.shared_kv_layers", 0},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"nextn_predict_layers", 0},
        {"n_deepstack_layers", 0},
    };
    static const char *const present[] = {"rope.dimension_sections", "attention.sliding_window_pattern",
                                          "swiglu_clamp_exp", "swiglu_clamp_shexp", "activation_sparsity_scale"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        qr_config_refuse(&t->reader, number(t, refused[i].key, refused[i].neutral) != refused[i].neutral,
                         key_of(t, refused[i].key), "not supported");
    for (size_t i = 0; i < sizeof present / sizeof *present; i++)
        qr_config_refuse(&t->reader, has(t, present[i]), key_of(t, present[i]), "not supported");
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

/* Of all features only a window is known here. */
static void translate_features(translation *t)
{
    refuse_changes(t);
    check_yarn_mix(t);
    if (!has(t, "attention.sliding_window")) return;
    const int64_t window = integer(t, "attention.sliding_window", 0);
    qr_config_refuse(&t->reader, window > 0 && strcmp(t->architecture, "llama") != 0,
                     key_of(t, "attention.sliding_window"), "a window is supported with \"llama\" only");
    if (window > 0) set(t, t->config, "sliding_window", json_integer(window));
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

/* ---- tensors ---- */

typedef struct renaming {
    const char *from, *to;
} renaming;

static const char *find_renaming(const renaming *names, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i].from) == length && strncmp(names[i].from, name, length) == 0) return names[i].to;
    return NULL;
}

/* Of the name before its last dot; what is not known keeps its name, which no model asks for. */
static void rename_tensor(char *name)
{
    static const renaming whole[] = {
        {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
    static const renaming of_layer[] = {{"attn_norm", "input_layernorm"},
                                        {"attn_q", "self_attn.q_proj"},
                                        {"attn_k", "self_attn.k_proj"},
                                        {"attn_v", "self_attn.v_proj"},
                                        {"attn_output", "self_attn.o_proj"},
                                        {"attn_q_norm", "self_attn.q_norm"},
                                        {"attn_k_norm", "self_attn.k_norm"},
                                        {"ffn_gate", "mlp.gate_proj"},
                                        {"ffn_up", "mlp.up_proj"},
                                        {"ffn_down", "mlp.down_proj"},
                                        {"ffn_norm", "post_attention_layernorm"}};
    char                  renamed[QR_GGUF_NAME_BYTES];
    const char           *dot   = strrchr(name, '.'), *to;
    uint32_t              layer = 0;
    int                   begin = 0, length = -1;
    if (dot == NULL) return;
    if (sscanf(name, "blk.%4u.%n", &layer, &begin) == 1 && begin > 0 && name + begin <= dot) {
        to = find_renaming(of_layer, sizeof of_layer / sizeof *of_layer, name + begin, (size_t)(dot - name - begin));
        if (to != NULL) length = snprintf(renamed, sizeof renamed, "model.layers.%u.%s%s", layer, to, dot);
    } else {
        to = find_renaming(whole, sizeof whole / sizeof *whole, name, (size_t)(dot - name));
        if (to != NULL) length = snprintf(renamed, sizeof renamed, "%s%s", to, dot);
    }
    if (length >= 0 && (size_t)length < sizeof renamed) memcpy(name, renamed, (size_t)length + 1);
}

static bool is_q_or_k(const char *name)
{
    const char *part = strstr(name, ".self_attn.");
    return part != NULL &&
           (strncmp(part, ".self_attn.q_proj.", 18) == 0 || strncmp(part, ".self_attn.k_proj.", 18) == 0);
}

static void rename_tensors(translation *t, uint32_t paired)
{
    qr_tensors *files = t->files;
    for (uint32_t i = 0; i < files->count; i++) {
        qr_tensor            *tensor = &files->tensors[i];
        const qr_tensor_file *file   = &files->files[tensor->file];
        rename_tensor(file->names + (tensor->name - file->names));
        if (paired > 0 && paired % 2 == 0 && is_q_or_k(tensor->name) && tensor->shape[0] % paired == 0)
            tensor->paired_rows = paired;
    }
    files->config_name = "its metadata";
    t->reader.status   = qr_tensors_check_names(files, 0, t->reader.error);
    qr_tensors_sort(files);
}

/* ---- all of it ---- */

static void translate(translation *t)
{
    const architecture *found = find_architecture(t);
    if (found == NULL) return;
    const uint32_t dim = head_dim(t);
    if (t->reader.status == QUIRE_OK) rename_tensors(t, found->paired ? dim : 0);
    translate_sizes(t);
    translate_rope(t, dim);
    translate_scales(t);
    translate_features(t);
    translate_ends(t);
    const bool window = json_object_get(t->config, "sliding_window") != NULL;
    set(t, t->config, "model_type", json_string(window ? "mistral" : found->model_type));
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
