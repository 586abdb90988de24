/* Projections against a double-precision reference and against themselves: every instruction set of this machine, and
 * AVX-512 emulated; every dtype, ragged shapes, epilogues, shards, packing, the independence of a row's bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/rng.h"
#include "kernels/projection.h"
#include "kernels/projection_kernels.h"
#include "tests/support/kernel_tables.h"

enum { MAX_THREADS = 3, MAX_ROWS = 140 };

static const qr_kernels *tables[KERNEL_TABLES_MAX];
static uint32_t          table_count;

static int find_tables(void **state)
{
    (void)state;
    table_count = kernel_tables(tables);
    return table_count == 0;
}

/* NULL if this machine cannot run it. */
static const qr_kernels *the_table(const char *isa)
{
    for (uint32_t t = 0; t < table_count; t++)
        if (strcmp(tables[t]->isa, isa) == 0) return tables[t];
    return NULL;
}

/* ---- a projection with random weights ---- */

/* How weights are kept. */
typedef struct storage {
    qr_dtype       dtype;
    qr_code_format codes;
} storage;

static const storage storages[] = {{QR_F32, {0}},
                                   {QR_BF16, {0}},
                                   {QR_INT8, {0}},
                                   {QR_INT8, {4, 32, false}},
                                   {QR_INT8, {4, 64, true}},
                                   {QR_INT8, {4, 128, false}},
                                   {QR_INT8, {4, 32, true}},
                                   {QR_INT8, {8, 32, false}},
                                   {QR_INT8, {8, 128, false}}};
enum { CODES = 3, CODES_WITH_MINIMA, STORAGES = sizeof storages / sizeof *storages };

typedef struct subject {
    qr_projection_context *context;
    qr_projection         *projection;
    qr_projection_shape    shape;
    uint32_t               threads, halves;
    float                 *weights;         /* [halves * columns][k] */
    uint8_t               *codes;           /* likewise, with scale groups only; weights are then what they stand for */
    float                 *scales, *minima; /* [halves * columns][groups] */
    void                  *shards[MAX_THREADS];
    qr_rows                x;
} subject;

/* In [-1, 1). */
static float random_value(uint64_t stream, uint64_t i)
{
    return (float)(int32_t)(qr_mix64(stream << 40 ^ i) >> 32) * 0x1p-31f;
}

static float round_to(qr_dtype dtype, float x) { return dtype == QR_BF16 ? qr_f32_of_bf16(qr_bf16_of_f32(x)) : x; }

typedef struct slice { /* a source: columns [first, first + n) of the subject's matrix */
    const subject *s;
    uint32_t       first;
} slice;

static quire_status read_slice(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    (void)error;
    const slice *from = context;
    memcpy(out, from->s->weights + (size_t)(from->first + first) * from->s->shape.k,
           (size_t)count * from->s->shape.k * sizeof *out);
    return QUIRE_OK;
}

static uint32_t groups_of(const subject *s) { return qr_ceil_div_u32(s->shape.k, s->shape.codes.group); }

static quire_status read_slice_codes(void *context, uint32_t first, uint32_t count, uint8_t *codes, float *scales,
                                     float *minima, quire_error *error)
{
    const slice   *from   = context;
    const subject *s      = from->s;
    const size_t   column = from->first + first, k = s->shape.k, groups = groups_of(s);
    (void)error;
    memcpy(codes, s->codes + column * k, count * k);
    memcpy(scales, s->scales + column * groups, count * groups * sizeof *scales);
    assert_int_equal(minima != NULL, s->shape.codes.has_minimum);
    if (minima != NULL) memcpy(minima, s->minima + column * groups, count * groups * sizeof *minima);
    return QUIRE_OK;
}

static void *aligned(size_t bytes)
{
    void *memory = aligned_alloc(64, qr_round_up(bytes ? bytes : 1, 64));
    assert_non_null(memory);
    return memset(memory, 0, qr_round_up(bytes ? bytes : 1, 64));
}

static qr_rows rows_create(qr_dtype dtype, uint32_t dim, uint32_t rows)
{
    qr_rows r = {.dtype = dtype, .dim = dim, .stride = qr_round_up_u32(dim, 64)};
    r.data    = aligned((size_t)rows * r.stride * qr_dtype_bytes(dtype));
    r.scales  = dtype == QR_INT8 ? aligned(rows * sizeof(float)) : NULL;
    return r;
}

/* As a projection of the shape reads them. */
static qr_rows inputs_create(const qr_projection_shape *shape, uint32_t rows)
{
    qr_rows r = rows_create(shape->dtype, shape->k, rows);
    if (shape->codes.bits == 0) return r;
    r.scale_block = QR_CODES_BLOCK;
    free(r.scales);
    r.scales = aligned(rows * qr_row_scales(&r) * sizeof(float));
    return r;
}

static void rows_destroy(qr_rows *r) { free(r->data), free(r->scales); }

static void fill_x(const qr_rows *x, const qr_kernels *kernels, uint32_t rows)
{
    float *row = aligned(x->dim * sizeof(float));
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < x->dim; i++) row[i] = random_value(1000 + r, i);
        kernels->convert(x, r, row);
    }
    free(row);
}

typedef struct variant {
    quire_small_m small_m;
    uint32_t      sources; /* the columns are cut into as many */
} variant;

static void pack(subject *s, uint32_t sources)
{
    slice            slices[4];
    qr_weight_source all[4];
    for (uint32_t i = 0; i < sources; i++) {
        const uint32_t columns = s->shape.columns * s->halves, first = columns * i / sources;
        slices[i] = (slice){s, first};
        all[i]    = (qr_weight_source){read_slice, &slices[i], columns * (i + 1) / sources - first, NULL};
        if (s->codes != NULL) all[i].read_codes = read_slice_codes;
    }
    for (uint32_t t = 0; t < s->threads; t++) {
        s->shards[t] = aligned(qr_projection_shard_bytes(s->projection, t));
        memset(s->shards[t], 0xff, qr_projection_shard_bytes(s->projection, t)); /* NaN, should padding be left out */
        assert_int_equal(qr_projection_pack(s->projection, t, s->shards[t], all, sources, NULL), QUIRE_OK);
    }
}

/* Random codes, and the weights that they stand for. */
static void create_codes(subject *s)
{
    const qr_code_format f       = s->shape.codes;
    const size_t         columns = (size_t)s->halves * s->shape.columns, k = s->shape.k;
    if (f.bits == 0) return;
    const uint32_t groups = groups_of(s);
    s->codes              = aligned(columns * k);
    s->scales             = aligned(columns * groups * sizeof(float));
    s->minima             = aligned(columns * groups * sizeof(float));
    for (size_t i = 0; i < columns * groups; i++) {
        s->scales[i] = qr_f32_of_f16(qr_f16_of_f32(random_value(6, i) / 8));
        s->minima[i] = f.has_minimum ? qr_f32_of_f16(qr_f16_of_f32(random_value(7, i))) : 0.0f;
    }
    for (size_t i = 0; i < columns * k; i++) {
        const size_t group = i / k * groups + i % k / f.group;
        s->codes[i]        = (uint8_t)(qr_mix64(i) >> 56 & (f.bits == 4 ? 15 : 255));
        const int code     = f.bits == 8 ? (int8_t)s->codes[i] : f.has_minimum ? s->codes[i] : s->codes[i] - 8;
        s->weights[i]      = s->scales[group] * (float)code + s->minima[group];
    }
}

static subject *subject_create(const qr_kernels *kernels, uint32_t threads, qr_projection_shape shape, variant o)
{
    subject *s = calloc(1, sizeof *s);
    *s         = (subject){.shape = shape, .threads = threads, .halves = shape.gated ? 2 : 1};
    s->weights = aligned((size_t)s->halves * shape.columns * shape.k * sizeof(float));
    for (size_t i = 0; i < (size_t)s->halves * shape.columns * shape.k; i++) s->weights[i] = random_value(5, i);
    create_codes(s);
    const qr_projection_context_options context = {.kernels         = kernels,
                                                   .thread_count    = threads,
                                                   .max_rows        = MAX_ROWS,
                                                   .small_m         = o.small_m,
                                                   .batch_invariant = true};
    quire_error                         error   = {0};
    assert_int_equal(qr_projection_context_create(&context, &s->context, &error), QUIRE_OK);
    s->shape.name = "test";
    assert_int_equal(qr_projection_create(s->context, &s->shape, &s->projection, &error), QUIRE_OK);
    pack(s, shape.gated ? 2 : o.sources ? o.sources : 1);
    assert_int_equal(qr_projection_finish(s->projection, &error), QUIRE_OK);
    s->x = inputs_create(&shape, MAX_ROWS);
    fill_x(&s->x, kernels, MAX_ROWS);
    return s;
}

static void subject_destroy(subject *s)
{
    qr_projection_destroy(s->projection);
    qr_projection_context_destroy(s->context);
    for (uint32_t t = 0; t < s->threads; t++) free(s->shards[t]);
    rows_destroy(&s->x);
    free(s->weights), free(s->codes), free(s->scales), free(s->minima);
    free(s);
}

static void run(const subject *s, const qr_rows *x, uint32_t rows, const qr_projection_out *out)
{
    for (uint32_t t = 0; t < s->threads; t++) qr_projection_run(s->projection, t, x, rows, out);
}

/* ---- the reference ---- */

static double x_value(const qr_rows *x, uint32_t row, uint32_t i)
{
    const size_t at = (size_t)row * x->stride + i;
    if (x->dtype == QR_F32) return ((const float *)x->data)[at];
    if (x->dtype == QR_BF16) return qr_f32_of_bf16(((const qr_bf16 *)x->data)[at]);
    const uint32_t block = x->scale_block ? i / x->scale_block : 0;
    return ((const int8_t *)x->data)[at] * (double)x->scales[row * qr_row_scales(x) + block];
}

/* A column of W as it is multiplied, into w[k]. */
static void reference_column(const subject *s, uint32_t column, double *w)
{
    const float *from     = s->weights + (size_t)column * s->shape.k;
    float        greatest = 0;
    for (uint32_t i = 0; i < s->shape.k; i++) greatest = fmaxf(greatest, fabsf(from[i]));
    for (uint32_t i = 0; i < s->shape.k; i++)
        w[i] = s->shape.dtype == QR_INT8 && s->codes == NULL
                   ? rint(from[i] * (127.0f / greatest)) * (double)(greatest / 127.0f)
                   : round_to(s->shape.dtype, from[i]);
}

/* Sum of products; *bound: what rounding may do to it. */
static double reference_sum(const subject *s, uint32_t row, const double *w, double *bound)
{
    double sum = 0, magnitude = 0;
    for (uint32_t i = 0; i < s->shape.k; i++) {
        const double product = x_value(&s->x, row, i) * w[i];
        sum += product, magnitude += fabs(product);
    }
    *bound = magnitude * 2e-6 + 1e-30;
    return sum;
}

static double reference_activation(qr_activation activation, double x)
{
    switch (activation) {
    case QR_ACTIVATION_SILU: return x / (1 + exp(-x));
    case QR_ACTIVATION_GELU: return 0.5 * x * (1 + erf(x * sqrt(0.5)));
    case QR_ACTIVATION_GELU_NEW: return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case QR_ACTIVATION_RELU: return x > 0 ? x : 0;
    case QR_ACTIVATION_SWIGLU_OAI: return fmin(x, 7) / (1 + exp(-1.702 * fmin(x, 7)));
    default: return x;
    }
}

typedef struct expectation {
    double value, bound;
} expectation;

static expectation expected(const subject *s, const qr_projection_out *out, uint32_t row, uint32_t column,
                            const double *gate, const double *up)
{
    expectation e;
    double      x = reference_sum(s, row, gate, &e.bound);
    if (out->bias) x += out->bias[column];
    e.value = reference_activation(s->shape.activation, x);
    e.bound = 1.2 * e.bound + 4e-7 * fabs(x); /* slopes of the activations stay below 1.13 */
    if (up) {
        double bound;
        double factor = reference_sum(s, row, up, &bound);
        if (out->bias) factor += out->bias[s->shape.columns + column];
        if (s->shape.activation == QR_ACTIVATION_SWIGLU_OAI) factor = fmax(fmin(factor, 7), -7) + 1;
        e.bound = e.bound * fabs(factor) + bound * fabs(e.value);
        e.value *= factor;
    }
    const double multiply = out->multiply != 0.0f ? out->multiply : 1.0;
    e.value *= multiply, e.bound = e.bound * fabs(multiply) + 1e-6 * fabs(e.value);
    if (out->softcap != 0.0f) e.value = (double)out->softcap * tanh(e.value / (double)out->softcap);
    return e;
}

static double out_value(const qr_rows *to, uint32_t row, uint32_t column)
{
    const size_t at = (size_t)row * to->stride + column;
    return to->dtype == QR_F32 ? (double)((const float *)to->data)[at]
                               : (double)qr_f32_of_bf16(((const qr_bf16 *)to->data)[at]);
}

static const char *describe(const subject *s)
{
    static char          text[128];
    static const char    dtypes[3][5] = {"f32", "bf16", "int8"};
    const qr_code_format f            = s->shape.codes;
    snprintf(text, sizeof text, "%s %s, %u bits in %u%s, k %u columns %u threads %u",
             qr_projection_implementation(s->context), dtypes[s->shape.dtype], f.bits, f.group,
             f.has_minimum ? " with minima" : "", s->shape.k, s->shape.columns, s->threads);
    return text;
}

/* Runs and compares; `before`: what `out` holds already when it is added to. */
static void check(const subject *s, uint32_t rows, qr_projection_out out, double before)
{
    double *gate = aligned(s->shape.k * sizeof *gate), *up = aligned(s->shape.k * sizeof *up);
    run(s, &s->x, rows, &out);
    for (uint32_t column = 0; column < s->shape.columns; column++) {
        reference_column(s, column, gate);
        if (s->shape.gated) reference_column(s, s->shape.columns + column, up);
        for (uint32_t row = 0; row < rows; row++) {
            expectation e = expected(s, &out, row, column, gate, s->shape.gated ? up : NULL);
            if (out.add) e.value += before, e.bound += 1e-6 * fabs(e.value);
            if (out.to.dtype == QR_BF16) e.bound += fabs(e.value) / 256;
            const double got = out_value(&out.to, row, column);
            if (!(fabs(got - e.value) <= e.bound))
                fail_msg("%s: row %u column %u of %u rows: %.9g, expected %.9g +- %.2g", describe(s), row, column, rows,
                         got, e.value, e.bound);
        }
    }
    free(gate), free(up);
}

static void check_plain(const qr_kernels *kernels, uint32_t threads, qr_projection_shape shape, uint32_t rows,
                        variant o)
{
    subject          *s   = subject_create(kernels, threads, shape, o);
    qr_projection_out out = {.to = rows_create(QR_F32, shape.columns, MAX_ROWS)};
    assert_true(qr_projection_batch_invariant(s->context));
    check(s, rows, out, 0);
    rows_destroy(&out.to);
    subject_destroy(s);
}

/* ---- tests ---- */

static qr_projection_shape shape_of(int w, uint32_t k, uint32_t columns)
{
    return (qr_projection_shape){.k = k, .columns = columns, .dtype = storages[w].dtype, .codes = storages[w].codes};
}

static void products_match_the_reference_over_ragged_shapes(void **state)
{
    (void)state;
    static const uint32_t ks[] = {8, 64, 80, 172, 512, 768, 2080}, columns[] = {16, 64, 100, 130, 200, 257, 80},
                          rows[] = {1, 2, 3, 5, 7, 12, 66};
    for (uint32_t t = 0; t < table_count; t++)
        for (int w = 0; w < STORAGES; w++)
            for (uint32_t i = 0; i < 7; i++)
                check_plain(tables[t], 1 + i % 3, shape_of(w, ks[i], columns[i]), rows[i], (variant){0});
}

static void several_sources_stand_one_after_the_other(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (uint32_t sources = 2; sources <= 4; sources++)
            for (int w = QR_BF16; w <= CODES_WITH_MINIMA; w++)
                check_plain(tables[t], 2, shape_of(w, 72, 210), 2, (variant){.sources = sources});
}

static void every_epilogue_matches_the_reference(void **state)
{
    (void)state;
    float bias[400];
    for (uint32_t i = 0; i < 400; i++) bias[i] = random_value(9, i);
    for (uint32_t t = 0; t < table_count; t++)
        for (int w = 0; w <= CODES_WITH_MINIMA; w++)
            for (int activation = QR_ACTIVATION_NONE; activation <= QR_ACTIVATION_SWIGLU_OAI; activation++)
                for (int gated = 0; gated < 2; gated++) {
                    qr_projection_shape shape = shape_of(w, 64, 200);
                    shape.gated               = gated;
                    shape.activation          = (qr_activation)activation;
                    subject          *s       = subject_create(tables[t], 2, shape, (variant){0});
                    qr_projection_out f32     = {.to = rows_create(QR_F32, 200, 8)},
                                      bf16    = {.to = rows_create(QR_BF16, 200, 8)};
                    check(s, 3, f32, 0);
                    check(s, 8, bf16, 0);
                    f32.bias = bf16.bias = bias;
                    f32.multiply         = 0.25f;
                    check(s, 7, f32, 0);
                    check(s, 1, bf16, 0);
                    f32.softcap = 0.75f;
                    check(s, 5, f32, 0);
                    f32.softcap = 0;
                    f32.add     = true;
                    for (uint32_t i = 0; i < 8 * f32.to.stride; i++) ((float *)f32.to.data)[i] = 1.5f;
                    check(s, 4, f32, 1.5);
                    rows_destroy(&f32.to), rows_destroy(&bf16.to);
                    subject_destroy(s);
                }
}

/* Rows taken by index, weighted by powers of two, and added to rows by another index. */
static void check_indexed(subject *s, uint32_t rows)
{
    uint32_t from[MAX_ROWS], to[MAX_ROWS];
    float    weights[MAX_ROWS];
    qr_rows  in_order = rows_create(QR_F32, s->shape.columns, MAX_ROWS), taken = in_order, x = s->x;
    qr_rows  scattered = rows_create(QR_F32, s->shape.columns, MAX_ROWS);
    taken.data         = aligned(MAX_ROWS * taken.stride * sizeof(float));
    for (uint32_t r = 0; r < rows; r++) {
        from[r]    = (r * 37 + 11) % MAX_ROWS; /* 37 and MAX_ROWS have no factor in common */
        to[r]      = MAX_ROWS - 1 - r;
        weights[r] = r % 3 == 0 ? 0.5f : 2.0f;
    }
    run(s, &s->x, MAX_ROWS, &(qr_projection_out){.to = in_order});
    x.index = from;
    run(s, &x, rows, &(qr_projection_out){.to = taken});
    scattered.index = to;
    for (uint32_t i = 0; i < MAX_ROWS * scattered.stride; i++) ((float *)scattered.data)[i] = 8;
    run(s, &x, rows, &(qr_projection_out){.to = scattered, .add = true, .multiply = 0.25f, .row_weights = weights});
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < s->shape.columns; c++) {
            const float value = ((float *)in_order.data)[from[r] * in_order.stride + c];
            const float sum   = ((float *)scattered.data)[to[r] * scattered.stride + c];
            if (((float *)taken.data)[r * taken.stride + c] != value || sum != 8 + 0.25f * weights[r] * value)
                fail_msg("%s: row %u of %u, column %u", describe(s), r, rows, c);
        }
    for (uint32_t r = rows; r < MAX_ROWS; r++)
        assert_true(((float *)scattered.data)[to[0] * scattered.stride - r * scattered.stride] == 8);
    rows_destroy(&in_order), rows_destroy(&scattered);
    free(taken.data);
}

static void rows_by_index_have_the_bits_of_rows_in_order(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (int dtype = QR_F32; dtype <= QR_INT8; dtype++)
            for (int gated = 0; gated < 2; gated++) {
                subject *s = subject_create(
                    tables[t], 2,
                    (qr_projection_shape){
                        .k = 100, .columns = 130, .gated = gated, .dtype = (qr_dtype)dtype, .gathers = true},
                    (variant){0});
                check_indexed(s, 1);
                check_indexed(s, 7);
                check_indexed(s, 135);
                subject_destroy(s);
            }
}

typedef struct lse {
    float    greatest[MAX_ROWS * 5], sum_exp[MAX_ROWS * 5];
    uint32_t best[MAX_ROWS * 5];
} lse;

/* The partial log-sum-exp of all rows as a second pass over the written results would give them. */
static void partial_lse_again(const qr_kernels *kernels, const qr_rows *results, uint32_t rows, lse *d)
{
    const uint32_t       groups      = qr_ceil_div_u32(results->dim, 64);
    const qr_partial_lse partial_lse = {d->greatest, d->sum_exp, d->best, groups};
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t group = 0; group < groups; group++) {
            const qr_partial_lse at = qr_partial_lse_at(&partial_lse, row, group);
            const float         *x  = (const float *)results->data + (size_t)row * results->stride + 64 * group;
            kernels->partial_lse(&at, x, 64 * group, qr_min_u32(64, results->dim - 64 * group));
        }
}

static void check_partial_lse(const subject *s, const qr_kernels *kernels, uint32_t rows)
{
    static lse     want, got;
    const uint32_t columns = s->shape.columns, groups = qr_ceil_div_u32(columns, 64);
    qr_rows        plain = rows_create(QR_F32, columns, MAX_ROWS), some = rows_create(QR_F32, columns, MAX_ROWS);
    bool           kept[MAX_ROWS];
    for (uint32_t row = 0; row < rows; row++) kept[row] = random_value(77, row) > 0;
    const qr_partial_lse partial_lse = {got.greatest, got.sum_exp, got.best, groups};
    run(s, &s->x, rows, &(qr_projection_out){.to = plain, .multiply = 0.5f});
    partial_lse_again(kernels, &plain, rows, &want);
    memset(&got, 0xff, sizeof got);
    run(s, &s->x, rows, &(qr_projection_out){.to = some, .multiply = 0.5f, .partial_lse = &partial_lse, .kept = kept});
    const size_t count = (size_t)rows * groups;
    assert_memory_equal(got.greatest, want.greatest, count * sizeof(float));
    assert_memory_equal(got.sum_exp, want.sum_exp, count * sizeof(float));
    assert_memory_equal(got.best, want.best, count * sizeof(uint32_t));
    for (uint32_t row = 0; row < rows; row++) {
        const float *is  = (const float *)some.data + (size_t)row * some.stride;
        const float *was = (const float *)plain.data + (size_t)row * plain.stride;
        for (uint32_t c = 0; c < columns; c++)
            assert_int_equal(qr_bits_of_f32(is[c]), kept[row] ? qr_bits_of_f32(was[c]) : 0);
    }
    rows_destroy(&plain), rows_destroy(&some);
}

/* By the own kernel (up to 64 rows) and by oneDNN (above, and where it is asked for), on one to three threads. */
static void digests_are_those_of_the_results_and_only_kept_rows_are_written(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 5, 64, 65, 139};
    for (uint32_t t = 0; t < table_count; t++)
        for (int w = 0; w <= CODES; w++)
            for (uint32_t i = 0; i < 5; i++) {
                const qr_projection_shape shape = shape_of(w, 72, 257 - 40 * i);
                const variant             o     = {.small_m = i % 2 ? QUIRE_SMALL_M_ONEDNN : QUIRE_SMALL_M_AUTO};
                subject                  *s     = subject_create(tables[t], 1 + i % 3, shape, o);
                check_partial_lse(s, tables[t], rows[i]);
                check_partial_lse(s, tables[t], rows[(i + 2) % 5]);
                subject_destroy(s);
            }
}

static void columns_beyond_the_last_are_not_written(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (int dtype = QR_F32; dtype <= QR_BF16; dtype++) {
            subject     *s = subject_create(tables[t], 2, (qr_projection_shape){.k = 64, .columns = 75}, (variant){0});
            const size_t bytes    = qr_dtype_bytes((qr_dtype)dtype);
            qr_projection_out out = {.to = rows_create((qr_dtype)dtype, 75, 4)};
            memset(out.to.data, 0x77, 4 * out.to.stride * bytes);
            run(s, &s->x, 3, &out);
            for (uint32_t row = 0; row < 4; row++)
                for (uint32_t i = row == 3 ? 0 : 75; i < out.to.stride; i++)
                    assert_memory_equal((char *)out.to.data + (row * out.to.stride + i) * bytes, "\x77\x77\x77\x77",
                                        bytes);
            rows_destroy(&out.to);
            subject_destroy(s);
        }
}

static void a_nan_reaches_the_outputs_of_its_row_and_no_other(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (int activation = QR_ACTIVATION_NONE; activation <= QR_ACTIVATION_SWIGLU_OAI; activation++) {
            const qr_projection_shape shape = {.k = 64, .columns = 70, .activation = (qr_activation)activation};
            subject                  *s     = subject_create(tables[t], 1, shape, (variant){0});
            qr_projection_out         out   = {.to = rows_create(QR_F32, 70, 8)};
            ((float *)s->x.data)[3 * s->x.stride + 17] = NAN;
            run(s, &s->x, 7, &out);
            for (uint32_t row = 0; row < 7; row++)
                for (uint32_t column = 0; column < 70; column++)
                    assert_int_equal(isnan(out_value(&out.to, row, column)) != 0, row == 3);
            rows_destroy(&out.to);
            subject_destroy(s);
        }
}

/* Row 0 of x stands last among `rows` rows; what comes out must be `alone`. */
static void check_row(const subject *s, uint32_t rows, const float *alone, const qr_projection_out *out)
{
    qr_rows      x      = s->x;
    const size_t bytes  = x.stride * qr_dtype_bytes(x.dtype);
    const size_t scales = x.scales ? qr_row_scales(&x) : 0, scale_bytes = scales * sizeof(float);
    x.data      = (char *)s->x.data + bytes; /* rows 1.. */
    x.scales    = s->x.scales ? s->x.scales + scales : NULL;
    char  *last = (char *)x.data + (rows - 1) * bytes, *kept = aligned(bytes);
    float *last_scales = x.scales ? x.scales + (rows - 1) * scales : NULL, *kept_scales = aligned(scale_bytes);
    memcpy(kept, last, bytes), memcpy(last, s->x.data, bytes);
    if (scales) memcpy(kept_scales, last_scales, scale_bytes), memcpy(last_scales, s->x.scales, scale_bytes);
    run(s, &x, rows, out);
    memcpy(last, kept, bytes);
    if (scales) memcpy(last_scales, kept_scales, scale_bytes);
    free(kept), free(kept_scales);
    if (memcmp((float *)out->to.data + (rows - 1) * out->to.stride, alone, s->shape.columns * sizeof(float)) != 0)
        fail_msg("%s: the last of %u rows differs from that row alone", describe(s), rows);
}

static void the_bits_of_a_row_depend_on_neither_batch_nor_threads(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (int w = 0; w < STORAGES; w++)
            for (int small_m = QUIRE_SMALL_M_AUTO; small_m <= (w == QR_F32 ? 1 : 0); small_m++) {
                float               alone[140];
                qr_projection_shape shape = shape_of(w, 520, 140);
                shape.gated               = true;
                shape.activation          = QR_ACTIVATION_SILU;
                for (uint32_t threads = 1; threads <= MAX_THREADS; threads++) {
                    subject *s =
                        subject_create(tables[t], threads, shape, (variant){.small_m = (quire_small_m)small_m});
                    qr_projection_out out = {.to = rows_create(QR_F32, 140, MAX_ROWS)};
                    assert_true(qr_projection_batch_invariant(s->context));
                    if (threads == 1) {
                        run(s, &s->x, 1, &out);
                        memcpy(alone, out.to.data, sizeof alone);
                    }
                    const bool fast  = strncmp(tables[t]->isa, "avx", 3) == 0; /* not emulated, not plain C */
                    const bool every = fast && threads == 2;
                    for (uint32_t rows = 1; rows <= 70; rows += every ? 1 : 33) check_row(s, rows, alone, &out);
                    if (fast) check_row(s, MAX_ROWS - 1, alone, &out);
                    rows_destroy(&out.to);
                    subject_destroy(s);
                }
            }
}

/* Of quire's kernel and of oneDNN, which sum in chunks whose length depends on k. */
static void few_rows_have_the_bits_of_onednn(void **state)
{
    (void)state;
    static const uint32_t ks[] = {64, 512, 576, 1024, 1088, 1536, 1984, 2048, 3072};
    for (uint32_t t = 0; t < table_count; t++)
        for (uint32_t i = 0; i < sizeof ks / sizeof *ks; i++) {
            if (strncmp(tables[t]->isa, "avx", 3) != 0) continue; /* plain C, and what is emulated in it, round twice */
            qr_projection_out out[2];
            for (int m = 0; m < 2; m++) {
                const variant o = {.small_m = m == 0 ? QUIRE_SMALL_M_OWN : QUIRE_SMALL_M_ONEDNN};
                subject      *s = subject_create(tables[t], 1, shape_of(QR_F32, ks[i], 128), o);
                out[m]          = (qr_projection_out){.to = rows_create(QR_F32, 128, 5)};
                run(s, &s->x, 5, &out[m]);
                subject_destroy(s);
            }
            if (memcmp(out[0].to.data, out[1].to.data, 5 * out[0].to.stride * sizeof(float)) != 0)
                fail_msg("%s, k %u: quire's kernel and oneDNN differ in bits", tables[t]->isa, ks[i]);
            rows_destroy(&out[0].to), rows_destroy(&out[1].to);
        }
}

/* Counts what is asked of it, in order: a column that is skipped or read again shows. */
static quire_status read_in_order(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    uint32_t *next = context;
    (void)error;
    assert_int_equal(first, *next);
    memset(out, 0, (size_t)count * 8 * sizeof *out);
    *next += count;
    return QUIRE_OK;
}

static void shards_cover_every_column_once(void **state)
{
    (void)state;
    static const uint32_t columns[] = {1, 64, 65, 128, 130, 192, 400};
    for (uint32_t i = 0; i < 7; i++)
        for (uint32_t threads = 1; threads <= MAX_THREADS; threads++) {
            subject *s =
                subject_create(tables[0], threads, (qr_projection_shape){.k = 8, .columns = columns[i]}, (variant){0});
            uint32_t               next   = 0;
            uint64_t               bytes  = 0;
            const qr_weight_source source = {read_in_order, &next, columns[i], NULL};
            for (uint32_t t = 0; t < threads; t++) {
                const uint32_t before = next;
                const size_t   shard  = qr_projection_shard_bytes(s->projection, t);
                assert_int_equal(qr_projection_pack(s->projection, t, s->shards[t], &source, 1, NULL), QUIRE_OK);
                assert_int_equal(shard == 0, next == before);
                bytes += shard;
            }
            assert_int_equal(next, columns[i]);
            assert_int_equal(bytes, qr_projection_bytes(s->projection));
            subject_destroy(s);
        }
}

static void small_matrices_take_turns_among_the_threads(void **state)
{
    (void)state;
    for (uint32_t turn = 0; turn < 5; turn++) {
        const qr_projection_shape shape = {.k = 96, .columns = 70, .turn = turn};
        subject                  *s     = subject_create(tables[0], 3, shape, (variant){0}), *first;
        first = subject_create(tables[0], 3, (qr_projection_shape){.k = 96, .columns = 70}, (variant){0});
        qr_projection_out out = {.to = rows_create(QR_F32, 70, 4)}, same = {.to = rows_create(QR_F32, 70, 4)};
        for (uint32_t t = 0; t < 3; t++)
            assert_int_equal(qr_projection_shard_bytes(s->projection, (t + turn) % 3),
                             qr_projection_shard_bytes(first->projection, t));
        run(s, &s->x, 4, &out);
        run(first, &first->x, 4, &same);
        assert_memory_equal(out.to.data, same.to.data, 4 * out.to.stride * sizeof(float));
        rows_destroy(&out.to), rows_destroy(&same.to);
        subject_destroy(s), subject_destroy(first);
    }
}

static quire_status read_fails(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    (void)first, (void)count, (void)out;
    *error = (quire_error){QUIRE_ERR_IO, "the disk is gone"};
    return ++*(int *)context < 2 ? QUIRE_OK : QUIRE_ERR_IO;
}

/* The squared error of one scale group as the kernels quantise it. */
static double quantized_error(const qr_kernels *kernels, const qr_code_format *f, const float *w, uint32_t count)
{
    uint8_t codes[128 + 16];
    float   scale = NAN, minimum = 0;
    double  error = 0;
    kernels->projection->quantize(f, w, count, codes, &scale, &minimum);
    assert_true(scale == qr_f32_of_f16(qr_f16_of_f32(scale)) && minimum == qr_f32_of_f16(qr_f16_of_f32(minimum)));
    for (uint32_t i = 0; i < count; i++) {
        const int code = f->bits == 8 ? (int8_t)codes[i] : f->has_minimum ? codes[i] : codes[i] - 8;
        assert_true(f->bits == 8 || codes[i] <= 15);
        error += pow((double)scale * code + (double)minimum - (double)w[i], 2);
    }
    return error;
}

/* What the plainest recipe gives: the largest magnitude, or the whole range, in equal steps. */
static double plain_error(const qr_code_format *f, const float *w, uint32_t count)
{
    double top = -INFINITY, bottom = INFINITY, error = 0;
    for (uint32_t i = 0; i < count; i++) top = fmax(top, (double)w[i]), bottom = fmin(bottom, (double)w[i]);
    const double most = fmax(top, -bottom), from = f->has_minimum ? bottom : 0;
    const double step = f->has_minimum ? (top - bottom) / 15 : f->bits == 8 ? most / 127 : most / 7;
    for (uint32_t i = 0; i < count; i++)
        error += pow(step > 0 ? rint(((double)w[i] - from) / step) * step + from - (double)w[i] : 0, 2);
    return error;
}

static void quantising_loses_no_more_than_the_plain_recipe(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 7, 16, 31, 32, 64, 100, 128};
    float                 w[128];
    for (uint32_t t = 0; t < table_count; t++)
        for (int kept = CODES; kept < STORAGES; kept++)
            for (uint32_t i = 0; i < 8; i++)
                for (uint32_t draw = 0; draw < 20; draw++) {
                    const qr_code_format *f = &storages[kept].codes;
                    const uint32_t        n = qr_min_u32(counts[i], f->group);
                    for (uint32_t e = 0; e < n; e++) w[e] = random_value(draw, e) + random_value(draw + 99, e) / 2;
                    double magnitude = 0;
                    for (uint32_t e = 0; e < n; e++) magnitude += pow((double)w[e], 2);
                    const double lost = quantized_error(tables[t], f, w, n), plain = plain_error(f, w, n);
                    if (lost > 1.02 * plain + 1e-6 * magnitude) /* the scale's own rounding to f16 */
                        fail_msg("%s, %u bits in %u%s, %u weights: squared error %g, plain %g", tables[t]->isa, f->bits,
                                 f->group, f->has_minimum ? " with minima" : "", n, lost, plain);
                }
}

static void a_group_of_zeros_stays_zero(void **state)
{
    (void)state;
    const float w[32] = {0};
    for (uint32_t t = 0; t < table_count; t++)
        for (int kept = CODES; kept < STORAGES; kept++)
            assert_true(quantized_error(tables[t], &storages[kept].codes, w, 32) == 0);
}

/* Float sources are quantised on the way; 4-bit weights are within half a step, the largest of 128 over 14. */
static void float_weights_are_quantised_when_packed(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (int kept = CODES; kept < STORAGES; kept++) {
            subject *s = subject_create(tables[t], 2, shape_of(kept, 200, 130), (variant){0});
            for (uint32_t i = 0; i < 130 * 200; i++) s->weights[i] = random_value(5, i);
            uint8_t *codes = s->codes;
            s->codes       = NULL; /* pack() then offers floats alone */
            for (uint32_t i = 0; i < s->threads; i++) free(s->shards[i]);
            pack(s, 2);
            qr_projection_out out = {.to = rows_create(QR_F32, 130, 1)};
            run(s, &s->x, 1, &out);
            for (uint32_t column = 0; column < 130; column++) {
                double sum = 0, step = 0;
                for (uint32_t i = 0; i < 200; i++) {
                    sum += x_value(&s->x, 0, i) * (double)s->weights[column * 200 + i];
                    step += fabs(x_value(&s->x, 0, i)) / (storages[kept].codes.bits == 8 ? 254.0 : 7.5);
                }
                assert_true(fabs(out_value(&out.to, 0, column) - sum) < step);
            }
            s->codes = codes;
            rows_destroy(&out.to);
            subject_destroy(s);
        }
}

static quire_status read_huge(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    (void)context, (void)first, (void)error;
    for (uint32_t i = 0; i < count * 8; i++) out[i] = 1e9f;
    return QUIRE_OK;
}

static void a_scale_beyond_f16_is_an_error(void **state)
{
    (void)state;
    subject               *s      = subject_create(tables[0], 1, shape_of(CODES, 8, 8), (variant){0});
    quire_error            error  = {0};
    const qr_weight_source source = {read_huge, NULL, 8, NULL};
    assert_int_equal(qr_projection_pack(s->projection, 0, s->shards[0], &source, 1, &error), QUIRE_ERR_FORMAT);
    assert_non_null(strstr(error.message, "test: "));
    assert_non_null(strstr(error.message, "beyond f16's 65504"));
    subject_destroy(s);
}

static void errors_of_reading_and_wrong_sources_are_reported(void **state)
{
    (void)state;
    subject         *s      = subject_create(tables[0], 1, (qr_projection_shape){.k = 8, .columns = 200}, (variant){0});
    quire_error      error  = {0};
    int              calls  = 0;
    qr_weight_source source = {read_fails, &calls, 200, NULL};
    assert_int_equal(qr_projection_pack(s->projection, 0, s->shards[0], &source, 1, &error), QUIRE_ERR_IO);
    assert_int_equal(calls, 2);
    assert_string_equal(error.message, "the disk is gone");
    source.columns = 199;
    assert_int_equal(qr_projection_pack(s->projection, 0, s->shards[0], &source, 1, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "test: 1 sources of 199 output features, expected 200");
    subject_destroy(s);
}

static void impossible_shapes_are_refused(void **state)
{
    (void)state;
    subject *s = subject_create(tables[0], 1, (qr_projection_shape){.k = 8, .columns = 8}, (variant){0});
    const qr_projection_shape bad[] = {{.k = 0, .columns = 8, .name = "q"},
                                       {.k = 70000, .columns = 8, .name = "q"},
                                       {.k = 8, .columns = 0, .name = "q"},
                                       {.k = 8, .columns = 8, .name = "q", .codes = {4, 32, false}},
                                       {.k = 8, .columns = 8, .name = "q", .dtype = QR_INT8, .codes = {5, 32, false}},
                                       {.k = 8, .columns = 8, .name = "q", .dtype = QR_INT8, .codes = {4, 16, false}},
                                       {.k = 8, .columns = 8, .name = "q", .dtype = QR_INT8, .codes = {8, 32, true}}};
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qr_projection *p     = NULL;
        quire_error    error = {0};
        assert_int_equal(qr_projection_create(s->context, &bad[i], &p, &error), QUIRE_ERR_INVALID);
        assert_null(p);
        assert_memory_equal(error.message, "q: ", 3);
    }
    subject_destroy(s);
}

static void the_fallback_of_onednn_runs_on_plain_weights(void **state)
{
    (void)state;
    const qr_kernels *avx2 = the_table("avx2");
    if (avx2 == NULL) skip();
    static const uint32_t rows[] = {1, 6, 7, 64, 131};
    for (uint32_t i = 0; i < 5; i++)
        check_plain(avx2, 2, (qr_projection_shape){.k = 200, .columns = 150}, rows[i],
                    (variant){.small_m = QUIRE_SMALL_M_ONEDNN});
}

static void rows_may_be_further_apart_than_k(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (int small_m = QUIRE_SMALL_M_AUTO; small_m <= QUIRE_SMALL_M_ONEDNN; small_m++) {
            subject          *s   = subject_create(tables[t], 1, (qr_projection_shape){.k = 200, .columns = 70},
                                                   (variant){.small_m = (quire_small_m)small_m});
            qr_projection_out out = {.to = rows_create(QR_F32, 70, 8)};
            rows_destroy(&s->x);
            s->x = (qr_rows){.dtype = QR_F32, .dim = 200, .stride = 320, .data = aligned(8 * 320 * sizeof(float))};
            fill_x(&s->x, tables[t], 8);
            check(s, 8, out, 0);
            rows_destroy(&out.to);
            subject_destroy(s);
        }
}

typedef struct log_lines {
    uint32_t count;
    char     last[512];
} log_lines;

static void keep_line(void *context, quire_log_level level, const char *line)
{
    (void)level;
    log_lines *lines = context;
    lines->count++;
    snprintf(lines->last, sizeof lines->last, "%s", line);
}

static void the_implementation_is_logged_once(void **state)
{
    (void)state;
    log_lines          lines  = {0};
    const quire_logger logger = {.context = &lines, .write = keep_line, .level = QUIRE_LOG_INFO};
    qr_log             log;
    qr_log_init(&log, &logger);
    const qr_projection_context_options options = {
        .kernels = the_table("scalar"), .thread_count = 1, .max_rows = 8, .batch_invariant = true, .log = &log};
    qr_projection_context *context = NULL;
    assert_int_equal(qr_projection_context_create(&options, &context, NULL), QUIRE_OK);
    for (int i = 0; i < 3; i++) {
        float                  w[8]   = {1};
        subject                fake   = {.shape = {.k = 1, .columns = 8, .name = "w"}, .weights = w};
        slice                  all    = {&fake, 0};
        const qr_weight_source source = {read_slice, &all, 8, NULL};
        qr_projection         *p      = NULL;
        assert_int_equal(qr_projection_create(context, &fake.shape, &p, NULL), QUIRE_OK);
        void *memory = aligned(qr_projection_shard_bytes(p, 0));
        assert_int_equal(qr_projection_pack(p, 0, memory, &source, 1, NULL), QUIRE_OK);
        assert_int_equal(qr_projection_finish(p, NULL), QUIRE_OK);
        qr_projection_destroy(p);
        free(memory);
    }
    assert_int_equal(lines.count, 1);
    assert_string_equal(qr_projection_implementation(context), "own:scalar");
    assert_non_null(strstr(lines.last, "own:scalar"));
    qr_projection_context_destroy(context);
    qr_log_deinit(&log);
}

static void *out_of_memory_after(void *context, size_t size, size_t alignment)
{
    int *left = context;
    return (*left)-- > 0 ? aligned_alloc(alignment, qr_round_up(size, alignment)) : NULL;
}

static void give_back(void *context, void *pointer, size_t size)
{
    (void)context, (void)size;
    free(pointer);
}

static void every_missing_allocation_is_an_error(void **state)
{
    (void)state;
    bool created = false;
    for (int allowed = 0; !created && allowed < 50; allowed++) {
        int                                 left    = allowed;
        const qr_projection_context_options options = {
            .kernels      = tables[0],
            .thread_count = 2,
            .max_rows     = 8,
            .allocator    = {.context = &left, .allocate = out_of_memory_after, .deallocate = give_back}};
        const qr_projection_shape shape   = {.k = 8, .columns = 130, .name = "w"};
        qr_projection_context    *context = NULL;
        qr_projection            *p       = NULL;
        quire_status              status  = qr_projection_context_create(&options, &context, NULL);
        if (status == QUIRE_OK) status = qr_projection_create(context, &shape, &p, NULL);
        created = status == QUIRE_OK;
        if (!created) assert_int_equal(status, QUIRE_ERR_NO_MEMORY);
        qr_projection_destroy(p);
        qr_projection_context_destroy(context);
    }
    assert_true(created);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_the_reference_over_ragged_shapes),
        cmocka_unit_test(several_sources_stand_one_after_the_other),
        cmocka_unit_test(every_epilogue_matches_the_reference),
        cmocka_unit_test(digests_are_those_of_the_results_and_only_kept_rows_are_written),
        cmocka_unit_test(columns_beyond_the_last_are_not_written),
        cmocka_unit_test(a_nan_reaches_the_outputs_of_its_row_and_no_other),
        cmocka_unit_test(the_bits_of_a_row_depend_on_neither_batch_nor_threads),
        cmocka_unit_test(few_rows_have_the_bits_of_onednn),
        cmocka_unit_test(shards_cover_every_column_once),
        cmocka_unit_test(small_matrices_take_turns_among_the_threads),
        cmocka_unit_test(quantising_loses_no_more_than_the_plain_recipe),
        cmocka_unit_test(a_group_of_zeros_stays_zero),
        cmocka_unit_test(float_weights_are_quantised_when_packed),
        cmocka_unit_test(a_scale_beyond_f16_is_an_error),
        cmocka_unit_test(errors_of_reading_and_wrong_sources_are_reported),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(the_fallback_of_onednn_runs_on_plain_weights),
        cmocka_unit_test(rows_may_be_further_apart_than_k),
        cmocka_unit_test(the_implementation_is_logged_once),
        cmocka_unit_test(rows_by_index_have_the_bits_of_rows_in_order),
        cmocka_unit_test(every_missing_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
