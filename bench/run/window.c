/* Decides from the clock and from what the watch (watch.h) sees. */
#include "bench/run/window.h"

#include <string.h>

#define SECOND INT64_C(1000000000)

/* Everything is due at once, and no more comes: the first second is as good as any other. */
static bool is_one_batch(const quire_config *config)
{
    return strcmp(quire_config_string(config, "load.profile"), "throughput") == 0 &&
           quire_config_integer(config, "workload.num_prompts") > 0;
}

void qr_window_init(qr_window *w, const qr_target *target, const quire_config *config, bool is_open_loop, qr_run *run)
{
    *w = (qr_window){.target          = target,
                     .run             = run,
                     .warmup_mode     = quire_config_string(config, "run.warmup.mode"),
                     .warmup_min_ns   = quire_config_integer(config, "run.warmup.min"),
                     .warmup_max_ns   = quire_config_integer(config, "run.warmup.max"),
                     .warmup_slope    = quire_config_number(config, "run.warmup.slope"),
                     .duration_ns     = quire_config_integer(config, "run.duration"),
                     .grace_ns        = quire_config_integer(config, "run.grace"),
                     .is_open_loop    = is_open_loop,
                     .stop_overloaded = quire_config_boolean(config, "run.stop_overloaded")};
    if (is_one_batch(config)) w->warmup_mode = "none";
    run->steady = true;
    qr_watch_start(&w->watch, target->is_simulated, target->is_remote);
}

/* True when the warm-up is over; sets run->steady. */
static bool is_warm(qr_window *w, int64_t now)
{
    if (w->duration_ns == 0 || strcmp(w->warmup_mode, "none") == 0) return true;
    if (now < w->warmup_min_ns) return false;
    if (strcmp(w->warmup_mode, "duration") == 0) return true;
    if (strcmp(w->warmup_mode, "requests") == 0) return w->run->ended >= 1;
    w->run->steady = qr_watch_is_steady(w->run, now, w->warmup_slope);
    return w->run->steady || now >= w->warmup_max_ns;
}

static void open_window(qr_window *w, int64_t now)
{
    w->is_open              = true;
    w->run->window_start_ns = w->duration_ns > 0 ? now : 0;
    qr_watch_window_starts(&w->watch, w->run);
    w->target->stats(w->target->self, &w->run->stats_first);
}

static void close_window(qr_window *w)
{
    if (w->is_closed) return;
    w->is_closed = true;
    qr_watch_window_ends(&w->watch, w->run);
    w->target->stats(w->target->self, &w->run->stats_last);
}

int64_t qr_window_end_ns(const qr_window *w)
{
    return w->is_open && w->duration_ns > 0 ? w->run->window_start_ns + w->duration_ns : INT64_MAX;
}

void qr_window_pass(qr_window *w, int64_t now)
{
    if (!w->is_open && is_warm(w, now)) open_window(w, now);
    if (now >= qr_window_end_ns(w)) close_window(w);
}

bool qr_window_is_past_grace(const qr_window *w, int64_t now)
{
    const int64_t end = qr_window_end_ns(w);
    return now >= end && now - end >= w->grace_ns;
}

bool qr_window_watch(qr_window *w, int64_t now, double load)
{
    if (!qr_watch_second(&w->watch, w->run, now, load) || !w->is_open || !w->is_open_loop) return false;
    if (now - SECOND >= qr_window_end_ns(w)) return false; /* in the grace the load only falls */
    w->run->overloaded |= qr_watch_is_overloaded(&w->watch, w->run, now);
    return w->run->overloaded && w->stop_overloaded && !w->is_closed;
}

void qr_window_finish(qr_window *w, int64_t now)
{
    const int64_t end     = qr_window_end_ns(w);
    w->run->end_ns        = now;
    w->run->window_end_ns = end < now ? end : now;
    close_window(w);
}

void qr_window_judge(qr_window *w) { w->run->overloaded |= w->is_open_loop && qr_watch_is_swamped(w->run); }
