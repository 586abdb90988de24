/* The team: hand-over, barrier, threads that stay, signals, fork, refusals. */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "topology/team.h"

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer) || HAS_FEATURE(thread_sanitizer)
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif

enum { MOST_THREADS = 8 };

static qr_placement unbound(uint32_t threads)
{
    qr_placement placement    = {.thread_count = threads, .node_count = 1, .bind = QUIRE_BIND_NONE};
    placement.node_threads[0] = threads;
    return placement;
}

static qr_team *create_team(uint32_t threads)
{
    const qr_placement    placement = unbound(threads);
    const qr_team_options options   = {0};
    qr_team              *team      = NULL;
    quire_error           error     = {0};
    if (qr_team_create(&placement, &options, &team, &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(qr_team_size(team), threads);
    return team;
}

static uint32_t count_tasks(void)
{
    uint32_t count = 0;
    DIR     *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    while (readdir(tasks) != NULL) count++;
    closedir(tasks);
    return count - 2;
}

/* Exiting threads linger for a moment; libomp, unlike libgomp, keeps a team's threads for the next one. */
static void assert_at_most(uint32_t tasks)
{
    for (int i = 0; i < 60000 && count_tasks() > tasks; i++) usleep(1000);
    assert_in_range(count_tasks(), 1, tasks);
}

/* ---- hand-over ---- */

typedef struct tally {
    _Atomic uint32_t calls[MOST_THREADS];
    uint32_t         sum; /* plain: the hand-over orders it */
} tally;

static void add_one(void *context, uint32_t thread, uint32_t thread_count)
{
    tally *t = context;
    atomic_fetch_add(&t->calls[thread], 1);
    if (thread == thread_count - 1) t->sum++;
}

static void every_thread_runs_every_function_once(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        qr_team *team = create_team(threads);
        tally    t    = {0};
        for (uint32_t i = 1; i <= 300; i++) {
            qr_team_run(team, add_one, &t);
            assert_int_equal(t.sum, i);
        }
        for (uint32_t i = 0; i < threads; i++) assert_int_equal(t.calls[i], 300);
        qr_team_destroy(team);
    }
}

static void a_team_that_slept_wakes_again(void **state)
{
    (void)state;
    qr_team *team = create_team(3);
    tally    t    = {0};
    for (int i = 0; i < 5; i++) {
        usleep(3000);
        qr_team_run(team, add_one, &t);
    }
    assert_int_equal(t.sum, 5);
    qr_team_destroy(team);
}

static void an_idle_team_burns_no_cpu(void **state)
{
    (void)state;
    qr_team        *team = create_team(2);
    struct timespec before, after;
    usleep(5000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(50000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    const int64_t used = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    assert_in_range(used, 0, IS_SANITIZED ? 40000000 : 10000000);
    qr_team_destroy(team);
}

static void destroy_takes_null_and_threads_do_not_pile_up(void **state)
{
    (void)state;
    qr_team_destroy(NULL);
    const uint32_t before = count_tasks();
    for (int i = 0; i < 10; i++) {
        qr_team *team = create_team(3);
        assert_at_most(before + 3);
        qr_team_destroy(team);
        assert_at_most(before + 2);
    }
}

/* ---- barrier ---- */

typedef struct rounds {
    qr_team *team;
    uint32_t rounds;
    uint32_t value[MOST_THREADS]; /* plain: the barrier orders it */
    uint32_t wrong[MOST_THREADS];
} rounds;

static void write_meet_read_meet(void *context, uint32_t thread, uint32_t thread_count)
{
    rounds *r = context;
    for (uint32_t round = 1; round <= r->rounds; round++) {
        r->value[thread] = round;
        qr_team_barrier(r->team);
        for (uint32_t i = 0; i < thread_count; i++) r->wrong[thread] += r->value[i] != round;
        qr_team_barrier(r->team);
    }
}

static void run_rounds(qr_team *team, uint32_t count)
{
    rounds r = {.team = team, .rounds = count};
    qr_team_run(team, write_meet_read_meet, &r);
    for (uint32_t i = 0; i < qr_team_size(team); i++) {
        assert_int_equal(r.wrong[i], 0);
        assert_int_equal(r.value[i], count);
    }
}

static void nobody_passes_the_barrier_early(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        qr_team *team = create_team(threads);
        run_rounds(team, 2000);
        run_rounds(team, 1);
        qr_team_destroy(team);
    }
}

/* More threads than CPUs: every barrier needs the kernel; it must cost time slices, not hang. */
static void an_oversubscribed_team_makes_progress(void **state)
{
    (void)state;
    qr_team *team = create_team(MOST_THREADS);
    run_rounds(team, 200);
    qr_team_destroy(team);
}

/* ---- threads ---- */

typedef struct turn {
    qr_team *team;
    tally   *tally;
} turn;

static void *drive(void *argument)
{
    turn *t = argument;
    for (int i = 0; i < 20; i++) qr_team_run(t->team, add_one, t->tally);
    return NULL;
}

static void five_drivers_in_turn_add_no_thread(void **state)
{
    (void)state;
    qr_team       *team   = create_team(2);
    tally          t      = {0};
    turn           mine   = {team, &t};
    const uint32_t before = count_tasks();
    for (int i = 0; i < 5; i++) {
        pthread_t driver;
        assert_int_equal(pthread_create(&driver, NULL, drive, &mine), 0);
        pthread_join(driver, NULL);
        assert_at_most(before);
    }
    assert_int_equal(t.sum, 100);
    qr_team_destroy(team);
}

typedef struct thread_facts {
    int cpus[MOST_THREADS], cpu[MOST_THREADS], blocked[MOST_THREADS];
} thread_facts;

static void look(void *context, uint32_t thread, uint32_t thread_count)
{
    (void)thread_count;
    thread_facts *facts = context;
    cpu_set_t     mask;
    sigset_t      signals;
    sched_getaffinity(0, sizeof mask, &mask);
    pthread_sigmask(SIG_BLOCK, NULL, &signals);
    facts->cpus[thread]    = CPU_COUNT(&mask);
    facts->cpu[thread]     = sched_getcpu();
    facts->blocked[thread] = sigismember(&signals, SIGINT) && sigismember(&signals, SIGUSR1);
}

static void threads_are_pinned_and_block_signals(void **state)
{
    (void)state;
    qr_topology          topology;
    qr_placement         placement;
    char                 warning[256];
    qr_team             *team    = NULL;
    thread_facts         facts   = {0};
    quire_engine_options options = {.bind = QUIRE_BIND_PU};
    assert_int_equal(qr_topology_create(NULL, &topology, NULL), QUIRE_OK);
    assert_int_equal(qr_placement_plan(&topology, &options, &placement, warning, NULL), QUIRE_OK);
    qr_topology_destroy(&topology);
    if (placement.thread_count > MOST_THREADS) placement.thread_count = MOST_THREADS;
    assert_int_equal(qr_team_create(&placement, &(qr_team_options){0}, &team, NULL), QUIRE_OK);
    qr_team_run(team, look, &facts);
    for (uint32_t i = 0; i < placement.thread_count; i++) {
        assert_int_equal(facts.cpus[i], 1);
        assert_int_equal(facts.cpu[i], placement.cpu[i]);
        assert_true(facts.blocked[i]);
    }
    qr_team_destroy(team);
    sigset_t mine;
    pthread_sigmask(SIG_BLOCK, NULL, &mine);
    assert_false(sigismember(&mine, SIGINT)); /* the host's mask is as it was */
}

static void a_refused_pin_is_an_error_when_strict(void **state)
{
    (void)state;
    qr_placement placement = unbound(2);
    placement.bind         = QUIRE_BIND_CORE;
    placement.cpu[1]       = 4001;
    qr_team    *team       = NULL;
    quire_error error      = {0};
    assert_int_equal(qr_team_create(&placement, &(qr_team_options){.bind = {.strict = true}}, &team, &error),
                     QUIRE_ERR_UNSUPPORTED);
    assert_null(team);
    assert_non_null(strstr(error.message, "1 of 2 threads are not pinned; a thread cannot be pinned to CPU 4001"));
    assert_int_equal(qr_team_create(&placement, &(qr_team_options){0}, &team, &error), QUIRE_OK);
    run_rounds(team, 3);
    qr_team_destroy(team);
}

static void a_team_of_no_threads_is_refused(void **state)
{
    (void)state;
    qr_team     *team      = NULL;
    qr_placement placement = unbound(0);
    assert_int_equal(qr_team_create(&placement, &(qr_team_options){0}, &team, NULL), QUIRE_ERR_INVALID);
}

/* ---- processes ---- */

/* Runs in a child: the address space has room for a few thread stacks, not for a thousand. */
static int ask_for_too_many(void)
{
    const struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    qr_team            *team  = NULL;
    quire_error         error = {0};
    const qr_placement  many  = unbound(QR_MAX_THREADS);
    setrlimit(RLIMIT_AS, &limit);
    const quire_status status = qr_team_create(&many, &(qr_team_options){0}, &team, &error);
    return status == QUIRE_ERR_THREADS && strstr(error.message, "of 1024 compute threads") != NULL ? 0 : 1;
}

static int exit_code_of(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

static void threads_that_cannot_exist_are_an_error_and_not_the_end(void **state)
{
    (void)state;
    if (IS_SANITIZED) skip(); /* shadow memory does not fit under the limit */
    const pid_t child = fork();
    if (child == 0) _exit(ask_for_too_many());
    assert_int_equal(exit_code_of(child), 0);
}

static void a_forked_child_knows_it(void **state)
{
    (void)state;
    qr_team *team = create_team(2);
    assert_false(qr_team_is_forked(team));
    for (int i = 0; i < 20; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(60); /* a hang */
            const bool forked = qr_team_is_forked(team);
            qr_team_destroy(team);
            _exit(forked ? 0 : 1);
        }
        assert_int_equal(exit_code_of(child), 0);
    }
    assert_false(qr_team_is_forked(team));
    run_rounds(team, 3);
    qr_team_destroy(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_cannot_exist_are_an_error_and_not_the_end), /* first: it forks a clean process */
        cmocka_unit_test(an_idle_team_burns_no_cpu), /* then this: libomp's old threads spin for a while */
        cmocka_unit_test(every_thread_runs_every_function_once),
        cmocka_unit_test(a_team_that_slept_wakes_again),
        cmocka_unit_test(destroy_takes_null_and_threads_do_not_pile_up),
        cmocka_unit_test(nobody_passes_the_barrier_early),
        cmocka_unit_test(an_oversubscribed_team_makes_progress),
        cmocka_unit_test(five_drivers_in_turn_add_no_thread),
        cmocka_unit_test(threads_are_pinned_and_block_signals),
        cmocka_unit_test(a_refused_pin_is_an_error_when_strict),
        cmocka_unit_test(a_team_of_no_threads_is_refused),
        cmocka_unit_test(a_forked_child_knows_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
