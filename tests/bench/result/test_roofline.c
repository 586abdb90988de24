/* The fraction of the roofline that steps reach, for steps whose numbers are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "bench/keys.h"
#include "bench/result/result_json.h"
#include "bench/result/roofline.h"
#include "support/close.h"

#define GIGA UINT64_C(1000000000)

static qr_result *result; /* too large for a stack */

/* Two measurements, the best of which counts: R 48 and 50 GB/s; P 200 (f32), 400 (bf16), 800 (int8). Caches of 1 MB. */
static int prepare(void **state)
{
    (void)state;
    quire_config *config;
    result = calloc(1, sizeof *result);
    if (result == NULL || qr_bench_config_create(&config, NULL) != QUIRE_OK) return -1;
    result->config             = config;
    result->model.weight_dtype = QUIRE_DTYPE_BF16;
    result->run_count          = 1;
    result->limit_count        = 2;
    for (int i = 0; i < 2; i++)
        result->limits[i] = (quire_limits){
            .read_gbs = 48 + 2 * i, .f32_gflops = 200, .bf16_gflops = 400, .int8_gops = 800, .cache_bytes = 1 << 20};
    result->records[0].window_end_ns = INT64_MAX;
    return 0;
}

static int tidy(void **state)
{
    (void)state;
    quire_config_destroy((quire_config *)(uintptr_t)result->config);
    free(result);
    return 0;
}

static void play(quire_step *steps, size_t count)
{
    result->records[0].steps      = steps;
    result->records[0].step_count = count;
}

static qr_roofline_fraction speed(void)
{
    qr_roofline_fraction s;
    assert_true(qr_roofline_fraction_of(result, 0, &s));
    return s;
}

/* 5 GB at 50 GB/s: 100 ms; 20 GFLOP at 400: 50 ms. It took 125 ms. */
static void a_step_of_few_rows_is_bounded_by_reading(void **state)
{
    (void)state;
    quire_step step = {.rows             = 1,
                       .weight_bytes     = 4 * GIGA,
                       .kv_bytes         = GIGA,
                       .projection_flops = 15 * GIGA,
                       .logits_flops     = 4 * GIGA,
                       .attention_flops  = GIGA,
                       .plan_ns          = 5000000,
                       .forward_ns       = 110000000,
                       .sample_ns        = 6000000,
                       .commit_ns        = 4000000};
    play(&step, 1);
    const qr_roofline_fraction s = speed();
    assert_close(s.floor_s, 0.1);
    assert_close(s.step_s, 0.125);
    assert_close(s.fraction, 0.8);
    assert_int_equal(s.by_rows[0].steps, 1);
    assert_close(s.by_rows[0].fraction, 0.8);
    assert_true(isnan(s.by_rows[1].fraction));
}

/* 40 GFLOP of bf16 products and 40 of int8 attention: 100 + 50 ms. */
static void operations_are_divided_by_the_peak_of_their_dtype(void **state)
{
    (void)state;
    assert_int_equal(quire_config_set((quire_config *)(uintptr_t)result->config, "kv_cache.dtype=int8", "test", NULL),
                     QUIRE_OK);
    quire_step step = {.rows             = 65,
                       .weight_bytes     = GIGA,
                       .projection_flops = 40 * GIGA,
                       .attention_flops  = 40 * GIGA,
                       .forward_ns       = 200000000};
    play(&step, 1);
    const qr_roofline_fraction s = speed();
    assert_close(s.floor_s, 0.15);
    assert_close(s.fraction, 0.75);
    assert_int_equal(s.by_rows[3].steps, 1);
}

static void fractions_are_of_sums_not_means_of_fractions(void **state)
{
    (void)state;
    quire_step steps[] = {{.rows = 4, .weight_bytes = 5 * GIGA, .forward_ns = 100000000},  /* 1.0 */
                          {.rows = 5, .weight_bytes = 5 * GIGA, .forward_ns = 400000000}}; /* 0.25 */
    play(steps, 2);
    const qr_roofline_fraction s = speed();
    assert_close(s.fraction, 0.4);
    assert_close(s.by_rows[0].fraction, 1);
    assert_close(s.by_rows[1].fraction, 0.25);
}

static void a_phase_has_its_own_bytes_operations_and_time(void **state)
{
    (void)state;
    quire_step steps[] = {{.rows             = 2,
                           .weight_bytes     = 5 * GIGA,
                           .projection_bytes = 4 * GIGA,
                           .logits_bytes     = GIGA,
                           .kv_bytes         = GIGA,
                           .projection_flops = 8 * GIGA,
                           .attention_flops  = 20 * GIGA,
                           .logits_flops     = 2 * GIGA,
                           .projection_ns    = 100000000,
                           .attention_ns     = 100000000,
                           .logits_ns        = 25000000,
                           .forward_ns       = 250000000},
                          {.rows                     = 2,
                           .rows_encoder             = 9,
                           .weight_bytes             = 5 * GIGA,
                           .projection_bytes         = 5 * GIGA,
                           .kv_bytes                 = GIGA,
                           .projection_flops         = 20 * GIGA,
                           .attention_flops          = 10 * GIGA,
                           .encoder_weight_bytes     = 4 * GIGA,
                           .encoder_kv_bytes         = GIGA,
                           .encoder_projection_flops = 20 * GIGA,
                           .encoder_attention_flops  = 10 * GIGA,
                           .projection_ns            = 25000000,
                           .encoder_ns               = 125000000,
                           .forward_ns               = 160000000}};
    play(steps, 2);
    const qr_roofline_fraction s = speed();
    assert_close(s.phases[0].fraction, 0.8); /* what the encoder moves is not in it */
    assert_close(s.phases[0].gbs, 40);
    assert_close(s.phases[0].gflops, 64);
    assert_close(s.phases[1].floor_s, 0.05); /* 20 GFLOP of bf16 */
    assert_close(s.phases[1].fraction, 0.5);
    assert_close(s.phases[2].fraction, 0.8);
    assert_close(s.phases[3].bytes, 5e9);
    assert_close(s.phases[3].flops, 30e9);
    assert_close(s.phases[3].fraction, 0.8);
    double named = 0;
    for (int i = 0; i < QR_ROOFLINE_PHASES; i++) named += s.phases[i].measured_s;
    assert_close(s.rest_s, 0.035);
    assert_close(named + s.rest_s, s.step_s);
    assert_int_equal(s.steps, 2);
}

/* 20 GFLOP of int8 weights at 800, of which 8 are bf16 at 400: 15 + 20 ms; the encoder has a quarter of each. */
static void what_stays_wide_among_int8_weights_is_divided_by_its_own_peak(void **state)
{
    (void)state;
    quire_step step            = {.rows                     = 1,
                                  .rows_encoder             = 1,
                                  .weight_bytes             = GIGA,
                                  .projection_bytes         = GIGA,
                                  .encoder_weight_bytes     = GIGA / 4,
                                  .projection_flops         = 20 * GIGA,
                                  .encoder_projection_flops = 5 * GIGA,
                                  .wide_flops               = 8 * GIGA,
                                  .encoder_wide_flops       = 2 * GIGA,
                                  .forward_ns               = 70000000};
    result->model.weight_dtype = QUIRE_DTYPE_INT8;
    play(&step, 1);
    const qr_roofline_fraction s = speed();
    result->model.weight_dtype   = QUIRE_DTYPE_BF16;
    assert_close(s.floor_s, 0.035);
    assert_close(s.fraction, 0.5);
    assert_close(s.phases[0].floor_s, 0.75 * 0.035);
    assert_close(s.phases[3].floor_s, 0.25 * 0.035);
}

/* R at 1, 2, 4, 8 MiB is 400, 200, 100, 100, and 50 over 16 MiB: caches of 1 MiB. */
static void measure_sets(void)
{
    static const double gbs[] = {400, 200, 100, 100};
    for (int i = 0; i < 2; i++) {
        result->limits[i].read_bytes = 16 << 20;
        memcpy(result->limits[i].set_gbs, gbs, sizeof gbs);
    }
}

static void a_step_is_divided_by_the_bandwidth_of_its_own_size(void **state)
{
    (void)state;
    qr_roofline roof;
    measure_sets();
    assert_true(qr_roofline_of(result, &roof));
    assert_close(qr_roofline_read_gbs(&roof, 4096), 400);
    assert_close(qr_roofline_read_gbs(&roof, 1 << 20), 400);
    assert_close(qr_roofline_read_gbs(&roof, (1 << 20) * sqrt(2)), 400 / sqrt(2));
    assert_close(qr_roofline_read_gbs(&roof, 2 << 20), 200);
    assert_close(qr_roofline_read_gbs(&roof, 6 << 20), 100);
    assert_close(qr_roofline_read_gbs(&roof, (8 << 20) * sqrt(2)), 100 / sqrt(2));
    assert_close(qr_roofline_read_gbs(&roof, 16 << 20), 50);
    assert_close(qr_roofline_read_gbs(&roof, 1e12), 50);
    for (int i = 0; i < 2; i++) result->limits[i].set_gbs[2] = 30; /* disturbed: 8 MiB were read at 100 */
    assert_true(qr_roofline_of(result, &roof));
    assert_close(qr_roofline_read_gbs(&roof, 4 << 20), 100);
}

static void steps_in_the_caches_count_as_the_others_do(void **state)
{
    (void)state;
    measure_sets();
    quire_step steps[] = {{.rows = 1, .weight_bytes = 1 << 20, .forward_ns = 10000},
                          {.rows = 1, .weight_bytes = 32 << 20, .forward_ns = 1000000}};
    play(steps, 2);
    const qr_roofline_fraction s = speed();
    assert_int_equal(s.steps, 2);
    assert_int_equal(s.cached_steps, 1);
    assert_close(s.floor_s, (1 << 20) / 400e9 + (32 << 20) / 50e9);
    assert_close(s.step_bytes, 16.5 * (1 << 20));
    assert_close(s.read_gbs * s.floor_s * 1e9, 33 << 20);
    json_t *cached = qr_result_step_json(result, 0, 0), *other = qr_result_step_json(result, 0, 1);
    assert_true(json_is_true(json_object_get(cached, "fits_caches")));
    assert_close(json_number_value(json_object_get(cached, "fraction")), (1 << 20) / 400e3 / 10);
    assert_true(json_is_false(json_object_get(other, "fits_caches")));
    assert_close(json_number_value(json_object_get(other, "floor_us")), (32 << 20) / 50e3);
    json_decref(cached), json_decref(other);
}

static void the_best_sample_is_the_limit(void **state)
{
    (void)state;
    result->limits[0]          = (quire_limits){.read_gbs = 60, .f32_gflops = 1, .bf16_gflops = 500, .int8_gops = 1};
    result->limits[1].read_gbs = 53;
    quire_step steps[]         = {{.rows = 1, .weight_bytes = 60 * GIGA / 1000, .forward_ns = 2000000}};
    play(steps, 1);
    assert_close(speed().fraction, 0.5);
    qr_roofline roof;
    assert_true(qr_roofline_of(result, &roof));
    assert_close(roof.weight_gflops, 500);
}

static void no_fraction_is_given_where_the_samples_of_the_bandwidth_differ(void **state)
{
    (void)state;
    result->limits[0].read_gbs = 43;
    quire_step steps[]         = {{.rows = 1, .weight_bytes = GIGA, .forward_ns = 40000000, .projection_ns = 1}};
    play(steps, 1);
    const qr_roofline_fraction s = speed();
    assert_true(isnan(s.fraction) && isnan(s.phases[0].fraction) && isnan(s.by_rows[0].fraction));
    assert_close(s.floor_s, 0.02);
    json_t *step = qr_result_step_json(result, 0, 0);
    assert_true(json_is_null(json_object_get(step, "fraction")));
    json_decref(step);
    result->limits[0].read_gbs = 44;
    assert_close(speed().fraction, 0.5);
}

static void steps_outside_the_window_do_not_count(void **state)
{
    (void)state;
    quire_step steps[] = {{.start_ns = 5, .rows = 1, .weight_bytes = GIGA, .forward_ns = 1},
                          {.start_ns = 15, .rows = 1, .weight_bytes = GIGA, .forward_ns = 40000000},
                          {.start_ns = 25, .rows = 1, .weight_bytes = GIGA, .forward_ns = 1}};
    play(steps, 3);
    result->records[0].window_start_ns = 10;
    result->records[0].window_end_ns   = 20;
    assert_close(speed().fraction, 0.5);
}

static void without_limits_there_is_nothing_to_divide_by(void **state)
{
    (void)state;
    qr_roofline_fraction s;
    result->limit_count = 0;
    assert_false(qr_roofline_fraction_of(result, 0, &s));
    json_t *none = qr_roofline_json(result, 0), *limits = qr_limits_json(result);
    assert_true(json_is_null(none));
    assert_int_equal(json_object_size(limits), 0);
    json_decref(none), json_decref(limits);
}

static void limits_keep_all_samples_and_their_median(void **state)
{
    (void)state;
    json_t       *limits = qr_limits_json(result);
    const json_t *read   = json_object_get(limits, "read_gbs");
    assert_close(json_number_value(json_object_get(read, "median")), 49);
    assert_close(json_number_value(json_object_get(read, "min")), 48);
    assert_close(json_number_value(json_object_get(read, "max")), 50);
    assert_int_equal(json_array_size(json_object_get(read, "samples")), 2);
    assert_int_equal(json_object_size(json_object_get(limits, "read_run_gbs")), QUIRE_LIMIT_RUNS);
    json_decref(limits);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, prepare, tidy)
    const struct CMUnitTest tests[] = {
        TEST(a_step_of_few_rows_is_bounded_by_reading),
        TEST(operations_are_divided_by_the_peak_of_their_dtype),
        TEST(fractions_are_of_sums_not_means_of_fractions),
        TEST(a_phase_has_its_own_bytes_operations_and_time),
        TEST(what_stays_wide_among_int8_weights_is_divided_by_its_own_peak),
        TEST(a_step_is_divided_by_the_bandwidth_of_its_own_size),
        TEST(steps_in_the_caches_count_as_the_others_do),
        TEST(the_best_sample_is_the_limit),
        TEST(no_fraction_is_given_where_the_samples_of_the_bandwidth_differ),
        TEST(steps_outside_the_window_do_not_count),
        TEST(without_limits_there_is_nothing_to_divide_by),
        TEST(limits_keep_all_samples_and_their_median),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
