/* What each latency was spent on, without remainder, from the records of a run.
 *
 *   ttft   due -> submitted: generator;  -> first planned: queue;  -> first token: the steps in between
 *   itl    the steps since the token before. A running sequence gets a token from every step it is in, so it was in the
 *          last of them alone: the steps before are queue, or for a request that was preempted recompute, as
 *          are the prompt rows of the last one
 *
 * A step is split by its own clock: scheduler (plan, commit, hand-over), encoder, projections, attention, row-wise,
 * sampling (logits included), barrier. What projections, attention and row-wise work took is shared by rows: those of
 * prompts are prefill, the request's own or others'. A record does not say whose prompt rows a step had; a request's
 * own count as early as they can. The scheduler's time is that of plan and commit; what is left, hand-over
 * and time between steps, is other. */
#ifndef QR_BENCH_ATTRIBUTION_H
#define QR_BENCH_ATTRIBUTION_H

#include "bench/result/metrics.h"

typedef enum qr_cause {
    QR_CAUSE_GENERATOR,
    QR_CAUSE_QUEUE,
    QR_CAUSE_ENCODER,
    QR_CAUSE_OWN_PREFILL,
    QR_CAUSE_OTHER_PREFILL,
    QR_CAUSE_PROJECTIONS,
    QR_CAUSE_ATTENTION,
    QR_CAUSE_ROWWISE,
    QR_CAUSE_SAMPLING,
    QR_CAUSE_SCHEDULER,
    QR_CAUSE_BARRIER,
    QR_CAUSE_NETWORK,
    QR_CAUSE_RECOMPUTE,
    QR_CAUSE_OTHER,
    QR_CAUSES,
} qr_cause;

const char *qr_cause_name(qr_cause cause); /* "own_prefill": the key in JSON */
const char *qr_cause_text(qr_cause cause); /* "own prefill": for people */

/* Nanoseconds by cause; they add up to the latency exactly. */
typedef struct qr_split {
    int64_t ns[QR_CAUSES];
    int64_t queue_ns[QUIRE_WAIT_REASONS]; /* of QR_CAUSE_QUEUE, by the scheduler's reason */
} qr_split;

/* From due to first token; the request must have one. */
void qr_split_ttft(const qr_run *run, const qr_run_request *request, qr_split *split_out);
void qr_split_gap(const qr_run *run, const qr_run_gap *gap, qr_split *split_out);

/* The mean split of the latencies in the band around a percentile: ranks within 5 points of it, or within half of what
 * is left to 100, of those in the window. */
typedef struct qr_band {
    double   ms[QR_CAUSES], queue_ms[QUIRE_WAIT_REASONS];
    uint64_t samples;
} qr_band;

typedef enum qr_latency { QR_LATENCY_TTFT, QR_LATENCY_ITL } qr_latency;

/* False: no latency in the window, or out of memory. */
bool qr_band_of(const qr_run *run, qr_latency latency, double percentile, qr_band *band_out);

/* Where most of the band's time went. */
qr_cause qr_band_main_cause(const qr_band *band, double *share_out);

#endif
