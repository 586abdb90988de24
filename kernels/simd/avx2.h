/* The vector vocabulary of AVX2 and FMA: eight floats.
 *
 *   load, store      unaligned
 *   ..._upto         touch min(count, lanes) elements; the rest read as zero; count may be 0
 *   store_bf16, s8   round to nearest even; s8 wants |x| <= 127
 *   max, min         b where either is NaN
 *   pow2(t)          2^n for t = n + 1.5 * 2^23, n in [-126, 127]
 *   nearest(x)       the nearest whole number, ties to even
 *   scale2(x, n)     x * 2^n for whole n in [-126, 127]
 *   bf16_even, odd   widen one element of each of `lanes` pairs in memory
 *   first            lane 0
 *   sum, top         over the lanes, always in the same tree
 *   mask_range       lanes with from <= lane < to; any from and to
 *   select           a where the mask is set, else b
 *   VF32_UNROLL      before a loop over accumulators with a constant count
 *   VF32_ROLLED      before the loop around it: unrolled too, it would spill them */
#ifndef QR_SIMD_H
#define QR_SIMD_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/number.h"

#define VF32_INLINE static inline __attribute__((always_inline, unused))

typedef __m256 vf32;
typedef __m256 vmask;
enum { VF32_LANES = 8 };
#define QR_SIMD_REGISTERS 16
#ifdef __clang__
#define VF32_UNROLL _Pragma("unroll")
#define VF32_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define VF32_UNROLL _Pragma("GCC unroll 16") /* -O2 alone would leave arrays of accumulators in memory */
#define VF32_ROLLED _Pragma("GCC unroll 1")
#endif

VF32_INLINE __m256i vf32_lane_numbers(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
VF32_INLINE __m256i vf32_first_lanes(uint32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count < 8 ? (int)count : 8), vf32_lane_numbers());
}

VF32_INLINE vf32 vf32_zero(void) { return _mm256_setzero_ps(); }
VF32_INLINE vf32 vf32_set(float x) { return _mm256_set1_ps(x); }
VF32_INLINE vf32 vf32_load(const float *p) { return _mm256_loadu_ps(p); }
VF32_INLINE void vf32_store(float *p, vf32 x) { _mm256_storeu_ps(p, x); }
VF32_INLINE vf32 vf32_load_upto(const float *p, uint32_t count)
{
    return count >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, vf32_first_lanes(count));
}
VF32_INLINE void vf32_store_upto(float *p, vf32 x, uint32_t count)
{
    if (count >= 8)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, vf32_first_lanes(count), x);
}
VF32_INLINE __m128i vf32_to_bf16(vf32 x) /* as qr_bf16_of_f32, NaN included */
{
    const __m256i bits  = _mm256_castps_si256(x);
    const __m256i odd   = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i even  = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan   = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i high  = _mm256_srli_epi32(_mm256_blendv_epi8(even, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
VF32_INLINE void vf32_store_bf16_upto(qr_bf16 *p, vf32 x, uint32_t count)
{
    qr_bf16 all[8];
    if (count >= 8) {
        _mm_storeu_si128((__m128i *)p, vf32_to_bf16(x));
    } else {
        _mm_storeu_si128((__m128i *)all, vf32_to_bf16(x));
        memcpy(p, all, count * sizeof *p);
    }
}
VF32_INLINE void vf32_store_s8_upto(int8_t *p, vf32 x, uint32_t count)
{
    const __m256i codes = _mm256_cvtps_epi32(x);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    int8_t        all[16];
    _mm_storeu_si128((__m128i *)all, _mm_packs_epi16(words, words));
    memcpy(p, all, count < 8 ? count : 8);
}
VF32_INLINE vf32 vf32_add(vf32 a, vf32 b) { return _mm256_add_ps(a, b); }
VF32_INLINE vf32 vf32_sub(vf32 a, vf32 b) { return _mm256_sub_ps(a, b); }
VF32_INLINE vf32 vf32_mul(vf32 a, vf32 b) { return _mm256_mul_ps(a, b); }
VF32_INLINE vf32 vf32_div(vf32 a, vf32 b) { return _mm256_div_ps(a, b); }
VF32_INLINE vf32 vf32_fma(vf32 a, vf32 b, vf32 c) { return _mm256_fmadd_ps(a, b, c); }
VF32_INLINE vf32 vf32_max(vf32 a, vf32 b) { return _mm256_max_ps(a, b); }
VF32_INLINE vf32 vf32_min(vf32 a, vf32 b) { return _mm256_min_ps(a, b); }
VF32_INLINE vf32 vf32_abs(vf32 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
VF32_INLINE vf32 vf32_with_sign_of(vf32 magnitude, vf32 sign)
{
    return _mm256_or_ps(vf32_abs(magnitude), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
VF32_INLINE vf32 vf32_pow2(vf32 t)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127)), 23));
}
VF32_INLINE vf32 vf32_nearest(vf32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VF32_INLINE vf32 vf32_scale2(vf32 x, vf32 n)
{
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
VF32_INLINE vf32 vf32_bf16_even(const qr_bf16 *pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)pairs), 16));
}
VF32_INLINE vf32 vf32_bf16_odd(const qr_bf16 *pairs)
{
    const __m256i odd = _mm256_set1_epi32((int)0xffff0000u);
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)pairs), odd));
}
VF32_INLINE float vf32_first(vf32 x) { return _mm256_cvtss_f32(x); }
VF32_INLINE float vf32_sum(vf32 x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s        = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s        = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}
VF32_INLINE float vf32_top(vf32 x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s        = _mm_max_ps(s, _mm_movehl_ps(s, s));
    s        = _mm_max_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

VF32_INLINE vmask vmask_range(int32_t from, int32_t to)
{
    const __m256i lane  = vf32_lane_numbers();
    const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(from), lane);
    return _mm256_castsi256_ps(_mm256_andnot_si256(below, _mm256_cmpgt_epi32(_mm256_set1_epi32(to), lane)));
}
VF32_INLINE vmask    vmask_less(vf32 a, vf32 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
VF32_INLINE vmask    vmask_equal(vf32 a, vf32 b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
VF32_INLINE uint32_t vmask_bits(vmask mask) { return (uint32_t)_mm256_movemask_ps(mask); }
VF32_INLINE vf32     vf32_select(vmask mask, vf32 a, vf32 b) { return _mm256_blendv_ps(b, a, mask); }

/* Integers: `lanes` sums of products of unsigned with signed bytes, four to a lane, exact. */
typedef __m256i vi32;
typedef struct vquads { /* bytes 0 and 2, 1 and 3 of each lane, widened: vpmaddubsw would saturate */
    __m256i even, odd;
} vquads;

VF32_INLINE vi32 vi32_zero(void) { return _mm256_setzero_si256(); }
VF32_INLINE vi32 vi32_in_register(vi32 x) /* at this point; gcc 12 spills sums of an inner loop otherwise */
{
    __asm__("" : "+x"(x));
    return x;
}
VF32_INLINE vquads vquads_load(const int8_t *p)
{
    const __m256i x = _mm256_loadu_si256((const __m256i *)p);
    return (vquads){.even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), .odd = _mm256_srai_epi16(x, 8)};
}
VF32_INLINE vquads vquads_set(const uint8_t *four) /* the same four in all lanes */
{
    int32_t x;
    memcpy(&x, four, sizeof x);
    const __m256i all = _mm256_set1_epi32(x);
    return (vquads){.even = _mm256_and_si256(all, _mm256_set1_epi32(0x00ff00ff)), .odd = _mm256_srli_epi16(all, 8)};
}
VF32_INLINE vquads vquads_in_register(vquads x) /* no longer known to the compiler: nothing is hoisted */
{
    __asm__("" : "+x"(x.even), "+x"(x.odd));
    return x;
}
VF32_INLINE vi32 vi32_dot_quads(vi32 sum, vquads u, vquads s)
{
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(u.even, s.even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(u.odd, s.odd));
}
VF32_INLINE vf32 vf32_of_i32(vi32 x) { return _mm256_cvtepi32_ps(x); }
VF32_INLINE vi32 vi32_set(int32_t x) { return _mm256_set1_epi32(x); }
VF32_INLINE vi32 vi32_sub(vi32 a, vi32 b) { return _mm256_sub_epi32(a, b); }
VF32_INLINE void vi32_store_upto(int32_t *p, vi32 x, uint32_t count)
{
    _mm256_maskstore_epi32(p, vf32_first_lanes(count), x);
}

/* Bytes as they are, four to a lane, and `lanes` sums of products of unsigned ones with signed ones x >= -127. */
typedef __m256i    vbytes;
VF32_INLINE vbytes vbytes_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
VF32_INLINE vbytes vbytes_set(const void *four) /* the same four in all lanes */
{
    int32_t x;
    memcpy(&x, four, sizeof x);
    return _mm256_set1_epi32(x);
}
VF32_INLINE void   vbytes_store(void *p, vbytes x) { _mm256_storeu_si256((__m256i *)p, x); }
VF32_INLINE vbytes vbytes_low_halves(vbytes x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
VF32_INLINE vbytes vbytes_high_halves(vbytes x) { return vbytes_low_halves(_mm256_srli_epi16(x, 4)); }
VF32_INLINE vi32   vi32_dot_halves(vi32 sum, vbytes u, vbytes s) /* u <= 15: vpmaddubsw cannot saturate */
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
}
VF32_INLINE vi32 vi32_dot_bytes(vi32 sum, vbytes u, vbytes s)
{
    const vquads signed_ones = {.even = _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8), .odd = _mm256_srai_epi16(s, 8)};
    const vquads codes       = {.even = _mm256_and_si256(u, _mm256_set1_epi16(255)), .odd = _mm256_srli_epi16(u, 8)};
    return vi32_dot_quads(sum, codes, signed_ones);
}
VF32_INLINE vf32 vf32_load_f16(const uint16_t *p) /* every CPU with AVX2 has F16C */
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
VF32_INLINE void vf32_store_u8(uint8_t *p, vf32 x) /* nearest even; x in [0, 255] */
{
    const __m256i codes = _mm256_cvtps_epi32(x);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}

#endif
