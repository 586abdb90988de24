#include "support/scheduler_driver.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/rng.h"

enum { STEP_NS = 1000 };

qr_scheduler_options driver_options(uint32_t num_blocks, uint32_t block_size)
{
    return (qr_scheduler_options){.policy                       = QUIRE_POLICY_FCFS,
                                  .max_num_seqs                 = 5,
                                  .max_num_batched_tokens       = 32,
                                  .max_num_encoder_input_tokens = 32,
                                  .max_model_len                = 128,
                                  .enable_chunked_prefill       = true,
                                  .max_num_partial_prefills     = 1,
                                  .max_long_partial_prefills    = 1,
                                  .scheduler_reserve_full_isl   = true,
                                  .max_head_passes              = 8,
                                  .tenant_fairness              = true,
                                  .max_num_tenants              = 4,
                                  .max_num_queued_reqs          = 64,
                                  .max_num_queued_tokens        = 4096,
                                  .prompt_lookup_max            = 3,
                                  .num_blocks                   = num_blocks,
                                  .block_size                   = block_size,
                                  .node_count                   = 1,
                                  .enable_cross_sharing         = true,
                                  .hash_bits                    = 64,
                                  .vocab_size                   = 1000,
                                  .decoder_start_token_id       = 0};
}

qr_scheduler_options driver_caching_options(uint32_t num_blocks)
{
    qr_scheduler_options options  = driver_options(num_blocks, 4);
    options.enable_prefix_caching = true;
    return options;
}

qr_scheduler_options driver_priority_options(uint32_t num_blocks, uint64_t ageing_ns)
{
    qr_scheduler_options options = driver_options(num_blocks, 4);
    options.policy               = QUIRE_POLICY_PRIORITY;
    options.priority_ageing_ns   = ageing_ns;
    return options;
}

void driver_start_blocks(driver *d, uint32_t num_blocks)
{
    const qr_scheduler_options options = driver_options(num_blocks, 4);
    driver_start(d, &options);
}

void driver_start(driver *d, const qr_scheduler_options *options)
{
    *d                        = (driver){.options = *options, .now_ns = 1000000};
    quire_error        error  = {0};
    const quire_status status = qr_scheduler_create(options, &d->scheduler, &error);
    if (status != QUIRE_OK) fail_msg("create: %s", error.message);
    d->slots =
        calloc(((size_t)options->num_blocks + options->num_local_blocks) * options->block_size, sizeof *d->slots);
    d->requests           = calloc(DRIVER_REQUESTS, sizeof *d->requests);
    const size_t samples  = options->max_num_batched_tokens + options->max_num_seqs;
    d->results            = calloc(samples, sizeof *d->results);
    d->candidates         = calloc(samples * 2 * DRIVER_BEAMS, sizeof *d->candidates);
    d->candidate_logprobs = calloc(samples * 2 * DRIVER_BEAMS, sizeof *d->candidate_logprobs);
    driver_check(d);
}

void driver_stop(driver *d)
{
    qr_scheduler_destroy(d->scheduler);
    free(d->slots), free(d->requests), free(d->results), free(d->candidates), free(d->candidate_logprobs);
}

void driver_stop_empty(driver *d)
{
    assert_int_equal(driver_stats(d).blocks_free, d->options.num_blocks);
    assert_true(qr_scheduler_idle(d->scheduler));
    driver_stop(d);
}

void driver_finish(driver *d)
{
    driver_run(d, 500);
    driver_stop(d);
}

/* What lives, for a failing test's message. */
static void driver_print(const driver *d)
{
    static const char *const states[] = {"none", "queued", "running", "preempted", "paused", "retiring", "done"};
    const quire_stats        stats    = driver_stats(d);
    print_message("blocks: used %u cached %u free %u of %u; block_size %u\n", (unsigned)stats.blocks_used,
                  (unsigned)stats.blocks_cached, (unsigned)stats.blocks_free, (unsigned)stats.blocks,
                  d->options.block_size);
    for (uint32_t i = 0; i < d->scheduler->record_count; i++) {
        const qr_sequence *q = &d->scheduler->sequences[i];
        const qr_request  *r = &d->scheduler->requests[q->request];
        if (q->state == QR_SEQUENCE_NONE || q->state == QR_SEQUENCE_DONE) continue;
        print_message("%llu.%u %s: prompt %u output %u/%u computed %u blocks %u cross %u n %u beams %u reason %d\n",
                      (unsigned long long)r->id, q->index, states[q->state], r->stored.prompt_count,
                      q->length - r->stored.prompt_count, r->stored.max_tokens, q->computed, q->self.count,
                      r->stored.encoder_count, r->stored.n, r->stored.beam_width, (int)q->reason);
    }
}

void driver_check(driver *d)
{
    const char *verdict = qr_scheduler_check(d->scheduler);
    if (verdict != NULL) driver_print(d);
    if (verdict != NULL) fail_msg("step %llu: %s", (unsigned long long)d->steps, verdict);
}

/* ---- the model ---- */

static uint64_t text_hash(const char *text)
{
    uint64_t hash = 1;
    for (; text && *text; text++) hash = qr_mix64(hash * 31 + (unsigned char)*text);
    return hash;
}

/* What attention over everything the prefix depends on would know: tenant, encoder input, tokens so far. */
static uint64_t root_hash(const driver_request *r)
{
    uint64_t hash = r->tenant_hash;
    for (uint32_t i = 0; i < r->encoder_count; i++) hash = qr_random_u64(hash, 7, (uint64_t)r->encoder[i]);
    return hash;
}

static uint64_t extend(uint64_t hash, int32_t token) { return qr_random_u64(hash, 3, (uint64_t)token); }

static int32_t token_of(const driver *d, uint64_t hash, uint32_t index)
{
    const uint32_t below = d->token_below ? (uint32_t)d->token_below : d->options.vocab_size;
    return (int32_t)qr_random_below(hash, index, 5, below);
}

static uint64_t prefix_hash(const driver_request *r, const int32_t *output, uint32_t output_count)
{
    uint64_t hash = root_hash(r);
    for (uint32_t i = 0; i < r->prompt_count; i++) hash = extend(hash, r->prompt[i]);
    for (uint32_t i = 0; i < output_count; i++) hash = extend(hash, output[i]);
    return hash;
}

int32_t driver_next_token(const driver *d, const driver_request *r, const int32_t *output, uint32_t output_count,
                          uint32_t index)
{
    return token_of(d, prefix_hash(r, output, output_count), index);
}

static void candidates_of(const driver *d, uint64_t hash, uint32_t count, int32_t *tokens, float *logprobs)
{
    const uint32_t vocab   = d->token_below ? (uint32_t)d->token_below : d->options.vocab_size;
    float          logprob = -0.1f;
    for (uint32_t i = 0; i < count; i++) {
        logprob -= (float)qr_random_below(hash, i, 11, 100) * 0.01f + 0.01f;
        logprobs[i] = logprob;
        bool fresh  = false;
        for (uint32_t try = 0; !fresh; try++) {
            tokens[i] = (int32_t)qr_random_below(hash, i, 13 + try, vocab);
            fresh     = true;
            for (uint32_t j = 0; j < i; j++) fresh = fresh && tokens[j] != tokens[i];
        }
    }
}

void driver_candidates(const driver *d, const driver_request *r, const int32_t *output, uint32_t output_count,
                       uint32_t count, int32_t *tokens, float *logprobs)
{
    candidates_of(d, prefix_hash(r, output, output_count), count, tokens, logprobs);
}

/* ---- the KV memory ---- */

/* Of the sequence's own blocks, or its local ones, whose slots lie behind. */
static uint64_t *slot(const driver *d, const uint32_t *blocks, uint32_t position)
{
    const uint32_t bs = d->options.block_size;
    assert_in_range(blocks[position / bs], 0, d->options.num_blocks - 1);
    return &d->slots[(size_t)blocks[position / bs] * bs + position % bs];
}

static uint64_t *local_slot(const driver *d, const uint32_t *blocks, uint32_t position)
{
    assert_in_range(blocks[position / d->options.block_size], 0, d->options.num_local_blocks - 1);
    return slot(d, blocks, position) + (size_t)d->options.num_blocks * d->options.block_size;
}

static uint64_t cross_value(const driver_request *r, uint32_t i)
{
    return qr_random_u64(r->tenant_hash, 17, i) ^ root_hash(r);
}

static void run_encoder(driver *d, const quire_plan_encoder *e)
{
    const driver_request *r = driver_find(d, e->id);
    assert_int_equal(e->token_count, r->encoder_count);
    assert_memory_equal(e->tokens, r->encoder, r->encoder_count * sizeof(int32_t));
    for (uint32_t i = 0; i < e->token_count; i++) *slot(d, e->blocks, i) = cross_value(r, i);
}

static bool sees(const quire_plan_sequence *e, uint32_t p, uint32_t window)
{
    return window == 0 || p + window > e->position;
}

/* Each row re-reads every slot that it may see, then writes its own. Returns nothing; fails the test on a wrong slot.
 */
static void run_entry(driver *d, uint32_t entry)
{
    const quire_plan_sequence *e     = &d->plan->sequences[entry];
    const driver_request      *r     = driver_find(d, e->id);
    const uint32_t            *local = d->plan->local_blocks ? d->plan->local_blocks[entry] : NULL;
    for (uint32_t i = 0; i < r->encoder_count; i++)
        if (*slot(d, e->cross_blocks, i) != cross_value(r, i))
            fail_msg("step %llu: request %llu reads wrong cross content", (unsigned long long)d->steps,
                     (unsigned long long)e->id);
    uint64_t       hash = root_hash(r);
    const uint32_t end  = e->position + e->row_count;
    for (uint32_t p = 0; p < end; p++) {
        hash = extend(hash, e->tokens[p]);
        if (p >= e->position) {
            *slot(d, e->blocks, p) = hash;
            if (local != NULL) *local_slot(d, local, p) = ~hash;
            continue;
        }
        if ((sees(e, p, d->options.window) && *slot(d, e->blocks, p) != hash) ||
            (local != NULL && sees(e, p, d->options.local_window) && *local_slot(d, local, p) != ~hash))
            fail_msg("step %llu: request %llu.%u reads a wrong slot at position %u", (unsigned long long)d->steps,
                     (unsigned long long)e->id, e->sequence, p);
    }
}

static void sample(driver *d, const quire_plan_sample *sample, uint32_t i)
{
    const quire_plan_sequence *e    = &d->plan->sequences[sample->entry];
    const driver_request      *r    = driver_find(d, e->id);
    uint64_t                   hash = root_hash(r);
    assert_int_equal(sample->position, e->position + (sample->row - e->row_start) + 1);
    for (uint32_t p = 0; p < sample->position; p++) hash = extend(hash, e->tokens[p]);
    d->results[i] = (quire_sampled){
        .token = token_of(d, hash, sample->sequence), .logprob = -0.5f, .failed = e->id == d->not_finite};
    if (r->beam_width <= 1) return;
    d->results[i].candidates         = d->candidates + (size_t)i * 2 * DRIVER_BEAMS;
    d->results[i].candidate_logprobs = d->candidate_logprobs + (size_t)i * 2 * DRIVER_BEAMS;
    candidates_of(d, hash, 2 * r->beam_width, d->candidates + (size_t)i * 2 * DRIVER_BEAMS,
                  d->candidate_logprobs + (size_t)i * 2 * DRIVER_BEAMS);
}

static void run_copies(driver *d)
{
    const size_t bs = d->options.block_size, behind = d->options.num_blocks * bs;
    for (uint32_t i = 0; i < d->plan->copy_count; i++) {
        const quire_plan_copy *c = &d->plan->copies[i];
        memcpy(d->slots + c->to * bs, d->slots + c->from * bs, c->slots * sizeof *d->slots);
    }
    for (uint32_t i = 0; i < d->plan->local_copy_count; i++) {
        const quire_plan_copy *c = &d->plan->local_copies[i];
        memcpy(d->slots + behind + c->to * bs, d->slots + behind + c->from * bs, c->slots * sizeof *d->slots);
    }
}

/* ---- steps ---- */

const quire_plan *driver_plan(driver *d)
{
    d->now_ns += STEP_NS;
    d->plan = qr_scheduler_plan(d->scheduler, d->now_ns);
    d->steps++;
    driver_check(d);
    return d->plan;
}

static bool is_poisoned(const driver *d)
{
    for (uint32_t i = 0; i < d->plan->sequence_count && d->poison != 0; i++)
        if (d->plan->sequences[i].id == d->poison) return true;
    return false;
}

void driver_commit(driver *d)
{
    d->now_ns += STEP_NS;
    if (is_poisoned(d)) {
        qr_scheduler_commit_failed(d->scheduler, d->now_ns);
    } else {
        run_copies(d);
        for (uint32_t i = 0; i < d->plan->encoder_count; i++) run_encoder(d, &d->plan->encoders[i]);
        for (uint32_t i = 0; i < d->plan->sequence_count; i++) run_entry(d, i);
        for (uint32_t i = 0; i < d->plan->sample_count; i++) sample(d, &d->plan->samples[i], i);
        qr_scheduler_commit(d->scheduler, d->results, d->now_ns);
    }
    driver_check(d);
    driver_take_events(d);
    driver_check(d);
}

bool driver_step(driver *d)
{
    const bool planned = driver_plan(d)->rows > 0;
    driver_commit(d);
    return planned;
}

void driver_run(driver *d, uint32_t max_steps)
{
    for (uint32_t i = 0; i < max_steps && !qr_scheduler_idle(d->scheduler); i++) driver_step(d);
    if (!qr_scheduler_idle(d->scheduler)) {
        driver_print(d);
        fail_msg("not idle after %u steps", max_steps);
    }
    const quire_stats stats = driver_stats(d);
    assert_int_equal(stats.blocks_used + stats.local_blocks_used, 0);
    assert_int_equal(stats.blocks_free + stats.blocks_cached, stats.blocks);
    for (uint32_t i = 0; i < d->request_count; i++) assert_true(d->requests[i].last_seen);
}

/* ---- the reader ---- */

static void take_token(driver *d, driver_request *r, const qr_scheduler_event *e)
{
    driver_stream *stream = &r->streams[e->sequence_index];
    assert_int_equal(e->index, stream->count);
    assert_int_equal(stream->ends, 0);
    if (r->beam_width <= 1)
        assert_int_equal(e->token, driver_next_token(d, r, stream->tokens, stream->count, e->sequence_index));
    stream->tokens[stream->count++] = e->token;
}

static void take_end(driver_request *r, const qr_scheduler_event *e)
{
    driver_stream *stream = &r->streams[e->sequence_index];
    assert_int_equal(stream->ends++, 0);
    assert_false(r->last_seen);
    stream->finish = e->finish, stream->status = e->status, stream->detail = e->detail;
    assert_int_equal(e->detail.output_tokens, stream->count);
    r->last_seen   = e->last;
    uint64_t waits = 0;
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) waits += e->detail.wait_ns[i];
    assert_int_equal(waits, e->detail.finish_ns - e->detail.submit_ns);
}

void driver_take_events(driver *d)
{
    uint32_t                  count;
    const qr_scheduler_event *events;
    while ((events = qr_scheduler_events(d->scheduler, &count)), count > 0) {
        assert_true(count <= qr_scheduler_event_capacity(d->scheduler));
        for (uint32_t i = 0; i < count; i++) {
            driver_request *r = driver_find(d, events[i].id);
            if (events[i].kind == QUIRE_EVENT_TOKEN)
                take_token(d, r, &events[i]);
            else
                take_end(r, &events[i]);
        }
        qr_scheduler_events_clear(d->scheduler);
    }
}

/* ---- requests ---- */

void driver_fill(int32_t *tokens, uint32_t count, uint64_t seed, uint32_t vocab)
{
    for (uint32_t i = 0; i < count; i++) tokens[i] = (int32_t)qr_random_below(seed, 99, i, vocab);
}

quire_request driver_request_of(uint32_t max_tokens)
{
    return (quire_request){
        .size = sizeof(quire_request), .max_tokens = max_tokens, .ignore_eos = true, .length_penalty = 1};
}

quire_status driver_submit_raw(driver *d, const quire_request *request, quire_error *error, quire_request_id *id_out)
{
    const quire_request_id id     = d->request_count + 1;
    const quire_status     status = qr_scheduler_submit(d->scheduler, request, id, d->now_ns, error);
    driver_check(d);
    if (id_out) *id_out = status == QUIRE_OK ? id : 0;
    if (status != QUIRE_OK) return status;
    driver_request *r = &d->requests[d->request_count++];
    assert_true(d->request_count <= DRIVER_REQUESTS);
    r->id = id, r->prompt_count = request->prompt_count, r->encoder_count = request->encoder_count;
    r->beam_width  = request->beam_width;
    r->parameters  = *request;
    r->tenant_hash = text_hash(request->tenant);
    memcpy(r->prompt, request->prompt, request->prompt_count * sizeof(int32_t));
    if (request->encoder_count) memcpy(r->encoder, request->encoder_input, request->encoder_count * sizeof(int32_t));
    return status;
}

quire_request_id driver_submit(driver *d, quire_request request, uint32_t prompt_count, uint64_t prompt_seed,
                               quire_status *status_out)
{
    int32_t          prompt[DRIVER_TOKENS];
    quire_request_id id;
    quire_error      error = {0};
    driver_fill(prompt, prompt_count, prompt_seed, d->token_below ? (uint32_t)d->token_below : d->options.vocab_size);
    request.prompt = prompt, request.prompt_count = prompt_count;
    const quire_status status = driver_submit_raw(d, &request, &error, &id);
    if (status_out == NULL && status != QUIRE_OK) fail_msg("submit: %s", error.message);
    if (status_out != NULL) *status_out = status;
    return id;
}

quire_request_id driver_submit_encoder(driver *d, quire_request request, uint32_t encoder_count, uint64_t encoder_seed,
                                       uint32_t prompt_count, uint64_t prompt_seed)
{
    int32_t encoder[DRIVER_TOKENS];
    driver_fill(encoder, encoder_count, encoder_seed, d->options.vocab_size);
    request.encoder_input = encoder, request.encoder_count = encoder_count;
    return driver_submit(d, request, prompt_count, prompt_seed, NULL);
}

quire_request_id driver_submit_new(driver *d, uint32_t prompt_count, uint32_t max_tokens)
{
    return driver_submit(d, driver_request_of(max_tokens), prompt_count, d->request_count + 1, NULL);
}

quire_request_id driver_submit_for(driver *d, const char *tenant, uint32_t prompt_count, uint32_t max_tokens)
{
    quire_request request = driver_request_of(max_tokens);
    request.tenant        = tenant;
    return driver_submit(d, request, prompt_count, d->request_count + 1, NULL);
}

quire_request_id driver_submit_priority(driver *d, int32_t priority, uint32_t prompt_count, uint32_t max_tokens)
{
    quire_request request = driver_request_of(max_tokens);
    request.priority      = priority;
    return driver_submit(d, request, prompt_count, d->request_count + 1, NULL);
}

quire_request_id driver_running(driver *d, uint32_t max_tokens, uint32_t prompt_count, uint64_t prompt_seed)
{
    const quire_request_id id = driver_submit(d, driver_request_of(max_tokens), prompt_count, prompt_seed, NULL);
    driver_step(d);
    assert_int_equal(driver_view(d, id, 0).state, QR_SEQUENCE_RUNNING);
    return id;
}

quire_request_id driver_preempt(driver *d, quire_request_id *senior_out)
{
    assert_int_equal(d->options.num_blocks, 6);
    *senior_out               = driver_submit(d, driver_request_of(13), 11, 1, NULL);
    const quire_request_id id = driver_submit(d, driver_request_of(10), 8, 2, NULL);
    for (uint32_t i = 0; i < 3; i++) driver_step(d);
    assert_int_equal(driver_view(d, id, 0).state, QR_SEQUENCE_PREEMPTED);
    return id;
}

driver_request *driver_find(driver *d, quire_request_id id)
{
    assert_true(id >= 1 && id <= d->request_count);
    return &d->requests[id - 1];
}

const quire_plan_sequence *driver_entry(const driver *d, quire_request_id id, uint32_t index)
{
    for (uint32_t i = 0; i < d->plan->sequence_count; i++) {
        const quire_plan_sequence *entry = &d->plan->sequences[i];
        if (entry->id == id && entry->sequence == index) return entry;
    }
    return NULL;
}

driver_sequence driver_view(const driver *d, quire_request_id id, uint32_t index)
{
    const qr_scheduler *s = d->scheduler;
    for (uint32_t i = 0; i < s->record_count; i++) {
        const qr_sequence *q = &s->sequences[i];
        const qr_request  *r = &s->requests[q->request];
        if (q->state == QR_SEQUENCE_NONE || r->id != id || q->index != index) continue;
        return (driver_sequence){.request      = &r->stored,
                                 .tokens       = qr_tokens(s, i),
                                 .length       = q->length,
                                 .prompt_count = r->stored.prompt_count,
                                 .output_count = q->length - r->stored.prompt_count,
                                 .blocks       = q->self.blocks,
                                 .block_count  = q->self.count,
                                 .computed     = q->computed,
                                 .state        = q->state};
    }
    fail_msg("request %llu.%u has no record", (unsigned long long)id, index);
    return (driver_sequence){0};
}

quire_stats driver_stats(const driver *d)
{
    quire_stats stats = {.size = sizeof stats};
    qr_scheduler_stats(d->scheduler, &stats);
    return stats;
}

quire_wait_reason driver_reason(const driver *d, quire_request_id id)
{
    quire_explanation explanation;
    assert_int_equal(qr_scheduler_explain(d->scheduler, id, d->now_ns, &explanation), QUIRE_OK);
    return explanation.reason;
}

uint32_t driver_cached_tokens(driver *d, quire_request_id id)
{
    return driver_find(d, id)->streams[0].detail.cached_tokens;
}
uint64_t driver_first_planned(driver *d, quire_request_id id)
{
    return driver_find(d, id)->streams[0].detail.first_planned_ns;
}

void driver_assert_cancelled(driver *d, quire_request_id id, uint32_t tokens)
{
    const driver_stream *stream = &driver_find(d, id)->streams[0];
    assert_int_equal(stream->ends, 1);
    assert_int_equal(stream->finish, QUIRE_FINISH_CANCELLED);
    assert_int_equal(stream->count, tokens);
    assert_true(driver_find(d, id)->last_seen);
    assert_int_equal(qr_scheduler_cancel(d->scheduler, id, d->now_ns), QUIRE_ERR_NOT_FOUND);
}

void driver_assert_table(const driver *d, quire_request_id id, uint32_t index, uint32_t count, const uint32_t *blocks)
{
    const driver_sequence view = driver_view(d, id, index);
    assert_int_equal(view.block_count, count);
    assert_memory_equal(view.blocks, blocks, count * sizeof *blocks);
}
