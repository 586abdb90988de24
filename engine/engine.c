/* The public calls on an engine: each checks for fork, keeps errno and cannot be cancelled half-way. */
#include "engine/engine.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine/limits.h"

enum { HELD_SLEEP_MS = 20 }; /* while only deadlines and slow readers can bring work */

/* ---- what every call does ---- */

typedef struct call {
    int errno_before, cancel_state;
} call;

/* A thread that is cancelled in a call must not leave with a lock: the writes to event descriptors are cancellation
 * points. */
static call begin_call(void)
{
    call state = {.errno_before = errno};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state.cancel_state);
    return state;
}

static void end_call(const call *state)
{
    pthread_setcancelstate(state->cancel_state, NULL);
    errno = state->errno_before;
}

static bool is_forked(const quire_engine *engine) { return qr_team_is_forked(engine->team); }

static quire_status forked(quire_error *error)
{
    return qr_fail(error, QUIRE_ERR_FORKED, "this process is a child of the one that created the engine");
}

/* Locks are state that a const engine may change. */
static quire_engine *lockable(const quire_engine *engine) { return (quire_engine *)(uintptr_t)engine; }

/* ---- submit, cancel ---- */

static quire_status check_logits(const quire_engine *engine, const quire_request *request, quire_error *error)
{
    if (request->logits == QUIRE_LOGITS_NONE || engine->options.max_logits_in_flight > 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "request: logits: %u, but max_logits_in_flight of this engine is 0",
                   request->logits);
}

static quire_status check_mask(const quire_engine *engine, const quire_request *request, quire_error *error)
{
    if (!request->masked || engine->options.mask.fill != NULL) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "request: masked: %d, but this engine has no mask hook", request->masked);
}

static quire_status resolve(const quire_engine *engine, const quire_request *request, quire_request *resolved,
                            quire_error *error)
{
    QR_TRY(qr_request_resolve(&engine->planner.options, request, resolved, error));
    QR_TRY(check_mask(engine, resolved, error));
    return check_logits(engine, resolved, error);
}

static quire_status check_rank(const quire_engine *engine, quire_error *error)
{
    const qr_ranks *ranks = &engine->ranks;
    if (qr_ranks_follows(ranks))
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_engine_submit: this is rank %u of %u; rank 0 takes requests",
                       ranks->comm.rank, ranks->comm.ranks);
    return ranks->lost ? qr_fail(error, QUIRE_ERR_IO, "the other ranks are lost") : QUIRE_OK;
}

quire_status quire_engine_submit(quire_engine *engine, const quire_request *request, quire_request_id *id_out,
                                 quire_error *error)
{
    if (is_forked(engine)) return forked(error);
    if (request == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_engine_submit: request is NULL");
    QR_TRY(check_rank(engine, error));
    const call       state = begin_call();
    quire_request    resolved;
    quire_request_id id     = 0;
    quire_status     status = resolve(engine, request, &resolved, error);
    if (status == QUIRE_OK)
        status = qr_inbox_submit(&engine->inbox, &resolved, qr_now_ns(), &id, error);
    else
        qr_inbox_count_refusal(&engine->inbox);
    if (id_out != NULL) *id_out = id;
    end_call(&state);
    return status;
}

quire_status quire_engine_cancel(quire_engine *engine, quire_request_id id)
{
    if (is_forked(engine)) return QUIRE_ERR_FORKED;
    const call         state  = begin_call();
    const quire_status status = qr_inbox_cancel(&engine->inbox, id);
    end_call(&state);
    return status;
}

void quire_engine_flush_cache(quire_engine *engine)
{
    if (is_forked(engine)) return;
    const call state = begin_call();
    qr_inbox_flush_cache(&engine->inbox);
    end_call(&state);
}

/* So many at a time, so that the driver, which plans with the same lock, does not wait for a copy of all. */
enum { CACHE_EVENTS_PER_LOCK = 64 };

size_t quire_engine_poll_cache_events(quire_engine *engine, quire_cache_event *events, int32_t *tokens, size_t capacity)
{
    if (is_forked(engine)) return 0;
    const call state = begin_call();
    size_t     count = 0, wanted, got;
    do {
        wanted = capacity - count < CACHE_EVENTS_PER_LOCK ? capacity - count : CACHE_EVENTS_PER_LOCK;
        pthread_mutex_lock(&engine->scheduler_mutex);
        got = qr_scheduler_read_cache_events(engine->planner.scheduler, events + count,
                                             tokens + count * engine->options.block_size, (uint32_t)wanted);
        pthread_mutex_unlock(&engine->scheduler_mutex);
        count += got;
    } while (got == wanted && count < capacity);
    end_call(&state);
    return count;
}

void quire_engine_restart_cache_events(quire_engine *engine)
{
    if (is_forked(engine)) return;
    const call state = begin_call();
    pthread_mutex_lock(&engine->scheduler_mutex);
    qr_scheduler_restart_cache_events(engine->planner.scheduler);
    pthread_mutex_unlock(&engine->scheduler_mutex);
    end_call(&state);
}

/* ---- step, run, stop ---- */

quire_status quire_engine_step(quire_engine *engine, quire_step *step_out)
{
    if (is_forked(engine)) return QUIRE_ERR_FORKED;
    const call state = begin_call();
    quire_step step;
    qr_engine_step(engine, &step);
    if (step_out != NULL) qr_options_give(&step, sizeof step, step_out);
    end_call(&state);
    return engine->ranks.lost ? QUIRE_ERR_IO : QUIRE_OK;
}

quire_status quire_engine_run(quire_engine *engine)
{
    if (is_forked(engine)) return QUIRE_ERR_FORKED;
    while (!engine->ranks.ended && !atomic_exchange(&engine->stop_run, false)) {
        quire_step step = {.size = sizeof step};
        QR_TRY(quire_engine_step(engine, &step));
        if (step.rows > 0 || step.rows_encoder > 0 || qr_ranks_follows(&engine->ranks)) continue;
        const call state = begin_call();
        qr_ledger_sleep(&engine->ledger, engine->activity_seen, engine->idle && !engine->backlog ? -1 : HELD_SLEEP_MS);
        end_call(&state);
    }
    return QUIRE_OK;
}

static void wake(int event_fd)
{
    const ssize_t written = write(event_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)written; /* fails only when the descriptor is readable already */
}

void quire_engine_stop(quire_engine *engine)
{
    if (is_forked(engine)) return;
    const int errno_before = errno;
    atomic_store(&engine->stop_run, true);
    atomic_store(&engine->stop_wait, true);
    wake(engine->ledger.wake_fd);
    wake(engine->outbox.event_fd);
    errno = errno_before;
}

/* ---- limits ---- */

quire_status quire_engine_measure_limits(quire_engine *engine, quire_limits *limits_out, quire_error *error)
{
    if (is_forked(engine)) return forked(error);
    if (limits_out == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_engine_measure_limits: limits_out is NULL");
    const call              state   = begin_call();
    const qr_bind_options   bind    = qr_engine_bind_options(engine);
    const qr_limits_options options = {.kernels = engine->kernels, .cache_bytes = engine->cache_bytes, .bind = &bind};
    quire_limits            limits  = {0};
    const quire_status      status  = qr_limits_measure(engine->team, &options, &limits, error);
    if (status == QUIRE_OK) qr_options_give(&limits, sizeof limits, limits_out);
    end_call(&state);
    return status;
}

/* ---- events ---- */

size_t quire_engine_poll(quire_engine *engine, quire_event *events, size_t capacity)
{
    if (is_forked(engine)) return 0;
    const call   state = begin_call();
    const size_t count = qr_outbox_poll(&engine->outbox, events, capacity, qr_now_ns());
    end_call(&state);
    return count;
}

size_t quire_engine_wait(quire_engine *engine, quire_event *events, size_t capacity, uint64_t timeout_ns)
{
    if (is_forked(engine)) return 0;
    const call     state = begin_call();
    const uint64_t start = qr_now_ns(), until = timeout_ns < UINT64_MAX - start ? start + timeout_ns : UINT64_MAX;
    size_t         count;
    do count = qr_outbox_poll(&engine->outbox, events, capacity, qr_now_ns());
    while (count == 0 && capacity > 0 && !atomic_exchange(&engine->stop_wait, false) &&
           qr_outbox_sleep(&engine->outbox, until));
    end_call(&state);
    return count;
}

int quire_engine_event_fd(const quire_engine *engine) { return is_forked(engine) ? -1 : engine->outbox.event_fd; }

/* ---- looking in ---- */

/* A request that has not entered the scheduler's queue waits for its turn. */
static quire_status explain(quire_engine *engine, quire_request_id id, quire_explanation *explanation_out)
{
    const uint64_t   now_ns = qr_now_ns();
    const qr_record *record = qr_inbox_find(&engine->inbox, id);
    if (record == NULL || record->state != QR_RECORD_PENDING)
        return qr_scheduler_explain(engine->planner.scheduler, id, now_ns, explanation_out);
    *explanation_out                           = (quire_explanation){.reason = QUIRE_WAIT_ORDER};
    explanation_out->wait_ns[QUIRE_WAIT_ORDER] = now_ns - record->arrival_ns;
    return QUIRE_OK;
}

quire_status quire_engine_explain(const quire_engine *engine, quire_request_id id, quire_explanation *explanation_out)
{
    if (is_forked(engine)) return QUIRE_ERR_FORKED;
    const call    state = begin_call();
    quire_engine *self  = lockable(engine);
    pthread_mutex_lock(&self->scheduler_mutex);
    qr_ledger_lock(&self->ledger);
    quire_explanation  why;
    const quire_status status = explain(self, id, &why);
    qr_ledger_unlock(&self->ledger);
    pthread_mutex_unlock(&self->scheduler_mutex);
    if (status == QUIRE_OK) qr_options_give(&why, sizeof why, explanation_out);
    end_call(&state);
    return status;
}

const char *quire_engine_check(const quire_engine *engine)
{
    if (is_forked(engine)) return NULL;
    const call    state = begin_call();
    quire_engine *self  = lockable(engine);
    pthread_mutex_lock(&self->scheduler_mutex);
    const char *violation = qr_scheduler_check(self->planner.scheduler);
    pthread_mutex_unlock(&self->scheduler_mutex);
    end_call(&state);
    return violation;
}

quire_status quire_engine_check_memory(quire_engine *engine, uint32_t node, quire_memory_check *check_out,
                                       quire_error *error)
{
    if (is_forked(engine)) return forked(error);
    const call         state = begin_call();
    quire_memory_check check;
    pthread_mutex_lock(&engine->scheduler_mutex);
    const quire_status status = qr_engine_check_memory(engine, node, &check, error);
    pthread_mutex_unlock(&engine->scheduler_mutex);
    if (status == QUIRE_OK) qr_options_give(&check, sizeof check, check_out);
    end_call(&state);
    return status;
}

/* What the scheduler has not seen yet is added from the inbox. */
static void add_inbox(quire_engine *engine, quire_stats *stats)
{
    qr_ledger_lock(&engine->ledger);
    stats->requests_submitted = engine->inbox.submitted;
    stats->requests_refused   = engine->inbox.refused;
    stats->waiting += engine->inbox.pending_requests;
    stats->queued_tokens += engine->inbox.pending_tokens;
    qr_ledger_unlock(&engine->ledger);
}

void quire_engine_stats(const quire_engine *engine, quire_stats *stats)
{
    if (is_forked(engine)) return;
    const call    state = begin_call();
    quire_engine *self  = lockable(engine);
    quire_stats   now;
    pthread_mutex_lock(&self->stats_mutex);
    now = self->stats;
    add_inbox(self, &now);
    pthread_mutex_unlock(&self->stats_mutex);
    qr_options_give(&now, sizeof now, stats);
    end_call(&state);
}

size_t quire_engine_stages(const quire_engine *engine, uint32_t thread, quire_stage *stages, size_t capacity,
                           uint64_t *dropped_out)
{
    const quire_stage *kept = NULL;
    uint64_t           dropped;
    size_t             count = 0;
    if (!is_forked(engine)) count = qr_network_stages(engine->network, thread, &kept, &dropped);
    if (kept == NULL) count = dropped = 0;
    if (count > capacity) count = capacity;
    if (count > 0) memcpy(stages, kept, count * sizeof *stages);
    if (dropped_out != NULL) *dropped_out = dropped;
    return count;
}

const char *quire_memory_name(quire_memory memory)
{
    static const char *const names[QUIRE_MEMORIES] = {
        [QUIRE_MEMORY_WEIGHTS] = "weights", [QUIRE_MEMORY_EMBEDDING] = "embedding", [QUIRE_MEMORY_KV] = "kv",
        [QUIRE_MEMORY_SCRATCH] = "scratch", [QUIRE_MEMORY_BUFFERS] = "buffers",     [QUIRE_MEMORY_QUEUES] = "queues",
    };
    return (unsigned)memory < QUIRE_MEMORIES ? names[memory] : "unknown";
}

const char *quire_wait_reason_name(quire_wait_reason reason)
{
    static const char *const names[QUIRE_WAIT_REASONS] = {
        [QUIRE_WAIT_NONE] = "none",           [QUIRE_WAIT_ORDER] = "order",
        [QUIRE_WAIT_TENANT] = "tenant",       [QUIRE_WAIT_HEAD] = "head",
        [QUIRE_WAIT_SEQUENCES] = "sequences", [QUIRE_WAIT_BUDGET] = "budget",
        [QUIRE_WAIT_PARTIAL] = "partial",     [QUIRE_WAIT_BLOCKS] = "blocks",
        [QUIRE_WAIT_WATERMARK] = "watermark", [QUIRE_WAIT_QUOTA] = "quota",
        [QUIRE_WAIT_ENCODER] = "encoder",     [QUIRE_WAIT_ENCODER_SHARED] = "encoder_shared",
        [QUIRE_WAIT_READER] = "reader",       [QUIRE_WAIT_FAULT] = "fault",
    };
    return (unsigned)reason < QUIRE_WAIT_REASONS ? names[reason] : "unknown";
}
