/* Which tensors a network is made of: run once to add up, once to lay out and read (network.h). */
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "model/network.h"

float *qr_declare_floats(qr_declaration *declaration, uint32_t count)
{
    return QR_ARENA_TAKE(declaration->arena, float, count);
}

void qr_declare_read(qr_declaration *declaration, float *into, uint32_t count, const char *name_format, ...)
{
    if (into == NULL || declaration->status != QUIRE_OK) return;
    char    name[256];
    va_list arguments;
    va_start(arguments, name_format);
    vsnprintf(name, sizeof name, name_format, arguments);
    va_end(arguments);
    declaration->status =
        qr_weights_vector(qr_model_weights(declaration->network->model), count, into, declaration->error, "%s", name);
}

/* As kernels/projection packs: groups of 64 columns, K padded to 64; int8 has a sum and a scale per column. */
static uint64_t packed_bytes(const qr_projection_shape *shape)
{
    const uint64_t columns = (uint64_t)qr_round_up_u32(shape->columns, 64) * (shape->gated ? 2 : 1);
    const uint64_t column  = (uint64_t)qr_round_up_u32(shape->k, 64) * qr_dtype_bytes(shape->dtype);
    return columns * (column + (shape->dtype == QR_INT8 ? 8 : 0));
}

qr_linear *qr_declare_linear(qr_declaration *declaration, const qr_projection_shape *shape)
{
    qr_network         *network = declaration->network;
    qr_projection_shape typed   = *shape;
    typed.dtype                 = network->dtype;
    declaration->packed_bytes += packed_bytes(&typed);
    if (network->linears == NULL) return NULL;
    qr_assert(network->linear_count < network->linear_capacity);
    qr_linear *linear = &network->linears[network->linear_count++];
    linear->shape     = typed;
    return linear;
}

void qr_declare_matrix(qr_declaration *declaration, qr_linear *linear, uint32_t rows, const char *name_format, ...)
{
    if (linear == NULL || declaration->status != QUIRE_OK) return;
    char    name[256];
    va_list arguments;
    va_start(arguments, name_format);
    vsnprintf(name, sizeof name, name_format, arguments);
    va_end(arguments);
    qr_assert(linear->matrix_count < 3);
    declaration->status = qr_weights_find(qr_model_weights(declaration->network->model), rows, linear->shape.k,
                                          &linear->matrices[linear->matrix_count++], declaration->error, "%s", name);
}

/* Everything that is small or lives as long as the weights. */
void qr_network_declare(qr_declaration *d)
{
    qr_network            *network = d->network;
    const qr_architecture *a       = network->architecture;
    const uint32_t         entries = network->options.max_sequences;
    network->linear_count          = 0;
    network->linear_capacity       = a->layers * 7 + a->encoder_layers * 4 + 1;
    network->decoder               = QR_ARENA_TAKE(d->arena, qr_layer, a->layers);
    network->linears               = QR_ARENA_TAKE(d->arena, qr_linear, network->linear_capacity);
    network->regions               = QR_ARENA_TAKE(d->arena, qr_mapping, network->thread_count);
    network->self_sequences        = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
    if (qr_network_has_encoder(network)) {
        network->encoder                = QR_ARENA_TAKE(d->arena, qr_layer, a->encoder_layers);
        network->cross_sequences        = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
        network->encoder_sequences      = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
        network->cross_append_sequences = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
        network->encoder_blocks         = QR_ARENA_TAKE(d->arena, uint32_t, network->encoder_block_count);
        network->encoder_tokens         = QR_ARENA_TAKE(d->arena, const int32_t *, network->options.max_encoder_tokens);
    }
    if (a->family == QR_FAMILY_T5)
        qr_t5_declare(d);
    else
        qr_llama_declare(d);
    network->head =
        qr_declare_linear(d, &(qr_projection_shape){.k = a->hidden_size, .columns = a->vocab_size, .name = "lm_head"});
    qr_declare_matrix(d, network->head, a->vocab_size, "%s", a->output_name);
}
