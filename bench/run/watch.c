/* See watch.h. */
#include "bench/run/watch.h"

#include <math.h>

#include "bench/common/array.h"
#include "bench/common/statistics.h"

#define SECOND INT64_C(1000000000)

void qr_watch_start(qr_watch *watch, bool is_virtual)
{
    *watch = (qr_watch){.next_ns = SECOND, .is_virtual = is_virtual};
    if (!is_virtual) qr_noise_sample_take("", &watch->previous);
}

bool qr_watch_second(qr_watch *watch, qr_run *run, int64_t now_ns, double load)
{
    qr_noise_sample sample = {0};
    if (now_ns < watch->next_ns) return false;
    if (!watch->is_virtual) qr_noise_sample_take("", &sample);
    const bool contaminated = !watch->is_virtual && qr_noise_is_contaminated(&watch->previous, &sample);
    for (; watch->next_ns <= now_ns; watch->next_ns += SECOND) { /* more than one when a step was long */
        const uint32_t second = (uint32_t)(watch->next_ns / SECOND) - 1;
        if (contaminated) (void)QR_ARRAY_PUSH(run->contaminated, run->contaminated_count, second);
        (void)QR_ARRAY_PUSH(run->load, run->load_count, load);
    }
    watch->previous = sample;
    return true;
}

void qr_watch_window_starts(qr_watch *watch, qr_run *run)
{
    if (watch->has_begun) return;
    watch->has_begun = true;
    if (watch->is_virtual) return;
    qr_noise_sample_take("", &run->noise_first);
    qr_thread_placement_read(&run->placement_first);
}

void qr_watch_window_ends(qr_watch *watch, qr_run *run)
{
    qr_watch_window_starts(watch, run);
    if (watch->has_ended) return;
    watch->has_ended = true;
    if (watch->is_virtual) return;
    qr_noise_sample_take("", &run->noise_last);
    qr_thread_placement_read(&run->placement);
    run->placement.migrations -= run->placement_first.migrations;
}

/* ---- steadiness ---- */

static bool is_flat(const double *y, size_t n, double slope)
{
    double x[QR_STEADY_SECONDS], sum = 0;
    for (size_t i = 0; i < n; i++) x[i] = (double)i, sum += y[i];
    const qr_trend trend   = qr_trend_of(x, y, n);
    const double   allowed = slope * sum / (double)n, growth = fabs(trend.slope) * (double)n;
    return growth <= allowed || fabs(trend.slope) <= trend.half;
}

bool qr_watch_is_steady(const qr_run *run, int64_t now_ns, double slope)
{
    double tokens[QR_STEADY_SECONDS] = {0}, sum = 0;
    if (now_ns < QR_STEADY_SECONDS * SECOND || run->load_count < QR_STEADY_SECONDS) return false;
    for (size_t i = run->token_count; i-- > 0;) {
        const int64_t age = (now_ns - run->tokens[i]) / SECOND;
        if (age >= QR_STEADY_SECONDS) break;
        tokens[QR_STEADY_SECONDS - 1 - age] += 1;
        sum += 1;
    }
    return sum > 0 && is_flat(tokens, QR_STEADY_SECONDS, slope) &&
           is_flat(run->load + run->load_count - QR_STEADY_SECONDS, QR_STEADY_SECONDS, slope);
}

/* ---- over-saturation ---- */

enum { MOST = 2 * QR_SATURATION_SECONDS };

static bool grows(const double *x, const double *y, size_t n)
{
    double sum = 0;
    if (n < QR_SATURATION_SECONDS / 2) return false;
    for (size_t i = 0; i < n; i++) sum += y[i];
    const qr_trend trend = qr_trend_of(x, y, n);
    return trend.slope > trend.half && trend.slope * (x[n - 1] - x[0]) >= 0.5 * sum / (double)n;
}

/* Mean ttft of the first tokens in each of the last `seconds`; those without any are left out. */
static size_t mean_ttft(const qr_run *run, int64_t now_ns, size_t seconds, double *x, double *y)
{
    double sums[MOST] = {0}, counts[MOST] = {0};
    size_t n = 0;
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *r = &run->requests[i];
        if (r->first_ns < 0 || r->due_ns < run->window_start_ns) continue;
        const int64_t age = (now_ns - r->first_ns) / SECOND;
        if (age < 0 || (size_t)age >= seconds) continue;
        sums[seconds - 1 - (size_t)age] += (double)(r->first_ns - r->due_ns);
        counts[seconds - 1 - (size_t)age] += 1;
    }
    for (size_t i = 0; i < seconds; i++) {
        if (counts[i] == 0) continue;
        x[n]   = (double)i;
        y[n++] = sums[i] / counts[i];
    }
    return n;
}

bool qr_watch_is_oversaturated(const qr_run *run, int64_t now_ns)
{
    double       x[MOST], y[MOST];
    const size_t window = (size_t)((now_ns - run->window_start_ns) / SECOND);
    size_t       n      = window < MOST ? window : MOST;
    if (n > run->load_count) n = run->load_count;
    if (n < QR_SATURATION_SECONDS) return false;
    for (size_t i = 0; i < n; i++) x[i] = (double)i;
    if (!grows(x, run->load + run->load_count - n, n)) return false;
    const size_t points = mean_ttft(run, now_ns, n, x, y);
    return grows(x, y, points);
}
