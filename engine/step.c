/* One step: drain the inbox, plan, run, sample, commit, publish. Only the forward pass and sampling run unlocked. */
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"

/* ---- inbox to scheduler ---- */

/* Is it the whole queue that is full, or the tenant's part? Preemption may have filled the queue since submit. */
static bool queue_is_full(const qr_inbox *inbox, const qr_message *message)
{
    return (uint64_t)inbox->scheduler_requests + message->places > inbox->limits.requests ||
           (uint64_t)inbox->scheduler_tokens + message->tokens > inbox->limits.tokens;
}

static void end_unstarted(quire_engine *engine, qr_record *record, quire_finish finish, quire_status status,
                          uint64_t now_ns)
{
    engine->unstarted++;
    engine->unstarted_by[finish] += record->sequences;
    qr_outbox_end_unstarted(&engine->outbox, record, finish, status, now_ns);
}

/* False: the message must wait in the inbox. */
static bool pass_on(quire_engine *engine, const qr_message *message, uint64_t now_ns)
{
    qr_record         *record = message->record;
    quire_error        error  = {0};
    const quire_status status =
        qr_scheduler_submit(engine->scheduler, &message->request, record->id, record->arrival_ns, &error);
    if (status == QUIRE_ERR_FULL) {
        qr_engine_take_stats(engine);
        if (engine->backlog || queue_is_full(&engine->inbox, message)) return false;
    }
    qr_ledger_lock(&engine->ledger);
    if (status == QUIRE_OK) {
        qr_outbox_make_live(&engine->outbox, record);
    } else {
        end_unstarted(engine, record, QUIRE_FINISH_ERROR, status, now_ns);
    }
    qr_inbox_pop(&engine->inbox);
    qr_ledger_unlock(&engine->ledger);
    if (status != QUIRE_OK)
        qr_log_write(&engine->log, QUIRE_LOG_WARN, "request %llu: %s", (unsigned long long)record->id, error.message);
    return true;
}

static void drain_messages(quire_engine *engine, uint64_t now_ns)
{
    for (;;) {
        qr_ledger_lock(&engine->ledger);
        const qr_message *message = qr_inbox_peek(&engine->inbox);
        qr_ledger_unlock(&engine->ledger);
        if (message == NULL || !pass_on(engine, message, now_ns)) return;
    }
}

static void drain_cancels(quire_engine *engine, uint64_t now_ns)
{
    qr_ledger_lock(&engine->ledger);
    for (qr_record *record; (record = qr_ledger_take_cancel(&engine->ledger)) != NULL;) {
        if (record->state == QR_RECORD_PENDING) {
            qr_inbox_forget(&engine->inbox, record);
            end_unstarted(engine, record, QUIRE_FINISH_CANCELLED, QUIRE_OK, now_ns);
        } else if (record->state == QR_RECORD_LIVE) {
            (void)qr_scheduler_cancel(engine->scheduler, record->id, now_ns); /* NOT_FOUND: its end is on the way */
        }
    }
    qr_ledger_unlock(&engine->ledger);
}

static void drain_inbox(quire_engine *engine, uint64_t now_ns)
{
    qr_ledger_lock(&engine->ledger);
    engine->activity_seen     = engine->ledger.activity;
    const bool flush          = engine->inbox.flush_cache;
    engine->inbox.flush_cache = false;
    qr_ledger_unlock(&engine->ledger);
    if (flush) qr_scheduler_flush_cache(engine->scheduler);
    drain_messages(engine, now_ns);
    drain_cancels(engine, now_ns);
}

/* ---- scheduler to outbox ---- */

/* The last token of its sequence: the end stands right behind it, or behind other sequences' events. */
static bool ends_here(const qr_scheduler_event *events, uint32_t count, uint32_t i)
{
    for (uint32_t k = i + 1; k < count; k++)
        if (events[k].id == events[i].id && events[k].sequence_index == events[i].sequence_index)
            return events[k].kind == QUIRE_EVENT_FINISHED;
    return false;
}

/* Record->logits loses FIRST once all first tokens are out, and those are out before it is asked again. */
static bool wants_logits(const qr_scheduler_event *events, uint32_t count, uint32_t i)
{
    const qr_record *record = events[i].user_data;
    if (record->logits == QUIRE_LOGITS_NONE || events[i].sample == UINT32_MAX) return false;
    if (record->logits & QUIRE_LOGITS_ALL) return true;
    if (record->logits & QUIRE_LOGITS_FIRST && events[i].index == 0) return true;
    return record->logits & QUIRE_LOGITS_LAST && ends_here(events, count, i);
}

static bool put_token(quire_engine *engine, const qr_scheduler_event *events, uint32_t count, uint32_t i,
                      uint64_t now_ns)
{
    const qr_sampling *sampling = &engine->sampling;
    const uint32_t     sample   = events[i].sample;
    qr_token_extra     extra    = {0};
    if (sample != UINT32_MAX)
        extra = (qr_token_extra){.top_count    = sampling->top_counts[sample],
                                 .top_tokens   = sampling->top_tokens + (size_t)sample * sampling->top,
                                 .top_logprobs = sampling->top_logprobs + (size_t)sample * sampling->top};
    if (wants_logits(events, count, i))
        extra.logits = engine->logits + (size_t)engine->builder.sample_logits[sample] * engine->facts.vocab_size;
    return qr_outbox_put_token(&engine->outbox, &events[i], &extra, now_ns);
}

/* Moves the scheduler's events to the outbox; false: some found no room and stay. Nothing is planned before they are
 * out, so that their logits live. A finished beam search may have more than fit at once, hence the loop. */
static bool publish(quire_engine *engine, uint64_t now_ns)
{
    bool all = true;
    qr_ledger_lock(&engine->ledger);
    for (uint32_t count = 0; all;) {
        const qr_scheduler_event *events = qr_scheduler_events(engine->scheduler, &count);
        for (; all && engine->events_done < count; engine->events_done += all) {
            const uint32_t i = engine->events_done;
            all              = events[i].kind == QUIRE_EVENT_TOKEN ? put_token(engine, events, count, i, now_ns)
                                                                   : qr_outbox_put_finished(&engine->outbox, &events[i], now_ns);
        }
        if (count == 0) break;
        if (!all) break;
        qr_scheduler_events_clear(engine->scheduler);
        engine->events_done = 0;
    }
    qr_outbox_signal(&engine->outbox, !all);
    qr_ledger_unlock(&engine->ledger);
    engine->backlog = !all;
    return all;
}

static void apply_change(void *context, quire_request_id id, qr_change change)
{
    quire_engine  *engine = context;
    const uint64_t now_ns = qr_now_ns();
    /* NOT_FOUND: the request ended in this very step. */
    if (change == QR_PAUSE) (void)qr_scheduler_pause(engine->scheduler, id, now_ns);
    if (change == QR_RESUME) (void)qr_scheduler_resume(engine->scheduler, id, now_ns);
    if (change == QR_FAIL) qr_scheduler_fail(engine->scheduler, id, QUIRE_ERR_FULL, now_ns);
}

/* False: the reader must take something before another step fits. */
static bool regulate(quire_engine *engine, uint64_t now_ns)
{
    qr_ledger_lock(&engine->ledger);
    const bool room = qr_outbox_has_room(&engine->outbox);
    qr_outbox_regulate(&engine->outbox, now_ns, apply_change, engine);
    qr_ledger_unlock(&engine->ledger);
    return room;
}

/* ---- sampling ---- */

/* The thread's mask, filled by the host's hook; NULL: the request has none. */
static const uint32_t *fill_mask(quire_engine *engine, uint32_t thread, uint32_t i, const float *logits)
{
    const qr_plan_sample   *sample = &engine->plan->samples[i];
    const qr_sequence_view *view   = &engine->builder.views[sample->entry];
    if (!view->request->masked) return NULL;
    const qr_record     *record  = view->request->user_data;
    const uint32_t       certain = view->prompt_count + view->output_count;
    const quire_mask_row row     = {.request      = view->id,
                                    .user_data    = record->user_data,
                                    .sequence     = sample->sequence_index,
                                    .vocab_size   = engine->facts.vocab_size,
                                    .tokens       = view->tokens,
                                    .token_count  = sample->position,
                                    .prompt_count = view->prompt_count,
                                    .drafts       = sample->position - certain,
                                    .logits       = logits};
    uint32_t            *mask    = engine->masks + (size_t)thread * engine->mask_words;
    memset(mask, 0xff, engine->mask_words * sizeof *mask);
    engine->options.mask.fill(engine->options.mask.context, &row, mask);
    return mask;
}

static void sample_one(quire_engine *engine, uint32_t thread, uint32_t i)
{
    const qr_plan_sample   *sample   = &engine->plan->samples[i];
    const qr_sequence_view *view     = &engine->builder.views[sample->entry];
    qr_sampling            *sampling = &engine->sampling;
    const size_t            vocab    = engine->facts.vocab_size;
    const uint32_t          row      = engine->builder.sample_logits[i];
    const float            *logits   = engine->builder.logits_kept[row] ? engine->logits + row * vocab : NULL;
    const qr_sample_input   input    = {
             .logits         = logits,
             .partial_lse    = qr_partial_lse_at(qr_network_partial_lse(engine->network), row, 0),
             .request        = view->request,
             .tokens         = view->tokens,
             .token_count    = sample->position,
             .prompt_count   = view->prompt_count,
             .sequence_index = sample->sequence_index,
             .position       = sample->position,
             .mask_stops     = sample->mask_stops,
             .eos            = engine->facts.eos_token_ids,
             .eos_count      = engine->facts.eos_count,
             .mask           = engine->mask_words > 0 ? fill_mask(engine, thread, i, logits) : NULL,
    };
    qr_sample_output output = {.top_tokens   = sampling->top_tokens + (size_t)i * sampling->top,
                               .top_logprobs = sampling->top_logprobs + (size_t)i * sampling->top};
    qr_sample(engine->samplers[thread], &input, &output);
    const bool beams        = view->request->beam_width > 1;
    sampling->top_counts[i] = beams ? 0 : output.top_count;
    sampling->results[i]    = (qr_sample_result){.token              = output.token,
                                                 .logprob            = output.logprob,
                                                 .failed             = output.failed,
                                                 .candidates         = beams ? output.top_tokens : NULL,
                                                 .candidate_logprobs = beams ? output.top_logprobs : NULL};
}

/* Rows are dealt to the threads in turn; each result has its own place. With a mask hook whole sequences are dealt, so
 * that the hook sees the tokens of one in order. */
static void sample_rows(void *context, uint32_t thread, uint32_t thread_count)
{
    quire_engine  *engine = context;
    const qr_plan *plan   = engine->plan;
    for (uint32_t i = 0; i < plan->sample_count; i++) {
        const uint32_t turn = engine->mask_words > 0 ? plan->samples[i].entry : i;
        if (turn % thread_count == thread) sample_one(engine, thread, i);
    }
}

/* ---- zero_on_free ---- */

/* Pairs of block and layer are dealt to the threads in turn. */
static void zero_blocks(void *context, uint32_t thread, uint32_t thread_count)
{
    const quire_engine *engine = context;
    const qr_kv_memory *kv     = &engine->kv;
    uint32_t            count;
    const uint32_t     *freed = qr_scheduler_freed(engine->scheduler, &count);
    for (uint64_t i = thread; i < (uint64_t)count * kv->layers; i += thread_count) {
        char *plane = qr_kv_memory_plane(kv, (uint32_t)(i % kv->layers));
        memset(plane + freed[i / kv->layers] * kv->block_bytes, 0, kv->block_bytes);
    }
}

/* Holds scheduler_mutex. What the plan in hand has taken again has no content yet. */
static void zero_freed(quire_engine *engine)
{
    uint32_t count;
    qr_scheduler_freed(engine->scheduler, &count);
    if (count == 0) return;
    qr_team_run(engine->team, zero_blocks, engine);
    qr_scheduler_freed_clear(engine->scheduler);
}

/* ---- the step ---- */

static void copy_report(const qr_forward_report *report, quire_step *step)
{
    step->projection_ns            = report->projection_ns;
    step->attention_ns             = report->attention_ns;
    step->logits_ns                = report->logits_ns;
    step->encoder_ns               = report->encoder_ns;
    step->rowwise_ns               = report->rowwise_ns;
    step->sample_ns                = report->sampling_ns;
    step->barrier_ns               = report->barrier_ns;
    step->weight_bytes             = report->weight_bytes;
    step->kv_bytes                 = report->kv_bytes;
    step->flops                    = report->flops;
    step->projection_bytes         = report->projection_bytes;
    step->projection_flops         = report->projection_flops;
    step->attention_flops          = report->attention_flops;
    step->logits_bytes             = report->logits_bytes;
    step->logits_flops             = report->logits_flops;
    step->imbalance                = report->imbalance;
    step->encoder_weight_bytes     = report->encoder_weight_bytes;
    step->encoder_kv_bytes         = report->encoder_kv_bytes;
    step->encoder_projection_flops = report->encoder_projection_flops;
    step->encoder_attention_flops  = report->encoder_attention_flops;
}

static quire_status forward(quire_engine *engine, quire_step *step)
{
    qr_forward_report  report = {0};
    const uint64_t     start  = qr_now_ns();
    const quire_status status = qr_network_forward(engine->network, &engine->builder.batch, &engine->logits, &report);
    copy_report(&report, step);
    step->forward_ns = qr_now_ns() - start - step->sample_ns;
    if (status != QUIRE_OK)
        qr_log_write(&engine->log, QUIRE_LOG_ERROR, "step %llu: the forward pass failed: %s",
                     (unsigned long long)engine->plan->number, quire_status_text(status));
    return status;
}

/* scheduler_mutex is held before and after, not meanwhile: nobody changes what the plan names until commit. */
static void run_plan(quire_engine *engine, quire_step *step)
{
    pthread_mutex_unlock(&engine->scheduler_mutex);
    const quire_status status = forward(engine, step);
    pthread_mutex_lock(&engine->scheduler_mutex);

    const uint64_t start = qr_now_ns();
    if (status == QUIRE_OK)
        qr_scheduler_commit(engine->scheduler, engine->sampling.results, start);
    else
        qr_scheduler_commit_failed(engine->scheduler, start);
    step->commit_ns = qr_now_ns() - start;
    qr_scheduler_debug_check(engine->scheduler);
}

static void describe_plan(const quire_engine *engine, quire_step *step)
{
    const qr_plan *plan = engine->plan;
    step->rows          = plan->rows;
    step->rows_prompt   = plan->rows_prompt;
    step->rows_encoder  = plan->rows_encoder;
    step->rows_logits   = engine->builder.batch.logits_count;
    step->sequences     = plan->entry_count;
    step->preempted     = plan->preempted;

    const qr_batch_reads reads = qr_batch_count_reads(&engine->builder.batch, engine->facts.window);
    step->kv_tokens            = reads.kv_tokens;
    step->kv_pairs             = reads.kv_pairs;
    step->cross_tokens         = reads.cross_tokens;
    step->cross_pairs          = reads.cross_pairs;
    step->encoder_pairs        = reads.encoder_pairs;
}

/* Speculative decoding: drafts only while they pay. */
static bool adapts_drafts(const quire_engine *engine)
{
    return engine->options.num_speculative_tokens > 0 && engine->options.speculative_adaptive != QUIRE_TOGGLE_OFF;
}

static void note_drafts(quire_engine *engine, const quire_step *step, uint64_t tokens)
{
    engine->steps_drafts_paused += !qr_draft_control_allows(&engine->draft_control);
    if (step->rows_prompt > 0 || step->rows_encoder > 0) return;
    qr_draft_control_note(&engine->draft_control, step->sequences, tokens, step->forward_ns + step->sample_ns);
}

static void plan_and_run(quire_engine *engine, quire_step *step)
{
    const uint64_t start = qr_now_ns();
    if (adapts_drafts(engine))
        qr_scheduler_allow_drafts(engine->scheduler, qr_draft_control_allows(&engine->draft_control));
    engine->plan = qr_scheduler_plan(engine->scheduler, start);
    if (engine->plan->rows == 0 && engine->plan->rows_encoder == 0) return;
    qr_scheduler_debug_check(engine->scheduler);
    zero_freed(engine);
    qr_batch_build(&engine->builder, engine->plan, engine->scheduler);
    engine->builder.batch.finish         = sample_rows;
    engine->builder.batch.finish_context = engine;
    qr_engine_take_stats(engine); /* plan may have put sequences back into the queue that submit judges by */
    step->plan_ns = qr_now_ns() - start;
    describe_plan(engine, step);
    const uint64_t tokens = engine->stats.tokens_output;
    run_plan(engine, step);
    engine->steps++;
    if (!adapts_drafts(engine)) return;
    qr_engine_take_stats(engine);
    note_drafts(engine, step, engine->stats.tokens_output - tokens);
}

static void describe_state(const quire_engine *engine, quire_step *step)
{
    step->running       = engine->stats.running;
    step->waiting       = engine->stats.waiting;
    step->blocks_used   = (uint32_t)engine->stats.blocks_used;
    step->blocks_cached = (uint32_t)engine->stats.blocks_cached;
}

void qr_engine_step(quire_engine *engine, quire_step *step)
{
    *step                = (quire_step){.step = engine->steps + 1, .start_ns = qr_now_ns()};
    const uint64_t start = step->start_ns;
    pthread_mutex_lock(&engine->scheduler_mutex);
    drain_inbox(engine, start);
    if (regulate(engine, start) && publish(engine, start)) plan_and_run(engine, step);
    (void)publish(engine, qr_now_ns()); /* what does not fit goes out in a later step */
    zero_freed(engine);
    if (step->rows > 0 || step->rows_encoder > 0) engine->step_ns += qr_now_ns() - start;
    qr_engine_take_stats(engine);
    engine->idle = qr_scheduler_idle(engine->scheduler);
    describe_state(engine, step);
    pthread_mutex_unlock(&engine->scheduler_mutex);
}

void qr_engine_take_stats(quire_engine *engine)
{
    pthread_mutex_lock(&engine->stats_mutex);
    quire_stats *stats = &engine->stats;
    qr_scheduler_stats(engine->scheduler, stats);
    stats->contiguous_run_bytes = stats->contiguous_run_blocks * (double)engine->block_bytes;
    stats->steps                = engine->steps;
    stats->steps_drafts_paused  = engine->steps_drafts_paused;
    stats->step_ns              = engine->step_ns;
    stats->requests_finished += engine->unstarted;
    for (int i = 0; i < 6; i++) stats->finished_by[i] += engine->unstarted_by[i];
    qr_ledger_lock(&engine->ledger);
    qr_inbox_report(&engine->inbox, stats->waiting + stats->paused, stats->queued_tokens);
    qr_ledger_unlock(&engine->ledger);
    pthread_mutex_unlock(&engine->stats_mutex);
}
