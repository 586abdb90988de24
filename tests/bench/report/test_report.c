/* A page from results that a test makes: names and order of a sweep, a comparison, what a log becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/report/report_data.h"

static qr_report *made(void)
{
    qr_report *report = qr_report_create();
    assert_non_null(report);
    return report;
}

/* A result with one run of `rate` output tokens per second at `streams`; a point of a sweep when `dtype` is given. */
static void add(qr_report *report, const char *name, int streams, const char *dtype, double rate)
{
    json_t *result =
        json_pack("{s:s, s:{s:s}, s:{s:i}, s:[{s:{}, s:{s:{s:f, s:s, s:[f, f]}}}]}", "schema", "quire.result/1",
                  "disclosure", "profile", "concurrent", "config", "load.streams", streams, "runs", "latency",
                  "throughput", "output_tokens", "value", rate, "unit", "tok/s", "ci95", rate * 0.99, rate * 1.01);
    if (dtype != NULL) {
        json_object_set_new(result, "file", json_string(name));
        json_object_set_new(result, "sweep",
                            json_pack("{s:{s:i, s:s}}", "axes", "load.streams", streams, "kv_cache.dtype", dtype));
    }
    assert_int_equal(qr_report_add(report, result, name, "test", NULL), QUIRE_OK);
}

static char *page_of(qr_report *report)
{
    char  *page = NULL;
    size_t size = 0;
    FILE  *to   = open_memstream(&page, &size);
    qr_report_arrange(report);
    assert_true(qr_report_write(report, to));
    fclose(to);
    return page;
}

static void assert_holds(const char *page, const char *text)
{
    if (strstr(page, text) == NULL) fail_msg("not on the page: %s", text);
}

static const char *name_at(const qr_report *report, size_t i)
{
    return qr_json_text_at(json_array_get(report->results, i), "shown_as");
}

static void a_sweep_is_named_and_ordered_by_its_values(void **state)
{
    qr_report *report = made();
    (void)state;
    add(report, "s", 4, "f32", 400);
    add(report, "s", 1, "f32", 100);
    add(report, "s", 4, "bf16", 800);
    add(report, "s", 1, "bf16", 200);
    char *page = page_of(report);
    assert_string_equal(name_at(report, 0), "1 stream, dtype=bf16");
    assert_string_equal(name_at(report, 1), "4 streams, dtype=bf16");
    assert_string_equal(name_at(report, 3), "4 streams, dtype=f32");
    assert_holds(page, "sweep of 4 results");
    free(page);
    qr_report_destroy(report);
}

static void points_that_are_equal_are_numbered(void **state)
{
    qr_report *report = made();
    (void)state;
    for (int i = 0; i < 2; i++) add(report, "s", 1, "f32", 100);
    add(report, "s", 2, "f32", 100);
    free(page_of(report));
    assert_string_equal(name_at(report, 1), "1 stream, dtype=f32 (2)");
    qr_report_destroy(report);
}

static void two_results_are_compared_with_the_first(void **state)
{
    qr_report *report = made();
    (void)state;
    add(report, "before", 1, NULL, 1000);
    add(report, "after", 2, NULL, 500);
    char *page = page_of(report);
    assert_holds(page, "<section id=\"comparison\">");
    assert_holds(page, "<td>1\u202f000</td><td>500</td><td>\u00d7 0.500</td><td>0.4");
    assert_holds(page, ">none</td>"); /* one pair */
    assert_holds(page, "<th scope=\"row\">load.streams</th><td class=\"text\">1</td><td class=\"text\">2</td>");
    free(page);
    qr_report_destroy(report);
}

static void one_result_is_no_comparison_and_no_sweep(void **state)
{
    qr_report *report = made();
    (void)state;
    add(report, "alone", 1, NULL, 1000);
    char *page = page_of(report);
    assert_null(strstr(page, "<section id=\"comparison\">"));
    assert_null(strstr(page, "<section id=\"sweep\">"));
    assert_null(strstr(page, "{{#")); /* every tag is filled; Chart.js and charts.js hold none */
    free(page);
    qr_report_destroy(report);
}

static void a_page_has_charts_or_says_why_not(void **state)
{
    qr_report *report = made();
    (void)state;
    add(report, "alone", 1, NULL, 1000);
    char *page = page_of(report);
    assert_int_equal(strstr(page, "built without Chart.js") == NULL, qr_report_has_charts());
    assert_int_equal(strstr(page, "id=\"data\"") != NULL, qr_report_has_charts());
    free(page);
    qr_report_destroy(report);
}

static void a_log_becomes_columns_of_at_most_two_thousand_rows(void **state)
{
    (void)state;
    qr_log *log    = qr_log_create(QR_LOG_REQUESTS);
    json_t *result = json_pack("{s:[{}]}", "runs");
    for (int i = 0; i < 7001; i++) {
        json_t *line = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "run", 0, "a", i, "f", -1, "num_prompt_tokens", 8,
                                 "num_encoder_tokens", 0, "num_output_tokens", 1);
        assert_true(qr_log_take(log, line));
        json_decref(line);
    }
    assert_true(qr_log_attach(log, result));
    const json_t *requests = qr_json_at(result, "runs/0/log/requests");
    assert_int_equal((int)qr_json_number_at(requests, "count"), 7001);
    assert_int_equal(json_array_size(qr_json_at(requests, "columns/a")), 1751); /* every fourth */
    assert_int_equal((int)qr_json_number_at(requests, "columns/a/1"), 4);
    json_t *bad = json_pack("{s:i}", "run", 0);
    assert_false(qr_log_take(log, bad));
    json_decref(bad);
    json_decref(result);
    qr_log_destroy(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sweep_is_named_and_ordered_by_its_values),
        cmocka_unit_test(points_that_are_equal_are_numbered),
        cmocka_unit_test(two_results_are_compared_with_the_first),
        cmocka_unit_test(one_result_is_no_comparison_and_no_sweep),
        cmocka_unit_test(a_page_has_charts_or_says_why_not),
        cmocka_unit_test(a_log_becomes_columns_of_at_most_two_thousand_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
