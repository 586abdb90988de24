/* The life of a planner, its step, and the public calls on it: scheduler and cache of the engine without its model,
 * threads, queues and clock. What the engine's step does between two forward passes, the host does call by call. */
#include "engine/planner.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cache/block_pool.h"
#include "engine/options.h"
#include "engine/outbox.h"

_Static_assert(QUIRE_NO_BLOCK == QR_BLOCK_NONE, "the block of a table's entry that the window left");

/* ---- what an engine uses, too ---- */

/* Of both kinds of blocks, one after the other. */
static size_t freed_capacity(const qr_scheduler_options *options)
{
    return options->zero_on_free ? (size_t)options->num_blocks + options->num_local_blocks : 0;
}

quire_status qr_planner_init(quire_planner *planner, const qr_scheduler_options *options, quire_error *error)
{
    const size_t freed = freed_capacity(options);
    planner->options   = *options;
    QR_TRY(qr_scheduler_create(options, &planner->scheduler, error));
    planner->options.tenants = NULL; /* the caller's */
    if (freed == 0) return QUIRE_OK;
    planner->freed = qr_allocate(&options->allocator, freed * sizeof *planner->freed, _Alignof(uint32_t));
    return planner->freed ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "planner: a list of %zu blocks", freed);
}

void qr_planner_deinit(quire_planner *planner)
{
    const size_t freed = planner->freed ? freed_capacity(&planner->options) : 0;
    qr_scheduler_destroy(planner->scheduler);
    qr_deallocate(&planner->options.allocator, planner->freed, freed * sizeof *planner->freed);
}

/* A copy: what is freed from now on, for instance again at this plan's commit, is for the next call. */
qr_freed qr_planner_take_freed(quire_planner *planner)
{
    qr_freed  freed = {0};
    uint32_t *to    = planner->freed;
    for (int local = 0; local < 2; local++) {
        const uint32_t *from = qr_scheduler_freed(planner->scheduler, local, &freed.count[local]);
        freed.blocks[local]  = to;
        if (freed.count[local] == 0) continue; /* without zero_on_free there is no list */
        memcpy(to, from, freed.count[local] * sizeof *from);
        to += freed.count[local];
    }
    qr_scheduler_freed_clear(planner->scheduler);
    return freed;
}

const quire_plan *qr_planner_plan(quire_planner *planner, uint64_t now_ns)
{
    quire_plan *plan        = &planner->plan;
    *plan                   = *qr_scheduler_plan(planner->scheduler, now_ns);
    const qr_freed freed    = qr_planner_take_freed(planner);
    plan->freed             = freed.blocks[0];
    plan->freed_count       = freed.count[0];
    plan->local_freed       = freed.blocks[1];
    plan->local_freed_count = freed.count[1];
    planner->in_flight      = plan->rows > 0 || plan->rows_encoder > 0;
    qr_scheduler_debug_check(planner->scheduler);
    return plan;
}

static void end_step(quire_planner *planner)
{
    planner->in_flight = false;
    qr_scheduler_debug_check(planner->scheduler);
}

void qr_planner_commit(quire_planner *planner, const quire_sampled *sampled, uint64_t now_ns)
{
    qr_scheduler_commit(planner->scheduler, sampled, now_ns);
    end_step(planner);
}

void qr_planner_commit_failed(quire_planner *planner, uint64_t now_ns)
{
    qr_scheduler_commit_failed(planner->scheduler, now_ns);
    end_step(planner);
}

/* Records of ended requests are free once all events have been taken; a beam search may then bring more. */
const qr_scheduler_event *qr_planner_events(quire_planner *planner, uint32_t *count_out)
{
    const qr_scheduler_event *events = qr_scheduler_events(planner->scheduler, count_out);
    if (planner->events_taken == *count_out && !planner->in_flight) {
        qr_scheduler_events_clear(planner->scheduler);
        planner->events_taken = 0;
        events                = qr_scheduler_events(planner->scheduler, count_out);
    }
    *count_out -= planner->events_taken;
    return events + planner->events_taken;
}

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
    const uint32_t longest        = (uint32_t)qr_option_find("model.max_model_len")->most;
    const bool     local_possible = model->window == 0 && !model->encoder_decoder;
    QR_TRY(check_range("vocab_size", model->vocab_size, 1, INT32_MAX, error));
    QR_TRY(check_range("max_model_len", model->max_model_len, 0, longest, error));
    QR_TRY(check_range("eos_count", model->eos_count, 0, QUIRE_MAX_EOS_IDS, error));
    QR_TRY(check_range("num_blocks", model->num_blocks, 0, 1 << 28, error));
    QR_TRY(check_range("block_size", model->block_size, 0, 65536, error));
    QR_TRY(check_range("local_window", model->local_window, 0, local_possible ? longest : 0, error));
    QR_TRY(check_range("num_local_blocks", model->num_local_blocks, 0, model->local_window > 0 ? 1 << 28 : 0, error));
    QR_TRY(check_range("node_count", model->node_count, 0, QR_MAX_NODES, error));
    QR_TRY(check_range("encoder_feature_size", model->encoder_feature_size, 0, QR_MAX_FEATURES, error));
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
                            .local_window            = model->local_window,
                            .max_position_embeddings = model->max_model_len,
                            .max_encoder_positions   = model->max_encoder_positions,
                            .encoder_feature_size    = model->encoder_feature_size,
                            .long_length             = model->long_length,
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
    if (model->local_window > 0)
        out->num_local_blocks = model->num_local_blocks ? model->num_local_blocks : qr_scheduler_local_blocks(out);
    if (out->num_blocks > 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "quire_planner_model: num_blocks: 0, and num_kv_blocks of the options is 0 too; a planner cannot "
                   "size the cache by memory");
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
    const quire_status status = qr_planner_init(planner, &resolved, error);
    if (status == QUIRE_OK)
        *planner_out = planner;
    else
        quire_planner_destroy(planner);
    return status;
}

void quire_planner_destroy(quire_planner *planner)
{
    if (planner == NULL) return;
    const quire_allocator allocator = planner->options.allocator;
    qr_planner_deinit(planner);
    qr_deallocate(&allocator, planner, sizeof *planner);
}

/* ---- requests ---- */

/* Times never go back. */
static uint64_t advance(quire_planner *planner, uint64_t now_ns)
{
    return planner->now_ns = qr_max_u64(planner->now_ns, now_ns);
}

quire_status quire_planner_submit(quire_planner *planner, const quire_request *request, uint64_t now_ns,
                                  quire_request_id *id_out, quire_error *error)
{
    if (id_out != NULL) *id_out = 0;
    if (request == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_submit: request is NULL");
    if (request->size > offsetof(quire_request, logits) && request->logits != QUIRE_LOGITS_NONE)
        return qr_fail(error, QUIRE_ERR_INVALID, "request: logits: %u, but a planner sees none", request->logits);
    const quire_request_id id = planner->last_id + 1;
    QR_TRY(qr_scheduler_submit(planner->scheduler, request, id, advance(planner, now_ns), error));
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

/* ---- plan ---- */

quire_status quire_planner_plan(quire_planner *planner, uint64_t now_ns, const quire_plan **plan_out,
                                quire_error *error)
{
    if (plan_out == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_plan: plan_out is NULL");
    *plan_out = NULL;
    if (planner->in_flight)
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_plan: plan %llu is not committed yet",
                       (unsigned long long)planner->plan.number);
    uint32_t unread;
    (void)qr_planner_events(planner, &unread);
    if (unread > 0)
        return qr_fail(error, QUIRE_ERR_FULL, "quire_planner_plan: there are events; poll until there are none");
    *plan_out = qr_planner_plan(planner, advance(planner, now_ns));
    return QUIRE_OK;
}

/* ---- commit ---- */

static bool in_vocabulary(const quire_planner *planner, int32_t token)
{
    return token >= 0 && (uint32_t)token < planner->options.vocab_size;
}

static bool appears_before(const int32_t *tokens, uint32_t k)
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
                       planner->options.vocab_size - 1);
    if (isnan(logprob) || logprob == INFINITY)
        return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: candidate_logprobs[%u]: %g is not a log probability", i,
                       k, (double)logprob);
    if (logprob > -INFINITY && appears_before(sampled->candidates, k))
        return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: candidates[%u]: id %d appears twice", i, k, token);
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
    const quire_plan_sample *sample = &planner->plan.samples[i];
    const uint32_t           width  = planner->plan.sequences[sample->entry].request->beam_width;
    if (sampled->failed || sample->given) return QUIRE_OK;
    if (width > 1) return check_candidates(planner, i, sampled, width, error);
    if (in_vocabulary(planner, sampled->token)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "sampled[%u]: token: id %d is not in 0..%u", i, sampled->token,
                   planner->options.vocab_size - 1);
}

static quire_status check_in_flight(const quire_planner *planner, const char *call, quire_error *error)
{
    if (planner->in_flight) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: there is no plan to commit", call);
}

quire_status quire_planner_commit(quire_planner *planner, const quire_sampled *sampled, uint32_t count, uint64_t now_ns,
                                  quire_error *error)
{
    QR_TRY(check_in_flight(planner, "quire_planner_commit", error));
    if (count != planner->plan.sample_count || (count > 0 && sampled == NULL))
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_planner_commit: %u samples are given, the plan has %u",
                       sampled ? count : 0, planner->plan.sample_count);
    for (uint32_t i = 0; i < count; i++) QR_TRY(check_sampled(planner, i, &sampled[i], error));
    qr_planner_commit(planner, sampled, advance(planner, now_ns));
    return QUIRE_OK;
}

quire_status quire_planner_commit_failed(quire_planner *planner, uint64_t now_ns, quire_error *error)
{
    QR_TRY(check_in_flight(planner, "quire_planner_commit_failed", error));
    qr_planner_commit_failed(planner, advance(planner, now_ns));
    return QUIRE_OK;
}

void quire_planner_allow_drafts(quire_planner *planner, bool allowed)
{
    qr_scheduler_allow_drafts(planner->scheduler, allowed);
}

/* ---- looking in ---- */

size_t quire_planner_poll(quire_planner *planner, quire_event *events, size_t capacity)
{
    uint32_t                  count;
    const qr_scheduler_event *from   = qr_planner_events(planner, &count);
    const uint32_t            polled = (uint32_t)qr_min_u64(count, capacity);
    for (uint32_t i = 0; i < polled; i++) {
        events[i] = qr_event_of(&from[i], from[i].user_data, planner->now_ns);
        if (from[i].kind == QUIRE_EVENT_FINISHED) events[i].detail = &from[i].detail;
    }
    planner->events_taken += polled;
    return polled;
}

quire_status quire_planner_explain(const quire_planner *planner, quire_request_id id, uint64_t now_ns,
                                   quire_explanation *explanation_out)
{
    quire_explanation why;
    QR_TRY(qr_scheduler_explain(planner->scheduler, id, now_ns, &why));
    qr_options_give(&why, sizeof why, explanation_out);
    return QUIRE_OK;
}

void quire_planner_stats(const quire_planner *planner, quire_stats *stats)
{
    quire_stats now = {0};
    qr_scheduler_stats(planner->scheduler, &now);
    now.nodes = planner->options.node_count;
    qr_options_give(&now, sizeof now, stats);
}

const char *quire_planner_check(const quire_planner *planner) { return qr_scheduler_check(planner->scheduler); }

size_t quire_planner_poll_cache_events(quire_planner *planner, quire_cache_event *events, int32_t *tokens,
                                       size_t capacity)
{
    return qr_scheduler_read_cache_events(planner->scheduler, events, tokens,
                                          capacity < UINT32_MAX ? (uint32_t)capacity : UINT32_MAX);
}

void quire_planner_restart_cache_events(quire_planner *planner)
{
    qr_scheduler_restart_cache_events(planner->scheduler);
}

void quire_planner_flush_cache(quire_planner *planner) { qr_scheduler_flush_cache(planner->scheduler); }
