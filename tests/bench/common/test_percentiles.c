/* Percentiles of known values, and what too few samples cannot say. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/common/percentiles.h"
#include "support/close.h"

static void percentiles_are_those_of_linear_interpolation(void **state)
{
    (void)state;
    double       values[1000];
    const double asked[] = {50, 90, 99, 99.9};
    qr_summary   s;
    for (int i = 0; i < 1000; i++) values[(i * 7) % 1000] = i + 1;
    qr_summary_of(values, 1000, asked, 4, &s);
    assert_within(s.mean, 500.5, 1e-9);
    assert_within(s.p[0], 500.5, 1e-9);
    assert_within(s.p[1], 900.1, 1e-9);
    assert_within(s.p[2], 990.01, 1e-9);
    assert_true(isnan(s.p[3]));        /* needs 10,000 samples */
    assert_within(s.low[0], 469, 1.5); /* ranks 500 -+ 1.96 sqrt(250) */
    assert_within(s.high[0], 532, 1.5);
    qr_summary_of(values, 5, asked, 1, &s); /* all five lie on one side of the median in 1 case of 16 */
    assert_true(!isnan(s.p[0]) && isnan(s.low[0]) && isnan(s.high[0]));
    qr_summary_of(values, 6, asked, 1, &s);
    assert_true(s.low[0] == values[0] && s.high[0] == values[5]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_those_of_linear_interpolation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
