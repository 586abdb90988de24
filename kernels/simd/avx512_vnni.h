/* AVX-512 with the VNNI dot product: the avx512 vocabulary, plus what templates may ask for. */
#ifndef QR_SIMD_AVX512_VNNI_H
#define QR_SIMD_AVX512_VNNI_H

#define QR_SIMD_HAS_INT8_DOT 1 /* _mm512_dpbusd_epi32: acc + four products u8 * s8 */

#include "kernels/simd/avx512.h"

#endif
