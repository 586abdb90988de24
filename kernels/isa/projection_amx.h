/* Products through tiles, of bf16 and int8. Included by projection_avx512.h.
 *
 * A panel has 16 columns, so that 1 KB of it, a *step*, is one tile as TDPBF16PS and TDPBSSD want it. x is read where
 * it lies: its rows are an odd number of cache lines apart (qr_row_stride), so that the 16 of a tile do not share sets
 * of L1. Every result is one chain of tile products in ascending k, whatever the number of rows.
 *
 * Up to 16 rows are one tile of rows and the four panels of the group. More are pairs of row tiles times pairs of
 * panels, which leaves four loads of 8 cycles behind four products of 16. Up to 64 rows the first pair of row tiles
 * streams the panels and asks for 2 KB ahead, the second finds them in L2. Beyond, k goes in slices of 16 KB of weights
 * that L1 holds: sums rest in memory between slices, and every visit to a slice asks for its share of the next one, as
 * memory would idle if only one of them did. The last row tile overlaps the one before it where rows are no multiple of
 * 16, and computes the same again. */
#ifndef QR_PROJECTION_AMX_H
#define QR_PROJECTION_AMX_H

#include "base/bits.h"

enum {
    STEP_AHEAD_FEW  = 4, /* steps of every stream that are asked for ahead */
    STEP_AHEAD_PAIR = 2,
    STREAMED_ROWS   = 64, /* up to here, k is not cut into slices */
    TILE_SLICE      = 8,  /* steps */
    MOST_TILE_PAIRS = QR_TILED_ROWS / (2 * TILE_ROWS),
    TILE_FLOATS     = TILE_BYTES / sizeof(float),
    PAIR_LINES      = 2 * TILE_BYTES / 64, /* of a step of two panels */
    FEW_ROWS_TILES  = 5,                   /* tiles of sums and x come first; those of weights have 16 rows */
};

#define TILE_DOT(sum, a, b)                                                                                            \
    do {                                                                                                               \
        if (int8)                                                                                                      \
            tile_dot_int8(sum, a, b);                                                                                  \
        else                                                                                                           \
            tile_dot_bf16(sum, a, b);                                                                                  \
    } while (0)

VF32_INLINE void ask_for_step(const char *step)
{
    VF32_UNROLL for (int line = 0; line < TILE_BYTES; line += 64) _mm_prefetch(step + line, _MM_HINT_T1);
}

VF32_INLINE size_t panel_bytes(const qr_product *p, const bool int8)
{
    return (size_t)p->k * (int8 ? 1 : 2) * TILE_ROWS;
}

/* Up to 16 rows, all columns of the group. The last steps ask for the first ones of the next group. */
VF32_INLINE void few_rows(const qr_product *p, const bool int8)
{
    const size_t   panel = panel_bytes(p, int8), stride = p->out_stride * sizeof(float);
    const char    *w = p->group, *x = p->x;
    const uint32_t steps = (uint32_t)(panel / TILE_BYTES), turn = steps > STEP_AHEAD_FEW ? steps - STEP_AHEAD_FEW : 0;
    size_t         ahead = STEP_AHEAD_FEW * TILE_BYTES;

    tile_configure_rows(FEW_ROWS_TILES, p->rows);
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (uint32_t s = 0; s < steps; s++, w += TILE_BYTES, x += TILE_ROW_BYTES) {
        if (s == turn) ahead += 3 * panel;
        tile_load(4, x, p->x_stride);
        tile_load(6, w, TILE_ROW_BYTES);
        TILE_DOT(0, 4, 6);
        tile_load(7, w + panel, TILE_ROW_BYTES);
        TILE_DOT(1, 4, 7);
        ask_for_step(w + ahead);
        ask_for_step(w + panel + ahead);
        tile_load(6, w + 2 * panel, TILE_ROW_BYTES);
        TILE_DOT(2, 4, 6);
        tile_load(7, w + 3 * panel, TILE_ROW_BYTES);
        TILE_DOT(3, 4, 7);
        ask_for_step(w + 2 * panel + ahead);
        ask_for_step(w + 3 * panel + ahead);
    }
    tile_store(0, p->out, stride);
    tile_store(1, p->out + 16, stride);
    tile_store(2, p->out + 32, stride);
    tile_store(3, p->out + 48, stride);
}

/* One or two tiles of rows times two panels, over a run of steps. */
typedef struct tile_visit {
    const char *w, *x, *second; /* second: the other tile of rows, NULL: none */
    size_t      panel, x_stride;
    uint32_t    steps;
    float      *sums;        /* [4] tiles, between slices */
    bool        first, last; /* slice */
    float      *out, *second_out;
    size_t      out_stride; /* bytes */

    /* What is asked for meanwhile. */
    bool        streams; /* STEP_AHEAD_PAIR steps of these panels; the last steps: the next panels' first */
    const char *next;    /* or lines [next_first, next_end) of each step of the next slice */
    uint32_t    next_first, next_end;
    const char *next_sums; /* and the sums that the next visit loads */
} tile_visit;

VF32_INLINE void begin_sums(const tile_visit *v)
{
    if (v->first) {
        tile_zero(0);
        tile_zero(1);
        tile_zero(2);
        tile_zero(3);
        return;
    }
    tile_load(0, v->sums, TILE_ROW_BYTES);
    tile_load(1, v->sums + TILE_FLOATS, TILE_ROW_BYTES);
    tile_load(2, v->sums + 2 * TILE_FLOATS, TILE_ROW_BYTES);
    tile_load(3, v->sums + 3 * TILE_FLOATS, TILE_ROW_BYTES);
}

VF32_INLINE void end_sums(const tile_visit *v)
{
    if (!v->last) {
        tile_store(0, v->sums, TILE_ROW_BYTES);
        tile_store(1, v->sums + TILE_FLOATS, TILE_ROW_BYTES);
        tile_store(2, v->sums + 2 * TILE_FLOATS, TILE_ROW_BYTES);
        tile_store(3, v->sums + 3 * TILE_FLOATS, TILE_ROW_BYTES);
        return;
    }
    tile_store(0, v->out, v->out_stride);
    tile_store(1, v->out + 16, v->out_stride);
    if (v->second == NULL) return;
    tile_store(2, v->second_out, v->out_stride);
    tile_store(3, v->second_out + 16, v->out_stride);
}

VF32_INLINE void visit_step(const tile_visit *v, const char *w, const char *x, const char *second, const bool int8)
{
    tile_load(4, x, v->x_stride);
    tile_load(6, w, TILE_ROW_BYTES);
    TILE_DOT(0, 4, 6);
    tile_load(7, w + v->panel, TILE_ROW_BYTES);
    TILE_DOT(1, 4, 7);
    if (second == NULL) return;
    tile_load(5, second, v->x_stride);
    TILE_DOT(2, 5, 6);
    TILE_DOT(3, 5, 7);
}

/* All of k, the weights from memory (`streams`) or from L2. */
VF32_INLINE void whole_visit(const tile_visit *v, const bool int8)
{
    const char    *w = v->w, *x = v->x, *second = v->second;
    const uint32_t turn  = v->steps > STEP_AHEAD_PAIR ? v->steps - STEP_AHEAD_PAIR : 0;
    size_t         ahead = STEP_AHEAD_PAIR * TILE_BYTES;
    begin_sums(v);
    for (uint32_t s = 0; s < v->steps; s++, w += TILE_BYTES, x += TILE_ROW_BYTES) {
        if (s == turn) ahead += v->panel;
        if (v->streams) {
            ask_for_step(w + ahead);
            ask_for_step(w + v->panel + ahead);
        }
        visit_step(v, w, x, second, int8);
        if (second != NULL) second += TILE_ROW_BYTES;
    }
    end_sums(v);
}

VF32_INLINE void slice_visit(const tile_visit *v, const bool int8)
{
    const char *w = v->w, *x = v->x, *second = v->second, *next = v->next, *next_sums = v->next_sums;
    begin_sums(v);
    for (uint32_t s = 0; s < v->steps; s++, w += TILE_BYTES, x += TILE_ROW_BYTES, next += TILE_BYTES) {
        VF32_UNROLL for (int line = 0; line < 4 * TILE_BYTES / TILE_SLICE; line += 64)
            _mm_prefetch(next_sums + line, _MM_HINT_T0);
        next_sums += 4 * TILE_BYTES / TILE_SLICE;
        for (uint32_t line = v->next_first; line < v->next_end; line++)
            _mm_prefetch(next + (line < PAIR_LINES / 2 ? line * 64 : v->panel + (line - PAIR_LINES / 2) * 64),
                         _MM_HINT_T1);
        visit_step(v, w, x, second, int8);
        if (second != NULL) second += TILE_ROW_BYTES;
    }
    end_sums(v);
}

/* Row tile `tile`: the last one ends with the last row. */
static inline uint32_t first_row(const qr_product *p, uint32_t tile)
{
    return qr_min_u32(tile * TILE_ROWS, p->rows - TILE_ROWS);
}

/* Visit number `pair` to two panels, whole or a slice from `step` on. */
static inline tile_visit visit_of(const qr_product *p, uint32_t pair, const char *panels, uint32_t column)
{
    const uint32_t tiles = qr_ceil_div_u32(p->rows, TILE_ROWS), row = first_row(p, 2 * pair);
    tile_visit     v = {.w          = panels,
                        .x          = (const char *)p->x + row * p->x_stride,
                        .x_stride   = p->x_stride,
                        .first      = true,
                        .last       = true,
                        .out        = p->out + row * p->out_stride + column,
                        .out_stride = p->out_stride * sizeof(float)};
    if (2 * pair + 1 < tiles) {
        const uint32_t other = first_row(p, 2 * pair + 1);
        v.second             = (const char *)p->x + other * p->x_stride;
        v.second_out         = p->out + other * p->out_stride + column;
    }
    return v;
}

static inline uint32_t pair_count(const qr_product *p) { return qr_ceil_div_u32(p->rows, 2 * TILE_ROWS); }

VF32_INLINE void streamed_panels(const qr_product *p, const char *panels, uint32_t column, const bool int8)
{
    for (uint32_t pair = 0; pair < pair_count(p); pair++) {
        tile_visit v = visit_of(p, pair, panels, column);
        v.panel      = panel_bytes(p, int8);
        v.steps      = (uint32_t)(v.panel / TILE_BYTES);
        v.streams    = pair == 0;
        whole_visit(&v, int8);
    }
}

VF32_INLINE void sliced_panels(const qr_product *p, const char *panels, uint32_t column, float *sums, const bool int8)
{
    const size_t   panel = panel_bytes(p, int8);
    const uint32_t steps = (uint32_t)(panel / TILE_BYTES), pairs = pair_count(p);
    for (uint32_t from = 0, end; from < steps; from = end) {
        end              = qr_min_u32(from + TILE_SLICE, steps);
        const char *next = panels + (end < steps ? (size_t)end * TILE_BYTES : 2 * panel);
        for (uint32_t pair = 0; pair < pairs; pair++) {
            tile_visit v = visit_of(p, pair, panels + (size_t)from * TILE_BYTES, column);
            v.x += (size_t)from * TILE_ROW_BYTES;
            if (v.second != NULL) v.second += (size_t)from * TILE_ROW_BYTES;
            v.panel      = panel;
            v.steps      = end - from;
            v.sums       = sums + (size_t)pair * 4 * TILE_FLOATS;
            v.first      = from == 0;
            v.last       = end == steps;
            v.next       = next;
            v.next_first = PAIR_LINES * pair / pairs;
            v.next_end   = PAIR_LINES * (pair + 1) / pairs;
            v.next_sums  = (const char *)(sums + (size_t)((pair + 1) % pairs) * 4 * TILE_FLOATS);
            slice_visit(&v, int8);
        }
    }
}

VF32_INLINE void tiled_product(const qr_product *p, const bool int8)
{
    _Alignas(64) float sums[MOST_TILE_PAIRS * 4 * TILE_FLOATS];
    if (p->rows <= TILE_ROWS) {
        few_rows(p, int8);
    } else {
        tile_configure_rows(0, TILE_ROWS);
        for (uint32_t column = 0; column < QR_GROUP_COLUMNS; column += 2 * 16) {
            const char *panels = (const char *)p->group + column / 16 * panel_bytes(p, int8);
            if (p->rows <= STREAMED_ROWS)
                streamed_panels(p, panels, column, int8);
            else
                sliced_panels(p, panels, column, sums, int8);
        }
    }
    tile_release();
}

static void product_bf16(const qr_product *p) { tiled_product(p, false); }
static void product_int8(const qr_product *p) { tiled_product(p, true); }

#undef TILE_DOT
#endif
