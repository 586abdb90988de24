/* Two sources behind one reader. The synthetic one must not slow the start of a benchmark with gigabytes of weights, so
 * its distribution is the cheapest that is roughly normal: the sum of two uniform numbers of 16 bits each. */
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
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

enum { MX_BLOCK = 32 }; /* elements that share an exponent */

/* Rank and shape as files have them. */
static qr_tensor asked_of(const qr_tensor_spec *spec)
{
    const uint64_t stack = spec->stack, rows = spec->rows, columns = spec->columns, blocks = columns / MX_BLOCK;
    if (spec->rank == 1) return (qr_tensor){.rank = 1, .shape = {columns}};
    if (spec->rank == 2) return (qr_tensor){.rank = 2, .shape = {rows, columns}};
    if (spec->form == QR_MATRIX_ROWS) return (qr_tensor){.rank = 3, .shape = {rows, columns / QR_TAPS, QR_TAPS}};
    if (spec->form == QR_MATRIX_COLUMNS) return (qr_tensor){.rank = 3, .shape = {stack, columns, rows}};
    if (spec->form == QR_MATRIX_EXPONENTS) return (qr_tensor){.rank = 3, .shape = {stack, rows, blocks}};
    return (qr_tensor){.rank = 4, .shape = {stack, rows, blocks, MX_BLOCK / 2}};
}

static quire_status check_doubt(const char *file, const qr_tensor *tensor, quire_error *error)
{
    static const char *const doubts[] = {[QR_TENSOR_MISPLACED] = "the index names another file for it",
                                         [QR_TENSOR_CONTESTED] = "another file holds it with other values"};
    if (tensor->doubt == QR_TENSOR_SURE) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\" at byte %llu: %s", file, tensor->name,
                   (unsigned long long)tensor->begin, doubts[tensor->doubt]);
}

static quire_status check_bytes(const char *file, const qr_tensor_spec *spec, const qr_tensor *tensor,
                                quire_error *error)
{
    if (strcmp(tensor->format->name, "U8") != 0)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "%s: tensor \"%.80s\" at byte %llu: dtype %s, MXFP4 is U8", file,
                       tensor->name, (unsigned long long)tensor->begin, tensor->format->name);
    if (spec->columns % MX_BLOCK == 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\": rows of %u elements, MXFP4 has blocks of %d", file,
                   tensor->name, spec->columns, MX_BLOCK);
}

static quire_status check_tensor(const qr_tensors *files, const qr_tensor_spec *spec, const qr_tensor *tensor,
                                 quire_error *error)
{
    if (tensor == NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\": missing, %s asks for it", qr_tensors_name(files),
                       spec->name, qr_tensors_config_name(files));
    const char     *file  = qr_tensors_file_name(files, tensor);
    const qr_tensor asked = asked_of(spec);
    if (tensor->rank != asked.rank || memcmp(tensor->shape, asked.shape, asked.rank * sizeof *asked.shape) != 0) {
        char found[100], wanted[100];
        qr_tensors_format_shape(found, sizeof found, tensor);
        qr_tensors_format_shape(wanted, sizeof wanted, &asked);
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\" at byte %llu: its shape is %s, %s implies %s",
                       file, spec->name, (unsigned long long)tensor->begin, found, qr_tensors_config_name(files),
                       wanted);
    }
    QR_TRY(check_doubt(file, tensor, error));
    if (spec->form == QR_MATRIX_MXFP4 || spec->form == QR_MATRIX_EXPONENTS)
        return check_bytes(file, spec, tensor, error);
    return qr_tensors_check_readable(files, tensor, error);
}

quire_status qr_weights_find(const qr_weights *weights, const qr_tensor_spec *spec, qr_matrix *matrix_out,
                             quire_error *error)
{
    *matrix_out = (qr_matrix){.weights = weights, .rows = spec->rows, .columns = spec->columns, .form = spec->form};
    if (weights->files != NULL) {
        matrix_out->tensor = qr_tensors_find(weights->files, spec->name);
        return check_tensor(weights->files, spec, matrix_out->tensor, error);
    }
    matrix_out->key   = qr_random_u64(weights->seed, hash_of(spec->name), 0);
    matrix_out->scale = spec->scale;
    matrix_out->form  = QR_MATRIX_ROWS;
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
    const uint64_t width = matrix->form == QR_MATRIX_COLUMNS ? (uint64_t)matrix->rows * matrix->parts : matrix->columns;
    const uint64_t row = (from + i) / width, column = (from + i) % width;
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

/* Row r of a stack's matrix as the tensor numbers the rows of the slice. */
static uint64_t row_in_slice(const qr_matrix *m, uint32_t r) { return (uint64_t)r * m->parts + m->part; }

/* Of one column of the stored matrix, which is a row of ours, few elements at a time. */
static quire_status read_columns(const qr_matrix *m, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    enum { AT_ONCE = 128 };
    float          run[AT_ONCE];
    const uint32_t step = AT_ONCE / m->parts;
    const uint64_t rows = (uint64_t)m->rows * m->parts;
    for (uint32_t k = 0; k < m->columns; k++)
        for (uint32_t done = 0; done < count; done += step) {
            const uint32_t now  = qr_min_u32(step, count - done);
            const uint64_t from = ((uint64_t)m->slice * m->columns + k) * rows + (uint64_t)(first + done) * m->parts;
            QR_TRY(read_file(m, from, (uint64_t)now * m->parts, run, error));
            for (uint32_t i = 0; i < now; i++) out[(size_t)(done + i) * m->columns + k] = run[i * m->parts + m->part];
        }
    return QUIRE_OK;
}

/* FP4 of E2M1, the lower four bits first; the exponent's bias is 127. */
static void decode_mxfp4(const uint8_t *codes, const uint8_t *exponents, uint32_t blocks, float *out)
{
    static const float values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    for (uint32_t b = 0; b < blocks; b++) {
        const float scale = ldexpf(1, exponents[b] - 127);
        for (uint32_t i = 0; i < MX_BLOCK / 2; i++, codes++) {
            *out++ = values[*codes & 15] * scale;
            *out++ = values[*codes >> 4] * scale;
        }
    }
}

static quire_status read_mxfp4(const qr_matrix *m, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    enum { AT_ONCE = 64 };
    uint8_t        codes[AT_ONCE * MX_BLOCK / 2], exponents[AT_ONCE];
    const uint32_t blocks = m->columns / MX_BLOCK;
    for (uint32_t r = first; r < first + count; r++)
        for (uint32_t done = 0; done < blocks; done += AT_ONCE) {
            const uint32_t now  = qr_min_u32(AT_ONCE, blocks - done);
            const uint64_t rows = (uint64_t)m->rows * m->parts, row = m->slice * rows + row_in_slice(m, r);
            const uint64_t from = row * blocks + done;
            QR_TRY(qr_tensors_read_bytes(m->weights->files, m->tensor, from * (MX_BLOCK / 2), now * (MX_BLOCK / 2),
                                         codes, error));
            QR_TRY(qr_tensors_read_bytes(m->weights->files, m->exponents, from, now, exponents, error));
            decode_mxfp4(codes, exponents, now, out);
            QR_TRY(check_values(m, from * MX_BLOCK, (uint64_t)now * MX_BLOCK, out, error));
            out += now * MX_BLOCK;
        }
    return QUIRE_OK;
}

qr_matrix qr_stack_part(const qr_matrix *stack, uint32_t i, uint32_t parts, uint32_t part)
{
    qr_matrix m = *stack;
    m.rows /= parts;
    m.slice = m.form == QR_MATRIX_ROWS ? i * parts + part : i; /* random numbers have no order to keep */
    m.part  = part;
    m.parts = parts;
    return m;
}

quire_status qr_matrix_read(const qr_matrix *matrix, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    qr_assert(first <= matrix->rows && count <= matrix->rows - first);
    if (matrix->form == QR_MATRIX_COLUMNS) return read_columns(matrix, first, count, out, error);
    if (matrix->form == QR_MATRIX_MXFP4) return read_mxfp4(matrix, first, count, out, error);
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
    const bool     stack  = matrix->form != QR_MATRIX_ROWS;
    const uint32_t slices = (uint32_t)(stack ? matrix->tensor->shape[0] : matrix->tensor->shape[0] / matrix->rows);
    qr_tensors_expect(matrix->weights->files, matrix->tensor, matrix->slice * parts + part, slices * parts);
}

static quire_status read_rows(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    return qr_matrix_read(context, first, count, out, error);
}

static quire_status read_codes(void *context, uint32_t first, uint32_t count, uint8_t *codes, float *scales,
                               float *minima, quire_error *error)
{
    const qr_matrix  *matrix = context;
    const uint64_t    row    = (uint64_t)matrix->slice * matrix->rows + first;
    const qr_tensors *files  = matrix->weights->files;
    QR_TRY(qr_tensors_read_codes(files, matrix->tensor, row, count, codes, scales, minima, error));
    const uint64_t cells = count * qr_ceil_div_u64(matrix->columns, qr_tensors_codes(matrix->tensor).group);
    if (!matrix->weights->check || (are_finite(scales, cells) && (minima == NULL || are_finite(minima, cells))))
        return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_FORMAT,
                   "%s: tensor \"%.80s\", rows %u to %u: a scale or minimum is not finite; weights must be",
                   qr_tensors_file_name(files, matrix->tensor), matrix->tensor->name, first, first + count - 1);
}

qr_code_format qr_weights_codes(const qr_weights *weights, const char *name)
{
    const qr_tensor *tensor = weights->files != NULL ? qr_tensors_find(weights->files, name) : NULL;
    return tensor != NULL ? qr_tensors_codes(tensor) : (qr_code_format){0};
}

qr_weight_source qr_matrix_source(const qr_matrix *matrix, const qr_code_format *codes)
{
    const qr_code_format stored = matrix->tensor != NULL ? qr_tensors_codes(matrix->tensor) : (qr_code_format){0};
    const bool           kept   = codes->bits > 0 && qr_codes_are_equal(&stored, codes);
    return (qr_weight_source){.read       = read_rows,
                              .read_codes = kept ? read_codes : NULL,
                              .context    = (void *)(uintptr_t)matrix,
                              .columns    = matrix->rows};
}
