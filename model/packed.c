#include "model/packed.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/config_reader.h"
#include "model/tensor_files.h"

/* ---- what config.json says ---- */

enum { UNKNOWN_GROUP = -2 };

/* -1: all inputs of a matrix. */
static uint32_t read_group(qr_config_reader *r, const json_t *settings)
{
    const int64_t group = qr_config_integer(r, settings, "group_size", -1, QR_MAX_WIDTH, UNKNOWN_GROUP);
    if (group == 0) QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: group_size: 0 is neither -1 nor above 0", r->origin);
    if (group == UNKNOWN_GROUP) return 0;
    return group > 0 ? (uint32_t)group : UINT32_MAX;
}

static void read_gptq(qr_config_reader *r, const json_t *settings, qr_quantisation *q)
{
    const char *format = qr_config_string(r, settings, "checkpoint_format", "gptq");
    q->packing         = QR_PACKING_GPTQ;
    q->group           = read_group(r, settings);
    q->bits            = (uint32_t)qr_config_integer(r, settings, "bits", 1, 32, QR_REQUIRED);
    q->zero_add        = strcmp(format, "gptq") == 0;
    q->ordered         = qr_config_boolean_of(r, settings, "desc_act", false);
    q->has_zeros       = true;
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
    q->has_zeros        = true;
    qr_config_refuse(r, !qr_config_boolean_of(r, settings, "zero_point", true), "zero_point", "awq has zero points");
    if (q->bits != 4)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: awq: %u bits are not supported, only 4", r->origin, q->bits);
    if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: awq: version \"%.20s\" is not supported, only gemm", r->origin,
                    version);
}

static void refuse_other(qr_config_reader *r, const json_t *object, const char *key, const char *only, const char *also)
{
    const char *value = qr_config_string(r, object, key, only);
    if (strcmp(value, only) != 0 && strcmp(value, also) != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: %s: \"%.40s\" is not supported, only %s%s%s", r->origin, key, value,
                    only, also[0] != '\0' ? " and " : "", also);
}

/* "group" or, older, true and "dynamic"; others leave the inputs of a group beside each other. */
static bool has_order(qr_config_reader *r, const json_t *weights)
{
    const json_t *given = json_object_get(weights, "actorder");
    if (json_is_boolean(given)) return json_is_true(given);
    const char *order = qr_config_string(r, weights, "actorder", "static");
    return strcmp(order, "group") == 0 || strcmp(order, "dynamic") == 0;
}

/* What it says of codes, scales and zero points, all of it or none: a key that is not there is whatever they are. */
static void read_weights(qr_config_reader *r, const json_t *weights, qr_quantisation *q)
{
    const bool symmetric = qr_config_boolean_of(r, weights, "symmetric", false);
    q->group             = read_group(r, weights);
    q->bits              = (uint32_t)qr_config_integer(r, weights, "num_bits", 1, 32, 0);
    q->ordered           = has_order(r, weights);
    q->has_not_zeros     = symmetric;
    q->has_zeros         = !symmetric && json_object_get(weights, "symmetric") != NULL;
    refuse_other(r, weights, "type", "int", "");
    refuse_other(r, weights, "strategy", "group", "channel");
    if (strcmp(qr_config_string(r, weights, "strategy", "group"), "channel") == 0) {
        if (q->group > 0 && q->group != UINT32_MAX)
            QR_COMPLAIN(r, QUIRE_ERR_FORMAT, "%s: group_size: %u contradicts strategy \"channel\"", r->origin,
                        q->group);
        q->group = UINT32_MAX;
    }
    const bool bytes = q->packing == QR_PACKING_BYTES;
    if (q->bits > 0 && (bytes ? q->bits > 8 : q->bits != 4 && q->bits != 8))
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: num_bits: %u is not supported, only %s", r->origin, q->bits,
                    bytes ? "up to 8" : "4 and 8");
}

/* Of several groups of matrices which one a matrix belongs to is not looked up: they must say the same of weights. */
static const json_t *find_weights(qr_config_reader *r, const json_t *settings)
{
    const json_t *first = NULL, *group;
    const char   *name;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(settings, "config_groups"), name, group)
    {
        const json_t *weights = json_object_get(group, "weights");
        if (first == NULL) first = weights;
        if (!json_equal((json_t *)(uintptr_t)first, (json_t *)(uintptr_t)weights))
            QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED, "%s: config_groups: \"%.40s\" has other weights than the first group",
                        r->origin, name);
    }
    return first;
}

static void read_compressed(qr_config_reader *r, const json_t *settings, qr_quantisation *q)
{
    static const char *const refused[] = {"kv_cache_scheme", "transform_config"};
    const char              *format    = qr_config_string(r, settings, "format", "");
    q->packing                         = strcmp(format, "pack-quantized") == 0 ? QR_PACKING_PACKED : QR_PACKING_BYTES;
    if (q->packing == QR_PACKING_BYTES && strcmp(format, "int-quantized") != 0)
        QR_COMPLAIN(r, QUIRE_ERR_UNSUPPORTED,
                    "%s: format: \"%.40s\" is not supported, only pack-quantized and int-quantized", r->origin, format);
    const json_t *weights = find_weights(r, settings);
    if (json_object_size(weights) > 0) read_weights(r, weights, q);
    refuse_other(r, json_object_get(settings, "sparsity_config"), "format", "dense", "");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *value = json_object_get(settings, refused[i]);
        const bool    empty =
            value == NULL || json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0);
        qr_config_refuse(r, !empty, refused[i], "not supported");
    }
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

/* Named by its own name, which is that of the codes with another end. */
static quire_status missing_part(const gathering *g, const qr_tensor *codes, const char *end)
{
    const char *codes_end = layouts[g->quantisation->packing].codes;
    return qr_fail(g->error, QUIRE_ERR_FORMAT, "%s: tensor \"%.*s%s\": missing, quantization_config asks for it",
                   qr_tensors_file_name(g->files, codes), (int)qr_min_u64(strlen(codes->name) - strlen(codes_end), 80),
                   codes->name, end);
}

static bool has_shape(const qr_tensor *tensor, uint64_t rows, uint64_t columns)
{
    return tensor->rank == 2 && tensor->shape[0] == rows && tensor->shape[1] == columns;
}

/* Of a part whose shape is not what the others need. */
static quire_status misshapen(const gathering *g, const qr_tensor *tensor, uint64_t rows, uint64_t columns,
                              const char *whence)
{
    char found[100];
    qr_tensors_format_shape(found, sizeof found, tensor);
    return QR_BAD_TENSOR(g->error, qr_tensors_file_name(g->files, tensor), tensor,
                         "its shape is %s, %s implies [%llu, %llu], at byte %llu", found, whence,
                         (unsigned long long)rows, (unsigned long long)columns, (unsigned long long)tensor->begin);
}

/* columns and k of a matrix, from its codes and, for "pack-quantized", the tensor that has them. */
static quire_status measure(const gathering *g, qr_packed *p)
{
    const uint64_t *shape = p->codes.shape, per_word = p->bits > 0 ? WORD_BITS / p->bits : 0;
    const uint32_t  wanted = g->quantisation->bits;
    int64_t         given[2];
    switch (p->packing) {
    case QR_PACKING_GPTQ: p->k = shape[0] * per_word, p->columns = shape[1]; return QUIRE_OK;
    case QR_PACKING_AWQ: p->k = shape[0], p->columns = shape[1] * per_word; return QUIRE_OK;
    case QR_PACKING_BYTES: p->k = shape[1], p->columns = shape[0], p->bits = 8; return QUIRE_OK;
    default: break;
    }
    if (p->shape.name == NULL) return missing_part(g, &p->codes, layouts[p->packing].shape);
    if (!is(&p->shape, "I64") || p->shape.end - p->shape.begin != sizeof given)
        return bad_part(g, &p->shape, "not two I64");
    QR_TRY(qr_tensors_read_bytes(g->files, &p->shape, 0, sizeof given, given, g->error));
    p->columns = (uint64_t)given[0];
    p->k       = (uint64_t)given[1];
    for (p->bits = 4; p->bits <= 8; p->bits += 4)
        if ((wanted == 0 || wanted == p->bits) && p->k > 0 && p->k < UINT32_MAX &&
            has_shape(&p->codes, p->columns, qr_ceil_div_u64(p->k, WORD_BITS / p->bits)))
            return QUIRE_OK;
    if (wanted > 0 && p->k > 0 && p->k <= QR_MAX_WIDTH)
        return misshapen(g, &p->codes, p->columns, qr_ceil_div_u64(p->k, WORD_BITS / wanted),
                         "quantization_config's num_bits");
    return bad_part(g, &p->codes, "its shape is not that of weight_shape in 4 or 8 bits");
}

static bool by_column(const qr_packed *p) { return p->packing == QR_PACKING_PACKED || p->packing == QR_PACKING_BYTES; }

/* Of k inputs; 0: config.json does not say. */
static uint64_t groups_of(const gathering *g, uint64_t k)
{
    return g->quantisation->group > 0 ? qr_ceil_div_u64(k, g->quantisation->group) : 0;
}

/* gptq, awq: whether scales and zero points have the same columns, and so the codes are those that are wrong. */
static bool scales_and_zeros_agree(const qr_packed *p)
{
    const uint64_t per_word = WORD_BITS / p->bits;
    return !by_column(p) && p->zeros.name != NULL && p->zeros.rank == 2 && p->zeros.shape[0] == p->scales.shape[0] &&
           p->zeros.shape[1] == qr_ceil_div_u64(p->scales.shape[1], per_word);
}

static quire_status check_columns(const gathering *g, const qr_packed *p)
{
    const uint64_t *shape = p->scales.shape, columns = shape[by_column(p) ? 0 : 1];
    if (p->scales.format->decode == NULL || p->scales.rank != 2)
        return bad_part(g, &p->scales, "scales of another shape or type than the codes need");
    if (columns == p->columns) return QUIRE_OK;
    if (!scales_and_zeros_agree(p))
        return misshapen(g, &p->scales, by_column(p) ? p->columns : shape[0], by_column(p) ? shape[1] : p->columns,
                         layouts[p->packing].codes);
    return misshapen(g, &p->codes, p->codes.shape[0],
                     p->packing == QR_PACKING_AWQ ? qr_ceil_div_u64(columns, WORD_BITS / p->bits) : columns,
                     layouts[p->packing].scales);
}

/* Groups by the scales: [groups][columns], or [columns][groups]. */
static quire_status count_groups(const gathering *g, qr_packed *p)
{
    const uint64_t wanted = groups_of(g, p->k);
    p->groups             = p->scales.shape[by_column(p) ? 1 : 0];
    if (wanted > 0 && p->groups != wanted)
        return misshapen(g, &p->scales, by_column(p) ? p->columns : wanted, by_column(p) ? wanted : p->columns,
                         "quantization_config's group_size");
    if (p->groups == 0 || p->groups > p->k) return bad_part(g, &p->scales, "no scales, or more than inputs");
    const uint32_t given = g->quantisation->group;
    p->group             = given > 0 && given != UINT32_MAX ? given : qr_ceil_div_u64(p->k, p->groups);
    if (qr_ceil_div_u64(p->k, p->group) != p->groups) return bad_part(g, &p->scales, "no even groups of inputs");
    return QUIRE_OK;
}

static quire_status check_zeros(const gathering *g, const qr_packed *p)
{
    const uint64_t per_word = WORD_BITS / p->bits, words = qr_ceil_div_u64(p->columns, per_word);
    const bool     bytes = p->packing == QR_PACKING_BYTES, packed = p->packing == QR_PACKING_PACKED;
    const uint64_t rows    = bytes    ? p->columns
                             : packed ? words
                                      : p->groups,
                   columns = bytes || packed ? p->groups : words;
    if (p->zeros.name == NULL)
        return g->quantisation->has_zeros ? missing_part(g, &p->codes, layouts[p->packing].zeros) : QUIRE_OK;
    if (g->quantisation->has_not_zeros)
        return bad_part(g, &p->zeros, "quantization_config says symmetric, which has no zero points");
    if (!is(&p->zeros, bytes ? "I8" : "I32")) return bad_part(g, &p->zeros, "zero points of another type");
    return has_shape(&p->zeros, rows, columns) ? QUIRE_OK
                                               : misshapen(g, &p->zeros, rows, columns, layouts[p->packing].scales);
}

/* An order of another length than the codes: whose number of inputs has as many groups as there are scales is right. */
static quire_status check_order(const gathering *g, const qr_packed *p)
{
    const qr_tensor *order = &p->order;
    if (order->name == NULL) {
        const bool needed = g->quantisation->ordered && p->scales.shape[by_column(p) ? 1 : 0] > 1;
        return needed ? missing_part(g, &p->codes, layouts[p->packing].order) : QUIRE_OK;
    }
    if (!is(order, "I32") || order->rank != 1) return bad_part(g, order, "not one I32 for each input");
    if (order->shape[0] == p->k) return QUIRE_OK;
    const uint64_t inputs = order->shape[0], per_word = WORD_BITS / p->bits;
    if (p->packing != QR_PACKING_GPTQ || groups_of(g, inputs) != p->scales.shape[0])
        return bad_part(g, order, "not one I32 for each input");
    return misshapen(g, &p->codes, qr_ceil_div_u64(inputs, per_word), p->codes.shape[1], layouts[p->packing].order);
}

/* Whether an order says more than that groups follow each other. */
static quire_status read_order(const gathering *g, qr_packed *p)
{
    if (p->order.name == NULL) return QUIRE_OK;
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
    if (p->scales.name == NULL) return missing_part(g, &p->codes, layouts[p->packing].scales);
    QR_TRY(check_columns(g, p));
    QR_TRY(check_order(g, p));
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
