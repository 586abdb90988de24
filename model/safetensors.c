#include "model/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/json_scan.h"
#include "model/tally.h"
#include "model/tensor_files.h"

enum {
    PATH_BYTES      = 4096,
    MAX_ENTRY_BYTES = 1 << 16, /* of one tensor's description */
    MAX_INDEX_BYTES = 1 << 26,
};

/* ---- one tensor's description ---- */

typedef struct entry_reader {
    const char  *file;
    uint64_t     data_start, file_bytes;
    quire_error *error;
} entry_reader;

#define BAD_TENSOR(r, t, ...) QR_BAD_TENSOR((r)->error, (r)->file, t, __VA_ARGS__)

static quire_status read_dtype(const entry_reader *r, const json_t *entry, qr_tensor *tensor)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (dtype == NULL) return BAD_TENSOR(r, tensor, "%s", "dtype: missing or not a string");
    tensor->format = qr_tensor_format_of_dtype(dtype);
    if (tensor->format == NULL) return BAD_TENSOR(r, tensor, "dtype: \"%.20s\" is not known", dtype);
    return QUIRE_OK;
}

static quire_status read_shape(const entry_reader *r, const json_t *entry, qr_tensor *tensor, uint64_t *bytes)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return BAD_TENSOR(r, tensor, "%s", "shape: missing or not an array");
    if (json_array_size(shape) > QR_TENSORS_MAX_RANK)
        return BAD_TENSOR(r, tensor, "shape: %zu dimensions, at most %d", json_array_size(shape), QR_TENSORS_MAX_RANK);
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
    QR_TRY(read_dtype(r, entry, tensor));
    uint64_t bytes = tensor->format->block_bytes;
    QR_TRY(read_shape(r, entry, tensor, &bytes));
    return read_offsets(r, entry, tensor, bytes);
}

static quire_status read_entry(const entry_reader *r, qr_json_slice value, qr_tensor *tensor)
{
    json_error_t where;
    if (value.length > MAX_ENTRY_BYTES)
        return BAD_TENSOR(r, tensor, "its description is %zu bytes long, at most %d", value.length, MAX_ENTRY_BYTES);
    json_t *entry = json_loadb(value.text, value.length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (entry == NULL) return BAD_TENSOR(r, tensor, "%.100s", where.text[0] != '\0' ? where.text : "no memory");
    const quire_status status =
        json_is_object(entry) ? read_fields(r, entry, tensor) : BAD_TENSOR(r, tensor, "%s", "expected an object");
    json_decref(entry);
    return status;
}

/* ---- one file's header ---- */

/* The name replaces its own JSON text, which is at least as long: the header is the pool of names. */
static const char *keep_name(const qr_tensor_file *file, qr_json_slice key, const char *name)
{
    char *to = file->names + (key.text - file->names);
    return strcpy(to, name);
}

static quire_status add_member(qr_tensors *files, const entry_reader *r, qr_json_slice key, qr_json_slice value)
{
    char name[QR_TENSORS_MAX_NAME + 1];
    if (!qr_json_slice_string(key, name, sizeof name))
        return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: header: the name %.*s is not valid text of at most %d bytes",
                       r->file, (int)qr_min_u64(key.length, 80), key.text, QR_TENSORS_MAX_NAME);
    if (strcmp(name, "__metadata__") == 0)
        return QUIRE_OK; /* notes of whoever wrote the file, which mean nothing here */
    qr_tensor *tensor;
    QR_TRY(qr_tensors_reserve(files, &tensor, r->error));
    tensor->name = name;
    QR_TRY(read_entry(r, value, tensor));
    tensor->name = keep_name(&files->files[tensor->file], key, name);
    files->count++;
    return QUIRE_OK;
}

static quire_status parse_header(qr_tensors *files, const entry_reader *r)
{
    const qr_tensor_file *file = &files->files[files->file_count - 1];
    qr_json_scan          scan = qr_json_scan_of(file->names, file->name_bytes, QR_SAFETENSORS_MAX_DEPTH - 1);
    qr_json_slice         key  = {0}, value;
    while (qr_json_scan_next(&scan, &key, &value)) QR_TRY(add_member(files, r, key, value));
    if (qr_json_scan_ended(&scan)) return QUIRE_OK;
    const int shown = (int)qr_min_u64(key.length, 80);
    return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: header, byte %llu%s%.*s: %s", r->file,
                   (unsigned long long)scan.at + 8, shown ? ", near " : "", shown, shown ? key.text : "", scan.problem);
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

static quire_status read_header(const qr_tensors *files, qr_tensor_file *s, quire_error *error)
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
    s->names = qr_allocate(&files->allocator, bytes, 64);
    if (s->names == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its header", s->label);
    s->name_bytes = bytes;
    return qr_file_read(&s->file, s->label, sizeof prefix, s->names, bytes, error);
}

static quire_status open_shard(qr_tensors *files, const char *path, const char *name, quire_error *error)
{
    const uint32_t  first = files->count;
    qr_tensor_file *s     = &files->files[files->file_count];
    QR_TRY(qr_tensors_open_file(files, path, name, error));
    QR_TRY(read_header(files, s, error));
    const entry_reader r = {s->label, 8 + s->name_bytes, s->file.size, error};
    QR_TRY(parse_header(files, &r));
    QR_TRY(qr_tensors_check_names(files, first, error));
    return check_cover(&r, files->count > first ? files->tensors + first : NULL, files->count - first);
}

/* ---- shards ---- */

typedef struct index_reader {
    qr_tensors  *files;
    const char  *folder;
    qr_log      *log;
    quire_error *error;
    qr_tally    *absent; /* names that no file holds; in the second pass, when all shards are open */
} index_reader;

static const char INDEX[] = "model.safetensors.index.json";

static bool is_open(const qr_tensors *files, const char *name)
{
    for (uint32_t i = files->file_count; i-- > 0;) /* the map mostly repeats the last one */
        if (strcmp(files->files[i].name, name) == 0) return true;
    return false;
}

static quire_status open_named(const index_reader *r, const char *name)
{
    char path[PATH_BYTES];
    if (is_open(r->files, name)) return QUIRE_OK;
    if (r->files->file_count == QR_TENSORS_MAX_FILES)
        return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: more than %d files", r->files->index, QR_TENSORS_MAX_FILES);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", r->folder, name) >= sizeof path)
        return qr_fail(r->error, QUIRE_ERR_IO, "%s: the path is too long", name);
    return open_shard(r->files, path, name, r->error);
}

/* [*first_out, *end_out): the tensors of that name, of several files. */
static void find_all(const qr_tensors *files, const char *name, uint32_t *first_out, uint32_t *end_out)
{
    const qr_tensor *found = qr_tensors_find(files, name);
    uint32_t         first = found ? (uint32_t)(found - files->tensors) : 0, end = first;
    while (found && first > 0 && strcmp(files->tensors[first - 1].name, name) == 0) --first;
    while (found && end < files->count && strcmp(files->tensors[end].name, name) == 0) ++end;
    *first_out = first;
    *end_out   = end;
}

/* Marks the tensor of that file as listed; where only other files hold it, these are doubtful. */
static void compare_named(const index_reader *r, const char *tensor, const char *file)
{
    const qr_tensors *files = r->files;
    uint32_t          first, end, found = 0;
    find_all(files, tensor, &first, &end);
    for (uint32_t i = first; i < end; i++) {
        files->tensors[i].listed = strcmp(files->files[files->tensors[i].file].name, file) == 0;
        found += files->tensors[i].listed;
    }
    for (uint32_t i = first; i < end; i++) files->tensors[i].doubt = found ? QR_TENSOR_SURE : QR_TENSOR_MISPLACED;
    if (first == end) qr_tally_add(r->absent, tensor);
}

static quire_status take_entry(const index_reader *r, qr_json_slice key, qr_json_slice value)
{
    char tensor[QR_TENSORS_MAX_NAME + 1], file[81];
    if (!qr_json_slice_string(key, tensor, sizeof tensor))
        return qr_fail(r->error, QUIRE_ERR_FORMAT,
                       "%s: weight_map: the name %.*s is not valid text of at most %d bytes", r->files->index,
                       (int)qr_min_u64(key.length, 80), key.text, QR_TENSORS_MAX_NAME);
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
        if (++entries > QR_TENSORS_MAX)
            return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: weight_map: more than %d tensors", r->files->index,
                           QR_TENSORS_MAX);
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
        if (i != kept) QR_TRY(qr_tensors_same(r->files, &tensors[kept], &tensors[i], &same, r->error));
        if (!same) kept_out->doubt = QR_TENSOR_CONTESTED;
    }
    return QUIRE_OK;
}

static quire_status merge_all(const index_reader *r)
{
    qr_tensors *files = r->files;
    qr_tally    twins = {0}, unlisted = {0}, misplaced = {0};
    uint32_t    kept = 0;
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

static quire_status open_listed(qr_tensors *files, const char *folder, const char *text, size_t length, qr_log *log,
                                quire_error *error)
{
    qr_json_slice map;
    qr_tally      absent = {0};
    QR_TRY(find_map(files->index, text, length, &map, error));
    index_reader r = {.files = files, .folder = folder, .log = log, .error = error};
    QR_TRY(walk_map(&r, map));
    qr_tensors_sort(files);
    r.absent = &absent;
    QR_TRY(walk_map(&r, map));
    qr_tally_warn(&absent, log, files->index, "tensors that weight_map names and no file holds");
    return merge_all(&r);
}

static quire_status open_index(qr_tensors *files, const char *folder, const char *path, qr_log *log, quire_error *error)
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

quire_status qr_safetensors_open_file(const char *path, const quire_allocator *allocator, qr_tensors **files_out,
                                      quire_error *error)
{
    quire_status status = qr_tensors_create(allocator, 1, files_out, error);
    if (status == QUIRE_OK) status = open_shard(*files_out, path, qr_path_last(path), error);
    if (status == QUIRE_OK) qr_tensors_sort(*files_out);
    return qr_tensors_closing_on_failure(status, files_out);
}

quire_status qr_safetensors_open(const char *folder, const quire_allocator *allocator, qr_log *log,
                                 qr_tensors **files_out, quire_error *error)
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
    quire_status status = qr_tensors_create(allocator, QR_TENSORS_MAX_FILES, files_out, error);
    if (status == QUIRE_OK) status = open_index(*files_out, folder, index, log, error);
    return qr_tensors_closing_on_failure(status, files_out);
}
