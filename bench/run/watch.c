/* Trends of the load, the output rate and the TTFT; samples of the noise. */
#include "bench/run/watch.h"

#include <math.h>

#include "bench/common/array.h"
#include "bench/common/statistics.h"

#define SECOND INT64_C(1000000000)

static void take_sample(const qr_watch *watch, qr_noise_sample *to)
{
    qr_noise_sample_take("", to);
    if (watch->is_remote) to->own_s = to->busy_s;
}

void qr_watch_start(qr_watch *watch, bool is_virtual, bool is_remote)
{
    *watch = (qr_watch){
        .next_ns = SECOND, .look_s = QR_SATURATION_SECONDS, .is_virtual = is_virtual, .is_remote = is_remote};
    if (!is_virtual) take_sample(watch, &watch->previous);
}

bool qr_watch_second(qr_watch *watch, qr_run *run, int64_t now_ns, double load)
{
    qr_noise_sample sample = {0};
    if (now_ns < watch->next_ns) return false;
    if (!watch->is_virtual) take_sample(watch, &sample);
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
    take_sample(watch, &run->noise_first);
    qr_thread_placement_read(&run->placement_first);
}

void qr_watch_window_ends(qr_watch *watch, qr_run *run)
{
    qr_watch_window_starts(watch, run);
    if (watch->has_ended) return;
    watch->has_ended = true;
    if (watch->is_virtual) return;
    take_sample(watch, &run->noise_last);
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

/* ---- overload ---- */

enum { PARTS = 30 };

/* Of the requests that came: so many more than were served. A trace that merely becomes busier leaves few. */
static const double UNSERVED = 0.1;

typedef struct parts {
    double sum[PARTS], count[PARTS];
} parts;

static void add(parts *to, double at, double of, double value)
{
    const int part = (int)fmin(at / of * PARTS, PARTS - 1);
    to->sum[part] += value;
    to->count[part]++;
}

/* What the values grow by over the window, if by at least half their mean, at least every second part has some and a
 * 95 % interval of the slope is positive; else 0. */
static double growth(const parts *p)
{
    double x[PARTS], y[PARTS], sum = 0;
    size_t n = 0;
    for (int i = 0; i < PARTS; i++) {
        if (p->count[i] == 0) continue;
        x[n]          = i;
        sum += y[n++] = p->sum[i] / p->count[i];
    }
    if (n < PARTS / 2) return 0;
    const qr_trend trend = qr_trend_of(x, y, n);
    const double   grown = trend.slope * PARTS;
    return trend.slope > trend.half && grown >= 0.5 * sum / (double)n ? grown : 0;
}

static double growth_of_load(const qr_run *run, size_t seconds)
{
    parts p = {0};
    for (size_t i = 0; i < seconds; i++) add(&p, (double)i, (double)seconds, run->load[run->load_count - seconds + i]);
    return growth(&p);
}

static double growth_of_ttft(const qr_run *run, int64_t now_ns, double *due_out)
{
    const int64_t start = run->window_start_ns;
    parts         p     = {0};
    *due_out            = 0;
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *r = &run->requests[i];
        if (r->due_ns < start || r->due_ns > now_ns) continue;
        *due_out += 1;
        if (r->first_ns < 0 || r->first_ns > now_ns) continue;
        add(&p, (double)(r->first_ns - start), (double)(now_ns - start), (double)(r->first_ns - r->due_ns));
    }
    return growth(&p);
}

static bool is_falling_behind(const qr_run *run, int64_t now_ns, size_t seconds)
{
    const double load = growth_of_load(run, seconds < run->load_count ? seconds : run->load_count);
    double       due;
    return load > 0 && growth_of_ttft(run, now_ns, &due) > 0 && load >= UNSERVED * due;
}

bool qr_watch_is_overloaded(qr_watch *watch, const qr_run *run, int64_t now_ns)
{
    const int64_t seconds = (now_ns - run->window_start_ns) / SECOND;
    if (seconds < watch->look_s || run->load_count < QR_SATURATION_SECONDS) return false;
    const bool suspected = watch->falls_behind;
    watch->look_s        = seconds * 3 / 2;
    watch->falls_behind  = is_falling_behind(run, now_ns, (size_t)seconds);
    return watch->falls_behind && suspected;
}

typedef struct counts {                          /* of the window */
    double due, ended, answered, begun, waiting; /* answered and waiting: of those due in it */
} counts;

static bool is_in_window(const qr_run *run, int64_t ns)
{
    return ns >= run->window_start_ns && ns <= run->window_end_ns;
}

static bool happened_by(int64_t ns, int64_t end_ns) { return ns >= 0 && ns <= end_ns; }

static counts counts_of(const qr_run *run)
{
    const int64_t end = run->window_end_ns;
    counts        c   = {.due = run->held_back, .waiting = run->held_back};
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *r = &run->requests[i];
        c.begun += is_in_window(run, r->planned_ns);
        c.ended += is_in_window(run, r->end_ns);
        if (!is_in_window(run, r->due_ns)) continue;
        c.due++;
        c.answered += happened_by(r->first_ns, end);
        c.waiting += !happened_by(r->planned_ns, end) && !happened_by(r->end_ns, end);
    }
    return c;
}

bool qr_watch_is_swamped(const qr_run *run)
{
    const counts c       = counts_of(run);
    const double grown   = c.due - c.ended;
    const bool   is_long = run->window_end_ns - run->window_start_ns >= QR_SWAMPED_SECONDS * SECOND;
    if (is_long && grown >= 10 && grown > c.answered) return true;
    return c.waiting >= QR_SWAMPED_REQUESTS && c.waiting >= QR_SWAMPED_TIMES * c.begun;
}
