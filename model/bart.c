/* BART (Lewis et al. 2019, arXiv:1910.13461) and the translation models of its shape: mBART (Liu et al. 2020,
 * arXiv:2001.08210), M2M100 and NLLB (Fan et al. 2020, arXiv:2010.11125), Marian (Junczys-Dowmunt et al. 2018,
 * arXiv:1804.00344). Encoder and decoder of the original Transformer: LayerNorm, a bias everywhere, positions added to
 * the embeddings. They differ in where the norms stand and in what the positions are. */
#include "model/bart.h"

#include <math.h>

#include "model/config_reader.h"
#include "model/family.h"
#include "model/network.h"

/* ---- config.json ---- */

enum { BART, MBART, M2M100, MARIAN };

typedef enum position_rule {
    POSITIONS_LEARNED,   /* in the files, after two rows that are not used */
    POSITIONS_FROM_PAD,  /* sines, counted from pad_token_id + 1 on; the last frequency is 1 / 10000 */
    POSITIONS_FROM_ZERO, /* sines; the last frequency is a step before 1 / 10000 */
} position_rule;

enum { LEARNED_OFFSET = 2, MARIAN_START = 58100 };

static const struct traits {
    const char   *activation; /* default */
    bool          scaled;     /* default of scale_embedding */
    int32_t       start;      /* default of decoder_start_token_id; -1: bos_token_id, of which 0 is the default */
    bool          post_norm;
    bool          embedding_norm, logits_bias;
    position_rule positions;
} traits_of[] = {
    [BART]   = {"gelu", false, 2, .post_norm = true, .embedding_norm = true, .logits_bias = true},
    [MBART]  = {"gelu", false, -1, .embedding_norm = true, .logits_bias = true},
    [M2M100] = {"relu", true, 2, .positions = POSITIONS_FROM_PAD},
    [MARIAN] = {"gelu", false, MARIAN_START, .post_norm = true, .logits_bias = true, .positions = POSITIONS_FROM_ZERO},
};

static uint32_t read_for_both(qr_config_reader *r, const char *encoder_key, const char *decoder_key, int64_t high)
{
    const uint32_t encoder = qr_config_size(r, encoder_key, high, QR_REQUIRED);
    const uint32_t decoder = qr_config_size(r, decoder_key, high, QR_REQUIRED);
    if (encoder != decoder)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: %u is not %s %u: stacks of different widths are not supported",
                    r->origin, encoder_key, encoder, decoder_key, decoder);
    return encoder;
}

void qr_bart_read_sizes(qr_config_reader *r, qr_architecture *a)
{
    a->vocab_size        = qr_config_size(r, "vocab_size", QR_MAX_VOCAB, QR_REQUIRED);
    a->hidden_size       = qr_config_size(r, "d_model", QR_MAX_WIDTH, QR_REQUIRED);
    a->intermediate_size = read_for_both(r, "encoder_ffn_dim", "decoder_ffn_dim", QR_MAX_WIDTH);
    a->encoder_layers    = qr_config_size(r, "encoder_layers", QR_MAX_LAYERS, QR_REQUIRED);
    a->layers            = qr_config_size(r, "decoder_layers", QR_MAX_LAYERS, QR_REQUIRED);
    a->heads             = read_for_both(r, "encoder_attention_heads", "decoder_attention_heads", QR_MAX_HEADS);
    a->kv_heads          = a->heads;
    a->head_dim          = a->hidden_size / a->heads;
    if (a->hidden_size % a->heads != 0)
        QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: d_model: %u is not a multiple of encoder_attention_heads %u", r->origin,
                    a->hidden_size, a->heads);
    if (a->head_dim == 0 || a->head_dim > QR_MAX_HEAD_DIM)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: d_model %u of encoder_attention_heads %u is not within 1..%d each",
                    r->origin, a->hidden_size, a->heads, QR_MAX_HEAD_DIM);
    a->attention_scale = (float)(1 / sqrt((double)a->head_dim));
    a->norm_epsilon    = 1e-5f;
    a->qkv_bias = a->output_bias = true;
    qr_config_refuse(r, !qr_config_boolean(r, "is_encoder_decoder", true), "is_encoder_decoder",
                     "one stack without the other is not supported");
}

void qr_bart_read_activation(qr_config_reader *r, const char *activation, qr_architecture *a)
{
    static const char key[] = "activation_function";
    a->activation           = qr_config_activation(r, key, qr_config_string(r, r->root, key, activation));
}

/* Marian's stacks may have vocabularies of their own. */
static void check_vocabulary(qr_config_reader *r, const qr_architecture *a)
{
    const uint32_t decoder = qr_config_size(r, "decoder_vocab_size", QR_MAX_VOCAB, a->vocab_size);
    if (decoder != a->vocab_size)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: decoder_vocab_size: %u is not vocab_size %u: not supported",
                    r->origin, decoder, a->vocab_size);
}

/* A default that is outside the vocabulary is none: the key must be there. */
static int64_t read_token(qr_config_reader *r, const char *key, int64_t fallback, int64_t last)
{
    return qr_config_integer(r, r->root, key, 0, last, fallback <= last ? fallback : QR_REQUIRED);
}

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    const struct traits *traits = &traits_of[type];
    qr_bart_read_sizes(r, a);
    qr_bart_read_activation(r, traits->activation, a);
    if (qr_config_boolean(r, "scale_embedding", traits->scaled))
        a->embedding_scale = (float)sqrt((double)a->hidden_size);
    if (type == MARIAN) check_vocabulary(r, a);
    a->post_norm               = traits->post_norm;
    a->max_position_embeddings = qr_config_size(r, "max_position_embeddings", QR_MAX_POSITION, 1024);
    a->max_encoder_positions   = a->max_position_embeddings;
    if (traits->positions != POSITIONS_LEARNED && (a->hidden_size < 4 || a->hidden_size % 2 != 0))
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: d_model: %u, positions as sines need an even number from 4 on",
                    r->origin, a->hidden_size);
    const int64_t last        = (int64_t)a->vocab_size - 1;
    const int64_t pad         = read_token(r, "pad_token_id", 1, last);
    const int64_t start       = traits->start < 0 ? read_token(r, "bos_token_id", 0, last) : traits->start;
    a->decoder_start_token_id = (int32_t)read_token(r, "decoder_start_token_id", start, last);
    a->position_offset        = traits->positions == POSITIONS_FROM_PAD ? (uint32_t)pad + 1 : 0;
}

/* ---- tensors ---- */

static void declare_attention(qr_declaration *d, qr_layer *layer, const char *stack, uint32_t i, bool key_bias)
{
    const uint32_t hidden = d->architecture->hidden_size;
    qr_declare_prefix(d, "model.%s.layers.%u.", stack, i);
    layer->attention_norm = qr_declare_layer_norm(d, hidden, "self_attn_layer_norm");
    qr_declare_prefix(d, "model.%s.layers.%u.self_attn.", stack, i);
    qr_declare_linear(d, &layer->qkv, "qkv", hidden, QR_CUT_QUERIES_KEYS_VALUES,
                      QR_PARTS(QR_PART(hidden, "q_proj", .bias = true), QR_PART(hidden, "k_proj", .bias = key_bias),
                               QR_PART(hidden, "v_proj", .bias = true)));
    qr_declare_linear(d, &layer->output, "o", hidden, QR_CUT_HIDDEN,
                      QR_PARTS(QR_PART(hidden, "out_proj", .bias = true)));
}

static void declare_cross_attention(qr_declaration *d, qr_layer *layer, const char *stack, uint32_t i, bool key_bias)
{
    const uint32_t hidden = d->architecture->hidden_size;
    qr_declare_prefix(d, "model.%s.layers.%u.", stack, i);
    layer->cross_norm = qr_declare_layer_norm(d, hidden, "encoder_attn_layer_norm");
    qr_declare_prefix(d, "model.%s.layers.%u.encoder_attn.", stack, i);
    qr_declare_linear(d, &layer->cross_q, "q", hidden, QR_CUT_QUERIES,
                      QR_PARTS(QR_PART(hidden, "q_proj", .bias = true)));
    qr_declare_linear(d, &layer->cross_kv, "kv", hidden, QR_CUT_KEYS_VALUES,
                      QR_PARTS(QR_PART(hidden, "k_proj", .bias = key_bias), QR_PART(hidden, "v_proj", .bias = true)));
    qr_declare_linear(d, &layer->cross_output, "o", hidden, QR_CUT_HIDDEN,
                      QR_PARTS(QR_PART(hidden, "out_proj", .bias = true)));
}

static void declare_feed_forward(qr_declaration *d, qr_layer *layer, const char *stack, uint32_t i)
{
    const uint32_t hidden = d->architecture->hidden_size, inner = d->architecture->intermediate_size;
    qr_declare_prefix(d, "model.%s.layers.%u.", stack, i);
    layer->feed_norm = qr_declare_layer_norm(d, hidden, "final_layer_norm");
    qr_declare_feed_in(d, &layer->feed_in, "fc1", hidden, QR_CUT_INNER, QR_PARTS(QR_PART(inner, "fc1", .bias = true)));
    qr_declare_feed_out(d, &layer->feed_out, "fc2", inner, QR_PARTS(QR_PART(hidden, "fc2", .bias = true)));
}

void qr_bart_declare_layers(qr_declaration *d, bool decoder, bool key_bias)
{
    const qr_architecture *a     = d->architecture;
    const char            *stack = decoder ? "decoder" : "encoder";
    const uint32_t         count = decoder ? a->layers : a->encoder_layers;
    for (uint32_t i = 0; i < count; i++) {
        qr_layer *layer = qr_declare_layer(d, decoder ? d->parameters->decoder : d->parameters->encoder, i);
        declare_attention(d, layer, stack, i, key_bias);
        if (decoder) declare_cross_attention(d, layer, stack, i, key_bias);
        declare_feed_forward(d, layer, stack, i);
    }
    qr_declare_prefix(d, "model.%s.", stack);
}

/* Vaswani et al. 2017, arXiv:1706.03762, section 3.5, but with all sines before all cosines. */
static void fill_sines(float *table, uint32_t first, uint32_t positions, uint32_t hidden, double last_step)
{
    const uint32_t half = hidden / 2;
    for (uint32_t i = 0; i < half; i++) {
        const double frequency = exp(-log(10000) * i / last_step);
        for (uint32_t p = 0; p < positions; p++) {
            table[(size_t)p * hidden + i]        = (float)sin((first + p) * frequency);
            table[(size_t)p * hidden + half + i] = (float)cos((first + p) * frequency);
        }
    }
}

static const float *declare_sines(qr_declaration *d, position_rule rule)
{
    const qr_architecture *a     = d->architecture;
    const uint32_t         half  = a->hidden_size / 2;
    float                 *table = qr_declare_floats(d, (size_t)a->max_position_embeddings * a->hidden_size);
    if (table != NULL)
        fill_sines(table, a->position_offset, a->max_position_embeddings, a->hidden_size,
                   rule == POSITIONS_FROM_PAD ? half - 1 : half);
    return table;
}

static const float *declare_learned(qr_declaration *d)
{
    const qr_architecture *a     = d->architecture;
    const uint32_t         rows  = LEARNED_OFFSET + a->max_position_embeddings;
    const float           *table = qr_declare_table(d, rows, a->hidden_size, 0.02f, "embed_positions.weight");
    return table != NULL ? table + (size_t)LEARNED_OFFSET * a->hidden_size : NULL;
}

static void declare(qr_declaration *d)
{
    const qr_architecture *a      = d->architecture;
    const struct traits   *traits = &traits_of[a->type];
    qr_parameters         *p      = d->parameters;
    qr_declare_embedding(d, qr_random_scale(a->hidden_size));
    if (traits->positions != POSITIONS_LEARNED)
        p->encoder_positions = p->decoder_positions = declare_sines(d, traits->positions);
    qr_bart_declare_layers(d, false, true);
    if (traits->positions == POSITIONS_LEARNED) p->encoder_positions = declare_learned(d);
    if (traits->embedding_norm)
        p->encoder_embedding_norm = qr_declare_layer_norm(d, a->hidden_size, "layernorm_embedding");
    if (!traits->post_norm) p->encoder_norm = qr_declare_layer_norm(d, a->hidden_size, "layer_norm");
    qr_bart_declare_layers(d, true, true);
    if (traits->positions == POSITIONS_LEARNED) p->decoder_positions = declare_learned(d);
    if (traits->embedding_norm)
        p->decoder_embedding_norm = qr_declare_layer_norm(d, a->hidden_size, "layernorm_embedding");
    if (!traits->post_norm) p->decoder_norm = qr_declare_layer_norm(d, a->hidden_size, "layer_norm");
    qr_declare_head(d);
    if (traits->logits_bias) p->head.bias = qr_declare_table(d, 1, a->vocab_size, 0.02f, "final_logits_bias");
}

const qr_family qr_family_bart = {
    .kind = QR_ENCODER_DECODER,
    .types =
        {[BART]   = {"bart", {"BartForConditionalGeneration"}, "norms behind attention and feed-forward", {true, 2}},
         [MBART]  = {"mbart", {"MBartForConditionalGeneration"}, "norms before attention and feed-forward", {true, 2}},
         [M2M100] = {"m2m_100",
                     {"M2M100ForConditionalGeneration"},
                     "mBART's layers, positions as sines; NLLB is that, too",
                     {true, 2}},
         [MARIAN] =
             {"marian", {"MarianMTModel"}, "BART's layers, positions as sines; Opus-MT is that, too", {true, 0}}},
    .read_config            = read_config,
    .declare                = declare,
    .forward                = qr_forward_encoder_decoder,
    .embedding_names        = (const char *const[]){"model.shared.weight", "model.encoder.embed_tokens.weight",
                                                    "model.decoder.embed_tokens.weight", NULL},
    .encoder_embedding_name = "model.encoder.embed_tokens.weight",
    .decoder_embedding_name = "model.decoder.embed_tokens.weight",
    .output_name            = "lm_head.weight",
    .tied_by_default        = true,
    /* copies of the embedding, sines that follow from config.json, and numbers of versions */
    .unread_tensors = (const char *const[]){"model.shared.weight", "model.encoder.embed_tokens.weight",
                                            "model.decoder.embed_tokens.weight", "model.*.embed_positions.weight",
                                            "model.*.embed_positions.weights", "model.*.version", NULL},
};
