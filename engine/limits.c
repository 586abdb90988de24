/* The limits of a machine as its team meets them. Every sample is one pass of all threads between two barriers, timed
 * by thread 0: the slowest thread counts, as in a step. */
#include "engine/limits.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "kernels/limits.h"

enum {
    READ_SAMPLES     = 9,
    RUN_SAMPLES      = 3,
    RUN_SHARE        = 4, /* a sample of runs reads one quarter of the memory, the next one the next quarter */
    MULTIPLY_SAMPLES = 5,
    MULTIPLY_STEPS   = 200000,
    BARRIER_SAMPLES  = 5,
    BARRIERS         = 1000,
    SAMPLES_MAX      = 9,
    CACHES           = 8, /* times the last-level caches are read */
};

static const uint64_t least_bytes = (uint64_t)16 << 20, most_bytes = (uint64_t)512 << 20, least_run = 4096;

typedef struct measurement {
    qr_team          *team;
    const qr_kernels *kernels;
    qr_mapping        memory;
    size_t            thread_bytes; /* a power of two; thread t reads [t, t + 1) * thread_bytes */
    uint64_t          start_ns;
    double            samples[SAMPLES_MAX]; /* of the quantity at hand; written by thread 0 */
    quire_limits      limits;
    float             sink[QR_MAX_THREADS]; /* makes the loops' results needed */
} measurement;

/* One thread's part of one sample. */
typedef float sample_function(measurement *m, uint32_t thread, uint32_t sample, uint32_t variant);

float qr_limits_read(const void *from, size_t bytes)
{
    const qr_kernels *best;
    (void)qr_kernels_available(&best, 1);
    return best->limits->read(from, bytes);
}

static int compare_doubles(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *samples, uint32_t count)
{
    qsort(samples, count, sizeof *samples, compare_doubles);
    return samples[count / 2];
}

/* ---- one quantity: samples between barriers ---- */

typedef struct quantity {
    sample_function *run;
    uint32_t         samples, variant;
    double           work; /* of all threads in one sample */
} quantity;

/* *result: work per nanosecond. */
static void measure(measurement *m, uint32_t thread, const quantity *q, double *result)
{
    for (uint32_t s = 0; s < q->samples; s++) {
        qr_team_barrier(m->team);
        const uint64_t start = qr_now_ns();
        m->sink[thread] += q->run(m, thread, s, q->variant);
        qr_team_barrier(m->team);
        if (thread == 0) m->samples[s] = (double)(qr_now_ns() - start);
    }
    if (thread == 0) *result = q->work / median(m->samples, q->samples);
}

static float read_in_order(measurement *m, uint32_t thread, uint32_t sample, uint32_t variant)
{
    (void)sample, (void)variant;
    return qr_limits_read(m->memory.base + thread * m->thread_bytes, m->thread_bytes);
}

/* Runs of least_run << variant bytes. Their order is a linear congruential sequence modulo a power of two with full
 * period (Hull & Dobell 1962), so that each run is read once before any is read again. */
static float read_in_runs(measurement *m, uint32_t thread, uint32_t sample, uint32_t variant)
{
    const size_t bytes = least_run << variant, count = m->thread_bytes / bytes, part = qr_max_u64(1, count / RUN_SHARE);
    const char  *base = m->memory.base + thread * m->thread_bytes;
    uint64_t     run  = 0;
    float        sum  = 0;
    for (size_t i = 0; i < (sample + 1) * part; i++) {
        run = (run * 1664525 + 1013904223) & (count - 1);
        if (i >= sample * part) sum += qr_limits_read(base + run * bytes, bytes);
    }
    return sum;
}

static float multiply(measurement *m, uint32_t thread, uint32_t sample, uint32_t variant)
{
    (void)thread, (void)sample;
    return m->kernels->limits->by_dtype[variant].multiply(MULTIPLY_STEPS);
}

static float pass_barriers(measurement *m, uint32_t thread, uint32_t sample, uint32_t variant)
{
    (void)thread, (void)sample, (void)variant;
    for (int i = 0; i < BARRIERS; i++) qr_team_barrier(m->team);
    return 0;
}

/* ---- all of them ---- */

static void measure_reading(measurement *m, uint32_t thread, uint32_t thread_count)
{
    const double   all  = (double)m->thread_bytes * thread_count;
    const quantity read = {.run = read_in_order, .samples = READ_SAMPLES, .work = all};
    measure(m, thread, &read, &m->limits.read_gbs);
    for (uint32_t i = 0; i < QUIRE_LIMIT_RUNS; i++) {
        const quantity runs = {.run = read_in_runs, .samples = RUN_SAMPLES, .variant = i, .work = all / RUN_SHARE};
        measure(m, thread, &runs, &m->limits.run_gbs[i]);
    }
}

static void measure_peak(measurement *m, uint32_t thread, uint32_t thread_count, qr_dtype dtype, double *result)
{
    const double   step = (double)m->kernels->limits->by_dtype[dtype].operations * MULTIPLY_STEPS;
    const quantity peak = {.run = multiply, .samples = MULTIPLY_SAMPLES, .variant = dtype, .work = step * thread_count};
    measure(m, thread, &peak, result);
}

static void measure_barrier(measurement *m, uint32_t thread)
{
    const quantity barriers = {.run = pass_barriers, .samples = BARRIER_SAMPLES, .work = BARRIERS};
    measure(m, thread, &barriers, &m->limits.barrier_ns);
    if (thread == 0) m->limits.barrier_ns = 1 / m->limits.barrier_ns;
}

static void measure_on_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    measurement *m = context;
    memset(m->memory.base + thread * m->thread_bytes, 1,
           m->thread_bytes); /* first touch: else a page of zeros is read */
    measure_reading(m, thread, thread_count);
    measure_peak(m, thread, thread_count, QR_F32, &m->limits.f32_gflops);
    measure_peak(m, thread, thread_count, QR_BF16, &m->limits.bf16_gflops);
    measure_peak(m, thread, thread_count, QR_INT8, &m->limits.int8_gops);
    measure_barrier(m, thread);
}

/* ---- memory ---- */

/* A power of two for each thread: eight times the caches together, but no more than `most_bytes`, which already takes
 * 0.3 s to read so often, and less where memory is short. */
static size_t bytes_of_thread(uint64_t cache_bytes, uint32_t thread_count)
{
    const uint64_t wanted = qr_min_u64(qr_max_u64(CACHES * cache_bytes, least_bytes), most_bytes) / thread_count;
    const uint64_t most   = qr_max_u64(qr_memory_limit(NULL) / 2 / thread_count, 1);
    uint64_t       bytes  = (uint64_t)1 << 20; /* the longest run */
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
                               placement->node_count, bind, error));
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
