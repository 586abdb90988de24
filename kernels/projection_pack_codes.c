/* Packing of weights in scale groups: read as codes where the source has them, else quantised. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "kernels/projection_parts.h"

enum { QUANTIZE_SLACK = 16 }; /* codes that a kernel may write, and packing read, behind a column */

/* Some columns on their way: [QR_GROUP_COLUMNS][k] codes; [QR_GROUP_COLUMNS][groups] scales and minima. */
typedef struct code_columns {
    float   *values; /* [QR_GROUP_COLUMNS][k] */
    float   *scales, *minima;
    uint8_t *codes;
    uint32_t groups; /* of a column */
} code_columns;

static uint32_t groups_of(const qr_projection_shape *shape) { return qr_ceil_div_u32(shape->k, shape->codes.group); }

size_t qr_projection_codes_scratch(const qr_projection_shape *shape)
{
    return (size_t)QR_GROUP_COLUMNS * (2 * sizeof(float) * groups_of(shape) + shape->k) + QUANTIZE_SLACK;
}

static code_columns columns_in(const qr_projection_shape *shape, void *scratch)
{
    code_columns c = {.values = scratch, .groups = groups_of(shape)};
    c.scales       = c.values + (size_t)QR_GROUP_COLUMNS * shape->k;
    c.minima       = c.scales + (size_t)QR_GROUP_COLUMNS * c.groups;
    c.codes        = (uint8_t *)(c.minima + (size_t)QR_GROUP_COLUMNS * c.groups);
    return c;
}

qr_source_range qr_projection_source_of(const qr_weight_source *sources, uint32_t first, uint32_t count)
{
    while (first >= sources->columns) first -= sources++->columns;
    return (qr_source_range){sources, first, qr_min_u32(count, sources->columns - first)};
}

/* Column `column` of values. Going upwards, what a kernel writes behind a column is written again. */
static void quantize_column(const qr_projection *p, const code_columns *c, uint32_t column)
{
    const qr_projection_shape *shape  = &p->shape;
    const float               *values = c->values + (size_t)column * shape->k;
    uint8_t                   *codes  = c->codes + (size_t)column * shape->k;
    for (uint32_t g = 0; g < c->groups; g++) {
        const uint32_t k = g * shape->codes.group, count = qr_min_u32(shape->codes.group, shape->k - k);
        const size_t   at = (size_t)column * c->groups + g;
        p->context->kernels->projection->quantize(&shape->codes, values + k, count, codes + k, &c->scales[at],
                                                  &c->minima[at]);
    }
}

/* The range's columns to those from `column` on. */
static quire_status read_range(const qr_projection *p, const code_columns *c, const qr_source_range *from,
                               uint32_t column, quire_error *error)
{
    const qr_weight_source *s = from->source;
    const size_t            k = (size_t)column * p->shape.k, group = (size_t)column * c->groups;
    if (s->read_codes != NULL)
        return s->read_codes(s->context, from->first, from->count, c->codes + k, c->scales + group,
                             p->shape.codes.has_minimum ? c->minima + group : NULL, error);
    QR_TRY(s->read(s->context, from->first, from->count, c->values + k, error));
    for (uint32_t i = 0; i < from->count; i++) quantize_column(p, c, column + i);
    return QUIRE_OK;
}

/* f16 has no number beyond 65504. */
static quire_status put_f16(const qr_projection *p, char *to, float x, quire_error *error)
{
    enum { EXPONENT = 0x7c00 }; /* all ones: not finite */
    const uint16_t half = qr_f16_of_f32(x);
    if ((half & EXPONENT) == EXPONENT)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: %g as the scale or minimum of its codes is beyond f16's 65504",
                       p->shape.name, (double)x);
    memcpy(to, &half, sizeof half);
    return QUIRE_OK;
}

/* Of the record of the scale group at `k`: behind all panels of the blocks before, the panels before in its block, the
 * groups before in its panel. */
static size_t record_offset(const qr_projection *p, uint32_t k, uint32_t panel)
{
    const qr_code_format *f     = &p->shape.codes;
    const uint32_t        block = k / QR_CODES_BLOCK * QR_CODES_BLOCK, size = qr_min_u32(QR_CODES_BLOCK, p->k - block);
    return QR_GROUP_COLUMNS * qr_code_bytes(f, block) +
           p->format->panel_columns * (panel * qr_code_bytes(f, size) + qr_code_bytes(f, k - block));
}

enum { CODES_AT_ONCE = 8 }; /* bytes that are read at once */

/* Four bytes of a record: of four codes of 8 bits or eight of 4. */
static inline uint32_t four_bytes(uint32_t bits, const uint8_t codes[CODES_AT_ONCE])
{
    uint64_t some;
    memcpy(&some, codes, sizeof some); /* code i in byte i: x86 is little-endian */
    return bits == 8 ? (uint32_t)some ^ 0x80808080u : (uint32_t)some | (uint32_t)(some >> 32) << 4;
}

/* One column of a record: codes [0, count) of its scale group; `stride` from four bytes to the next. */
static inline void pack_record(uint32_t bits, size_t stride, const uint8_t *codes, uint32_t count, char *to)
{
    const uint32_t step = 32 / bits;
    uint32_t       k    = 0, four;
    for (; k + step <= count; k += step, to += stride) {
        four = four_bytes(bits, codes + k);
        memcpy(to, &four, sizeof four);
    }
    if (k == count) return;
    uint8_t rest[CODES_AT_ONCE] = {0};
    memcpy(rest, codes + k, count - k);
    four = four_bytes(bits, rest);
    memcpy(to, &four, sizeof four);
}

/* The record of the scale group at `k` of columns [first, first + count), count <= panel_columns. */
static quire_status pack_panel(const qr_projection *p, const code_columns *c, uint32_t k, uint32_t first,
                               uint32_t count, char *record, quire_error *error)
{
    const qr_code_format *f       = &p->shape.codes;
    const uint32_t        columns = p->format->panel_columns, size = qr_min_u32(f->group, p->k - k);
    const uint32_t        given  = qr_min_u32(size, p->shape.k - k);
    const size_t          stride = (size_t)columns * 4;
    char                 *scales = record + (size_t)columns * size * f->bits / 8;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *codes = c->codes + (size_t)(first + i) * p->shape.k + k;
        const size_t   at    = (size_t)(first + i) * c->groups + k / f->group;
        if (f->bits == 8)
            pack_record(8, stride, codes, given, record + (size_t)i * 4);
        else
            pack_record(4, stride, codes, given, record + (size_t)i * 4);
        QR_TRY(put_f16(p, scales + i * sizeof(uint16_t), c->scales[at], error));
        if (f->has_minimum) QR_TRY(put_f16(p, scales + (columns + i) * sizeof(uint16_t), c->minima[at], error));
    }
    return QUIRE_OK;
}

quire_status qr_projection_pack_codes(const qr_projection *p, const qr_weight_source *sources, uint32_t first,
                                      uint32_t count, void *scratch, char *group, quire_error *error)
{
    const code_columns c = columns_in(&p->shape, scratch);
    for (uint32_t column = 0; column < count;) {
        const qr_source_range from = qr_projection_source_of(sources, first + column, count - column);
        QR_TRY(read_range(p, &c, &from, column, error));
        column += from.count;
    }
    /* Record by record, so that each is written while in L1. */
    const uint32_t panel = p->format->panel_columns;
    for (uint32_t k = 0; k < p->shape.k; k += p->shape.codes.group)
        for (uint32_t column = 0; column < count; column += panel)
            QR_TRY(pack_panel(p, &c, k, column, qr_min_u32(panel, count - column),
                              group + record_offset(p, k, column / panel), error));
    return QUIRE_OK;
}
