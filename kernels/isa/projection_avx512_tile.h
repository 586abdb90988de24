/* The product of one weight format on AVX-512, included once per format by projection_avx512.h with the macros
 *
 *   T_NAME          suffix of the function's name
 *   T_VECTOR        a register of 16 accumulators; T_OPERAND: of weights and x
 *   T_STEP          k per step: four registers of weights, T_WEIGHT_BYTES each, and T_PHASES dwords of each row
 *   T_PHASES        multiply-adds per accumulator and step (2 when pairs are widened, the even element first)
 *   T_WEIGHT(phase, p), T_X(p), T_MADD(sum, weight, x), T_ZERO(), T_LOAD(p), T_STORE(p, v)
 *   T_RESULT(v, compensation)   as floats
 *   T_EXACT         1: one chunk, sums are exact in any order
 *
 * Rows stand interleaved, [k / step * phases][rows] dwords, see arrange_rows: what is broadcast together lies
 * together, and rows 4 KB apart do not fight for the same lines of L1.
 *
 * Up to 6 rows are one tile of 64 columns. More rows are tiles of 6 to 12 rows and 32 columns, which leaves every
 * weight loaded once for 12 rows and 24 accumulators in registers. k goes in slices that L1 holds, and the row tiles of
 * each slice prefetch the next one in equal parts: reading memory and multiplying then overlap all the time. */

#ifndef QR_PROJECTION_AVX512_TILE_H
#define QR_PROJECTION_AVX512_TILE_H

#include "base/bits.h"

enum {
    SLICE_STEPS = 64, /* 16 KB of weights */
    FLAT_ROWS   = 6,  /* most rows of a tile of 64 columns */
    TALL_ROWS   = 12, /* of 32 columns */
    SPARSE_ROWS = 4,  /* up to here the hardware's prefetch leads and every second line is enough */
};

typedef struct product_tile {
    const char    *w, *x;
    size_t         x_stride; /* bytes from dword to dword */
    uint32_t       steps;
    const int32_t *compensation;
    float         *spill; /* [rows][64] accumulators between slices, 4 bytes each */
    float         *out;   /* [rows][out_stride] */
    size_t         out_stride;
    bool           first, last; /* slice of its chunk */
    bool           add;         /* to `out`: not the first chunk */
    const char    *fetch;       /* prefetched while computing, fetch_step bytes further at each step */
    size_t         fetch_step;
} product_tile;

static inline void store_sums(float *out, __m512 sums, bool add)
{
    _mm512_storeu_ps(out, add ? _mm512_add_ps(_mm512_loadu_ps(out), sums) : sums);
}

#endif

#define T_JOIN_(a, b) a##_##b
#define T_JOIN(a, b) T_JOIN_(a, b)
#define T_(name) T_JOIN(name, T_NAME)

/* `rows` times 16 * `vectors` columns; of as many bytes of `fetch` as a step reads every `sparse`th line. */
VF32_INLINE void T_(tile)(const product_tile *t, const int rows, const int vectors, const int sparse)
{
    T_VECTOR    a[TALL_ROWS][4];
    const char *w = t->w, *x = t->x, *fetch = t->fetch;
    VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < vectors; j++) a[m][j] =
        t->first ? T_ZERO() : T_LOAD(t->spill + m * QR_GROUP_COLUMNS + j * 16);
    for (uint32_t s = 0; s < t->steps; s++) {
        VF32_UNROLL for (int phase = 0; phase < T_PHASES; phase++)
        {
            T_OPERAND b[4];
            VF32_UNROLL for (int j = 0; j < vectors; j++) b[j] = T_WEIGHT(phase, w + j * T_WEIGHT_BYTES);
            VF32_UNROLL for (int m = 0; m < rows; m++)
            {
                const T_OPERAND q                                     = T_X(x + 4 * m);
                VF32_UNROLL for (int j = 0; j < vectors; j++) a[m][j] = T_MADD(a[m][j], b[j], q);
            }
            x += t->x_stride;
        }
        w += 4 * T_WEIGHT_BYTES;
        VF32_UNROLL for (int line = 0; line < vectors * T_WEIGHT_BYTES; line += 64 * sparse)
            _mm_prefetch(fetch + line, _MM_HINT_T1);
        fetch += t->fetch_step;
    }
    VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < vectors; j++)
    {
        if (t->last)
            store_sums(t->out + (size_t)m * t->out_stride + j * 16, T_RESULT(a[m][j], t->compensation + j * 16),
                       t->add);
        else
            T_STORE(t->spill + m * QR_GROUP_COLUMNS + j * 16, a[m][j]);
    }
}

static void T_(flat_tile)(const product_tile *t, uint32_t rows)
{
    switch (rows) {
    case 1: T_(tile)(t, 1, 4, 2); break;
    case 2: T_(tile)(t, 2, 4, 2); break;
    case 3: T_(tile)(t, 3, 4, 2); break;
    case 4: T_(tile)(t, SPARSE_ROWS, 4, 2); break;
    case 5: T_(tile)(t, 5, 4, 1); break;
    default: T_(tile)(t, FLAT_ROWS, 4, 1); break;
    }
}

/* `alone`: the only tile of its columns, which fetches two lines at each step; else one is enough. */
static void T_(tall_tile)(const product_tile *t, uint32_t rows, bool alone)
{
    switch (rows) {
    case 6: T_(tile)(t, 6, 2, 2); break;
    case 7: alone ? T_(tile)(t, 7, 2, 1) : T_(tile)(t, 7, 2, 2); break;
    case 8: alone ? T_(tile)(t, 8, 2, 1) : T_(tile)(t, 8, 2, 2); break;
    case 9: alone ? T_(tile)(t, 9, 2, 1) : T_(tile)(t, 9, 2, 2); break;
    case 10: alone ? T_(tile)(t, 10, 2, 1) : T_(tile)(t, 10, 2, 2); break;
    case 11: alone ? T_(tile)(t, 11, 2, 1) : T_(tile)(t, 11, 2, 2); break;
    default: alone ? T_(tile)(t, TALL_ROWS, 2, 1) : T_(tile)(t, TALL_ROWS, 2, 2); break;
    }
}

/* One slice, half of the columns after the other; `slice` is the tile at row 0 and column 0. */
static void T_(tall_slice)(const qr_product *p, const product_tile *slice)
{
    const uint32_t tiles = qr_ceil_div_u32(p->rows, TALL_ROWS);
    for (uint32_t half = 0; half < 2; half++)
        for (uint32_t i = 0; i < tiles; i++) {
            const uint32_t row = p->rows * i / tiles, end = p->rows * (i + 1) / tiles;
            product_tile   t = *slice;
            t.w += half * 2 * T_WEIGHT_BYTES;
            t.x += row * sizeof(int32_t);
            t.compensation += half * 32;
            t.spill += row * QR_GROUP_COLUMNS + half * 32;
            t.out += row * t.out_stride + half * 32;
            t.fetch += (half * tiles + i) * (size_t)t.steps * (2 * T_WEIGHT_BYTES) / tiles;
            t.fetch_step = (2 * T_WEIGHT_BYTES + tiles - 1) / tiles;
            T_(tall_tile)(&t, end - row, tiles == 1);
        }
}

static void T_(product)(const qr_product *p)
{
    static _Alignas(64) const int32_t zeros[QR_GROUP_COLUMNS];
    _Alignas(64) float                spills[QR_PRODUCT_ROWS * QR_GROUP_COLUMNS];
    const uint32_t                    chunk = T_EXACT ? p->k : qr_sum_chunk(p->k);
    product_tile                      t     = {.w            = p->group,
                                               .x            = p->x,
                                               .x_stride     = p->rows * sizeof(int32_t),
                                               .compensation = p->compensation ? p->compensation : zeros,
                                               .spill        = spills,
                                               .out          = p->out,
                                               .out_stride   = p->out_stride};
    for (uint32_t k = 0, end; k < p->k; k = end) {
        const uint32_t chunk_end = qr_min_u32(k / chunk * chunk + chunk, p->k);
        end                      = qr_min_u32(k + SLICE_STEPS * T_STEP, chunk_end);
        t.steps                  = (end - k) / T_STEP;
        t.fetch      = t.w + (size_t)t.steps * (4 * T_WEIGHT_BYTES); /* after the last slice the next group */
        t.first      = k % chunk == 0;
        t.last       = end == chunk_end;
        t.add        = k >= chunk;
        t.fetch_step = 4 * T_WEIGHT_BYTES;
        if (p->rows <= FLAT_ROWS)
            T_(flat_tile)(&t, p->rows);
        else
            T_(tall_slice)(p, &t);
        t.w = t.fetch;
        t.x += t.steps * T_PHASES * t.x_stride;
    }
}

#undef T_JOIN_
#undef T_JOIN
#undef T_
#undef T_NAME
#undef T_VECTOR
#undef T_OPERAND
#undef T_STEP
#undef T_WEIGHT_BYTES
#undef T_PHASES
#undef T_WEIGHT
#undef T_X
#undef T_MADD
#undef T_ZERO
#undef T_LOAD
#undef T_STORE
#undef T_RESULT
#undef T_EXACT
