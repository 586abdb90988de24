/* Takes events and steps into the record of the run. A token's time is its event's `time_ns`, which the target took
 * when the token was sampled; when the reader came to it does not show. */
#ifndef QR_BENCH_COLLECTOR_H
#define QR_BENCH_COLLECTOR_H

#include "bench/run/generator.h"

typedef struct qr_sequence_times { /* of one sequence in flight */
    int64_t  first_ns, last_ns;
    uint32_t tokens;
} qr_sequence_times;

typedef struct qr_collector {
    qr_generator      *generator; /* learns which streams are free */
    qr_run            *run;
    qr_prometheus     *prometheus;
    uint64_t           start_ns;              /* of the run, on the target's clock */
    uint32_t           sequences_per_request; /* at most */
    qr_sequence_times *sequences;             /* [sequence_count] request by request */
    size_t             sequence_count;
    uint64_t           stages_lost, stages_dropped; /* more than a run keeps; than the engine keeps */
} qr_collector;

/* Takes all events that there are. ERR_NO_MEMORY. */
quire_status qr_collector_take_events(qr_collector *collector, const qr_target *target);
void         qr_collector_deinit(qr_collector *collector);

/* A qr_step_listener; `context` is the collector. Thread: the target's. */
bool qr_collector_take_step(void *context, const quire_step *step);
bool qr_collector_take_stages(void *context, uint32_t thread, const quire_stage *stages, size_t count,
                              uint64_t dropped);

#endif
