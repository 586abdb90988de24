/* The highest request rate that meets the SLOs: a bisection whose probes end as soon as their answer is sure. */
#ifndef QR_BENCH_CAPACITY_H
#define QR_BENCH_CAPACITY_H

#include "bench/common/statistics.h"
#include "bench/result/metrics.h"

/* ---- one probe: a run at a rate, watched ---- */

/* Judges requests in the order in which they were due, each as soon as its fate is known: not in the order in which
 * they end, for those that end first are the good ones. */
typedef struct qr_slo_watch {
    qr_slo             slo;
    qr_sequential_test test;
    bool               may_pass_early; /* false: only a failure ends the run early */
    int64_t            min_span_ns;    /* of the window before anything is decided: neighbours share their fate */
    size_t             next;           /* the first request that is not judged */
    qr_decision        decision;
} qr_slo_watch;

/* For qr_run_stop.is_wanted; the context is the watch. */
bool qr_slo_watch_decides(void *watch, const qr_run *run, int64_t now_ns);

/* After the run: what is still open has missed. True when the share is at least the target, and when nothing was due.
 */
bool qr_slo_watch_passes(qr_slo_watch *watch, const qr_run *run);

/* ---- the search ---- */

typedef struct qr_probe {
    double   rate, seconds;
    bool     passed, early; /* early: decided before the end of the run */
    uint64_t met, missed;   /* requests judged */
} qr_probe;

typedef struct qr_capacity_search {
    double min_rate, max_rate, precision; /* precision: of the answer, as a share of it */
    /* Runs at probe->rate and fills the rest. False: stop the search. */
    bool (*probe)(void *context, bool may_pass_early, qr_probe *probe);
    void *context;
} qr_capacity_search;

typedef enum qr_capacity_outcome {
    QR_CAPACITY_FOUND,
    QR_CAPACITY_BELOW_MIN, /* min_rate fails: rate = 0 */
    QR_CAPACITY_ABOVE_MAX, /* max_rate passes */
    QR_CAPACITY_STOPPED,   /* by the probe: rate, low, high are what is known so far */
} qr_capacity_outcome;

typedef struct qr_capacity {
    qr_capacity_outcome outcome;
    double              rate, low, high; /* rate = low passed a probe of full length, high failed */
    uint32_t            probes;
    double              seconds;
    uint64_t            requests;
} qr_capacity;

/* Bisects on the logarithm of the rate. A probe that passed early is only believed once its rate has passed a probe of
 * full length, because a queue that grows slowly looks well at first. */
void qr_capacity_find(const qr_capacity_search *search, qr_capacity *capacity_out);

const char *qr_capacity_outcome_name(qr_capacity_outcome outcome);

#endif
