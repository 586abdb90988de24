/* Closed forms where there are, else the paired bootstrap with a fixed seed. */
#include "bench/common/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "base/median.h"
#include "base/rng.h"
#include "bench/common/portable_math.h"

/* ---- Student's t ---- */

double qr_student_975(uint64_t degrees)
{
    static const double table[] = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281};
    if (degrees <= sizeof table / sizeof *table) return table[degrees > 0 ? degrees - 1 : 0];
    /* Abramowitz and Stegun 26.7.5, exact to 0.0005 from 10 degrees on */
    const double z = 1.959964, n = (double)degrees, z3 = z * z * z, z5 = z3 * z * z;
    const double second = (5 * z5 + 16 * z3 + 3 * z) / 96;
    const double third  = (3 * z5 * z * z + 19 * z5 + 17 * z3 - 15 * z) / 384;
    return z + (z3 + z) / (4 * n) + second / (n * n) + third / (n * n * n);
}

qr_interval qr_interval_of_mean(const double *values, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    const double mean = sum / (double)n;
    if (n < 2) return (qr_interval){mean, NAN, NAN};
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    const double half = qr_student_975(n - 1) * sqrt(squares / (double)(n - 1) / (double)n);
    return (qr_interval){mean, mean - half, mean + half};
}

qr_interval qr_interval_of_share(double met, double n)
{
    if (!(n > 0)) return (qr_interval){NAN, NAN, NAN};
    const double z = 1.959964, p = met / n, middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    const double half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return (qr_interval){p, fmax(0, middle - half), fmin(1, middle + half)};
}

qr_trend qr_trend_of(const double *x, const double *y, size_t n)
{
    double mean_x = 0, mean_y = 0, sxx = 0, sxy = 0, rest = 0;
    for (size_t i = 0; i < n; i++) {
        mean_x += x[i] / (double)n;
        mean_y += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        sxx += (x[i] - mean_x) * (x[i] - mean_x);
        sxy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    const double slope = sxy / sxx;
    for (size_t i = 0; i < n; i++) {
        const double residual = y[i] - mean_y - slope * (x[i] - mean_x);
        rest += residual * residual;
    }
    return (qr_trend){slope, qr_student_975(n - 2) * sqrt(rest / (double)(n - 2) / sxx)};
}

/* ---- ratios ---- */

static double total(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum;
}

static bool all_positive(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(values[i] > 0)) return false;
    return true;
}

/* The ratio of resample r. Every draw is a function of (r, i), so that all metrics resample the same pairs. */
static double resampled_ratio(const double *a, const double *b, size_t n, uint64_t r)
{
    enum { SEED = 20240229 };
    double sum_a = 0, sum_b = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t pair = qr_random_below(SEED, r, i, (uint32_t)n);
        sum_a += a[pair];
        sum_b += b[pair];
    }
    return sum_b / sum_a;
}

/* Paired bootstrap (Efron and Tibshirani 1993, chapter 13), percentile interval. The percentiles are expanded as in
 * Hesterberg 2015 (The American Statistician 69:4, section on small samples): the plain ones are too narrow by the
 * factor t sqrt(n / (n - 1)) / z when n is small. */
static qr_interval bootstrap(const double *a, const double *b, size_t n)
{
    qr_interval   out    = {total(b, n) / total(a, n), NAN, NAN};
    double *const ratios = malloc(QR_BOOTSTRAP_RESAMPLES * sizeof *ratios);
    if (ratios == NULL) return out;
    for (uint64_t r = 0; r < QR_BOOTSTRAP_RESAMPLES; r++) ratios[r] = resampled_ratio(a, b, n, r);
    qr_sort(ratios, QR_BOOTSTRAP_RESAMPLES);
    const double z    = qr_student_975(n - 1) * sqrt((double)n / (double)(n - 1));
    const double tail = 0.5 * erfc(z / sqrt(2));
    out.low           = qr_quantile(ratios, QR_BOOTSTRAP_RESAMPLES, tail);
    out.high          = qr_quantile(ratios, QR_BOOTSTRAP_RESAMPLES, 1 - tail);
    free(ratios);
    return out;
}

static qr_interval log_ratio_interval(const double *a, const double *b, size_t n)
{
    double      logs[QR_BOOTSTRAP_MIN_PAIRS];
    qr_interval out = {total(b, n) / total(a, n), NAN, NAN};
    for (size_t i = 0; i < n; i++) logs[i] = qr_portable_log(b[i] / a[i]);
    const qr_interval mean = qr_interval_of_mean(logs, n);
    out.low                = out.value * qr_portable_exp(mean.low - mean.value);
    out.high               = out.value * qr_portable_exp(mean.high - mean.value);
    return out;
}

qr_interval qr_interval_of_paired_ratio(const double *a, const double *b, size_t n)
{
    if (!all_positive(a, n) || !all_positive(b, n)) return (qr_interval){total(b, n) / total(a, n), NAN, NAN};
    return n < QR_BOOTSTRAP_MIN_PAIRS ? log_ratio_interval(a, b, n) : bootstrap(a, b, n);
}

/* Variance estimates recovered from the two intervals, on the log scale (Donner and Zou 2012). */
static double root_of_squares(double x, double y) { return sqrt(x * x + y * y); }

qr_interval qr_interval_of_ratio(const qr_interval *a, const qr_interval *b)
{
    const double ratio = b->value / a->value;
    if (!(a->low > 0) || !(b->low > 0)) return (qr_interval){ratio, NAN, NAN};
    const double down = root_of_squares(qr_portable_log(b->value / b->low), qr_portable_log(a->high / a->value));
    const double up   = root_of_squares(qr_portable_log(b->high / b->value), qr_portable_log(a->value / a->low));
    return (qr_interval){ratio, ratio * qr_portable_exp(-down), ratio * qr_portable_exp(up)};
}

/* ---- sequential test ---- */

/* log of the mean over theta_j of the likelihood ratio theta_j : target, with theta_j in the middles of GRID equal
 * parts of (from, to). Under the target it is a martingale with mean 1, so it ever reaches 1 / alpha with probability
 * alpha (Ville 1939; Robbins 1970, mixtures of likelihood ratios). */
static double log_mixture(const qr_sequential_test *t, double from, double to)
{
    enum { GRID = 128 };
    double logs[GRID], most = -INFINITY, sum = 0;
    for (int j = 0; j < GRID; j++) {
        const double theta = from + (to - from) * (j + 0.5) / GRID;
        logs[j]            = (double)t->met * qr_portable_log(theta / t->target) +
                  (double)t->missed * qr_portable_log((1 - theta) / (1 - t->target));
        most = fmax(most, logs[j]);
    }
    for (int j = 0; j < GRID; j++) sum += qr_portable_exp(logs[j] - most);
    return most + qr_portable_log(sum / GRID);
}

qr_decision qr_sequential_decide(const qr_sequential_test *t)
{
    const double enough = -qr_portable_log(1 - t->confidence);
    if (log_mixture(t, t->target, 1) >= enough) return QR_ABOVE;
    if (log_mixture(t, 0, t->target) >= enough) return QR_BELOW;
    return QR_UNDECIDED;
}
