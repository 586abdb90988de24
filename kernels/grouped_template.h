/* Products of weights in scale groups, and the quantisation that makes them. Included once by projection_template.h;
 * the layout is projection_kernels.h's.
 *
 * Order of summation of an output, whatever the number of rows: within a scale group codes times codes of x, exact; in
 * a block of QR_CODES_BLOCK, from zero and in ascending k, part = scale * sum + part and, with minima, part = minimum *
 * (sum of x's codes) + part; then out = (x's scale of the block) * part + out, from zero and in ascending k. Unsigned
 * codes that stand for code - 8 or code - 128 start a group's sum at -8 or -128 times the sum of x's codes.
 *
 * Codes are unpacked in registers, again for each tile of up to GROUPED_ROWS rows: unpacking once into L1 for all tiles
 * was slower for every number of rows. Each tile requests its share of what is read GROUPED_AHEAD bytes later, a line
 * at a time. */
#include "kernels/simd/math.h"

enum {
    PANEL_VECTORS   = 2,
    PANEL_COLUMNS   = PANEL_VECTORS * VF32_LANES,
    QUAD_BYTES      = 4 * PANEL_COLUMNS,               /* four k of a panel, a byte each */
    GROUPED_ROWS    = QR_SIMD_REGISTERS == 32 ? 8 : 4, /* of a tile: sums fill half of the registers */
    GROUPED_AHEAD   = 8192,                            /* bytes that are requested ahead of being read */
    QUANTIZE_TRIALS = 4,                               /* scales tried on either side of the plain one */
};

/* ---- rows ---- */

/* How arranged rows lie behind qr_product.x: codes, what the sums need, scales. */
typedef struct grouped_rows {
    const char    *codes;  /* [k / 4][rows] of four */
    const int32_t *starts; /* [groups][rows] first value of a group's sum; with minima: sums of x's codes, floats */
    const float   *scales; /* [blocks][rows] */
} grouped_rows;

static inline grouped_rows grouped_rows_at(const void *x, uint32_t rows, uint32_t k, uint32_t group)
{
    const size_t codes = ((size_t)rows * k + 63) / 64 * 64, starts = (size_t)rows * qr_ceil_div_u32(k, group);
    grouped_rows at = {.codes = x};
    at.starts       = (const int32_t *)(const void *)(at.codes + codes);
    at.scales       = (const float *)(const void *)(at.starts + starts);
    return at;
}

/* Sums of the codes of group `from` of all rows, times `factor`, rows in lanes; what is loaded beyond them is not
 * stored.
 */
static void sum_codes(const qr_arrange *a, const char *codes, uint32_t from, int factor, int32_t *sums)
{
    const uint32_t first = from * a->codes.group / 4, end = qr_min_u32(first + a->codes.group / 4, a->k / 4);
    const uint8_t  factors[4] = {(uint8_t)factor, (uint8_t)factor, (uint8_t)factor, (uint8_t)factor};
    for (uint32_t row = 0; row < a->rows; row += VF32_LANES) {
        vi32 sum = vi32_zero();
        for (uint32_t quad = first; quad < end; quad++)
            sum = vi32_dot_bytes(sum, vbytes_set(factors), vbytes_load(codes + ((size_t)quad * a->rows + row) * 4));
        if (a->codes.has_minimum)
            vf32_store_upto((float *)(void *)(sums + row), vf32_of_i32(sum), a->rows - row);
        else
            vi32_store_upto(sums + row, vi32_sub(vi32_zero(), sum), a->rows - row);
    }
}

static void arrange_grouped(const qr_arrange *a)
{
    const int          zero = a->codes.bits == 8 ? 128 : 8;
    const grouped_rows at   = grouped_rows_at(a->out, a->rows, a->k, a->codes.group);
    arrange_quads(a);
    for (uint32_t g = 0; g * a->codes.group < a->k; g++)
        sum_codes(a, at.codes, g, a->codes.has_minimum ? 1 : zero,
                  (int32_t *)(uintptr_t)at.starts + (size_t)g * a->rows);
    for (uint32_t row = 0; row < a->rows; row++)
        for (uint32_t b = 0; b * QR_CODES_BLOCK < a->k; b++)
            ((float *)(uintptr_t)at.scales)[(size_t)b * a->rows + row] =
                b < a->scale_count ? a->scales[(size_t)row * a->scale_count + b] : 0.0f;
}

/* ---- a block ---- */

/* Some rows times a panel over one block of k. */
typedef struct grouped_block {
    const char  *codes, *scales; /* of the first scale group */
    size_t       record;         /* bytes from group to group */
    uint32_t     groups, quads;  /* scale groups of the block, quads of k in each */
    uint32_t     x_rows;         /* of the product */
    grouped_rows x;              /* of the first row here */
    float       *out;            /* added to */
    size_t       out_stride;
    uint32_t     fetch_part, fetch_parts; /* which share of what comes later is requested, of how many */
} grouped_block;

typedef vi32 grouped_sums[GROUPED_ROWS][PANEL_VECTORS];
typedef vf32 grouped_parts[GROUPED_ROWS][PANEL_VECTORS];

VF32_INLINE void add_quad(grouped_sums sums, const vbytes codes[PANEL_VECTORS], const char *x, const int rows,
                          const bool packed)
{
    VF32_UNROLL for (int m = 0; m < rows; m++)
    {
        const vbytes q                                                 = vbytes_set(x + 4 * m);
        VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++) sums[m][j] = vi32_in_register(
            packed ? vi32_dot_halves(sums[m][j], codes[j], q) : vi32_dot_bytes(sums[m][j], codes[j], q));
    }
}

/* Packed: 4-bit codes, two to a byte. */
VF32_INLINE void add_group(const grouped_block *b, uint32_t group, grouped_sums sums, const int rows, const bool packed)
{
    const uint32_t step   = packed ? 2 : 1;
    const size_t   stride = (size_t)b->x_rows * 4, ahead = QUAD_BYTES / b->fetch_parts;
    const char    *w = b->codes + group * b->record, *x = b->x.codes + group * b->quads * stride;
    const char    *fetch = w + GROUPED_AHEAD + b->record / b->fetch_parts * b->fetch_part;
    VF32_ROLLED for (uint32_t quad = 0; quad < b->quads; quad += step)
    {
        vbytes codes[PANEL_VECTORS], high[PANEL_VECTORS];
        VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
        {
            codes[j] = vbytes_load(w + j * 4 * VF32_LANES);
            if (!packed) continue;
            high[j]  = vbytes_high_halves(codes[j]);
            codes[j] = vbytes_low_halves(codes[j]);
        }
        add_quad(sums, codes, x, rows, packed);
        if (packed) add_quad(sums, high, x + stride, rows, packed);
        w += QUAD_BYTES;
        x += step * stride;
        for (size_t line = 0; line < QUAD_BYTES; line += 64) __builtin_prefetch(fetch + line, 0, 2);
        fetch += ahead;
    }
    __builtin_prefetch(fetch, 0, 2); /* scales */
}

/* parts = scale * sums + parts, and the minimum's share. */
VF32_INLINE void add_scaled(grouped_parts parts, grouped_sums sums, const uint16_t *scales, const float *x_sums,
                            const int rows, const bool minima)
{
    VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
    {
        const vf32 scale                                       = vf32_load_f16(scales + j * VF32_LANES);
        VF32_UNROLL for (int m = 0; m < rows; m++) parts[m][j] = vf32_fma(scale, vf32_of_i32(sums[m][j]), parts[m][j]);
        if (!minima) continue;
        const vf32 minimum                                     = vf32_load_f16(scales + PANEL_COLUMNS + j * VF32_LANES);
        VF32_UNROLL for (int m = 0; m < rows; m++) parts[m][j] = vf32_fma(minimum, vf32_set(x_sums[m]), parts[m][j]);
    }
}

VF32_INLINE void add_block(const grouped_block *b, const int rows, const bool packed, const bool minima)
{
    const size_t  stride = b->out_stride; /* locals: what is stored to `out` cannot change them */
    float *const  out    = b->out;
    const float  *scales = b->x.scales;
    grouped_parts parts;
    VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++) parts[m][j] =
        vf32_zero();
    VF32_ROLLED for (uint32_t group = 0; group < b->groups; group++)
    {
        const int32_t *starts = b->x.starts + (size_t)group * b->x_rows;
        grouped_sums   sums;
        VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++) sums[m][j] =
            minima ? vi32_zero() : vi32_set(starts[m]);
        add_group(b, group, sums, rows, packed);
        add_scaled(parts, sums, (const void *)(b->scales + group * b->record), (const void *)starts, rows, minima);
    }
    VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
    {
        float *to = out + (size_t)m * stride + j * VF32_LANES;
        vf32_store(to, vf32_fma(vf32_set(scales[m]), parts[m][j], vf32_load(to)));
    }
}

/* A copy for each number of rows, way the codes lie, and with or without minima. */
VF32_INLINE void add_rows(const grouped_block *b, const int rows, const qr_code_format *codes)
{
    if (codes->bits == 8)
        add_block(b, rows, false, false);
    else if (codes->has_minimum)
        add_block(b, rows, true, true);
    else
        add_block(b, rows, true, false);
}

static void run_rows(const grouped_block *b, uint32_t rows, const qr_code_format *codes)
{
    switch (rows) {
    case 1: add_rows(b, 1, codes); break;
    case 2: add_rows(b, 2, codes); break;
    case 3: add_rows(b, 3, codes); break;
#if QR_SIMD_REGISTERS == 32
    case 4: add_rows(b, 4, codes); break;
    case 5: add_rows(b, 5, codes); break;
    case 6: add_rows(b, 6, codes); break;
    case 7: add_rows(b, 7, codes); break;
#endif
    default: add_rows(b, GROUPED_ROWS, codes); break;
    }
}

/* ---- the product ---- */

/* All rows times one panel of a block, in tiles of about equal height; the block is that of row 0. */
static void run_tiles(const grouped_block *block, const qr_product *p)
{
    const uint32_t tiles = qr_ceil_div_u32(p->rows, GROUPED_ROWS);
    grouped_block  b     = *block;
    b.fetch_parts        = tiles;
    for (uint32_t i = 0; i < tiles; i++) {
        const uint32_t row = p->rows * i / tiles, end = p->rows * (i + 1) / tiles;
        b.fetch_part = i;
        b.x          = (grouped_rows){block->x.codes + (size_t)row * 4, block->x.starts + row, block->x.scales + row};
        b.out        = block->out + row * b.out_stride;
        run_rows(&b, end - row, &p->codes);
    }
}

static void product_grouped(const qr_product *p)
{
    const char   *w = p->group;
    grouped_block b = {
        .x_rows = p->rows, .x = grouped_rows_at(p->x, p->rows, p->k, p->codes.group), .out_stride = p->out_stride};
    for (uint32_t row = 0; row < p->rows; row++)
        memset(p->out + row * p->out_stride, 0, QR_GROUP_COLUMNS * sizeof *p->out);
    for (uint32_t k = 0; k < p->k; k += QR_CODES_BLOCK) {
        const uint32_t size = qr_min_u32(QR_CODES_BLOCK, p->k - k), group = qr_min_u32(p->codes.group, size);
        const size_t   code_bytes = (size_t)PANEL_COLUMNS * group * p->codes.bits / 8;
        b.groups                  = size / group;
        b.quads                   = group / 4;
        b.record                  = code_bytes + PANEL_COLUMNS * qr_group_scale_bytes(&p->codes);
        for (uint32_t column = 0; column < QR_GROUP_COLUMNS; column += PANEL_COLUMNS, w += b.groups * b.record) {
            b.codes  = w;
            b.scales = w + code_bytes;
            b.out    = p->out + column;
            run_tiles(&b, p);
        }
        b.x.codes += (size_t)size * p->rows;
        b.x.starts += (size_t)b.groups * p->rows;
        b.x.scales += p->rows;
    }
}

/* ---- quantisation ---- */

/* Codes of w / scale, in [least, most], to q[count rounded up to lanes]; returns sum(w q) and sum(q q) for the least
 * squares. */
typedef struct code_fit {
    float wq, qq;
} code_fit;

static code_fit fit_codes(const float *w, uint32_t count, float to_code, float least, float most)
{
    vf32 wq = vf32_zero(), qq = vf32_zero();
    for (uint32_t i = 0; i < count; i += VF32_LANES) {
        const vf32 v = vf32_load_upto(w + i, count - i);
        const vf32 q =
            vf32_min(vf32_max(vf32_nearest(vf32_mul(v, vf32_set(to_code))), vf32_set(least)), vf32_set(most));
        wq = vf32_fma(v, q, wq);
        qq = vf32_fma(q, q, qq);
    }
    return (code_fit){vf32_sum(wq), vf32_sum(qq)};
}

static float top_of(const float *w, uint32_t count, float sign)
{
    vf32 top = vf32_set(-INFINITY);
    for (uint32_t i = 0; i < count; i += VF32_LANES) {
        const vf32 v = vf32_mul(vf32_load_upto(w + i, count - i), vf32_set(sign));
        top = vf32_max(count - i < VF32_LANES ? vf32_select(vmask_range(0, (int32_t)(count - i)), v, top) : v, top);
    }
    return vf32_top(top);
}

static float f16_of(float x) { return qr_f32_of_f16(qr_f16_of_f32(x)); }

/* The scale of least squared error among those that put the largest weight near code -8, of either sign. For given
 * codes q it is sum(w q) / sum(q q), and the error falls by sum(w q)^2 / sum(q q). */
static float symmetric_scale(const float *w, uint32_t count)
{
    const float top = top_of(w, count, 1), bottom = top_of(w, count, -1), extreme = top > bottom ? top : -bottom;
    float       best = 0, scale = 0;
    if (extreme == 0) return 0;
    for (int i = -QUANTIZE_TRIALS; i <= QUANTIZE_TRIALS; i++) {
        const code_fit fit  = fit_codes(w, count, -(8.0f + 0.2f * (float)i) / extreme, -8, 7);
        const float    gain = fit.qq > 0 ? fit.wq * fit.wq / fit.qq : 0;
        if (!(gain > best)) continue;
        best  = gain;
        scale = fit.wq / fit.qq;
    }
    return f16_of(scale);
}

static void quantize_group(const qr_code_format *f, const float *w, uint32_t count, uint8_t *codes, float *scale,
                           float *minimum)
{
    const float top = top_of(w, count, 1), bottom = top_of(w, count, -1);
    float       zero = f->bits == 8 ? 0.0f : 8.0f, from = 0.0f;
    if (f->has_minimum) {
        from = *minimum = f16_of(-bottom);
        *scale          = f16_of((top - from) / 15.0f);
        zero            = 0.0f;
    } else {
        *scale = f->bits == 8 ? f16_of((top > bottom ? top : bottom) / 127.0f) : symmetric_scale(w, count);
    }
    const float least = f->bits == 8 ? -127.0f : -zero, most = f->bits == 8 ? 127.0f : 15.0f - zero;
    const float to_code = *scale != 0 ? 1.0f / *scale : 0.0f;
    for (uint32_t i = 0; i < count; i += VF32_LANES) {
        const vf32 v = vf32_sub(vf32_load_upto(w + i, count - i), vf32_set(from));
        const vf32 q =
            vf32_min(vf32_max(vf32_nearest(vf32_mul(v, vf32_set(to_code))), vf32_set(least)), vf32_set(most));
        if (f->bits == 8)
            vf32_store_s8_upto((int8_t *)codes + i, q, count - i);
        else
            vf32_store_u8(codes + i, vf32_add(q, vf32_set(zero)));
    }
}

static const qr_panel_format grouped_format = {
    .panel_columns = PANEL_COLUMNS, .product = product_grouped, .arrange = arrange_grouped, .x_bytes = 2};
