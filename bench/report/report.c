/* Fills the page. See report.h; the tables are those of report_tables.c. */
#include "bench/report/report.h"

#include <string.h>

#include "bench/common/whole_file.h"
#include "bench/report/report_assets.h"
#include "bench/report/report_html.h"

static void asset(const qr_asset *a, FILE *to) { fwrite(a->bytes, 1, a->size, to); }

static void style(const qr_report *report, FILE *to) { (void)report, asset(&qr_asset_style_css, to); }
static void script(const qr_report *report, FILE *to) { (void)report, asset(&qr_asset_charts_js, to); }
static void chart_library(const qr_report *report, FILE *to) { (void)report, asset(&qr_asset_chart_js, to); }
static void data(const qr_report *report, FILE *to) { qr_html_json(report->results, to); }

static const struct place {
    const char *name;
    void (*write)(const qr_report *report, FILE *to);
} places[] = {
    {"title", qr_report_title},
    {"subtitle", qr_report_subtitle},
    {"style", style},
    {"verdict", qr_report_verdict},
    {"tiles", qr_report_tiles},
    {"results", qr_report_results},
    {"answers", qr_report_answers},
    {"command", qr_report_command},
    {"comparison", qr_report_comparison},
    {"differences", qr_report_differences},
    {"axis", qr_report_axis_name},
    {"grid", qr_report_grid},
    {"latency", qr_report_latency},
    {"static latency", qr_report_static_latency},
    {"static time", qr_report_static_time},
    {"steps", qr_report_steps},
    {"limits", qr_report_limits},
    {"workload", qr_report_workload},
    {"checks", qr_report_checks},
    {"machine", qr_report_machine},
    {"nodes", qr_report_nodes},
    {"configuration", qr_report_configuration},
    {"maker", qr_report_maker},
    {"data", data},
    {"chart.js", chart_library},
    {"script", script},
};

static const struct condition {
    const char *name;
    bool (*holds)(const qr_report *report);
} conditions[] = {{"if comparison", qr_report_is_comparison}, {"if sweep", qr_report_is_sweep}};

static bool is_name(const char *name, size_t length, const char *of)
{
    return strlen(of) == length && memcmp(name, of, length) == 0;
}

/* One {{name}}. Returns whether the text after it is to be written. */
static bool fill(const qr_report *report, const char *name, size_t length, bool writing, FILE *to)
{
    if (is_name(name, length, "end")) return true;
    for (size_t i = 0; i < sizeof conditions / sizeof *conditions; i++)
        if (is_name(name, length, conditions[i].name)) return conditions[i].holds(report);
    for (size_t i = 0; writing && i < sizeof places / sizeof *places; i++)
        if (is_name(name, length, places[i].name)) places[i].write(report, to);
    return writing;
}

bool qr_report_write(const qr_report *report, FILE *to)
{
    const char *at = (const char *)qr_asset_page_html.bytes, *end = at + qr_asset_page_html.size;
    bool        writing = true;
    while (at < end) {
        const char *open  = memmem(at, (size_t)(end - at), "{{", 2);
        const char *close = open ? memmem(open, (size_t)(end - open), "}}", 2) : NULL;
        const char *stop  = close ? open : end;
        if (writing) fwrite(at, 1, (size_t)(stop - at), to);
        if (close == NULL) break;
        writing = fill(report, open + 2, (size_t)(close - open) - 2, writing, to);
        at      = close + 2;
    }
    return fflush(to) == 0 && !ferror(to);
}

static bool write_report(const void *report, FILE *to) { return qr_report_write(report, to); }

quire_status qr_report_save(const qr_report *report, const char *path, quire_error *error)
{
    return qr_file_write_whole(path, write_report, report, error);
}
