/* AVX-512 with the BF16 and VNNI dot products: the avx512 vocabulary, plus what templates may ask for. */
#ifndef QR_SIMD_AVX512_BF16_H
#define QR_SIMD_AVX512_BF16_H

#include "kernels/simd/avx512.h"

#define QR_SIMD_HAS_BF16_DOT 1 /* _mm512_dpbf16_ps: acc + a.even * b.even + a.odd * b.odd, bf16 pairs */
#define QR_SIMD_HAS_INT8_DOT 1 /* _mm512_dpbusd_epi32: acc + four products u8 * s8 */

#endif
