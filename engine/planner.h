/* The inside of a quire_planner: a scheduler, the plan in hand and the events not taken yet. The public calls are this
 * with a host's answers checked; a quire_engine has one inside and adds network, threads, queues and clock.
 *
 * What is planned is committed before anything is planned again, and all events are taken in between. */
#ifndef QR_ENGINE_PLANNER_H
#define QR_ENGINE_PLANNER_H

#include "scheduler/scheduler.h"

struct quire_planner {
    qr_scheduler_options options; /* tenants are not kept */
    qr_scheduler        *scheduler;
    quire_plan           plan;
    uint32_t            *freed; /* [num_blocks + num_local_blocks] with zero_on_free */
    bool                 in_flight;
    uint32_t             events_taken;
    quire_request_id     last_id; /* of the public calls */
    uint64_t             now_ns;  /* latest time given to them */
};

/* `planner` is zero. On failure there may be something to deinit. */
quire_status qr_planner_init(quire_planner *planner, const qr_scheduler_options *options, quire_error *error);
void         qr_planner_deinit(quire_planner *planner);

const quire_plan *qr_planner_plan(quire_planner *planner, uint64_t now_ns);
void              qr_planner_commit(quire_planner *planner, const quire_sampled *sampled, uint64_t now_ns);
void              qr_planner_commit_failed(quire_planner *planner, uint64_t now_ns);

/* zero_on_free: what was freed since the last call or plan: blocks, then local ones. Valid until the next one. */
typedef struct qr_freed {
    const uint32_t *blocks[2]; /* [count] */
    uint32_t        count[2];
} qr_freed;
qr_freed qr_planner_take_freed(quire_planner *planner);

/* Events not taken yet, in order; taking is adding to events_taken. Those taken are gone with the next call. */
const qr_scheduler_event *qr_planner_events(quire_planner *planner, uint32_t *count_out);

#endif
