/* The cost model: known costs are found again, totals are kept, and a step log that cannot be read says where. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "bench/run/cost_model.h"
#include "support/scratch_file.h"

enum { STEPS = 2000 };

/* Weights move once (20 ms), from 9 rows on the arithmetic takes longer (2 ms a row), from 17 on another kernel runs;
 * attention costs 10 ns a token and 2 ns a pair, a logits row 100 us. */
static double true_seconds(const qr_step_work *w)
{
    const double projections = fmax(20e-3, 2e-3 * (w->rows + 2)) + (w->rows > 16 ? 5e-3 : 0);
    return projections + 10e-9 * w->kv_tokens + 2e-9 * w->kv_pairs + 100e-6 * w->rows_logits;
}

static double below(uint64_t index, uint64_t stream, uint32_t limit)
{
    return (double)qr_random_below(11, stream, index, limit);
}

static void draw(qr_cost_sample *samples, double noise)
{
    for (int i = 0; i < STEPS; i++) {
        qr_step_work *w      = &samples[i].work;
        const double  decode = 1 + below((uint64_t)i, 1, 24), prompt = i % 3 == 0 ? 1 + below((uint64_t)i, 2, 104) : 0;
        w->rows        = decode + prompt;
        w->sequences   = decode + (prompt > 0);
        w->rows_logits = decode;
        w->kv_tokens   = decode * (50 + below((uint64_t)i, 3, 500)) + prompt;
        w->kv_pairs    = w->kv_tokens + prompt * prompt / 2;
        samples[i].seconds =
            true_seconds(w) * (1 + noise * ((double)qr_random_below(11, 4, (uint64_t)i, 2001) / 1000 - 1));
    }
}

static qr_cost_model fitted(const qr_cost_sample *samples, size_t count)
{
    qr_cost_model model;
    quire_error   error = {0};
    if (qr_cost_model_fit(samples, count, &model, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return model;
}

static void a_known_cost_is_found_again(void **state)
{
    (void)state;
    static qr_cost_sample samples[STEPS];
    draw(samples, 0);
    const qr_cost_model model = fitted(samples, STEPS);
    assert_int_equal(model.steps, STEPS);
    assert_true(model.fitted.median < 0.002);
    assert_true(model.fitted.p90 < 0.01);
    assert_true(model.held_out.p90 < 0.015);
    const qr_step_work unseen = {.rows = 21, .sequences = 21, .rows_logits = 21, .kv_tokens = 8000, .kv_pairs = 8000};
    assert_true(fabs(qr_cost_model_seconds(&model, &unseen) / true_seconds(&unseen) - 1) < 0.03);
}

static void a_step_in_the_cost_stays_where_it_is(void **state)
{
    (void)state;
    static qr_cost_sample samples[STEPS];
    draw(samples, 0);
    const qr_cost_model model   = fitted(samples, STEPS);
    qr_step_work        w       = {.rows = 16, .sequences = 16, .rows_logits = 16, .kv_tokens = 4000, .kv_pairs = 4000};
    const double        sixteen = qr_cost_model_seconds(&model, &w);
    w.rows                      = 17;
    const double jump           = qr_cost_model_seconds(&model, &w) - sixteen;
    assert_true(jump > 6e-3 && jump < 8e-3); /* 5 ms and one row */
}

static void noise_leaves_the_total_where_it_is(void **state)
{
    (void)state;
    static qr_cost_sample samples[STEPS];
    draw(samples, 0.3);
    samples[77].seconds *= 50; /* the machine was away */
    const qr_cost_model model = fitted(samples, STEPS);
    assert_true(fabs(model.fitted.total) < 1e-6); /* exactly 0 where the solver has converged */
    assert_true(fabs(model.held_out.total) < 0.05);
    assert_true(model.fitted.median > 0.1 && model.fitted.median < 0.2); /* half of a uniform +-30 % */
    for (unsigned i = 0; i < QR_COST_MAX_TERMS; i++) assert_true(model.seconds[i] >= 0);
}

static void equal_steps_make_a_constant(void **state)
{
    (void)state;
    qr_cost_sample samples[40];
    for (int i = 0; i < 40; i++) samples[i] = (qr_cost_sample){{.rows = 4, .sequences = 4}, 3e-3};
    const qr_cost_model model = fitted(samples, 40);
    assert_true(fabs(qr_cost_model_seconds(&model, &samples[0].work) - 3e-3) < 1e-9);
}

static void what_was_never_seen_is_not_covered(void **state)
{
    (void)state;
    static qr_cost_sample samples[STEPS];
    draw(samples, 0);
    const qr_cost_model model = fitted(samples, STEPS);
    qr_step_work        w     = samples[3].work;
    assert_true(qr_cost_model_covers(&model, &w));
    w.rows_encoder = 1;
    assert_false(qr_cost_model_covers(&model, &w));
    w      = samples[3].work;
    w.rows = 1000;
    assert_false(qr_cost_model_covers(&model, &w));
    w.rows           = 128; /* the last piece goes on */
    const double one = qr_cost_model_seconds(&model, &w);
    w.rows           = 1000;
    assert_true(qr_cost_model_seconds(&model, &w) > one + 0.9 * 2e-3 * 872);
}

static void too_few_steps_are_refused(void **state)
{
    (void)state;
    static qr_cost_sample samples[STEPS];
    qr_cost_model         model;
    quire_error           error;
    draw(samples, 0);
    assert_int_equal(qr_cost_model_fit(samples, 31, &model, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "31 steps"));
}

/* ---- step logs ---- */

#define TIMED_STEP(plan, forward)                                                                                      \
    "{\"run\": 0, \"t_ns\": 0, \"running\": 1, \"waiting\": 0, \"rows\": 2, \"rows_encoder\": 0, "                     \
    "\"rows_logits\": 2, \"sequences\": 2, \"kv_tokens\": 10, \"kv_pairs\": 11, \"cross_tokens\": 0, "                 \
    "\"cross_pairs\": 0, \"encoder_pairs\": 0, \"plan_us\": " plan ", \"forward_us\": " forward                        \
    ", \"sample_us\": 2, \"commit_us\": 1}\n"

#define STEP_LINE                                                                                                      \
    "{\"run\": %d, \"t_ns\": %d, \"running\": %d, \"waiting\": 0, \"rows\": 2, \"rows_encoder\": 0, "                  \
    "\"rows_logits\": 2, \"sequences\": 2, \"kv_tokens\": 10, \"kv_pairs\": 11, \"cross_tokens\": 0, "                 \
    "\"cross_pairs\": 0, \"encoder_pairs\": 0, \"plan_us\": 1, \"forward_us\": 1000, \"sample_us\": 2, "               \
    "\"commit_us\": 1}\n"

static quire_status read_text(const char *text, qr_cost_sample **samples, size_t *count, quire_error *error)
{
    char path[64];
    scratch_file_write(text, path);
    const quire_status status = qr_step_log_read(path, samples, count, error);
    unlink(path);
    return status;
}

static void a_step_lasts_until_the_next_one_if_there_was_more_to_do(void **state)
{
    (void)state;
    char            text[8192];
    qr_cost_sample *samples;
    size_t          count;
    quire_error     error;
    const int length = snprintf(text, sizeof text, STEP_LINE STEP_LINE "\n" STEP_LINE STEP_LINE, 0, 0, 2, 0, 1200000, 0,
                                0, 9000000, 2, 1, 0, 0);
    assert_true(length > 0 && length < (int)sizeof text);
    assert_int_equal(read_text(text, &samples, &count, &error), QUIRE_OK);
    assert_int_equal(count, 4);
    assert_true(fabs(samples[0].seconds - 1200e-6) < 1e-12); /* busy until the next */
    assert_true(fabs(samples[1].seconds - 1004e-6) < 1e-12); /* idle afterwards */
    assert_true(fabs(samples[2].seconds - 1004e-6) < 1e-12); /* the next one is another run's */
    assert_true(samples[3].work.kv_pairs == 11 && samples[3].work.rows == 2);
    free(samples);
}

static void a_bad_step_log_is_an_error_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {{"{\"run\": 0}\n", ":1: t_ns"},
                 {"[]\n", ":1: not a JSON object"},
                 {"{\"run\": NaN}\n", ":1: invalid token"},
                 {"\n{\"run\": 0, \"t_ns\": -1}\n", ":2: t_ns: not a number between 0 and 1e18"},
                 {"{\"run\": 0, \"t_ns\": 0, \"running\": 0, \"waiting\": 0, \"rows\": \"2\"}\n", ":1: rows"},
                 {TIMED_STEP("1", "0"), ":1: forward_us: not above 0"},
                 {TIMED_STEP("1", "1e15"), ":1: plan_us + forward_us + sample_us + commit_us: above 1000 s"},
                 {TIMED_STEP("1e17", "1"), "above 1000 s"},
                 {TIMED_STEP("1", "1") "{\"run\": 0, \"t_ns\": 1e15, \"running\": 0, \"waiting\": 0, \"rows\": 2, "
                                       "\"rows_encoder\": 0, \"rows_logits\": 0, \"sequences\": 1, \"kv_tokens\": 1, "
                                       "\"kv_pairs\": 1, \"cross_tokens\": 0, \"cross_pairs\": 0, \"encoder_pairs\": "
                                       "0, \"plan_us\": 1, \"forward_us\": 1, \"sample_us\": 1, \"commit_us\": 1}\n",
                  ":2: t_ns: more than 1000 s after"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_cost_sample *samples;
        size_t          count;
        quire_error     error = {0};
        assert_int_equal(read_text(cases[i].text, &samples, &count, &error), QUIRE_ERR_FORMAT);
        if (strstr(error.message, cases[i].says) == NULL) fail_msg("%s: %s", cases[i].says, error.message);
    }
    qr_cost_sample *samples;
    size_t          count;
    quire_error     error;
    assert_int_equal(qr_step_log_read("/nonexistent/steps.jsonl", &samples, &count, &error), QUIRE_ERR_IO);
    assert_int_equal(qr_step_log_read("/dev/zero", &samples, &count, &error), QUIRE_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_cost_is_found_again),
        cmocka_unit_test(a_step_in_the_cost_stays_where_it_is),
        cmocka_unit_test(noise_leaves_the_total_where_it_is),
        cmocka_unit_test(equal_steps_make_a_constant),
        cmocka_unit_test(what_was_never_seen_is_not_covered),
        cmocka_unit_test(too_few_steps_are_refused),
        cmocka_unit_test(a_step_lasts_until_the_next_one_if_there_was_more_to_do),
        cmocka_unit_test(a_bad_step_log_is_an_error_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
