/* The median of an even and an odd number of samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/median.h"

static void the_median_is_the_middle_or_the_mean_of_two(void **state)
{
    (void)state;
    double odd[] = {9, -1, 4}, even[] = {8, 2, 1, 4}, one[] = {7};
    assert_true(qr_median(odd, 3) == 4);
    assert_true(qr_median(even, 4) == 3);
    assert_true(qr_median(one, 1) == 7);
    assert_true(even[0] == 1 && even[1] == 2 && even[2] == 4 && even[3] == 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_median_is_the_middle_or_the_mean_of_two)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
