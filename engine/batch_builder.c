/* One pass over the plan's entries, copies, encoder items and samples. */
#include "engine/batch_builder.h"

#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "model/sample.h"

void qr_batch_builder_layout(qr_batch_builder *builder, qr_arena *arena, const qr_batch_limits *limits)
{
    builder->limits        = *limits;
    builder->tokens        = QR_ARENA_TAKE(arena, int32_t, limits->rows);
    builder->positions     = QR_ARENA_TAKE(arena, uint32_t, limits->rows);
    builder->sequences     = QR_ARENA_TAKE(arena, qr_batch_sequence, limits->sequences);
    builder->views         = QR_ARENA_TAKE(arena, qr_sequence_view, limits->sequences);
    builder->logits_rows   = QR_ARENA_TAKE(arena, uint32_t, limits->samples);
    builder->logits_kept   = QR_ARENA_TAKE(arena, bool, limits->samples);
    builder->sample_logits = QR_ARENA_TAKE(arena, uint32_t, limits->samples);
    builder->copies        = QR_ARENA_TAKE(arena, qr_batch_copy, limits->samples);
    builder->encoders      = QR_ARENA_TAKE(arena, qr_batch_encoder, limits->sequences);
    builder->batch         = (qr_batch){.tokens      = builder->tokens,
                                        .positions   = builder->positions,
                                        .sequences   = builder->sequences,
                                        .logits_rows = builder->logits_rows,
                                        .logits_kept = builder->logits_kept,
                                        .copies      = builder->copies,
                                        .encoders    = builder->encoders};
}

static void build_entry(qr_batch_builder *builder, uint32_t i, const qr_plan_entry *entry,
                        const qr_scheduler *scheduler)
{
    qr_sequence_view *view = &builder->views[i];
    qr_scheduler_sequence(scheduler, entry->sequence, view);
    qr_assert(entry->row_start + entry->rows <= builder->limits.rows);
    builder->sequences[i] = (qr_batch_sequence){.row_start    = entry->row_start,
                                                .row_count    = entry->rows,
                                                .position     = entry->position,
                                                .blocks       = view->blocks,
                                                .cross_blocks = view->cross_blocks,
                                                .cross_length = view->cross_length,
                                                .node         = view->node};
    memcpy(builder->tokens + entry->row_start, view->tokens + entry->position, entry->rows * sizeof(int32_t));
    for (uint32_t r = 0; r < entry->rows; r++) builder->positions[entry->row_start + r] = entry->position + r;
}

static void build_encoder(qr_batch_builder *builder, uint32_t i, const qr_plan_encoder *encoder,
                          const qr_scheduler *scheduler)
{
    qr_sequence_view view;
    qr_scheduler_sequence(scheduler, encoder->sequence, &view);
    builder->encoders[i] = (qr_batch_encoder){
        .tokens = encoder->tokens, .token_count = encoder->token_count, .blocks = encoder->blocks, .node = view.node};
}

/* Samples are in row order, several on one row for n > 1. */
static uint32_t build_logits(qr_batch_builder *builder, const qr_plan *plan)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->sample_count; i++) {
        const qr_plan_sample *sample = &plan->samples[i];
        if (count == 0 || builder->logits_rows[count - 1] != sample->row) {
            qr_assert(count == 0 || builder->logits_rows[count - 1] < sample->row);
            builder->logits_kept[count]   = false;
            builder->logits_rows[count++] = sample->row;
        }
        builder->sample_logits[i] = count - 1;
        builder->logits_kept[count - 1] |=
            qr_sample_reads_logits(builder->views[sample->entry].request, sample->mask_stops);
    }
    return count;
}

void qr_batch_build(qr_batch_builder *builder, const qr_plan *plan, const qr_scheduler *scheduler)
{
    qr_assert(plan->entry_count <= builder->limits.sequences && plan->encoder_count <= builder->limits.sequences);
    qr_assert(plan->sample_count <= builder->limits.samples && plan->copy_count <= builder->limits.samples);
    for (uint32_t i = 0; i < plan->entry_count; i++) build_entry(builder, i, &plan->entries[i], scheduler);
    for (uint32_t i = 0; i < plan->encoder_count; i++) build_encoder(builder, i, &plan->encoders[i], scheduler);
    for (uint32_t i = 0; i < plan->copy_count; i++)
        builder->copies[i] =
            (qr_batch_copy){.from = plan->copies[i].from, .to = plan->copies[i].to, .slots = plan->copies[i].slots};
    builder->batch.row_count      = plan->rows;
    builder->batch.sequence_count = plan->entry_count;
    builder->batch.encoder_count  = plan->encoder_count;
    builder->batch.copy_count     = plan->copy_count;
    builder->batch.logits_count   = build_logits(builder, plan);
}

/* Tokens that rows at positions [position, position + rows) see: together, and summed over the rows. */
static void count_sequence(const qr_batch_sequence *s, uint64_t window, qr_batch_reads *reads)
{
    const uint64_t end   = (uint64_t)s->position + s->row_count;
    const uint64_t first = window > 0 && s->position + 1 > window ? s->position + 1 - window : 0;
    reads->kv_tokens += end - first;
    for (uint64_t seen = (uint64_t)s->position + 1; seen <= end; seen++)
        reads->kv_pairs += window > 0 ? qr_min_u64(seen, window) : seen;
    reads->cross_tokens += s->cross_length;
    reads->cross_pairs += (uint64_t)s->cross_length * s->row_count;
}

qr_batch_reads qr_batch_count_reads(const qr_batch *batch, uint32_t window)
{
    qr_batch_reads reads = {0};
    for (uint32_t i = 0; i < batch->sequence_count; i++) count_sequence(&batch->sequences[i], window, &reads);
    for (uint32_t i = 0; i < batch->encoder_count; i++)
        reads.encoder_pairs += (uint64_t)batch->encoders[i].token_count * batch->encoders[i].token_count;
    return reads;
}
