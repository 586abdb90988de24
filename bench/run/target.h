/* What a benchmark plays against: an engine of this process (target_engine.h), a simulated one (target_virtual.h), a
 * server at the other end of a connection (target_http.h), or anything else that takes requests and gives events.
 * Requests are copied by `submit`, and what an event points to is valid until the next call. */
#ifndef QR_BENCH_TARGET_H
#define QR_BENCH_TARGET_H

#include <stdbool.h>

#include "quire/quire.h"

/* Who hears of each step, where a target can tell: in the thread that computes it. False, out of memory, ends the run.
 * `dropped`: stages of this thread since the engine was created that were not kept for want of room. */
typedef struct qr_step_listener {
    bool (*step)(void *context, const quire_step *step);
    bool (*stages)(void *context, uint32_t thread, const quire_stage *stages, size_t count, uint64_t dropped);
    void *context;
} qr_step_listener;

/* Times are ns on the target's own clock, never 0. Everything is called by one thread. */
typedef struct qr_target {
    void *self;

    /* Between start and stop requests run by themselves; `listener` is borrowed until stop. */
    quire_status (*start)(void *self, const qr_step_listener *listener, quire_error *error);
    void (*stop)(void *self);

    uint64_t (*now)(const void *self);
    quire_status (*submit)(void *self, const quire_request *request, quire_request_id *id_out); /* as the engine's */
    void (*cancel)(void *self, quire_request_id id);
    size_t (*poll)(void *self, quire_event *events, size_t capacity);

    /* Returns at `until_ns`, or earlier when there may be events. Before start and after stop: computes something, if
     * there is something. Events must have been polled. Fills *error unless the status says it all. */
    quire_status (*wait)(void *self, uint64_t until_ns, quire_error *error);

    void (*stats)(const void *self, quire_stats *stats);
    void (*flush_cache)(void *self);
    void (*destroy)(void *self);

    uint64_t retry_ns; /* a submit that found the queue full is worth another try after so long without events */
    uint64_t idle_ns;  /* the longest wait with nothing to submit */

    /* A server: what it does inside is not known, nor whether it repeats what it said. */
    bool is_remote;

    /* Time stands still while its reader acts, and tokens are made up. */
    bool is_simulated;
} qr_target;

#endif
