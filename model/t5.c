/* T5 (Raffel et al. 2020, arXiv:1910.10683): an encoder that sees its whole input, and a decoder with cross-attention
 * to it. Scores are not scaled; positions enter as a bias by distance, from the first layer of each stack, in all of
 * its layers. The encoder runs once per input: after it, the keys and values of every decoder layer's cross-attention
 * are written into the input's cross blocks, and the encoder's output is not needed again. */
#include "model/network.h"

#include <string.h>

static uint32_t inner_columns(const qr_architecture *a) { return a->heads * a->head_dim; }

static const float *declare_norm(qr_declaration *d, const char *stack, uint32_t layer, uint32_t part)
{
    const uint32_t hidden = d->network->architecture->hidden_size;
    float         *norm   = qr_declare_floats(d, hidden);
    qr_declare_read(d, norm, hidden, "%s.block.%u.layer.%u.layer_norm.weight", stack, layer, part);
    return norm;
}

/* `names` are letters of q, k, v, o; their outputs stand side by side. */
static qr_linear *declare_attention(qr_declaration *d, const char *stack, uint32_t layer, uint32_t part,
                                    const char *names)
{
    const qr_architecture *a     = d->network->architecture;
    const uint32_t         inner = inner_columns(a), count = (uint32_t)strlen(names);
    const bool             out    = names[0] == 'o';
    const uint32_t         rows   = out ? a->hidden_size : inner;
    qr_linear             *linear = qr_declare_linear(
                    d,
                    &(qr_projection_shape){.k = out ? inner : a->hidden_size, .columns = count * rows, .name = out ? "o" : "qkv"});
    for (uint32_t i = 0; i < count; i++)
        qr_declare_matrix(d, linear, rows, "%s.block.%u.layer.%u.%s.%c.weight", stack, layer, part,
                          part == 0 ? "SelfAttention" : "EncDecAttention", names[i]);
    return linear;
}

static void declare_feed_forward(qr_declaration *d, qr_layer *layer, const char *stack, uint32_t i, uint32_t part)
{
    const qr_architecture *a     = d->network->architecture;
    const uint32_t         inner = a->intermediate_size;
    layer->feed_norm             = declare_norm(d, stack, i, part);
    layer->feed_in               = qr_declare_linear(
                      d, &(qr_projection_shape){
                             .k = a->hidden_size, .columns = inner, .gated = a->gated, .activation = a->activation, .name = "wi"});
    const char *prefix = "DenseReluDense";
    if (a->gated) {
        qr_declare_matrix(d, layer->feed_in, inner, "%s.block.%u.layer.%u.%s.wi_0.weight", stack, i, part, prefix);
        qr_declare_matrix(d, layer->feed_in, inner, "%s.block.%u.layer.%u.%s.wi_1.weight", stack, i, part, prefix);
    } else {
        qr_declare_matrix(d, layer->feed_in, inner, "%s.block.%u.layer.%u.%s.wi.weight", stack, i, part, prefix);
    }
    layer->feed_out = qr_declare_linear(d, &(qr_projection_shape){.k = inner, .columns = a->hidden_size, .name = "wo"});
    qr_declare_matrix(d, layer->feed_out, a->hidden_size, "%s.block.%u.layer.%u.%s.wo.weight", stack, i, part, prefix);
}

static void declare_stack(qr_declaration *d, const char *stack, qr_layer *layers, uint32_t count, bool decoder)
{
    for (uint32_t i = 0; i < count; i++) {
        qr_layer  counted = {0};
        qr_layer *layer   = layers ? &layers[i] : &counted;

        layer->attention_norm = declare_norm(d, stack, i, 0);
        layer->qkv            = declare_attention(d, stack, i, 0, "qkv");
        layer->output         = declare_attention(d, stack, i, 0, "o");
        if (decoder) {
            layer->cross_norm   = declare_norm(d, stack, i, 1);
            layer->cross_q      = declare_attention(d, stack, i, 1, "q");
            layer->cross_kv     = declare_attention(d, stack, i, 1, "kv");
            layer->cross_output = declare_attention(d, stack, i, 1, "o");
        }
        declare_feed_forward(d, layer, stack, i, decoder ? 2 : 1);
    }
}

static const float *declare_final_norm(qr_declaration *d, const char *stack)
{
    const uint32_t hidden = d->network->architecture->hidden_size;
    float         *norm   = qr_declare_floats(d, hidden);
    qr_declare_read(d, norm, hidden, "%s.final_layer_norm.weight", stack);
    return norm;
}

/* The first layer's [buckets][heads] becomes a table by distance for each head. */
static void declare_bias(qr_declaration *d, const char *stack, bool bidirectional, qr_attention_bias *bias)
{
    const qr_architecture *a       = d->network->architecture;
    const uint32_t         buckets = a->relative_buckets;
    qr_t5_bias_shape(bidirectional, a->relative_max_distance, bias);
    float *table   = QR_ARENA_TAKE(d->arena, float, (size_t)a->heads * bias->stride);
    float *weights = QR_ARENA_TAKE(d->arena, float, (size_t)buckets * a->heads);
    if (table == NULL || d->status != QUIRE_OK) return;
    qr_matrix matrix;
    d->status = qr_weights_find(qr_model_weights(d->network->model), buckets, a->heads, &matrix, d->error,
                                "%s.block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack);
    if (d->status == QUIRE_OK) d->status = qr_matrix_read(&matrix, 0, buckets, weights, d->error);
    if (d->status == QUIRE_OK)
        qr_t5_bias_fill(bias, table, weights, a->heads, bidirectional, buckets, a->relative_max_distance);
}

void qr_t5_declare(qr_declaration *d)
{
    qr_network            *network = d->network;
    const qr_architecture *a       = network->architecture;
    declare_stack(d, "encoder", network->encoder, a->encoder_layers, false);
    declare_stack(d, "decoder", network->decoder, a->layers, true);
    network->encoder_norm = declare_final_norm(d, "encoder");
    network->decoder_norm = declare_final_norm(d, "decoder");
    declare_bias(d, "encoder", true, &network->encoder_bias);
    declare_bias(d, "decoder", false, &network->decoder_bias);
}

/* Self-attention over `plane`, rows as qkv wrote them. */
static qr_attention_args self_args(const qr_network *network, char *plane, const qr_attention_bias *bias)
{
    const uint32_t inner  = inner_columns(network->architecture);
    const float   *qkv    = network->buffers.qkv.data;
    const uint32_t stride = network->buffers.qkv.stride;
    return (qr_attention_args){.plane     = plane,
                               .q         = qkv,
                               .k         = qkv + inner,
                               .v         = qkv + 2 * (size_t)inner,
                               .q_stride  = stride,
                               .kv_stride = stride,
                               .bias      = bias,
                               .out       = network->buffers.attended};
}

/* Norm, q | k | v, attention, output: the first part of every layer of both stacks. */
static void self_attention(qr_pass *pass, const qr_layer *layer, qr_attention_plan *plan, const qr_attention_args *args,
                           uint32_t rows)
{
    const qr_buffers *buffers = &pass->network->buffers;
    qr_stage_norm(pass, rows, layer->attention_norm);
    qr_stage_project(pass, layer->qkv, &buffers->normed, rows, &(qr_projection_out){.to = buffers->qkv});
    qr_stage_attention(pass, plan, args, true);
    qr_stage_output(pass, layer->output, NULL, rows);
}

/* Keys and values of the encoder's output (in `normed`) for every decoder layer, into the inputs' cross blocks. */
static void write_cross_blocks(qr_pass *pass, uint32_t rows)
{
    const qr_network *network = pass->network;
    const uint32_t    inner   = inner_columns(network->architecture);
    qr_rows           kv      = network->buffers.qkv;
    kv.dim                    = 2 * inner;
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        qr_stage_project(pass, network->decoder[i].cross_kv, &network->buffers.normed, rows,
                         &(qr_projection_out){.to = kv});
        const float            *k    = kv.data;
        const qr_attention_args args = {.plane     = qr_kv_memory_plane(network->kv, i),
                                        .q         = k, /* not read by an append */
                                        .k         = k,
                                        .v         = k + inner,
                                        .q_stride  = kv.stride,
                                        .kv_stride = kv.stride,
                                        .out       = network->buffers.attended};
        qr_stage_append(pass, network->cross_append_plan, &args);
    }
}

static void encode(qr_pass *pass)
{
    qr_network    *network = pass->network;
    const uint32_t rows    = network->encoder_rows;
    if (rows == 0) return;
    pass->in_encoder             = true;
    const qr_attention_args args = self_args(network, network->encoder_kv.base, &network->encoder_bias);
    qr_stage_embed(pass, rows, true);
    for (uint32_t i = 0; i < network->architecture->encoder_layers; i++) {
        self_attention(pass, &network->encoder[i], network->encoder_plan, &args, rows);
        qr_stage_feed_forward(pass, &network->encoder[i], rows);
    }
    qr_stage_norm(pass, rows, network->encoder_norm);
    write_cross_blocks(pass, rows);
    pass->in_encoder = false;
}

static void cross_attention(qr_pass *pass, const qr_layer *layer, uint32_t i, uint32_t rows)
{
    const qr_network *network    = pass->network;
    qr_rows           q          = network->buffers.qkv;
    q.dim                        = inner_columns(network->architecture);
    const qr_attention_args args = {.plane     = qr_kv_memory_plane(network->kv, i),
                                    .q         = q.data,
                                    .q_stride  = q.stride,
                                    .kv_stride = q.stride,
                                    .out       = network->buffers.attended};
    qr_stage_norm(pass, rows, layer->cross_norm);
    qr_stage_project(pass, layer->cross_q, &network->buffers.normed, rows, &(qr_projection_out){.to = q});
    qr_stage_attention(pass, network->cross_plan, &args, false);
    qr_stage_output(pass, layer->cross_output, NULL, rows);
}

void qr_t5_forward(qr_pass *pass)
{
    qr_network    *network = pass->network;
    const uint32_t rows    = pass->batch->row_count;
    encode(pass);
    if (rows == 0) return;
    qr_stage_embed(pass, rows, false);
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        const qr_layer         *layer = &network->decoder[i];
        const qr_attention_args args  = self_args(network, qr_kv_memory_plane(network->kv, i), &network->decoder_bias);
        self_attention(pass, layer, network->self_plan, &args, rows);
        cross_attention(pass, layer, i, rows);
        qr_stage_feed_forward(pass, layer, rows);
    }
}
