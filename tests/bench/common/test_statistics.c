/* Intervals: against tables, and their coverage on drawn data. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/common/statistics.h"
#include "bench/workload/distribution.h"
#include "support/close.h"

static void student_is_that_of_the_tables(void **state)
{
    (void)state;
    assert_within(qr_student_975(1), 12.706, 0.001);
    assert_within(qr_student_975(9), 2.262, 0.001);
    assert_within(qr_student_975(11), 2.201, 0.001);
    assert_within(qr_student_975(30), 2.042, 0.001);
    assert_within(qr_student_975(100000), 1.960, 0.001);
}

static void the_interval_of_a_mean_is_the_textbooks(void **state)
{
    (void)state;
    const double      values[] = {10, 12, 14};
    const qr_interval i        = qr_interval_of_mean(values, 3);
    assert_within(i.value, 12, 1e-12);
    assert_within(i.high, 12 + 4.3027 * 2 / sqrt(3), 1e-3);
    assert_true(isnan(qr_interval_of_mean(values, 1).low));
}

static void the_interval_of_a_share_is_wilsons(void **state)
{
    (void)state;
    const qr_interval i = qr_interval_of_share(8, 10);
    assert_within(i.low, 0.4902, 1e-4); /* Newcombe 1998 */
    assert_within(i.high, 0.9433, 1e-4);
    assert_within(qr_interval_of_share(10, 10).high, 1, 1e-12);
}

/* How often the interval of the ratio holds the true one, 1.1, for pairs that drift together. */
static double coverage(size_t n)
{
    enum { TRIALS = 400 };
    qr_stream stream = {.seed = 5, .stream = n};
    int       held   = 0;
    for (int t = 0; t < TRIALS; t++) {
        double a[16], b[16];
        for (size_t i = 0; i < n; i++) {
            const double drift = 1 + 0.2 * (double)i;
            a[i]               = drift * (100 + 3 * qr_stream_normal(&stream));
            b[i]               = drift * (110 + 3 * qr_stream_normal(&stream));
        }
        const qr_interval r = qr_interval_of_paired_ratio(a, b, n);
        held += r.low <= 1.1 && 1.1 <= r.high;
    }
    return (double)held / TRIALS;
}

static void intervals_of_ratios_cover_what_they_say(void **state)
{
    (void)state;
    for (size_t n = 2; n <= 16; n += n < 6 ? 1 : 5) {
        const double share = coverage(n);
        if (share < 0.91 || share > 0.985) fail_msg("%zu pairs: covered %.3f", n, share);
    }
}

static void pairing_removes_the_drift(void **state)
{
    (void)state;
    const double a[] = {100, 150, 90, 200, 120, 170, 110}, b[] = {102, 153, 92, 204, 122, 173, 112};
    for (size_t n = 5; n <= 7; n += 2) {
        const qr_interval r = qr_interval_of_paired_ratio(a, b, n);
        assert_within(r.value, 1.02, 0.002);
        assert_true(r.low > 1.015 && r.high < 1.025);
    }
}

static void the_bootstrap_is_the_same_every_time(void **state)
{
    (void)state;
    const double      a[] = {1, 2, 3, 4, 5, 6}, b[] = {2, 3, 4, 4, 6, 7};
    const qr_interval x = qr_interval_of_paired_ratio(a, b, 6), y = qr_interval_of_paired_ratio(a, b, 6);
    assert_true(x.low == y.low && x.high == y.high);
    assert_true(x.low < x.value && x.value < x.high);
}

static void a_ratio_with_a_zero_has_no_interval(void **state)
{
    (void)state;
    const double a[] = {1, 2}, b[] = {0, 1};
    assert_true(isnan(qr_interval_of_paired_ratio(a, b, 2).low));
}

static void the_ratio_of_two_intervals_combines_both(void **state)
{
    (void)state;
    const qr_interval a = {100, 100 / 1.03, 100 * 1.03}, b = {110, 110 / 1.04, 110 * 1.04};
    const qr_interval r = qr_interval_of_ratio(&a, &b);
    assert_within(log(r.high / r.value), hypot(log(1.03), log(1.04)), 1e-9);
    assert_within(log(r.value / r.low), hypot(log(1.03), log(1.04)), 1e-9);
}

/* Outcomes with probability p until decided or 3000; returns the decision, and adds how many it took. */
static qr_decision observe(double p, double target, uint64_t trial, uint64_t *count)
{
    qr_stream          stream = {.seed = 11, .stream = trial};
    qr_sequential_test test   = {.target = target, .confidence = 0.95};
    while (test.met + test.missed < 3000) {
        if (qr_stream_uniform(&stream) < p)
            test.met++;
        else
            test.missed++;
        const qr_decision decision = qr_sequential_decide(&test);
        *count += 1;
        if (decision != QR_UNDECIDED) return decision;
    }
    return QR_UNDECIDED;
}

static void a_sequential_test_errs_as_rarely_as_it_says(void **state)
{
    (void)state;
    enum { TRIALS = 200 };
    uint64_t count = 0, wrong = 0;
    for (uint64_t i = 0; i < TRIALS; i++) wrong += observe(0.9, 0.9, i, &count) == QR_ABOVE; /* just not above */
    assert_true(wrong <= 16); /* 5 % of 200 is 10; 16 is two deviations more */
}

static void a_sequential_test_ends_early_when_the_answer_is_clear(void **state)
{
    (void)state;
    enum { TRIALS = 50 };
    uint64_t high = 0, low = 0;
    for (uint64_t i = 0; i < TRIALS; i++) {
        assert_int_equal(observe(0.99, 0.9, i, &high), QR_ABOVE);
        assert_int_equal(observe(0.5, 0.9, i, &low), QR_BELOW);
    }
    assert_true(high / TRIALS < 120);
    assert_true(low / TRIALS < 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(student_is_that_of_the_tables),
        cmocka_unit_test(the_interval_of_a_mean_is_the_textbooks),
        cmocka_unit_test(the_interval_of_a_share_is_wilsons),
        cmocka_unit_test(intervals_of_ratios_cover_what_they_say),
        cmocka_unit_test(pairing_removes_the_drift),
        cmocka_unit_test(the_bootstrap_is_the_same_every_time),
        cmocka_unit_test(a_ratio_with_a_zero_has_no_interval),
        cmocka_unit_test(the_ratio_of_two_intervals_combines_both),
        cmocka_unit_test(a_sequential_test_errs_as_rarely_as_it_says),
        cmocka_unit_test(a_sequential_test_ends_early_when_the_answer_is_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
