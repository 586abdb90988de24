/* Pieces of HTML. Every text from a result passes through qr_html_text(). */
#ifndef QR_BENCH_REPORT_HTML_H
#define QR_BENCH_REPORT_HTML_H

#include "bench/report/report_data.h"

void qr_html_text(const char *text, FILE *to);    /* with < > & " ' as references */
void qr_html_figure(double value, FILE *to);      /* three or four significant digits, thin spaces between thousands */
void qr_html_json(const json_t *value, FILE *to); /* inside <script type="application/json">: no "<" comes out */

/* A run of a result, in the order of the report. Start with {.report = r}. */
typedef struct qr_report_entry {
    const qr_report *report;
    const json_t    *result, *run;
    size_t           result_index, run_index, count; /* count: entries so far */
    char             label[320];
} qr_report_entry;

bool qr_report_next(qr_report_entry *entry);

/* What stands in the page's {{places}}; each writes complete elements or nothing. */
void qr_report_title(const qr_report *report, FILE *to);
void qr_report_subtitle(const qr_report *report, FILE *to);
void qr_report_verdict(const qr_report *report, FILE *to);
void qr_report_tiles(const qr_report *report, FILE *to);
void qr_report_results(const qr_report *report, FILE *to);
void qr_report_command(const qr_report *report, FILE *to);
void qr_report_comparison(const qr_report *report, FILE *to);
void qr_report_differences(const qr_report *report, FILE *to);
void qr_report_latency(const qr_report *report, FILE *to);
void qr_report_steps(const qr_report *report, FILE *to);
void qr_report_limits(const qr_report *report, FILE *to);
void qr_report_workload(const qr_report *report, FILE *to);
void qr_report_checks(const qr_report *report, FILE *to);
void qr_report_machine(const qr_report *report, FILE *to);
void qr_report_configuration(const qr_report *report, FILE *to);
void qr_report_maker(const qr_report *report, FILE *to);

bool qr_report_is_sweep(const qr_report *report);      /* at least three results at different loads */
bool qr_report_is_comparison(const qr_report *report); /* two to eight runs, no sweep */

#endif
