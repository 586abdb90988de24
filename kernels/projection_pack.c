/* Packing: columns of W into panels, bf16 or int8 on the way. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "kernels/projection_parts.h"

/* Columns [first, first + count) of the sources standing one after the other. */
static quire_status read_columns(const qr_projection *p, const qr_weight_source *sources, uint32_t first,
                                 uint32_t count, float *out, quire_error *error)
{
    while (count > 0) {
        const qr_source_range from = qr_projection_source_of(sources, first, count);
        QR_TRY(from.source->read(from.source->context, from.first, from.count, out, error));
        out += (size_t)from.count * p->shape.k;
        count -= from.count;
        first += from.count;
    }
    return QUIRE_OK;
}

/* Element (column, 0) of a group. */
static size_t panel_offset(const qr_projection *p, uint32_t column)
{
    const qr_panel_format *f = p->format;
    if (p->plain) return (size_t)column * p->k;
    const uint32_t in_panel = column % f->panel_columns;
    const size_t   panel    = (size_t)(column / f->panel_columns) * f->panel_columns * p->k;
    if (!f->tiled) return panel + in_panel * f->step;
    return panel +
           (in_panel / QR_TILE_COLUMNS * QR_TILE_STEPS * QR_TILE_COLUMNS + in_panel % QR_TILE_COLUMNS) * f->step;
}

/* From there to that column's element at the first k of step number `step`. */
static size_t step_offset(const qr_projection *p, uint32_t step)
{
    const qr_panel_format *f = p->format;
    if (p->plain) return step;
    if (!f->tiled) return (size_t)step * f->panel_columns * f->step;
    const uint32_t tile = step / QR_TILE_STEPS, in_tile = step % QR_TILE_STEPS;
    return ((size_t)tile * QR_TILE_STEPS * f->panel_columns + in_tile * QR_TILE_COLUMNS) * f->step;
}

/* x to nearest even for |x| below 2^22, without the call that lrintf is on the baseline instruction set: the sum with
 * 1.5 * 2^23 has the integer in its low bits. */
static inline int32_t nearest(float x)
{
    const float magic = x + 0x1.8p23f;
    int32_t     bits;
    memcpy(&bits, &magic, sizeof bits);
    return bits - 0x4b400000;
}

enum { PACK_RUN = 64 }; /* k at a time, so that the lines of a panel are written while in L1 */

/* Elements [from, to) of one column of W into its panel; from is a multiple of the step. */
static void pack_run(const qr_projection *p, void *group, uint32_t column, const float *w, uint32_t from, uint32_t to,
                     float to_code)
{
    const uint32_t step  = p->plain ? 1 : p->format->step;
    const size_t   first = panel_offset(p, column);
    for (uint32_t k = from; k < to; k += step) {
        const size_t at = first + step_offset(p, k / step);
        for (uint32_t i = 0; i < step && k + i < to; i++) switch (p->shape.dtype) {
            case QR_F32: ((float *)group)[at + i] = w[k + i]; break;
            case QR_BF16: ((qr_bf16 *)group)[at + i] = qr_bf16_of_f32(w[k + i]); break;
            default: ((int8_t *)group)[at + i] = (int8_t)nearest(w[k + i] * to_code); break;
            }
    }
}

enum { PAIR_BYTES = 2 * sizeof(qr_bf16) };

/* The same of a column that is bf16 already, where a step is one pair: whole pairs are moved. `to` is the column's
 * place in its panel. */
static void pack_pairs(const qr_projection *p, char *to, const char *column, uint32_t from, uint32_t end)
{
    for (uint32_t pair = from / 2; pair < end / 2; pair++)
        memcpy(to + step_offset(p, pair) * sizeof(qr_bf16), column + (size_t)pair * PAIR_BYTES, PAIR_BYTES);
}

static bool packs_pairs(const qr_projection *p)
{
    return p->shape.dtype == QR_BF16 && !p->plain && p->format->step == 2 && p->shape.k % 2 == 0;
}

/* Each column in its own place: bf16 takes half of it, and writing stays behind reading. */
static void narrow_columns(const qr_projection *p, float *rows, uint32_t columns)
{
    const uint32_t k = p->shape.k;
    for (uint32_t c = 0; c < columns; c++) {
        float *const  row = rows + (size_t)c * k;
        const qr_rows out = {.data = row, .dtype = QR_BF16, .dim = k, .stride = k};
        p->context->kernels->convert(&out, 0, row);
    }
}

static void pack_group_of_pairs(const qr_projection *p, char *to, float *rows, uint32_t columns)
{
    const uint32_t k = p->shape.k;
    narrow_columns(p, rows, columns);
    for (uint32_t from = 0; from < k; from += PACK_RUN)
        for (uint32_t c = 0; c < columns; c++)
            pack_pairs(p, to + panel_offset(p, c) * sizeof(qr_bf16), (const char *)(rows + (size_t)c * k), from,
                       qr_min_u32(from + PACK_RUN, k));
}

/* Symmetric int8 of one column: its scale, 127 / its greatest magnitude, and -128 * the sum of its codes. */
static float quantize_column(const float *w, uint32_t k, float *scale, int32_t *compensation)
{
    float greatest = 0.0f;
    for (uint32_t i = 0; i < k; i++) greatest = fabsf(w[i]) > greatest ? fabsf(w[i]) : greatest;
    const float to_code = greatest > 0.0f ? 127.0f / greatest : 0.0f;
    int32_t     sum     = 0;
    for (uint32_t i = 0; i < k; i++) sum += nearest(w[i] * to_code);
    *scale        = greatest / 127.0f;
    *compensation = -128 * sum;
    return to_code;
}

static void pack_group(const qr_projection *p, const qr_projection_share *s, uint32_t group, float *rows,
                       uint32_t columns)
{
    float to_code[QR_GROUP_COLUMNS] = {0};
    char *to                        = s->memory + group * qr_group_bytes(p);
    if (packs_pairs(p)) {
        pack_group_of_pairs(p, to, rows, columns);
        return;
    }
    if (p->shape.dtype == QR_INT8) {
        int32_t *compensation = qr_compensation_of(p, s) + group * QR_GROUP_COLUMNS;
        float   *scales       = qr_column_scales_of(p, s) + group * QR_GROUP_COLUMNS;
        memset(compensation, 0, QR_GROUP_COLUMNS * sizeof *compensation);
        memset(scales, 0, QR_GROUP_COLUMNS * sizeof *scales);
        for (uint32_t c = 0; c < columns; c++)
            to_code[c] = quantize_column(rows + (size_t)c * p->shape.k, p->shape.k, &scales[c], &compensation[c]);
    }
    for (uint32_t k = 0; k < p->shape.k; k += PACK_RUN)
        for (uint32_t c = 0; c < columns; c++)
            pack_run(p, to, c, rows + (size_t)c * p->shape.k, k, qr_min_u32(k + PACK_RUN, p->shape.k), to_code[c]);
}

/* Columns [first, first + count) of the sources into packed group number `group`. */
static quire_status pack_columns(const qr_projection *p, const qr_projection_share *s, const qr_weight_source *sources,
                                 uint32_t first, uint32_t group, uint32_t count, float *rows, quire_error *error)
{
    char *to = s->memory + group * qr_group_bytes(p);
    if (count < QR_GROUP_COLUMNS || p->shape.k < p->k) memset(to, 0, qr_group_bytes(p)); /* what nothing is packed to */
    if (qr_has_scale_groups(&p->shape)) return qr_projection_pack_codes(p, sources, first, count, rows, to, error);
    QR_TRY(read_columns(p, sources, first, count, rows, error));
    pack_group(p, s, group, rows, count);
    return QUIRE_OK;
}

static quire_status check_sources(const qr_projection *p, const qr_weight_source *sources, uint32_t count,
                                  quire_error *error)
{
    uint64_t   columns = 0;
    const bool gated   = p->shape.gated;
    bool       fits    = !gated || count == 2;
    for (uint32_t i = 0; i < count; i++) {
        columns += sources[i].columns;
        fits = fits && (!gated || sources[i].columns == p->shape.columns);
    }
    if (fits && columns == (uint64_t)p->shape.columns * p->halves) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: %u sources of %llu output features, expected %u%s", p->shape.name,
                   count, (unsigned long long)columns, p->shape.columns, gated ? " of gate and as many of up" : "");
}

quire_status qr_projection_pack(qr_projection *p, uint32_t thread, void *memory, const qr_weight_source *sources,
                                uint32_t source_count, quire_error *error)
{
    qr_projection_share *s = &p->shards[thread];
    float *rows = (float *)(void *)(p->context->scratch[thread].memory + qr_projection_layout_scratch(p, s).own_x);
    QR_TRY(check_sources(p, sources, source_count, error));
    s->memory = memory;
    for (uint32_t group = 0; group < s->group_count; group++) {
        const uint32_t first = (s->first_group + group) * QR_GROUP_COLUMNS;
        const uint32_t count = qr_min_u32(QR_GROUP_COLUMNS, p->shape.columns - first);
        for (uint32_t half = 0; half < p->halves; half++) {
            const uint32_t from = half * p->shape.columns + first; /* the up half is the second source */
            QR_TRY(pack_columns(p, s, sources, from, group * p->halves + half, count, rows, error));
        }
    }
    return QUIRE_OK;
}
