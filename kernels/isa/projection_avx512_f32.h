/* The part of kernels/projection_tile.h's macros that AVX-512 formats with f32 accumulators share. */
#define T_VECTOR __m512
#define T_LANES 16
#define T_VECTORS 4
#define T_WIDE_1 1
#define T_WIDE_2 1
#define T_WIDE_3 1
#define T_ZERO() _mm512_setzero_ps()
#define T_LOAD(p) _mm512_load_ps(p)
#define T_STORE(p, v) _mm512_store_ps(p, v)
#define T_RESULT(v, c) (v)
#define T_ADD_F32(p, v) _mm512_storeu_ps(p, _mm512_add_ps(_mm512_loadu_ps(p), v))
#define T_STORE_F32(p, v) _mm512_storeu_ps(p, v)
#define T_EXACT 0
#define T_SLICE (64 * T_STEP) /* 64 steps of 256 bytes: 16 KB */
#define T_FETCH(p) fetch_step(p)
#define T_FETCH_BY_ALL 0
#define T_SLICE_ROWS 6
#include "kernels/projection_tile.h"
