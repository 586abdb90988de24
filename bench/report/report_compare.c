/* Results side by side: ratios with their intervals, what differs, and the grid of a sweep. See report_html.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_html.h"
#include "bench/result/compare.h"

enum { MOST_COMPARED = 8 };

bool qr_report_is_comparison(const qr_report *report)
{
    return qr_report_count(report) >= 2 && qr_report_count(report) <= MOST_COMPARED && !qr_report_is_sweep(report);
}

static const json_t *result_at(const qr_report *report, size_t index) { return json_array_get(report->results, index); }

/* ---- ratios ---- */

static void free_all(qr_comparison *comparisons[MOST_COMPARED])
{
    for (size_t i = 1; i < MOST_COMPARED; i++) free(comparisons[i]);
}

/* Of each result with the first, at its index. False: out of memory. */
static bool compare_all(const qr_report *report, qr_comparison *comparisons[MOST_COMPARED])
{
    for (size_t i = 1; i < qr_report_count(report); i++) {
        comparisons[i] = calloc(1, sizeof *comparisons[i]);
        if (comparisons[i] == NULL) return false;
        qr_compare(qr_report_first(report), result_at(report, i), comparisons[i]);
    }
    return true;
}

/* "0.974", "1 484" */
static void ratio(double value, FILE *to)
{
    if (value < 10)
        fprintf(to, "%.3f", value);
    else
        qr_html_figure(value, to);
}

static void ratio_cell(const qr_report_column *column, const qr_compared *m, FILE *to)
{
    static const char *const classes[] = {"pass", "fail", "", ""}; /* by qr_verdict */
    if (m == NULL) {
        fputs("<td>\xe2\x80\x93</td><td></td><td></td>", to);
        return;
    }
    qr_html_figure_cell(column->scale * m->b, to);
    fputs("<td>\xc3\x97 ", to);
    ratio(m->ratio.value, to);
    if (isfinite(m->ratio.low)) {
        fputs("<br><small>", to);
        ratio(m->ratio.low, to);
        fputs(" to ", to);
        ratio(m->ratio.high, to);
        fputs("</small>", to);
    }
    fprintf(to, "</td><td class=\"text %s\">%s</td>", classes[m->verdict], qr_verdict_name(m->verdict));
}

static void comparison_row(const qr_report *report, const qr_report_column *column,
                           qr_comparison *const comparisons[MOST_COMPARED], FILE *to)
{
    const size_t count    = qr_report_count(report);
    double       a        = NAN;
    bool         measured = false;
    for (size_t i = 1; i < count && column->metric != NULL; i++) {
        const qr_compared *m = qr_compare_find(comparisons[i], column->metric);
        if (m != NULL) measured = true, a = m->a;
    }
    if (!measured) return;
    fputs("<tr>", to);
    qr_html_row_label(column->head, to);
    qr_html_figure_cell(column->scale * a, to);
    for (size_t i = 1; i < count; i++) ratio_cell(column, qr_compare_find(comparisons[i], column->metric), to);
    fputs("</tr>\n", to);
}

void qr_report_comparison(const qr_report *report, FILE *to)
{
    qr_comparison *comparisons[MOST_COMPARED]   = {NULL};
    const char    *heads[2 + 3 * MOST_COMPARED] = {"Metric, mean of the repetitions"};
    size_t         count                        = 1;
    for (size_t i = 0; i < qr_report_count(report); i++) {
        heads[count++] = qr_json_text_at(result_at(report, i), "shown_as");
        if (i == 0) continue;
        heads[count++] = "ratio";
        heads[count++] = "|";
    }
    if (compare_all(report, comparisons)) {
        qr_html_open_table(heads, count, to);
        for (size_t i = 0; i < QR_REPORT_COLUMNS; i++) comparison_row(report, &qr_report_columns[i], comparisons, to);
        qr_html_close_table(to);
        fprintf(to, "<p class=\"note\">Below a ratio: its 95 %% interval, %s.</p>\n",
                qr_compare_method(comparisons[1]));
        bool copies = false;
        for (size_t i = 1; i < qr_report_count(report); i++) copies |= comparisons[i]->copies;
        if (copies)
            fputs("<p class=\"note\">Equal repetitions on the virtual clock (same seed) are copies and count as "
                  "one.</p>\n",
                  to);
    }
    free_all(comparisons);
}

/* ---- differences ---- */

static bool differs(const qr_report *report, const char *path)
{
    const json_t *first = qr_json_at(qr_report_first(report), path);
    for (size_t i = 1; i < qr_report_count(report); i++) {
        const json_t *other = qr_json_at(result_at(report, i), path);
        if ((first == NULL) != (other == NULL) || (first != NULL && !json_equal(first, other))) return true;
    }
    return false;
}

static bool difference_row(const qr_report *report, const char *name, const char *path, FILE *to)
{
    if (!differs(report, path)) return false;
    fputs("<tr>", to);
    qr_html_row_label(name, to);
    for (size_t i = 0; i < qr_report_count(report); i++) {
        fputs("<td class=\"text\">", to);
        qr_html_value(qr_json_at(result_at(report, i), path), to);
        fputs("</td>", to);
    }
    fputs("</tr>\n", to);
    return true;
}

static size_t setting_rows(const qr_report *report, FILE *to)
{
    json_t     *config = json_object_get(qr_report_first(report), "config"), *value;
    size_t      rows   = 0;
    const char *key;
    json_object_foreach(config, key, value)
    {
        char path[128];
        if (strncmp(key, "output.", 7) == 0) continue; /* changes what is written, not what is measured */
        snprintf(path, sizeof path, "config/%s", key);
        rows += difference_row(report, key, path, to);
    }
    return rows;
}

void qr_report_differences(const qr_report *report, FILE *to)
{
    static const char *const facts[][2] = {
        {"model", "model/name"},       {"machine", "context/host"},        {"CPU", "context/cpu/model"},
        {"threads", "engine/threads"}, {"version", "context/quire/build"}, {"instruction set", "context/cpu/isa"}};
    const char *heads[1 + MOST_COMPARED] = {"What differs"};
    size_t      count = 1, rows = 0;
    char        labels[MOST_COMPARED][300];
    for (size_t i = 0; i < qr_report_count(report); i++, count++) {
        snprintf(labels[i], sizeof labels[i], "|%s", qr_json_text_at(result_at(report, i), "shown_as"));
        heads[count] = labels[i];
    }
    qr_html_open_table(heads, count, to);
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        rows += difference_row(report, facts[i][0], facts[i][1], to);
    rows += setting_rows(report, to);
    qr_html_close_table(to);
    if (rows == 0) fputs("<p class=\"note\">Nothing: model, machine, build and settings are equal.</p>\n", to);
}

/* ---- the grid of a sweep ---- */

void qr_report_axis_name(const qr_report *report, FILE *to)
{
    const char *axis = qr_report_axis(report);
    qr_html_text(axis != NULL ? qr_report_axis_title(axis) : "", to);
}

/* Over the repetitions; NAN when one has none. */
static double mean_of(const json_t *result, const char *path)
{
    size_t        index;
    const json_t *runs = json_object_get(result, "runs"), *run;
    double        sum  = 0;
    json_array_foreach(runs, index, run) sum += qr_json_number_at(run, path);
    return sum / (double)json_array_size(runs);
}

/* The last one, so that a point measured again replaces what was there. */
static const json_t *point_at(const qr_report *report, size_t curve, double x)
{
    const json_t *found = NULL, *result;
    size_t        index;
    json_array_foreach(report->results, index, result) if (qr_json_number_at(result, "curve_number") == (double)curve &&
                                                           qr_json_number_at(result, "x") == x) found = result;
    return found;
}

typedef struct grid {
    double      xs[QR_REPORT_MAX_RESULTS], most;
    const char *curves[QR_REPORT_MAX_RESULTS];
    size_t      x_count, curve_count;
} grid;

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void find_grid(const qr_report *report, grid *g)
{
    size_t        index;
    const json_t *result;
    json_array_foreach(report->results, index, result)
    {
        const double x     = qr_json_number_at(result, "x");
        const size_t curve = (size_t)qr_json_number_at(result, "curve_number");
        bool         old   = !isfinite(x);
        for (size_t i = 0; i < g->x_count; i++) old |= g->xs[i] == x;
        if (!old) g->xs[g->x_count++] = x;
        g->curves[curve] = qr_json_text_at(result, "curve");
        if (curve >= g->curve_count) g->curve_count = curve + 1;
    }
    qsort(g->xs, g->x_count, sizeof *g->xs, by_value);
}

static void grid_cell(double value, double most, FILE *to)
{
    fprintf(to, "<td class=\"heat\" style=\"--heat:%.2f\">", isfinite(value) && most > 0 ? value / most : 0);
    qr_html_figure(value, to);
    fputs("</td>", to);
}

static void grid_table(const qr_report *report, const grid *g, const char *title, const char *path, FILE *to)
{
    double most = 0;
    for (size_t i = 0; i < qr_report_count(report); i++) most = fmax(most, mean_of(result_at(report, i), path));
    fprintf(to, "<div><h3>%s</h3><div class=\"scroll\"><table><thead><tr><th>", title);
    qr_report_axis_name(report, to);
    for (size_t x = 0; x < g->x_count; x++) fprintf(to, "</th><th>%g", g->xs[x]);
    fputs("</th></tr></thead><tbody>\n", to);
    for (size_t curve = 0; curve < g->curve_count; curve++) {
        fputs("<tr>", to);
        qr_html_row_label(g->curves[curve][0] ? g->curves[curve] : "all", to);
        for (size_t x = 0; x < g->x_count; x++) grid_cell(mean_of(point_at(report, curve, g->xs[x]), path), most, to);
        fputs("</tr>\n", to);
    }
    qr_html_close_table(to);
    fputs("</div>\n", to);
}

/* A heat map that can be read: the deeper a cell, the larger its number. */
void qr_report_grid(const qr_report *report, FILE *to)
{
    grid *g = calloc(1, sizeof *g);
    if (g == NULL) return;
    find_grid(report, g);
    fputs("<div class=\"side\">\n", to);
    grid_table(report, g, "Output tokens per second", "throughput/output_tokens/value", to);
    grid_table(report, g, "Time to first token, median, ms", "latency/ttft/p/50", to);
    grid_table(report, g, "Time per output token, median, ms", "latency/tpot/p/50", to);
    fputs("</div>\n", to);
    free(g);
}
