/* Row-wise kernels with their rows in a core's second-level cache, where a step's activations are. The limit of each is
 * a plain read of as many bytes as it moves from and to that cache. */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench/micro/variants.h"
#include "kernels/limits.h"

enum {
    ROWS       = 16,                  /* that a thread goes round in */
    PASS_BYTES = 64 << 20,            /* of a thread in one pass: some milliseconds */
    SHORT_ROW  = 256,                 /* a shorter one counts as this: its time is mostly that of a call */
    SEGMENT    = 4096,                /* of a row's exponentials, as sampling adds them */
    READ_BYTES = ROWS * 2048 * 4 * 2, /* of the plain read: half of the smallest second-level caches in use */
    VARIANTS   = 16,
};

_Static_assert(PASS_BYTES % READ_BYTES == 0, "a pass reads whole rounds");

/* One thread's rows. */
typedef struct thread_rows {
    float  *in, *weight, *sum; /* [ROWS][dim], [dim], [dim] */
    qr_rows f32, bf16, int8;   /* [ROWS] */
    char   *plain;             /* [READ_BYTES] */
    float   sink;
} thread_rows;

typedef struct bench {
    const qr_machine *machine;
    uint32_t          dim;
    thread_rows      *threads; /* [thread_count] */
    qr_variant        variants[VARIANTS];
    struct rowwise   *contexts; /* [VARIANTS] */
    uint32_t          variant_count;
} bench;

typedef void row_function(const bench *b, thread_rows *t, uint32_t row);

typedef struct rowwise {
    const bench  *bench;
    row_function *run;
    uint32_t      repeats; /* rows of one thread in one pass */
} rowwise;

/* ---- the kernels ---- */

static const float *in_row(const bench *b, const thread_rows *t, uint32_t row) { return t->in + (size_t)row * b->dim; }

static void norm_f32(const bench *b, thread_rows *t, uint32_t row)
{
    b->machine->kernels->rms_norm(&t->f32, row, in_row(b, t, row), t->weight, 1e-5f);
}

static void norm_bf16(const bench *b, thread_rows *t, uint32_t row)
{
    b->machine->kernels->rms_norm(&t->bf16, row, in_row(b, t, row), t->weight, 1e-5f);
}

static void norm_int8(const bench *b, thread_rows *t, uint32_t row)
{
    b->machine->kernels->rms_norm(&t->int8, row, in_row(b, t, row), t->weight, 1e-5f);
}

static void layer_norm_bf16(const bench *b, thread_rows *t, uint32_t row)
{
    b->machine->kernels->layer_norm(&t->bf16, row, in_row(b, t, row), t->weight, t->weight, 1e-5f);
}

static void convert_bf16(const bench *b, thread_rows *t, uint32_t row)
{
    b->machine->kernels->convert(&t->bf16, row, in_row(b, t, row));
}

static void convert_int8(const bench *b, thread_rows *t, uint32_t row)
{
    b->machine->kernels->convert(&t->int8, row, in_row(b, t, row));
}

static void argmax(const bench *b, thread_rows *t, uint32_t row)
{
    float greatest;
    (void)b->machine->kernels->argmax(in_row(b, t, row), b->dim, &greatest);
    t->sink += greatest;
}

/* The outputs of a segment stay in L1. */
static void exp_scaled(const bench *b, thread_rows *t, uint32_t row)
{
    float scaled[SEGMENT], weights[SEGMENT];
    for (uint32_t i = 0; i < b->dim; i += SEGMENT)
        t->sink += b->machine->kernels->exp_scaled(scaled, weights, in_row(b, t, row) + i,
                                                   qr_min_u32(SEGMENT, b->dim - i), 1, 0.8f);
}

static void partial_lse(const bench *b, thread_rows *t, uint32_t row)
{
    float          greatest, sum;
    uint32_t       best;
    qr_partial_lse partial_lse = {&greatest, &sum, &best, 1};
    for (uint32_t i = 0; i < b->dim; i += QR_LSE_COLUMNS) {
        b->machine->kernels->partial_lse(&partial_lse, in_row(b, t, row) + i, i,
                                         qr_min_u32(QR_LSE_COLUMNS, b->dim - i));
        t->sink += sum;
    }
}

static void axpy(const bench *b, thread_rows *t, uint32_t row)
{
    b->machine->kernels->axpy(t->sum, in_row(b, t, row), 0.5f, b->dim);
}

/* ---- variants ---- */

static void run_rows(void *context, uint32_t thread, uint32_t thread_count)
{
    const rowwise *variant = context;
    (void)thread_count;
    for (uint32_t i = 0; i < variant->repeats; i++)
        variant->run(variant->bench, &variant->bench->threads[thread], i % ROWS);
}

static void run_read(void *context, uint32_t thread, uint32_t thread_count)
{
    const rowwise *variant = context;
    thread_rows   *t       = &variant->bench->threads[thread];
    (void)thread_count;
    for (uint32_t i = 0; i < PASS_BYTES / READ_BYTES; i++)
        t->sink += variant->bench->machine->kernels->limits->read(t->plain, READ_BYTES);
}

/* `bytes` of an element that come from or go to L2; weights and sums of one row stay in L1. */
static void add(bench *b, const char *name, row_function *run, double bytes)
{
    rowwise    *context = &b->contexts[b->variant_count];
    qr_variant *variant = &b->variants[b->variant_count++];
    *context            = (rowwise){.bench = b, .run = run, .repeats = PASS_BYTES / 4 / qr_max_u32(SHORT_ROW, b->dim)};
    *variant            = (qr_variant){.run     = run_rows,
                                       .context = context,
                                       .bytes   = bytes * b->dim * context->repeats * b->machine->thread_count,
                                       .params  = json_pack("{s:i}", "dim", (int)b->dim)};
    snprintf(variant->name, sizeof variant->name, "%s", name);
}

static void create_variants(bench *b)
{
    b->contexts[0]   = (rowwise){.bench = b};
    b->variants[0]   = (qr_variant){.name    = "C, plain read in L2",
                                    .run     = run_read,
                                    .context = &b->contexts[0],
                                    .bytes   = (double)PASS_BYTES * b->machine->thread_count};
    b->variant_count = 1;
    add(b, "rms_norm to f32", norm_f32, 4 + 4);
    add(b, "rms_norm to bf16", norm_bf16, 4 + 2);
    add(b, "rms_norm to int8", norm_int8, 4 + 1);
    add(b, "layer_norm to bf16", layer_norm_bf16, 4 + 2);
    add(b, "convert to bf16", convert_bf16, 4 + 2);
    add(b, "convert to int8", convert_int8, 4 + 1);
    add(b, "argmax", argmax, 4);
    add(b, "exp_scaled", exp_scaled, 4);
    add(b, "partial log-sum-exp", partial_lse, 4);
    add(b, "axpy", axpy, 4);
}

/* ---- life ---- */

static qr_rows take_rows(qr_arena *arena, qr_dtype dtype, uint32_t dim)
{
    qr_rows rows = {.dtype = dtype, .dim = dim, .stride = qr_round_up_u32(dim, 64)};
    rows.data    = qr_arena_take(arena, (size_t)ROWS * rows.stride, qr_dtype_bytes(dtype));
    rows.scales  = QR_ARENA_TAKE(arena, float, ROWS);
    return rows;
}

static void lay_out(bench *b, qr_arena *arena)
{
    thread_rows *threads = QR_ARENA_TAKE(arena, thread_rows, b->machine->thread_count);
    b->contexts          = QR_ARENA_TAKE(arena, rowwise, VARIANTS);
    for (uint32_t t = 0; t < b->machine->thread_count; t++) {
        thread_rows mine = {.in     = QR_ARENA_TAKE(arena, float, (size_t)ROWS * b->dim),
                            .weight = QR_ARENA_TAKE(arena, float, b->dim),
                            .sum    = QR_ARENA_TAKE(arena, float, b->dim),
                            .f32    = take_rows(arena, QR_F32, b->dim),
                            .bf16   = take_rows(arena, QR_BF16, b->dim),
                            .int8   = take_rows(arena, QR_INT8, b->dim),
                            .plain  = QR_ARENA_TAKE(arena, char, READ_BYTES)};
        if (threads != NULL) threads[t] = mine;
    }
    b->threads = threads;
}

static void fill(const bench *b)
{
    for (uint32_t t = 0; t < b->machine->thread_count; t++) {
        for (size_t i = 0; i < (size_t)ROWS * b->dim; i++)
            b->threads[t].in[i] = (float)(2 * qr_random_uniform(5, t, i) - 1);
        for (uint32_t i = 0; i < b->dim; i++) b->threads[t].weight[i] = 1;
        memset(b->threads[t].plain, 1, READ_BYTES);
    }
}

static quire_status run(bench *b, const qr_micro_options *options, FILE *out, quire_error *error)
{
    qr_variants variants = {.machine = b->machine, .variant = b->variants, .count = b->variant_count};
    QR_TRY(qr_variants_run(&variants, options->rounds ? options->rounds : 15, error));
    for (uint32_t i = 1; i < b->variant_count; i++) qr_variant_limit(&b->variants[i], b->variants[0].gbs, "C", false);
    return qr_variants_report(&variants, "rowwise", options->json, out, error);
}

static quire_status prepare_and_run(qr_machine *machine, const qr_micro_options *options, FILE *out, quire_error *error)
{
    bench    b     = {.machine = machine, .dim = options->k ? options->k : 2048};
    qr_arena arena = {0};
    lay_out(&b, &arena);
    QR_TRY(qr_arena_create(&arena, NULL, "rows", error));
    lay_out(&b, &arena);
    fill(&b);
    create_variants(&b);
    const quire_status status = run(&b, options, out, error);
    qr_arena_destroy(&arena);
    return status;
}

int qr_micro_rowwise(const qr_micro_options *options, FILE *out)
{
    return qr_micro_on_machine(options, prepare_and_run, out);
}
