/* AVX-512 projections: panels of 64 columns in the layout of oneDNN's packed matmul. Where oneDNN has that matmul these
 * kernels run for few rows, where it does not, for every number. */
#include "kernels/projection_kernels.h"

static inline __m512i load_si512(const void *p) { return _mm512_load_si512(p); }
static inline __m512i broadcast_32(const void *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm512_set1_epi32(bits);
}
static inline __m512 broadcast_f32(const void *p) { return _mm512_castsi512_ps(broadcast_32(p)); }

/* ---- products ---- */

#define T_NAME f32
#define T_VECTOR __m512
#define T_OPERAND __m512
#define T_STEP 1
#define T_WEIGHT_BYTES 64
#define T_PHASES 1
#define T_WEIGHT(phase, p) _mm512_load_ps((const void *)(p))
#define T_X(p) broadcast_f32(p)
#define T_MADD(sum, w, x) _mm512_fmadd_ps(x, w, sum)
#define T_ZERO() _mm512_setzero_ps()
#define T_LOAD(p) _mm512_load_ps(p)
#define T_STORE(p, v) _mm512_store_ps(p, v)
#define T_RESULT(v, c) (v)
#define T_EXACT 0
#include "kernels/isa/projection_avx512_tile.h"

#ifdef QR_SIMD_HAS_TILES
#include "kernels/isa/projection_amx.h"
#else

#define T_NAME bf16
#define T_VECTOR __m512
#define T_STEP 2
#define T_WEIGHT_BYTES 64
#ifdef QR_SIMD_HAS_BF16_DOT
static inline __m512 dot_bf16(__m512 sum, __m512i w, __m512i x)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}
#define T_OPERAND __m512i
#define T_PHASES 1
#define T_WEIGHT(phase, p) load_si512(p)
#define T_X(p) broadcast_32(p)
#define T_MADD(sum, w, x) dot_bf16(sum, w, x)
#else
/* Pairs are widened without shuffles: the even element is the low half, the odd one the high half. */
static inline __m512 widen_pair(int phase, const void *p)
{
    const __m512i pair = load_si512(p);
    return _mm512_castsi512_ps(phase ? _mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000))
                                     : _mm512_slli_epi32(pair, 16));
}
#define T_OPERAND __m512
#define T_PHASES 2
#define T_WEIGHT(phase, p) widen_pair(phase, p)
#define T_X(p) broadcast_f32(p)
#define T_MADD(sum, w, x) _mm512_fmadd_ps(x, w, sum)
#endif
#define T_ZERO() _mm512_setzero_ps()
#define T_LOAD(p) _mm512_load_ps(p)
#define T_STORE(p, v) _mm512_store_ps(p, v)
#define T_RESULT(v, c) (v)
#define T_EXACT 0
#include "kernels/isa/projection_avx512_tile.h"

#define T_NAME int8
#define T_VECTOR __m512i
#define T_OPERAND __m512i
#define T_PHASES 1
#define T_X(p) broadcast_32(p)
#ifdef QR_SIMD_HAS_INT8_DOT
/* vpdpbusd wants unsigned x: codes + 128 (arrange_int8), taken back by the column's compensation. */
#define T_STEP 4
#define T_WEIGHT_BYTES 64
#define T_WEIGHT(phase, p) load_si512(p)
#define T_MADD(sum, w, x) _mm512_dpbusd_epi32(sum, x, w)
#define T_RESULT(v, c) _mm512_cvtepi32_ps(_mm512_add_epi32(v, _mm512_loadu_si512(c)))
#else
/* Sign-extended to 16 bits: vpmaddubsw would saturate. */
#define T_STEP 2
#define T_WEIGHT_BYTES 32
#define T_WEIGHT(phase, p) _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)(const void *)(p)))
#define T_MADD(sum, w, x) _mm512_add_epi32(sum, _mm512_madd_epi16(w, x))
#define T_RESULT(v, c) _mm512_cvtepi32_ps(v)
#endif
#define T_ZERO() _mm512_setzero_si512()
#define T_LOAD(p) load_si512(p)
#define T_STORE(p, v) _mm512_store_si512(p, v)
#define T_EXACT 1
#include "kernels/isa/projection_avx512_tile.h"
#endif

/* ---- rows as the products read them ---- */

enum { BLOCK = 8 }; /* dwords and rows that are transposed at once */

/* Dwords [dword, dword + BLOCK) of a row, 4 bytes each: what one multiply-add takes of it. */
typedef __m256i load_dwords(const char *row, uint32_t dword);

static inline void transpose_dwords(__m256i v[BLOCK])
{
    __m256i pairs[BLOCK], fours[BLOCK];
    VF32_UNROLL for (int i = 0; i < BLOCK; i += 2)
    {
        pairs[i]     = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    VF32_UNROLL for (int i = 0; i < BLOCK; i += 4) VF32_UNROLL for (int j = 0; j < 2; j++)
    {
        fours[i + 2 * j]     = _mm256_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
        fours[i + 2 * j + 1] = _mm256_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
    }
    VF32_UNROLL for (int i = 0; i < 4; i++)
    {
        v[i]     = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

/* out[dwords][rows]. A store of BLOCK rows may run over into rows that come later in `out`; going from the last rows to
 * the first and from dword to dword, those are written afterwards. `out` has room for BLOCK dwords behind its end. */
VF32_INLINE void arrange_rows(const qr_arrange *a, uint32_t dwords, load_dwords *load)
{
    for (uint32_t dword = 0; dword < dwords; dword += BLOCK) {
        if (a->rows == 1) {
            _mm256_storeu_si256((void *)((int32_t *)a->out + dword), load(a->x, dword));
            continue;
        }
        for (uint32_t end = qr_round_up_u32(a->rows, BLOCK); end > 0; end -= BLOCK) {
            const uint32_t row = end - BLOCK;
            int32_t       *out = (int32_t *)a->out + (size_t)dword * a->rows + row;
            __m256i        v[BLOCK];
            VF32_UNROLL for (uint32_t i = 0; i < BLOCK; i++) v[i] =
                load((const char *)a->x + qr_min_u32(row + i, a->rows - 1) * a->x_stride, dword);
            transpose_dwords(v);
            VF32_UNROLL for (uint32_t i = 0; i < BLOCK; i++)
                _mm256_storeu_si256((void *)(out + (size_t)i * a->rows), v[i]);
        }
    }
}

static inline __m256i load_as_is(const char *row, uint32_t dword)
{
    return _mm256_loadu_si256((const void *)(row + (size_t)dword * 4));
}

static void arrange_f32(const qr_arrange *a) { arrange_rows(a, a->k, load_as_is); }

#ifndef QR_SIMD_HAS_TILES
#ifdef QR_SIMD_HAS_BF16_DOT
static void arrange_bf16(const qr_arrange *a) { arrange_rows(a, a->k / 2, load_as_is); }
#else
static inline __m256i load_widened_bf16(const char *row, uint32_t dword)
{
    const __m128i bits = _mm_loadu_si128((const void *)(row + (size_t)dword * 2));
    return _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
}

static void           arrange_bf16(const qr_arrange *a) { arrange_rows(a, a->k, load_widened_bf16); }
#endif

#ifdef QR_SIMD_HAS_INT8_DOT
static inline __m256i load_plus_128(const char *row, uint32_t dword)
{
    return _mm256_xor_si256(load_as_is(row, dword), _mm256_set1_epi8((char)0x80));
}

static void arrange_int8(const qr_arrange *a) { arrange_rows(a, a->k / 4, load_plus_128); }
#else
static inline __m256i load_widened_int8(const char *row, uint32_t dword)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(row + (size_t)dword * 2)));
}

static void arrange_int8(const qr_arrange *a) { arrange_rows(a, a->k / 2, load_widened_int8); }
#endif
#endif

static void arrange_quads(const qr_arrange *a) { arrange_rows(a, a->k / 4, load_as_is); }

/* ---- the formats ---- */

#if defined(QR_SIMD_HAS_TILES)
#define QR_OWN_NAME "own:amx"
#elif defined(QR_SIMD_HAS_BF16_DOT)
#define QR_OWN_NAME "own:avx512_bf16"
#define QR_NATIVE_BF16 true
#elif defined(QR_SIMD_HAS_INT8_DOT)
#define QR_OWN_NAME "own:avx512_vnni"
#define QR_NATIVE_BF16 false
#else
#define QR_OWN_NAME "own:avx512"
#define QR_NATIVE_BF16 false
#endif
#ifdef QR_SIMD_HAS_INT8_DOT
#define QR_NATIVE_INT8 true
#else
#define QR_NATIVE_INT8 false
#endif
static const qr_panel_format panel_formats[] = {
    [QR_F32] = {.panel_columns = 64,
                .step          = 1,
                .product       = product_f32,
                .arrange       = arrange_f32,
                .x_bytes       = 4,
                .onednn_layout = true},
#ifdef QR_SIMD_HAS_TILES
    [QR_BF16] = {.panel_columns = 32, .step = 2, .product = product_bf16, .x_bytes = 2, .tiled = true, .outruns = true},
    [QR_INT8] = {.panel_columns = 32,
                 .step          = 4,
                 .product       = product_int8,
                 .x_bytes       = 1,
                 .tiled         = true,
                 .int32_sums    = true,
                 .outruns       = true},
#else
    [QR_BF16] = {.panel_columns = 64,
                 .step          = 2,
                 .product       = product_bf16,
                 .arrange       = arrange_bf16,
                 .x_bytes       = QR_NATIVE_BF16 ? 2 : 4,
                 .onednn_layout = QR_NATIVE_BF16},
    [QR_INT8] = {.panel_columns = 64,
                 .step          = QR_NATIVE_INT8 ? 4 : 2,
                 .product       = product_int8,
                 .arrange       = arrange_int8,
                 .x_bytes       = QR_NATIVE_INT8 ? 1 : 2,
                 .onednn_layout = QR_NATIVE_INT8,
                 .outruns       = QR_NATIVE_INT8 && !QR_NATIVE_BF16},
#endif
};
#include "kernels/projection_template.h"
