/* The only file with a parallel region. One opener thread opens one parallel region; its threads loop in serve() until
 * destroy.
 *
 * All waiting is the same: an atomic word changes, the waiter spins, then sleeps on the word (futex).
 * The memory order that TSan must see is in the C11 atomics alone; the futex only saves time. */
#include "topology/team.h"

#include <limits.h>
#include <linux/futex.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "topology/affinity.h"

enum { DEFAULT_SPIN_NS = 20000, CACHE_LINE = 64 };

/* A word that threads wait on. */
typedef struct signal_word {
    _Alignas(CACHE_LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers; /* threads in, or about to enter, futex_wait */
} signal_word;

typedef struct team_thread {
    quire_status pin_status;
    quire_error  pin_error;
} team_thread;

struct qr_team {
    qr_placement      placement;
    qr_team_options   options;
    pthread_t         opener;
    bool              opened;                      /* the opener is to be joined */
    uint32_t          region_size;                 /* threads that OpenMP gave */
    uint32_t          fork_count;                  /* of the process when the team was created */
    bool              stopping;                    /* published by `work` */
    qr_team_function *function;                    /* published by `work` */
    void             *context;                     /* published by `work` */
    signal_word       work;                        /* counts functions handed over */
    signal_word       done;                        /* counts functions finished */
    signal_word       phase;                       /* counts barriers passed */
    _Alignas(CACHE_LINE) _Atomic uint32_t arrived; /* at the barrier of this phase */
    _Alignas(CACHE_LINE) _Atomic uint32_t busy;    /* threads still in the function */
    team_thread *threads;                          /* [placement.thread_count] */
};

/* ---- fork ---- */

static _Atomic uint32_t forks_survived; /* how many forks lie between this process and the first */
static pthread_once_t   fork_handler = PTHREAD_ONCE_INIT;

static void count_fork(void) { atomic_fetch_add_explicit(&forks_survived, 1, memory_order_relaxed); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

bool qr_team_is_forked(const qr_team *team)
{
    return atomic_load_explicit(&forks_survived, memory_order_relaxed) != team->fork_count;
}

/* ---- waiting ---- */

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void sleep_while(signal_word *word, uint32_t old)
{
    atomic_fetch_add(&word->sleepers, 1);
    /* Sequentially consistent on both sides: either this load sees the new value, or signal() sees the sleeper. */
    while (atomic_load(&word->value) == old)
        syscall(SYS_futex, (void *)&word->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&word->sleepers, 1);
}

static void signal_word_set(signal_word *word, uint32_t value)
{
    atomic_store(&word->value, value);
    if (atomic_load(&word->sleepers) > 0)
        syscall(SYS_futex, (void *)&word->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool is_still(signal_word *word, uint32_t old)
{
    return atomic_load_explicit(&word->value, memory_order_acquire) == old;
}

/* Spins for `spin_ns`, then sleeps. A thread that another process has pushed off its CPU holds all others up. A sleeper
 * that is woken comes before a process that has used its share; one that yields instead goes behind it for a whole time
 * slice at every barrier: 64 yields before the sleep left 0.27 of the throughput beside a busy neighbour, none 0.51. */
static void wait_while(signal_word *word, uint32_t old, uint64_t spin_ns)
{
    const uint64_t start = qr_now_ns();
    do
        for (int i = 0; i < 32; i++) {
            if (!is_still(word, old)) return;
            pause_cpu();
        }
    while (qr_now_ns() - start < spin_ns);
    sleep_while(word, old);
}

/* ---- barrier ---- */

/* Sense-reversing (Hensgen, Finkel, Manber 1988) with a counter for the sense: the last to arrive opens the phase. */
void qr_team_barrier(qr_team *team)
{
    const uint32_t count = team->placement.thread_count;
    if (count == 1) return;
    const uint32_t phase = atomic_load_explicit(&team->phase.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == count) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        signal_word_set(&team->phase, phase + 1);
        return;
    }
    wait_while(&team->phase, phase, team->options.barrier_spin_ns);
}

/* ---- the region ---- */

static void finish(qr_team *team, uint32_t work)
{
    if (atomic_fetch_sub_explicit(&team->busy, 1, memory_order_acq_rel) == 1) signal_word_set(&team->done, work);
}

static void serve(qr_team *team, uint32_t thread)
{
    for (uint32_t work = 0;;) {
        wait_while(&team->work, work, team->options.barrier_spin_ns);
        work++;
        if (team->stopping) return;
        team->function(team->context, thread, team->placement.thread_count);
        finish(team, work);
    }
}

static void pin_thread(qr_team *team, uint32_t thread)
{
    const qr_bind_options report = {.strict = true}; /* create() decides what a refusal means */
    team_thread          *self   = &team->threads[thread];
    char                  name[16]; /* what top and perf show, and how a benchmark finds the team */
    snprintf(name, sizeof name, "quire-%u", thread % 1000000);
    pthread_setname_np(pthread_self(), name);
    if (team->placement.bind != QUIRE_BIND_NONE)
        self->pin_status = qr_bind_thread(team->placement.cpu[thread], team->placement.bind, &report, &self->pin_error);
}

static void *open_region(void *argument)
{
    qr_team   *team = argument;
    qr_cpu_set cpus;
    if (qr_affinity_at_start(&cpus)) qr_affinity_set(&cpus); /* the mask of whoever calls create() is not the team's */
    omp_set_dynamic(0);
#pragma omp parallel num_threads((int)team->placement.thread_count)
    {
        const uint32_t thread = (uint32_t)omp_get_thread_num();
        if (thread == 0) team->region_size = (uint32_t)omp_get_num_threads();
        if ((uint32_t)omp_get_num_threads() == team->placement.thread_count) {
            pin_thread(team, thread);
            finish(team, 0); /* hand-over 0 is the start itself */
            serve(team, thread);
        }
    }
    if (team->region_size != team->placement.thread_count) signal_word_set(&team->done, 0);
    return NULL;
}

/* ---- create ---- */

typedef struct proof {
    pthread_mutex_t mutex;
    pthread_cond_t  leave;
    bool            over;
} proof;

static void *stay_until_over(void *argument)
{
    proof *p = argument;
    pthread_mutex_lock(&p->mutex);
    while (!p->over) pthread_cond_wait(&p->leave, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    pthread_exit(NULL); /* as OpenMP's threads do: libc loads what it needs for that now, not when memory is short */
}

/* OpenMP ends the process when it cannot create a thread; so as many plain ones are created first, all at once. */
static quire_status prove_threads(uint32_t count, quire_error *error)
{
    proof     p = {.mutex = PTHREAD_MUTEX_INITIALIZER, .leave = PTHREAD_COND_INITIALIZER};
    pthread_t threads[QR_MAX_THREADS];
    uint32_t  created = 0;
    int       refused = 0;
    while (created < count && (refused = pthread_create(&threads[created], NULL, stay_until_over, &p)) == 0) created++;
    pthread_mutex_lock(&p.mutex);
    p.over = true;
    pthread_cond_broadcast(&p.leave);
    pthread_mutex_unlock(&p.mutex);
    for (uint32_t i = 0; i < created; i++) pthread_join(threads[i], NULL);
    if (created == count) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_THREADS, "only %u of %u compute threads can be created: %s", created, count,
                   strerror(refused));
}

static quire_status open_team(qr_team *team, quire_error *error)
{
    const uint32_t count = team->placement.thread_count;
    QR_TRY(prove_threads(count, error));
    atomic_store(&team->busy, count);
    atomic_store(&team->done.value, UINT32_MAX);
    const int refused = pthread_create(&team->opener, NULL, open_region, team);
    if (refused != 0) return qr_fail(error, QUIRE_ERR_THREADS, "the compute threads: %s", strerror(refused));
    team->opened = true;
    wait_while(&team->done, UINT32_MAX, 0);
    if (team->region_size == count) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_THREADS, "OpenMP gives %u of %u threads (see OMP_THREAD_LIMIT)", team->region_size,
                   count);
}

/* Threads inherit the mask: no signal of the host is ever handled on a compute thread. */
static quire_status open_team_without_signals(qr_team *team, quire_error *error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const quire_status status = open_team(team, error);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

static quire_status report_pins(const qr_team *team, quire_error *error)
{
    uint32_t           refused = 0;
    const team_thread *first   = NULL;
    for (uint32_t i = 0; i < team->placement.thread_count; i++) {
        if (team->threads[i].pin_status == QUIRE_OK) continue;
        if (refused++ == 0) first = &team->threads[i];
    }
    if (refused == 0) return QUIRE_OK;
    if (team->options.bind.strict)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "%u of %u threads are not pinned; %.180s", refused,
                       team->placement.thread_count, first->pin_error.message);
    qr_log_write(team->options.bind.log, QUIRE_LOG_WARN, "%u of %u threads are not pinned; %s", refused,
                 team->placement.thread_count, first->pin_error.message);
    return QUIRE_OK;
}

static size_t threads_bytes(const qr_team *team) { return team->placement.thread_count * sizeof *team->threads; }

quire_status qr_team_create(const qr_placement *placement, const qr_team_options *options, qr_team **team_out,
                            quire_error *error)
{
    *team_out = NULL;
    if (placement->thread_count < 1 || placement->thread_count > QR_MAX_THREADS)
        return qr_fail(error, QUIRE_ERR_INVALID, "team of %u threads; must be 1 to %d", placement->thread_count,
                       QR_MAX_THREADS);
    pthread_once(&fork_handler, watch_forks);
    qr_team *team = qr_allocate(&options->allocator, sizeof *team, _Alignof(qr_team));
    if (team == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "the team: %zu bytes", sizeof *team);
    team->placement  = *placement;
    team->options    = *options;
    team->fork_count = atomic_load(&forks_survived);
    if (team->options.barrier_spin_ns == 0) team->options.barrier_spin_ns = DEFAULT_SPIN_NS;
    team->threads       = qr_allocate(&options->allocator, threads_bytes(team), _Alignof(team_thread));
    quire_status status = team->threads ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "the team's threads");
    if (status == QUIRE_OK) status = open_team_without_signals(team, error);
    if (status == QUIRE_OK) status = report_pins(team, error);
    if (status == QUIRE_OK)
        *team_out = team;
    else
        qr_team_destroy(team);
    return status;
}

static void close_region(qr_team *team)
{
    if (!team->opened) return;
    team->stopping = true;
    signal_word_set(&team->work, atomic_load_explicit(&team->work.value, memory_order_relaxed) + 1);
    pthread_join(team->opener, NULL);
}

void qr_team_destroy(qr_team *team)
{
    if (team == NULL || qr_team_is_forked(team)) return;
    close_region(team);
    const quire_allocator allocator = team->options.allocator;
    qr_deallocate(&allocator, team->threads, threads_bytes(team));
    qr_deallocate(&allocator, team, sizeof *team);
}

/* ---- run ---- */

void qr_team_run(qr_team *team, qr_team_function *function, void *context)
{
    qr_assert(!qr_team_is_forked(team));
    const uint32_t before = atomic_load_explicit(&team->work.value, memory_order_relaxed);
    team->function        = function;
    team->context         = context;
    atomic_store_explicit(&team->busy, team->placement.thread_count, memory_order_relaxed);
    signal_word_set(&team->work, before + 1);
    wait_while(&team->done, before, 0);
}

const qr_placement *qr_team_placement(const qr_team *team) { return &team->placement; }
uint32_t            qr_team_size(const qr_team *team) { return team->placement.thread_count; }
