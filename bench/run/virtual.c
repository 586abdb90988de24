/* See virtual.h. A step is planned when it begins and committed when it ends; requests that arrive meanwhile are
 * submitted in between, as an engine's inbox takes them while it computes. */
#include "bench/run/virtual.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"

/* START_NS: details use 0 for "never". REACTION_NS: from a token until its reader can answer it with a request; the
 * engine has begun its next step by then. MOST_NS: a year; a run keeps something for each of its seconds. */
#define MOST_NS (UINT64_C(366) * 24 * 3600 * 1000000000)
enum { START_NS = 1000000000, REACTION_NS = 50000, NEIGHBOURS = 64 };

typedef struct residual {    /* of one step of the log */
    double predicted, ratio; /* s; measured / predicted */
} residual;

struct qr_virtual {
    quire_planner    *planner;
    quire_model_info  model;
    quire_kv_pool     pool;
    qr_cost_report    cost;
    uint64_t          now_ns, end_ns; /* clock; end of the step under way */
    uint64_t          reader_ns;      /* when the reader sees the last step's events; 0: it has */
    const quire_plan *plan;           /* under way, or NULL */
    quire_step        step;           /* the same, as it will be reported */
    residual         *noise;          /* [noise_count] by predicted time; NULL: run.cost_noise = none */
    size_t            noise_count;
    quire_sampled    *sampled; /* [sampled_capacity] */
    uint32_t          sampled_capacity;
};

/* ---- creation ---- */

/* A simulated machine has the memory that it is said to have, not what this one has free now. */
static quire_status size_cache(qr_virtual *machine, const quire_config *config, quire_error *error)
{
    const quire_engine_options *options = quire_config_engine(config);
    machine->pool.size                  = sizeof machine->pool;
    if (options->num_kv_blocks == 0 && options->kv_cache_bytes == 0)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "%s: [run] clock: virtual needs kv_cache.size or kv_cache.num_kv_blocks, the memory of the "
                       "simulated machine",
                       quire_config_origin(config, "run.clock"));
    return quire_kv_pool_plan(options, &machine->model, UINT64_MAX, 1, &machine->pool, error);
}

static bool wants_noise(const quire_config *config)
{
    const char *noise = quire_config_string(config, "run.cost_noise");
    return noise != NULL && strcmp(noise, "resample") == 0;
}

static int by_prediction(const void *a, const void *b)
{
    const residual *x = a, *y = b;
    const int       order = (x->predicted > y->predicted) - (x->predicted < y->predicted);
    return order != 0 ? order : (x->ratio > y->ratio) - (x->ratio < y->ratio); /* the same order with every qsort */
}

static quire_status keep_noise(qr_virtual *machine, const qr_cost_sample *samples, size_t count, quire_error *error)
{
    machine->noise = malloc(count * sizeof *machine->noise);
    if (machine->noise == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "virtual clock: out of memory");
    for (size_t i = 0; i < count; i++) {
        const double predicted = qr_cost_model_seconds(&machine->cost.model, &samples[i].work);
        machine->noise[i]      = (residual){predicted, samples[i].seconds / predicted};
    }
    machine->noise_count    = count;
    machine->cost.resampled = true;
    qsort(machine->noise, count, sizeof *machine->noise, by_prediction);
    return QUIRE_OK;
}

static quire_status fit_cost(qr_virtual *machine, const quire_config *config, quire_error *error)
{
    qr_cost_sample *samples;
    size_t          count;
    const char     *path = quire_config_string(config, "run.cost_model");
    if (path == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "%s: [run] clock: virtual needs run.cost_model, the .steps.jsonl of a real run of this model",
                       quire_config_origin(config, "run.clock"));
    snprintf(machine->cost.path, sizeof machine->cost.path, "%s", path);
    QR_TRY(qr_step_log_read(path, &samples, &count, error));
    quire_error  why    = {0};
    quire_status status = qr_cost_model_fit(samples, count, &machine->cost.model, &why);
    if (status != QUIRE_OK) qr_fail(error, status, "%s: %s", path, why.message);
    if (status == QUIRE_OK && wants_noise(config)) status = keep_noise(machine, samples, count, error);
    free(samples);
    return status;
}

static quire_status check_drafts(const quire_config *config, quire_error *error)
{
    if (quire_config_engine(config)->num_speculative_tokens == 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "%s: [scheduler] num_speculative_tokens: drafts come from what a text repeats and count where "
                   "the model agrees; run.clock = \"virtual\" has neither, set 0",
                   quire_config_origin(config, "scheduler.num_speculative_tokens"));
}

static quire_status create_planner(qr_virtual *machine, const quire_config *config, quire_error *error)
{
    const quire_model_info   *m     = &machine->model;
    const quire_planner_model model = {.size                   = sizeof model,
                                       .vocab_size             = m->vocab_size,
                                       .max_model_len          = m->max_position_embeddings,
                                       .window                 = m->window,
                                       .encoder_decoder        = m->encoder_layers > 0,
                                       .decoder_start_token_id = m->decoder_start_token_id,
                                       .num_blocks             = machine->pool.num_blocks};
    return quire_planner_create(quire_config_engine(config), &model, &machine->planner, error);
}

static quire_status build(qr_virtual *machine, const quire_config *config, quire_error *error)
{
    QR_TRY(check_drafts(config, error));
    QR_TRY(fit_cost(machine, config, error));
    QR_TRY(size_cache(machine, config, error));
    return create_planner(machine, config, error);
}

quire_status qr_virtual_create(const quire_config *config, const quire_model_info *model, qr_virtual **virtual_out,
                               quire_error *error)
{
    qr_virtual *machine = calloc(1, sizeof *machine);
    *virtual_out        = NULL;
    if (machine == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "virtual clock: out of memory");
    machine->model            = *model;
    machine->now_ns           = START_NS;
    const quire_status status = build(machine, config, error);
    if (status == QUIRE_OK)
        *virtual_out = machine;
    else
        qr_virtual_destroy(machine);
    return status;
}

void qr_virtual_destroy(qr_virtual *machine)
{
    if (machine == NULL) return;
    quire_planner_destroy(machine->planner);
    free(machine->sampled);
    free(machine->noise);
    free(machine);
}

/* ---- the engine's calls ---- */

uint64_t qr_virtual_now_ns(const qr_virtual *machine) { return machine->now_ns; }

quire_status qr_virtual_submit(qr_virtual *machine, const quire_request *request, quire_request_id *id_out)
{
    return quire_planner_submit(machine->planner, request, machine->now_ns, id_out, NULL);
}

quire_status qr_virtual_cancel(qr_virtual *machine, quire_request_id id)
{
    return quire_planner_cancel(machine->planner, id, machine->now_ns);
}

size_t qr_virtual_poll(qr_virtual *machine, quire_event *events, size_t capacity)
{
    return quire_planner_poll(machine->planner, events, capacity);
}

void qr_virtual_stats(const qr_virtual *machine, quire_stats *stats)
{
    quire_planner_stats(machine->planner, stats);
    stats->steps                = machine->cost.steps;
    stats->kv_bytes_per_token   = machine->pool.block_bytes / machine->pool.block_size;
    stats->kv_cache_bytes       = machine->pool.block_bytes * machine->pool.num_blocks;
    const uint64_t layer_bytes  = machine->pool.block_bytes / machine->model.layers;
    stats->contiguous_run_bytes = stats->contiguous_run_blocks * (double)layer_bytes;
}

void qr_virtual_flush_cache(qr_virtual *machine) { quire_planner_flush_cache(machine->planner); }

const qr_cost_report *qr_virtual_cost(const qr_virtual *machine) { return &machine->cost; }

/* ---- a step ---- */

static qr_step_work work_of(const quire_plan *plan)
{
    return (qr_step_work){.rows          = plan->rows,
                          .rows_encoder  = plan->rows_encoder,
                          .rows_logits   = plan->rows_logits,
                          .sequences     = plan->sequence_count,
                          .kv_tokens     = (double)plan->kv_tokens,
                          .kv_pairs      = (double)plan->kv_pairs,
                          .cross_tokens  = (double)plan->cross_tokens,
                          .cross_pairs   = (double)plan->cross_pairs,
                          .encoder_pairs = (double)plan->encoder_pairs};
}

/* The planner knows of no end-of-sequence id, so every token goes on. */
static int32_t mock_token(const qr_virtual *machine, const quire_plan_sample *sample)
{
    const quire_request_id id = machine->plan->sequences[sample->entry].id;
    return (int32_t)qr_random_below(id, sample->sequence, sample->position, machine->model.vocab_size);
}

static quire_status sample(qr_virtual *machine)
{
    const uint32_t count = machine->plan->sample_count;
    if (count > machine->sampled_capacity) {
        quire_sampled *wider = realloc(machine->sampled, count * sizeof *wider);
        if (wider == NULL) return QUIRE_ERR_NO_MEMORY;
        machine->sampled          = wider;
        machine->sampled_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++)
        machine->sampled[i] = (quire_sampled){.token = mock_token(machine, &machine->plan->samples[i])};
    return QUIRE_OK;
}

/* What is known of a step when it begins; the plan is gone when it has ended. */
static quire_step describe(const qr_virtual *machine)
{
    const quire_plan *plan = machine->plan;
    return (quire_step){.step          = machine->cost.steps,
                        .start_ns      = machine->now_ns,
                        .rows          = plan->rows,
                        .rows_prompt   = plan->rows_prompt,
                        .rows_encoder  = plan->rows_encoder,
                        .rows_logits   = plan->rows_logits,
                        .sequences     = plan->sequence_count,
                        .preempted     = plan->preempted,
                        .forward_ns    = machine->end_ns - machine->now_ns,
                        .kv_tokens     = plan->kv_tokens,
                        .kv_pairs      = plan->kv_pairs,
                        .cross_tokens  = plan->cross_tokens,
                        .cross_pairs   = plan->cross_pairs,
                        .encoder_pairs = plan->encoder_pairs};
}

/* The residual of one of the log's steps whose predicted time is close, picked by the number of this step. */
static double noise_of(const qr_virtual *machine, double predicted)
{
    size_t low = 0, high = machine->noise_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (machine->noise[middle].predicted < predicted)
            low = middle + 1;
        else
            high = middle;
    }
    const size_t width = machine->noise_count < NEIGHBOURS ? machine->noise_count : NEIGHBOURS;
    const size_t first = low < width / 2 ? 0 : low - width / 2;
    const size_t last  = machine->noise_count - width;
    return machine->noise[(first < last ? first : last) + qr_random_below(0, 0, machine->cost.steps, (uint32_t)width)]
        .ratio;
}

static double step_seconds(const qr_virtual *machine, const qr_step_work *work)
{
    const double predicted = qr_cost_model_seconds(&machine->cost.model, work);
    return machine->noise ? predicted * noise_of(machine, predicted) : predicted;
}

static quire_status begin_step(qr_virtual *machine)
{
    const quire_plan *plan;
    QR_TRY(quire_planner_plan(machine->planner, machine->now_ns, &plan, NULL));
    if (plan->rows == 0 && plan->rows_encoder == 0) return QUIRE_OK;
    const qr_step_work work = work_of(plan);
    const double       ns   = step_seconds(machine, &work) * 1e9;
    machine->plan           = plan;
    machine->end_ns         = machine->now_ns + (ns >= 1 ? (uint64_t)ns : 1);
    machine->cost.steps++;
    machine->cost.extrapolated += !qr_cost_model_covers(&machine->cost.model, &work);
    machine->step = describe(machine);
    return QUIRE_OK;
}

static quire_status end_step(qr_virtual *machine, quire_step *step_out)
{
    QR_TRY(sample(machine));
    QR_TRY(
        quire_planner_commit(machine->planner, machine->sampled, machine->plan->sample_count, machine->now_ns, NULL));
    quire_stats after = {.size = sizeof after};
    quire_planner_stats(machine->planner, &after);
    *step_out               = machine->step;
    step_out->running       = after.running;
    step_out->waiting       = after.waiting;
    step_out->blocks_used   = (uint32_t)after.blocks_used;
    step_out->blocks_cached = (uint32_t)after.blocks_cached;
    machine->plan           = NULL;
    machine->reader_ns      = machine->now_ns + REACTION_NS;
    return QUIRE_OK;
}

quire_status qr_virtual_advance(qr_virtual *machine, uint64_t until_ns, quire_step *step_out)
{
    *step_out = (quire_step){0};
    if (machine->plan == NULL) QR_TRY(begin_step(machine));
    uint64_t to = until_ns > machine->now_ns ? until_ns : machine->now_ns;
    if (machine->reader_ns > 0 && machine->reader_ns < to) to = machine->reader_ns;
    if (machine->plan != NULL && machine->end_ns < to) to = machine->end_ns;
    if (to > MOST_NS) return QUIRE_ERR_TOO_LONG;
    machine->now_ns = to;
    if (machine->reader_ns <= to) machine->reader_ns = 0;
    return machine->plan != NULL && machine->end_ns <= to ? end_step(machine, step_out) : QUIRE_OK;
}
