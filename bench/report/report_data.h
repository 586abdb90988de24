/* What a report is made of: results with their labels, and their logs as thinned columns. */
#ifndef QR_BENCH_REPORT_DATA_H
#define QR_BENCH_REPORT_DATA_H

#include <jansson.h>

#include "bench/common/json_text.h"
#include "bench/report/report.h"
#include "bench/report/result_file.h"
#include "bench/report/template.h"

/* The members of a result and besides: "shown_as", what people call it; "file", of a point of a sweep; and of
 * qr_report_arrange(): "x", its place on the axis, and "curve", which of a sweep's curves it is on. Each run has
 * "label", "number" (from 1, over all results), its result's "verdict" and "profile", and "log": {"steps":
 * LOG, "requests": LOG} where there was one. LOG = {"count", "shown", "columns": {NAME: [numbers or null]}}. */
struct qr_report {
    json_t *results; /* array of at least one object */
    json_t *answers; /* array of quire.capacity/1: what searches found */
    json_t *skipped; /* array of sentences: "sweep.jsonl:3: not JSON: ..." */
};

/* Takes over `result`. ERR_FORMAT: not a quire.result/1 with runs; `place` names it. */
quire_status qr_report_add(qr_report *report, json_t *result, const char *label, const char *place, quire_error *error);

bool   qr_report_is_simulated(const json_t *result); /* its times are those of a cost model */
bool   qr_report_is_valid(const json_t *result);
size_t qr_report_simulated(const qr_report *report); /* how many are */
size_t qr_report_valid(const qr_report *report);

/* The key along which a sweep's curves lie: a load where there is one. NULL: no sweep, which is at least three results
 * at several loads. And what the axis is called. */
const char *qr_report_axis(const qr_report *report);
const char *qr_report_axis_title(const char *axis);

/* Lines of a log become columns, at most about 2,000 rows per run. */
typedef struct qr_log qr_log;

const char *qr_log_name(qr_log_kind kind);   /* "steps" */
const char *qr_log_suffix(qr_log_kind kind); /* ".steps.jsonl" */

qr_log *qr_log_create(qr_log_kind kind); /* NULL: out of memory */
void    qr_log_destroy(qr_log *log);     /* NULL is allowed */

/* One line. False: not an object with the members of this kind of log, or out of memory. */
bool qr_log_take(qr_log *log, const json_t *line);

/* Gives each run of `result` its rows. */
bool qr_log_attach(const qr_log *log, json_t *result);

#endif
