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
    BLOCK_ROWS   = 2 * TILE_ROWS,
    SCORE_FLOATS = QR_SPLIT_TOKENS + 16, /* from row to row, so that rows do not share sets of L1 */
    SCALES_AT    = QR_SPLIT_TOKENS,      /* int8: where in a row of weights the scales of its codes are, one per tile */
    SCORE_BYTES  = SCORE_FLOATS * sizeof(float),
    KEYS_BYTES   = QR_TILE_TOKENS * 4,           /* 4 bytes of each key of a tile */
    PART_LINES   = TILE_ROWS * KEYS_BYTES / 64,  /* of K that one step reads */
};

/* A block at work. The tiles of keys that some of its rows see are [first, end) of the split. */
typedef struct tile_block {
    const qr_attention_split *split;
    uint32_t                  head, row, rows; /* of the kv head's query rows */
    uint32_t                  first, end;
    const char               *q;
    float                    *states, *scores; /* scores: then weights */
    const char               *next;            /* what is read after the block's values, or NULL */
    bool                      fetches;
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
    const bool    pair   = rows > TILE_ROWS;
    const uint8_t first  = (uint8_t)(pair ? TILE_ROWS : rows), second = (uint8_t)(pair ? rows - TILE_ROWS : rows);
    const tile_shape sum = {first, TILE_ROW_BYTES}, other = {second, TILE_ROW_BYTES};
    const tile_shape a = {first, (uint8_t)(4 * deep)}, other_a = {second, (uint8_t)(4 * deep)};
    const tile_shape b                   = {(uint8_t)deep, TILE_ROW_BYTES};
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

/* ---- scores ---- */

/* Scores of one tile of keys, at `out` of the block's first row; `ahead`: what to fetch meanwhile, as much as is read. */
VF32_INLINE void score_tile(const tile_block *t, const char *k, const char *ahead, float *out, const bool int8,
                            const bool pair)
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
        if (ahead != NULL) prefetch_lines(ahead + s * TILE_ROWS * KEYS_BYTES, PART_LINES);
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
    const size_t values = part_bytes(t->split->rest.padded_dim, int8);
    for (uint32_t j = t->first; j < t->end; j++) {
        const char *ahead = !t->fetches ? NULL : j + 1 < t->end ? keys_of(t, j + 1) : keys_of(t, t->first) + values;
        score_tile(t, keys_of(t, j), ahead, t->scores + j * QR_TILE_TOKENS, int8, pair);
    }
}

/* ---- softmax ---- */

/* 2^x for x <= 0: a minimax polynomial of degree 4, relative error 4e-6. Below -150 exactly zero. */
VF32_INLINE vf32 weight_of(vf32 x)
{
    x            = vf32_max(vf32_set(-200.0f), x);
    const vf32 n = vf32_nearest(x), f = vf32_sub(x, n);
    vf32       p = vf32_fma(vf32_set(9.5700902e-3f), f, vf32_set(5.5861950e-2f));
    p            = vf32_fma(p, f, vf32_set(2.4026015e-1f));
    p            = vf32_fma(p, f, vf32_set(6.9313669e-1f));
    return vf32_scale2(vf32_fma(p, f, vf32_set(1.0f)), n);
}

/* A query row: head and row of the batch as the masks and the bias want them. */
typedef struct softmax_row_of {
    uint32_t     head, row;
    const float *common; /* of the first tile of the split, or NULL */
    float        q_scale;
} softmax_row_of;

/* Scores of tile `j` in units of log2(e), -inf where the row does not see the key. */
VF32_INLINE void finish_scores(const tile_block *t, const softmax_row_of *r, uint32_t j, vf32 x[TILE_VECTORS],
                               const bool int8, const bool plain)
{
    const qr_attention_split *split = t->split;
    if (int8) {
        const tile_scales scales = scales_of(keys_of(t, j), split->rest.padded_dim);
        for (uint32_t v = 0; v < TILE_VECTORS; v++) {
            const vf32 scale = vf32_mul(vf32_set(r->q_scale), vf32_load(scales.k_scale + v * VF32_LANES));
            x[v]             = vf32_mul(vf32_of_i32(vi32_of_bits(x[v])), scale);
            if (r->common != NULL) x[v] = vf32_add(x[v], vf32_set(r->common[j * split->common_stride]));
        }
    }
    if (plain) return;
    qr_attention_tile tile = split->rest;
    tile.first_key += j * QR_TILE_TOKENS;
    if (tile.softcap != 0.0f) cap_scores(tile.softcap, x);
    if (tile.bias != NULL) add_bias(&tile, r->head, r->row, x);
    const key_range keys = visible_keys(&tile, r->row);
    for (uint32_t v = 0; v < TILE_VECTORS; v++) {
        const int32_t lane = (int32_t)(v * VF32_LANES);
        x[v]               = vf32_select(vmask_range(keys.from - lane, keys.to - lane), x[v], vf32_set(-INFINITY));
    }
}

/* A row's scores become weights: bf16 in pairs; or unsigned codes, and their scale for each tile of keys. Both lie from
 * the row's beginning on, where the scores were read before. */
VF32_INLINE void softmax_split_row(const tile_block *t, const softmax_row_of *r, float *scores, float *state,
                                   const bool int8, const bool plain)
{
    const uint32_t dim = t->split->rest.padded_dim;
    vf32           x[TILE_VECTORS], top[TILE_VECTORS], sum[TILE_VECTORS];
    for (uint32_t v = 0; v < TILE_VECTORS; v++) top[v] = vf32_set(QR_ATTENTION_EMPTY), sum[v] = vf32_zero();
    for (uint32_t j = t->first; j < t->end; j++) {
        float *s = scores + j * QR_TILE_TOKENS;
        for (uint32_t v = 0; v < TILE_VECTORS; v++) x[v] = vf32_load(s + v * VF32_LANES);
        finish_scores(t, r, j, x, int8, plain);
        for (uint32_t v = 0; v < TILE_VECTORS; v++) {
            if (int8 || !plain) vf32_store(s + v * VF32_LANES, x[v]);
            top[v] = vf32_max(top[v], x[v]);
        }
    }
    const float m = vf32_top(vf32_max(top[0], top[1]));
    for (uint32_t j = t->first; j < t->end; j++) {
        const float *s = scores + j * QR_TILE_TOKENS;
        for (uint32_t v = 0; v < TILE_VECTORS; v++) {
            x[v]   = weight_of(vf32_sub(vf32_load(s + v * VF32_LANES), vf32_set(m)));
            sum[v] = vf32_add(sum[v], x[v]);
        }
        if (int8)
            store_codes((uint8_t *)scores + j * QR_TILE_TOKENS, &scores[SCALES_AT + j], x,
                        scales_of(keys_of(t, j), dim).v_scale);
        else
            _mm512_storeu_si512((char *)scores + (size_t)j * TILE_ROW_BYTES, vpairs_of_f32(x[0], x[1]));
    }
    *m_of(state, dim) = m;
    vf32_store(l_of(state, dim), vf32_add(sum[0], sum[1]));
}

static bool is_plain(const tile_block *t)
{
    qr_attention_tile tile = t->split->rest;
    const uint32_t    last = (t->row + t->rows - 1) / tile.group;
    if (tile.softcap != 0.0f || tile.bias != NULL) return false;
    if (t->first == t->end) return true;
    tile.first_key += t->first * QR_TILE_TOKENS;
    const bool begin = visible_keys(&tile, last).from <= 0;
    tile.first_key += (t->end - 1 - t->first) * QR_TILE_TOKENS;
    return begin && visible_keys(&tile, t->row / tile.group).to == QR_TILE_TOKENS;
}

VF32_INLINE void softmax_block(const tile_block *t, const bool int8)
{
    const qr_attention_tile *rest  = &t->split->rest;
    const size_t             state = rest->padded_dim + QR_ATTENTION_STATE_TAIL, q_bytes = rest->padded_dim * sizeof(float);
    const bool               plain = is_plain(t);
    for (uint32_t i = 0; i < t->rows; i++) {
        const uint32_t row = t->row + i;
        softmax_row_of r   = {.head = t->head * rest->group + row % rest->group, .row = row / rest->group};
        if (int8) {
            memcpy(&r.q_scale, t->q + i * q_bytes + packed_codes(rest->padded_dim), sizeof r.q_scale);
            if (rest->common != NULL) r.common = rest->common + (size_t)t->head * rest->head_rows + row;
        }
        float *scores = t->scores + (size_t)i * SCORE_FLOATS, *to = t->states + i * state;
        if (plain)
            softmax_split_row(t, &r, scores, to, int8, true);
        else
            softmax_split_row(t, &r, scores, to, int8, false);
    }
}

/* ---- values ---- */

/* What is fetched while values of tile `j` are read: those of the next tile, behind the last what comes after them. */
static inline const char *values_ahead(const tile_block *t, uint32_t j, size_t values)
{
    if (!t->fetches) return NULL;
    return j + 1 < t->end ? keys_of(t, j + 1) + values : t->next;
}

/* bf16: o of one tile of rows and `strips` strips of 16 columns, or of two and up to two strips. */
VF32_INLINE void value_strips(const tile_block *t, uint32_t column, const uint32_t strips, const bool pair)
{
    const bool     int8 = false, values = true;
    const uint32_t dim    = t->split->rest.padded_dim;
    const size_t   row    = dim * 4, part = part_bytes(dim, false), state = (dim + QR_ATTENTION_STATE_TAIL) * sizeof(float);
    const char    *second = (const char *)(t->scores + TILE_ROWS * SCORE_FLOATS);
    tile_zero(0);
    if (strips > 1) tile_zero(1);
    if (pair || strips > 2) tile_zero(2);
    if (strips > 3 || (pair && strips > 1)) tile_zero(3);
    for (uint32_t j = t->first; j < t->end; j++) {
        const char *v = keys_of(t, j) + part + column * 4, *ahead = values_ahead(t, j, part);
        if (ahead != NULL) VF32_UNROLL for (uint32_t line = 0; line < TILE_ROWS; line++)
                prefetch_lines(ahead + line * row + column * 4, strips);
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
    configure_block(t->rows, TILE_ROWS);
    value_block_bf16(t);
}

/* What is read after the block's values: the next kv head's keys, or the next split's. */
static const char *after_block(const qr_attention_split *split, uint32_t head)
{
    return head + 1 == split->rest.heads ? split->rest.next
                                         : split->tiles[0] + (size_t)(head + 1) * split->rest.tile_bytes;
}

VF32_INLINE void attend_split(const qr_attention_split *split, const bool int8)
{
    const qr_attention_tile *rest  = &split->rest;
    const uint32_t           count = rest->rows * rest->group;
    const size_t             state = rest->padded_dim + QR_ATTENTION_STATE_TAIL;
    _Alignas(64) float       scores[BLOCK_ROWS * SCORE_FLOATS];
    tile_block               t = {.split = split, .scores = scores};
    for (t.head = 0; t.head < rest->heads; t.head++)
        for (t.row = 0; t.row < count; t.row += t.rows) {
            const size_t at = (size_t)t.head * rest->head_rows + t.row;
            t.rows          = qr_min_u32(count - t.row, BLOCK_ROWS);
            t.q             = rest->q + at * rest->padded_dim * sizeof(float);
            t.states        = rest->state + at * state;
            t.fetches       = rest->prefetch && t.row == 0;
            t.next          = after_block(split, t.head);
            attend_tile_block(&t, int8);
        }
    tile_release();
}

static void attend_split_bf16(const qr_attention_split *split) { attend_split(split, false); }

/* ---- queries ---- */

/* The head's bytes as score_tile() steps over them: a last step of less than 64 bytes begins with zeros. */
static void pack_steps(const char *from, uint32_t bytes, char *to)
{
    const uint32_t whole = bytes <= TILE_ROW_BYTES ? bytes : bytes / TILE_ROW_BYTES * TILE_ROW_BYTES, left = bytes - whole;
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

#endif
