/* A result: context, model, engine, configuration, validity, the metrics of each repetition, their aggregate. */
#ifndef QR_BENCH_RESULT_H
#define QR_BENCH_RESULT_H

#include <time.h>

#include "bench/result/metrics.h"
#include "bench/run/prometheus.h"
#include "bench/run/target_http.h"
#include "bench/run/target_virtual.h"

enum { QR_MAX_REPETITIONS = 64, QR_MAX_LIMITS = QR_MAX_REPETITIONS + 1, QR_MAX_CHECKS = 24 };

typedef struct qr_check {
    const char *id;
    bool        ok, invalid; /* invalid: failing it makes the result INVALID; else a warning */
    double      value;
    const char *unit; /* of the value: "%", "ms", "requests", ...; "" for yes (1) and no (0) */
    char        need[48], hint[160];
} qr_check;

typedef struct qr_result {
    const quire_config *config;
    quire_model_info    model; /* its strings are the two below */
    char                model_name[512], architecture[32];
    quire_stats         engine;
    const char         *profile, *source; /* load.profile, "preset" or "folder" */
    int                 argc;
    char              **argv;
    const char         *git; /* revision of the tool; NULL: unknown */
    time_t              started, finished;
    double              loadavg[3]; /* when it began; < 0: unknown */
    uint64_t            seed;
    qr_metrics          runs[QR_MAX_REPETITIONS];
    qr_run              records[QR_MAX_REPETITIONS]; /* for the logs; owned */
    uint32_t            run_count;
    qr_check            checks[QR_MAX_CHECKS];
    uint32_t            check_count;
    quire_limits        limits[QR_MAX_LIMITS]; /* before, between and after the repetitions */
    uint32_t            limit_count;
    bool                partial;
    bool                is_virtual; /* times are those of a cost model */
    qr_cost_report      cost;       /* virtual clock */
    bool                is_remote;  /* measured a server: what it is like inside is not known */
    qr_http_facts       server;
    qr_http_counts      answers;                  /* of it, in all repetitions, warm-ups included */
    const char         *requests_log, *steps_log; /* written beside the result, or NULL */
    qr_prometheus      *prometheus;               /* borrowed; NULL: not asked for */
} qr_result;

/* Decides whether the result is valid: fills checks. */
void   qr_result_validate(qr_result *result);
bool   qr_build_is_release(void);
double qr_contaminated_s(const qr_run *run); /* seconds of the window that something disturbed */
bool   qr_result_is_valid(const qr_result *result);

void qr_result_destroy(qr_result *result); /* NULL is allowed */

#endif
