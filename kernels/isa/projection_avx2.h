/* AVX2 projections: panels of 16 columns, 6 rows x 16 columns of accumulators. oneDNN 2.6 has no packed matmul for this
 * instruction set, none at all for bf16 and a saturating one for int8: these kernels run for every number of rows. */
#include "kernels/projection_kernels.h"

static inline __m256  broadcast_f32(const void *p) { return _mm256_broadcast_ss((const float *)p); }
static inline __m256i load_si256(const void *p) { return _mm256_load_si256((const __m256i *)p); }

/* Pairs of bf16 are widened without shuffles: the even element is the low half, the odd one the high half. */
static inline __m256 widen_even(const void *p) { return _mm256_castsi256_ps(_mm256_slli_epi32(load_si256(p), 16)); }
static inline __m256 widen_odd(const void *p)
{
    return _mm256_castsi256_ps(_mm256_and_si256(load_si256(p), _mm256_set1_epi32((int)0xffff0000)));
}

/* sum + w * x, in the register of `sum`: gcc 12 otherwise moves accumulators around and spills them. */
static inline __m256 fma_into(__m256 sum, __m256 w, __m256 x)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(w), "x"(x));
    return sum;
}

#define T_NAME f32
#define T_VECTOR __m256
#define T_LANES 8
#define T_VECTORS 2
#define T_WIDE_1 4
#define T_WIDE_2 2
#define T_WIDE_3 2
#define T_STEP 1
#define T_WEIGHT_BYTES 32
#define T_X_BYTES 4
#define T_PHASES 1
#define T_WEIGHT(phase, p) _mm256_load_ps((const float *)(p))
#define T_X(phase, p) broadcast_f32(p)
#define T_MADD(sum, w, x) fma_into(sum, w, x)
#define T_ZERO() _mm256_setzero_ps()
#define T_LOAD(p) _mm256_load_ps(p)
#define T_STORE(p, v) _mm256_store_ps(p, v)
#define T_RESULT(v, c) (v)
#define T_ADD_F32(p, v) _mm256_storeu_ps(p, _mm256_add_ps(_mm256_loadu_ps(p), v))
#define T_STORE_F32(p, v) _mm256_storeu_ps(p, v)
#define T_EXACT 0
#define T_SLICE 64
#include "kernels/projection_tile.h"

#define T_NAME bf16
#define T_VECTOR __m256
#define T_LANES 8
#define T_VECTORS 2
#define T_WIDE_1 4
#define T_WIDE_2 2
#define T_WIDE_3 2
#define T_STEP 2
#define T_WEIGHT_BYTES 32
#define T_X_BYTES 8
#define T_PHASES 2
#define T_WEIGHT(phase, p) ((phase) ? widen_odd(p) : widen_even(p))
#define T_X(phase, p) broadcast_f32((p) + 4 * (phase))
#define T_MADD(sum, w, x) fma_into(sum, w, x)
#define T_ZERO() _mm256_setzero_ps()
#define T_LOAD(p) _mm256_load_ps(p)
#define T_STORE(p, v) _mm256_store_ps(p, v)
#define T_RESULT(v, c) (v)
#define T_ADD_F32(p, v) _mm256_storeu_ps(p, _mm256_add_ps(_mm256_loadu_ps(p), v))
#define T_STORE_F32(p, v) _mm256_storeu_ps(p, v)
#define T_EXACT 0
#define T_SLICE 512
#include "kernels/projection_tile.h"

/* Sign-extended to 16 bits and multiplied by vpmaddwd: vpmaddubsw would saturate. */
#define T_NAME int8
#define T_VECTOR __m256i
#define T_LANES 8
#define T_VECTORS 2
#define T_WIDE_1 4
#define T_WIDE_2 2
#define T_WIDE_3 2
#define T_STEP 2
#define T_WEIGHT_BYTES 16
#define T_X_BYTES 4
#define T_PHASES 1
#define T_WEIGHT(phase, p) _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(p)))
#define T_X(phase, p) _mm256_castps_si256(broadcast_f32(p))
#define T_MADD(sum, w, x) _mm256_add_epi32(sum, _mm256_madd_epi16(w, x))
#define T_ZERO() _mm256_setzero_si256()
#define T_LOAD(p) load_si256(p)
#define T_STORE(p, v) _mm256_store_si256((__m256i *)(p), v)
#define T_RESULT(v, c) _mm256_cvtepi32_ps(v)
#define T_ADD_F32(p, v) _mm256_storeu_ps(p, v)
#define T_STORE_F32(p, v) _mm256_storeu_ps(p, v)
#define T_EXACT 1
#define T_SLICE 512
#include "kernels/projection_tile.h"

/* The multiplicand of bf16 weights is f32, that of int8 weights 16 bits wide: k is a multiple of 64. */
static void arrange_bf16(const qr_arrange *a)
{
    for (uint32_t row = 0; row < a->rows; row++) {
        const qr_bf16 *x   = (const void *)((const char *)a->x + row * a->x_stride);
        float         *out = (float *)a->out + (size_t)row * a->k;
        for (uint32_t i = 0; i < a->k; i += 8) {
            const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(x + i)));
            _mm256_store_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
        }
    }
}

static void arrange_int8(const qr_arrange *a)
{
    for (uint32_t row = 0; row < a->rows; row++) {
        const int8_t *x   = (const int8_t *)a->x + row * a->x_stride;
        int16_t      *out = (int16_t *)a->out + (size_t)row * a->k;
        for (uint32_t i = 0; i < a->k; i += 16)
            _mm256_store_si256((__m256i *)(void *)(out + i),
                               _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
    }
}

static void arrange_quads(const qr_arrange *a) { qr_interleave_quads(a); }

#define QR_OWN_NAME "own:avx2"
static const qr_panel_format panel_formats[] = {
    [QR_F32]  = {.panel_columns = 16, .step = 1, .product = product_f32},
    [QR_BF16] = {.panel_columns = 16, .step = 2, .product = product_bf16, .arrange = arrange_bf16, .x_bytes = 4},
    [QR_INT8] = {.panel_columns = 16, .step = 2, .product = product_int8, .arrange = arrange_int8, .x_bytes = 2},
};
#include "kernels/projection_template.h"
