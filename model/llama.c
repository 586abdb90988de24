/* Llama and the models that differ from it in numbers and in what a layer has: a window (Mistral), biases of q, k, v
 * (Qwen2), a norm of each head of q and k (Qwen3), layers without rotary embedding (SmolLM3), multipliers (Granite),
 * fused tensors (Phi-3), norms behind attention and feed-forward in place of those before, and of whole rows of q and k
 * (OLMo 2). */
#include <math.h>

#include "base/bits.h"
#include "model/decoder.h"
#include "model/family.h"

/* ---- config.json ---- */

enum { LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3, GRANITE, PHI3, OLMO2 };

typedef enum window_rule {
    WINDOW_NONE,
    WINDOW_GIVEN,     /* sliding_window, in all layers */
    WINDOW_FROM,      /* if use_sliding_window, from layer max_window_layers on */
    WINDOW_UNROTATED, /* if use_sliding_window, in layers without rope */
} window_rule;

static const struct traits {
    qr_decoder_defaults defaults;
    bool                qkv_bias;       /* always */
    bool                attention_bias; /* of q, k, v and o, if config.json says so */
    bool                fused;          /* one tensor of q, k and v, and one of gate and up */
    bool                norms_behind;   /* of what is added to the residual stream, none before */
    bool                partial_rotary;
    uint32_t            original_length; /* default */
    qr_qk_norm          qk_norm;
    window_rule         window;
    uint32_t            default_window; /* where the key is missing */
    double              default_theta;  /* 0: as most */
} traits_of[] = {
    [LLAMA]   = {{.max_position_embeddings = 2048}, .attention_bias = true},
    [MISTRAL] = {{131072, .kv_heads = 8}, .window = WINDOW_GIVEN, .default_window = 4096},
    [QWEN2]   = {{32768, .kv_heads = 32}, .qkv_bias = true, .window = WINDOW_FROM, .default_window = 4096},
    [QWEN3]   = {{32768, .kv_heads = 32, .head_dim = 128},
                 .attention_bias = true,
                 .qk_norm        = QR_QK_NORM_HEADS,
                 .window         = WINDOW_FROM,
                 .default_window = 4096},
    [SMOLLM3] = {{32768, .kv_heads = 4}, .attention_bias = true, .window = WINDOW_UNROTATED, .default_theta = 2e6},
    [GRANITE] = {{.max_position_embeddings = 2048}, .attention_bias = true},
    [PHI3]    = {{4096, .epsilon = 1e-5},
                 .fused           = true,
                 .partial_rotary  = true,
                 .original_length = 4096,
                 .window          = WINDOW_GIVEN},
    [OLMO2]   = {{2048, .epsilon = 1e-5}, .attention_bias = true, .norms_behind = true, .qk_norm = QR_QK_NORM_ROW},
};

/* `no_rope_layers` has a 1 for each layer with rope, in spite of its name; where missing, every
 * no_rope_layer_interval-th has none. */
static void read_unrotated(qr_config_reader *r, qr_architecture *a)
{
    const json_t  *given    = qr_config_array(r, "no_rope_layers");
    const uint32_t interval = qr_config_size(r, "no_rope_layer_interval", QR_MAX_LAYERS, 4);
    if (given != NULL && json_array_size(given) != a->layers)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT,
                    "%s: no_rope_layers: expected an array of num_hidden_layers = %u elements, found %zu", r->origin,
                    a->layers, json_array_size(given));
    for (uint32_t i = 0; i < a->layers && r->status == QUIRE_OK; i++) {
        const json_t *element = json_array_get(given, i);
        if (given != NULL && (!json_is_integer(element) || (uint64_t)json_integer_value(element) > 1))
            QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: no_rope_layers[%u]: expected 0 or 1", r->origin, i);
        if (given != NULL ? json_integer_value(element) == 0 : (i + 1) % interval == 0)
            qr_layer_set_add(&a->unrotated, i);
    }
}

static void read_window(qr_config_reader *r, const struct traits *traits, qr_architecture *a)
{
    qr_layer_set full = {{0}};
    if (traits->window == WINDOW_NONE) return;
    if (traits->window != WINDOW_GIVEN && !qr_config_boolean(r, "use_sliding_window", false)) return;
    if (traits->window == WINDOW_FROM) {
        const int64_t from = qr_config_integer(r, r->root, "max_window_layers", 0, QR_MAX_LAYERS, 28);
        for (uint32_t i = 0; i < qr_min_u32((uint32_t)from, a->layers); i++) qr_layer_set_add(&full, i);
    }
    for (uint32_t i = 0; traits->window == WINDOW_UNROTATED && i < a->layers; i++)
        if (!qr_layer_set_has(&a->unrotated, i)) qr_layer_set_add(&full, i);
    qr_decoder_read_window(r, traits->default_window, &full, a);
}

static void read_multipliers(qr_config_reader *r, qr_architecture *a)
{
    a->attention_scale = (float)qr_config_number(r, r->root, "attention_multiplier", 1e-6, 1e6, 1);
    a->embedding_scale = (float)qr_config_number(r, r->root, "embedding_multiplier", 1e-6, 1e6, 1);
    a->residual_scale  = (float)qr_config_number(r, r->root, "residual_multiplier", 1e-6, 1e6, 1);
    a->logits_scale    = (float)(1 / qr_config_number(r, r->root, "logits_scaling", 1e-6, 1e6, 1));
}

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    const struct traits *traits = &traits_of[type];

    qr_config_read_decoder(r, &traits->defaults, a);
    a->attention_scale = 1 / sqrtf((float)a->head_dim);
    a->gated           = true;
    a->activation      = qr_config_activation(r, "hidden_act", qr_config_string(r, r->root, "hidden_act", "silu"));
    qr_decoder_read_biases(r, a);
    a->output_bias &= traits->attention_bias;
    a->qkv_bias     = traits->qkv_bias || a->output_bias;
    a->qk_norm      = traits->qk_norm;
    a->branch_norms = traits->norms_behind;
    qr_rope_read(r,
                 &(qr_rope_rules){.theta            = traits->default_theta,
                                  .partial          = traits->partial_rotary,
                                  .original_length  = traits->original_length,
                                  .yarn_is_longrope = type == PHI3},
                 a);
    if (type == SMOLLM3) read_unrotated(r, a);
    if (type == SMOLLM3 && !qr_config_has(r, "tie_word_embeddings")) /* unlike the others it is tied by default */
        a->tied = true, a->head_name = a->embedding_name;
    if (type == GRANITE) read_multipliers(r, a);
    read_window(r, traits, a);
}

/* ---- tensors ---- */

static void declare_layer(qr_declaration *d, qr_layer *layer, uint32_t i)
{
    const struct traits *traits = &traits_of[d->architecture->type];
    const uint32_t       hidden = d->architecture->hidden_size;
    (void)i;
    if (!traits->norms_behind) layer->attention_norm.weight = qr_declare_norm(d, hidden, "input_layernorm.weight");
    qr_decoder_declare_attention(d, layer, traits->fused);
    const float *norm = qr_declare_norm(d, hidden, "post_attention_layernorm.weight");
    *(traits->norms_behind ? &layer->attention_branch_norm : &layer->feed_norm.weight) = norm;
    qr_decoder_declare_feed_forward(d, layer, traits->fused);
    if (traits->norms_behind) layer->feed_branch_norm = qr_declare_norm(d, hidden, "post_feedforward_layernorm.weight");
}

static void declare(qr_declaration *d) { qr_decoder_declare(d, declare_layer); }

const qr_family qr_family_llama = {
    .kind = QR_DECODER_ONLY,
    .types =
        {[LLAMA]   = {"llama", {"LlamaForCausalLM", "LLaMAForCausalLM"}, "what the others are described by", {true, 2}},
         [MISTRAL] = {"mistral", {"MistralForCausalLM"}, "a window", {true, 2}},
         [QWEN2]   = {"qwen2", {"Qwen2ForCausalLM"}, "biases of q, k and v", {false, 0}},
         [QWEN3]   = {"qwen3", {"Qwen3ForCausalLM"}, "a norm of each head of q and k", {false, 0}},
         [SMOLLM3] = {"smollm3", {"SmolLM3ForCausalLM"}, "layers without rotary embedding", {true, 128001}},
         [GRANITE] = {"granite",
                      {"GraniteForCausalLM"},
                      "multipliers of embedding, scores, residual stream and logits",
                      {true, 2}},
         [PHI3]    = {"phi3", {"Phi3ForCausalLM"}, "fused tensors, partial rotary embedding", {true, 32000}},
         [OLMO2]   = {"olmo2",
                      {"Olmo2ForCausalLM"},
                      "norms behind attention and feed-forward, and of whole rows of q and k",
                      {true, 50279}}},
    .read_config     = read_config,
    .declare         = declare,
    .forward         = qr_decoder_forward,
    .embedding_names = (const char *const[]){"model.embed_tokens.weight", NULL},
    .output_name     = "lm_head.weight",
    .unread_tensors  = (const char *const[]){NULL},
};
