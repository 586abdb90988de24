/* A closed loop's request is due when the request before it on its stream ended, not when that was noticed: what the
 * generator is late by is part of its latency. */
#include "bench/run/generator.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "bench/common/array.h"

#define SECOND 1e9

static void draw_next(qr_generator *g)
{
    g->have_next = g->drawn < qr_workload_count(g->workload);
    if (!g->have_next) return;
    qr_workload_next(g->workload, &g->next);
    g->drawn++;
}

static uint32_t every_of(double fraction) { return fraction <= 0 ? 0 : fraction >= 1 ? 1 : (uint32_t)(1 / fraction); }

quire_status qr_generator_init(qr_generator *g, const qr_target *target, qr_workload *workload,
                               const quire_config *config, qr_prometheus *prometheus, qr_run *run)
{
    const quire_model_info *model  = qr_workload_model(workload);
    const bool              closed = qr_workload_is_closed(workload), hears = model->encoder_feature_size > 0;
    *g         = (qr_generator){.target        = target,
                                .workload      = workload,
                                .run           = run,
                                .prometheus    = prometheus,
                                .is_open_loop  = !closed && !qr_workload_is_offline(workload),
                                .max_in_flight = (uint32_t)quire_config_integer(config, "load.max_concurrency"),
                                .last_due_ns   = INT64_MAX,
                                .streams       = closed ? qr_workload_streams(workload) : 0,
                                .verify_every =
                            target->is_remote ? 0 : every_of(quire_config_number(config, "run.verify_fraction"))};
    g->prompt  = calloc(run->before.max_model_len + 1u, sizeof *g->prompt);
    g->encoder = calloc(QR_WORKLOAD_MAX_ENCODER, sizeof *g->encoder);
    if (hears)
        g->features = calloc(qr_workload_feature_count(model, model->max_encoder_positions), sizeof *g->features);
    g->free_since = calloc(g->streams + 1u, sizeof *g->free_since);
    draw_next(g);
    return g->prompt && g->encoder && g->free_since && (g->features || !hears) ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
}

void qr_generator_deinit(qr_generator *g)
{
    free(g->prompt);
    free(g->encoder);
    free(g->features);
    free(g->free_since);
}

/* ---- streams of a closed loop ---- */

void qr_generator_free_stream(qr_generator *g, int64_t ns)
{
    if (g->free_count < g->streams) g->free_since[(g->first_free + g->free_count++) % g->streams] = ns;
}

static int64_t free_stream_since(const qr_generator *g, int64_t now)
{
    return g->free_count > 0 ? g->free_since[g->first_free] : now; /* at the start all are */
}

static void occupy_stream(qr_generator *g)
{
    if (g->free_count == 0) return;
    g->first_free = (g->first_free + 1) % g->streams;
    g->free_count--;
}

/* ---- submitting ---- */

void qr_generator_make(qr_generator *g, const qr_workload_request *shape, quire_request *request)
{
    qr_workload_fill(g->workload, shape, request);
    qr_workload_prompt(g->workload, shape, g->prompt);
    request->prompt = g->prompt;
    if (shape->encoder_tokens == 0) return;
    if (g->features != NULL) {
        qr_workload_features(g->workload, shape, g->features);
        request->encoder_features = g->features;
        return;
    }
    qr_workload_encoder(g->workload, shape, g->encoder);
    request->encoder_input = g->encoder;
}

static quire_status record_request(qr_generator *g, int64_t due)
{
    const size_t   index  = g->run->request_count;
    qr_run_request record = {.shape          = g->next,
                             .due_ns         = due,
                             .submit_ns      = -1,
                             .planned_ns     = -1,
                             .prompt_done_ns = -1,
                             .first_ns       = -1,
                             .end_ns         = -1,
                             .tpot_ns        = -1};
    if (g->verify_every > 0 && index % g->verify_every == 0)
        record.kept = calloc(g->next.output_tokens, sizeof *record.kept);
    if (QR_ARRAY_PUSH(g->run->requests, g->run->request_count, record)) return QUIRE_OK;
    free(record.kept);
    return QUIRE_ERR_NO_MEMORY;
}

static void record_refusal(qr_generator *g, qr_run_request *record, quire_status status)
{
    qr_prometheus_refused(g->prometheus, status);
    record->status = status;
    record->finish = QUIRE_FINISH_ERROR;
    record->end_ns = record->submit_ns;
    g->run->ended++;
}

static int64_t now_of(const qr_generator *g) { return (int64_t)(g->target->now(g->target->self) - g->start_ns); }

/* Submits the next request. ERR_FULL leaves it for later. */
static quire_status submit_next(qr_generator *g, int64_t due)
{
    quire_request    request;
    quire_request_id id = 0;
    qr_generator_make(g, &g->next, &request);
    request.user_data            = (void *)(uintptr_t)g->run->request_count;
    const int64_t      submit_ns = now_of(g);
    const quire_status status    = g->target->submit(g->target->self, &request, &id);
    if (status == QUIRE_ERR_FULL) return status;
    QR_TRY(record_request(g, due));
    qr_run_request *record = &g->run->requests[g->run->request_count - 1];
    record->submit_ns      = submit_ns;
    record->id             = status == QUIRE_OK ? id : 0;
    if (status != QUIRE_OK) record_refusal(g, record, status);
    draw_next(g);
    return QUIRE_OK;
}

static bool is_accepting(const qr_generator *g)
{
    if (!g->have_next) return false;
    return g->last_due_ns == INT64_MAX || (g->is_open_loop && (int64_t)g->next.due_ns <= g->last_due_ns);
}

static uint32_t in_flight(const qr_generator *g) { return (uint32_t)g->run->request_count - g->run->ended; }

/* False: not now. *due_out is when it was. */
static bool is_due(const qr_generator *g, int64_t *due_out)
{
    const int64_t now = now_of(g);
    if (!is_accepting(g)) return false;
    if (g->max_in_flight > 0 && in_flight(g) >= g->max_in_flight) return false;
    *due_out = g->streams > 0 ? free_stream_since(g, now) : (int64_t)g->next.due_ns;
    return g->streams > 0 ? in_flight(g) < g->streams : *due_out <= now;
}

quire_status qr_generator_submit_due(qr_generator *g)
{
    int64_t due;
    while (is_due(g, &due)) {
        const quire_status status = submit_next(g, due);
        if (status == QUIRE_ERR_FULL) return QUIRE_OK;
        QR_TRY(status);
        occupy_stream(g);
    }
    return QUIRE_OK;
}

void qr_generator_close(qr_generator *g, int64_t last_due_ns) { g->last_due_ns = last_due_ns; }

/* ---- what is left ---- */

bool qr_generator_is_done(const qr_generator *g) { return in_flight(g) == 0 && !is_accepting(g); }

int64_t qr_generator_next_moment(const qr_generator *g, int64_t now_ns)
{
    const bool accepting = is_accepting(g);
    if (accepting && (int64_t)g->next.due_ns > now_ns) return (int64_t)g->next.due_ns;
    return now_ns + (int64_t)(accepting ? g->target->retry_ns : g->target->idle_ns);
}

/* Those that a full queue holds back are not drawn yet: how many follows from how far the generator is behind, and from
 * the rate of those drawn, over a second at least: a burst at the start has none. */
double qr_generator_load(const qr_generator *g, int64_t now)
{
    if (!g->is_open_loop) return qr_workload_streams(g->workload);
    const int64_t due    = (int64_t)g->next.due_ns;
    const double  behind = g->have_next && now > due ? (double)(now - due) : 0;
    return in_flight(g) + behind * g->drawn / fmax((double)due, SECOND);
}

void qr_generator_count_held_back(qr_generator *g)
{
    qr_run *run = g->run;
    for (; g->is_open_loop && g->have_next && (int64_t)g->next.due_ns <= run->window_end_ns; draw_next(g))
        run->held_back += (int64_t)g->next.due_ns >= run->window_start_ns;
}
