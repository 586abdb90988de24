/* Defaults that depend on other options and on the model, and the parts that scheduler and network take. */
#include "engine/options.h"

#include <stddef.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "engine/option_rules.h"

/* ---- defaults that depend on other options, and on the model ---- */

static quire_status resolve_model_len(quire_engine_options *options, const qr_model_facts *facts, quire_error *error)
{
    const uint32_t own     = facts->max_position_embeddings;
    const uint32_t largest = (uint32_t)qr_option_find("model.max_model_len")->most;
    if (options->max_model_len == 0) options->max_model_len = own ? qr_min_u32(own, largest) : QR_FALLBACK_MODEL_LEN;
    if (own == 0 || options->max_model_len <= own) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "[model] max_model_len: %u is above the model's own limit %u",
                   options->max_model_len, own);
}

static void resolve_batch(quire_engine_options *options, const qr_model_facts *facts)
{
    const uint32_t whole_prompt = options->enable_chunked_prefill == QUIRE_TOGGLE_OFF ? options->max_model_len : 0;
    if (options->max_num_batched_tokens == 0)
        options->max_num_batched_tokens = qr_max_u32(512, qr_max_u32(options->max_num_seqs, whole_prompt));
    const uint32_t rows = options->max_num_batched_tokens;
    if (options->max_num_encoder_input_tokens == 0)
        options->max_num_encoder_input_tokens = qr_max_u32(rows, qr_max_u32(512, facts->max_encoder_positions));
    if (options->long_prefill_token_threshold == 0) options->long_prefill_token_threshold = qr_max_u32(rows / 2, 1);
}

static quire_status resolve_queue(quire_engine_options *options, const qr_model_facts *facts, quire_error *error)
{
    const uint32_t encoder = facts->encoder_decoder ? options->max_num_encoder_input_tokens : 0;
    const uint32_t longest = options->max_model_len + encoder;
    if (options->max_num_queued_tokens == 0) options->max_num_queued_tokens = qr_max_u32(1 << 20, longest);
    if (options->max_num_queued_tokens >= longest) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "[scheduler] max_num_queued_tokens: %u is below %u, the longest request (max_model_len %u + encoder "
                   "tokens %u)",
                   options->max_num_queued_tokens, longest, options->max_model_len, encoder);
}

static void resolve_cache(quire_engine_options *options)
{
    if (options->kv_cache_bytes == 0 && options->num_kv_blocks == 0 && options->memory_fraction == 0)
        options->memory_fraction = 0.5f;
}

static quire_status check_allocator(const quire_allocator *allocator, quire_error *error)
{
    if ((allocator->allocate == NULL) == (allocator->deallocate == NULL)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "allocator: give both functions or neither");
}

quire_status qr_options_resolve(quire_engine_options *options, const qr_model_facts *facts, quire_error *error)
{
    qr_option_fault fault;
    QR_TRY(qr_options_check(options, &fault, error));
    QR_TRY(resolve_model_len(options, facts, error));
    resolve_batch(options, facts);
    QR_TRY(qr_options_check_order(options, &fault, error)); /* again, with what was left open */
    QR_TRY(resolve_queue(options, facts, error));
    resolve_cache(options);
    return check_allocator(&options->allocator, error);
}

/* ---- the parts ---- */

static void fill_scheduling(const quire_engine_options *options, qr_scheduler_options *out)
{
    const bool strict_priority        = options->priority_ageing_ns == QUIRE_FOREVER;
    const bool no_threshold           = options->long_prefill_token_threshold >= options->max_num_batched_tokens;
    out->policy                       = options->policy;
    out->priority_ageing_ns           = strict_priority ? 0 : options->priority_ageing_ns;
    out->max_num_seqs                 = options->max_num_seqs;
    out->max_num_batched_tokens       = options->max_num_batched_tokens;
    out->max_num_encoder_input_tokens = options->max_num_encoder_input_tokens;
    out->max_model_len                = options->max_model_len;
    out->enable_chunked_prefill       = options->enable_chunked_prefill == QUIRE_TOGGLE_ON;
    out->long_prefill_token_threshold = no_threshold ? 0 : options->long_prefill_token_threshold;
    out->max_num_partial_prefills     = options->max_num_partial_prefills;
    out->max_long_partial_prefills    = options->max_long_partial_prefills;
    out->scheduler_reserve_full_isl   = options->scheduler_reserve_full_isl == QUIRE_TOGGLE_ON;
    out->capacity_policy              = options->capacity_scheduler_policy;
    out->preemption_mode              = options->preemption_mode;
    out->watermark                    = options->watermark == QUIRE_NO_WATERMARK ? 0 : options->watermark;
    out->max_head_passes              = options->max_head_passes == QUIRE_DISABLED ? 0 : options->max_head_passes;
    out->tenant_fairness              = options->tenant_fairness == QUIRE_TOGGLE_ON;
    out->max_num_tenants              = options->max_num_tenants;
    out->tenants                      = options->tenants;
    out->tenant_count                 = options->tenant_count;
    out->tenant_stride                = options->tenant_count ? options->tenants[0].size : 0;
    out->max_num_queued_reqs          = options->max_num_queued_reqs;
    out->max_num_queued_tokens        = options->max_num_queued_tokens;
    out->num_speculative_tokens       = options->num_speculative_tokens;
    out->prompt_lookup_max            = options->prompt_lookup_max;
}

void qr_options_scheduler(const quire_engine_options *options, const qr_model_facts *facts, qr_scheduler_options *out)
{
    *out = (qr_scheduler_options){0};
    fill_scheduling(options, out);
    out->block_size             = options->block_size;
    out->enable_prefix_caching  = options->enable_prefix_caching == QUIRE_TOGGLE_ON;
    out->enable_cross_sharing   = options->enable_cross_sharing == QUIRE_TOGGLE_ON;
    out->extents                = options->extents == QUIRE_TOGGLE_ON;
    out->zero_on_free           = options->zero_on_free == QUIRE_TOGGLE_ON;
    out->cache_events           = options->cache_events == QUIRE_TOGGLE_ON;
    out->hash_bits              = 64;
    out->encoder_decoder        = facts->encoder_decoder;
    out->vocab_size             = facts->vocab_size;
    out->max_encoder_positions  = facts->max_encoder_positions;
    out->encoder_feature_size   = facts->encoder_feature_size;
    out->window                 = facts->window;
    out->local_window           = facts->local_window;
    out->long_length            = facts->long_length;
    out->decoder_start_token_id = facts->decoder_start_token_id;
    out->eos_count              = facts->eos_count;
    memcpy(out->eos_token_ids, facts->eos_token_ids, sizeof out->eos_token_ids);
    out->allocator = options->allocator;
}

static qr_dtype dtype_of(quire_dtype dtype)
{
    return dtype == QUIRE_DTYPE_F32 ? QR_F32 : dtype == QUIRE_DTYPE_INT8 ? QR_INT8 : QR_BF16;
}

uint32_t qr_options_logits_rows(const quire_engine_options *options)
{
    return options->max_num_seqs * (1 + options->num_speculative_tokens) + QR_MAX_GIVEN_ROWS;
}

void qr_options_network(const quire_engine_options *options, const qr_model_facts *facts, qr_network_options *out)
{
    *out = (qr_network_options){
        .isa                = options->isa,
        .kv_dtype           = dtype_of(options->kv_dtype),
        .block_size         = options->block_size,
        .max_rows           = options->max_num_batched_tokens,
        .max_sequences      = options->max_num_seqs,
        .max_logits_rows    = qr_min_u32(qr_options_logits_rows(options), options->max_num_batched_tokens),
        .max_encoder_tokens = facts->encoder_decoder ? options->max_num_encoder_input_tokens : 0,
        .max_model_len      = options->max_model_len,
        .small_m            = options->small_m,
        .stage_slices       = options->stage_slices,
        .batch_invariant    = options->batch_invariant == QUIRE_TOGGLE_ON,
        .prefetch           = options->prefetch,
        .allocator          = options->allocator,
    };
}
