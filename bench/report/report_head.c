/* The head of the page: verdict, key numbers, one line per run, how to repeat. See report_html.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report_html.h"

static void cost_model(const json_t *r, FILE *to)
{
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

static void clock_of_all(const qr_report *report, FILE *to)
{
    const size_t simulated = qr_report_simulated(report), count = qr_report_count(report);
    if (simulated == 0) return;
    if (simulated < count) {
        fprintf(to,
                ". <strong>%zu of %zu results are simulated</strong>: on a virtual clock, with the times of a cost "
                "model, whose error is in every ratio to a measured one",
                simulated, count);
        return;
    }
    fputs(". <strong>Virtual clock: times are those of a cost model, not of this machine</strong>", to);
    cost_model(qr_report_first(report), to);
}

/* ---- head ---- */

void qr_report_title(const qr_report *report, FILE *to)
{
    const char *model = qr_json_text_at(qr_report_first(report), "model/name");
    qr_html_text(model[0] ? model : "benchmark", to);
    fputs(", ", to);
    if (qr_report_is_sweep(report))
        fprintf(to, "sweep of %zu results", qr_report_count(report));
    else if (qr_report_count(report) > 1)
        fprintf(to, "%zu results", qr_report_count(report));
    else
        qr_html_text(qr_json_text_at(qr_report_first(report), "disclosure/profile"), to);
}

void qr_report_subtitle(const qr_report *report, FILE *to)
{
    const json_t *r       = qr_report_first(report);
    const double  threads = qr_json_number_at(r, "engine/threads");
    qr_html_text(qr_json_text_at(r, "model/architecture"), to);
    fputs(", weights ", to);
    qr_html_text(qr_json_text_at(r, "model/weight_dtype"), to);
    fputs(", keys and values ", to);
    qr_html_text(qr_json_text_at(r, "model/kv_dtype"), to);
    fputs(". ", to);
    if (threads > 0) { /* a virtual clock has none */
        fprintf(to, "%.0f thread%s, ", threads, threads == 1 ? "" : "s");
        qr_html_text(qr_json_text_at(r, "context/cpu/isa"), to);
        fputs(", ", to);
    }
    qr_html_text(qr_json_text_at(r, "context/started"), to);
    clock_of_all(report, to);
}

void qr_html_check_value(const json_t *check, FILE *to)
{
    const char  *unit  = qr_json_text_at(check, "unit");
    const double value = qr_json_number_at(check, "value");
    if (json_object_get(check, "unit") != NULL && unit[0] == '\0') {
        fputs(value > 0 ? "yes" : "no", to);
        return;
    }
    qr_html_figure(value, to);
    if (unit[0] != '\0') fputc(' ', to);
    qr_html_text(unit, to);
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
        fputs(strcmp(qr_json_text_at(check, "severity"), "warn") == 0 ? "<li>a warning: " : "<li>", to);
        qr_html_text(qr_json_text_at(check, "id"), to);
        fputs(": ", to);
        qr_html_check_value(check, to);
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
    if (named && qr_report_is_simulated(result)) {
        fputs(". On a virtual clock", to);
        cost_model(result, to);
        fputs(".", to);
    }
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
    const bool all = valid == qr_report_count(report);
    fprintf(to, "<div class=\"verdict %s\"><strong>%s</strong> %zu of %zu results are valid.</div>\n",
            all ? "valid" : "", all ? "VALID" : "INVALID", valid, qr_report_count(report));
}

void qr_report_verdict(const qr_report *report, FILE *to)
{
    size_t        index;
    const json_t *result;
    if (qr_report_count(report) > 3)
        verdict_of_all(report, to);
    else
        json_array_foreach(report->results, index, result) verdict_of(result, qr_report_count(report) > 1, to);
}

static void tile(const char *name, double value, const char *unit, const json_t *ci, const char *more, FILE *to)
{
    if (!isfinite(value)) return;
    fputs("<li><span class=\"name\">", to);
    qr_html_text(name, to);
    fputs("</span><span class=\"value\">", to);
    qr_html_figure(value, to);
    fprintf(to, " <small>%s</small></span><span class=\"more\">", unit);
    if (!qr_html_interval(ci, to)) qr_html_text(more, to);
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
    const json_t *run = qr_report_first_run(report);
    if (qr_report_count(report) > 1) return; /* the table of results compares them */
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

const qr_report_column qr_report_columns[QR_REPORT_COLUMNS] = {
    {"Output tok/s", "throughput/output_tokens/value", 1, "output_tokens"},
    {"Input tok/s", "throughput/input_tokens/value", 1, "input_tokens"},
    {"Requests/s", "throughput/requests/value", 1, "requests"},
    {"TTFT P50 ms", "latency/ttft/p/50", 1, "ttft.p50"},
    {"TTFT P99 ms", "latency/ttft/p/99", 1, "ttft.p99"},
    {"ITL P50 ms", "latency/itl/p/50", 1, "itl.p50"},
    {"ITL P99 ms", "latency/itl/p/99", 1, "itl.p99"},
    {"TPOT P50 ms", "latency/tpot/p/50", 1, "tpot.p50"},
    {"E2E P50 ms", "latency/e2el/p/50", 1, "e2el.p50"},
    {"Goodput req/s", "throughput/goodput/value", 1, "goodput"},
    {"SLO met %", "slo/attainment", 100, "attainment"},
    {"Of the limit %", "speed_of_light/fraction", 100, NULL},
};

bool qr_report_any_run_has(const qr_report *report, const char *path, bool other_than_zero)
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
    const char     *heads[QR_REPORT_COLUMNS + 2] = {"Run", "|Verdict"};
    bool            shown[QR_REPORT_COLUMNS];
    size_t          count = 2;
    qr_report_entry e     = {.report = report};
    for (size_t i = 0; i < QR_REPORT_COLUMNS; i++)
        if ((shown[i] = qr_report_any_run_has(report, qr_report_columns[i].path, false)))
            heads[count++] = qr_report_columns[i].head;
    qr_html_open_table(heads, count, to);
    while (qr_report_next(&e)) {
        fputs("<tr>", to);
        qr_html_row_label(e.label, to);
        fputs("<td class=\"text whole\">", to);
        qr_html_text(qr_json_text_at(e.result, "validity/result"), to);
        fputs("</td>", to);
        for (size_t i = 0; i < QR_REPORT_COLUMNS; i++)
            if (shown[i])
                qr_html_figure_cell(qr_report_columns[i].scale * qr_json_number_at(e.run, qr_report_columns[i].path),
                                    to);
        fputs("</tr>\n", to);
    }
    qr_html_close_table(to);
}

/* What searches for the capacity found. */
void qr_report_answers(const qr_report *report, FILE *to)
{
    size_t        index;
    const json_t *a;
    json_array_foreach(report->answers, index, a)
    {
        const double low = qr_json_number_at(a, "low"), high = qr_json_number_at(a, "high");
        fputs("<p><strong>Capacity</strong> ", to);
        if (!(low > 0)) fputs("below ", to);
        qr_html_figure(low > 0 ? qr_json_number_at(a, "rate") : high, to);
        fputs(" requests/s", to);
        if (low > 0 && isfinite(high)) {
            fputs(" (", to);
            qr_html_range(low, high, to);
            fputs(")", to);
        }
        fprintf(to,
                low > 0 ? ": %g %% of the requests meet the SLOs" : ": fewer than %g %% of the requests met the SLOs",
                100 * qr_json_number_at(a, "min_attainment"));
        const double probes = qr_json_number_at(a, "probes");
        fprintf(to, "; %.0f probe%s, %.0f requests, %.0f s.</p>\n", probes, probes == 1 ? "" : "s",
                qr_json_number_at(a, "requests"), qr_json_number_at(a, "seconds"));
    }
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
    const bool many = qr_report_count(report) > 3;
    if (many) fputs("<details><summary>The commands</summary>\n", to);
    for (size_t i = 0; i < qr_report_count(report); i++) {
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

void qr_report_maker(const qr_report *report, FILE *to)
{
    qr_html_text(qr_json_text_at(qr_report_first(report), "context/quire/build"), to);
    fputs(". Pictures: Chart.js, MIT licence.", to);
}
