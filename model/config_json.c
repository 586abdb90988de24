/* A reader with a sticky status: the first complaint is kept, later reads return their fallback. So the sections below
 * list keys, ranges and defaults (those of Hugging Face's configuration classes) without a branch after each. */
#include "model/config_json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/files.h"

enum {
    MAX_VOCAB    = 1 << 24,
    MAX_WIDTH    = 1 << 20, /* hidden, intermediate, heads * head_dim */
    MAX_LAYERS   = 4096,
    MAX_HEADS    = 4096,
    MAX_HEAD_DIM = 1024,
    MAX_POSITION = 1 << 24,
    MAX_BUCKETS  = 4096,
    MAX_EOS      = 8,
};
static const int64_t REQUIRED = INT64_MIN; /* as a fallback: the key must be there */

typedef struct reader {
    const json_t *root;
    const char   *origin;
    quire_error  *error;
    quire_status  status;    /* sticky */
    bool          synthetic; /* numbers of the text were overridden */
} reader;

#define COMPLAIN(r, code, ...)                                                                                         \
    ((r)->status == QUIRE_OK ? (void)((r)->status = qr_fail((r)->error, (code), __VA_ARGS__)) : (void)0)

/* ---- single values --------------------------------------------------------------------------------------------------
 */

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer", "a number with a fraction",
                                        "true",      "false",    "null"};
    return names[json_typeof(value)];
}

static bool absent(const json_t *value) { return value == NULL || json_is_null(value); }

static int64_t integer_in(reader *r, const json_t *object, const char *key, int64_t low, int64_t high, int64_t fallback)
{
    const json_t *value = json_object_get(object, key);
    if (absent(value)) {
        if (fallback != REQUIRED) return fallback;
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: missing", r->origin, key);
        return low;
    }
    if (!json_is_integer(value)) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: expected an integer, found %s", r->origin, key, type_name(value));
        return low;
    }
    const int64_t number = json_integer_value(value);
    if (number < low || number > high) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: %lld is outside %lld..%lld", r->origin, key, (long long)number,
                 (long long)low, (long long)high);
        return low;
    }
    return number;
}

static uint32_t size(reader *r, const char *key, int64_t high, int64_t fallback)
{
    return (uint32_t)integer_in(r, r->root, key, 1, high, fallback);
}

static double number_in(reader *r, const json_t *object, const char *key, double low, double high, double fallback)
{
    const json_t *value = json_object_get(object, key);
    if (absent(value)) {
        if (!isnan(fallback)) return fallback; /* NaN: the key must be there */
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: missing", r->origin, key);
        return low;
    }
    if (!json_is_number(value)) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: expected a number, found %s", r->origin, key, type_name(value));
        return low;
    }
    const double number = json_number_value(value);
    if (!(number >= low && number <= high)) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: %.9g is outside %g..%g", r->origin, key, number, low, high);
        return low;
    }
    return number;
}

static bool boolean(reader *r, const char *key, bool fallback)
{
    const json_t *value = json_object_get(r->root, key);
    if (absent(value)) return fallback;
    if (!json_is_boolean(value))
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: expected true or false, found %s", r->origin, key, type_name(value));
    return json_is_true(value);
}

static const char *string_in(reader *r, const json_t *object, const char *key, const char *fallback)
{
    const json_t *value = json_object_get(object, key);
    if (absent(value)) return fallback;
    if (json_is_string(value)) return json_string_value(value);
    COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: expected a string, found %s", r->origin, key, type_name(value));
    return fallback;
}

/* ---- what quire does not have
 * ---------------------------------------------------------------------------------------- */

static void refuse(reader *r, const char *key, const char *what)
{
    if (!absent(json_object_get(r->root, key)))
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: %s not supported", r->origin, key, what);
}

static void refuse_true(reader *r, const char *key, const char *what)
{
    if (boolean(r, key, false)) COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: %s not supported", r->origin, key, what);
}

static void refuse_features(reader *r)
{
    refuse(r, "quantization_config", "quantised checkpoints are");
    static const char *const experts[] = {"num_local_experts", "num_experts", "n_routed_experts"};
    for (size_t i = 0; i < sizeof experts / sizeof *experts; ++i)
        if (integer_in(r, r->root, experts[i], 0, INT64_MAX, 0) > 0)
            COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: mixtures of experts are not supported", r->origin, experts[i]);
}

/* ---- end of sequence
 * ------------------------------------------------------------------------------------------------- */

static void add_eos(reader *r, qr_architecture *a, const json_t *value)
{
    if (!json_is_integer(value)) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: eos_token_id: expected an integer, found %s", r->origin, type_name(value));
        return;
    }
    const int64_t id = json_integer_value(value);
    if (id < 0 || id >= a->vocab_size) {
        if (!r->synthetic) /* a preset with an overridden vocabulary just has no such token */
            COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: eos_token_id: %lld is outside 0..%u (vocab_size - 1)", r->origin,
                     (long long)id, a->vocab_size - 1);
        return;
    }
    if (a->eos_count == MAX_EOS) {
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: eos_token_id: %u ids, at most %d are supported", r->origin,
                 a->eos_count + 1, MAX_EOS);
        return;
    }
    a->eos_token_ids[a->eos_count++] = (int32_t)id;
}

static void read_eos(reader *r, qr_architecture *a)
{
    const json_t *value = json_object_get(r->root, "eos_token_id");
    if (absent(value)) return;
    if (!json_is_array(value)) {
        add_eos(r, a, value);
        return;
    }
    size_t        i;
    const json_t *element;
    json_array_foreach(value, i, element) add_eos(r, a, element);
}

/* ---- rotary embedding
 * ------------------------------------------------------------------------------------------------ */

static const double MUST_BE_THERE = (double)NAN;

static void read_llama3(reader *r, const json_t *settings, qr_rope *rope)
{
    rope->llama3           = true;
    rope->factor           = number_in(r, settings, "factor", 1, 1e6, MUST_BE_THERE);
    rope->low_freq_factor  = number_in(r, settings, "low_freq_factor", 1e-3, 1e6, MUST_BE_THERE);
    rope->high_freq_factor = number_in(r, settings, "high_freq_factor", 1e-3, 1e6, MUST_BE_THERE);
    rope->original_max_position_embeddings =
        (uint32_t)integer_in(r, settings, "original_max_position_embeddings", 1, MAX_POSITION, REQUIRED);
    if (!(rope->high_freq_factor > rope->low_freq_factor))
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: high_freq_factor: %g is not above low_freq_factor %g", r->origin,
                 rope->high_freq_factor, rope->low_freq_factor);
}

static const char *rope_type(reader *r, const json_t *settings)
{
    return string_in(r, settings, "rope_type", string_in(r, settings, "type", NULL));
}

/* Beside `rope_parameters` the older form may repeat it, and must not say anything else. */
static void check_rope_scaling(reader *r, const char *type)
{
    const json_t *old = json_object_get(r->root, "rope_scaling");
    if (absent(old)) return;
    if (!json_is_object(old)) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: rope_scaling: expected an object, found %s", r->origin, type_name(old));
        return;
    }
    const char *old_type = rope_type(r, old);
    if (old_type == NULL) old_type = json_object_size(old) > 0 ? "missing" : "default";
    if (strcmp(old_type, type ? type : "default") == 0) return;
    COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
             "%s: rope_scaling: rope_type \"%.40s\" is not that of rope_parameters, \"%.40s\"", r->origin, old_type,
             type ? type : "default");
}

/* Both forms: `rope_parameters` (transformers 5) holds the theta as well; before it, `rope_theta` stood beside
 * `rope_scaling`, whose type was called `type` before `rope_type`. */
static void read_rope(reader *r, qr_rope *rope)
{
    const char   *key      = "rope_parameters";
    const json_t *settings = json_object_get(r->root, key);
    if (absent(settings)) settings = json_object_get(r->root, key = "rope_scaling");
    rope->theta = number_in(r, r->root, "rope_theta", 1, 1e12, 10000);
    if (absent(settings)) return;
    if (!json_is_object(settings)) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: expected an object, found %s", r->origin, key, type_name(settings));
        return;
    }
    rope->theta      = number_in(r, settings, "rope_theta", 1, 1e12, rope->theta);
    const char *type = rope_type(r, settings);
    if (strcmp(key, "rope_parameters") == 0) check_rope_scaling(r, type);
    if (json_object_get(settings, "full_attention") || json_object_get(settings, "sliding_attention"))
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: settings by layer type are not supported", r->origin, key);
    if (number_in(r, settings, "partial_rotary_factor", 0, 1, 1) != 1)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: partial_rotary_factor: only 1 is supported", r->origin);
    if (type == NULL && json_object_get(settings, "factor") != NULL)
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: rope_type: missing", r->origin, key);
    if (type == NULL || strcmp(type, "default") == 0) return;
    if (strcmp(type, "llama3") == 0)
        read_llama3(r, settings, rope);
    else
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: rope_type \"%.40s\" is not supported, only default and llama3",
                 r->origin, key, type);
}

/* ---- sliding window
 * -------------------------------------------------------------------------------------------------- */

/* How many layers are windowed, by layer_types where given; else those from max_window_layers on, as in Qwen2. */
static uint32_t windowed_layers(reader *r, uint32_t layers, uint32_t max_window_layers)
{
    const json_t *types = json_object_get(r->root, "layer_types");
    if (absent(types)) return layers - qr_min_u32(layers, max_window_layers);
    if (!json_is_array(types) || json_array_size(types) != layers) {
        COMPLAIN(r, QUIRE_ERR_FORMAT,
                 "%s: layer_types: expected an array of num_hidden_layers = %u elements, found %zu", r->origin, layers,
                 json_array_size(types));
        return 0;
    }
    uint32_t      windowed = 0;
    size_t        i;
    const json_t *element;
    json_array_foreach(types, i, element)
    {
        const char *type = json_string_value(element);
        if (type != NULL && strcmp(type, "sliding_attention") == 0)
            ++windowed;
        else if (type == NULL || strcmp(type, "full_attention") != 0)
            COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: layer_types[%zu]: \"%.40s\" is not supported", r->origin, i,
                     type ? type : type_name(element));
    }
    return windowed;
}

static void read_window(reader *r, qr_architecture *a)
{
    const bool mistral = strcmp(a->model_type, "mistral") == 0;
    const bool qwen    = strncmp(a->model_type, "qwen", 4) == 0;
    if (!mistral && !(qwen && boolean(r, "use_sliding_window", false))) return;
    /* null is "no window"; an absent key is the class's default */
    const json_t  *given    = json_object_get(r->root, "sliding_window");
    const uint32_t window   = given != NULL && json_is_null(given) ? 0 : size(r, "sliding_window", MAX_POSITION, 4096);
    const uint32_t from     = qwen ? (uint32_t)integer_in(r, r->root, "max_window_layers", 0, MAX_LAYERS, 28) : 0;
    const uint32_t windowed = windowed_layers(r, a->layers, from);
    if (window == 0 || windowed == 0) return;
    if (windowed != a->layers)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                 "%s: %s: %u of %u layers have a sliding window; a mix with full layers is not supported", r->origin,
                 absent(json_object_get(r->root, "layer_types")) ? "max_window_layers" : "layer_types", windowed,
                 a->layers);
    a->window = window;
}

/* ---- decoder-only
 * ---------------------------------------------------------------------------------------------------- */

static uint32_t read_head_dim(reader *r, const qr_architecture *a)
{
    const bool given = !absent(json_object_get(r->root, "head_dim"));
    if (!given && a->hidden_size % a->heads != 0)
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: hidden_size: %u is not a multiple of num_attention_heads %u", r->origin,
                 a->hidden_size, a->heads);
    const uint32_t head_dim = given ? size(r, "head_dim", MAX_HEAD_DIM, REQUIRED) : a->hidden_size / a->heads;
    if (head_dim % 2 != 0 || head_dim > MAX_HEAD_DIM)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: head_dim: %u, rotary embedding needs an even number of at most %d",
                 r->origin, head_dim, MAX_HEAD_DIM);
    return head_dim;
}

static void check_heads(reader *r, const qr_architecture *a, const char *heads_key, const char *dim_key)
{
    if (a->heads % a->kv_heads != 0)
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: num_attention_heads: %u is not a multiple of num_key_value_heads %u",
                 r->origin, a->heads, a->kv_heads);
    if ((uint64_t)a->heads * a->head_dim > MAX_WIDTH)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s %u times %s %u is above %d", r->origin, heads_key, a->heads, dim_key,
                 a->head_dim, MAX_WIDTH);
}

static void read_decoder(reader *r, qr_architecture *a)
{
    const bool qwen2 = strcmp(a->model_type, "qwen2") == 0, qwen3 = strcmp(a->model_type, "qwen3") == 0;
    const bool mistral = strcmp(a->model_type, "mistral") == 0;

    a->family            = QR_FAMILY_DECODER;
    a->vocab_size        = size(r, "vocab_size", MAX_VOCAB, REQUIRED);
    a->hidden_size       = size(r, "hidden_size", MAX_WIDTH, REQUIRED);
    a->intermediate_size = size(r, "intermediate_size", MAX_WIDTH, REQUIRED);
    a->layers            = size(r, "num_hidden_layers", MAX_LAYERS, REQUIRED);
    a->heads             = size(r, "num_attention_heads", MAX_HEADS, REQUIRED);
    a->kv_heads          = size(r, "num_key_value_heads", MAX_HEADS, a->heads);
    a->head_dim          = read_head_dim(r, a);
    check_heads(r, a, "num_attention_heads", "head_dim");
    a->norm_epsilon            = (float)number_in(r, r->root, "rms_norm_eps", 1e-12, 1, 1e-6);
    a->max_position_embeddings = size(r, "max_position_embeddings", MAX_POSITION,
                                      qwen2 || qwen3 ? 32768
                                      : mistral      ? 131072
                                                     : 2048);
    a->gated                   = true;
    a->activation              = QR_ACTIVATION_SILU;
    const char *act            = string_in(r, r->root, "hidden_act", "silu");
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: hidden_act: \"%.40s\" is not supported, only silu", r->origin, act);
    const bool bias = !mistral && !qwen2 && boolean(r, "attention_bias", false);
    a->qkv_bias     = bias || qwen2; /* Qwen2 has them always, and none on o */
    a->output_bias  = bias;
    a->qk_norm      = qwen3;
    refuse_true(r, "mlp_bias", "a bias in the feed-forward is");
    if (number_in(r, r->root, "partial_rotary_factor", 0, 1, 1) != 1)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: partial_rotary_factor: only 1 is supported", r->origin);
    read_rope(r, &a->rope);
    read_window(r, a);
    a->tie_word_embeddings    = boolean(r, "tie_word_embeddings", false);
    a->decoder_start_token_id = -1;
    a->logits_scale           = 1;
    a->embedding_name         = "model.embed_tokens.weight";
}

/* ---- T5
 * -------------------------------------------------------------------------------------------------------------- */

/* `feed_forward_proj` decides; newer files repeat it as is_gated_act and dense_act_fn, which must then agree. */
static void read_feed_forward(reader *r, qr_architecture *a)
{
    const char *form = string_in(r, r->root, "feed_forward_proj", "relu");
    if (strcmp(form, "gated-gelu") == 0) {
        a->gated      = true;
        a->activation = QR_ACTIVATION_GELU_NEW;
    } else if (strcmp(form, "relu") == 0) {
        a->activation = QR_ACTIVATION_RELU;
    } else {
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                 "%s: feed_forward_proj: \"%.40s\" is not supported, only relu and gated-gelu", r->origin, form);
    }
    const char *expected = a->gated ? "gelu_new" : "relu";
    const char *act      = string_in(r, r->root, "dense_act_fn", expected);
    if (strcmp(act, expected) != 0)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: dense_act_fn: \"%.40s\" does not go with feed_forward_proj \"%s\"",
                 r->origin, act, form);
    if (boolean(r, "is_gated_act", a->gated) != a->gated)
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: is_gated_act: %s contradicts feed_forward_proj \"%s\"", r->origin,
                 a->gated ? "false" : "true", form);
}

static void read_buckets(reader *r, qr_architecture *a)
{
    a->relative_buckets      = (uint32_t)integer_in(r, r->root, "relative_attention_num_buckets", 4, MAX_BUCKETS, 32);
    a->relative_max_distance = size(r, "relative_attention_max_distance", MAX_POSITION, 128);
    if (a->relative_buckets % 2 != 0)
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: relative_attention_num_buckets: %u is odd", r->origin,
                 a->relative_buckets);
    if (a->relative_max_distance <= a->relative_buckets / 2) /* else the logarithm of the bucket function is <= 0 */
        COMPLAIN(r, QUIRE_ERR_FORMAT,
                 "%s: relative_attention_max_distance: %u is not above half of relative_attention_num_buckets %u",
                 r->origin, a->relative_max_distance, a->relative_buckets);
}

static void read_t5(reader *r, qr_architecture *a)
{
    a->family            = QR_FAMILY_T5;
    a->vocab_size        = size(r, "vocab_size", MAX_VOCAB, REQUIRED);
    a->hidden_size       = size(r, "d_model", MAX_WIDTH, REQUIRED);
    a->intermediate_size = size(r, "d_ff", MAX_WIDTH, REQUIRED);
    a->head_dim          = size(r, "d_kv", MAX_HEAD_DIM, REQUIRED);
    a->encoder_layers    = size(r, "num_layers", MAX_LAYERS, REQUIRED);
    a->layers            = size(r, "num_decoder_layers", MAX_LAYERS, a->encoder_layers);
    a->heads             = size(r, "num_heads", MAX_HEADS, REQUIRED);
    a->kv_heads          = a->heads;
    check_heads(r, a, "num_heads", "d_kv");
    a->norm_epsilon = (float)number_in(r, r->root, "layer_norm_epsilon", 1e-12, 1, 1e-6);
    read_feed_forward(r, a);
    read_buckets(r, a);
    if (!boolean(r, "is_encoder_decoder", true))
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: is_encoder_decoder: a T5 without a decoder is not supported",
                 r->origin);

    a->tie_word_embeddings    = boolean(r, "tie_word_embeddings", true);
    const bool scaled         = boolean(r, "scale_decoder_outputs", a->tie_word_embeddings);
    a->logits_scale           = scaled ? (float)(1 / sqrt((double)a->hidden_size)) : 1;
    const int64_t last        = (int64_t)a->vocab_size - 1;
    const int64_t pad         = integer_in(r, r->root, "pad_token_id", 0, last, 0);
    a->decoder_start_token_id = (int32_t)integer_in(r, r->root, "decoder_start_token_id", 0, last, pad);
    a->embedding_name         = "shared.weight";
}

/* ---- the whole
 * ------------------------------------------------------------------------------------------------------- */

/* The classes whose tensors and arithmetic a model_type stands for; another head (a classifier, say) has other tensors.
 */
static const struct {
    const char *model_type, *classes[2];
} classes[] = {
    {"llama", {"LlamaForCausalLM", NULL}},
    {"mistral", {"MistralForCausalLM", NULL}},
    {"qwen2", {"Qwen2ForCausalLM", NULL}},
    {"qwen3", {"Qwen3ForCausalLM", NULL}},
    {"t5", {"T5ForConditionalGeneration", "T5WithLMHeadModel"}},
};

static void check_class(reader *r, const char *model_type, const char *name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; ++i) {
        if (strcmp(classes[i].model_type, model_type) != 0) continue;
        for (size_t c = 0; c < 2 && classes[i].classes[c] != NULL; ++c)
            if (strcmp(classes[i].classes[c], name) == 0) return;
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                 "%s: architectures: \"%.60s\" is not supported with model_type \"%s\", only %s", r->origin, name,
                 model_type, classes[i].classes[0]);
    }
}

static void check_classes(reader *r, const char *model_type)
{
    const json_t *list = json_object_get(r->root, "architectures");
    if (absent(list)) return;
    if (!json_is_array(list)) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: architectures: expected an array, found %s, with model_type \"%.40s\"",
                 r->origin, type_name(list), model_type);
        return;
    }
    size_t        i;
    const json_t *element;
    json_array_foreach(list, i, element)
    {
        if (json_is_string(element))
            check_class(r, model_type, json_string_value(element));
        else
            COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: architectures[%zu]: expected a string, found %s", r->origin, i,
                     type_name(element));
    }
}

static quire_status read_root(reader *r, qr_architecture *a)
{
    *a               = (qr_architecture){0};
    const char *type = string_in(r, r->root, "model_type", NULL);
    if (type == NULL) {
        COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: model_type: missing", r->origin);
        return r->status;
    }
    snprintf(a->model_type, sizeof a->model_type, "%s", type);
    a->tie_given = !absent(json_object_get(r->root, "tie_word_embeddings"));
    refuse_features(r);
    check_classes(r, type);
    if (strcmp(type, "t5") == 0)
        read_t5(r, a);
    else if (strcmp(type, "llama") == 0 || strcmp(type, "mistral") == 0 || strcmp(type, "qwen2") == 0 ||
             strcmp(type, "qwen3") == 0)
        read_decoder(r, a);
    else
        COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                 "%s: model_type: \"%.40s\" is not supported, only llama, mistral, qwen2, qwen3 and t5", r->origin,
                 type);
    read_eos(r, a);
    a->output_name = a->tie_word_embeddings ? a->embedding_name : "lm_head.weight"; /* until the files are known */
    return r->status;
}

/* Keys that a preset's text leaves to their default. */
static bool optional_key(const char *name)
{
    static const char *const names[] = {"sliding_window", "max_window_layers", "pad_token_id"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static quire_status apply(json_t *root, const char *origin, const quire_shape_override *change, quire_error *error)
{
    const json_t *old = change->name ? json_object_get(root, change->name) : NULL;
    if (old == NULL && (change->name == NULL || !optional_key(change->name)))
        return qr_fail(error, QUIRE_ERR_INVALID, "model.shape: %s has no key \"%.60s\" in its config.json", origin,
                       change->name ? change->name : "");
    if (old != NULL && !json_is_number(old) && !json_is_boolean(old))
        return qr_fail(error, QUIRE_ERR_INVALID, "model.shape: %s is %s and cannot be changed to a number",
                       change->name, type_name(old));
    json_t *changed =
        old != NULL && json_is_boolean(old) ? json_boolean(change->value != 0) : json_integer(change->value);
    if (json_object_set_new(root, change->name, changed) != 0)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "model.shape: no memory");
    return QUIRE_OK;
}

quire_status qr_architecture_parse(const char *text, size_t length, const char *origin,
                                   const quire_shape_override *overrides, uint32_t override_count,
                                   qr_architecture *architecture_out, quire_error *error)
{
    json_error_t where;
    json_t      *root   = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    quire_status status = QUIRE_OK;
    origin              = qr_path_tail(origin);
    if (root == NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%d:%d: %.120s", origin, where.line, where.column, where.text);
    if (!json_is_object(root))
        status = qr_fail(error, QUIRE_ERR_FORMAT, "%s: expected an object, found %s", origin, type_name(root));
    for (uint32_t i = 0; i < override_count && status == QUIRE_OK; ++i)
        status = apply(root, origin, &overrides[i], error);
    if (status == QUIRE_OK) {
        reader r = {.root = root, .origin = origin, .error = error, .synthetic = override_count > 0};
        status   = read_root(&r, architecture_out);
    }
    json_decref(root);
    return status;
}

quire_status qr_architecture_read(const char *path, qr_architecture *architecture_out, quire_error *error)
{
    qr_file file;
    QR_TRY(qr_file_open(path, &file, error));
    quire_status status = QUIRE_OK;
    char        *text   = NULL;
    if (file.size > QR_CONFIG_MAX_BYTES)
        status = qr_fail(error, QUIRE_ERR_FORMAT, "%s: %llu bytes are above the limit %d", qr_path_tail(path),
                         (unsigned long long)file.size, QR_CONFIG_MAX_BYTES);
    else if ((text = qr_allocate(NULL, file.size, 64)) == NULL)
        status = qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory", qr_path_tail(path));
    if (status == QUIRE_OK) status = qr_file_read(&file, qr_path_tail(path), 0, text, file.size, error);
    qr_file_close(&file);
    if (status == QUIRE_OK) status = qr_architecture_parse(text, file.size, path, NULL, 0, architecture_out, error);
    qr_deallocate(NULL, text, file.size);
    return status;
}
