/* quire_planner: scheduler, cache and batch builder of the engine without its model, threads, queues and clock. What
 * the engine's step does between two forward passes, the host does call by call. */
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cache/block_pool.h"
#include "engine/batch_builder.h"
#include "engine/options.h"
#include "engine/outbox.h"

#include "quire/plan.h"

_Static_assert(QUIRE_NO_BLOCK == QR_BLOCK_NONE, "the block of a table's entry that the window left");

struct quire_planner {
    qr_scheduler_options scheduler_options;
    qr_scheduler        *scheduler;
    qr_arena             arena; /* everything below */
    qr_batch_builder     builder;
    quire_plan_sequence *sequences; /* [max_num_seqs] */
    quire_plan_sample   *samples;   /* [samples] */
    quire_plan_copy     *copies;    /* [samples] */
    quire_plan_encoder  *encoders;  /* [max_num_seqs] */
    uint64_t            *slots;     /* [max_num_batched_tokens] */
    uint32_t            *freed;     /* [num_blocks] with zero_on_free */
    qr_sample_result    *results;   /* [samples] */
    quire_plan           plan;
    const qr_plan       *decided; /* what `plan` shows */
    bool                 in_flight;
    quire_request_id     last_id;
    uint64_t             now_ns;      /* latest time given */
    uint32_t             events_done; /* of the scheduler's events, those polled already */
    uint32_t             samples_most;
};

/* ---- creation ---- */

static quire_status check_range(const char *name, uint32_t value, uint32_t least, uint32_t most, quire_error *error)
{
    if (value >= least && value <= most) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_model: %s: %u is not in %u..%u", name, value, least, most);
}

static quire_status check_id(const char *name, int32_t id, uint32_t vocab, quire_error *error)
{
    if (id >= 0 && (uint32_t)id < vocab) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_model: %s: id %d is not in 0..%u", name, id, vocab - 1);
}

static quire_status check_model(const quire_planner_model *model, quire_error *error)
{
    const uint32_t longest = (uint32_t)qr_option_find("model.max_model_len")->most;
    QR_TRY(check_range("vocab_size", model->vocab_size, 1, INT32_MAX, error));
    QR_TRY(check_range("max_model_len", model->max_model_len, 0, longest, error));
    QR_TRY(check_range("eos_count", model->eos_count, 0, QUIRE_MAX_EOS_IDS, error));
    QR_TRY(check_range("num_blocks", model->num_blocks, 0, 1 << 28, error));
    QR_TRY(check_range("block_size", model->block_size, 0, 65536, error));
    QR_TRY(check_range("node_count", model->node_count, 0, QR_MAX_NODES, error));
    for (uint32_t i = 0; i < model->eos_count; i++)
        QR_TRY(check_id("eos_token_ids", model->eos_token_ids[i], model->vocab_size, error));
    if (!model->encoder_decoder) return QUIRE_OK;
    return check_id("decoder_start_token_id", model->decoder_start_token_id, model->vocab_size, error);
}

static qr_model_facts facts_of(const quire_planner_model *model)
{
    qr_model_facts facts = {.encoder_decoder         = model->encoder_decoder,
                            .vocab_size              = model->vocab_size,
                            .window                  = model->window,
                            .max_position_embeddings = model->max_model_len,
                            .decoder_start_token_id  = model->decoder_start_token_id,
                            .eos_count               = model->eos_count};
    memcpy(facts.eos_token_ids, model->eos_token_ids, sizeof facts.eos_token_ids);
    return facts;
}

static quire_status resolve(const quire_engine_options *options, const quire_planner_model *model,
                            qr_scheduler_options *out, quire_error *error)
{
    const qr_model_facts facts = facts_of(model);
    quire_engine_options resolved;
    QR_TRY(check_model(model, error));
    QR_TRY(qr_options_copy("quire_engine_options", options, sizeof options->size, &resolved, sizeof resolved, error));
    QR_TRY(qr_options_resolve(&resolved, &facts, error));
    qr_options_scheduler(&resolved, &facts, out);
    out->num_blocks = model->num_blocks ? model->num_blocks : resolved.num_kv_blocks;
    out->block_size = model->block_size ? model->block_size : resolved.block_size;
    out->node_count = qr_max_u32(model->node_count, 1);
    if (out->num_blocks > 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "quire_planner_model: num_blocks: 0, and num_kv_blocks of the options is 0 too; a planner cannot "
                   "size the cache by memory");
}

static void lay_out(quire_planner *planner, qr_arena *arena)
{
    const qr_scheduler_options *options = &planner->scheduler_options;
    const qr_batch_limits       limits  = {
               .rows = options->max_num_batched_tokens, .sequences = options->max_num_seqs, .samples = planner->samples_most};
    qr_batch_builder_layout(&planner->builder, arena, &limits);
    planner->sequences = QR_ARENA_TAKE(arena, quire_plan_sequence, limits.sequences);
    planner->samples   = QR_ARENA_TAKE(arena, quire_plan_sample, limits.samples);
    planner->copies    = QR_ARENA_TAKE(arena, quire_plan_copy, limits.samples);
    planner->encoders  = QR_ARENA_TAKE(arena, quire_plan_encoder, limits.sequences);
    planner->slots     = QR_ARENA_TAKE(arena, uint64_t, limits.rows);
    planner->freed     = QR_ARENA_TAKE(arena, uint32_t, options->zero_on_free ? options->num_blocks : 0);
    planner->results   = QR_ARENA_TAKE(arena, qr_sample_result, limits.samples);
}

static quire_status build(quire_planner *planner, quire_error *error)
{
    const qr_scheduler_options *options = &planner->scheduler_options;
    planner->samples_most               = options->max_num_seqs * (1 + options->num_speculative_tokens);
    QR_TRY(qr_scheduler_create(options, &planner->scheduler, error));
    lay_out(planner, &planner->arena);
    QR_TRY(qr_arena_create(&planner->arena, &options->allocator, "planner", error));
    lay_out(planner, &planner->arena);
    planner->scheduler_options.tenants = NULL; /* the caller's */
    return QUIRE_OK;
}

quire_status quire_planner_create(const quire_engine_options *options, const quire_planner_model *model,
                                  quire_planner **planner_out, quire_error *error)
{
    if (planner_out == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_create: planner_out is NULL");
    *planner_out = NULL;
    if (options == NULL || model == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_create: %s is NULL", options ? "model" : "options");
    quire_planner_model  copy;
    qr_scheduler_options resolved;
    QR_TRY(qr_options_copy("quire_planner_model", model, sizeof model->size, &copy, sizeof copy, error));
    QR_TRY(resolve(options, &copy, &resolved, error));
    quire_planner *planner = qr_allocate(&resolved.allocator, sizeof *planner, _Alignof(quire_planner));
    if (planner == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "planner: %zu bytes", sizeof *planner);
    planner->scheduler_options = resolved;
    const quire_status status  = build(planner, error);
    if (status == QUIRE_OK)
        *planner_out = planner;
    else
        quire_planner_destroy(planner);
    return status;
}

void quire_planner_destroy(quire_planner *planner)
{
    if (planner == NULL) return;
    const quire_allocator allocator = planner->scheduler_options.allocator;
    qr_scheduler_destroy(planner->scheduler);
    qr_arena_destroy(&planner->arena);
    qr_deallocate(&allocator, planner, sizeof *planner);
}

/* ---- requests ---- */

/* Times never go back. */
static uint64_t advance(quire_planner *planner, uint64_t now_ns)
{
    return planner->now_ns = qr_max_u64(planner->now_ns, now_ns);
}

/* Records of ended requests are free once all events have been polled. */
static bool drop_polled_events(quire_planner *planner)
{
    uint32_t count;
    qr_scheduler_events(planner->scheduler, &count);
    if (planner->events_done < count) return false;
    qr_scheduler_events_clear(planner->scheduler); /* may bring more of a beam search */
    planner->events_done = 0;
    qr_scheduler_events(planner->scheduler, &count);
    return count == 0;
}

quire_status quire_planner_submit(quire_planner *planner, const quire_request *request, uint64_t now_ns,
                                  quire_request_id *id_out, quire_error *error)
{
    if (id_out != NULL) *id_out = 0;
    if (request == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_submit: request is NULL");
    quire_request copy;
    QR_TRY(qr_options_copy("quire_request", request, sizeof request->size, &copy, sizeof copy, error));
    if (copy.prompt_count == 0) copy.prompt = NULL; /* encoder-decoder: the model's start token */
    if (copy.logits != QUIRE_LOGITS_NONE)
        return qr_fail(error, QUIRE_ERR_INVALID, "request: logits: %u, but a planner sees none", copy.logits);
    const quire_request_id id = planner->last_id + 1;
    QR_TRY(qr_scheduler_submit(planner->scheduler, &copy, id, advance(planner, now_ns), error));
    planner->last_id = id;
    if (id_out != NULL) *id_out = id;
    return QUIRE_OK;
}

quire_status quire_planner_cancel(quire_planner *planner, quire_request_id id, uint64_t now_ns)
{
    return qr_scheduler_cancel(planner->scheduler, id, advance(planner, now_ns));
}

quire_status quire_planner_pause(quire_planner *planner, quire_request_id id, uint64_t now_ns)
{
    return qr_scheduler_pause(planner->scheduler, id, advance(planner, now_ns));
}

quire_status quire_planner_resume(quire_planner *planner, quire_request_id id, uint64_t now_ns)
{
    return qr_scheduler_resume(planner->scheduler, id, advance(planner, now_ns));
}

/* ---- the plan as arrays ---- */

static void show_slots(quire_planner *planner, const qr_batch_sequence *s)
{
    const uint32_t size = planner->scheduler_options.block_size;
    for (uint32_t row = s->row_start; row < s->row_start + s->row_count; row++) {
        const uint32_t position = planner->builder.positions[row];
        planner->slots[row]     = (uint64_t)s->blocks[position / size] * size + position % size;
    }
}

static void show_sequence(quire_planner *planner, uint32_t i)
{
    const qr_plan_entry     *entry    = &planner->decided->entries[i];
    const qr_batch_sequence *sequence = &planner->builder.sequences[i];
    const qr_sequence_view  *view     = &planner->builder.views[i];
    const uint32_t           size     = planner->scheduler_options.block_size;
    const bool               crosses  = view->cross_length > 0;
    planner->sequences[i]             = (quire_plan_sequence){
                    .id                = view->id,
                    .request           = view->request,
                    .sequence          = view->index,
                    .row_start         = sequence->row_start,
                    .row_count         = sequence->row_count,
                    .position          = sequence->position,
                    .drafts            = entry->drafts,
                    .tokens            = view->tokens,
                    .blocks            = sequence->blocks,
                    .block_count       = view->block_count,
                    .cross_blocks      = crosses ? sequence->cross_blocks : NULL,
                    .cross_block_count = qr_ceil_div_u32(view->cross_length, size),
                    .cross_length      = view->cross_length,
                    .sample_start      = entry->sample_start,
                    .sample_count      = entry->sample_count,
                    .node              = sequence->node,
    };
    show_slots(planner, sequence);
}

static void show_sample(quire_planner *planner, uint32_t i)
{
    const qr_plan_sample *sample = &planner->decided->samples[i];
    planner->samples[i]          = (quire_plan_sample){.row        = sample->row,
                                                       .entry      = sample->entry,
                                                       .sequence   = sample->sequence_index,
                                                       .position   = sample->position,
                                                       .index      = sample->output_index,
                                                       .mask_stops = sample->mask_stops};
}

static void show_encoder(quire_planner *planner, uint32_t i)
{
    const qr_batch_encoder *encoder = &planner->builder.encoders[i];
    const uint32_t          size    = planner->scheduler_options.block_size;
    qr_sequence_view        view;
    qr_scheduler_sequence(planner->scheduler, planner->decided->encoders[i].sequence, &view);
    planner->encoders[i] = (quire_plan_encoder){.id          = view.id,
                                                .tokens      = encoder->tokens,
                                                .token_count = encoder->token_count,
                                                .blocks      = encoder->blocks,
                                                .block_count = qr_ceil_div_u32(encoder->token_count, size),
                                                .node        = encoder->node};
}

/* A copy: what is freed from now on, for instance again at this plan's commit, is the next plan's to show. */
static void show_freed(quire_planner *planner)
{
    uint32_t        count;
    const uint32_t *freed = qr_scheduler_freed(planner->scheduler, &count);
    if (count > 0) memcpy(planner->freed, freed, count * sizeof *freed);
    qr_scheduler_freed_clear(planner->scheduler);
    planner->plan.freed       = planner->freed;
    planner->plan.freed_count = count;
}

static void show_state(quire_planner *planner)
{
    quire_stats stats = {.size = sizeof stats};
    qr_scheduler_stats(planner->scheduler, &stats);
    planner->plan.running       = stats.running;
    planner->plan.waiting       = stats.waiting;
    planner->plan.paused        = stats.paused;
    planner->plan.blocks_used   = (uint32_t)stats.blocks_used;
    planner->plan.blocks_cached = (uint32_t)stats.blocks_cached;
}

static void show(quire_planner *planner)
{
    const qr_plan       *decided = planner->decided;
    const qr_batch      *batch   = &planner->builder.batch;
    const qr_batch_reads reads   = qr_batch_count_reads(batch, planner->scheduler_options.window);
    planner->plan                = (quire_plan){
                       .number         = decided->number,
                       .rows           = batch->row_count,
                       .sequence_count = batch->sequence_count,
                       .sample_count   = decided->sample_count,
                       .copy_count     = batch->copy_count,
                       .encoder_count  = batch->encoder_count,
                       .copies         = planner->copies,
                       .encoders       = planner->encoders,
                       .sequences      = planner->sequences,
                       .samples        = planner->samples,
                       .tokens         = batch->tokens,
                       .positions      = batch->positions,
                       .slots          = planner->slots,
                       .rows_prompt    = decided->rows_prompt,
                       .rows_encoder   = decided->rows_encoder,
                       .rows_logits    = batch->logits_count,
                       .preempted      = decided->preempted,
                       .kv_tokens      = reads.kv_tokens,
                       .kv_pairs       = reads.kv_pairs,
                       .cross_tokens   = reads.cross_tokens,
                       .cross_pairs    = reads.cross_pairs,
                       .encoder_pairs  = reads.encoder_pairs,
    };
    for (uint32_t i = 0; i < batch->sequence_count; i++) show_sequence(planner, i);
    for (uint32_t i = 0; i < decided->sample_count; i++) show_sample(planner, i);
    for (uint32_t i = 0; i < batch->encoder_count; i++) show_encoder(planner, i);
    for (uint32_t i = 0; i < batch->copy_count; i++)
        planner->copies[i] = (quire_plan_copy){batch->copies[i].from, batch->copies[i].to, batch->copies[i].slots};
    show_freed(planner);
    show_state(planner);
}

quire_status quire_planner_plan(quire_planner *planner, uint64_t now_ns, const quire_plan **plan_out,
                                quire_error *error)
{
    if (plan_out == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_plan: plan_out is NULL");
    *plan_out = NULL;
    if (planner->in_flight)
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_plan: plan %llu is not committed yet",
                       (unsigned long long)planner->plan.number);
    if (!drop_polled_events(planner))
        return qr_fail(error, QUIRE_ERR_FULL, "quire_planner_plan: there are events; poll until there are none");
    planner->decided = qr_scheduler_plan(planner->scheduler, advance(planner, now_ns));
    qr_scheduler_debug_check(planner->scheduler);
    qr_batch_build(&planner->builder, planner->decided, planner->scheduler);
    show(planner);
    planner->in_flight = planner->plan.rows > 0 || planner->plan.rows_encoder > 0;
    *plan_out          = &planner->plan;
    return QUIRE_OK;
}

/* ---- commit ---- */

static bool in_vocabulary(const quire_planner *planner, int32_t token)
{
    return token >= 0 && (uint32_t)token < planner->scheduler_options.vocab_size;
}

static bool stands_before(const int32_t *tokens, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++)
        if (tokens[i] == tokens[k]) return true;
    return false;
}

/* One of a beam search's candidates; those of -INFINITY are not looked at. */
static quire_status check_candidate(const quire_planner *planner, uint32_t i, const quire_sampled *sampled, uint32_t k,
                                    quire_error *error)
{
    const int32_t token   = sampled->candidates[k];
    const float   logprob = sampled->candidate_logprobs[k];
    if (!in_vocabulary(planner, token))
        return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: candidates[%u]: id %d is not in 0..%u", i, k, token,
                       planner->scheduler_options.vocab_size - 1);
    if (isnan(logprob) || logprob == INFINITY)
        return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: candidate_logprobs[%u]: %g is no log probability", i, k,
                       (double)logprob);
    if (logprob > -INFINITY && stands_before(sampled->candidates, k))
        return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: candidates[%u]: id %d stands there twice", i, k, token);
    return QUIRE_OK;
}

static quire_status check_candidates(const quire_planner *planner, uint32_t i, const quire_sampled *sampled,
                                     uint32_t width, quire_error *error)
{
    const float *logprobs = sampled->candidate_logprobs;
    if (sampled->candidates == NULL || logprobs == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: candidates: missing, but its request is a beam search",
                       i);
    for (uint32_t k = 0; k < 2 * width; k++) {
        QR_TRY(check_candidate(planner, i, sampled, k, error));
        if (k > 0 && logprobs[k] > logprobs[k - 1])
            return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: candidate_logprobs[%u]: %g follows %g; best first",
                           i, k, (double)logprobs[k], (double)logprobs[k - 1]);
    }
    return QUIRE_OK;
}

static quire_status check_sampled(const quire_planner *planner, uint32_t i, const quire_sampled *sampled,
                                  quire_error *error)
{
    const uint32_t width = planner->sequences[planner->samples[i].entry].request->beam_width;
    if (sampled->failed) return QUIRE_OK;
    if (width > 1) return check_candidates(planner, i, sampled, width, error);
    if (in_vocabulary(planner, sampled->token)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: token: id %d is not in 0..%u", i, sampled->token,
                   planner->scheduler_options.vocab_size - 1);
}

static quire_status check_in_flight(const quire_planner *planner, const char *call, quire_error *error)
{
    if (planner->in_flight) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: there is no plan to commit", call);
}

static void end_step(quire_planner *planner)
{
    planner->in_flight = false;
    qr_scheduler_debug_check(planner->scheduler);
}

quire_status quire_planner_commit(quire_planner *planner, const quire_sampled *sampled, uint32_t count, uint64_t now_ns,
                                  quire_error *error)
{
    QR_TRY(check_in_flight(planner, "quire_planner_commit", error));
    if (count != planner->plan.sample_count || (count > 0 && sampled == NULL))
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_commit: %u samples are given, the plan has %u",
                       sampled ? count : 0, planner->plan.sample_count);
    for (uint32_t i = 0; i < count; i++) QR_TRY(check_sampled(planner, i, &sampled[i], error));
    for (uint32_t i = 0; i < count; i++)
        planner->results[i] = (qr_sample_result){.token              = sampled[i].token,
                                                 .logprob            = sampled[i].logprob,
                                                 .failed             = sampled[i].failed,
                                                 .candidates         = sampled[i].candidates,
                                                 .candidate_logprobs = sampled[i].candidate_logprobs};
    qr_scheduler_commit(planner->scheduler, planner->results, advance(planner, now_ns));
    end_step(planner);
    return QUIRE_OK;
}

quire_status quire_planner_commit_failed(quire_planner *planner, uint64_t now_ns, quire_error *error)
{
    QR_TRY(check_in_flight(planner, "quire_planner_commit_failed", error));
    qr_scheduler_commit_failed(planner->scheduler, advance(planner, now_ns));
    end_step(planner);
    return QUIRE_OK;
}

void quire_planner_allow_drafts(quire_planner *planner, bool allowed)
{
    qr_scheduler_allow_drafts(planner->scheduler, allowed);
}

/* ---- looking in ---- */

size_t quire_planner_poll(quire_planner *planner, quire_event *events, size_t capacity)
{
    uint32_t                  count, polled = 0;
    const qr_scheduler_event *from = qr_scheduler_events(planner->scheduler, &count);
    if (planner->events_done == count && !planner->in_flight) {
        (void)drop_polled_events(planner);
        from = qr_scheduler_events(planner->scheduler, &count);
    }
    for (; polled < capacity && planner->events_done < count; polled++) {
        const qr_scheduler_event *event = &from[planner->events_done++];
        events[polled]                  = qr_event_of(event, event->user_data, planner->now_ns);
        if (event->kind == QUIRE_EVENT_FINISHED) events[polled].detail = &event->detail;
    }
    return polled;
}

quire_status quire_planner_explain(const quire_planner *planner, quire_request_id id, uint64_t now_ns,
                                   quire_explanation *explanation_out)
{
    return qr_scheduler_explain(planner->scheduler, id, now_ns, explanation_out);
}

void quire_planner_stats(const quire_planner *planner, quire_stats *stats)
{
    quire_stats now = {0};
    qr_scheduler_stats(planner->scheduler, &now);
    now.nodes                  = planner->scheduler_options.node_count;
    now.block_size             = planner->scheduler_options.block_size;
    now.max_model_len          = planner->scheduler_options.max_model_len;
    now.max_num_batched_tokens = planner->scheduler_options.max_num_batched_tokens;
    qr_options_give(&now, sizeof now, stats);
}

const char *quire_planner_check(const quire_planner *planner) { return qr_scheduler_check(planner->scheduler); }

void quire_planner_flush_cache(quire_planner *planner) { qr_scheduler_flush_cache(planner->scheduler); }
