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

typedef struct subject {
    qr_projection_context *context;
    qr_projection         *projection;
    qr_projection_shape    shape;
    uint32_t               threads, halves;
    float                 *weights; /* [halves * columns][k] */
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
        all[i]    = (qr_weight_source){read_slice, &slices[i], columns * (i + 1) / sources - first};
    }
    for (uint32_t t = 0; t < s->threads; t++) {
        s->shards[t] = aligned(qr_projection_shard_bytes(s->projection, t));
        memset(s->shards[t], 0xff, qr_projection_shard_bytes(s->projection, t)); /* NaN, should padding be left out */
        assert_int_equal(qr_projection_pack(s->projection, t, s->shards[t], all, sources, NULL), QUIRE_OK);
    }
}

static subject *subject_create(const qr_kernels *kernels, uint32_t threads, qr_projection_shape shape, variant o)
{
    subject *s = calloc(1, sizeof *s);
    *s         = (subject){.shape = shape, .threads = threads, .halves = shape.gated ? 2 : 1};
    s->weights = aligned((size_t)s->halves * shape.columns * shape.k * sizeof(float));
    for (size_t i = 0; i < (size_t)s->halves * shape.columns * shape.k; i++) s->weights[i] = random_value(5, i);
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
    s->x = rows_create(shape.dtype, shape.k, MAX_ROWS);
    fill_x(&s->x, kernels, MAX_ROWS);
    return s;
}

static void subject_destroy(subject *s)
{
    qr_projection_destroy(s->projection);
    qr_projection_context_destroy(s->context);
    for (uint32_t t = 0; t < s->threads; t++) free(s->shards[t]);
    rows_destroy(&s->x);
    free(s->weights);
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
    return ((const int8_t *)x->data)[at] * (double)x->scales[row];
}

/* A column of W as it is multiplied, into w[k]. */
static void reference_column(const subject *s, uint32_t column, double *w)
{
    const float *from     = s->weights + (size_t)column * s->shape.k;
    float        greatest = 0;
    for (uint32_t i = 0; i < s->shape.k; i++) greatest = fmaxf(greatest, fabsf(from[i]));
    for (uint32_t i = 0; i < s->shape.k; i++)
        w[i] = s->shape.dtype == QR_INT8 ? rint(from[i] * (127.0f / greatest)) * (double)(greatest / 127.0f)
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
        double       bound;
        const double factor = reference_sum(s, row, up, &bound);
        e.bound             = e.bound * fabs(factor) + bound * fabs(e.value);
        e.value *= factor;
    }
    const double multiply = out->multiply != 0.0f ? out->multiply : 1.0;
    e.value *= multiply, e.bound = e.bound * fabs(multiply) + 1e-6 * fabs(e.value);
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
    static char       text[128];
    static const char dtypes[3][5] = {"f32", "bf16", "int8"};
    snprintf(text, sizeof text, "%s %s k %u columns %u threads %u", qr_projection_implementation(s->context),
             dtypes[s->shape.dtype], s->shape.k, s->shape.columns, s->threads);
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

static void products_match_the_reference_over_ragged_shapes(void **state)
{
    (void)state;
    static const uint32_t ks[] = {8, 64, 80, 172, 512, 768, 2080}, columns[] = {16, 64, 100, 130, 200, 257, 80},
                          rows[] = {1, 2, 3, 5, 7, 12, 66};
    for (uint32_t t = 0; t < table_count; t++)
        for (int dtype = QR_F32; dtype <= QR_INT8; dtype++)
            for (uint32_t i = 0; i < 7; i++)
                check_plain(tables[t], 1 + i % 3,
                            (qr_projection_shape){.k = ks[i], .columns = columns[i], .dtype = (qr_dtype)dtype}, rows[i],
                            (variant){0});
}

static void several_sources_stand_one_after_the_other(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (uint32_t sources = 2; sources <= 4; sources++)
            check_plain(tables[t], 2, (qr_projection_shape){.k = 72, .columns = 210, .dtype = QR_BF16}, 2,
                        (variant){.sources = sources});
}

static void every_epilogue_matches_the_reference(void **state)
{
    (void)state;
    float bias[200];
    for (uint32_t i = 0; i < 200; i++) bias[i] = random_value(9, i);
    for (uint32_t t = 0; t < table_count; t++)
        for (int dtype = QR_F32; dtype <= QR_INT8; dtype++)
            for (int activation = QR_ACTIVATION_NONE; activation <= QR_ACTIVATION_RELU; activation++)
                for (int gated = 0; gated < 2; gated++) {
                    subject          *s    = subject_create(tables[t], 2,
                                                            (qr_projection_shape){.k          = 64,
                                                                                  .columns    = 200,
                                                                                  .gated      = gated,
                                                                                  .activation = (qr_activation)activation,
                                                                                  .dtype      = (qr_dtype)dtype},
                                                            (variant){0});
                    qr_projection_out f32  = {.to = rows_create(QR_F32, 200, 8)},
                                      bf16 = {.to = rows_create(QR_BF16, 200, 8)};
                    check(s, 3, f32, 0);
                    check(s, 8, bf16, 0);
                    f32.bias = bf16.bias = gated ? NULL : bias;
                    f32.multiply         = 0.25f;
                    check(s, 7, f32, 0);
                    check(s, 1, bf16, 0);
                    f32.add = true;
                    for (uint32_t i = 0; i < 8 * f32.to.stride; i++) ((float *)f32.to.data)[i] = 1.5f;
                    check(s, 4, f32, 1.5);
                    rows_destroy(&f32.to), rows_destroy(&bf16.to);
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
        for (int dtype = QR_F32; dtype <= QR_INT8; dtype++)
            for (uint32_t i = 0; i < 5; i++) {
                const qr_projection_shape shape = {.k = 72, .columns = 257 - 40 * i, .dtype = (qr_dtype)dtype};
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
        for (int activation = QR_ACTIVATION_NONE; activation <= QR_ACTIVATION_RELU; activation++) {
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
    qr_rows      x     = s->x;
    const size_t bytes = x.stride * qr_dtype_bytes(x.dtype);
    x.data             = (char *)s->x.data + bytes; /* rows 1.. */
    x.scales           = s->x.scales ? s->x.scales + 1 : NULL;
    char *last = (char *)x.data + (rows - 1) * bytes, *kept = aligned(bytes);
    memcpy(kept, last, bytes), memcpy(last, s->x.data, bytes);
    const float kept_scale = x.scales ? x.scales[rows - 1] : 0;
    if (x.scales) x.scales[rows - 1] = s->x.scales[0];
    run(s, &x, rows, out);
    memcpy(last, kept, bytes);
    if (x.scales) x.scales[rows - 1] = kept_scale;
    free(kept);
    if (memcmp((float *)out->to.data + (rows - 1) * out->to.stride, alone, s->shape.columns * sizeof(float)) != 0)
        fail_msg("%s: the last of %u rows differs from that row alone", describe(s), rows);
}

static void the_bits_of_a_row_depend_on_neither_batch_nor_threads(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < table_count; t++)
        for (int dtype = QR_F32; dtype <= QR_INT8; dtype++)
            for (int small_m = QUIRE_SMALL_M_AUTO; small_m <= (dtype == QR_F32 ? 1 : 0); small_m++) {
                float alone[140];
                for (uint32_t threads = 1; threads <= MAX_THREADS; threads++) {
                    subject          *s   = subject_create(tables[t], threads,
                                                           (qr_projection_shape){.k          = 520,
                                                                                 .columns    = 140,
                                                                                 .gated      = true,
                                                                                 .activation = QR_ACTIVATION_SILU,
                                                                                 .dtype      = (qr_dtype)dtype},
                                                           (variant){.small_m = (quire_small_m)small_m});
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
            const qr_weight_source source = {read_in_order, &next, columns[i]};
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

static quire_status read_fails(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    (void)first, (void)count, (void)out;
    *error = (quire_error){QUIRE_ERR_IO, "the disk is gone"};
    return ++*(int *)context < 2 ? QUIRE_OK : QUIRE_ERR_IO;
}

static void errors_of_reading_and_wrong_sources_are_reported(void **state)
{
    (void)state;
    subject         *s      = subject_create(tables[0], 1, (qr_projection_shape){.k = 8, .columns = 200}, (variant){0});
    quire_error      error  = {0};
    int              calls  = 0;
    qr_weight_source source = {read_fails, &calls, 200};
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
                                       {.k = 8, .columns = 0, .name = "q"}};
    for (uint32_t i = 0; i < 3; i++) {
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
        const qr_weight_source source = {read_slice, &all, 8};
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
        cmocka_unit_test(shards_cover_every_column_once),
        cmocka_unit_test(errors_of_reading_and_wrong_sources_are_reported),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(the_fallback_of_onednn_runs_on_plain_weights),
        cmocka_unit_test(rows_may_be_further_apart_than_k),
        cmocka_unit_test(the_implementation_is_logged_once),
        cmocka_unit_test(every_missing_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
