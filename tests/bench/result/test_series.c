/* Runs made by hand: the intervals of the timeline hold what happened in them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/result/series.h"

#define SECOND INT64_C(1000000000)

static double at(const json_t *series, const char *name, size_t index)
{
    const json_t *array = json_object_get(series, name);
    assert_true(index < json_array_size(array));
    return json_number_value(json_array_get(array, index));
}

static void an_interval_holds_the_rates_of_its_tokens_and_the_state_of_its_steps(void **state)
{
    (void)state;
    int64_t      tokens[] = {SECOND / 10, SECOND / 5, 3 * SECOND + SECOND / 2};
    quire_step   steps[]  = {{.start_ns = 0, .rows_prompt = 8, .running = 2, .waiting = 4, .kv_used_bytes = 10},
                             {.start_ns = 100, .rows_encoder = 4, .running = 4, .waiting = 2, .kv_used_bytes = 30},
                             {.start_ns = 3 * SECOND, .preempted = 1, .running = 1, .kv_used_bytes = 5}};
    const qr_run run      = {.tokens      = tokens,
                             .token_count = 3,
                             .steps       = steps,
                             .step_count  = 3,
                             .after       = {.kv_cache_bytes = 100},
                             .end_ns      = 200 * SECOND};
    json_t      *series   = qr_series_json(&run);
    assert_true(at(series, "output_tokens", 0) == 2);
    assert_true(at(series, "output_tokens", 3) == 1);
    assert_true(at(series, "input_tokens", 0) == 12);
    assert_true(at(series, "running", 0) == 3 && at(series, "waiting", 0) == 3);
    assert_true(at(series, "running", 2) == 3); /* no step: as before */
    assert_true(at(series, "running", 3) == 1 && at(series, "waiting", 3) == 0);
    assert_true(fabs(at(series, "kv_usage", 0) - 0.2) < 1e-9);
    assert_true(at(series, "preemptions", 3) == 1);
    assert_true(json_number_value(json_object_get(series, "dt_s")) == 1);
    json_decref(series);
}

static void a_run_of_any_length_has_a_few_hundred_intervals_at_most(void **state)
{
    (void)state;
    for (double length_s = 0.001; length_s < 1e6; length_s *= 3) {
        const qr_run run    = {.end_ns = (int64_t)(length_s * 1e9)};
        json_t      *series = qr_series_json(&run);
        assert_in_range(json_array_size(json_object_get(series, "running")), 2, 242);
        assert_true(json_number_value(json_object_get(series, "dt_s")) * 242 >= length_s);
        json_decref(series);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_interval_holds_the_rates_of_its_tokens_and_the_state_of_its_steps),
        cmocka_unit_test(a_run_of_any_length_has_a_few_hundred_intervals_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
