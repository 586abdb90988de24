/* T5 (Raffel et al. 2020, arXiv:1910.10683): an encoder that sees its whole input, and a decoder with cross-attention
 * to it. Scores are not scaled; positions enter as a bias by distance, from the first layer of each stack, in all of
 * its layers (UMT5: each layer has its own). */
#include <math.h>
#include <string.h>

#include "model/config_reader.h"
#include "model/family.h"
#include "model/network.h"

/* ---- config.json ---- */

enum { T5, MT5, UMT5 };

/* `feed_forward_proj` is an activation, "gated-" before it where there are two halves; but the GELU that it names is
 * the one by tanh when gated. Files that say more have is_gated_act, which must agree, and dense_act_fn, which decides.
 */
static void read_feed_forward(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    static const char gated[] = "gated-";
    const char       *form    = qr_config_string(r, r->root, "feed_forward_proj", type == T5 ? "relu" : "gated-gelu");
    const char       *name    = form;
    a->gated                  = strncmp(form, gated, sizeof gated - 1) == 0;
    if (a->gated) name += sizeof gated - 1;
    if (a->gated && strcmp(name, "gelu") == 0) name = "gelu_new";
    const bool given = qr_config_has(r, "dense_act_fn");
    if (given) name = qr_config_string(r, r->root, "dense_act_fn", name);
    a->activation = qr_config_activation(r, given ? "dense_act_fn" : "feed_forward_proj", name);
    if (qr_config_boolean(r, "is_gated_act", a->gated) != a->gated)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: is_gated_act: %s contradicts feed_forward_proj \"%.40s\"", r->origin,
                    a->gated ? "false" : "true", form);
}

static void read_buckets(qr_config_reader *r, qr_architecture *a)
{
    a->relative_buckets =
        (uint32_t)qr_config_integer(r, r->root, "relative_attention_num_buckets", 4, QR_MAX_BUCKETS, 32);
    a->relative_max_distance = qr_config_size(r, "relative_attention_max_distance", QR_MAX_POSITION, 128);
    if (a->relative_buckets % 2 != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: relative_attention_num_buckets: %u is odd", r->origin,
                    a->relative_buckets);
    if (a->relative_max_distance <= a->relative_buckets / 2) /* else the logarithm of the bucket function is <= 0 */
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT,
                    "%s: relative_attention_max_distance: %u is not above half of relative_attention_num_buckets %u",
                    r->origin, a->relative_max_distance, a->relative_buckets);
}

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    a->vocab_size        = qr_config_size(r, "vocab_size", QR_MAX_VOCAB, QR_REQUIRED);
    a->hidden_size       = qr_config_size(r, "d_model", QR_MAX_WIDTH, QR_REQUIRED);
    a->intermediate_size = qr_config_size(r, "d_ff", QR_MAX_WIDTH, QR_REQUIRED);
    a->head_dim          = qr_config_size(r, "d_kv", QR_MAX_HEAD_DIM, QR_REQUIRED);
    a->encoder_layers    = qr_config_size(r, "num_layers", QR_MAX_LAYERS, QR_REQUIRED);
    a->layers            = qr_config_size(r, "num_decoder_layers", QR_MAX_LAYERS, a->encoder_layers);
    a->heads             = qr_config_size(r, "num_heads", QR_MAX_HEADS, QR_REQUIRED);
    a->kv_heads          = a->heads;
    a->attention_scale   = 1;
    qr_config_check_heads(r, a, "num_heads", "d_kv");
    a->norm_epsilon = (float)qr_config_number(r, r->root, "layer_norm_epsilon", 1e-12, 1, 1e-6);
    read_feed_forward(r, type, a);
    read_buckets(r, a);
    a->relative_per_layer = type == UMT5;
    qr_config_refuse(r, !qr_config_boolean(r, "is_encoder_decoder", true), "is_encoder_decoder",
                     "a T5 without a decoder is not supported");
    if (type == MT5) { /* its published files deny what every version of the model does; and it never scales */
        a->tied       = true;
        a->never_tied = false;
        a->head_name  = a->embedding_name;
    }
    if (qr_config_boolean(r, "scale_decoder_outputs", type != MT5 && a->tied))
        a->logits_scale = (float)(1 / sqrt((double)a->hidden_size));
    const int64_t last = (int64_t)a->vocab_size - 1;
    const int64_t pad  = qr_config_integer(r, r->root, "pad_token_id", 0, last, 0);
    a->decoder_start_token_id =
        (int32_t)qr_config_integer(r, r->root, "decoder_start_token_id", 0, last, type == T5 ? pad : 0);
}

/* ---- tensors ---- */

/* Of random weights: since scores are not divided by sqrt(head_dim), q is smaller. */
static float q_scale(const qr_architecture *a)
{
    return (float)(1 / sqrt((double)a->hidden_size) / sqrt((double)a->head_dim));
}

static void declare_self_attention(qr_declaration *d, qr_layer *layer)
{
    const qr_architecture *a      = d->architecture;
    const uint32_t         hidden = a->hidden_size, inner = qr_q_columns(a);
    layer->attention_norm.weight = qr_declare_norm(d, hidden, "layer_norm.weight");
    qr_declare_linear(d, &layer->qkv, "qkv", hidden, QR_CUT_QUERIES_KEYS_VALUES,
                      QR_PARTS(QR_PART(inner, "SelfAttention.q", .scale = q_scale(a)),
                               QR_PART(inner, "SelfAttention.k"), QR_PART(inner, "SelfAttention.v")));
    qr_declare_linear(d, &layer->output, "o", inner, QR_CUT_HIDDEN, QR_PARTS(QR_PART(hidden, "SelfAttention.o")));
}

static void declare_cross_attention(qr_declaration *d, qr_layer *layer)
{
    const qr_architecture *a      = d->architecture;
    const uint32_t         hidden = a->hidden_size, inner = qr_q_columns(a);
    layer->cross_norm.weight = qr_declare_norm(d, hidden, "layer_norm.weight");
    qr_declare_linear(d, &layer->cross_q, "q", hidden, QR_CUT_QUERIES,
                      QR_PARTS(QR_PART(inner, "EncDecAttention.q", .scale = q_scale(a))));
    qr_declare_linear(d, &layer->cross_kv, "kv", hidden, QR_CUT_KEYS_VALUES,
                      QR_PARTS(QR_PART(inner, "EncDecAttention.k"), QR_PART(inner, "EncDecAttention.v")));
    qr_declare_linear(d, &layer->cross_output, "o", inner, QR_CUT_HIDDEN,
                      QR_PARTS(QR_PART(hidden, "EncDecAttention.o")));
}

static void declare_feed_forward(qr_declaration *d, qr_layer *layer)
{
    const qr_architecture *a      = d->architecture;
    const uint32_t         hidden = a->hidden_size, inner = a->intermediate_size;
    layer->feed_norm.weight = qr_declare_norm(d, hidden, "layer_norm.weight");
    if (a->gated)
        qr_declare_feed_in(d, &layer->feed_in, "wi", hidden, QR_CUT_INNER,
                           QR_PARTS(QR_PART(inner, "DenseReluDense.wi_0"), QR_PART(inner, "DenseReluDense.wi_1")));
    else
        qr_declare_feed_in(d, &layer->feed_in, "wi", hidden, QR_CUT_INNER,
                           QR_PARTS(QR_PART(inner, "DenseReluDense.wi")));
    qr_declare_feed_out(d, &layer->feed_out, "wo", inner, QR_PARTS(QR_PART(hidden, "DenseReluDense.wo")));
}

/* [buckets][heads] becomes a table by distance for each head. */
static void declare_bias(qr_declaration *d, bool bidirectional, qr_attention_bias *bias)
{
    const qr_architecture *a       = d->architecture;
    const uint32_t         buckets = a->relative_buckets;
    qr_t5_bias_shape(bidirectional, a->relative_max_distance, bias);
    float       *table   = qr_declare_floats(d, (size_t)a->heads * bias->stride);
    const float *weights = qr_declare_table(d, buckets, a->heads, 1, "SelfAttention.relative_attention_bias.weight");
    if (table != NULL)
        qr_t5_bias_fill(bias, table, weights, a->heads, bidirectional, buckets, a->relative_max_distance);
}

static const float *declare_stack(qr_declaration *d, const char *stack, qr_layer *layers, uint32_t count, bool decoder)
{
    const bool own_biases = d->architecture->relative_per_layer;
    for (uint32_t i = 0; i < count; i++) {
        qr_layer *layer = qr_declare_layer(d, layers, i);
        qr_declare_prefix(d, "%s.block.%u.layer.0.", stack, i);
        declare_self_attention(d, layer);
        if (i == 0 || own_biases)
            declare_bias(d, !decoder, &layer->bias);
        else if (layers != NULL)
            layer->bias = layers[0].bias;
        qr_declare_prefix(d, "%s.block.%u.layer.1.", stack, i);
        if (decoder) declare_cross_attention(d, layer);
        if (decoder) qr_declare_prefix(d, "%s.block.%u.layer.2.", stack, i);
        declare_feed_forward(d, layer);
    }
    qr_declare_prefix(d, "%s.", stack);
    return qr_declare_norm(d, d->architecture->hidden_size, "final_layer_norm.weight");
}

static void declare(qr_declaration *d)
{
    const qr_architecture *a = d->architecture;
    qr_parameters         *p = d->parameters;
    qr_declare_embedding(d, 1); /* the logits are scaled where it is the output projection too */
    p->encoder_norm.weight = declare_stack(d, "encoder", p->encoder, a->encoder_layers, false);
    p->decoder_norm.weight = declare_stack(d, "decoder", p->decoder, a->layers, true);
    qr_declare_head(d);
}

const qr_family qr_family_t5 = {
    .kind        = QR_ENCODER_DECODER,
    .types       = {[T5]   = {"t5",
                              {"T5ForConditionalGeneration", "T5WithLMHeadModel"},
                              "positions as a bias by distance; Flan-T5 and UL2 are that, too",
                              {true, 1}},
                    [MT5]  = {"mt5",
                              {"MT5ForConditionalGeneration"},
                              "T5's layers; feed-forward gated unless config.json says otherwise",
                              {true, 1}},
                    [UMT5] = {"umt5", {"UMT5ForConditionalGeneration"}, "mT5 with a bias of each layer's own", {true, 1}}},
    .read_config = read_config,
    .declare     = declare,
    .forward     = qr_forward_encoder_decoder,
    .embedding_names =
        (const char *const[]){"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", NULL},
    .encoder_embedding_name = "encoder.embed_tokens.weight",
    .decoder_embedding_name = "decoder.embed_tokens.weight",
    .output_name            = "lm_head.weight",
    .tied_by_default        = true,
    .wide_feed_out          = true, /* published models have units a thousand times the others: f16 overflows */
    /* copies of the embedding, the embedding where each stack has its own, and the bias of the first cross-attention,
       which was never used */
    .unread_tensors =
        (const char *const[]){"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight",
                              "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", NULL},
};
