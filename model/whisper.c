/* Whisper (Radford et al. 2022, arXiv:2212.04356): BART's layers with norms before their parts, keys without a bias,
 * and an encoder that reads frames of log-mel features through two convolutions. */
#include "model/bart.h"
#include "model/family.h"
#include "model/model.h"
#include "model/network.h"

static void read_config(qr_config_reader *r, uint32_t type, qr_architecture *a)
{
    (void)type;
    qr_bart_read_sizes(r, a);
    qr_bart_read_activation(r, "gelu", a);
    a->feature_size            = qr_config_size(r, "num_mel_bins", QR_MAX_FEATURES, 80);
    a->max_encoder_positions   = qr_config_size(r, "max_source_positions", QR_MAX_POSITION, 1500);
    a->max_position_embeddings = qr_config_size(r, "max_target_positions", QR_MAX_POSITION, 448);
    a->decoder_start_token_id =
        (int32_t)qr_config_integer(r, r->root, "decoder_start_token_id", 0, (int64_t)a->vocab_size - 1, QR_REQUIRED);
}

static const float *declare_positions(qr_declaration *d, uint32_t count)
{
    return qr_declare_table(d, count, d->architecture->hidden_size, 0.02f, "embed_positions.weight");
}

static void declare(qr_declaration *d)
{
    const qr_architecture *a      = d->architecture;
    const uint32_t         hidden = a->hidden_size;
    qr_parameters         *p      = d->parameters;
    qr_declare_embedding(d, qr_random_scale(hidden));
    qr_declare_prefix(d, "model.encoder.");
    qr_declare_convolution(d, &p->convolutions[0], "conv1", a->feature_size,
                           QR_PARTS(QR_PART(hidden, "conv1", .bias = true, .convolves = true)));
    qr_declare_convolution(d, &p->convolutions[1], "conv2", hidden,
                           QR_PARTS(QR_PART(hidden, "conv2", .bias = true, .convolves = true)));
    qr_bart_declare_layers(d, false, false);
    p->encoder_positions = declare_positions(d, a->max_encoder_positions);
    p->encoder_norm      = qr_declare_layer_norm(d, hidden, "layer_norm");
    qr_bart_declare_layers(d, true, false);
    p->decoder_positions = declare_positions(d, a->max_position_embeddings);
    p->decoder_norm      = qr_declare_layer_norm(d, hidden, "layer_norm");
    qr_declare_head(d);
}

const qr_family qr_family_whisper = {
    .kind = QR_ENCODER_DECODER,
    .types =
        {{"whisper", {"WhisperForConditionalGeneration"}, "reads log-mel features, two frames a row", {true, 50256}}},
    .read_config     = read_config,
    .declare         = declare,
    .forward         = qr_forward_encoder_decoder,
    .embedding_names = (const char *const[]){"model.decoder.embed_tokens.weight", NULL},
    .output_name     = "proj_out.weight",
    .tied_by_default = true,
    .unread_tensors  = (const char *const[]){NULL},
};
