/* gpt-oss (OpenAI 2025, arXiv:2508.10925): a mixture of experts in every layer, sinks beside the keys, windows in every
 * other layer. Files hold a layer's experts in one tensor, gate and up in alternating rows; published ones in MXFP4,
 * others with rows and columns exchanged. */
#include <math.h>

#include "model/decoder.h"
#include "model/experts.h"
#include "model/family.h"

/* ---- config.json ---- */

static void read_swiglu(qr_config_reader *r, qr_architecture *a)
{
    a->gated      = true;
    a->activation = QR_ACTIVATION_SWIGLU_OAI;
    qr_config_refuse(r, qr_config_number(r, r->root, "swiglu_limit", 0, 1e6, 7) != 7, "swiglu_limit",
                     "only 7 is supported");
    qr_config_refuse(r, qr_config_number(r, r->root, "swiglu_alpha", 0, 1e6, 1.702) != 1.702, "swiglu_alpha",
                     "only 1.702 is supported");
}

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    static const char yarn[] = "{\"rope_type\": \"yarn\", \"factor\": 32, \"beta_fast\": 32, \"beta_slow\": 1, "
                               "\"truncate\": false, \"original_max_position_embeddings\": 4096}";
    qr_layer_set      full   = {{0}};
    (void)type;
    qr_config_read_decoder(r, &(qr_decoder_defaults){131072, .kv_heads = 8, .head_dim = 64, .epsilon = 1e-5}, a);
    a->attention_scale = 1 / sqrtf((float)a->head_dim);
    a->qkv_bias = a->output_bias = qr_config_boolean(r, "attention_bias", true);
    read_swiglu(r, a);
    qr_rope_read(r, &(qr_rope_rules){.theta = 150000, .parameters = yarn}, a);
    for (uint32_t i = 1; i < a->layers; i += 2) qr_layer_set_add(&full, i);
    qr_decoder_read_window(r, 128, &full, a);
    qr_experts_read(r, "num_local_experts", 128, 4, a);
    a->expert_size          = a->intermediate_size;
    a->experts_renormalised = a->expert_bias = true;
    a->mxfp4_experts                         = a->quantisation.packing == QR_PACKING_MXFP4;
    qr_config_refuse(r, a->quantisation.packing != QR_PACKING_NONE && !a->mxfp4_experts, "quantization_config",
                     "of gpt_oss only mxfp4 is supported");
}

/* ---- tensors ---- */

/* Of the share's columns, from g u g u ... to g g ... u u ... */
static const float *part_gate_and_up(qr_declaration *d, const qr_linear *in, const float *mixed, uint32_t expert)
{
    const uint32_t columns = in->shape.columns, first = qr_linear_first_column(in);
    float         *parted = qr_declare_floats(d, 2 * (size_t)columns);
    for (uint32_t i = 0; parted != NULL && i < 2 * columns; i++)
        parted[i % 2 * columns + i / 2] = mixed[2 * ((size_t)expert * d->architecture->expert_size + first) + i];
    return parted;
}

static void declare_experts(qr_declaration *d, qr_layer *layer)
{
    const qr_architecture *a      = d->architecture;
    const uint32_t         hidden = a->hidden_size, inner = a->expert_size, experts = a->experts;
    qr_matrix              gate_up, down;
    qr_declare_stack(d, &gate_up, experts, 2 * inner, hidden, "gate_up_proj");
    qr_declare_stack(d, &down, experts, hidden, inner, "down_proj");
    const float *in  = qr_declare_table(d, experts, 2 * inner, QR_RANDOM_BIAS, "gate_up_proj_bias");
    const float *out = qr_declare_table(d, experts, hidden, QR_RANDOM_BIAS, "down_proj_bias");
    for (uint32_t e = 0; e < experts; e++) {
        qr_expert *expert = qr_declare_expert(d, layer, e);
        qr_declare_feed_in_of(d, &expert->in, "expert's gate_up", qr_stack_part(&gate_up, e, 2, 0),
                              qr_stack_part(&gate_up, e, 2, 1));
        qr_declare_feed_out_of(d, &expert->out, "expert's down", qr_stack_part(&down, e, 1, 0));
        expert->in.bias  = part_gate_and_up(d, &expert->in, in, e);
        expert->out.bias = out ? out + (size_t)e * hidden + qr_linear_first_column(&expert->out) : NULL;
    }
}

static void declare_layer(qr_declaration *d, qr_layer *layer, uint32_t i)
{
    const qr_architecture *a     = d->architecture;
    layer->attention_norm.weight = qr_declare_norm(d, a->hidden_size, "input_layernorm.weight");
    qr_decoder_declare_attention(d, layer, false);
    layer->sinks            = qr_declare_norm(d, a->heads, "self_attn.sinks"); /* no norm, but as plain a vector */
    layer->feed_norm.weight = qr_declare_norm(d, a->hidden_size, "post_attention_layernorm.weight");
    qr_declare_router(d, layer, "mlp.router", true);
    qr_declare_prefix(d, "model.layers.%u.mlp.experts.", i);
    declare_experts(d, layer);
}

static void declare(qr_declaration *d) { qr_decoder_declare(d, declare_layer); }

const qr_family qr_family_gpt_oss = {
    .kind  = QR_MIXTURE_OF_EXPERTS,
    .types = {{"gpt_oss", {"GptOssForCausalLM"}, "attention sinks, windowed layers, experts in MXFP4", {false, 0}}},
    .read_config     = read_config,
    .declare         = declare,
    .forward         = qr_decoder_forward,
    .embedding_names = (const char *const[]){"model.embed_tokens.weight", NULL},
    .output_name     = "lm_head.weight",
    .unread_tensors  = (const char *const[]){NULL},
};
