/* Request and step logs as columns of numbers, thinned for charts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/array.h"
#include "bench/report/report_data.h"

enum { MOST_ROWS = 2000, MOST_FIELDS = 16 };

/* By qr_log_kind: what the charts read. The first field is the run; the first `required` must be there. */
static const struct kind {
    const char *name, *suffix;
    size_t      required;
    const char *fields[MOST_FIELDS];
} kinds[] = {{"steps",
              ".steps.jsonl",
              12,
              {"run", "t_ns", "rows", "rows_prefill", "rows_encoder", "bytes", "kv_bytes", "flops", "plan_us",
               "forward_us", "sample_us", "commit_us", "floor_us"}},
             {"requests",
              ".requests.jsonl",
              6,
              {"run", "a", "f", "num_prompt_tokens", "num_encoder_tokens", "num_output_tokens"}}};

typedef struct row {
    double values[MOST_FIELDS]; /* [fields] NAN: null or missing */
} row;

struct qr_log {
    const struct kind *kind;
    row               *rows;
    size_t             row_count;
};

const char *qr_log_name(qr_log_kind kind) { return kinds[kind].name; }
const char *qr_log_suffix(qr_log_kind kind) { return kinds[kind].suffix; }

qr_log *qr_log_create(qr_log_kind kind)
{
    qr_log *log = calloc(1, sizeof *log);
    if (log != NULL) log->kind = &kinds[kind];
    return log;
}

void qr_log_destroy(qr_log *log)
{
    if (log != NULL) free(log->rows);
    free(log);
}

bool qr_log_take(qr_log *log, const json_t *line)
{
    row to = {{0}};
    for (size_t i = 0; log->kind->fields[i] != NULL; i++) {
        const json_t *value = json_object_get(line, log->kind->fields[i]);
        if (i < log->kind->required && !json_is_number(value)) return false;
        to.values[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    return QR_ARRAY_PUSH(log->rows, log->row_count, to);
}

static json_t *column(const qr_log *log, size_t run, size_t field, size_t stride)
{
    json_t *to = json_array();
    for (size_t i = 0, seen = 0; i < log->row_count; i++) {
        if (log->rows[i].values[0] != (double)run || seen++ % stride != 0) continue;
        const double value = log->rows[i].values[field];
        json_array_append_new(to, isfinite(value) ? json_real(value) : json_null());
    }
    return to;
}

/* Every stride-th row of a run, the first included. */
static json_t *thinned(const qr_log *log, size_t run, size_t count)
{
    const size_t stride  = (count + MOST_ROWS - 1) / MOST_ROWS;
    json_t      *columns = json_object();
    for (size_t i = 1; log->kind->fields[i] != NULL; i++)
        json_object_set_new(columns, log->kind->fields[i], column(log, run, i, stride));
    return json_pack("{s:I, s:I, s:o}", "count", (json_int_t)count, "shown",
                     (json_int_t)((count + stride - 1) / stride), "columns", columns);
}

bool qr_log_attach(const qr_log *log, json_t *result)
{
    size_t  run;
    json_t *object;
    json_array_foreach(json_object_get(result, "runs"), run, object)
    {
        size_t count = 0;
        for (size_t i = 0; i < log->row_count; i++) count += log->rows[i].values[0] == (double)run;
        if (count == 0) continue;
        json_t *logs = json_object_get(object, "log");
        if (logs == NULL && json_object_set_new(object, "log", logs = json_object()) != 0) return false;
        if (json_object_set_new(logs, log->kind->name, thinned(log, run, count)) != 0) return false;
    }
    return true;
}
