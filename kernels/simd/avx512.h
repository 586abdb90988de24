/* The vector vocabulary of AVX-512 F, BW, DQ, VL: sixteen floats. simd/avx2.h says what the names promise.
 * A test may define QR_EMULATE_AVX512 as the header that stands in for the compiler's intrinsics. */
#ifndef QR_SIMD_H
#define QR_SIMD_H

#ifdef QR_EMULATE_AVX512
#include QR_EMULATE_AVX512
#else
#include <immintrin.h>
#endif
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/number.h"

#ifdef QR_EMULATE_AVX512
#define VF32_INLINE static __attribute__((unused)) /* inlined, emulation compiles for minutes */
#else
#define VF32_INLINE static inline __attribute__((always_inline, unused))
#endif

typedef __m512    vf32;
typedef __mmask16 vmask;
enum { VF32_LANES = 16 };
#define QR_SIMD_REGISTERS 32
#ifdef QR_EMULATE_AVX512
#define VF32_ROLLED
#define VF32_UNROLL /* an emulated instruction is a loop already */
#elif defined(__clang__)
#define VF32_UNROLL _Pragma("unroll")
#define VF32_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define VF32_UNROLL _Pragma("GCC unroll 16") /* -O2 alone would leave arrays of accumulators in memory */
#define VF32_ROLLED _Pragma("GCC unroll 1")
#endif

VF32_INLINE __mmask16 vf32_first_lanes(uint32_t count)
{
    return (__mmask16)(count < 16 ? (1u << count) - 1u : 0xffffu);
}

VF32_INLINE vf32 vf32_zero(void) { return _mm512_setzero_ps(); }
VF32_INLINE vf32 vf32_set(float x) { return _mm512_set1_ps(x); }
VF32_INLINE vf32 vf32_load(const float *p) { return _mm512_loadu_ps(p); }
VF32_INLINE void vf32_store(float *p, vf32 x) { _mm512_storeu_ps(p, x); }
VF32_INLINE vf32 vf32_load_upto(const float *p, uint32_t count)
{
    return _mm512_maskz_loadu_ps(vf32_first_lanes(count), p);
}
VF32_INLINE void vf32_store_upto(float *p, vf32 x, uint32_t count)
{
    _mm512_mask_storeu_ps(p, vf32_first_lanes(count), x);
}
VF32_INLINE __m256i vf32_to_bf16(vf32 x) /* as qr_bf16_of_f32, NaN included; vcvtneps2bf16 would flush denormals */
{
    const __m512i   bits = _mm512_castps_si512(x);
    const __m512i   odd  = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i   even = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan  = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i   all  = _mm512_mask_or_epi32(even, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(all, 16));
}
VF32_INLINE void vf32_store_bf16_upto(qr_bf16 *p, vf32 x, uint32_t count)
{
    _mm256_mask_storeu_epi16(p, vf32_first_lanes(count), vf32_to_bf16(x));
}
VF32_INLINE void vf32_store_s8_upto(int8_t *p, vf32 x, uint32_t count)
{
    _mm_mask_storeu_epi8(p, vf32_first_lanes(count), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}
VF32_INLINE vf32 vf32_add(vf32 a, vf32 b) { return _mm512_add_ps(a, b); }
VF32_INLINE vf32 vf32_sub(vf32 a, vf32 b) { return _mm512_sub_ps(a, b); }
VF32_INLINE vf32 vf32_mul(vf32 a, vf32 b) { return _mm512_mul_ps(a, b); }
VF32_INLINE vf32 vf32_div(vf32 a, vf32 b) { return _mm512_div_ps(a, b); }
VF32_INLINE vf32 vf32_fma(vf32 a, vf32 b, vf32 c) { return _mm512_fmadd_ps(a, b, c); }
VF32_INLINE vf32 vf32_max(vf32 a, vf32 b) { return _mm512_max_ps(a, b); }
VF32_INLINE vf32 vf32_min(vf32 a, vf32 b) { return _mm512_min_ps(a, b); }
VF32_INLINE vf32 vf32_abs(vf32 x) { return _mm512_abs_ps(x); }
VF32_INLINE vf32 vf32_with_sign_of(vf32 magnitude, vf32 sign)
{
    return _mm512_or_ps(vf32_abs(magnitude), _mm512_and_ps(_mm512_set1_ps(-0.0f), sign));
}
VF32_INLINE vf32 vf32_pow2(vf32 t)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127)), 23));
}
VF32_INLINE vf32 vf32_nearest(vf32 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT); }
VF32_INLINE vf32 vf32_scale2(vf32 x, vf32 n) { return _mm512_scalef_ps(x, n); }
VF32_INLINE vf32 vf32_bf16_even(const qr_bf16 *pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16));
}
VF32_INLINE vf32 vf32_bf16_odd(const qr_bf16 *pairs)
{
    const __m512i odd = _mm512_set1_epi32((int)0xffff0000u);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(pairs), odd));
}
VF32_INLINE float vf32_first(vf32 x) { return _mm_cvtss_f32(_mm512_castps512_ps128(x)); }
VF32_INLINE float vf32_sum(vf32 x)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128       s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s              = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s              = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}
VF32_INLINE float vf32_top(vf32 x)
{
    const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128       s = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s              = _mm_max_ps(s, _mm_movehl_ps(s, s));
    s              = _mm_max_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

VF32_INLINE vmask vmask_range(int32_t from, int32_t to)
{
    const uint32_t first = from <= 0 ? 0 : from < 16 ? (uint32_t)from : 16, last = to <= 0 ? 0 : (uint32_t)to;
    return (vmask)(vf32_first_lanes(last) & ~vf32_first_lanes(first));
}
VF32_INLINE vmask    vmask_less(vf32 a, vf32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
VF32_INLINE vmask    vmask_equal(vf32 a, vf32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
VF32_INLINE uint32_t vmask_bits(vmask mask) { return mask; }
VF32_INLINE vf32     vf32_select(vmask mask, vf32 a, vf32 b) { return _mm512_mask_blend_ps(mask, b, a); }

/* Integers: see simd/avx2.h. */
typedef __m512i  vi32;
VF32_INLINE vi32 vi32_zero(void) { return _mm512_setzero_si512(); }
VF32_INLINE vi32 vi32_in_register(vi32 x)
{
#ifndef QR_EMULATE_AVX512
    __asm__("" : "+v"(x));
#endif
    return x;
}
VF32_INLINE vf32 vf32_of_i32(vi32 x) { return _mm512_cvtepi32_ps(x); }
VF32_INLINE vi32 vi32_of_bits(vf32 x) { return _mm512_castps_si512(x); }
VF32_INLINE vi32 vi32_set(int32_t x) { return _mm512_set1_epi32(x); }
VF32_INLINE vi32 vi32_sub(vi32 a, vi32 b) { return _mm512_sub_epi32(a, b); }
VF32_INLINE void vi32_store_upto(int32_t *p, vi32 x, uint32_t count)
{
    vf32_store_upto((float *)p, _mm512_castsi512_ps(x), count);
}
VF32_INLINE void vf32_store_u8(uint8_t *p, vf32 x)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x)));
}

#ifdef QR_SIMD_HAS_INT8_DOT
typedef __m512i    vquads;
VF32_INLINE vquads vquads_load(const int8_t *p) { return _mm512_loadu_si512(p); }
VF32_INLINE vquads vquads_set(const uint8_t *four)
{
    int32_t x;
    memcpy(&x, four, sizeof x);
    return _mm512_set1_epi32(x);
}
VF32_INLINE vquads vquads_in_register(vquads x) { return vi32_in_register(x); }
VF32_INLINE vi32   vi32_dot_quads(vi32 sum, vquads u, vquads s) { return _mm512_dpbusd_epi32(sum, u, s); }
#else
typedef struct vquads {
    __m512i even, odd;
} vquads;
VF32_INLINE vquads vquads_load(const int8_t *p)
{
    const __m512i x = _mm512_loadu_si512(p);
    return (vquads){.even = _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8), .odd = _mm512_srai_epi16(x, 8)};
}
VF32_INLINE vquads vquads_set(const uint8_t *four)
{
    int32_t x;
    memcpy(&x, four, sizeof x);
    const __m512i all = _mm512_set1_epi32(x);
    return (vquads){.even = _mm512_and_si512(all, _mm512_set1_epi32(0x00ff00ff)), .odd = _mm512_srli_epi16(all, 8)};
}
VF32_INLINE vquads vquads_in_register(vquads x)
{
    return (vquads){.even = vi32_in_register(x.even), .odd = vi32_in_register(x.odd)};
}
VF32_INLINE vi32 vi32_dot_quads(vi32 sum, vquads u, vquads s)
{
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(u.even, s.even));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(u.odd, s.odd));
}
#endif

typedef __m512i    vbytes;
VF32_INLINE vbytes vbytes_load(const void *p) { return _mm512_loadu_si512(p); }
VF32_INLINE vbytes vbytes_set(const void *four)
{
    int32_t x;
    memcpy(&x, four, sizeof x);
    return _mm512_set1_epi32(x);
}
VF32_INLINE void   vbytes_store(void *p, vbytes x) { _mm512_storeu_si512(p, x); }
VF32_INLINE vbytes vbytes_low_halves(vbytes x) { return _mm512_and_si512(x, _mm512_set1_epi32(0x0f0f0f0f)); }
VF32_INLINE vbytes vbytes_high_halves(vbytes x) { return vbytes_low_halves(_mm512_srli_epi32(x, 4)); }
#ifdef QR_SIMD_HAS_INT8_DOT
VF32_INLINE vi32 vi32_dot_halves(vi32 sum, vbytes u, vbytes s) { return _mm512_dpbusd_epi32(sum, u, s); }
VF32_INLINE vi32 vi32_dot_bytes(vi32 sum, vbytes u, vbytes s) { return _mm512_dpbusd_epi32(sum, u, s); }
#else
VF32_INLINE vi32 vi32_dot_halves(vi32 sum, vbytes u, vbytes s)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(u, s), _mm512_set1_epi16(1)));
}
VF32_INLINE vi32 vi32_dot_bytes(vi32 sum, vbytes u, vbytes s)
{
    const vquads signed_ones = {.even = _mm512_srai_epi16(_mm512_slli_epi16(s, 8), 8), .odd = _mm512_srai_epi16(s, 8)};
    const vquads codes = {.even = _mm512_and_si512(u, _mm512_set1_epi32(0x00ff00ff)), .odd = _mm512_srli_epi16(u, 8)};
    return vi32_dot_quads(sum, codes, signed_ones);
}
#endif
VF32_INLINE vf32 vf32_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

#endif
