/* What must hold. State: the walkers of scheduler and cache, and what they leave out, recounted here. Stream: each
 * sequence's events against the reference. Progress: no empty plan while something may run, the wait bound, the end. */
#include <string.h>

#include "base/bits.h"
#include "tests/sim/sim.h"

sim_request *sim_request_of(const sim *s, uint32_t record)
{
    return s->scheduler->requests[s->scheduler->sequences[record].request].stored.user_data;
}

static bool is_live(qr_sequence_state state)
{
    return state == QR_SEQUENCE_QUEUED || state == QR_SEQUENCE_RUNNING || state == QR_SEQUENCE_PREEMPTED ||
           state == QR_SEQUENCE_PAUSED;
}

static bool is_leader(const qr_scheduler *t, uint32_t record)
{
    const qr_request *r = &t->requests[t->sequences[record].request];
    return r->stored.beam_width <= 1 || r->first == record;
}

/* ---- what happens to a request ---- */

void sim_did(sim *s, sim_request *r, sim_operation operation)
{
    if (operation != SIM_DID_SUBMIT) s->coverage->pairs[r->last][operation]++;
    r->last = operation;
}

static void observe(sim *s, uint32_t record, qr_sequence_state from, qr_sequence_state to)
{
    sim_request *r = sim_request_of(s, record);
    if (to == QR_SEQUENCE_RUNNING && from == QR_SEQUENCE_QUEUED) sim_did(s, r, SIM_DID_ADMIT);
    if (to == QR_SEQUENCE_RUNNING && from == QR_SEQUENCE_PREEMPTED) sim_did(s, r, SIM_DID_READMIT);
    if (to == QR_SEQUENCE_RUNNING && from == QR_SEQUENCE_NONE) sim_did(s, r, SIM_DID_FORK);
    if (to == QR_SEQUENCE_PREEMPTED && from == QR_SEQUENCE_RUNNING)
        sim_did(s, r, s->failing ? SIM_DID_FAULT : SIM_DID_PREEMPT);
    if (to == QR_SEQUENCE_PREEMPTED && from == QR_SEQUENCE_PAUSED) sim_did(s, r, SIM_DID_RESUME);
    if (to == QR_SEQUENCE_PAUSED) sim_did(s, r, SIM_DID_PAUSE);
}

void sim_observe(sim *s)
{
    const qr_scheduler *t = s->scheduler;
    for (uint32_t i = 0; i < t->record_count; i++) {
        const qr_sequence *q = &t->sequences[i];
        if (q->state == s->states[i]) continue;
        if (is_leader(t, i)) observe(s, i, s->states[i], q->state);
        s->states[i] = q->state;
    }
}

/* ---- state ---- */

static void check_tenants(sim *s)
{
    const qr_scheduler *t                        = s->scheduler;
    uint32_t            running[2 * SIM_TENANTS] = {0}, queued[2 * SIM_TENANTS] = {0}, live[2 * SIM_TENANTS] = {0};
    for (uint32_t i = 0; i < t->record_count; i++) {
        const qr_sequence *q = &t->sequences[i];
        const qr_request  *r = &t->requests[q->request];
        if (q->state == QR_SEQUENCE_NONE || !is_leader(t, i)) continue;
        if (q->state == QR_SEQUENCE_RUNNING)
            running[r->tenant] += q->slots;
        else if (is_live(q->state))
            queued[r->tenant] += q->slots;
    }
    for (uint32_t i = 0; i < t->record_count; i++) live[t->requests[i].tenant] += t->requests[i].id != 0;
    for (uint32_t i = 0; i < t->done_count; i++) live[t->requests[t->done_requests[i]].tenant]--;
    for (uint32_t i = 0; i < t->tenant_count; i++) {
        if (t->tenants[i].running != running[i] || t->tenants[i].queued != queued[i] || t->tenants[i].live != live[i])
            sim_fail(s, SIM_ORACLE_STATE, "I21: tenant %u counts %u running, %u queued, %u live; there are %u, %u, %u",
                     i, t->tenants[i].running, t->tenants[i].queued, t->tenants[i].live, running[i], queued[i],
                     live[i]);
    }
}

static void check_counters(sim *s)
{
    const quire_stats *stats = &s->scheduler->stats;
    if (stats->requests_submitted != s->submitted || stats->requests_refused != s->refused)
        sim_fail(s, SIM_ORACLE_STATE, "I21: submitted or refused requests are miscounted");
    if (stats->requests_finished > s->submitted) sim_fail(s, SIM_ORACLE_STATE, "I21: more finished than submitted");
}

/* I23: no two cross tables hold the same published content in different blocks is C7's; the key is the tenant's. */
/* A reader who comes now and then, takes a few events or all, and sometimes begins anew. It draws from nothing that
 * others draw from, so that decisions are those without it. */
static void check_cache_events(sim *s)
{
    qr_cache      *cache = &s->scheduler->cache;
    const uint64_t roll  = qr_random_u64(s->run.seed, 79, s->step);
    const char    *wrong = NULL;
    if (s->mirror == NULL) return;
    if (roll % 500 == 0) qr_journal_restart(&cache->journal, &cache->pool);
    if (roll % 7 == 0) wrong = cache_mirror_read(s->mirror, cache, (uint32_t)(roll >> 32) % MIRROR_READ);
    if (roll % 31 == 0 && wrong == NULL) wrong = cache_mirror_compare(s->mirror, cache);
    if (wrong != NULL) sim_fail(s, SIM_ORACLE_STATE, "I24: cache events: %s", wrong);
}

void sim_check(sim *s)
{
    const char *verdict = qr_scheduler_check(s->scheduler);
    if (verdict != NULL) sim_fail(s, SIM_ORACLE_STATE, "%s", verdict);
    check_tenants(s);
    check_counters(s);
    check_cache_events(s);
    if (s->allocations != 0) sim_fail(s, SIM_ORACLE_STATE, "memory was allocated after creation");
}

/* Returns how many are given. */
static uint32_t check_samples(sim *s, const quire_plan_sequence *e, uint32_t number, const qr_sequence *q)
{
    const qr_request *r        = &s->scheduler->requests[q->request];
    const bool        finishes = e->position + e->row_count - e->drafts == q->length;
    const bool        fans     = r->stored.n > 1 && !r->forked && r->stored.beam_width <= 1;
    const uint32_t    expected = !finishes ? 0 : fans ? r->stored.n : 1 + e->drafts;
    uint32_t          given    = 0;
    for (uint32_t i = 0; i < e->sample_count; i++) {
        const quire_plan_sample *p = &s->plan->samples[e->sample_start + i];
        given += p->given;
        if (p->given && (given != i + 1 || p->position >= r->stored.prompt_count || !r->stored.prompt_logprobs))
            sim_fail(s, SIM_ORACLE_STREAM, "I17: a given sample is not of a prompt that is to be told");
        if (p->entry != number || s->plan->logits_rows[p->logits_row] != p->row || p->row < e->row_start ||
            p->row >= e->row_start + e->row_count)
            sim_fail(s, SIM_ORACLE_STATE, "I13: a sample is of another entry");
        /* I17: with the row's own position, so that the mock model cannot be led astray. */
        if (p->position != e->position + (p->row - e->row_start) + 1)
            sim_fail(s, SIM_ORACLE_STREAM, "I17: a sample's position is not its row's");
        if (!p->given &&
            (p->index != p->position - r->stored.prompt_count || p->mask_stops != (p->index < r->stored.min_tokens)))
            sim_fail(s, SIM_ORACLE_STREAM, "I17: a sample's index or mask is not its row's");
    }
    if (e->sample_count - given != expected)
        sim_fail(s, SIM_ORACLE_STATE, "I13: an entry has %u tokens to choose, not %u", e->sample_count - given,
                 expected);
    return given;
}

static void check_entries(sim *s)
{
    const qr_scheduler *t    = s->scheduler;
    const quire_plan   *p    = s->plan;
    uint32_t            rows = 0, encoder = 0, given = 0;
    for (uint32_t i = 0; i < p->sequence_count; i++) {
        const quire_plan_sequence *e      = &p->sequences[i];
        const uint32_t             record = t->arrays.sequence_records[i];
        const qr_sequence         *q      = &t->sequences[record];
        if (q->state != QR_SEQUENCE_RUNNING) sim_fail(s, SIM_ORACLE_STATE, "I13: an entry is not RUNNING");
        if (e->position != q->computed || e->row_count == 0 || e->position + e->row_count - e->drafts > q->length)
            sim_fail(s, SIM_ORACLE_STATE, "I13: an entry's rows are not those to do");
        for (uint32_t j = 0; j < i; j++)
            if (t->arrays.sequence_records[j] == record)
                sim_fail(s, SIM_ORACLE_STATE, "I13: a sequence is planned twice");
        given += check_samples(s, e, i, q);
        sim_request_of(s, record)->first_row_seen = true;
        rows += e->row_count;
    }
    if (given > qr_max_given_rows(&s->config.options))
        sim_fail(s, SIM_ORACLE_STATE, "I13: %u given rows in a step", given);
    for (uint32_t i = 0; i < p->encoder_count; i++) encoder += p->encoders[i].token_count;
    if (rows != p->rows || rows > s->config.options.max_num_batched_tokens)
        sim_fail(s, SIM_ORACLE_STATE, "I13: %u rows, %u planned", rows, p->rows);
    if (encoder != p->rows_encoder || encoder > s->config.options.max_num_encoder_input_tokens)
        sim_fail(s, SIM_ORACLE_STATE, "I13: %u encoder tokens, %u planned, %u allowed", encoder, p->rows_encoder,
                 s->config.options.max_num_encoder_input_tokens);
}

/* ---- progress ---- */

static void check_deadlines(sim *s)
{
    const qr_scheduler *t = s->scheduler;
    for (uint32_t i = 0; i < t->record_count; i++) {
        const qr_sequence *q = &t->sequences[i];
        if (!is_live(q->state)) continue;
        s->coverage->reasons[q->reason]++;
        const sim_request *r = sim_request_of(s, i);
        if (q->times_passed > t->options.max_head_passes)
            sim_fail(s, SIM_ORACLE_PROGRESS, "I19: request %llu was passed %u times", (unsigned long long)r->id,
                     q->times_passed);
        if (r->request.timeout_ns && s->now_ns >= r->submit_ns + r->request.timeout_ns)
            sim_fail(s, SIM_ORACLE_PROGRESS, "request %llu outlives its timeout", (unsigned long long)r->id);
        if (q->state == QR_SEQUENCE_QUEUED && r->request.queue_timeout_ns &&
            s->now_ns >= r->submit_ns + r->request.queue_timeout_ns)
            sim_fail(s, SIM_ORACLE_PROGRESS, "request %llu outlives its queue timeout", (unsigned long long)r->id);
    }
}

/* I20. Claims, pauses and refusals preempt for other reasons. */
static void check_thrash(sim *s)
{
    const qr_scheduler *t      = s->scheduler;
    const uint32_t      others = 1u << SIM_READER_STOPS | 1u << SIM_READER_STOPS_IN_FLIGHT | 1u << SIM_POOL_REFUSES |
                            1u << SIM_FORWARD_FAILS | 1u << SIM_POISON;
    const bool applies = t->options.policy == QUIRE_POLICY_FCFS && (s->config.faults & others) == 0;
    for (uint32_t i = 0; i < t->record_count; i++) {
        const qr_sequence *q = &t->sequences[i];
        if (!is_live(q->state) || q->preemptions < s->preemptions[i]) s->preemptions[i] = 0, s->senior_ran[i] = true;
        if (!is_live(q->state) || q->preemptions == s->preemptions[i]) continue;
        if (applies && !s->senior_ran[i])
            sim_fail(s, SIM_ORACLE_PROGRESS, "I20: request %llu is preempted twice, no senior ran in between",
                     (unsigned long long)sim_request_of(s, i)->id);
        s->preemptions[i] = q->preemptions;
        s->senior_ran[i]  = false;
    }
    for (uint32_t i = 0; i < t->record_count; i++)
        for (uint32_t e = 0; e < s->plan->sequence_count && is_live(t->sequences[i].state) && !s->senior_ran[i]; e++)
            s->senior_ran[i] = qr_rank_before(&t->sequences[t->arrays.sequence_records[e]].rank, &t->sequences[i].rank);
}

/* A prompt that is admitted and stays unfinished is one of at most max_num_partial_prefills. Claims and forced progress
 * need not ask. */
static void check_partial(sim *s)
{
    const qr_scheduler *t        = s->scheduler;
    uint32_t            partial  = 0;
    bool                admitted = false;
    if (t->options.policy != QUIRE_POLICY_FCFS) return;
    for (uint32_t u = t->running.head; u != QR_NONE; u = t->sequences[u].link.next) {
        const qr_sequence *q = &t->sequences[u];
        if (qr_decoding(q) || (q->entry != QR_NONE && q->rows - q->drafts == qr_todo(q))) continue;
        partial++;
        admitted |= s->states[u] == QR_SEQUENCE_QUEUED;
    }
    if (admitted && partial > t->options.max_num_partial_prefills && t->stats.forced_progress == s->forced)
        sim_fail(s, SIM_ORACLE_PROGRESS, "a prompt was admitted as the %u. unfinished one", partial);
}

/* Decodes never stall for rows: one that stays RUNNING has its row, or waits for blocks or a failed step. */
static void check_stalls(sim *s)
{
    const qr_scheduler *t = s->scheduler;
    for (uint32_t u = t->running.head; u != QR_NONE; u = t->sequences[u].link.next) {
        const qr_sequence *q = &t->sequences[u];
        if (!s->decoding[u] || q->entry != QR_NONE) continue;
        if (q->reason != QUIRE_WAIT_BLOCKS && q->reason != QUIRE_WAIT_FAULT)
            sim_fail(s, SIM_ORACLE_PROGRESS, "request %llu decodes, but has no row; it waits for reason %d",
                     (unsigned long long)sim_request_of(s, u)->id, (int)q->reason);
    }
}

static bool fairness_applies(const sim *s)
{
    const uint32_t others = 1u << SIM_READER_STOPS | 1u << SIM_READER_STOPS_IN_FLIGHT | 1u << SIM_POOL_REFUSES |
                            1u << SIM_FORWARD_FAILS | 1u << SIM_POISON;
    for (uint32_t i = 0; i < s->config.options.tenant_count; i++)
        if (s->config.tenants[i].max_num_seqs > 0 || s->config.tenants[i].max_kv_fraction > 0) return false;
    return s->config.options.tenant_fairness && (s->config.faults & others) == 0;
}

/* I22: the bound of docs/SCHEDULER.md on the counters of two tenants that both wait. */
static void check_fairness(sim *s)
{
    const qr_scheduler *t = s->scheduler;
    const uint64_t bound  = (uint64_t)(t->options.max_num_seqs + 1) * 2 * t->options.max_model_len << QR_COUNTER_BITS;
    if (!fairness_applies(s)) return;
    for (uint32_t i = 0; i < t->tenant_count; i++)
        for (uint32_t j = 0; j < i; j++) {
            const qr_tenant *a = &t->tenants[i], *b = &t->tenants[j];
            const uint64_t   apart = a->counter > b->counter ? a->counter - b->counter : b->counter - a->counter;
            if (a->waiting == 0 || b->waiting == 0)
                s->apart[i][j] = UINT64_MAX;
            else if (s->apart[i][j] == UINT64_MAX)
                s->apart[i][j] = apart;
            else if (apart > bound && apart > s->apart[i][j])
                sim_fail(s, SIM_ORACLE_PROGRESS, "I22: tenants %u and %u wait, and are %llu tokens apart, not %llu", i,
                         j, (unsigned long long)(apart >> QR_COUNTER_BITS),
                         (unsigned long long)(bound >> QR_COUNTER_BITS));
        }
}

void sim_before_plan(sim *s)
{
    const qr_scheduler *t = s->scheduler;
    for (uint32_t i = 0; i < t->record_count; i++)
        s->decoding[i] = t->sequences[i].state == QR_SEQUENCE_RUNNING && qr_decoding(&t->sequences[i]);
    s->forced = t->stats.forced_progress;
}

void sim_check_plan(sim *s, bool refused)
{
    check_entries(s);
    check_deadlines(s);
    check_thrash(s);
    check_fairness(s);
    if (refused) return;
    check_partial(s);
    check_stalls(s);
}

static uint64_t prompt_rows(const sim *s)
{
    const qr_scheduler_options *o = &s->config.options;
    const uint32_t              t = o->long_prefill_token_threshold, b = o->max_num_batched_tokens;
    return qr_min_u32(t > 0 ? t : b, b - o->max_num_seqs + 1);
}

uint64_t sim_wait_bound(const sim *s, const sim_request *j)
{
    uint64_t bound = 1;
    for (uint32_t i = 0; i < SIM_REQUESTS; i++) {
        const sim_request *r = &s->requests[i];
        if (!r->used || r == j) continue;
        const uint64_t max = r->request.max_tokens;
        bound += r->request.n * (qr_ceil_div_u64(r->request.prompt_count + max, prompt_rows(s)) + max);
    }
    return bound;
}

uint64_t sim_drain_bound(const sim *s)
{
    uint64_t bound = 100;
    for (uint32_t i = 0; i < SIM_REQUESTS; i++) {
        const sim_request *r = &s->requests[i];
        if (!r->used) continue;
        const uint64_t slots = qr_max_u32(r->request.n, r->request.beam_width);
        bound += 2 * slots * ((uint64_t)r->request.prompt_count + r->request.max_tokens + 4);
        if (r->poison || r->not_finite != UINT32_MAX) bound += 64 + 2 * (uint64_t)s->config.options.max_model_len;
    }
    return bound;
}

static void check_wait_bound(sim *s)
{
    for (uint32_t i = 0; i < SIM_REQUESTS; i++) {
        const sim_request *r = &s->requests[i];
        if (!r->used || r->first_row_seen) continue;
        const uint64_t waited = s->step - r->submit_step;
        const uint64_t faults = (s->faulted_steps - r->faults_at_submit) * r->recompute_bound;
        if (waited > r->wait_bound + faults)
            sim_fail(s, SIM_ORACLE_PROGRESS, "I19: request %llu waited %llu steps, its bound is %llu + %llu",
                     (unsigned long long)r->id, (unsigned long long)waited, (unsigned long long)r->wait_bound,
                     (unsigned long long)faults);
    }
}

void sim_check_progress(sim *s, bool refused)
{
    const qr_scheduler *t = s->scheduler;
    if (s->config.bounded) check_wait_bound(s);
    if (s->draining && s->step > s->drain_from + s->drain_bound)
        sim_fail(s, SIM_ORACLE_PROGRESS, "I18: %llu steps without new work, and %u requests are not done",
                 (unsigned long long)s->drain_bound, s->live);
    if (s->plan->sequence_count > 0 || refused) return;
    for (uint32_t i = 0; i < t->record_count; i++)
        if (is_live(t->sequences[i].state) && t->sequences[i].state != QR_SEQUENCE_PAUSED)
            sim_fail(s, SIM_ORACLE_PROGRESS, "I18: the plan is empty, but request %llu could run",
                     (unsigned long long)sim_request_of(s, i)->id);
}

void sim_check_drained(sim *s)
{
    qr_scheduler        *t    = s->scheduler;
    const qr_block_pool *pool = &t->cache.pool, *local = &t->cache.local;
    if (s->live != 0 || !qr_scheduler_idle(t)) sim_fail(s, SIM_ORACLE_PROGRESS, "I10: drained, but not idle");
    if (pool->used + pool->reserved + local->used + local->reserved != 0)
        sim_fail(s, SIM_ORACLE_STATE, "I10: drained, but %u blocks are USED, %u RESERVED", pool->used + local->used,
                 pool->reserved + local->reserved);
    if (t->stats.requests_finished != s->submitted) sim_fail(s, SIM_ORACLE_STATE, "I21: finished != submitted");
    if (t->promised_blocks != 0 || t->queued_tokens != 0)
        sim_fail(s, SIM_ORACLE_STATE, "I21: promises or tokens are left");
    qr_scheduler_flush_cache(t);
    if (pool->free != pool->num_blocks || local->free != local->num_blocks)
        sim_fail(s, SIM_ORACLE_STATE, "I10: flushed, but not all blocks are FREE");
    sim_poison_free(s);
    sim_check(s);
}

/* ---- stream ---- */

static void take_token(sim *s, sim_request *r, const qr_scheduler_event *e)
{
    sim_stream *stream = &r->streams[e->sequence_index];
    if (r->request.prompt_logprobs && r->told + 1 != r->request.prompt_count)
        sim_fail(s, SIM_ORACLE_STREAM, "I16: request %llu: a token comes before its prompt is told",
                 (unsigned long long)r->id);
    if (stream->ended || e->index != stream->delivered)
        sim_fail(s, SIM_ORACLE_STREAM, "I16: request %llu.%u: token with index %u, expected %u%s",
                 (unsigned long long)r->id, e->sequence_index, e->index, stream->delivered,
                 stream->ended ? " and no more" : "");
    if (stream->delivered >= stream->expected_count || e->token != stream->expected[stream->delivered])
        sim_fail(s, SIM_ORACLE_STREAM, "I16: request %llu.%u: token %d at index %u, the reference has %d",
                 (unsigned long long)r->id, e->sequence_index, e->token, e->index,
                 stream->delivered < stream->expected_count ? stream->expected[stream->delivered] : -1);
    stream->delivered++;
    s->coverage->tokens++;
}

/* Each token of the prompt but the first, once and in order. */
static void take_prompt_token(sim *s, sim_request *r, const qr_scheduler_event *e)
{
    const quire_request *q    = &r->request;
    uint64_t             hash = r->root_hash;
    for (uint32_t p = 0; p < e->index && p < q->prompt_count; p++) hash = sim_extend(hash, q->prompt[p]);
    if (!q->prompt_logprobs || e->index != r->told + 1 || e->index >= q->prompt_count || e->sequence_index != 0 ||
        e->token != q->prompt[e->index] || e->logprob < sim_given_logprob(hash) || e->logprob > sim_given_logprob(hash))
        sim_fail(s, SIM_ORACLE_STREAM, "I16: request %llu: token %d at %u of the prompt is told with %g, told are %u",
                 (unsigned long long)r->id, e->token, e->index, (double)e->logprob, r->told);
    r->told++;
    s->coverage->told++;
}

static bool is_justified(const sim *s, const sim_request *r, const sim_stream *stream, const qr_scheduler_event *e)
{
    const quire_request *q = &r->request;
    switch (e->finish) {
    case QUIRE_FINISH_STOP:
    case QUIRE_FINISH_LENGTH:
        return e->finish == stream->expected_finish && stream->delivered == stream->expected_count;
    case QUIRE_FINISH_CANCELLED: return r->cancelled;
    case QUIRE_FINISH_TIMEOUT:
        return (q->timeout_ns && s->now_ns >= r->submit_ns + q->timeout_ns) ||
               (q->queue_timeout_ns && s->now_ns >= r->submit_ns + q->queue_timeout_ns);
    case QUIRE_FINISH_ERROR:
        return r->given_up ||
               (e->status == QUIRE_ERR_EXECUTION && (r->poison || r->may_fail || r->not_finite != UINT32_MAX));
    case QUIRE_FINISH_NONE: break;
    }
    return false;
}

static void check_detail(sim *s, const sim_request *r, const sim_stream *stream, const quire_finish_detail *d)
{
    uint64_t waited = 0;
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) waited += d->wait_ns[i];
    if (waited != d->finish_ns - d->submit_ns || d->submit_ns != r->submit_ns)
        sim_fail(s, SIM_ORACLE_STREAM, "I24: request %llu: reasons add up to %llu ns, it lived %llu",
                 (unsigned long long)r->id, (unsigned long long)waited,
                 (unsigned long long)(d->finish_ns - d->submit_ns));
    if (d->output_tokens != stream->delivered || d->prompt_tokens != r->request.prompt_count ||
        d->encoder_tokens != r->request.encoder_count)
        sim_fail(s, SIM_ORACLE_STREAM, "I21: request %llu: its end counts %u tokens of %u", (unsigned long long)r->id,
                 d->output_tokens, stream->delivered);
    const uint32_t kept = d->preemptions < QUIRE_KEPT_PREEMPTIONS ? d->preemptions : QUIRE_KEPT_PREEMPTIONS;
    for (uint32_t i = 0; i < kept; i++)
        if (d->preemption_intervals[i].from_ns < (i > 0 ? d->preemption_intervals[i - 1].to_ns : d->submit_ns) ||
            d->preemption_intervals[i].to_ns < d->preemption_intervals[i].from_ns ||
            d->preemption_intervals[i].to_ns > d->finish_ns)
            sim_fail(s, SIM_ORACLE_STREAM,
                     "I24: request %llu: preemption %u of %u is not within its life: %llu to %llu of %llu to %llu",
                     (unsigned long long)r->id, i, d->preemptions,
                     (unsigned long long)d->preemption_intervals[i].from_ns,
                     (unsigned long long)d->preemption_intervals[i].to_ns, (unsigned long long)d->submit_ns,
                     (unsigned long long)d->finish_ns);
}

static sim_operation operation_of(const sim_request *r, quire_finish finish)
{
    if (finish == QUIRE_FINISH_CANCELLED) return r->last == SIM_DID_CANCEL_FLYING ? r->last : SIM_DID_CANCEL_RESTING;
    if (finish == QUIRE_FINISH_TIMEOUT) return SIM_DID_EXPIRE;
    return finish == QUIRE_FINISH_ERROR ? SIM_DID_ERROR : SIM_DID_END;
}

static void take_end(sim *s, sim_request *r, const qr_scheduler_event *e)
{
    sim_stream *stream = &r->streams[e->sequence_index];
    if (stream->ended)
        sim_fail(s, SIM_ORACLE_STREAM, "I15: request %llu.%u ends twice", (unsigned long long)r->id, e->sequence_index);
    if (!is_justified(s, r, stream, e))
        sim_fail(s, SIM_ORACLE_STREAM, "I15: request %llu.%u ends with reason %d, status %d after %u tokens of %u",
                 (unsigned long long)r->id, e->sequence_index, (int)e->finish, (int)e->status, stream->delivered,
                 stream->expected_count);
    check_detail(s, r, stream, &e->detail);
    stream->ended = true;
    s->coverage->finishes[e->finish]++;
    s->coverage->statuses[-(int)e->status]++;
    s->coverage->encoder_shared += e->detail.encoder_shared;
    bool all = true;
    for (uint32_t i = 0; i < r->request.n; i++) all &= r->streams[i].ended;
    if (all != e->last)
        sim_fail(s, SIM_ORACLE_STREAM, "I15: request %llu: `last` comes at the wrong end", (unsigned long long)r->id);
    if (r->request.n == 1 || e->last) {
        const sim_operation operation = operation_of(r, e->finish);
        if (operation != SIM_DID_CANCEL_FLYING) sim_did(s, r, operation);
    }
    if (!e->last) return;
    r->used = false;
    s->live--;
    s->finished++;
}

static void take_event(sim *s, const qr_scheduler_event *e)
{
    sim_request *r = e->user_data;
    if (r < s->requests || r >= s->requests + SIM_REQUESTS || !r->used || r->id != e->id ||
        e->sequence_index >= r->request.n)
        sim_fail(s, SIM_ORACLE_STREAM, "I15: an event of request %llu.%u, which does not exist",
                 (unsigned long long)e->id, e->sequence_index);
    sim_trace(s, "    event: request %llu.%u %s token %d index %u finish %d", (unsigned long long)e->id,
              e->sequence_index, e->kind == QUIRE_EVENT_FINISHED ? "end" : "token", e->token, e->index, (int)e->finish);
    s->events_hash = qr_random_u64(s->events_hash, e->id << 8 | e->sequence_index,
                                   (uint64_t)e->index << 32 | (uint32_t)e->token | (uint64_t)e->finish << 60);
    if (e->kind == QUIRE_EVENT_TOKEN)
        take_token(s, r, e);
    else if (e->kind == QUIRE_EVENT_PROMPT)
        take_prompt_token(s, r, e);
    else
        take_end(s, r, e);
}

void sim_take_events(sim *s)
{
    const qr_scheduler_event *events;
    uint32_t                  count;
    while (events = qr_scheduler_events(s->scheduler, &count), count > 0) {
        for (uint32_t i = 0; i < count; i++) take_event(s, &events[i]);
        sim_observe(s);
        qr_scheduler_events_clear(s->scheduler);
    }
    for (uint32_t i = 0; i < SIM_REQUESTS; i++)
        if (s->requests[i].used && s->requests[i].cancelled)
            sim_fail(s, SIM_ORACLE_STREAM, "I15: request %llu was cancelled, but no end came",
                     (unsigned long long)s->requests[i].id);
    sim_observe(s);
}
