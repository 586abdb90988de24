/* See report_html.h. */
#include "bench/report/report_html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void qr_html_text(const char *text, FILE *to)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<': fputs("&lt;", to); break;
        case '>': fputs("&gt;", to); break;
        case '&': fputs("&amp;", to); break;
        case '"': fputs("&quot;", to); break;
        case '\'': fputs("&#39;", to); break;
        default: fputc(*text, to);
        }
    }
}

static void grouped(double value, FILE *to)
{
    char         digits[400];
    const int    length = snprintf(digits, sizeof digits, "%.0f", fabs(value));
    const double shown  = value < 0 ? -1 : 1;
    if (shown < 0) fputs("\xe2\x88\x92", to); /* minus sign */
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) fputs("\xe2\x80\xaf", to); /* narrow no-break space */
        fputc(digits[i], to);
    }
}

void qr_html_figure(double value, FILE *to)
{
    const double size = fabs(value);
    if (!isfinite(value))
        fputs("\xe2\x80\x93", to); /* en dash: not measurable */
    else if (size >= 999.5)
        grouped(value, to);
    else if (size >= 99.95 || value == round(value))
        fprintf(to, "%.0f", value);
    else if (size >= 9.995)
        fprintf(to, "%.1f", value);
    else
        fprintf(to, "%.*f", size >= 0.1 ? 2 : size >= 0.01 ? 3 : 5, value);
}

static int without_less_than(const char *text, size_t size, void *context)
{
    FILE *to = context;
    for (size_t i = 0; i < size; i++)
        if (text[i] == '<' ? fputs("\\u003c", to) == EOF : fputc(text[i], to) == EOF) return -1;
    return 0;
}

/* "<" occurs in strings only, where an escape means the same: neither </script> nor <!-- can come out. */
void qr_html_json(const json_t *value, FILE *to)
{
    json_dump_callback(value, without_less_than, to, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
}

/* ---- cells ---- */

void qr_html_text_cell(const char *text, FILE *to)
{
    fputs("<td class=\"text\">", to);
    qr_html_text(text, to);
    fputs("</td>", to);
}

void qr_html_figure_cell(double value, FILE *to)
{
    fputs("<td>", to);
    qr_html_figure(value, to);
    fputs("</td>", to);
}

/* "|" before the text: of a column of text, aligned to the left. */
static void head_cell(const char *text, FILE *to)
{
    fputs(text[0] == '|' ? "<th class=\"text\">" : "<th>", to);
    qr_html_text(text[0] == '|' ? text + 1 : text, to);
    fputs("</th>", to);
}

void qr_html_row_label(const char *text, FILE *to)
{
    fputs("<th scope=\"row\">", to);
    qr_html_text(text, to);
    fputs("</th>", to);
}

void qr_html_open_table(const char *const *heads, size_t count, FILE *to)
{
    fputs("<div class=\"scroll\"><table><thead><tr>", to);
    for (size_t i = 0; i < count; i++) head_cell(heads[i], to);
    fputs("</tr></thead><tbody>\n", to);
}

void qr_html_close_table(FILE *to) { fputs("</tbody></table></div>\n", to); }

static void scalar(const json_t *value, FILE *to)
{
    if (json_is_string(value))
        qr_html_text(json_string_value(value), to);
    else if (json_is_boolean(value))
        fputs(json_is_true(value) ? "yes" : "no", to);
    else if (json_is_number(value) && json_number_value(value) == floor(json_number_value(value)))
        fprintf(to, "%.0f", json_number_value(value));
    else if (json_is_number(value))
        fprintf(to, "%.6g", json_number_value(value));
    else if (value != NULL && !json_is_null(value)) { /* what is nested deeper */
        char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6));
        qr_html_text(text != NULL ? text : "", to);
        free(text);
    } else
        fputs("\xe2\x80\x93", to); /* en dash */
}

void qr_html_value(const json_t *value, FILE *to)
{
    const char *name, *before = "";
    json_t     *member;
    size_t      index;
    if (json_array_size(value) + json_object_size(value) == 0) {
        if (json_is_array(value) || json_is_object(value))
            fputs("none", to);
        else
            scalar(value, to);
        return;
    }
    json_array_foreach(value, index, member)
    {
        fputs(index > 0 ? ", " : "", to);
        scalar(member, to);
    }
    json_object_foreach((json_t *)value, name, member)
    {
        fputs(before, to);
        qr_html_text(name, to);
        fputc(' ', to);
        scalar(member, to);
        before = ", ";
    }
}

void qr_html_range(double low, double high, FILE *to)
{
    qr_html_figure(low, to);
    fputs(" to ", to);
    qr_html_figure(high, to);
}

bool qr_html_interval(const json_t *ci, FILE *to)
{
    const json_t *low = json_array_get(ci, 0), *high = json_array_get(ci, 1);
    if (!json_is_number(low) || !json_is_number(high)) return false;
    qr_html_range(json_number_value(low), json_number_value(high), to);
    return true;
}

/* ---- results and runs ---- */

const json_t *qr_report_first(const qr_report *report) { return json_array_get(report->results, 0); }

const json_t *qr_report_first_run(const qr_report *report)
{
    return json_array_get(json_object_get(qr_report_first(report), "runs"), 0);
}

size_t qr_report_count(const qr_report *report) { return json_array_size(report->results); }

size_t qr_report_simulated(const qr_report *report)
{
    size_t        index, count = 0;
    const json_t *result;
    json_array_foreach(report->results, index, result) count += qr_report_is_simulated(result);
    return count;
}

bool qr_report_next(qr_report_entry *e)
{
    if (e->result != NULL && ++e->run_index >= json_array_size(json_object_get(e->result, "runs"))) {
        e->run_index = 0;
        e->result_index++;
    }
    e->result = json_array_get(e->report->results, e->result_index);
    if (e->result == NULL) return false;
    const json_t *runs = json_object_get(e->result, "runs");
    const char   *name = qr_json_text_at(e->result, "shown_as");
    e->run             = json_array_get(runs, e->run_index);
    e->count++;
    if (json_array_size(runs) > 1)
        snprintf(e->label, sizeof e->label, "%s #%zu", name, e->run_index + 1);
    else
        snprintf(e->label, sizeof e->label, "%s", name);
    return true;
}
