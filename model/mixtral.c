/* Mixtral (Jiang et al. 2024, arXiv:2401.04088) and Qwen3-MoE: Llama's and Qwen3's layers with a mixture of experts. */
#include <math.h>

#include "base/bits.h"
#include "model/decoder.h"
#include "model/experts.h"
#include "model/family.h"

enum { MIXTRAL, QWEN3_MOE };

static const struct traits {
    qr_decoder_defaults defaults;
    uint32_t            experts, experts_per_token; /* defaults */
    double              theta;                      /* default; 0: as most */
    const char         *experts_key;
    const char         *module;           /* of router and experts, within a layer */
    const char         *gate, *up, *down; /* of an expert */
    qr_qk_norm          qk_norm;
} traits_of[] = {
    [MIXTRAL]   = {{131072, .kv_heads = 8, .epsilon = 1e-5},
                   8,
                   2,
                   1e6,
                   "num_local_experts",
                   "block_sparse_moe",
                   "w1",
                   "w3",
                   "w2",
                   QR_QK_NORM_NONE},
    [QWEN3_MOE] = {{32768, .kv_heads = 4},
                   128,
                   8,
                   0,
                   "num_experts",
                   "mlp",
                   "gate_proj",
                   "up_proj",
                   "down_proj",
                   QR_QK_NORM_HEADS},
};

/* Qwen3-MoE: every decoder_sparse_step-th layer has experts, but for those in mlp_only_layers. */
static void read_dense_layers(qr_config_reader *r, qr_architecture *a)
{
    const uint32_t step = qr_config_size(r, "decoder_sparse_step", QR_MAX_LAYERS, 1);
    for (uint32_t i = 0; i < a->layers; i++)
        if ((i + 1) % step != 0) qr_layer_set_add(&a->dense, i);
    size_t        i;
    const json_t *element;
    json_array_foreach(qr_config_array(r, "mlp_only_layers"), i, element)
    {
        const int64_t layer = json_is_integer(element) ? json_integer_value(element) : -1;
        if (layer < 0 || layer >= a->layers)
            QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: mlp_only_layers[%zu]: expected 0 to %u (num_hidden_layers - 1)",
                        r->origin, i, a->layers - 1);
        else
            qr_layer_set_add(&a->dense, (uint32_t)layer);
    }
}

static void read_experts(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    qr_experts_read(r, traits_of[type].experts_key, traits_of[type].experts, traits_of[type].experts_per_token, a);
    a->expert_size          = a->intermediate_size;
    a->experts_renormalised = true;
    if (type == MIXTRAL) return;
    a->expert_size          = qr_config_size(r, "moe_intermediate_size", QR_MAX_WIDTH, 768);
    a->experts_renormalised = qr_config_boolean(r, "norm_topk_prob", false);
    read_dense_layers(r, a);
}

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    const qr_layer_set none = {{0}};

    qr_config_read_decoder(r, &traits_of[type].defaults, a);
    a->attention_scale = 1 / sqrtf((float)a->head_dim);
    a->gated           = true;
    a->activation      = qr_config_activation(r, "hidden_act", qr_config_string(r, r->root, "hidden_act", "silu"));
    a->qk_norm         = traits_of[type].qk_norm;
    if (type == QWEN3_MOE) qr_decoder_read_biases(r, a);
    qr_rope_read(r, &(qr_rope_rules){.theta = traits_of[type].theta}, a);
    if (type == MIXTRAL || qr_config_boolean(r, "use_sliding_window", false))
        qr_decoder_read_window(r, type == MIXTRAL ? 0 : 4096, &none, a);
    read_experts(r, type, a);
}

static void declare_expert(qr_declaration *d, qr_expert *expert)
{
    const struct traits *traits = &traits_of[d->architecture->type];
    const uint32_t       hidden = d->architecture->hidden_size, inner = d->architecture->expert_size;
    qr_declare_feed_in(d, &expert->in, "expert's gate_up", hidden, QR_CUT_EXPERT,
                       QR_PARTS(QR_PART(inner, traits->gate), QR_PART(inner, traits->up)));
    qr_declare_feed_out(d, &expert->out, "expert's down", inner, QR_PARTS(QR_PART(hidden, traits->down)));
}

static void declare_layer(qr_declaration *d, qr_layer *layer, uint32_t i)
{
    const char    *module        = traits_of[d->architecture->type].module;
    const uint32_t hidden        = d->architecture->hidden_size;
    layer->attention_norm.weight = qr_declare_norm(d, hidden, "input_layernorm.weight");
    qr_decoder_declare_attention(d, layer, false);
    layer->feed_norm.weight = qr_declare_norm(d, hidden, "post_attention_layernorm.weight");
    if (qr_layer_set_has(&d->architecture->dense, i)) {
        qr_decoder_declare_feed_forward(d, layer, false);
        return;
    }
    qr_declare_prefix(d, "model.layers.%u.%s.", i, module);
    qr_declare_router(d, layer, "gate", false);
    for (uint32_t e = 0; e < d->architecture->experts; e++) {
        qr_declare_prefix(d, "model.layers.%u.%s.experts.%u.", i, module, e);
        declare_expert(d, qr_declare_expert(d, layer, e));
    }
}

static void declare(qr_declaration *d) { qr_decoder_declare(d, declare_layer); }

const qr_family qr_family_mixtral = {
    .kind            = QR_MIXTURE_OF_EXPERTS,
    .types           = {[MIXTRAL]   = {"mixtral", {"MixtralForCausalLM"}, "Mistral's layers with experts", {true, 2}},
                        [QWEN3_MOE] = {"qwen3_moe",
                                       {"Qwen3MoeForCausalLM"},
                                       "Qwen3's layers with experts, in all or some of them",
                                       {false, 0}}},
    .read_config     = read_config,
    .declare         = declare,
    .forward         = qr_decoder_forward,
    .embedding_names = (const char *const[]){"model.embed_tokens.weight", NULL},
    .output_name     = "lm_head.weight",
    .unread_tensors  = (const char *const[]){NULL},
};
