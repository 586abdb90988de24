/* Every metric against values computed by hand, from a run written down here: six requests with all fates, a window
 * that begins after the warm-up, and three steps. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/result/metrics.h"
#include "support/close.h"

#define MS INT64_C(1000000)

/* The window is [1 s, 3 s]. Times in ms: due, submitted, planned, first token, end. */
#define REQUEST(due, submit, planned, first, end, ...)                                                                 \
    {                                                                                                                  \
        .id = 1, .due_ns = (due)*MS, .submit_ns = (submit)*MS, .planned_ns = (planned)*MS, .first_ns = (first)*MS,     \
        .end_ns = (end)*MS, __VA_ARGS__                                                                                \
    }

static qr_run_request requests[] = {
    /* due in the warm-up, ends in the window: 5 tokens, 4 gaps of 50 ms */
    REQUEST(900, 910, 930, 1000, 1200, .output_tokens = 5, .tpot_ns = 50e6, .itl_p99_ns = 50 * MS,
            .finish = QUIRE_FINISH_LENGTH),
    /* wholly in the window, meets all: 3 tokens, gaps of 100 */
    REQUEST(1200, 1200, 1210, 1300, 1500, .output_tokens = 3, .tpot_ns = 100e6, .itl_p99_ns = 100 * MS,
            .finish = QUIRE_FINISH_STOP, .cached_tokens = 32),
    /* too late a first token; preempted; one token only, so that it has no tpot */
    REQUEST(1300, 1350, 1400, 1900, 1900, .output_tokens = 1, .tpot_ns = -1, .finish = QUIRE_FINISH_LENGTH,
            .preemptions = 2),
    /* cut by the window's end: 3 of its tokens come within, gaps of 300; ends outside */
    REQUEST(1500, 1500, 1600, 2300, 3200, .output_tokens = 4, .tpot_ns = 300e6, .itl_p99_ns = 300 * MS,
            .finish = QUIRE_FINISH_LENGTH),
    /* refused at submit; failed */
    REQUEST(1600, 1600, -1, -1, 1600, .finish = QUIRE_FINISH_ERROR, .status = QUIRE_ERR_TOO_LONG, .tpot_ns = -1),
    REQUEST(1700, 1700, 1750, -1, 1800, .finish = QUIRE_FINISH_ERROR, .tpot_ns = -1),
    /* the warm-up's alone: counts nowhere */
    REQUEST(300, 300, 310, 400, 900, .output_tokens = 10, .tpot_ns = 1e6, .finish = QUIRE_FINISH_LENGTH),
};
enum { REQUESTS = sizeof requests / sizeof *requests };

/* Ten in the warm-up, twelve in the window, one behind it. */
static int64_t tokens[] = {400 * MS,  401 * MS,  402 * MS,  403 * MS,  404 * MS,  405 * MS,  406 * MS,  407 * MS,
                           408 * MS,  409 * MS,  1000 * MS, 1050 * MS, 1100 * MS, 1150 * MS, 1200 * MS, 1300 * MS,
                           1400 * MS, 1500 * MS, 1900 * MS, 2300 * MS, 2600 * MS, 2900 * MS, 3200 * MS};
enum { TOKENS = sizeof tokens / sizeof *tokens };

static qr_run_gap gaps[] = {{1050 * MS, 50 * MS, 0},  {1100 * MS, 50 * MS, 0},  {1150 * MS, 50 * MS, 0},
                            {1200 * MS, 50 * MS, 0},  {1400 * MS, 100 * MS, 1}, {1500 * MS, 100 * MS, 1},
                            {2600 * MS, 300 * MS, 3}, {2900 * MS, 300 * MS, 3}, {3200 * MS, 300 * MS, 3}};

/* One step before the window; 100 ms with 8 rows of prompts and 24 encoder tokens, 300 ms of decoding. */
static quire_step steps[] = {
    {.step = 1, .start_ns = 500 * MS, .rows = 99, .rows_prompt = 99, .forward_ns = 100 * MS, .kv_used_bytes = 100},
    {.step          = 2,
     .start_ns      = 1000 * MS,
     .rows          = 16,
     .rows_prompt   = 8,
     .rows_encoder  = 24,
     .sequences     = 3,
     .waiting       = 1,
     .kv_used_bytes = 10,
     .plan_ns       = 10 * MS,
     .forward_ns    = 70 * MS,
     .sample_ns     = 15 * MS,
     .commit_ns     = 5 * MS,
     .projection_ns = 30 * MS,
     .attention_ns  = 20 * MS,
     .logits_ns     = 10 * MS,
     .rowwise_ns    = 4 * MS,
     .barrier_ns    = 6 * MS,
     .weight_bytes  = 1000,
     .kv_bytes      = 10,
     .flops         = 5000,
     .imbalance     = 1.0F},
    {.step          = 3,
     .start_ns      = 2000 * MS,
     .rows          = 4,
     .sequences     = 1,
     .kv_used_bytes = 50,
     .forward_ns    = 300 * MS,
     .weight_bytes  = 1000,
     .kv_bytes      = 30,
     .flops         = 1000,
     .imbalance     = 2.0F},
};

static quire_config *config;
static qr_workload  *workload;
static qr_run        run;
static qr_metrics    m;

static int compute(void **state)
{
    (void)state;
    const quire_model_info model      = {.size = sizeof model, .vocab_size = 100, .decoder_start_token_id = -1};
    const char *const      settings[] = {"load.profile=poisson",
                                         "output.percentiles=[50]",
                                         "slo.ttft=150",
                                         "slo.tpot=100",
                                         "slo.e2el=400",
                                         "slo.itl_p99=60",
                                         "scheduler.max_num_batched_tokens=64",
                                         "scheduler.max_num_seqs=8"};
    quire_error            error;
    if (qr_bench_config_create(&config, &error) != QUIRE_OK) return -1;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (quire_config_set(config, settings[i], "test", &error) != QUIRE_OK) return -1;
    if (qr_workload_create(config, &model, 256, 1, &workload, &error) != QUIRE_OK) return -1;
    run = (qr_run){.requests        = requests,
                   .request_count   = REQUESTS,
                   .tokens          = tokens,
                   .token_count     = TOKENS,
                   .gaps            = gaps,
                   .gap_count       = sizeof gaps / sizeof *gaps,
                   .steps           = steps,
                   .step_count      = 3,
                   .window_start_ns = 1000 * MS,
                   .window_end_ns   = 3000 * MS,
                   .end_ns          = 3300 * MS,
                   .verified        = 2,
                   .verify_failed   = 1};
    run.stats_first =
        (quire_stats){.kv_cache_bytes = 100, .preemptions = 1, .prefix_queries = 100, .wait_ns = {0, 5 * MS}};
    run.stats_last = (quire_stats){.kv_cache_bytes         = 100,
                                   .max_num_batched_tokens = 64,
                                   .preemptions            = 3,
                                   .tokens_recomputed      = 40,
                                   .encoder_runs           = 7,
                                   .encoder_runs_saved     = 2,
                                   .drafts                 = 20,
                                   .drafts_accepted        = 15,
                                   .prefix_queries         = 300,
                                   .prefix_hits            = 50,
                                   .contiguous_run_bytes   = 4096,
                                   .wait_ns                = {0, 105 * MS}};
    return qr_metrics_compute(&run, config, workload, &m, &error) == QUIRE_OK ? 0 : -1;
}

static int release(void **state)
{
    (void)state;
    qr_workload_destroy(workload);
    quire_config_destroy(config);
    return 0;
}

static void the_window_is_what_is_left_of_the_run(void **state)
{
    (void)state;
    assert_close(m.length_s, 2);
    assert_close(m.warmup_s, 1);
    assert_true(m.saturated_s < 0); /* an open loop has no such part */
}

static void requests_are_counted_by_their_fate(void **state)
{
    (void)state;
    assert_int_equal(m.requests.due, 5); /* the first was due before the window */
    assert_int_equal(m.requests.completed, 3);
    assert_int_equal(m.requests.truncated, 1);
    assert_int_equal(m.requests.refused, 1);
    assert_int_equal(m.requests.failed, 1);
    assert_int_equal(m.requests.cancelled, 0);
    assert_int_equal(m.requests.preempted, 1);
    assert_int_equal(m.requests.verified, 2);
    assert_int_equal(m.requests.verify_failed, 1);
}

static void latencies_are_those_of_the_formulas(void **state)
{
    (void)state;
    assert_int_equal(m.ttft.n, 4); /* first tokens in the window: f - a */
    assert_close(m.ttft.mean, (100 + 100 + 600 + 800) / 4.0);
    assert_close(m.ttft.p[0], 350);
    assert_close(m.ttft.max, 800);
    assert_close(m.ttft.min, 100);
    assert_close(m.ttft.stdev, sqrt((2 * 300.0 * 300 + 200.0 * 200 + 400.0 * 400) / 3));
    assert_close(m.ttft_service.mean, (90 + 100 + 550 + 800) / 4.0); /* f - q */
    assert_close(m.queue.mean, (30 + 10 + 100 + 100) / 4.0);         /* s - a */
    assert_int_equal(m.itl.n, 8);                                    /* the last gap ends outside */
    assert_close(m.itl.mean, (4 * 50 + 2 * 100 + 2 * 300) / 8.0);
    assert_close(m.itl.p[0], 75);
    assert_int_equal(m.tpot.n, 2); /* of those that ended within; one token has none */
    assert_close(m.tpot.mean, 75);
    assert_int_equal(m.e2el.n, 3);
    assert_close(m.e2el.mean, (300 + 300 + 600) / 3.0);            /* e - a */
    assert_close(m.ntpot.mean, (300 / 5.0 + 300 / 3.0 + 600) / 3); /* (e - a) / tokens */
}

static void throughputs_count_what_happens_in_the_window(void **state)
{
    (void)state;
    assert_close(m.throughput.requests.value, 3 / 2.0);
    assert_close(m.throughput.output.value, 12 / 2.0); /* by event: the cut request's tokens count, the last does not */
    assert_close(m.throughput.input.value, (8 + 24) / 2.0);
    assert_close(m.throughput.cached, 32 / 2.0);
    assert_close(m.throughput.per_user, 1000 / 75.0);
    assert_close(m.throughput.peak_output, 9); /* 1000 .. 1999 ms; the ten of the warm-up do not count */
    assert_true(isnan(m.throughput.saturated_output));
}

/* Batches of 0.2 s; an event on an edge belongs to the earlier one. */
static void the_interval_of_a_rate_comes_from_ten_batches(void **state)
{
    (void)state;
    const double batches[] = {5, 2, 1, 0, 1, 0, 1, 1, 0, 1};
    double       squares   = 0;
    for (int i = 0; i < 10; i++) squares += (batches[i] - 1.2) * (batches[i] - 1.2);
    const double half = 2.2622 * sqrt(squares / 9 / 10) * 5;
    assert_true(fabs(m.throughput.output.high - (6 + half)) < 1e-3);
    assert_true(fabs(m.throughput.output.low - fmax(0, 6 - half)) < 1e-3);
}

static void goodput_needs_every_limit(void **state)
{
    (void)state;
    /* of the five due in the window: ttft <= 150: the second; tpot <= 100: the second and the one-token request, as 0;
     * e2el <= 400: the second; itl_p99 <= 60: the one-token request alone */
    assert_close(m.attainment_ttft, 1 / 5.0);
    assert_close(m.attainment_tpot, 2 / 5.0);
    assert_close(m.attainment_e2el, 1 / 5.0);
    assert_close(m.attainment_itl, 1 / 5.0);
    assert_close(m.attainment, 0);
    assert_close(m.throughput.goodput, 0);
    assert_close(m.throughput.token_goodput, 5 / 2.0); /* the first request meets all, and ended in the window */
}

static void steps_are_weighted_by_their_time(void **state)
{
    (void)state;
    assert_int_equal(m.steps.count, 2);
    assert_close(m.steps.busy_share, 0.4 / 2);
    assert_close(m.steps.idle_s, 1.6);
    assert_close(m.steps.rows.mean, 10);
    assert_close(m.steps.sequences.mean, 2);
    assert_close(m.steps.time_ms.mean, 200);
    assert_close(m.steps.kv_usage_mean, (0.1 * 0.1 + 0.5 * 0.3) / 0.4);
    assert_close(m.steps.kv_usage_max, 0.5);
    assert_close(m.steps.batch_fill, (16 / 64.0 * 0.1 + 4 / 64.0 * 0.3) / 0.4);
    assert_close(m.steps.imbalance, (1 * 0.1 + 2 * 0.3) / 0.4);
    assert_close(m.steps.encoder_s, 0.1 * 24 / 40); /* a step's time is shared by its rows */
    assert_close(m.steps.prefill_s, 0.1 * 8 / 40);
    assert_close(m.steps.decode_s, 0.1 * 8 / 40 + 0.3);
    assert_close(m.steps.projection_s, 0.03);
    assert_close(m.steps.attention_s, 0.02);
    assert_close(m.steps.logits_s, 0.01);
    assert_close(m.steps.rowwise_s, 0.004);
    assert_close(m.steps.barrier_s, 0.006);
    assert_close(m.steps.sampling_s, 0.015);
    assert_close(m.steps.scheduler_s, 0.015);
    assert_close(m.steps.weight_bytes, 2000);
    assert_close(m.steps.kv_bytes, 40);
    assert_close(m.steps.flops, 6000);
}

/* An interrupt ends the window 100 ms into the step of 300. */
static void shares_of_the_window_add_up_where_a_step_ends_beyond_it(void **state)
{
    (void)state;
    qr_run      cut = run;
    qr_metrics  part;
    quire_error error;
    cut.window_end_ns = 2100 * MS;
    assert_int_equal(qr_metrics_compute(&cut, config, workload, &part, &error), QUIRE_OK);
    assert_close(part.length_s, 1.1);
    assert_close(part.steps.decode_s, 0.1 * 8 / 40 + 0.1);
    assert_close(part.steps.encoder_s + part.steps.prefill_s + part.steps.decode_s + part.steps.idle_s, 1.1);
    assert_close(part.steps.busy_share, 0.2 / 1.1);
    assert_close(part.steps.busy_s, 0.4);
    assert_close(part.steps.projection_s + part.steps.attention_s + part.steps.logits_s + part.steps.rowwise_s +
                     part.steps.encoder_stage_s + part.steps.sampling_s + part.steps.scheduler_s +
                     part.steps.barrier_s + part.steps.other_s,
                 0.4);
}

static void counters_are_differences_over_the_run(void **state)
{
    (void)state;
    assert_int_equal(m.steps.preemptions, 2);
    assert_int_equal(m.steps.recomputed_tokens, 40);
    assert_int_equal(m.steps.encoder_runs, 7);
    assert_int_equal(m.steps.encoder_runs_saved, 2);
    assert_int_equal(m.steps.drafts, 20);
    assert_int_equal(m.steps.drafts_accepted, 15);
    assert_close(m.steps.prefix_hit_share, 0.25);
    assert_close(m.steps.contiguous_run_bytes, 4096);
    assert_close(m.steps.wait_s[1], 0.1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_window_is_what_is_left_of_the_run),
        cmocka_unit_test(requests_are_counted_by_their_fate),
        cmocka_unit_test(latencies_are_those_of_the_formulas),
        cmocka_unit_test(throughputs_count_what_happens_in_the_window),
        cmocka_unit_test(the_interval_of_a_rate_comes_from_ten_batches),
        cmocka_unit_test(goodput_needs_every_limit),
        cmocka_unit_test(steps_are_weighted_by_their_time),
        cmocka_unit_test(shares_of_the_window_add_up_where_a_step_ends_beyond_it),
        cmocka_unit_test(counters_are_differences_over_the_run),
    };
    return cmocka_run_group_tests(tests, compute, release);
}
