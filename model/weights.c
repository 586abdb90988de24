/* Two sources behind one reader. The synthetic one must not slow the start of a benchmark with gigabytes of weights, so
 * its distribution is the cheapest that is roughly normal: the sum of two uniform numbers of 16 bits each. */
#include "model/weights.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "model/tensor_list.h"

/* ---- the generator
 * --------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0;
    for (; *name != '\0'; ++name) hash = qr_mix64(hash * 31 + (unsigned char)*name + 1);
    return hash;
}

static bool ends_with(const char *name, const char *end)
{
    const size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* Standard deviations that keep activations near 1 at any depth. T5 does not divide attention scores by sqrt(d), so
 * its q does; and where its output is scaled, the shared embedding is 1 wide. */
static float scale_of(const qr_architecture *a, const char *name, uint32_t columns)
{
    const double fan_in = 1 / sqrt((double)columns);
    if (strstr(name, "norm") != NULL) return 0;
    if (ends_with(name, ".bias")) return 0.02f;
    if (a->family != QR_FAMILY_T5) return (float)fan_in;
    if (ends_with(name, ".q.weight")) return (float)(fan_in / sqrt((double)a->head_dim));
    if (strcmp(name, a->embedding_name) == 0 || ends_with(name, "relative_attention_bias.weight")) return 1;
    return (float)fan_in;
}

/* Element `index` of a tensor: half of one 64-bit number per pair. A uniform number of 16 bits has the variance
 * (2^32 - 1) / 12, so the sum of two divided by sqrt((2^32 - 1) / 6) has 1. */
static inline float half_of(uint64_t bits, float step)
{
    const int32_t sum = (int32_t)(bits & 0xffff) + (int32_t)(bits >> 16 & 0xffff) - 0xffff;
    return (float)sum * step;
}

static inline uint64_t pair_of(uint64_t key, uint64_t pair) { return qr_mix64(key + pair * 0x9e3779b97f4a7c15u); }

static void generate(uint64_t key, float scale, uint64_t first, uint64_t count, float *out)
{
    const float step = (float)((double)scale / 26754.77);
    uint64_t    i    = 0;
    if (count > 0 && first % 2 == 1) out[i++] = half_of(pair_of(key, first / 2) >> 32, step);
    for (; i + 2 <= count; i += 2) {
        const uint64_t bits = pair_of(key, (first + i) / 2);
        out[i]              = half_of(bits, step);
        out[i + 1]          = half_of(bits >> 32, step);
    }
    if (i < count) out[i] = half_of(pair_of(key, (first + i) / 2), step);
}

static void fill(float *out, uint64_t count, float value)
{
    for (uint64_t i = 0; i < count; ++i) out[i] = value;
}

/* ---- finding
 * --------------------------------------------------------------------------------------------------------- */

typedef struct search {
    const char    *name;
    qr_tensor_need found;
} search;

enum { FOUND = 1 }; /* not a quire_status: ends the walk */

static quire_status look(void *context, const qr_tensor_need *need)
{
    search *s = context;
    if (strcmp(need->name, s->name) != 0) return QUIRE_OK;
    s->found = *need;
    return (quire_status)FOUND;
}

static bool listed(const qr_weights *weights, const char *name, qr_tensor_need *need_out)
{
    search     s     = {.name = name};
    const bool found = (int)qr_tensor_list_walk(weights->architecture, look, &s) == FOUND;
    if (found) *need_out = s.found;
    return found;
}

bool qr_weights_has(const qr_weights *weights, const char *name)
{
    qr_tensor_need need;
    return weights->files ? qr_safetensors_find(weights->files, name) != NULL : listed(weights, name, &need);
}

static void format_shape(char *text, size_t capacity, const qr_tensor *tensor)
{
    size_t used = (size_t)snprintf(text, capacity, "[");
    for (uint32_t i = 0; i < tensor->rank && used < capacity; ++i)
        used += (size_t)snprintf(text + used, capacity - used, "%s%llu", i ? ", " : "",
                                 (unsigned long long)tensor->shape[i]);
    if (used < capacity) snprintf(text + used, capacity - used, "]");
}

static bool shape_is(const qr_tensor *tensor, const qr_tensor_need *need)
{
    if (tensor->rank != need->rank) return false;
    return need->rank == 1 ? tensor->shape[0] == need->columns
                           : tensor->shape[0] == need->rows && tensor->shape[1] == need->columns;
}

static quire_status check_tensor(const qr_safetensors *files, const qr_tensor_need *need, const qr_tensor **tensor_out,
                                 quire_error *error)
{
    const qr_tensor *tensor = qr_safetensors_find(files, need->name);
    *tensor_out             = tensor;
    if (tensor == NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\": missing, config.json asks for it",
                       qr_safetensors_name(files), need->name);
    const char *file = qr_safetensors_file_name(files, tensor);
    if (!shape_is(tensor, need)) {
        char            found[100], wanted[40];
        const qr_tensor asked = {.rank  = need->rank,
                                 .shape = {need->rank == 1 ? need->columns : need->rows, need->columns}};
        format_shape(found, sizeof found, tensor);
        format_shape(wanted, sizeof wanted, &asked);
        return qr_fail(error, QUIRE_ERR_FORMAT,
                       "%s: tensor \"%.80s\" at byte %llu: its shape is %s, config.json means %s", file, need->name,
                       (unsigned long long)tensor->begin, found, wanted);
    }
    if (!qr_safetensors_readable(tensor))
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED,
                       "%s: tensor \"%.80s\" at byte %llu: dtype %s is not supported, only F32, BF16 and F16", file,
                       need->name, (unsigned long long)tensor->begin, tensor->dtype);
    return QUIRE_OK;
}

static quire_status find(const qr_weights *weights, const qr_tensor_need *need, qr_matrix *matrix_out,
                         quire_error *error)
{
    *matrix_out = (qr_matrix){.weights = weights, .rows = need->rows, .columns = need->columns};
    if (weights->files != NULL) return check_tensor(weights->files, need, &matrix_out->tensor, error);
    qr_tensor_need known;
    if (!listed(weights, need->name, &known) || known.rank != need->rank || known.rows != need->rows ||
        known.columns != need->columns)
        return qr_fail(error, QUIRE_ERR_FORMAT, "tensor \"%.80s\" [%u, %u]: a %s has none", need->name, need->rows,
                       need->columns, weights->architecture->model_type);
    matrix_out->key   = qr_random_u64(weights->seed, hash_of(need->name), 0);
    matrix_out->scale = scale_of(weights->architecture, need->name, need->columns);
    return QUIRE_OK;
}

quire_status qr_weights_find(const qr_weights *weights, uint32_t rows, uint32_t columns, qr_matrix *matrix_out,
                             quire_error *error, const char *name_format, ...)
{
    qr_tensor_need need = {.rank = 2, .rows = rows, .columns = columns};
    va_list        arguments;
    va_start(arguments, name_format);
    vsnprintf(need.name, sizeof need.name, name_format, arguments);
    va_end(arguments);
    return find(weights, &need, matrix_out, error);
}

/* ---- reading
 * --------------------------------------------------------------------------------------------------------- */

quire_status qr_matrix_read(const qr_matrix *matrix, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    qr_assert(first <= matrix->rows && count <= matrix->rows - first);
    const uint64_t from = (uint64_t)first * matrix->columns, elements = (uint64_t)count * matrix->columns;
    if (matrix->weights->files != NULL)
        return qr_safetensors_read(matrix->weights->files, matrix->tensor, from, elements, out, error);
    if (matrix->scale > 0)
        generate(matrix->key, matrix->scale, from, elements, out);
    else
        fill(out, elements, 1);
    return QUIRE_OK;
}

void qr_matrix_expect(const qr_matrix *matrix, uint32_t part, uint32_t parts)
{
    if (matrix->weights->files != NULL) qr_safetensors_expect(matrix->weights->files, matrix->tensor, part, parts);
}

static quire_status read_rows(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    return qr_matrix_read(context, first, count, out, error);
}

qr_weight_source qr_matrix_source(const qr_matrix *matrix)
{
    return (qr_weight_source){.read = read_rows, .context = (void *)(uintptr_t)matrix, .columns = matrix->rows};
}

quire_status qr_weights_vector(const qr_weights *weights, uint32_t count, float *out, quire_error *error,
                               const char *name_format, ...)
{
    qr_tensor_need need = {.rank = 1, .rows = 1, .columns = count};
    va_list        arguments;
    qr_matrix      vector;
    va_start(arguments, name_format);
    vsnprintf(need.name, sizeof need.name, name_format, arguments);
    va_end(arguments);
    QR_TRY(find(weights, &need, &vector, error));
    return qr_matrix_read(&vector, 0, 1, out, error);
}

/* ---- files against architecture
 * -------------------------------------------------------------------------------------- */

/* What published checkpoints carry and no forward pass reads: tables of old versions, copies of the shared embedding,
 * the bias of T5's first cross-attention, which was never used. */
static bool harmless(const qr_architecture *a, const char *name)
{
    if (ends_with(name, ".rotary_emb.inv_freq")) return a->family == QR_FAMILY_DECODER;
    if (a->family != QR_FAMILY_T5) return false;
    return strcmp(name, "encoder.embed_tokens.weight") == 0 || strcmp(name, "decoder.embed_tokens.weight") == 0 ||
           strcmp(name, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight") == 0;
}

typedef struct check {
    const qr_weights *weights;
    bool             *used; /* [tensors] */
    quire_error      *error;
} check;

static quire_status check_one(void *context, const qr_tensor_need *need)
{
    const check     *c = context;
    const qr_tensor *tensor;
    QR_TRY(check_tensor(c->weights->files, need, &tensor, c->error));
    c->used[tensor - qr_safetensors_at(c->weights->files, 0)] = true;
    return QUIRE_OK;
}

static quire_status check_rest(const check *c)
{
    const qr_weights *w = c->weights;
    for (uint32_t i = 0; i < qr_safetensors_count(w->files); ++i) {
        const qr_tensor *tensor = qr_safetensors_at(w->files, i);
        if (c->used[i] || harmless(w->architecture, tensor->name)) continue;
        return qr_fail(c->error, QUIRE_ERR_FORMAT,
                       "%s: tensor \"%.80s\" at byte %llu: the %s of %u layers in config.json has none",
                       qr_safetensors_file_name(w->files, tensor), tensor->name, (unsigned long long)tensor->begin,
                       w->architecture->model_type, w->architecture->layers);
    }
    return QUIRE_OK;
}

quire_status qr_weights_check(const qr_weights *weights, quire_error *error)
{
    const uint32_t count = qr_safetensors_count(weights->files);
    check          c     = {weights, qr_allocate(NULL, count + 1, 64), error};
    if (c.used == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory to check the tensors");
    quire_status status = qr_tensor_list_walk(weights->architecture, check_one, &c);
    if (status == QUIRE_OK) status = check_rest(&c);
    qr_deallocate(NULL, c.used, count + 1);
    return status;
}
