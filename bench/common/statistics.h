/* Intervals: Student's t, the ratio of two measurements, a proportion tested while it is observed. */
#ifndef QR_BENCH_STATISTICS_H
#define QR_BENCH_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/common/percentiles.h"

/* The 97.5 % quantile of Student's t; degrees >= 1. */
double qr_student_975(uint64_t degrees);

/* A value with its 95 % interval; NAN: not known. */
typedef struct qr_interval {
    double value, low, high;
} qr_interval;

/* Mean of values[n] with its t-interval; n >= 1, with n = 1 the bounds are NAN. */
qr_interval qr_interval_of_mean(const double *values, size_t n);

/* The share of `met` among `n`, with Wilson's interval (1927). */
qr_interval qr_interval_of_share(double met, double n);

/* Least-squares slope of y over x, and the half width of its 95 % t-interval; n >= 3. */
typedef struct qr_trend {
    double slope, half;
} qr_trend;

qr_trend qr_trend_of(const double *x, const double *y, size_t n);

enum { QR_BOOTSTRAP_RESAMPLES = 10000, QR_BOOTSTRAP_MIN_PAIRS = 6 };

/* mean(b) / mean(a) of the pairs (a[i], b[i]), n >= 2. From QR_BOOTSTRAP_MIN_PAIRS on by the paired bootstrap, with a
 * fixed seed; with fewer by the t-interval of log(b / a), because resampling n pairs cannot leave their range, which
 * covers 1 - 2^(1-n) only: 75 % of three. Bounds are NAN where a value is not positive. */
qr_interval qr_interval_of_paired_ratio(const double *a, const double *b, size_t n);

/* b / a of two independent values with intervals. */
qr_interval qr_interval_of_ratio(const qr_interval *a, const qr_interval *b);

/* ---- a proportion, decided as early as possible ---- */

/* Tests whether the probability behind a series of outcomes is above or below `target`. The decision may be asked for
 * after every outcome: a wrong one has probability at most 1 - confidence over the whole series. */
typedef struct qr_sequential_test {
    double   target, confidence; /* 0 < target < 1 */
    uint64_t met, missed;
} qr_sequential_test;

typedef enum qr_decision { QR_UNDECIDED = 0, QR_ABOVE = 1, QR_BELOW = -1 } qr_decision;

qr_decision qr_sequential_decide(const qr_sequential_test *test);

#endif
