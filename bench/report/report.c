/* The document from which a page is filled, and the page. */
#include "bench/report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/json_text.h"
#include "bench/common/whole_file.h"
#include "bench/report/html.h"
#include "bench/report/report_data.h"
#include "bench/result/compare.h"

/* page.html with style.css and charts.js in their places, and Chart.js or nothing: made by cmake/embed.cmake. */
extern const unsigned char qr_page_html[], qr_chart_js[];
extern const size_t        qr_page_html_size, qr_chart_js_size;

bool qr_report_has_charts(void) { return qr_chart_js_size > 0; }

static size_t        count_of(const qr_report *report) { return json_array_size(report->results); }
static const json_t *result_at(const qr_report *report, size_t i) { return json_array_get(report->results, i); }

/* ---- comparison ---- */

enum { MOST_COMPARED = 8 };

/* Each other result beside the first, as `quire compare` has it, with its name as "other"; null: no comparison. */
static json_t *comparisons(const qr_report *report)
{
    const size_t   count = count_of(report);
    qr_comparison *c     = calloc(1, sizeof *c);
    if (count < 2 || count > MOST_COMPARED || qr_report_axis(report) != NULL || c == NULL) return free(c), json_null();
    json_t *to = json_array();
    for (size_t i = 1; i < count; i++) {
        qr_compare(result_at(report, 0), result_at(report, i), c);
        json_t *one = qr_compare_json(c);
        json_object_set(one, "other", json_object_get(result_at(report, i), "shown_as"));
        json_array_append_new(to, one);
    }
    free(c);
    return to;
}

/* ---- the grid of a sweep ---- */

/* Over the repetitions; NAN when one has none. */
static double mean_of(const json_t *result, const char *path)
{
    size_t        index;
    const json_t *runs = json_object_get(result, "runs"), *run;
    double        sum  = 0;
    json_array_foreach(runs, index, run) sum += qr_json_number_at(run, path);
    return sum / (double)json_array_size(runs);
}

/* The member `name`, made as [count] nulls where it is missing. */
static json_t *row_of(json_t *rows, const char *name, size_t count)
{
    json_t *row = json_object_get(rows, name);
    if (row != NULL) return row;
    json_object_set_new(rows, name, row = json_array());
    for (size_t i = 0; i < count; i++) json_array_append_new(row, json_null());
    return row;
}

/* A row for each curve. `heat` is the share of the largest number; a point measured again replaces what was there. */
static json_t *grid_rows(const qr_report *report, const double *xs, size_t x_count, const char *path)
{
    json_t *rows = json_object();
    double  most = 0;
    for (size_t i = 0; i < count_of(report); i++) most = fmax(most, mean_of(result_at(report, i), path));
    for (size_t i = 0; i < count_of(report); i++) {
        const char  *curve = qr_json_text_at(result_at(report, i), "curve");
        const double x = qr_json_number_at(result_at(report, i), "x"), value = mean_of(result_at(report, i), path);
        json_t      *row = row_of(rows, curve[0] ? curve : "all", x_count);
        for (size_t k = 0; k < x_count; k++)
            if (xs[k] == x)
                json_array_set_new(row, k,
                                   json_pack("{s:o, s:f}", "value", qr_json_number(value), "heat",
                                             isfinite(value) && most > 0 ? value / most : 0));
    }
    return rows;
}

/* A heat map that can be read: the deeper a cell, the larger its number. */
static json_t *grids(const qr_report *report)
{
    static const char *const shown[][2] = {{"Output tokens per second", "throughput/output_tokens/value"},
                                           {"Time to first token, median, ms", "latency/ttft/p/50"},
                                           {"Time per output token, median, ms", "latency/tpot/p/50"}};
    double                   xs[QR_REPORT_MAX_RESULTS];
    const size_t             x_count = qr_report_distinct(report, "x", xs);
    json_t                  *to = json_array(), *values = json_array();
    for (size_t i = 0; i < x_count; i++) json_array_append_new(values, json_real(xs[i]));
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        json_array_append_new(to, json_pack("{s:s, s:O, s:o}", "title", shown[i][0], "xs", values, "rows",
                                            grid_rows(report, xs, x_count, shown[i][1])));
    json_decref(values);
    return to;
}

/* ---- where the threads are ---- */

/* Is `cpu` in the kernel's list, "0-3,8"? */
static bool lists(const char *list, long cpu)
{
    while (*list != '\0') {
        char      *end;
        const long first = strtol(list, &end, 10);
        if (end == list) return false;
        const long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        if (cpu >= first && cpu <= last) return true;
        if (*end != ',') break;
        list = end + 1;
    }
    return false;
}

static json_t *threads_on(const json_t *result, const char *list)
{
    const json_t *times = qr_json_at(result, "runs/0/threads"), *cpu;
    json_t       *to    = json_array();
    size_t        thread;
    json_array_foreach(qr_json_at(result, "engine/cpus"), thread, cpu)
    {
        const json_t *own  = json_array_get(times, thread);
        const double  busy = qr_json_number_at(own, "busy_s"), wait = qr_json_number_at(own, "barrier_s");
        if (lists(list, (long)json_integer_value(cpu)))
            json_array_append_new(to, json_pack("{s:I, s:I, s:o}", "thread", (json_int_t)thread, "cpu",
                                                json_integer_value(cpu), "busy", qr_json_number(busy / (busy + wait))));
    }
    return to;
}

static json_t *nodes(const qr_report *report)
{
    const json_t *result = result_at(report, 0), *node;
    json_t       *to     = json_array();
    size_t        index;
    if (qr_json_at(result, "engine/cpus") == NULL) return to;
    json_array_foreach(qr_json_at(result, "context/nodes"), index, node)
    {
        json_t *own = json_copy((json_t *)node);
        json_object_set_new(own, "threads", threads_on(result, qr_json_text_at(node, "cpus")));
        json_array_append_new(to, own);
    }
    return to;
}

/* ---- the page ---- */

static json_t *document(const qr_report *report)
{
    const char  *axis  = qr_report_axis(report);
    const size_t count = count_of(report), simulated = qr_report_simulated(report);
    json_t      *all_runs = json_array();
    size_t       valid    = 0;
    for (size_t i = 0; i < count; i++) {
        valid += strcmp(qr_json_text_at(result_at(report, i), "validity/result"), "VALID") == 0;
        json_array_extend(all_runs, json_object_get(result_at(report, i), "runs"));
    }
    json_t *data = json_pack("{s:s, s:O}", "axis", axis ? qr_report_axis_title(axis) : "", "results", report->results);
    return json_pack(
        "{s:o, s:O, s:o, s:O, s:O?, s:O?, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:b, s:b, s:b, s:b, s:b}", "data",
        data, "results", report->results, "all_runs", all_runs, "answers", report->answers, "first",
        result_at(report, 0), "first_run", qr_json_at(result_at(report, 0), "runs/0"), "axis",
        axis ? qr_report_axis_title(axis) : "", "grids", axis ? grids(report) : json_null(), "comparisons",
        comparisons(report), "nodes", nodes(report), "count", (json_int_t)count, "valid", (json_int_t)valid,
        "simulated", (json_int_t)simulated, "all_valid", valid == count, "several", count > 1, "many", count > 3,
        "several_runs", json_array_size(all_runs) > 1, "all_simulated", simulated == count, "charts",
        qr_report_has_charts());
}

/* The page is filled up to where Chart.js stands: it is not text of ours. */
bool qr_report_write(const qr_report *report, FILE *to)
{
    static const char mark[] = "{{chart.js}}";
    const char       *page   = (const char *)qr_page_html;
    const char       *at     = memmem(page, qr_page_html_size, mark, strlen(mark));
    json_t           *root   = document(report);
    if (root == NULL || at == NULL) return json_decref(root), false;
    qr_template_fill(page, (size_t)(at - page), root, qr_html_value, to);
    fwrite(qr_chart_js, 1, qr_chart_js_size, to);
    at += strlen(mark);
    fwrite(at, 1, (size_t)(page + qr_page_html_size - at), to);
    json_decref(root);
    return fflush(to) == 0 && !ferror(to);
}

static bool write_report(const void *report, FILE *to) { return qr_report_write(report, to); }

quire_status qr_report_save(const qr_report *report, const char *path, quire_error *error)
{
    return qr_file_write_whole(path, write_report, report, error);
}
