/* The forward pass of encoder-decoder models. The encoder runs once per input: after it, the keys and values of every
 * decoder layer's cross-attention are written into the input's cross blocks, and its output is not needed again. */
#include "model/network.h"

/* Norms behind a layer's sums: its first projection reads the embeddings as they are. */
static void begin_layers(qr_pass *pass, uint32_t rows)
{
    if (pass->network->architecture->post_norm) qr_stage_norm_hidden(pass, rows, &(qr_norm){0});
}

static qr_self_attention self_attention(const qr_layer *layer, qr_attention_plan *plan, char *plane)
{
    return (qr_self_attention){
        .plan = plan, .plane = plane, .bias = layer->bias.by_distance != NULL ? &layer->bias : NULL};
}

static void encode(qr_pass *pass)
{
    qr_network            *network = pass->network;
    const qr_architecture *a       = network->architecture;
    const qr_parameters   *p       = &network->parameters;
    const uint32_t         rows    = network->encoder_rows;
    if (rows == 0) return;
    pass->in_encoder = true;
    if (a->feature_size > 0)
        qr_stage_convolve(pass, rows);
    else
        qr_stage_embed(pass, rows, true);
    begin_layers(pass, rows);
    for (uint32_t i = 0; i < a->encoder_layers; i++) {
        const qr_layer         *layer = &p->encoder[i];
        const qr_self_attention self  = self_attention(layer, network->encoder_plan, network->encoder_kv.base);
        qr_stage_self_attention(pass, layer, &self, rows);
        qr_stage_feed_forward(pass, layer, rows);
    }
    if (!a->post_norm) qr_stage_norm(pass, rows, &p->encoder_norm);
    qr_stage_write_cross_blocks(pass, rows);
    pass->in_encoder = false;
}

static void decode(qr_pass *pass)
{
    qr_network    *network = pass->network;
    const uint32_t rows    = pass->plan->rows;
    if (rows == 0) return;
    qr_stage_embed(pass, rows, false);
    begin_layers(pass, rows);
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        const qr_layer         *layer = &network->parameters.decoder[i];
        const qr_self_attention self  = self_attention(layer, network->self_plan, qr_kv_memory_plane(network->kv, i));
        qr_stage_self_attention(pass, layer, &self, rows);
        qr_stage_cross_attention(pass, layer, i, rows);
        qr_stage_feed_forward(pass, layer, rows);
    }
}

void qr_forward_encoder_decoder(qr_pass *pass)
{
    encode(pass);
    decode(pass);
}
