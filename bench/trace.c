/* See trace.h. Files are read once, row by row, into one array; a row that cannot be read is an error with its line. */
#include "bench/trace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <jansson.h>

#include "base/error.h"
#include "bench/array.h"
#include "bench/trace_servegen.h"

enum { MAX_LINE = 64 * 1024, MAX_LENGTH = 1000000000, MAX_SPAN_S = 315360000 };

typedef struct row {
    double   time_s;
    uint32_t prompt, output, encoder;
    size_t   hash_start;
    uint32_t hash_count;
    int32_t  priority;
    uint32_t tenant;
} row;

struct qr_trace {
    row      *rows;
    size_t    count;
    uint64_t *hashes;
    size_t    hash_count;
    uint32_t  skipped, hash_block;
};

/* A place in a file, for messages. */
typedef struct reader {
    const char   *path;
    unsigned long line;
    qr_trace     *trace;
    quire_error  *error;
} reader;

static quire_status bad(const reader *r, const char *what, const char *found)
{
    return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s:%lu: %s: found \"%.60s\"", r->path, r->line, what, found);
}

static quire_status push(reader *r, const row *value)
{
    if (!(value->time_s >= 0 && value->time_s < 1e12)) return bad(r, "the time is not between 0 and 1e12 s", "");
    if (r->trace->count > 0 && value->time_s < r->trace->rows[r->trace->count - 1].time_s)
        return bad(r, "the time is before that of the row above", "");
    if (r->trace->count == UINT32_MAX - 1 || !QR_ARRAY_PUSH(r->trace->rows, r->trace->count, *value))
        return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
    return QUIRE_OK;
}

static quire_status parse_length(reader *r, const char *name, const char *text, uint32_t *out)
{
    char        *end   = NULL;
    const double value = text ? strtod(text, &end) : NAN;
    if (text == NULL || end == text || *end != '\0' || !(value >= 0 && value <= MAX_LENGTH) || value != floor(value))
        return bad(r, name, text ? text : "nothing");
    *out = (uint32_t)value;
    return QUIRE_OK;
}

/* ---- CSV ---- */

typedef struct columns {
    int time, prompt, output;
} columns;

static char *next_field(char **rest)
{
    char *field = strsep(rest, ",");
    return field;
}

static int column_named(const char *header, const char *name)
{
    char copy[MAX_LINE];
    snprintf(copy, sizeof copy, "%s", header);
    char *rest = copy;
    for (int i = 0;; i++) {
        const char *field = next_field(&rest);
        if (field == NULL) return -1;
        if (strcmp(field, name) == 0) return i;
    }
}

/* "2023-11-16 18:15:46.6805900" or seconds. */
static quire_status parse_time(reader *r, const char *text, double *out)
{
    int    year, month, day, hour, minute;
    double second;
    char   rest;
    if (text == NULL) return bad(r, "the time is missing", "");
    if (sscanf(text, "%4d-%2d-%2d %2d:%2d:%lf%c", &year, &month, &day, &hour, &minute, &second, &rest) == 6) {
        struct tm date = {
            .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute};
        *out = (double)timegm(&date) + second;
        return isfinite(second) ? QUIRE_OK : bad(r, "the time is not a number", text);
    }
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out) ? QUIRE_OK
                                                         : bad(r, "the time is neither a date nor seconds", text);
}

static quire_status read_csv_row(reader *r, char *line, const columns *where, double *first)
{
    row   value = {0};
    char *rest  = line;
    char *field;
    int   seen = 0;
    for (int i = 0; (field = next_field(&rest)) != NULL; i++) {
        if (i == where->time) QR_TRY(parse_time(r, field, &value.time_s));
        if (i == where->prompt)
            QR_TRY(parse_length(r, "prompt tokens: not a whole number up to 1e9", field, &value.prompt));
        if (i == where->output)
            QR_TRY(parse_length(r, "output tokens: not a whole number up to 1e9", field, &value.output));
        seen += i == where->time || i == where->prompt || i == where->output;
    }
    if (seen != 3) return bad(r, "columns are missing", line);
    if (isnan(*first)) *first = value.time_s;
    value.time_s -= *first;
    return push(r, &value);
}

static quire_status find_columns(reader *r, const char *header, columns *out)
{
    static const char *const names[][3] = {{"TIMESTAMP", "ContextTokens", "GeneratedTokens"},
                                           {"Timestamp", "Request tokens", "Response tokens"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *out = (columns){column_named(header, names[i][0]), column_named(header, names[i][1]),
                         column_named(header, names[i][2])};
        if (out->time >= 0 && out->prompt >= 0 && out->output >= 0) return QUIRE_OK;
    }
    return bad(r,
               "the header has neither TIMESTAMP,ContextTokens,GeneratedTokens nor Timestamp,Request tokens,Response "
               "tokens",
               header);
}

static quire_status read_csv(reader *r, char *line, double *first, columns *where)
{
    return r->line == 1 ? find_columns(r, line, where) : read_csv_row(r, line, where, first);
}

/* ---- JSON Lines: mooncake and quire ---- */

static quire_status json_length(reader *r, const json_t *object, const char *name, bool needed, uint32_t *out)
{
    const json_t *value = json_object_get(object, name);
    char          text[80];
    if (value == NULL && !needed) return QUIRE_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > MAX_LENGTH) {
        snprintf(text, sizeof text, "%s: not a whole number up to 1e9", name);
        return bad(r, text, value ? "another value" : "nothing");
    }
    *out = (uint32_t)json_integer_value(value);
    return QUIRE_OK;
}

static quire_status json_hashes(reader *r, const json_t *ids, row *value)
{
    size_t  index;
    json_t *id;
    value->hash_start = r->trace->hash_count;
    value->hash_count = (uint32_t)json_array_size(ids);
    json_array_foreach(ids, index, id)
    {
        if (!json_is_integer(id)) return bad(r, "hash_ids: not whole numbers", "another value");
        if (!QR_ARRAY_PUSH(r->trace->hashes, r->trace->hash_count, (uint64_t)json_integer_value(id)))
            return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
    }
    const uint32_t block = r->trace->hash_block;
    if (value->hash_count > 0 && value->hash_count != (value->prompt + block - 1) / block)
        return bad(r, "hash_ids: not one per hash_block_size prompt tokens", "another count");
    return QUIRE_OK;
}

static quire_status read_json_object(reader *r, const json_t *object)
{
    const bool    mooncake = json_object_get(object, "timestamp") != NULL;
    const json_t *time     = json_object_get(object, mooncake ? "timestamp" : "arrival_ms");
    row           value    = {0};
    uint32_t      priority = 0;
    if (!json_is_number(time))
        return bad(r, mooncake ? "timestamp: not a number" : "arrival_ms: not a number", "nothing");
    value.time_s = json_number_value(time) * 1e-3;
    QR_TRY(json_length(r, object, mooncake ? "input_length" : "prompt_tokens", true, &value.prompt));
    QR_TRY(json_length(r, object, mooncake ? "output_length" : "output_tokens", true, &value.output));
    QR_TRY(json_length(r, object, "encoder_tokens", false, &value.encoder));
    QR_TRY(json_length(r, object, "priority", false, &priority));
    QR_TRY(json_length(r, object, "tenant", false, &value.tenant));
    value.priority = (int32_t)priority;
    QR_TRY(json_hashes(r, json_object_get(object, "hash_ids"), &value));
    return push(r, &value);
}

static quire_status read_json(reader *r, const char *line)
{
    json_error_t parse_error;
    json_t      *object = json_loads(line, JSON_REJECT_DUPLICATES, &parse_error);
    if (!json_is_object(object)) {
        json_decref(object);
        return bad(r, object ? "not a JSON object" : parse_error.text, line);
    }
    const quire_status status = read_json_object(r, object);
    json_decref(object);
    return status;
}

/* ---- files ---- */

static quire_status read_lines(reader *r, FILE *file)
{
    char    line[MAX_LINE];
    double  first = NAN;
    columns where = {-1, -1, -1};
    bool    csv   = false;
    while (fgets(line, sizeof line, file) != NULL) {
        r->line++;
        size_t length = strlen(line);
        if (length == sizeof line - 1 && line[length - 1] != '\n')
            return bad(r, "longer than 65535 bytes, or holds NUL", "");
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) line[--length] = '\0';
        char *text = line;
        if (r->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* byte order mark */
        if (*text == '\0') continue;
        if (r->line == 1) csv = *text != '{';
        QR_TRY(csv ? read_csv(r, text, &first, &where) : read_json(r, text));
    }
    return ferror(file) ? qr_fail(r->error, QUIRE_ERR_IO, "%s: %s", r->path, strerror(errno)) : QUIRE_OK;
}

static quire_status read_file(reader *r)
{
    FILE *file = fopen(r->path, "r");
    if (file == NULL) return qr_fail(r->error, QUIRE_ERR_IO, "%s: %s", r->path, strerror(errno));
    const quire_status status = read_lines(r, file);
    fclose(file);
    return status;
}

static quire_status add_servegen(void *context, double time_s, uint32_t input, uint32_t output)
{
    const row value = {.time_s = time_s, .prompt = input, .output = output};
    return push(context, &value);
}

/* ---- window and scale ---- */

typedef struct selection {
    double   start_s, duration_s, time_scale, length_scale;
    uint32_t max_model_len;
    enum { SKIP, TRUNCATE, ERROR } overlong;
} selection;

static uint32_t scaled(uint32_t length, double scale)
{
    const double value = round(length * scale);
    return value < 1 ? 1 : value > MAX_LENGTH ? MAX_LENGTH : (uint32_t)value;
}

static quire_status select_rows(qr_trace *trace, const selection *by, const char *path, quire_error *error)
{
    size_t kept = 0;
    for (size_t i = 0; i < trace->count; i++) {
        row value = trace->rows[i];
        if (value.time_s < by->start_s || (by->duration_s > 0 && value.time_s >= by->start_s + by->duration_s))
            continue;
        value.time_s = (value.time_s - by->start_s) * by->time_scale;
        if (value.time_s > MAX_SPAN_S)
            return qr_fail(error, QUIRE_ERR_FORMAT, "%s: request %zu: due after %.9g s, the most is %d (ten years)",
                           path, i + 1, value.time_s, MAX_SPAN_S);
        if (by->length_scale != 1) value.hash_count = (uint32_t)(value.hash_count * fmin(1, by->length_scale));
        value.prompt = scaled(value.prompt, by->length_scale);
        value.output = scaled(value.output, by->length_scale);
        if ((uint64_t)value.prompt + value.output > by->max_model_len && by->overlong != TRUNCATE) {
            if (by->overlong == ERROR)
                return qr_fail(error, QUIRE_ERR_TOO_LONG, "%s: request %zu: %u + %u tokens, max_model_len is %u", path,
                               i + 1, value.prompt, value.output, by->max_model_len);
            trace->skipped++;
            continue;
        }
        trace->rows[kept++] = value;
    }
    trace->count = kept;
    if (kept == 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: no request is left after start, duration and overlong", path);
    return QUIRE_OK;
}

static quire_status read_all(qr_trace *trace, const quire_config *config, uint32_t max_model_len, quire_error *error)
{
    const char *path     = quire_config_string(config, "workload.trace.path");
    const char *overlong = quire_config_string(config, "workload.trace.overlong");
    struct stat info;
    if (path == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "workload.source is \"trace\", but workload.trace.path is not set");
    if (stat(path, &info) != 0) return qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno));
    const selection by = {
        .start_s       = quire_config_number(config, "workload.trace.start", 0) * 1e-9,
        .duration_s    = quire_config_number(config, "workload.trace.duration", 0) * 1e-9,
        .time_scale    = quire_config_number(config, "workload.trace.time_scale", 1),
        .length_scale  = quire_config_number(config, "workload.trace.length_scale", 1),
        .max_model_len = max_model_len,
        .overlong      = overlong == NULL || strcmp(overlong, "skip") == 0 ? SKIP
                         : strcmp(overlong, "truncate") == 0               ? TRUNCATE
                                                                           : ERROR,
    };
    reader r          = {.path = path, .trace = trace, .error = error};
    trace->hash_block = (uint32_t)quire_config_integer(config, "workload.trace.hash_block_size", 512);
    if (S_ISDIR(info.st_mode)) {
        const uint64_t seed = (uint64_t)quire_config_integer(config, "workload.seed", 42);
        QR_TRY(qr_servegen_read(path, by.start_s, by.duration_s, seed, add_servegen, &r, error));
    } else {
        QR_TRY(read_file(&r));
    }
    return select_rows(trace, &by, path, error);
}

quire_status qr_trace_read(const quire_config *config, uint32_t max_model_len, qr_trace **trace_out, quire_error *error)
{
    *trace_out      = NULL;
    qr_trace *trace = calloc(1, sizeof *trace);
    if (trace == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "trace: out of memory");
    const quire_status status = read_all(trace, config, max_model_len, error);
    if (status == QUIRE_OK)
        *trace_out = trace;
    else
        qr_trace_destroy(trace);
    return status;
}

void qr_trace_destroy(qr_trace *trace)
{
    if (trace == NULL) return;
    free(trace->rows);
    free(trace->hashes);
    free(trace);
}

uint32_t qr_trace_count(const qr_trace *trace) { return (uint32_t)trace->count; }
uint32_t qr_trace_skipped(const qr_trace *trace) { return trace->skipped; }
uint32_t qr_trace_hash_block(const qr_trace *trace) { return trace->hash_block; }

void qr_trace_request(const qr_trace *trace, uint32_t index, qr_workload_request *request_out)
{
    const row *from             = &trace->rows[index];
    request_out->due_ns         = (uint64_t)(from->time_s * 1e9);
    request_out->prompt_tokens  = from->prompt;
    request_out->output_tokens  = from->output;
    request_out->encoder_tokens = from->encoder;
    request_out->priority       = from->priority;
    request_out->tenant         = from->tenant;
    request_out->hash_ids       = from->hash_count ? trace->hashes + from->hash_start : NULL;
    request_out->hash_count     = from->hash_count;
}
