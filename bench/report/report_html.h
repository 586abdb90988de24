/* Pieces of HTML. Every text from a result passes through qr_html_text(). */
#ifndef QR_BENCH_REPORT_HTML_H
#define QR_BENCH_REPORT_HTML_H

#include "bench/report/report_data.h"

void qr_html_text(const char *text, FILE *to);    /* with < > & " ' as references */
void qr_html_figure(double value, FILE *to);      /* three or four significant digits, thin spaces between thousands */
void qr_html_json(const json_t *value, FILE *to); /* inside <script type="application/json">: no "<" comes out */

/* A scalar as people write it, or one level of an array or object. */
void qr_html_value(const json_t *value, FILE *to);
void qr_html_range(double low, double high, FILE *to);   /* "12.3 to 14.5" */
bool qr_html_interval(const json_t *ci, FILE *to);       /* the same of [low, high]; false: there is none */
void qr_html_bytes(double bytes, FILE *to);              /* "32 MiB" */
void qr_html_check_value(const json_t *check, FILE *to); /* "11.7 %", "yes" */
void qr_html_text_cell(const char *text, FILE *to);      /* <td>, left */
void qr_html_figure_cell(double value, FILE *to);        /* <td>, right */
void qr_html_row_label(const char *text, FILE *to);      /* <th> */

/* A head with "|" before it is one of a column of text, aligned to the left. */
void qr_html_open_table(const char *const *heads, size_t count, FILE *to);
void qr_html_close_table(FILE *to);

/* A column of a table of runs; also a row of a comparison. */
typedef struct qr_report_column {
    const char *head, *path; /* in a run */
    double      scale;
    const char *metric; /* its name in a comparison; NULL: not compared */
} qr_report_column;

enum { QR_REPORT_COLUMNS = 12 };
extern const qr_report_column qr_report_columns[QR_REPORT_COLUMNS];

const json_t *qr_report_first(const qr_report *report);     /* result */
const json_t *qr_report_first_run(const qr_report *report); /* of the first result */
size_t        qr_report_count(const qr_report *report);     /* results */
bool          qr_report_any_run_has(const qr_report *report, const char *path, bool other_than_zero);

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
void qr_report_answers(const qr_report *report, FILE *to);
void qr_report_command(const qr_report *report, FILE *to);
void qr_report_comparison(const qr_report *report, FILE *to);
void qr_report_differences(const qr_report *report, FILE *to);
void qr_report_axis_name(const qr_report *report, FILE *to);
void qr_report_grid(const qr_report *report, FILE *to);
void qr_report_latency(const qr_report *report, FILE *to);
void qr_report_static_latency(const qr_report *report, FILE *to);
void qr_report_static_time(const qr_report *report, FILE *to);
void qr_report_steps(const qr_report *report, FILE *to);
void qr_report_limits(const qr_report *report, FILE *to);
void qr_report_workload(const qr_report *report, FILE *to);
void qr_report_checks(const qr_report *report, FILE *to);
void qr_report_machine(const qr_report *report, FILE *to);
void qr_report_nodes(const qr_report *report, FILE *to);
void qr_report_configuration(const qr_report *report, FILE *to);
void qr_report_maker(const qr_report *report, FILE *to);

bool   qr_report_is_sweep(const qr_report *report);      /* see qr_report_axis() */
size_t qr_report_simulated(const qr_report *report);     /* how many are */
bool   qr_report_is_comparison(const qr_report *report); /* two to eight results, no sweep */

#endif
