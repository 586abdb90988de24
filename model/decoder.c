/* Decoder-only layers with rotary embedding: settings, tensors, forward pass. */
#include "model/decoder.h"

#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "model/experts.h"

/* ---- config.json ---- */

static void read_layer_types(qr_config_reader *r, const qr_architecture *a, qr_layer_set *full)
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
            qr_layer_set_add(full, (uint32_t)i);
        else if (type == NULL || strcmp(type, "sliding_attention") != 0)
            QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: layer_types[%zu]: \"%.40s\" is not supported", r->origin, i,
                        type ? type : qr_json_type_name(element));
    }
}

void qr_decoder_read_window(qr_config_reader *r, uint32_t fallback, const qr_layer_set *full, qr_architecture *a)
{
    const bool     null   = json_is_null(json_object_get(r->root, "sliding_window"));
    const uint32_t window = null ? 0 : qr_config_size(r, "sliding_window", QR_MAX_POSITION, fallback);
    qr_layer_set   given  = {{0}};
    uint32_t       count  = 0;
    if (qr_config_has(r, "layer_types")) {
        read_layer_types(r, a, &given);
        full = &given;
    }
    for (uint32_t i = 0; i < a->layers; i++) count += qr_layer_set_has(full, i);
    if (window == 0 || count == a->layers) return;
    a->window      = window;
    a->full_layers = count;
    a->full        = *full;
}

void qr_decoder_read_biases(qr_config_reader *r, qr_architecture *a)
{
    a->qkv_bias = a->output_bias = qr_config_boolean(r, "attention_bias", false);
    qr_config_refuse(r, qr_config_boolean(r, "mlp_bias", false), "mlp_bias",
                     "a bias in the feed-forward is not supported");
}

/* ---- tensors ---- */

void qr_decoder_declare_attention(qr_declaration *d, qr_layer *layer, bool fused)
{
    const qr_architecture *a      = d->architecture;
    const uint32_t         hidden = a->hidden_size, q = qr_q_columns(a), kv = qr_kv_columns(a);
    const bool             row = a->qk_norm == QR_QK_NORM_ROW;
    if (fused)
        qr_declare_linear(d, &layer->qkv, "qkv", hidden, QR_CUT_QUERIES_KEYS_VALUES,
                          QR_PARTS(QR_PART(q + 2 * kv, "self_attn.qkv_proj")));
    else
        qr_declare_linear(d, &layer->qkv, "qkv", hidden, QR_CUT_QUERIES_KEYS_VALUES,
                          QR_PARTS(QR_PART(q, "self_attn.q_proj", .bias = a->qkv_bias),
                                   QR_PART(kv, "self_attn.k_proj", .bias = a->qkv_bias),
                                   QR_PART(kv, "self_attn.v_proj", .bias = a->qkv_bias)));
    if (a->qk_norm != QR_QK_NORM_NONE) {
        layer->q_norm = qr_declare_norm(d, row ? q : a->head_dim, "self_attn.q_norm.weight");
        layer->k_norm = qr_declare_norm(d, row ? kv : a->head_dim, "self_attn.k_norm.weight");
    }
    qr_declare_linear(d, &layer->output, "o", q, QR_CUT_HIDDEN,
                      QR_PARTS(QR_PART(hidden, "self_attn.o_proj", .bias = a->output_bias)));
}

void qr_decoder_declare_feed_forward(qr_declaration *d, qr_layer *layer, bool fused)
{
    const uint32_t hidden = d->architecture->hidden_size, inner = d->architecture->intermediate_size;
    if (fused)
        qr_declare_feed_in(d, &layer->feed_in, "gate_up", hidden, QR_CUT_INNER,
                           QR_PARTS(QR_PART(2 * inner, "mlp.gate_up_proj")));
    else
        qr_declare_feed_in(d, &layer->feed_in, "gate_up", hidden, QR_CUT_INNER,
                           QR_PARTS(QR_PART(inner, "mlp.gate_proj"), QR_PART(inner, "mlp.up_proj")));
    qr_declare_feed_out(d, &layer->feed_out, "down", inner, QR_PARTS(QR_PART(hidden, "mlp.down_proj")));
}

/* Of pair i: its angle at position 1, which is at most 1. */
static float frequency_of(const qr_parameters *p, uint32_t half, uint32_t i)
{
    return atan2f(p->rope.sines[half + i], p->rope.cosines[half + i]);
}

enum { LARGE_BIAS = 4 }; /* below, it hardly widens the range of keys */

/* The keys' bias, which published Qwen2.5 has in the hundreds, in pairs that turn by less than one radian within a
 * tile: taken off as it is at the tile's first token, it leaves less than it was. Of faster ones nothing is taken. */
static void declare_common_key(qr_declaration *d, qr_layer *layer)
{
    const qr_architecture *a    = d->architecture;
    const uint32_t         half = a->rope.rotary_dim / 2, columns = qr_kv_columns(a);
    float                 *common = qr_declare_floats(d, columns);
    if (common == NULL) return;
    float largest = 0;
    for (uint32_t c = 0; c < columns; c++) {
        const bool slow =
            d->max_model_len > 1 && frequency_of(d->parameters, half, c % half) * (QR_TILE_TOKENS - 1) < 1;
        common[c] = slow ? layer->qkv.whole_bias[qr_q_columns(a) + c] : 0;
        largest   = fmaxf(largest, fabsf(common[c]));
    }
    if (largest > LARGE_BIAS) layer->k_common = common;
}

void qr_decoder_declare(qr_declaration *d, void (*declare_layer)(qr_declaration *, qr_layer *, uint32_t))
{
    const qr_architecture *a = d->architecture;
    qr_declare_embedding(d, qr_random_scale(a->hidden_size));
    for (uint32_t i = 0; i < a->layers; i++) {
        qr_declare_prefix(d, "model.layers.%u.", i);
        declare_layer(d, qr_declare_layer(d, d->parameters->decoder, i), i);
    }
    qr_declare_prefix(d, "model.");
    d->parameters->decoder_norm.weight = qr_declare_norm(d, a->hidden_size, "norm.weight");
    qr_rope_declare(d);
    for (uint32_t i = 0; a->qkv_bias && a->qk_norm == QR_QK_NORM_NONE && i < a->layers; i++)
        declare_common_key(d, qr_declare_layer(d, d->parameters->decoder, i));
    qr_declare_head(d);
}

/* ---- forward ---- */

static qr_attention_prologue prologue_of(const qr_network *network, uint32_t i)
{
    const qr_architecture *a       = network->architecture;
    const qr_layer        *layer   = &network->parameters.decoder[i];
    const bool             rotated = !qr_layer_set_has(&a->unrotated, i), heads = a->qk_norm == QR_QK_NORM_HEADS;
    const bool             local  = a->local_rope.theta > 0 && qr_layer_window(a, i) != 0;
    const qr_rope_tables  *tables = local ? &network->parameters.local_rope : &network->parameters.rope;
    return (qr_attention_prologue){.rope_cos     = rotated ? tables->cosines : NULL,
                                   .rope_sin     = rotated ? tables->sines : NULL,
                                   .rotary_dim   = a->rope.rotary_dim,
                                   .q_norm       = heads ? layer->q_norm : NULL,
                                   .k_norm       = heads ? layer->k_norm : NULL,
                                   .k_common     = layer->k_common,
                                   .norm_epsilon = a->norm_epsilon};
}

void qr_decoder_forward(qr_pass *pass)
{
    qr_network    *network = pass->network;
    const uint32_t rows    = pass->plan->rows;
    uint32_t       planes = 0, local_planes = 0; /* of the layers before */

    if (rows == 0) return;
    qr_stage_embed(pass, rows, false);
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        const qr_layer         *layer = &network->parameters.decoder[i];
        const bool              local = qr_network_is_local(network, i), apart = local && network->local_kv != NULL;
        const qr_self_attention self = {.plan     = local ? network->window_plan : network->self_plan,
                                        .plane    = apart ? qr_kv_memory_plane(network->local_kv, local_planes++)
                                                          : qr_kv_memory_plane(network->kv, planes++),
                                        .prologue = prologue_of(network, i),
                                        .sinks    = layer->sinks};
        qr_stage_self_attention(pass, layer, &self, rows);
        if (layer->experts != NULL)
            qr_stage_experts(pass, layer, rows);
        else
            qr_stage_feed_forward(pass, layer, rows);
    }
    if (network->architecture->branch_norms) qr_stage_end(pass, &network->report->rowwise_ns);
}
