#include "model/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/number.h"
#include "model/files.h"
#include "model/json_scan.h"
#include "model/tally.h"

enum {
    NAME_BYTES      = 256, /* of a file name */
    PATH_BYTES      = 4096,
    MAX_ENTRY_BYTES = 1 << 16, /* of one tensor's description */
    MAX_INDEX_BYTES = 1 << 26,
    CHUNK_ELEMENTS  = 1 << 13, /* converted at once */
};

typedef struct shard {
    char     name[NAME_BYTES];  /* as the index calls it */
    char     label[NAME_BYTES]; /* with the end of its folder's path, for messages */
    qr_file  file;
    char    *header; /* [header_bytes]; keeps the tensors' names */
    uint64_t header_bytes;
} shard;

struct qr_safetensors {
    quire_allocator allocator;
    shard          *shards; /* [QR_SAFETENSORS_MAX_FILES] or [1] */
    uint32_t        shard_count, shard_capacity;
    qr_tensor      *tensors; /* [count] ascending by name */
    uint32_t        count, capacity;
    char            index[NAME_BYTES]; /* label of the list of shards; "": there is none */
};

static const struct {
    const char *name;
    uint32_t    bytes;
} dtypes[] = {{"F64", 8},  {"F32", 4}, {"F16", 2},     {"BF16", 2},    {"I64", 8},    {"I32", 4},
              {"I16", 2},  {"I8", 1},  {"U64", 8},     {"U32", 4},     {"U16", 2},    {"U8", 1},
              {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};

/* ---- one tensor's description ---- */

typedef struct entry_reader {
    const char  *file;
    uint64_t     data_start, file_bytes;
    quire_error *error;
} entry_reader;

#define BAD_TENSOR(r, t, format, ...)                                                                                  \
    qr_fail((r)->error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\": " format, (r)->file, (t)->name, __VA_ARGS__)

static quire_status read_dtype(const entry_reader *r, const json_t *entry, qr_tensor *tensor, uint32_t *bytes_out)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (dtype == NULL) return BAD_TENSOR(r, tensor, "%s", "dtype: missing or not a string");
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, dtype) != 0) continue;
        tensor->dtype = dtypes[i].name;
        *bytes_out    = dtypes[i].bytes;
        return QUIRE_OK;
    }
    return BAD_TENSOR(r, tensor, "dtype: \"%.20s\" is not known", dtype);
}

static quire_status read_shape(const entry_reader *r, const json_t *entry, qr_tensor *tensor, uint64_t *bytes)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return BAD_TENSOR(r, tensor, "%s", "shape: missing or not an array");
    if (json_array_size(shape) > QR_SAFETENSORS_MAX_RANK)
        return BAD_TENSOR(r, tensor, "shape: %zu dimensions, at most %d", json_array_size(shape),
                          QR_SAFETENSORS_MAX_RANK);
    tensor->rank = (uint32_t)json_array_size(shape);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return BAD_TENSOR(r, tensor, "shape[%u]: not an integer of at least 0", i);
        tensor->shape[i] = (uint64_t)json_integer_value(dim);
        if (!qr_mul_u64(*bytes, tensor->shape[i], bytes))
            return BAD_TENSOR(r, tensor, "shape[%u]: the product of the dimensions overflows", i);
    }
    return QUIRE_OK;
}

static quire_status read_offsets(const entry_reader *r, const json_t *entry, qr_tensor *tensor, uint64_t bytes)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return BAD_TENSOR(r, tensor, "%s", "data_offsets: missing or not two integers");
    const int64_t from = json_integer_value(begin), to = json_integer_value(end);
    if (from < 0 || to < from)
        return BAD_TENSOR(r, tensor, "data_offsets: [%lld, %lld] is not a range", (long long)from, (long long)to);
    if ((uint64_t)to - (uint64_t)from != bytes)
        return BAD_TENSOR(r, tensor, "data_offsets: [%lld, %lld] are %lld bytes, dtype and shape need %llu",
                          (long long)from, (long long)to, (long long)(to - from), (unsigned long long)bytes);
    if ((uint64_t)to > r->file_bytes - r->data_start)
        return BAD_TENSOR(r, tensor, "data_offsets: ends at byte %llu + %lld, the file has %llu bytes",
                          (unsigned long long)r->data_start, (long long)to, (unsigned long long)r->file_bytes);
    tensor->begin = r->data_start + (uint64_t)from;
    tensor->end   = r->data_start + (uint64_t)to;
    return QUIRE_OK;
}

static quire_status read_fields(const entry_reader *r, const json_t *entry, qr_tensor *tensor)
{
    uint32_t element = 0;
    QR_TRY(read_dtype(r, entry, tensor, &element));
    uint64_t bytes = element;
    QR_TRY(read_shape(r, entry, tensor, &bytes));
    return read_offsets(r, entry, tensor, bytes);
}

static quire_status read_entry(const entry_reader *r, qr_json_slice value, qr_tensor *tensor)
{
    json_error_t where;
    if (value.length > MAX_ENTRY_BYTES)
        return BAD_TENSOR(r, tensor, "its description is %zu bytes long, at most %d", value.length, MAX_ENTRY_BYTES);
    json_t *entry = json_loadb(value.text, value.length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (entry == NULL) return BAD_TENSOR(r, tensor, "%.100s", where.text);
    const quire_status status =
        json_is_object(entry) ? read_fields(r, entry, tensor) : BAD_TENSOR(r, tensor, "%s", "expected an object");
    json_decref(entry);
    return status;
}

/* ---- one file's header ---- */

static quire_status grow(qr_safetensors *files, const char *file, quire_error *error)
{
    if (files->count < files->capacity) return QUIRE_OK;
    if (files->count == QR_SAFETENSORS_MAX_TENSORS)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: more than %d tensors", file, QR_SAFETENSORS_MAX_TENSORS);
    const uint32_t capacity = files->capacity == 0 ? 64 : qr_min_u32(2 * files->capacity, QR_SAFETENSORS_MAX_TENSORS);
    qr_tensor     *tensors  = qr_allocate(&files->allocator, capacity * sizeof *tensors, 64);
    if (tensors == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its tensor table", file);
    if (files->count > 0) memcpy(tensors, files->tensors, files->count * sizeof *tensors);
    qr_deallocate(&files->allocator, files->tensors, files->capacity * sizeof *tensors);
    files->tensors  = tensors;
    files->capacity = capacity;
    return QUIRE_OK;
}

/* The name replaces its own JSON text, which is at least as long: the header is the pool of names. */
static const char *keep_name(shard *s, qr_json_slice key, const char *name)
{
    char *to = s->header + (key.text - s->header);
    return strcpy(to, name);
}

static quire_status add_member(qr_safetensors *files, uint32_t number, const entry_reader *r, qr_json_slice key,
                               qr_json_slice value)
{
    char name[QR_SAFETENSORS_MAX_NAME + 1];
    if (!qr_json_slice_string(key, name, sizeof name))
        return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: header: the name %.*s is not valid text of at most %d bytes",
                       r->file, (int)qr_min_u64(key.length, 80), key.text, QR_SAFETENSORS_MAX_NAME);
    if (strcmp(name, "__metadata__") == 0)
        return QUIRE_OK; /* notes of whoever wrote the file, which mean nothing here */
    QR_TRY(grow(files, r->file, r->error));
    qr_tensor *tensor = &files->tensors[files->count];
    *tensor           = (qr_tensor){.name = name, .file = number};
    QR_TRY(read_entry(r, value, tensor));
    tensor->name = keep_name(&files->shards[number], key, name);
    files->count++;
    return QUIRE_OK;
}

static quire_status parse_header(qr_safetensors *files, uint32_t number, const entry_reader *r)
{
    const shard  *s    = &files->shards[number];
    qr_json_scan  scan = qr_json_scan_of(s->header, s->header_bytes, QR_SAFETENSORS_MAX_DEPTH - 1);
    qr_json_slice key  = {0}, value;
    while (qr_json_scan_next(&scan, &key, &value)) QR_TRY(add_member(files, number, r, key, value));
    if (qr_json_scan_ended(&scan)) return QUIRE_OK;
    const int shown = (int)qr_min_u64(key.length, 80);
    return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: header, byte %llu%s%.*s: %s", r->file,
                   (unsigned long long)scan.at + 8, shown ? ", near " : "", shown, shown ? key.text : "", scan.problem);
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

static quire_status check_distinct(const qr_safetensors *files, const qr_tensor *tensors, uint32_t count,
                                   quire_error *error)
{
    for (uint32_t i = 1; i < count; i++)
        if (strcmp(tensors[i - 1].name, tensors[i].name) == 0)
            return qr_fail(
                error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\": appears twice, at byte %llu and in %s at byte %llu",
                files->shards[tensors[i - 1].file].label, tensors[i].name, (unsigned long long)tensors[i - 1].begin,
                files->shards[tensors[i].file].name, (unsigned long long)tensors[i].begin);
    return QUIRE_OK;
}

/* Every byte after the header belongs to exactly one tensor. */
static quire_status check_cover(const entry_reader *r, const qr_tensor *tensors, uint32_t count)
{
    uint64_t at = r->data_start;
    for (uint32_t i = 0; i < count; i++) {
        const qr_tensor *t = &tensors[i];
        if (t->begin < at)
            return BAD_TENSOR(r, t, "at byte %llu it overlaps \"%.80s\", which ends at byte %llu",
                              (unsigned long long)t->begin, i ? tensors[i - 1].name : "", (unsigned long long)at);
        if (t->begin > at)
            return BAD_TENSOR(r, t, "begins at byte %llu, but the one before it ends at byte %llu",
                              (unsigned long long)t->begin, (unsigned long long)at);
        at = t->end;
    }
    if (at == r->file_bytes) return QUIRE_OK;
    return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: %llu bytes follow the last tensor \"%.80s\" at byte %llu", r->file,
                   (unsigned long long)(r->file_bytes - at), count ? tensors[count - 1].name : "",
                   (unsigned long long)at);
}

static quire_status read_header(const qr_safetensors *files, shard *s, quire_error *error)
{
    unsigned char prefix[8];
    uint64_t      bytes = 0;
    if (s->file.size < sizeof prefix)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: %llu bytes are too few for a header", s->label,
                       (unsigned long long)s->file.size);
    QR_TRY(qr_file_read(&s->file, s->label, 0, prefix, sizeof prefix, error));
    for (int i = 7; i >= 0; i--) bytes = bytes << 8 | prefix[i];
    if (bytes > QR_SAFETENSORS_MAX_HEADER || bytes > s->file.size - sizeof prefix)
        return qr_fail(error, QUIRE_ERR_FORMAT,
                       "%s: a header of %llu bytes at byte 0, the file has %llu bytes and the limit is %d", s->label,
                       (unsigned long long)bytes, (unsigned long long)s->file.size, QR_SAFETENSORS_MAX_HEADER);
    s->header = qr_allocate(&files->allocator, bytes, 64);
    if (s->header == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its header", s->label);
    s->header_bytes = bytes;
    return qr_file_read(&s->file, s->label, sizeof prefix, s->header, bytes, error);
}

static quire_status open_shard(qr_safetensors *files, const char *path, const char *name, quire_error *error)
{
    const uint32_t number = files->shard_count, first = files->count;
    shard         *s = &files->shards[number];
    snprintf(s->name, sizeof s->name, "%s", qr_path_tail(name));
    snprintf(s->label, sizeof s->label, "%s", qr_path_tail(path));
    s->file.descriptor = -1;
    files->shard_count++;
    QR_TRY(qr_file_open(path, &s->file, error));
    QR_TRY(read_header(files, s, error));
    const entry_reader r = {s->label, 8 + s->header_bytes, s->file.size, error};
    QR_TRY(parse_header(files, number, &r));
    const uint32_t count = files->count - first;
    if (count == 0) return check_cover(&r, NULL, 0);
    qr_tensor *tensors = files->tensors + first;
    qsort(tensors, count, sizeof *tensors, by_name);
    QR_TRY(check_distinct(files, tensors, count, error));
    qsort(tensors, count, sizeof *tensors, by_offset);
    return check_cover(&r, tensors, count);
}

/* ---- shards ---- */

typedef struct index_reader {
    qr_safetensors *files;
    const char     *folder;
    qr_log         *log;
    quire_error    *error;
    qr_tally       *absent; /* names that no file holds; in the second pass, when all shards are open */
} index_reader;

static const char INDEX[] = "model.safetensors.index.json";

static shard *find_shard(const qr_safetensors *files, const char *name)
{
    for (uint32_t i = files->shard_count; i-- > 0;) /* the map mostly repeats the last one */
        if (strcmp(files->shards[i].name, name) == 0) return &files->shards[i];
    return NULL;
}

static quire_status open_named(const index_reader *r, const char *name)
{
    char path[PATH_BYTES];
    if (find_shard(r->files, name) != NULL) return QUIRE_OK;
    if (r->files->shard_count == QR_SAFETENSORS_MAX_FILES)
        return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: more than %d files", r->files->index, QR_SAFETENSORS_MAX_FILES);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", r->folder, name) >= sizeof path)
        return qr_fail(r->error, QUIRE_ERR_IO, "%s: the path is too long", name);
    return open_shard(r->files, path, name, r->error);
}

/* [*first_out, *end_out): the tensors of that name, of several files. */
static void find_all(const qr_safetensors *files, const char *name, uint32_t *first_out, uint32_t *end_out)
{
    const qr_tensor *found = qr_safetensors_find(files, name);
    uint32_t         first = found ? (uint32_t)(found - files->tensors) : 0, end = first;
    while (found && first > 0 && strcmp(files->tensors[first - 1].name, name) == 0) --first;
    while (found && end < files->count && strcmp(files->tensors[end].name, name) == 0) ++end;
    *first_out = first;
    *end_out   = end;
}

/* Marks the tensor of that file as listed; where only other files hold it, these are doubtful. */
static void compare_named(const index_reader *r, const char *tensor, const char *file)
{
    const qr_safetensors *files = r->files;
    uint32_t              first, end, found = 0;
    find_all(files, tensor, &first, &end);
    for (uint32_t i = first; i < end; i++) {
        files->tensors[i].listed = strcmp(files->shards[files->tensors[i].file].name, file) == 0;
        found += files->tensors[i].listed;
    }
    for (uint32_t i = first; i < end; i++) files->tensors[i].doubt = found ? QR_TENSOR_SURE : QR_TENSOR_MISPLACED;
    if (first == end) qr_tally_add(r->absent, tensor);
}

static quire_status take_entry(const index_reader *r, qr_json_slice key, qr_json_slice value)
{
    char tensor[QR_SAFETENSORS_MAX_NAME + 1], file[81];
    if (!qr_json_slice_string(key, tensor, sizeof tensor))
        return qr_fail(r->error, QUIRE_ERR_FORMAT,
                       "%s: weight_map: the name %.*s is not valid text of at most %d bytes", r->files->index,
                       (int)qr_min_u64(key.length, 80), key.text, QR_SAFETENSORS_MAX_NAME);
    while (value.length > 0 && strchr(" \t\r\n", value.text[value.length - 1]) != NULL) value.length--;
    /* a name, not a path: the index must not lead out of the folder */
    if (!qr_json_slice_string(value, file, sizeof file) || file[0] == '\0' || strchr(file, '/') != NULL)
        return qr_fail(r->error, QUIRE_ERR_FORMAT,
                       "%s: weight_map: tensor \"%.80s\": expected a file name of at most 80 bytes", r->files->index,
                       tensor);
    if (r->absent == NULL) return open_named(r, file);
    compare_named(r, tensor, file);
    return QUIRE_OK;
}

static quire_status walk_map(const index_reader *r, qr_json_slice map)
{
    qr_json_scan  scan    = qr_json_scan_of(map.text, map.length, 1);
    qr_json_slice key     = {0}, value;
    uint32_t      entries = 0;
    while (qr_json_scan_next(&scan, &key, &value)) {
        if (++entries > QR_SAFETENSORS_MAX_TENSORS)
            return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: weight_map: more than %d tensors", r->files->index,
                           QR_SAFETENSORS_MAX_TENSORS);
        QR_TRY(take_entry(r, key, value));
    }
    if (!qr_json_scan_ended(&scan))
        return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: weight_map, byte %zu: %s", r->files->index, scan.at,
                       scan.problem);
    return entries > 0 ? QUIRE_OK : qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: weight_map: empty", r->files->index);
}

static quire_status find_map(const char *label, const char *text, size_t length, qr_json_slice *map_out,
                             quire_error *error)
{
    qr_json_scan  scan = qr_json_scan_of(text, length, QR_SAFETENSORS_MAX_DEPTH);
    qr_json_slice key = {0}, value, map = {0};
    while (qr_json_scan_next(&scan, &key, &value)) {
        char name[16];
        if (!qr_json_slice_string(key, name, sizeof name) || strcmp(name, "weight_map") != 0) continue;
        if (map.text != NULL) return qr_fail(error, QUIRE_ERR_FORMAT, "%s: weight_map: appears twice", label);
        map = value;
    }
    if (!qr_json_scan_ended(&scan))
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: byte %zu: %s", label, scan.at, scan.problem);
    if (map.text == NULL) return qr_fail(error, QUIRE_ERR_FORMAT, "%s: weight_map: missing", label);
    *map_out = map;
    return QUIRE_OK;
}

static void sort_all(qr_safetensors *files)
{
    if (files->count > 0) qsort(files->tensors, files->count, sizeof *files->tensors, by_name);
}

/* One of the tensors [first, end) of the same name is kept: the listed one, else the first. If another has other
 * values, it is doubtful. */
static quire_status merge(const index_reader *r, uint32_t first, uint32_t end, qr_tensor *kept_out, qr_tally *twins)
{
    const qr_tensor *tensors = r->files->tensors;
    uint32_t         kept    = first;
    for (uint32_t i = first; i < end && !tensors[kept].listed; i++)
        if (tensors[i].listed) kept = i;
    *kept_out = tensors[kept];
    if (end - first > 1) qr_tally_add(twins, kept_out->name);
    for (uint32_t i = first; i < end; i++) {
        bool same = true;
        if (i != kept) QR_TRY(qr_safetensors_same(r->files, &tensors[kept], &tensors[i], &same, r->error));
        if (!same) kept_out->doubt = QR_TENSOR_CONTESTED;
    }
    return QUIRE_OK;
}

static quire_status merge_all(const index_reader *r)
{
    qr_safetensors *files = r->files;
    qr_tally        twins = {0}, unlisted = {0}, misplaced = {0};
    uint32_t        kept = 0;
    for (uint32_t first = 0, end; first < files->count; first = end) {
        for (end = first + 1; end < files->count;) {
            if (strcmp(files->tensors[first].name, files->tensors[end].name) != 0) break;
            end++;
        }
        qr_tensor tensor;
        QR_TRY(merge(r, first, end, &tensor, &twins));
        if (!tensor.listed) qr_tally_add(tensor.doubt == QR_TENSOR_MISPLACED ? &misplaced : &unlisted, tensor.name);
        files->tensors[kept++] = tensor;
    }
    files->count = kept;
    qr_tally_warn(&twins, r->log, files->index, "tensors that more than one file holds");
    qr_tally_warn(&misplaced, r->log, files->index, "tensors that are in another file than weight_map says");
    qr_tally_warn(&unlisted, r->log, files->index, "tensors that weight_map does not name");
    return QUIRE_OK;
}

static quire_status open_listed(qr_safetensors *files, const char *folder, const char *text, size_t length, qr_log *log,
                                quire_error *error)
{
    qr_json_slice map;
    qr_tally      absent = {0};
    QR_TRY(find_map(files->index, text, length, &map, error));
    index_reader r = {.files = files, .folder = folder, .log = log, .error = error};
    QR_TRY(walk_map(&r, map));
    sort_all(files);
    r.absent = &absent;
    QR_TRY(walk_map(&r, map));
    qr_tally_warn(&absent, log, files->index, "tensors that weight_map names and no file holds");
    return merge_all(&r);
}

static quire_status open_index(qr_safetensors *files, const char *folder, const char *path, qr_log *log,
                               quire_error *error)
{
    char    *text;
    uint64_t length;
    snprintf(files->index, sizeof files->index, "%s", qr_path_tail(path));
    quire_status status = qr_file_read_whole(path, MAX_INDEX_BYTES, &files->allocator, &text, &length, error);
    if (status == QUIRE_OK) status = open_listed(files, folder, text, length, log, error);
    qr_deallocate(&files->allocator, text, length);
    return status;
}

/* ---- open, find ---- */

static quire_status create(const quire_allocator *allocator, uint32_t shards, qr_safetensors **files_out,
                           quire_error *error)
{
    qr_safetensors *files = qr_allocate(allocator, sizeof *files, 64);
    *files_out            = files;
    if (files != NULL) {
        if (allocator != NULL) files->allocator = *allocator;
        files->shard_capacity = shards;
        files->shards         = qr_allocate(allocator, shards * sizeof *files->shards, 64);
        if (files->shards != NULL) return QUIRE_OK;
    }
    return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory for the table of a model's files");
}

static quire_status closing_on_failure(quire_status status, qr_safetensors **files)
{
    if (status != QUIRE_OK) {
        qr_safetensors_close(*files);
        *files = NULL;
    }
    return status;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

quire_status qr_safetensors_open_file(const char *path, const quire_allocator *allocator, qr_safetensors **files_out,
                                      quire_error *error)
{
    quire_status status = create(allocator, 1, files_out, error);
    if (status == QUIRE_OK) status = open_shard(*files_out, path, last_part(path), error);
    if (status == QUIRE_OK) sort_all(*files_out);
    return closing_on_failure(status, files_out);
}

quire_status qr_safetensors_open(const char *folder, const quire_allocator *allocator, qr_log *log,
                                 qr_safetensors **files_out, quire_error *error)
{
    char index[PATH_BYTES], single[PATH_BYTES];
    *files_out = NULL;
    if ((size_t)snprintf(index, sizeof index, "%s/%s", folder, INDEX) >= sizeof index)
        return qr_fail(error, QUIRE_ERR_IO, "%s: the path is too long", qr_path_tail(folder));
    snprintf(single, sizeof single, "%s/model.safetensors", folder);
    const bool sharded = access(index, F_OK) == 0;
    if (access(single, F_OK) == 0) {
        if (sharded)
            qr_log_write(log, QUIRE_LOG_INFO, "%s: not read, there is a model.safetensors", qr_path_tail(index));
        return qr_safetensors_open_file(single, allocator, files_out, error);
    }
    if (!sharded)
        return qr_fail(error, QUIRE_ERR_IO, "%s: has neither model.safetensors nor %s", qr_path_tail(folder), INDEX);
    quire_status status = create(allocator, QR_SAFETENSORS_MAX_FILES, files_out, error);
    if (status == QUIRE_OK) status = open_index(*files_out, folder, index, log, error);
    return closing_on_failure(status, files_out);
}

void qr_safetensors_close(qr_safetensors *files)
{
    if (files == NULL) return;
    const quire_allocator allocator = files->allocator;
    for (uint32_t i = 0; i < files->shard_count; i++) {
        qr_file_close(&files->shards[i].file);
        qr_deallocate(&allocator, files->shards[i].header, files->shards[i].header_bytes);
    }
    qr_deallocate(&allocator, files->shards, files->shard_capacity * sizeof *files->shards);
    qr_deallocate(&allocator, files->tensors, files->capacity * sizeof *files->tensors);
    qr_deallocate(&allocator, files, sizeof *files);
}

uint32_t         qr_safetensors_count(const qr_safetensors *files) { return files->count; }
const qr_tensor *qr_safetensors_at(const qr_safetensors *files, uint32_t index) { return &files->tensors[index]; }

const qr_tensor *qr_safetensors_find(const qr_safetensors *files, const char *name)
{
    const qr_tensor wanted = {.name = name};
    if (files->count == 0) return NULL;
    return bsearch(&wanted, files->tensors, files->count, sizeof wanted, by_name_alone);
}

const char *qr_safetensors_name(const qr_safetensors *files)
{
    return files->index[0] != '\0' ? files->index : files->shards[0].label;
}

const char *qr_safetensors_file_name(const qr_safetensors *files, const qr_tensor *tensor)
{
    return files->shards[tensor->file].label;
}

/* ---- reading ---- */

static bool is_dtype(const qr_tensor *tensor, const char *dtype) { return strcmp(tensor->dtype, dtype) == 0; }

static quire_status same_bytes(const qr_safetensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                               quire_error *error)
{
    char           chunks[2][2 * CHUNK_ELEMENTS];
    const shard   *x = &files->shards[a->file], *y = &files->shards[b->file];
    const uint64_t bytes = a->end - a->begin;
    for (uint64_t done = 0; done < bytes && *same_out;) {
        const uint64_t now = qr_min_u64(bytes - done, sizeof *chunks);
        QR_TRY(qr_file_read(&x->file, x->label, a->begin + done, chunks[0], now, error));
        QR_TRY(qr_file_read(&y->file, y->label, b->begin + done, chunks[1], now, error));
        *same_out = memcmp(chunks[0], chunks[1], now) == 0;
        done += now;
    }
    return QUIRE_OK;
}

static quire_status same_values(const qr_safetensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                                quire_error *error)
{
    float    chunks[2][CHUNK_ELEMENTS];
    uint64_t elements = 1;
    for (uint32_t i = 0; i < a->rank; i++) elements *= a->shape[i];
    for (uint64_t done = 0; done < elements && *same_out;) {
        const uint64_t now = qr_min_u64(elements - done, CHUNK_ELEMENTS);
        QR_TRY(qr_safetensors_read(files, a, done, now, chunks[0], error));
        QR_TRY(qr_safetensors_read(files, b, done, now, chunks[1], error));
        *same_out = memcmp(chunks[0], chunks[1], now * sizeof(float)) == 0;
        done += now;
    }
    return QUIRE_OK;
}

quire_status qr_safetensors_same(const qr_safetensors *files, const qr_tensor *a, const qr_tensor *b, bool *same_out,
                                 quire_error *error)
{
    *same_out = a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
    if (!*same_out) return QUIRE_OK;
    if (is_dtype(a, b->dtype)) return same_bytes(files, a, b, same_out, error);
    *same_out = qr_safetensors_check_readable(files, a, NULL) == QUIRE_OK &&
                qr_safetensors_check_readable(files, b, NULL) == QUIRE_OK;
    return *same_out ? same_values(files, a, b, same_out, error) : QUIRE_OK;
}

quire_status qr_safetensors_check_readable(const qr_safetensors *files, const qr_tensor *tensor, quire_error *error)
{
    if (is_dtype(tensor, "F32") || is_dtype(tensor, "BF16") || is_dtype(tensor, "F16")) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_UNSUPPORTED,
                   "%s: tensor \"%.80s\" at byte %llu: dtype %s is not supported, only F32, BF16 and F16",
                   qr_safetensors_file_name(files, tensor), tensor->name, (unsigned long long)tensor->begin,
                   tensor->dtype);
}

static void widen(const uint16_t *from, bool bf16, uint64_t count, float *to)
{
    if (bf16)
        for (uint64_t i = 0; i < count; i++) to[i] = qr_f32_of_bf16(from[i]);
    else
        for (uint64_t i = 0; i < count; i++) to[i] = qr_f32_of_f16(from[i]);
}

static quire_status read_halves(const shard *s, const char *label, bool bf16, uint64_t offset, uint64_t count,
                                float *out, quire_error *error)
{
    uint16_t chunk[CHUNK_ELEMENTS];
    for (uint64_t done = 0; done < count;) {
        const uint64_t now = qr_min_u64(count - done, CHUNK_ELEMENTS);
        QR_TRY(qr_file_read(&s->file, label, offset + 2 * done, chunk, 2 * now, error));
        widen(chunk, bf16, now, out + done);
        done += now;
    }
    return QUIRE_OK;
}

quire_status qr_safetensors_read(const qr_safetensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                 float *out, quire_error *error)
{
    const shard *s = &files->shards[tensor->file];
    QR_TRY(qr_safetensors_check_readable(files, tensor, error));
    const bool     wide     = is_dtype(tensor, "F32");
    const uint64_t bytes    = wide ? 4 : 2;
    const uint64_t elements = (tensor->end - tensor->begin) / bytes;
    qr_assert(first <= elements && count <= elements - first);
    char label[2 * NAME_BYTES];
    snprintf(label, sizeof label, "%.80s: tensor \"%.80s\"", s->label, tensor->name);
    const uint64_t offset = tensor->begin + first * bytes;
    if (wide)
        QR_TRY(qr_file_read(&s->file, label, offset, out, 4 * count, error));
    else
        QR_TRY(read_halves(s, label, is_dtype(tensor, "BF16"), offset, count, out, error));
    if (qr_file_unchanged(&s->file)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_IO, "%s at byte %llu: the file was changed while it was read", label,
                   (unsigned long long)offset);
}

void qr_safetensors_expect(const qr_safetensors *files, const qr_tensor *tensor, uint32_t part, uint32_t parts)
{
    const uint64_t bytes = tensor->end - tensor->begin, from = bytes / parts * part;
    const uint64_t end = part + 1 == parts ? bytes : bytes / parts * (part + 1);
    qr_file_expect(&files->shards[tensor->file].file, tensor->begin + from, end - from);
}
