/* Two sources behind one reader. The synthetic one must not slow the start of a benchmark with gigabytes of weights, so
 * its distribution is the cheapest that is roughly normal: the sum of two uniform numbers of 16 bits each. */
#include "model/weights.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/rng.h"

/* ---- the generator ---- */

static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0;
    for (; *name != '\0'; name++) hash = qr_mix64(hash * 31 + (unsigned char)*name + 1);
    return hash;
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
    for (uint64_t i = 0; i < count; i++) out[i] = value;
}

/* ---- finding ---- */

static void format_shape(char *text, size_t capacity, const qr_tensor *tensor)
{
    size_t used = (size_t)snprintf(text, capacity, "[");
    for (uint32_t i = 0; i < tensor->rank && used < capacity; i++)
        used += (size_t)snprintf(text + used, capacity - used, "%s%llu", i ? ", " : "",
                                 (unsigned long long)tensor->shape[i]);
    if (used < capacity) snprintf(text + used, capacity - used, "]");
}

static bool shape_is(const qr_tensor *tensor, const qr_tensor_spec *spec)
{
    if (tensor->rank != spec->rank) return false;
    return spec->rank == 1 ? tensor->shape[0] == spec->columns
                           : tensor->shape[0] == spec->rows && tensor->shape[1] == spec->columns;
}

static quire_status check_doubt(const char *file, const qr_tensor *tensor, quire_error *error)
{
    static const char *const doubts[] = {[QR_TENSOR_MISPLACED] = "the index names another file for it",
                                         [QR_TENSOR_CONTESTED] = "another file holds it with other values"};
    if (tensor->doubt == QR_TENSOR_SURE) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\" at byte %llu: %s", file, tensor->name,
                   (unsigned long long)tensor->begin, doubts[tensor->doubt]);
}

static quire_status check_tensor(const qr_tensors *files, const qr_tensor_spec *spec, const qr_tensor *tensor,
                                 quire_error *error)
{
    if (tensor == NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\": missing, %s asks for it", qr_tensors_name(files),
                       spec->name, qr_tensors_config_name(files));
    const char *file = qr_tensors_file_name(files, tensor);
    if (!shape_is(tensor, spec)) {
        char            found[100], wanted[40];
        const qr_tensor asked = {.rank  = spec->rank,
                                 .shape = {spec->rank == 1 ? spec->columns : spec->rows, spec->columns}};
        format_shape(found, sizeof found, tensor);
        format_shape(wanted, sizeof wanted, &asked);
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\" at byte %llu: its shape is %s, %s implies %s",
                       file, spec->name, (unsigned long long)tensor->begin, found, qr_tensors_config_name(files),
                       wanted);
    }
    QR_TRY(check_doubt(file, tensor, error));
    return qr_tensors_check_readable(files, tensor, error);
}

quire_status qr_weights_find(const qr_weights *weights, const qr_tensor_spec *spec, qr_matrix *matrix_out,
                             quire_error *error)
{
    *matrix_out = (qr_matrix){.weights = weights, .rows = spec->rows, .columns = spec->columns};
    if (weights->files != NULL) {
        matrix_out->tensor = qr_tensors_find(weights->files, spec->name);
        return check_tensor(weights->files, spec, matrix_out->tensor, error);
    }
    matrix_out->key   = qr_random_u64(weights->seed, hash_of(spec->name), 0);
    matrix_out->scale = spec->scale;
    return QUIRE_OK;
}

/* ---- reading ---- */

/* From here on bf16 rounds to infinity; the bits of infinity and NaN are above. */
static const uint32_t too_great = 0x7f7f8000u;

static inline uint32_t magnitude_bits(float x) { return qr_bits_of_f32(x) & 0x7fffffffu; }

static bool are_finite(const float *values, uint64_t count)
{
    uint32_t greatest = 0; /* of all, without a way out: this vectorises */
    for (uint64_t i = 0; i < count; i++) {
        const uint32_t bits = magnitude_bits(values[i]);
        greatest            = bits > greatest ? bits : greatest;
    }
    return greatest < too_great;
}

static quire_status check_values(const qr_matrix *matrix, uint64_t from, uint64_t count, const float *values,
                                 quire_error *error)
{
    if (!matrix->weights->check || are_finite(values, count)) return QUIRE_OK;
    uint64_t i = 0;
    while (magnitude_bits(values[i]) < too_great) i++;
    char           index[48];
    const uint64_t row = (from + i) / matrix->columns, column = (from + i) % matrix->columns;
    if (matrix->tensor->rank == 1)
        snprintf(index, sizeof index, "%llu", (unsigned long long)column);
    else
        snprintf(index, sizeof index, "%llu, %llu", (unsigned long long)row, (unsigned long long)column);
    return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\"[%s] is %g; weights must be finite, in bf16 too",
                   qr_tensors_file_name(matrix->weights->files, matrix->tensor), matrix->tensor->name, index,
                   (double)values[i]);
}

static quire_status read_file(const qr_matrix *matrix, uint64_t from, uint64_t count, float *out, quire_error *error)
{
    QR_TRY(qr_tensors_read(matrix->weights->files, matrix->tensor, from, count, out, error));
    return check_values(matrix, from, count, out, error);
}

quire_status qr_matrix_read(const qr_matrix *matrix, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    qr_assert(first <= matrix->rows && count <= matrix->rows - first);
    const uint64_t from     = ((uint64_t)matrix->slice * matrix->rows + first) * matrix->columns;
    const uint64_t elements = (uint64_t)count * matrix->columns;
    if (matrix->weights->files != NULL) return read_file(matrix, from, elements, out, error);
    if (matrix->scale > 0)
        generate(matrix->key, matrix->scale, from, elements, out);
    else
        fill(out, elements, matrix->weights->architecture->norms_less_one ? 0 : 1);
    return QUIRE_OK;
}

void qr_matrix_expect(const qr_matrix *matrix, uint32_t part, uint32_t parts)
{
    if (matrix->weights->files == NULL) return;
    const uint32_t slices = (uint32_t)(matrix->tensor->shape[0] / matrix->rows);
    qr_tensors_expect(matrix->weights->files, matrix->tensor, matrix->slice * parts + part, slices * parts);
}

static quire_status read_rows(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    return qr_matrix_read(context, first, count, out, error);
}

qr_weight_source qr_matrix_source(const qr_matrix *matrix)
{
    return (qr_weight_source){.read = read_rows, .context = (void *)(uintptr_t)matrix, .columns = matrix->rows};
}
