/* What the families declare with, and the two runs that need no network: counting and checking. */
#include "model/declare.h"

#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"
#include "model/family.h"
#include "model/tally.h"

/* ---- tensors ---- */

static void visit(qr_declaration *d, qr_tensor_spec spec, const char *name, const char *suffix, qr_matrix *matrix_out)
{
    if (d->visit == NULL || d->status != QUIRE_OK) return;
    char full[192];
    snprintf(full, sizeof full, "%s%s%s", d->prefix, name, suffix);
    spec.name = full;
    d->status = d->visit(d->context, &spec, matrix_out, d->error);
}

static void tensor(qr_declaration *d, qr_tensor_spec spec, const char *name, const char *suffix, qr_matrix *matrix_out)
{
    d->parameter_count += (uint64_t)spec.rows * spec.columns;
    visit(d, spec, name, suffix, matrix_out);
}

static void read_table(qr_declaration *d, float *into, const qr_tensor_spec *spec, const char *name, const char *suffix)
{
    qr_matrix found;
    tensor(d, *spec, name, suffix, &found);
    if (into != NULL && d->status == QUIRE_OK) d->status = qr_matrix_read(&found, 0, spec->rows, into, d->error);
}

float *qr_declare_floats(qr_declaration *d, size_t count) { return QR_ARENA_TAKE(d->arena, float, count); }

const float *qr_declare_norm(qr_declaration *d, uint32_t count, const char *name)
{
    const float offset = d->architecture->norms_less_one ? 1 : 0;
    float      *norm   = qr_declare_floats(d, count);
    read_table(d, norm, &(qr_tensor_spec){.rank = 1, .rows = 1, .columns = count, .dtype = QR_F32}, name, "");
    for (uint32_t i = 0; norm != NULL && offset != 0 && i < count; i++) norm[i] += offset;
    return norm;
}

qr_norm qr_declare_layer_norm(qr_declaration *d, uint32_t count, const char *name)
{
    float *weight = qr_declare_floats(d, count), *bias = qr_declare_floats(d, count);
    read_table(d, weight, &(qr_tensor_spec){.rank = 1, .rows = 1, .columns = count}, name, ".weight");
    read_table(d, bias, &(qr_tensor_spec){.rank = 1, .rows = 1, .columns = count, .scale = QR_RANDOM_BIAS}, name,
               ".bias");
    return (qr_norm){weight, bias};
}

const float *qr_declare_table(qr_declaration *d, uint32_t rows, uint32_t columns, float scale, const char *name)
{
    float *table = qr_declare_floats(d, (size_t)rows * columns);
    read_table(d, table,
               &(qr_tensor_spec){.rank = 2, .rows = rows, .columns = columns, .scale = scale, .dtype = QR_F32}, name,
               "");
    return table;
}

/* MXFP4 is two tensors: codes, two a byte and 32 to a block, and the blocks' exponents. */
static void visit_mxfp4(qr_declaration *d, qr_tensor_spec spec, const char *name, qr_matrix *stack_out)
{
    qr_matrix exponents = {0};
    spec.form           = QR_MATRIX_MXFP4;
    visit(d, spec, name, "_blocks", stack_out);
    spec.form = QR_MATRIX_EXPONENTS;
    visit(d, spec, name, "_scales", &exponents);
    stack_out->exponents = exponents.tensor;
}

void qr_declare_stack(qr_declaration *d, qr_matrix *stack_out, uint32_t count, uint32_t rows, uint32_t columns,
                      const char *name)
{
    const qr_tensor_spec spec = {.rank    = 3,
                                 .stack   = count,
                                 .rows    = rows,
                                 .columns = columns,
                                 .scale   = qr_random_scale(columns),
                                 .form    = QR_MATRIX_COLUMNS};
    *stack_out                = (qr_matrix){.rows = rows, .columns = columns};
    d->parameter_count += (uint64_t)count * rows * columns;
    if (d->architecture->mxfp4_experts)
        visit_mxfp4(d, spec, name, stack_out);
    else
        visit(d, spec, name, "", stack_out);
}

/* ---- projections ---- */

float qr_random_scale(uint32_t inputs) { return (float)(1 / sqrt((double)inputs)); }

/* Leaves the share's columns of the shape. */
static void cut_columns(const qr_declaration *d, qr_linear *linear, qr_cut cut)
{
    if (d->share == NULL || d->share->ranks == 1) return;
    linear->span_count = qr_share_spans(d->architecture, d->share, cut, linear->spans);
    if (linear->span_count > 0) linear->shape.columns = 0;
    for (uint32_t i = 0; i < linear->span_count; i++) linear->shape.columns += linear->spans[i].count;
}

static void add_linear(qr_declaration *d, qr_linear *linear, const qr_projection_shape *shape, qr_cut cut)
{
    *linear = (qr_linear){.shape = *shape};
    cut_columns(d, linear, cut);
    if (linear->span_count > 0 && linear->shape.columns == 0) return; /* the share has none */
    if (d->status == QUIRE_OK) d->status = qr_projection_check(&linear->shape, d->error);
    d->packed_bytes += qr_projection_packed_bytes(&linear->shape);
    if (d->arena->base == NULL) return;
    qr_parameters *p                                             = d->parameters;
    *(p->last_linear ? &p->last_linear->next : &p->first_linear) = linear;
    p->last_linear                                               = linear;
}

/* What the files store, where products can read that, else what the others are loaded as. */
static qr_code_format kept_or(const qr_declaration *d, const qr_code_format *stored, const qr_code_format *otherwise)
{
    const bool all = d->weights->keeps_codes;
    if (stored->bits == 4 || (stored->bits == 8 && all)) return *stored;
    return all ? (qr_code_format){.bits = 8, .group = 32} : *otherwise;
}

/* One format for all that is packed side by side. */
static qr_code_format codes_of(const qr_declaration *d, const qr_projection_shape *shape, const qr_linear_part *parts,
                               uint32_t count)
{
    qr_code_format stored = {0};
    if (shape->codes.bits == 0 || d->weights == NULL || d->weights->files == NULL) return shape->codes;
    for (uint32_t i = 0; i < count; i++) {
        char name[192];
        snprintf(name, sizeof name, "%s%s.weight", d->prefix, parts[i].name);
        const qr_code_format own = qr_weights_codes(d->weights, name);
        if (i == 0) stored = own;
        if (!qr_codes_are_equal(&stored, &own)) stored.bits = 0;
    }
    return kept_or(d, &stored, &shape->codes);
}

/* Which are not kept. */
static qr_code_format codes_of_experts(const qr_declaration *d)
{
    const bool kept = d->codes.bits > 0 && d->weights != NULL && d->weights->keeps_codes;
    return kept ? (qr_code_format){.bits = 8, .group = 32} : d->codes;
}

/* Those of the share's columns, side by side. */
static const float *cut_bias(qr_declaration *d, const qr_linear *linear, const float *whole)
{
    float *bias = qr_declare_floats(d, linear->shape.columns);
    float *to   = bias;
    for (uint32_t i = 0; bias != NULL && i < linear->span_count; to += linear->spans[i++].count)
        memcpy(to, whole + linear->spans[i].first, linear->spans[i].count * sizeof *to);
    return bias;
}

static void declare_biases(qr_declaration *d, qr_linear *linear, const qr_linear_part *parts)
{
    uint32_t columns = 0, at = 0;
    for (uint32_t i = 0; i < linear->matrix_count; i++) columns += parts[i].columns;
    float *bias = qr_declare_floats(d, columns);
    for (uint32_t i = 0; i < linear->matrix_count; at += parts[i++].columns) {
        const qr_tensor_spec one = {
            .rank = 1, .rows = 1, .columns = parts[i].columns, .scale = QR_RANDOM_BIAS, .dtype = QR_F32};
        if (parts[i].bias) read_table(d, bias ? bias + at : NULL, &one, parts[i].name, ".bias");
    }
    linear->whole_bias = bias;
    linear->bias       = linear->span_count > 0 ? cut_bias(d, linear, bias) : bias;
}

/* One tensor becomes two matrices: gate and up. */
static void halve_matrix(qr_linear *linear)
{
    linear->matrices[0].rows /= 2;
    linear->matrices[1]       = linear->matrices[0];
    linear->matrices[1].slice = 1;
    linear->matrix_count      = 2;
}

static void declare_parts(qr_declaration *d, qr_linear *linear, qr_projection_shape *shape, qr_cut cut,
                          const qr_linear_part *parts)
{
    uint32_t count = 0;
    bool     bias  = false;
    for (; count < QR_LINEAR_MATRICES && parts[count].columns > 0; count++) {
        shape->columns = shape->gated ? parts[0].columns : shape->columns + parts[count].columns;
        bias |= parts[count].bias;
    }
    const bool fused = shape->gated && count == 1;
    qr_assert(!shape->gated || (count <= 2 && !bias));
    if (fused) shape->columns /= 2;
    shape->codes = codes_of(d, shape, parts, count);
    add_linear(d, linear, shape, cut);
    for (uint32_t i = 0; i < count; i++) {
        const float          scale = parts[i].scale > 0 ? parts[i].scale : qr_random_scale(shape->k);
        const qr_tensor_spec one   = {.rank    = parts[i].convolves ? 3 : 2,
                                      .rows    = parts[i].columns,
                                      .columns = shape->k,
                                      .scale   = scale,
                                      .dtype   = shape->dtype,
                                      .codes   = shape->codes};
        tensor(d, one, parts[i].name, ".weight", &linear->matrices[linear->matrix_count++]);
    }
    if (fused) halve_matrix(linear);
    if (bias) declare_biases(d, linear, parts);
}

void qr_declare_linear(qr_declaration *d, qr_linear *linear, const char *label, uint32_t k, qr_cut cut,
                       const qr_linear_part *parts)
{
    declare_parts(d, linear, &(qr_projection_shape){.k = k, .name = label, .dtype = d->dtype, .codes = d->codes}, cut,
                  parts);
}

void qr_declare_convolution(qr_declaration *d, qr_linear *linear, const char *label, uint32_t inputs,
                            const qr_linear_part *parts)
{
    qr_projection_shape shape = {
        .k = QR_TAPS * inputs, .name = label, .dtype = qr_wide_dtype(d->dtype), .activation = QR_ACTIVATION_GELU};
    declare_parts(d, linear, &shape, QR_CUT_NONE, parts);
}

void qr_declare_wide_linear(qr_declaration *d, qr_linear *linear, const char *label, uint32_t k,
                            const qr_linear_part *parts)
{
    declare_parts(d, linear, &(qr_projection_shape){.k = k, .name = label, .dtype = QR_F32}, QR_CUT_NONE, parts);
}

static qr_projection_shape feed_in_shape(const qr_declaration *d, const char *label, uint32_t k)
{
    const qr_architecture *a = d->architecture;
    return (qr_projection_shape){.k          = k,
                                 .name       = label,
                                 .dtype      = d->dtype,
                                 .codes      = d->codes,
                                 .gated      = a->gated,
                                 .activation = a->activation,
                                 .gathers    = a->experts > 0,
                                 .turn       = d->expert};
}

void qr_declare_feed_in(qr_declaration *d, qr_linear *linear, const char *label, uint32_t k, qr_cut cut,
                        const qr_linear_part *parts)
{
    qr_projection_shape shape = feed_in_shape(d, label, k);
    declare_parts(d, linear, &shape, cut, parts);
}

qr_dtype qr_feed_out_dtype(const qr_architecture *architecture, qr_dtype dtype)
{
    return architecture->family->wide_feed_out ? qr_wide_dtype(dtype) : dtype;
}

static qr_projection_shape feed_out_shape(const qr_declaration *d, const char *label, uint32_t k)
{
    qr_projection_shape shape = {.k = k, .name = label, .dtype = qr_feed_out_dtype(d->architecture, d->dtype)};
    if (shape.dtype == d->dtype) shape.codes = d->codes;
    return shape;
}

void qr_declare_feed_out(qr_declaration *d, qr_linear *linear, const char *label, uint32_t k,
                         const qr_linear_part *parts)
{
    qr_projection_shape shape = feed_out_shape(d, label, k);
    declare_parts(d, linear, &shape, QR_CUT_HIDDEN, parts);
}

void qr_declare_feed_in_of(qr_declaration *d, qr_linear *linear, const char *label, qr_matrix gate, qr_matrix up)
{
    qr_projection_shape shape = feed_in_shape(d, label, gate.columns);
    shape.columns             = gate.rows;
    shape.codes               = codes_of_experts(d);
    add_linear(d, linear, &shape, QR_CUT_EXPERT);
    linear->matrices[0]  = gate;
    linear->matrices[1]  = up;
    linear->matrix_count = 2;
}

void qr_declare_feed_out_of(qr_declaration *d, qr_linear *linear, const char *label, qr_matrix matrix)
{
    qr_projection_shape shape = feed_out_shape(d, label, matrix.columns);
    shape.columns             = matrix.rows;
    if (shape.codes.bits > 0) shape.codes = codes_of_experts(d);
    add_linear(d, linear, &shape, QR_CUT_HIDDEN);
    linear->matrices[0]  = matrix;
    linear->matrix_count = 1;
}

/* ---- the ends of a model ---- */

static void declare_embedding(qr_declaration *d, float scale, const char *name, qr_matrix *embedding)
{
    const qr_architecture *a    = d->architecture;
    const qr_tensor_spec   spec = {
          .rank = 2, .rows = a->vocab_size, .columns = a->hidden_size, .scale = scale, .dtype = qr_wide_dtype(d->dtype)};
    const uint32_t width = d->share != NULL ? d->share->hidden.count : a->hidden_size;
    d->packed_bytes += (uint64_t)a->vocab_size * width * qr_dtype_bytes(qr_wide_dtype(d->dtype));
    tensor(d, spec, name, "", embedding);
}

void qr_declare_embedding(qr_declaration *d, float scale)
{
    const qr_architecture *a = d->architecture;
    d->prefix[0]             = '\0';
    declare_embedding(d, scale, a->embedding_name, &d->parameters->embedding);
    if (a->encoder_embedding_name != NULL)
        declare_embedding(d, scale, a->encoder_embedding_name, &d->parameters->encoder_embedding);
}

/* Beside codes of 4 bits 8, as every error of it is one of the logits; in scale groups as the others, because inputs
 * have the scales of either. */
static qr_code_format head_codes(const qr_declaration *d)
{
    const qr_code_format otherwise = {.bits = 8, .group = QR_CODES_BLOCK};
    if (d->codes.bits == 0) return d->codes;
    if (d->weights == NULL || d->weights->files == NULL) return otherwise;
    const qr_code_format stored = qr_weights_codes(d->weights, d->architecture->head_name);
    return kept_or(d, &stored, &otherwise);
}

void qr_declare_head(qr_declaration *d)
{
    const qr_architecture *a    = d->architecture;
    qr_linear             *head = &d->parameters->head;
    d->prefix[0]                = '\0';
    add_linear(d, head,
               &(qr_projection_shape){.k       = a->hidden_size,
                                      .columns = a->vocab_size,
                                      .name    = "lm_head",
                                      .dtype   = d->dtype,
                                      .codes   = head_codes(d)},
               QR_CUT_VOCABULARY);
    head->matrix_count        = 1;
    const qr_tensor_spec spec = {.rank    = 2,
                                 .rows    = a->vocab_size,
                                 .columns = a->hidden_size,
                                 .scale   = qr_random_scale(a->hidden_size),
                                 .dtype   = d->dtype,
                                 .codes   = head->shape.codes};
    if (strcmp(a->head_name, a->embedding_name) == 0)
        head->matrices[0] = d->parameters->embedding;
    else if (a->encoder_embedding_name != NULL && strcmp(a->head_name, a->encoder_embedding_name) == 0)
        head->matrices[0] = d->parameters->encoder_embedding;
    else
        tensor(d, spec, a->head_name, "", &head->matrices[0]);
}

void qr_declare_prefix(qr_declaration *d, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(d->prefix, sizeof d->prefix, format, arguments);
    va_end(arguments);
}

qr_layer *qr_declare_layer(qr_declaration *d, qr_layer *layers, uint32_t i)
{
    if (layers != NULL) return &layers[i];
    d->spare = (qr_layer){0};
    return &d->spare;
}

void qr_declare(qr_declaration *d)
{
    const qr_architecture *a = d->architecture;
    *d->parameters           = (qr_parameters){0};
    d->parameter_count = d->packed_bytes = 0;
    d->parameters->decoder               = QR_ARENA_TAKE(d->arena, qr_layer, a->layers);
    d->parameters->encoder               = QR_ARENA_TAKE(d->arena, qr_layer, a->encoder_layers);
    a->family->declare(d);
}

/* ---- counting and checking ---- */

/* Without memory. */
static qr_declaration as_loaded(const qr_weights *weights, qr_dtype dtype, const qr_code_format *codes,
                                qr_parameters *none, qr_arena *arena)
{
    return (qr_declaration){.architecture = weights->architecture,
                            .dtype        = dtype,
                            .codes        = *codes,
                            .weights      = weights,
                            .parameters   = none,
                            .arena        = arena};
}

void qr_declare_count(const qr_weights *weights, qr_dtype dtype, const qr_code_format *codes, uint64_t *parameters_out,
                      uint64_t *bytes_out)
{
    qr_parameters  none;
    qr_arena       arena = {0};
    qr_declaration d     = as_loaded(weights, dtype, codes, &none, &arena);
    qr_declare(&d);
    *parameters_out = d.parameter_count;
    *bytes_out      = d.packed_bytes + arena.used;
}

typedef struct check {
    const qr_weights *weights;
    bool             *used; /* [tensors] */
} check;

static quire_status check_one(void *context, const qr_tensor_spec *spec, qr_matrix *matrix_out, quire_error *error)
{
    const check *c = context;
    QR_TRY(qr_weights_find(c->weights, spec, matrix_out, error));
    c->used[matrix_out->tensor - qr_tensors_at(c->weights->files, 0)] = true;
    return QUIRE_OK;
}

/* What training tools save beside weights and a model can do without: tables and masks that follow from config.json. */
static const char *const buffers[] = {"*inv_freq",    "*cos_cached",   "*sin_cached", "*cos_sin_cache", "*freqs_cis",
                                      "*masked_bias", "*position_ids", "*_mask",      "*.mask",         NULL};

static bool matches(const char *const *patterns, const char *name)
{
    for (; *patterns != NULL; patterns++)
        if (fnmatch(*patterns, name, 0) == 0) return true;
    return false;
}

/* AutoGPTQ gave every matrix a bias, of zeros where the model has none. */
static quire_status is_idle(const qr_tensors *files, const qr_tensor *tensor, bool *idle_out, quire_error *error)
{
    enum { AT_ONCE = 256 };
    float          chunk[AT_ONCE];
    char           name[QR_TENSORS_MAX_NAME + 8];
    const uint64_t count  = tensor->rank == 1 && tensor->format->decode != NULL ? tensor->shape[0] : 0;
    const char    *ending = strrchr(tensor->name, '.');
    if (ending == NULL || strcmp(ending, ".bias") != 0) return QUIRE_OK;
    snprintf(name, sizeof name, "%.*s.weight", (int)(ending - tensor->name), tensor->name);
    const qr_tensor *matrix = qr_tensors_find(files, name);
    *idle_out               = matrix != NULL && matrix->packed != NULL && count > 0;
    for (uint64_t at = 0; at < count && *idle_out; at += AT_ONCE) {
        const uint64_t now = qr_min_u64(AT_ONCE, count - at);
        QR_TRY(qr_tensors_read(files, tensor, at, now, chunk, error));
        for (uint64_t i = 0; i < now; i++) *idle_out = *idle_out && chunk[i] == 0;
    }
    return QUIRE_OK;
}

static quire_status check_rest(const check *c, qr_log *log, quire_error *error)
{
    const qr_tensors      *files = c->weights->files;
    const qr_architecture *a     = c->weights->architecture;
    qr_tally               spare = {0};
    for (uint32_t i = 0; i < qr_tensors_count(files); i++) {
        const qr_tensor *tensor = qr_tensors_at(files, i);
        if (c->used[i] || matches(a->family->unread_tensors, tensor->name)) continue;
        bool idle = matches(buffers, tensor->name);
        if (!idle) QR_TRY(is_idle(files, tensor, &idle, error));
        if (idle) {
            qr_tally_add(&spare, tensor->name);
            continue;
        }
        return qr_fail(error, QUIRE_ERR_FORMAT,
                       "%s: tensor \"%.80s\" at byte %llu: not part of the %s of %u layers that %s describes",
                       qr_tensors_file_name(files, tensor), tensor->name, (unsigned long long)tensor->begin,
                       a->model_type, a->layers, qr_tensors_config_name(files));
    }
    qr_tally_warn(&spare, log, qr_tensors_name(files), "buffers that are not needed and not read");
    return QUIRE_OK;
}

quire_status qr_declare_check(const qr_weights *weights, qr_log *log, quire_error *error)
{
    const uint32_t count = qr_tensors_count(weights->files);
    check          c     = {weights, qr_allocate(NULL, count + 1, 64)};
    if (c.used == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory to check %u tensors", count);
    qr_parameters  none;
    qr_arena       arena = {0};
    qr_declaration d     = {.architecture = weights->architecture,
                            .parameters   = &none,
                            .arena        = &arena,
                            .visit        = check_one,
                            .context      = &c,
                            .error        = error};
    qr_declare(&d);
    if (d.status == QUIRE_OK) d.status = check_rest(&c, log, error);
    qr_deallocate(NULL, c.used, count + 1);
    return d.status;
}

typedef struct listing {
    const qr_weights  *weights;
    qr_tensor_listing *each;
    void              *context;
} listing;

static quire_status list_one(void *context, const qr_tensor_spec *spec, qr_matrix *matrix_out, quire_error *error)
{
    const listing *l = context;
    QR_TRY(qr_weights_find(l->weights, spec, matrix_out, error));
    l->each(l->context, spec, matrix_out->tensor);
    return QUIRE_OK;
}

quire_status qr_declare_list(const qr_weights *weights, qr_dtype dtype, const qr_code_format *codes,
                             qr_tensor_listing *each, void *context, quire_error *error)
{
    listing        l = {weights, each, context};
    qr_parameters  none;
    qr_arena       arena = {0};
    qr_declaration d     = as_loaded(weights, dtype, codes, &none, &arena);
    d.visit              = list_one;
    d.context            = &l;
    d.error              = error;
    qr_declare(&d);
    return d.status;
}
