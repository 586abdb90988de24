#include "model/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/packed.h"
#include "model/tensor_files.h"

enum { CHUNK_BYTES = 1 << 14 /* read and converted at once */, CHUNK_ELEMENTS = 1 << 13 };

/* ---- filling ---- */

const char *qr_path_last(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

quire_status qr_tensors_create(const quire_allocator *allocator, uint32_t file_capacity, qr_tensors **files_out,
                               quire_error *error)
{
    qr_tensors *files = qr_allocate(allocator, sizeof *files, 64);
    *files_out        = files;
    if (files != NULL) {
        if (allocator != NULL) files->allocator = *allocator;
        files->config_name   = "config.json";
        files->file_capacity = file_capacity;
        files->files         = qr_allocate(allocator, file_capacity * sizeof *files->files, 64);
        if (files->files != NULL) return QUIRE_OK;
    }
    return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory for the table of a model's files");
}

void qr_tensors_close(qr_tensors *files)
{
    if (files == NULL) return;
    const quire_allocator allocator = files->allocator;
    for (uint32_t i = 0; i < files->file_count; i++) {
        qr_file_close(&files->files[i].file);
        qr_deallocate(&allocator, files->files[i].names, files->files[i].name_bytes);
    }
    qr_deallocate(&allocator, files->files, files->file_capacity * sizeof *files->files);
    qr_deallocate(&allocator, files->tensors, files->capacity * sizeof *files->tensors);
    qr_deallocate(&allocator, files->more_names, files->more_name_bytes);
    if (files->packed != NULL)
        qr_deallocate(&allocator, files->packed, (files->packed_count + 1) * sizeof *files->packed);
    qr_deallocate(&allocator, files, sizeof *files);
}

quire_status qr_tensors_closing_on_failure(quire_status status, qr_tensors **files)
{
    if (status != QUIRE_OK) {
        qr_tensors_close(*files);
        *files = NULL;
    }
    return status;
}

quire_status qr_tensors_open_file(qr_tensors *files, const char *path, const char *name, quire_error *error)
{
    qr_assert(files->file_count < files->file_capacity);
    qr_tensor_file *file = &files->files[files->file_count++];
    snprintf(file->name, sizeof file->name, "%s", qr_path_tail(name));
    snprintf(file->label, sizeof file->label, "%s", qr_path_tail(path));
    file->file.descriptor = -1;
    return qr_file_open(path, &file->file, error);
}

static quire_status grow(qr_tensors *files, quire_error *error)
{
    const char *file = files->files[files->file_count - 1].label;
    if (files->count == QR_TENSORS_MAX)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: more than %d tensors", file, QR_TENSORS_MAX);
    const uint32_t capacity = files->capacity == 0 ? 64 : qr_min_u32(2 * files->capacity, QR_TENSORS_MAX);
    qr_tensor     *tensors  = qr_allocate(&files->allocator, capacity * sizeof *tensors, 64);
    if (tensors == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its tensor table", file);
    if (files->count > 0) memcpy(tensors, files->tensors, files->count * sizeof *tensors);
    qr_deallocate(&files->allocator, files->tensors, files->capacity * sizeof *files->tensors);
    files->tensors  = tensors;
    files->capacity = capacity;
    return QUIRE_OK;
}

quire_status qr_tensors_reserve(qr_tensors *files, qr_tensor **tensor_out, quire_error *error)
{
    if (files->count == files->capacity) QR_TRY(grow(files, error));
    *tensor_out  = &files->tensors[files->count];
    **tensor_out = (qr_tensor){.file = files->file_count - 1};
    return QUIRE_OK;
}

static int by_name_alone(const void *a, const void *b)
{
    return strcmp(((const qr_tensor *)a)->name, ((const qr_tensor *)b)->name);
}

static int by_name(const void *a, const void *b)
{
    const int order = by_name_alone(a, b);
    return order != 0 ? order : (int)((const qr_tensor *)a)->file - (int)((const qr_tensor *)b)->file;
}

static int by_offset(const void *a, const void *b)
{
    const qr_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static quire_status check_distinct(const qr_tensors *files, const qr_tensor *tensors, uint32_t count,
                                   quire_error *error)
{
    for (uint32_t i = 1; i < count; i++)
        if (strcmp(tensors[i - 1].name, tensors[i].name) == 0)
            return QR_BAD_TENSOR(error, files->files[tensors[i - 1].file].label, &tensors[i],
                                 "appears twice, at byte %llu and in %s at byte %llu",
                                 (unsigned long long)tensors[i - 1].begin, files->files[tensors[i].file].name,
                                 (unsigned long long)tensors[i].begin);
    return QUIRE_OK;
}

quire_status qr_tensors_check_names(qr_tensors *files, uint32_t first, quire_error *error)
{
    const uint32_t count = files->count - first;
    if (count == 0) return QUIRE_OK;
    qr_tensor *tensors = files->tensors + first;
    qsort(tensors, count, sizeof *tensors, by_name);
    QR_TRY(check_distinct(files, tensors, count, error));
    qsort(tensors, count, sizeof *tensors, by_offset);
    return QUIRE_OK;
}

void qr_tensors_drop(qr_tensors *files, const qr_tensor *tensor)
{
    qr_tensor *at = files->tensors + (tensor - files->tensors);
    memmove(at, at + 1, (size_t)(files->tensors + --files->count - at) * sizeof *at);
}

void qr_tensors_sort(qr_tensors *files)
{
    if (files->count > 0) qsort(files->tensors, files->count, sizeof *files->tensors, by_name);
}

/* ---- finding ---- */

uint32_t         qr_tensors_count(const qr_tensors *files) { return files->count; }
const qr_tensor *qr_tensors_at(const qr_tensors *files, uint32_t index) { return &files->tensors[index]; }

const qr_tensor *qr_tensors_find(const qr_tensors *files, const char *name)
{
    const qr_tensor wanted = {.name = name};
    if (files->count == 0) return NULL;
    return bsearch(&wanted, files->tensors, files->count, sizeof wanted, by_name_alone);
}

const char *qr_tensors_name(const qr_tensors *files)
{
    return files->index[0] != '\0' ? files->index : files->files[0].label;
}

const char *qr_tensors_file_name(const qr_tensors *files, const qr_tensor *tensor)
{
    return files->files[tensor->file].label;
}

const char *qr_tensors_config_name(const qr_tensors *files) { return files->config_name; }

/* ---- reading ---- */

static uint64_t elements_of(const qr_tensor *tensor)
{
    return (tensor->end - tensor->begin) / tensor->format->block_bytes * tensor->format->block_elements;
}

void qr_tensors_format_shape(char *text, size_t capacity, const qr_tensor *tensor)
{
    size_t used = (size_t)snprintf(text, capacity, "[");
    for (uint32_t i = 0; i < tensor->rank && used < capacity; i++)
        used += (size_t)snprintf(text + used, capacity - used, "%s%llu", i ? ", " : "",
                                 (unsigned long long)tensor->shape[i]);
    if (used < capacity) snprintf(text + used, capacity - used, "]");
}

quire_status qr_tensors_check_readable(const qr_tensors *files, const qr_tensor *tensor, quire_error *error)
{
    if (tensor->format->decode != NULL || tensor->packed != NULL) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "%s: tensor \"%.80s\" at byte %llu: dtype %s is not supported",
                   qr_tensors_file_name(files, tensor), tensor->name, (unsigned long long)tensor->begin,
                   tensor->format->name);
}

static quire_status read_blocks(const qr_tensor_file *file, const char *label, const qr_tensor_format *format,
                                uint64_t offset, uint64_t blocks, float *out, quire_error *error)
{
    unsigned char  chunk[CHUNK_BYTES];
    const uint64_t at_once = sizeof chunk / format->block_bytes;
    for (uint64_t done = 0; done < blocks;) {
        const uint64_t now = qr_min_u64(blocks - done, at_once);
        QR_TRY(qr_file_read(&file->file, label, offset + done * format->block_bytes, chunk, now * format->block_bytes,
                            error));
        format->decode(chunk, now, out + done * format->block_elements);
        done += now;
    }
    return QUIRE_OK;
}

/* Where row `row` stands in the file. */
static uint64_t stored_row(const qr_tensor *tensor, uint64_t row)
{
    const uint64_t rows = tensor->paired_rows, half = rows / 2, i = row % rows;
    return row - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

static quire_status read_paired(const qr_tensor_file *file, const char *label, const qr_tensor *tensor, uint64_t first,
                                uint64_t count, float *out, quire_error *error)
{
    const qr_tensor_format *format = tensor->format;
    const uint64_t          width  = tensor->rank == 1 ? 1 : tensor->shape[tensor->rank - 1];
    const uint64_t          blocks = width / format->block_elements;
    qr_assert(width > 0 && first % width == 0 && count % width == 0);
    for (uint64_t row = first / width; row < (first + count) / width; row++, out += width) {
        const uint64_t offset = tensor->begin + stored_row(tensor, row) * blocks * format->block_bytes;
        QR_TRY(read_blocks(file, label, format, offset, blocks, out, error));
    }
    return QUIRE_OK;
}

quire_status qr_tensors_read_bytes(const qr_tensors *files, const qr_tensor *tensor, uint64_t offset, uint64_t count,
                                   void *out, quire_error *error)
{
    const qr_tensor_file *file = &files->files[tensor->file];
    char                  label[2 * QR_FILE_NAME_BYTES];
    qr_assert(offset <= tensor->end - tensor->begin && count <= tensor->end - tensor->begin - offset);
    snprintf(label, sizeof label, "%.80s: tensor \"%.80s\"", file->label, tensor->name);
    return qr_file_read(&file->file, label, tensor->begin + offset, out, count, error);
}

static quire_status read_packed(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                float *out, quire_error *error)
{
    const uint64_t width = tensor->shape[1];
    qr_assert(first % width == 0 && count % width == 0);
    return qr_packed_read(files, tensor, first / width, count / width, out, error);
}

quire_status qr_tensors_read(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                             float *out, quire_error *error)
{
    const qr_tensor_file   *file   = &files->files[tensor->file];
    const qr_tensor_format *format = tensor->format;
    QR_TRY(qr_tensors_check_readable(files, tensor, error));
    if (tensor->packed != NULL) return read_packed(files, tensor, first, count, out, error);
    qr_assert(first <= elements_of(tensor) && count <= elements_of(tensor) - first);
    qr_assert(first % format->block_elements == 0 && count % format->block_elements == 0);
    char label[2 * QR_FILE_NAME_BYTES];
    snprintf(label, sizeof label, "%.80s: tensor \"%.80s\"", file->label, tensor->name);
    const uint64_t offset = tensor->begin + first / format->block_elements * format->block_bytes;
    if (tensor->paired_rows > 0)
        QR_TRY(read_paired(file, label, tensor, first, count, out, error));
    else
        QR_TRY(read_blocks(file, label, format, offset, count / format->block_elements, out, error));
    for (uint64_t i = 0; i < count && tensor->raised != 0; i++) out[i] -= tensor->raised;
    if (qr_file_unchanged(&file->file)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_IO, "%s at byte %llu: the file was changed while it was read", label,
                   (unsigned long long)offset);
}

/* ---- codes ---- */

qr_code_format qr_tensors_codes(const qr_tensor *tensor)
{
    if (tensor->rank != 2) return (qr_code_format){0};
    return tensor->packed != NULL ? qr_packed_codes(tensor->packed) : tensor->format->codes;
}

static quire_status split_blocks(const qr_tensor_file *file, const char *label, const qr_tensor_format *format,
                                 uint64_t offset, uint64_t blocks, uint8_t *codes, float *scales, float *minima,
                                 quire_error *error)
{
    unsigned char  chunk[CHUNK_BYTES];
    const uint64_t groups  = format->block_elements / format->codes.group;
    const uint64_t at_once = sizeof chunk / format->block_bytes;
    for (uint64_t done = 0; done < blocks;) {
        const uint64_t now = qr_min_u64(blocks - done, at_once);
        QR_TRY(qr_file_read(&file->file, label, offset + done * format->block_bytes, chunk, now * format->block_bytes,
                            error));
        format->split(chunk, now, codes + done * format->block_elements, scales + done * groups,
                      minima ? minima + done * groups : NULL);
        done += now;
    }
    return QUIRE_OK;
}

/* All rows at once, but for rows that are paired. */
static quire_status read_block_codes(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                     uint8_t *codes, float *scales, float *minima, quire_error *error)
{
    const qr_tensor_file   *file   = &files->files[tensor->file];
    const qr_tensor_format *format = tensor->format;
    const uint64_t          width = tensor->shape[1], groups = width / format->codes.group;
    const uint64_t          blocks = width / format->block_elements, rows = tensor->paired_rows > 0 ? 1 : count;
    char                    label[2 * QR_FILE_NAME_BYTES];
    snprintf(label, sizeof label, "%.80s: tensor \"%.80s\"", file->label, tensor->name);
    for (uint64_t i = 0; i < count; i += rows) {
        const uint64_t row = tensor->paired_rows > 0 ? stored_row(tensor, first + i) : first;
        QR_TRY(split_blocks(file, label, format, tensor->begin + row * blocks * format->block_bytes, rows * blocks,
                            codes + i * width, scales + i * groups, minima ? minima + i * groups : NULL, error));
    }
    if (qr_file_unchanged(&file->file)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_IO, "%s: the file was changed while it was read", label);
}

quire_status qr_tensors_read_codes(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                   uint8_t *codes, float *scales, float *minima, quire_error *error)
{
    qr_assert(qr_tensors_codes(tensor).bits > 0 && first <= tensor->shape[0] && count <= tensor->shape[0] - first);
    if (tensor->packed != NULL) return qr_packed_read_codes(files, tensor, first, count, codes, scales, minima, error);
    return read_block_codes(files, tensor, first, count, codes, scales, minima, error);
}

void qr_tensors_expect(const qr_tensors *files, const qr_tensor *tensor, uint32_t part, uint32_t parts)
{
    const uint64_t bytes = tensor->end - tensor->begin, from = bytes / parts * part;
    const uint64_t end = part + 1 == parts ? bytes : bytes / parts * (part + 1);
    qr_file_expect(&files->files[tensor->file].file, tensor->begin + from, end - from);
}

/* ---- comparing ---- */

static quire_status same_bytes(const qr_tensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                               quire_error *error)
{
    char                  chunks[2][CHUNK_BYTES];
    const qr_tensor_file *x = &files->files[a->file], *y = &files->files[b->file];
    const uint64_t        bytes = a->end - a->begin;
    for (uint64_t done = 0; done < bytes && *same_out;) {
        const uint64_t now = qr_min_u64(bytes - done, sizeof *chunks);
        QR_TRY(qr_file_read(&x->file, x->label, a->begin + done, chunks[0], now, error));
        QR_TRY(qr_file_read(&y->file, y->label, b->begin + done, chunks[1], now, error));
        *same_out = memcmp(chunks[0], chunks[1], now) == 0;
        done += now;
    }
    return QUIRE_OK;
}

static quire_status same_values(const qr_tensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                                quire_error *error)
{
    float          chunks[2][CHUNK_ELEMENTS];
    const uint64_t elements = elements_of(a);
    for (uint64_t done = 0; done < elements && *same_out;) {
        const uint64_t now = qr_min_u64(elements - done, CHUNK_ELEMENTS);
        QR_TRY(qr_tensors_read(files, a, done, now, chunks[0], error));
        QR_TRY(qr_tensors_read(files, b, done, now, chunks[1], error));
        *same_out = memcmp(chunks[0], chunks[1], now * sizeof(float)) == 0;
        done += now;
    }
    return QUIRE_OK;
}

quire_status qr_tensors_same(const qr_tensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                             quire_error *error)
{
    *same_out = a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
    *same_out = *same_out && a->packed == NULL && b->packed == NULL; /* nothing that may be tied is packed */
    if (!*same_out) return QUIRE_OK;
    if (a->format == b->format && a->paired_rows == b->paired_rows) return same_bytes(files, a, b, same_out, error);
    *same_out = a->format->decode != NULL && b->format->decode != NULL;
    return *same_out ? same_values(files, a, b, same_out, error) : QUIRE_OK;
}
