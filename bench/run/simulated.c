/* A planner of the library, the cost of its plans, and tokens for them. */
#include "bench/run/simulated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"

/* ---- cost ---- */

static bool wants_noise(const quire_config *config)
{
    const char *noise = quire_config_string(config, "run.cost_noise");
    return noise != NULL && strcmp(noise, "resample") == 0;
}

quire_status qr_simulated_cost(const quire_config *config, qr_cost_report *cost_out, qr_cost_noise *noise_out,
                               quire_error *error)
{
    qr_cost_sample *samples;
    size_t          count;
    const char     *path = quire_config_string(config, "run.cost_model");
    *cost_out            = (qr_cost_report){0};
    *noise_out           = (qr_cost_noise){0};
    if (path == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "%s: [run] clock: virtual needs run.cost_model, the .steps.jsonl of a real run of this model",
                       quire_config_origin(config, "run.clock"));
    snprintf(cost_out->path, sizeof cost_out->path, "%s", path);
    QR_TRY(qr_step_log_read(path, &samples, &count, error));
    quire_error  why    = {0};
    quire_status status = qr_cost_model_fit(samples, count, &cost_out->model, &why);
    if (status != QUIRE_OK) qr_fail(error, status, "%s: %s", path, why.message);
    cost_out->resampled = wants_noise(config);
    if (status == QUIRE_OK && cost_out->resampled)
        status = qr_cost_noise_init(noise_out, &cost_out->model, samples, count);
    free(samples);
    return status;
}

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

uint64_t qr_simulated_step_ns(qr_cost_report *cost, const qr_cost_noise *noise, const quire_plan *plan)
{
    const qr_step_work work      = work_of(plan);
    const double       predicted = qr_cost_model_seconds(&cost->model, &work);
    const double       ns        = predicted * qr_cost_noise_factor(noise, predicted, cost->steps) * 1e9;
    cost->steps++;
    cost->extrapolated += !qr_cost_model_covers(&cost->model, &work);
    return ns >= 1 ? (uint64_t)ns : 1;
}

/* ---- scheduler and cache ---- */

/* A simulated engine has the memory that it is said to have, not what this machine has free now. */
quire_status qr_simulated_pool(const quire_config *config, const quire_model_info *model, quire_kv_pool *pool_out,
                               quire_error *error)
{
    const quire_engine_options *options = quire_config_engine(config);
    *pool_out                           = (quire_kv_pool){.size = sizeof *pool_out};
    if (options->num_kv_blocks == 0 && options->kv_cache_bytes == 0)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "%s: [run] clock: virtual needs kv_cache.size or kv_cache.num_kv_blocks, the memory of the "
                       "simulated engine",
                       quire_config_origin(config, "run.clock"));
    return quire_kv_pool_plan(options, model, UINT64_MAX, 1, pool_out, error);
}

static quire_status check_drafts(const quire_config *config, quire_error *error)
{
    if (quire_config_engine(config)->num_speculative_tokens == 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "%s: [scheduler] num_speculative_tokens: drafts come from what a text repeats and count where "
                   "the model agrees; run.clock = \"virtual\" has neither, set 0",
                   quire_config_origin(config, "scheduler.num_speculative_tokens"));
}

quire_status qr_simulated_planner(const quire_config *config, const quire_model_info *m, const quire_kv_pool *pool,
                                  bool cache_events, quire_planner **planner_out, quire_error *error)
{
    const quire_planner_model model   = {.size                   = sizeof model,
                                         .vocab_size             = m->vocab_size,
                                         .max_model_len          = m->max_position_embeddings,
                                         .window                 = m->window,
                                         .encoder_decoder        = m->encoder_layers > 0,
                                         .decoder_start_token_id = m->decoder_start_token_id,
                                         .num_blocks             = pool->num_blocks,
                                         .max_encoder_positions  = m->max_encoder_positions,
                                         .encoder_feature_size   = m->encoder_feature_size,
                                         .long_length            = m->long_length,
                                         .local_window           = m->local_window,
                                         .num_local_blocks       = (uint32_t)pool->num_local_blocks};
    quire_engine_options      options = *quire_config_engine(config);
    if (cache_events) options.cache_events = QUIRE_TOGGLE_ON;
    *planner_out = NULL;
    QR_TRY(check_drafts(config, error));
    return quire_planner_create(&options, &model, planner_out, error);
}

/* ---- tokens ---- */

/* The planner knows of no end-of-sequence id, so every token goes on. */
static int32_t mock_token(const quire_plan *plan, const quire_plan_sample *sample, uint32_t vocab_size)
{
    const quire_request_id id = plan->sequences[sample->entry].id;
    return (int32_t)qr_random_below(id, sample->sequence, sample->position, vocab_size);
}

quire_status qr_simulated_sample(qr_simulated_tokens *tokens, const quire_plan *plan, uint32_t vocab_size)
{
    const uint32_t count = plan->sample_count;
    if (count > tokens->capacity) {
        quire_sampled *wider = realloc(tokens->sampled, count * sizeof *wider);
        if (wider == NULL) return QUIRE_ERR_NO_MEMORY;
        tokens->sampled  = wider;
        tokens->capacity = count;
    }
    for (uint32_t i = 0; i < count; i++)
        tokens->sampled[i] = (quire_sampled){.token = mock_token(plan, &plan->samples[i], vocab_size)};
    return QUIRE_OK;
}
