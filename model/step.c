/* One step: the plan is checked and dealt out by the driver, run by the team, and counted. */
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/request.h"
#include "model/family.h"
#include "model/network.h"
#include "model/sample.h"

static void tell_blocks(qr_attention_plan *plan, const qr_kv_memory *memory)
{
    if (plan != NULL && memory->node_count > 1) qr_attention_plan_set_blocks(plan, memory->first_block);
}

quire_status qr_network_attach_kv(qr_network *network, const qr_kv_memory *memory, const qr_kv_memory *local,
                                  quire_error *error)
{
    const uint32_t local_layers = local != NULL ? qr_local_layers(network->architecture) : 0;
    qr_assert(local == NULL || (local->layers == local_layers && local->num_blocks <= memory->num_blocks));
    qr_assert(memory->layers >= network->architecture->layers - local_layers);
    qr_assert(memory->block_bytes == qr_kv_block_bytes(&network->kv_shape));
    network->kv       = memory;
    network->local_kv = local;
    tell_blocks(network->self_plan, memory);
    tell_blocks(network->window_plan, local != NULL ? local : memory);
    tell_blocks(network->cross_plan, memory);
    network->counted_bytes = qr_ceil_div_u32(memory->num_blocks, 64) * sizeof *network->counted;
    network->counted       = qr_allocate(&network->options.allocator, network->counted_bytes, 64);
    return network->counted ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "counting %u blocks", memory->num_blocks);
}

static bool tokens_are_valid(const qr_network *network, const int32_t *tokens, uint32_t count)
{
    bool valid = true;
    for (uint32_t i = 0; i < count; i++)
        valid &= tokens[i] >= 0 && (uint32_t)tokens[i] < network->architecture->vocab_size;
    return valid;
}

static uint32_t most_encoder_positions(const qr_network *network)
{
    const uint32_t own = network->architecture->max_encoder_positions;
    return own > 0 ? own : UINT32_MAX;
}

static bool encoder_is_valid(const qr_network *network, const quire_plan_encoder *item)
{
    if (item->token_count > most_encoder_positions(network)) return false;
    if (network->architecture->feature_size == 0) return tokens_are_valid(network, item->tokens, item->token_count);
    return item->features != NULL && item->token_count == qr_ceil_div_u32(item->frame_count, QR_FRAMES_PER_POSITION);
}

/* Whether the plan is within what the network was made for: a step must never touch memory that is not its own. */
static bool plan_is_valid(const qr_network *network, const quire_plan *plan)
{
    const qr_network_options *o = &network->options;
    if (plan->rows > o->max_rows || plan->sequence_count > o->max_sequences || plan->rows_logits > o->max_logits_rows ||
        !tokens_are_valid(network, plan->tokens, plan->rows))
        return false;
    if ((network->local_kv != NULL) != (plan->local_blocks != NULL)) return false;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const quire_plan_sequence *s = &plan->sequences[i];
        if ((uint64_t)s->row_start + s->row_count > plan->rows ||
            (uint64_t)s->position + s->row_count > o->max_model_len || s->cross_length > o->max_encoder_tokens ||
            (qr_network_has_encoder(network) && s->cross_length == 0))
            return false;
    }
    for (uint32_t i = 0; i < plan->rows_logits; i++)
        if (plan->logits_rows[i] >= plan->rows) return false;
    if (plan->encoder_count > (qr_network_has_encoder(network) ? o->max_sequences : 0)) return false;
    uint64_t encoder_tokens = 0;
    for (uint32_t i = 0; i < plan->encoder_count; i++) {
        encoder_tokens += plan->encoders[i].token_count;
        if (encoder_tokens > o->max_encoder_tokens || !encoder_is_valid(network, &plan->encoders[i])) return false;
    }
    return true;
}

/* A sequence's keys are computed once, so that how long it may become decides from its first. */
static uint32_t rope_row(const qr_network *network, const quire_request *request)
{
    const uint32_t length = qr_rope_long_length(&network->architecture->rope);
    return length > 0 && qr_request_positions(request) > length ? network->options.max_model_len : 0;
}

static void plan_rows(qr_network *network, const quire_plan *plan)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const quire_plan_sequence *s = &plan->sequences[i];
        network->self_sequences[i]   = (qr_attention_sequence){.row_start = s->row_start,
                                                               .row_count = s->row_count,
                                                               .position  = s->position,
                                                               .kv_length = s->position + s->row_count,
                                                               .blocks    = s->blocks,
                                                               .rope_row  = rope_row(network, s->request),
                                                               .node      = s->node};
        network->window_sequences[i] = network->self_sequences[i];
        if (network->local_kv != NULL) network->window_sequences[i].blocks = plan->local_blocks[i];
        if (!qr_network_has_encoder(network)) continue;
        network->cross_sequences[i]           = network->self_sequences[i];
        network->cross_sequences[i].kv_length = s->cross_length;
        network->cross_sequences[i].blocks    = s->cross_blocks;
    }
    qr_attention_plan_build(network->self_plan, network->self_sequences, plan->sequence_count);
    if (network->window_plan != NULL)
        qr_attention_plan_build(network->window_plan, network->window_sequences, plan->sequence_count);
    if (qr_network_has_encoder(network))
        qr_attention_plan_build(network->cross_plan, network->cross_sequences, plan->sequence_count);
}

/* All encoder inputs of the step as one ragged batch, one after the other without padding. */
static void plan_encoder(qr_network *network, const quire_plan *plan)
{
    uint32_t rows = 0, blocks = 0;
    for (uint32_t i = 0; i < plan->encoder_count; i++) {
        const quire_plan_encoder   *item          = &plan->encoders[i];
        const qr_attention_sequence sequence      = {.row_start = rows,
                                                     .row_count = item->token_count,
                                                     .kv_length = item->token_count,
                                                     .blocks    = network->encoder_blocks + blocks,
                                                     .node      = item->node};
        network->encoder_sequences[i]             = sequence;
        network->cross_append_sequences[i]        = sequence;
        network->cross_append_sequences[i].blocks = item->blocks;
        for (uint32_t t = 0; t < item->token_count; t++) {
            network->encoder_row_items[rows + t]     = i;
            network->encoder_row_positions[rows + t] = t;
        }
        rows += item->token_count;
        blocks += qr_ceil_div_u32(item->token_count, network->encoder_kv_shape.block_size);
    }
    qr_assert(blocks <= network->encoder_block_count);
    network->encoder_rows = rows;
    if (rows == 0) return;
    qr_attention_plan_build(network->encoder_plan, network->encoder_sequences, plan->encoder_count);
    qr_attention_plan_build(network->cross_append_plan, network->cross_append_sequences, plan->encoder_count);
}

static void run_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    qr_network *network = context;
    qr_pass     pass    = {.network = network, .plan = network->plan, .thread = thread, .thread_count = thread_count};
    if (network->stage_logs != NULL) {
        pass.log        = &network->stage_logs[thread];
        pass.log->count = 0;
    }
    pass.mark_ns = qr_now_ns();
    qr_stage_copy_blocks(&pass);
    network->architecture->family->forward(&pass);
    qr_stage_logits(&pass);
    if (network->after_logits == NULL || pass.plan->rows_logits == 0 || network->lost_ranks) return;
    network->after_logits(network->after_context, thread, thread_count);
    qr_stage_end(&pass, &network->report->sample_ns);
}

/* Bytes of one token's keys and values in one layer, padding included. */
static uint64_t token_bytes(const qr_kv_shape *kv) { return qr_kv_block_bytes(kv) / kv->block_size; }

static void count_attention(quire_step *report, const qr_attention_plan *plan, uint64_t layers)
{
    report->kv_bytes += layers * qr_attention_bytes(plan);
    report->attention_flops += layers * qr_attention_flops(plan);
}

/* True the second time in a step. */
static bool was_counted(qr_network *network, uint32_t block)
{
    const uint64_t bit     = UINT64_C(1) << block % 64;
    uint64_t      *word    = &network->counted[block / 64];
    const bool     counted = (*word & bit) != 0;
    *word |= bit;
    return counted;
}

/* Visible tokens in blocks that a sequence before has as well: equal prompts and encoder inputs are shared. */
static uint64_t repeated_tokens(qr_network *network, const qr_attention_sequence *sequences, uint32_t window)
{
    const uint32_t size     = network->kv_shape.block_size;
    uint64_t       repeated = 0;
    for (uint32_t i = 0; i < network->plan->sequence_count; i++) {
        const qr_attention_sequence *s = &sequences[i];
        if (s->row_count == 0) continue;
        const uint32_t begin = window != 0 && s->position + 1 > window ? s->position + 1 - window : 0;
        for (uint32_t block = begin / size; block * size < s->kv_length; block++)
            if (was_counted(network, s->blocks[block]))
                repeated += qr_min_u32(s->kv_length, (block + 1) * size) - qr_max_u32(begin, block * size);
    }
    return repeated;
}

/* Layers of the self plan; the others are the window plan's. */
static uint32_t widest_layers(const qr_architecture *a) { return a->full_layers > 0 ? a->full_layers : a->layers; }

/* The plans count each sequence's keys and values; shared ones move once. */
static void count_shared_blocks_once(qr_network *network)
{
    const qr_architecture *a     = network->architecture;
    const uint64_t         token = token_bytes(&network->kv_shape);
    const uint64_t         wide  = widest_layers(a);
    if (network->plan->sequence_count < 2) return;
    memset(network->counted, 0, network->counted_bytes);
    uint64_t repeated = wide * repeated_tokens(network, network->self_sequences, qr_widest_window(a));
    if (qr_network_has_encoder(network)) repeated += a->layers * repeated_tokens(network, network->cross_sequences, 0);
    if (network->window_plan != NULL) {
        memset(network->counted, 0, network->counted_bytes);
        repeated += (a->layers - wide) * repeated_tokens(network, network->window_sequences, a->window);
    }
    network->report->kv_bytes -= repeated * token;
}

static void count_projections(quire_step *report, const qr_work *work, uint64_t rows)
{
    report->projection_bytes += work->bytes;
    report->projection_flops += work->flops * rows;
    report->wide_flops += work->wide_flops * rows;
}

/* Of experts only what the step chose moves. */
static void count_experts(const qr_network *network, quire_step *report)
{
    report->projection_bytes += network->expert_work.bytes * network->experts_touched;
    report->projection_flops += network->expert_work.flops * network->expert_rows;
    report->wide_flops += network->expert_work.wide_flops * network->expert_rows;
}

static uint64_t embedding_row_bytes(const qr_network *network)
{
    return network->architecture->hidden_size * qr_dtype_bytes(network->embedding_dtype);
}

/* Of one row's input. */
static uint64_t encoder_input_bytes(const qr_network *network)
{
    const uint64_t features = network->architecture->feature_size;
    return features > 0 ? QR_FRAMES_PER_POSITION * features * sizeof(float) : embedding_row_bytes(network);
}

/* The encoder's layers, and the cross blocks that they end in: apart, and in the sums. */
static void count_encoder(const qr_network *network, quire_step *report)
{
    const qr_architecture *a    = network->architecture;
    const uint64_t         rows = network->encoder_rows;
    quire_step             own  = {0};
    count_projections(&own, &network->encoder_work, rows);
    count_projections(&own, &network->cross_work, rows);
    count_attention(&own, network->encoder_plan, a->encoder_layers);
    own.kv_bytes += rows * token_bytes(&network->encoder_kv_shape) * a->encoder_layers;
    own.kv_bytes += rows * token_bytes(&network->kv_shape) * a->layers;
    report->encoder_weight_bytes     = own.projection_bytes + rows * encoder_input_bytes(network);
    report->encoder_kv_bytes         = own.kv_bytes;
    report->encoder_projection_flops = own.projection_flops;
    report->encoder_attention_flops  = own.attention_flops;
    report->encoder_wide_flops       = own.wide_flops;
    report->projection_bytes += report->encoder_weight_bytes;
    report->kv_bytes += report->encoder_kv_bytes;
    report->projection_flops += report->encoder_projection_flops;
    report->attention_flops += report->encoder_attention_flops;
    report->wide_flops += report->encoder_wide_flops;
}

static uint64_t copied_bytes(const qr_network *network, const qr_kv_memory *memory, const quire_plan_copy *copies,
                             uint32_t count)
{
    uint64_t slots = 0;
    for (uint32_t i = 0; i < count; i++) slots += copies[i].slots;
    return 2 * slots * token_bytes(&network->kv_shape) * memory->layers;
}

/* What the step must move and compute at least, from the plans and shapes. */
static void count_step(qr_network *network)
{
    const quire_plan      *plan   = network->plan;
    const qr_architecture *a      = network->architecture;
    quire_step            *report = network->report;
    const uint64_t         rows   = plan->rows;
    const uint64_t         token  = token_bytes(&network->kv_shape);
    if (rows > 0) {
        count_projections(report, &network->decoder_work, rows);
        count_experts(network, report);
        count_attention(report, network->self_plan, widest_layers(a));
        if (network->window_plan != NULL) count_attention(report, network->window_plan, a->layers - widest_layers(a));
        if (qr_network_has_encoder(network)) count_attention(report, network->cross_plan, a->layers);
        count_shared_blocks_once(network);
    }
    if (network->encoder_rows > 0) count_encoder(network, report);
    report->kv_bytes += rows * token * a->layers;
    if (plan->copy_count > 0) report->kv_bytes += copied_bytes(network, network->kv, plan->copies, plan->copy_count);
    if (plan->local_copy_count > 0)
        report->kv_bytes += copied_bytes(network, network->local_kv, plan->local_copies, plan->local_copy_count);
    report->projection_bytes += rows * embedding_row_bytes(network);
    if (plan->rows_logits > 0) {
        report->logits_bytes = network->head_work.bytes;
        report->logits_flops = network->head_work.flops * plan->rows_logits;
    }
    report->weight_bytes = report->projection_bytes + report->logits_bytes;
    report->flops        = report->projection_flops + report->attention_flops + report->logits_flops;
}

/* Slowest thread's attention time over the mean. */
static float imbalance(const qr_network *network)
{
    uint64_t slowest = 0, sum = 0;
    for (uint32_t thread = 0; thread < network->thread_count; thread++) {
        uint64_t busy = qr_attention_busy_ns(network->self_plan, thread);
        if (network->window_plan != NULL) busy += qr_attention_busy_ns(network->window_plan, thread);
        if (qr_network_has_encoder(network)) busy += qr_attention_busy_ns(network->cross_plan, thread);
        slowest = qr_max_u64(slowest, busy);
        sum += busy;
    }
    return sum == 0 ? 1 : (float)((double)slowest * network->thread_count / (double)sum);
}

/* Rows that all samples can judge by their partial log-sum-exp need not be written. Without samples the caller wants
 * them all. */
static void keep_logits(qr_network *network, const quire_plan *plan)
{
    memset(network->logits_kept, plan->sample_count == 0, plan->rows_logits * sizeof *network->logits_kept);
    for (uint32_t i = 0; i < plan->sample_count; i++) {
        const quire_plan_sample *sample = &plan->samples[i];
        network->logits_kept[sample->logits_row] |=
            sample->given ||
            qr_sample_reads_logits(plan->sequences[sample->entry].request, sample->index, sample->mask_stops);
    }
    network->kept_count = 0;
    for (uint32_t i = 0; i < QR_LSE_PARTS * plan->rows_logits; i++)
        network->lse_rows[i] = i / plan->rows_logits * network->options.max_logits_rows + i % plan->rows_logits;
    for (uint32_t row = 0; row < plan->rows_logits; row++)
        if (network->logits_kept[row]) network->kept_rows[network->kept_count++] = row;
}

quire_status qr_network_forward(qr_network *network, const quire_plan *plan, qr_after_logits *after, void *context,
                                quire_step *step)
{
    if (qr_team_is_forked(network->options.team)) return QUIRE_ERR_FORKED;
    if (network->kv == NULL || !plan_is_valid(network, plan)) return QUIRE_ERR_EXECUTION;
    network->plan            = plan;
    network->after_logits    = after;
    network->after_context   = context;
    network->report          = step;
    network->experts_touched = network->expert_rows = 0;
    network->lost_ranks                             = false;
    plan_rows(network, plan);
    plan_encoder(network, plan);
    keep_logits(network, plan);
    qr_team_run(network->options.team, run_thread, network);
    if (qr_projection_take_lost(network->context)) return QUIRE_ERR_NO_MEMORY;
    count_step(network);
    step->imbalance = plan->rows > 0 ? imbalance(network) : 1;
    return QUIRE_OK;
}
