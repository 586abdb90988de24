/* Runs on the virtual clock: every time is the one computed by hand, and the same run gives the same numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/result/metrics.h"
#include "bench/run/runner.h"
#include "bench/run/target_virtual.h"
#include "support/sanitized.h"
#include "support/scratch_file.h"
#include "support/simulated_model.h"

enum { LOG_STEPS = 40 };
#define MS INT64_C(1000000)

/* t_ns, rows, logits rows, sequences, running, forward_us */
#define LOG_LINE                                                                                                       \
    "{\"run\": 0, \"t_ns\": %u, \"rows\": %u, \"rows_logits\": %u, \"sequences\": %u, \"running\": %u, "               \
    "\"waiting\": 0, \"rows_encoder\": 0, \"kv_tokens\": 100000, \"kv_pairs\": 100000, \"cross_tokens\": 0, "          \
    "\"cross_pairs\": 0, \"encoder_pairs\": 0, \"plan_us\": 0, \"sample_us\": 0, \"commit_us\": 0, "                   \
    "\"forward_us\": %u}\n"

/* A log in which every step takes 10 ms, whatever it computes, with up to `rows` rows. */
static void write_log(unsigned rows, char *path_out)
{
    static char text[LOG_STEPS * 400];
    int         length = 0;
    for (unsigned i = 0; i < LOG_STEPS; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, LOG_LINE, i * 10000000, 1 + i % rows,
                           1 + i % rows, 1 + i % rows, 1, 10000);
    scratch_file_write(text, path_out);
}

typedef struct played {
    quire_config *config;
    qr_workload  *workload;
    qr_target     target;
    qr_run        run;
    qr_metrics    metrics;
} played;

static quire_config *configuration(const char *const *settings, const char *log)
{
    quire_config *config;
    quire_error   error = {0};
    char          text[96];
    snprintf(text, sizeof text, "run.cost_model=%s", log);
    assert_int_equal(qr_bench_config_create(&config, &error), QUIRE_OK);
    assert_int_equal(quire_config_set(config, "output.progress=none", "test", &error), QUIRE_OK);
    if (log != NULL) assert_int_equal(quire_config_set(config, text, "test", &error), QUIRE_OK);
    for (; *settings != NULL; settings++)
        if (quire_config_set(config, *settings, "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
    if (quire_config_check(config, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return config;
}

static void play_log(played *p, const char *const *settings, const char *log)
{
    volatile int interrupt = 0;
    quire_error  error     = {0};
    p->config              = configuration(settings, log);
    if (qr_target_virtual_create(p->config, &simulated_model, &p->target, &error) != QUIRE_OK)
        fail_msg("%s", error.message);
    if (qr_workload_create(p->config, &simulated_model, 4096, 42, &p->workload, &error) != QUIRE_OK)
        fail_msg("%s", error.message);
    const qr_run_options options = {
        .target = &p->target, .workload = p->workload, .config = p->config, .interrupt = &interrupt};
    if (qr_run_execute(&options, &p->run, &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(qr_metrics_compute(&p->run, p->config, p->workload, &p->metrics, &error), QUIRE_OK);
}

static void play(played *p, const char *const *settings, unsigned rows)
{
    char log[64];
    write_log(rows, log);
    play_log(p, settings, log);
    unlink(log);
}

static void end(played *p)
{
    qr_run_deinit(&p->run);
    p->target.destroy(p->target.self);
    qr_workload_destroy(p->workload);
    quire_config_destroy(p->config);
}

static void assert_close(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-3)) fail_msg("%.6f is not %.6f", value, expected);
}

static void play_trace(played *p, const char *trace, const char *setting)
{
    char        path[64], text[96];
    const char *settings[] = {
        "workload.source=trace", "load.profile=replay", "kv_cache.num_kv_blocks=64", text, setting, NULL};
    scratch_file_write(trace, path);
    snprintf(text, sizeof text, "workload.trace.path=%s", path);
    play(p, settings, 600);
    unlink(path);
}

/* Steps of 10 ms: A starts at 0; B comes at 5 and starts at 10; both end at 30; C comes at 35 and ends at 45. */
static void every_time_is_the_one_computed_by_hand(void **state)
{
    (void)state;
    played p = {0};
    play_trace(&p,
               "{\"arrival_ms\": 0, \"prompt_tokens\": 4, \"output_tokens\": 3}\n"
               "{\"arrival_ms\": 5, \"prompt_tokens\": 4, \"output_tokens\": 2}\n"
               "{\"arrival_ms\": 35, \"prompt_tokens\": 4, \"output_tokens\": 1}\n",
               "output.percentiles=[50]");
    const qr_metrics *m = &p.metrics;
    assert_int_equal(m->requests.completed, 3);
    assert_close(m->ttft.mean, (10 + 15 + 10) / 3.0);
    assert_close(m->ttft.max, 15);
    assert_close(m->ttft_service.mean, m->ttft.mean); /* the generator is never late */
    assert_close(m->queue.mean, 5 / 3.0);
    assert_int_equal(m->itl.n, 3);
    assert_close(m->itl.min, 10);
    assert_close(m->itl.max, 10);
    assert_int_equal(m->tpot.n, 2);
    assert_close(m->tpot.mean, 10);
    assert_close(m->e2el.mean, (30 + 25 + 10) / 3.0);
    assert_close(m->length_s, 0.045);
    assert_close(m->throughput.output.value * m->length_s, 6);
    assert_close(m->throughput.input.value * m->length_s, 12);
    assert_close(m->throughput.peak_output, 6);
    assert_int_equal(m->steps.count, 4);
    assert_close(m->steps.busy_share, 40 / 45.0);
    assert_close(m->steps.rows.max, 5); /* A decodes while B's prompt is computed */
    assert_close((double)p.run.steps[1].start_ns, 10 * MS);
    assert_int_equal(p.run.steps[1].kv_tokens, 5 + 4);
    assert_int_equal(p.run.steps[1].kv_pairs, 5 + (1 + 2 + 3 + 4));
    uint64_t waited = 0;
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++) waited += p.run.requests[1].wait_ns[i];
    assert_int_equal(waited, 25 * MS); /* all of its life */
    end(&p);
}

static void a_long_prompt_takes_several_steps(void **state)
{
    (void)state;
    played p = {0};
    play_trace(&p, "{\"arrival_ms\": 1, \"prompt_tokens\": 600, \"output_tokens\": 2}\n",
               "scheduler.max_num_batched_tokens=256");
    assert_close(p.metrics.ttft.mean, 30); /* 256 + 256 + 88 rows */
    assert_close(p.metrics.e2el.mean, 40);
    end(&p);
}

static void a_closed_loop_answers_after_a_reaction_time(void **state)
{
    (void)state;
    static const char *const settings[] = {"load.profile=synchronous",  "workload.num_prompts=3",
                                           "workload.prompt_tokens=8",  "workload.output_tokens=2",
                                           "kv_cache.num_kv_blocks=64", NULL};
    played                   p          = {0};
    play(&p, settings, 16);
    assert_int_equal(p.run.requests[0].end_ns, 20 * MS);
    assert_int_equal(p.run.requests[1].due_ns, 20 * MS);
    assert_int_equal(p.run.requests[1].submit_ns, 20 * MS + 50000);
    assert_int_equal(p.run.requests[2].end_ns, 60 * MS + 100000);
    end(&p);
}

static void a_full_queue_is_waited_for_and_counts(void **state)
{
    (void)state;
    static const char *const settings[] = {
        "load.profile=constant",           "load.request_rate=1000",   "workload.num_prompts=30",
        "workload.prompt_tokens=8",        "workload.output_tokens=1", "kv_cache.num_kv_blocks=64",
        "scheduler.max_num_queued_reqs=2", "scheduler.max_num_seqs=1", NULL};
    played p = {0};
    play(&p, settings, 16);
    assert_int_equal(p.metrics.requests.completed, 30);
    assert_close(p.metrics.e2el.max, 1 + 30 * 10 - 30); /* one after the other: due after 30 ms, ends after 301 */
    assert_true(p.metrics.ttft_service.max < p.metrics.ttft.max);
    end(&p);
}

static void no_more_requests_are_in_flight_than_allowed(void **state)
{
    (void)state;
    static const char *const settings[] = {
        "load.profile=constant",    "load.request_rate=1000",    "workload.num_prompts=12", "workload.prompt_tokens=8",
        "workload.output_tokens=2", "kv_cache.num_kv_blocks=64", "load.max_concurrency=3",  NULL};
    played p    = {0};
    int    most = 0;
    play(&p, settings, 16);
    for (size_t i = 0; i < p.run.request_count; i++) {
        int in_flight = 0;
        for (size_t k = 0; k < p.run.request_count; k++)
            in_flight += p.run.requests[k].submit_ns <= p.run.requests[i].submit_ns &&
                         p.run.requests[k].end_ns > p.run.requests[i].submit_ns;
        if (in_flight > most) most = in_flight;
    }
    assert_int_equal(most, 3);
    assert_true(p.metrics.ttft.max > 60); /* the last is due after 12 ms: waiting for a place counts */
    end(&p);
}

#define BUSY                                                                                                           \
    {                                                                                                                  \
        "load.profile=gamma", "load.burstiness=0.3", "load.request_rate=40", "workload.num_prompts=800",               \
            "workload.prompt_tokens={dist=\"lognormal\", mean=90, stdev=80, max=900}",                                 \
            "workload.output_tokens={dist=\"lognormal\", mean=30, stdev=25, max=200}",                                 \
            "workload.prefix={groups=3, tokens=64, zipf_s=1}", "kv_cache.num_kv_blocks=60",                            \
            "scheduler.max_num_seqs=16", "scheduler.watermark=0.01", NULL                                              \
    }

static void the_same_run_gives_the_same_numbers(void **state)
{
    (void)state;
    static const char *const settings[] = BUSY;
    played                   a = {0}, b = {0};
    play(&a, settings, 64);
    play(&b, settings, 64);
    assert_true(a.metrics.steps.preemptions > 0); /* the cache is small: there is something to decide */
    assert_true(a.metrics.steps.prefix_hit_share > 0.1);
    assert_int_equal(a.run.after.decision_hash, b.run.after.decision_hash);
    assert_int_equal(a.run.token_count, b.run.token_count);
    assert_memory_equal(a.run.tokens, b.run.tokens, a.run.token_count * sizeof *a.run.tokens);
    assert_int_equal(a.run.step_count, b.run.step_count);
    assert_memory_equal(a.run.steps, b.run.steps, a.run.step_count * sizeof *a.run.steps);
    assert_true(a.metrics.ttft.mean == b.metrics.ttft.mean);
    end(&a);
    end(&b);
}

static void every_request_gets_its_tokens_under_preemption(void **state)
{
    (void)state;
    static const char *const settings[] = BUSY;
    played                   p          = {0};
    uint64_t                 tokens     = 0;
    play(&p, settings, 64);
    assert_int_equal(p.metrics.requests.completed, 800);
    for (size_t i = 0; i < p.run.request_count; i++) {
        assert_int_equal(p.run.requests[i].output_tokens, p.run.requests[i].shape.output_tokens);
        assert_int_equal(p.run.requests[i].finish, QUIRE_FINISH_LENGTH);
        tokens += p.run.requests[i].output_tokens;
    }
    assert_int_equal(tokens, p.run.token_count);
    end(&p);
}

static void a_window_ends_a_run_without_a_number_of_requests(void **state)
{
    (void)state;
    static const char *const settings[] = {
        "load.profile=concurrent",   "load.streams=4",   "workload.num_prompts=0",    "workload.prompt_tokens=8",
        "workload.output_tokens=10", "run.duration=20s", "kv_cache.num_kv_blocks=64", NULL};
    played p = {0};
    play(&p, settings, 16);
    assert_true(p.run.steady);
    assert_close(p.metrics.length_s, 20);
    assert_true(fabs(p.metrics.throughput.output.value - 4 * 10 / 0.10005) < 4); /* ten steps and a reaction */
    end(&p);
}

/* The first requests find no prefix; they are the warm-up's, and none of its counters may show. */
static void counters_are_those_of_the_window(void **state)
{
    (void)state;
    played p = {0};
    play(&p,
         (const char *[]){"load.profile=concurrent", "load.streams=4", "workload.num_prompts=0",
                          "workload.prompt_tokens=64", "workload.prefix={groups=1,tokens=32}",
                          "workload.output_tokens=10", "run.warmup={mode=\"duration\",min=\"1s\"}", "run.duration=2s",
                          "kv_cache.num_kv_blocks=256", NULL},
         16);
    assert_true(p.run.stats_first.prefix_queries > p.run.before.prefix_queries);
    assert_true(p.metrics.steps.prefix_hit_share == 0.5);
    assert_true((double)(p.run.after.prefix_hits - p.run.before.prefix_hits) /
                    (double)(p.run.after.prefix_queries - p.run.before.prefix_queries) <
                0.5);
    end(&p);
}

static void steps_beyond_the_fit_are_counted(void **state)
{
    (void)state;
    static const char *const settings[] = {"workload.num_prompts=2", "workload.prompt_tokens=100",
                                           "workload.output_tokens=3", "kv_cache.num_kv_blocks=64", NULL};
    played                   p          = {0};
    play(&p, settings, 8); /* the log has at most 8 rows a step */
    assert_int_equal(qr_target_virtual_cost(&p.target)->steps, 3);
    assert_int_equal(qr_target_virtual_cost(&p.target)->extrapolated, 1); /* the one with the prompts */
    end(&p);
}

/* Steps of the log took 5 and 15 ms in turn. */
static void resampled_noise_has_the_deviations_of_the_log(void **state)
{
    (void)state;
    static char        text[LOG_STEPS * 400];
    char               log[64];
    static const char *settings[] = {"kv_cache.num_kv_blocks=64",  "workload.num_prompts=8",
                                     "workload.output_tokens=100", "workload.prompt_tokens=4",
                                     "run.cost_noise=resample",    NULL};
    played             a = {0}, b = {0};
    int                slow = 0, length = 0;
    for (unsigned i = 0; i < LOG_STEPS; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, LOG_LINE, i * 20000000, 1 + i / 2 % 8,
                           1 + i / 2 % 8, 1 + i / 2 % 8, 0, i % 2 ? 15000 : 5000);
    scratch_file_write(text, log);
    play_log(&a, settings, log);
    play_log(&b, settings, log);
    unlink(log);
    for (size_t i = 0; i < a.run.step_count; i++) {
        const double ms = (double)a.run.steps[i].forward_ns * 1e-6;
        if (!(fabs(ms - 5) < 0.1 || fabs(ms - 15) < 0.1)) fail_msg("a step of %g ms", ms);
        slow += ms > 10;
    }
    assert_in_range(slow, (int)a.run.step_count * 35 / 100, (int)a.run.step_count * 65 / 100);
    assert_memory_equal(a.run.steps, b.run.steps, a.run.step_count * sizeof *a.run.steps);
    assert_true(qr_target_virtual_cost(&a.target)->resampled);
    end(&a);
    end(&b);
}

static bool wants_to_stop(void *context, const qr_run *run, int64_t now_ns)
{
    (void)context;
    (void)now_ns;
    return run->token_count > 0;
}

/* As a probe that is decided early: requests run and wait, and no step is under way. */
static void a_run_that_is_stopped_leaves_an_empty_target(void **state)
{
    (void)state;
    volatile int      interrupt = 0;
    char              log[64];
    quire_error       error      = {0};
    const char *const settings[] = {"workload.num_prompts=20", "scheduler.max_num_seqs=2",
                                    "scheduler.max_num_partial_prefills=2", "kv_cache.num_kv_blocks=64", NULL};
    const qr_run_stop stop       = {wants_to_stop, NULL};
    played            p          = {0};
    write_log(8, log);
    p.config = configuration(settings, log);
    assert_int_equal(qr_target_virtual_create(p.config, &simulated_model, &p.target, &error), QUIRE_OK);
    for (int probe = 0; probe < 2; probe++) {
        qr_workload *workload;
        qr_run       run;
        quire_stats  stats = {.size = sizeof stats};
        assert_int_equal(qr_workload_create(p.config, &simulated_model, 4096, 42, &workload, &error), QUIRE_OK);
        const qr_run_options options = {
            .target = &p.target, .workload = workload, .config = p.config, .interrupt = &interrupt, .stop = &stop};
        if (qr_run_execute(&options, &run, &error) != QUIRE_OK) fail_msg("%s", error.message);
        assert_true(run.stopped);
        assert_int_equal(run.request_count, 20);
        p.target.stats(p.target.self, &stats);
        assert_int_equal(stats.running + stats.waiting, 0);
        qr_run_deinit(&run);
        qr_workload_destroy(workload);
    }
    unlink(log);
    end(&p);
}

/* One request a second is served, four come; those that the queue never took were due all the same. */
static void requests_held_back_to_the_end_were_due(void **state)
{
    (void)state;
    played p = {0};
    play(&p,
         (const char *[]){"workload.num_prompts=0", "load.profile=constant", "load.request_rate=4", "run.duration=2s",
                          "run.warmup={mode=\"none\"}", "run.grace=0s", "scheduler.max_num_seqs=1",
                          "scheduler.max_num_queued_reqs=1", "workload.prompt_tokens=4", "workload.output_tokens=100",
                          "kv_cache.num_kv_blocks=64", "slo.e2el=1100", NULL},
         8);
    assert_int_equal(p.metrics.requests.due, 8);
    assert_int_equal(p.metrics.requests.completed, 1);
    assert_int_equal(p.metrics.requests.truncated, 7);
    assert_true(p.run.held_back > 0);
    assert_close(p.metrics.attainment, 1 / 8.0);
    end(&p);
}

/* In the grace an open loop still takes what was due in the window, and nothing else. */
static void what_was_due_in_the_window_is_served_after_it(void **state)
{
    (void)state;
    played p = {0};
    play(&p,
         (const char *[]){"workload.num_prompts=0", "load.profile=constant", "load.request_rate=4", "run.duration=2s",
                          "run.warmup={mode=\"none\"}", "run.grace=30s", "scheduler.max_num_seqs=1",
                          "scheduler.max_num_queued_reqs=1", "workload.prompt_tokens=4", "workload.output_tokens=100",
                          "kv_cache.num_kv_blocks=64", NULL},
         8);
    assert_int_equal(p.metrics.requests.due, 8);
    assert_int_equal(p.run.held_back, 0);
    assert_int_equal(p.run.request_count, 8);
    for (size_t i = 0; i < p.run.request_count; i++) assert_int_equal(p.run.requests[i].finish, QUIRE_FINISH_LENGTH);
    end(&p);
}

static void a_run_of_more_than_a_year_is_stopped(void **state)
{
    (void)state;
    if (QR_SANITIZED) skip(); /* it keeps 31 million seconds: 2 s, under AddressSanitizer 90 */
    static char  text[LOG_STEPS * 400];
    volatile int interrupt = 0;
    char         log[64];
    quire_error  error  = {0};
    int          length = 0;
    played       p      = {0};
    for (unsigned i = 0; i < LOG_STEPS; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, LOG_LINE, 0, 1, 1, 1, 0, 900000000);
    scratch_file_write(text, log);
    p.config = configuration((const char *[]){"kv_cache.num_kv_blocks=4096", "workload.num_prompts=40",
                                              "workload.output_tokens=1000", "scheduler.max_num_seqs=1",
                                              "workload.prompt_tokens=1", NULL},
                             log);
    assert_int_equal(qr_target_virtual_create(p.config, &simulated_model, &p.target, &error), QUIRE_OK);
    assert_int_equal(qr_workload_create(p.config, &simulated_model, 4096, 42, &p.workload, &error), QUIRE_OK);
    const qr_run_options options = {
        .target = &p.target, .workload = p.workload, .config = p.config, .interrupt = &interrupt};
    assert_int_equal(qr_run_execute(&options, &p.run, &error), QUIRE_ERR_TOO_LONG);
    assert_non_null(strstr(error.message, "exceeded one simulated year"));
    unlink(log);
    end(&p);
}

static void what_cannot_be_simulated_is_refused(void **state)
{
    (void)state;
    char        log[64], short_log[64];
    qr_target   target;
    quire_error error;
    write_log(8, log);
    scratch_file_write("", short_log);
    const struct {
        const char *log, *settings[3], *says;
    } cases[] = {
        {NULL,
         {"run.clock=virtual", "kv_cache.num_kv_blocks=64", NULL},
         "test: [run] clock: virtual needs run.cost_model"},
        {log, {"run.clock=virtual", NULL}, "needs kv_cache.size or kv_cache.num_kv_blocks"},
        {short_log, {"kv_cache.num_kv_blocks=64", NULL}, "0 steps are too few"},
        {log,
         {"kv_cache.num_kv_blocks=64", "scheduler.num_speculative_tokens=3", NULL},
         "test: [scheduler] num_speculative_tokens: drafts come from what a text repeats"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        quire_config *config = configuration(cases[i].settings, cases[i].log);
        assert_int_equal(qr_target_virtual_create(config, &simulated_model, &target, &error), QUIRE_ERR_INVALID);
        assert_null(target.self);
        if (strstr(error.message, cases[i].says) == NULL) fail_msg("%s: %s", cases[i].says, error.message);
        quire_config_destroy(config);
    }
    unlink(log);
    unlink(short_log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_time_is_the_one_computed_by_hand),
        cmocka_unit_test(a_long_prompt_takes_several_steps),
        cmocka_unit_test(a_closed_loop_answers_after_a_reaction_time),
        cmocka_unit_test(a_full_queue_is_waited_for_and_counts),
        cmocka_unit_test(no_more_requests_are_in_flight_than_allowed),
        cmocka_unit_test(the_same_run_gives_the_same_numbers),
        cmocka_unit_test(every_request_gets_its_tokens_under_preemption),
        cmocka_unit_test(a_window_ends_a_run_without_a_number_of_requests),
        cmocka_unit_test(a_run_that_is_stopped_leaves_an_empty_target),
        cmocka_unit_test(requests_held_back_to_the_end_were_due),
        cmocka_unit_test(what_was_due_in_the_window_is_served_after_it),
        cmocka_unit_test(counters_are_those_of_the_window),
        cmocka_unit_test(steps_beyond_the_fit_are_counted),
        cmocka_unit_test(resampled_noise_has_the_deviations_of_the_log),
        cmocka_unit_test(a_run_of_more_than_a_year_is_stopped),
        cmocka_unit_test(what_cannot_be_simulated_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
