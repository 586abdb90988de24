/* The rows of a step: prompts in chunks, decodes that never wait for them, forks that share their prompt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void a_long_prompt_runs_in_chunks_and_decodes_go_on_beside_it(void **state)
{
    (void)state;
    driver_start_blocks(&d, 64);
    const quire_request_id a = driver_submit(&d, driver_request_of(20), 3, 1, NULL);
    driver_step(&d);
    const quire_request_id b     = driver_submit(&d, driver_request_of(4), 100, 2, NULL);
    uint32_t               steps = 0;
    for (; driver_find(&d, b)->streams[0].count == 0; steps++) {
        driver_plan(&d);
        assert_int_equal(driver_entry(&d, a, 0)->row_count, 1);
        assert_true(d.plan->rows <= 32);
        driver_commit(&d);
    }
    assert_int_equal(steps, 4); /* 31 + 31 + 31 + 7 */
    driver_run(&d, 100);
    driver_stop(&d);
}

static void decodes_keep_their_rows_beside_a_senior_prompt(void **state)
{
    (void)state;
    qr_scheduler_options options   = driver_options(100, 4);
    options.max_num_batched_tokens = 8;
    driver_start(&d, &options);
    const quire_request_id prompt = driver_submit(&d, driver_request_of(4), 90, 1, NULL);
    quire_request_id       others[3];
    qr_scheduler_pause(d.scheduler, prompt, d.now_ns);
    driver_step(&d);
    qr_scheduler_pause(d.scheduler, prompt, d.now_ns);
    for (uint32_t i = 0; i < 3; i++) others[i] = driver_submit(&d, driver_request_of(40), 2, 2 + i, NULL);
    driver_step(&d);
    qr_scheduler_resume(d.scheduler, prompt, d.now_ns);
    for (uint32_t step = 0; step < 10; step++) {
        driver_plan(&d);
        for (uint32_t i = 0; i < 3; i++) assert_int_equal(driver_entry(&d, others[i], 0)->row_count, 1);
        assert_int_equal(driver_entry(&d, prompt, 0)->row_count, 5);
        if (step > 0) assert_int_equal(driver_entry(&d, prompt, 0)->row_start, 0); /* it is the senior */
        driver_commit(&d);
    }
    driver_run(&d, 200);
    driver_stop(&d);
}

static void a_prompt_gets_the_rows_that_decodes_leave(void **state)
{
    (void)state;
    qr_scheduler_options options   = driver_options(64, 4);
    options.max_num_seqs           = 3;
    options.max_num_batched_tokens = 4;
    driver_start(&d, &options);
    quire_request request = driver_request_of(10);
    request.n             = 2;
    driver_submit(&d, request, 4, 1, NULL);
    driver_step(&d);
    const quire_request_id b = driver_submit_new(&d, 9, 4);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 2); /* the decodes' rows were set aside */
    driver_commit(&d);
    driver_finish(&d);
}

static void an_empty_plan_needs_no_commit_and_changes_no_decision(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    const uint64_t hash = qr_scheduler_decision_hash(d.scheduler);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(driver_plan(&d)->rows, 0);
        assert_int_equal(driver_stats(&d).steps, 0);
    }
    assert_true(qr_scheduler_decision_hash(d.scheduler) == hash);
    driver_stop_empty(&d);
}

static void when_nothing_fits_the_most_senior_takes_what_it_needs(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    quire_request_id       senior;
    const quire_request_id junior = driver_preempt(&d, &senior); /* holds 2 of 6 blocks */
    qr_scheduler_pause(d.scheduler, senior, d.now_ns);           /* holds 4 */
    qr_scheduler_pause(d.scheduler, junior, d.now_ns);
    const quire_request_id third = driver_submit_new(&d, 23, 1);
    driver_plan(&d);
    assert_non_null(driver_entry(&d, third, 0)); /* all that live are PAUSED, and give everything */
    assert_true(driver_stats(&d).forced_progress > 0);
    driver_commit(&d);
    qr_scheduler_resume(d.scheduler, senior, d.now_ns), qr_scheduler_resume(d.scheduler, junior, d.now_ns);
    driver_finish(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_runs_in_chunks_and_decodes_go_on_beside_it),
        cmocka_unit_test(decodes_keep_their_rows_beside_a_senior_prompt),
        cmocka_unit_test(a_prompt_gets_the_rows_that_decodes_leave),
        cmocka_unit_test(an_empty_plan_needs_no_commit_and_changes_no_decision),
        cmocka_unit_test(when_nothing_fits_the_most_senior_takes_what_it_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
