/* A step is planned when it begins and committed when it ends; requests that arrive meanwhile are
 * submitted in between, as an engine's inbox takes them while it computes. */
#include "bench/run/target_virtual.h"

#include <stdlib.h>

#include "base/error.h"

/* START_NS: details use 0 for "never". REACTION_NS: from a token until its reader can answer it with a request; the
 * engine has begun its next step by then. MAX_NS: a year; a run keeps something for each of its seconds. */
#define MAX_NS (UINT64_C(366) * 24 * 3600 * 1000000000)
enum { START_NS = 1000000000, REACTION_NS = 50000 };

typedef struct virtual_target {
    quire_planner          *planner;
    quire_model_info        model;
    quire_kv_pool           pool;
    qr_cost_report          cost;
    uint64_t                now_ns, end_ns; /* clock; end of the step under way */
    uint64_t                reader_ns;      /* when the reader sees the last step's events; 0: it has */
    const quire_plan       *plan;           /* under way, or NULL */
    quire_step              step;           /* the same, as it will be reported */
    qr_cost_noise           noise;
    qr_simulated_tokens     tokens;
    const qr_step_listener *listener; /* between start and stop, else NULL */
} virtual_target;

/* ---- creation ---- */

static quire_status build(virtual_target *v, const quire_config *config, quire_error *error)
{
    QR_TRY(qr_simulated_cost(config, &v->cost, &v->noise, error));
    QR_TRY(qr_simulated_pool(config, &v->model, &v->pool, error));
    return qr_simulated_planner(config, &v->model, &v->pool, false, &v->planner, error);
}

/* ---- a step ---- */

/* What is known of a step when it begins; the plan is gone when it has ended. */
static quire_step describe(const virtual_target *v)
{
    const quire_plan *plan = v->plan;
    return (quire_step){.size          = sizeof(quire_step),
                        .step          = v->cost.steps,
                        .start_ns      = v->now_ns,
                        .rows          = plan->rows,
                        .rows_prompt   = plan->rows_prompt,
                        .rows_encoder  = plan->rows_encoder,
                        .rows_logits   = plan->rows_logits,
                        .sequences     = plan->sequence_count,
                        .preempted     = plan->preempted,
                        .forward_ns    = v->end_ns - v->now_ns,
                        .kv_tokens     = plan->kv_tokens,
                        .kv_pairs      = plan->kv_pairs,
                        .cross_tokens  = plan->cross_tokens,
                        .cross_pairs   = plan->cross_pairs,
                        .encoder_pairs = plan->encoder_pairs};
}

static quire_status begin_step(virtual_target *v)
{
    const quire_plan *plan;
    QR_TRY(quire_planner_plan(v->planner, v->now_ns, &plan, NULL));
    if (plan->rows == 0 && plan->rows_encoder == 0) return QUIRE_OK;
    v->plan   = plan;
    v->end_ns = v->now_ns + qr_simulated_step_ns(&v->cost, &v->noise, plan);
    v->step   = describe(v);
    return QUIRE_OK;
}

static uint64_t bytes_of(const virtual_target *v, uint64_t blocks, uint64_t local_blocks)
{
    return blocks * v->pool.block_bytes + local_blocks * v->pool.local_block_bytes;
}

static quire_status end_step(virtual_target *v, quire_step *step_out)
{
    QR_TRY(qr_simulated_sample(&v->tokens, v->plan, v->model.vocab_size));
    QR_TRY(quire_planner_commit(v->planner, v->tokens.sampled, v->plan->sample_count, v->now_ns, NULL));
    quire_stats after = {.size = sizeof after};
    quire_planner_stats(v->planner, &after);
    *step_out               = v->step;
    step_out->running       = after.running;
    step_out->waiting       = after.waiting;
    step_out->blocks_used   = (uint32_t)after.blocks_used;
    step_out->blocks_cached = (uint32_t)after.blocks_cached;
    step_out->kv_used_bytes = bytes_of(v, after.blocks_used, after.local_blocks_used);
    v->plan                 = NULL;
    v->reader_ns            = v->now_ns + REACTION_NS;
    return QUIRE_OK;
}

/* Lets time pass until `until_ns`, the end of the step under way, or the moment at which a reader would have seen the
 * events of the last one, whichever comes first; begins a step when there is work and none is under way. *step_out has
 * rows when a step ended. */
static quire_status advance(virtual_target *v, uint64_t until_ns, quire_step *step_out)
{
    *step_out = (quire_step){0};
    if (v->plan == NULL) QR_TRY(begin_step(v));
    uint64_t to = until_ns > v->now_ns ? until_ns : v->now_ns;
    if (v->reader_ns > 0 && v->reader_ns < to) to = v->reader_ns;
    if (v->plan != NULL && v->end_ns < to) to = v->end_ns;
    if (to > MAX_NS) return QUIRE_ERR_TOO_LONG;
    v->now_ns = to;
    if (v->reader_ns <= to) v->reader_ns = 0;
    return v->plan != NULL && v->end_ns <= to ? end_step(v, step_out) : QUIRE_OK;
}

/* ---- the target ---- */

static quire_status start(void *self, const qr_step_listener *listener, quire_error *error)
{
    virtual_target *v = self;
    (void)error;
    v->listener = listener;
    return QUIRE_OK;
}

static void stop(void *self) { ((virtual_target *)self)->listener = NULL; }

static uint64_t now(const void *self) { return ((const virtual_target *)self)->now_ns; }

static quire_status submit(void *self, const quire_request *request, quire_request_id *id_out)
{
    virtual_target *v = self;
    return quire_planner_submit(v->planner, request, v->now_ns, id_out, NULL);
}

static void cancel(void *self, quire_request_id id)
{
    virtual_target *v = self;
    quire_planner_cancel(v->planner, id, v->now_ns);
}

static size_t poll_events(void *self, quire_event *events, size_t capacity)
{
    return quire_planner_poll(((virtual_target *)self)->planner, events, capacity);
}

static quire_status wait_until(void *self, uint64_t until_ns, quire_error *error)
{
    virtual_target    *v = self;
    quire_step         step;
    const quire_status status = advance(v, until_ns, &step);
    if (status == QUIRE_ERR_TOO_LONG) return qr_fail(error, status, "it exceeded one simulated year");
    if (status != QUIRE_OK || v->listener == NULL || (step.rows == 0 && step.rows_encoder == 0)) return status;
    return v->listener->step(v->listener->context, &step) ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
}

static void stats_of(const void *self, quire_stats *stats)
{
    const virtual_target *v           = self;
    const uint64_t        block_bytes = bytes_of(v, 1, 1), layer_bytes = block_bytes / v->model.layers;
    quire_planner_stats(v->planner, stats);
    stats->steps                = v->cost.steps;
    stats->kv_bytes_per_token   = block_bytes / v->pool.block_size;
    stats->kv_cache_bytes       = bytes_of(v, v->pool.num_blocks, v->pool.num_local_blocks);
    stats->kv_used_bytes        = bytes_of(v, stats->blocks_used, stats->local_blocks_used);
    stats->contiguous_run_bytes = stats->contiguous_run_blocks * (double)layer_bytes;
}

static void flush_cache(void *self) { quire_planner_flush_cache(((virtual_target *)self)->planner); }

static void destroy(void *self)
{
    virtual_target *v = self;
    quire_planner_destroy(v->planner);
    qr_cost_noise_deinit(&v->noise);
    free(v->tokens.sampled);
    free(v);
}

quire_status qr_target_virtual_create(const quire_config *config, const quire_model_info *model, qr_target *target_out,
                                      quire_error *error)
{
    virtual_target *v = calloc(1, sizeof *v);
    *target_out       = (qr_target){0};
    if (v == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "virtual clock: out of memory");
    v->model                  = *model;
    v->now_ns                 = START_NS;
    const quire_status status = build(v, config, error);
    if (status != QUIRE_OK) {
        destroy(v);
        return status;
    }
    *target_out = (qr_target){.self        = v,
                              .start       = start,
                              .stop        = stop,
                              .now         = now,
                              .submit      = submit,
                              .cancel      = cancel,
                              .poll        = poll_events,
                              .wait        = wait_until,
                              .stats       = stats_of,
                              .flush_cache = flush_cache,
                              .destroy     = destroy,
                              .retry_ns = 1000000000, /* only a step makes room in a queue, and it wakes the reader */
                              .idle_ns  = 1000000000,
                              .is_simulated = true};
    return QUIRE_OK;
}

const qr_cost_report *qr_target_virtual_cost(const qr_target *target)
{
    return &((virtual_target *)target->self)->cost;
}
