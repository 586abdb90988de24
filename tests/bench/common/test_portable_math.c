/* Functions with the same bits everywhere: close to those of the math library, and their bits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "bench/common/portable_math.h"

enum { DRAWS = 20000 };

/* `i`th of a series between 2^-30 and 2^30. */
static double positive(uint64_t i)
{
    return ldexp(1 + qr_random_uniform(1, 1, i), (int)qr_random_below(1, 2, i, 60) - 30);
}

static void assert_near(double x, double expected, double units)
{
    const double tolerance = units * (nextafter(fabs(expected), INFINITY) - fabs(expected));
    if (!(fabs(x - expected) <= tolerance)) fail_msg("%.17g is not %.17g", x, expected);
}

static void they_are_close_to_those_of_the_math_library(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < DRAWS; i++) {
        const double x = positive(i), y = 40 * qr_random_uniform(2, 1, i) - 20;
        assert_near(qr_portable_log(x), log(x), 4);
        assert_near(qr_portable_exp(y), exp(y), 4);
        assert_near(qr_portable_pow(x, y / 8), pow(x, y / 8), 400); /* errors of the logarithm, times the exponent */
        assert_near(qr_portable_gamma(1 + fabs(y)), tgamma(1 + fabs(y)), 4000);
    }
}

static void ends_of_the_range_are_right(void **state)
{
    (void)state;
    assert_true(qr_portable_log(1) == 0 && qr_portable_exp(0) == 1);
    assert_true(qr_portable_log(0) == -INFINITY && isnan(qr_portable_log(-1)) && isinf(qr_portable_log(INFINITY)));
    assert_true(qr_portable_exp(-INFINITY) == 0 && qr_portable_exp(1e9) == INFINITY && qr_portable_exp(-1e9) == 0);
    assert_true(isnan(qr_portable_exp(NAN)));
    assert_true(qr_portable_pow(0, 2) == 0 && qr_portable_pow(0, 0) == 1 && qr_portable_pow(0.3, 1) == 0.3);
}

static uint64_t mix(uint64_t hash, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return qr_mix64(hash ^ bits);
}

/* Whatever compiler, instruction set and math library: a simulated result is printed the same. */
static void their_bits_are_the_same_on_every_machine(void **state)
{
    (void)state;
    uint64_t hash = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        const double x = positive(i), y = 40 * qr_random_uniform(2, 1, i) - 20;
        hash = mix(hash, qr_portable_log(x));
        hash = mix(hash, qr_portable_exp(y));
        hash = mix(hash, qr_portable_pow(x, y));
        hash = mix(hash, qr_portable_gamma(1 + fabs(y)));
    }
    assert_int_equal(hash, UINT64_C(0xa02cde71053214e6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_close_to_those_of_the_math_library),
        cmocka_unit_test(ends_of_the_range_are_right),
        cmocka_unit_test(their_bits_are_the_same_on_every_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
