/* AVX-512 projections: panels of 64 columns in the layout of oneDNN's packed matmul, 6 rows x 64 columns of
 * accumulators. Where oneDNN has that matmul these kernels run for few rows, where it does not, for every number. */
#include "kernels/projection_kernels.h"

static inline __m512i load_si512(const void *p) { return _mm512_load_si512(p); }
static inline __m512i broadcast_32(const void *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm512_set1_epi32(bits);
}
static inline __m512 broadcast_f32(const void *p) { return _mm512_castsi512_ps(broadcast_32(p)); }
static inline void   fetch_step(const char *p)
{
    for (int j = 0; j < 4; j++) _mm_prefetch(p + 64 * j, _MM_HINT_T1);
}

#define T_NAME f32
#define T_WEIGHT_BYTES 64
#define T_STEP 1
#define T_X_BYTES 4
#define T_PHASES 1
#define T_WEIGHT(phase, p) _mm512_load_ps((const void *)(p))
#define T_X(phase, p) broadcast_f32(p)
#define T_MADD(sum, w, x) _mm512_fmadd_ps(x, w, sum)
#include "kernels/isa/projection_avx512_f32.h"

#define T_NAME bf16
#define T_WEIGHT_BYTES 64
#define T_STEP 2
#ifdef QR_SIMD_HAS_BF16_DOT
static inline __m512 dot_bf16(__m512 sum, __m512i w, __m512i x)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}
#define T_X_BYTES 4
#define T_PHASES 1
#define T_WEIGHT(phase, p) load_si512(p)
#define T_X(phase, p) broadcast_32(p)
#define T_OPERAND __m512i
#define T_MADD(sum, w, x) dot_bf16(sum, w, x)
#else
/* Pairs are widened without shuffles: the even element is the low half, the odd one the high half. */
static inline __m512 widen_pair(int phase, const void *p)
{
    const __m512i pair = load_si512(p);
    return _mm512_castsi512_ps(phase ? _mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000))
                                     : _mm512_slli_epi32(pair, 16));
}
#define T_X_BYTES 8
#define T_PHASES 2
#define T_WEIGHT(phase, p) widen_pair(phase, p)
#define T_X(phase, p) broadcast_f32((p) + 4 * (phase))
#define T_MADD(sum, w, x) _mm512_fmadd_ps(x, w, sum)
#endif
#include "kernels/isa/projection_avx512_f32.h"

#define T_NAME int8
#define T_LANES 16
#define T_VECTOR __m512i
#define T_VECTORS 4
#define T_WIDE_1 1
#define T_WIDE_2 1
#define T_WIDE_3 1
#define T_X_BYTES 4
#define T_PHASES 1
#define T_ZERO() _mm512_setzero_si512()
#define T_LOAD(p) load_si512(p)
#define T_STORE(p, v) _mm512_store_si512(p, v)
#define T_ADD_F32(p, v) _mm512_storeu_ps(p, v)
#define T_STORE_F32(p, v) _mm512_storeu_ps(p, v)
#define T_EXACT 1
#define T_SLICE 256
#define T_FETCH(p) fetch_step(p)
#define T_FETCH_BY_ALL 0
#define T_SLICE_ROWS 6
#ifdef QR_SIMD_HAS_INT8_DOT
/* vpdpbusd wants unsigned x: codes + 128, taken back by the column's compensation. */
#define T_WEIGHT_BYTES 64
#define T_STEP 4
#define T_WEIGHT(phase, p) load_si512(p)
#define T_X(phase, p) _mm512_xor_si512(broadcast_32(p), _mm512_set1_epi32((int)0x80808080))
#define T_MADD(sum, w, x) _mm512_dpbusd_epi32(sum, x, w)
#define T_RESULT(v, c) _mm512_cvtepi32_ps(_mm512_add_epi32(v, _mm512_loadu_si512(c)))
#else
/* Sign-extended to 16 bits: vpmaddubsw would saturate. */
#define T_WEIGHT_BYTES 32
#define T_STEP 2
#define T_WEIGHT(phase, p) _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)(const void *)(p)))
#define T_X(phase, p) broadcast_32(p)
#define T_MADD(sum, w, x) _mm512_add_epi32(sum, _mm512_madd_epi16(w, x))
#define T_RESULT(v, c) _mm512_cvtepi32_ps(v)
#endif
#include "kernels/projection_tile.h"

#ifndef QR_SIMD_HAS_BF16_DOT
static void widen_bf16(void *out, const void *x, uint32_t k)
{
    for (uint32_t i = 0; i < k; i += 16) {
        const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)((const qr_bf16 *)x + i)));
        _mm512_store_si512((float *)out + i, _mm512_slli_epi32(bits, 16));
    }
}
#endif

#ifndef QR_SIMD_HAS_INT8_DOT
static void widen_int8(void *out, const void *x, uint32_t k)
{
    for (uint32_t i = 0; i < k; i += 32)
        _mm512_store_si512((int16_t *)out + i,
                           _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)((const int8_t *)x + i))));
}
#endif

static const qr_panel_format panel_formats[] = {
    [QR_F32] = {.panel_columns = 64, .step = 1, .product = product_f32, .onednn_layout = true},
#ifdef QR_SIMD_HAS_BF16_DOT
    [QR_BF16] = {.panel_columns = 64, .step = 2, .product = product_bf16, .onednn_layout = true},
#else
    [QR_BF16] = {.panel_columns = 64, .step = 2, .product = product_bf16, .widen = widen_bf16, .x_bytes = 4},
#endif
#ifdef QR_SIMD_HAS_INT8_DOT
    [QR_INT8] = {.panel_columns = 64, .step = 4, .product = product_int8, .onednn_layout = true},
#else
    [QR_INT8] = {.panel_columns = 64, .step = 2, .product = product_int8, .widen = widen_int8, .x_bytes = 2},
#endif
};
#ifdef QR_SIMD_HAS_BF16_DOT
#define QR_OWN_NAME "own:avx512_bf16"
#define QR_NATIVE_BF16 true
#else
#define QR_OWN_NAME "own:avx512"
#define QR_NATIVE_BF16 false
#endif
#include "kernels/projection_template.h"
