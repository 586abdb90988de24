/* One HTML page from results, complete in itself: tables that need no script, charts by Chart.js.
 *
 * The page is the template page.html with style.css and charts.js; CMake embeds them. */
#ifndef QR_BENCH_REPORT_H
#define QR_BENCH_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "quire/status.h"

enum { QR_REPORT_MAX_RESULTS = 256 };

typedef struct qr_report qr_report;

qr_report *qr_report_create(void);               /* NULL: out of memory */
void       qr_report_destroy(qr_report *report); /* NULL is allowed */

/* Adds the result of a `.json` file, or each of a sweep's `.jsonl`, with the request and step logs that the result
 * names or that lie beside it as NAME.requests.jsonl, NAME.steps.jsonl. A line that is none of these (torn, when a disk
 * was full) is skipped. ERR_IO: cannot be read. ERR_FORMAT: no quire.result/1, or more than 100 bad lines; the message
 * names file and line. ERR_INVALID: too many results. */
quire_status qr_report_read(qr_report *report, const char *path, quire_error *error);

/* What is wrong with the i-th line that was skipped, with file and line; NULL past the last. */
const char *qr_report_skipped(const qr_report *report, size_t i);

/* Once all are there, and once only: names the points of a sweep by their values, brings them into the order of their
 * curves, and tells equal names apart. */
void qr_report_arrange(qr_report *report);

/* Was the tool built with Chart.js? Without it the page holds the tables and says what is missing. */
bool qr_report_has_charts(void);

/* False: out of memory, or the file does not take it (errno). */
bool qr_report_write(const qr_report *report, FILE *to);

#endif
