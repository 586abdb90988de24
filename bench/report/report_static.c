/* The pictures of a reader without scripts: what they show comes from the result alone, not from its logs. */
#include <math.h>
#include <stdlib.h>

#include "bench/report/report_html.h"
#include "bench/report/report_svg.h"

/* Numbers of an array, scaled; NAN for what is none. */
static double *numbers_of(const json_t *array, double scale, size_t *count_out)
{
    const size_t count   = json_array_size(array);
    double      *numbers = calloc(count + 1, sizeof *numbers);
    for (size_t i = 0; i < count && numbers != NULL; i++) {
        const json_t *value = json_array_get(array, i);
        numbers[i]          = json_is_number(value) ? scale * json_number_value(value) : NAN;
    }
    *count_out = numbers != NULL ? count : 0;
    return numbers;
}

static void free_lines(qr_svg_line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(lines[i].xs);
        free(lines[i].ys);
    }
}

/* ---- latency by percentile ---- */

/* P0, P90, P99, ... at 0, 1, 2, ...; P100 has no place. */
static double place_of(double percentile) { return percentile < 100 ? -log10(1 - percentile / 100) : NAN; }

static bool latency_line(const json_t *run, const char *label, const char *path, qr_svg_line *line_out)
{
    const json_t *curve  = qr_json_at(run, path);
    size_t        values = 0;
    *line_out            = (qr_svg_line){.label = label};
    line_out->xs         = numbers_of(json_object_get(curve, "p"), 1, &line_out->count);
    line_out->ys         = numbers_of(json_object_get(curve, "value"), 1, &values);
    if (values < line_out->count) line_out->count = values;
    for (size_t i = 0; i < line_out->count; i++) line_out->xs[i] = place_of(line_out->xs[i]);
    return line_out->count > 0;
}

static void latency_chart(const qr_report *report, const char *title, const char *path, FILE *to)
{
    static const char *const names[]                  = {"P0", "P90", "P99", "P99.9", "P99.99", "P99.999"};
    qr_svg_line              lines[QR_SVG_MOST_LINES] = {{0}};
    char                     labels[QR_SVG_MOST_LINES][320];
    qr_report_entry          e     = {.report = report};
    size_t                   count = 0;
    double                   last  = 0;
    while (count < QR_SVG_MOST_LINES && qr_report_next(&e)) {
        snprintf(labels[count], sizeof labels[count], "%s", e.label);
        if (!latency_line(e.run, labels[count], path, &lines[count])) {
            free_lines(&lines[count], 1);
            continue;
        }
        for (size_t i = 0; i < lines[count].count; i++) last = fmax(last, lines[count].xs[i]);
        count++;
    }
    const qr_svg_chart chart = {title, "percentile", "ms", lines, count, names, (size_t)fmin(floor(last) + 1, 6)};
    qr_svg_chart_write(&chart, to);
    free_lines(lines, count);
}

void qr_report_static_latency(const qr_report *report, FILE *to)
{
    latency_chart(report, "Time to first token (TTFT) by percentile", "latency/ttft/curve", to);
    latency_chart(report, "Inter-token latency (ITL) by percentile", "latency/itl/curve", to);
}

/* ---- over time, of the first run ---- */

static void time_chart(const json_t *run, const char *title, const char *unit, const char *const names[2],
                       const char *const columns[2], double scale, FILE *to)
{
    const double dt_s = qr_json_number_at(run, "series/dt_s"), start_s = qr_json_number_at(run, "window/warmup_s");
    qr_svg_line  lines[2] = {{0}};
    size_t       count    = 0;
    for (; count < 2 && columns[count] != NULL; count++) {
        lines[count].label = names[count];
        lines[count].ys    = numbers_of(qr_json_at(run, columns[count]), scale, &lines[count].count);
        lines[count].xs    = calloc(lines[count].count + 1, sizeof(double));
        if (lines[count].xs == NULL) lines[count].count = 0;
        for (size_t i = 0; i < lines[count].count; i++)
            lines[count].xs[i] = ((double)i + 0.5) * dt_s - (isfinite(start_s) ? start_s : 0);
    }
    const qr_svg_chart chart = {title, "seconds from the start of the window", unit, lines, count, NULL, 0};
    qr_svg_chart_write(&chart, to);
    free_lines(lines, count);
}

void qr_report_static_time(const qr_report *report, FILE *to)
{
    const json_t *run = qr_report_first_run(report);
    time_chart(run, "Tokens per second", "tok/s", (const char *const[]){"output", "input, computed"},
               (const char *const[]){"series/output_tokens", "series/input_tokens"}, 1, to);
    time_chart(run, "Sequences running and waiting", "sequences", (const char *const[]){"running", "waiting"},
               (const char *const[]){"series/running", "series/waiting"}, 1, to);
    time_chart(run, "KV cache in use", "% of blocks", (const char *const[]){"KV use", NULL},
               (const char *const[]){"series/kv_usage", NULL}, 100, to);
}
