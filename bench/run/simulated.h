/* The parts of a simulated engine: the library's own scheduler and cache (quire/plan.h), tokens that are a function of
 * request and position in place of a model, and a cost model that says how long each step takes. */
#ifndef QR_BENCH_SIMULATED_H
#define QR_BENCH_SIMULATED_H

#include "bench/run/cost_model.h"
#include "bench/run/cost_noise.h"

#include "quire/plan.h"
#include "quire/quire.h"

/* Where times come from, for results. */
typedef struct qr_cost_report {
    char          path[256]; /* run.cost_model */
    qr_cost_model model;
    bool          resampled;           /* run.cost_noise = resample */
    uint64_t      steps, extrapolated; /* simulated; of those, beyond what the fit saw */
} qr_cost_report;

/* *noise_out is the caller's, also on errors: qr_cost_noise_deinit(). ERR_INVALID: run.cost_model is missing or too
 * short; ERR_IO, ERR_FORMAT: the step log. */
quire_status qr_simulated_cost(const quire_config *config, qr_cost_report *cost_out, qr_cost_noise *noise_out,
                               quire_error *error);

/* The KV cache that the configuration describes. ERR_INVALID: it has no stated size. */
quire_status qr_simulated_pool(const quire_config *config, const quire_model_info *model, quire_kv_pool *pool_out,
                               quire_error *error);

/* ERR_INVALID: drafts are on; errors of quire_planner_create. */
quire_status qr_simulated_planner(const quire_config *config, const quire_model_info *model, const quire_kv_pool *pool,
                                  bool cache_events, quire_planner **planner_out, quire_error *error);

/* How long a plan's step takes, at least 1; counts it. */
uint64_t qr_simulated_step_ns(qr_cost_report *cost, const qr_cost_noise *noise, const quire_plan *plan);

/* Room for the tokens of a step; zero is an empty one, free() of `sampled` ends it. */
typedef struct qr_simulated_tokens {
    quire_sampled *sampled; /* [capacity] */
    uint32_t       capacity;
} qr_simulated_tokens;

/* One token for each of plan->samples, none of which ends its sequence. ERR_NO_MEMORY. */
quire_status qr_simulated_sample(qr_simulated_tokens *tokens, const quire_plan *plan, uint32_t vocab_size);

#endif
