/* Reads the step log of a run (bench/result/result_json.c writes it) as samples for the cost model. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/error.h"
#include "bench/common/array.h"
#include "bench/common/input_file.h"
#include "bench/run/cost_model.h"

/* MOST_STEP_S: a step beyond it is a clock that jumped or a slip of units, and would end no simulation. */
enum { MAX_LINE = 16 * 1024, MOST_STEP_S = 1000 };

typedef struct reader {
    const char     *path;
    unsigned long   line;
    qr_cost_sample *samples;
    size_t          count;
    /* of the step above, whose time is not known until the next one starts */
    bool         busy; /* it left work behind */
    double       run, start_ns;
    quire_error *error;
} reader;

static quire_status bad(const reader *r, const char *what)
{
    return qr_fail(r->error, QUIRE_ERR_FORMAT, "%s:%lu: %s", r->path, r->line, what);
}

static quire_status number(reader *r, const json_t *object, const char *name, double *out)
{
    const json_t *value = json_object_get(object, name);
    char          text[80];
    snprintf(text, sizeof text, "%s: not a number between 0 and 1e18", name);
    if (!json_is_number(value) || !(json_number_value(value) >= 0 && json_number_value(value) <= 1e18))
        return bad(r, text);
    *out = json_number_value(value);
    return QUIRE_OK;
}

static quire_status read_work(reader *r, const json_t *object, qr_step_work *work)
{
    const struct {
        const char *name;
        double     *to;
    } fields[] = {{"rows", &work->rows},
                  {"rows_encoder", &work->rows_encoder},
                  {"rows_logits", &work->rows_logits},
                  {"sequences", &work->sequences},
                  {"kv_tokens", &work->kv_tokens},
                  {"kv_pairs", &work->kv_pairs},
                  {"cross_tokens", &work->cross_tokens},
                  {"cross_pairs", &work->cross_pairs},
                  {"encoder_pairs", &work->encoder_pairs}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) QR_TRY(number(r, object, fields[i].name, fields[i].to));
    return QUIRE_OK;
}

static quire_status read_seconds(reader *r, const json_t *object, double *out)
{
    enum { FORWARD = 1 };
    static const char *const phases[] = {"plan_us", "forward_us", "sample_us", "commit_us"};
    double                   sum = 0, us = 0;
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        QR_TRY(number(r, object, phases[i], &us));
        if (i == FORWARD && us <= 0) return bad(r, "forward_us: not above 0");
        sum += us;
    }
    if (sum > MOST_STEP_S * 1e6) return bad(r, "plan_us + forward_us + sample_us + commit_us: above 1000 s");
    *out = sum * 1e-6;
    return QUIRE_OK;
}

static quire_status read_step(reader *r, const json_t *object)
{
    qr_cost_sample sample = {0};
    double         run = 0, start_ns = 0, running = 0, waiting = 0;
    QR_TRY(number(r, object, "run", &run));
    QR_TRY(number(r, object, "t_ns", &start_ns));
    QR_TRY(number(r, object, "running", &running));
    QR_TRY(number(r, object, "waiting", &waiting));
    QR_TRY(read_work(r, object, &sample.work));
    QR_TRY(read_seconds(r, object, &sample.seconds));
    if (r->count > 0 && r->busy && run == r->run) {
        const double until_next = (start_ns - r->start_ns) * 1e-9;
        if (until_next < 0) return bad(r, "t_ns: before that of the step above");
        if (until_next > MOST_STEP_S) return bad(r, "t_ns: more than 1000 s after the step above, which left work");
        if (until_next > r->samples[r->count - 1].seconds) r->samples[r->count - 1].seconds = until_next;
    }
    r->busy     = running + waiting > 0;
    r->run      = run;
    r->start_ns = start_ns;
    return QR_ARRAY_PUSH(r->samples, r->count, sample)
               ? QUIRE_OK
               : qr_fail(r->error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", r->path);
}

static quire_status read_line(reader *r, const char *line)
{
    json_error_t       parse_error;
    json_t            *object = json_loads(line, JSON_REJECT_DUPLICATES, &parse_error);
    const quire_status status =
        json_is_object(object) ? read_step(r, object) : bad(r, object ? "not a JSON object" : parse_error.text);
    json_decref(object);
    return status;
}

static quire_status read_lines(reader *r, FILE *file)
{
    char line[MAX_LINE];
    while (fgets(line, sizeof line, file) != NULL) {
        r->line++;
        const size_t length = strlen(line);
        if (length == 0 || length == sizeof line - 1) return bad(r, "longer than a line can be, or holds NUL");
        if (line[strspn(line, " \r\n")] != '\0') QR_TRY(read_line(r, line));
    }
    return ferror(file) ? qr_fail(r->error, QUIRE_ERR_IO, "%s: %s", r->path, strerror(errno)) : QUIRE_OK;
}

quire_status qr_step_log_read(const char *path, qr_cost_sample **samples_out, size_t *count_out, quire_error *error)
{
    reader r     = {.path = path, .error = error};
    *samples_out = NULL;
    *count_out   = 0;
    FILE *file   = qr_input_open(path, QR_MOST_LINES_BYTES, error);
    if (file == NULL) return QUIRE_ERR_IO;
    const quire_status status = read_lines(&r, file);
    fclose(file);
    if (status != QUIRE_OK) {
        free(r.samples);
        return status;
    }
    *samples_out = r.samples;
    *count_out   = r.count;
    return QUIRE_OK;
}
