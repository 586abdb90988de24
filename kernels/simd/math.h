/* Functions written in the vector vocabulary, the same steps on every instruction set. */
#ifndef QR_SIMD_MATH_H
#define QR_SIMD_MATH_H

/* exp(x) for x <= 88, relative error 1.2e-7. Below -87.3 the result is exp(-87.3) = 1.2e-38, never 0: a masked term
 * must be zeroed by its mask. NaN stays NaN. Cody-Waite reduction in two terms (constants of Cephes expf, Moshier),
 * degree 5 polynomial; adding 1.5 * 2^23 rounds to the nearest integer, ties to even. */
VF32_INLINE vf32 vf32_exp(vf32 x)
{
    x            = vf32_max(vf32_set(-87.3f), x);
    const vf32 t = vf32_add(vf32_mul(x, vf32_set(1.44269504f)), vf32_set(0x1.8p23f));
    const vf32 n = vf32_sub(t, vf32_set(0x1.8p23f));
    const vf32 f = vf32_fma(n, vf32_set(2.12194440e-4f), vf32_fma(n, vf32_set(-0.693359375f), x));
    vf32       p = vf32_fma(vf32_set(1.9875691500e-4f), f, vf32_set(1.3981999507e-3f));
    p            = vf32_fma(p, f, vf32_set(8.3334519073e-3f));
    p            = vf32_fma(p, f, vf32_set(4.1665795894e-2f));
    p            = vf32_fma(p, f, vf32_set(1.6666665459e-1f));
    p            = vf32_fma(p, f, vf32_set(5.0000001201e-1f));
    p            = vf32_fma(p, vf32_mul(f, f), vf32_add(f, vf32_set(1.0f)));
    return vf32_mul(p, vf32_pow2(t));
}

/* 2^x for x <= 127, relative error 1.2e-7, exactly 1 at 0. Below -126 the result is 2^-126, never 0: a masked term must
 * be zeroed by its mask. NaN stays NaN. x is the nearest whole number and a rest in [-1/2, 1/2], whose polynomial
 * 1 + f * (degree 5) is minimax in the relative error, 2.6e-9 before rounding (Remez exchange). */
VF32_INLINE vf32 vf32_exp2(vf32 x)
{
    x            = vf32_max(vf32_set(-126.0f), x);
    const vf32 n = vf32_nearest(x);
    const vf32 f = vf32_sub(x, n);
    vf32       p = vf32_fma(vf32_set(1.559467782e-4f), f, vf32_set(1.340664341e-3f));
    p            = vf32_fma(p, f, vf32_set(9.617692791e-3f));
    p            = vf32_fma(p, f, vf32_set(5.550310388e-2f));
    p            = vf32_fma(p, f, vf32_set(2.402265221e-1f));
    p            = vf32_fma(p, f, vf32_set(6.931472421e-1f));
    return vf32_scale2(vf32_fma(p, f, vf32_set(1.0f)), n);
}

/* tanh(x). Below 0.625 an odd polynomial (Cephes tanhf), as 1 - e would cancel; above it (1 - e) / (1 + e) with
 * e = exp(-2 |x|). Absolute error 1e-7. */
VF32_INLINE vf32 vf32_tanh(vf32 x)
{
    const vf32 magnitude = vf32_abs(x), z = vf32_mul(x, x);
    const vf32 e     = vf32_exp(vf32_mul(magnitude, vf32_set(-2.0f)));
    const vf32 large = vf32_div(vf32_sub(vf32_set(1.0f), e), vf32_add(vf32_set(1.0f), e));
    vf32       p     = vf32_fma(vf32_set(-5.70498872745e-3f), z, vf32_set(2.06390887954e-2f));
    p                = vf32_fma(p, z, vf32_set(-5.37397155531e-2f));
    p                = vf32_fma(p, z, vf32_set(1.33314422036e-1f));
    p                = vf32_fma(p, z, vf32_set(-3.33332819422e-1f));
    const vf32 small = vf32_fma(vf32_mul(p, z), x, x);
    return vf32_select(vmask_less(magnitude, vf32_set(0.625f)), small, vf32_with_sign_of(large, x));
}

/* erf(x). Below 0.9 an odd polynomial, as 1 - erfc would cancel; above it 1 - erfc(|x|), whose binary logarithm is a
 * polynomial up to 4, where erf is 1 in f32. Both are minimax (Remez exchange) to 2e-8. Absolute error 1.1e-7. */
VF32_INLINE vf32 vf32_erf(vf32 x)
{
    const vf32 m = vf32_min(vf32_set(4.0f), vf32_abs(x)), z = vf32_mul(x, x); /* NaN stays */
    vf32       q     = vf32_fma(vf32_set(2.844726259e-4f), m, vf32_set(-4.408305511e-3f));
    q                = vf32_fma(q, m, vf32_set(3.213902563e-2f));
    q                = vf32_fma(q, m, vf32_set(-1.500941515e-1f));
    q                = vf32_fma(q, m, vf32_set(-9.190829992e-1f));
    q                = vf32_fma(q, m, vf32_set(-1.626998663f));
    q                = vf32_fma(q, m, vf32_set(-2.560749708e-4f));
    vf32 p           = vf32_fma(vf32_set(-6.040204316e-4f), z, vf32_set(5.002609454e-3f));
    p                = vf32_fma(p, z, vf32_set(-2.677286230e-2f));
    p                = vf32_fma(p, z, vf32_set(1.128198281e-1f));
    p                = vf32_fma(p, z, vf32_set(-3.761250973e-1f));
    p                = vf32_fma(p, z, vf32_set(1.128379107f));
    const vf32 large = vf32_with_sign_of(vf32_sub(vf32_set(1.0f), vf32_exp2(q)), x);
    return vf32_select(vmask_less(m, vf32_set(0.9f)), vf32_mul(p, x), large);
}

#endif
