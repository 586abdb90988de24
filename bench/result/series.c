/* Sums tokens and steps into the intervals, then turns sums into rates and means. */
#include "bench/result/series.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_INTERVALS = 240 };

typedef struct interval {
    double output, input, preempted;   /* counts */
    double running, waiting, kv_bytes; /* sums over `steps` */
    double steps;
} interval;

/* The smallest of 1, 2, 5, 10, ... hundredths of a second that gives at most MOST_INTERVALS. */
static double interval_length(double length_s)
{
    static const double steps[] = {1, 2, 5};
    for (int i = 0;; i++) {
        const int    decade = i / 3;
        const double dt     = 0.01 * steps[i % 3] * pow(10, decade);
        if (dt * MOST_INTERVALS >= length_s) return dt;
    }
}

static size_t index_of(int64_t t_ns, double dt_s, size_t count)
{
    const double at = (double)t_ns * 1e-9 / dt_s;
    if (at < 0) return 0;
    return at < (double)count ? (size_t)at : count - 1;
}

static void collect(const qr_run *run, double dt_s, interval *to, size_t count)
{
    for (size_t i = 0; i < run->token_count; i++) to[index_of(run->tokens[i], dt_s, count)].output++;
    for (size_t i = 0; i < run->step_count; i++) {
        const quire_step *step = &run->steps[i];
        interval         *at   = &to[index_of((int64_t)step->start_ns, dt_s, count)];
        at->input += step->rows_prompt + step->rows_encoder;
        at->preempted += step->preempted;
        at->running += step->running;
        at->waiting += step->waiting;
        at->kv_bytes += (double)step->kv_used_bytes;
        at->steps++;
    }
}

/* Turns sums into means; an interval without a step keeps the state of the one before. */
static void average(interval *intervals, size_t count)
{
    interval last = {0};
    for (size_t i = 0; i < count; i++) {
        interval *at = &intervals[i];
        if (at->steps > 0)
            last = (interval){.running  = at->running / at->steps,
                              .waiting  = at->waiting / at->steps,
                              .kv_bytes = at->kv_bytes / at->steps};
        at->running  = last.running;
        at->waiting  = last.waiting;
        at->kv_bytes = last.kv_bytes;
    }
}

static void append(json_t *to, double value) { json_array_append_new(to, json_real(round(value * 1e4) / 1e4)); }

json_t *qr_series_json(const qr_run *run)
{
    const double length = (double)run->end_ns * 1e-9, dt = interval_length(length);
    const double kv_bytes = run->after.kv_cache_bytes ? (double)run->after.kv_cache_bytes : 1;
    const size_t count    = (size_t)ceil(length / dt) + 1;
    interval    *all      = calloc(count, sizeof *all);
    if (all == NULL) return NULL;
    collect(run, dt, all, count);
    average(all, count);
    json_t *output = json_array(), *input = json_array(), *running = json_array(), *waiting = json_array(),
           *kv = json_array(), *preemptions = json_array();
    for (size_t i = 0; i < count; i++) {
        append(output, all[i].output / dt);
        append(input, all[i].input / dt);
        append(running, all[i].running);
        append(waiting, all[i].waiting);
        append(kv, all[i].kv_bytes / kv_bytes);
        append(preemptions, all[i].preempted);
    }
    free(all);
    if (run->is_remote) { /* the others are those of steps */
        json_t *const others[] = {input, running, waiting, kv, preemptions};
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) json_decref(others[i]);
        return json_pack("{s:f, s:o}", "dt_s", dt, "output_tokens", output);
    }
    return json_pack("{s:f, s:o, s:o, s:o, s:o, s:o, s:o}", "dt_s", dt, "output_tokens", output, "input_tokens", input,
                     "running", running, "waiting", waiting, "kv_usage", kv, "preemptions", preemptions);
}
