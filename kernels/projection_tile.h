/* The product of one weight format on AVX2, included once per format by projection_avx2.h with the macros
 *
 *   T_NAME          suffix of the function's name
 *   T_VECTOR        a register of accumulators, T_LANES columns; T_OPERAND: of weights and x, if of another type
 *   T_VECTORS       registers per panel
 *   T_WIDE_1, _2, _3  panels side by side for 1, 2 and 3 rows, so that enough independent chains hide the latency
 *   T_STEP          k per step; T_WEIGHT_BYTES of weights per register and T_X_BYTES of each row per step
 *   T_PHASES        multiply-adds per accumulator and step (2 when pairs are widened, the even element first)
 *   T_WEIGHT(phase, p), T_X(phase, p), T_MADD(sum, weight, x), T_ZERO(), T_LOAD(p), T_STORE(p, v)
 *   T_RESULT(v, compensation), T_ADD_F32(p, v), T_STORE_F32(p, v)   v as floats, to memory
 *   T_EXACT         1: one chunk, sums are exact in any order
 *   T_SLICE         k per slice for more than 3 rows: it stays in L1 for all row tiles, which prefetch the panel's next
 *                   slice in equal parts
 */

#ifndef QR_PROJECTION_TILE_H
#define QR_PROJECTION_TILE_H

#include "base/bits.h"
#include "kernels/projection_kernels.h"

/* Every number of rows and panels is a copy with its accumulators in registers. Not under a sanitizer, which keeps them
 * in memory and would take gcc minutes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QR_TILE_INLINE static __attribute__((noinline))
#define QR_UNROLL
#else
#define QR_TILE_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define QR_UNROLL _Pragma("unroll")
#else
#define QR_UNROLL _Pragma("GCC unroll 16")
#endif
#endif

/* Up to 6 rows times some panels over one slice of k. */
typedef struct qr_tile {
    const char    *w, *x;
    size_t         panel_stride, x_stride; /* bytes */
    uint32_t       steps;
    const int32_t *compensation;
    float         *spills, *spill; /* [rows][64] accumulators between slices, 4 bytes each; this tile's */
    float         *out;            /* [rows][out_stride] */
    size_t         out_stride;
    bool           first, last; /* slice of its chunk */
    bool           add;         /* to `out`: not the first chunk */
    const char    *fetch;       /* prefetched while computing, fetch_step bytes further at each step; NULL: nothing */
    size_t         fetch_step;
} qr_tile;

/* Rows of the next row tile: 6, but never a rest of 1 or 2, which would be too few chains to hide the latency. */
static inline uint32_t qr_tile_height(uint32_t rest) { return rest > 8 ? 6 : rest > 6 ? 4 : rest; }

static inline uint32_t qr_tile_count(uint32_t rows)
{
    uint32_t count = 0;
    for (; rows > 0; rows -= qr_tile_height(rows)) count++;
    return count;
}

#endif

#ifndef T_OPERAND
#define T_OPERAND T_VECTOR
#endif

#define T_JOIN_(a, b) a##_##b
#define T_JOIN(a, b) T_JOIN_(a, b)
#define T_(name) T_JOIN(name, T_NAME)

enum { T_(panels) = QR_GROUP_COLUMNS / (T_VECTORS * T_LANES), T_(step_bytes) = T_VECTORS * T_WEIGHT_BYTES };

QR_TILE_INLINE void T_(tile)(const qr_tile *t, const int rows, const int panels)
{
    enum { V = T_VECTORS };
    T_VECTOR    a[6][4 * V];
    const char *w = t->w, *fetch = t->fetch, *x = t->x, *x3 = x + 3 * t->x_stride;
    size_t      stride = t->x_stride;
    QR_UNROLL for (int m = 0; m < rows; m++) QR_UNROLL for (int j = 0; j < panels * V; j++) a[m][j] =
        t->first ? T_ZERO() : T_LOAD(t->spill + m * QR_GROUP_COLUMNS + j * T_LANES);
    for (uint32_t s = 0; s < t->steps; s++) {
        QR_UNROLL for (int phase = 0; phase < T_PHASES; phase++) QR_UNROLL for (int p = 0; p < panels; p++)
        {
            const char *panel = w + (size_t)p * t->panel_stride;
            T_OPERAND   b[V];
            QR_UNROLL for (int j = 0; j < V; j++) b[j] = T_WEIGHT(phase, panel + j * T_WEIGHT_BYTES);
            QR_UNROLL for (int m = 0; m < rows; m++)
            {
                const T_OPERAND q = T_X(phase, m < 3 ? x + (size_t)m * stride : x3 + (size_t)(m - 3) * stride);
                QR_UNROLL for (int j = 0; j < V; j++) a[m][p * V + j] = T_MADD(a[m][p * V + j], b[j], q);
            }
            if (rows == 3 && panels > 1) __asm__("" : "+r"(x)); /* broadcast again rather than hold three of them */
        }
        if (fetch) _mm_prefetch(fetch, _MM_HINT_T1), fetch += t->fetch_step;
        w += V * T_WEIGHT_BYTES;
        x += T_X_BYTES, x3 += T_X_BYTES;
        __asm__("" : "+r"(x), "+r"(x3), "+r"(stride)); /* three registers, not six pointers kept on the stack */
    }
    QR_UNROLL for (int m = 0; m < rows; m++) QR_UNROLL for (int j = 0; j < panels * V; j++)
    {
        float *out = t->out + (size_t)m * t->out_stride + j * T_LANES;
        if (!t->last)
            T_STORE(t->spill + m * QR_GROUP_COLUMNS + j * T_LANES, a[m][j]);
        else if (t->add)
            T_ADD_F32(out, T_RESULT(a[m][j], t->compensation + j * T_LANES));
        else
            T_STORE_F32(out, T_RESULT(a[m][j], t->compensation + j * T_LANES));
    }
}

static void T_(tile_rows)(const qr_tile *t, uint32_t rows)
{
    switch (rows) {
    case 1: T_(tile)(t, 1, 1); break;
    case 2: T_(tile)(t, 2, 1); break;
    case 3: T_(tile)(t, 3, 1); break;
    case 4: T_(tile)(t, 4, 1); break;
    case 5: T_(tile)(t, 5, 1); break;
    default: T_(tile)(t, 6, 1); break;
    }
}

/* All panels of the group for at most three rows. */
static void T_(tile_few_rows)(const qr_tile *t, uint32_t rows)
{
    switch (rows) {
    case 1: T_(tile)(t, 1, T_WIDE_1); break;
    case 2: T_(tile)(t, 2, T_WIDE_2); break;
    default: T_(tile)(t, 3, T_WIDE_3); break;
    }
}

/* What row tile `index` of `count` prefetches of the slice at `next`. */
static inline void T_(choose_fetch)(qr_tile *t, const char *next, uint32_t index, uint32_t count)
{
    t->fetch      = next + (size_t)t->steps * T_(step_bytes) * index / count;
    t->fetch_step = (T_(step_bytes) + count - 1) / count;
}

/* All rows times one slice of one panel (of `wide` panels for few rows). */
static void T_(slice)(const qr_product *p, qr_tile *t, const char *x, const char *next, uint32_t column)
{
    const uint32_t tiles = qr_tile_count(p->rows);
    for (uint32_t row = 0, rows, i = 0; row < p->rows; row += rows, i++) {
        rows     = qr_tile_height(p->rows - row);
        t->x     = x + row * p->x_stride;
        t->spill = t->spills + row * QR_GROUP_COLUMNS + column;
        t->out   = p->out + row * p->out_stride + column;
        if (p->rows <= 3) {
            T_(tile_few_rows)(t, rows);
        } else {
            T_(choose_fetch)(t, next, i, tiles);
            T_(tile_rows)(t, rows);
        }
    }
}

static void T_(product)(const qr_product *p)
{
    static const uint32_t             wide[4] = {1, T_WIDE_1, T_WIDE_2, T_WIDE_3};
    static _Alignas(64) const int32_t zeros[QR_GROUP_COLUMNS];
    _Alignas(64) float                spills[QR_PRODUCT_ROWS * QR_GROUP_COLUMNS];
    const int32_t                    *compensation = p->compensation ? p->compensation : zeros;
    const uint32_t                    chunk        = T_EXACT ? p->k : qr_sum_chunk(p->k);
    const uint32_t                    slice        = p->rows <= 3 ? chunk : T_SLICE;
    const uint32_t                    panels       = p->rows <= 3 ? wide[p->rows] : 1;
    const size_t                      panel_stride = (size_t)(p->k / T_STEP) * T_(step_bytes);

    for (uint32_t k = 0, end; k < p->k; k = end) {
        const uint32_t chunk_end = qr_min_u32(k / chunk * chunk + chunk, p->k);
        end                      = qr_min_u32(k + slice, chunk_end);
        qr_tile     tile         = {.panel_stride = panel_stride,
                                    .x_stride     = p->x_stride,
                                    .steps        = (end - k) / T_STEP,
                                    .spills       = spills,
                                    .out_stride   = p->out_stride,
                                    .first        = k % chunk == 0,
                                    .last         = end == chunk_end,
                                    .add          = k >= chunk};
        const char *x            = (const char *)p->x + (size_t)(k / T_STEP) * T_X_BYTES;
        const char *w            = (const char *)p->group + (size_t)(k / T_STEP) * T_(step_bytes);
        const char *next         = (const char *)p->group;
        next +=
            end < p->k ? (size_t)(end / T_STEP) * T_(step_bytes) : T_(panels) * panel_stride; /* or the next group */
        for (uint32_t panel = 0; panel < (uint32_t)T_(panels); panel += panels) {
            const uint32_t column = panel * T_VECTORS * T_LANES;
            tile.w                = w + panel * panel_stride;
            tile.compensation     = compensation + column;
            T_(slice)(p, &tile, x, next + panel * panel_stride, column);
        }
    }
}

#undef T_JOIN_
#undef T_JOIN
#undef T_
#undef T_NAME
#undef T_VECTOR
#undef T_OPERAND
#undef T_LANES
#undef T_VECTORS
#undef T_WIDE_1
#undef T_WIDE_2
#undef T_WIDE_3
#undef T_STEP
#undef T_WEIGHT_BYTES
#undef T_X_BYTES
#undef T_PHASES
#undef T_WEIGHT
#undef T_X
#undef T_MADD
#undef T_ZERO
#undef T_LOAD
#undef T_STORE
#undef T_RESULT
#undef T_ADD_F32
#undef T_STORE_F32
#undef T_EXACT
#undef T_SLICE
