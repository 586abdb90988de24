/* Stands in for <immintrin.h> where a test builds the AVX-512 kernels for a machine without AVX-512 (QR_EMULATE_AVX512
 * in kernels/simd/avx512.h): SIMDe, and the intrinsics that SIMDe 0.7.4 lacks, written from Intel's pseudocode.
 * When a kernel uses one that is missing here, add it. */
#ifndef EMULATE_AVX512_H
#define EMULATE_AVX512_H

#pragma GCC diagnostic ignored "-Wpsabi"    /* 64-byte vectors by value: never across files here */
#pragma GCC diagnostic ignored "-Wpedantic" /* SIMDe's macros */
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"

#define SIMDE_NO_INLINE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <math.h>
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#include <simde/x86/sse4.2.h>
#include <string.h>

#include "base/number.h"

#define __mmask8 uint8_t
#define __mmask16 uint16_t
#define __mmask32 uint32_t
#define __mmask64 uint64_t

#define EMULATED static __attribute__((noinline, unused))

/* Lanes of a vector as an array, and back. */
typedef union lanes512 {
    float    f32[16];
    int32_t  i32[16];
    uint32_t u32[16];
    uint16_t u16[32];
    int16_t  i16[32];
    uint8_t  u8[64];
    int8_t   i8[64];
    int64_t  i64[8];
} lanes512;

EMULATED lanes512 lanes_of(const void *vector)
{
    lanes512 lanes;
    memcpy(&lanes, vector, sizeof lanes);
    return lanes;
}
#define EMULATED_RESULT(type, lanes)                                                                                   \
    type emulated_result;                                                                                              \
    memcpy(&emulated_result, &(lanes), sizeof emulated_result);                                                        \
    return emulated_result

/* ---- masked memory ---- */

EMULATED __m512 emulated_maskz_loadu_ps(__mmask16 mask, const void *from)
{
    lanes512 r = {{0}};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy(&r.f32[i], (const char *)from + 4 * i, 4);
    EMULATED_RESULT(__m512, r);
}
#define _mm512_maskz_loadu_ps(mask, from) emulated_maskz_loadu_ps(mask, from)

EMULATED void emulated_mask_storeu_ps(void *to, __mmask16 mask, __m512 x)
{
    const lanes512 r = lanes_of(&x);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy((char *)to + 4 * i, &r.f32[i], 4);
}
#define _mm512_mask_storeu_ps(to, mask, x) emulated_mask_storeu_ps(to, mask, x)

EMULATED void emulated_mask_storeu_epi16(void *to, __mmask16 mask, __m256i x)
{
    uint16_t r[16];
    memcpy(r, &x, sizeof r);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy((char *)to + 2 * i, &r[i], 2);
}
#define _mm256_mask_storeu_epi16(to, mask, x) emulated_mask_storeu_epi16(to, mask, x)

EMULATED void emulated_mask_storeu_epi8(void *to, __mmask16 mask, __m128i x)
{
    uint8_t r[16];
    memcpy(r, &x, sizeof r);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) ((uint8_t *)to)[i] = r[i];
}
#define _mm_mask_storeu_epi8(to, mask, x) emulated_mask_storeu_epi8(to, mask, x)

/* ---- what SIMDe has, but in many small steps: these two are most of a kernel's time ---- */

EMULATED __m512 emulated_fmadd_ps(__m512 a, __m512 b, __m512 c) { return a * b + c; } /* not fused, as the scalar ISA */
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(a, b, c) emulated_fmadd_ps(a, b, c)

EMULATED __m512 emulated_set1_ps(float x)
{
    const __m512 all = {x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
    return all;
}
#undef _mm512_set1_ps
#define _mm512_set1_ps(x) emulated_set1_ps(x)

EMULATED __m512i emulated_set1_epi32(int x)
{
    lanes512 r;
    for (int i = 0; i < 16; i++) r.i32[i] = x;
    EMULATED_RESULT(__m512i, r);
}
#undef _mm512_set1_epi32
#define _mm512_set1_epi32(x) emulated_set1_epi32(x)

/* ---- conversions ---- */

EMULATED __m256i emulated_cvtepi32_epi16(__m512i x)
{
    const lanes512 a = lanes_of(&x);
    uint16_t       r[16];
    for (int i = 0; i < 16; i++) r[i] = (uint16_t)a.u32[i];
    EMULATED_RESULT(__m256i, r);
}
#define _mm512_cvtepi32_epi16(x) emulated_cvtepi32_epi16(x)

EMULATED __m512i emulated_cvtepu16_epi32(__m256i x)
{
    uint16_t a[16];
    lanes512 r;
    memcpy(a, &x, sizeof a);
    for (int i = 0; i < 16; i++) r.u32[i] = a[i];
    EMULATED_RESULT(__m512i, r);
}
#define _mm512_cvtepu16_epi32(x) emulated_cvtepu16_epi32(x)

EMULATED __m512i emulated_cvtps_epi32(__m512 x)
{
    const lanes512 a = lanes_of(&x);
    lanes512       r;
    for (int i = 0; i < 16; i++) r.i32[i] = fabsf(a.f32[i]) < 0x1p31f ? (int32_t)lrintf(a.f32[i]) : INT32_MIN;
    EMULATED_RESULT(__m512i, r);
}
#define _mm512_cvtps_epi32(x) emulated_cvtps_epi32(x)

EMULATED __m512 emulated_cvtepi32_ps(__m512i x)
{
    const lanes512 a = lanes_of(&x);
    lanes512       r;
    for (int i = 0; i < 16; i++) r.f32[i] = (float)a.i32[i];
    EMULATED_RESULT(__m512, r);
}
#define _mm512_cvtepi32_ps(x) emulated_cvtepi32_ps(x)

EMULATED __m128i emulated_cvtusepi32_epi8(__m512i x)
{
    const lanes512 a = lanes_of(&x);
    uint8_t        r[16];
    for (int i = 0; i < 16; i++) r[i] = (uint8_t)(a.u32[i] > 255 ? 255 : a.u32[i]);
    EMULATED_RESULT(__m128i, r);
}
#define _mm512_cvtusepi32_epi8(x) emulated_cvtusepi32_epi8(x)

EMULATED __m512 emulated_cvtph_ps(__m256i x)
{
    uint16_t a[16];
    lanes512 r;
    memcpy(a, &x, sizeof a);
    for (int i = 0; i < 16; i++) r.f32[i] = qr_f32_of_f16(a[i]);
    EMULATED_RESULT(__m512, r);
}
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(x) emulated_cvtph_ps(x)

/* ---- dot products ---- */

static inline uint32_t emulated_flush(uint32_t bits) { return (bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits; }
static inline float    emulated_f32(uint32_t bits)
{
    float x;
    bits = emulated_flush(bits); /* vdpbf16ps: denormals are zeros, in and out */
    memcpy(&x, &bits, 4);
    return x;
}
static inline uint32_t emulated_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return emulated_flush(bits);
}
EMULATED uint32_t emulated_bf16(float x) /* vcvtneps2bf16: nearest even, denormals to zero, NaN quiet */
{
    const uint32_t bits = emulated_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* Native vectors of the host: the two products of a pair, odd one first as Intel's pseudocode has it. */
EMULATED __m512 emulated_dpbf16_ps(__m512 sum, __m512i a, __m512i b)
{
    const lanes512 x = lanes_of(&a), y = lanes_of(&b);
    lanes512       r = lanes_of(&sum);
    for (int i = 0; i < 16; i++) {
        float t  = emulated_f32(r.u32[i]) + emulated_f32(x.u32[i] & 0xffff0000u) * emulated_f32(y.u32[i] & 0xffff0000u);
        t        = emulated_f32(emulated_bits(t)) + emulated_f32(x.u32[i] << 16) * emulated_f32(y.u32[i] << 16);
        r.u32[i] = emulated_bits(t);
    }
    EMULATED_RESULT(__m512, r);
}
#undef __m512bh
#define __m512bh __m512i /* casts between vector types keep the bits */
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps(sum, a, b) emulated_dpbf16_ps(sum, a, b)

EMULATED __m512i emulated_cvtne2ps_pbh(__m512 high, __m512 low)
{
    const lanes512 a = lanes_of(&high), b = lanes_of(&low);
    lanes512       r;
    for (int i = 0; i < 16; i++) {
        r.u16[i]      = (uint16_t)emulated_bf16(b.f32[i]);
        r.u16[i + 16] = (uint16_t)emulated_bf16(a.f32[i]);
    }
    EMULATED_RESULT(__m512i, r);
}
#undef _mm512_cvtne2ps_pbh
#define _mm512_cvtne2ps_pbh(high, low) emulated_cvtne2ps_pbh(high, low)

EMULATED __m512i emulated_dpbusd_epi32(__m512i sum, __m512i a, __m512i b)
{
    const lanes512 x = lanes_of(&a), y = lanes_of(&b);
    lanes512       r = lanes_of(&sum);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 4; j++) r.i32[i] += x.u8[4 * i + j] * y.i8[4 * i + j];
    EMULATED_RESULT(__m512i, r);
}
#undef _mm512_dpbusd_epi32
#define _mm512_dpbusd_epi32(sum, a, b) emulated_dpbusd_epi32(sum, a, b)

EMULATED __m512i emulated_madd_epi16(__m512i a, __m512i b)
{
    const lanes512 x = lanes_of(&a), y = lanes_of(&b);
    lanes512       r;
    for (int i = 0; i < 16; i++) r.i32[i] = x.i16[2 * i] * y.i16[2 * i] + x.i16[2 * i + 1] * y.i16[2 * i + 1];
    EMULATED_RESULT(__m512i, r);
}
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) emulated_madd_epi16(a, b)

EMULATED __m512i emulated_maddubs_epi16(__m512i a, __m512i b)
{
    const lanes512 x = lanes_of(&a), y = lanes_of(&b);
    lanes512       r;
    for (int i = 0; i < 32; i++) {
        const int sum = x.u8[2 * i] * y.i8[2 * i] + x.u8[2 * i + 1] * y.i8[2 * i + 1];
        r.i16[i]      = (int16_t)(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
    }
    EMULATED_RESULT(__m512i, r);
}
#undef _mm512_maddubs_epi16
#define _mm512_maddubs_epi16(a, b) emulated_maddubs_epi16(a, b)

/* ---- halves ---- */

EMULATED __m256 emulated_extractf32x8_ps(__m512 x, int half)
{
    const lanes512 a = lanes_of(&x);
    float          r[8];
    memcpy(r, a.f32 + 8 * half, sizeof r);
    EMULATED_RESULT(__m256, r);
}
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(x, half) emulated_extractf32x8_ps(x, half)

/* Of the ways to round only the one that is used: 9, towards minus infinity. */
EMULATED __m512 emulated_reduce_ps(__m512 x)
{
    lanes512 r = lanes_of(&x);
    for (int i = 0; i < 16; i++) r.f32[i] = isinf(r.f32[i]) ? 0.0f : r.f32[i] - floorf(r.f32[i]);
    EMULATED_RESULT(__m512, r);
}
#define _mm512_reduce_ps(x, how) ((void)sizeof(char[(how) == 9 ? 1 : -1]), emulated_reduce_ps(x))

#endif
