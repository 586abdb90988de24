/* Numbers that need not be equal to the last bit. A NaN is close to nothing. */
#ifndef TESTS_CLOSE_H
#define TESTS_CLOSE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

static inline void assert_within(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) fail_msg("%.12g is not %.12g", value, expected);
}

/* To nine digits. */
static inline void assert_close(double value, double expected)
{
    assert_within(value, expected, 1e-9 * fmax(1e-6, fabs(expected)));
}

#endif
