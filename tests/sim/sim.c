/* The loop of one seed: clients, faults, plan, forward pass, commit, reader; all oracles after each. */
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"

enum { HANG_SECONDS = 120 };

uint32_t sim_draw(sim *s, uint32_t limit) { return qr_random_below(s->run.seed, 1, s->draws++, limit); }

uint32_t sim_roll(const sim *s, uint32_t stream, uint32_t limit)
{
    return qr_random_below(s->run.seed, 100 + stream, s->step, limit);
}

void sim_fail(sim *s, sim_oracle oracle, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->verdict.text, sizeof s->verdict.text, format, arguments);
    va_end(arguments);
    s->verdict.oracle = oracle;
    s->verdict.step   = s->step;
    siglongjmp(s->escape, 1);
}

void sim_trace(const sim *s, const char *format, ...)
{
    if (!s->run.trace) return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

/* ---- a failed assertion is a verdict, too ---- */

static sim *running; /* of this process: the handler has no argument */

static void on_signal(int number)
{
    sim *s = running;
    snprintf(s->verdict.text, sizeof s->verdict.text, "%s",
             number == SIGALRM   ? "hangs"
             : number == SIGABRT ? "an assertion failed"
                                 : "segmentation fault");
    s->verdict.oracle = SIM_ORACLE_CRASH;
    s->verdict.step   = s->step;
    siglongjmp(s->escape, 1);
}

static void watch(sim *s)
{
    running = s;
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, on_signal);
#endif
    alarm(HANG_SECONDS);
}

/* ---- memory ---- */

typedef struct heap {
    uint64_t calls, live, refuse_from; /* refuse_from 0: never */
} heap;

static void *heap_allocate(void *context, size_t size, size_t alignment)
{
    heap *h = context;
    if (++h->calls >= h->refuse_from && h->refuse_from != 0) return NULL;
    h->live++;
    return aligned_alloc(alignment, qr_round_up(size, alignment));
}

static void heap_deallocate(void *context, void *pointer, size_t size)
{
    heap *h = context;
    (void)size;
    if (pointer != NULL) h->live--;
    free(pointer);
}

static void allocator_refuses(sim *s)
{
    heap                 h = {.refuse_from = 1 + sim_roll(s, 900, 4)};
    qr_scheduler_options o = s->config.options;
    qr_scheduler        *scheduler;
    quire_error          error;
    o.allocator               = (quire_allocator){&h, heap_allocate, heap_deallocate};
    const quire_status status = qr_scheduler_create(&o, &scheduler, &error);
    if ((status == QUIRE_OK) != (h.refuse_from > h.calls))
        sim_fail(s, SIM_ORACLE_STATE, "creation returns %d when memory is short", (int)status);
    qr_scheduler_destroy(scheduler);
    if (h.live != 0) sim_fail(s, SIM_ORACLE_STATE, "creation leaks when memory is short");
    s->coverage->statuses[-(int)status]++;
}

/* ---- clients ---- */

static bool strikes(sim *s, sim_fault fault)
{
    static const uint32_t rates[] = {
#define SIM_FAULT_RATE(name, text, rate) rate,
        SIM_FAULTS(SIM_FAULT_RATE)
#undef SIM_FAULT_RATE
    };
    if (s->quiet || !(s->config.faults >> fault & 1) || sim_roll(s, fault, 100000) >= rates[fault]) return false;
    s->coverage->faults[fault]++;
    sim_trace(s, "  %s", sim_fault_name(fault));
    return true;
}

static sim_request *free_request(sim *s)
{
    for (uint32_t i = 0; i < SIM_REQUESTS; i++)
        if (!s->requests[i].used) return &s->requests[i];
    return NULL;
}

static void accept(sim *s, sim_request *r)
{
    s->live++;
    s->submitted++;
    s->coverage->requests++;
    s->coverage->beams += r->request.beam_width > 1;
    if (r->poison) s->coverage->faults[SIM_POISON]++;
    if (r->not_finite != UINT32_MAX) s->coverage->faults[SIM_NOT_FINITE]++;
    sim_expect(s, r);
    r->submit_step      = s->step;
    r->faults_at_submit = s->faulted_steps;
    r->wait_bound       = sim_wait_bound(s, r);
    r->recompute_bound  = 2 * s->config.options.max_num_seqs + r->wait_bound;
    sim_did(s, r, SIM_DID_SUBMIT);
}

static quire_status submit(sim *s, sim_request *r, quire_error *error)
{
    r->request.user_data      = r;
    r->submit_ns              = s->now_ns;
    r->id                     = s->next_id;
    const quire_status status = qr_scheduler_submit(s->scheduler, &r->request, r->id, s->now_ns, error);
    s->coverage->statuses[-(int)status]++;
    s->refused += status != QUIRE_OK;
    sim_trace(s, "  submit %llu: prompt %u + %u, n %u, beams %u, encoder %u, tenant \"%s\": %s",
              (unsigned long long)r->id, r->request.prompt_count, r->request.max_tokens, r->request.n,
              r->request.beam_width, r->request.encoder_count, r->tenant,
              status == QUIRE_OK ? "accepted" : error->message);
    return status;
}

static void arrive(sim *s)
{
    sim_request *r       = free_request(s);
    bool         or_full = false;
    if (r == NULL) return;
    sim_draw_request(s, r);
    quire_error        error    = {0};
    sim_request        scratch  = {.request = r->request};
    const quire_status expected = sim_expected_status(s, &scratch.request, &or_full);
    const quire_status status   = submit(s, r, &error);
    if (status != expected && !(or_full && status == QUIRE_ERR_FULL))
        sim_fail(s, SIM_ORACLE_PROGRESS, "I14: submit returns %d, not %d: %s", (int)status, (int)expected,
                 error.message);
    r->used = status == QUIRE_OK;
    if (!r->used) return;
    r->request.n = scratch.request.n, r->request.max_tokens = scratch.request.max_tokens;
    s->next_id++;
    accept(s, r);
}

static void send_bad_request(sim *s)
{
    sim_request *r     = free_request(s);
    quire_error  error = {0};
    if (r == NULL) return;
    sim_draw_request(s, r);
    const quire_status expected = sim_spoil_request(s, &r->request);
    if (submit(s, r, &error) != expected || error.message[0] == 0)
        sim_fail(s, SIM_ORACLE_STATE, "an invalid request is not refused as such");
    r->used = false;
}

/* One of the live requests, or NULL. */
static sim_request *choose_request(sim *s, uint32_t stream)
{
    uint32_t skip = s->live == 0 ? 0 : sim_roll(s, stream, s->live);
    for (uint32_t i = 0; i < SIM_REQUESTS; i++)
        if (s->requests[i].used && skip-- == 0) return &s->requests[i];
    return NULL;
}

static void expect_status(sim *s, quire_status status, quire_status expected, const char *call)
{
    s->coverage->statuses[-(int)status]++;
    if (status != expected) sim_fail(s, SIM_ORACLE_STREAM, "%s returns %d, not %d", call, (int)status, (int)expected);
}

static bool has_ended(const sim_request *r) { return r->cancelled || r->given_up || r->expired; }

static void cancel(sim *s, sim_request *r, bool in_flight)
{
    if (r == NULL) return;
    const quire_status expected = has_ended(r) ? QUIRE_ERR_NOT_FOUND : QUIRE_OK;
    sim_trace(s, "  cancel %llu", (unsigned long long)r->id);
    if (!has_ended(r) && in_flight) sim_did(s, r, SIM_DID_CANCEL_FLYING);
    if (!has_ended(r)) {
        s->cancelled = *r;
        s->retries   = 2;
        r->cancelled = true;
    }
    expect_status(s, qr_scheduler_cancel(s->scheduler, r->id, s->now_ns), expected, "cancel");
}

static void cancel_all(sim *s)
{
    for (uint32_t i = 0; i < SIM_REQUESTS; i++)
        if (s->requests[i].used) cancel(s, &s->requests[i], false);
}

static void pause_reader(sim *s, sim_request *r)
{
    if (r == NULL || has_ended(r)) return;
    expect_status(s, qr_scheduler_pause(s->scheduler, r->id, s->now_ns), QUIRE_OK, "pause");
    r->paused = true;
}

static void resume_readers(sim *s, uint32_t percent)
{
    for (uint32_t i = 0; i < SIM_REQUESTS; i++) {
        sim_request *r = &s->requests[i];
        if (!r->used || !r->paused || has_ended(r) || sim_roll(s, 1000 + i, 100) >= percent) continue;
        sim_trace(s, "  resume %llu", (unsigned long long)r->id);
        expect_status(s, qr_scheduler_resume(s->scheduler, r->id, s->now_ns), QUIRE_OK, "resume");
        r->paused = false;
    }
}

static void explain(sim *s)
{
    quire_explanation  e      = {0};
    uint64_t           waited = 0;
    const sim_request *r      = sim_roll(s, 902, 32) == 0 ? choose_request(s, 903) : NULL;
    if (r == NULL || has_ended(r)) return;
    expect_status(s, qr_scheduler_explain(s->scheduler, r->id, s->now_ns, &e), QUIRE_OK, "explain");
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) waited += e.wait_ns[i];
    if (waited != s->now_ns - r->submit_ns)
        sim_fail(s, SIM_ORACLE_STREAM, "I24: request %llu explains %llu of %llu ns", (unsigned long long)r->id,
                 (unsigned long long)waited, (unsigned long long)(s->now_ns - r->submit_ns));
}

static void start_drain(sim *s)
{
    s->draining    = true;
    s->drain_from  = s->step;
    s->drain_bound = sim_drain_bound(s);
}

/* Between two steps. */
static void play_clients(sim *s)
{
    if (strikes(s, SIM_DRAIN)) start_drain(s);
    if (!s->draining && sim_roll(s, 904, 1000) < s->config.arrivals) arrive(s);
    if (!s->draining && strikes(s, SIM_BURST))
        for (uint32_t i = 0; i < 8; i++) arrive(s);
    if (strikes(s, SIM_BAD_REQUEST)) send_bad_request(s);
    if (strikes(s, SIM_CANCEL)) cancel(s, choose_request(s, 905), false);
    if (strikes(s, SIM_CANCEL_ALL)) cancel_all(s);
    if (strikes(s, SIM_UNKNOWN_ID))
        expect_status(s, qr_scheduler_cancel(s->scheduler, s->next_id + 1, s->now_ns), QUIRE_ERR_NOT_FOUND, "cancel");
    if (!s->draining && strikes(s, SIM_READER_STOPS)) pause_reader(s, choose_request(s, 906));
    resume_readers(s, s->draining ? 100 : 5);
    if (strikes(s, SIM_FLUSH)) qr_scheduler_flush_cache(s->scheduler);
    if (strikes(s, SIM_ALLOCATOR_REFUSES)) allocator_refuses(s);
    explain(s);
}

/* While a step is being computed. */
static void play_in_flight(sim *s)
{
    if (strikes(s, SIM_CANCEL_IN_FLIGHT)) cancel(s, choose_request(s, 907), true);
    if (!s->draining && strikes(s, SIM_READER_STOPS_IN_FLIGHT)) pause_reader(s, choose_request(s, 908));
    if (strikes(s, SIM_GIVE_UP)) {
        sim_request *r = choose_request(s, 909);
        if (r == NULL || has_ended(r)) return;
        r->given_up = true;
        qr_scheduler_fail(s->scheduler, r->id, QUIRE_ERR_FULL, s->now_ns);
    }
    if (!s->draining && sim_roll(s, 910, 4000) < s->config.arrivals) arrive(s);
}

/* ---- one step ---- */

static void advance_clock(sim *s)
{
    if (strikes(s, SIM_CLOCK_STANDS)) return;
    s->now_ns += strikes(s, SIM_CLOCK_JUMPS) ? 100000 : 500 + sim_roll(s, 911, 1000);
}

/* Whether the pass fails; of a step with one member alone the member may be blamed. */
static bool forward_fails(sim *s)
{
    bool fails = strikes(s, SIM_FORWARD_FAILS);
    for (uint32_t i = 0; i < s->plan->sequence_count; i++)
        fails |= sim_request_of(s, s->scheduler->arrays.sequence_records[i])->poison;
    if (fails && s->scheduler->planned_count == 1)
        sim_request_of(s, s->scheduler->arrays.sequence_records[0])->may_fail = true;
    return fails;
}

static void break_a_slot(sim *s)
{
    const uint32_t slots = sim_blocks(s) * s->config.options.block_size;
    for (uint32_t i = 0; s->run.canary && i < slots; i++) s->slots[i] ^= 1;
}

static void compute(sim *s)
{
    play_in_flight(s);
    s->now_ns += sim_roll(s, 912, 500);
    if (forward_fails(s)) {
        sim_trace(s, "  fails");
        sim_forward_garbage(s);
        s->failing = true;
        qr_scheduler_commit_failed(s->scheduler, s->now_ns);
        sim_observe(s);
        s->failing = false;
        s->faulted_steps++;
        return;
    }
    sim_forward(s);
    if (s->step > 20) break_a_slot(s);
    qr_scheduler_commit(s->scheduler, s->results, s->now_ns);
}

static void trace_tenants(const qr_scheduler *t)
{
    for (uint32_t i = 0; i < t->tenant_count; i++) {
        const qr_tenant *tenant = &t->tenants[i];
        if (tenant->live == 0) continue;
        printf("    tenant %u: counter %.1f, %u running, %u waiting", i,
               (double)tenant->counter / (1u << QR_COUNTER_BITS), tenant->running, tenant->waiting);
        if (tenant->heap.count > 0)
            printf(", its head for reason %d", (int)t->sequences[tenant->heap.nodes[0].item].reason);
        putchar('\n');
    }
}

static void trace_plan(const sim *s)
{
    if (!s->run.trace) return;
    const qr_block_pool *pool = &s->scheduler->cache.pool;
    printf("step %llu at %llu: %u rows, %u encoder, %u copies; blocks %u free %u reserved %u used %u cached\n",
           (unsigned long long)s->step, (unsigned long long)s->now_ns, s->plan->rows, s->plan->rows_encoder,
           s->plan->copy_count, pool->free, pool->reserved, pool->used, pool->cached);
    for (uint32_t i = 0; i < s->plan->sequence_count; i++) {
        const quire_plan_sequence *e = &s->plan->sequences[i];
        const qr_sequence         *q = &s->scheduler->sequences[s->scheduler->arrays.sequence_records[i]];
        printf("    %llu.%u: [%u, %u) of %u, drafts %u, samples %u, blocks", (unsigned long long)e->id, q->index,
               e->position, e->position + e->row_count, q->length, e->drafts, e->sample_count);
        for (uint32_t b = 0; b < q->self.count; b++) printf(" %d", (int)q->self.blocks[b]);
        putchar('\n');
    }
    trace_tenants(s->scheduler);
}

static void note_expired(sim *s)
{
    uint32_t                  count;
    const qr_scheduler_event *events = qr_scheduler_events(s->scheduler, &count);
    for (uint32_t i = 0; i < count; i++) ((sim_request *)events[i].user_data)->expired |= events[i].last;
}

static void plan(sim *s)
{
    qr_block_pool *pool = &s->scheduler->cache.pool;
    const bool     arm  = strikes(s, SIM_POOL_REFUSES);
    pool->fail_after    = arm ? 1 + sim_roll(s, 913, 6) : 0;
    sim_before_plan(s);
    qr_scheduler_allow_drafts(s->scheduler, !s->config.drafts_pause || sim_roll(s, 914, 4) > 0);
    s->plan            = qr_scheduler_plan(s->scheduler, s->now_ns);
    const bool refused = arm && pool->fail_after == 0;
    pool->fail_after   = 0;
    s->faulted_steps += refused;
    trace_plan(s);
    note_expired(s);
    sim_check(s);
    sim_check_plan(s, refused);
    sim_observe(s);
    sim_check_progress(s, refused);
}

static void step(sim *s)
{
    s->step++;
    advance_clock(s);
    play_clients(s);
    sim_take_events(s);
    sim_poison_free(s);
    plan(s);
    if (s->plan->sequence_count > 0) compute(s);
    sim_take_events(s);
    sim_check(s);
    s->coverage->rows += s->plan->rows;
    if (s->draining && s->live == 0) {
        sim_check_drained(s);
        s->draining = false;
    }
}

/* ---- one seed ---- */

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) abort();
    return memory;
}

static void create(sim *s, heap *h)
{
    quire_error           error = {0};
    qr_scheduler_options *o     = &s->config.options;
    if (s->run.config != NULL)
        s->config = *s->run.config;
    else
        sim_draw_config(s);
    o->allocator              = (quire_allocator){h, heap_allocate, heap_deallocate};
    const quire_status status = qr_scheduler_create(o, &s->scheduler, &error);
    if (status != QUIRE_OK) sim_fail(s, SIM_ORACLE_STATE, "create: %s", error.message);
    h->refuse_from        = h->calls + 1;
    const size_t samples  = o->max_num_batched_tokens + (size_t)o->max_num_seqs;
    const size_t records  = s->scheduler->record_count;
    s->slots              = zeroed((size_t)sim_blocks(s) * o->block_size, sizeof *s->slots);
    s->dirty              = zeroed(sim_blocks(s), 1);
    s->results            = zeroed(samples, sizeof *s->results);
    s->candidates         = zeroed(samples * 2 * SIM_STREAMS, sizeof *s->candidates);
    s->candidate_logprobs = zeroed(samples * 2 * SIM_STREAMS, sizeof *s->candidate_logprobs);
    s->states             = zeroed(records, sizeof *s->states);
    s->preemptions        = zeroed(records, sizeof *s->preemptions);
    s->senior_ran         = zeroed(records, sizeof *s->senior_ran);
    s->decoding           = zeroed(records, sizeof *s->decoding);
    s->mirror             = o->cache_events ? zeroed(1, sizeof *s->mirror) : NULL;
    memset(s->apart, 0xff, sizeof s->apart);
    s->next_id = 1;
    s->now_ns  = 1000000;
    memset(s->dirty, 1, sim_blocks(s));
    sim_trace(s, "seed %llu: %u blocks of %u, %u nodes, length %u, %u rows, %u sequences",
              (unsigned long long)s->run.seed, o->num_blocks, o->block_size, o->node_count, o->max_model_len,
              o->max_num_batched_tokens, o->max_num_seqs);
}

static void destroy(sim *s)
{
    if (s->verdict.oracle != SIM_ORACLE_CRASH) qr_scheduler_destroy(s->scheduler);
    free(s->slots), free(s->dirty), free(s->results), free(s->candidates), free(s->candidate_logprobs);
    free(s->states), free(s->preemptions), free(s->senior_ran), free(s->decoding);
    free(s->mirror);
}

static void play(sim *s, heap *h)
{
    create(s, h);
    sim_check(s);
    while (s->step < s->run.steps) {
        step(s);
        s->allocations = h->calls - (h->refuse_from - 1);
    }
    s->quiet = true; /* the last phase: no faults, everything must end */
    start_drain(s);
    while (s->draining) step(s);
}

static void count(sim *s)
{
    sim_coverage        *c     = s->coverage;
    const quire_stats   *stats = &s->scheduler->stats;
    const qr_block_pool *pool  = &s->scheduler->cache.pool;
    c->seeds++;
    c->steps += s->step;
    c->preemptions += stats->preemptions, c->blocks_dropped += stats->blocks_dropped, c->hits += stats->prefix_hits;
    c->copies += stats->copies, c->forks += stats->forks, c->claims += stats->claims;
    c->forced += stats->forced_progress, c->drafts_accepted += stats->drafts_accepted;
    c->stolen += pool->reservation_thefts, c->evictions += pool->evictions, c->spilled += pool->spilled;
}

void sim_run(const sim_options *options, sim_coverage *coverage, sim_verdict *verdict_out)
{
    sim *s      = zeroed(1, sizeof *s);
    heap h      = {0};
    s->run      = *options;
    s->coverage = coverage;
    s->verdict  = (sim_verdict){.seed = options->seed};
    if (sigsetjmp(s->escape, 1) == 0) {
        watch(s);
        play(s, &h);
    }
    alarm(0);
    if (s->scheduler != NULL) {
        s->verdict.hash = qr_mix64(qr_scheduler_decision_hash(s->scheduler) ^ s->events_hash);
        count(s);
        if (options->stats_out != NULL) qr_scheduler_stats(s->scheduler, options->stats_out);
    }
    destroy(s);
    *verdict_out = s->verdict;
    free(s);
}
