/* Plays a workload against a target and records what happened. The calling thread is generator and reader. */
#ifndef QR_BENCH_RUNNER_H
#define QR_BENCH_RUNNER_H

#include "bench/run/prometheus.h"
#include "bench/run/run.h"
#include "bench/run/target.h"

/* Asked each time events were taken, once the window has begun; true ends the run, which is not partial for it. */
typedef struct qr_run_stop {
    bool (*is_wanted)(void *context, const qr_run *run, int64_t now_ns);
    void *context;
} qr_run_stop;

typedef struct qr_run_options {
    const qr_target    *target;
    qr_workload        *workload;
    const quire_config *config;
    uint32_t            repetition;
    volatile int       *interrupt;  /* nonzero: end early */
    const qr_run_stop  *stop;       /* NULL: none */
    qr_prometheus      *prometheus; /* NULL: none */
} qr_run_options;

/* ERR_NO_MEMORY, or the target's error. *run_out is valid in any case; deinit it. */
quire_status qr_run_execute(const qr_run_options *options, qr_run *run_out, quire_error *error);

#endif
