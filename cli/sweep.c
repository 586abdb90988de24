/* quire sweep: every combination of [sweep], repetitions interleaved, each result on a line of NAME.jsonl. */
#include "cli/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/common/input_file.h"
#include "bench/common/json_text.h"
#include "bench/result/result_json.h"
#include "bench/turns.h"
#include "bench/workload/workload.h"
#include "cli/dry_run.h"
#include "cli/forecast.h"
#include "cli/ignored.h"
#include "cli/inputs.h"
#include "cli/interrupt.h"
#include "cli/mpirun.h"
#include "cli/write.h"

/* Of the table at the end: means over the repetitions. */
static const struct column {
    const char *path, *heads[2];
    int         width, decimals;
    double      factor;
} columns[] = {{"throughput/output_tokens/value", {"output", "tok/s"}, 9, 1, 1},
               {"throughput/requests/value", {"", "req/s"}, 8, 2, 1},
               {"throughput/goodput/value", {"goodput", "req/s"}, 8, 2, 1},
               {"slo/attainment", {"SLO", "met %"}, 7, 1, 100},
               {"latency/ttft/mean", {"mean", "TTFT ms"}, 10, 1, 1},
               {"latency/tpot/mean", {"mean", "TPOT ms"}, 9, 2, 1}};
enum { COLUMNS = sizeof columns / sizeof *columns };

typedef struct row {
    bool   is_done, is_valid;
    char   failed[24]; /* id of the first check that makes it INVALID */
    double output, e2el, numbers[COLUMNS];
} row;

typedef struct settings {
    qr_arguments common;
    qr_sweep     sweep;
    qr_result  **results; /* [point_count]; NULL: done already */
    row         *rows;    /* [point_count] */
    bool         resume, capacity;
    int          status;
} settings;

/* ---- points ---- */

/* The value of an axis at a point, as TOML text. */
static const char *point_value(const qr_point *point, size_t axis) { return strchr(point->assignments[axis], '=') + 1; }

static size_t values_of(const qr_sweep *s, size_t axis)
{
    char key[64];
    snprintf(key, sizeof key, "sweep[%zu].values", axis);
    return quire_config_count(s->base, key);
}

static bool read_axes(qr_sweep *s)
{
    s->axis_count  = quire_config_count(s->base, "sweep");
    s->point_count = 1;
    if (s->axis_count > QR_MAX_AXES) return qr_complain("[sweep]: more than %d axes", QR_MAX_AXES), false;
    for (size_t a = 0; a < s->axis_count; a++) {
        char key[64];
        snprintf(key, sizeof key, "sweep[%zu].key", a);
        s->axes[a] = quire_config_string(s->base, key);
        s->point_count *= values_of(s, a);
        if (s->point_count > QR_MAX_POINTS)
            return qr_complain("[sweep]: more than %d combinations", QR_MAX_POINTS), false;
    }
    return true;
}

/* The last axis runs fastest. */
static bool make_point(qr_sweep *s, size_t index)
{
    qr_point *point = &s->points[index];
    for (size_t a = s->axis_count; a-- > 0;) {
        char key[64];
        snprintf(key, sizeof key, "sweep[%zu].values[%zu]", a, index % values_of(s, a));
        index /= values_of(s, a);
        if (asprintf(&point->assignments[a], "%s=%s", s->axes[a], quire_config_string(s->base, key)) < 0) {
            point->assignments[a] = NULL;
            return qr_complain("out of memory"), false;
        }
    }
    point->config = qr_arguments_load_with(s->arguments, "sweep", point->assignments, s->axis_count);
    return point->config != NULL && qr_config_hash(point->config, point->hash);
}

static bool make_points(qr_sweep *s)
{
    if (!read_axes(s)) return false;
    s->points = calloc(s->point_count, sizeof *s->points);
    if (s->points == NULL) return qr_complain("out of memory"), false;
    for (size_t i = 0; i < s->point_count; i++)
        if (!make_point(s, i)) return false;
    return true;
}

static void drop_points(qr_sweep *s)
{
    for (size_t i = 0; i < s->point_count && s->points != NULL; i++) {
        for (size_t a = 0; a < s->axis_count; a++) free(s->points[i].assignments[a]);
        quire_config_destroy(s->points[i].config);
    }
    free(s->points);
}

static void name_point(const qr_sweep *s, const qr_point *point, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s", s->axis_count ? "" : "the configuration");
    for (size_t a = 0; a < s->axis_count && used < size; a++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", a ? ", " : "", point->assignments[a]);
}

/* An axis that no point of the sweep heeds would measure the same again and again. */
static bool all_axes_matter(const qr_sweep *s)
{
    for (size_t a = 0; a < s->axis_count; a++) {
        const char *why = NULL, *value;
        for (size_t i = 0; i < s->point_count && (i == 0 || why != NULL); i++)
            why = qr_ignored_because(s->points[i].config, s->axes[a], &value);
        if (why == NULL) continue;
        qr_complain("[sweep] \"%s\" has no effect: it %s \"%s\"", s->axes[a], why, value);
        return false;
    }
    return true;
}

/* Where no axis decides what is ignored, the same is at every point. */
static void warn_of_ignored(const qr_sweep *s)
{
    for (size_t a = 0; a < s->axis_count; a++)
        if (strcmp(s->axes[a], "load.profile") == 0 || strcmp(s->axes[a], "workload.source") == 0) return;
    qr_ignored_warn(s->base);
}

/* Refuses what cannot fit into memory before any work. */
static bool all_points_fit(const qr_sweep *s)
{
    for (size_t i = 0; i < s->point_count; i++) {
        qr_forecast forecast;
        quire_error error = {0};
        char        name[256];
        if (qr_session_is_virtual(s->points[i].config) || qr_target_is_http(s->points[i].config))
            continue; /* it takes no memory here */
        name_point(s, &s->points[i], name, sizeof name);
        const quire_status status = qr_forecast_make(s->points[i].config, &forecast, &error);
        const char        *why    = status != QUIRE_OK ? error.message : qr_forecast_obstacle(&forecast);
        if (why == NULL) continue;
        qr_complain("%s: %s", name, why);
        return false;
    }
    return true;
}

json_t *qr_point_axes(const qr_sweep *s, const qr_point *point)
{
    json_t *axes = json_object();
    for (size_t a = 0; a < s->axis_count; a++) {
        const char *text  = point_value(point, a);
        json_t     *value = json_loads(text, JSON_DECODE_ANY, NULL); /* numbers, booleans and strings look the same */
        json_object_set_new(axes, s->axes[a], value ? value : json_string(text));
    }
    return axes;
}

/* ---- the file ---- */

json_t *qr_sweep_line(const qr_result *result, json_t *place)
{
    json_t *line = qr_result_json(result);
    json_object_del(line, "sweep"); /* null until here */
    json_object_set_new(line, "sweep", place);
    return line;
}

bool qr_sweep_write(const qr_sweep *s, json_t *line)
{
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    bool  ok   = text != NULL;
    errno      = ENOMEM;
    if (ok) {
        const size_t length = strlen(text);
        text[length]        = '\n'; /* in the place of its end */
        ok                  = qr_write_lines(s->file, text, length + 1);
    }
    if (!ok) qr_complain("%s: %s", s->path, qr_write_error(errno));
    free(text);
    json_decref(line);
    return ok;
}

/* CONFIG's name with .jsonl in place of .toml, in this folder. */
static char *default_path(const char *config_path)
{
    const char *slash = config_path ? strrchr(config_path, '/') : NULL;
    const char *name  = slash ? slash + 1 : config_path ? config_path : "sweep";
    const char *dot   = strrchr(name, '.');
    char       *path  = NULL;
    return asprintf(&path, "%.*s.jsonl", dot ? (int)(dot - name) : (int)strlen(name), name) < 0 ? NULL : path;
}

static double mean_over_runs(const json_t *result, const char *path)
{
    const json_t *runs = json_object_get(result, "runs"), *run;
    double        sum  = 0;
    size_t        i;
    json_array_foreach(runs, i, run) sum += qr_json_number_at(run, path);
    return sum / (double)json_array_size(runs);
}

/* The id of the first check that makes a result INVALID; "": none does. */
static const char *failed_check(const json_t *result)
{
    size_t        index;
    const json_t *check;
    json_array_foreach(qr_json_at(result, "validity/checks"), index,
                       check) if (strcmp(qr_json_text_at(check, "severity"), "invalid") == 0 &&
                                  !json_is_true(json_object_get(check, "ok"))) return qr_json_text_at(check, "id");
    return "";
}

static row row_of(const json_t *result)
{
    row made = {.is_done  = true,
                .is_valid = strcmp(qr_json_text_at(result, "validity/result"), "VALID") == 0,
                .output   = mean_over_runs(result, columns[0].path),
                .e2el     = mean_over_runs(result, "latency/e2el/mean")};
    for (size_t c = 0; c < COLUMNS; c++) made.numbers[c] = columns[c].factor * mean_over_runs(result, columns[c].path);
    snprintf(made.failed, sizeof made.failed, "%s", failed_check(result));
    return made;
}

/* A whole result of the same configuration is done; a partial one, and what is no result, is not. */
static void take_line(settings *s, const json_t *line)
{
    const char *hash = json_string_value(json_object_get(line, "config_hash"));
    for (size_t i = 0; i < s->sweep.point_count && hash != NULL; i++)
        if (strcmp(hash, s->sweep.points[i].hash) == 0 && !json_is_true(json_object_get(line, "partial")))
            s->rows[i] = row_of(line);
}

/* A result, whole or torn, or the answer of --capacity. Nothing is appended to a file of another kind. */
static bool is_of_sweep(const char *text, size_t length, const json_t *line)
{
    static const char begin[] = "{\"schema\":\"quire.result/1\"";
    const char       *schema  = qr_json_text_at(line, "schema");
    const size_t      common  = length < sizeof begin - 1 ? length : sizeof begin - 1;
    if (line == NULL) return memcmp(text, begin, common) == 0;
    return strcmp(schema, "quire.result/1") == 0 || strcmp(schema, "quire.capacity/1") == 0;
}

/* A line without an end is one that a full disk or the end of the machine has torn, or that an editor has left so. What
 * is appended must not stand behind it. */
static bool mend_end(const settings *s, bool is_whole, size_t length)
{
    if (is_whole) return qr_write_lines(s->sweep.file, "\n", 1);
    qr_warn("%s: the last line is torn; its %zu bytes are cut off", s->sweep.path, length);
    return ftruncate(s->sweep.file, lseek(s->sweep.file, 0, SEEK_END) - (off_t)length) == 0;
}

static bool read_line(settings *s, const char *text, size_t length, size_t number)
{
    json_t      *line   = json_loadb(text, length, 0, NULL);
    const bool   is_end = text[length - 1] != '\n';
    const size_t size   = is_end ? length : length - 1;
    bool         ok     = is_of_sweep(text, size, line);
    if (!ok) qr_complain("%s:%zu: no result of quire: this is no file of a sweep", s->sweep.path, number);
    if (ok && line != NULL) take_line(s, line);
    if (ok && is_end && !(ok = mend_end(s, line != NULL, length)))
        qr_complain("%s: %s", s->sweep.path, strerror(errno));
    if (ok && line == NULL && !is_end) qr_warn("%s:%zu: not JSON; the line is skipped", s->sweep.path, number);
    json_decref(line);
    return ok;
}

static bool read_lines(settings *s, FILE *from)
{
    char   *text = NULL;
    size_t  size = 0, number = 0;
    bool    ok = true;
    ssize_t length;
    while (ok && (length = getline(&text, &size, from)) > 0) ok = read_line(s, text, (size_t)length, ++number);
    if (ferror(from)) qr_complain("%s: %s", s->sweep.path, strerror(errno));
    ok &= !ferror(from);
    free(text);
    return ok;
}

static bool read_done(settings *s)
{
    quire_error error = {0};
    size_t      done  = 0;
    FILE       *from  = qr_input_open(s->sweep.path, QR_MOST_ROWS_BYTES, &error);
    if (from == NULL) return qr_complain("%s", error.message), false;
    const bool ok = read_lines(s, from);
    fclose(from);
    if (!ok) return false;
    for (size_t i = 0; i < s->sweep.point_count; i++) done += s->rows[i].is_done;
    fprintf(stderr, "quire: %s: %zu of %zu points are done\n", s->sweep.path, done, s->sweep.point_count);
    return true;
}

static bool open_file(settings *s)
{
    const int new_file = s->resume ? 0 : O_EXCL;
    s->sweep.file      = open(s->sweep.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | new_file, 0666);
    if (s->sweep.file >= 0) return !s->resume || read_done(s);
    if (errno == EEXIST)
        qr_complain("%s: exists already: %s-o names another file", s->sweep.path,
                    s->capacity ? "" : "--resume continues it, ");
    else
        qr_complain("%s: %s", s->sweep.path, strerror(errno));
    return false;
}

/* ---- the grid ---- */

static bool take_result(void *context, size_t index, quire_status status, const quire_error *error)
{
    settings       *s     = context;
    const qr_point *point = &s->sweep.points[index];
    char            name[256];
    if (status != QUIRE_OK) {
        name_point(&s->sweep, point, name, sizeof name);
        qr_complain("%s: %s", name, error->message[0] ? error->message : quire_status_text(status));
        s->status = QR_EXIT_FAILED;
    }
    json_t *line = qr_sweep_line(s->results[index],
                                 json_pack("{s:I, s:I, s:o}", "point", (json_int_t)index, "points",
                                           (json_int_t)s->sweep.point_count, "axes", qr_point_axes(&s->sweep, point)));
    if (line != NULL && status == QUIRE_OK && !s->results[index]->partial) s->rows[index] = row_of(line);
    const bool written = qr_sweep_write(&s->sweep, line);
    if (!written) s->status = QR_EXIT_FAILED;
    qr_result_destroy(s->results[index]);
    s->results[index] = NULL;
    return written; /* the others may still succeed; without a file they would be lost */
}

static int run_grid(settings *s)
{
    const quire_logger logger = qr_logger_of(s->sweep.base);
    for (size_t i = 0; i < s->sweep.point_count; i++) {
        if (s->rows[i].is_done) continue;
        s->results[i] = qr_arguments_result(&s->common, s->sweep.points[i].config);
        if (s->results[i] == NULL) return QR_EXIT_FAILED;
    }
    const qr_turns turns = {.results    = s->results,
                            .count      = s->sweep.point_count,
                            .sequential = strcmp(quire_config_string(s->sweep.base, "sweep.order"), "sequential") == 0,
                            .logger     = &logger,
                            .interrupt  = s->sweep.interrupt,
                            .ended      = take_result,
                            .context    = s};
    if (!qr_turns_run(&turns) && s->status == QR_EXIT_OK) return QR_EXIT_INTERRUPTED;
    return s->status;
}

/* ---- the table ---- */

/* The axis along which load grows: where throughput bends there, the knee is. -1: none. */
static int load_axis(const qr_sweep *s)
{
    for (size_t a = 0; a < s->axis_count; a++)
        if (qr_load_key_of(s->axes[a]) != NULL) return (int)a;
    return -1;
}

static bool is_same_but(const qr_sweep *s, size_t x, size_t y, int axis)
{
    for (size_t a = 0; a < s->axis_count; a++)
        if ((int)a != axis && strcmp(s->points[x].assignments[a], s->points[y].assignments[a]) != 0) return false;
    return true;
}

/* Kleinrock 1979, power: the knee is where throughput over response time is highest, of valid points. */
static double power(const row *r) { return r->is_done && r->is_valid && r->e2el > 0 ? r->output / r->e2el : -1; }

static bool is_knee(const settings *s, size_t index)
{
    const int axis   = load_axis(&s->sweep);
    size_t    others = 0;
    if (axis < 0 || !(power(&s->rows[index]) > 0)) return false;
    for (size_t i = 0; i < s->sweep.point_count; i++) {
        if (i == index || !(power(&s->rows[i]) > 0) || !is_same_but(&s->sweep, i, index, axis)) continue;
        if (power(&s->rows[i]) > power(&s->rows[index])) return false;
        others++;
    }
    return others > 0;
}

/* As wide as the longest of its name and values, at most 22 and two spaces. */
static int axis_width(const settings *s, size_t axis)
{
    size_t width = strlen(qr_last_word(s->sweep.axes[axis]));
    for (size_t i = 0; i < s->sweep.point_count; i++) {
        const size_t length = strlen(point_value(&s->sweep.points[i], axis));
        if (length > width) width = length;
    }
    return (int)(width < 22 ? width : 22) + 2;
}

static void print_axis(const settings *s, size_t axis, const char *text)
{
    const int width = axis_width(s, axis);
    fprintf(qr_stdout, "%-*.*s", width, width - 2, text);
}

static void print_row(const settings *s, size_t index)
{
    const row *r = &s->rows[index];
    for (size_t a = 0; a < s->sweep.axis_count; a++) print_axis(s, a, point_value(&s->sweep.points[index], a));
    if (!r->is_done) {
        fprintf(qr_stdout, "not done\n");
        return;
    }
    for (size_t c = 0; c < COLUMNS; c++)
        if (isfinite(r->numbers[c]))
            fprintf(qr_stdout, "%*.*f", columns[c].width, columns[c].decimals, r->numbers[c]);
        else
            fprintf(qr_stdout, "%*s", columns[c].width, "-");
    if (r->is_valid)
        fprintf(qr_stdout, "  VALID%s\n", is_knee(s, index) ? "  knee" : "");
    else
        fprintf(qr_stdout, "  INVALID%s%s\n", r->failed[0] ? " " : "", r->failed);
}

static void print_table(const settings *s)
{
    for (int head = 0; head < 2; head++) {
        for (size_t a = 0; a < s->sweep.axis_count; a++)
            print_axis(s, a, head == 0 ? "" : qr_last_word(s->sweep.axes[a]));
        for (size_t c = 0; c < COLUMNS; c++) fprintf(qr_stdout, "%*s", columns[c].width, columns[c].heads[head]);
        fputc('\n', qr_stdout);
    }
    for (size_t i = 0; i < s->sweep.point_count; i++) print_row(s, i);
    if (qr_session_is_virtual(s->sweep.base)) fprintf(qr_stdout, "simulated on the virtual clock\n");
}

/* ---- the command ---- */

static int run(settings *s)
{
    s->results = calloc(s->sweep.point_count, sizeof(qr_result *));
    s->rows    = calloc(s->sweep.point_count, sizeof *s->rows);
    if (s->results == NULL || s->rows == NULL) return qr_complain("out of memory"), QR_EXIT_FAILED;
    if (!open_file(s)) return QR_EXIT_USAGE;
    if (!qr_target_is_http(s->sweep.base)) qr_warn_of_machine(s->sweep.base);
    warn_of_ignored(&s->sweep);
    s->sweep.interrupt = qr_interrupt_install();
    if (s->capacity) return qr_sweep_capacity(&s->sweep);
    const int status = run_grid(s);
    print_table(s);
    return status;
}

static int plan_all(const qr_sweep *s, bool capacity)
{
    const quire_config **configs = calloc(s->point_count, sizeof *configs);
    warn_of_ignored(s);
    if (configs == NULL) return qr_complain("out of memory"), QR_EXIT_FAILED;
    for (size_t i = 0; i < s->point_count; i++) configs[i] = s->points[i].config;
    const int status = qr_dry_run(configs, s->point_count, !capacity);
    if (status == QR_EXIT_OK && capacity) qr_sweep_plan_capacity(s);
    free(configs);
    return status;
}

static int sweep(void *context, const quire_config *config)
{
    if (!qr_mpirun_is_alone("sweep")) return QR_EXIT_USAGE;
    settings *s        = context;
    char     *path     = default_path(s->common.config_path);
    s->sweep.arguments = &s->common;
    s->sweep.base      = config;
    if (s->sweep.path == NULL) s->sweep.path = path;
    int status = QR_EXIT_USAGE;
    if (quire_config_count(config, "sweep") == 0 && !s->capacity)
        qr_complain("no axes: %s; e.g. \"load.request_rate\" = [0.5, 1, 2]",
                    qr_arguments_config_path(&s->common) ? "[sweep] names none"
                                                         : "CONFIG, the file whose [sweep] names them, is missing");
    else if (!make_points(&s->sweep) || !all_axes_matter(&s->sweep) ||
             (s->capacity && !qr_sweep_is_searchable(&s->sweep)))
        status = QR_EXIT_USAGE;
    else if (s->common.dry_run)
        status = plan_all(&s->sweep, s->capacity);
    else if (qr_inputs_are_kept("--output", s->sweep.path, qr_arguments_config_path(&s->common), config) &&
             all_points_fit(&s->sweep))
        status = run(s);
    if (s->sweep.file >= 0 && close(s->sweep.file) != 0) status = QR_EXIT_FAILED;
    for (size_t i = 0; i < s->sweep.point_count && s->results != NULL; i++) qr_result_destroy(s->results[i]);
    free(s->results);
    free(s->rows);
    drop_points(&s->sweep);
    free(path);
    return status;
}

enum { OPTION_CAPACITY = 0x4001, OPTION_RESUME };

static const struct argp_option options[] = {
    {"capacity", OPTION_CAPACITY, NULL, 0, "find the highest request rate that meets [slo], at every point", 1},
    {"resume", OPTION_RESUME, NULL, 0, "continue NAME.jsonl: points that are done there are not measured again", 1},
    {"output", 'o', "NAME.jsonl", 0, "where results go, a line each (default: CONFIG's name, in this folder)", 1},
    {0},
};

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &s->common; return 0;
    case OPTION_CAPACITY: s->capacity = true; return 0;
    case OPTION_RESUME: s->resume = true; return 0;
    case 'o': s->sweep.path = value; return 0;
    case ARGP_KEY_END:
        if (s->capacity && s->resume)
            argp_error(state, "--resume does not apply to --capacity: a search cannot be continued");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int qr_command_sweep(int argc, char **argv)
{
    static const struct argp_child children[] = {{&qr_workload_argp, 0, "Workload, load and run", 2}, {0}};
    static const struct argp       argp       = {
                    .options  = options,
                    .parser   = parse,
                    .children = children,
                    .args_doc = "CONFIG",
                    .doc      = "Measure every combination of the axes in [sweep], repetitions interleaved.\v"
                                            "[sweep]\n\"load.request_rate\" = [0.5, 1, 2, 4]\n\"scheduler.max_num_seqs\" = \"16-64*2\"\n\n"
                                            "Each point is a whole result on one line of NAME.jsonl. The knee is the load at which throughput "
                                            "over response time is highest.\n\n"
                                            "--capacity bisects load.request_rate between capacity.min_rate and capacity.max_rate; a probe ends "
                                            "as soon as it is sure whether slo.min_attainment of the requests meet [slo].\n\n"
                                            "Exit status: 0 done, 1 a point or a file failed, 2 usage, configuration or memory, 3 not even "
                                            "capacity.min_rate meets [slo], 130 interrupted.",
    };
    settings s = {.sweep = {.file = -1}};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, sweep, &s);
}
