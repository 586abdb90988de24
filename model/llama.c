/* Llama, Mistral, Qwen2, Qwen3: pre-norm decoder layers with rotary embedding and a gated feed-forward. They differ in
 * what a layer has: a window (Mistral), biases of q, k, v (Qwen2), a norm of each head of q and k (Qwen3). */
#include "model/network.h"

#include <math.h>

static uint32_t q_columns(const qr_architecture *a) { return a->heads * a->head_dim; }
static uint32_t kv_columns(const qr_architecture *a) { return a->kv_heads * a->head_dim; }

static const float *declare_norm(qr_declaration *d, uint32_t count, const char *part, uint32_t layer)
{
    float *norm = qr_declare_floats(d, count);
    qr_declare_read(d, norm, count, "model.layers.%u.%s.weight", layer, part);
    return norm;
}

static const float *declare_qkv_bias(qr_declaration *d, uint32_t layer)
{
    const qr_architecture *a = d->network->architecture;
    const uint32_t         q = q_columns(a), kv = kv_columns(a);
    float                 *bias = qr_declare_floats(d, q + 2 * kv);
    qr_declare_read(d, bias, q, "model.layers.%u.self_attn.q_proj.bias", layer);
    qr_declare_read(d, bias ? bias + q : NULL, kv, "model.layers.%u.self_attn.k_proj.bias", layer);
    qr_declare_read(d, bias ? bias + q + kv : NULL, kv, "model.layers.%u.self_attn.v_proj.bias", layer);
    return bias;
}

static const float *declare_output_bias(qr_declaration *d, uint32_t layer)
{
    const uint32_t hidden = d->network->architecture->hidden_size;
    float         *bias   = qr_declare_floats(d, hidden);
    qr_declare_read(d, bias, hidden, "model.layers.%u.self_attn.o_proj.bias", layer);
    return bias;
}

static void declare_attention(qr_declaration *d, qr_layer *layer, uint32_t i)
{
    const qr_architecture *a      = d->network->architecture;
    const uint32_t         hidden = a->hidden_size, q = q_columns(a), kv = kv_columns(a);
    layer->attention_norm = declare_norm(d, hidden, "input_layernorm", i);
    layer->qkv = qr_declare_linear(d, &(qr_projection_shape){.k = hidden, .columns = q + 2 * kv, .name = "qkv"});
    qr_declare_matrix(d, layer->qkv, q, "model.layers.%u.self_attn.q_proj.weight", i);
    qr_declare_matrix(d, layer->qkv, kv, "model.layers.%u.self_attn.k_proj.weight", i);
    qr_declare_matrix(d, layer->qkv, kv, "model.layers.%u.self_attn.v_proj.weight", i);
    layer->output = qr_declare_linear(d, &(qr_projection_shape){.k = q, .columns = hidden, .name = "o"});
    qr_declare_matrix(d, layer->output, hidden, "model.layers.%u.self_attn.o_proj.weight", i);
    if (a->qkv_bias) layer->qkv_bias = declare_qkv_bias(d, i);
    if (a->output_bias) layer->output_bias = declare_output_bias(d, i);
    if (a->qk_norm) {
        layer->q_norm = declare_norm(d, a->head_dim, "self_attn.q_norm", i);
        layer->k_norm = declare_norm(d, a->head_dim, "self_attn.k_norm", i);
    }
}

static void declare_feed_forward(qr_declaration *d, qr_layer *layer, uint32_t i)
{
    const qr_architecture *a      = d->network->architecture;
    const uint32_t         hidden = a->hidden_size, inner = a->intermediate_size;
    layer->feed_norm = declare_norm(d, hidden, "post_attention_layernorm", i);
    layer->feed_in   = qr_declare_linear(
          d, &(qr_projection_shape){
                 .k = hidden, .columns = inner, .gated = true, .activation = a->activation, .name = "gate_up"});
    qr_declare_matrix(d, layer->feed_in, inner, "model.layers.%u.mlp.gate_proj.weight", i);
    qr_declare_matrix(d, layer->feed_in, inner, "model.layers.%u.mlp.up_proj.weight", i);
    layer->feed_out = qr_declare_linear(d, &(qr_projection_shape){.k = inner, .columns = hidden, .name = "down"});
    qr_declare_matrix(d, layer->feed_out, hidden, "model.layers.%u.mlp.down_proj.weight", i);
}

/* Frequency of pair i, in f32 as Hugging Face computes it. */
static float rope_frequency(const qr_rope *rope, uint32_t i, uint32_t head_dim)
{
    const float frequency = 1.0f / powf((float)rope->theta, (float)(2 * i) / (float)head_dim);
    if (!rope->llama3) return frequency;
    const double low = rope->low_freq_factor, high = rope->high_freq_factor;
    const float  length = (float)rope->original_max_position_embeddings, wavelength = 6.2831853071795865f / frequency;
    if (wavelength < length / (float)high) return frequency;
    if (wavelength > length / (float)low) return frequency / (float)rope->factor;
    const float smooth = (length / wavelength - (float)low) / (float)(high - low);
    return (1 - smooth) * frequency / (float)rope->factor + smooth * frequency;
}

static void fill_rope(qr_network *network)
{
    const qr_architecture *a    = network->architecture;
    const uint32_t         half = a->head_dim / 2, positions = network->options.max_model_len;
    for (uint32_t i = 0; i < half; i++) {
        const float frequency = rope_frequency(&a->rope, i, a->head_dim);
        for (uint32_t position = 0; position < positions; position++) {
            const float angle                              = (float)position * frequency;
            network->rope_cos[(size_t)position * half + i] = (float)cos((double)angle);
            network->rope_sin[(size_t)position * half + i] = (float)sin((double)angle);
        }
    }
}

void qr_llama_declare(qr_declaration *d)
{
    qr_network            *network = d->network;
    const qr_architecture *a       = network->architecture;
    for (uint32_t i = 0; i < a->layers; i++) {
        qr_layer  counted = {0};
        qr_layer *layer   = network->decoder ? &network->decoder[i] : &counted;
        declare_attention(d, layer, i);
        declare_feed_forward(d, layer, i);
    }
    float *norm = qr_declare_floats(d, a->hidden_size);
    qr_declare_read(d, norm, a->hidden_size, "model.norm.weight");
    network->decoder_norm = norm;
    const size_t table    = (size_t)network->options.max_model_len * (a->head_dim / 2);
    network->rope_cos     = QR_ARENA_TAKE(d->arena, float, table);
    network->rope_sin     = QR_ARENA_TAKE(d->arena, float, table);
    if (network->rope_cos != NULL) fill_rope(network);
}

static qr_attention_args attention_args(const qr_network *network, uint32_t i)
{
    const qr_architecture *a     = network->architecture;
    const qr_layer        *layer = &network->decoder[i];
    const float           *qkv   = network->buffers.qkv.data;
    return (qr_attention_args){
        .plane     = qr_kv_memory_plane(network->kv, i),
        .q         = qkv,
        .k         = qkv + q_columns(a),
        .v         = qkv + q_columns(a) + kv_columns(a),
        .q_stride  = network->buffers.qkv.stride,
        .kv_stride = network->buffers.qkv.stride,
        .prologue  = {.rope_cos     = network->rope_cos,
                      .rope_sin     = network->rope_sin,
                      .rotary_dim   = a->head_dim,
                      .q_norm       = layer->q_norm,
                      .k_norm       = layer->k_norm,
                      .norm_epsilon = a->norm_epsilon},
        .out       = network->buffers.attended,
    };
}

void qr_llama_forward(qr_pass *pass)
{
    qr_network       *network = pass->network;
    const qr_buffers *buffers = &network->buffers;
    const uint32_t    rows    = pass->batch->row_count;

    if (rows == 0) return;
    qr_stage_embed(pass, rows, false);
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        const qr_layer         *layer = &network->decoder[i];
        const qr_attention_args args  = attention_args(network, i);
        qr_stage_norm(pass, rows, layer->attention_norm);
        qr_stage_project(pass, layer->qkv, &buffers->normed, rows,
                         &(qr_projection_out){.to = buffers->qkv, .bias = layer->qkv_bias});
        qr_stage_attention(pass, network->self_plan, &args, true);
        qr_stage_output(pass, layer->output, layer->output_bias, rows);
        qr_stage_feed_forward(pass, layer, rows);
    }
}
