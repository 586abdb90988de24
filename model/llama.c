/* Llama, Mistral, Qwen2, Qwen3: pre-norm decoder layers with rotary embedding and a gated feed-forward. They differ in
 * what a layer has: a window (Mistral), biases of q, k, v (Qwen2), a norm of each head of q and k (Qwen3). */
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "model/config_reader.h"
#include "model/family.h"
#include "model/network.h"

/* ---- config.json ---- */

enum { LLAMA, MISTRAL, QWEN2, QWEN3 };

typedef enum window_rule {
    WINDOW_NONE,
    WINDOW_GIVEN,    /* sliding_window, in all layers */
    WINDOW_SWITCHED, /* if use_sliding_window, from layer max_window_layers on */
} window_rule;

static const struct traits {
    uint32_t    max_position_embeddings; /* default */
    bool        qkv_bias;                /* always */
    bool        attention_bias;          /* of q, k, v and o, if config.json says so */
    bool        qk_norm;
    window_rule window;
} traits_of[] = {
    [LLAMA]   = {2048, .attention_bias = true},
    [MISTRAL] = {131072, .window = WINDOW_GIVEN},
    [QWEN2]   = {32768, .qkv_bias = true, .window = WINDOW_SWITCHED},
    [QWEN3]   = {32768, .attention_bias = true, .qk_norm = true, .window = WINDOW_SWITCHED},
};

static void set_full(qr_architecture *a, uint32_t layer)
{
    a->is_full[layer / 64] |= UINT64_C(1) << layer % 64;
    a->full_layers++;
}

static void read_layer_types(qr_config_reader *r, qr_architecture *a)
{
    const json_t *types = json_object_get(r->root, "layer_types");
    if (!json_is_array(types) || json_array_size(types) != a->layers) {
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT,
                    "%s: layer_types: expected an array of num_hidden_layers = %u elements, found %zu", r->origin,
                    a->layers, json_array_size(types));
        return;
    }
    size_t        i;
    const json_t *element;
    json_array_foreach(types, i, element)
    {
        const char *type = json_string_value(element);
        if (type != NULL && strcmp(type, "full_attention") == 0)
            set_full(a, (uint32_t)i);
        else if (type == NULL || strcmp(type, "sliding_attention") != 0)
            QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: layer_types[%zu]: \"%.40s\" is not supported", r->origin, i,
                        type ? type : qr_json_type_name(element));
    }
}

/* By layer_types where given; else the layers from max_window_layers on have the window. */
static void read_window(qr_config_reader *r, window_rule rule, qr_architecture *a)
{
    if (rule == WINDOW_NONE) return;
    if (rule == WINDOW_SWITCHED && !qr_config_boolean(r, "use_sliding_window", false)) return;
    /* null is "no window"; an absent key is the class's default */
    const json_t  *given  = json_object_get(r->root, "sliding_window");
    const uint32_t window = json_is_null(given) ? 0 : qr_config_size(r, "sliding_window", QR_MAX_POSITION, 4096);
    const uint32_t from =
        rule == WINDOW_GIVEN ? 0 : (uint32_t)qr_config_integer(r, r->root, "max_window_layers", 0, QR_MAX_LAYERS, 28);
    if (qr_config_has(r, "layer_types"))
        read_layer_types(r, a);
    else
        for (uint32_t i = 0; i < qr_min_u32(from, a->layers); i++) set_full(a, i);
    if (window != 0 && a->full_layers < a->layers) {
        a->window = window;
        return;
    }
    memset(a->is_full, 0, sizeof a->is_full);
    a->full_layers = 0;
}

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    const struct traits *traits = &traits_of[type];

    qr_config_read_decoder(r, traits->max_position_embeddings, a);
    a->attention_scale = 1 / sqrtf((float)a->head_dim);
    a->gated           = true;
    a->activation      = qr_config_activation(r, "hidden_act", qr_config_string(r, r->root, "hidden_act", "silu"));
    qr_config_refuse(r, qr_config_boolean(r, "mlp_bias", false), "mlp_bias",
                     "a bias in the feed-forward is not supported");

    a->output_bias = traits->attention_bias && qr_config_boolean(r, "attention_bias", false);
    a->qkv_bias    = traits->qkv_bias || a->output_bias;
    a->qk_norm     = traits->qk_norm;
    qr_rope_read(r, a);
    read_window(r, traits->window, a);
}

/* ---- tensors ---- */

static void declare_layer(qr_declaration *d, uint32_t i)
{
    const qr_architecture *a = d->architecture;
    const uint32_t hidden = a->hidden_size, inner = a->intermediate_size, q = qr_q_columns(a), kv = qr_kv_columns(a);
    qr_layer      *layer = qr_declare_layer(d, d->parameters->decoder, i);
    qr_declare_prefix(d, "model.layers.%u.", i);

    layer->attention_norm = qr_declare_norm(d, hidden, "input_layernorm.weight");
    qr_declare_linear(d, &layer->qkv, "qkv", hidden,
                      QR_PARTS(QR_PART(q, "self_attn.q_proj", .bias = a->qkv_bias),
                               QR_PART(kv, "self_attn.k_proj", .bias = a->qkv_bias),
                               QR_PART(kv, "self_attn.v_proj", .bias = a->qkv_bias)));
    if (a->qk_norm) {
        layer->q_norm = qr_declare_norm(d, a->head_dim, "self_attn.q_norm.weight");
        layer->k_norm = qr_declare_norm(d, a->head_dim, "self_attn.k_norm.weight");
    }
    qr_declare_linear(d, &layer->output, "o", q, QR_PARTS(QR_PART(hidden, "self_attn.o_proj", .bias = a->output_bias)));

    layer->feed_norm = qr_declare_norm(d, hidden, "post_attention_layernorm.weight");
    qr_declare_feed_in(d, &layer->feed_in, "gate_up", hidden,
                       QR_PARTS(QR_PART(inner, "mlp.gate_proj"), QR_PART(inner, "mlp.up_proj")));
    qr_declare_feed_out(d, &layer->feed_out, "down", inner, QR_PARTS(QR_PART(hidden, "mlp.down_proj")));
}

/* Of pair i: its angle at position 1, which is at most 1. */
static float frequency_of(const qr_parameters *p, uint32_t half, uint32_t i)
{
    return atan2f(p->rope_sin[half + i], p->rope_cos[half + i]);
}

enum { LARGE_BIAS = 4 }; /* below, it hardly widens the range of keys */

/* The keys' bias, which published Qwen2.5 has in the hundreds, in pairs that turn by less than one radian within a
 * tile: taken off as it is at the tile's first token, it leaves less than it was. Of faster ones nothing is taken. */
static void declare_common_key(qr_declaration *d, qr_layer *layer)
{
    const qr_architecture *a    = d->architecture;
    const uint32_t         half = a->head_dim / 2, columns = qr_kv_columns(a);
    float                 *common = qr_declare_floats(d, columns);
    if (common == NULL) return;
    float largest = 0;
    for (uint32_t c = 0; c < columns; c++) {
        const bool slow =
            d->max_model_len > 1 && frequency_of(d->parameters, half, c % half) * (QR_TILE_TOKENS - 1) < 1;
        common[c] = slow ? layer->qkv.bias[qr_q_columns(a) + c] : 0;
        largest   = fmaxf(largest, fabsf(common[c]));
    }
    if (largest > LARGE_BIAS) layer->k_common = common;
}

static void declare(qr_declaration *d)
{
    const qr_architecture *a = d->architecture;
    qr_declare_embedding(d, qr_random_scale(a->hidden_size));
    for (uint32_t i = 0; i < a->layers; i++) declare_layer(d, i);
    qr_declare_prefix(d, "model.");
    d->parameters->decoder_norm = qr_declare_norm(d, a->hidden_size, "norm.weight");
    qr_rope_declare(d);
    for (uint32_t i = 0; a->qkv_bias && !a->qk_norm && i < a->layers; i++)
        declare_common_key(d, qr_declare_layer(d, d->parameters->decoder, i));
    qr_declare_head(d);
}

/* ---- forward ---- */

static void forward(qr_pass *pass)
{
    qr_network            *network = pass->network;
    const qr_architecture *a       = network->architecture;
    const uint32_t         rows    = pass->plan->rows;

    if (rows == 0) return;
    qr_stage_embed(pass, rows, false);
    for (uint32_t i = 0; i < a->layers; i++) {
        const qr_layer         *layer = &network->parameters.decoder[i];
        const qr_self_attention self  = {.plan     = qr_network_self_plan(network, i),
                                         .plane    = qr_kv_memory_plane(network->kv, i),
                                         .prologue = {.rope_cos     = network->parameters.rope_cos,
                                                      .rope_sin     = network->parameters.rope_sin,
                                                      .rotary_dim   = a->head_dim,
                                                      .q_norm       = layer->q_norm,
                                                      .k_norm       = layer->k_norm,
                                                      .k_common     = layer->k_common,
                                                      .norm_epsilon = a->norm_epsilon}};
        qr_stage_self_attention(pass, layer, &self, rows);
        qr_stage_feed_forward(pass, layer, rows);
    }
}

const qr_family qr_family_llama = {
    .types           = {[LLAMA]   = {"llama", {"LlamaForCausalLM", "LLaMAForCausalLM"}},
                        [MISTRAL] = {"mistral", {"MistralForCausalLM"}},
                        [QWEN2]   = {"qwen2", {"Qwen2ForCausalLM"}},
                        [QWEN3]   = {"qwen3", {"Qwen3ForCausalLM"}}},
    .read_config     = read_config,
    .declare         = declare,
    .forward         = forward,
    .embedding_names = (const char *const[]){"model.embed_tokens.weight", NULL},
    .output_name     = "lm_head.weight",
    .unread_tensors  = (const char *const[]){NULL},
};
