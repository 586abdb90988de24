/* The document from which a page is filled, and the page. */
#include "bench/report/report.h"

#include <stdlib.h>
#include <string.h>

#include "bench/common/json_text.h"
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

/* ---- simulated results ---- */

/* Those whose cost model is another than the one before: the results of a sweep share one. */
static json_t *simulations(const qr_report *report)
{
    const json_t *before = NULL;
    json_t       *to     = json_array();
    for (size_t i = 0; i < count_of(report); i++) {
        const json_t *error = qr_json_at(result_at(report, i), "cost_model/held_out_error");
        if (!qr_report_is_simulated(result_at(report, i)) || (before != NULL && json_equal(before, error))) continue;
        json_array_append(to, (json_t *)result_at(report, i));
        before = error;
    }
    return to;
}

/* ---- the page ---- */

static json_t *document(const qr_report *report)
{
    const char  *axis  = qr_report_axis(report);
    const size_t count = count_of(report), simulated = qr_report_simulated(report), valid = qr_report_valid(report);
    json_t      *all_runs = json_array();
    for (size_t i = 0; i < count; i++) json_array_extend(all_runs, json_object_get(result_at(report, i), "runs"));
    const char *title = axis ? qr_report_axis_title(axis) : "";
    json_t     *data  = json_pack("{s:s, s:O}", "axis", title, "results", report->results);
    return json_pack("{s:o, s:O, s:o, s:O, s:O?, s:O?, s:s, s:o, s:o, s:I, s:I, s:I, s:b, s:b, s:b, s:b, s:b, s:b}",
                     "data", data, "results", report->results, "all_runs", all_runs, "answers", report->answers,
                     "first", result_at(report, 0), "first_run", qr_json_at(result_at(report, 0), "runs/0"), "axis",
                     title, "comparisons", comparisons(report), "simulations", simulations(report), "count",
                     (json_int_t)count, "invalid", (json_int_t)(count - valid), "simulated", (json_int_t)simulated,
                     "none_valid", valid == 0, "several", count > 1, "many", count > 3, "several_runs",
                     json_array_size(all_runs) > 1, "all_simulated", simulated == count, "charts",
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
