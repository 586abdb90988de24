/* Measures the roofline of a machine as its team meets it. Every sample is one pass of all threads between two
 * barriers, timed by thread 0: the slowest thread counts, as in a step. */
#include "engine/limits.h"

#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/median.h"
#include "kernels/limits.h"

enum {
    READ_SAMPLES     = 9,
    RUN_SAMPLES      = 3,
    SET_SAMPLES      = 3,
    PARTS            = 8, /* of a thread's memory; a sample reads one, the next sample the next */
    MULTIPLY_SAMPLES = 5,
    MULTIPLY_STEPS   = 200000,
    BARRIER_SAMPLES  = 5,
    BARRIERS         = 1000,
    SAMPLES_MAX      = 9,
};

static const uint64_t least_run = 4096, longest_run = 1 << 20;
static const uint64_t least_set  = 1 << 20,
                      least_read = 16 << 20; /* of all threads: the smallest set, a sample of one */

typedef struct measurement {
    qr_team          *team;
    const qr_kernels *kernels;
    qr_mapping        memory;
    size_t            thread_bytes;         /* a power of two; thread t reads [t, t + 1) * thread_bytes */
    double            samples[SAMPLES_MAX]; /* of the quantity at hand; written by thread 0 */
    quire_limits      limits;
    float             sink[QR_MAX_THREADS]; /* makes the loops' results needed */
} measurement;

/* A thread in the middle of the measurement. */
typedef struct worker {
    measurement *m;
    uint32_t     thread, thread_count;
    uint32_t     samples; /* taken so far, of all quantities */
} worker;

/* One thread's part of one sample. */
typedef float sample_function(const worker *w, uint32_t variant);

/* ---- one quantity: samples between barriers ---- */

typedef struct quantity {
    sample_function *run;
    uint32_t         samples, variant;
    double           work; /* of all threads in one sample */
} quantity;

/* *result: work per nanosecond. */
static void measure(worker *w, const quantity *q, double *result)
{
    measurement *m = w->m;
    for (uint32_t s = 0; s < q->samples; s++, w->samples++) {
        qr_team_barrier(m->team);
        const uint64_t start = qr_now_ns();
        m->sink[w->thread] += q->run(w, q->variant);
        qr_team_barrier(m->team);
        if (w->thread == 0) m->samples[s] = (double)(qr_now_ns() - start);
    }
    if (w->thread == 0) *result = q->work / qr_median(m->samples, q->samples);
}

static size_t part_bytes(const measurement *m) { return m->thread_bytes / PARTS; }

/* What this sample reads: nothing is read again before all the rest has been, so that no cache holds it. */
static const char *part_of(const worker *w)
{
    return w->m->memory.base + w->thread * w->m->thread_bytes + w->samples % PARTS * part_bytes(w->m);
}

static float read_in_order(const worker *w, uint32_t variant)
{
    (void)variant;
    return w->m->kernels->limits->read(part_of(w), part_bytes(w->m));
}

/* Runs of least_run << variant bytes. Their order is a linear congruential sequence modulo a power of two with full
 * period (Hull & Dobell 1962), so that each run is read once. */
static float read_in_runs(const worker *w, uint32_t variant)
{
    const size_t bytes = least_run << variant, count = part_bytes(w->m) / bytes;
    const char  *base = part_of(w);
    uint64_t     run  = 0;
    float        sum  = 0;
    for (size_t i = 0; i < count; i++) {
        run = (run * 1664525 + 1013904223) & (count - 1);
        sum += w->m->kernels->limits->read(base + run * bytes, bytes);
    }
    return sum;
}

/* A thread's part of a working set of least_set << variant bytes. */
static size_t set_bytes(const worker *w, uint32_t variant)
{
    return qr_round_up((least_set << variant) / w->thread_count, QR_READ_STEP);
}

static uint32_t set_passes(const worker *w, uint32_t variant)
{
    return (uint32_t)qr_ceil_div_u64(least_read, set_bytes(w, variant) * w->thread_count);
}

/* Again and again: what the caches hold of the set comes from there, as a step's weights and keys do. */
static float read_set(const worker *w, uint32_t variant)
{
    const char *base = w->m->memory.base + w->thread * w->m->thread_bytes;
    float       sum  = 0;
    for (uint32_t i = 0; i < set_passes(w, variant); i++)
        sum += w->m->kernels->limits->read(base, set_bytes(w, variant));
    return sum;
}

static float multiply(const worker *w, uint32_t variant)
{
    return w->m->kernels->limits->by_dtype[variant].multiply(MULTIPLY_STEPS);
}

static float pass_barriers(const worker *w, uint32_t variant)
{
    (void)variant;
    for (int i = 0; i < BARRIERS; i++) qr_team_barrier(w->m->team);
    return 0;
}

/* ---- all of them ---- */

static void measure_reading(worker *w, quire_limits *limits)
{
    const double   work = (double)part_bytes(w->m) * w->thread_count;
    const quantity read = {.run = read_in_order, .samples = READ_SAMPLES, .work = work};
    measure(w, &read, &limits->read_gbs);
    for (uint32_t i = 0; i < QUIRE_LIMIT_RUNS; i++) {
        const quantity runs = {.run = read_in_runs, .samples = RUN_SAMPLES, .variant = i, .work = work};
        measure(w, &runs, &limits->run_gbs[i]);
    }
}

static void measure_sets(worker *w, quire_limits *limits)
{
    for (uint32_t i = 0; i < QUIRE_LIMIT_SETS && set_bytes(w, i) <= w->m->thread_bytes; i++) {
        const double   work = (double)set_bytes(w, i) * set_passes(w, i) * w->thread_count;
        const quantity warm = {.run = read_set, .samples = 1, .variant = i, .work = work};
        const quantity sets = {.run = read_set, .samples = SET_SAMPLES, .variant = i, .work = work};
        measure(w, &warm, &limits->set_gbs[i]);
        measure(w, &sets, &limits->set_gbs[i]);
    }
}

static void measure_peak(worker *w, qr_dtype dtype, double *result)
{
    const double   work = (double)w->m->kernels->limits->by_dtype[dtype].operations * MULTIPLY_STEPS * w->thread_count;
    const quantity peak = {.run = multiply, .samples = MULTIPLY_SAMPLES, .variant = dtype, .work = work};
    measure(w, &peak, result);
}

static void measure_barrier(worker *w, double *barrier_ns)
{
    const quantity barriers = {.run = pass_barriers, .samples = BARRIER_SAMPLES, .work = BARRIERS};
    measure(w, &barriers, barrier_ns);
    if (w->thread == 0) *barrier_ns = 1 / *barrier_ns;
}

static void measure_on_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    measurement *m = context;
    worker       w = {.m = m, .thread = thread, .thread_count = thread_count};
    memset(m->memory.base + thread * m->thread_bytes, 1, m->thread_bytes); /* else pages of zeros would be read */
    measure_reading(&w, &m->limits);
    measure_sets(&w, &m->limits);
    measure_peak(&w, QR_F32, &m->limits.f32_gflops);
    measure_peak(&w, QR_BF16, &m->limits.bf16_gflops);
    measure_peak(&w, QR_INT8, &m->limits.int8_gops);
    measure_barrier(&w, &m->limits.barrier_ns);
}

/* ---- memory ---- */

/* At most: a virtual machine may be told of 260 MB of its host's cache, and eight times that took five seconds to fill
 * and read. */
uint64_t qr_limits_beyond(uint64_t cache_bytes) { return qr_min_u64(8 * cache_bytes, (uint64_t)512 << 20); }

/* A power of two for each thread, less than wanted where memory is short. */
static size_t bytes_of_thread(uint64_t cache_bytes, uint32_t thread_count)
{
    const uint64_t wanted = qr_limits_beyond(cache_bytes) / thread_count;
    const uint64_t most   = qr_memory_limit(NULL) / 2 / thread_count;
    uint64_t       bytes  = PARTS * longest_run;
    while (bytes < wanted && 2 * bytes <= most) bytes *= 2;
    return bytes;
}

static quire_status create_memory(measurement *m, const qr_bind_options *bind, quire_error *error)
{
    const qr_placement *placement = qr_team_placement(m->team);
    QR_TRY(qr_mapping_create(m->thread_bytes * placement->thread_count, bind, "memory to measure the limits in",
                             &m->memory, error));
    for (uint32_t t = 0; t < placement->thread_count; t++)
        QR_TRY(qr_mapping_bind(&m->memory, t * m->thread_bytes, m->thread_bytes, placement->node_os[placement->node[t]],
                               placement->machine_nodes, bind, error));
    return QUIRE_OK;
}

quire_status qr_limits_measure(qr_team *team, const qr_limits_options *options, quire_limits *limits_out,
                               quire_error *error)
{
    measurement    m     = {.team = team, .kernels = options->kernels};
    const uint32_t count = qr_team_size(team);
    m.thread_bytes       = bytes_of_thread(options->cache_bytes, count);
    m.limits.size        = limits_out->size;
    m.limits.read_bytes  = m.thread_bytes * count;
    m.limits.cache_bytes = options->cache_bytes;
    m.limits.measured_ns = qr_now_ns();
    quire_status status  = create_memory(&m, options->bind, error);
    if (status == QUIRE_OK) qr_team_run(team, measure_on_thread, &m);
    if (status == QUIRE_OK) *limits_out = m.limits;
    qr_mapping_destroy(&m.memory);
    return status;
}
