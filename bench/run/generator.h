/* Submits each request when it is due: by the clock (open loop), when a stream is free (closed loop), or at once; later
 * when the target's queue is full or load.max_concurrency is reached. */
#ifndef QR_BENCH_GENERATOR_H
#define QR_BENCH_GENERATOR_H

#include "bench/run/prometheus.h"
#include "bench/run/run.h"
#include "bench/run/target.h"

typedef struct qr_generator {
    const qr_target    *target;
    qr_workload        *workload;
    qr_run             *run; /* records requests */
    qr_prometheus      *prometheus;
    uint64_t            start_ns; /* of the run, on the target's clock */
    int32_t            *prompt, *encoder;
    float              *features; /* NULL: the model reads none */
    qr_workload_request next;     /* drawn, not yet submitted */
    bool                have_next, is_open_loop;
    uint32_t            drawn, max_in_flight; /* 0: no limit */
    int64_t             last_due_ns;          /* what is due later is not submitted any more */
    int64_t            *free_since; /* closed loop: [streams] a ring: when the streams that are free now became so */
    uint32_t            streams, first_free, free_count;
    uint32_t            verify_every; /* keep the tokens of one in so many requests; 0: of none */
} qr_generator;

/* ERR_NO_MEMORY; deinit in any case. */
quire_status qr_generator_init(qr_generator *generator, const qr_target *target, qr_workload *workload,
                               const quire_config *config, qr_prometheus *prometheus, qr_run *run);
void         qr_generator_deinit(qr_generator *generator);

/* Submits what is due. A refusal is the request's result; a full queue leaves it for later. ERR_NO_MEMORY. */
quire_status qr_generator_submit_due(qr_generator *generator);

/* From now on an open loop submits only what was due until then and held back; others submit nothing. */
void qr_generator_close(qr_generator *generator, int64_t last_due_ns);

bool qr_generator_is_done(const qr_generator *generator); /* nothing is in flight or will be submitted */

/* When there is something to submit without an event: the next request is due, or worth another try. */
int64_t qr_generator_next_moment(const qr_generator *generator, int64_t now_ns);

/* A closed loop's request ended at `ns`: its stream takes the next one. */
void qr_generator_free_stream(qr_generator *generator, int64_t ns);

/* Requests due and not ended; a closed loop keeps their number. */
double qr_generator_load(const qr_generator *generator, int64_t now_ns);

/* Counts, at the end, what was due in the window and never submitted. */
void qr_generator_count_held_back(qr_generator *generator);

/* A request of this shape; its tokens are valid until the next call. */
void qr_generator_make(qr_generator *generator, const qr_workload_request *shape, quire_request *request_out);

#endif
