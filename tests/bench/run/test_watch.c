/* What a run is watched for: steadiness, overload, and noise, on series and files made up here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "bench/run/watch.h"

#define SECOND INT64_C(1000000000)

enum { SECONDS = 40, RATE = 50 };

static double         load[SECONDS];
static int64_t        tokens[SECONDS * RATE];
static qr_run_request requests[SECONDS];

/* A jitter of +-1, another one for each series. */
static double jitter(uint64_t series, int i) { return 2 * qr_random_uniform(3, series, (uint64_t)i) - 1; }

/* Second i has a load of `from` + i * `step` and a first token after a time in proportion to it; RATE tokens each. */
static qr_run play(double from, double step)
{
    for (int i = 0; i < SECONDS; i++) {
        load[i] = from + step * i + jitter(1, i);
        requests[i] =
            (qr_run_request){.first_ns = i * SECOND + SECOND / 2,
                             .due_ns   = i * SECOND + SECOND / 2 - (int64_t)((from + step * i + jitter(2, i)) * 1e7),
                             .end_ns   = -1};
        for (int t = 0; t < RATE; t++) tokens[i * RATE + t] = i * SECOND + t * (SECOND / RATE);
    }
    return (qr_run){.load            = load,
                    .load_count      = SECONDS,
                    .tokens          = tokens,
                    .token_count     = SECONDS * RATE,
                    .requests        = requests,
                    .request_count   = SECONDS,
                    .window_start_ns = -SECOND};
}

static void a_level_load_is_steady(void **state)
{
    (void)state;
    const qr_run run = play(20, 0);
    assert_true(qr_watch_is_steady(&run, SECONDS * SECOND, 0.01));
    assert_false(qr_watch_is_steady(&run, 9 * SECOND, 0.01)); /* too early to say */
}

static void a_growing_load_or_rate_is_not_steady(void **state)
{
    (void)state;
    qr_run run = play(20, 2);
    assert_false(qr_watch_is_steady(&run, SECONDS * SECOND, 0.01));
    run = play(20, 0);
    for (int i = 0; i < SECONDS; i++) /* tokens come later and later within the run: their rate grows */
        for (int t = 0; t < RATE; t++)
            tokens[i * RATE + t] =
                (int64_t)(SECONDS * sqrt((i * RATE + t) / (double)(SECONDS * RATE)) * (double)SECOND);
    assert_false(qr_watch_is_steady(&run, SECONDS * SECOND, 0.01));
}

/* Looks at the series twice. */
static bool looked_at(const qr_run *run, int64_t now_ns)
{
    qr_watch watch;
    qr_watch_start(&watch, true, false);
    assert_false(qr_watch_is_overloaded(&watch, run, now_ns));
    watch.look_s = QR_SATURATION_SECONDS;
    return qr_watch_is_overloaded(&watch, run, now_ns);
}

static void load_and_ttft_that_both_grow_are_overload(void **state)
{
    (void)state;
    const qr_run run = play(10, 2);
    assert_true(looked_at(&run, SECONDS * SECOND));
    assert_false(looked_at(&run, 20 * SECOND)); /* less than 30 s */
}

static void one_of_the_two_is_not_enough(void **state)
{
    (void)state;
    qr_run run = play(10, 2);
    for (int i = 0; i < SECONDS; i++) requests[i].due_ns = requests[i].first_ns - SECOND / 10;
    assert_false(looked_at(&run, SECONDS * SECOND));
    run = play(10, 2);
    for (int i = 0; i < SECONDS; i++) load[i] = 30 + jitter(1, i);
    assert_false(looked_at(&run, SECONDS * SECOND));
}

static void a_load_that_grows_because_more_comes_is_no_overload(void **state)
{
    (void)state;
    qr_run run = play(2, 0.07); /* from 2 to 5 requests at once, of 40 that came */
    for (int i = 0; i < SECONDS; i++) load[i] = 2 + 0.07 * i;
    assert_false(looked_at(&run, SECONDS * SECOND));
    for (int i = 0; i < SECONDS; i++) load[i] = 2 + 0.14 * i;
    assert_true(looked_at(&run, SECONDS * SECOND));
}

static void a_level_load_is_no_overload(void **state)
{
    (void)state;
    const qr_run run = play(20, 0);
    assert_false(looked_at(&run, SECONDS * SECOND));
}

/* A queue that swings for minutes, as every queue near its limit does, and ends on a rise. */
static void a_load_that_swings_is_no_overload(void **state)
{
    (void)state;
    enum { LONG = 900 };
    static double         swing[LONG];
    static qr_run_request swung[LONG];
    qr_run                run = {.load = swing, .requests = swung};
    qr_watch              watch;
    qr_watch_start(&watch, true, false);
    for (int i = 0; i < LONG; i++) {
        swing[i] = 20 + 18 * cos(i * 0.0628) + jitter(1, i); /* 100 s long */
        swung[i] =
            (qr_run_request){.first_ns = i * SECOND, .due_ns = i * SECOND - (int64_t)(swing[i] * 1e7), .end_ns = -1};
        swung[i].due_ns = swung[i].due_ns > 0 ? swung[i].due_ns : 0;
        run.load_count = run.request_count = (size_t)i + 1;
        assert_false(qr_watch_is_overloaded(&watch, &run, (i + 1) * SECOND));
    }
    assert_true(watch.look_s > LONG);
}

/* One comes every second, `answered` of them get a first token and `ended` end at once; the window begins after 10 s.
 */
static bool is_swamped(int answered, int ended, int64_t window_end_ns)
{
    for (int i = 0; i < SECONDS; i++)
        requests[i] = (qr_run_request){.due_ns     = i * SECOND,
                                       .planned_ns = i * SECOND,
                                       .first_ns   = i < 10 + answered ? i * SECOND : -1,
                                       .end_ns     = i < 10 || i >= 10 + ended ? -1 : i * SECOND};
    return qr_watch_is_swamped(&(qr_run){.requests        = requests,
                                         .request_count   = SECONDS,
                                         .window_start_ns = 10 * SECOND,
                                         .window_end_ns   = window_end_ns});
}

static void a_load_that_grew_by_more_than_were_answered_is_overload_at_the_end(void **state)
{
    (void)state;
    assert_true(is_swamped(0, 0, SECONDS * SECOND));
    assert_false(is_swamped(0, 0, 20 * SECOND - 1));    /* less than 10 s */
    assert_true(is_swamped(14, 14, SECONDS * SECOND));  /* 30 came, 14 ended */
    assert_false(is_swamped(15, 15, SECONDS * SECOND)); /* 15 more than before, 15 answered */
    assert_false(is_swamped(30, 0, SECONDS * SECOND));  /* begins as many as come, and they all stay */
}

/* ---- noise ---- */

static char root[64];

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    assert_true(fputs(text, to) >= 0 && fclose(to) == 0);
}

/* /proc/stat of the first CPU that this test may use: idle, busy and stolen ticks. */
static void write_stat(int user, int idle, int steal)
{
    char      text[256];
    cpu_set_t allowed;
    unsigned  cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    while (!CPU_ISSET(cpu, &allowed)) cpu++;
    snprintf(text, sizeof text, "cpu  1 1 1 1 1 1 1 1 0 0\ncpu%u %d 0 0 %d 0 0 0 %d 0 0\nintr 1\n", cpu, user, idle,
             steal);
    write_file("/proc/stat", text);
}

static void steal_and_throttling_are_read(void **state)
{
    (void)state;
    qr_noise_sample first, last;
    const long      hertz = sysconf(_SC_CLK_TCK);
    strcpy(root, "/tmp/quire-noise-XXXXXX");
    assert_non_null(mkdtemp(root));
    write_file("/proc/self/cgroup", "0::/a/b\n");
    write_file("/sys/fs/cgroup/a/b/cpu.stat", "usage_usec 7\nnr_periods 9\nnr_throttled 2\n");
    write_stat(1000, 1000, 100);
    qr_noise_sample_take(root, &first);
    write_file("/sys/fs/cgroup/a/b/cpu.stat", "usage_usec 7\nnr_periods 9\nnr_throttled 5\n");
    write_stat(1000, 1000, 100 + (int)hertz); /* one second stolen */
    qr_noise_sample_take(root, &last);
    assert_int_equal(first.cpus, 1);
    last.time_ns         = first.time_ns + 10 * SECOND;
    const qr_noise noise = qr_noise_between(&first, &last);
    assert_true(fabs(noise.steal_share - 0.1) < 1e-9);
    assert_int_equal(noise.throttled_periods, 3);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

static void what_others_take_is_what_this_process_did_not(void **state)
{
    (void)state;
    const qr_noise_sample first = {.cpus = 2, .busy_s = 5, .own_s = 1};
    qr_noise_sample       last  = {.time_ns = 10 * SECOND, .cpus = 2, .busy_s = 21, .own_s = 16};
    assert_true(fabs(qr_noise_between(&first, &last).other_share - 0.05) < 1e-9);
    last.own_s = 18; /* ticks and exact times differ a little: never below 0 */
    assert_true(qr_noise_between(&first, &last).other_share == 0);
}

static void a_second_is_contaminated_by_any_of_them(void **state)
{
    (void)state;
    const qr_noise_sample first = {.cpus = 2, .frequency_khz = 3000000};
    const qr_noise_sample clean = {.time_ns = SECOND, .cpus = 2, .busy_s = 2, .own_s = 2, .frequency_khz = 3000000};
    qr_noise_sample       last  = clean;
    assert_false(qr_noise_is_contaminated(&first, &last));
    last.steal_s = 0.2;
    assert_true(qr_noise_is_contaminated(&first, &last));
    last       = clean;
    last.own_s = 1.8;
    assert_true(qr_noise_is_contaminated(&first, &last));
    last              = clean;
    last.major_faults = 1;
    assert_true(qr_noise_is_contaminated(&first, &last));
    last                   = clean;
    last.throttled_periods = 1;
    assert_true(qr_noise_is_contaminated(&first, &last));
    last               = clean;
    last.frequency_khz = 2000000;
    assert_true(qr_noise_is_contaminated(&first, &last));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_load_is_steady),
        cmocka_unit_test(a_growing_load_or_rate_is_not_steady),
        cmocka_unit_test(load_and_ttft_that_both_grow_are_overload),
        cmocka_unit_test(one_of_the_two_is_not_enough),
        cmocka_unit_test(a_load_that_grows_because_more_comes_is_no_overload),
        cmocka_unit_test(a_level_load_is_no_overload),
        cmocka_unit_test(a_load_that_swings_is_no_overload),
        cmocka_unit_test(a_load_that_grew_by_more_than_were_answered_is_overload_at_the_end),
        cmocka_unit_test(steal_and_throttling_are_read),
        cmocka_unit_test(what_others_take_is_what_this_process_did_not),
        cmocka_unit_test(a_second_is_contaminated_by_any_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
