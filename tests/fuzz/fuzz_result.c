/* What reads results and logs: a page, a comparison, a step log. The first byte picks the kind of file; what is
 * accepted can be shown. */
#include <string.h>

#include "bench/report/report.h"
#include "bench/result/compare.h"
#include "bench/run/cost_model.h"
#include "fuzz/fuzz.h"

static FILE *nowhere(void)
{
    static FILE *null = NULL;
    if (null == NULL) null = fopen("/dev/null", "w");
    FUZZ_CHECK(null != NULL);
    return null;
}

static void report_on(const char *path)
{
    qr_report  *report = qr_report_create();
    quire_error error  = {0};
    FUZZ_CHECK(report != NULL);
    const quire_status status = qr_report_read(report, path, &error);
    fuzz_check_error(status, &error);
    if (status == QUIRE_OK) {
        qr_report_arrange(report);
        FUZZ_CHECK(qr_report_write(report, nowhere()));
    }
    qr_report_destroy(report);
}

static void compare_with_itself(const char *path)
{
    static qr_comparison comparison;
    json_t              *result = NULL;
    quire_error          error  = {0};
    const quire_status   status = qr_result_read(path, &result, &error);
    fuzz_check_error(status, &error);
    if (status != QUIRE_OK) return;
    qr_compare(result, result, &comparison);
    qr_compare_table(&comparison, nowhere());
    json_decref(result);
}

static void read_steps(const char *path)
{
    qr_cost_sample    *samples = NULL;
    size_t             count   = 0;
    quire_error        error   = {0};
    const quire_status status  = qr_step_log_read(path, &samples, &count, &error);
    fuzz_check_error(status, &error);
    for (size_t i = 0; status == QUIRE_OK && i < count; i++) FUZZ_CHECK(samples[i].seconds > 0);
    free(samples);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    fuzz_clear_folder();
    switch (data[0]) {
    case '1': report_on(fuzz_named_file("r.json", data + 1, size - 1)); break;
    case '2': report_on(fuzz_named_file("r.jsonl", data + 1, size - 1)); break;
    case '3': read_steps(fuzz_named_file("r.steps.jsonl", data + 1, size - 1)); break;
    default: compare_with_itself(fuzz_named_file("r.json", data + 1, size - 1));
    }
    return 0;
}
