/* A run as Prometheus text, version 0.0.4, rewritten each second while it lasts: for a node exporter's textfile folder,
 * or to look at. Names are those of vLLM with our prefix. docs/BENCHMARKING.md, Prometheus.
 *
 * Counters grow over the repetitions of one engine. Every function does nothing for NULL. */
#ifndef QR_BENCH_PROMETHEUS_H
#define QR_BENCH_PROMETHEUS_H

#include <stdbool.h>
#include <stdio.h>

#include "quire/quire.h"

typedef struct qr_prometheus qr_prometheus;

typedef enum qr_prometheus_histogram {
    QR_PROMETHEUS_TTFT,
    QR_PROMETHEUS_ITL,
    QR_PROMETHEUS_TPOT,
    QR_PROMETHEUS_E2E,
    QR_PROMETHEUS_QUEUE,
    QR_PROMETHEUS_STEP,
    QR_PROMETHEUS_ROWS,
    QR_PROMETHEUS_HISTOGRAMS, /* how many */
} qr_prometheus_histogram;

/* `path` is borrowed. NULL: out of memory. */
qr_prometheus *qr_prometheus_create(const char *path);
void           qr_prometheus_destroy(qr_prometheus *metrics);

/* Seconds, or rows. Thread: any. */
void qr_prometheus_observe(qr_prometheus *metrics, qr_prometheus_histogram histogram, double value);
void qr_prometheus_step(qr_prometheus *metrics, const quire_step *step); /* Thread: any */
void qr_prometheus_finished(qr_prometheus *metrics, quire_finish finish);
void qr_prometheus_refused(qr_prometheus *metrics, quire_status status);

/* From now on steps are compared with the roofline: `floor_s` says how long a step takes at least, NAN for one
 * that is not compared. `context` is borrowed as long as steps come. */
typedef struct qr_prometheus_roofline {
    double (*floor_s)(const void *context, const quire_step *step);
    const void *context;
} qr_prometheus_roofline;
void qr_prometheus_compare(qr_prometheus *metrics, const qr_prometheus_roofline *roofline);

/* Rewrites the file. One that cannot be written is no error here: the end of the run writes it once more. */
bool qr_prometheus_is_due(const qr_prometheus *metrics, int64_t now_ns); /* a second after the last time */
void qr_prometheus_refresh(qr_prometheus *metrics, const quire_stats *stats, int64_t now_ns);

/* What the last refresh saw. False: the file does not take it. */
bool qr_prometheus_write(qr_prometheus *metrics, FILE *to);

#endif
