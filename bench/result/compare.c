/* Metrics, differences and verdicts of two results, from their JSON: files and results of this process alike. */
#include "bench/result/compare.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/printable.h"
#include "bench/common/input_file.h"
#include "bench/common/json_text.h"
#include "bench/result/result_check.h"

/* ---- reading ---- */

/* Also from a pipe: `quire compare <(jq ...) b.json`. */
static quire_status open_result(const char *path, FILE **from_out, quire_error *error)
{
    struct stat facts;
    *from_out = NULL;
    if (stat(path, &facts) != 0) return qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISFIFO(facts.st_mode)) {
        *from_out = qr_input_open(path, QR_MOST_RESULT_BYTES, error);
        return *from_out != NULL ? QUIRE_OK : QUIRE_ERR_IO;
    }
    *from_out = fopen(path, "r");
    return *from_out != NULL ? QUIRE_OK : qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno));
}

quire_status qr_result_load(FILE *from, const char *path, json_t **result_out, quire_error *error)
{
    json_error_t at;
    json_t      *root = json_loadf(from, JSON_REJECT_DUPLICATES, &at);
    *result_out       = NULL;
    if (root == NULL && strcmp(at.text, "end of file expected near '{'") == 0)
        return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%d: several results in one file (a sweep): give one result", path,
                       at.line);
    if (root == NULL) return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%d: not JSON: %s", path, at.line, at.text);
    const quire_status status = qr_result_check(root, path, error);
    if (status == QUIRE_OK)
        *result_out = root;
    else
        json_decref(root);
    return status;
}

quire_status qr_result_read(const char *path, json_t **result_out, quire_error *error)
{
    FILE *from;
    *result_out = NULL;
    QR_TRY(open_result(path, &from, error));
    const quire_status status = qr_result_load(from, path, result_out, error);
    fclose(from);
    return status;
}

static const json_t *run_of(const json_t *result, size_t index)
{
    return json_array_get(json_object_get(result, "runs"), index);
}

/* ---- metrics ---- */

/* Where a metric is in a run: throughput.<name>.value, latency.<name>.mean or .p.<percentile>, slo.attainment. */
typedef struct metric_path {
    const char *group, *name, *percentile; /* percentile NULL: the value or the mean */
    const char *label, *unit;
    bool        higher;
} metric_path;

static const json_t *member_of(const json_t *run, const metric_path *p)
{
    return json_object_get(json_object_get(run, p->group), p->name);
}

static double value_at(const json_t *run, const metric_path *p)
{
    const json_t *member = member_of(run, p);
    const json_t *value  = p->percentile            ? json_object_get(json_object_get(member, "p"), p->percentile)
                           : json_is_number(member) ? member
                           : strcmp(p->group, "latency") == 0 ? json_object_get(member, "mean")
                                                              : json_object_get(member, "value");
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* The interval that one run gives for its own value. */
static qr_interval interval_within(const json_t *run, const metric_path *p)
{
    const json_t *member = member_of(run, p), *ci = json_object_get(member, "ci95");
    const double  value = value_at(run, p);
    if (strcmp(p->group, "slo") == 0) {
        const double due = qr_json_number_at(run, "requests/due");
        return qr_interval_of_share(value * due, due);
    }
    if (p->percentile != NULL) ci = json_object_get(ci, p->percentile);
    if (json_array_size(ci) == 2 && json_is_number(json_array_get(ci, 0)))
        return (qr_interval){value, json_number_value(json_array_get(ci, 0)), json_number_value(json_array_get(ci, 1))};
    const uint64_t n = (uint64_t)json_integer_value(json_object_get(member, "n"));
    if (strcmp(p->group, "latency") != 0 || n < 2) return (qr_interval){value, NAN, NAN};
    const double half = qr_student_975(n - 1) * json_number_value(json_object_get(member, "stdev")) / sqrt((double)n);
    return (qr_interval){value, value - half, value + half};
}

bool qr_compare_is_loss(const qr_compared *m) { return m->higher_is_better && m->a > 0 && !(m->b > 0); }

/* One pair says nothing of what changes between runs, except where a rate fell to 0 or rose from it. */
static qr_verdict judge(const qr_comparison *c, const qr_compared *m)
{
    if (qr_compare_is_invalid(c, 0) || qr_compare_is_invalid(c, 1)) return QR_VERDICT_NONE;
    if (qr_compare_is_loss(m)) return QR_VERDICT_WORSE;
    if (m->higher_is_better && !(m->a > 0) && m->b > 0) return QR_VERDICT_BETTER;
    if (c->pairs == 1) return QR_VERDICT_NONE;
    if (isnan(m->ratio.low) || isnan(m->ratio.high)) return QR_VERDICT_UNCLEAR;
    if (m->ratio.low >= 0.99 && m->ratio.high <= 1.01) return QR_VERDICT_SAME;
    if (m->ratio.low > 1) return m->higher_is_better ? QR_VERDICT_BETTER : QR_VERDICT_WORSE;
    if (m->ratio.high < 1) return m->higher_is_better ? QR_VERDICT_WORSE : QR_VERDICT_BETTER;
    return QR_VERDICT_UNCLEAR;
}

static void add_metric(qr_comparison *c, const metric_path *p)
{
    double     *values = calloc(2 * (size_t)c->pairs, sizeof *values);
    qr_compared m      = {.higher_is_better = p->higher};
    bool        all    = values != NULL && c->metric_count < QR_COMPARED_MAX;
    for (uint32_t i = 0; i < c->pairs && all; i++) {
        values[i]            = value_at(run_of(c->a, i), p);
        values[c->pairs + i] = value_at(run_of(c->b, i), p);
        all                  = isfinite(values[i]) && isfinite(values[c->pairs + i]);
    }
    if (all) {
        m.a = qr_interval_of_mean(values, c->pairs).value;
        m.b = qr_interval_of_mean(values + c->pairs, c->pairs).value;
        snprintf(m.name, sizeof m.name, "%s", p->label);
        snprintf(m.unit, sizeof m.unit, "%s", p->unit);
        const qr_interval a = interval_within(run_of(c->a, 0), p), b = interval_within(run_of(c->b, 0), p);
        m.ratio   = c->pairs > 1 ? qr_interval_of_paired_ratio(values, values + c->pairs, c->pairs)
                                 : qr_interval_of_ratio(&a, &b);
        m.verdict = judge(c, &m);
        if (m.a > 0 || m.b > 0) c->metrics[c->metric_count++] = m; /* 0 on both sides says nothing */
    }
    free(values);
}

static void add_latency(qr_comparison *c, const char *name, const json_t *distribution)
{
    char        label[48];
    metric_path p = {.group = "latency", .name = name, .label = label, .unit = qr_json_text_at(distribution, "unit")};
    const char *percentile;
    json_t     *value;
    snprintf(label, sizeof label, "%s.mean", name);
    add_metric(c, &p);
    json_object_foreach(json_object_get(distribution, "p"), percentile, value)
    {
        snprintf(label, sizeof label, "%s.p%s", name, percentile);
        p.percentile = percentile;
        add_metric(c, &p);
    }
}

static void add_metrics(qr_comparison *c)
{
    const json_t *first = run_of(c->a, 0);
    const char   *name;
    json_t       *member;
    json_object_foreach(json_object_get(first, "throughput"), name, member)
    {
        add_metric(c, &(metric_path){"throughput", name, NULL, name, qr_json_text_at(member, "unit"), true});
    }
    add_metric(c, &(metric_path){"slo", "attainment", NULL, "attainment", "share", true});
    json_object_foreach(json_object_get(first, "latency"), name, member) add_latency(c, name, member);
}

/* ---- differences ---- */

static void print_value(const json_t *value, char *out, size_t size)
{
    const double number = json_number_value(value);
    if (json_is_number(value) && number == rint(number) && fabs(number) < 1e15) { /* 64, not 64.0 */
        snprintf(out, size, "%.0f", number);
        return;
    }
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    snprintf(out, size, "%s", text ? text : "-");
    free(text);
}

static void add_difference(qr_comparison *c, const char *part, const char *name, const json_t *a, const json_t *b)
{
    if ((a == NULL && b == NULL) || (a != NULL && b != NULL && json_equal(a, b))) return;
    if (strncmp(name, "output.", 7) == 0) return; /* changes what is written, not what is measured */
    if (c->difference_count == QR_DIFFERENCES_MAX) return;
    qr_difference *d = &c->differences[c->difference_count++];
    d->part          = part;
    snprintf(d->name, sizeof d->name, "%s", name);
    print_value(a, d->a, sizeof d->a);
    print_value(b, d->b, sizeof d->b);
}

/* Every member of either object. */
static void add_differences(qr_comparison *c, const char *part, const json_t *a, const json_t *b)
{
    const char *name;
    json_t     *value;
    json_object_foreach((json_t *)a, name, value) add_difference(c, part, name, value, json_object_get(b, name));
    json_object_foreach((json_t *)b, name, value)
    {
        if (json_object_get(a, name) == NULL) add_difference(c, part, name, NULL, value);
    }
}

static bool is_remote(const json_t *result) { return json_is_object(json_object_get(result, "target")); }

/* A server does not tell the settings of its engine: only those of workload, load and run are on both sides. */
static void add_config_differences(qr_comparison *c)
{
    const json_t *a = json_object_get(c->a, "config"), *b = json_object_get(c->b, "config");
    const char   *name;
    json_t       *value;
    if (is_remote(c->a) == is_remote(c->b)) {
        add_differences(c, "config", a, b);
        return;
    }
    json_object_foreach((json_t *)(is_remote(c->a) ? a : b), name, value)
        add_difference(c, "config", name, json_object_get(a, name), json_object_get(b, name));
}

static void find_differences(qr_comparison *c)
{
    static const char *const server[] = {"url", "software", "prompts", "takes_extensions", "vocab_size", "counted_by"};
    static const char *const model[]  = {"name", "source", "architecture", "parameters", "weight_dtype", "kv_dtype"};
    static const char *const cpu[]    = {"model", "isa", "packages", "cores", "smt", "l3_bytes", "hypervisor"};
    const json_t            *a = json_object_get(c->a, "context"), *b = json_object_get(c->b, "context");
    const json_t            *model_a = json_object_get(c->a, "model"), *model_b = json_object_get(c->b, "model");
    const json_t            *cpu_a = json_object_get(a, "cpu"), *cpu_b = json_object_get(b, "cpu");
    add_difference(c, "machine", "host", json_object_get(a, "host"), json_object_get(b, "host"));
    for (size_t i = 0; i < sizeof cpu / sizeof *cpu; i++)
        add_difference(c, "machine", cpu[i], json_object_get(cpu_a, cpu[i]), json_object_get(cpu_b, cpu[i]));
    add_differences(c, "build", json_object_get(a, "quire"), json_object_get(b, "quire"));
    add_differences(c, "build", json_object_get(a, "libs"), json_object_get(b, "libs"));
    for (size_t i = 0; i < sizeof model / sizeof *model; i++)
        add_difference(c, "model", model[i], qr_json_at(model_a, model[i]), qr_json_at(model_b, model[i]));
    const json_t *server_a = json_object_get(c->a, "target"), *server_b = json_object_get(c->b, "target");
    for (size_t i = 0; i < sizeof server / sizeof *server; i++)
        add_difference(c, "target", server[i], json_object_get(server_a, server[i]),
                       json_object_get(server_b, server[i]));
    add_config_differences(c);
}

static bool is_simulated(const json_t *result)
{
    return strcmp(qr_json_text_at(result, "disclosure/clock"), "virtual") == 0;
}

bool qr_compare_is_simulated(const qr_comparison *c, int side) { return is_simulated(side == 0 ? c->a : c->b); }

/* A cap of the instruction set is a setting, not another machine. */
const qr_difference *qr_compare_machine(const qr_comparison *c)
{
    for (size_t i = 0; i < c->difference_count; i++)
        if (strcmp(c->differences[i].part, "machine") == 0 && strcmp(c->differences[i].name, "isa") != 0)
            return &c->differences[i];
    return NULL;
}

/* ---- all ---- */

/* On the virtual clock the same seed gives the same run: its repetitions say nothing of what changes between runs. */
static bool is_copies(const json_t *result, size_t runs)
{
    static const char *const parts[] = {"seed", "throughput", "latency"};
    if (!is_simulated(result)) return false;
    for (size_t i = 1; i < runs; i++)
        for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
            if (!json_equal(json_object_get(run_of(result, 0), parts[part]),
                            json_object_get(run_of(result, i), parts[part])))
                return false;
    return runs > 1;
}

void qr_compare(const json_t *a, const json_t *b, qr_comparison *out)
{
    const size_t runs_a = json_array_size(json_object_get(a, "runs")),
                 runs_b = json_array_size(json_object_get(b, "runs"));
    *out                = (qr_comparison){.a = a, .b = b, .pairs = (uint32_t)(runs_a < runs_b ? runs_a : runs_b)};
    out->copies         = is_copies(a, out->pairs) || is_copies(b, out->pairs);
    if (out->copies) out->pairs = 1;
    find_differences(out);
    add_metrics(out);
}

const qr_compared *qr_compare_find(const qr_comparison *c, const char *name)
{
    for (size_t i = 0; i < c->metric_count; i++)
        if (strcmp(c->metrics[i].name, name) == 0) return &c->metrics[i];
    return NULL;
}

static bool is_valid(const json_t *result)
{
    return strcmp(qr_json_text_at(result, "validity/result"), "VALID") == 0 &&
           !json_is_true(json_object_get(result, "partial"));
}

bool qr_compare_is_invalid(const qr_comparison *c, int side) { return !is_valid(side == 0 ? c->a : c->b); }

qr_interval qr_compare_regression(const qr_compared *m)
{
    const qr_interval r = m->ratio;
    if (m->higher_is_better) return (qr_interval){1 - r.value, 1 - r.high, 1 - r.low};
    return (qr_interval){r.value - 1, r.low - 1, r.high - 1};
}

const char *qr_verdict_name(qr_verdict verdict)
{
    static const char *const names[] = {"better", "worse", "same", "unclear", "none"};
    return names[verdict];
}

const char *qr_compare_method(const qr_comparison *c)
{
    if (c->pairs >= QR_BOOTSTRAP_MIN_PAIRS) return "paired bootstrap, 10000 resamples";
    if (c->pairs > 1) return "paired t of the log ratio (fewer than 6 pairs)";
    return "within one run each: variation between runs is not included";
}

static const char *fault_of(const json_t *side)
{
    return json_is_true(json_object_get(side, "partial")) ? "incomplete" : "INVALID";
}

void qr_compare_note(const qr_comparison *c, char *out, size_t size)
{
    const bool        invalid[2] = {qr_compare_is_invalid(c, 0), qr_compare_is_invalid(c, 1)};
    const char *const fault[2]   = {fault_of(c->a), fault_of(c->b)};
    if (invalid[0] && invalid[1] && strcmp(fault[0], fault[1]) == 0)
        snprintf(out, size, "no verdicts: A and B are %s", fault[0]);
    else if (invalid[0] && invalid[1])
        snprintf(out, size, "no verdicts: A is %s and B is %s", fault[0], fault[1]);
    else if (invalid[0] || invalid[1])
        snprintf(out, size, "no verdicts: %c is %s", invalid[0] ? 'A' : 'B', fault[invalid[0] ? 0 : 1]);
    else if (c->pairs == 1)
        snprintf(out, size, "no verdicts: one pair says nothing of what changes between runs; use --repetitions%s",
                 c->copies ? " with run.vary_seed" : "");
    else
        snprintf(out, size,
                 "%zu metrics, each at 95 %%: between equal sides chance alone makes about %.0f better or worse",
                 c->metric_count, ceil(0.05 * (double)c->metric_count));
}

/* ---- output ---- */

static void print_side(char name, const json_t *result, FILE *to)
{
    const json_t *context = json_object_get(result, "context");
    const size_t  runs    = json_array_size(json_object_get(result, "runs"));
    fprintf(to, "%c  %s on %s, %s, %zu run%s, %s%s%s\n", name, qr_json_text_at(result, "model/name"),
            qr_json_text_at(context, "host"), qr_json_text_at(context, "started"), runs, qr_plural(runs),
            is_valid(result) ? "VALID" : "INVALID", is_simulated(result) ? ", SIMULATED" : "",
            json_is_true(json_object_get(result, "partial")) ? " (interrupted)" : "");
    size_t        index;
    const json_t *check;
    json_array_foreach(qr_json_at(result, "validity/checks"), index, check)
    {
        if (json_is_true(json_object_get(check, "ok")) || strcmp(qr_json_text_at(check, "severity"), "invalid") != 0)
            continue;
        const double value = json_number_value(json_object_get(check, "value"));
        fprintf(to, fabs(value) < 1000 ? "   failed: %s %.4g %s, needs %s\n" : "   failed: %s %.0f %s, needs %s\n",
                qr_json_text_at(check, "id"), value, qr_json_text_at(check, "unit"), qr_json_text_at(check, "need"));
    }
}

/* Runs without one to pair with. */
static void print_left_out(const qr_comparison *c, FILE *to)
{
    const size_t runs[2] = {json_array_size(json_object_get(c->a, "runs")),
                            json_array_size(json_object_get(c->b, "runs"))};
    if (c->copies || runs[0] == runs[1]) return;
    const size_t left = runs[0] > runs[1] ? runs[0] - runs[1] : runs[1] - runs[0];
    fprintf(to, "the last %zu run%s of %c %s left out: %c has no run to pair with %s\n", left, left == 1 ? "" : "s",
            runs[0] > runs[1] ? 'A' : 'B', left == 1 ? "is" : "are", runs[0] > runs[1] ? 'B' : 'A',
            left == 1 ? "it" : "them");
}

/* Of three decimals as many as leave a space before it. */
static void print_number(double number, int width, FILE *to)
{
    for (int decimals = 3; decimals >= 0; decimals--)
        if (snprintf(NULL, 0, "%.*f", decimals, number) < width) {
            fprintf(to, "%*.*f", width, decimals, number);
            return;
        }
    fprintf(to, "%*.2g", width, number);
}

void qr_compare_table(const qr_comparison *c, FILE *to)
{
    print_side('A', c->a, to);
    print_side('B', c->b, to);
    for (size_t i = 0; i < c->difference_count; i++) {
        const qr_difference *d = &c->differences[i];
        fprintf(to, "   %s %.40s: %.40s -> %.40s\n", d->part, d->name, d->a, d->b);
    }
    if (is_simulated(c->a) != is_simulated(c->b))
        fputs("   clock: one side is simulated, the other measured; every ratio includes the error of the cost model\n",
              to);
    if (c->copies) fputs("   equal repetitions on the virtual clock (same seed) are copies and count as one\n", to);
    fprintf(to, "%u pair%s; 95 %% intervals: %s\n", c->pairs, qr_plural(c->pairs), qr_compare_method(c));
    print_left_out(c, to);
    fputc('\n', to);
    fprintf(to, "%-26s%-7s%12s%12s%9s   %-18s %s\n", "metric", "unit", "A", "B", "B / A", "95 % interval", "verdict");
    for (size_t i = 0; i < c->metric_count; i++) {
        const qr_compared *m        = &c->metrics[i];
        char               text[32] = "-";
        if (isinf(m->ratio.value))
            snprintf(text, sizeof text, "A is 0");
        else if (!isnan(m->ratio.low))
            snprintf(text, sizeof text, m->ratio.high < 1000 ? "%.3f .. %.3f" : "%.3g .. %.2g", m->ratio.low,
                     m->ratio.high);
        fprintf(to, "%-26s%-7s", m->name, m->unit);
        print_number(m->a, 12, to);
        print_number(m->b, 12, to);
        print_number(m->ratio.value, 9, to);
        fprintf(to, "   %-18s %s\n", text, qr_verdict_name(m->verdict));
    }
    char note[128];
    qr_compare_note(c, note, sizeof note);
    fprintf(to, "%s\n", note);
}

json_t *qr_compare_json(const qr_comparison *c)
{
    json_t *metrics = json_array(), *differences = json_array();
    char    note[128];
    qr_compare_note(c, note, sizeof note);
    for (size_t i = 0; i < c->metric_count; i++) {
        const qr_compared *m = &c->metrics[i];
        json_array_append_new(metrics,
                              json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:[o, o], s:s}", "name", m->name, "unit",
                                        m->unit, "higher_is_better", m->higher_is_better, "a", qr_json_number(m->a),
                                        "b", qr_json_number(m->b), "ratio", qr_json_number(m->ratio.value), "ci95",
                                        qr_json_number(m->ratio.low), qr_json_number(m->ratio.high), "verdict",
                                        qr_verdict_name(m->verdict)));
    }
    for (size_t i = 0; i < c->difference_count; i++) {
        const qr_difference *d = &c->differences[i];
        json_array_append_new(
            differences, json_pack("{s:s, s:s, s:s, s:s}", "part", d->part, "name", d->name, "a", d->a, "b", d->b));
    }
    return json_pack("{s:s, s:I, s:b, s:[b, b], s:s, s:s, s:o, s:o}", "schema", "quire.comparison/1", "pairs",
                     (json_int_t)c->pairs, "copies", c->copies, "simulated", is_simulated(c->a), is_simulated(c->b),
                     "method", qr_compare_method(c), "note", note, "differences", differences, "metrics", metrics);
}
