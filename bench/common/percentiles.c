/* Sorts once; a percentile lies between the two samples around its rank. */
#include "bench/common/percentiles.h"

#include <math.h>

#include "base/median.h"

/* ---- order ---- */

double qr_quantile(const double *sorted, uint64_t n, double p)
{
    const double   at    = p * (double)(n - 1);
    const uint64_t below = (uint64_t)at;
    if (below + 1 >= n) return sorted[n - 1];
    return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

/* ---- a distribution ---- */

/* The interval between the order statistics whose ranks are 1.96 binomial deviations around n p. */
static void percentile_interval(const double *sorted, uint64_t n, double p, double *low, double *high)
{
    if (pow(p, (double)n) + pow(1 - p, (double)n) > 0.05) return; /* not even the whole range holds it with 95 % */
    const double   spread = 1.96 * sqrt((double)n * p * (1 - p)), rank = (double)n * p;
    const double   first = floor(rank - spread), last = ceil(rank + spread);
    const uint64_t l = first < 0 ? 0 : (uint64_t)first, h = last >= (double)n ? n - 1 : (uint64_t)last;
    *low  = sorted[l];
    *high = sorted[h];
}

double qr_curve_percentile(size_t index)
{
    static const double tail[] = {99.5, 99.9, 99.99, 100};
    return index < 100 ? (double)index : tail[index - 100];
}

static void fill_curve(const double *sorted, uint64_t n, qr_summary *to)
{
    for (size_t i = 0; i < QR_CURVE_POINTS; i++) {
        const double p       = qr_curve_percentile(i) / 100;
        const bool   visible = p == 1 || (double)n * (1 - p) >= 1;
        to->curve[i]         = visible ? qr_quantile(sorted, n, p) : NAN;
    }
}

void qr_summary_of(double *values, uint64_t n, const double *percentiles, size_t count, qr_summary *summary_out)
{
    qr_summary *to = summary_out;
    *to            = (qr_summary){.n = n, .mean = NAN, .stdev = NAN, .min = NAN, .max = NAN};
    for (size_t i = 0; i < count; i++) to->p[i] = to->any[i] = to->low[i] = to->high[i] = NAN;
    if (n == 0) return;
    qr_sort(values, n);
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; i++) sum += values[i];
    to->mean = sum / (double)n;
    for (uint64_t i = 0; i < n; i++) squares += (values[i] - to->mean) * (values[i] - to->mean);
    to->stdev = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
    to->min   = values[0];
    to->max   = values[n - 1];
    fill_curve(values, n, to);
    for (size_t i = 0; i < count; i++) {
        const double p = percentiles[i] / 100;
        to->any[i]     = qr_quantile(values, n, p);
        if ((double)n * (1 - p) < 10 * (1 - 1e-12) && p > 0.5) continue; /* too few samples in the tail */
        to->p[i] = to->any[i];
        percentile_interval(values, n, p, &to->low[i], &to->high[i]);
    }
}
