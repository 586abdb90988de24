/* Splits latencies by cause, and averages the splits around a percentile. */
#include "bench/result/attribution.h"

#include <math.h>
#include <stdlib.h>

static const struct {
    const char *name, *text;
} causes[QR_CAUSES] = {
    [QR_CAUSE_GENERATOR]     = {"generator", "before submission"},
    [QR_CAUSE_QUEUE]         = {"queue", "waiting in the engine"},
    [QR_CAUSE_ENCODER]       = {"encoder", "encoder"},
    [QR_CAUSE_OWN_PREFILL]   = {"own_prefill", "own prefill"},
    [QR_CAUSE_OTHER_PREFILL] = {"other_prefill", "others' prefill"},
    [QR_CAUSE_PROJECTIONS]   = {"projections", "projections"},
    [QR_CAUSE_ATTENTION]     = {"attention", "attention"},
    [QR_CAUSE_ROWWISE]       = {"rowwise", "row-wise work"},
    [QR_CAUSE_SAMPLING]      = {"sampling", "logits and sampling"},
    [QR_CAUSE_SCHEDULER]     = {"scheduler", "scheduler"},
    [QR_CAUSE_BARRIER]       = {"barrier", "barriers"},
    [QR_CAUSE_NETWORK]       = {"network", "exchanges with other ranks"},
    [QR_CAUSE_RECOMPUTE]     = {"recompute", "recompute after preemption"},
    [QR_CAUSE_OTHER]         = {"other", "time outside the stages"},
};

const char *qr_cause_name(qr_cause cause) { return causes[cause].name; }
const char *qr_cause_text(qr_cause cause) { return causes[cause].text; }

/* ---- one step ---- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Takes up to `ns` of what is left of the step's time. */
static void take(qr_split *split, qr_cause cause, int64_t ns, int64_t *left)
{
    const int64_t taken = most(0, least(ns, *left));
    split->ns[cause] += taken;
    *left -= taken;
}

/* Work on rows: the parts of prompts, then `cause` for the others. */
static void take_by_rows(qr_split *split, qr_cause cause, uint64_t ns, const quire_step *step, uint32_t own,
                         int64_t *left)
{
    const double  rows  = step->rows > 0 ? step->rows : 1;
    const double  other = step->rows_prompt > own ? step->rows_prompt - own : 0;
    const double  whole = (double)ns;
    const int64_t mine = (int64_t)(whole * own / rows), theirs = (int64_t)(whole * other / rows);
    take(split, QR_CAUSE_OWN_PREFILL, mine, left);
    take(split, QR_CAUSE_OTHER_PREFILL, theirs, left);
    take(split, cause, (int64_t)ns - mine - theirs, left);
}

/* The first `ns` nanoseconds of a step of which `own` prompt rows are the request's. */
static void split_step(qr_split *split, const quire_step *step, uint32_t own, int64_t ns)
{
    int64_t left = ns;
    take(split, QR_CAUSE_SCHEDULER, (int64_t)step->plan_ns, &left);
    if (step->projection_ns + step->attention_ns + step->encoder_ns == 0) /* a clock that knows no stages */
        take_by_rows(split, QR_CAUSE_PROJECTIONS, step->forward_ns, step, own, &left);
    take(split, QR_CAUSE_ENCODER, (int64_t)step->encoder_ns, &left);
    take_by_rows(split, QR_CAUSE_PROJECTIONS, step->projection_ns, step, own, &left);
    take_by_rows(split, QR_CAUSE_ATTENTION, step->attention_ns, step, own, &left);
    take_by_rows(split, QR_CAUSE_ROWWISE, step->rowwise_ns, step, own, &left);
    take(split, QR_CAUSE_SAMPLING, (int64_t)(step->logits_ns + step->sample_ns), &left);
    take(split, QR_CAUSE_BARRIER, (int64_t)step->barrier_ns, &left);
    take(split, QR_CAUSE_NETWORK, (int64_t)step->network_ns, &left);
    take(split, QR_CAUSE_SCHEDULER, (int64_t)step->commit_ns, &left);
    split->ns[QR_CAUSE_OTHER] += left;
}

/* The first step that starts at `ns` or later. */
static size_t step_at(const qr_run *run, int64_t ns)
{
    size_t low = 0, high = run->step_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((int64_t)run->steps[middle].start_ns < ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The step in which a sequence was first planned: a step begins with what has come in since the last, then plans. */
static size_t step_of_plan(const qr_run *run, int64_t planned_ns)
{
    const size_t after = step_at(run, planned_ns + 1);
    return after > 0 ? after - 1 : 0;
}

/* ---- a latency ---- */

/* Time waiting, by the reasons the scheduler counted for this request in all; `order` where it counted none. NONE is
 * the time in which it ran. */
static void split_queue(qr_split *split, const qr_run_request *request, int64_t ns)
{
    int64_t left = ns;
    double  sum  = 0;
    split->ns[QR_CAUSE_QUEUE] += ns;
    for (int i = QUIRE_WAIT_ORDER; i < QUIRE_WAIT_REASONS; i++) sum += (double)request->wait_ns[i];
    for (int i = QUIRE_WAIT_ORDER; i < QUIRE_WAIT_REASONS && sum > 0; i++) {
        const int64_t part = least(left, (int64_t)((double)ns * (double)request->wait_ns[i] / sum));
        split->queue_ns[i] += part;
        left -= part;
    }
    split->queue_ns[QUIRE_WAIT_ORDER] += left;
}

void qr_split_ttft(const qr_run *run, const qr_run_request *request, qr_split *split_out)
{
    qr_split      *split   = split_out;
    const int64_t  end     = request->first_ns;
    const int64_t  submit  = least(most(request->submit_ns, request->due_ns), end);
    const int64_t  planned = least(most(request->planned_ns, submit), end);
    const uint32_t prompt  = request->shape.prompt_tokens ? request->shape.prompt_tokens : 1;
    uint32_t       own = prompt > request->cached_tokens ? prompt - request->cached_tokens : 1; /* rows still to come */
    int64_t        at  = planned;
    *split             = (qr_split){0};
    split->ns[QR_CAUSE_GENERATOR] = submit - request->due_ns;
    split_queue(split, request, planned - submit);
    for (size_t i = step_of_plan(run, planned); i < run->step_count && (int64_t)run->steps[i].start_ns < end; i++) {
        const quire_step *step  = &run->steps[i];
        const int64_t     start = most((int64_t)step->start_ns, at);
        const int64_t     next  = i + 1 < run->step_count ? least((int64_t)step[1].start_ns, end) : end;
        const uint32_t    mine  = own < step->rows_prompt ? own : step->rows_prompt;
        split->ns[QR_CAUSE_OTHER] += start - at; /* before the first step */
        split_step(split, step, mine, next - start);
        own -= mine;
        at = next;
    }
    split->ns[QR_CAUSE_OTHER] += end - at; /* no step at all */
}

void qr_split_gap(const qr_run *run, const qr_run_gap *gap, qr_split *split_out)
{
    const qr_run_request *request = &run->requests[gap->request];
    const int64_t         begin = gap->end_ns - gap->gap_ns, end = gap->end_ns;
    const size_t          first = step_at(run, begin), after = step_at(run, end);
    *split_out = (qr_split){0};
    if (first == after) { /* several tokens of one step, or no record of it */
        split_out->ns[QR_CAUSE_OTHER] = gap->gap_ns;
        return;
    }
    const int64_t earliest = (int64_t)run->steps[first].start_ns, last = (int64_t)run->steps[after - 1].start_ns;
    split_out->ns[QR_CAUSE_OTHER] += earliest - begin;
    const bool recomputed = request->preemptions > 0 && after - first > 1;
    if (recomputed)
        split_out->ns[QR_CAUSE_RECOMPUTE] += last - earliest;
    else
        split_queue(split_out, request, last - earliest);
    split_step(split_out, &run->steps[after - 1], recomputed ? run->steps[after - 1].rows_prompt : 0, end - last);
    split_out->ns[QR_CAUSE_RECOMPUTE] += split_out->ns[QR_CAUSE_OWN_PREFILL];
    split_out->ns[QR_CAUSE_OWN_PREFILL] = 0;
}

/* ---- bands ---- */

typedef struct ranked {
    int64_t ns;
    size_t  index;
} ranked;

static int compare_ranked(const void *left, const void *right)
{
    const ranked *a = left, *b = right;
    return a->ns != b->ns ? (a->ns > b->ns) - (a->ns < b->ns) : (a->index > b->index) - (a->index < b->index);
}

static bool in_window(const qr_run *run, int64_t ns) { return ns >= run->window_start_ns && ns <= run->window_end_ns; }

static size_t rank_ttft(const qr_run *run, ranked *to)
{
    size_t count = 0;
    for (size_t i = 0; i < run->request_count; i++)
        if (run->requests[i].first_ns >= 0 && in_window(run, run->requests[i].first_ns))
            to[count++] = (ranked){run->requests[i].first_ns - run->requests[i].due_ns, i};
    return count;
}

static size_t rank_gaps(const qr_run *run, ranked *to)
{
    size_t count = 0;
    for (size_t i = 0; i < run->gap_count; i++)
        if (in_window(run, run->gaps[i].end_ns)) to[count++] = (ranked){run->gaps[i].gap_ns, i};
    return count;
}

static void add_split(qr_band *band, const qr_split *split)
{
    for (int c = 0; c < QR_CAUSES; c++) band->ms[c] += (double)split->ns[c] * 1e-6;
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++) band->queue_ms[i] += (double)split->queue_ns[i] * 1e-6;
    band->samples++;
}

static void average(const qr_run *run, qr_latency latency, const ranked *samples, size_t count, double percentile,
                    qr_band *band)
{
    const double width = fmin(5, (100 - percentile) / 2), last = (double)(count - 1);
    const size_t from = (size_t)fmax(0, ceil((percentile - width) / 100 * last - 1e-9));
    const size_t to   = (size_t)fmax((double)from, fmin(last, floor((percentile + width) / 100 * last + 1e-9)));
    for (size_t i = from; i <= to; i++) {
        qr_split split;
        if (latency == QR_LATENCY_TTFT)
            qr_split_ttft(run, &run->requests[samples[i].index], &split);
        else
            qr_split_gap(run, &run->gaps[samples[i].index], &split);
        add_split(band, &split);
    }
    for (int c = 0; c < QR_CAUSES; c++) band->ms[c] /= (double)band->samples;
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++) band->queue_ms[i] /= (double)band->samples;
}

bool qr_band_of(const qr_run *run, qr_latency latency, double percentile, qr_band *band_out)
{
    const size_t most_samples = latency == QR_LATENCY_TTFT ? run->request_count : run->gap_count;
    ranked      *samples      = malloc((most_samples + 1) * sizeof *samples);
    *band_out                 = (qr_band){0};
    if (samples == NULL) return false;
    const size_t count = latency == QR_LATENCY_TTFT ? rank_ttft(run, samples) : rank_gaps(run, samples);
    qsort(samples, count, sizeof *samples, compare_ranked);
    if (count > 0) average(run, latency, samples, count, percentile, band_out);
    free(samples);
    return count > 0;
}

qr_cause qr_band_main_cause(const qr_band *band, double *share_out)
{
    qr_cause cause = QR_CAUSE_GENERATOR;
    double   sum   = 0;
    for (int c = 0; c < QR_CAUSES; c++) {
        sum += band->ms[c];
        if (band->ms[c] > band->ms[cause]) cause = (qr_cause)c;
    }
    *share_out = sum > 0 ? band->ms[cause] / sum : 0;
    return cause;
}
