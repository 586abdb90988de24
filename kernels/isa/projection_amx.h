/* Products through tiles, of bf16 and int8. Included by projection_avx512.h.
 *
 * A panel has 32 columns: two tiles of 1 KB as TDPBF16PS and TDPBSSD want them are one *step* of it, and all of it is
 * one stream. x is read where it lies: its rows are an odd number of cache lines apart (qr_row_stride), so that the 16
 * of a tile do not share sets of L1. Every result is one chain of tile products in ascending k, whatever the number of
 * rows.
 *
 * Up to 16 rows are one tile of rows and the two panels of the group. More are pairs of row tiles times one panel,
 * which leaves four loads of 8 cycles behind four products of 16. Up to 64 rows the first pair of row tiles streams the
 * panel and asks for 2 KB ahead, the second finds it in L2. Beyond, k goes in slices of 16 KB of weights that L1 holds:
 * sums rest in memory between slices, and every visit to a slice asks for its share of the next one, as memory would
 * idle if only one of them did. It asks in order, so that the second-level cache's own prefetcher leads: a request that
 * has to wait for memory occupies one of L1's few miss buffers, which x needs. The last row tile overlaps the one
 * before it where rows are no multiple of 16, and computes the same again. */
#ifndef QR_PROJECTION_AMX_H
#define QR_PROJECTION_AMX_H

#include "base/bits.h"

enum {
    PANEL_STEP      = 2 * TILE_BYTES,
    TILED_COLUMNS   = 32,
    AHEAD_FEW       = 2 * PANEL_STEP, /* asked for ahead in each stream */
    AHEAD_PAIR      = PANEL_STEP,
    STREAMED_ROWS   = 64, /* up to here, k is not cut into slices */
    TILE_SLICE      = 8,  /* steps */
    MOST_TILE_PAIRS = QR_TILED_ROWS / (2 * TILE_ROWS),
    TILE_FLOATS     = TILE_BYTES / sizeof(float),
    FEW_ROWS_TILES  = 5, /* tiles of sums and x come first; those of weights have 16 rows */
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
    VF32_UNROLL for (int line = 0; line < PANEL_STEP; line += 64) _mm_prefetch(step + line, _MM_HINT_T1);
}

VF32_INLINE size_t panel_bytes(const qr_product *p, const bool int8)
{
    return (size_t)p->k * (int8 ? 1 : 2) * TILED_COLUMNS;
}

/* Up to 16 rows, both panels of the group. The last steps ask for the first ones of the next group. */
VF32_INLINE void few_rows(const qr_product *p, const bool int8)
{
    const size_t panel = panel_bytes(p, int8), stride = p->out_stride * sizeof(float);
    const char  *w = p->group, *other = w + panel, *x = p->x, *turn = other - AHEAD_FEW;
    size_t       ahead = AHEAD_FEW;

    tile_configure_rows(FEW_ROWS_TILES, p->rows);
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (const char *end = other; w < end; w += PANEL_STEP, other += PANEL_STEP, x += TILE_ROW_BYTES) {
        if (w == turn) ahead += panel;
        tile_load(4, x, p->x_stride);
        tile_load(6, w, TILE_ROW_BYTES);
        TILE_DOT(0, 4, 6);
        tile_load(7, w + TILE_BYTES, TILE_ROW_BYTES);
        TILE_DOT(1, 4, 7);
        ask_for_step(w + ahead);
        tile_load(6, other, TILE_ROW_BYTES);
        TILE_DOT(2, 4, 6);
        tile_load(7, other + TILE_BYTES, TILE_ROW_BYTES);
        TILE_DOT(3, 4, 7);
        ask_for_step(other + ahead);
    }
    tile_store(0, p->out, stride);
    tile_store(1, p->out + 16, stride);
    tile_store(2, p->out + 32, stride);
    tile_store(3, p->out + 48, stride);
}

/* One or two tiles of rows times a panel, over a run of steps. */
typedef struct tile_visit {
    const char *w, *x, *second; /* second: the other tile of rows, NULL: none */
    size_t      x_stride;
    uint32_t    steps;
    float      *sums;        /* [4] tiles, between slices */
    bool        first, last; /* slice */
    float      *out, *second_out;
    size_t      out_stride; /* bytes */

    /* What slice_visit() asks for meanwhile. */
    const char *next; /* next_bytes of it with each step */
    size_t      next_bytes;
    const char *next_sums; /* all of them: the next visit loads them */
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

/* Of a step: the first tile of rows. What is asked for comes between the two, when their loads are under way. */
VF32_INLINE void visit_first(const tile_visit *v, const char *w, const char *x, const bool int8)
{
    tile_load(4, x, v->x_stride);
    tile_load(6, w, TILE_ROW_BYTES);
    TILE_DOT(0, 4, 6);
    tile_load(7, w + TILE_BYTES, TILE_ROW_BYTES);
    TILE_DOT(1, 4, 7);
}

VF32_INLINE void visit_second(const tile_visit *v, const char *second, const bool int8)
{
    tile_load(5, second, v->x_stride);
    TILE_DOT(2, 5, 6);
    TILE_DOT(3, 5, 7);
}

/* All of k, the weights from memory (`streams`) or from L2. */
VF32_INLINE void whole_visit(const tile_visit *v, const bool streams, const bool int8)
{
    const char *w = v->w, *x = v->x, *second = v->second;
    begin_sums(v);
    for (uint32_t s = 0; s < v->steps; s++, w += PANEL_STEP, x += TILE_ROW_BYTES) {
        visit_first(v, w, x, int8);
        if (streams) ask_for_step(w + AHEAD_PAIR);
        if (second == NULL) continue;
        visit_second(v, second, int8);
        second += TILE_ROW_BYTES;
    }
    end_sums(v);
}

VF32_INLINE void slice_visit(const tile_visit *v, const bool int8)
{
    const char *w = v->w, *x = v->x, *second = v->second, *next = v->next, *next_sums = v->next_sums;
    begin_sums(v);
    for (uint32_t s = 0; s < v->steps; s++, w += PANEL_STEP, x += TILE_ROW_BYTES) {
        VF32_UNROLL for (int line = 0; line < 4 * TILE_BYTES / TILE_SLICE; line += 64)
            _mm_prefetch(next_sums + line, _MM_HINT_T0);
        next_sums += 4 * TILE_BYTES / TILE_SLICE;
        visit_first(v, w, x, int8);
        for (const char *end = next + v->next_bytes; next < end; next += 64) _mm_prefetch(next, _MM_HINT_T1);
        if (second == NULL) continue;
        visit_second(v, second, int8);
        second += TILE_ROW_BYTES;
    }
    end_sums(v);
}

/* Row tile `tile`: the last one ends with the last row. */
static inline uint32_t first_row(const qr_product *p, uint32_t tile)
{
    return qr_min_u32(tile * TILE_ROWS, p->rows - TILE_ROWS);
}

/* Visit number `pair` to a panel, or to its slice from `step` on. */
static inline tile_visit visit_of(const qr_product *p, uint32_t pair, const char *panel, uint32_t column, uint32_t step)
{
    const uint32_t tiles = qr_ceil_div_u32(p->rows, TILE_ROWS), row = first_row(p, 2 * pair);
    const char    *x = (const char *)p->x + (size_t)step * TILE_ROW_BYTES;
    tile_visit     v = {.w          = panel + (size_t)step * PANEL_STEP,
                        .x          = x + row * p->x_stride,
                        .x_stride   = p->x_stride,
                        .first      = true,
                        .last       = true,
                        .out        = p->out + row * p->out_stride + column,
                        .out_stride = p->out_stride * sizeof(float)};
    if (2 * pair + 1 < tiles) {
        const uint32_t other = first_row(p, 2 * pair + 1);
        v.second             = x + other * p->x_stride;
        v.second_out         = p->out + other * p->out_stride + column;
    }
    return v;
}

static inline uint32_t pair_count(const qr_product *p) { return qr_ceil_div_u32(p->rows, 2 * TILE_ROWS); }

VF32_INLINE void streamed_panel(const qr_product *p, const char *panel, uint32_t column, const bool int8)
{
    for (uint32_t pair = 0; pair < pair_count(p); pair++) {
        tile_visit v = visit_of(p, pair, panel, column, 0);
        v.steps      = (uint32_t)(panel_bytes(p, int8) / PANEL_STEP);
        if (pair == 0)
            whole_visit(&v, true, int8);
        else
            whole_visit(&v, false, int8);
    }
}

VF32_INLINE void sliced_panel(const qr_product *p, const char *panel, uint32_t column, float *sums, const bool int8)
{
    const uint32_t steps = (uint32_t)(panel_bytes(p, int8) / PANEL_STEP), pairs = pair_count(p);
    for (uint32_t from = 0, end; from < steps; from = end) {
        end              = qr_min_u32(from + TILE_SLICE, steps);
        const char *next = panel + (size_t)end * PANEL_STEP; /* the next panel lies behind this one */
        for (uint32_t pair = 0; pair < pairs; pair++) {
            tile_visit v = visit_of(p, pair, panel, column, from);
            v.steps      = end - from;
            v.sums       = sums + (size_t)pair * 4 * TILE_FLOATS;
            v.first      = from == 0;
            v.last       = end == steps;
            v.next_bytes = PANEL_STEP / pairs;
            v.next       = next + (size_t)pair * TILE_SLICE * v.next_bytes;
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
        for (uint32_t column = 0; column < QR_GROUP_COLUMNS; column += TILED_COLUMNS) {
            const char *panel = (const char *)p->group + column / TILED_COLUMNS * panel_bytes(p, int8);
            if (p->rows <= STREAMED_ROWS)
                streamed_panel(p, panel, column, int8);
            else
                sliced_panel(p, panel, column, sums, int8);
        }
    }
    tile_release();
}

static void product_bf16(const qr_product *p) { tiled_product(p, false); }
static void product_int8(const qr_product *p) { tiled_product(p, true); }

#undef TILE_DOT
#endif
