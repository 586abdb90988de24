/* Number formats: conversions that every 16-bit pattern can be tried for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "base/number.h"

enum { LARGEST = 0x7bff, INFINITE = 0x7c00 };

static void every_half_is_itself_again(void **state)
{
    (void)state;
    for (uint32_t x = 0; x <= 0xffff; x++) {
        const float wide = qr_f32_of_f16((uint16_t)x);
        if (isnan(wide))
            assert_true(isnan(qr_f32_of_f16(qr_f16_of_f32(wide))));
        else
            assert_int_equal(qr_f16_of_f32(wide), x);
    }
}

static void what_lies_between_two_halves_goes_to_the_nearest_or_the_even_one(void **state)
{
    (void)state;
    for (uint16_t x = 0; x < LARGEST; x++) {
        const uint16_t next = (uint16_t)(x + 1);
        const float    half = (qr_f32_of_f16(x) + qr_f32_of_f16(next)) / 2; /* exact in f32 */
        assert_int_equal(qr_f16_of_f32(half), x % 2 == 0 ? x : next);
        assert_int_equal(qr_f16_of_f32(nextafterf(half, 0)), x);
        assert_int_equal(qr_f16_of_f32(nextafterf(half, INFINITY)), next);
        assert_int_equal(qr_f16_of_f32(-half), 0x8000 | (x % 2 == 0 ? x : next));
    }
}

static void beyond_the_largest_half_is_infinity(void **state)
{
    (void)state;
    assert_int_equal(qr_f16_of_f32(nextafterf(65520, 0)), LARGEST);
    assert_int_equal(qr_f16_of_f32(65520), INFINITE);
    assert_int_equal(qr_f16_of_f32(-1e30f), 0x8000 | INFINITE);
    assert_int_equal(qr_f16_of_f32(INFINITY), INFINITE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_itself_again),
        cmocka_unit_test(what_lies_between_two_halves_goes_to_the_nearest_or_the_even_one),
        cmocka_unit_test(beyond_the_largest_half_is_infinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
