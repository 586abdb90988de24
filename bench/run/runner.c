/* Composes a run: generator, target, collector and window around one loop; then drains and verifies. */
#include "bench/run/runner.h"

#include "base/clock.h"
#include "base/error.h"
#include "bench/run/collector.h"
#include "bench/run/progress.h"
#include "bench/run/verify.h"
#include "bench/run/window.h"

typedef struct player {
    const qr_run_options *options;
    const qr_target      *target;
    qr_run               *run;
    qr_generator          generator;
    qr_collector          collector;
    qr_window             window;
    qr_progress           progress;
    uint64_t              start_ns, wall_start_ns; /* on the target's clock, and on the wall's */
} player;

static int64_t now_of(const player *p) { return (int64_t)(p->target->now(p->target->self) - p->start_ns); }

static void take_stats(const player *p, quire_stats *stats) { p->target->stats(p->target->self, stats); }

/* ---- who wants to know ---- */

static int64_t wall_ns_of(const player *p) { return (int64_t)(qr_now_ns() - p->wall_start_ns); }

/* Shown by the wall's clock, whatever clock the run has. */
static void show_progress(player *p, int64_t now)
{
    const int64_t wall_ns = wall_ns_of(p), window_end = qr_window_end_ns(&p->window);
    const int64_t end_ns = p->window.is_closed ? window_end + p->window.grace_ns : window_end;
    quire_stats   stats  = {.size = sizeof stats};
    if (!qr_progress_is_due(&p->progress, wall_ns)) return;
    take_stats(p, &stats);
    stats.tokens_prompt -= p->run->before.tokens_prompt;
    const qr_progress_state state = {.now_ns     = now,
                                     .wall_ns    = wall_ns,
                                     .end_ns     = end_ns < INT64_MAX ? end_ns : 0,
                                     .done       = p->run->ended,
                                     .total      = qr_workload_count(p->options->workload),
                                     .warm       = p->window.is_open,
                                     .closed     = p->window.is_closed,
                                     .is_virtual = p->target->is_simulated};
    qr_progress_show(&p->progress, &stats, &state);
}

static void show_verification(void *context, uint32_t done, uint32_t total)
{
    player *const p = context;
    qr_progress_show_verification(&p->progress, wall_ns_of(p), done, total);
}

static void refresh_prometheus(const player *p, int64_t now)
{
    quire_stats stats = {.size = sizeof stats};
    if (!qr_prometheus_is_due(p->options->prometheus, now)) return;
    take_stats(p, &stats);
    qr_prometheus_refresh(p->options->prometheus, &stats, now);
}

static bool is_stop_wanted(const player *p, int64_t now)
{
    const qr_run_stop *stop = p->options->stop;
    return p->window.is_open && stop != NULL && stop->is_wanted(stop->context, p->run, now);
}

/* ---- the loop ---- */

/* What ended makes room for what is due, at once. In simulated time the answer to an event comes with the next moment:
 * as in the real one, the next step does not wait for it. */
static quire_status take_and_submit(player *p)
{
    if (p->target->is_simulated) {
        QR_TRY(qr_generator_submit_due(&p->generator));
        return qr_collector_take_events(&p->collector, p->target);
    }
    QR_TRY(qr_collector_take_events(&p->collector, p->target));
    return qr_generator_submit_due(&p->generator);
}

static void close_generator(player *p, int64_t now)
{
    const int64_t end = qr_window_end_ns(&p->window);
    p->run->interrupted |= *p->options->interrupt != 0;
    if (p->run->interrupted)
        qr_generator_close(&p->generator, INT64_MIN);
    else if (now >= end)
        qr_generator_close(&p->generator, end);
}

static bool is_over(player *p, int64_t now)
{
    const qr_generator *g = &p->generator;
    p->run->stopped |= qr_window_watch(&p->window, now, qr_generator_load(g, now));
    p->run->stopped |= is_stop_wanted(p, now);
    return p->run->interrupted || p->run->stopped || qr_window_is_past_grace(&p->window, now) ||
           qr_generator_is_done(g);
}

static quire_status play(player *p, quire_error *error)
{
    for (;;) {
        const int64_t now = now_of(p);
        qr_window_pass(&p->window, now);
        close_generator(p, now);
        QR_TRY(take_and_submit(p));
        show_progress(p, now);
        refresh_prometheus(p, now);
        if (is_over(p, now)) return QUIRE_OK;
        const int64_t until = qr_generator_next_moment(&p->generator, now);
        QR_TRY(p->target->wait(p->target->self, p->start_ns + (uint64_t)until, error));
    }
}

/* ---- before and after ---- */

/* Cancels what is left, so that the next run starts with an empty target. */
static quire_status drain(player *p, quire_error *error)
{
    const qr_target *target = p->target;
    quire_event      events[16];
    uint32_t         ended = p->run->ended;
    for (size_t i = 0; i < p->run->request_count; i++)
        if (p->run->requests[i].id != 0 && p->run->requests[i].end_ns < 0)
            target->cancel(target->self, p->run->requests[i].id);
    for (;;) {
        size_t count; /* first what the cancels left: a planner takes no step before it is read */
        while ((count = target->poll(target->self, events, sizeof events / sizeof *events)) > 0)
            for (size_t i = 0; i < count; i++) ended += events[i].kind == QUIRE_EVENT_FINISHED && events[i].last;
        if (ended >= p->run->request_count) return QUIRE_OK;
        QR_TRY(target->wait(target->self, UINT64_MAX, error));
    }
}

static quire_status prepare(player *p)
{
    const qr_run_options *o = p->options;
    p->run->before.size     = sizeof(quire_stats);
    p->run->after.size      = sizeof(quire_stats);
    take_stats(p, &p->run->before);
    p->run->stats_first = p->run->stats_last = p->run->before;
    qr_progress_init(&p->progress, o->config, o->repetition);
    QR_TRY(qr_generator_init(&p->generator, p->target, o->workload, o->config, o->prometheus, p->run));
    p->collector = (qr_collector){.generator             = &p->generator,
                                  .run                   = p->run,
                                  .prometheus            = o->prometheus,
                                  .sequences_per_request = qr_workload_sequences(o->workload)};
    return QUIRE_OK;
}

static quire_status play_from_start(player *p, quire_error *error)
{
    const qr_step_listener listener = {qr_collector_take_step, qr_collector_take_stages, &p->collector};
    p->wall_start_ns                = qr_now_ns();
    p->start_ns                     = p->target->now(p->target->self);
    p->generator.start_ns = p->collector.start_ns = p->start_ns;
    qr_window_init(&p->window, p->target, p->options->config, p->generator.is_open_loop, p->run);
    QR_TRY(p->target->start(p->target->self, &listener, error));
    const quire_status status = play(p, error);
    qr_window_finish(&p->window, now_of(p));
    qr_generator_count_held_back(&p->generator);
    qr_window_judge(&p->window);
    p->target->stop(p->target->self);
    p->run->wall_s = (double)(qr_now_ns() - p->wall_start_ns) * 1e-9;
    return status;
}

static quire_status execute(player *p, quire_error *error)
{
    QR_TRY(prepare(p));
    const quire_status status = play_from_start(p, error);
    take_stats(p, &p->run->after);
    qr_prometheus_refresh(p->options->prometheus, &p->run->after, p->run->end_ns);
    QR_TRY(status);
    QR_TRY(drain(p, error));
    const qr_verify_watcher watcher = {show_verification, p};
    return p->target->is_simulated ? QUIRE_OK : qr_verify(&p->generator, &watcher, p->options->interrupt, error);
}

quire_status qr_run_execute(const qr_run_options *options, qr_run *run_out, quire_error *error)
{
    quire_error why           = {0};
    player      p             = {.options = options, .target = options->target, .run = run_out};
    *run_out                  = (qr_run){.is_remote = options->target->is_remote};
    const quire_status status = execute(&p, &why);
    qr_progress_end(&p.progress);
    run_out->interrupted |= status != QUIRE_OK;
    qr_generator_deinit(&p.generator);
    qr_collector_deinit(&p.collector);
    if (status == QUIRE_OK) return QUIRE_OK;
    return qr_fail(error, status, "bench: the run stopped: %s",
                   why.message[0] != '\0' ? why.message : quire_status_text(status));
}
