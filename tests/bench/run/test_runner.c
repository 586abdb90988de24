/* A scripted target with known token times, played by the real runner: every metric equals the value computed by hand.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/result/attribution.h"
#include "bench/result/metrics.h"
#include "bench/run/runner.h"
#include "support/close.h"
#include "support/scripted_target.h"

#define MS UINT64_C(1000000)

static const scripted_request script[] = {
    {100 * MS, 10 * MS, 11, QUIRE_OK},
    {200 * MS, 20 * MS, 6, QUIRE_OK},
    {50 * MS, 30 * MS, 1, QUIRE_OK},
    {400 * MS, 5 * MS, 21, QUIRE_OK},
};
enum { REQUESTS = sizeof script / sizeof *script };

typedef struct played {
    quire_config *config;
    qr_workload  *workload;
    qr_run        run;
} played;

static quire_status try_to_play(played *p, scripted_target *scripted, const char *const *settings, int interrupt,
                                quire_error *error)
{
    static const quire_model_info model  = {.size = sizeof model, .vocab_size = 100, .decoder_start_token_id = -1};
    const qr_target               target = scripted_target_of(scripted);
    volatile int                  flag   = interrupt;
    assert_int_equal(qr_bench_config_create(&p->config, error), QUIRE_OK);
    assert_int_equal(quire_config_set(p->config, "output.progress=none", "test", error), QUIRE_OK);
    for (; *settings != NULL; settings++)
        if (quire_config_set(p->config, *settings, "test", error) != QUIRE_OK) fail_msg("%s", error->message);
    assert_int_equal(qr_workload_create(p->config, &model, 256, 1, &p->workload, error), QUIRE_OK);
    const qr_run_options options = {
        .target = &target, .workload = p->workload, .config = p->config, .interrupt = &flag};
    return qr_run_execute(&options, &p->run, error);
}

static void play(played *p, scripted_target *scripted, const char *const *settings)
{
    quire_error error = {0};
    if (try_to_play(p, scripted, settings, 0, &error) != QUIRE_OK) fail_msg("%s", error.message);
}

static void end(played *p)
{
    qr_run_deinit(&p->run);
    qr_workload_destroy(p->workload);
    quire_config_destroy(p->config);
}

/* No step is recorded: all that is not generator or queue is the scheduler's. */
static void assert_latencies_are_split_without_remainder(const qr_run *run)
{
    qr_split split;
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *r   = &run->requests[i];
        int64_t               sum = 0;
        qr_split_ttft(run, r, &split);
        for (int c = 0; c < QR_CAUSES; c++) sum += split.ns[c];
        assert_int_equal(sum, r->first_ns - r->due_ns);
        assert_int_equal(split.ns[QR_CAUSE_GENERATOR], r->submit_ns - r->due_ns);
        assert_int_equal(split.ns[QR_CAUSE_QUEUE], r->planned_ns - r->submit_ns);
    }
    for (size_t i = 0; i < run->gap_count; i++) {
        int64_t sum = 0;
        qr_split_gap(run, &run->gaps[i], &split);
        for (int c = 0; c < QR_CAUSES; c++) sum += split.ns[c];
        assert_int_equal(sum, run->gaps[i].gap_ns);
    }
}

static void every_metric_equals_the_hand_computed_value(void **state)
{
    (void)state;
    scripted_target scripted = {.script = script, .script_count = REQUESTS};
    played          p;
    qr_metrics      m;
    quire_error     error;
    play(&p, &scripted,
         (const char *[]){"workload.num_prompts=4", "run.verify_fraction=0", "output.percentiles=[50]", "slo.ttft=150",
                          "slo.tpot=15", NULL});
    assert_int_equal(qr_metrics_compute(&p.run, p.config, p.workload, &m, &error), QUIRE_OK);

    assert_int_equal(m.requests.completed, 4);
    assert_int_equal(m.requests.due, 4);
    assert_within(m.ttft.mean, (100 + 200 + 50 + 400) / 4.0, 1e-9);
    assert_within(m.ttft_service.mean, (100 + 200 + 50 + 400) / 4.0, 1e-9);
    assert_within(m.queue.mean, (100 + 200 + 50 + 400) / 8.0, 1e-9);
    assert_int_equal(m.tpot.n, 3); /* one request has a single token */
    assert_within(m.tpot.mean, (10 + 20 + 5) / 3.0, 1e-9);
    assert_int_equal(m.itl.n, 10 + 5 + 20);
    assert_within(m.itl.mean, (10 * 10 + 5 * 20 + 20 * 5) / 35.0, 1e-9);
    assert_within(m.itl.p[0], 5, 1e-9);
    assert_within(m.itl.max, 20, 1e-9);
    assert_within(m.e2el.mean, (200 + 300 + 50 + 500) / 4.0, 1e-9);
    assert_within(m.throughput.output.value * m.length_s, 11 + 6 + 1 + 21, 1e-6);
    assert_within(m.throughput.requests.value * m.length_s, 4, 1e-6);
    assert_within(m.throughput.peak_output, 39, 0);
    assert_within(m.attainment_ttft, 0.5, 0);  /* 100 and 50 ms */
    assert_within(m.attainment_tpot, 0.75, 0); /* 10, 5, and none */
    assert_within(m.attainment, 0.5, 0);
    assert_within(m.throughput.token_goodput * m.length_s, 11 + 1, 1e-6);
    assert_within(m.length_s, 0.5, 1e-9);
    assert_latencies_are_split_without_remainder(&p.run);
    end(&p);
}

static void what_is_left_is_cancelled_and_counted_as_truncated(void **state)
{
    (void)state;
    static const scripted_request slow     = {100 * MS, 100 * MS, 1000, QUIRE_OK};
    scripted_target               scripted = {.script = &slow, .script_count = 1};
    played                        p;
    play(&p, &scripted,
         (const char *[]){"workload.num_prompts=0", "load.profile=constant", "load.request_rate=2", "run.duration=3s",
                          "run.warmup={mode=\"none\"}", "run.grace=1s", "run.verify_fraction=0", NULL});
    assert_int_equal(p.run.window_end_ns, 3000 * MS);
    assert_int_equal(p.run.end_ns, 4000 * MS); /* the grace is over */
    assert_int_equal(p.run.request_count, 6);
    assert_int_equal(scripted.cancels, 6);
    assert_int_equal(scripted.in_flight, 0);
    for (size_t i = 0; i < p.run.request_count; i++) assert_int_equal(p.run.requests[i].end_ns, -1);
    assert_false(p.run.interrupted);
    end(&p);
}

static void an_interrupt_submits_nothing_more_and_leaves_a_partial_run(void **state)
{
    (void)state;
    scripted_target scripted = {.script = script, .script_count = REQUESTS};
    quire_error     error    = {0};
    played          p;
    assert_int_equal(try_to_play(&p, &scripted, (const char *[]){"workload.num_prompts=4", NULL}, 1, &error), QUIRE_OK);
    assert_true(p.run.interrupted);
    assert_int_equal(scripted.submitted, 0);
    assert_int_equal(scripted.stops, 1);
    end(&p);
}

static void a_target_that_fails_is_stopped_and_its_run_kept(void **state)
{
    (void)state;
    scripted_target scripted = {
        .script = script, .script_count = REQUESTS, .wait_status = QUIRE_ERR_EXECUTION, .fails_at_ns = 1000 + 150 * MS};
    quire_error error = {0};
    played      p;
    assert_int_equal(try_to_play(&p, &scripted, (const char *[]){"workload.num_prompts=4", NULL}, 0, &error),
                     QUIRE_ERR_EXECUTION);
    assert_true(p.run.interrupted);
    assert_int_equal(p.run.request_count, 4);
    assert_true(p.run.token_count > 0);
    assert_true(p.run.end_ns > 0);
    assert_int_equal(scripted.stops, 1);
    assert_non_null(strstr(error.message, quire_status_text(QUIRE_ERR_EXECUTION)));
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_equals_the_hand_computed_value),
        cmocka_unit_test(what_is_left_is_cancelled_and_counted_as_truncated),
        cmocka_unit_test(an_interrupt_submits_nothing_more_and_leaves_a_partial_run),
        cmocka_unit_test(a_target_that_fails_is_stopped_and_its_run_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
