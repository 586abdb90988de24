/* The measured limits: plausible against each other, whole or as short as the caller's struct. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "engine/limits.h"
#include "kernels/limits.h"
#include "support/kernel_tables.h"
#include "support/sanitized.h"
#include "support/small_engine.h"

static quire_model  *model;
static quire_engine *engine;

static int open_engine(void **state)
{
    (void)state;
    const quire_engine_options options = small_engine_options();
    model                              = small_engine_model("tiny", NULL);
    engine                             = small_engine(&options, model);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return 0;
}

/* ---- kernels that only count ---- */

enum { MOST_BYTES = 512 << 20, READS_KEPT = 1024 };

static const char *read_from[READS_KEPT];
static uint32_t    read_count, multiply_count;

static float count_read(const void *from, size_t bytes)
{
    (void)bytes;
    if (read_count < READS_KEPT) read_from[read_count] = from;
    read_count++;
    return 0;
}

static float count_multiply(uint32_t steps)
{
    (void)steps;
    multiply_count++;
    return 0;
}

static const qr_limit_loops counting_loops = {
    .read = count_read, .by_dtype = {{count_multiply, 1}, {count_multiply, 1}, {count_multiply, 1}}};
static const qr_kernels counting = {.isa = "counting", .limits = &counting_loops};

/* By a team of one thread. */
static quire_limits measure_with(const qr_kernels *kernels, uint64_t cache_bytes)
{
    const qr_placement      placement    = {.thread_count = 1, .node_count = 1, .node_threads = {1}};
    const qr_team_options   team_options = {0};
    const qr_bind_options   bind         = {0};
    const qr_limits_options options      = {.kernels = kernels, .cache_bytes = cache_bytes, .bind = &bind};
    quire_limits            limits       = {.size = sizeof limits};
    quire_error             error        = {0};
    qr_team                *team         = NULL;
    assert_int_equal(qr_team_create(&placement, &team_options, &team, NULL), QUIRE_OK);
    if (qr_limits_measure(team, &options, &limits, &error) != QUIRE_OK) fail_msg("%s", error.message);
    qr_team_destroy(team);
    return limits;
}

/* ---- tests ---- */

static void every_limit_is_measured(void **state)
{
    (void)state;
    quire_limits limits = {.size = sizeof limits};
    quire_error  error  = {0};
    if (quire_engine_measure_limits(engine, &limits, &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(limits.size, sizeof limits);
    assert_true(limits.read_gbs > 0.1 && limits.read_gbs < 10000);
    for (int i = 0; i < QUIRE_LIMIT_RUNS; i++) assert_true(limits.run_gbs[i] > 0.01 && limits.run_gbs[i] < 10000);
    for (int i = 0; i < QUIRE_LIMIT_SETS; i++) {
        const bool fits = ((uint64_t)1 << (20 + i)) <= limits.read_bytes;
        assert_true(fits ? limits.set_gbs[i] > 0.1 && limits.set_gbs[i] < 100000 : limits.set_gbs[i] == 0);
    }
    assert_true(limits.f32_gflops > 0.01);
    assert_true(limits.bf16_gflops > 0.01);
    assert_true(limits.int8_gops > 0.01);
    assert_true(limits.barrier_ns > 1);
    assert_true(limits.measured_ns > 0);
}

static void what_is_read_does_not_fit_the_caches(void **state)
{
    (void)state;
    quire_limits limits = {.size = sizeof limits};
    assert_int_equal(quire_engine_measure_limits(engine, &limits, NULL), QUIRE_OK);
    assert_true(limits.read_bytes >= (uint64_t)16 << 20);
    assert_true(limits.read_bytes >= 8 * limits.cache_bytes || limits.read_bytes == MOST_BYTES);
}

/* What the cache is said to be decides how long the measurement takes: on virtual machines that is the host's. */
static void a_huge_cache_costs_no_more_than_half_a_gigabyte(void **state)
{
    (void)state;
    read_count = 0;
    assert_int_equal(measure_with(&counting, (uint64_t)300 << 20).read_bytes, MOST_BYTES);
}

static void reading_and_multiplying_are_those_of_the_kernels_given(void **state)
{
    (void)state;
    read_count = multiply_count = 0;
    measure_with(&counting, 0);
    assert_true(read_count > 0);
    assert_int_equal(multiply_count, 3 * 5);
}

static void nothing_is_read_again_before_all_the_rest(void **state)
{
    (void)state;
    read_count                = 0;
    const quire_limits limits = measure_with(&counting, 0);
    const size_t       part   = limits.read_bytes / 8;
    for (uint32_t i = 0; i < 8; i++) assert_ptr_equal(read_from[i], read_from[0] + i * part);
    assert_ptr_equal(read_from[8], read_from[0]);
    for (uint32_t i = 9; i < 9 + part / 4096; i++) /* the first sample of runs */
        assert_true(read_from[i] >= read_from[1] && read_from[i] < read_from[2]);
}

static void a_shorter_struct_is_filled_as_far_as_it_goes(void **state)
{
    (void)state;
    quire_limits limits;
    memset(&limits, 0xab, sizeof limits);
    limits.size = offsetof(quire_limits, run_gbs);
    assert_int_equal(quire_engine_measure_limits(engine, &limits, NULL), QUIRE_OK);
    assert_int_equal(limits.size, offsetof(quire_limits, run_gbs));
    assert_true(limits.read_gbs > 0.1);
    const unsigned char *rest = (const unsigned char *)&limits.run_gbs;
    for (size_t i = 0; i < sizeof limits - offsetof(quire_limits, run_gbs); i++) assert_int_equal(rest[i], 0xab);
}

static void a_place_for_the_limits_is_needed(void **state)
{
    (void)state;
    quire_error error = {0};
    assert_int_equal(quire_engine_measure_limits(engine, NULL, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "limits_out"));
}

/* A reader that left something out would find the greatest number only by luck. */
static void the_reader_reads_every_byte(void **state)
{
    (void)state;
    enum { BYTES = 16384 };
    static _Alignas(64) float memory[BYTES / sizeof(float)];
    const qr_kernels         *tables[KERNEL_TABLES_MAX];
    const uint32_t            count = kernel_tables(tables);
    for (uint32_t t = 0; t < count; t++)
        for (size_t bytes = QR_READ_STEP; bytes <= BYTES; bytes += bytes < 2048 ? QR_READ_STEP : 4096)
            for (size_t i = 0; i < bytes / sizeof(float); i++) {
                memory[i] = 5;
                assert_true(tables[t]->limits->read(memory, bytes) == 5.0f);
                memory[i] = 0;
            }
}

/* Work that the compiler found a way around would show as a peak that no core has. A busy neighbour makes it lower, by
 * as much as it likes: there is no lower bound to test. */
static void the_peaks_are_possible(void **state)
{
    (void)state;
    if (QR_SANITIZED) skip();
    const double two_products = 2 * 64 * 8; /* two threads, two 512-bit products of f32, 8 GHz */
    quire_limits limits       = {.size = sizeof limits};
    assert_int_equal(quire_engine_measure_limits(engine, &limits, NULL), QUIRE_OK);
    assert_true(limits.f32_gflops < two_products);
    const double in_tiles = strcmp(qr_kernels_select(NULL)->isa, "amx") == 0 ? 8 : 1; /* times as many at once */
    assert_true(limits.bf16_gflops < in_tiles * 2 * two_products);
    assert_true(limits.int8_gops < in_tiles * 4 * two_products);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_limit_is_measured),
        cmocka_unit_test(what_is_read_does_not_fit_the_caches),
        cmocka_unit_test(a_huge_cache_costs_no_more_than_half_a_gigabyte),
        cmocka_unit_test(reading_and_multiplying_are_those_of_the_kernels_given),
        cmocka_unit_test(nothing_is_read_again_before_all_the_rest),
        cmocka_unit_test(a_shorter_struct_is_filled_as_far_as_it_goes),
        cmocka_unit_test(a_place_for_the_limits_is_needed),
        cmocka_unit_test(the_reader_reads_every_byte),
        cmocka_unit_test(the_peaks_are_possible),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
