/* Two engines, each with a driver that is stopped again and again, submitters, cancellers, a reader that stalls and an
 * observer, while the process forks: nothing lost, nothing twice, and nothing that the sanitizers see. Every thread has
 * a number of things to do, so that the counts do not depend on the machine's speed. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include <quire/quire.h>

#include "base/rng.h"
#include "tests/lanes/lane.h"

enum { ENGINES = 2, SUBMITTERS = 2, CANCELLERS = 2, VOCAB = 256, LONGEST = 100 };

typedef struct effort { /* of one thread */
    uint64_t submits, cancels, forks;
} effort;

static const effort in_short = {4000, 100000, 20}, in_long = {229000, 4000000, 590};

typedef struct station {
    quire_model     *model;
    quire_engine    *engine;
    uint64_t         seed;
    effort           work;
    _Atomic uint64_t accepted, ended, newest; /* requests; the newest id */
    _Atomic bool     submitted, over;         /* all submits are done; all ends were read */
    uint64_t         cancelled, refused, stops, observed;
    pthread_mutex_t  sums;
} station;

static uint64_t forks;

static void pause_for(uint64_t ns)
{
    const struct timespec time = {.tv_nsec = (long)ns};
    nanosleep(&time, NULL);
}

static void add(station *s, uint64_t *sum, uint64_t more)
{
    pthread_mutex_lock(&s->sums);
    *sum += more;
    pthread_mutex_unlock(&s->sums);
}

/* ---- the threads ---- */

static void *be_driver(void *context)
{
    station *s = context;
    while (!atomic_load(&s->over)) LANE_CHECK(quire_engine_run(s->engine) == QUIRE_OK, "run");
    return NULL;
}

static void *be_stopper(void *context)
{
    station *s = context;
    for (uint64_t i = 0; !atomic_load(&s->over); i++) {
        quire_engine_stop(s->engine);
        s->stops++;
        pause_for(1 + qr_random_below(s->seed, 1, i, 2000000));
    }
    quire_engine_stop(s->engine);
    return NULL;
}

/* One of a kind: long and short, sampled and greedy, forked, in beams, with drafts, for different tenants. */
static quire_status submit(station *s, uint64_t stream, uint64_t i, quire_request_id *id_out)
{
    int32_t        prompt[LONGEST];
    const uint32_t kind  = qr_random_below(s->seed, stream, 4 * i, 12),
                   count = 1 + qr_random_below(s->seed, stream, 4 * i + 1, LONGEST);
    for (uint32_t k = 0; k < count; k++) prompt[k] = (int32_t)((kind * 31 + k) % VOCAB);
    const bool          beams   = kind == 5;
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = count,
                                   .max_tokens   = 1 + qr_random_below(s->seed, stream, 4 * i + 2, 12),
                                   .n            = kind % 4 == 1 ? 2 : 1,
                                   .beam_width   = beams ? 2 : 0,
                                   .sampling     = {.temperature = kind % 2 && !beams ? 1 : 0},
                                   .logprobs     = kind % 3 && !beams ? kind % 3 : 0,
                                   .tenant       = kind % 2 ? "a" : "b"};
    return quire_engine_submit(s->engine, &request, id_out, NULL);
}

typedef struct role {
    station *station;
    uint64_t stream; /* of random numbers */
} role;

static void *be_submitter(void *context)
{
    const role *r       = context;
    station    *s       = r->station;
    uint64_t    refused = 0;
    for (uint64_t i = 0; i < s->work.submits; i++) {
        quire_request_id   id;
        const quire_status status = submit(s, r->stream, i, &id);
        LANE_CHECK(status == QUIRE_OK || status == QUIRE_ERR_FULL, "submit: status %d", status);
        if (status == QUIRE_OK) {
            atomic_fetch_add(&s->accepted, 1);
            atomic_store(&s->newest, id);
        } else {
            refused++;
            if (i % 4 == 0) pause_for(200000); /* the others push on */
        }
    }
    add(s, &s->refused, refused);
    return NULL;
}

static void *be_canceller(void *context)
{
    const role *r     = context;
    station    *s     = r->station;
    uint64_t    found = 0;
    for (uint64_t i = 0; i < s->work.cancels; i++) {
        const uint64_t newest = atomic_load(&s->newest), back = qr_random_below(s->seed, r->stream, i, 200);
        found += quire_engine_cancel(s->engine, newest > back ? newest - back : i) == QUIRE_OK;
        if (i % 64 == 0) sched_yield();
    }
    add(s, &s->cancelled, found);
    return NULL;
}

static void *be_reader(void *context)
{
    station    *s = context;
    quire_event events[32];
    for (uint64_t turn = 0; !atomic_load(&s->submitted) || atomic_load(&s->ended) < atomic_load(&s->accepted); turn++) {
        const uint32_t chance = qr_random_below(s->seed, 2, turn, 400);
        const size_t   room   = 1 + qr_random_below(s->seed, 3, turn, 32);
        const size_t   got    = chance % 2 ? quire_engine_wait(s->engine, events, room, 1000000)
                                           : quire_engine_poll(s->engine, events, room);
        for (size_t i = 0; i < got; i++)
            if (events[i].kind == QUIRE_EVENT_FINISHED && events[i].last) atomic_fetch_add(&s->ended, 1);
        if (chance == 0) pause_for(20000000); /* stalls */
    }
    atomic_store(&s->over, true);
    return NULL;
}

static void *be_observer(void *context)
{
    station *s = context;
    for (uint64_t i = 0; !atomic_load(&s->over); i++, s->observed++) {
        quire_stats       stats       = {.size = sizeof stats};
        quire_explanation explanation = {.size = sizeof explanation};
        quire_engine_stats(s->engine, &stats);
        LANE_CHECK(stats.blocks_used + stats.blocks_cached + stats.blocks_free == stats.blocks, "blocks do not add up");
        const uint64_t newest = atomic_load(&s->newest);
        (void)quire_engine_explain(s->engine, newest > i % 50 ? newest - i % 50 : 1, &explanation);
        if (i % 40 == 0) quire_engine_flush_cache(s->engine);
        if (i % 100 == 0) {
            const char *broken = quire_engine_check(s->engine);
            LANE_CHECK(broken == NULL, "check: %s", broken);
        }
        pause_for(300000);
    }
    return NULL;
}

/* In the child every call says that the engine is the parent's, and returns. */
static void fork_once(const station *stations)
{
    const pid_t child = fork();
    LANE_CHECK(child >= 0, "fork");
    if (child == 0) {
        bool right = true;
        for (int e = 0; e < ENGINES; e++) {
            quire_engine *engine = stations[e].engine;
            quire_event   event;
            station       copy = {.engine = engine};
            right              = right && submit(&copy, 1, 1, NULL) == QUIRE_ERR_FORKED &&
                    quire_engine_step(engine, NULL) == QUIRE_ERR_FORKED &&
                    quire_engine_cancel(engine, 1) == QUIRE_ERR_FORKED && quire_engine_poll(engine, &event, 1) == 0;
            quire_engine_destroy(engine);
        }
        _exit(right ? 0 : 1);
    }
    int status = 0;
    LANE_CHECK(waitpid(child, &status, 0) == child && status == 0, "a forked child ended with status %#x", status);
    forks++;
}

/* ---- a run ---- */

static void set_up(station *s, uint64_t seed, const effort *work)
{
    const quire_model_options  model   = {.size = sizeof model, .weight_dtype = QUIRE_DTYPE_F32};
    const quire_engine_options options = {.size                   = sizeof options,
                                          .num_kv_blocks          = 40,
                                          .max_model_len          = 256,
                                          .max_num_seqs           = 8,
                                          .max_num_batched_tokens = 96,
                                          .max_num_queued_reqs    = 24,
                                          .num_speculative_tokens = 2,
                                          .threads                = 2,
                                          .bind                   = QUIRE_BIND_NONE,
                                          .logger                 = {.level = QUIRE_LOG_ERROR}};
    quire_error                error;
    LANE_CHECK(quire_model_synthetic("tiny", &model, &s->model, &error) == QUIRE_OK, "%s", error.message);
    LANE_CHECK(quire_engine_create(&options, s->model, &s->engine, &error) == QUIRE_OK, "%s", error.message);
    s->seed = seed;
    s->work = *work;
    pthread_mutex_init(&s->sums, NULL);
}

static void tear_down(station *s)
{
    quire_stats stats = {.size = sizeof stats};
    quire_event event;
    quire_engine_stats(s->engine, &stats);
    LANE_CHECK(stats.requests_submitted == s->accepted && stats.requests_finished == s->accepted &&
                   s->ended == s->accepted,
               "%llu accepted, %llu ended", (unsigned long long)s->accepted, (unsigned long long)s->ended);
    LANE_CHECK(stats.blocks_used == 0, "%llu blocks are in use at the end", (unsigned long long)stats.blocks_used);
    LANE_CHECK(quire_engine_poll(s->engine, &event, 1) == 0, "an event after the last");
    quire_engine_destroy(s->engine);
    quire_model_destroy(s->model);
    pthread_mutex_destroy(&s->sums);
}

static pthread_t start(void *(*body)(void *), void *context)
{
    pthread_t thread;
    LANE_CHECK(pthread_create(&thread, NULL, body, context) == 0, "a thread");
    return thread;
}

enum { SERVANTS = 4 };

typedef struct crew {
    role      roles[SUBMITTERS + CANCELLERS];
    pthread_t clients[SUBMITTERS + CANCELLERS], servants[SERVANTS];
} crew;

static void start_crew(crew *c, station *s)
{
    void *(*const bodies[SERVANTS])(void *) = {be_driver, be_stopper, be_reader, be_observer};
    for (int i = 0; i < SERVANTS; i++) c->servants[i] = start(bodies[i], s);
    for (int i = 0; i < SUBMITTERS + CANCELLERS; i++) {
        c->roles[i]   = (role){s, 10 + (uint64_t)i};
        c->clients[i] = start(i < SUBMITTERS ? be_submitter : be_canceller, &c->roles[i]);
    }
}

int main(int argc, char **argv)
{
    static station stations[ENGINES];
    static crew    crews[ENGINES];
    const effort  *work = lane_is_long(argc, argv) ? &in_long : &in_short;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (int e = 0; e < ENGINES; e++) set_up(&stations[e], seed + (uint64_t)e, work);
    for (int e = 0; e < ENGINES; e++) start_crew(&crews[e], &stations[e]);
    for (uint64_t i = 0; i < work->forks; i++, pause_for(20000000)) fork_once(stations);
    for (int e = 0; e < ENGINES; e++) {
        for (int i = 0; i < SUBMITTERS + CANCELLERS; i++) pthread_join(crews[e].clients[i], NULL);
        atomic_store(&stations[e].submitted, true);
        for (int i = 0; i < SERVANTS; i++) pthread_join(crews[e].servants[i], NULL);
    }
    for (int e = 0; e < ENGINES; e++) {
        const station *s = &stations[e];
        printf(
            "threads: seed %llu: %llu submits (%llu accepted), %llu cancels (%llu in time), %llu stops, %llu looks\n",
            (unsigned long long)s->seed, (unsigned long long)(s->accepted + s->refused),
            (unsigned long long)s->accepted, (unsigned long long)(CANCELLERS * s->work.cancels),
            (unsigned long long)s->cancelled, (unsigned long long)s->stops, (unsigned long long)s->observed);
        tear_down(&stations[e]);
    }
    printf("threads: %llu forks; nothing lost, nothing twice\n", (unsigned long long)forks);
    return 0;
}
