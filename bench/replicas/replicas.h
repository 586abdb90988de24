/* Several replicas of a simulated engine (bench/run/simulated.h) behind a router, on one virtual clock. Each replica
 * brings a copy of the workload with tokens of its own, and all copies go through the one router: the load per replica
 * is the same at any number of them. A copy begins at another place of the workload and wraps around, so that bursts of
 * different copies do not meet. */
#ifndef QR_BENCH_REPLICAS_H
#define QR_BENCH_REPLICAS_H

#include "bench/common/percentiles.h"
#include "bench/replicas/router.h"
#include "bench/workload/workload.h"

enum { QR_MAX_REPLICAS = 4096 };

typedef struct qr_replicas_options {
    const quire_config     *config;
    const quire_model_info *model;
    uint32_t                count;
    qr_routing              routing;
    uint32_t                slack;
} qr_replicas_options;

enum { QR_REPLICAS_P50, QR_REPLICAS_P90, QR_REPLICAS_P99, QR_REPLICAS_PERCENTILES };

typedef struct qr_replicas_result {
    uint64_t   requests, refused, prompt_tokens, cached_tokens, output_tokens, preemptions, steps, extrapolated;
    double     length_s;      /* until the last token */
    double     busy_share;    /* mean over the replicas */
    double     most_requests; /* of one replica, relative to their mean */
    qr_summary ttft, tpot;    /* s; percentiles as in the enum */
    double     wall_s;        /* that the simulation took */
    uint64_t   hash;          /* of all decisions of all replicas */
} qr_replicas_result;

/* ERR_INVALID: a workload without times of its own, and all that a simulated engine refuses. ERR_NO_MEMORY. */
quire_status qr_replicas_run(const qr_replicas_options *options, qr_replicas_result *result_out, quire_error *error);

#endif
