/* Rounding and powers of two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bits.h"

static void the_next_power_of_two_is_not_below(void **state)
{
    (void)state;
    assert_int_equal(qr_next_power_of_two(0), 1);
    assert_int_equal(qr_next_power_of_two(1), 1);
    assert_int_equal(qr_next_power_of_two(2), 2);
    for (uint64_t power = 4; power < (uint64_t)1 << 62; power *= 2) {
        assert_true(qr_next_power_of_two(power - 1) == power);
        assert_true(qr_next_power_of_two(power) == power);
        assert_true(qr_next_power_of_two(power + 1) == 2 * power);
        assert_true(qr_is_power_of_two(power) && !qr_is_power_of_two(power + 1));
    }
}

static void products_and_sums_beyond_64_bits_are_refused(void **state)
{
    (void)state;
    uint64_t out;
    assert_true(qr_mul_u64(1ull << 32, (1ull << 32) - 1, &out));
    assert_false(qr_mul_u64(1ull << 32, 1ull << 32, &out));
    assert_false(qr_add_u64(UINT64_MAX, 1, &out));
    assert_int_equal(qr_ceil_div_u64(UINT64_MAX, 2), 1ull << 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_power_of_two_is_not_below),
        cmocka_unit_test(products_and_sums_beyond_64_bits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
