/* When the window opens and closes, by the clock given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/run/window.h"
#include "support/scripted_target.h"

#define SECOND INT64_C(1000000000)

typedef struct fixture {
    scripted_target scripted;
    qr_target       target;
    quire_config   *config;
    qr_run          run;
    qr_window       window;
} fixture;

static void begin(fixture *f, const char *const *settings)
{
    quire_error error;
    *f                     = (fixture){0};
    f->target              = scripted_target_of(&f->scripted);
    f->target.is_simulated = true; /* this machine does not matter */
    assert_int_equal(qr_bench_config_create(&f->config, &error), QUIRE_OK);
    assert_int_equal(quire_config_set(f->config, "load.profile=poisson", "test", &error), QUIRE_OK);
    for (; *settings != NULL; settings++)
        if (quire_config_set(f->config, *settings, "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
    qr_window_init(&f->window, &f->target, f->config, true, &f->run);
}

static void end(fixture *f)
{
    qr_run_deinit(&f->run);
    quire_config_destroy(f->config);
}

static bool opens_at(fixture *f, int64_t ns)
{
    qr_window_pass(&f->window, ns - 1);
    const bool early = f->window.is_open;
    qr_window_pass(&f->window, ns);
    return !early && f->window.is_open;
}

static void a_run_without_a_duration_is_its_own_window(void **state)
{
    (void)state;
    fixture f;
    begin(&f, (const char *[]){"run.duration=0s", NULL});
    qr_window_pass(&f.window, 5);
    assert_true(f.window.is_open);
    assert_int_equal(f.run.window_start_ns, 0);
    assert_int_equal(qr_window_end_ns(&f.window), INT64_MAX);
    qr_window_finish(&f.window, 77 * SECOND);
    assert_int_equal(f.run.window_end_ns, 77 * SECOND);
    assert_int_equal(f.run.end_ns, 77 * SECOND);
    end(&f);
}

static void it_lasts_as_long_as_the_duration_and_the_grace_follows(void **state)
{
    (void)state;
    fixture f;
    begin(&f, (const char *[]){"run.duration=10s", "run.grace=3s", "run.warmup={mode=\"duration\",min=\"2s\"}", NULL});
    assert_true(opens_at(&f, 2 * SECOND));
    assert_int_equal(qr_window_end_ns(&f.window), 12 * SECOND);
    qr_window_pass(&f.window, 12 * SECOND - 1);
    assert_false(f.window.is_closed);
    qr_window_pass(&f.window, 12 * SECOND);
    assert_true(f.window.is_closed);
    assert_false(qr_window_is_past_grace(&f.window, 15 * SECOND - 1));
    assert_true(qr_window_is_past_grace(&f.window, 15 * SECOND));
    qr_window_finish(&f.window, 14 * SECOND);
    assert_int_equal(f.run.window_end_ns, 12 * SECOND);
    assert_int_equal(f.run.end_ns, 14 * SECOND);
    end(&f);
}

static void each_way_to_warm_up_opens_it_at_its_time(void **state)
{
    (void)state;
    fixture f;
    begin(&f, (const char *[]){"run.duration=10s", "run.warmup={mode=\"none\",min=\"2s\"}", NULL});
    assert_true(opens_at(&f, 0) || f.window.is_open);
    end(&f);
    begin(&f, (const char *[]){"run.duration=10s", "load.profile=throughput", "workload.num_prompts=9", NULL});
    assert_true(opens_at(&f, 0) || f.window.is_open); /* all is due at once: the whole run counts */
    end(&f);
    begin(&f, (const char *[]){"run.duration=10s", "run.warmup={mode=\"requests\",min=\"2s\"}", NULL});
    qr_window_pass(&f.window, 9 * SECOND);
    assert_false(f.window.is_open); /* none has ended */
    f.run.ended = 1;
    assert_true(opens_at(&f, 9 * SECOND + 1) || f.window.is_open);
    end(&f);
    begin(&f, (const char *[]){"run.duration=10s", "run.warmup={mode=\"steady\",min=\"2s\",max=\"20s\"}", NULL});
    assert_true(opens_at(&f, 20 * SECOND)); /* nothing came: it never was */
    assert_false(f.run.steady);
    end(&f);
}

static void a_run_that_ends_in_its_warm_up_has_a_window_all_the_same(void **state)
{
    (void)state;
    fixture f;
    begin(&f, (const char *[]){"run.duration=10s", "run.warmup={mode=\"duration\",min=\"5s\"}", NULL});
    qr_window_pass(&f.window, SECOND);
    qr_window_finish(&f.window, 2 * SECOND);
    assert_int_equal(f.run.window_start_ns, 0);
    assert_int_equal(f.run.window_end_ns, 2 * SECOND);
    assert_true(f.window.is_closed);
    end(&f);
}

static void the_load_is_noted_once_a_second(void **state)
{
    (void)state;
    fixture f;
    begin(&f, (const char *[]){"run.duration=0s", NULL});
    qr_window_pass(&f.window, 0);
    for (int64_t ns = 0; ns <= 3 * SECOND; ns += SECOND / 4) assert_false(qr_window_watch(&f.window, ns, (double)ns));
    assert_int_equal(f.run.load_count, 3);
    end(&f);
}

/* A hundred come and none ends; few were begun. */
static bool is_overloaded_at_the_end(bool is_open_loop, uint32_t begun, int64_t seconds)
{
    fixture f;
    begin(&f, (const char *[]){"run.duration=0s", NULL});
    f.window.is_open_loop = is_open_loop;
    f.run.requests        = calloc(100, sizeof *f.run.requests); /* the window's owner frees them */
    f.run.request_count   = 100;
    for (uint32_t i = 0; i < 100; i++)
        f.run.requests[i] =
            (qr_run_request){.first_ns = i < begun ? SECOND : -1, .end_ns = -1, .due_ns = i < 10 ? 0 : SECOND / 2};
    qr_window_pass(&f.window, SECOND);
    f.run.window_start_ns = SECOND / 4; /* the first ten were due before it */
    qr_window_finish(&f.window, seconds * SECOND);
    qr_window_judge(&f.window);
    const bool overloaded = f.run.overloaded;
    end(&f);
    return overloaded;
}

static void a_window_that_ends_with_most_requests_waiting_is_overloaded(void **state)
{
    (void)state;
    assert_true(is_overloaded_at_the_end(true, 10, 27));   /* none of the window's own had a first token */
    assert_false(is_overloaded_at_the_end(false, 10, 27)); /* a closed loop waits for its requests */
    assert_false(is_overloaded_at_the_end(true, 10, 9));   /* too short to say */
}

/* Of 40 requests that came in 3 s, `begun` were; others were held back. */
static bool is_swamped_in_3_s(uint32_t begun, uint32_t held_back)
{
    fixture f;
    begin(&f, (const char *[]){"run.duration=3s", "run.warmup={mode=\"none\"}", NULL});
    f.run.requests      = calloc(40, sizeof *f.run.requests);
    f.run.request_count = 40;
    f.run.held_back     = held_back;
    for (uint32_t i = 0; i < 40; i++) /* none has a token yet */
        f.run.requests[i] =
            (qr_run_request){.due_ns = SECOND, .planned_ns = i < begun ? SECOND : -1, .first_ns = -1, .end_ns = -1};
    qr_window_pass(&f.window, 0);
    qr_window_pass(&f.window, 3 * SECOND);
    qr_window_finish(&f.window, 4 * SECOND);
    qr_window_judge(&f.window);
    const bool overloaded = f.run.overloaded;
    end(&f);
    return overloaded;
}

static void far_more_waiting_than_begun_is_overload_in_a_window_of_any_length(void **state)
{
    (void)state;
    assert_true(is_swamped_in_3_s(20, 300));
    assert_true(is_swamped_in_3_s(0, 60));
    assert_false(is_swamped_in_3_s(40, 150)); /* 3.75 times as many as were begun */
    assert_false(is_swamped_in_3_s(0, 59));   /* 99 */
    assert_false(is_swamped_in_3_s(40, 0));   /* each takes longer than the window, but all are begun */
}

static void a_run_is_not_cut_short_after_its_window(void **state)
{
    (void)state;
    fixture f;
    begin(&f, (const char *[]){"run.duration=12s", "run.warmup={mode=\"none\"}", NULL});
    qr_window_pass(&f.window, 0);
    f.run.overloaded = true;
    assert_true(qr_window_watch(&f.window, 11 * SECOND, 5));
    qr_window_pass(&f.window, 12 * SECOND);
    assert_false(qr_window_watch(&f.window, 12 * SECOND, 5));
    assert_false(qr_window_watch(&f.window, 40 * SECOND, 5));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_without_a_duration_is_its_own_window),
        cmocka_unit_test(it_lasts_as_long_as_the_duration_and_the_grace_follows),
        cmocka_unit_test(each_way_to_warm_up_opens_it_at_its_time),
        cmocka_unit_test(a_run_that_ends_in_its_warm_up_has_a_window_all_the_same),
        cmocka_unit_test(the_load_is_noted_once_a_second),
        cmocka_unit_test(a_window_that_ends_with_most_requests_waiting_is_overloaded),
        cmocka_unit_test(far_more_waiting_than_begun_is_overload_in_a_window_of_any_length),
        cmocka_unit_test(a_run_is_not_cut_short_after_its_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
