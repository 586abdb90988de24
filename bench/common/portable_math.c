/* Additions, multiplications and divisions only; frexp, ldexp, floor and sqrt are exact or correctly rounded. */
#include "bench/common/portable_math.h"

#include <math.h>

/* ln 2 in two parts, the first of which times an exponent is exact. */
static const double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;

/* x = 2^e m with m around 1, and log m = 2 atanh(s) with s = (m - 1) / (m + 1), as a series in s^2 <= 0.03. */
double qr_portable_log(double x)
{
    enum { TERMS = 12 };
    int exponent;
    if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
    if (isinf(x)) return x;
    double m = frexp(x, &exponent);
    if (m < 0.70710678118654752) m *= 2, exponent--;
    const double s = (m - 1) / (m + 1), z = s * s;
    double       series = 0;
    for (int i = TERMS; i > 0; i--) series = (series + 2.0 / (2 * i + 1)) * z;
    return exponent * ln2_high + (2 * s + (s * series + exponent * ln2_low));
}

/* x = k ln 2 + r with |r| <= 0.35, and exp r as its Taylor series. */
double qr_portable_exp(double x)
{
    enum { TERMS = 15 };
    if (isnan(x)) return x;
    x              = fmin(fmax(x, -1100), 1100); /* beyond, the result is 0 or INFINITY all the same */
    const double k = floor(x / (ln2_high + ln2_low) + 0.5), r = (x - k * ln2_high) - k * ln2_low;
    double       sum = 1;
    for (int i = TERMS; i > 0; i--) sum = 1 + sum * r / i;
    return ldexp(sum, (int)k);
}

double qr_portable_pow(double x, double y)
{
    if (y == 1) return x;
    return y == 0 ? 1 : qr_portable_exp(y * qr_portable_log(x));
}

/* Lanczos, "A precision approximation of the gamma function", SIAM J. Numer. Anal. B 1 (1964), with Godfrey's
 * coefficients for g = 7. */
double qr_portable_gamma(double x)
{
    static const double c[] = {676.5203681218851,  -1259.1392167224028,  771.32342877765313,    -176.61502916214059,
                               12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7};
    const double        t   = x + 6.5;
    double              sum = 0.99999999999980993;
    for (int i = 0; i < 8; i++) sum += c[i] / (x + i);
    return 2.5066282746310005 * sum * qr_portable_exp((x - 0.5) * qr_portable_log(t) - t);
}
