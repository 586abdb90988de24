/* An engine on a virtual clock: the library's own scheduler and cache (quire/plan.h), tokens that are a function of
 * request and position in place of a model, and a cost model that says how long each step takes. Nothing sleeps and
 * nothing depends on chance, so hours of a trace take seconds and the same run gives the same numbers.
 *
 * With run.cost_noise = "resample" each step deviates from the model as some step of the log did that took about as
 * long, picked by a counter, so that tails are a machine's and still the same in each run.
 *
 * What it leaves out: contents (requests end by their length), drafts, readers that are slow. One thread. */
#ifndef QR_BENCH_VIRTUAL_H
#define QR_BENCH_VIRTUAL_H

#include "bench/run/cost_model.h"

#include "quire/config.h"
#include "quire/plan.h"

typedef struct qr_virtual qr_virtual;

/* Where times come from, for results. */
typedef struct qr_cost_report {
    char          path[256]; /* run.cost_model */
    qr_cost_model model;
    bool          resampled;           /* run.cost_noise = resample */
    uint64_t      steps, extrapolated; /* simulated; of those, beyond what the fit saw */
} qr_cost_report;

/* ERR_INVALID: run.cost_model is missing or too short, the KV cache has no stated size, drafts
 * are on; ERR_IO, ERR_FORMAT: the step log; errors of quire_planner_create. */
quire_status qr_virtual_create(const quire_config *config, const quire_model_info *model, qr_virtual **virtual_out,
                               quire_error *error);
void         qr_virtual_destroy(qr_virtual *machine); /* NULL is allowed */

uint64_t qr_virtual_now_ns(const qr_virtual *machine); /* never 0 */

/* As those of the engine. */
quire_status qr_virtual_submit(qr_virtual *machine, const quire_request *request, quire_request_id *id_out);
quire_status qr_virtual_cancel(qr_virtual *machine, quire_request_id id);
size_t       qr_virtual_poll(qr_virtual *machine, quire_event *events, size_t capacity);
void         qr_virtual_stats(const qr_virtual *machine, quire_stats *stats);
void         qr_virtual_flush_cache(qr_virtual *machine);

/* Lets time pass until `until_ns`, the end of the step under way, or the moment at which a reader would have seen the
 * events of the last one, whichever comes first; begins a step when there is work and none is under way. *step_out has
 * rows when a step ended. The events must have been polled. ERR_TOO_LONG: a year is over. */
quire_status qr_virtual_advance(qr_virtual *machine, uint64_t until_ns, quire_step *step_out);

const qr_cost_report *qr_virtual_cost(const qr_virtual *machine);

#endif
