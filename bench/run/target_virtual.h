/* A simulated engine as a benchmark's target: the library's own scheduler and cache (quire/plan.h) on a virtual clock,
 * tokens that are a function of request and position in place of a model, and a cost model that says how long each step
 * takes. Nothing sleeps and nothing depends on chance, so hours of a trace take seconds and the same run gives the same
 * numbers.
 *
 * What it leaves out: contents (requests end by their length), drafts, readers that are slow. One thread. */
#ifndef QR_BENCH_TARGET_VIRTUAL_H
#define QR_BENCH_TARGET_VIRTUAL_H

#include "bench/run/simulated.h"
#include "bench/run/target.h"

/* ERR_INVALID: run.cost_model is missing or too short, the KV cache has no stated size, drafts are on; ERR_IO,
 * ERR_FORMAT: the step log; errors of quire_planner_create. */
quire_status qr_target_virtual_create(const quire_config *config, const quire_model_info *model, qr_target *target_out,
                                      quire_error *error);

const qr_cost_report *qr_target_virtual_cost(const qr_target *target);

#endif
