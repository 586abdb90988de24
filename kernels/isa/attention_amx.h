/* Attention over a whole split of 256 keys through tiles, of bf16 and int8 keys and values. Included by
 * attention_template.h, whose vectors do what is between the products.
 *
 * A block is up to 16 query rows of a kv head, one tile of rows, or up to 32, two that share each load of K and V. It
 * makes its scores of all keys, their softmax from the exact maximum of the split, and the weighted values with their
 * sums in tiles from the first key to the last: nothing is rescaled on the way.
 *
 * Every result is one chain of tile products in ascending k (elements of the head, then keys). A key that a row does
 * not see has weight zero, which changes no sum: where a block's keys begin and end does not show in a row's bits. */
#ifndef QR_ATTENTION_AMX_H
#define QR_ATTENTION_AMX_H

enum {
    BLOCK_ROWS      = QR_ATTENTION_BLOCK,
    SCORE_FLOATS    = QR_SPLIT_TOKENS + 16, /* from row to row, so that rows do not share sets of L1 */
    SCALES_AT       = QR_SPLIT_TOKENS, /* int8: where in a row of weights the scales of its codes are, one per tile */
    SCORE_BYTES     = SCORE_FLOATS * sizeof(float),
    KEYS_BYTES      = QR_TILE_TOKENS * 4,          /* 4 bytes of each key of a tile */
    STEP_LINES      = TILE_ROWS * KEYS_BYTES / 64, /* of K that one step reads */
    LEAD_LINES      = 128,
    MOST_LEAD_LINES = 512,
    FEW_CODE_ROWS   = 4, /* int8: up to so many rows, values are multiplied in vectors */
    ROW_LINES       = 8, /* to ask for during the softmax of a row */
};

typedef struct key_stream key_stream;

_Static_assert(BLOCK_ROWS == 2 * TILE_ROWS, "two tiles of rows");

/* A block at work. The tiles of keys that some of its rows see are [first, end) of the split. */
typedef struct tile_block {
    const qr_attention_split *split;
    uint32_t                  head, row, rows; /* of the kv head's query rows */
    uint32_t                  first, end;
    const char               *q;
    float                    *states, *scores; /* scores: then weights */
    key_stream               *stream;          /* NULL: the keys and values have been read before */
} tile_block;

/* ---- shapes ---- */

/* Rows of K, of 4 bytes a key, in one tile; fewer than 16 where the head has no more. */
static inline uint32_t step_rows(uint32_t padded_dim, const bool int8)
{
    return qr_min_u32(padded_dim / (int8 ? 4 : 2), TILE_ROWS);
}

/* Tiles of K over the head. The last one ends with it and overlaps the one before, where queries are zero. */
static inline uint32_t step_count(uint32_t padded_dim, const bool int8)
{
    return qr_ceil_div_u32(padded_dim / (int8 ? 4 : 2), TILE_ROWS);
}

/* Bytes of a query row's codes, behind which their scale stands. */
static inline uint32_t packed_codes(uint32_t padded_dim)
{
    return padded_dim < TILE_ROW_BYTES ? padded_dim : qr_round_up_u32(padded_dim, TILE_ROW_BYTES);
}

/* Products of a (`deep` rows of b) for a block of so many rows: sums in 0 to 3, a in 4 and 5, b in 6 and 7. With more
 * than 16 rows, 2 and 3 are sums of the second tile of rows. */
static void configure_block(uint32_t rows, uint32_t deep)
{
    const bool       pair  = rows > TILE_ROWS;
    const uint8_t    first = (uint8_t)(pair ? TILE_ROWS : rows), second = (uint8_t)(pair ? rows - TILE_ROWS : rows);
    const tile_shape sum = {first, TILE_ROW_BYTES}, other = {second, TILE_ROW_BYTES};
    const tile_shape a = {first, (uint8_t)(4 * deep)}, other_a = {second, (uint8_t)(4 * deep)};
    const tile_shape b                  = {(uint8_t)deep, TILE_ROW_BYTES};
    const tile_shape shapes[TILE_COUNT] = {sum, sum, other, other, a, other_a, b, b};
    tile_configure(shapes);
}

#define QR_BLOCK_DOT(sum, a, b)                                                                                        \
    do {                                                                                                               \
        if (int8 && values)                                                                                            \
            tile_dot_uint8(sum, a, b);                                                                                 \
        else if (int8)                                                                                                 \
            tile_dot_int8(sum, a, b);                                                                                  \
        else                                                                                                           \
            tile_dot_bf16(sum, a, b);                                                                                  \
    } while (0)

/* ---- what is read next ---- */

/* Asks for keys and values in the order in which they will be read: of a head all keys, then all values, then the next
 * head's, at last the first keys behind the split. How far it is ahead grows while nothing is read. */
struct key_stream {
    const qr_attention_split *split;
    size_t                    values; /* bytes from a tile's keys to its values */
    uint32_t                  head, part, part_lines;
    const char               *from; /* NULL: nothing is left */
    uint32_t                  left; /* lines of the part */
    int32_t                   lead; /* lines that are asked for and not read yet */
};

static void begin_part(key_stream *f)
{
    const qr_attention_split *split = f->split;
    if (f->part == 2 * split->tile_count) f->part = 0, f->head++;
    f->left = f->part_lines;
    if (f->head < split->rest.heads) {
        const uint32_t tile = f->part % split->tile_count;
        f->from             = split->tiles[tile] + f->head * split->rest.tile_bytes + (f->part == tile ? 0 : f->values);
    } else {
        f->from = f->part == 0 ? split->rest.next : NULL;
    }
}

static key_stream stream_of(const qr_attention_split *split, size_t values)
{
    key_stream f = {.split = split, .values = values, .part_lines = (uint32_t)(values / 64), .part = 1};
    if (!split->rest.prefetch || split->tile_count == 0) return f;
    f.lead = (int32_t)f.part_lines;
    begin_part(&f);
    return f;
}

VF32_INLINE void fetch(key_stream *f, uint32_t lines)
{
    while (lines > 0 && f->from != NULL) {
        const uint32_t now = qr_min_u32(lines, f->left);
        for (uint32_t i = 0; i < now; i++) _mm_prefetch(f->from + 64 * i, _MM_HINT_T1);
        f->from += 64 * now;
        f->lead += (int32_t)now;
        f->left -= now;
        lines -= now;
        if (f->left == 0) f->part++, begin_part(f);
    }
}

/* While `lines` are read for the first time. */
VF32_INLINE void fetch_reading(key_stream *f, uint32_t lines)
{
    fetch(f, f->lead > LEAD_LINES ? lines - lines / 4 : lines);
    f->lead -= (int32_t)lines;
}

/* While nothing is. */
VF32_INLINE void fetch_meanwhile(key_stream *f, uint32_t lines)
{
    if (f->lead < MOST_LEAD_LINES) fetch(f, lines);
}

/* ---- scores ---- */

/* Scores of one tile of keys, at `out` of the block's first row. */
VF32_INLINE void score_tile(const tile_block *t, const char *k, float *out, const bool int8, const bool pair)
{
    const bool     values = false;
    const uint32_t dim = t->split->rest.padded_dim, steps = step_count(dim, int8);
    const size_t   q_bytes = dim * sizeof(float), last = (size_t)(dim / (int8 ? 4 : 2) - step_rows(dim, int8));
    const char    *q = t->q, *second = t->q + TILE_ROWS * q_bytes;
    tile_zero(0);
    tile_zero(1);
    if (pair) {
        tile_zero(2);
        tile_zero(3);
    }
    for (uint32_t s = 0; s < steps; s++) {
        const char *keys = k + (s + 1 < steps ? s * TILE_ROWS : last) * KEYS_BYTES;
        if (t->stream != NULL) fetch_reading(t->stream, qr_min_u32(STEP_LINES, t->stream->part_lines));
        tile_load(4, q + s * TILE_ROW_BYTES, q_bytes);
        tile_load(6, keys, KEYS_BYTES);
        QR_BLOCK_DOT(0, 4, 6);
        tile_load(7, keys + TILE_ROW_BYTES, KEYS_BYTES);
        QR_BLOCK_DOT(1, 4, 7);
        if (pair) {
            tile_load(5, second + s * TILE_ROW_BYTES, q_bytes);
            QR_BLOCK_DOT(2, 5, 6);
            QR_BLOCK_DOT(3, 5, 7);
        }
    }
    tile_store(0, out, SCORE_BYTES);
    tile_store(1, out + 16, SCORE_BYTES);
    if (pair) {
        tile_store(2, out + TILE_ROWS * SCORE_FLOATS, SCORE_BYTES);
        tile_store(3, out + TILE_ROWS * SCORE_FLOATS + 16, SCORE_BYTES);
    }
}

static inline size_t part_bytes(uint32_t padded_dim, const bool int8)
{
    return (size_t)QR_TILE_TOKENS * padded_dim * (int8 ? 1 : 2);
}

static inline const char *keys_of(const tile_block *t, uint32_t tile)
{
    return t->split->tiles[tile] + (size_t)t->head * t->split->rest.tile_bytes;
}

VF32_INLINE void score_block_tiles(const tile_block *t, const bool int8, const bool pair)
{
    for (uint32_t j = t->first; j < t->end; j++)
        score_tile(t, keys_of(t, j), t->scores + j * QR_TILE_TOKENS, int8, pair);
}

/* ---- softmax ---- */

/* 2^x for x <= 0, exactly zero for -inf: a minimax polynomial of degree 3 on [0, 1), relative error 7.5e-5, as weights
 * are rounded to 8 bits. */
VF32_INLINE vf32 weight_of(vf32 x)
{
    const vf32 f = _mm512_reduce_ps(x, 9); /* x - floor(x), 0 of -inf */
    vf32       p = vf32_fma(vf32_set(7.802452266e-2f), f, vf32_set(2.260671554e-1f));
    p            = vf32_fma(p, f, vf32_set(6.958335405e-1f));
    return vf32_scale2(vf32_fma(p, f, vf32_set(9.999252186e-1f)), x); /* 2^floor(x) */
}

/* What softmax has to know of a query row. */
typedef struct softmax_row_of {
    uint32_t     head, row; /* of the bias; of the batch */
    int64_t      from, to;  /* keys that it sees, counted from the split's first one */
    const float *common;    /* with the split's first tile, or NULL */
    float        q_scale;
} softmax_row_of;

static softmax_row_of row_of(const tile_block *t, uint32_t i, const bool int8)
{
    const qr_attention_tile *rest = &t->split->rest;
    const uint32_t           row  = t->row + i;
    softmax_row_of           r    = {.head = t->head * rest->group + row % rest->group, .row = row / rest->group};
    r.to                          = (int64_t)rest->visible_end + (int64_t)r.row * rest->visible_step - rest->first_key;
    r.from                        = rest->window != 0 ? r.to - rest->window : 0;
    if (!int8) return r;
    memcpy(&r.q_scale, t->q + i * rest->padded_dim * sizeof(float) + packed_codes(rest->padded_dim), sizeof r.q_scale);
    if (rest->common != NULL) r.common = rest->common + (size_t)t->head * rest->head_rows + row;
    return r;
}

/* int8: sums of products of codes in tile `j` become scores. */
VF32_INLINE void scale_scores(const tile_block *t, const softmax_row_of *r, uint32_t j, vf32 x[TILE_VECTORS])
{
    const tile_scales scales = scales_of(keys_of(t, j), t->split->rest.padded_dim);
    VF32_UNROLL for (uint32_t v = 0; v < TILE_VECTORS; v++)
    {
        const vf32 scale = vf32_mul(vf32_set(r->q_scale), vf32_load(scales.k_scale + v * VF32_LANES));
        x[v]             = vf32_mul(vf32_of_i32(vi32_of_bits(x[v])), scale);
        if (r->common != NULL) x[v] = vf32_add(x[v], vf32_set(r->common[j * t->split->common_stride]));
    }
}

/* -inf where the row does not see the key. */
VF32_INLINE void mask_scores(const softmax_row_of *r, uint32_t j, vf32 x[TILE_VECTORS])
{
    const int64_t from = r->from - j * QR_TILE_TOKENS, to = r->to - j * QR_TILE_TOKENS;
    const int32_t first = from < 0 ? 0 : from < QR_TILE_TOKENS ? (int32_t)from : QR_TILE_TOKENS;
    const int32_t end   = to < 0 ? 0 : to < QR_TILE_TOKENS ? (int32_t)to : QR_TILE_TOKENS;
    VF32_UNROLL for (uint32_t v = 0; v < TILE_VECTORS; v++)
    {
        const int32_t lane = (int32_t)(v * VF32_LANES);
        x[v]               = vf32_select(vmask_range(first - lane, end - lane), x[v], vf32_set(-INFINITY));
    }
}

/* The row's greatest score becomes m; scores that change on the way are written back. `plain`: no cap, no bias, and the
 * row sees all these keys. */
VF32_INLINE void find_greatest(const tile_block *t, const softmax_row_of *r, float *scores, float *state,
                               const bool int8, const bool plain)
{
    const qr_attention_tile *rest = &t->split->rest;
    vf32                     x[TILE_VECTORS], top[TILE_VECTORS];
    VF32_UNROLL for (uint32_t v = 0; v < TILE_VECTORS; v++) top[v] = vf32_set(QR_ATTENTION_EMPTY);
    for (uint32_t j = t->first; j < t->end; j++) {
        float *s                                                     = scores + j * QR_TILE_TOKENS;
        VF32_UNROLL for (uint32_t v = 0; v < TILE_VECTORS; v++) x[v] = vf32_load(s + v * VF32_LANES);
        if (int8) scale_scores(t, r, j, x);
        if (!plain && rest->softcap != 0.0f) cap_scores(rest->softcap, x);
        if (!plain && rest->bias != NULL) add_bias(rest, rest->first_key + j * QR_TILE_TOKENS, r->head, r->row, x);
        if (!plain) {
            mask_scores(r, j, x);
        }
        VF32_UNROLL for (uint32_t v = 0; v < TILE_VECTORS; v++)
        {
            if (int8 || !plain) vf32_store(s + v * VF32_LANES, x[v]);
            top[v] = vf32_max(top[v], x[v]);
        }
    }
    *m_of(state, rest->padded_dim) = vf32_top(vf32_max(top[0], top[1]));
}

/* A row's scores become weights: bf16 in pairs; or unsigned codes, and their scale for each tile of keys. Both lie from
 * the row's beginning on, where the scores have been read. */
VF32_INLINE void weigh_row(const tile_block *t, float *scores, float *state, const bool int8)
{
    const uint32_t dim = t->split->rest.padded_dim;
    const vf32     m   = vf32_set(*m_of(state, dim));
    vf32           x[TILE_VECTORS], sum[TILE_VECTORS];
    VF32_UNROLL for (uint32_t v = 0; v < TILE_VECTORS; v++) sum[v] = vf32_zero();
    for (uint32_t j = t->first; j < t->end; j++) {
        const float *s = scores + j * QR_TILE_TOKENS;
        VF32_UNROLL for (uint32_t v = 0; v < TILE_VECTORS; v++)
        {
            x[v]   = weight_of(vf32_sub(vf32_load(s + v * VF32_LANES), m));
            sum[v] = vf32_add(sum[v], x[v]);
        }
        if (int8)
            store_codes((uint8_t *)scores + j * QR_TILE_TOKENS, &scores[SCALES_AT + j], x,
                        scales_of(keys_of(t, j), dim).v_scale);
        else
            _mm512_storeu_si512((char *)scores + (size_t)j * TILE_ROW_BYTES, vpairs_of_f32(x[0], x[1]));
    }
    vf32_store(l_of(state, dim), vf32_add(sum[0], sum[1]));
}

VF32_INLINE void find_all(const tile_block *t, const bool int8)
{
    const qr_attention_tile *rest   = &t->split->rest;
    const size_t             state  = rest->padded_dim + QR_ATTENTION_STATE_TAIL;
    const bool               shaped = rest->softcap != 0.0f || rest->bias != NULL;
    const int64_t            first = (int64_t)t->first * QR_TILE_TOKENS, end = (int64_t)t->end * QR_TILE_TOKENS;
    for (uint32_t i = 0; i < t->rows; i++) {
        const softmax_row_of r      = row_of(t, i, int8);
        float               *scores = t->scores + (size_t)i * SCORE_FLOATS, *to = t->states + i * state;
        if (!shaped && r.from <= first && r.to >= end)
            find_greatest(t, &r, scores, to, int8, true);
        else
            find_greatest(t, &r, scores, to, int8, false);
    }
}

/* All rows' maxima before any exponential: nothing waits for the end of a reduction over lanes. */
VF32_INLINE void softmax_block(const tile_block *t, const bool int8)
{
    const size_t state = t->split->rest.padded_dim + QR_ATTENTION_STATE_TAIL;
    find_all(t, int8);
    for (uint32_t i = 0; i < t->rows; i++) {
        if (t->stream != NULL) fetch_meanwhile(t->stream, ROW_LINES);
        weigh_row(t, t->scores + (size_t)i * SCORE_FLOATS, t->states + i * state, int8);
    }
}

/* ---- values ---- */

/* bf16: o of one tile of rows and `strips` strips of 16 columns, or of two and up to two strips. */
VF32_INLINE void value_strips(const tile_block *t, uint32_t column, const uint32_t strips, const bool pair)
{
    const bool     int8 = false, values = true;
    const uint32_t dim = t->split->rest.padded_dim;
    const size_t row = dim * 4, part = part_bytes(dim, false), state = (dim + QR_ATTENTION_STATE_TAIL) * sizeof(float);
    const char  *second = (const char *)(t->scores + TILE_ROWS * SCORE_FLOATS);
    tile_zero(0);
    if (strips > 1) tile_zero(1);
    if (pair || strips > 2) tile_zero(2);
    if (strips > 3 || (pair && strips > 1)) tile_zero(3);
    for (uint32_t j = t->first; j < t->end; j++) {
        const char *v = keys_of(t, j) + part + column * 4;
        if (t->stream != NULL && column == 0) fetch_reading(t->stream, t->stream->part_lines);
        if (t->stream != NULL && column != 0) fetch_meanwhile(t->stream, t->stream->part_lines / 4);
        tile_load(4, (const char *)t->scores + (size_t)j * TILE_ROW_BYTES, SCORE_BYTES);
        if (pair) tile_load(5, second + (size_t)j * TILE_ROW_BYTES, SCORE_BYTES);
        tile_load(6, v, row);
        QR_BLOCK_DOT(0, 4, 6);
        if (pair) QR_BLOCK_DOT(2, 5, 6);
        if (strips > 1) {
            tile_load(7, v + 64, row);
            QR_BLOCK_DOT(1, 4, 7);
            if (pair) QR_BLOCK_DOT(3, 5, 7);
        }
        if (strips > 2) {
            tile_load(6, v + 128, row);
            QR_BLOCK_DOT(2, 4, 6);
        }
        if (strips > 3) {
            tile_load(7, v + 192, row);
            QR_BLOCK_DOT(3, 4, 7);
        }
    }
    float *o = t->states + column, *other = o + TILE_ROWS * (state / sizeof(float));
    tile_store(0, o, state);
    if (strips > 1) tile_store(1, o + 16, state);
    if (strips > 2) tile_store(2, o + 32, state);
    if (strips > 3) tile_store(3, o + 48, state);
    if (pair) tile_store(2, other, state);
    if (pair && strips > 1) tile_store(3, other + 16, state);
}

static void value_block_bf16(const tile_block *t)
{
    const uint32_t dim  = t->split->rest.padded_dim;
    const bool     pair = t->rows > TILE_ROWS;
    uint32_t       d    = 0;
    for (; pair && d + 32 <= dim; d += 32) value_strips(t, d, 2, true);
    if (pair && d < dim) value_strips(t, d, 1, true);
    if (pair) return;
    for (; d + 64 <= dim; d += 64) value_strips(t, d, 4, false);
    if (d + 32 <= dim) value_strips(t, d, 2, false), d += 32;
    if (d < dim) value_strips(t, d, 1, false);
}

/* int8: exact products of the codes with two strips of each tile of values, [strip][row][16]. */
typedef int32_t code_sums[2][BLOCK_ROWS][16];

/* As many as two or four tiles of sums at once, of one or two strips. */
VF32_INLINE void code_products(const tile_block *t, uint32_t column, const uint32_t strips, code_sums *sums,
                               const bool pair)
{
    const size_t row = (size_t)t->split->rest.padded_dim * 4, part = part_bytes(t->split->rest.padded_dim, true);
    for (uint32_t j = t->first; j < t->end; j++) {
        const char *weights = (const char *)t->scores + j * QR_TILE_TOKENS, *v = keys_of(t, j) + part + column * 4;
        if (t->stream != NULL && column == 0) fetch_reading(t->stream, t->stream->part_lines);
        if (t->stream != NULL && column != 0) fetch_meanwhile(t->stream, t->stream->part_lines / 8);
        tile_zero(0);
        tile_load(4, weights, SCORE_BYTES);
        tile_load(6, v, row);
        tile_dot_uint8(0, 4, 6);
        if (strips > 1) {
            tile_zero(1);
            tile_load(7, v + 64, row);
            tile_dot_uint8(1, 4, 7);
        }
        if (pair) {
            tile_zero(2);
            tile_load(5, weights + TILE_ROWS * SCORE_BYTES, SCORE_BYTES);
            tile_dot_uint8(2, 5, 6);
            if (strips > 1) {
                tile_zero(3);
                tile_dot_uint8(3, 5, 7);
            }
        }
        tile_store(0, sums[j][0], TILE_ROW_BYTES);
        if (strips > 1) tile_store(1, sums[j][1], TILE_ROW_BYTES);
        if (pair) tile_store(2, sums[j][0] + TILE_ROWS, TILE_ROW_BYTES);
        if (pair && strips > 1) tile_store(3, sums[j][1] + TILE_ROWS, TILE_ROW_BYTES);
    }
}

/* o of one or two strips: for each tile of keys its exact sum times the scale of the row's codes. */
VF32_INLINE void value_codes(const tile_block *t, uint32_t column, const uint32_t strips)
{
    const size_t           state = t->split->rest.padded_dim + QR_ATTENTION_STATE_TAIL;
    _Alignas(64) code_sums sums[QR_SPLIT_TILES];
    if (t->rows > TILE_ROWS)
        code_products(t, column, strips, sums, true);
    else
        code_products(t, column, strips, sums, false);
    for (uint32_t i = 0; i < t->rows; i++) {
        const float *scales = t->scores + (size_t)i * SCORE_FLOATS + SCALES_AT;
        vf32         o[2]   = {vf32_zero(), vf32_zero()};
        for (uint32_t j = t->first; j < t->end; j++)
            VF32_UNROLL for (uint32_t s = 0; s < strips; s++) o[s] =
                vf32_fma(vf32_of_i32(_mm512_loadu_si512(sums[j][s][i])), vf32_set(scales[j]), o[s]);
        VF32_UNROLL for (uint32_t s = 0; s < strips; s++) vf32_store(t->states + i * state + column + 16 * s, o[s]);
    }
}

/* The same bits for few rows, whose sums need not go through memory. */
VF32_INLINE void value_codes_of_few(const tile_block *t, uint32_t first, const uint32_t rows, uint32_t column,
                                    const uint32_t strips)
{
    const uint32_t dim  = t->split->rest.padded_dim;
    const size_t   part = part_bytes(dim, true), state = dim + QR_ATTENTION_STATE_TAIL;
    const float   *weights = t->scores + (size_t)first * SCORE_FLOATS;
    vf32           o[2][4];
    VF32_UNROLL for (uint32_t i = 0; i < rows * strips; i++) o[i / strips][i % strips] = vf32_zero();
    for (uint32_t j = t->first; j < t->end; j++) {
        const char *v = keys_of(t, j) + part + column * 4, *codes = (const char *)weights + j * QR_TILE_TOKENS;
        vi32        sum[2][4];
        if (t->stream != NULL && first == 0 && column == 0) fetch_reading(t->stream, t->stream->part_lines);
        if (t->stream != NULL && first == 0 && column != 0) fetch_meanwhile(t->stream, t->stream->part_lines / 4);
        VF32_UNROLL for (uint32_t i = 0; i < rows * strips; i++) sum[i / strips][i % strips] = vi32_zero();
        VF32_ROLLED for (uint32_t step = 0; step < QR_TILE_TOKENS / 4; step++, v += (size_t)dim * 4, codes += 4)
        {
            VF32_UNROLL for (uint32_t r = 0; r < rows; r++) VF32_UNROLL for (uint32_t s = 0; s < strips; s++)
                sum[r][s] = multiply_int8(sum[r][s], codes + r * SCORE_BYTES, v + 64 * s);
        }
        VF32_UNROLL for (uint32_t r = 0; r < rows; r++) VF32_UNROLL for (uint32_t s = 0; s < strips; s++) o[r][s] =
            vf32_fma(vf32_of_i32(sum[r][s]), vf32_set(weights[r * SCORE_FLOATS + SCALES_AT + j]), o[r][s]);
    }
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++) VF32_UNROLL for (uint32_t s = 0; s < strips; s++)
        vf32_store(t->states + (first + r) * state + column + 16 * s, o[r][s]);
}

static void value_few_rows(const tile_block *t, uint32_t first, bool two)
{
    const uint32_t dim = t->split->rest.padded_dim;
    uint32_t       d   = 0;
    for (; d + 64 <= dim; d += 64)
        if (two)
            value_codes_of_few(t, first, 2, d, 4);
        else
            value_codes_of_few(t, first, 1, d, 4);
    for (; d < dim; d += 16)
        if (two)
            value_codes_of_few(t, first, 2, d, 1);
        else
            value_codes_of_few(t, first, 1, d, 1);
}

static void value_block_int8(const tile_block *t)
{
    const uint32_t dim = t->split->rest.padded_dim;
    uint32_t       d   = 0;
    if (t->rows <= FEW_CODE_ROWS) {
        for (uint32_t i = 0; i < t->rows; i += 2) value_few_rows(t, i, i + 2 <= t->rows);
        return;
    }
    for (; d + 32 <= dim; d += 32) value_codes(t, d, 2);
    if (d < dim) value_codes(t, d, 1);
}

/* ---- a split ---- */

/* The tiles of keys that rows of the block see. */
static void limit_block(tile_block *t)
{
    qr_attention_tile tile = t->split->rest;
    const uint32_t    last = (t->row + t->rows - 1) / tile.group;
    const int64_t     from = visible_keys(&tile, t->row / tile.group).from;
    tile.visible_end += last * tile.visible_step;
    const int64_t end = (int64_t)tile.visible_end - tile.first_key;
    t->first          = qr_min_u32((uint32_t)(from / QR_TILE_TOKENS), t->split->tile_count);
    t->end            = end <= 0 ? 0 : qr_min_u32(qr_ceil_div_u32((uint32_t)end, QR_TILE_TOKENS), t->split->tile_count);
    if (t->end < t->first) t->end = t->first;
}

VF32_INLINE void attend_tile_block(tile_block *t, const bool int8)
{
    const uint32_t dim = t->split->rest.padded_dim;
    limit_block(t);
    configure_block(t->rows, step_rows(dim, int8));
    if (t->rows > TILE_ROWS)
        score_block_tiles(t, int8, true);
    else
        score_block_tiles(t, int8, false);
    softmax_block(t, int8);
    configure_block(t->rows, int8 ? QR_TILE_TOKENS / 4 : TILE_ROWS);
    if (int8)
        value_block_int8(t);
    else
        value_block_bf16(t);
}

VF32_INLINE void attend_split(const qr_attention_split *split, const bool int8)
{
    const qr_attention_tile *rest  = &split->rest;
    const uint32_t           count = rest->rows * rest->group;
    const size_t             state = rest->padded_dim + QR_ATTENTION_STATE_TAIL;
    _Alignas(64) float       scores[BLOCK_ROWS * SCORE_FLOATS];
    key_stream               stream = stream_of(split, part_bytes(rest->padded_dim, int8));
    tile_block               t      = {.split = split, .scores = scores};
    for (t.head = 0; t.head < rest->heads; t.head++)
        for (t.row = 0; t.row < count; t.row += t.rows) {
            const size_t at = (size_t)t.head * rest->head_rows + t.row;
            t.rows          = qr_min_u32(count - t.row, BLOCK_ROWS);
            t.q             = rest->q + at * rest->padded_dim * sizeof(float);
            t.states        = rest->state + at * state;
            t.stream        = rest->prefetch && t.row == 0 ? &stream : NULL;
            attend_tile_block(&t, int8);
        }
    tile_release();
}

static void attend_split_bf16(const qr_attention_split *split) { attend_split(split, false); }
static void attend_split_int8(const qr_attention_split *split) { attend_split(split, true); }

/* ---- queries ---- */

/* The head's bytes as score_tile() steps over them: a last step of less than 64 bytes begins with zeros. */
static void pack_steps(const char *from, uint32_t bytes, char *to)
{
    const uint32_t whole = bytes <= TILE_ROW_BYTES ? bytes : bytes / TILE_ROW_BYTES * TILE_ROW_BYTES,
                   left  = bytes - whole;
    memcpy(to, from, whole);
    if (left == 0) return;
    memset(to + whole, 0, TILE_ROW_BYTES - left);
    memcpy(to + whole + TILE_ROW_BYTES - left, from + whole, left);
}

static void pack_q_bf16(const float *in, uint32_t padded_dim, void *out)
{
    qr_bf16 x[QR_HEAD_DIM_MAX];
    for (uint32_t d = 0; d < padded_dim; d += VF32_LANES) vf32_store_bf16_upto(x + d, vf32_load(in + d), VF32_LANES);
    pack_steps((const char *)x, padded_dim * sizeof *x, out);
}

/* Codes with a sign, and their scale behind them. */
static void pack_q_int8(const float *in, uint32_t padded_dim, void *out)
{
    int8_t      codes[QR_HEAD_DIM_MAX];
    const float scale = quantize(in, padded_dim, codes);
    pack_steps((const char *)codes, padded_dim, out);
    memcpy((char *)out + packed_codes(padded_dim), &scale, sizeof scale);
}

#endif
