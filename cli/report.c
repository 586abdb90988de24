/* quire report: one HTML page from result files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/report.h"
#include "bench/report/result_file.h"
#include "cli/command.h"
#include "cli/output.h"

static const struct argp_option options[] = {
    {"output", 'o', "OUT.html", 0, "the page to write; - = stdout (default: report.html)", 0},
    {0},
};

typedef struct settings {
    const char *output;
    const char *files[QR_REPORT_MAX_RESULTS];
    unsigned    file_count;
} settings;

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->out_stream = qr_stdout; return 0;
    case 'o': s->output = value; return 0;
    case ARGP_KEY_ARG:
        if (s->file_count == QR_REPORT_MAX_RESULTS) argp_error(state, "more than %d files", QR_REPORT_MAX_RESULTS);
        s->files[s->file_count++] = value;
        return 0;
    case ARGP_KEY_END:
        if (!qr_output_is_stdout(s->output) && !qr_result_has_suffix(s->output, ".html"))
            argp_error(state, "-o %s: expected a name that ends in .html, or -", s->output); /* no result is lost */
        for (unsigned i = 0; i < s->file_count; i++)
            if (qr_output_is_same(s->output, s->files[i]))
                argp_error(state, "--output %s: would overwrite the result %s", s->output, s->files[i]);
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "no result files"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static bool write_page(const void *report, FILE *to) { return qr_report_write(report, to); }

/* Every file is read and checked before anything is written. A file that is no result is a usage error. */
static int report_on(const settings *s, qr_report *report)
{
    quire_error error = {0};
    for (unsigned i = 0; i < s->file_count; i++)
        if (qr_report_read(report, s->files[i], &error) != QUIRE_OK) {
            qr_report_error(&error);
            return error.status == QUIRE_ERR_NO_MEMORY ? QR_EXIT_FAILED : QR_EXIT_USAGE;
        }
    const char *skipped;
    for (size_t i = 0; (skipped = qr_report_skipped(report, i)) != NULL; i++)
        qr_warn("%s; the line is skipped", skipped);
    qr_report_arrange(report);
    if (!qr_report_has_charts())
        qr_warn(
            "the page has tables but no charts: quire was built without Chart.js 3 (Debian and Ubuntu: libjs-chart.js; "
            "cmake -DCHART_JS=FILE)");
    return qr_output_write(s->output, write_page, report) ? QR_EXIT_OK : QR_EXIT_FAILED;
}

int qr_command_report(int argc, char **argv)
{
    static const struct argp argp = {
        .options  = options,
        .parser   = parse,
        .args_doc = "RESULT...",
        .doc      = "Make one HTML page from results of quire bench (.json) or quire sweep (.jsonl).\v"
                    "Request and step logs are found by the names in a result, or beside it as NAME.requests.jsonl and "
                    "NAME.steps.jsonl. The page needs no network; its tables can be read without scripts, its charts need "
                    "them.\n\n"
                    "  quire bench --model tiny -o r.json -o r.requests.jsonl -o r.steps.jsonl\n"
                    "  quire report r.json -o r.html\n\n"
                    "Exit status: 0 done, 1 the page could not be written, 2 usage, or a file that is no result.",
    };
    settings s = {.output = "report.html"};
    qr_complete(&argp);
    argp_parse(&argp, argc, argv, 0, NULL, &s);
    qr_report *report = qr_report_create();
    const int  status = report != NULL ? report_on(&s, report) : (qr_complain("out of memory"), QR_EXIT_FAILED);
    qr_report_destroy(report);
    return status;
}
