/* JSON Lines, read once; names of tenants become numbers in the order in which they appear. */
#include "bench/workload/request_file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/request.h"
#include "base/rng.h"
#include "bench/common/array.h"
#include "bench/common/input_file.h"

enum { MAX_LINE = 16 << 20, MAX_TENANTS = 1024 };
#define MAX_ARRIVAL_MS 315360000e3 /* ten years */

struct qr_request_file {
    qr_request_line *lines;   /* [count] */
    uint32_t        *tenants; /* [count] of each line, in `names` */
    const char     **names;   /* [name_count] */
    size_t           count, tenant_count, name_count;
    uint32_t         sequences;
    bool             has_beams;
};

typedef struct reader {
    qr_request_file        *file;
    const char             *path;
    const quire_model_info *model;
    uint32_t                max_model_len, max_num_seqs;
    qr_request_defaults     defaults;
    unsigned long           line;
    quire_error            *error;
} reader;

static quire_status bad(const reader *r, const char *field, const char *message)
{
    return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s:%lu: %s%s%s", r->path, r->line, field, *field ? ": " : "", message);
}

static quire_status no_memory(const reader *r)
{
    return qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
}

/* ---- what a line must be ---- */

static quire_status check_ids(const reader *r, const char *field, const int32_t *ids, uint32_t count)
{
    char message[80];
    for (uint32_t i = 0; i < count; i++) {
        if ((uint32_t)ids[i] < r->model->vocab_size) continue;
        snprintf(message, sizeof message, "[%u]: %d is not below the vocabulary's %u", i, ids[i], r->model->vocab_size);
        return bad(r, field, message);
    }
    return QUIRE_OK;
}

static quire_status check_model(const reader *r, const quire_request *q)
{
    const bool encodes = r->model->encoder_layers > 0;
    if (r->model->layers == 0) return QUIRE_OK;
    if (r->model->encoder_feature_size > 0) {
        if (q->encoder_frames == 0) return bad(r, "encoder_features", "missing: this model reads them");
        if (q->encoder_frames > QR_FRAMES_PER_POSITION * r->model->max_encoder_positions)
            return bad(r, "encoder_features", "more frames than the model has positions for");
    } else if (encodes && q->encoder_count == 0) {
        return bad(r, "encoder_input", "missing: this model has an encoder");
    }
    if (!encodes && q->encoder_count > 0) return bad(r, "encoder_input", "this model has no encoder");
    if (!encodes && q->prompt_count == 0) return bad(r, "prompt", "missing or empty");
    QR_TRY(check_ids(r, "prompt", q->prompt, q->prompt_count));
    return check_ids(r, "encoder_input", q->encoder_input, q->encoder_count);
}

static quire_status check_lengths(const reader *r, const quire_request *q)
{
    char message[120];
    if (q->encoder_count > QR_WORKLOAD_MAX_ENCODER) return bad(r, "encoder_input", "more than 1048576 tokens");
    if (q->max_tokens == 0) return bad(r, "max_tokens", "0 is below the minimum 1");
    if ((uint64_t)q->prompt_count + q->max_tokens <= r->max_model_len) return QUIRE_OK;
    snprintf(message, sizeof message, "%u prompt tokens + max_tokens %u, max_model_len is %u", q->prompt_count,
             q->max_tokens, r->max_model_len);
    return bad(r, "", message);
}

static quire_status check_width(const reader *r, const char *field, uint32_t width)
{
    char message[80];
    if (width <= r->max_num_seqs) return QUIRE_OK;
    snprintf(message, sizeof message, "%u is above max_num_seqs = %u", width, r->max_num_seqs);
    return bad(r, field, message);
}

static quire_status check_arrival(const reader *r, const qr_request_line *line)
{
    const size_t count = r->file->count;
    if (count > 0 && line->arrival_ms < r->file->lines[count - 1].arrival_ms)
        return bad(r, "arrival_ms", "below that of an earlier line");
    return line->arrival_ms <= MAX_ARRIVAL_MS ? QUIRE_OK : bad(r, "arrival_ms", "more than ten years");
}

static quire_status check(const reader *r, const qr_request_line *line)
{
    if (line->request.logits != QUIRE_LOGITS_NONE) return bad(r, "logits", "a benchmark takes no raw logits");
    QR_TRY(check_arrival(r, line));
    QR_TRY(check_width(r, "n", line->request.n));
    QR_TRY(check_width(r, "beam_width", line->request.beam_width));
    QR_TRY(check_model(r, &line->request));
    return check_lengths(r, &line->request);
}

/* ---- reading ---- */

static quire_status note_tenant(const reader *r, const qr_request_line *line)
{
    qr_request_file *file = r->file;
    const char      *name = line->request.tenant ? line->request.tenant : "";
    uint32_t         at   = 0;
    while (at < file->name_count && strcmp(file->names[at], name) != 0) at++;
    if (at == MAX_TENANTS) return bad(r, "tenant", "more than 1024 different names");
    if (at == file->name_count && !QR_ARRAY_PUSH(file->names, file->name_count, name)) return no_memory(r);
    return QR_ARRAY_PUSH(file->tenants, file->tenant_count, at) ? QUIRE_OK : no_memory(r);
}

/* Keeps the line when it is good. */
static quire_status take(const reader *r, qr_request_line *line)
{
    qr_request_file *file = r->file;
    QR_TRY(check(r, line));
    if (file->count == UINT32_MAX - 1 || !QR_ARRAY_PUSH(file->lines, file->count, *line)) return no_memory(r);
    const qr_request_line kept = *line;
    *line                      = (qr_request_line){0}; /* the file's now */
    if (kept.request.n > file->sequences) file->sequences = kept.request.n;
    file->has_beams |= kept.request.beam_width > 1;
    return note_tenant(r, &kept);
}

static quire_status read_line(const reader *r, const char *text, size_t length)
{
    qr_request_line line;
    qr_line_error   why;
    qr_request_line_read(text, length, r->line, &r->defaults, &line, &why);
    qr_request_line_clip_default(&line, r->max_model_len);
    const quire_status status = why.status == QUIRE_OK ? take(r, &line) : bad(r, why.field, why.message);
    qr_request_line_deinit(&line);
    return status;
}

static quire_status read_lines(reader *r, FILE *from)
{
    char        *text   = NULL;
    size_t       room   = 0;
    quire_status status = QUIRE_OK;
    for (ssize_t length; status == QUIRE_OK && (length = getline(&text, &room, from)) >= 0;) {
        const char *at = ++r->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;
        if (length > MAX_LINE)
            status = bad(r, "", "longer than 16 MiB");
        else if (at[strspn(at, " \t\r\n")] != '\0')
            status = read_line(r, at, (size_t)(length - (at - text)));
    }
    free(text);
    if (status == QUIRE_OK && ferror(from))
        status = qr_fail(r->error, QUIRE_ERR_IO, "%s: %s", r->path, strerror(errno));
    return status;
}

quire_status qr_request_file_read(const quire_config *config, const quire_model_info *model, uint32_t max_model_len,
                                  qr_request_file **file_out, quire_error *error)
{
    reader r  = {.path = quire_config_string(config, "workload.path"), .model = model, .error = error};
    *file_out = NULL;
    if (r.path == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "workload.source is \"file\", but workload.path is not set");
    QR_TRY(qr_request_defaults_of(config, model, &r.defaults, error));
    FILE *from = qr_input_open(r.path, QR_MOST_ROWS_BYTES, error);
    if (from == NULL) return QUIRE_ERR_IO;
    r.max_model_len     = max_model_len;
    r.max_num_seqs      = (uint32_t)quire_config_integer(config, "scheduler.max_num_seqs");
    r.file              = calloc(1, sizeof *r.file);
    quire_status status = r.file ? read_lines(&r, from) : no_memory(&r);
    fclose(from);
    if (status == QUIRE_OK && r.file->count == 0) status = qr_fail(error, QUIRE_ERR_FORMAT, "%s: no requests", r.path);
    if (status == QUIRE_OK)
        *file_out = r.file;
    else
        qr_request_file_destroy(r.file);
    return status;
}

void qr_request_file_destroy(qr_request_file *file)
{
    if (file == NULL) return;
    for (size_t i = 0; i < file->count; i++) qr_request_line_deinit(&file->lines[i]);
    free(file->lines);
    free(file->tenants);
    free(file->names);
    free(file);
}

/* ---- looking in ---- */

uint32_t    qr_request_file_count(const qr_request_file *file) { return (uint32_t)file->count; }
uint32_t    qr_request_file_sequences(const qr_request_file *file) { return file->sequences ? file->sequences : 1; }
bool        qr_request_file_has_beams(const qr_request_file *file) { return file->has_beams; }
uint32_t    qr_request_file_tenants(const qr_request_file *file) { return (uint32_t)file->name_count; }
const char *qr_request_file_tenant(const qr_request_file *file, uint32_t tenant) { return file->names[tenant]; }

const quire_request *qr_request_file_at(const qr_request_file *file, uint32_t index)
{
    return &file->lines[index].request;
}

/* Equal inputs, equal ids. */
static uint64_t identity_of(const int32_t *ids, uint32_t count)
{
    uint64_t identity = count;
    for (uint32_t i = 0; i < count; i++) identity = qr_mix64(identity ^ qr_mix64((uint64_t)(uint32_t)ids[i] + 1));
    return identity;
}

void qr_request_file_shape(const qr_request_file *file, uint32_t index, qr_workload_request *request_out)
{
    const quire_request *from   = qr_request_file_at(file, index);
    request_out->due_ns         = (uint64_t)llround((file->lines[index].arrival_ms - file->lines[0].arrival_ms) * 1e6);
    request_out->prompt_tokens  = from->prompt_count > 0 ? from->prompt_count : 1; /* the decoder's start token */
    request_out->output_tokens  = from->max_tokens;
    request_out->encoder_tokens = from->encoder_count;
    request_out->encoder_id     = identity_of(from->encoder_input, from->encoder_count);
    if (from->encoder_frames > 0) {
        request_out->encoder_tokens = qr_ceil_div_u32(from->encoder_frames, QR_FRAMES_PER_POSITION);
        request_out->encoder_id     = index;
    }
    request_out->priority      = from->priority;
    request_out->tenant        = file->tenants[index];
    request_out->sampling_seed = from->sampling.seed;
}
