/* Files are read once, row by row, into one array; a row that cannot be read is an error with its line. */
#include "bench/workload/trace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "bench/common/array.h"
#include "bench/common/input_file.h"
#include "bench/workload/trace_reader.h"
#include "bench/workload/trace_servegen.h"

enum { MAX_LINE = 64 * 1024, MAX_SPAN_S = 315360000 };

struct qr_trace {
    qr_trace_row *rows;
    size_t        count;
    uint64_t     *hashes;
    uint32_t      skipped, empty, hash_block, tenants;
    bool          has_encoder;
};

quire_status qr_trace_bad(const qr_trace_reader *r, const char *what, const char *found)
{
    if (found[0] == '\0') return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s:%lu: %s", r->path, r->line, what);
    return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s:%lu: %s: found \"%.60s\"", r->path, r->line, what, found);
}

static quire_status bad_time(const qr_trace_reader *r, const char *what, double time_s)
{
    char found[40];
    snprintf(found, sizeof found, "%.15g s", time_s);
    return qr_trace_bad(r, what, found);
}

quire_status qr_trace_push(qr_trace_reader *r, qr_trace_row *row)
{
    if (isnan(r->first_s)) r->first_s = r->format == QR_TRACE_SERVEGEN ? 0 : row->time_s;
    row->time_s -= r->first_s;
    if (r->count > 0 && row->time_s < r->rows[r->count - 1].time_s)
        return bad_time(r, "the time is before that of the row above", row->time_s);
    if (!(row->time_s >= 0 && row->time_s < 1e9)) /* 31 years */
        return bad_time(r, "the time is not between 0 and 1e9 s", row->time_s);
    if (r->count == UINT32_MAX - 1 || !QR_ARRAY_PUSH(r->rows, r->count, *row))
        return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
    return QUIRE_OK;
}

/* ---- formats ---- */

static const char *const format_names[] = {"auto", "azure", "mooncake", "bailian", "burstgpt", "servegen", "quire"};

static qr_trace_format format_named(const char *name)
{
    unsigned i = 0;
    while (name != NULL && i < sizeof format_names / sizeof *format_names && strcmp(name, format_names[i]) != 0) i++;
    return name == NULL || i == sizeof format_names / sizeof *format_names ? QR_TRACE_AUTO : (qr_trace_format)i;
}

quire_status qr_trace_is(qr_trace_reader *r, qr_trace_format found)
{
    if (r->format != QR_TRACE_AUTO && r->format != found)
        return qr_fail(r->error, QUIRE_ERR_INVALID, "%s: looks like format %s, but workload.trace.format is \"%s\"",
                       r->path, format_names[found], format_names[r->format]);
    r->format = found;
    return QUIRE_OK;
}

/* ---- CSV ---- */

static quire_status parse_length(const qr_trace_reader *r, const char *name, const char *text, uint32_t *out)
{
    char        *end   = NULL;
    const double value = text ? strtod(text, &end) : NAN;
    if (text == NULL || end == text || text[strspn(text, "0123456789.")] != '\0' ||
        !(value >= 0 && value <= QR_TRACE_MAX_LENGTH) || value != floor(value))
        return qr_trace_bad(r, name, text ? text : "nothing");
    *out = (uint32_t)value;
    return QUIRE_OK;
}

typedef struct columns {
    int time, prompt, output, count;
} columns;

static char *next_field(char **rest)
{
    char *field = strsep(rest, ",");
    return field;
}

static int count_columns(const char *header)
{
    int count = 1;
    for (const char *at = header; (at = strchr(at, ',')) != NULL; at++) count++;
    return count;
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

/* A date or seconds. */
static quire_status parse_time(qr_trace_reader *r, const char *text, double *out)
{
    quire_status status;
    if (qr_trace_is_date(r, text, out, &status)) return status;
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(*out) || text[strspn(text, "+-.0123456789eE")] != '\0')
        return qr_trace_bad(r, "the time is neither a date nor seconds", text);
    QR_TRY(qr_trace_check_dates(r, text, false));
    return r->count == 0 && *out > QR_TRACE_MAX_EPOCH_S
               ? qr_trace_bad(r, "the time is beyond 1e11 s: milliseconds? CSV times are in seconds", text)
               : QUIRE_OK;
}

static quire_status bad_row(const qr_trace_reader *r, int fields, int expected)
{
    char what[60], found[32];
    snprintf(what, sizeof what, "the row has %s columns than the header's %d", fields < expected ? "fewer" : "more",
             expected);
    snprintf(found, sizeof found, "%d", fields);
    return qr_trace_bad(r, what, found);
}

static quire_status read_csv_row(qr_trace_reader *r, char *line, const columns *where)
{
    qr_trace_row value = {.tenant = UINT32_MAX, .encoder_id = UINT64_MAX};
    char        *rest  = line;
    char        *field;
    int          fields = 0;
    for (int i = 0; (field = next_field(&rest)) != NULL; i++) {
        if (i == where->time) QR_TRY(parse_time(r, field, &value.time_s));
        if (i == where->prompt)
            QR_TRY(parse_length(r, "prompt tokens: not a whole number up to 1e9", field, &value.prompt));
        if (i == where->output)
            QR_TRY(parse_length(r, "output tokens: not a whole number up to 1e9", field, &value.output));
        fields++;
    }
    if (fields != where->count) return bad_row(r, fields, where->count);
    return qr_trace_push(r, &value);
}

static quire_status find_columns(qr_trace_reader *r, const char *header, columns *out)
{
    static const char *const names[][3] = {{"TIMESTAMP", "ContextTokens", "GeneratedTokens"},
                                           {"Timestamp", "Request tokens", "Response tokens"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *out = (columns){column_named(header, names[i][0]), column_named(header, names[i][1]),
                         column_named(header, names[i][2]), count_columns(header)};
        if (out->time >= 0 && out->prompt >= 0 && out->output >= 0)
            return qr_trace_is(r, i == 0 ? QR_TRACE_AZURE : QR_TRACE_BURSTGPT);
    }
    return qr_trace_bad(
        r,
        "the header has neither TIMESTAMP,ContextTokens,GeneratedTokens nor Timestamp,Request tokens,Response "
        "tokens",
        header);
}

/* The first line that is not empty is the header. */
static quire_status read_csv(qr_trace_reader *r, char *line, columns *where)
{
    return where->count == 0 ? find_columns(r, line, where) : read_csv_row(r, line, where);
}

/* ---- files ---- */

static quire_status read_lines(qr_trace_reader *r, FILE *file)
{
    char    line[MAX_LINE];
    columns where = {-1, -1, -1, 0};
    bool    csv = false, begun = false;
    while (fgets(line, sizeof line, file) != NULL) {
        r->line++;
        size_t length = strlen(line);
        if (length == 0 || (line[length - 1] != '\n' && !feof(file))) /* fgets() stops at neither of both */
            return qr_trace_bad(r, "longer than 65535 bytes, or holds NUL", "");
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) line[--length] = '\0';
        char *text = line;
        if (r->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* byte order mark */
        if (r->line == 1 && strncmp(text, "\x1f\x8b", 2) == 0)
            return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s: compressed with gzip: unpack it first", r->path);
        if (*text == '\0') continue;
        if (!begun) csv = *text != '{' && *text != '[';
        begun = true;
        QR_TRY(csv ? read_csv(r, text, &where) : qr_trace_read_json(r, text));
    }
    return ferror(file) ? qr_fail(r->error, QUIRE_ERR_IO, "%s: %s", r->path, strerror(errno)) : QUIRE_OK;
}

static quire_status read_file(qr_trace_reader *r)
{
    FILE *file = qr_input_open(r->path, QR_MOST_LINES_BYTES, r->error);
    if (file == NULL) return QUIRE_ERR_IO;
    const quire_status status = read_lines(r, file);
    fclose(file);
    return status;
}

static quire_status add_servegen(void *context, double time_s, uint32_t input, uint32_t output)
{
    qr_trace_row row = {
        .time_s = time_s, .prompt = input, .output = output, .tenant = UINT32_MAX, .encoder_id = UINT64_MAX};
    return qr_trace_push(context, &row);
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
    return value < 1 ? 1 : value > QR_TRACE_MAX_LENGTH ? QR_TRACE_MAX_LENGTH : (uint32_t)value;
}

static quire_status select_rows(qr_trace *trace, const selection *by, const char *path, quire_error *error)
{
    size_t kept = 0;
    for (size_t i = 0; i < trace->count; i++) {
        qr_trace_row value = trace->rows[i];
        if (value.time_s < by->start_s || (by->duration_s > 0 && value.time_s >= by->start_s + by->duration_s))
            continue;
        value.time_s = (value.time_s - by->start_s) * by->time_scale;
        if (value.time_s > MAX_SPAN_S)
            return qr_fail(error, QUIRE_ERR_FORMAT, "%s: request %zu: due after %.15g s, the most is %d (ten years)",
                           path, i + 1, value.time_s, MAX_SPAN_S);
        const bool is_empty = value.prompt == 0 && value.output == 0;
        value.prompt        = scaled(value.prompt, by->length_scale);
        value.output        = scaled(value.output, by->length_scale);
        value.prefix        = value.prefix > 0 ? scaled(value.prefix, by->length_scale) : 0;
        value.encoder       = value.encoder > 0 ? scaled(value.encoder, by->length_scale) : 0;
        if ((uint64_t)value.prompt + value.output > by->max_model_len && by->overlong != TRUNCATE) {
            if (by->overlong == ERROR)
                return qr_fail(error, QUIRE_ERR_TOO_LONG, "%s: request %zu: %u + %u tokens, max_model_len is %u", path,
                               i + 1, value.prompt, value.output, by->max_model_len);
            trace->skipped++;
            continue;
        }
        if (value.tenant != UINT32_MAX && value.tenant >= trace->tenants) trace->tenants = value.tenant + 1;
        trace->has_encoder |= value.encoder > 0;
        trace->empty += is_empty;
        trace->rows[kept++] = value;
    }
    trace->count = kept;
    trace->hash_block =
        scaled(trace->hash_block, by->length_scale); /* so that as large a share of a prompt is shared */
    if (kept == 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: no request is left after start, duration and overlong", path);
    return QUIRE_OK;
}

static quire_status read_folder(qr_trace_reader *r, const quire_config *config, const selection *by)
{
    const uint64_t seed = (uint64_t)quire_config_integer(config, "workload.seed");
    if (r->format != QR_TRACE_AUTO && r->format != QR_TRACE_SERVEGEN)
        return qr_fail(r->error, QUIRE_ERR_INVALID, "%s: a folder, but a trace of format \"%s\" is a file", r->path,
                       format_names[r->format]);
    r->format = QR_TRACE_SERVEGEN;
    return qr_servegen_read(r->path, by->start_s, by->duration_s, seed, add_servegen, r, r->error);
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
        .start_s       = quire_config_number(config, "workload.trace.start") * 1e-9,
        .duration_s    = quire_config_number(config, "workload.trace.duration") * 1e-9,
        .time_scale    = quire_config_number(config, "workload.trace.time_scale"),
        .length_scale  = quire_config_number(config, "workload.trace.length_scale"),
        .max_model_len = max_model_len,
        .overlong      = overlong == NULL || strcmp(overlong, "skip") == 0 ? SKIP
                         : strcmp(overlong, "truncate") == 0               ? TRUNCATE
                                                                           : ERROR,
    };
    qr_trace_reader r         = {.path       = path,
                                 .format     = format_named(quire_config_string(config, "workload.trace.format")),
                                 .first_s    = NAN,
                                 .hash_block = (uint32_t)quire_config_integer(config, "workload.trace.hash_block_size"),
                                 .error      = error};
    r.is_asked                = r.format != QR_TRACE_AUTO;
    const quire_status status = S_ISDIR(info.st_mode) ? read_folder(&r, config, &by) : read_file(&r);
    trace->rows = r.rows, trace->count = r.count, trace->hashes = r.hashes, trace->hash_block = r.hash_block;
    if (status != QUIRE_OK) return status;
    if (trace->count == 0) return qr_fail(error, QUIRE_ERR_FORMAT, "%s: no requests", path);
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

qr_trace_facts qr_trace_describe(const qr_trace *trace)
{
    return (qr_trace_facts){.count       = (uint32_t)trace->count,
                            .skipped     = trace->skipped,
                            .empty       = trace->empty,
                            .hash_block  = trace->hash_block,
                            .tenants     = trace->tenants,
                            .has_encoder = trace->has_encoder};
}

void qr_trace_request(const qr_trace *trace, uint32_t index, qr_workload_request *request_out)
{
    const qr_trace_row *from    = &trace->rows[index];
    request_out->due_ns         = (uint64_t)llround(from->time_s * 1e9);
    request_out->prompt_tokens  = from->prompt;
    request_out->output_tokens  = from->output;
    request_out->encoder_tokens = from->encoder;
    request_out->encoder_id     = from->encoder_id == UINT64_MAX ? index : from->encoder_id;
    request_out->prefix_tokens  = from->prefix;
    request_out->prefix_id      = from->prefix_id;
    request_out->priority       = from->priority;
    request_out->tenant         = from->tenant;
    request_out->mix            = from->mix;
    request_out->hash_ids       = from->hash_count ? trace->hashes + from->hash_start : NULL;
    request_out->hash_count     = from->hash_count;
}
