/* What each tenant got of a run. */
#ifndef QR_BENCH_FAIRNESS_H
#define QR_BENCH_FAIRNESS_H

#include "bench/result/metrics.h"

typedef struct qr_tenant_share {
    uint32_t   tenant; /* its number in the workload */
    uint32_t   due, completed;
    uint64_t   output_tokens; /* in the window */
    qr_summary queue, ttft;   /* ms, of requests whose first token falls inside the window */
} qr_tenant_share;

typedef struct qr_fairness {
    qr_tenant_share *tenants; /* [count] those that sent something, in order; owned */
    uint32_t         count;
    double           jain; /* (sum x)^2 / (n sum x^2) of their output tokens: 1 = equal, 1 / n = one has all */
} qr_fairness;

/* `metrics` gives the percentiles asked for. ERR_NO_MEMORY. */
quire_status qr_fairness_of(const qr_run *run, const qr_metrics *metrics, qr_fairness *fairness_out);
void         qr_fairness_deinit(qr_fairness *fairness);

#endif
