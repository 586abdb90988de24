/* Draws: moments, clipping, and that equal streams give equal numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/workload/distribution.h"
#include "support/scratch_file.h"

enum { DRAWS = 200000 };

typedef double draw_function(qr_stream *stream);

static void assert_moments(draw_function *draw, double mean, double variance)
{
    qr_stream stream = {.seed = 7, .stream = 3};
    double    sum = 0, squares = 0;
    for (int i = 0; i < DRAWS; i++) {
        const double x = draw(&stream);
        sum += x;
        squares += x * x;
    }
    const double m = sum / DRAWS, v = squares / DRAWS - m * m;
    assert_true(fabs(m - mean) < 0.02);
    assert_true(fabs(v / variance - 1) < 0.05);
}

static double gamma_half(qr_stream *stream) { return qr_stream_gamma(stream, 0.5); }
static double gamma_four(qr_stream *stream) { return qr_stream_gamma(stream, 4); }
static double weibull_two(qr_stream *stream) { return qr_stream_weibull(stream, 2); }

static void moments_are_those_of_the_distribution(void **state)
{
    (void)state;
    assert_moments(qr_stream_uniform, 0.5, 1.0 / 12);
    assert_moments(qr_stream_normal, 0, 1);
    assert_moments(gamma_half, 0.5, 0.5);
    assert_moments(gamma_four, 4, 4);
    assert_moments(weibull_two, tgamma(1.5), tgamma(2) - tgamma(1.5) * tgamma(1.5));
}

static void a_lognormal_has_the_mean_and_deviation_asked_for(void **state)
{
    (void)state;
    const qr_distribution d      = {.kind = QR_DISTRIBUTION_LOGNORMAL, .mean = 128, .stdev = 120, .max = 1e9};
    qr_stream             stream = {.seed = 1};
    double                sum = 0, squares = 0;
    for (int i = 0; i < DRAWS; i++) {
        const double x = qr_distribution_draw(&d, &stream);
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / DRAWS - 128) < 1.5);
    assert_true(fabs(sqrt(squares / DRAWS - sum / DRAWS * sum / DRAWS) - 120) < 5);
}

static void draws_are_clipped(void **state)
{
    (void)state;
    const qr_distribution d      = {.kind = QR_DISTRIBUTION_NORMAL, .mean = 10, .stdev = 50, .min = 4, .max = 12};
    qr_stream             stream = {.seed = 1};
    for (int i = 0; i < 1000; i++) assert_in_range(qr_distribution_draw(&d, &stream), 4, 12);
}

static void zipf_ranks_fall_as_a_power(void **state)
{
    (void)state;
    double    table[100];
    int       seen[100] = {0};
    qr_stream stream    = {.seed = 5};
    qr_zipf_fill(table, 100, 1.0);
    for (int i = 0; i < DRAWS; i++) seen[qr_table_draw(table, 100, &stream)]++;
    assert_true(fabs((double)seen[0] / seen[1] - 2) < 0.1);
    assert_true(fabs((double)seen[0] / seen[9] - 10) < 1);
}

static void a_stream_is_a_function_of_its_counter(void **state)
{
    (void)state;
    qr_stream a = {.seed = 9, .stream = 2}, b = a, other = {.seed = 9, .stream = 3};
    for (int i = 0; i < 10; i++) qr_stream_uniform(&a);
    b.counter = 10;
    assert_true(qr_stream_uniform(&a) == qr_stream_uniform(&b));
    other.counter = 11;
    assert_true(qr_stream_uniform(&a) != qr_stream_uniform(&other));
}

/* ---- empirical: a column of a file ---- */

static quire_status read_column(const char *text, qr_distribution *d, quire_error *error)
{
    quire_config *config;
    char          path[64], assignment[160];
    scratch_file_write(text, path);
    snprintf(assignment, sizeof assignment,
             "workload.prompt_tokens={dist=\"empirical\", file=\"%s\", column=\"tokens\"}", path);
    assert_int_equal(qr_bench_config_create(&config, error), QUIRE_OK);
    assert_int_equal(quire_config_set(config, assignment, "test", error), QUIRE_OK);
    const quire_status status = qr_distribution_read(config, "workload.prompt_tokens", d, error);
    quire_config_destroy(config);
    unlink(path);
    return status;
}

static void a_column_is_read_behind_a_mark_and_with_crlf(void **state)
{
    (void)state;
    qr_distribution d;
    quire_error     error = {0};
    if (read_column("\xef\xbb\xbftokens,x\r\n12,1\r\n\r\n30,2", &d, &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(d.table_count, 2);
    assert_true(d.table[0] == 12 && d.table[1] == 30);
    qr_distribution_deinit(&d);
}

static void a_bad_column_is_an_error_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", ": empty"},
        {"x,y\n1,2\n", ":1: no column named \"tokens\""},
        {"tokens\n", ": no rows"},
        {"tokens\n1\nnan\n", ":3: tokens: \"nan\" is not a length"},
        {"tokens\n1e300\n", ":2: tokens: \"1e300\" is not a length"},
        {"tokens\n-1\n", ":2: tokens"},
        {"x,tokens\n1\n", ":2: 1 columns, the header has 2"},
        {"x,tokens\n1,2,3\n", ":2: 3 columns, the header has 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_distribution d;
        quire_error     error = {0};
        assert_int_equal(read_column(cases[i].text, &d, &error), QUIRE_ERR_FORMAT);
        if (strstr(error.message, cases[i].says) == NULL) fail_msg("%s: %s", cases[i].says, error.message);
        qr_distribution_deinit(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_those_of_the_distribution),
        cmocka_unit_test(a_lognormal_has_the_mean_and_deviation_asked_for),
        cmocka_unit_test(draws_are_clipped),
        cmocka_unit_test(zipf_ranks_fall_as_a_power),
        cmocka_unit_test(a_column_is_read_behind_a_mark_and_with_crlf),
        cmocka_unit_test(a_bad_column_is_an_error_with_its_line),
        cmocka_unit_test(a_stream_is_a_function_of_its_counter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
