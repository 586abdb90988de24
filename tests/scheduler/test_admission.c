/* Who is admitted, who is refused and for what reason, who may be passed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void a_new_request_waits_for_its_turn_until_it_is_planned(void **state)
{
    (void)state;
    driver_start_blocks(&d, 32);
    const quire_request_id a = driver_submit_new(&d, 4, 4);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_ORDER);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_NONE);
    driver_commit(&d);
    driver_finish(&d);
}

static void a_request_that_needs_more_slots_than_are_free_waits_and_is_passed_once(void **state)
{
    (void)state;
    driver_start_blocks(&d, 32);
    quire_request request = driver_request_of(4);
    request.n             = 4;
    driver_submit_new(&d, 4, 8), driver_submit_new(&d, 4, 8);
    const quire_request_id wide = driver_submit(&d, request, 4, 9, NULL), narrow = driver_submit_new(&d, 4, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, wide), QUIRE_WAIT_SEQUENCES);
    assert_int_equal(driver_reason(&d, narrow), QUIRE_WAIT_NONE); /* passed it, once */
    assert_int_equal(driver_stats(&d).head_passes, 1);
    driver_commit(&d);
    driver_finish(&d);
}

static void a_request_waits_for_the_row_budget(void **state)
{
    (void)state;
    driver_start_blocks(&d, 64);
    driver_submit_new(&d, 32, 4);
    const quire_request_id b = driver_submit_new(&d, 4, 4);
    driver_plan(&d);
    assert_int_equal(d.plan->rows, 32);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BUDGET);
    driver_commit(&d);
    driver_finish(&d);
}

static void without_chunked_prefill_a_prompt_waits_for_a_step_that_holds_it(void **state)
{
    (void)state;
    qr_scheduler_options options   = driver_options(100, 4);
    options.enable_chunked_prefill = false;
    options.max_num_batched_tokens = 128;
    driver_start(&d, &options);
    const quire_request_id a = driver_submit_new(&d, 100, 4), b = driver_submit_new(&d, 40, 4);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->row_count, 100);
    assert_null(driver_entry(&d, b, 0));
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BUDGET);
    driver_commit(&d);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 40);
    driver_commit(&d);
    driver_finish(&d);
}

static void a_second_unfinished_prompt_waits_and_a_short_one_passes_it(void **state)
{
    (void)state;
    qr_scheduler_options options         = driver_options(100, 4);
    options.long_prefill_token_threshold = 16;
    driver_start(&d, &options);
    const quire_request_id a = driver_submit_new(&d, 60, 4), b = driver_submit_new(&d, 60, 4),
                           c = driver_submit_new(&d, 10, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_PARTIAL);
    assert_int_equal(driver_entry(&d, c, 0)->row_count, 10); /* ends in the step: does not count */
    assert_int_equal(driver_entry(&d, a, 0)->row_count, 22); /* clamped to 16, then what nobody took */
    driver_commit(&d);
    driver_finish(&d);
}

static void a_second_long_prompt_waits_while_short_ones_may_start(void **state)
{
    (void)state;
    qr_scheduler_options options         = driver_options(200, 4);
    options.long_prefill_token_threshold = 12;
    options.max_num_partial_prefills     = 3;
    driver_start(&d, &options);
    const quire_request_id a = driver_submit_new(&d, 60, 4), b = driver_submit_new(&d, 60, 4);
    driver_plan(&d);
    assert_non_null(driver_entry(&d, a, 0));
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_PARTIAL);
    driver_commit(&d);
    driver_finish(&d);
}

static void a_request_without_blocks_says_how_many_are_missing(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    driver_submit_new(&d, 15, 2);
    const quire_request_id b = driver_submit_new(&d, 13, 2);
    quire_explanation      why;
    driver_plan(&d);
    assert_int_equal(qr_scheduler_explain(d.scheduler, b, d.now_ns, &why), QUIRE_OK);
    assert_int_equal(why.reason, QUIRE_WAIT_BLOCKS);
    assert_int_equal(why.missing_blocks, 2); /* 4 and 4 of 6 */
    driver_commit(&d);
    driver_finish(&d);
}

static void a_request_that_would_use_the_watermark_waits(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(10, 4);
    options.watermark            = 0.2f;
    driver_start(&d, &options);
    driver_submit_new(&d, 15, 3);
    const quire_request_id b = driver_submit_new(&d, 17, 2); /* 4 + 5, and 2 are to be left */
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_WATERMARK);
    driver_commit(&d);
    driver_finish(&d);
}

static void after_max_head_passes_nobody_passes_the_head(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(8, 4);
    options.max_head_passes      = 1;
    driver_start(&d, &options);
    driver_submit_new(&d, 11, 8);
    const quire_request_id b = driver_submit_new(&d, 26, 2), c = driver_submit_new(&d, 4, 1),
                           e = driver_submit_new(&d, 4, 1);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BLOCKS);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_NONE);
    assert_int_equal(driver_reason(&d, e), QUIRE_WAIT_HEAD);
    driver_commit(&d);
    driver_finish(&d);
}

static void nobody_passes_a_preempted_sequence(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    driver_submit_new(&d, 11, 13);
    const quire_request_id b = driver_submit_new(&d, 8, 10);
    for (uint32_t i = 0; i < 3; i++) driver_step(&d);
    assert_int_equal(driver_view(&d, b, 0).state, QR_SEQUENCE_PREEMPTED);
    qr_scheduler_pause(d.scheduler, b, d.now_ns), qr_scheduler_resume(d.scheduler, b, d.now_ns);
    const quire_request_id c = driver_submit_new(&d, 1, 1);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BLOCKS);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_HEAD);
    driver_commit(&d);
    driver_finish(&d);
}

static void a_preempted_sequence_comes_back_when_each_running_one_could_take_a_block_more(void **state)
{
    (void)state;
    driver_start_blocks(&d, 9);
    const quire_request_id victim = driver_running(&d, 20, 6, 1); /* 2 blocks */
    driver_running(&d, 8, 10, 2), driver_running(&d, 8, 10, 3);   /* 3 blocks each, with room for two tokens */
    qr_scheduler_pause(d.scheduler, victim, d.now_ns);
    qr_scheduler_resume(d.scheduler, victim, d.now_ns); /* PREEMPTED: it keeps its blocks, and one is free */
    driver_plan(&d);
    assert_int_equal(driver_view(&d, victim, 0).state, QR_SEQUENCE_PREEMPTED); /* needs 0, two are to be left */
    assert_int_equal(driver_reason(&d, victim), QUIRE_WAIT_WATERMARK);
    driver_commit(&d);
    driver_finish(&d);
}

static void refused_candidates_are_back_in_their_queue_after_the_plan(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    driver_running(&d, 4, 15, 1);
    for (uint32_t i = 0; i < 3; i++) driver_submit_new(&d, 13, 2);
    for (uint32_t i = 0; i < 2; i++) {
        driver_plan(&d); /* the check after it counts the queue */
        assert_int_equal(driver_stats(&d).waiting, 3);
        driver_commit(&d);
    }
    driver_finish(&d);
}

static void a_request_over_its_tenants_quota_waits_and_others_pass_it(void **state)
{
    (void)state;
    const quire_tenant_options tenants[] = {{.name = "a", .max_num_seqs = 1}, {.name = "b", .max_kv_fraction = 0.2f}};
    qr_scheduler_options       options   = driver_options(20, 4);
    options.tenants = tenants, options.tenant_count = 2;
    driver_start(&d, &options);
    driver_submit_for(&d, "a", 4, 4);
    const quire_request_id a = driver_submit_for(&d, "a", 4, 4);
    driver_submit_for(&d, "b", 9, 4);
    const quire_request_id b = driver_submit_for(&d, "b", 9, 4), c = driver_submit_for(&d, "c", 4, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_QUOTA);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_QUOTA);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_NONE);
    driver_commit(&d);
    driver_finish(&d);
}

static void promises_of_no_evict_are_kept(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(12, 4);
    options.capacity_policy      = QUIRE_CAPACITY_GUARANTEED_NO_EVICT;
    driver_start(&d, &options);
    for (uint32_t i = 0; i < 12; i++) driver_submit_priority(&d, 0, 5 + i % 7, 6 + i % 9);
    driver_run(&d, 300);
    assert_int_equal(driver_stats(&d).preemptions, 0);
    assert_int_equal(driver_stats(&d).tokens_recomputed, 0);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_request_waits_for_its_turn_until_it_is_planned),
        cmocka_unit_test(a_request_that_needs_more_slots_than_are_free_waits_and_is_passed_once),
        cmocka_unit_test(a_request_waits_for_the_row_budget),
        cmocka_unit_test(without_chunked_prefill_a_prompt_waits_for_a_step_that_holds_it),
        cmocka_unit_test(a_second_unfinished_prompt_waits_and_a_short_one_passes_it),
        cmocka_unit_test(a_second_long_prompt_waits_while_short_ones_may_start),
        cmocka_unit_test(a_request_without_blocks_says_how_many_are_missing),
        cmocka_unit_test(a_request_that_would_use_the_watermark_waits),
        cmocka_unit_test(after_max_head_passes_nobody_passes_the_head),
        cmocka_unit_test(nobody_passes_a_preempted_sequence),
        cmocka_unit_test(a_preempted_sequence_comes_back_when_each_running_one_could_take_a_block_more),
        cmocka_unit_test(refused_candidates_are_back_in_their_queue_after_the_plan),
        cmocka_unit_test(a_request_over_its_tenants_quota_waits_and_others_pass_it),
        cmocka_unit_test(promises_of_no_evict_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
