/* The checks of a result: what makes it INVALID, what is only a warning, and what the first line says of it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/result/result.h"

#define SECOND INT64_C(1000000000)

static qr_result *result;

static int create(void **state)
{
    (void)state;
    quire_config *config;
    quire_error   error;
    result = calloc(1, sizeof *result);
    if (result == NULL || qr_bench_config_create(&config, &error) != QUIRE_OK) return -1;
    result->config            = config;
    result->profile           = "poisson";
    result->run_count         = 1;
    result->records[0].steady = true;
    return 0;
}

static int destroy(void **state)
{
    (void)state;
    quire_config_destroy((quire_config *)(uintptr_t)result->config);
    free(result);
    return 0;
}

static const qr_check *check_of(const char *id)
{
    qr_result_validate(result);
    for (uint32_t i = 0; i < result->check_count; i++)
        if (strcmp(result->checks[i].id, id) == 0) return &result->checks[i];
    fail_msg("no check %s", id);
    return NULL;
}

/* A run of `seconds` on two CPUs, during which others took `others_s` CPU seconds; `contaminated` seconds of it. */
static void disturb(double seconds, double others_s, uint32_t contaminated)
{
    static uint32_t which[64];
    qr_run         *run     = &result->records[0];
    run->noise_first        = (qr_noise_sample){.cpus = 2};
    run->noise_last         = (qr_noise_sample){.time_ns = (int64_t)(seconds * (double)SECOND),
                                                .cpus    = 2,
                                                .busy_s  = 2 * seconds,
                                                .own_s   = 2 * seconds - others_s};
    run->window_end_ns      = run->noise_last.time_ns;
    run->contaminated       = which;
    run->contaminated_count = contaminated;
    for (uint32_t i = 0; i < contaminated; i++) which[i] = i;
    result->runs[0].length_s = seconds;
}

static void assert_noise(double seconds, double others_s, uint32_t contaminated, bool noise_ok, bool disturbance_ok)
{
    disturb(seconds, others_s, contaminated);
    const qr_check *noise = check_of("noise"), *disturbance = check_of("disturbance");
    if (noise->ok != noise_ok || disturbance->ok != disturbance_ok)
        fail_msg("%g s, %g: noise %d (%g), disturbance %d (%g)", seconds, others_s, noise->ok, noise->value,
                 disturbance->ok, disturbance->value);
    assert_true(noise->invalid && !disturbance->invalid);
}

static void a_twentieth_of_the_time_elsewhere_makes_a_run_invalid(void **state)
{
    (void)state;
    assert_noise(100, 0, 0, true, true);
    assert_noise(100, 3, 0, true, true);    /* 1.5 % */
    assert_noise(100, 6, 0, true, false);   /* 3 %: a warning */
    assert_noise(100, 9.8, 0, true, false); /* 4.9 % */
    assert_noise(100, 10.5, 0, false, false);
}

static void one_bad_second_of_a_short_run_is_a_warning(void **state)
{
    (void)state;
    assert_noise(10, 0.1, 1, true, false); /* a tenth of the seconds, and 0.5 % of the time */
    assert_noise(60, 0.1, 1, true, true);
    assert_noise(60, 0.1, 4, true, false);
    assert_true(check_of("disturbance")->value > 6);
}

static void a_second_that_the_window_cuts_counts_by_its_part(void **state)
{
    (void)state;
    disturb(9.5, 0.1, 10);
    assert_true(fabs(check_of("disturbance")->value - 100) < 1e-9);
}

static void a_tick_of_the_clock_is_no_noise(void **state)
{
    (void)state;
    assert_noise(0.1, 0.02, 0, true, true); /* one tick of each CPU: 10 % of the time as it is counted */
    assert_noise(0.1, 0.05, 0, false, false);
}

static void a_share_is_at_most_all_and_its_hint_says_how_much(void **state)
{
    (void)state;
    disturb(9.99, 0.1, 10); /* its window is as long in ns, its length a little shorter in s */
    result->runs[0].length_s = 9.9;
    assert_true(check_of("disturbance")->value == 100);
    assert_non_null(strstr(check_of("disturbance")->hint, "in these others ran"));
    disturb(100, 6, 0);
    assert_string_equal(check_of("disturbance")->hint, "throughput may be some 3 % low, and tail latencies longer");
    disturb(100, 120, 0);
    assert_string_equal(check_of("disturbance")->hint, "see the check noise");
    disturb(100, 500, 0); /* more than two CPUs have: clocks that differ */
    assert_true(check_of("noise")->value == 100);
}

static void the_repetition_that_was_disturbed_most_decides(void **state)
{
    (void)state;
    disturb(100, 20, 0);
    result->records[1]        = (qr_run){.steady = true, .noise_last = {.time_ns = 100 * SECOND, .cpus = 2}};
    result->runs[1].length_s  = 100;
    result->run_count         = 2;
    const qr_check *noise     = check_of("noise");
    const double    tenth_pct = 100 * (20 / 200.0 - 0.01 / 100);
    assert_false(noise->ok);
    assert_true(fabs(noise->value - tenth_pct) < 1e-9);
}

static void an_unsteady_window_makes_a_run_invalid(void **state)
{
    (void)state;
    assert_true(check_of("steady")->ok);
    result->records[0].steady = false;
    assert_false(check_of("steady")->ok);
    assert_true(check_of("steady")->invalid);
}

static void shares_are_given_in_percent(void **state)
{
    (void)state;
    result->runs[0].requests.due       = 200;
    result->runs[0].requests.failed    = 1;
    result->runs[0].requests.completed = 150;
    result->runs[0].requests.truncated = 50;
    assert_true(check_of("failures")->value == 0.5);
    assert_false(check_of("failures")->ok);
    assert_true(check_of("truncated")->value == 25);
    assert_string_equal(check_of("truncated")->unit, "%");
}

/* Where the engine counted its pages that decides; memory next to no CPU is on no thread's node, and yet planned. */
static void pages_on_other_nodes_than_planned_make_a_run_invalid(void **state)
{
    (void)state;
    result->records[0].placement = (qr_thread_placement){.threads = 4, .pinned = true, .memory_local = 0.7};
    assert_false(check_of("placement")->ok);
    result->engine.numa_pages_checked = 1000;
    assert_true(check_of("placement")->ok);
    result->engine.numa_pages_misplaced = 11;
    assert_false(check_of("placement")->ok);
    assert_true(check_of("placement")->invalid && fabs(check_of("placement")->value - 98.9) < 1e-9);
}

static void missing_percentiles_say_how_many_samples_the_highest_needs(void **state)
{
    (void)state;
    qr_metrics *m          = &result->runs[0];
    m->percentile_count    = 3;
    m->percentiles[0]      = 99.9;
    m->percentiles[1]      = 50;
    m->percentiles[2]      = 100; /* the greatest: no number of samples lies beyond it */
    m->ttft                = (qr_summary){.n = 40, .p = {NAN, 1, NAN}};
    const qr_check *missed = check_of("percentiles");
    assert_true(!missed->ok && missed->value == 1);
    assert_string_equal(missed->unit, "omitted");
    assert_string_equal(missed->need, "10000 samples for P99.9");
    assert_string_equal(missed->hint, "run longer");
}

static void an_early_end_by_overload_is_not_mended_by_a_longer_run(void **state)
{
    (void)state;
    result->runs[0].requests.truncated = 50;
    assert_non_null(strstr(check_of("truncated")->hint, "run longer"));
    result->records[0].overloaded     = true;
    result->records[0].stopped        = true;
    result->records[0].steady         = false;
    static const char *const checks[] = {"requests", "length", "truncated", "steady", "generator"};
    static qr_run_request    late     = {.submit_ns = 90 * SECOND, .first_ns = 90 * SECOND};
    result->records[0].window_end_ns  = 90 * SECOND;
    result->records[0].requests       = &late;
    result->records[0].request_count  = 1;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        assert_non_null(strstr(check_of(checks[i])->hint, "overload ended the run early"));
    assert_non_null(strstr(check_of("overload")->hint, "load.request_rate"));
    assert_string_equal(result->checks[0].id, "overload");
    result->records[0].stopped = false; /* it showed at the end of the window */
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        assert_string_equal(check_of(checks[i])->hint, "see the check overload");
    result->profile = "replay";
    assert_non_null(strstr(check_of("overload")->hint, "raise workload.trace.time_scale"));
}

/* What gets in after the window has no TTFT in it, so its wait is in no latency either. */
static void the_generator_is_late_for_requests_of_the_window_only(void **state)
{
    (void)state;
    static qr_run_request late[]     = {{.submit_ns = SECOND / 2, .first_ns = SECOND},
                                        {.submit_ns = 90 * SECOND, .first_ns = 91 * SECOND},
                                        {.submit_ns = 95 * SECOND, .first_ns = -1}};
    result->records[0].requests      = late;
    result->records[0].request_count = 3;
    result->records[0].window_end_ns = 30 * SECOND;
    assert_true(check_of("generator")->value == 500);
}

static void what_is_not_verified_says_why(void **state)
{
    (void)state;
    result->engine.batch_invariant = true;
    assert_string_equal(check_of("verified")->hint, "no request ended");
    result->runs[0].requests.completed = 9;
    assert_non_null(strstr(check_of("verified")->hint, "run.verify_fraction is 0"));
    result->records[0].interrupted = true;
    assert_string_equal(check_of("verified")->hint, "the run was interrupted before any was verified");
    result->runs[0].requests.verified = 1;
    assert_true(check_of("verified")->ok);
}

static void set(const char *assignment)
{
    quire_error error;
    assert_int_equal(quire_config_set((quire_config *)(uintptr_t)result->config, assignment, "test", &error), QUIRE_OK);
}

static void too_few_requests_are_mended_by_what_limits_them(void **state)
{
    (void)state;
    result->runs[0].requests.completed = 30;
    assert_string_equal(check_of("requests")->hint, "raise workload.num_prompts"); /* run.duration = 0 */
    set("run.duration=27s");
    assert_string_equal(check_of("requests")->hint, "raise run.duration, or workload.num_prompts");
    set("workload.num_prompts=0");
    assert_string_equal(check_of("requests")->hint, "raise run.duration");
    result->runs[0].requests.completed = 0;
    assert_string_equal(check_of("requests")->hint, "the window is shorter than a request takes: raise run.duration");
}

static void a_cost_model_that_is_far_off_makes_a_simulation_invalid(void **state)
{
    (void)state;
    result->is_virtual          = true;
    result->cost.model.held_out = (qr_cost_error){.median = 0.16, .p90 = 0.49};
    assert_true(check_of("cost_error")->ok);
    assert_false(check_of("cost_error_p90")->ok);
    assert_false(check_of("cost_error_p90")->invalid);
    result->cost.model.held_out.median = 0.49;
    assert_false(check_of("cost_error")->ok);
    assert_true(check_of("cost_error")->invalid);
    assert_int_equal((int)check_of("cost_error")->value, 49);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_twentieth_of_the_time_elsewhere_makes_a_run_invalid, create, destroy),
        cmocka_unit_test_setup_teardown(one_bad_second_of_a_short_run_is_a_warning, create, destroy),
        cmocka_unit_test_setup_teardown(a_second_that_the_window_cuts_counts_by_its_part, create, destroy),
        cmocka_unit_test_setup_teardown(a_tick_of_the_clock_is_no_noise, create, destroy),
        cmocka_unit_test_setup_teardown(a_share_is_at_most_all_and_its_hint_says_how_much, create, destroy),
        cmocka_unit_test_setup_teardown(the_repetition_that_was_disturbed_most_decides, create, destroy),
        cmocka_unit_test_setup_teardown(an_unsteady_window_makes_a_run_invalid, create, destroy),
        cmocka_unit_test_setup_teardown(shares_are_given_in_percent, create, destroy),
        cmocka_unit_test_setup_teardown(pages_on_other_nodes_than_planned_make_a_run_invalid, create, destroy),
        cmocka_unit_test_setup_teardown(missing_percentiles_say_how_many_samples_the_highest_needs, create, destroy),
        cmocka_unit_test_setup_teardown(an_early_end_by_overload_is_not_mended_by_a_longer_run, create, destroy),
        cmocka_unit_test_setup_teardown(the_generator_is_late_for_requests_of_the_window_only, create, destroy),
        cmocka_unit_test_setup_teardown(what_is_not_verified_says_why, create, destroy),
        cmocka_unit_test_setup_teardown(too_few_requests_are_mended_by_what_limits_them, create, destroy),
        cmocka_unit_test_setup_teardown(a_cost_model_that_is_far_off_makes_a_simulation_invalid, create, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
