/* Reads result files and the logs that belong to them. */
#include "bench/report/report_data.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "bench/common/input_file.h"
#include "bench/report/result_file.h"
#include "bench/result/compare.h"
#include "bench/result/result_check.h"

enum { MOST_PATH = 4096, MOST_LINE = 64 << 20, MOST_BAD_LINES = 100 };

qr_report *qr_report_create(void)
{
    qr_report *report = malloc(sizeof *report);
    if (report != NULL) *report = (qr_report){json_array(), json_array(), json_array()}; /* NULL takes no element */
    return report;
}

void qr_report_destroy(qr_report *report)
{
    if (report == NULL) return;
    json_decref(report->results);
    json_decref(report->answers);
    json_decref(report->skipped);
    free(report);
}

/* ---- results ---- */

bool qr_report_is_simulated(const json_t *result)
{
    return strcmp(qr_json_text_at(result, "disclosure/clock"), "virtual") == 0;
}

bool qr_report_is_valid(const json_t *result)
{
    return strcmp(qr_json_text_at(result, "validity/result"), "VALID") == 0;
}

static size_t count_that(const qr_report *report, bool (*is)(const json_t *result))
{
    size_t        index, count = 0;
    const json_t *result;
    json_array_foreach(report->results, index, result) count += is(result);
    return count;
}

size_t qr_report_simulated(const qr_report *report) { return count_that(report, qr_report_is_simulated); }
size_t qr_report_valid(const qr_report *report) { return count_that(report, qr_report_is_valid); }

/* On the virtual clock nothing is loaded, computed or placed: the zeros of what does that are no facts. */
static void forget_unmeasured(json_t *result)
{
    static const char *const of_result[][2] = {
        {"engine", "threads"},        {"engine", "cpus"},           {"engine", "nodes"},
        {"engine", "placement"},      {"engine", "prefetch"},       {"engine", "small_m"},
        {"engine", "scratch_bytes"},  {"engine", "implementation"}, {"model", "weight_bytes"},
        {"context/cpu", "isa"},       {"context/cpu", "isa_cap"},   {"context/libs", "onednn_impl"},
        {"engine", "batch_invariant"}};
    static const char *const of_steps[] = {"stage_s", "moved", "imbalance"};
    size_t                   index;
    json_t                  *run;
    if (!qr_report_is_simulated(result)) return;
    for (size_t i = 0; i < sizeof of_result / sizeof *of_result; i++)
        json_object_del((json_t *)qr_json_at(result, of_result[i][0]), of_result[i][1]);
    json_array_foreach(json_object_get(result, "runs"), index, run) for (size_t i = 0;
                                                                         i < sizeof of_steps / sizeof *of_steps; i++)
        json_object_del(json_object_get(run, "steps"), of_steps[i]);
}

quire_status qr_report_add(qr_report *report, json_t *result, const char *label, const char *place, quire_error *error)
{
    quire_status status = qr_result_check(result, place, error);
    if (status == QUIRE_OK && json_array_size(report->results) == QR_REPORT_MAX_RESULTS)
        status = qr_fail(error, QUIRE_ERR_INVALID, "%s: more than %d results", place, QR_REPORT_MAX_RESULTS);
    if (status == QUIRE_OK && (json_object_set_new(result, "shown_as", qr_json_string(label)) != 0 ||
                               json_array_append(report->results, result) != 0))
        status = qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", place);
    if (status == QUIRE_OK) forget_unmeasured(result);
    json_decref(result);
    return status;
}

/* ---- lines ---- */

/* Takes over `line`, which stands at `place`. */
typedef quire_status line_taker(void *context, json_t *line, const char *place, quire_error *error);

/* What is wrong with a line that could not be read; NULL: nothing. */
static const char *line_problem(ssize_t length)
{
    return length == QR_LINE_TOO_LONG    ? "a line longer than 64 MiB"
           : length == QR_LINE_NO_MEMORY ? "out of memory"
                                         : NULL;
}

/* A bad line is skipped and noted, unless there are too many. */
static quire_status skip(qr_report *report, size_t before, const quire_error *error)
{
    if (json_array_size(report->skipped) - before == MOST_BAD_LINES) return error->status;
    return json_array_append_new(report->skipped, json_string_nocheck(error->message)) == 0 ? QUIRE_OK
                                                                                            : QUIRE_ERR_NO_MEMORY;
}

const char *qr_report_skipped(const qr_report *report, size_t i)
{
    return json_string_value(json_array_get(report->skipped, i));
}

static quire_status take_lines(qr_report *report, FILE *from, const char *path, line_taker *take, void *context,
                               quire_error *error)
{
    char        *line   = NULL, place[MOST_PATH];
    const size_t before = json_array_size(report->skipped);
    size_t       room = 0, number = 0;
    ssize_t      length;
    quire_status status = QUIRE_OK;
    while (status == QUIRE_OK && (length = qr_input_line(from, &line, &room, MOST_LINE)) >= 0) {
        json_error_t where;
        json_t      *object = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, &where);
        snprintf(place, sizeof place, "%.4000s:%zu", path, ++number);
        status = object != NULL ? take(context, object, place, error)
                                : qr_fail(error, QUIRE_ERR_FORMAT, "%s: not JSON: %s", place, where.text);
        if (status == QUIRE_ERR_FORMAT) status = skip(report, before, error);
    }
    free(line);
    QR_TRY(status);
    if (line_problem(length) != NULL)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%zu: %s", path, number + 1, line_problem(length));
    return ferror(from) ? qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno)) : QUIRE_OK;
}

/* ---- logs ---- */

static quire_status take_log_line(void *log, json_t *line, const char *place, quire_error *error)
{
    const bool ok = qr_log_take(log, line);
    json_decref(line);
    return ok ? QUIRE_OK : qr_fail(error, QUIRE_ERR_FORMAT, "%s: not a line of this kind of log", place);
}

static quire_status read_log(qr_report *report, json_t *result, qr_log_kind kind, FILE *from, const char *path,
                             quire_error *error)
{
    qr_log      *log    = qr_log_create(kind);
    quire_status status = log ? take_lines(report, from, path, take_log_line, log, error) : QUIRE_ERR_NO_MEMORY;
    if (status == QUIRE_OK && !qr_log_attach(log, result)) status = QUIRE_ERR_NO_MEMORY;
    qr_log_destroy(log);
    return status == QUIRE_ERR_NO_MEMORY ? qr_fail(error, status, "%s: out of memory", path) : status;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

/* Results and logs are moved together, so the folder of the result goes before the path that was written down. */
static void find_log(const char *result_path, const char *named, const char *suffix, char path_out[MOST_PATH])
{
    const int folder = (int)(base_name(result_path) - result_path);
    const int stem   = (int)(strlen(result_path) - strlen(".json"));
    if (named[0] == '\0')
        snprintf(path_out, MOST_PATH, "%.*s%s", stem, result_path, suffix);
    else
        snprintf(path_out, MOST_PATH, "%.*s%s", folder, result_path, base_name(named));
    if (named[0] != '\0' && !is_there(path_out)) snprintf(path_out, MOST_PATH, "%s", named);
}

/* "r.json: logs/steps: /dev/zero: a character device, ..." */
static quire_status log_failed(const char *result_path, const char *name, quire_error *error)
{
    char why[sizeof error->message];
    snprintf(why, sizeof why, "%s", error != NULL ? error->message : "");
    return qr_fail(error, QUIRE_ERR_IO, "%.100s: %s: %s", result_path, name, why);
}

static quire_status read_logs(qr_report *report, json_t *result, const char *result_path, quire_error *error)
{
    char path[MOST_PATH], name[32];
    for (int kind = QR_LOG_STEPS; kind <= QR_LOG_REQUESTS; kind++) {
        snprintf(name, sizeof name, "logs/%s", qr_log_name((qr_log_kind)kind));
        find_log(result_path, qr_json_text_at(result, name), qr_log_suffix((qr_log_kind)kind), path);
        if (!is_there(path)) continue; /* the charts that need it are left out */
        FILE *from = qr_input_open(path, QR_MOST_LINES_BYTES, error);
        if (from == NULL) return log_failed(result_path, name, error);
        const quire_status status = read_log(report, result, (qr_log_kind)kind, from, path, error);
        fclose(from);
        QR_TRY(status);
    }
    return QUIRE_OK;
}

/* ---- files ---- */

static void label_of(const char *path, char label[256])
{
    const char *name = base_name(path);
    const char *dot  = strrchr(name, '.');
    snprintf(label, 256, "%.*s", (int)(dot && dot > name ? (size_t)(dot - name) : strlen(name)), name);
}

static quire_status read_result(qr_report *report, FILE *from, const char *path, quire_error *error)
{
    char    label[256];
    json_t *result;
    QR_TRY(qr_result_load(from, path, &result, error));
    label_of(path, label);
    json_incref(result);
    quire_status status = qr_report_add(report, result, label, path, error);
    if (status == QUIRE_OK) status = read_logs(report, result, path, error);
    json_decref(result);
    return status;
}

typedef struct sweep {
    qr_report *report;
    char       stem[256];
} sweep;

/* A point of a sweep, or what a search for the capacity found. */
static quire_status take_point(void *context, json_t *line, const char *place, quire_error *error)
{
    const sweep *s = context;
    if (strcmp(qr_json_text_at(line, "schema"), "quire.capacity/1") == 0)
        return json_array_append_new(s->report->answers, line) == 0
                   ? QUIRE_OK
                   : qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", place);
    if (json_is_object(line)) json_object_set_new(line, "file", qr_json_string(s->stem));
    return qr_report_add(s->report, line, s->stem, place, error);
}

static quire_status read_sweep(qr_report *report, FILE *from, const char *path, quire_error *error)
{
    sweep        s      = {.report = report};
    const size_t before = json_array_size(report->results), bad = json_array_size(report->skipped);
    label_of(path, s.stem);
    QR_TRY(take_lines(report, from, path, take_point, &s, error));
    if (json_array_size(report->results) > before) return QUIRE_OK;
    const char *why = qr_report_skipped(report, bad);
    return why ? qr_fail(error, QUIRE_ERR_FORMAT, "%s", why) : qr_fail(error, QUIRE_ERR_FORMAT, "%s: empty", path);
}

quire_status qr_report_read(qr_report *report, const char *path, quire_error *error)
{
    if (access(path, F_OK) != 0) return qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno));
    if (qr_result_has_suffix(path, ".requests.jsonl") || qr_result_has_suffix(path, ".steps.jsonl"))
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: a log; give the .json result that it belongs to", path);
    if (!qr_result_has_suffix(path, ".json") && !qr_result_has_suffix(path, ".jsonl"))
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: neither a .json result nor a sweep's .jsonl", path);
    const bool is_sweep = qr_result_has_suffix(path, ".jsonl");
    FILE      *from     = qr_input_open(path, is_sweep ? QR_MOST_ROWS_BYTES : QR_MOST_RESULT_BYTES, error);
    if (from == NULL) return QUIRE_ERR_IO;
    const quire_status status =
        is_sweep ? read_sweep(report, from, path, error) : read_result(report, from, path, error);
    fclose(from);
    return status;
}
