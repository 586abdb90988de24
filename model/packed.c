#include "model/packed.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/config_reader.h"
#include "model/tensor_files.h"

/* ---- what config.json says ---- */

/* -1 and null: all inputs of a matrix. */
static uint32_t read_group(qr_config_reader *r, const json_t *settings)
{
    const int64_t group = qr_config_integer(r, settings, "group_size", -1, QR_MAX_WIDTH, -1);
    return group > 0 ? (uint32_t)group : 0;
}

static void read_gptq(qr_config_reader *r, const json_t *settings, qr_quantisation *q)
{
    const char *format = qr_config_string(r, settings, "checkpoint_format", "gptq");
    q->packing         = QR_PACKING_GPTQ;
    q->group           = read_group(r, settings);
    q->bits            = (uint32_t)qr_config_integer(r, settings, "bits", 1, 32, QR_REQUIRED);
    q->zero_add        = strcmp(format, "gptq") == 0;
    if (q->bits != 4 && q->bits != 8)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: gptq: %u bits are not supported, only 4 and 8", r->origin, q->bits);
    if (q->zero_add == 0 && strcmp(format, "gptq_v2") != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                    "%s: checkpoint_format: \"%.40s\" is not supported, only gptq and gptq_v2", r->origin, format);
    if (json_object_size(json_object_get(settings, "dynamic")) > 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: dynamic: settings of single matrices are not supported", r->origin);
}

static void read_awq(qr_config_reader *r, const json_t *settings, qr_quantisation *q)
{
    const char *version = qr_config_string(r, settings, "version", "gemm");
    q->packing          = QR_PACKING_AWQ;
    q->group            = read_group(r, settings);
    q->bits             = (uint32_t)qr_config_integer(r, settings, "bits", 1, 32, 4);
    if (q->bits != 4)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: awq: %u bits are not supported, only 4", r->origin, q->bits);
    if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: awq: version \"%.20s\" is not supported, only gemm", r->origin,
                    version);
}

static void read_compressed(qr_config_reader *r, const json_t *settings, qr_quantisation *q)
{
    const char *format = qr_config_string(r, settings, "format", "");
    void       *first  = json_object_iter((json_t *)(uintptr_t)json_object_get(settings, "config_groups"));
    q->group           = read_group(r, json_object_get(json_object_iter_value(first), "weights"));
    q->packing         = strcmp(format, "pack-quantized") == 0 ? QR_PACKING_PACKED : QR_PACKING_BYTES;
    if (q->packing == QR_PACKING_BYTES && strcmp(format, "int-quantized") != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                    "%s: format: \"%.40s\" is not supported, only pack-quantized and int-quantized", r->origin, format);
}

void qr_quantisation_read(qr_config_reader *r, const json_t *settings, qr_quantisation *q)
{
    const char *method = qr_config_string(r, settings, "quant_method", "gptq"); /* old files do not say */
    if (strcmp(method, "gptq") == 0)
        read_gptq(r, settings, q);
    else if (strcmp(method, "awq") == 0)
        read_awq(r, settings, q);
    else if (strcmp(method, "compressed-tensors") == 0)
        read_compressed(r, settings, q);
    else if (strcmp(method, "mxfp4") == 0)
        q->packing = QR_PACKING_MXFP4;
    else
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                    "%s: quant_method: \"%.40s\" is not supported, only gptq, awq, compressed-tensors and mxfp4",
                    r->origin, method);
}

/* ---- gathering ---- */

enum { WORD_BITS = 32 };

typedef struct gathering {
    qr_tensors            *files;
    const qr_quantisation *quantisation;
    bool                  *taken; /* [count]: parts that leave the table */
    quire_error           *error;
} gathering;

typedef struct layout {
    const char *codes, *scales, *zeros, *order, *shape; /* ends of the parts' names; NULL: there is none */
} layout;

static const layout layouts[] = {
    [QR_PACKING_GPTQ]   = {".qweight", ".scales", ".qzeros", ".g_idx", NULL},
    [QR_PACKING_AWQ]    = {".qweight", ".scales", ".qzeros", NULL, NULL},
    [QR_PACKING_PACKED] = {".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_g_idx", ".weight_shape"},
    [QR_PACKING_BYTES]  = {".weight", ".weight_scale", ".weight_zero_point", NULL, NULL},
};

static bool is(const qr_tensor *tensor, const char *format) { return strcmp(tensor->format->name, format) == 0; }

/* The part of that end beside `codes`, or one without a name; it leaves the table. */
static qr_tensor find_part(const gathering *g, const qr_tensor *codes, const char *codes_end, const char *end)
{
    char             name[QR_TENSORS_MAX_NAME + 32];
    const qr_tensor *part = NULL;
    if (end != NULL) {
        snprintf(name, sizeof name, "%.*s%s", (int)(strlen(codes->name) - strlen(codes_end)), codes->name, end);
        part = qr_tensors_find(g->files, name);
    }
    if (part == NULL) return (qr_tensor){.name = NULL};
    g->taken[part - g->files->tensors] = true;
    return *part;
}

static quire_status bad_part(const gathering *g, const qr_tensor *tensor, const char *what)
{
    return QR_BAD_TENSOR(g->error, qr_tensors_file_name(g->files, tensor), tensor, "%s at byte %llu", what,
                         (unsigned long long)tensor->begin);
}

static bool has_shape(const qr_tensor *tensor, uint64_t rows, uint64_t columns)
{
    return tensor->rank == 2 && tensor->shape[0] == rows && tensor->shape[1] == columns;
}

/* columns and k of a matrix, from its codes and, for "pack-quantized", the tensor that has them. */
static quire_status measure(const gathering *g, qr_packed *p)
{
    const uint64_t *shape = p->codes.shape, per_word = p->bits > 0 ? WORD_BITS / p->bits : 0;
    int64_t         given[2];
    switch (p->packing) {
    case QR_PACKING_GPTQ: p->k = shape[0] * per_word, p->columns = shape[1]; return QUIRE_OK;
    case QR_PACKING_AWQ: p->k = shape[0], p->columns = shape[1] * per_word; return QUIRE_OK;
    case QR_PACKING_BYTES: p->k = shape[1], p->columns = shape[0], p->bits = 8; return QUIRE_OK;
    default: break;
    }
    if (p->shape.name == NULL) return bad_part(g, &p->codes, "its weight_shape is missing");
    if (!is(&p->shape, "I64") || p->shape.end - p->shape.begin != sizeof given)
        return bad_part(g, &p->shape, "not two I64");
    QR_TRY(qr_tensors_read_bytes(g->files, &p->shape, 0, sizeof given, given, g->error));
    p->columns = (uint64_t)given[0];
    p->k       = (uint64_t)given[1];
    for (p->bits = 4; p->bits <= 8; p->bits += 4)
        if (p->k > 0 && p->k < UINT32_MAX &&
            has_shape(&p->codes, p->columns, qr_ceil_div_u64(p->k, WORD_BITS / p->bits)))
            return QUIRE_OK;
    return bad_part(g, &p->codes, "its shape is not that of weight_shape in 4 or 8 bits");
}

/* Groups by the scales: [groups][columns], or [columns][groups]. */
static quire_status count_groups(const gathering *g, qr_packed *p)
{
    const bool by_column = p->packing == QR_PACKING_PACKED || p->packing == QR_PACKING_BYTES;
    if (p->scales.name == NULL) return bad_part(g, &p->codes, "its scales are missing");
    if (p->scales.format->decode == NULL || p->scales.rank != 2 || p->scales.shape[by_column ? 0 : 1] != p->columns)
        return bad_part(g, &p->scales, "scales of another shape or type than the codes need");
    p->groups = p->scales.shape[by_column ? 1 : 0];
    if (p->groups == 0 || p->groups > p->k) return bad_part(g, &p->scales, "no scales, or more than inputs");
    p->group = qr_ceil_div_u64(p->k, p->groups);
    if (g->quantisation->group > 0 && qr_ceil_div_u64(p->k, g->quantisation->group) == p->groups)
        p->group = g->quantisation->group;
    if (qr_ceil_div_u64(p->k, p->group) != p->groups) return bad_part(g, &p->scales, "no even groups of inputs");
    return QUIRE_OK;
}

static quire_status check_zeros(const gathering *g, const qr_packed *p)
{
    const uint64_t per_word = WORD_BITS / p->bits, words = qr_ceil_div_u64(p->columns, per_word);
    const bool     bytes = p->packing == QR_PACKING_BYTES, packed = p->packing == QR_PACKING_PACKED;
    if (p->zeros.name == NULL)
        return packed || bytes ? QUIRE_OK : bad_part(g, &p->codes, "its zero points are missing");
    const bool shape = bytes    ? has_shape(&p->zeros, p->columns, p->groups)
                       : packed ? has_shape(&p->zeros, words, p->groups)
                                : has_shape(&p->zeros, p->groups, words);
    return shape && is(&p->zeros, bytes ? "I8" : "I32")
               ? QUIRE_OK
               : bad_part(g, &p->zeros, "zero points of another shape or type");
}

/* Whether an order says more than that groups follow each other. */
static quire_status read_order(const gathering *g, qr_packed *p)
{
    if (p->order.name == NULL) return QUIRE_OK;
    if (!is(&p->order, "I32") || p->order.rank != 1 || p->order.shape[0] != p->k)
        return bad_part(g, &p->order, "not one I32 for each input");
    const size_t bytes = p->k * sizeof(int32_t);
    int32_t     *order = qr_allocate(&g->files->allocator, bytes, 64);
    if (order == NULL) return qr_fail(g->error, QUIRE_ERR_NO_MEMORY, "%s: no memory", p->order.name);
    quire_status status = qr_tensors_read_bytes(g->files, &p->order, 0, bytes, order, g->error);
    for (uint64_t i = 0; i < p->k && status == QUIRE_OK; i++) {
        if (order[i] < 0 || (uint64_t)order[i] >= p->groups)
            status = bad_part(g, &p->order, "a group that has no scales");
        else if ((uint64_t)order[i] != i / p->group)
            p->ordered = true;
    }
    qr_deallocate(&g->files->allocator, order, bytes);
    return status;
}

static quire_status check_parts(const gathering *g, qr_packed *p)
{
    const bool bytes = p->packing == QR_PACKING_BYTES;
    if (p->codes.rank != 2 || !is(&p->codes, bytes ? "I8" : "I32"))
        return bad_part(g, &p->codes, "codes of another shape or type than expected");
    QR_TRY(measure(g, p));
    if (p->k == 0 || p->k > QR_MAX_WIDTH || p->columns == 0 || p->columns > QR_MAX_VOCAB)
        return bad_part(g, &p->codes, "dimensions that no matrix has");
    QR_TRY(count_groups(g, p));
    QR_TRY(check_zeros(g, p));
    return read_order(g, p);
}

/* The name of the whole replaces that of its codes, which is at least as long. */
static void rename_codes(const gathering *g, qr_tensor *codes, const char *end)
{
    const qr_tensor_file *file = &g->files->files[codes->file];
    char                 *name = file->names + (codes->name - file->names);
    strcpy(name + strlen(name) - strlen(end), ".weight");
}

static quire_status take_matrix(const gathering *g, uint32_t index, qr_packed *p)
{
    static const qr_tensor_format formats[][2] = {
        [QR_PACKING_GPTQ]   = {{"GPTQ-4", 1, 1, NULL, {0}, NULL}, {"GPTQ-8", 1, 1, NULL, {0}, NULL}},
        [QR_PACKING_AWQ]    = {{"AWQ-4", 1, 1, NULL, {0}, NULL}, {"AWQ-8", 1, 1, NULL, {0}, NULL}},
        [QR_PACKING_PACKED] = {{"INT4", 1, 1, NULL, {0}, NULL}, {"INT8", 1, 1, NULL, {0}, NULL}},
        [QR_PACKING_BYTES]  = {{"INT8", 1, 1, NULL, {0}, NULL}, {"INT8", 1, 1, NULL, {0}, NULL}},
    };
    const layout *l     = &layouts[g->quantisation->packing];
    qr_tensor    *codes = &g->files->tensors[index];
    *p                  = (qr_packed){.packing  = g->quantisation->packing,
                                      .bits     = g->quantisation->bits,
                                      .zero_add = g->quantisation->zero_add,
                                      .codes    = *codes,
                                      .scales   = find_part(g, codes, l->codes, l->scales),
                                      .zeros    = find_part(g, codes, l->codes, l->zeros),
                                      .order    = find_part(g, codes, l->codes, l->order),
                                      .shape    = find_part(g, codes, l->codes, l->shape)};
    QR_TRY(check_parts(g, p));
    codes->packed   = p;
    codes->format   = &formats[p->packing][p->bits == 8];
    codes->shape[0] = p->columns;
    codes->shape[1] = p->k;
    return QUIRE_OK;
}

static bool ends_with(const char *name, const char *end)
{
    const size_t length = strlen(name), tail = strlen(end);
    return length > tail && strcmp(name + length - tail, end) == 0;
}

/* Of "int-quantized", codes have the same name as weights that are not quantised. */
static bool is_codes(const gathering *g, const qr_tensor *tensor)
{
    const bool bytes = g->quantisation->packing == QR_PACKING_BYTES;
    return ends_with(tensor->name, layouts[g->quantisation->packing].codes) && (!bytes || is(tensor, "I8"));
}

static quire_status take_matrices(const gathering *g)
{
    qr_tensors *files = g->files;
    for (uint32_t i = 0, taken = 0; i < files->count; i++)
        if (is_codes(g, &files->tensors[i])) QR_TRY(take_matrix(g, i, &files->packed[taken++]));
    uint32_t kept = 0;
    for (uint32_t i = 0; i < files->count; i++) {
        if (g->taken[i]) continue;
        files->tensors[kept] = files->tensors[i];
        if (files->tensors[kept].packed != NULL)
            rename_codes(g, &files->tensors[kept], layouts[g->quantisation->packing].codes);
        kept++;
    }
    files->count = kept;
    QR_TRY(qr_tensors_check_names(files, 0, g->error));
    qr_tensors_sort(files);
    return QUIRE_OK;
}

quire_status qr_packed_gather(qr_tensors *files, const qr_quantisation *quantisation, quire_error *error)
{
    gathering g = {.files = files, .quantisation = quantisation, .error = error};
    if (quantisation->packing == QR_PACKING_NONE || quantisation->packing == QR_PACKING_MXFP4) return QUIRE_OK;
    for (uint32_t i = 0; i < files->count; i++) files->packed_count += is_codes(&g, &files->tensors[i]);
    const size_t bytes = files->count + 1;
    files->packed      = qr_allocate(&files->allocator, (files->packed_count + 1) * sizeof *files->packed, 64);
    g.taken            = qr_allocate(&files->allocator, bytes, 64);
    const quire_status status =
        g.taken != NULL && files->packed != NULL
            ? take_matrices(&g)
            : qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its matrices", qr_tensors_name(files));
    qr_deallocate(&files->allocator, g.taken, bytes);
    return status;
}

/* ---- reading ---- */

/* Rows of a matrix on their way: codes [count][k], scales and zeros [count][groups]. */
typedef struct rows {
    const qr_tensors *files;
    const qr_packed  *p;
    uint64_t          first, count;
    uint8_t          *codes;
    float            *scales;
    int16_t          *zeros;
    int32_t          *order; /* [k] */
    uint32_t         *words; /* a line of words, or of bytes */
    float            *line;  /* a line of scales */
    quire_error      *error;
} rows;

static uint64_t mask_of(const qr_packed *p) { return (UINT64_C(1) << p->bits) - 1; }

/* The place of a column in its word: AWQ deals columns 0 2 4 6 1 3 5 7 to the fields. */
static uint32_t field_of(const qr_packed *p, uint64_t column)
{
    static const uint8_t awq[] = {0, 4, 1, 5, 2, 6, 3, 7};
    const uint32_t       place = (uint32_t)(column % (WORD_BITS / p->bits));
    return (p->packing == QR_PACKING_AWQ ? awq[place] : place) * p->bits;
}

/* Words that hold the columns [first, first + count) of line `line` of a tensor of `width` words a line. */
static quire_status read_line(const rows *r, const qr_tensor *tensor, uint64_t line, uint64_t first, uint64_t count)
{
    const uint64_t width = tensor->shape[1];
    return qr_tensors_read_bytes(r->files, tensor, (line * width + first) * sizeof *r->words, count * sizeof *r->words,
                                 r->words, r->error);
}

/* gptq: a word has adjacent inputs of one column. */
static quire_status read_codes_gptq(const rows *r)
{
    const qr_packed *p        = r->p;
    const uint64_t   per_word = WORD_BITS / p->bits;
    for (uint64_t word = 0; word < p->k / per_word; word++) {
        QR_TRY(read_line(r, &p->codes, word, r->first, r->count));
        for (uint64_t c = 0; c < r->count; c++)
            for (uint64_t i = 0; i < per_word; i++)
                r->codes[c * p->k + word * per_word + i] = (uint8_t)(r->words[c] >> i * p->bits & mask_of(p));
    }
    return QUIRE_OK;
}

/* The columns' fields of one line of words: of an input's codes, or of a group's zeros. */
static quire_status read_columns(const rows *r, const qr_tensor *tensor, uint64_t line)
{
    const uint64_t per_word = WORD_BITS / r->p->bits, from = r->first / per_word;
    return read_line(r, tensor, line, from, qr_ceil_div_u64(r->first + r->count, per_word) - from);
}

static uint8_t column_of(const rows *r, uint64_t c)
{
    const uint64_t column = r->first + c, per_word = WORD_BITS / r->p->bits;
    return (uint8_t)(r->words[column / per_word - r->first / per_word] >> field_of(r->p, column) & mask_of(r->p));
}

static quire_status read_codes_awq(const rows *r)
{
    for (uint64_t i = 0; i < r->p->k; i++) {
        QR_TRY(read_columns(r, &r->p->codes, i));
        for (uint64_t c = 0; c < r->count; c++) r->codes[c * r->p->k + i] = column_of(r, c);
    }
    return QUIRE_OK;
}

static quire_status read_codes_packed(const rows *r)
{
    const qr_packed *p        = r->p;
    const uint64_t   per_word = WORD_BITS / p->bits;
    for (uint64_t c = 0; c < r->count; c++) {
        QR_TRY(read_line(r, &p->codes, r->first + c, 0, p->codes.shape[1]));
        for (uint64_t i = 0; i < p->k; i++)
            r->codes[c * p->k + i] = (uint8_t)(r->words[i / per_word] >> i % per_word * p->bits & mask_of(p));
    }
    return QUIRE_OK;
}

static quire_status read_codes(const rows *r)
{
    switch (r->p->packing) {
    case QR_PACKING_GPTQ: return read_codes_gptq(r);
    case QR_PACKING_AWQ: return read_codes_awq(r);
    case QR_PACKING_PACKED: return read_codes_packed(r);
    default: break;
    }
    QR_TRY(qr_tensors_read_bytes(r->files, &r->p->codes, r->first * r->p->k, r->count * r->p->k, r->codes, r->error));
    for (uint64_t i = 0; i < r->count * r->p->k; i++) r->codes[i] ^= 0x80; /* from -128..127 to 0..255 */
    return QUIRE_OK;
}

static quire_status read_scales(const rows *r)
{
    const qr_packed *p = r->p;
    if (p->packing == QR_PACKING_PACKED || p->packing == QR_PACKING_BYTES)
        return qr_tensors_read(r->files, &p->scales, r->first * p->groups, r->count * p->groups, r->scales, r->error);
    for (uint64_t g = 0; g < p->groups; g++) {
        QR_TRY(qr_tensors_read(r->files, &p->scales, g * p->columns + r->first, r->count, r->line, r->error));
        for (uint64_t c = 0; c < r->count; c++) r->scales[c * p->groups + g] = r->line[c];
    }
    return QUIRE_OK;
}

/* Signed bytes: shifted as the codes are. */
static quire_status read_zeros_bytes(const rows *r)
{
    int8_t        *bytes = (int8_t *)r->words;
    const uint64_t count = r->count * r->p->groups;
    QR_TRY(qr_tensors_read_bytes(r->files, &r->p->zeros, r->first * r->p->groups, count, bytes, r->error));
    for (uint64_t i = 0; i < count; i++) r->zeros[i] = (int16_t)(bytes[i] + 128);
    return QUIRE_OK;
}

/* "pack-quantized": lines are words of columns, a place in them a group. */
static quire_status read_zeros_packed(const rows *r)
{
    const uint64_t per_word = WORD_BITS / r->p->bits, groups = r->p->groups;
    for (uint64_t c = 0; c < r->count; c++) {
        QR_TRY(read_line(r, &r->p->zeros, (r->first + c) / per_word, 0, groups));
        for (uint64_t g = 0; g < groups; g++)
            r->zeros[c * groups + g] = (int16_t)(r->words[g] >> field_of(r->p, r->first + c) & mask_of(r->p));
    }
    return QUIRE_OK;
}

static quire_status read_zeros(const rows *r)
{
    const qr_packed *p = r->p;
    if (p->zeros.name == NULL) {
        for (uint64_t i = 0; i < r->count * p->groups; i++) r->zeros[i] = (int16_t)(1 << (p->bits - 1));
        return QUIRE_OK;
    }
    if (p->packing == QR_PACKING_BYTES) return read_zeros_bytes(r);
    if (p->packing == QR_PACKING_PACKED) return read_zeros_packed(r);
    for (uint64_t g = 0; g < p->groups; g++) {
        QR_TRY(read_columns(r, &p->zeros, g));
        for (uint64_t c = 0; c < r->count; c++)
            r->zeros[c * p->groups + g] = (int16_t)((column_of(r, c) + p->zero_add) & mask_of(p));
    }
    return QUIRE_OK;
}

static quire_status read_groups(const rows *r)
{
    for (uint64_t i = 0; i < r->p->k; i++) r->order[i] = (int32_t)(i / r->p->group);
    if (!r->p->ordered) return QUIRE_OK;
    QR_TRY(qr_tensors_read_bytes(r->files, &r->p->order, 0, r->p->k * sizeof *r->order, r->order, r->error));
    for (uint64_t i = 0; i < r->p->k; i++) /* checked when the files were opened; they may have changed */
        if (r->order[i] < 0 || (uint64_t)r->order[i] >= r->p->groups)
            return qr_fail(r->error, QUIRE_ERR_IO, "%s: the file was changed while it was read", r->p->order.name);
    return QUIRE_OK;
}

static quire_status read_parts(const rows *r)
{
    QR_TRY(read_codes(r));
    QR_TRY(read_scales(r));
    QR_TRY(read_zeros(r));
    return read_groups(r);
}

static void lay_out(rows *r, qr_arena *arena)
{
    const qr_packed *p     = r->p;
    const uint64_t   cells = r->count * p->groups;
    r->codes               = QR_ARENA_TAKE(arena, uint8_t, r->count * p->k);
    r->scales              = QR_ARENA_TAKE(arena, float, cells);
    r->zeros               = QR_ARENA_TAKE(arena, int16_t, cells);
    r->order               = QR_ARENA_TAKE(arena, int32_t, p->k);
    r->line                = QR_ARENA_TAKE(arena, float, r->count);
    r->words               = QR_ARENA_TAKE(arena, uint32_t, qr_max_u64(qr_max_u64(p->k, cells), r->count + 1));
}

/* ---- codes ---- */

/* Groups of other sizes, and inputs out of order, are read as values. 8-bit codes have no minimum in products. */
qr_code_format qr_packed_codes(const qr_packed *p)
{
    const bool zeros = p->zeros.name != NULL, sizes = p->group == 32 || p->group == 64 || p->group == 128;
    if (p->ordered || !sizes || (p->bits == 8 && zeros)) return (qr_code_format){0};
    return (qr_code_format){.bits = p->bits, .group = (uint32_t)p->group, .has_minimum = zeros};
}

quire_status qr_packed_read_codes(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                  uint8_t *codes, float *scales, float *minima, quire_error *error)
{
    qr_arena         arena = {0};
    const qr_packed *p     = tensor->packed;
    const uint64_t   cells = count * p->groups;
    rows             r     = {.files = files, .p = p, .first = first, .count = count, .error = error};
    lay_out(&r, &arena);
    QR_TRY(qr_arena_create(&arena, &files->allocator, tensor->name, error));
    lay_out(&r, &arena);
    const quire_status status = read_parts(&r);
    if (status == QUIRE_OK) {
        memcpy(scales, r.scales, cells * sizeof *scales);
        for (uint64_t i = 0; i < count * p->k; i++)
            codes[i] = p->bits == 8 ? r.codes[i] ^ 0x80 : r.codes[i]; /* signed, if 8 bits */
        for (uint64_t i = 0; i < cells && minima != NULL; i++) minima[i] = -r.scales[i] * (float)r.zeros[i];
    }
    qr_arena_destroy(&arena);
    return status;
}

/* ---- values ---- */

quire_status qr_packed_read(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                            float *out, quire_error *error)
{
    qr_arena         arena = {0};
    const qr_packed *p     = tensor->packed;
    rows             r     = {.files = files, .p = p, .first = first, .count = count, .error = error};
    lay_out(&r, &arena);
    QR_TRY(qr_arena_create(&arena, &files->allocator, tensor->name, error));
    lay_out(&r, &arena);
    const quire_status status = read_parts(&r);
    for (uint64_t c = 0; c < count && status == QUIRE_OK; c++)
        for (uint64_t i = 0; i < p->k; i++) {
            const uint64_t g  = c * p->groups + (uint64_t)r.order[i];
            out[c * p->k + i] = r.scales[g] * (float)(r.codes[c * p->k + i] - r.zeros[g]);
        }
    qr_arena_destroy(&arena);
    return status;
}
