/* Judges the requests of a probe in the order in which they were due, and halves the logarithm of the range. */
#include "bench/capacity.h"

#include <math.h>

/* ---- one probe ---- */

typedef enum fate_kind { FATE_OPEN, FATE_MET, FATE_MISSED } fate_kind;

static fate_kind fate_of(const qr_slo *slo, const qr_run_request *r, int64_t now_ns)
{
    if (r->end_ns >= 0) return qr_slo_is_met(slo, r) ? FATE_MET : FATE_MISSED;
    const double waited_ms = (double)(now_ns - r->due_ns) * 1e-6;
    if (slo->e2el_ms > 0 && waited_ms > slo->e2el_ms) return FATE_MISSED;
    if (slo->ttft_ms > 0 && waited_ms > slo->ttft_ms && r->first_ns < 0) return FATE_MISSED;
    return FATE_OPEN;
}

bool qr_slo_watch_decides(void *context, const qr_run *run, int64_t now_ns)
{
    qr_slo_watch *watch = context;
    for (; watch->next < run->request_count && watch->decision == QR_UNDECIDED; watch->next++) {
        const qr_run_request *r = &run->requests[watch->next];
        if (r->due_ns < run->window_start_ns) continue;
        if (run->window_end_ns > run->window_start_ns && r->due_ns > run->window_end_ns) continue;
        const fate_kind fate = fate_of(&watch->slo, r, now_ns);
        if (fate == FATE_OPEN) break;
        watch->test.met += fate == FATE_MET;
        watch->test.missed += fate == FATE_MISSED;
        if (now_ns - run->window_start_ns < watch->min_span_ns) continue;
        watch->decision = qr_sequential_decide(&watch->test);
        if (watch->decision == QR_ABOVE && !watch->may_pass_early) watch->decision = QR_UNDECIDED;
    }
    return watch->decision != QR_UNDECIDED;
}

bool qr_slo_watch_passes(qr_slo_watch *watch, const qr_run *run)
{
    if (watch->decision != QR_UNDECIDED) return watch->decision == QR_ABOVE;
    for (; watch->next < run->request_count; watch->next++) {
        const qr_run_request *r = &run->requests[watch->next];
        if (r->due_ns < run->window_start_ns || r->due_ns > run->window_end_ns) continue;
        const bool met = r->end_ns >= 0 && qr_slo_is_met(&watch->slo, r);
        watch->test.met += met;
        watch->test.missed += !met;
    }
    watch->test.missed += run->held_back;
    const double judged = (double)(watch->test.met + watch->test.missed);
    return (double)watch->test.met >= watch->test.target * judged;
}

/* ---- the search ---- */

enum { MAX_PROBES = 64 };

typedef struct bisection {
    const qr_capacity_search *search;
    qr_capacity              *out;
    double                    passed[MAX_PROBES]; /* rates that passed, ascending */
    bool                      is_full[MAX_PROBES];
    uint32_t                  passed_count;
} bisection;

/* False: stopped. A pass is pushed, a failure lowers high and drops the passes that it contradicts. */
static bool probe(bisection *b, double rate, bool may_pass_early)
{
    qr_probe p = {.rate = rate};
    if (b->out->probes == MAX_PROBES || !b->search->probe(b->search->context, may_pass_early, &p)) return false;
    b->out->probes++;
    b->out->seconds += p.seconds;
    b->out->requests += p.met + p.missed;
    if (!p.passed) b->out->high = rate;
    while (b->passed_count > 0 && b->passed[b->passed_count - 1] >= rate) b->passed_count--;
    if (p.passed) {
        b->is_full[b->passed_count]  = !p.early;
        b->passed[b->passed_count++] = rate;
    }
    b->out->low = b->passed_count > 0 ? b->passed[b->passed_count - 1] : 0;
    return true;
}

/* One probe closer to the answer; true while there is more to do. */
static bool advance(bisection *b, qr_capacity_outcome *outcome)
{
    const qr_capacity_search *s   = b->search;
    const double              low = b->out->low, high = b->out->high;
    double                    next = sqrt(low * high);
    bool                      full = false;
    if (b->passed_count == 0) /* the ends first: min_rate, then max_rate */
        next = s->min_rate;
    else if (high > s->max_rate)
        next = s->max_rate;
    else if (high <= low * (1 + s->precision))
        next = low, full = true;
    if (b->passed_count == 0 && high <= s->min_rate) return *outcome = QR_CAPACITY_BELOW_MIN, false;
    if (low >= s->max_rate && b->is_full[b->passed_count - 1]) return *outcome = QR_CAPACITY_ABOVE_MAX, false;
    if (low >= s->max_rate) next = low, full = true;
    if (full && b->is_full[b->passed_count - 1]) return *outcome = QR_CAPACITY_FOUND, false;
    if (probe(b, next, !full)) return true;
    return *outcome = QR_CAPACITY_STOPPED, false;
}

void qr_capacity_find(const qr_capacity_search *search, qr_capacity *out)
{
    bisection b = {.search = search, .out = out};
    *out        = (qr_capacity){.high = INFINITY};
    while (advance(&b, &out->outcome)) {
    }
    out->rate = out->low;
}

const char *qr_capacity_outcome_name(qr_capacity_outcome outcome)
{
    static const char *const names[] = {"found", "below min_rate", "above max_rate", "stopped"};
    return names[outcome];
}
