/* The driver steps while there is work and sleeps a little when there is none; the caller's thread waits for the
 * engine's event descriptor. */
#include "bench/run/target_engine.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "bench/run/punctual.h"

enum { MAX_SLEEP_NS = 500000, MAX_WAIT_NS = 100000000, RETRY_NS = 1000000, IDLE_NS = 20000000 };

typedef struct engine_target {
    quire_engine           *engine;
    const qr_step_listener *listener;
    uint32_t                threads, nodes; /* of the engine's team */
    pthread_t               driver;
    pthread_mutex_t         mutex;
    pthread_cond_t          work;
    bool                    running, stopping; /* stopping: under the mutex */
    bool                    has_submitted;     /* since the driver was woken last */
    atomic_int              status;            /* of the driver */
} engine_target;

/* ---- the driver's thread ---- */

static void sleep_until_work(engine_target *t)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += MAX_SLEEP_NS;
    if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
    pthread_mutex_lock(&t->mutex);
    if (!t->stopping) pthread_cond_timedwait(&t->work, &t->mutex, &until);
    pthread_mutex_unlock(&t->mutex);
}

static bool is_stopping(engine_target *t)
{
    pthread_mutex_lock(&t->mutex);
    const bool stopping = t->stopping;
    pthread_mutex_unlock(&t->mutex);
    return stopping;
}

static bool tell_stages(const engine_target *t)
{
    quire_stage stages[QR_STAGES_PER_STEP];
    for (uint32_t thread = 0; thread < t->threads; thread++) {
        uint64_t     dropped = 0;
        const size_t count   = quire_engine_stages(t->engine, thread, stages, QR_STAGES_PER_STEP, &dropped);
        if (!t->listener->stages(t->listener->context, thread, stages, count, dropped)) return false;
    }
    return true;
}

static quire_status drive_step(engine_target *t)
{
    quire_step step = {.size = sizeof step};
    QR_TRY(quire_engine_step(t->engine, &step));
    if (step.rows == 0 && step.rows_encoder == 0)
        sleep_until_work(t);
    else if (!t->listener->step(t->listener->context, &step) || !tell_stages(t))
        return QUIRE_ERR_NO_MEMORY;
    return QUIRE_OK;
}

static void *drive(void *self)
{
    engine_target *t = self;
    while (t->status == QUIRE_OK && !is_stopping(t)) t->status = (int)drive_step(t);
    return NULL;
}

static void wake_driver(engine_target *t, bool stop)
{
    pthread_mutex_lock(&t->mutex);
    t->stopping |= stop;
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->mutex);
}

/* ---- the target ---- */

static quire_status start(void *self, const qr_step_listener *listener, quire_error *error)
{
    engine_target *t     = self;
    quire_stats    stats = {.size = sizeof stats};
    quire_engine_stats(t->engine, &stats);
    t->threads  = stats.threads;
    t->nodes    = stats.nodes;
    t->listener = listener;
    t->status   = QUIRE_OK;
    t->stopping = false;
    t->running  = pthread_create(&t->driver, NULL, drive, t) == 0;
    if (!t->running) return qr_fail(error, QUIRE_ERR_THREADS, "bench: the driver thread could not be created");
    qr_punctual(true); /* after the driver was created, which would inherit it */
    return QUIRE_OK;
}

/* For the statistics, which say that nothing was checked where the kernel does not tell. */
static void count_pages(const engine_target *t)
{
    quire_memory_check check = {.size = sizeof check};
    if (t->nodes > 1) (void)!quire_engine_check_memory(t->engine, QUIRE_ALL_NODES, &check, NULL);
}

static void stop(void *self)
{
    engine_target *t = self;
    if (!t->running) return;
    qr_punctual(false);
    wake_driver(t, true);
    pthread_join(t->driver, NULL);
    t->running = false;
    count_pages(t);
}

static uint64_t now(const void *self)
{
    (void)self;
    return qr_now_ns();
}

static quire_status submit(void *self, const quire_request *request, quire_request_id *id_out)
{
    engine_target *t = self;
    t->has_submitted = true;
    return quire_engine_submit(t->engine, request, id_out, NULL);
}

static void cancel(void *self, quire_request_id id) { quire_engine_cancel(((engine_target *)self)->engine, id); }

static size_t poll_events(void *self, quire_event *events, size_t capacity)
{
    return quire_engine_poll(((engine_target *)self)->engine, events, capacity);
}

static void wait_for_events(const engine_target *t, uint64_t until_ns)
{
    const uint64_t        at      = qr_now_ns();
    const uint64_t        left_ns = until_ns > at ? until_ns - at : 0;
    const struct timespec timeout = {.tv_nsec = (long)(left_ns < MAX_WAIT_NS ? left_ns : MAX_WAIT_NS)};
    struct pollfd         ready   = {.fd = quire_engine_event_fd(t->engine), .events = POLLIN};
    ppoll(&ready, 1, &timeout, NULL);
}

static quire_status wait_until(void *self, uint64_t until_ns, quire_error *error)
{
    engine_target *t    = self;
    quire_step     step = {.size = sizeof step};
    (void)error;
    if (!t->running) return quire_engine_step(t->engine, &step);
    if (t->has_submitted) wake_driver(t, false); /* once for all that were due */
    t->has_submitted = false;
    if (t->status == QUIRE_OK) wait_for_events(t, until_ns);
    return (quire_status)t->status;
}

static void stats_of(const void *self, quire_stats *stats)
{
    quire_engine_stats(((const engine_target *)self)->engine, stats);
}

static void flush_cache(void *self) { quire_engine_flush_cache(((engine_target *)self)->engine); }

static void destroy(void *self)
{
    engine_target *t = self;
    stop(t);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

quire_status qr_target_engine_create(quire_engine *engine, qr_target *target_out, quire_error *error)
{
    engine_target *t = calloc(1, sizeof *t);
    if (t == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "bench: out of memory");
    t->engine = engine;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->work, NULL);
    *target_out = (qr_target){.self        = t,
                              .start       = start,
                              .stop        = stop,
                              .now         = now,
                              .submit      = submit,
                              .cancel      = cancel,
                              .poll        = poll_events,
                              .wait        = wait_until,
                              .stats       = stats_of,
                              .flush_cache = flush_cache,
                              .destroy     = destroy,
                              .retry_ns    = RETRY_NS,
                              .idle_ns     = IDLE_NS};
    return QUIRE_OK;
}
