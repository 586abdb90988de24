/* Products of weights in scale groups, and the quantisation that makes them. Included once by projection_template.h;
 * the layout is projection_kernels.h's.
 *
 * Order of summation of an output, whatever the number of rows: within a scale group codes times codes of x, exact; in
 * a block of QR_CODES_BLOCK, from zero and in ascending k, part = scale * sum + part and, with minima, part = minimum *
 * (sum of x's codes) + part; then out = (x's scale of the block) * part + out, from zero and in ascending k. Unsigned
 * codes that stand for code - 8 or code - 128 start a group's sum at -8 or -128 times the sum of x's codes.
 *
 * Few rows are one tile that unpacks 4-bit codes in registers. For more, a block is unpacked once into L1 for all of
 * its row tiles. */
#include "kernels/simd/math.h"

enum {
    PANEL_VECTORS    = 2,
    PANEL_COLUMNS    = PANEL_VECTORS * VF32_LANES,
    QUAD_BYTES       = 4 * PANEL_COLUMNS,                /* four k of a panel, a byte each */
    GROUPED_ROWS     = QR_SIMD_REGISTERS == 32 ? 12 : 4, /* of a tile: sums fill three quarters of the registers */
    FEW_GROUPED_ROWS = 4,                                /* 4-bit codes are unpacked in registers up to here */
    GROUPED_AHEAD    = 4096,                             /* bytes that are requested ahead of being read */
    QUANTIZE_TRIALS  = 4,                                /* scales tried on either side of the plain one */
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

/* ---- a tile ---- */

/* Some rows times a panel over one block. */
typedef struct grouped_tile {
    const char  *codes, *scales; /* of the block's first group */
    size_t       code_stride;    /* bytes from group to group; of scales it is the record */
    size_t       record;         /* bytes */
    const char  *fetch;          /* requested: of each group's record there the lines first, first + step, ... */
    size_t       fetch_first, fetch_step;
    uint32_t     groups;            /* scale groups of the block */
    uint32_t     quads, last_quads; /* of k in a group, in the last one */
    uint32_t     x_rows;            /* of the product */
    grouped_rows x;                 /* of the tile's first row */
    float       *out;
    size_t       out_stride;
    bool         first; /* block */
} grouped_tile;

/* How the codes of a tile lie: two to a byte; one to a byte and at most 15; any byte. */
typedef enum code_kind { CODES_PACKED, CODES_HALVES, CODES_BYTES } code_kind;

typedef vi32 grouped_sums[GROUPED_ROWS][PANEL_VECTORS];
typedef vf32 grouped_parts[GROUPED_ROWS][PANEL_VECTORS];

VF32_INLINE void add_quad(grouped_sums sums, const vbytes codes[PANEL_VECTORS], const char *x, const int rows,
                          const code_kind kind)
{
    VF32_UNROLL for (int m = 0; m < rows; m++)
    {
        const vbytes q = vbytes_set(x + 4 * m);
        VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++) sums[m][j] =
            kind == CODES_BYTES ? vi32_dot_bytes(sums[m][j], codes[j], q) : vi32_dot_halves(sums[m][j], codes[j], q);
    }
}

VF32_INLINE void add_group(const grouped_tile *t, uint32_t group, grouped_sums sums, const int rows,
                           const code_kind kind)
{
    const uint32_t quads = group + 1 == t->groups ? t->last_quads : t->quads, step = kind == CODES_PACKED ? 2 : 1;
    const size_t   stride = (size_t)t->x_rows * 4;
    const char    *w = t->codes + group * t->code_stride, *x = t->x.codes + group * t->quads * stride;
    VF32_ROLLED for (uint32_t quad = 0; quad < quads; quad += step)
    {
        vbytes codes[PANEL_VECTORS], high[PANEL_VECTORS];
        VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
        {
            codes[j] = vbytes_load(w + j * 4 * VF32_LANES);
            if (kind != CODES_PACKED) continue;
            high[j]  = vbytes_high_halves(codes[j]);
            codes[j] = vbytes_low_halves(codes[j]);
        }
        add_quad(sums, codes, x, rows, kind);
        if (kind == CODES_PACKED) add_quad(sums, high, x + stride, rows, kind);
        w += QUAD_BYTES;
        x += step * stride;
    }
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

VF32_INLINE void grouped_tile_of(const grouped_tile *t, const int rows, const code_kind kind, const bool minima)
{
    grouped_parts parts;
    VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++) parts[m][j] =
        vf32_zero();
    VF32_ROLLED for (uint32_t group = 0; group < t->groups; group++)
    {
        const int32_t *starts = t->x.starts + (size_t)group * t->x_rows;
        grouped_sums   sums;
        VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++) sums[m][j] =
            minima ? vi32_zero() : vi32_set(starts[m]);
        for (size_t line = t->fetch_first; line < t->record; line += t->fetch_step)
            __builtin_prefetch(t->fetch + group * t->record + line, 0, 2);
        add_group(t, group, sums, rows, kind);
        add_scaled(parts, sums, (const void *)(t->scales + group * t->record), (const void *)starts, rows, minima);
    }
    VF32_UNROLL for (int m = 0; m < rows; m++) VF32_UNROLL for (int j = 0; j < PANEL_VECTORS; j++)
    {
        float     *out    = t->out + (size_t)m * t->out_stride + j * VF32_LANES;
        const vf32 before = t->first ? vf32_zero() : vf32_load(out);
        vf32_store(out, vf32_fma(vf32_set(t->x.scales[m]), parts[m][j], before));
    }
}

/* A copy for each number of rows, way the codes lie, and with or without minima. */
VF32_INLINE void few_rows_tile(const grouped_tile *t, const int rows, code_kind kind, bool minima)
{
    if (kind == CODES_BYTES)
        grouped_tile_of(t, rows, CODES_BYTES, false);
    else if (minima)
        grouped_tile_of(t, rows, CODES_PACKED, true);
    else
        grouped_tile_of(t, rows, CODES_PACKED, false);
}

VF32_INLINE void many_rows_tile(const grouped_tile *t, const int rows, code_kind kind, bool minima)
{
    if (kind == CODES_BYTES)
        grouped_tile_of(t, rows, CODES_BYTES, false);
    else if (minima)
        grouped_tile_of(t, rows, CODES_HALVES, true);
    else
        grouped_tile_of(t, rows, CODES_HALVES, false);
}

static void run_few_rows(const grouped_tile *t, uint32_t rows, code_kind kind, bool minima)
{
    switch (rows) {
    case 1: few_rows_tile(t, 1, kind, minima); break;
    case 2: few_rows_tile(t, 2, kind, minima); break;
    case 3: few_rows_tile(t, 3, kind, minima); break;
    default: few_rows_tile(t, FEW_GROUPED_ROWS, kind, minima); break;
    }
}

static void run_many_rows(const grouped_tile *t, uint32_t rows, code_kind kind, bool minima)
{
    switch (rows) {
#if QR_SIMD_REGISTERS == 32
    case 5: many_rows_tile(t, 5, kind, minima); break;
    case 6: many_rows_tile(t, 6, kind, minima); break;
    case 7: many_rows_tile(t, 7, kind, minima); break;
    case 8: many_rows_tile(t, 8, kind, minima); break;
    case 9: many_rows_tile(t, 9, kind, minima); break;
    case 10: many_rows_tile(t, 10, kind, minima); break;
    case 11: many_rows_tile(t, 11, kind, minima); break;
#else
    case 2: many_rows_tile(t, 2, kind, minima); break;
    case 3: many_rows_tile(t, 3, kind, minima); break;
#endif
    default: many_rows_tile(t, GROUPED_ROWS, kind, minima); break;
    }
}

/* ---- the product ---- */

/* The block's packed codes, one to a byte: [groups][quads][panel columns][4]. */
static void unpack_block(const grouped_tile *t, char *out)
{
    for (uint32_t group = 0; group < t->groups; group++) {
        const char    *w     = t->codes + group * t->code_stride;
        const uint32_t quads = group + 1 == t->groups ? t->last_quads : t->quads;
        for (uint32_t quad = 0; quad < quads; quad += 2, w += QUAD_BYTES, out += 2 * QUAD_BYTES)
            for (int j = 0; j < PANEL_VECTORS; j++) {
                const vbytes codes = vbytes_load(w + j * 4 * VF32_LANES);
                vbytes_store(out + j * 4 * VF32_LANES, vbytes_low_halves(codes));
                vbytes_store(out + QUAD_BYTES + j * 4 * VF32_LANES, vbytes_high_halves(codes));
            }
    }
}

/* One block of one panel for all rows; the tile is that of row 0. */
static void many_rows_block(const qr_product *p, const grouped_tile *block)
{
    _Alignas(64) char unpacked[QR_CODES_BLOCK / 4 * QUAD_BYTES];
    const code_kind   kind  = p->codes.bits == 8 ? CODES_BYTES : CODES_HALVES;
    const uint32_t    tiles = qr_ceil_div_u32(p->rows, GROUPED_ROWS);
    grouped_tile      t     = *block;
    if (kind == CODES_HALVES) {
        unpack_block(block, unpacked);
        t.codes       = unpacked;
        t.code_stride = (size_t)t.quads * QUAD_BYTES;
    }
    t.fetch_step = (size_t)tiles * 64;
    for (uint32_t i = 0; i < tiles; i++) {
        const uint32_t row = p->rows * i / tiles, end = p->rows * (i + 1) / tiles;
        t.fetch_first = (size_t)i * 64;
        t.x           = (grouped_rows){block->x.codes + (size_t)row * 4, block->x.starts + row, block->x.scales + row};
        t.out         = block->out + row * t.out_stride;
        run_many_rows(&t, end - row, kind, p->codes.has_minimum);
    }
}

/* The panel's blocks in ascending k; the tile comes with all that is the same in them. */
static const char *grouped_panel(const qr_product *p, grouped_tile *t, const char *w)
{
    const uint32_t  group = p->codes.group, block_groups = QR_CODES_BLOCK / group;
    const code_kind kind       = p->codes.bits == 8 ? CODES_BYTES : CODES_PACKED;
    const size_t    code_bytes = (size_t)PANEL_COLUMNS * group * p->codes.bits / 8;
    for (uint32_t k = 0; k < p->k; k += QR_CODES_BLOCK) {
        const uint32_t size = qr_min_u32(QR_CODES_BLOCK, p->k - k);
        t->groups           = qr_ceil_div_u32(size, group);
        t->last_quads       = (size - (t->groups - 1) * group) / 4;
        const size_t last   = (size_t)PANEL_COLUMNS * t->last_quads * p->codes.bits / 2; /* bytes of codes */
        t->codes            = w;
        t->scales           = w + (t->groups > 1 ? code_bytes : last);
        t->fetch            = w + GROUPED_AHEAD;
        t->first            = k == 0;
        if (p->rows <= FEW_GROUPED_ROWS)
            run_few_rows(t, p->rows, kind, p->codes.has_minimum);
        else
            many_rows_block(p, t);
        w += t->groups * t->record - (code_bytes - last);
        t->x.codes += (size_t)size * p->rows;
        t->x.starts += (size_t)block_groups * p->rows;
        t->x.scales += p->rows;
    }
    return w;
}

static void product_grouped(const qr_product *p)
{
    const grouped_rows x = grouped_rows_at(p->x, p->rows, p->k, p->codes.group);
    const char        *w = p->group;
    const size_t       record =
        PANEL_COLUMNS * ((size_t)p->codes.group * p->codes.bits / 8 + qr_group_scale_bytes(&p->codes));
    for (uint32_t column = 0; column < QR_GROUP_COLUMNS; column += PANEL_COLUMNS) {
        grouped_tile t = {.code_stride = record,
                          .record      = record,
                          .fetch_step  = 64,
                          .quads       = p->codes.group / 4,
                          .x_rows      = p->rows,
                          .x           = x,
                          .out         = p->out + column,
                          .out_stride  = p->out_stride};
        w              = grouped_panel(p, &t, w);
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
