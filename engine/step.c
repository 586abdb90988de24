/* One step: drain the inbox, plan, run, sample, commit, publish. Only the forward pass and sampling run unlocked. */
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/pool_size.h"

/* ---- inbox to scheduler ---- */

/* What submit judges by. Planning may have put sequences back into the queue. */
static void report_queue(quire_engine *engine)
{
    uint32_t sequences, tokens;
    qr_scheduler_queued(engine->planner.scheduler, &sequences, &tokens);
    qr_ledger_lock(&engine->ledger);
    qr_inbox_report(&engine->inbox, sequences, tokens);
    qr_ledger_unlock(&engine->ledger);
}

static void end_unstarted(quire_engine *engine, qr_record *record, quire_finish finish, quire_status status,
                          uint64_t now_ns)
{
    engine->unstarted++;
    engine->unstarted_by[finish] += record->sequences;
    qr_outbox_end_unstarted(&engine->outbox, record, finish, status, now_ns);
}

/* With the ledger locked: others look at the record by its id meanwhile. */
static quire_status let_enter(quire_engine *engine, qr_record *record, uint64_t now_ns, quire_error *error)
{
    if (qr_ranks_several(&engine->ranks))
        qr_ranks_note_enter(&engine->ranks, qr_scheduler_kept(engine->planner.scheduler, record->id),
                            engine->facts.encoder_feature_size, record->id, record->arrival_ns);
    const quire_status status =
        qr_scheduler_enter(engine->planner.scheduler, record->request, record->arrival_ns, error);
    if (status == QUIRE_OK) {
        qr_inbox_entered(&engine->inbox, record);
        qr_outbox_make_live(&engine->outbox, record);
    } else {
        qr_inbox_forget(&engine->inbox, record);
        end_unstarted(engine, record, QUIRE_FINISH_ERROR, status, now_ns);
    }
    return status;
}

/* The oldest, but for one that the message to other ranks has no room for: that waits for the next step. */
static qr_record *next_to_enter(quire_engine *engine)
{
    qr_record *record = qr_ledger_first_pending(&engine->ledger);
    if (record == NULL || !qr_ranks_several(&engine->ranks)) return record;
    const quire_request *kept = qr_scheduler_kept(engine->planner.scheduler, record->id);
    return qr_ranks_has_room(&engine->ranks, kept, engine->facts.encoder_feature_size) ? record : NULL;
}

static void drain_pending(quire_engine *engine, uint64_t now_ns)
{
    for (;;) {
        quire_error error = {0};
        qr_ledger_lock(&engine->ledger);
        qr_record             *record = next_to_enter(engine);
        const quire_request_id id     = record ? record->id : 0;
        const quire_status     status = record ? let_enter(engine, record, now_ns, &error) : QUIRE_OK;
        qr_ledger_unlock(&engine->ledger);
        if (record == NULL) return;
        if (status == QUIRE_OK) continue;
        qr_log_write(&engine->log, QUIRE_LOG_WARN, "request %llu: %s", (unsigned long long)id, error.message);
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
            qr_ranks_note(&engine->ranks, QR_CALL_CANCEL, record->id, QUIRE_OK, now_ns);
            (void)qr_scheduler_cancel(engine->planner.scheduler, record->id,
                                      now_ns); /* NOT_FOUND: its end is on the way */
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
    if (flush) {
        qr_ranks_note(&engine->ranks, QR_CALL_FLUSH, 0, QUIRE_OK, now_ns);
        qr_scheduler_flush_cache(engine->planner.scheduler);
    }
    drain_pending(engine, now_ns);
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
    if (events[i].kind != QUIRE_EVENT_TOKEN) return false;
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
        extra.logits = qr_network_logits(engine->network, engine->planner.plan.samples[sample].logits_row);
    return qr_outbox_put_token(&engine->outbox, &events[i], &extra, now_ns);
}

/* Moves the planner's events to the outbox; false: some found no room and stay. Nothing is planned before they are out,
 * so that their logits live. A finished beam search may have more than fit at once, hence the loop. */
static bool publish(quire_engine *engine, uint64_t now_ns)
{
    bool                      all = true;
    uint32_t                  count;
    const qr_scheduler_event *events;
    qr_ledger_lock(&engine->ledger);
    while (all && (events = qr_planner_events(&engine->planner, &count), count > 0))
        for (uint32_t i = 0; all && i < count; i++) {
            all = events[i].kind == QUIRE_EVENT_FINISHED ? qr_outbox_put_finished(&engine->outbox, &events[i], now_ns)
                                                         : put_token(engine, events, count, i, now_ns);
            engine->planner.events_taken += all;
        }
    qr_outbox_signal(&engine->outbox, !all);
    qr_ledger_unlock(&engine->ledger);
    engine->backlog = !all;
    return all;
}

static void change_scheduler(qr_scheduler *scheduler, qr_rank_call call, quire_request_id id, quire_status status,
                             uint64_t now_ns)
{
    switch (call) { /* NOT_FOUND: the request ended in this very step. */
    case QR_CALL_FLUSH: qr_scheduler_flush_cache(scheduler); break;
    case QR_CALL_CANCEL: (void)qr_scheduler_cancel(scheduler, id, now_ns); break;
    case QR_CALL_PAUSE: (void)qr_scheduler_pause(scheduler, id, now_ns); break;
    case QR_CALL_RESUME: (void)qr_scheduler_resume(scheduler, id, now_ns); break;
    case QR_CALL_FAIL: qr_scheduler_fail(scheduler, id, status, now_ns); break;
    case QR_CALL_ENTER: break; /* brings more along */
    }
}

static void apply_change(void *context, quire_request_id id, qr_change change)
{
    quire_engine             *engine  = context;
    const uint64_t            now_ns  = qr_now_ns();
    static const qr_rank_call calls[] = {
        [QR_PAUSE] = QR_CALL_PAUSE, [QR_RESUME] = QR_CALL_RESUME, [QR_FAIL] = QR_CALL_FAIL};
    qr_ranks_note(&engine->ranks, calls[change], id, QUIRE_ERR_FULL, now_ns);
    change_scheduler(engine->planner.scheduler, calls[change], id, QUIRE_ERR_FULL, now_ns);
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
static const uint32_t *fill_mask(quire_engine *engine, uint32_t thread, const quire_plan_sample *sample,
                                 const float *logits)
{
    const quire_plan_sequence *sequence = &engine->planner.plan.sequences[sample->entry];
    if (!sequence->request->masked) return NULL;
    const qr_record     *record  = sequence->request->user_data;
    const uint32_t       certain = sequence->position + sequence->row_count - sequence->drafts;
    const quire_mask_row row     = {.size         = sizeof row,
                                    .request      = sequence->id,
                                    .user_data    = record->user_data,
                                    .sequence     = sample->sequence,
                                    .vocab_size   = engine->facts.vocab_size,
                                    .tokens       = sequence->tokens,
                                    .token_count  = sample->position,
                                    .prompt_count = sequence->request->prompt_count,
                                    .drafts       = sample->position - certain,
                                    .logits       = logits};
    uint32_t            *mask    = engine->masks + (size_t)thread * engine->mask_words;
    memset(mask, 0xff, engine->mask_words * sizeof *mask);
    engine->options.mask.fill(engine->options.mask.context, &row, mask);
    return mask;
}

static void sample_one(quire_engine *engine, uint32_t thread, uint32_t i)
{
    const quire_plan_sample   *sample   = &engine->planner.plan.samples[i];
    const quire_plan_sequence *sequence = &engine->planner.plan.sequences[sample->entry];
    qr_sampling               *sampling = &engine->sampling;
    const float               *logits   = qr_network_logits(engine->network, sample->logits_row);
    const qr_sample_input      input    = {
                .logits         = logits,
                .partial_lse    = qr_partial_lse_at(qr_network_partial_lse(engine->network), sample->logits_row, 0),
                .request        = sequence->request,
                .tokens         = sequence->tokens,
                .token_count    = sample->position,
                .prompt_count   = sequence->request->prompt_count,
                .sequence_index = sample->sequence,
                .position       = sample->position,
                .index          = sample->index,
                .mask_stops     = sample->mask_stops,
                .given          = sample->given,
                .eos            = engine->facts.eos_token_ids,
                .eos_count      = engine->facts.eos_count,
                .mask = engine->mask_words > 0 && !sample->given ? fill_mask(engine, thread, sample, logits) : NULL,
    };
    qr_sample_output output = {.top_tokens   = sampling->top_tokens + (size_t)i * sampling->top,
                               .top_logprobs = sampling->top_logprobs + (size_t)i * sampling->top};
    qr_sample(engine->samplers[thread], &input, &output);
    const bool beams              = sequence->request->beam_width > 1;
    sampling->top_counts[i]       = beams ? 0 : output.top_count;
    sampling->candidate_counts[i] = beams ? 2 * sequence->request->beam_width : 0;
    sampling->results[i]          = (quire_sampled){.token              = output.token,
                                                    .logprob            = output.logprob,
                                                    .failed             = output.failed,
                                                    .candidates         = beams ? output.top_tokens : NULL,
                                                    .candidate_logprobs = beams ? output.top_logprobs : NULL};
}

/* Rows are dealt to the threads in turn; each result has its own slot. With a mask hook whole sequences are dealt, so
 * that the hook sees the tokens of one in order. */
static void sample_rows(void *context, uint32_t thread, uint32_t thread_count)
{
    quire_engine     *engine = context;
    const quire_plan *plan   = &engine->planner.plan;
    for (uint32_t i = 0; i < plan->sample_count; i++) {
        const uint32_t turn = engine->mask_words > 0 ? plan->samples[i].entry : i;
        if (turn % thread_count == thread) sample_one(engine, thread, i);
    }
}

/* ---- zero_on_free ---- */

typedef struct freed_blocks {
    const qr_kv_memory *kv;
    const uint32_t     *blocks; /* [count] */
    uint32_t            count;
} freed_blocks;

/* Pairs of block and layer are dealt to the threads in turn. */
static void zero_blocks(void *context, uint32_t thread, uint32_t thread_count)
{
    const freed_blocks *freed = context;
    const qr_kv_memory *kv    = freed->kv;
    for (uint64_t i = thread; i < (uint64_t)freed->count * kv->layers; i += thread_count) {
        char *plane = qr_kv_memory_plane(kv, (uint32_t)(i % kv->layers));
        memset(plane + freed->blocks[i / kv->layers] * kv->block_bytes, 0, kv->block_bytes);
    }
}

/* Holds scheduler_mutex. What the plan in hand has taken again has no content yet. */
static void zero_freed(quire_engine *engine, const qr_freed *freed)
{
    for (int local = 0; local < 2; local++) {
        freed_blocks blocks = {local ? &engine->local_kv : &engine->kv, freed->blocks[local], freed->count[local]};
        if (blocks.count > 0) qr_team_run(engine->team, zero_blocks, &blocks);
    }
}

/* ---- the step ---- */

static void lose_ranks(quire_engine *engine, const char *why)
{
    qr_log_write(&engine->log, QUIRE_LOG_ERROR, "rank %u of %u on %s: %s", engine->ranks.comm.rank,
                 engine->ranks.comm.ranks, engine->ranks.comm.host, why);
    qr_ranks_lose(&engine->ranks, why);
}

/* Rank 0 has chosen the tokens; all learn of them, and at what time. */
static quire_status conclude(quire_engine *engine, quire_status status, quire_step *step, uint64_t *now_ns)
{
    char              why[256] = "another rank cannot be reached";
    qr_sampling      *sampling = &engine->sampling;
    const quire_plan *plan     = &engine->planner.plan;
    qr_conclusion     c        = {.status           = status,
                                  .hash             = qr_scheduler_decision_hash(engine->planner.scheduler),
                                  .step             = plan->number,
                                  .results          = sampling->results,
                                  .count            = plan->sample_count,
                                  .top              = sampling->top,
                                  .top_tokens       = sampling->top_tokens,
                                  .top_logprobs     = sampling->top_logprobs,
                                  .candidate_counts = sampling->candidate_counts};
    engine->ranks.bytes += step->network_bytes;
    engine->ranks.messages += step->network_messages;
    engine->ranks.wait_ns += step->network_wait_ns;
    if (qr_network_lost_ranks(engine->network) || !qr_ranks_conclude(&engine->ranks, &c, why)) {
        lose_ranks(engine, why);
        return QUIRE_ERR_IO;
    }
    *now_ns = c.now_ns;
    return c.status;
}

static quire_status forward(quire_engine *engine, quire_step *step, uint64_t *now_ns)
{
    const uint64_t   start  = qr_now_ns();
    qr_after_logits *sample = qr_ranks_follows(&engine->ranks) ? NULL : sample_rows;
    quire_status     status = qr_network_forward(engine->network, &engine->planner.plan, sample, engine, step);
    step->forward_ns        = qr_now_ns() - start - step->sample_ns;
    *now_ns                 = start + step->forward_ns + step->sample_ns;
    if (qr_ranks_several(&engine->ranks)) status = conclude(engine, status, step, now_ns);
    if (status != QUIRE_OK)
        qr_log_write(&engine->log, QUIRE_LOG_ERROR, "step %llu: the forward pass failed: %s",
                     (unsigned long long)engine->planner.plan.number, quire_status_text(status));
    return status;
}

/* scheduler_mutex is held before and after, not meanwhile: nobody changes what the plan names until commit. */
static void run_plan(quire_engine *engine, quire_step *step)
{
    uint64_t now_ns;
    pthread_mutex_unlock(&engine->scheduler_mutex);
    const quire_status status = forward(engine, step, &now_ns);
    pthread_mutex_lock(&engine->scheduler_mutex);

    const uint64_t start = qr_now_ns();
    if (status == QUIRE_OK)
        qr_planner_commit(&engine->planner, engine->sampling.results, now_ns);
    else
        qr_planner_commit_failed(&engine->planner, now_ns);
    step->commit_ns = qr_now_ns() - start;
}

static void describe_plan(const quire_plan *plan, quire_step *step)
{
    step->rows          = plan->rows;
    step->rows_prompt   = plan->rows_prompt;
    step->rows_encoder  = plan->rows_encoder;
    step->rows_logits   = plan->rows_logits;
    step->sequences     = plan->sequence_count;
    step->preempted     = plan->preempted;
    step->kv_tokens     = plan->kv_tokens;
    step->kv_pairs      = plan->kv_pairs;
    step->cross_tokens  = plan->cross_tokens;
    step->cross_pairs   = plan->cross_pairs;
    step->encoder_pairs = plan->encoder_pairs;
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

/* False: there was nothing to run. */
static bool plan_and_run(quire_engine *engine, const qr_order *order, quire_step *step)
{
    const uint64_t start = qr_now_ns();
    if (adapts_drafts(engine)) qr_scheduler_allow_drafts(engine->planner.scheduler, order->drafts_allowed);
    const quire_plan *plan = qr_planner_plan(&engine->planner, order->now_ns);
    zero_freed(engine, &(qr_freed){{plan->freed, plan->local_freed}, {plan->freed_count, plan->local_freed_count}});
    if (!engine->planner.in_flight) return false;
    report_queue(engine);
    step->plan_ns = qr_now_ns() - start;
    describe_plan(plan, step);
    run_plan(engine, step);
    engine->steps++;
    return true;
}

static void describe_state(const quire_engine *engine, quire_step *step)
{
    step->running       = engine->stats.running;
    step->waiting       = engine->stats.waiting;
    step->blocks_used   = (uint32_t)engine->stats.blocks_used;
    step->blocks_cached = (uint32_t)engine->stats.blocks_cached;
    step->kv_used_bytes = engine->stats.kv_used_bytes;
}

/* Of several ranks, tells the others what is new and whether this step plans. False: it does not, since it may not or
 * nothing is live, of which the others need not know. */
static bool give_order(quire_engine *engine, bool may_plan, qr_order *order)
{
    const bool news       = engine->ranks.call_count > 0;
    order->plan           = may_plan && (news || !qr_scheduler_idle(engine->planner.scheduler));
    order->now_ns         = qr_now_ns();
    order->drafts_allowed = qr_draft_control_allows(&engine->draft_control);
    if (!qr_ranks_several(&engine->ranks)) return may_plan;
    if (!news && !order->plan) return false;
    const bool sent = qr_ranks_send_order(&engine->ranks, order);
    if (!sent) lose_ranks(engine, "another rank cannot be reached");
    return sent && order->plan;
}

static void end_step(quire_engine *engine, bool ran, quire_step *step)
{
    const qr_freed freed = qr_planner_take_freed(&engine->planner);
    zero_freed(engine, &freed);
    if (ran) engine->step_ns += qr_now_ns() - step->start_ns;
    qr_engine_take_stats(engine);
    engine->idle = qr_scheduler_idle(engine->planner.scheduler);
    describe_state(engine, step);
}

static void lead(quire_engine *engine, quire_step *step)
{
    qr_order       order  = {0};
    const uint64_t start  = step->start_ns;
    const uint64_t tokens = engine->stats.tokens_output;
    pthread_mutex_lock(&engine->scheduler_mutex);
    drain_inbox(engine, start);
    const bool may_plan = regulate(engine, start) && publish(engine, start);
    const bool ran      = give_order(engine, may_plan, &order) && plan_and_run(engine, &order, step);
    (void)publish(engine, qr_now_ns()); /* what does not fit goes out in a later step */
    end_step(engine, ran, step);
    if (ran && adapts_drafts(engine)) note_drafts(engine, step, engine->stats.tokens_output - tokens);
    pthread_mutex_unlock(&engine->scheduler_mutex);
}

/* ---- the step of a rank but 0 ---- */

static void enter(quire_engine *engine, const qr_noted_call *call)
{
    qr_scheduler  *scheduler = engine->planner.scheduler;
    const uint32_t request   = qr_scheduler_keep(scheduler, &call->request, call->id);
    if (request == UINT32_MAX)
        lose_ranks(engine, "no record is free for a request of rank 0");
    else if (qr_scheduler_enter(scheduler, request, call->time_ns, NULL) != QUIRE_OK)
        qr_scheduler_release(scheduler, request); /* as rank 0 did */
}

static void repeat_calls(quire_engine *engine, uint32_t count)
{
    for (uint32_t i = 0; i < count && !engine->ranks.lost; i++) {
        qr_noted_call call;
        qr_ranks_next_call(&engine->ranks, &call);
        if (call.call == QR_CALL_ENTER)
            enter(engine, &call);
        else
            change_scheduler(engine->planner.scheduler, call.call, call.id, call.status, call.time_ns);
    }
}

/* Their reader is rank 0's. */
static void drop_events(quire_engine *engine)
{
    uint32_t count;
    while ((void)qr_planner_events(&engine->planner, &count), count > 0) engine->planner.events_taken += count;
}

static void follow(quire_engine *engine, quire_step *step)
{
    qr_order order;
    if (!qr_ranks_receive_order(&engine->ranks, &order)) {
        lose_ranks(engine, "rank 0 cannot be reached");
        return;
    }
    engine->ranks.ended = order.end;
    if (order.end) return;
    step->start_ns = qr_now_ns();
    pthread_mutex_lock(&engine->scheduler_mutex);
    repeat_calls(engine, order.call_count);
    drop_events(engine);
    const bool ran = !engine->ranks.lost && order.plan && plan_and_run(engine, &order, step);
    drop_events(engine);
    end_step(engine, ran, step);
    pthread_mutex_unlock(&engine->scheduler_mutex);
}

void qr_engine_step(quire_engine *engine, quire_step *step)
{
    *step = (quire_step){.size = sizeof *step, .step = engine->steps + 1, .start_ns = qr_now_ns()};
    if (engine->ranks.lost || engine->ranks.ended) return;
    if (qr_ranks_follows(&engine->ranks))
        follow(engine, step);
    else
        lead(engine, step);
}

void qr_engine_take_stats(quire_engine *engine)
{
    pthread_mutex_lock(&engine->stats_mutex);
    quire_stats *stats = &engine->stats;
    qr_scheduler_stats(engine->planner.scheduler, stats);
    stats->contiguous_run_bytes = stats->contiguous_run_blocks * (double)engine->kv.block_bytes;
    stats->kv_used_bytes        = qr_pool_bytes(&engine->pool, stats->blocks_used, stats->local_blocks_used);
    stats->steps                = engine->steps;
    stats->steps_drafts_paused  = engine->steps_drafts_paused;
    stats->step_ns              = engine->step_ns;
    qr_network_count_remote(engine->network, &stats->kv_remote_bytes, &stats->attention_helped);
    stats->requests_finished += engine->unstarted;
    for (int i = 0; i < QUIRE_MAX_FINISHES; i++) stats->finished_by[i] += engine->unstarted_by[i];
    stats->ranks            = qr_ranks_several(&engine->ranks) ? engine->ranks.comm.ranks : 1;
    stats->rank             = engine->ranks.comm.rank;
    stats->network_bytes    = engine->ranks.bytes;
    stats->network_messages = engine->ranks.messages;
    stats->network_wait_ns  = engine->ranks.wait_ns;
    pthread_mutex_unlock(&engine->stats_mutex);
    report_queue(engine);
}
