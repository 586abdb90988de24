/* The primitives that attention.c drives, one set per instruction set (attention_template.h). Private to kernels/.
 *
 * A query row is one head of one row of the batch. Its state over the keys met so far is
 *   o[padded_dim]  sum of 2^(score - m) * value
 *   m              as great as any score met, or less by at most 8 (RISE); 15 unused floats behind it
 *   l[16]          sums of 2^(score - m), of the keys in each lane of a vector; unused lanes are zero
 * 64-byte aligned. Scores are in units of log2(e): so are q's scale and the cap. Empty: o = 0, l = 0,
 * m = QR_ATTENTION_EMPTY. */
#ifndef QR_ATTENTION_KERNELS_H
#define QR_ATTENTION_KERNELS_H

#include "kernels/attention.h"

enum {
    QR_SPLIT_TILES          = QR_SPLIT_TOKENS / QR_TILE_TOKENS,
    QR_ATTENTION_STATE_TAIL = 32, /* floats after o */
    QR_ATTENTION_BLOCK      = 32, /* query rows that attend_split takes together */
    QR_ATTENTION_LANES      = 16, /* of l, the last of them */
    QR_HEAD_DIM_MAX         = 256,
};

#define QR_LOG2_E 1.44269504f

#define QR_ATTENTION_EMPTY (-1e30f) /* not -inf: the difference of two would be NaN */

/* A head's q or k row on its way into attention: norm, rotary embedding, scale; each optional but the scale. */
typedef struct qr_attention_head {
    uint32_t     dim, padded_dim;
    const float *norm; /* [dim] or NULL */
    float        norm_epsilon;
    const float *cos, *sin; /* [rotary_dim / 2] of the row's position, or NULL */
    uint32_t     rotary_dim;
    float        scale;
    const float *minus; /* [padded_dim] taken off at last, or NULL */
} qr_attention_head;

/* The adjacent tiles of some kv heads, and the query rows that share each: `rows` batch rows of `group` heads each, row
 * outermost. Row r sees keys j with end - window <= j < end, end = visible_end + r * visible_step; each row sees at
 * least one key of the tile. */
typedef struct qr_attention_tile {
    const char  *tile; /* [heads][tile_bytes] */
    size_t       tile_bytes;
    const char  *next;     /* to be fetched ahead: the tile read after the last of these; NULL: none */
    bool         prefetch; /* fetch each of these ahead but the first */
    uint32_t     first_key;
    uint32_t     padded_dim;
    uint32_t     heads, rows, group;
    uint32_t     head_rows;                         /* query rows from one kv head's to the next one's */
    const char  *q;                                 /* [heads][head_rows] packed, padded_dim * 4 bytes each */
    float       *state;                             /* [heads][head_rows] */
    uint32_t     visible_end, visible_step, window; /* window 0: all */
    float        softcap;                           /* 0: none */
    const float *common; /* [heads][head_rows] added to all scores of the query row with this tile, or NULL */
    const float
        *bias; /* [heads * group][bias_stride] or NULL; entry j - position + bias_zero, 31 saturated ones at each end */
    uint32_t bias_stride, bias_zero, bias_reach;
    uint32_t position; /* of row 0 */
} qr_attention_tile;

/* The tiles of a split, or those that some row sees: adjacent keys. A row that sees none of them gets an empty state.
 */
typedef struct qr_attention_split {
    qr_attention_tile
                rest; /* what is the same for all tiles; `tile` is unused, `next` and `first_key` are of the split */
    const char *tiles[QR_SPLIT_TILES]; /* [tile_count] of the first kv head */
    uint32_t    tile_count;
    size_t      common_stride; /* floats of `common` from tile to tile */
} qr_attention_split;

typedef struct qr_attention_kernels {
    /* out[padded_dim] = the head's row, padding zero. */
    void (*prepare)(const qr_attention_head *head, const float *in, float *out);

    /* One of the two attends; neither: this dtype is not supported. */
    struct {
        uint32_t gflops;                                                 /* rough, of one thread */
        void (*pack_q)(const float *in, uint32_t padded_dim, void *out); /* what attend reads, padded_dim * 4 bytes */
        void (*attend)(const qr_attention_tile *tile);                   /* takes the tile into the rows' states */
        void (*attend_split)(const qr_attention_split *split);           /* or: sets the rows' states to the split's */
    } by_dtype[3];                                                       /* qr_dtype of the cache */

    /* codes[padded_dim] = in / scale, to nearest even; returns scale = max |in| / 127, NaN if anything was not finite.
     */
    float (*quantize)(const float *in, uint32_t padded_dim, int8_t *codes);

    /* out[r] = q[r][padded_dim] . x */
    void (*dot)(const float *q, const float *x, uint32_t padded_dim, uint32_t rows, float *out);

    /* Takes the later keys' state `from` into `into`; neither is empty. */
    void (*merge)(float *into, const float *from, uint32_t padded_dim);

    /* out[dim] = o / l in f32 or bf16; zeros for an empty state. */
    void (*finish)(const float *state, uint32_t dim, uint32_t padded_dim, qr_dtype dtype, void *out);
} qr_attention_kernels;

/* Where a slot's key and value go in a tile; padding included. k and v have padded_dim elements. (kv_tile.c) */
void qr_kv_tile_store(const qr_attention_kernels *kernels, const qr_kv_shape *shape, char *tile, uint32_t slot,
                      const float *k, const float *v);

#endif
