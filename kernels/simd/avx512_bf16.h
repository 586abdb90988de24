/* AVX-512 with the BF16 and VNNI dot products: the avx512 vocabulary, plus what templates may ask for. */
#ifndef QR_SIMD_AVX512_BF16_H
#define QR_SIMD_AVX512_BF16_H

#define QR_SIMD_HAS_BF16_DOT 1 /* _mm512_dpbf16_ps: acc + a.even * b.even + a.odd * b.odd, bf16 pairs */
#define QR_SIMD_HAS_INT8_DOT 1 /* _mm512_dpbusd_epi32: acc + four products u8 * s8 */

#include "kernels/simd/avx512.h"

/* Sixteen bf16 pairs. */
typedef __m512i    vpairs;
VF32_INLINE vpairs vpairs_load(const void *p) { return _mm512_loadu_si512(p); }
VF32_INLINE vpairs vpairs_set(uint32_t pair) { return _mm512_set1_epi32((int)pair); }
/* Elements 0 to 15 of the 32 come from `low`; nearest even, denormals become zero. */
VF32_INLINE vpairs vpairs_of_f32(vf32 low, vf32 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }
VF32_INLINE vf32   vf32_dot_pairs(vf32 sum, vpairs a, vpairs b)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

#endif
