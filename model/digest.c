/* Whether two processes have the same model, by two numbers. */
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/bits.h"
#include "base/error.h"
#include "model/model.h"
#include "model/weights.h"

enum { PIECES = 16, PIECE_BYTES = 256 };

static void add_number(XXH3_state_t *state, double number) { (void)XXH3_64bits_update(state, &number, sizeof number); }

static void add_numbers(XXH3_state_t *state, const double *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) add_number(state, numbers[i]);
}

static void add_text(XXH3_state_t *state, const char *text)
{
    (void)XXH3_64bits_update(state, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1);
}

static void add_rope(XXH3_state_t *state, const qr_rope *r)
{
    const double numbers[] = {r->type,
                              r->theta,
                              r->rotary_dim,
                              r->factor,
                              r->low_freq_factor,
                              r->high_freq_factor,
                              r->beta_fast,
                              r->beta_slow,
                              r->truncate,
                              (double)r->magnitude,
                              r->original_max_position_embeddings};
    add_numbers(state, numbers, sizeof numbers / sizeof *numbers);
    (void)XXH3_64bits_update(state, r->short_factor, sizeof r->short_factor);
    (void)XXH3_64bits_update(state, r->long_factor, sizeof r->long_factor);
}

static void add_quantisation(XXH3_state_t *state, const qr_quantisation *q)
{
    const double numbers[] = {q->packing, q->bits, q->zero_add, q->group, q->ordered, q->has_zeros, q->has_not_zeros};
    add_numbers(state, numbers, sizeof numbers / sizeof *numbers);
}

static void add_architecture(XXH3_state_t *state, const qr_architecture *a)
{
    const double numbers[] = {a->vocab_size,
                              a->hidden_size,
                              a->intermediate_size,
                              a->layers,
                              a->encoder_layers,
                              a->heads,
                              a->kv_heads,
                              a->head_dim,
                              (double)a->norm_epsilon,
                              (double)a->attention_scale,
                              (double)a->embedding_scale,
                              (double)a->residual_scale,
                              (double)a->logits_scale,
                              (double)a->attention_cap,
                              (double)a->logits_cap,
                              a->post_norm,
                              a->gated,
                              a->activation,
                              a->experts,
                              a->experts_per_token,
                              a->expert_size,
                              a->expert_bias,
                              a->experts_renormalised,
                              a->qkv_bias,
                              a->output_bias,
                              a->qk_norm,
                              a->norms_less_one,
                              a->branch_norms,
                              a->window,
                              a->full_layers,
                              a->max_position_embeddings,
                              a->max_encoder_positions,
                              a->feature_size,
                              a->position_offset,
                              a->relative_buckets,
                              a->relative_max_distance,
                              a->relative_per_layer,
                              a->decoder_start_token_id,
                              a->tied,
                              a->eos_count};
    add_numbers(state, numbers, sizeof numbers / sizeof *numbers);
    add_quantisation(state, &a->quantisation);
    for (uint32_t i = 0; i < a->eos_count; i++) add_number(state, a->eos_token_ids[i]);
    for (uint32_t i = 0; i < a->layers; i++)
        add_number(state, qr_layer_set_has(&a->full, i) + 2 * qr_layer_set_has(&a->unrotated, i) +
                              4 * qr_layer_set_has(&a->dense, i));
    add_rope(state, &a->rope);
    add_rope(state, &a->local_rope);
    add_text(state, a->model_type);
    add_text(state, a->embedding_name);
    add_text(state, a->encoder_embedding_name);
    add_text(state, a->head_name);
}

static quire_status add_tensor(XXH3_state_t *state, const qr_tensors *files, const qr_tensor *tensor,
                               quire_error *error)
{
    char           piece[PIECE_BYTES];
    const uint64_t bytes = tensor->end - tensor->begin, length = qr_min_u64(bytes, sizeof piece);
    add_text(state, tensor->name);
    add_text(state, tensor->format->name);
    for (uint32_t i = 0; i < tensor->rank; i++) add_number(state, (double)tensor->shape[i]);
    for (uint64_t i = 0; i < PIECES && bytes > 0; i++) {
        const uint64_t at = (bytes - length) / (PIECES - 1) * i; /* the last ends where the tensor does, nearly */
        QR_TRY(qr_tensors_read_bytes(files, tensor, i + 1 < PIECES ? at : bytes - length, length, piece, error));
        (void)XXH3_64bits_update(state, piece, length);
        if (length == bytes) break;
    }
    return QUIRE_OK;
}

static quire_status add_contents(XXH3_state_t *state, const qr_weights *weights, quire_error *error)
{
    if (weights->files == NULL) add_number(state, (double)weights->seed);
    for (uint32_t i = 0; weights->files != NULL && i < qr_tensors_count(weights->files); i++)
        QR_TRY(add_tensor(state, weights->files, qr_tensors_at(weights->files, i), error));
    return QUIRE_OK;
}

quire_status qr_model_digest(const quire_model *model, uint64_t *shape_out, uint64_t *contents_out, quire_error *error)
{
    XXH3_state_t memory, *state = &memory;
    (void)XXH3_64bits_reset(state);
    add_architecture(state, qr_model_architecture(model));
    const qr_code_format codes = qr_model_weight_codes(model);
    add_numbers(state, (const double[]){qr_model_weight_dtype(model), codes.bits, codes.group, codes.has_minimum}, 4);
    *shape_out = XXH3_64bits_digest(state);
    (void)XXH3_64bits_reset(state);
    const quire_status status = add_contents(state, qr_model_weights(model), error);
    *contents_out             = XXH3_64bits_digest(state);
    return status;
}
