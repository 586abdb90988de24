/* Gemma 2 (Gemma Team 2024, arXiv:2408.00118) and Gemma 3 (2025, arXiv:2503.19786): norms before and behind attention
 * and feed-forward, whose weights files hold less one; scaled embeddings; local layers, which have a window, between
 * global ones. Gemma 2 caps scores and logits; Gemma 3 normalises q and k, and rotates local layers by a theta of their
 * own. */
#include <math.h>

#include "model/decoder.h"
#include "model/family.h"

enum { GEMMA2, GEMMA3 };

static const struct traits { /* numbers are defaults */
    qr_decoder_defaults defaults;
    int64_t             pattern; /* one of so many layers is global, the last of them */
    double              score_cap, logits_cap;
    qr_qk_norm          qk_norm;
    double              theta, local_theta;
} traits_of[] = {
    [GEMMA2] = {{8192, .kv_heads = 4, .head_dim = 256}, 2, 50, 30, QR_QK_NORM_NONE, 1e4, 0},
    [GEMMA3] = {{131072, .kv_heads = 4, .head_dim = 256}, 6, 0, 0, QR_QK_NORM_HEADS, 1e6, 1e4},
};

/* null is none. */
static float read_cap(qr_config_reader *r, const char *key, double fallback)
{
    const bool null = json_is_null(json_object_get(r->root, key));
    return null ? 0 : (float)qr_config_number(r, r->root, key, 1e-3, 1e6, fallback);
}

static void read_layers(qr_config_reader *r, const struct traits *traits, qr_architecture *a)
{
    static const char key[] = "sliding_window_pattern", newer[] = "_sliding_window_pattern";
    const uint32_t    older   = qr_config_size(r, key, QR_MAX_LAYERS, traits->pattern);
    const uint32_t    pattern = qr_config_size(r, newer, QR_MAX_LAYERS, older);
    if (qr_config_has(r, key) && pattern != older)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: %s: %u contradicts %s %u", r->origin, key, older, newer, pattern);
    qr_layer_set global = {{0}};
    for (uint32_t i = pattern - 1; i < a->layers; i += pattern) qr_layer_set_add(&global, i);
    qr_config_refuse(r, json_is_null(json_object_get(r->root, "sliding_window")), "sliding_window",
                     "null is not supported, local layers have a window");
    qr_decoder_read_window(r, 4096, &global, a);
}

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    const struct traits *traits = &traits_of[type];

    qr_config_read_decoder(r, &traits->defaults, a);
    a->gated           = true;
    a->activation      = qr_config_activation(r, "hidden_activation",
                                              qr_config_string(r, r->root, "hidden_activation", "gelu_pytorch_tanh"));
    a->embedding_scale = sqrtf((float)a->hidden_size);
    a->attention_scale = (float)(1 / sqrt(qr_config_number(r, r->root, "query_pre_attn_scalar", 1e-3, 1e6, 256)));
    a->attention_cap   = read_cap(r, "attn_logit_softcapping", traits->score_cap);
    a->logits_cap      = read_cap(r, "final_logit_softcapping", traits->logits_cap);
    a->norms_less_one = a->branch_norms = true;
    a->qk_norm                          = traits->qk_norm;
    qr_decoder_read_biases(r, a);
    qr_config_refuse(r, qr_config_boolean(r, "use_bidirectional_attention", false), "use_bidirectional_attention",
                     "only false is supported");
    const uint32_t scaled = a->max_position_embeddings; /* unlike others' */
    qr_rope_read(r, &(qr_rope_rules){.theta = traits->theta, .local_theta = traits->local_theta}, a);
    if (a->rope.type == QR_ROPE_LINEAR) a->max_position_embeddings = scaled;
    read_layers(r, traits, a);
}

static void declare_layer(qr_declaration *d, qr_layer *layer, uint32_t i)
{
    const uint32_t hidden = d->architecture->hidden_size;
    (void)i;
    layer->attention_norm.weight = qr_declare_norm(d, hidden, "input_layernorm.weight");
    qr_decoder_declare_attention(d, layer, false);
    layer->attention_branch_norm = qr_declare_norm(d, hidden, "post_attention_layernorm.weight");
    layer->feed_norm.weight      = qr_declare_norm(d, hidden, "pre_feedforward_layernorm.weight");
    qr_decoder_declare_feed_forward(d, layer, false);
    layer->feed_branch_norm = qr_declare_norm(d, hidden, "post_feedforward_layernorm.weight");
}

static void declare(qr_declaration *d) { qr_decoder_declare(d, declare_layer); }

const qr_family qr_family_gemma = {
    .kind  = QR_DECODER_ONLY,
    .types = {[GEMMA2] = {"gemma2", {"Gemma2ForCausalLM"}, "windowed layers; scores and logits are capped", {true, 1}},
              [GEMMA3] = {"gemma3_text",
                          {"Gemma3ForCausalLM"},
                          "windowed layers with a rotary base of their own; a norm of each head of q and k",
                          {true, 1}}},
    .read_config     = read_config,
    .declare         = declare,
    .forward         = qr_decoder_forward,
    .embedding_names = (const char *const[]){"model.embed_tokens.weight", NULL},
    .output_name     = "lm_head.weight",
    .tied_by_default = true,
    .unread_tensors  = (const char *const[]){NULL},
};
