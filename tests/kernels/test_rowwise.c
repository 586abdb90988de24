/* The row-wise primitives of every instruction set against double precision, over sizes around the vector widths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/rng.h"
#include "kernels/cpu.h"
#include "kernels/limits.h"
#include "tests/support/kernel_tables.h"

enum { DIM_MAX = 130, GUARD = 64, STRIDE = 192, LONG = 4096 };

static const qr_kernels *tables[KERNEL_TABLES_MAX];
static uint32_t          table_count;

static int find_tables(void **state)
{
    (void)state;
    table_count = kernel_tables(tables);
    return 0;
}

/* Unit variance, in (-1.7, 1.7). */
static float sample(uint64_t stream, uint64_t i) { return (float)((qr_random_uniform(7, stream, i) - 0.5) * 3.4641); }

static void fill(float *x, uint32_t count, uint64_t stream)
{
    for (uint32_t i = 0; i < count; i++) x[i] = sample(stream, i);
}

/* Two rows of STRIDE elements between guards; row 1 is the one written. */
typedef struct rows_under_test {
    _Alignas(64) char bytes[GUARD + 2 * STRIDE * 4 + GUARD];
    float   scales[2];
    qr_rows rows;
} rows_under_test;

static void prepare_rows(rows_under_test *t, qr_dtype dtype, uint32_t dim, uint32_t stride)
{
    memset(t->bytes, 0x5a, sizeof t->bytes);
    t->scales[0] = t->scales[1] = -1.0f;
    t->rows = (qr_rows){.data = t->bytes + GUARD, .dtype = dtype, .dim = dim, .stride = stride, .scales = t->scales};
}

static void assert_only_row_one_written(const rows_under_test *t)
{
    const size_t row = t->rows.stride * qr_dtype_bytes(t->rows.dtype);
    for (size_t i = 0; i < GUARD + row; i++) assert_int_equal(t->bytes[i], 0x5a);
    for (size_t i = GUARD + 2 * row; i < sizeof t->bytes; i++) assert_int_equal(t->bytes[i], 0x5a);
    for (size_t i = t->rows.dim * qr_dtype_bytes(t->rows.dtype); i < row; i++)
        assert_int_equal(t->bytes[GUARD + row + i], 0);
    assert_true(t->scales[0] == -1.0f);
}

static double element(const rows_under_test *t, uint32_t i)
{
    const uint32_t at = t->rows.stride + i;
    switch (t->rows.dtype) {
    case QR_F32: return ((const float *)t->rows.data)[at];
    case QR_BF16: return qr_f32_of_bf16(((const qr_bf16 *)t->rows.data)[at]);
    default: return ((const int8_t *)t->rows.data)[at] * (double)t->scales[1];
    }
}

/* Half a step of the format at magnitude x, of a row whose greatest magnitude is `top`. */
static double tolerance(qr_dtype dtype, double x, double top)
{
    return dtype == QR_F32 ? 1e-6 * fabs(x) + 1e-9 : dtype == QR_BF16 ? fabs(x) / 255 + 1e-9 : top / 253;
}

static void assert_row_is(const rows_under_test *t, const double *want)
{
    double top = 0;
    for (uint32_t i = 0; i < t->rows.dim; i++) top = fmax(top, fabs(want[i]));
    for (uint32_t i = 0; i < t->rows.dim; i++)
        if (fabs(element(t, i) - want[i]) > tolerance(t->rows.dtype, want[i], top))
            fail_msg("dtype %d, dim %u, element %u: %g instead of %g", t->rows.dtype, t->rows.dim, i, element(t, i),
                     want[i]);
    assert_only_row_one_written(t);
}

static void rms_norm_agrees_with_double_precision_in_every_dtype(void **state)
{
    (void)state;
    float           in[DIM_MAX], weight[DIM_MAX];
    double          want[DIM_MAX];
    rows_under_test t;
    fill(in, DIM_MAX, 1);
    fill(weight, DIM_MAX, 2);
    for (uint32_t dim = 1; dim <= DIM_MAX; dim++) {
        double squares = 0;
        for (uint32_t i = 0; i < dim; i++) squares += (double)in[i] * (double)in[i];
        for (uint32_t i = 0; i < dim; i++) want[i] = (double)in[i] * (double)weight[i] / sqrt(squares / dim + 1e-5);
        for (uint32_t k = 0; k < table_count; k++)
            for (qr_dtype dtype = QR_F32; dtype <= QR_INT8; dtype++) {
                prepare_rows(&t, dtype, dim, dim % 2 == 0 ? STRIDE : dim);
                tables[k]->rms_norm(&t.rows, 1, in, weight, 1e-5f);
                assert_row_is(&t, want);
            }
    }
}

static void layer_norm_agrees_with_double_precision_in_every_dtype(void **state)
{
    (void)state;
    float           in[DIM_MAX], weight[DIM_MAX], bias[DIM_MAX];
    double          want[DIM_MAX];
    rows_under_test t;
    fill(in, DIM_MAX, 1);
    fill(weight, DIM_MAX, 2);
    for (uint32_t i = 0; i < DIM_MAX; i++) bias[i] = 8 + sample(3, i); /* no sum near zero */
    for (uint32_t dim = 1; dim <= DIM_MAX; dim++) {
        double mean = 0, variance = 0;
        for (uint32_t i = 0; i < dim; i++) mean += (double)in[i] / dim;
        for (uint32_t i = 0; i < dim; i++) variance += pow((double)in[i] - mean, 2) / dim;
        for (uint32_t i = 0; i < dim; i++)
            want[i] = ((double)in[i] - mean) * (double)weight[i] / sqrt(variance + 1e-5) + (double)bias[i];
        for (uint32_t k = 0; k < table_count; k++)
            for (qr_dtype dtype = QR_F32; dtype <= QR_INT8; dtype++) {
                prepare_rows(&t, dtype, dim, dim % 2 == 0 ? STRIDE : dim);
                tables[k]->layer_norm(&t.rows, 1, in, weight, bias, 1e-5f);
                assert_row_is(&t, want);
            }
    }
}

static void layer_norm_may_replace_its_input(void **state)
{
    (void)state;
    float           in[DIM_MAX], weight[DIM_MAX], bias[DIM_MAX];
    rows_under_test apart, in_place;
    fill(in, DIM_MAX, 1);
    fill(weight, DIM_MAX, 2);
    fill(bias, DIM_MAX, 3);
    for (uint32_t k = 0; k < table_count; k++) {
        prepare_rows(&apart, QR_F32, DIM_MAX, STRIDE);
        prepare_rows(&in_place, QR_F32, DIM_MAX, STRIDE);
        float *row = (float *)in_place.rows.data + STRIDE;
        memcpy(row, in, sizeof in);
        tables[k]->layer_norm(&apart.rows, 1, in, weight, bias, 1e-5f);
        tables[k]->layer_norm(&in_place.rows, 1, row, weight, bias, 1e-5f);
        assert_memory_equal(row, (float *)apart.rows.data + STRIDE, sizeof in);
    }
}

static void convert_agrees_with_double_precision_in_every_dtype(void **state)
{
    (void)state;
    float           in[DIM_MAX];
    double          want[DIM_MAX];
    rows_under_test t;
    fill(in, DIM_MAX, 3);
    for (uint32_t dim = 1; dim <= DIM_MAX; dim++) {
        for (uint32_t i = 0; i < dim; i++) want[i] = (double)in[i];
        for (uint32_t k = 0; k < table_count; k++)
            for (qr_dtype dtype = QR_F32; dtype <= QR_INT8; dtype++) {
                prepare_rows(&t, dtype, dim, STRIDE);
                tables[k]->convert(&t.rows, 1, in);
                assert_row_is(&t, want);
            }
    }
}

/* Rounding must be the same on every instruction set, ties, infinities, denormals and NaN included. */
static void conversion_to_bf16_and_int8_has_the_same_bits_everywhere(void **state)
{
    (void)state;
    static const uint32_t bits[] = {0x3f808000, 0x3f818000, 0x3f80ffff, 0xbf808000, 0x7f800000, 0xff800000, 0x7f7fffff,
                                    0x00000001, 0x00008000, 0x80018000, 0x7fc00000, 0x7f800001, 0,          0x80000000};
    float                 in[DIM_MAX];
    rows_under_test       t;
    fill(in, DIM_MAX, 4);
    for (uint32_t i = 0; i < sizeof bits / sizeof *bits; i++) in[i] = qr_f32_of_bits(bits[i]);
    for (uint32_t k = 0; k < table_count; k++) {
        prepare_rows(&t, QR_BF16, DIM_MAX, STRIDE);
        tables[k]->convert(&t.rows, 1, in);
        for (uint32_t i = 0; i < DIM_MAX; i++)
            assert_int_equal(((const qr_bf16 *)t.rows.data)[STRIDE + i], qr_bf16_of_f32(in[i]));
    }
    for (uint32_t i = 0; i < DIM_MAX; i++) in[i] = i == 77 ? 127.0f : (float)i - 64.5f; /* ties */
    for (uint32_t k = 0; k < table_count; k++) {
        prepare_rows(&t, QR_INT8, DIM_MAX, STRIDE);
        tables[k]->convert(&t.rows, 1, in);
        assert_true(t.scales[1] == 1.0f);
        for (uint32_t i = 0; i < DIM_MAX; i++)
            assert_int_equal(((const int8_t *)t.rows.data)[STRIDE + i], lrintf(in[i]));
    }
}

static void a_row_of_zeros_has_int8_codes_of_zero(void **state)
{
    (void)state;
    const float     in[DIM_MAX] = {0};
    rows_under_test t;
    for (uint32_t k = 0; k < table_count; k++) {
        prepare_rows(&t, QR_INT8, DIM_MAX, STRIDE);
        tables[k]->convert(&t.rows, 1, in);
        for (uint32_t i = 0; i < DIM_MAX; i++) assert_int_equal(((const int8_t *)t.rows.data)[STRIDE + i], 0);
        assert_true(t.scales[1] == 0.0f);
    }
}

/* Each block as if it were a row; the last one is shorter. */
static void blocks_of_a_row_have_scales_of_their_own(void **state)
{
    (void)state;
    enum { DIM = 300, BLOCK = 128, BLOCKS = 3 };
    _Alignas(64) int8_t codes[2][320], alone[320];
    float               in[DIM], scales[2 * BLOCKS], scale;
    fill(in, DIM, 5);
    in[BLOCK + 7] = 1000; /* an outlier costs its block alone */
    for (uint32_t k = 0; k < table_count; k++) {
        const qr_rows rows = {
            .data = codes, .dtype = QR_INT8, .dim = DIM, .stride = 320, .scales = scales, .scale_block = BLOCK};
        assert_int_equal(qr_row_scales(&rows), BLOCKS);
        scales[BLOCKS - 1] = -1.0f;
        memset(codes, 0x5a, sizeof codes);
        tables[k]->convert(&rows, 1, in);
        assert_true(scales[BLOCKS - 1] == -1.0f);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            const uint32_t first = b * BLOCK, count = qr_min_u32(BLOCK, DIM - first);
            const qr_rows  one = {.data = alone, .dtype = QR_INT8, .dim = count, .stride = 128, .scales = &scale};
            tables[k]->convert(&one, 0, in + first);
            assert_memory_equal(codes[1] + first, alone, count);
            assert_true(scales[BLOCKS + b] == scale);
        }
        for (uint32_t i = DIM; i < 320; i++) assert_int_equal(codes[1][i], 0);
    }
}

static uint32_t plain_argmax(const float *x, uint32_t count)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++)
        if (!isnan(x[i]) && (best == UINT32_MAX || x[i] > x[best])) best = i;
    return best == UINT32_MAX ? 0 : best;
}

static void argmax_takes_the_lowest_of_equals_and_never_nan(void **state)
{
    (void)state;
    static const float values[] = {0.0f, -0.0f, 1.0f, 1.0f, -1.0f, -INFINITY, NAN};
    float              x[DIM_MAX], value;
    for (uint32_t seed = 0; seed < 400; seed++) {
        const uint32_t count = 1 + qr_random_below(1, seed, 0, DIM_MAX), kinds = 1 + qr_random_below(2, seed, 0, 7);
        const uint32_t first = 7 - kinds;
        for (uint32_t i = 0; i < count; i++) x[i] = values[first + qr_random_below(3, seed, i, kinds)];
        for (uint32_t k = 0; k < table_count; k++) {
            const uint32_t best = tables[k]->argmax(x, count, &value);
            assert_int_equal(best, plain_argmax(x, count));
            assert_int_equal(qr_bits_of_f32(value), qr_bits_of_f32(x[best]));
        }
    }
}

/* Up to 64 columns with ties, infinities and NaN against a plain pass; *nothing* else of the arrays is written. */
static void a_partial_lse_names_the_lowest_of_the_greatest_and_what_is_not_finite(void **state)
{
    (void)state;
    static const float values[] = {0.0f, -0.0f, 1.5f, 1.5f, -7.0f, -90.0f, 3.0f, NAN, INFINITY, -INFINITY};
    for (uint32_t seed = 0; seed < 2000; seed++) {
        const uint32_t count = 1 + qr_random_below(1, seed, 0, QR_LSE_COLUMNS), kinds = seed % 4 ? 7 : 10;
        float          x[QR_LSE_COLUMNS];
        bool           finite = true;
        for (uint32_t i = 0; i < count; i++) {
            x[i] = values[qr_random_below(3, seed, i, kinds)];
            finite &= isfinite(x[i]) != 0;
        }
        const uint32_t best = plain_argmax(x, count);
        double         sum  = 0;
        for (uint32_t i = 0; i < count; i++) sum += exp((double)x[i] - (double)x[best]);
        for (uint32_t k = 0; k < table_count; k++) {
            float                greatest[2] = {-1, -1}, sum_exp[2] = {-1, -1};
            uint32_t             found[2]    = {7, 7};
            const qr_partial_lse partial_lse = {greatest, sum_exp, found, 2};
            tables[k]->partial_lse(&partial_lse, x, 1000, count);
            assert_int_equal(isnan(greatest[0]) == 0, finite);
            if (finite) {
                assert_int_equal(found[0], 1000 + best);
                assert_int_equal(qr_bits_of_f32(greatest[0]), qr_bits_of_f32(x[best]));
                assert_true(fabs((double)sum_exp[0] - sum) < 1e-6 * sum);
            }
            assert_true(greatest[1] == -1 && sum_exp[1] == -1 && found[1] == 7);
        }
    }
}

static void merged_partial_lse_is_the_sum_over_the_whole_row(void **state)
{
    (void)state;
    static float    x[LONG * 4], greatest[LONG], sum_exp[LONG];
    static uint32_t best[LONG];
    for (uint32_t round = 0; round < 60; round++) {
        const uint32_t columns = 1 + qr_random_below(4, round, 0, LONG * 4), groups = (columns + 63) / 64;
        double         want = 0, top = -1e30;
        for (uint32_t i = 0; i < columns; i++) x[i] = 18.0f * sample(round, i) - 500;
        for (uint32_t i = 0; i < columns; i++) top = fmax(top, (double)x[i]);
        for (uint32_t i = 0; i < columns; i++) want += exp((double)x[i] - top);
        for (uint32_t k = 0; k < table_count; k++) {
            const qr_partial_lse partial_lse = {greatest, sum_exp, best, groups};
            for (uint32_t g = 0; g < groups; g++) {
                const qr_partial_lse at = qr_partial_lse_at(&partial_lse, 0, g);
                tables[k]->partial_lse(&at, x + 64 * g, 64 * g, columns - 64 * g < 64 ? columns - 64 * g : 64);
            }
            const double got = (double)tables[k]->merge_exp(&partial_lse, groups, (float)top);
            if (!(fabs(got - want) <= 1e-6 * want)) fail_msg("%s: %.9g instead of %.9g", tables[k]->isa, got, want);
        }
    }
}

static void one_exponential_has_a_relative_error_below_2e_minus_7(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < table_count; k++)
        for (float x = -87.0f; x <= 0.0f; x += 0.00737f) {
            float        scaled, weight;
            const double want = exp((double)x), got = (double)tables[k]->exp_scaled(&scaled, &weight, &x, 1, 0, 1);
            if (fabs(got - want) > 2e-7 * want) fail_msg("%s: exp(%g) = %.9g", tables[k]->isa, (double)x, got);
        }
}

static void exp_scaled_weighs_below_the_greatest_and_touches_nothing_else(void **state)
{
    (void)state;
    float x[DIM_MAX], scaled[DIM_MAX + 1], weights[DIM_MAX + 1];
    for (uint32_t count = 1; count <= DIM_MAX; count++)
        for (uint32_t k = 0; k < table_count; k++) {
            for (uint32_t i = 0; i < count; i++) x[i] = 40.0f * sample(count, i);
            x[count / 2] = 50, x[count / 3] = count > 5 ? -INFINITY : 50;
            scaled[count] = weights[count] = 7;
            const double got               = (double)tables[k]->exp_scaled(scaled, weights, x, count, 50, 0.8f);
            double       sum               = 0;
            for (uint32_t i = 0; i < count; i++) {
                const double value = ((double)x[i] - 50) / (double)0.8f, want = value < -87 ? 0 : exp(value);
                assert_true(x[i] == -INFINITY ? scaled[i] == -INFINITY : fabs((double)scaled[i] - value) < 1e-4);
                assert_true(fabs((double)weights[i] - want) <= 2e-5 * want);
                sum += (double)weights[i];
            }
            assert_true(weights[count / 2] == 1);
            assert_true(fabs(got - sum) <= 1e-6 * sum);
            assert_true(scaled[count] == 7 && weights[count] == 7);
        }
}

static void sum_from_adds_the_weights_of_values_that_reach_the_floor(void **state)
{
    (void)state;
    float x[DIM_MAX], weights[DIM_MAX];
    fill(weights, DIM_MAX, 9);
    for (uint32_t count = 0; count <= DIM_MAX; count++)
        for (int floor = -3; floor <= 3; floor++) {
            double want = 0;
            for (uint32_t i = 0; i < count; i++) x[i] = rintf(3 * sample(count, i));
            for (uint32_t i = 0; i < count; i++) want += x[i] >= (float)floor ? (double)weights[i] : 0;
            for (uint32_t k = 0; k < table_count; k++) {
                const double got = (double)tables[k]->sum_from(x, weights, count, (float)floor);
                if (fabs(got - want) > 1e-5) fail_msg("%s: %.9g instead of %.9g", tables[k]->isa, got, want);
            }
        }
}

static void axpy_adds_the_scaled_row_and_touches_nothing_else(void **state)
{
    (void)state;
    float in[DIM_MAX], out[DIM_MAX + 2];
    fill(in, DIM_MAX, 5);
    for (uint32_t count = 1; count <= DIM_MAX; count++)
        for (uint32_t k = 0; k < table_count; k++) {
            fill(out, DIM_MAX + 2, 6);
            tables[k]->axpy(out + 1, in, 0.75f, count);
            for (uint32_t i = 0; i < DIM_MAX + 2; i++) {
                const bool   inside = i >= 1 && i <= count;
                const double want   = (double)sample(6, i) + (inside ? 0.75 * (double)in[i - 1] : 0.0);
                assert_true(fabs((double)out[i] - want) <= (inside ? 2e-7 * (1 + fabs(want)) : 0.0));
            }
        }
}

static uint32_t f32_ns, bf16_ns; /* of a thousand steps */

static void spin_ns(uint64_t ns)
{
    for (const uint64_t start = qr_now_ns(); qr_now_ns() - start < ns;) {
    }
}

static float spin_f32(uint32_t steps) { return spin_ns((uint64_t)steps * f32_ns / 1000), 0; }
static float spin_bf16(uint32_t steps) { return spin_ns((uint64_t)steps * bf16_ns / 1000), 0; }

static void bf16_is_widened_where_that_is_clearly_faster(void **state)
{
    (void)state;
    const qr_limit_loops loops = {.by_dtype = {[QR_F32]  = {.multiply = spin_f32, .operations = 100},
                                               [QR_BF16] = {.multiply = spin_bf16, .operations = 200}}};
    static const struct {
        uint32_t f32_ns, bf16_ns; /* bf16 has twice the operations */
        bool     widened;
    } cases[] = {{500, 500, false}, {500, 1000, false}, {500, 1200, false}, {500, 2000, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        f32_ns  = 2 * cases[i].f32_ns;
        bf16_ns = 2 * cases[i].bf16_ns;
        assert_int_equal(qr_bf16_is_faster_widened(&loops), cases[i].widened);
    }
}

/* On a machine that has bf16 products, and no tiles or no leave to use them. */
static void a_set_that_is_named_is_taken_as_it_is(void **state)
{
    (void)state;
    const uint32_t features = qr_cpu_features() & ~(uint32_t)QR_CPU_AMX;
    if ((features & QR_CPU_AVX512_BF16) == 0) skip();
    unsetenv("QUIRE_ISA");
    const qr_kernels *named = qr_kernels_select_with(features, "avx512_bf16");
    assert_string_equal(named->isa, "avx512_bf16");
    assert_null(qr_kernels_remark(named));
    const bool        widened = qr_bf16_is_faster_widened(named->limits);
    const qr_kernels *chosen  = qr_kernels_select_with(features, NULL);
    assert_string_equal(chosen->isa, widened ? "avx512_vnni" : "avx512_bf16");
    assert_int_equal(qr_kernels_remark(chosen) != NULL, widened);
    assert_ptr_equal(qr_kernels_select_with(features, "amx"), chosen);
    setenv("QUIRE_ISA", "avx512_bf16", 1);
    assert_ptr_equal(qr_kernels_select_with(features, "amx"), named);
    unsetenv("QUIRE_ISA");
}

static void selection_obeys_both_caps(void **state)
{
    (void)state;
    unsetenv("QUIRE_ISA");
    const qr_kernels *best = qr_kernels_select(NULL);
    if (qr_kernels_remark(best) == NULL) assert_ptr_equal(best, tables[0]);
    assert_string_equal(qr_kernels_select("scalar")->isa, "scalar");
    assert_null(qr_kernels_select("sse9"));
    setenv("QUIRE_ISA", "scalar", 1);
    assert_string_equal(qr_kernels_select(NULL)->isa, "scalar");
    assert_string_equal(qr_kernels_select("avx512_bf16")->isa, "scalar");
    setenv("QUIRE_ISA", "avx512_bf16", 1);
    assert_string_equal(qr_kernels_select("scalar")->isa, "scalar");
    setenv("QUIRE_ISA", "auto", 1);
    assert_ptr_equal(qr_kernels_select("auto"), best);
    assert_string_equal(qr_kernels_select("scalar")->isa, "scalar");
    setenv("QUIRE_ISA", "avx3", 1);
    assert_null(qr_kernels_select(NULL));
    assert_null(qr_kernels_select("scalar"));
    unsetenv("QUIRE_ISA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_norm_agrees_with_double_precision_in_every_dtype),
        cmocka_unit_test(layer_norm_agrees_with_double_precision_in_every_dtype),
        cmocka_unit_test(layer_norm_may_replace_its_input),
        cmocka_unit_test(convert_agrees_with_double_precision_in_every_dtype),
        cmocka_unit_test(conversion_to_bf16_and_int8_has_the_same_bits_everywhere),
        cmocka_unit_test(a_row_of_zeros_has_int8_codes_of_zero),
        cmocka_unit_test(blocks_of_a_row_have_scales_of_their_own),
        cmocka_unit_test(argmax_takes_the_lowest_of_equals_and_never_nan),
        cmocka_unit_test(a_partial_lse_names_the_lowest_of_the_greatest_and_what_is_not_finite),
        cmocka_unit_test(merged_partial_lse_is_the_sum_over_the_whole_row),
        cmocka_unit_test(one_exponential_has_a_relative_error_below_2e_minus_7),
        cmocka_unit_test(exp_scaled_weighs_below_the_greatest_and_touches_nothing_else),
        cmocka_unit_test(sum_from_adds_the_weights_of_values_that_reach_the_floor),
        cmocka_unit_test(axpy_adds_the_scaled_row_and_touches_nothing_else),
        cmocka_unit_test(selection_obeys_both_caps),
        cmocka_unit_test(bf16_is_widened_where_that_is_clearly_faster),
        cmocka_unit_test(a_set_that_is_named_is_taken_as_it_is),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
