/* The page of a result that is still in memory: the same as from its files. */
#include <stdlib.h>

#include "bench/report/report_data.h"
#include "bench/report/result_file.h"
#include "bench/result/result_json.h"

static bool take(void *log, const json_t *line) { return qr_log_take(log, line); }

static bool attach(const qr_result *result, qr_log_kind kind, json_t *object)
{
    qr_log    *log = qr_log_create(kind);
    const bool ok  = log != NULL && qr_result_log(result, kind, take, log) && qr_log_attach(log, object);
    qr_log_destroy(log);
    return ok;
}

bool qr_result_html(const qr_result *result, FILE *to)
{
    qr_report *report = qr_report_create();
    json_t    *object = qr_result_json(result);
    bool       ok     = object != NULL && report != NULL;
    ok                = ok && attach(result, QR_LOG_STEPS, object) && attach(result, QR_LOG_REQUESTS, object);
    ok                = ok && qr_report_add(report, json_incref(object), "this run", "result", NULL) == QUIRE_OK;
    if (ok) qr_report_arrange(report);
    ok = ok && qr_report_write(report, to);
    qr_report_destroy(report);
    json_decref(object);
    return ok;
}
