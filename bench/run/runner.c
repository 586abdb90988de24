/* See runner.h. The caller's thread is generator and reader; it sleeps to absolute due times. */
#include "bench/run/runner.h"

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/median.h"
#include "bench/common/array.h"
#include "bench/common/statistics.h"
#include "bench/run/progress.h"
#include "bench/run/punctual.h"
#include "bench/run/watch.h"

enum { STAGES_PER_STEP = QR_STAGES_PER_STEP, MOST_STAGES = 1 << 22 };
enum { EVENTS_PER_POLL = 256, IDLE_WAIT_NS = 500000 };

typedef struct sequence_times { /* of one sequence in flight */
    int64_t  first_ns, last_ns;
    uint32_t tokens;
} sequence_times;

typedef struct player {
    const qr_run_options *options;
    quire_engine         *engine;
    qr_virtual           *machine; /* in place of the engine, or NULL */
    qr_run               *run;
    uint64_t              start;      /* of the run, on its clock */
    uint64_t              wall_start; /* virtual clock: of the run, monotonic */
    uint32_t              n;          /* sequences per request */
    sequence_times       *sequences;  /* [request_count * n], grows with requests */
    size_t                sequence_count;
    int32_t              *prompt, *encoder; /* scratch, [max_model_len], [QR_WORKLOAD_MAX_ENCODER] */
    qr_workload_request   next;             /* drawn, not yet submitted */
    int64_t               next_due;
    bool                  have_next;
    uint32_t              submitted, ended, drawn, cap;
    int64_t              *free_since; /* closed loop: [streams] a ring: when the streams that are free now became so */
    uint32_t              streams, first_free, free_count;
    double                verify_fraction;
    int64_t               duration_ns, grace_ns;
    bool                  is_open_loop, stop_oversaturated;
    bool                  closed; /* the window */
    qr_watch              watch;
    qr_progress           progress;
    /* driver */
    uint64_t        stages_lost; /* beyond MOST_STAGES */
    pthread_t       driver;
    pthread_mutex_t mutex;
    pthread_cond_t  work;
    bool            stopping;
} player;

/* ---- the engine, or the machine on the virtual clock ---- */

static int64_t now_of(const player *p)
{
    return (int64_t)((p->machine ? qr_virtual_now_ns(p->machine) : qr_now_ns()) - p->start);
}

static quire_status submit_to(player *p, const quire_request *request, quire_request_id *id_out)
{
    return p->machine ? qr_virtual_submit(p->machine, request, id_out)
                      : quire_engine_submit(p->engine, request, id_out, NULL);
}

static size_t poll_from(player *p, quire_event *events)
{
    return p->machine ? qr_virtual_poll(p->machine, events, EVENTS_PER_POLL)
                      : quire_engine_poll(p->engine, events, EVENTS_PER_POLL);
}

static void cancel_in(player *p, quire_request_id id)
{
    if (p->machine)
        qr_virtual_cancel(p->machine, id);
    else
        quire_engine_cancel(p->engine, id);
}

static void stats_of(const player *p, quire_stats *stats)
{
    if (p->machine)
        qr_virtual_stats(p->machine, stats);
    else
        quire_engine_stats(p->engine, stats);
}

static quire_status keep_step(player *p, quire_step *step)
{
    qr_prometheus_step(p->options->prometheus, step);
    step->start_ns -= p->start;
    return QR_ARRAY_PUSH(p->run->steps, p->run->step_count, *step) ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
}

/* ---- driver thread ---- */

static void wait_for_work(player *p)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += IDLE_WAIT_NS;
    if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
    pthread_mutex_lock(&p->mutex);
    if (!p->stopping) pthread_cond_timedwait(&p->work, &p->mutex, &until);
    pthread_mutex_unlock(&p->mutex);
}

static bool is_stopping(player *p)
{
    pthread_mutex_lock(&p->mutex);
    const bool stopping = p->stopping;
    pthread_mutex_unlock(&p->mutex);
    return stopping;
}

/* The threads' stages of the last step, as far as the engine keeps them. False: out of memory. */
static bool keep_stages(player *p)
{
    quire_stage stages[STAGES_PER_STEP];
    uint64_t    dropped    = 0;
    p->run->stages_dropped = p->stages_lost;
    for (uint32_t thread = 0; thread < p->run->before.threads; thread++) {
        const size_t count = quire_engine_stages(p->engine, thread, stages, STAGES_PER_STEP, &dropped);
        p->run->stages_dropped += dropped;
        for (size_t i = 0; i < count; i++) {
            const qr_run_stage stage = {.start_ns = (int64_t)(stages[i].start_ns - p->start),
                                        .busy_ns  = stages[i].busy_ns,
                                        .wait_ns  = stages[i].wait_ns,
                                        .thread   = (uint16_t)thread,
                                        .kind     = (uint8_t)stages[i].kind,
                                        .encoder  = stages[i].encoder};
            if (p->run->stage_count == MOST_STAGES)
                p->stages_lost++;
            else if (!QR_ARRAY_PUSH(p->run->stages, p->run->stage_count, stage))
                return false;
        }
    }
    return true;
}

static void *drive(void *argument)
{
    player *p = argument;
    while (!is_stopping(p)) {
        quire_step step = {.size = sizeof step};
        p->run->status  = quire_engine_step(p->engine, &step);
        if (p->run->status != QUIRE_OK) break;
        if (step.rows == 0 && step.rows_encoder == 0) {
            wait_for_work(p);
            continue;
        }
        p->run->status = keep_step(p, &step);
        if (p->run->status == QUIRE_OK && !keep_stages(p)) p->run->status = QUIRE_ERR_NO_MEMORY;
        if (p->run->status != QUIRE_OK) break;
    }
    return NULL;
}

static void signal_driver(player *p, bool stop)
{
    pthread_mutex_lock(&p->mutex);
    p->stopping |= stop;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->mutex);
}

/* ---- generator ---- */

static void draw_next(player *p)
{
    p->have_next = p->drawn < qr_workload_count(p->options->workload);
    if (!p->have_next) return;
    qr_workload_next(p->options->workload, &p->next);
    p->next_due = (int64_t)p->next.due_ns;
    p->drawn++;
}

static bool is_chosen(const player *p, uint32_t index)
{
    if (p->verify_fraction <= 0) return false;
    const uint32_t every = p->verify_fraction >= 1 ? 1 : (uint32_t)(1 / p->verify_fraction);
    return index % every == 0;
}

static void make_request(player *p, const qr_workload_request *shape, quire_request *request)
{
    qr_workload_fill(p->options->workload, shape, request);
    qr_workload_prompt(p->options->workload, shape, p->prompt);
    request->prompt = p->prompt;
    if (shape->encoder_tokens > 0) {
        qr_workload_encoder(p->options->workload, shape, p->encoder);
        request->encoder_input = p->encoder;
    }
}

static quire_status record_request(player *p, int64_t due)
{
    qr_run_request record = {.shape          = p->next,
                             .due_ns         = due,
                             .submit_ns      = -1,
                             .planned_ns     = -1,
                             .prompt_done_ns = -1,
                             .first_ns       = -1,
                             .end_ns         = -1,
                             .tpot_ns        = -1};
    if (is_chosen(p, (uint32_t)p->run->request_count)) record.kept = calloc(p->next.output_tokens, sizeof *record.kept);
    if (!QR_ARRAY_PUSH(p->run->requests, p->run->request_count, record)) {
        free(record.kept);
        return QUIRE_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < p->n; i++)
        if (!QR_ARRAY_PUSH(p->sequences, p->sequence_count, (sequence_times){0})) return QUIRE_ERR_NO_MEMORY;
    return QUIRE_OK;
}

/* Submits p->next. ERR_FULL leaves it for later; another refusal is the request's result. */
static quire_status submit_next(player *p, int64_t due)
{
    quire_request    request;
    quire_request_id id;
    make_request(p, &p->next, &request);
    request.user_data            = (void *)(uintptr_t)p->run->request_count;
    const int64_t      submit_ns = now_of(p);
    const quire_status status    = submit_to(p, &request, &id);
    if (status == QUIRE_ERR_FULL) return status;
    QR_TRY(record_request(p, due));
    qr_run_request *record = &p->run->requests[p->run->request_count - 1];
    record->submit_ns      = submit_ns;
    record->id             = status == QUIRE_OK ? id : 0;
    p->submitted++;
    if (status != QUIRE_OK) {
        qr_prometheus_refused(p->options->prometheus, status);
        record->status = status;
        record->finish = QUIRE_FINISH_ERROR;
        record->end_ns = submit_ns;
        p->ended++;
    }
    draw_next(p);
    return QUIRE_OK;
}

/* After the window (`over`) an open loop still submits what was due in it and held back; others are done. */
static bool is_accepting(const player *p, bool over)
{
    if (!p->have_next || p->run->interrupted) return false;
    return !over || (p->is_open_loop && p->next_due <= p->run->window_start_ns + p->duration_ns);
}

/* A closed loop's next request is due when the request before it on its stream ended, not when that was noticed. */
static void free_stream(player *p, int64_t ns)
{
    if (p->free_count < p->streams) p->free_since[(p->first_free + p->free_count++) % p->streams] = ns;
}

static int64_t free_stream_since(const player *p, int64_t now)
{
    return p->free_count > 0 ? p->free_since[p->first_free] : now; /* at the start all are */
}

static void occupy_stream(player *p)
{
    if (p->free_count == 0) return;
    p->first_free = (p->first_free + 1) % p->streams;
    p->free_count--;
}

static quire_status submit_due(player *p, bool over)
{
    const bool closed = p->streams > 0;
    bool       any    = false;
    while (is_accepting(p, over)) {
        const uint32_t in_flight = p->submitted - p->ended;
        const int64_t  now       = now_of(p);
        if (closed ? in_flight >= p->streams : p->next_due > now) break;
        if (p->cap > 0 && in_flight >= p->cap) break;
        const quire_status status = submit_next(p, closed ? free_stream_since(p, now) : p->next_due);
        if (status == QUIRE_ERR_FULL) break;
        QR_TRY(status);
        occupy_stream(p);
        any = true;
    }
    if (any) signal_driver(p, false);
    return QUIRE_OK;
}

/* ---- events ---- */

static quire_status take_token(player *p, const quire_event *event, qr_run_request *record)
{
    const size_t    index = (size_t)(uintptr_t)event->user_data;
    const int64_t   now   = (int64_t)(event->time_ns - p->start);
    sequence_times *times = &p->sequences[index * p->n + event->sequence % p->n];
    if (times->tokens++ == 0) {
        times->first_ns = now;
        if (record->first_ns < 0) {
            record->first_ns = now;
            qr_prometheus_observe(p->options->prometheus, QR_PROMETHEUS_TTFT, (double)(now - record->due_ns) * 1e-9);
        }
    } else {
        const qr_run_gap gap = {.end_ns = now, .gap_ns = now - times->last_ns, .request = (uint32_t)index};
        qr_prometheus_observe(p->options->prometheus, QR_PROMETHEUS_ITL, (double)gap.gap_ns * 1e-9);
        if (!QR_ARRAY_PUSH(p->run->gaps, p->run->gap_count, gap)) return QUIRE_ERR_NO_MEMORY;
    }
    times->last_ns = now;
    record->output_tokens++;
    if (record->kept && event->sequence == 0 && record->kept_count < record->shape.output_tokens)
        record->kept[record->kept_count++] = event->token;
    return QR_ARRAY_PUSH(p->run->tokens, p->run->token_count, now) ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
}

static int64_t since_start(const player *p, uint64_t time_ns) { return time_ns ? (int64_t)(time_ns - p->start) : -1; }

static void tell_of_end(const player *p, const qr_run_request *record)
{
    qr_prometheus *to = p->options->prometheus;
    qr_prometheus_finished(to, record->finish);
    qr_prometheus_observe(to, QR_PROMETHEUS_E2E, (double)(record->end_ns - record->due_ns) * 1e-9);
    if (record->tpot_ns >= 0) qr_prometheus_observe(to, QR_PROMETHEUS_TPOT, record->tpot_ns * 1e-9);
    if (record->planned_ns < 0) return;
    qr_prometheus_observe(to, QR_PROMETHEUS_QUEUE, (double)(record->planned_ns - record->due_ns) * 1e-9);
}

/* P99 of a request's own gaps. They lie between its first token and now, among those of the others. */
static uint64_t own_itl_p99(const player *p, size_t index, const qr_run_request *record)
{
    const qr_run *run    = p->run;
    double *const gaps   = calloc(record->output_tokens + 1, sizeof *gaps);
    size_t        count  = 0;
    double        result = 0;
    for (size_t i = run->gap_count; gaps != NULL && i-- > 0 && run->gaps[i].end_ns >= record->first_ns;)
        if (run->gaps[i].request == index && count < record->output_tokens) gaps[count++] = (double)run->gaps[i].gap_ns;
    qr_sort(gaps, count);
    if (count > 0) result = qr_quantile(gaps, count, 0.99);
    free(gaps);
    return (uint64_t)llround(result);
}

static void take_preemption_intervals(const player *p, const quire_finish_detail *detail, qr_run_request *record)
{
    if (record->preemptions > 0) return; /* another sequence's are there */
    for (uint32_t i = 0; i < QUIRE_KEPT_PREEMPTIONS && i < detail->preemptions; i++)
        record->preemption_intervals[i] =
            (qr_preemption_interval){since_start(p, detail->preemption_intervals[i].from_ns),
                                     since_start(p, detail->preemption_intervals[i].to_ns)};
}

static void take_finish(player *p, const quire_event *event, qr_run_request *record)
{
    const quire_finish_detail *detail = event->detail;
    const size_t               index  = (size_t)(uintptr_t)event->user_data;
    const sequence_times      *times  = &p->sequences[index * p->n + event->sequence % p->n];
    if (times->tokens > 1) {
        const double tpot = (double)(times->last_ns - times->first_ns) / (times->tokens - 1);
        const double done = record->sequences_ended;
        record->tpot_ns   = record->tpot_ns < 0 ? tpot : (record->tpot_ns * done + tpot) / (done + 1);
    }
    record->sequences_ended++;
    record->finish = (quire_finish)event->finish;
    record->status = (quire_status)event->status;
    if (detail != NULL) {
        record->planned_ns     = since_start(p, detail->first_planned_ns);
        record->prompt_done_ns = since_start(p, detail->prompt_done_ns);
        record->cached_tokens  = detail->cached_tokens;
        record->encoder_shared = detail->encoder_shared;
        take_preemption_intervals(p, detail, record);
        record->preemptions += detail->preemptions;
        for (int i = 0; i < QUIRE_WAIT_REASONS; i++) record->wait_ns[i] += detail->wait_ns[i];
    }
    if (event->last) {
        record->end_ns     = (int64_t)(event->time_ns - p->start);
        record->itl_p99_ns = own_itl_p99(p, index, record);
        p->ended++;
        free_stream(p, record->end_ns);
        tell_of_end(p, record);
    }
}

static quire_status take_events(player *p)
{
    quire_event events[EVENTS_PER_POLL];
    size_t      count;
    while ((count = poll_from(p, events)) > 0)
        for (size_t i = 0; i < count; i++) {
            qr_run_request *record = &p->run->requests[(uintptr_t)events[i].user_data];
            if (events[i].kind == QUIRE_EVENT_TOKEN)
                QR_TRY(take_token(p, &events[i], record));
            else
                take_finish(p, &events[i], record);
        }
    return QUIRE_OK;
}

static void wait_for_events(const player *p, int64_t until_ns)
{
    int64_t wait = until_ns - now_of(p);
    if (wait < 0) wait = 0;
    if (wait > 100000000) wait = 100000000;
    const struct timespec timeout = {.tv_nsec = wait};
    struct pollfd         ready   = {.fd = quire_engine_event_fd(p->engine), .events = POLLIN};
    ppoll(&ready, 1, &timeout, NULL);
}

/* When there is something to do without an event: the next request is due, or (full queue, no free slot) worth another
 * try. On the virtual clock only a step frees a place, and it wakes the reader. */
/* What ended makes room for what is due. On the virtual clock its reader answers after a reaction time, in a later
 * round: as on a real machine, the next step does not wait for it. */
static quire_status take_and_submit(player *p, bool over)
{
    if (p->machine == NULL) {
        QR_TRY(take_events(p));
        return submit_due(p, over);
    }
    QR_TRY(submit_due(p, over));
    return take_events(p);
}

static int64_t next_moment(const player *p, int64_t now, bool over)
{
    const bool accepting = is_accepting(p, over);
    if (accepting && p->next_due > now) return p->next_due;
    return now + (p->machine ? 1000000000 : accepting ? 1000000 : 20000000);
}

static quire_status let_time_pass(player *p, int64_t until_ns)
{
    quire_step step = {.size = sizeof step};
    if (p->machine == NULL) {
        wait_for_events(p, until_ns);
        return QUIRE_OK;
    }
    QR_TRY(qr_virtual_advance(p->machine, p->start + (uint64_t)until_ns, &step));
    return step.rows > 0 || step.rows_encoder > 0 ? keep_step(p, &step) : QUIRE_OK;
}

/* Shown by the wall clock, whatever clock the run has. */
static void show_progress(player *p, int64_t now, bool warm)
{
    const int64_t wall_ns = p->machine ? (int64_t)(qr_now_ns() - p->wall_start) : now;
    quire_stats   stats   = {.size = sizeof stats};
    if (!qr_progress_is_due(&p->progress, wall_ns)) return;
    stats_of(p, &stats);
    const qr_progress_state state = {.now_ns  = now,
                                     .wall_ns = wall_ns,
                                     .end_ns  = warm && p->duration_ns ? p->run->window_start_ns + p->duration_ns : 0,
                                     .done    = p->ended,
                                     .total   = qr_workload_count(p->options->workload),
                                     .warm    = warm,
                                     .is_virtual = p->machine != NULL};
    qr_progress_show(&p->progress, &stats, &state);
}

/* ---- warm-up ---- */

/* True when the warm-up is over; sets run->steady. */
static bool is_warm(player *p, int64_t now)
{
    const quire_config *config = p->options->config;
    const char         *mode   = quire_config_string(config, "run.warmup.mode");
    const int64_t       min    = quire_config_integer(config, "run.warmup.min");
    const int64_t       max    = quire_config_integer(config, "run.warmup.max");
    if (p->duration_ns == 0 || (mode != NULL && strcmp(mode, "none") == 0)) return true;
    if (mode != NULL && strcmp(mode, "duration") == 0) return now >= min;
    if (mode != NULL && strcmp(mode, "requests") == 0) return p->ended >= 1 && now >= min;
    if (now < min) return false;
    p->run->steady = qr_watch_is_steady(p->run, now, quire_config_number(config, "run.warmup.slope"));
    return p->run->steady || now >= max;
}

/* ---- the run ---- */

/* Requests due and not ended; a closed loop keeps their number. Those that a full queue holds back are not drawn yet:
 * how many follows from how far the generator is behind. */
static double load_of(const player *p, int64_t now)
{
    if (!p->is_open_loop) return qr_workload_streams(p->options->workload);
    const double behind = p->have_next && now > p->next_due ? (double)(now - p->next_due) : 0;
    return p->submitted - p->ended + (now > 0 ? behind * p->drawn / (double)now : 0);
}

/* True: the run should end, because it cannot keep up. */
static bool watch(player *p, int64_t now, bool warm)
{
    if (!qr_watch_second(&p->watch, p->run, now, load_of(p, now)) || !warm || !p->is_open_loop) return false;
    p->run->oversaturated |= qr_watch_is_oversaturated(&p->watch, p->run, now);
    return p->run->oversaturated && p->stop_oversaturated;
}

static bool is_stop_wanted(const player *p, int64_t now)
{
    const qr_run_stop *stop = p->options->stop;
    return stop != NULL && stop->is_wanted(stop->context, p->run, now);
}

static void refresh_prometheus(const player *p, int64_t now)
{
    quire_stats stats = {.size = sizeof stats};
    if (!qr_prometheus_is_due(p->options->prometheus, now)) return;
    stats_of(p, &stats);
    qr_prometheus_refresh(p->options->prometheus, &stats, now);
}

static void open_window(player *p)
{
    qr_watch_window_starts(&p->watch, p->run);
    stats_of(p, &p->run->stats_first);
}

static void close_window(player *p)
{
    if (p->closed) return;
    p->closed = true;
    qr_watch_window_ends(&p->watch, p->run);
    stats_of(p, &p->run->stats_last);
}

/* Requests due in the window that a full queue or load.max_concurrency kept out to the end. */
static void count_held_back(player *p)
{
    for (; p->is_open_loop && p->have_next && p->next_due <= p->run->window_end_ns; draw_next(p))
        p->run->held_back += p->next_due >= p->run->window_start_ns;
}

static quire_status play(player *p)
{
    qr_run *run  = p->run;
    bool    warm = false;
    draw_next(p);
    for (;;) {
        const int64_t now = now_of(p);
        if (!warm && is_warm(p, now)) {
            warm                 = true;
            run->window_start_ns = p->duration_ns ? now : 0;
            open_window(p);
        }
        const bool over = warm && p->duration_ns > 0 && now >= run->window_start_ns + p->duration_ns;
        if (over) close_window(p);
        const bool late = over && now >= run->window_start_ns + p->duration_ns + p->grace_ns;
        run->interrupted |= *p->options->interrupt != 0;
        QR_TRY(take_and_submit(p, over));
        show_progress(p, now, warm);
        refresh_prometheus(p, now);
        run->stopped |= watch(p, now, warm) || (warm && is_stop_wanted(p, now));
        if (run->status != QUIRE_OK || run->interrupted || run->stopped || late) break;
        if (p->submitted == p->ended && !is_accepting(p, over)) break;
        QR_TRY(let_time_pass(p, next_moment(p, now, over)));
    }
    close_window(p);
    run->end_ns        = now_of(p);
    run->window_end_ns = p->duration_ns > 0 && warm && run->end_ns > run->window_start_ns + p->duration_ns
                             ? run->window_start_ns + p->duration_ns
                             : run->end_ns;
    count_held_back(p);
    return QUIRE_OK;
}

/* ---- verification: a share of the requests again, each alone ---- */

static quire_status decode_alone(player *p, const qr_run_request *record, bool *equal_out)
{
    quire_request    request;
    quire_request_id id;
    quire_event      events[EVENTS_PER_POLL];
    uint32_t         count = 0;
    *equal_out             = true;
    make_request(p, &record->shape, &request);
    quire_engine_flush_cache(p->engine);
    QR_TRY(quire_engine_submit(p->engine, &request, &id, NULL));
    for (;;) {
        quire_step step = {.size = sizeof step};
        QR_TRY(quire_engine_step(p->engine, &step));
        const size_t taken = quire_engine_poll(p->engine, events, EVENTS_PER_POLL);
        for (size_t i = 0; i < taken; i++) {
            if (events[i].request != id) continue;
            if (events[i].kind == QUIRE_EVENT_FINISHED && events[i].last) {
                *equal_out &= count == record->kept_count;
                return QUIRE_OK;
            }
            if (events[i].kind != QUIRE_EVENT_TOKEN || events[i].sequence != 0) continue;
            *equal_out &= count < record->kept_count && events[i].token == record->kept[count];
            count++;
        }
    }
}

static bool has_ended_well(const qr_run_request *record)
{
    return record->finish == QUIRE_FINISH_LENGTH || record->finish == QUIRE_FINISH_STOP;
}

static quire_status verify(player *p)
{
    for (size_t i = 0; i < p->run->request_count; i++) {
        const qr_run_request *record = &p->run->requests[i];
        bool                  equal  = false;
        if (record->kept == NULL || !has_ended_well(record) || *p->options->interrupt) continue;
        QR_TRY(decode_alone(p, record, &equal));
        p->run->verified++;
        p->run->verify_failed += !equal;
    }
    return QUIRE_OK;
}

/* Cancels what is left, so that the next run starts with an empty engine. */
static quire_status drain(player *p)
{
    quire_event events[EVENTS_PER_POLL];
    quire_step  step = {.size = sizeof step};
    for (size_t i = 0; i < p->run->request_count; i++)
        if (p->run->requests[i].id != 0 && p->run->requests[i].end_ns < 0) cancel_in(p, p->run->requests[i].id);
    for (uint32_t ended = p->ended;;) {
        size_t count; /* first what the cancels left: a planner takes no step before it is read */
        while ((count = poll_from(p, events)) > 0)
            for (size_t i = 0; i < count; i++) ended += events[i].kind == QUIRE_EVENT_FINISHED && events[i].last;
        if (ended >= p->submitted) return QUIRE_OK;
        QR_TRY(p->machine ? qr_virtual_advance(p->machine, UINT64_MAX, &step) : quire_engine_step(p->engine, &step));
    }
}

static quire_status prepare(player *p, quire_error *error)
{
    const quire_config *config = p->options->config;
    p->n                       = qr_workload_sequences(p->options->workload);
    p->cap                     = (uint32_t)quire_config_integer(config, "load.max_concurrency");
    p->duration_ns             = quire_config_integer(config, "run.duration");
    p->grace_ns                = quire_config_integer(config, "run.grace");
    p->verify_fraction         = quire_config_number(config, "run.verify_fraction");
    p->is_open_loop = !qr_workload_is_closed(p->options->workload) && !qr_workload_is_offline(p->options->workload);
    p->stop_oversaturated = quire_config_boolean(config, "run.stop_oversaturated");
    p->run->steady        = true;
    p->run->before.size = p->run->after.size = sizeof(quire_stats);
    stats_of(p, &p->run->before);
    p->run->stats_first = p->run->stats_last = p->run->before;
    p->prompt                                = calloc(p->run->before.max_model_len + 1u, sizeof *p->prompt);
    p->encoder                               = calloc(QR_WORKLOAD_MAX_ENCODER, sizeof *p->encoder);
    p->streams    = qr_workload_is_closed(p->options->workload) ? qr_workload_streams(p->options->workload) : 0;
    p->free_since = calloc(p->streams + 1u, sizeof *p->free_since);
    if (!p->prompt || !p->encoder || !p->free_since) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "bench: out of memory");
    qr_progress_init(&p->progress, config, p->options->repetition);
    return QUIRE_OK;
}

/* The engine's own thread drives it while this one plays. */
static quire_status play_in_real_time(player *p, quire_error *error)
{
    p->start = qr_now_ns();
    qr_watch_start(&p->watch, false);
    if (pthread_create(&p->driver, NULL, drive, p) != 0)
        return qr_fail(error, QUIRE_ERR_THREADS, "bench: the driver thread could not be created");
    qr_punctual(true); /* after the driver was created, which would inherit it */
    const quire_status status = play(p);
    qr_punctual(false);
    signal_driver(p, true);
    pthread_join(p->driver, NULL);
    return status;
}

static quire_status play_in_virtual_time(player *p)
{
    p->start      = qr_virtual_now_ns(p->machine);
    p->wall_start = qr_now_ns();
    qr_watch_start(&p->watch, true);
    const quire_status status = play(p);
    p->run->wall_s            = (double)(qr_now_ns() - p->wall_start) * 1e-9;
    return status;
}

static quire_status execute(player *p, quire_error *error)
{
    QR_TRY(prepare(p, error));
    quire_status status = p->machine ? play_in_virtual_time(p) : play_in_real_time(p, error);
    qr_progress_end(&p->progress);
    stats_of(p, &p->run->after);
    qr_prometheus_refresh(p->options->prometheus, &p->run->after, p->run->end_ns);
    if (status == QUIRE_OK) status = p->run->status;
    if (status == QUIRE_OK) status = drain(p);
    if (status == QUIRE_OK && p->machine == NULL) status = verify(p);
    if (status == QUIRE_ERR_TOO_LONG && p->machine)
        return qr_fail(error, status, "bench: the run stopped: it goes on for more than a year of simulated time");
    if (status != QUIRE_OK) return qr_fail(error, status, "bench: the run stopped: %s", quire_status_text(status));
    return QUIRE_OK;
}

quire_status qr_run_execute(const qr_run_options *options, qr_run *run_out, quire_error *error)
{
    *run_out = (qr_run){0};
    player p = {.options = options, .engine = options->engine, .machine = options->machine, .run = run_out};
    pthread_mutex_init(&p.mutex, NULL);
    pthread_cond_init(&p.work, NULL);
    const quire_status status = execute(&p, error);
    run_out->interrupted |= status != QUIRE_OK;
    free(p.prompt);
    free(p.encoder);
    free(p.free_since);
    free(p.sequences);
    pthread_cond_destroy(&p.work);
    pthread_mutex_destroy(&p.mutex);
    return status;
}

void qr_run_deinit(qr_run *run)
{
    for (size_t i = 0; i < run->request_count; i++) free(run->requests[i].kept);
    free(run->requests);
    free(run->tokens);
    free(run->gaps);
    free(run->load);
    free(run->contaminated);
    free(run->steps);
    free(run->stages);
    *run = (qr_run){0};
}
