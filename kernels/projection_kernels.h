/* The instruction-set part of projections: products of packed weights and the pass that follows them.
 *
 * A shard is a run of groups of 64 columns. A group is 64 / panel_columns panels, a panel is
 * [k / step][panel_columns][step]: what one thread reads is one sequential stream. k is padded with zeros to 64. In a
 * tiled format it is a run of tiles, [k / (16 step)][panel_columns / 16] of them, each [16][16 columns][step].
 *
 * Order of summation, the same for every number of rows, so that a row's bits depend on nothing else. Tiled bf16: one
 * chain of tile products over all of k, in ascending k. Else k in chunks of 1024 if k > 1024, else of 512; each chunk
 * is one chain from zero in ascending k; the chunks are added in order. It is what oneDNN 2.6's packed matmul does,
 * whose bits the AVX-512 kernels give. int8 sums are exact.
 *
 * Codes in scale groups (qr_code_format): a group of 64 columns is a run of blocks of QR_CODES_BLOCK k, a block a run
 * of panels, and a panel of it a run of records, one per scale group in ascending k; where k ends within a block or
 * scale group, the last is shorter. A record is [size / 4][panel_columns][4] codes of 8 bits, the signed ones plus 128,
 * or [size / 8][panel_columns][4] bytes of which the low half is the code at k = 8 i + j and the high half that at 8 i
 * + 4 + j; then [panel_columns] scales and, where there are, minima, in f16. One layout for every number of rows, and
 * every byte is read once, in order. Sums within a scale group are exact; see grouped_template.h for their order. */
#ifndef QR_PROJECTION_KERNELS_H
#define QR_PROJECTION_KERNELS_H

#include <string.h>

#include "kernels/projection.h"

enum {
    QR_GROUP_COLUMNS = 64, /* the unit of sharding */
    QR_K_MULTIPLE    = 64,
    QR_PRODUCT_ROWS  = 64,  /* most rows of one product call */
    QR_TILED_ROWS    = 256, /* of a tiled format; fewer where k is large, see qr_product_rows() */
    QR_TILE_STEPS    = 16,  /* and columns of a tile of weights */
    QR_TILE_COLUMNS  = 16,
    QR_ARRANGE_SLACK = 64, /* bytes that a kernel may write behind the arranged rows */
};

/* k of a chunk. */
static inline uint32_t qr_sum_chunk(uint32_t k) { return k > 1024 ? 1024 : 512; }

/* Of one column and scale group. */
static inline size_t qr_group_scale_bytes(const qr_code_format *codes)
{
    return (codes->has_minimum ? 2 : 1) * sizeof(uint16_t);
}

/* out[rows][64] = x[rows][k] * one group. */
typedef struct qr_product {
    const void    *group;        /* 64-byte aligned */
    const void    *x;            /* rows in the format's own form, see qr_panel_format.arrange */
    size_t         x_stride;     /* bytes, where that form keeps rows apart */
    uint32_t       rows, k;      /* rows 1..QR_PRODUCT_ROWS, or QR_TILED_ROWS; k padded */
    const int32_t *compensation; /* [64] int8 only: -128 * sum of the column's codes */
    qr_code_format codes;        /* with scale groups only */
    float         *out;
    size_t         out_stride; /* elements, a multiple of 16 */
} qr_product;

/* Rows of x, and where they go. */
typedef struct qr_arrange {
    void       *out; /* 64-byte aligned; [rows][k] elements of x_bytes and QR_ARRANGE_SLACK bytes */
    const void *x;
    size_t      x_stride; /* bytes */
    uint32_t    rows, k;  /* k padded */

    /* With scale groups only: */
    qr_code_format codes;
    const float   *scales; /* [rows][scale_count] */
    uint32_t       scale_count;
} qr_arrange;

/* One weight dtype, or all formats with scale groups. All kernels handle every number of rows. */
typedef struct qr_panel_format {
    uint32_t panel_columns, step;
    void (*product)(const qr_product *product);
    /* Rows of x into the form that `product` reads, k elements of x_bytes each; NULL: as they are. */
    void (*arrange)(const qr_arrange *arrange);
    uint32_t x_bytes;
    bool     onednn_layout; /* the panels are those of oneDNN's packed matmul, which may then run instead */
    bool     outruns;       /* oneDNN's packed matmul, at any number of rows; else up to 64 */
    bool tiled; /* panels are runs of tiles; `product` takes up to QR_TILED_ROWS rows, which stay in L2 from group to
                   group */
    bool int32_sums; /* what `product` writes is int32_t */
} qr_panel_format;

/* acc: f32, or int32_t where int32_sums.
 * out = cap((activation(acc * scales + bias) * (up * scales + up_bias)) * multiply), added to or written over `out`. */
typedef struct qr_epilogue {
    const float  *acc, *up; /* [rows][acc_stride]; up NULL unless gated */
    size_t        acc_stride;
    bool          int32_sums;
    uint32_t      rows, columns;
    const float  *row_scales;    /* [rows], with column_scales and, when gated, up_scales [columns]; NULL unless int8 */
    const float  *column_scales; /* [columns] */
    const float  *up_scales;
    const float  *bias, *up_bias; /* [columns] or NULL */
    float         multiply;
    float         softcap; /* 0: none */
    qr_activation activation;
    bool          add; /* f32 only */
    qr_dtype      out_dtype;
    void         *out;
    size_t        out_stride; /* elements */
} qr_epilogue;

/* Rows interleaved, out[k / 4][rows] of four codes each, in plain C. */
static inline void qr_interleave_quads(const qr_arrange *a)
{
    char *out = a->out;
    for (uint32_t quad = 0; quad < a->k / 4; quad++)
        for (uint32_t row = 0; row < a->rows; row++, out += 4)
            memcpy(out, (const char *)a->x + row * a->x_stride + (size_t)quad * 4, 4);
}

struct qr_projection_kernels {
    const char            *name;    /* "own:avx2" */
    const qr_panel_format *formats; /* [3] by qr_dtype */
    const qr_panel_format *grouped; /* codes in scale groups; step unused */

    /* Codes of one scale group w[count], count <= format->group, by least squared error, and its f16 scale (and
     * minimum), as floats. codes: room for count rounded up to 16. */
    void (*quantize)(const qr_code_format *format, const float *w, uint32_t count, uint8_t *codes, float *scale,
                     float *minimum);
    void (*epilogue)(const qr_epilogue *epilogue);
};

#endif
