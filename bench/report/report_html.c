/* See report_html.h. */
#include "bench/report/report_html.h"

#include <math.h>
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

/* What the load of a result is: its request rate, or its streams. */
static double load_of(const json_t *result)
{
    const char *profile = qr_json_text_at(result, "disclosure/profile");
    if (strcmp(profile, "concurrent") == 0) return qr_json_number_at(result, "config/load.streams");
    if (strcmp(profile, "throughput") == 0 || strcmp(profile, "replay") == 0) return NAN;
    return qr_json_number_at(result, "config/load.request_rate");
}

bool qr_report_is_sweep(const qr_report *report)
{
    double        seen[3];
    size_t        count = 0, index;
    const json_t *result;
    json_array_foreach(report->results, index, result)
    {
        const double load = load_of(result);
        bool         old  = !isfinite(load);
        for (size_t i = 0; i < count; i++) old |= seen[i] == load;
        if (!old && count < 3) seen[count++] = load;
    }
    return count == 3;
}

bool qr_report_is_comparison(const qr_report *report)
{
    qr_report_entry e = {.report = report};
    while (qr_report_next(&e)) continue;
    return e.count >= 2 && e.count <= 8 && !qr_report_is_sweep(report);
}
