/* Every latency is split without remainder, and the parts are those that scripted steps and requests say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "bench/result/attribution.h"

enum { US = 1000, MS = 1000 * US };

static int64_t sum_of(const qr_split *split)
{
    int64_t sum = 0;
    for (int c = 0; c < QR_CAUSES; c++) {
        assert_true(split->ns[c] >= 0);
        sum += split->ns[c];
    }
    return sum;
}

/* Steps of 20 ms, one every 25: plan 1, projections 8, attention 4, row-wise 1, logits 1, barrier 2, sampling 2,
 * commit 1. The last is at 100 ms. Step 1 (25 ms) has 8 of its 10 rows from prompts, the others none. */
static quire_step     steps[5];
static qr_run_request request;
static qr_run         run;

static int prepare(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        steps[i] = (quire_step){.start_ns      = (uint64_t)i * 25 * MS,
                                .rows          = 10,
                                .rows_prompt   = i == 1 ? 8 : 0,
                                .plan_ns       = 1 * MS,
                                .forward_ns    = 16 * MS,
                                .projection_ns = 8 * MS,
                                .attention_ns  = 4 * MS,
                                .rowwise_ns    = 1 * MS,
                                .logits_ns     = 1 * MS,
                                .barrier_ns    = 1 * MS,
                                .network_ns    = 1 * MS,
                                .sample_ns     = 2 * MS,
                                .commit_ns     = 1 * MS};
    request = (qr_run_request){.shape      = {.prompt_tokens = 6},
                               .due_ns     = 1 * MS,
                               .submit_ns  = 3 * MS,
                               .planned_ns = 25 * MS,
                               .first_ns   = 44 * MS};
    run =
        (qr_run){.requests = &request, .request_count = 1, .steps = steps, .step_count = 5, .window_end_ns = INT64_MAX};
    return 0;
}

/* In the step at 25 ms, 6 of the 10 rows are the request's and 2 another prompt's; its token came after 19 ms. */
static void ttft_is_generator_queue_and_the_steps_of_the_prompt(void **state)
{
    (void)state;
    qr_split s;
    qr_split_ttft(&run, &request, &s);
    assert_int_equal(s.ns[QR_CAUSE_GENERATOR], 2 * MS);
    assert_int_equal(s.ns[QR_CAUSE_QUEUE], 22 * MS);
    assert_int_equal(s.ns[QR_CAUSE_OWN_PREFILL], (8 + 4 + 1) * MS * 6 / 10);
    assert_int_equal(s.ns[QR_CAUSE_OTHER_PREFILL], (8 + 4 + 1) * MS * 2 / 10);
    assert_int_equal(s.ns[QR_CAUSE_PROJECTIONS], 8 * MS * 2 / 10);
    assert_int_equal(s.ns[QR_CAUSE_ATTENTION], 4 * MS * 2 / 10);
    assert_int_equal(s.ns[QR_CAUSE_ROWWISE], 1 * MS * 2 / 10);
    assert_int_equal(s.ns[QR_CAUSE_SAMPLING], 3 * MS);
    assert_int_equal(s.ns[QR_CAUSE_BARRIER], 1 * MS);
    assert_int_equal(s.ns[QR_CAUSE_NETWORK], 1 * MS);
    assert_int_equal(s.ns[QR_CAUSE_SCHEDULER], 1 * MS);
    assert_int_equal(sum_of(&s), 43 * MS);
}

/* The scheduler notes the time when it plans, after what has come in was taken: that can take longer than planning. */
static void a_prompt_planned_within_a_step_belongs_to_that_step(void **state)
{
    (void)state;
    qr_split s;
    request.planned_ns += 2 * MS;
    qr_split_ttft(&run, &request, &s);
    assert_int_equal(s.ns[QR_CAUSE_QUEUE], 24 * MS);
    assert_int_equal(s.ns[QR_CAUSE_OWN_PREFILL], (8 + 4 + 1) * MS * 6 / 10);
    assert_int_equal(sum_of(&s), 43 * MS);
}

/* The same that the table's line of the steps calls so. */
static void plan_and_commit_are_the_schedulers_and_nothing_else(void **state)
{
    (void)state;
    qr_split s;
    request.first_ns = 50 * MS; /* the step took 20 of 25 ms */
    qr_split_ttft(&run, &request, &s);
    assert_int_equal(s.ns[QR_CAUSE_SCHEDULER], 2 * MS);
    assert_int_equal(s.ns[QR_CAUSE_OTHER], 5 * MS);
    assert_int_equal(sum_of(&s), 49 * MS);
}

static void waiting_is_split_by_the_schedulers_reasons(void **state)
{
    (void)state;
    qr_split s;
    request.wait_ns[QUIRE_WAIT_NONE]   = 50 * MS; /* running */
    request.wait_ns[QUIRE_WAIT_BLOCKS] = 3 * MS;
    request.wait_ns[QUIRE_WAIT_BUDGET] = 1 * MS;
    qr_split_ttft(&run, &request, &s);
    assert_int_equal(s.queue_ns[QUIRE_WAIT_BLOCKS], 22 * MS * 3 / 4);
    assert_int_equal(s.queue_ns[QUIRE_WAIT_BUDGET], 22 * MS / 4);
    assert_int_equal(s.ns[QR_CAUSE_QUEUE], 22 * MS);
}

static void cached_tokens_are_no_prefill_of_ones_own(void **state)
{
    (void)state;
    qr_split s;
    request.cached_tokens = 5;
    qr_split_ttft(&run, &request, &s);
    assert_int_equal(s.ns[QR_CAUSE_OWN_PREFILL], (8 + 4 + 1) * MS / 10);
    assert_int_equal(s.ns[QR_CAUSE_OTHER_PREFILL], (8 + 4 + 1) * MS * 7 / 10);
    assert_int_equal(sum_of(&s), 43 * MS);
}

static void a_gap_beside_a_prompt_is_prefill_of_others(void **state)
{
    (void)state;
    const qr_run_gap gap = {.end_ns = 44 * MS, .gap_ns = 25 * MS}; /* since 19 ms */
    qr_split         s;
    qr_split_gap(&run, &gap, &s);
    assert_int_equal(s.ns[QR_CAUSE_OTHER_PREFILL], (8 + 4 + 1) * MS * 8 / 10);
    assert_int_equal(s.ns[QR_CAUSE_OWN_PREFILL], 0);
    assert_int_equal(s.ns[QR_CAUSE_SCHEDULER], 1 * MS); /* the plan; the commit comes after the token */
    assert_int_equal(s.ns[QR_CAUSE_OTHER], 6 * MS);     /* 19 to 25 ms: no step */
    assert_int_equal(sum_of(&s), 25 * MS);
}

static void a_gap_over_steps_without_the_sequence_is_queue(void **state)
{
    (void)state;
    const qr_run_gap gap = {.end_ns = 119 * MS, .gap_ns = 75 * MS}; /* since 44 ms: steps at 50, 75, 100 */
    qr_split         s;
    qr_split_gap(&run, &gap, &s);
    assert_int_equal(s.ns[QR_CAUSE_QUEUE], 50 * MS);
    assert_int_equal(s.ns[QR_CAUSE_RECOMPUTE], 0);
    assert_int_equal(s.ns[QR_CAUSE_PROJECTIONS], 8 * MS);
    assert_int_equal(sum_of(&s), 75 * MS);
}

static void of_a_preempted_request_it_is_recompute(void **state)
{
    (void)state;
    const qr_run_gap gap = {.end_ns = 44 * MS, .gap_ns = 44 * MS}; /* steps at 0 and 25, the last with 8 prompt rows */
    qr_split         s;
    request.preemptions = 1;
    qr_split_gap(&run, &gap, &s);
    assert_int_equal(s.ns[QR_CAUSE_RECOMPUTE], 25 * MS + (8 + 4 + 1) * MS * 8 / 10);
    assert_int_equal(s.ns[QR_CAUSE_QUEUE], 0);
    assert_int_equal(sum_of(&s), 44 * MS);
}

/* As on the virtual clock. */
static void a_step_without_stages_is_shared_by_rows(void **state)
{
    (void)state;
    const qr_run_gap gap = {.end_ns = 45 * MS, .gap_ns = 20 * MS};
    qr_split         s;
    steps[1] = (quire_step){.start_ns = 25 * MS, .rows = 10, .rows_prompt = 8, .forward_ns = 20 * MS};
    qr_split_gap(&run, &gap, &s);
    assert_int_equal(s.ns[QR_CAUSE_OTHER_PREFILL], 16 * MS);
    assert_int_equal(s.ns[QR_CAUSE_PROJECTIONS], 4 * MS);
    assert_int_equal(sum_of(&s), 20 * MS);
}

static void any_latency_is_split_without_remainder(void **state)
{
    (void)state;
    for (int64_t end = -3 * MS; end < 140 * MS; end += 777 * US)
        for (int64_t length = 0; length < 60 * MS; length += 1234567) {
            const qr_run_gap gap = {.end_ns = end, .gap_ns = length};
            qr_split         s;
            qr_split_gap(&run, &gap, &s);
            assert_int_equal(sum_of(&s), length);
            request = (qr_run_request){.shape      = {.prompt_tokens = 7},
                                       .due_ns     = end - length,
                                       .submit_ns  = end - length / 2,
                                       .planned_ns = length % 2 ? -1 : end - length / 3,
                                       .first_ns   = end};
            qr_split_ttft(&run, &request, &s);
            assert_int_equal(sum_of(&s), length);
        }
}

static void a_band_is_the_mean_of_the_ranks_around_a_percentile(void **state)
{
    (void)state;
    qr_run_gap gaps[101];
    qr_band    band;
    for (int i = 0; i < 101; i++) gaps[i] = (qr_run_gap){.end_ns = 44 * MS, .gap_ns = 20 * MS + (i * 37 % 101) * US};
    run.gaps = gaps, run.gap_count = 101;
    assert_true(qr_band_of(&run, QR_LATENCY_ITL, 50, &band));
    assert_int_equal(band.samples, 11); /* ranks 45 to 55 */
    double sum = 0;
    for (int c = 0; c < QR_CAUSES; c++) sum += band.ms[c];
    assert_true(fabs(sum - 20.050) < 1e-9);
    assert_true(qr_band_of(&run, QR_LATENCY_ITL, 99, &band));
    assert_int_equal(band.samples, 1); /* rank 99 */
    double share;
    assert_int_equal(qr_band_main_cause(&band, &share), QR_CAUSE_OTHER_PREFILL);
    assert_true(fabs(share - 10.4 / 20.099) < 1e-9);
    run.gap_count = 0;
    assert_false(qr_band_of(&run, QR_LATENCY_ITL, 50, &band));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, prepare)
    const struct CMUnitTest tests[] = {
        TEST(ttft_is_generator_queue_and_the_steps_of_the_prompt),
        TEST(a_prompt_planned_within_a_step_belongs_to_that_step),
        TEST(plan_and_commit_are_the_schedulers_and_nothing_else),
        TEST(waiting_is_split_by_the_schedulers_reasons),
        TEST(cached_tokens_are_no_prefill_of_ones_own),
        TEST(a_gap_beside_a_prompt_is_prefill_of_others),
        TEST(a_gap_over_steps_without_the_sequence_is_queue),
        TEST(of_a_preempted_request_it_is_recompute),
        TEST(a_step_without_stages_is_shared_by_rows),
        TEST(any_latency_is_split_without_remainder),
        TEST(a_band_is_the_mean_of_the_ranks_around_a_percentile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
