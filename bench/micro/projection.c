/* How far projections are from the speed of a plain read (few rows) and of multiplication (many rows). All arms take
 * turns in every round and the best round of each counts, so that a busy neighbour hits all of them. */
#include "bench/micro/micro.h"

#include <immintrin.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernels/projection.h"

enum { K = 2048, COLUMNS = 2816, ROWS_MAX = 256, COPIES_MAX = 24, ROW_COUNTS = 12, ARMS = 2, SET_BYTES = 96 << 20 };

static const uint32_t row_counts[ROW_COUNTS] = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256};

/* Copies of one matrix, together larger than the caches. */
typedef struct arm {
    const char            *name;
    qr_projection_context *context;
    qr_projection         *projections[COPIES_MAX];
    char                  *memory; /* the packed copies, one after the other */
    size_t                 bytes;  /* of one copy */
    uint32_t               copies, next;
    double                 best[ROW_COUNTS]; /* seconds */
} arm;

/* The thread's own time: on a shared machine the clock on the wall measures the neighbours. */
static uint64_t thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double seconds_since(uint64_t start_ns) { return (double)(thread_ns() - start_ns) * 1e-9; }

static quire_status random_columns(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    (void)context, (void)error;
    for (uint64_t i = 0; i < (uint64_t)count * K; i++)
        out[i] = (float)(qr_mix64(first * (uint64_t)K + i) >> 40) * 0x1p-24f;
    return QUIRE_OK;
}

static quire_status arm_fill(arm *a, qr_dtype dtype, quire_error *error)
{
    const qr_projection_shape shape  = {.k = K, .columns = COLUMNS, .dtype = dtype, .name = "micro"};
    const qr_weight_source    source = {.read = random_columns, .columns = COLUMNS};
    for (uint32_t i = 0; i < a->copies || i == 0; i++) {
        QR_TRY(qr_projection_create(a->context, &shape, &a->projections[i], error));
        if (i == 0) {
            a->bytes  = qr_projection_shard_bytes(a->projections[0], 0);
            a->copies = (uint32_t)(SET_BYTES / a->bytes) + 1;
            a->copies = a->copies < COPIES_MAX ? a->copies : COPIES_MAX;
            a->memory = qr_allocate(NULL, a->bytes * a->copies, 4096);
            if (a->memory == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "the packed weights");
        }
        QR_TRY(qr_projection_pack(a->projections[i], 0, a->memory + i * a->bytes, &source, 1, error));
        QR_TRY(qr_projection_finish(a->projections[i], error));
    }
    return QUIRE_OK;
}

static quire_status arm_create(arm *a, const qr_kernels *kernels, qr_dtype dtype, quire_small_m small_m,
                               quire_error *error)
{
    const qr_projection_context_options options = {
        .kernels = kernels, .thread_count = 1, .max_rows = ROWS_MAX, .small_m = small_m, .batch_invariant = true};
    QR_TRY(qr_projection_context_create(&options, &a->context, error));
    QR_TRY(arm_fill(a, dtype, error));
    a->name = qr_projection_implementation(a->context);
    for (int i = 0; i < ROW_COUNTS; i++) a->best[i] = 1e9;
    return QUIRE_OK;
}

static void arm_destroy(arm *a)
{
    for (uint32_t i = 0; i < a->copies; i++) qr_projection_destroy(a->projections[i]);
    qr_projection_context_destroy(a->context);
    qr_deallocate(NULL, a->memory, a->bytes * a->copies);
}

/* ---- what to compare with ---- */

static uint64_t read_all(const char *from, size_t bytes)
{
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 64 <= bytes; i += 64)
        for (int j = 0; j < 8; j++) {
            uint64_t word;
            memcpy(&word, from + i + 8 * j, sizeof word);
            sum[j] += word;
        }
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

enum { PEAK_STEPS = 100000, PEAK_CHAINS = 12 };

/* PEAK_STEPS multiply-adds of each of twelve chains: enough to hide their latency. */
#define PEAK_LOOP(vector, fma, set)                                                                                    \
    vector       sum[PEAK_CHAINS];                                                                                     \
    const vector half                                                     = set(0.5f);                                 \
    _Pragma("GCC unroll 12") for (int j = 0; j < PEAK_CHAINS; j++) sum[j] = half;                                      \
    for (int i = 0; i < PEAK_STEPS; i++) {                                                                             \
        _Pragma("GCC unroll 12") for (int j = 0; j < PEAK_CHAINS; j++)                                                 \
        {                                                                                                              \
            sum[j] = fma(sum[j], half, half);                                                                          \
            __asm__ volatile("" : "+x"(sum[j]));                                                                       \
        }                                                                                                              \
    }

__attribute__((target("avx2,fma"))) static void multiply_avx2(void)
{
    PEAK_LOOP(__m256, _mm256_fmadd_ps, _mm256_set1_ps)
}

__attribute__((target("avx512f"))) static void multiply_avx512(void)
{
    PEAK_LOOP(__m512, _mm512_fmadd_ps, _mm512_set1_ps)
}

/* Flops per second of a register-only loop in f32; 0 for the scalar table, whose arithmetic is the compiler's. */
static double measure_peak(const qr_kernels *kernels)
{
    const bool wide = strncmp(kernels->isa, "avx512", 6) == 0;
    if (!wide && strcmp(kernels->isa, "avx2") != 0) return 0;
    const uint64_t start = thread_ns();
    if (wide)
        multiply_avx512();
    else
        multiply_avx2();
    return 2.0 * PEAK_STEPS * PEAK_CHAINS * (wide ? 16 : 8) / seconds_since(start);
}

/* ---- the rounds ---- */

typedef struct bench {
    const qr_kernels *kernels;
    qr_dtype          dtype;
    arm               arms[ARMS];
    uint32_t          arm_count;
    qr_rows           x, y;       /* [ROWS_MAX] */
    double            read, peak; /* best seconds of one copy; flops per second */
    uint64_t          sink;       /* keeps the reads */
} bench;

static void run_arm(bench *b, arm *a, int count)
{
    const qr_projection_out out   = {.to = b->y};
    const uint64_t          start = thread_ns();
    qr_projection_run(a->projections[a->next], 0, &b->x, row_counts[count], &out);
    const double seconds = seconds_since(start);
    if (seconds < a->best[count]) a->best[count] = seconds;
    a->next = a->next + 1 < a->copies ? a->next + 1 : 0;
}

static void run_round(bench *b)
{
    const double peak = measure_peak(b->kernels);
    b->peak           = peak > b->peak ? peak : b->peak;
    for (uint32_t i = 0; i < b->arms[0].copies; i++) {
        const uint64_t start = thread_ns();
        b->sink += read_all(b->arms[0].memory + i * b->arms[0].bytes, b->arms[0].bytes);
        const double seconds = seconds_since(start);
        if (seconds < b->read) b->read = seconds;
    }
    for (int count = 0; count < ROW_COUNTS; count++)
        for (uint32_t i = 0; i < b->arm_count; i++) run_arm(b, &b->arms[i], count);
}

static void print_arm(const bench *b, const arm *a, int count, FILE *out)
{
    const double flops = 2.0 * K * COLUMNS * row_counts[count];
    fprintf(out, "  %5.2f R", b->read / a->best[count]);
    if (b->peak > 0) fprintf(out, " %5.2f P", flops / a->best[count] / b->peak);
}

static void print(const bench *b, FILE *out)
{
    static const char names[][5] = {[QR_F32] = "f32", [QR_BF16] = "bf16", [QR_INT8] = "int8"};
    fprintf(out, "%s, k %d, %d columns, one thread: R %.1f GB/s, P %.0f GFLOP/s (f32)%s\n", names[b->dtype], K, COLUMNS,
            (double)b->arms[0].bytes / b->read * 1e-9, b->peak * 1e-9, b->sink == 1 ? "." : "");
    for (uint32_t i = 0; i < b->arm_count; i++)
        fprintf(out, "  arm %u: %s%s\n", i, b->arms[i].name, i == 0 ? ", own kernel where chosen" : ", oneDNN alone");
    for (int count = 0; count < ROW_COUNTS; count++) {
        fprintf(out, "  M = %3u", row_counts[count]);
        for (uint32_t i = 0; i < b->arm_count; i++) print_arm(b, &b->arms[i], count, out);
        if (b->arm_count > 1) fprintf(out, "   %5.2fx", b->arms[1].best[count] / b->arms[0].best[count]);
        fprintf(out, "\n");
    }
}

static quire_status rows_create(qr_rows *rows, qr_dtype dtype, uint32_t dim, quire_error *error)
{
    *rows        = (qr_rows){.dtype = dtype, .dim = dim, .stride = dim};
    rows->data   = qr_allocate(NULL, (size_t)ROWS_MAX * dim * qr_dtype_bytes(dtype), 64);
    rows->scales = qr_allocate(NULL, ROWS_MAX * sizeof(float), 64);
    return rows->data && rows->scales ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "rows");
}

static void rows_destroy(qr_rows *rows)
{
    qr_deallocate(NULL, rows->data, (size_t)ROWS_MAX * rows->dim * qr_dtype_bytes(rows->dtype));
    qr_deallocate(NULL, rows->scales, ROWS_MAX * sizeof(float));
}

static quire_status fill_x(bench *b, quire_error *error)
{
    float *row = qr_allocate(NULL, K * sizeof *row, 64);
    if (row == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "a row");
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        for (uint32_t i = 0; i < K; i++) row[i] = (float)(qr_random_uniform(1, r, i) - 0.5);
        b->kernels->convert(&b->x, r, row);
    }
    qr_deallocate(NULL, row, K * sizeof *row);
    return QUIRE_OK;
}

/* The second arm only where oneDNN is something else than the first. */
static quire_status prepare(bench *b, quire_error *error)
{
    QR_TRY(rows_create(&b->x, b->dtype, K, error));
    QR_TRY(rows_create(&b->y, QR_F32, COLUMNS, error));
    QR_TRY(fill_x(b, error));
    QR_TRY(arm_create(&b->arms[0], b->kernels, b->dtype, QUIRE_SMALL_M_AUTO, error));
    QR_TRY(arm_create(&b->arms[1], b->kernels, b->dtype, QUIRE_SMALL_M_ONEDNN, error));
    b->arm_count = strncmp(b->arms[1].name, "own", 3) == 0 ? 1 : 2;
    return QUIRE_OK;
}

static quire_status run(bench *b, unsigned rounds, FILE *out, quire_error *error)
{
    b->read             = 1e9;
    quire_status status = prepare(b, error);
    for (unsigned i = 0; i < rounds && status == QUIRE_OK; i++) run_round(b);
    if (status == QUIRE_OK) print(b, out);
    for (int i = 0; i < ARMS; i++) arm_destroy(&b->arms[i]);
    rows_destroy(&b->x), rows_destroy(&b->y);
    return status;
}

int qr_micro_projection(const char *isa, unsigned rounds, FILE *out)
{
    const qr_kernels *kernels = qr_kernels_select(isa);
    if (kernels == NULL) {
        fprintf(stderr, "quire kernel: unknown instruction set %s\n", isa);
        return 1;
    }
    for (int dtype = QR_F32; dtype <= QR_INT8; dtype++) {
        quire_error error = {0};
        bench       b     = {.kernels = kernels, .dtype = (qr_dtype)dtype};
        if (run(&b, rounds, out, &error) == QUIRE_OK) continue;
        fprintf(stderr, "quire kernel: %s\n", error.message);
        return 1;
    }
    return 0;
}
