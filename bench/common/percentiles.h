/* Percentiles and distributions: exact, from all samples, by linear interpolation. */
#ifndef QR_BENCH_PERCENTILES_H
#define QR_BENCH_PERCENTILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The quantile p (0..1) of sorted samples, n >= 1, by linear interpolation (NumPy's default). */
double qr_quantile(const double *sorted, uint64_t n, double p);

enum { QR_MAX_PERCENTILES = 12, QR_CURVE_POINTS = 104 };

/* A distribution: exact percentiles from all samples, by linear interpolation (NumPy's default). */
typedef struct qr_summary {
    uint64_t n;
    double   mean, stdev, min, max;
    double   p[QR_MAX_PERCENTILES];   /* NAN above P50 where n < 10 / (1 - p) */
    double   any[QR_MAX_PERCENTILES]; /* the same, however few samples there are; NAN: none */
    /* 95 % interval by order statistics; NAN where n samples cannot hold one */
    double low[QR_MAX_PERCENTILES], high[QR_MAX_PERCENTILES];
    double curve[QR_CURVE_POINTS]; /* quantiles at qr_curve_percentile(i), for pictures; NAN: fewer than one sample
                                    * lies beyond */
} qr_summary;

/* Sorts `samples`; `percentiles` in 0..100. */
void qr_summary_of(double *samples, uint64_t n, const double *percentiles, size_t count, qr_summary *summary_out);

/* 0, 1, ..., 99, 99.5, 99.9, 99.99, 100. */
double qr_curve_percentile(size_t index);

#endif
