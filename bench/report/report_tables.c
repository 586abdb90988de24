/* The page's text and tables: what is read without scripts. See report_html.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_html.h"

/* ---- latency ---- */

static const struct metric {
    const char *name, *path;
} metrics[] = {{"TTFT", "latency/ttft"},   {"service TTFT", "latency/ttft_service"},
               {"queue", "latency/queue"}, {"ITL", "latency/itl"},
               {"TPOT", "latency/tpot"},   {"NTPOT", "latency/ntpot"},
               {"E2E", "latency/e2el"}};

static void latency_head(const json_t *percentiles, FILE *to)
{
    const char *p;
    json_t     *value;
    fputs("<div class=\"scroll\"><table><thead><tr><th>ms</th><th>mean</th>", to);
    json_object_foreach((json_t *)percentiles, p, value)
    {
        fputs("<th>P", to);
        qr_html_text(p, to);
        fputs("</th>", to);
    }
    fputs("<th>max</th><th>stdev</th><th>n</th></tr></thead><tbody>\n", to);
}

static void latency_row(const char *name, const json_t *metric, const json_t *percentiles, FILE *to)
{
    const char *p;
    json_t     *unused;
    if (metric == NULL) return;
    fputs("<tr>", to);
    qr_html_row_label(name, to);
    qr_html_figure_cell(qr_json_number_at(metric, "mean"), to);
    json_object_foreach((json_t *)percentiles, p, unused)
    {
        const json_t *ci    = json_object_get(json_object_get(metric, "ci95"), p);
        const json_t *value = json_object_get(json_object_get(metric, "p"), p);
        fputs("<td>", to);
        qr_html_figure(json_is_number(value) ? json_number_value(value) : NAN, to);
        fputs("<br><small>", to);
        qr_html_interval(ci, to);
        fputs("</small></td>", to);
    }
    qr_html_figure_cell(qr_json_number_at(metric, "max"), to);
    qr_html_figure_cell(qr_json_number_at(metric, "stdev"), to);
    qr_html_figure_cell(qr_json_number_at(metric, "n"), to);
    fputs("</tr>\n", to);
}

void qr_report_latency(const qr_report *report, FILE *to)
{
    qr_report_entry e           = {.report = report};
    const json_t   *percentiles = qr_json_at(qr_report_first_run(report), "latency/ttft/p");
    while (qr_report_next(&e)) {
        if (e.count == 2) fputs("<details><summary>Latency of the other runs</summary>\n", to);
        if (e.count > 1 || qr_report_count(report) > 1) {
            fputs("<h3>", to);
            qr_html_text(e.label, to);
            fputs("</h3>\n", to);
        }
        latency_head(percentiles, to);
        for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
            latency_row(metrics[i].name, qr_json_at(e.run, metrics[i].path), percentiles, to);
        qr_html_close_table(to);
    }
    if (e.count > 1) fputs("</details>\n", to);
    fputs("<p class=\"note\">Below a percentile: its 95 % interval. \xe2\x80\x93: too few samples.</p>\n", to);
}

/* ---- steps ---- */

static double moved_gbs(const json_t *run)
{
    const double busy = qr_json_number_at(run, "window/length_s") - qr_json_number_at(run, "steps/time_s/idle");
    return (qr_json_number_at(run, "steps/moved/weight_bytes") + qr_json_number_at(run, "steps/moved/kv_bytes")) /
           busy * 1e-9;
}

void qr_report_steps(const qr_report *report, FILE *to)
{
    static const qr_report_column shown[] = {
        {"Steps", "steps/count", 1, NULL},
        {"Step mean ms", "steps/time/mean", 1, NULL},
        {"Rows mean", "steps/rows/mean", 1, NULL},
        {"Sequences mean", "steps/sequences/mean", 1, NULL},
        {"Batch fill %", "steps/batch_fill", 100, NULL},
        {"Busy %", "steps/busy_share", 100, NULL},
        {"KV mean %", "steps/kv_usage_mean", 100, NULL},
        {"KV max %", "steps/kv_usage_max", 100, NULL},
        {"Preemptions", "steps/preemptions", 1, NULL},
        {"Recomputed tok", "steps/recomputed_tokens", 1, NULL},
        {"Prefix hits %", "steps/prefix_hit_share", 100, NULL},
        {"Encoder runs", "steps/encoder_runs", 1, NULL},
    };
    enum { COUNT = sizeof shown / sizeof *shown };
    const char     *heads[COUNT + 2] = {"Run"};
    bool            wanted[COUNT];
    size_t          count = 1;
    qr_report_entry e     = {.report = report};
    for (size_t i = 0; i < COUNT; i++)
        if ((wanted[i] = qr_report_any_run_has(report, shown[i].path, true))) heads[count++] = shown[i].head;
    heads[count++] = "Moved GB/s";
    qr_html_open_table(heads, count, to);
    while (qr_report_next(&e)) {
        fputs("<tr>", to);
        qr_html_row_label(e.label, to);
        for (size_t i = 0; i < COUNT; i++)
            if (wanted[i]) qr_html_figure_cell(shown[i].scale * qr_json_number_at(e.run, shown[i].path), to);
        qr_html_figure_cell(moved_gbs(e.run), to);
        fputs("</tr>\n", to);
    }
    qr_html_close_table(to);
}

/* "36.1" and below it "28.2 to 52.0" of a measured limit. */
static void limit_row(const char *name, const json_t *limit, const char *unit, FILE *to)
{
    const double median = qr_json_number_at(limit, "median");
    const double low = qr_json_number_at(limit, "min"), high = qr_json_number_at(limit, "max");
    if (!isfinite(median)) return;
    fputs("<tr>", to);
    qr_html_row_label(name, to);
    qr_html_figure_cell(median, to);
    fputs("<td>", to);
    if (isfinite(low) && isfinite(high)) qr_html_range(low, high, to);
    fputs("</td>", to);
    qr_html_text_cell(unit, to);
    fputs("</tr>\n", to);
}

static void limit_table(const json_t *limits, FILE *to)
{
    static const char *const heads[]    = {"Measured limit of the machine", "Median", "Least to most", "|Unit"};
    static const char *const known[][3] = {{"Reading memory (R)", "read_gbs", "GB/s"},
                                           {"Reading memory, one KV block at a time", "read_block_gbs", "GB/s"},
                                           {"Products of f32 (P)", "f32_gflops", "GFLOP/s"},
                                           {"Products of bf16 (P)", "bf16_gflops", "GFLOP/s"},
                                           {"Products of int8 (P)", "int8_gops", "GOP/s"},
                                           {"A barrier of all threads", "barrier_ns", "ns"}};
    qr_html_open_table(heads, sizeof heads / sizeof *heads, to);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        limit_row(known[i][0], json_object_get(limits, known[i][1]), known[i][2], to);
    qr_html_close_table(to);
    if (!isfinite(qr_json_number_at(limits, "read_bytes"))) return;
    fputs("<p class=\"note\">Reading goes over ", to);
    qr_html_bytes(qr_json_number_at(limits, "read_bytes"), to);
    fputs("; the last-level caches hold ", to);
    qr_html_bytes(qr_json_number_at(limits, "cache_bytes"), to);
    fputs(".</p>\n", to);
}

static void phase_table(const qr_report *report, FILE *to)
{
    static const char *const heads[] = {"Phase",      "Moved GB",       "GFLOP", "Floor s",
                                        "Measured s", "Of the limit %", "GB/s",  "GFLOP/s"};
    const json_t            *phases  = qr_json_at(qr_report_first_run(report), "speed_of_light/phases");
    const char              *name;
    json_t                  *phase;
    if (json_object_size(phases) == 0) return;
    if (!isfinite(qr_json_number_at(qr_report_first_run(report), "speed_of_light/fraction"))) {
        fputs("<p class=\"note\">Every step may have found its data in the caches: none is compared with the "
              "limit.</p>\n",
              to);
        return;
    }
    qr_html_open_table(heads, sizeof heads / sizeof *heads, to);
    json_object_foreach((json_t *)phases, name, phase)
    {
        fputs("<tr>", to);
        qr_html_row_label(name, to);
        qr_html_figure_cell(qr_json_number_at(phase, "bytes") * 1e-9, to);
        qr_html_figure_cell(qr_json_number_at(phase, "flops") * 1e-9, to);
        qr_html_figure_cell(qr_json_number_at(phase, "floor_s"), to);
        qr_html_figure_cell(qr_json_number_at(phase, "measured_s"), to);
        qr_html_figure_cell(qr_json_number_at(phase, "fraction") * 100, to);
        qr_html_figure_cell(qr_json_number_at(phase, "gbs"), to);
        qr_html_figure_cell(qr_json_number_at(phase, "gflops"), to);
        fputs("</tr>\n", to);
    }
    qr_html_close_table(to);
}

void qr_report_limits(const qr_report *report, FILE *to)
{
    const json_t *limits = json_object_get(qr_report_first(report), "limits");
    if (json_object_size(limits) == 0) {
        fputs("<p class=\"note\">The machine\xe2\x80\x99s limits were not measured in this run.</p>\n", to);
        return;
    }
    limit_table(limits, to);
    phase_table(report, to);
}

/* ---- workload, checks, machine, configuration ---- */

void qr_report_workload(const qr_report *report, FILE *to)
{
    static const char *const heads[]  = {"Run",   "|Load",  "Seed",    "Window s",          "Warm-up s",     "Due",
                                         "Ended", "Failed", "Refused", "Cut by the window", "Verified alone"};
    static const char *const counts[] = {"window/length_s", "window/warmup_s",  "requests/due", "requests/completed",
                                         "requests/failed", "requests/refused", "requests/cut", "requests/verified"};
    qr_report_entry          e        = {.report = report};
    qr_html_open_table(heads, sizeof heads / sizeof *heads, to);
    while (qr_report_next(&e)) {
        fputs("<tr>", to);
        qr_html_row_label(e.label, to);
        qr_html_text_cell(qr_json_text_at(e.result, "disclosure/profile"), to);
        fputs("<td>", to);
        qr_html_value(json_object_get(e.run, "seed"), to);
        fputs("</td>", to);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            qr_html_figure_cell(qr_json_number_at(e.run, counts[i]), to);
        fputs("</tr>\n", to);
    }
    qr_html_close_table(to);
}

void qr_report_checks(const qr_report *report, FILE *to)
{
    static const char *const heads[] = {"Check", "|", "Value", "|Needs", "|If not", "|To change"};
    for (size_t i = 0; i < qr_report_count(report); i++) {
        const json_t *result = json_array_get(report->results, i), *check;
        size_t        index;
        if (i == 1) fputs("<details><summary>Checks of the other results</summary>\n", to);
        if (qr_report_count(report) > 1) {
            fputs("<h3>", to);
            qr_html_text(qr_json_text_at(result, "shown_as"), to);
            fputs("</h3>\n", to);
        }
        qr_html_open_table(heads, sizeof heads / sizeof *heads, to);
        json_array_foreach(qr_json_at(result, "validity/checks"), index, check)
        {
            const bool ok   = json_is_true(json_object_get(check, "ok"));
            const bool warn = strcmp(qr_json_text_at(check, "severity"), "warn") == 0;
            fputs("<tr>", to);
            qr_html_row_label(qr_json_text_at(check, "id"), to);
            fprintf(to, "<td class=\"text %s\">%s</td>", ok ? "pass" : "fail", ok ? "passes" : "fails");
            fputs("<td>", to);
            qr_html_check_value(check, to);
            fputs("</td>", to);
            qr_html_text_cell(qr_json_text_at(check, "need"), to);
            fprintf(to, "<td class=\"text whole\">%s</td>", warn ? "a warning" : "INVALID");
            qr_html_text_cell(ok ? "" : qr_json_text_at(check, "hint"), to);
            fputs("</tr>\n", to);
        }
        qr_html_close_table(to);
    }
    if (qr_report_count(report) > 1) fputs("</details>\n", to);
}
