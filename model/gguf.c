#include "model/gguf.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/tensor_files.h"

enum {
    PATH_BYTES        = 4096,
    BUFFER_BYTES      = 1 << 16,
    MAX_DIMENSIONS    = 4,  /* GGML's */
    TENSOR_BYTES      = 32, /* the least that a tensor's description takes */
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT     = 1 << 20,
    PART_BYTES        = 20, /* "-00001-of-00003.gguf" */
    VERSION_OLDEST    = 2,
    VERSION_NEWEST    = 3,
};

/* ---- bytes in order ---- */

/* Reads a header from its first byte on. */
typedef struct source {
    const qr_tensor_file *file;
    uint64_t              at;          /* of the next byte */
    uint64_t              first, held; /* the buffer has the bytes [first, first + held) of the file */
    quire_error          *error;
    unsigned char         buffer[BUFFER_BYTES];
} source;

#define BAD(s, ...) qr_fail((s)->error, QUIRE_ERR_FORMAT, "%s: " __VA_ARGS__)

static quire_status ends_early(const source *s, const char *what, uint64_t bytes)
{
    return BAD(s, "%s at byte %llu needs %llu bytes, the file has %llu", s->file->label, what,
               (unsigned long long)s->at, (unsigned long long)bytes, (unsigned long long)s->file->file.size);
}

static quire_status skip(source *s, uint64_t bytes, const char *what)
{
    if (bytes > s->file->file.size - s->at) return ends_early(s, what, bytes);
    s->at += bytes;
    return QUIRE_OK;
}

/* At most BUFFER_BYTES. */
static quire_status take(source *s, void *out, uint64_t bytes, const char *what)
{
    if (bytes > s->file->file.size - s->at) return ends_early(s, what, bytes);
    if (s->at < s->first || s->at + bytes > s->first + s->held) {
        s->first = s->at;
        s->held  = qr_min_u64(BUFFER_BYTES, s->file->file.size - s->at);
        QR_TRY(qr_file_read(&s->file->file, s->file->label, s->first, s->buffer, s->held, s->error));
    }
    memcpy(out, s->buffer + (s->at - s->first), bytes);
    s->at += bytes;
    return QUIRE_OK;
}

static quire_status take_u32(source *s, uint32_t *out, const char *what) { return take(s, out, sizeof *out, what); }
static quire_status take_u64(source *s, uint64_t *out, const char *what) { return take(s, out, sizeof *out, what); }

/* A name of 1 to `most` bytes, text without a NUL. */
static quire_status take_name(source *s, char *out, uint32_t most, const char *what)
{
    const uint64_t at     = s->at;
    uint64_t       length = 0;
    QR_TRY(take_u64(s, &length, what));
    if (length == 0 || length > most)
        return BAD(s, "%s at byte %llu: a name of %llu bytes, must be 1 to %u", s->file->label, what,
                   (unsigned long long)at, (unsigned long long)length, most);
    QR_TRY(take(s, out, length, what));
    out[length]  = '\0';
    json_t *text = json_stringn(out, length); /* NULL: not UTF-8 */
    json_decref(text);
    if (text != NULL && strlen(out) == length) return QUIRE_OK;
    return BAD(s, "%s at byte %llu: its name is not UTF-8 text", s->file->label, what, (unsigned long long)at);
}

/* ---- values ---- */

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, TYPE_COUNT };

static const uint32_t type_bytes[TYPE_COUNT] = {[U8] = 1,  [I8] = 1,   [U16] = 2, [I16] = 2, [U32] = 4, [I32] = 4,
                                                [F32] = 4, [BOOL] = 1, [U64] = 8, [I64] = 8, [F64] = 8};

static json_t *number_of(double number)
{
    return isfinite(number) ? json_real(number) : json_string(isnan(number) ? "NaN" : "Infinity");
}

static json_t *unsigned_of(uint64_t number)
{
    return number <= INT64_MAX ? json_integer((json_int_t)number) : json_real((double)number);
}

/* Sign-extended from `bytes` bytes. */
static int64_t signed_of(uint64_t bits, uint32_t bytes)
{
    const uint32_t spare = 64 - 8 * bytes;
    return (int64_t)(bits << spare) >> spare;
}

static json_t *scalar_of(uint32_t type, uint64_t bits)
{
    float  single;
    double wide;
    switch (type) {
    case F32: memcpy(&single, &bits, sizeof single); return number_of((double)single);
    case F64: memcpy(&wide, &bits, sizeof wide); return number_of(wide);
    case BOOL: return json_boolean(bits != 0);
    case I8:
    case I16:
    case I32:
    case I64: return json_integer(signed_of(bits, type_bytes[type]));
    default: return unsigned_of(bits);
    }
}

static quire_status bad_type(const source *s, const char *key, uint64_t at, uint32_t type)
{
    return BAD(s, "key \"%.80s\" at byte %llu: type %u is not known", s->file->label, key, (unsigned long long)at,
               type);
}

/* Of text that is too long, or no text, nothing is kept. */
static quire_status take_text(source *s, const char *key, json_t **value_out)
{
    char     text[QR_GGUF_MAX_TEXT];
    uint64_t length = 0;
    QR_TRY(take_u64(s, &length, key));
    if (length > sizeof text) {
        *value_out = json_string("");
        return skip(s, length, key);
    }
    QR_TRY(take(s, text, length, key));
    *value_out = json_stringn(text, length);
    if (*value_out == NULL) *value_out = json_string("");
    return QUIRE_OK;
}

static quire_status skip_array(source *s, const char *key)
{
    const uint64_t at    = s->at;
    uint32_t       type  = 0;
    uint64_t       count = 0, bytes = 0;
    QR_TRY(take_u32(s, &type, key));
    QR_TRY(take_u64(s, &count, key));
    if (type == ARRAY)
        return BAD(s, "key \"%.80s\" at byte %llu: an array of arrays", s->file->label, key, (unsigned long long)at);
    if (type >= TYPE_COUNT) return bad_type(s, key, at, type);
    if (type != STRING) return skip(s, qr_mul_u64(count, type_bytes[type], &bytes) ? bytes : UINT64_MAX, key);
    for (uint64_t i = 0; i < count; i++) { /* each takes 8 bytes of the file: a count that is a lie ends soon */
        QR_TRY(take_u64(s, &bytes, key));
        QR_TRY(skip(s, bytes, key));
    }
    return QUIRE_OK;
}

static quire_status take_value(source *s, const char *key, json_t **value_out)
{
    const uint64_t at   = s->at;
    uint32_t       type = 0;
    uint64_t       bits = 0;
    QR_TRY(take_u32(s, &type, key));
    if (type >= TYPE_COUNT) return bad_type(s, key, at, type);
    if (type == STRING) return take_text(s, key, value_out);
    if (type == ARRAY) {
        *value_out = json_array();
        return skip_array(s, key);
    }
    QR_TRY(take(s, &bits, type_bytes[type], key));
    *value_out = scalar_of(type, bits);
    return QUIRE_OK;
}

static quire_status take_key(source *s, json_t *metadata)
{
    const uint64_t at = s->at;
    char           key[QR_GGUF_MAX_KEY + 1];
    json_t        *value = NULL;
    QR_TRY(take_name(s, key, QR_GGUF_MAX_KEY, "a key"));
    if (json_object_get(metadata, key) != NULL)
        return BAD(s, "key \"%.80s\" at byte %llu: appears twice", s->file->label, key, (unsigned long long)at);
    const quire_status status = take_value(s, key, &value);
    if (status != QUIRE_OK) {
        json_decref(value);
        return status;
    }
    if (json_object_set_new(metadata, key, value) == 0) return QUIRE_OK;
    return qr_fail(s->error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its metadata", s->file->label);
}

/* ---- the beginning ---- */

typedef struct beginning {
    uint64_t tensor_count, key_count;
    uint32_t alignment;
} beginning;

static quire_status take_beginning(source *s, beginning *b)
{
    char     magic[4];
    uint32_t version = 0;
    QR_TRY(take(s, magic, sizeof magic, "the beginning"));
    if (memcmp(magic, "GGUF", sizeof magic) != 0)
        return BAD(s, "does not begin with \"GGUF\": neither a GGUF file nor a folder", s->file->label);
    QR_TRY(take_u32(s, &version, "the version"));
    if (version < VERSION_OLDEST || version > VERSION_NEWEST)
        return qr_fail(s->error, QUIRE_ERR_UNSUPPORTED,
                       "%s: GGUF version %u at byte 4 is not supported, only %d and %d%s", s->file->label, version,
                       VERSION_OLDEST, VERSION_NEWEST, version << 16 == 0 ? ", little-endian" : "");
    QR_TRY(take_u64(s, &b->tensor_count, "the number of tensors"));
    QR_TRY(take_u64(s, &b->key_count, "the number of keys"));
    if (b->tensor_count > QR_TENSORS_MAX || b->tensor_count > s->file->file.size / TENSOR_BYTES)
        return BAD(s, "%llu tensors at byte 8, in %llu bytes; the limit is %d", s->file->label,
                   (unsigned long long)b->tensor_count, (unsigned long long)s->file->file.size, QR_TENSORS_MAX);
    if (b->key_count > QR_GGUF_MAX_KEYS)
        return BAD(s, "%llu keys at byte 16, at most %d", s->file->label, (unsigned long long)b->key_count,
                   QR_GGUF_MAX_KEYS);
    return QUIRE_OK;
}

static quire_status find_alignment(const source *s, const json_t *metadata, beginning *b)
{
    const json_t *given = json_object_get(metadata, "general.alignment");
    const int64_t value = given ? json_integer_value(given) : DEFAULT_ALIGNMENT;
    if (value < 1 || value > MAX_ALIGNMENT || !qr_is_power_of_two((uint64_t)value))
        return BAD(s, "general.alignment: must be a power of two up to %d", s->file->label, MAX_ALIGNMENT);
    b->alignment = (uint32_t)value;
    return QUIRE_OK;
}

/* ---- tensors ---- */

/* GGML counts dimensions from the innermost on. */
static quire_status take_shape(source *s, qr_tensor *tensor)
{
    const uint64_t at = s->at;
    QR_TRY(take_u32(s, &tensor->rank, tensor->name));
    if (tensor->rank < 1 || tensor->rank > MAX_DIMENSIONS) {
        const uint32_t rank = tensor->rank;
        tensor->rank        = 0;
        return QR_BAD_TENSOR(s->error, s->file->label, tensor, "%u dimensions at byte %llu, must be 1 to %d", rank,
                             (unsigned long long)at, MAX_DIMENSIONS);
    }
    for (uint32_t i = tensor->rank; i-- > 0;) QR_TRY(take_u64(s, &tensor->shape[i], tensor->name));
    return QUIRE_OK;
}

static quire_status take_format(source *s, qr_tensor *tensor)
{
    const uint64_t at   = s->at;
    uint32_t       type = 0;
    QR_TRY(take_u32(s, &type, tensor->name));
    tensor->format = qr_tensor_format_of_ggml(type);
    if (tensor->format != NULL) return QUIRE_OK;
    return QR_BAD_TENSOR(s->error, s->file->label, tensor, "type %u at byte %llu is not known", type,
                         (unsigned long long)at);
}

static quire_status measure(const source *s, const qr_tensor *tensor, uint64_t *bytes_out)
{
    const qr_tensor_format *format = tensor->format;
    const uint64_t          row    = tensor->shape[tensor->rank - 1];
    if (row % format->block_elements != 0)
        return QR_BAD_TENSOR(s->error, s->file->label, tensor,
                             "rows of %llu elements are not whole blocks of %s, which have %u", (unsigned long long)row,
                             format->name, format->block_elements);
    bool fits = qr_mul_u64(row / format->block_elements, format->block_bytes, bytes_out);
    for (uint32_t i = 0; i + 1 < tensor->rank; i++) fits = fits && qr_mul_u64(*bytes_out, tensor->shape[i], bytes_out);
    if (fits) return QUIRE_OK;
    return QR_BAD_TENSOR(s->error, s->file->label, tensor, "%s", "the product of its dimensions overflows");
}

/* `begin` is an offset still: where the bytes of tensors start is known after the last of them. */
static quire_status take_tensor(source *s, qr_tensors *files, const beginning *b, char *name)
{
    qr_tensor *tensor;
    uint64_t   bytes = 0;
    QR_TRY(take_name(s, name, QR_GGUF_NAME_BYTES - 1, "a tensor"));
    QR_TRY(qr_tensors_reserve(files, &tensor, s->error));
    tensor->name = name;
    QR_TRY(take_shape(s, tensor));
    QR_TRY(take_format(s, tensor));
    QR_TRY(measure(s, tensor, &bytes));
    const uint64_t at = s->at;
    QR_TRY(take_u64(s, &tensor->begin, name));
    if (tensor->begin % b->alignment != 0)
        return QR_BAD_TENSOR(s->error, s->file->label, tensor, "offset %llu at byte %llu is not a multiple of %u",
                             (unsigned long long)tensor->begin, (unsigned long long)at, b->alignment);
    if (!qr_add_u64(tensor->begin, bytes, &tensor->end))
        return QR_BAD_TENSOR(s->error, s->file->label, tensor, "offset %llu at byte %llu and %llu bytes overflow",
                             (unsigned long long)tensor->begin, (unsigned long long)at, (unsigned long long)bytes);
    files->count++;
    return QUIRE_OK;
}

/* From offsets to bytes of the file. */
static quire_status place(const source *s, qr_tensors *files, uint32_t first, uint64_t start)
{
    const uint64_t size = s->file->file.size;
    for (uint32_t i = first; i < files->count; i++) {
        qr_tensor *tensor = &files->tensors[i];
        if (start > size || tensor->end > size - start)
            return QR_BAD_TENSOR(s->error, s->file->label, tensor, "ends at byte %llu + %llu, the file has %llu bytes",
                                 (unsigned long long)start, (unsigned long long)tensor->end, (unsigned long long)size);
        tensor->begin += start;
        tensor->end += start;
    }
    return QUIRE_OK;
}

static quire_status check_overlap(const source *s, const qr_tensors *files, uint32_t first)
{
    for (uint32_t i = first + 1; i < files->count; i++) {
        const qr_tensor *before = &files->tensors[i - 1], *tensor = &files->tensors[i];
        if (tensor->begin < before->end)
            return QR_BAD_TENSOR(s->error, s->file->label, tensor,
                                 "at byte %llu it overlaps \"%.80s\", which ends at byte %llu",
                                 (unsigned long long)tensor->begin, before->name, (unsigned long long)before->end);
    }
    return QUIRE_OK;
}

static quire_status take_tensors(source *s, qr_tensors *files, const beginning *b)
{
    qr_tensor_file *file  = &files->files[files->file_count - 1];
    const uint32_t  first = files->count;
    file->name_bytes      = qr_max_u64(b->tensor_count, 1) * QR_GGUF_NAME_BYTES;
    file->names           = qr_allocate(&files->allocator, file->name_bytes, 64);
    if (file->names == NULL)
        return qr_fail(s->error, QUIRE_ERR_NO_MEMORY, "%s: no memory for its tensors' names", file->label);
    for (uint64_t i = 0; i < b->tensor_count; i++)
        QR_TRY(take_tensor(s, files, b, file->names + i * QR_GGUF_NAME_BYTES));
    QR_TRY(place(s, files, first, qr_round_up(s->at, b->alignment)));
    QR_TRY(qr_tensors_check_names(files, first, s->error));
    return check_overlap(s, files, first);
}

/* ---- files ---- */

static quire_status take_file(source *s, qr_tensors *files, json_t *metadata)
{
    beginning b;
    QR_TRY(take_beginning(s, &b));
    for (uint64_t i = 0; i < b.key_count; i++) QR_TRY(take_key(s, metadata));
    QR_TRY(find_alignment(s, metadata, &b));
    return take_tensors(s, files, &b);
}

static quire_status open_one(qr_tensors *files, const char *path, json_t *metadata, quire_error *error)
{
    QR_TRY(qr_tensors_open_file(files, path, qr_path_last(path), error));
    source *s = qr_allocate(&files->allocator, sizeof *s, 64);
    if (s == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory to read it", qr_path_tail(path));
    s->file                   = &files->files[files->file_count - 1];
    s->error                  = error;
    const quire_status status = take_file(s, files, metadata);
    qr_deallocate(&files->allocator, s, sizeof *s);
    return status;
}

/* A name that ends as that of part `number` of `count` does. */
static bool is_part(const char *path, uint32_t *number_out, uint32_t *count_out)
{
    const size_t length = strlen(path);
    int          end    = 0;
    if (length < PART_BYTES) return false;
    return sscanf(path + length - PART_BYTES, "-%5u-of-%5u.gguf%n", number_out, count_out, &end) == 2 &&
           end == PART_BYTES;
}

static quire_status open_part(qr_tensors *files, const char *first, uint32_t number, uint32_t count, quire_error *error)
{
    char    path[PATH_BYTES + PART_BYTES];
    json_t *metadata = json_object();
    snprintf(path, sizeof path, "%.*s-%05u-of-%05u.gguf", (int)(strlen(first) - PART_BYTES), first, number, count);
    const quire_status status = metadata ? open_one(files, path, metadata, error)
                                         : qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory", qr_path_tail(path));
    json_decref(metadata);
    return status;
}

static quire_status open_others(qr_tensors *files, const char *path, const json_t *metadata, quire_error *error)
{
    const char   *file  = qr_path_tail(path);
    const int64_t parts = json_integer_value(json_object_get(metadata, "split.count"));
    uint32_t      number, count;
    if (parts < 2) return QUIRE_OK;
    if (parts > QR_TENSORS_MAX_FILES)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: split.count: %lld parts, at most %d", file, (long long)parts,
                       QR_TENSORS_MAX_FILES);
    if (!is_part(path, &number, &count) || count != parts)
        return qr_fail(error, QUIRE_ERR_FORMAT,
                       "%s: is one of %lld parts, its name must end with -00001-of-%05lld.gguf", file, (long long)parts,
                       (long long)parts);
    if (number != 1)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s: is part %u of %u; the first is to be given", file, number, count);
    for (number = 2; number <= count; number++) QR_TRY(open_part(files, path, number, count, error));
    return qr_tensors_check_names(files, 0, error);
}

static quire_status open_all(qr_tensors *files, const char *path, json_t *metadata, quire_error *error)
{
    QR_TRY(open_one(files, path, metadata, error));
    QR_TRY(open_others(files, path, metadata, error));
    qr_tensors_sort(files);
    return QUIRE_OK;
}

quire_status qr_gguf_open(const char *path, const quire_allocator *allocator, qr_tensors **files_out,
                          json_t **metadata_out, quire_error *error)
{
    *files_out    = NULL;
    *metadata_out = json_object();
    if (*metadata_out == NULL || strlen(path) >= PATH_BYTES)
        return qr_fail(error, QUIRE_ERR_IO, "%s: the path is too long, or no memory", qr_path_tail(path));
    quire_status status = qr_tensors_create(allocator, QR_TENSORS_MAX_FILES, files_out, error);
    if (status == QUIRE_OK) status = open_all(*files_out, path, *metadata_out, error);
    if (status != QUIRE_OK) {
        json_decref(*metadata_out);
        *metadata_out = NULL;
    }
    return qr_tensors_closing_on_failure(status, files_out);
}

/* ---- folders ---- */

static bool has(const char *folder, const char *name)
{
    char path[PATH_BYTES];
    return (size_t)snprintf(path, sizeof path, "%s/%s", folder, name) < sizeof path && access(path, F_OK) == 0;
}

/* Of parts only the first counts. */
static bool counts(const char *name)
{
    const size_t length = strlen(name);
    uint32_t     number, count;
    if (length <= 5 || strcmp(name + length - 5, ".gguf") != 0) return false;
    return !is_part(name, &number, &count) || number == 1;
}

static quire_status find_in(const char *folder, DIR *open_folder, char *found, size_t capacity, quire_error *error)
{
    for (struct dirent *entry; (entry = readdir(open_folder)) != NULL;) {
        if (!counts(entry->d_name)) continue;
        if (found[0] != '\0')
            return qr_fail(error, QUIRE_ERR_FORMAT, "%s: holds \"%.80s\" and \"%.80s\": give one of them",
                           qr_path_tail(folder), qr_path_last(found), entry->d_name);
        if ((size_t)snprintf(found, capacity, "%s/%s", folder, entry->d_name) >= capacity)
            return qr_fail(error, QUIRE_ERR_IO, "%s: the path is too long", entry->d_name);
    }
    return QUIRE_OK;
}

quire_status qr_gguf_find(const char *path, char *found_out, size_t capacity, quire_error *error)
{
    struct stat status;
    found_out[0] = '\0';
    if (stat(path, &status) != 0) return QUIRE_OK;
    if (!S_ISDIR(status.st_mode)) {
        if ((size_t)snprintf(found_out, capacity, "%s", path) < capacity) return QUIRE_OK;
        return qr_fail(error, QUIRE_ERR_IO, "%s: the path is too long", qr_path_tail(path));
    }
    if (has(path, "model.safetensors") || has(path, "model.safetensors.index.json")) return QUIRE_OK;
    DIR *folder = opendir(path);
    if (folder == NULL) return QUIRE_OK; /* who looks for its files says what is wrong */
    const quire_status found = find_in(path, folder, found_out, capacity, error);
    closedir(folder);
    return found;
}
