/* Attention over one tile of 32 keys for a group of query rows: scores, online softmax (arXiv:1805.02867), values.
 * Included once by each kernels/isa/<isa>.c, after its vector vocabulary and rowwise_template.h.
 *
 * Rows are taken in blocks that share each load of K and V. Every sum belongs to one row and is one chain in ascending
 * order of its elements or keys, so neither the blocking here nor the rows beside it show in a row's bits. */
#include "kernels/attention_kernels.h"

/* Rows and columns taken at once: as many accumulators as 16 or 32 registers allow. A strip is 16 columns. */
enum {
    WIDE         = VF32_LANES == 16,
    ROWS_MAX     = 12,                                   /* that go through scores, softmax, values together */
    ALONE_STRIPS = VF32_LANES == 1 ? 1 : VF32_LANES / 2, /* of a row without company: eight accumulators */
    GROUP_STRIPS = WIDE              ? 4
                   : VF32_LANES == 8 ? 2
                                     : 1,
    APART_HEADS  = WIDE ? 4 : 2, /* kv heads with a single query row, scored together: chains that overlap */
    STRIPS_MAX   = ALONE_STRIPS > GROUP_STRIPS ? ALONE_STRIPS : GROUP_STRIPS,
};
#define RISE 8.0f /* of a score above m, in bits, before m follows */
enum { STRIP_VECTORS = 16 / VF32_LANES, TILE_VECTORS = QR_TILE_TOKENS / VF32_LANES, STEP_BYTES = QR_TILE_TOKENS * 4 };

#ifndef QR_SIMD_HAS_BF16_DOT
#define QR_SIMD_HAS_BF16_DOT 0
#endif

/* A row's scores of a tile, then its weights: f32; bf16 pairs in the first 64 bytes; or, for int8 values, 32 unsigned
 * codes and after them their scale. */
typedef float tile_scores[QR_TILE_TOKENS];
enum { CODE_SCALE = QR_TILE_TOKENS / 4 }; /* where in the row's floats the scale of its codes is */

/* The numbers behind an int8 tile's keys and values: f32 per token. */
typedef struct tile_scales {
    const float *k_scale, *v_scale, *k_sum;
} tile_scales;

VF32_INLINE tile_scales scales_of(const char *tile, uint32_t padded_dim)
{
    const float *first = (const float *)(tile + (size_t)2 * QR_TILE_TOKENS * padded_dim);
    return (tile_scales){first, first + QR_TILE_TOKENS, first + 2 * QR_TILE_TOKENS};
}

static inline uint32_t elements_per_step(qr_dtype dtype) { return dtype == QR_F32 ? 1 : dtype == QR_BF16 ? 2 : 4; }

/* Steps between bursts of prefetches; divides the steps of any head_dim. */
static inline uint32_t stretch_of(qr_dtype dtype) { return dtype == QR_INT8 ? 4 : 8; }

/* `lines` cache lines from `from` on, into L2: T0 is slower. Bursts, so that the inner loops have no branch for it. */
VF32_INLINE void prefetch_lines(const char *from, uint32_t lines)
{
    for (uint32_t i = 0; i < lines; i++) __builtin_prefetch(from + 64 * i, 0, 2);
}

/* ---- products ---- */

/* sum + the products of one step of a row (q or weights) with a vector of K or V. A step is 4 bytes of the cache: one
 * f32, two bf16, four int8; the row holds f32, or with a dot product of its own what that takes. */
VF32_INLINE vf32 multiply(const qr_dtype dtype, vf32 sum, const char *row, const char *vector)
{
    if (dtype == QR_F32) return vf32_fma(vf32_set(*(const float *)row), vf32_load((const float *)vector), sum);
#if QR_SIMD_HAS_BF16_DOT
    uint32_t pair;
    memcpy(&pair, row, sizeof pair);
    return vf32_dot_pairs(sum, vpairs_set(pair), vpairs_load(vector));
#else
    const float *pair = (const float *)row;
    sum               = vf32_fma(vf32_set(pair[0]), vf32_bf16_even((const qr_bf16 *)vector), sum);
    return vf32_fma(vf32_set(pair[1]), vf32_bf16_odd((const qr_bf16 *)vector), sum);
#endif
}

/* Bytes of a step in the row. */
static inline size_t row_step_bytes(qr_dtype dtype) { return dtype == QR_BF16 && !QR_SIMD_HAS_BF16_DOT ? 8 : 4; }

VF32_INLINE vi32 multiply_int8(vi32 sum, const char *row, const char *vector)
{
    sum = vi32_dot_quads(sum, vquads_set((const uint8_t *)row), vquads_load((const int8_t *)vector));
    return vi32_in_register(sum);
}

/* Where row r of several at equal distances is. Three distances serve all rows as index registers; one pointer each
 * would not fit. */
VF32_INLINE const char *row_at(const char *row, size_t row_bytes, uint32_t r)
{
    return row + (r / 4) * (4 * row_bytes) + (r % 4) * row_bytes;
}

/* One step of `rows` rows with `vectors` vectors, sum[row][width]. The order decides what stays in registers: with 32,
 * all vectors and one element of a row; with 16, one vector and the elements of all rows. `apart`: bytes between the
 * vectors of two rows, 0 when they share them. */
#define QR_MULTIPLY_ROWS(sum_type, one)                                                                                \
    if (WIDE) {                                                                                                        \
        VF32_UNROLL for (uint32_t r = 0; r < rows; r++)                                                                \
        {                                                                                                              \
            VF32_UNROLL for (uint32_t j = 0; j < vectors; j++)                                                         \
            {                                                                                                          \
                sum_type *to = &sum[r * width + j];                                                                    \
                *to          = one(*to, row_at(row, row_bytes, r), x + r * apart + j * sizeof(vf32));                  \
            }                                                                                                          \
        }                                                                                                              \
    } else {                                                                                                           \
        VF32_UNROLL for (uint32_t j = 0; j < vectors; j++)                                                             \
        {                                                                                                              \
            VF32_UNROLL for (uint32_t r = 0; r < rows; r++)                                                            \
            {                                                                                                          \
                sum_type *to = &sum[r * width + j];                                                                    \
                *to          = one(*to, row_at(row, row_bytes, r), x + r * apart + j * sizeof(vf32));                  \
            }                                                                                                          \
        }                                                                                                              \
    }

VF32_INLINE void multiply_rows(const qr_dtype dtype, const uint32_t rows, const uint32_t vectors, const char *row,
                               size_t row_bytes, const char *x, size_t apart, vf32 *sum, const uint32_t width){
#define QR_MULTIPLY_ONE(sum, row, vector) multiply(dtype, sum, row, vector)
    QR_MULTIPLY_ROWS(vf32, QR_MULTIPLY_ONE)
#undef QR_MULTIPLY_ONE
}

VF32_INLINE void multiply_rows_int8(const uint32_t rows, const uint32_t vectors, const char *row, size_t row_bytes,
                                    const char *x, size_t apart, vi32 *sum, const uint32_t width)
{
    QR_MULTIPLY_ROWS(vi32, multiply_int8)
}
#undef QR_MULTIPLY_ROWS

/* ---- scores ---- */

/* Rows of a block: row r's packed query at q + r * row bytes, its keys at k + r * apart. `ahead` is what to prefetch
 * meanwhile, or NULL. */
typedef void score_block(const char *k, size_t apart, const char *ahead, const char *q, uint32_t padded_dim,
                         tile_scores *s);

VF32_INLINE void prefetch_apart(const char *ahead, size_t apart, uint32_t tiles, uint32_t lines)
{
    for (uint32_t i = 0; i < tiles && ahead != NULL; i++) prefetch_lines(ahead + i * apart, lines);
}

/* s[row][token] = q . k. A step takes 4 bytes of each of the 32 tokens and of each query row. */
VF32_INLINE void score_rows(const qr_dtype dtype, const uint32_t rows, const char *k, size_t apart, const char *ahead,
                            const char *q, uint32_t padded_dim, tile_scores *s)
{
    const uint32_t steps = padded_dim / elements_per_step(dtype), length = stretch_of(dtype);
    const uint32_t tiles = apart == 0 ? 1 : rows;
    const size_t   row   = padded_dim * sizeof(float);
    vf32           sum[ROWS_MAX][TILE_VECTORS];
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++) { sum[r][j] = vf32_zero(); }
    }
    for (uint32_t stretch = 0; stretch < steps; stretch += length) {
        if (ahead != NULL) prefetch_apart(ahead + stretch * STEP_BYTES, apart, tiles, length * STEP_BYTES / 64);
        VF32_ROLLED for (uint32_t step = 0; step < length; step++, q += row_step_bytes(dtype), k += STEP_BYTES)
        {
            multiply_rows(dtype, rows, TILE_VECTORS, q, row, k, apart, sum[0], TILE_VECTORS);
        }
    }
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++) { vf32_store(s[r] + j * VF32_LANES, sum[r][j]); }
    }
}

/* The same for int8 keys: products of unsigned query codes (128 too high) with key codes, exact. Behind the row's codes
 * stands their scale. */
VF32_INLINE void score_rows_int8(const uint32_t rows, const char *k, size_t apart, const char *ahead, const char *q,
                                 uint32_t padded_dim, tile_scores *s)
{
    const uint32_t steps = padded_dim / 4, length = stretch_of(QR_INT8), tiles = apart == 0 ? 1 : rows;
    const size_t   row   = padded_dim * sizeof(float);
    const char    *codes = q, *keys = k;
    vi32           sum[ROWS_MAX][TILE_VECTORS];
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++) { sum[r][j] = vi32_zero(); }
    }
    for (uint32_t stretch = 0; stretch < steps; stretch += length) {
        if (ahead != NULL) prefetch_apart(ahead + stretch * STEP_BYTES, apart, tiles, length * STEP_BYTES / 64);
        VF32_ROLLED for (uint32_t step = 0; step < length; step++, codes += 4, keys += STEP_BYTES)
        {
            multiply_rows_int8(rows, TILE_VECTORS, codes, row, keys, apart, sum[0], TILE_VECTORS);
        }
    }
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        const tile_scales scales = scales_of(k + r * apart, padded_dim);
        float             q_scale;
        memcpy(&q_scale, q + r * row + padded_dim, sizeof q_scale);
        VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
        {
            const uint32_t at    = j * VF32_LANES;
            const vf32     scale = vf32_mul(vf32_set(q_scale), vf32_load(scales.k_scale + at));
            const vf32     dot   = vf32_sub(vf32_of_i32(sum[r][j]), vf32_load(scales.k_sum + at));
            vf32_store(s[r] + at, vf32_mul(dot, scale));
        }
    }
}

/* ---- softmax ---- */

/* Bias of a head for the row's distance to the tile: a vector per 16 or 8 keys, one number beyond the table's reach. */
VF32_INLINE void add_bias(const qr_attention_tile *t, uint32_t first_key, uint32_t head, uint32_t row,
                          vf32 x[TILE_VECTORS])
{
    const float  *table    = t->bias + (size_t)head * t->bias_stride + t->bias_zero;
    const int64_t distance = (int64_t)first_key - (t->position + row), reach = t->bias_reach;
    const bool    before = distance + QR_TILE_TOKENS - 1 <= -reach, after = distance >= reach;
    VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
    {
        const vf32 bias = before  ? vf32_set(table[-reach])
                          : after ? vf32_set(table[reach])
                                  : vf32_load(table + distance + j * VF32_LANES);
        x[j]            = vf32_fma(bias, vf32_set(QR_LOG2_E), x[j]);
    }
}

VF32_INLINE void cap_scores(float cap, vf32 x[TILE_VECTORS])
{
    VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
    {
        x[j] = vf32_mul(vf32_set(cap), vf32_tanh(vf32_div(x[j], vf32_set(cap))));
    }
}

typedef struct key_range {
    int32_t from, to; /* visible slots of the tile */
} key_range;

static inline key_range visible_keys(const qr_attention_tile *t, uint32_t row)
{
    const int64_t end  = (int64_t)t->visible_end + (int64_t)row * t->visible_step - t->first_key;
    const int64_t from = t->window != 0 && end > t->window ? end - t->window : 0;
    return (key_range){.from = (int32_t)from, .to = (int32_t)(end < QR_TILE_TOKENS ? end : QR_TILE_TOKENS)};
}

/* Where a state's m and l are. */
VF32_INLINE float *m_of(float *state, uint32_t padded_dim) { return state + padded_dim; }
VF32_INLINE float *l_of(float *state, uint32_t padded_dim)
{
    return state + padded_dim + QR_ATTENTION_STATE_TAIL - QR_ATTENTION_LANES;
}

/* The rare case of a row's online softmax: m becomes the greatest score, o and l follow. */
static __attribute__((noinline)) void raise_maximum(float *state, uint32_t padded_dim, vf32 greatest)
{
    float      *m = m_of(state, padded_dim), *l = l_of(state, padded_dim);
    const float top = vf32_top(greatest), before = *m;
    *m = top;
    if (before == QR_ATTENTION_EMPTY) return; /* zeros stay zeros */
    const vf32 factor = vf32_exp2(vf32_set(before - top));
    vf32_store(l, vf32_mul(vf32_load(l), factor));
    for (uint32_t d = 0; d < padded_dim; d += VF32_LANES) vf32_store(state + d, vf32_mul(vf32_load(state + d), factor));
}

/* x weights times v_scale become codes, the greatest 255, and their scale. */
VF32_INLINE void store_codes(uint8_t *codes, float *scale, const vf32 x[TILE_VECTORS], const float *v_scale)
{
    vf32 y[TILE_VECTORS], greatest = vf32_zero();
    VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
    {
        y[j]     = vf32_mul(x[j], vf32_load(v_scale + j * VF32_LANES));
        greatest = vf32_max(greatest, y[j]);
    }
    const float top  = vf32_top(greatest) + 1e-30f;
    const vf32  code = vf32_set(255.0f / top);
    VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
    {
        vf32_store_u8(codes + j * VF32_LANES, vf32_min(vf32_mul(y[j], code), vf32_set(255.0f)));
    }
    *scale = top * (1.0f / 255.0f);
}

/* s becomes 2^(s - m) as the values want it, exact zeros where the row does not see the key; m, l and o move on. Masked
 * before the maximum (stale slots may be anything) and after the exponential (which is never 0). m need not be the
 * greatest score: while none is above it by more than 8, 2^8 at most enters sums of f32 (FlashAttention-4 and vLLM do
 * alike), and neither a reduction over lanes nor a rescaling is due. It follows from the row's own scores alone.
 * `plain`: no cap, no bias, and the row sees the whole tile. */
VF32_INLINE void softmax_row(const qr_dtype dtype, const bool plain, const qr_attention_tile *t, uint32_t head,
                             uint32_t row, const char *tile, const float *common, float *s, float *state)
{
    const key_range keys  = plain ? (key_range){0, QR_TILE_TOKENS} : visible_keys(t, row);
    const bool      whole = plain || (keys.from == 0 && keys.to == QR_TILE_TOKENS);
    float          *m = m_of(state, t->padded_dim), *l = l_of(state, t->padded_dim);
    vf32            x[TILE_VECTORS], greatest, sum;
    VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++) { x[j] = vf32_load(s + j * VF32_LANES); }
    if (dtype == QR_INT8 && common != NULL) VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
        {
            x[j] = vf32_add(x[j], vf32_set(*common));
        }
    if (!plain && t->softcap != 0.0f) cap_scores(t->softcap, x);
    if (!plain && t->bias != NULL) add_bias(t, t->first_key, head, row, x);
    if (!whole) VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
        {
            const int32_t lane = (int32_t)(j * VF32_LANES);
            x[j]               = vf32_select(vmask_range(keys.from - lane, keys.to - lane), x[j], vf32_set(-INFINITY));
        }
    greatest = x[0];
    VF32_UNROLL for (uint32_t j = 1; j < TILE_VECTORS; j++) { greatest = vf32_max(greatest, x[j]); }
    if (__builtin_expect(vmask_bits(vmask_less(vf32_set(*m + RISE), greatest)) != 0, false))
        raise_maximum(state, t->padded_dim, greatest);
    VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++)
    {
        const int32_t lane = (int32_t)(j * VF32_LANES);
        x[j]               = vf32_exp2(vf32_sub(x[j], vf32_set(*m)));
        if (!whole) x[j] = vf32_select(vmask_range(keys.from - lane, keys.to - lane), x[j], vf32_zero());
    }
    sum = x[0];
    VF32_UNROLL for (uint32_t j = 1; j < TILE_VECTORS; j++) { sum = vf32_add(sum, x[j]); }
    vf32_store(l, vf32_add(vf32_load(l), sum));
    if (dtype == QR_INT8) {
        store_codes((uint8_t *)s, &s[CODE_SCALE], x, scales_of(tile, t->padded_dim).v_scale);
#if QR_SIMD_HAS_BF16_DOT
    } else if (dtype == QR_BF16) { /* 32 numbers become 16 pairs */
        _mm512_storeu_si512(s, vpairs_of_f32(x[0], x[1]));
#endif
    } else {
        VF32_UNROLL for (uint32_t j = 0; j < TILE_VECTORS; j++) { vf32_store(s + j * VF32_LANES, x[j]); }
    }
}

/* ---- values ---- */

/* o[row][16 * strips columns] += p * v, in registers over the whole tile. */
typedef void value_block(const char *v, const char *ahead, const tile_scores *p, uint32_t padded_dim, float *o);

VF32_INLINE void value_rows(const qr_dtype dtype, const uint32_t rows, const uint32_t strips, const char *v,
                            const char *ahead, const tile_scores *p, uint32_t padded_dim, float *o)
{
    const uint32_t steps = QR_TILE_TOKENS / elements_per_step(dtype), vectors = strips * STRIP_VECTORS;
    const uint32_t length     = stretch_of(dtype);
    const size_t   step_bytes = padded_dim * sizeof(float), state = padded_dim + QR_ATTENTION_STATE_TAIL;
    const char    *weight = (const char *)p;
    vf32           sum[ROWS_MAX][STRIPS_MAX * STRIP_VECTORS];
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        VF32_UNROLL for (uint32_t j = 0; j < vectors; j++) { sum[r][j] = vf32_load(o + r * state + j * VF32_LANES); }
    }
    for (uint32_t stretch = 0; stretch < steps; stretch += length) {
        if (ahead != NULL) {
            prefetch_lines(ahead, length * strips);
            ahead += length * strips * 64;
        }
        VF32_ROLLED for (uint32_t step = 0; step < length; step++, weight += row_step_bytes(dtype), v += step_bytes)
        {
            multiply_rows(dtype, rows, vectors, weight, sizeof *p, v, 0, sum[0], STRIPS_MAX * STRIP_VECTORS);
        }
    }
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        VF32_UNROLL for (uint32_t j = 0; j < vectors; j++) { vf32_store(o + r * state + j * VF32_LANES, sum[r][j]); }
    }
}

/* int8 values: exact sums of the tile's products, then one multiplication into o per tile. */
VF32_INLINE void value_rows_int8(const uint32_t rows, const uint32_t strips, const char *v, const char *ahead,
                                 const tile_scores *p, uint32_t padded_dim, float *o)
{
    const uint32_t steps = QR_TILE_TOKENS / 4, vectors = strips * STRIP_VECTORS, length = stretch_of(QR_INT8);
    const size_t   step_bytes = padded_dim * sizeof(float), state = padded_dim + QR_ATTENTION_STATE_TAIL;
    const char    *weight = (const char *)p;
    vi32           sum[ROWS_MAX][STRIPS_MAX * STRIP_VECTORS];
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        VF32_UNROLL for (uint32_t j = 0; j < vectors; j++) { sum[r][j] = vi32_zero(); }
    }
    for (uint32_t stretch = 0; stretch < steps; stretch += length) {
        if (ahead != NULL) {
            prefetch_lines(ahead, length * strips);
            ahead += length * strips * 64;
        }
        VF32_ROLLED for (uint32_t step = 0; step < length; step++, weight += 4, v += step_bytes)
        {
            multiply_rows_int8(rows, vectors, weight, sizeof *p, v, 0, sum[0], STRIPS_MAX * STRIP_VECTORS);
        }
    }
    VF32_UNROLL for (uint32_t r = 0; r < rows; r++) VF32_UNROLL for (uint32_t j = 0; j < vectors; j++)
    {
        float *to = o + r * state + j * VF32_LANES;
        vf32_store(to, vf32_fma(vf32_of_i32(sum[r][j]), vf32_set(p[r][CODE_SCALE]), vf32_load(to)));
    }
}

/* ---- the blocks there are ---- */

/* Functions of their own, so that each is compiled once and its accumulators stay in registers. */
#define QR_SCORE_BLOCK(name, dtype, rows) QR_SCORE_FUNCTION(score_##name##_##rows, dtype, rows, 0)
#define QR_SCORE_FUNCTION(function, dtype, rows, distance)                                                             \
    static __attribute__((noinline)) void function(const char *k, size_t apart, const char *ahead, const char *q,      \
                                                   uint32_t padded_dim, tile_scores *s)                                \
    {                                                                                                                  \
        (void)apart;                                                                                                   \
        if (dtype == QR_INT8)                                                                                          \
            score_rows_int8(rows, k, distance, ahead, q, padded_dim, s);                                               \
        else                                                                                                           \
            score_rows(dtype, rows, k, distance, ahead, q, padded_dim, s);                                             \
    }
#define QR_VALUE_BLOCK(name, dtype, rows, width, strips)                                                               \
    static __attribute__((noinline)) void value_##name##_##rows##_##width(                                             \
        const char *v, const char *ahead, const tile_scores *p, uint32_t padded_dim, float *o)                         \
    {                                                                                                                  \
        if (dtype == QR_INT8)                                                                                          \
            value_rows_int8(rows, strips, v, ahead, p, padded_dim, o);                                                 \
        else                                                                                                           \
            value_rows(dtype, rows, strips, v, ahead, p, padded_dim, o);                                               \
    }

typedef struct attention_blocks {
    score_block *score[ROWS_MAX + 1]; /* by rows; NULL: take fewer */
    score_block *apart;               /* APART_HEADS rows with a tile each */
    value_block *wide[ROWS_MAX + 1];  /* `strips` strips at once; NULL: take fewer rows */
    uint32_t     strips[ROWS_MAX + 1];
    value_block *half;                /* of one row: GROUP_STRIPS strips */
    value_block *strip[ROWS_MAX + 1]; /* one strip, for the columns that are left */
} attention_blocks;

#define QR_BLOCKS_FEW(name, dtype)                                                                                     \
    QR_SCORE_FUNCTION(score_##name##_apart, dtype, APART_HEADS, apart)                                                 \
    QR_SCORE_BLOCK(name, dtype, 1)                                                                                     \
    QR_SCORE_BLOCK(name, dtype, 2)                                                                                     \
    QR_VALUE_BLOCK(name, dtype, 1, wide, ALONE_STRIPS)                                                                 \
    QR_VALUE_BLOCK(name, dtype, 1, half, GROUP_STRIPS)                                                                 \
    QR_VALUE_BLOCK(name, dtype, 1, strip, 1)                                                                           \
    QR_VALUE_BLOCK(name, dtype, 2, wide, GROUP_STRIPS)                                                                 \
    QR_VALUE_BLOCK(name, dtype, 2, strip, 1)

#if QR_SIMD_REGISTERS == 32 /* values: four rows of four vectors beat six rows by a fifth on Zen 4 */
#define QR_BLOCKS(name, dtype)                                                                                         \
    QR_BLOCKS_FEW(name, dtype)                                                                                         \
    QR_SCORE_BLOCK(name, dtype, 3)                                                                                     \
    QR_SCORE_BLOCK(name, dtype, 4)                                                                                     \
    QR_SCORE_BLOCK(name, dtype, 8)                                                                                     \
    QR_SCORE_BLOCK(name, dtype, 12)                                                                                    \
    QR_VALUE_BLOCK(name, dtype, 3, wide, GROUP_STRIPS)                                                                 \
    QR_VALUE_BLOCK(name, dtype, 3, strip, 1)                                                                           \
    QR_VALUE_BLOCK(name, dtype, 4, wide, GROUP_STRIPS)                                                                 \
    QR_VALUE_BLOCK(name, dtype, 4, strip, 1)                                                                           \
    static const attention_blocks blocks_##name = {                                                                    \
        .apart  = score_##name##_apart,                                                                                \
        .half   = value_##name##_1_half,                                                                               \
        .score  = {[1]  = score_##name##_1,                                                                            \
                   [2]  = score_##name##_2,                                                                            \
                   [3]  = score_##name##_3,                                                                            \
                   [4]  = score_##name##_4,                                                                            \
                   [8]  = score_##name##_8,                                                                            \
                   [12] = score_##name##_12},                                                                          \
        .wide   = {[1] = value_##name##_1_wide,                                                                        \
                   [2] = value_##name##_2_wide,                                                                        \
                   [3] = value_##name##_3_wide,                                                                        \
                   [4] = value_##name##_4_wide},                                                                       \
        .strips = {[1] = ALONE_STRIPS, [2] = GROUP_STRIPS, [3] = GROUP_STRIPS, [4] = GROUP_STRIPS},                    \
        .strip  = {[1] = value_##name##_1_strip,                                                                       \
                   [2] = value_##name##_2_strip,                                                                       \
                   [3] = value_##name##_3_strip,                                                                       \
                   [4] = value_##name##_4_strip}};
#else /* f32 likes four rows of two vectors, bf16 and int8, which widen each vector, two rows of four */
#define QR_BLOCKS(name, dtype)                                                                                         \
    QR_BLOCKS_FEW(name, dtype)                                                                                         \
    QR_VALUE_BLOCK(name, dtype, 4, strip, 1)                                                                           \
    static const attention_blocks blocks_##name = {                                                                    \
        .apart  = score_##name##_apart,                                                                                \
        .half   = value_##name##_1_half,                                                                               \
        .score  = {[1] = score_##name##_1, [2] = score_##name##_2},                                                    \
        .wide   = {[1] = value_##name##_1_wide,                                                                        \
                   [2] = value_##name##_2_wide,                                                                        \
                   [4] = dtype == QR_F32 ? value_##name##_4_strip : NULL},                                             \
        .strips = {[1] = ALONE_STRIPS, [2] = GROUP_STRIPS, [4] = 1},                                                   \
        .strip  = {[1] = value_##name##_1_strip, [2] = value_##name##_2_strip, [4] = value_##name##_4_strip}};
#endif

QR_BLOCKS(f32, QR_F32)
#ifndef QR_SIMD_HAS_TILES
QR_BLOCKS(bf16, QR_BF16)
QR_BLOCKS(int8, QR_INT8)
#endif

/* ---- a tile ---- */

/* Rows that go through scores, softmax and values together: of one kv head, or one row of each of several. */
typedef struct row_block {
    const char *tile;        /* of the first row */
    size_t      apart;       /* bytes between the tiles of two rows; 0: they share one */
    const char *next;        /* to prefetch meanwhile, apart like these; or NULL */
    uint32_t    head;        /* kv head of `t` of the first row */
    uint32_t    first, rows; /* of the head's query rows; first 0 where they are apart */
} row_block;

static void score_all(const attention_blocks *blocks, uint32_t padded_dim, const row_block *b, const char *q,
                      tile_scores *s)
{
    const size_t row = padded_dim * sizeof(float);
    if (b->apart != 0) {
        blocks->apart(b->tile, b->apart, b->next, q, padded_dim, s);
        return;
    }
    for (uint32_t r = 0, n; r < b->rows; r += n) {
        for (n = b->rows - r; blocks->score[n] == NULL;) n--;
        blocks->score[n](b->tile, 0, r == 0 ? b->next : NULL, q + r * row, padded_dim, s + r);
    }
}

/* `v`: the tile's values; `ahead`: those to prefetch, or NULL. */
static void add_values(const qr_dtype dtype, const attention_blocks *blocks, uint32_t padded_dim, uint32_t rows,
                       const char *v, const char *ahead, const tile_scores *p, float *o)
{
    const size_t column_bytes = STEP_BYTES / elements_per_step(dtype), state = padded_dim + QR_ATTENTION_STATE_TAIL;
    for (uint32_t r = 0, n; r < rows; r += n) {
        for (n = rows - r; blocks->wide[n] == NULL;) n--;
        const char    *fetch = r == 0 ? ahead : NULL;
        const uint32_t wide  = 16 * blocks->strips[n];
        for (uint32_t d = 0, width; d < padded_dim; d += width) {
            const uint32_t left = padded_dim - d;
            const bool     half = n == 1 && left < wide && left >= 16 * GROUP_STRIPS;
            width               = left >= wide ? wide : half ? 16 * GROUP_STRIPS : 16;
            value_block *block  = left >= wide ? blocks->wide[n] : half ? blocks->half : blocks->strip[n];
            block(v + d * 4, fetch, p + r, padded_dim, o + r * state + d);
            if (fetch != NULL) fetch += width * column_bytes; /* this block's share of the lines */
        }
    }
}

VF32_INLINE void softmax_all(const qr_dtype dtype, const qr_attention_tile *t, const row_block *b, tile_scores *s,
                             float *states)
{
    const size_t    state      = t->padded_dim + QR_ATTENTION_STATE_TAIL;
    const uint32_t  last       = b->apart != 0 ? 0 : (b->first + b->rows - 1) / t->group;
    const key_range first_keys = visible_keys(t, b->first / t->group), last_keys = visible_keys(t, last);
    const bool plain = t->softcap == 0.0f && t->bias == NULL && first_keys.to == QR_TILE_TOKENS && last_keys.from == 0;
    const float *common = t->common == NULL ? NULL : t->common + (size_t)b->head * t->head_rows + b->first;
    if (plain) {
        for (uint32_t r = 0; r < b->rows; r++)
            softmax_row(dtype, true, t, 0, 0, b->tile + r * b->apart, common ? common + r : NULL, s[r],
                        states + r * state);
        return;
    }
    for (uint32_t r = 0; r < b->rows; r++) {
        const uint32_t query_row = b->apart != 0 ? 0 : b->first + r, head = b->head + (b->apart != 0 ? r : 0);
        softmax_row(dtype, false, t, head * t->group + query_row % t->group, query_row / t->group,
                    b->tile + r * b->apart, common ? common + r : NULL, s[r], states + r * state);
    }
}

VF32_INLINE void attend_block(const qr_dtype dtype, const attention_blocks *blocks, const qr_attention_tile *t,
                              const row_block *b)
{
    const size_t state = t->padded_dim + QR_ATTENTION_STATE_TAIL, at = (size_t)b->head * t->head_rows + b->first;
    const size_t k_bytes = (size_t)t->padded_dim * STEP_BYTES / elements_per_step(dtype);
    const char  *q = t->q + at * t->padded_dim * 4, *ahead = b->next != NULL ? b->next + k_bytes : NULL;
    float       *states = t->state + at * state;
    _Alignas(64) tile_scores s[ROWS_MAX];
    if (dtype == QR_INT8 && ahead != NULL)
        prefetch_apart(ahead + k_bytes, b->apart, b->apart != 0 ? b->rows : 1, 3 * QR_TILE_TOKENS * 4 / 64);
    score_all(blocks, t->padded_dim, b, q, s);
    softmax_all(dtype, t, b, s, states);
    if (b->apart == 0)
        add_values(dtype, blocks, t->padded_dim, b->rows, b->tile + k_bytes, ahead, (const tile_scores *)s, states);
    else
        for (uint32_t r = 0; r < b->rows; r++)
            add_values(dtype, blocks, t->padded_dim, 1, b->tile + r * b->apart + k_bytes,
                       ahead != NULL ? ahead + r * b->apart : NULL, (const tile_scores *)s + r, states + r * state);
}

VF32_INLINE void attend(const qr_dtype dtype, const attention_blocks *blocks, const qr_attention_tile *t)
{
    const uint32_t count = t->rows * t->group;
    for (uint32_t head = 0, heads; head < t->heads; head += heads) {
        const bool apart = t->head_rows == 1 && t->heads - head >= APART_HEADS;
        heads            = apart ? APART_HEADS : 1;
        const bool  last = head + heads == t->heads;
        const char *next = last ? t->next : t->prefetch ? t->tile + (head + heads) * t->tile_bytes : NULL;
        row_block   b    = {.tile = t->tile + head * t->tile_bytes, .head = head, .apart = apart ? t->tile_bytes : 0};
        for (uint32_t first = 0; first < count; first += ROWS_MAX) {
            b.next  = first == 0 ? next : NULL;
            b.first = first;
            b.rows  = apart ? APART_HEADS : count - first < ROWS_MAX ? count - first : ROWS_MAX;
            attend_block(dtype, blocks, t, &b);
        }
    }
}

static void attend_f32(const qr_attention_tile *t) { attend(QR_F32, &blocks_f32, t); }
#ifndef QR_SIMD_HAS_TILES
static void attend_bf16(const qr_attention_tile *t) { attend(QR_BF16, &blocks_bf16, t); }
static void attend_int8(const qr_attention_tile *t) { attend(QR_INT8, &blocks_int8, t); }
#endif

/* ---- rows on their way in and out ---- */

static void normalise_head(const qr_attention_head *head, float *x)
{
    const vf32 scale = vf32_set(1.0f / sqrtf(sum_squares(x, head->dim) / (float)head->dim + head->norm_epsilon));
    for (uint32_t d = 0; d < head->dim; d += VF32_LANES) {
        const vf32 y = vf32_mul(vf32_load(x + d), scale);
        vf32_store(x + d, vf32_mul(y, vf32_load_upto(head->norm + d, head->dim - d)));
    }
}

static void rotate_head(const qr_attention_head *head, float *x)
{
    const uint32_t half = head->rotary_dim / 2;
    for (uint32_t d = 0; d < half; d += VF32_LANES) {
        const uint32_t left = half - d;
        const vf32     cos = vf32_load_upto(head->cos + d, left), sin = vf32_load_upto(head->sin + d, left);
        const vf32     a = vf32_load_upto(x + d, left), b = vf32_load_upto(x + half + d, left);
        vf32_store_upto(x + d, vf32_sub(vf32_mul(a, cos), vf32_mul(b, sin)), left);
        vf32_store_upto(x + half + d, vf32_fma(b, cos, vf32_mul(a, sin)), left);
    }
}

static void prepare(const qr_attention_head *head, const float *in, float *out)
{
    memcpy(out, in, head->dim * sizeof *out);
    memset(out + head->dim, 0, (head->padded_dim - head->dim) * sizeof *out);
    if (head->norm != NULL) normalise_head(head, out);
    if (head->cos != NULL) rotate_head(head, out);
    if (head->scale != 1.0f)
        for (uint32_t d = 0; d < head->padded_dim; d += VF32_LANES)
            vf32_store(out + d, vf32_mul(vf32_load(out + d), vf32_set(head->scale)));
    if (head->minus != NULL)
        for (uint32_t d = 0; d < head->padded_dim; d += VF32_LANES)
            vf32_store(out + d, vf32_sub(vf32_load(out + d), vf32_load(head->minus + d)));
}

static void dot(const float *q, const float *x, uint32_t padded_dim, uint32_t rows, float *out)
{
    for (uint32_t r = 0; r < rows; r++, q += padded_dim) {
        vf32 sum = vf32_zero();
        for (uint32_t d = 0; d < padded_dim; d += VF32_LANES) sum = vf32_fma(vf32_load(q + d), vf32_load(x + d), sum);
        out[r] = vf32_sum(sum);
    }
}

static void pack_q_f32(const float *in, uint32_t padded_dim, void *out) { memcpy(out, in, padded_dim * sizeof *in); }

/* codes[i] = in[i] / scale to nearest even, scale = max |in| / 127 is returned. Infinity or NaN anywhere make it NaN.
 */
static float quantize(const float *in, uint32_t padded_dim, int8_t *codes)
{
    vf32 top = vf32_zero(), zero = vf32_zero();
    for (uint32_t d = 0; d < padded_dim; d += VF32_LANES) {
        const vf32 x = vf32_load(in + d);
        top          = vf32_max(vf32_abs(x), top);
        zero         = vf32_fma(x, vf32_zero(), zero);
    }
    const float greatest = vf32_top(top), code = greatest > 0.0f ? 127.0f / greatest : 0.0f;
    for (uint32_t d = 0; d < padded_dim; d += VF32_LANES)
        vf32_store_s8_upto(codes + d, vf32_mul(vf32_load(in + d), vf32_set(code)), VF32_LANES);
    return greatest / 127.0f + vf32_sum(zero);
}

#ifdef QR_SIMD_HAS_TILES
#include "kernels/isa/attention_amx.h"
#else
#if QR_SIMD_HAS_BF16_DOT
static void pack_q_bf16(const float *in, uint32_t padded_dim, void *out)
{
    for (uint32_t d = 0; d < padded_dim; d += VF32_LANES)
        vf32_store_bf16_upto((qr_bf16 *)out + d, vf32_load(in + d), VF32_LANES);
}
#else
#define pack_q_bf16 pack_q_f32 /* bf16 keys are widened and meet q in f32 */
#endif

/* Unsigned codes, 128 higher, and the scale behind them. */
static void pack_q_int8(const float *in, uint32_t padded_dim, void *out)
{
    uint8_t *codes = out;
    const float scale = quantize(in, padded_dim, out);
    for (uint32_t d = 0; d < padded_dim; d++) codes[d] ^= 0x80;
    memcpy(codes + padded_dim, &scale, sizeof scale);
}
#endif

/* Rabe & Staats, arXiv:2112.05682, section 3. */
static void merge(float *into, const float *from, uint32_t padded_dim)
{
    float         *m     = m_of(into, padded_dim);
    const float    other = from[padded_dim], top = *m > other ? *m : other;
    const vf32     a = vf32_exp2(vf32_set(*m - top)), b = vf32_exp2(vf32_set(other - top));
    const uint32_t end = padded_dim + QR_ATTENTION_STATE_TAIL; /* with l, and whatever lies between */
    for (uint32_t d = 0; d < end; d += VF32_LANES)
        vf32_store(into + d, vf32_fma(vf32_load(from + d), b, vf32_mul(vf32_load(into + d), a)));
    *m = top;
}

static void finish(const float *state, uint32_t dim, uint32_t padded_dim, qr_dtype dtype, void *out)
{
    vf32 sum = vf32_zero();
    for (uint32_t i = QR_ATTENTION_STATE_TAIL - QR_ATTENTION_LANES; i < QR_ATTENTION_STATE_TAIL; i += VF32_LANES)
        sum = vf32_add(sum, vf32_load(state + padded_dim + i));
    const float l      = vf32_sum(sum);
    const vf32  factor = vf32_set(l == 0.0f ? 1.0f : 1.0f / l);
    for (uint32_t d = 0; d < dim; d += VF32_LANES) {
        const vf32 x = vf32_mul(vf32_load(state + d), factor);
        if (dtype == QR_F32)
            vf32_store_upto((float *)out + d, x, dim - d);
        else
            vf32_store_bf16_upto((qr_bf16 *)out + d, x, dim - d);
    }
}

#if defined(QR_SIMD_HAS_INT8_DOT)
enum { INT8_GFLOPS = 200 };
#else
enum { INT8_GFLOPS = 4 * VF32_LANES };
#endif

static const qr_attention_kernels attention_kernels = {
    .prepare  = prepare,
    .by_dtype = {[QR_F32] = {.gflops = 4 * VF32_LANES, .pack_q = pack_q_f32, .attend = attend_f32},
#ifdef QR_SIMD_HAS_TILES
                 [QR_BF16] = {.gflops = 700, .pack_q = pack_q_bf16, .attend_split = attend_split_bf16},
                 [QR_INT8] = {.gflops = 500, .pack_q = pack_q_int8, .attend_split = attend_split_int8}},
#else
                 [QR_BF16] = {.gflops = QR_SIMD_HAS_BF16_DOT ? 170 : 4 * VF32_LANES,
                              .pack_q = pack_q_bf16,
                              .attend = attend_bf16},
                 [QR_INT8] = {.gflops = INT8_GFLOPS, .pack_q = pack_q_int8, .attend = attend_int8}},
#endif
    .quantize = quantize,
    .dot      = dot,
    .merge    = merge,
    .finish   = finish,
};
