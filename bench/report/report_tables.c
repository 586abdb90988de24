/* The page's text and tables: what is read without scripts. See report_html.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_html.h"

static const json_t *first_result(const qr_report *report) { return json_array_get(report->results, 0); }
static const json_t *first_run(const qr_report *r)
{
    return json_array_get(json_object_get(first_result(r), "runs"), 0);
}
static size_t result_count(const qr_report *report) { return json_array_size(report->results); }

/* ---- cells ---- */

static void text_cell(const char *text, FILE *to)
{
    fputs("<td class=\"text\">", to);
    qr_html_text(text, to);
    fputs("</td>", to);
}

static void figure_cell(double value, FILE *to)
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

static void row_label(const char *text, FILE *to)
{
    fputs("<th scope=\"row\">", to);
    qr_html_text(text, to);
    fputs("</th>", to);
}

static void open_table(const char *const *heads, size_t count, FILE *to)
{
    fputs("<div class=\"scroll\"><table><thead><tr>", to);
    for (size_t i = 0; i < count; i++) head_cell(heads[i], to);
    fputs("</tr></thead><tbody>\n", to);
}

static void close_table(FILE *to) { fputs("</tbody></table></div>\n", to); }

static void virtual_clock(const json_t *r, FILE *to)
{
    fputs(". <strong>Virtual clock: times are those of a cost model, not of this machine</strong>", to);
    if (!json_is_object(qr_json_at(r, "cost_model"))) return;
    fprintf(
        to,
        ", fitted to %.0f steps of a real run; its error is %.1f %% per step (median), %.1f %% at the 90th percentile, "
        "%+.1f %% in total, on steps held out %.1f %%, %.1f %% and %+.1f %%",
        qr_json_number_at(r, "cost_model/fitted_steps"), 100 * qr_json_number_at(r, "cost_model/error/median"),
        100 * qr_json_number_at(r, "cost_model/error/p90"), 100 * qr_json_number_at(r, "cost_model/error/total"),
        100 * qr_json_number_at(r, "cost_model/held_out_error/median"),
        100 * qr_json_number_at(r, "cost_model/held_out_error/p90"),
        100 * qr_json_number_at(r, "cost_model/held_out_error/total"));
}

/* A scalar as people write it; objects and arrays as JSON. */
static void value_text(const json_t *value, FILE *to)
{
    if (value == NULL || json_is_null(value))
        fputs("\xe2\x80\x93", to);
    else if (json_is_string(value))
        qr_html_text(json_string_value(value), to);
    else if (json_is_boolean(value))
        fputs(json_is_true(value) ? "yes" : "no", to);
    else if (json_is_number(value) && json_number_value(value) == floor(json_number_value(value)))
        fprintf(to, "%.0f", json_number_value(value));
    else {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        if (text != NULL) qr_html_text(text, to);
        free(text);
    }
}

/* ---- head ---- */

void qr_report_title(const qr_report *report, FILE *to)
{
    const char *model = qr_json_text_at(first_result(report), "model/name");
    qr_html_text(model[0] ? model : "benchmark", to);
    fputs(", ", to);
    if (qr_report_is_sweep(report))
        fprintf(to, "sweep of %zu results", result_count(report));
    else if (result_count(report) > 1)
        fprintf(to, "%zu results", result_count(report));
    else
        qr_html_text(qr_json_text_at(first_result(report), "disclosure/profile"), to);
}

void qr_report_subtitle(const qr_report *report, FILE *to)
{
    const json_t *r       = first_result(report);
    const double  threads = qr_json_number_at(r, "engine/threads");
    qr_html_text(qr_json_text_at(r, "model/architecture"), to);
    fputs(", weights ", to);
    qr_html_text(qr_json_text_at(r, "model/weight_dtype"), to);
    fputs(", keys and values ", to);
    qr_html_text(qr_json_text_at(r, "model/kv_dtype"), to);
    fprintf(to, ". %.0f thread%s, ", isfinite(threads) ? threads : 0, threads == 1 ? "" : "s");
    qr_html_text(qr_json_text_at(r, "context/cpu/isa"), to);
    fputs(", ", to);
    qr_html_text(qr_json_text_at(r, "context/started"), to);
    if (strcmp(qr_json_text_at(r, "disclosure/clock"), "virtual") == 0) virtual_clock(r, to);
}

static void failed_checks(const json_t *result, FILE *to)
{
    size_t        index;
    const json_t *check;
    bool          any = false;
    json_array_foreach(qr_json_at(result, "validity/checks"), index, check)
    {
        if (json_is_true(json_object_get(check, "ok"))) continue;
        if (!any) fputs("<ul>", to);
        any = true;
        fputs("<li>", to);
        qr_html_text(qr_json_text_at(check, "id"), to);
        fputs(": ", to);
        qr_html_figure(qr_json_number_at(check, "value"), to);
        fputs(", needs ", to);
        qr_html_text(qr_json_text_at(check, "need"), to);
        fputs(". To change: ", to);
        qr_html_text(qr_json_text_at(check, "hint"), to);
        fputs("</li>", to);
    }
    if (any) fputs("</ul>", to);
}

static bool is_valid(const json_t *result) { return strcmp(qr_json_text_at(result, "validity/result"), "VALID") == 0; }

static void verdict_of(const json_t *result, bool named, FILE *to)
{
    const char *text = is_valid(result) ? "VALID" : "INVALID";
    fprintf(to, "<div class=\"verdict %s\"><strong>%s</strong> ", is_valid(result) ? "valid" : "", text);
    if (named) qr_html_text(qr_json_text_at(result, "shown_as"), to);
    if (json_is_true(json_object_get(result, "partial"))) fputs(" Interrupted: a partial result.", to);
    failed_checks(result, to);
    fputs("</div>\n", to);
}

/* Of many results one line; the reasons stand with the checks. */
static void verdict_of_all(const qr_report *report, FILE *to)
{
    size_t        index, valid = 0;
    const json_t *result;
    json_array_foreach(report->results, index, result) valid += is_valid(result);
    const bool all = valid == result_count(report);
    fprintf(to, "<div class=\"verdict %s\"><strong>%s</strong> %zu of %zu results are valid.</div>\n",
            all ? "valid" : "", all ? "VALID" : "INVALID", valid, result_count(report));
}

void qr_report_verdict(const qr_report *report, FILE *to)
{
    size_t        index;
    const json_t *result;
    if (result_count(report) > 3)
        verdict_of_all(report, to);
    else
        json_array_foreach(report->results, index, result) verdict_of(result, result_count(report) > 1, to);
}

/* "12.3 to 14.5" of [low, high]; false: there is no interval. */
static bool interval(const json_t *ci, FILE *to)
{
    const json_t *low = json_array_get(ci, 0), *high = json_array_get(ci, 1);
    if (!json_is_number(low) || !json_is_number(high)) return false;
    qr_html_figure(json_number_value(low), to);
    fputs(" to ", to);
    qr_html_figure(json_number_value(high), to);
    return true;
}

static void tile(const char *name, double value, const char *unit, const json_t *ci, const char *more, FILE *to)
{
    if (!isfinite(value)) return;
    fputs("<li><span class=\"name\">", to);
    qr_html_text(name, to);
    fputs("</span><span class=\"value\">", to);
    qr_html_figure(value, to);
    fprintf(to, " <small>%s</small></span><span class=\"more\">", unit);
    if (!interval(ci, to)) qr_html_text(more, to);
    fputs("</span></li>\n", to);
}

static void tile_with_interval(const char *name, const json_t *rate, const char *unit, FILE *to)
{
    tile(name, qr_json_number_at(rate, "value"), unit, qr_json_at(rate, "ci95"), "", to);
}

static void latency_tile(const char *name, const json_t *metric, FILE *to)
{
    tile(name, qr_json_number_at(metric, "p/50"), "ms", qr_json_at(metric, "ci95/50"), "", to);
}

void qr_report_tiles(const qr_report *report, FILE *to)
{
    const json_t *run = first_run(report);
    if (result_count(report) > 1) return; /* the table of results compares them */
    fputs("<ul class=\"tiles\">\n", to);
    tile_with_interval("Output", qr_json_at(run, "throughput/output_tokens"), "tok/s", to);
    tile_with_interval("Requests", qr_json_at(run, "throughput/requests"), "req/s", to);
    latency_tile("TTFT, median", qr_json_at(run, "latency/ttft"), to);
    latency_tile("ITL, median", qr_json_at(run, "latency/itl"), to);
    latency_tile("E2E, median", qr_json_at(run, "latency/e2el"), to);
    tile("SLO attainment", 100 * qr_json_number_at(run, "slo/attainment"), "%", NULL, "of requests due", to);
    tile("Of the limit", 100 * qr_json_number_at(run, "speed_of_light/fraction"), "%", NULL, "floor / step time", to);
    tile("KV cache, most", 100 * qr_json_number_at(run, "steps/kv_usage_max"), "%", NULL, "of its blocks", to);
    fputs("</ul>\n<p class=\"note\">Below a rate or a median: its 95 % interval.</p>\n", to);
}

/* ---- results ---- */

static const struct column {
    const char *head, *path;
    double      scale;
} columns[] = {
    {"Output tok/s", "throughput/output_tokens/value", 1},
    {"Input tok/s", "throughput/input_tokens/value", 1},
    {"Requests/s", "throughput/requests/value", 1},
    {"TTFT P50 ms", "latency/ttft/p/50", 1},
    {"TTFT P99 ms", "latency/ttft/p/99", 1},
    {"ITL P50 ms", "latency/itl/p/50", 1},
    {"ITL P99 ms", "latency/itl/p/99", 1},
    {"TPOT P50 ms", "latency/tpot/p/50", 1},
    {"E2E P50 ms", "latency/e2el/p/50", 1},
    {"Goodput req/s", "throughput/goodput/value", 1},
    {"SLO met %", "slo/attainment", 100},
    {"Limit %", "speed_of_light/fraction", 100},
};
enum { COLUMN_COUNT = sizeof columns / sizeof *columns };

static bool any_run_has(const qr_report *report, const char *path, bool other_than_zero)
{
    qr_report_entry e = {.report = report};
    while (qr_report_next(&e)) {
        const double value = qr_json_number_at(e.run, path);
        if (isfinite(value) && !(other_than_zero && value == 0)) return true;
    }
    return false;
}

void qr_report_results(const qr_report *report, FILE *to)
{
    const char     *heads[COLUMN_COUNT + 2] = {"Run", "|Verdict"};
    bool            shown[COLUMN_COUNT];
    size_t          count = 2;
    qr_report_entry e     = {.report = report};
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        if ((shown[i] = any_run_has(report, columns[i].path, false))) heads[count++] = columns[i].head;
    open_table(heads, count, to);
    while (qr_report_next(&e)) {
        fputs("<tr>", to);
        row_label(e.label, to);
        text_cell(qr_json_text_at(e.result, "validity/result"), to);
        for (size_t i = 0; i < COLUMN_COUNT; i++)
            if (shown[i]) figure_cell(columns[i].scale * qr_json_number_at(e.run, columns[i].path), to);
        fputs("</tr>\n", to);
    }
    close_table(to);
}

static void shell_word(const char *word, FILE *to)
{
    const bool plain = word[0] != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                       "0123456789-_./:=,+@%") == strlen(word);
    if (plain) {
        qr_html_text(word, to);
        return;
    }
    fputc('\'', to);
    for (; *word != '\0'; word++) {
        const char c[2] = {*word, '\0'};
        if (*word == '\'')
            fputs("'\\''", to);
        else
            qr_html_text(c, to);
    }
    fputc('\'', to);
}

static void command_of(const json_t *result, FILE *to)
{
    size_t        index;
    const json_t *word;
    json_array_foreach(qr_json_at(result, "context/command"), index, word)
    {
        const char *text = json_string_value(word);
        if (index > 0) fputc(' ', to);
        if (index == 0)
            qr_html_text(text ? text : "", to); /* "quire bench" */
        else
            shell_word(text ? text : "", to);
    }
}

/* The points of a sweep come from one command. */
void qr_report_command(const qr_report *report, FILE *to)
{
    char      *last = NULL;
    const bool many = result_count(report) > 3;
    if (many) fputs("<details><summary>The commands</summary>\n", to);
    for (size_t i = 0; i < result_count(report); i++) {
        char  *text = NULL;
        size_t size = 0;
        FILE  *into = open_memstream(&text, &size);
        if (into == NULL) break;
        command_of(json_array_get(report->results, i), into);
        fclose(into);
        if (last == NULL || strcmp(last, text) != 0) fprintf(to, "<pre><code>%s</code></pre>\n", text);
        free(last);
        last = text;
    }
    free(last);
    if (many) fputs("</details>\n", to);
}

/* ---- comparison ---- */

void qr_report_comparison(const qr_report *report, FILE *to)
{
    const char     *heads[2 * 8 + 1] = {"Metric"};
    char            labels[8][344];
    size_t          count = 1;
    qr_report_entry e     = {.report = report};
    while (count <= 8 && qr_report_next(&e)) {
        memcpy(labels[count - 1], e.label, sizeof e.label);
        heads[count] = labels[count - 1];
        count++;
    }
    open_table(heads, count, to);
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        const double base = qr_json_number_at(first_run(report), columns[i].path);
        if (!isfinite(base) || base == 0) continue;
        fputs("<tr>", to);
        row_label(columns[i].head, to);
        for (e = (qr_report_entry){.report = report}; qr_report_next(&e) && e.count <= 8;) {
            const double value = qr_json_number_at(e.run, columns[i].path);
            fputs("<td>", to);
            qr_html_figure(columns[i].scale * value, to);
            if (e.count > 1 && isfinite(value)) fprintf(to, " <small>\xc3\x97 %.3f</small>", value / base);
            fputs("</td>", to);
        }
        fputs("</tr>\n", to);
    }
    close_table(to);
}

static bool differs(const qr_report *report, const char *key, const json_t *value)
{
    size_t        index;
    const json_t *result;
    json_array_foreach(report->results, index, result)
    {
        const json_t *other = json_object_get(json_object_get(result, "config"), key);
        if (other == NULL || !json_equal(other, value)) return true;
    }
    return false;
}

void qr_report_differences(const qr_report *report, FILE *to)
{
    const char *key;
    json_t     *value, *config = json_object_get(first_result(report), "config");
    bool        any = false;
    json_object_foreach(config, key, value)
    {
        if (!differs(report, key, value)) continue;
        if (!any) fputs("<h3>Configuration that differs</h3><div class=\"scroll\"><table><tbody>\n", to);
        any = true;
        fputs("<tr>", to);
        row_label(key, to);
        for (size_t i = 0; i < result_count(report); i++) {
            const json_t *other = json_object_get(json_array_get(report->results, i), "config");
            fputs("<td>", to);
            value_text(json_object_get(other, key), to);
            fputs("</td>", to);
        }
        fputs("</tr>\n", to);
    }
    if (any)
        close_table(to);
    else if (result_count(report) > 1)
        fputs("<p class=\"note\">The configurations are equal.</p>\n", to);
}

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
    row_label(name, to);
    figure_cell(qr_json_number_at(metric, "mean"), to);
    json_object_foreach((json_t *)percentiles, p, unused)
    {
        const json_t *ci    = json_object_get(json_object_get(metric, "ci95"), p);
        const json_t *value = json_object_get(json_object_get(metric, "p"), p);
        fputs("<td>", to);
        qr_html_figure(json_is_number(value) ? json_number_value(value) : NAN, to);
        fputs("<br><small>", to);
        interval(ci, to);
        fputs("</small></td>", to);
    }
    figure_cell(qr_json_number_at(metric, "max"), to);
    figure_cell(qr_json_number_at(metric, "stdev"), to);
    figure_cell(qr_json_number_at(metric, "n"), to);
    fputs("</tr>\n", to);
}

void qr_report_latency(const qr_report *report, FILE *to)
{
    qr_report_entry e           = {.report = report};
    const json_t   *percentiles = qr_json_at(first_run(report), "latency/ttft/p");
    while (qr_report_next(&e)) {
        if (e.count == 2) fputs("<details><summary>Latency of the other runs</summary>\n", to);
        if (e.count > 1 || result_count(report) > 1) {
            fputs("<h3>", to);
            qr_html_text(e.label, to);
            fputs("</h3>\n", to);
        }
        latency_head(percentiles, to);
        for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
            latency_row(metrics[i].name, qr_json_at(e.run, metrics[i].path), percentiles, to);
        close_table(to);
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
    static const struct column shown[] = {
        {"Steps", "steps/count", 1},
        {"Step mean ms", "steps/time/mean", 1},
        {"Rows mean", "steps/rows/mean", 1},
        {"Sequences mean", "steps/sequences/mean", 1},
        {"Batch fill %", "steps/batch_fill", 100},
        {"Busy %", "steps/busy_share", 100},
        {"KV mean %", "steps/kv_usage_mean", 100},
        {"KV max %", "steps/kv_usage_max", 100},
        {"Preemptions", "steps/preemptions", 1},
        {"Recomputed tok", "steps/recomputed_tokens", 1},
        {"Prefix hits %", "steps/prefix_hit_share", 100},
        {"Encoder runs", "steps/encoder_runs", 1},
    };
    enum { COUNT = sizeof shown / sizeof *shown };
    const char     *heads[COUNT + 2] = {"Run"};
    bool            wanted[COUNT];
    size_t          count = 1;
    qr_report_entry e     = {.report = report};
    for (size_t i = 0; i < COUNT; i++)
        if ((wanted[i] = any_run_has(report, shown[i].path, true))) heads[count++] = shown[i].head;
    heads[count++] = "Moved GB/s";
    open_table(heads, count, to);
    while (qr_report_next(&e)) {
        fputs("<tr>", to);
        row_label(e.label, to);
        for (size_t i = 0; i < COUNT; i++)
            if (wanted[i]) figure_cell(shown[i].scale * qr_json_number_at(e.run, shown[i].path), to);
        figure_cell(moved_gbs(e.run), to);
        fputs("</tr>\n", to);
    }
    close_table(to);
}

static void limit_cell(const json_t *limit, FILE *to)
{
    fputs("<td>", to);
    qr_html_figure(json_is_number(limit) ? json_number_value(limit) : qr_json_number_at(limit, "median"), to);
    const double low = qr_json_number_at(limit, "min"), high = qr_json_number_at(limit, "max");
    if (isfinite(low) && isfinite(high)) {
        fputs(" <small>", to);
        qr_html_figure(low, to);
        fputs(" to ", to);
        qr_html_figure(high, to);
        fputs("</small>", to);
    }
    fputs("</td>", to);
    text_cell(qr_json_text_at(limit, "unit"), to);
}

static void phase_table(const qr_report *report, FILE *to)
{
    static const char *const heads[] = {"Phase",      "Bytes GB",       "GFLOP", "Floor s",
                                        "Measured s", "Of the limit %", "GB/s",  "GFLOP/s"};
    const json_t            *phases  = qr_json_at(first_run(report), "speed_of_light/phases");
    const char              *name;
    json_t                  *phase;
    if (json_object_size(phases) == 0) return;
    open_table(heads, sizeof heads / sizeof *heads, to);
    json_object_foreach((json_t *)phases, name, phase)
    {
        fputs("<tr>", to);
        row_label(name, to);
        figure_cell(qr_json_number_at(phase, "bytes") * 1e-9, to);
        figure_cell(qr_json_number_at(phase, "flops") * 1e-9, to);
        figure_cell(qr_json_number_at(phase, "floor_s"), to);
        figure_cell(qr_json_number_at(phase, "measured_s"), to);
        figure_cell(qr_json_number_at(phase, "fraction") * 100, to);
        figure_cell(qr_json_number_at(phase, "gbs"), to);
        figure_cell(qr_json_number_at(phase, "gflops"), to);
        fputs("</tr>\n", to);
    }
    close_table(to);
}

void qr_report_limits(const qr_report *report, FILE *to)
{
    static const char *const heads[] = {"Measured limit", "Median", "|"};
    const json_t            *limits  = json_object_get(first_result(report), "limits");
    const char              *name;
    json_t                  *limit;
    if (json_object_size(limits) == 0) {
        fputs("<p class=\"note\">The machine\xe2\x80\x99s limits were not measured in this run.</p>\n", to);
        return;
    }
    open_table(heads, sizeof heads / sizeof *heads, to);
    json_object_foreach((json_t *)limits, name, limit)
    {
        if (!json_is_number(limit) && !isfinite(qr_json_number_at(limit, "median"))) continue;
        fputs("<tr>", to);
        row_label(name, to);
        limit_cell(limit, to);
        fputs("</tr>\n", to);
    }
    close_table(to);
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
    open_table(heads, sizeof heads / sizeof *heads, to);
    while (qr_report_next(&e)) {
        fputs("<tr>", to);
        row_label(e.label, to);
        text_cell(qr_json_text_at(e.result, "disclosure/profile"), to);
        fputs("<td>", to);
        value_text(json_object_get(e.run, "seed"), to);
        fputs("</td>", to);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            figure_cell(qr_json_number_at(e.run, counts[i]), to);
        fputs("</tr>\n", to);
    }
    close_table(to);
}

void qr_report_checks(const qr_report *report, FILE *to)
{
    static const char *const heads[] = {"Check", "|", "Value", "|Needs", "|If not", "|To change"};
    for (size_t i = 0; i < result_count(report); i++) {
        const json_t *result = json_array_get(report->results, i), *check;
        size_t        index;
        if (i == 1) fputs("<details><summary>Checks of the other results</summary>\n", to);
        if (result_count(report) > 1) {
            fputs("<h3>", to);
            qr_html_text(qr_json_text_at(result, "shown_as"), to);
            fputs("</h3>\n", to);
        }
        open_table(heads, sizeof heads / sizeof *heads, to);
        json_array_foreach(qr_json_at(result, "validity/checks"), index, check)
        {
            const bool ok   = json_is_true(json_object_get(check, "ok"));
            const bool warn = strcmp(qr_json_text_at(check, "severity"), "warn") == 0;
            fputs("<tr>", to);
            row_label(qr_json_text_at(check, "id"), to);
            fprintf(to, "<td class=\"%s\">%s</td>", ok ? "pass" : "fail", ok ? "passes" : "fails");
            figure_cell(qr_json_number_at(check, "value"), to);
            text_cell(qr_json_text_at(check, "need"), to);
            fprintf(to, "<td class=\"text\">%s</td>", warn ? "a warning" : "INVALID");
            text_cell(ok ? "" : qr_json_text_at(check, "hint"), to);
            fputs("</tr>\n", to);
        }
        close_table(to);
    }
    if (result_count(report) > 1) fputs("</details>\n", to);
}

static void fact(const char *group, const char *name, const json_t *value, FILE *to)
{
    char label[160];
    snprintf(label, sizeof label, "%s%s%s", group, group[0] ? "." : "", name);
    fputs("<tr>", to);
    row_label(label, to);
    fputs("<td class=\"text\">", to);
    value_text(value, to);
    fputs("</td></tr>\n", to);
}

/* Two levels as rows; what is deeper as JSON. */
static void facts(const json_t *object, FILE *to)
{
    const char *name, *inner_name;
    json_t     *value, *inner;
    json_object_foreach((json_t *)object, name, value)
    {
        if (strcmp(name, "command") == 0) continue; /* stands at the top */
        if (!json_is_object(value)) fact("", name, value, to);
        if (json_is_object(value)) json_object_foreach(value, inner_name, inner) fact(name, inner_name, inner, to);
    }
}

void qr_report_machine(const qr_report *report, FILE *to)
{
    static const char *const members[][2] = {
        {"context", "Machine and build"}, {"model", "Model"}, {"engine", "Engine"}, {"disclosure", "Disclosure"}};
    fputs("<div class=\"facts\">\n", to);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const json_t *object = json_object_get(first_result(report), members[i][0]);
        if (json_object_size(object) == 0) continue;
        fprintf(to, "<div><h3>%s</h3><div class=\"scroll\"><table><tbody>\n", members[i][1]);
        facts(object, to);
        close_table(to);
        fputs("</div>\n", to);
    }
    fputs("</div>\n", to);
}

static void configuration_rows(const json_t *result, bool all, FILE *to)
{
    static const char *const heads[] = {"Key", "|Value", "|From"};
    const json_t            *origins = json_object_get(result, "config_origin");
    const char              *key;
    json_t                  *value;
    open_table(heads, sizeof heads / sizeof *heads, to);
    json_object_foreach(json_object_get(result, "config"), key, value)
    {
        const char *origin = json_string_value(json_object_get(origins, key));
        if ((origin == NULL) != all) continue;
        fputs("<tr>", to);
        row_label(key, to);
        fputs("<td class=\"text\">", to);
        value_text(value, to);
        fputs("</td>", to);
        text_cell(origin ? origin : "built-in", to);
        fputs("</tr>\n", to);
    }
    close_table(to);
}

void qr_report_configuration(const qr_report *report, FILE *to)
{
    const json_t *result = first_result(report);
    if (result_count(report) > 1) {
        fputs("<p>Of ", to);
        qr_html_text(qr_json_text_at(result, "shown_as"), to);
        fputs(".</p>\n", to);
    }
    configuration_rows(result, false, to);
    fputs("<details><summary>Keys at their defaults</summary>\n", to);
    configuration_rows(result, true, to);
    fputs("</details>\n", to);
}

void qr_report_maker(const qr_report *report, FILE *to)
{
    qr_html_text(qr_json_text_at(first_result(report), "context/quire/build"), to);
    fputs(". Pictures: Chart.js, MIT licence.", to);
}
