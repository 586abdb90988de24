/* Who gives blocks back, in which order, and what it keeps; the tables are the golden ones of docs/CACHE.md (V8 to
 * V10). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scheduler/state.h"
#include "support/scheduler_driver.h"

static driver d;

static void v8_a_tail_block_is_taken_from_the_junior_and_v9_it_comes_back(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    const quire_request_id a = driver_submit(&d, driver_request_of(13), 11, 1, NULL);
    const quire_request_id b = driver_submit(&d, driver_request_of(10), 8, 2, NULL);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->row_count, 11);
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 8);
    ASSERT_TABLE(&d, a, 0, 0, 1, 2);
    ASSERT_TABLE(&d, b, 0, 3, 4);
    driver_commit(&d);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->row_count, 1);
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 1);
    ASSERT_TABLE(&d, a, 0, 0, 1, 2);
    ASSERT_TABLE(&d, b, 0, 3, 4, 5);
    driver_commit(&d);
    driver_plan(&d);
    assert_int_equal(d.plan->rows, 1);
    assert_int_equal(d.plan->preempted, 1);
    ASSERT_TABLE(&d, a, 0, 0, 1, 2, 5);
    ASSERT_TABLE(&d, b, 0, 3, 4);
    assert_int_equal(driver_view(&d, b, 0).state, QR_SEQUENCE_PREEMPTED);
    assert_int_equal(driver_view(&d, b, 0).computed, 8);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BLOCKS);
    const uint64_t preempted_ns = d.now_ns;
    driver_commit(&d);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, a, d.now_ns), QUIRE_OK);
    driver_plan(&d);
    const uint64_t planned_ns = d.now_ns;
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 2);
    ASSERT_TABLE(&d, b, 0, 3, 4, 5);
    driver_commit(&d);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, b)->streams[0].count, 10);
    const quire_finish_detail *detail = &driver_find(&d, b)->streams[0].detail;
    assert_int_equal(detail->preemptions, 1);
    assert_int_equal(detail->preemption_intervals[0].from_ns, preempted_ns);
    assert_int_equal(detail->preemption_intervals[0].to_ns, planned_ns);
    assert_int_equal(detail->preemption_intervals[1].from_ns, 0);
    driver_stop(&d);
}

static void v10_two_prompts_of_12_tokens_trade_one_block(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    const quire_request_id a = driver_submit(&d, driver_request_of(4), 12, 1, NULL);
    const quire_request_id b = driver_submit(&d, driver_request_of(4), 12, 2, NULL);
    driver_plan(&d);
    ASSERT_TABLE(&d, a, 0, 0, 1, 2);
    ASSERT_TABLE(&d, b, 0, 3, 4, 5);
    driver_commit(&d);
    driver_plan(&d);
    ASSERT_TABLE(&d, a, 0, 0, 1, 2, 5);
    ASSERT_TABLE(&d, b, 0, 3, 4);
    assert_int_equal(driver_view(&d, b, 0).state, QR_SEQUENCE_PREEMPTED);
    driver_commit(&d);
    qr_scheduler_cancel(d.scheduler, a, d.now_ns);
    driver_plan(&d);
    ASSERT_TABLE(&d, b, 0, 3, 4, 5, 2);
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 5);
    driver_commit(&d);
    driver_run(&d, 100);
    driver_stop(&d);
}

static void the_most_junior_loses_blocks_first(void **state)
{
    (void)state;
    driver_start_blocks(&d, 9);
    const quire_request_id a = driver_submit(&d, driver_request_of(12), 12, 1, NULL);
    const quire_request_id b = driver_submit(&d, driver_request_of(12), 11, 2, NULL);
    const quire_request_id c = driver_submit(&d, driver_request_of(12), 9, 3, NULL);
    driver_step(&d);
    driver_step(&d); /* a takes a tenth block: there are nine */
    assert_int_equal(driver_view(&d, a, 0).state, QR_SEQUENCE_RUNNING);
    assert_int_equal(driver_view(&d, b, 0).state, QR_SEQUENCE_RUNNING);
    assert_int_equal(driver_view(&d, c, 0).state, QR_SEQUENCE_PREEMPTED);
    assert_int_equal(driver_view(&d, c, 0).block_count, 2);
    driver_run(&d, 200);
    driver_stop(&d);
}

static void a_preemption_ends_when_the_sequence_runs_again_and_not_later(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    quire_request_id       senior;
    const quire_request_id id           = driver_preempt(&d, &senior);
    const uint64_t         preempted_ns = d.now_ns - 1000; /* planned in the last step, which then committed */
    qr_scheduler_cancel(d.scheduler, senior, d.now_ns);
    qr_scheduler_pause(d.scheduler, id, d.now_ns);
    driver_step(&d);
    qr_scheduler_resume(d.scheduler, id, d.now_ns); /* paused meanwhile: it still has not run */
    driver_plan(&d);
    const uint64_t again_ns = d.now_ns;
    driver_commit(&d);
    d.poison = id;
    driver_step(&d); /* the step fails: it is put back, which is no preemption of the scheduler's */
    d.poison = 0;
    driver_run(&d, 100);
    const quire_finish_detail *detail = &driver_find(&d, id)->streams[0].detail;
    assert_int_equal(detail->preemptions, 1);
    assert_int_equal(detail->preemption_intervals[0].from_ns, preempted_ns);
    assert_int_equal(detail->preemption_intervals[0].to_ns, again_ns);
    driver_stop(&d);
}

static void a_preempted_sequence_comes_back_and_repeats_nothing(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    quire_request_id       senior;
    const quire_request_id id = driver_preempt(&d, &senior);
    driver_run(&d, 100); /* the driver compares each token and its index */
    assert_int_equal(driver_find(&d, id)->streams[0].count, 10);
    assert_true(driver_stats(&d).tokens_recomputed > 0);
    driver_stop_empty(&d);
}

static void recompute_mode_takes_every_block_of_a_victim(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(6, 4);
    options.preemption_mode      = QUIRE_PREEMPTION_RECOMPUTE;
    driver_start(&d, &options);
    quire_request_id       senior;
    const quire_request_id id = driver_preempt(&d, &senior);
    assert_int_equal(driver_view(&d, id, 0).block_count, 0); /* tail mode leaves it 2 of 3 */
    assert_int_equal(driver_view(&d, id, 0).computed, 0);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, id)->streams[0].count, 10);
    assert_int_equal(driver_find(&d, senior)->streams[0].count, 13);
    driver_stop_empty(&d);
}

static void a_paused_sequence_is_the_first_to_lose_blocks_and_may_be_cancelled(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    const quire_request_id old = driver_running(&d, 10, 11, 1);
    qr_scheduler_pause(d.scheduler, old, d.now_ns);
    const quire_request_id young = driver_running(&d, 10, 10, 2); /* junior, but the other one is paused */
    for (uint32_t i = 0; i < 6; i++) driver_step(&d);
    assert_int_equal(driver_view(&d, young, 0).state, QR_SEQUENCE_RUNNING);
    assert_int_equal(driver_view(&d, young, 0).block_count, 4);
    assert_int_equal(driver_view(&d, old, 0).block_count, 2);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, old, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    driver_assert_cancelled(&d, old, 1);
    qr_scheduler_cancel(d.scheduler, young, d.now_ns);
    driver_take_events(&d);
    driver_stop_empty(&d);
}

static void the_tenant_that_was_served_most_gives_first(void **state)
{
    (void)state;
    for (uint32_t fair = 0; fair < 2; fair++) {
        qr_scheduler_options options = driver_options(9, 4);
        options.tenant_fairness      = fair;
        driver_start(&d, &options);
        driver_submit_new(&d, 12, 12); /* will need a fourth block; there are nine */
        const quire_request_id served = driver_submit_for(&d, "served", 11, 12);
        const quire_request_id junior = driver_submit_for(&d, "junior", 9, 12);
        driver_step(&d);
        d.scheduler->tenants[qr_tenant_find(d.scheduler, "served")].counter += 100ULL << QR_COUNTER_BITS;
        driver_step(&d);
        assert_int_equal(driver_view(&d, served, 0).state, fair ? QR_SEQUENCE_PREEMPTED : QR_SEQUENCE_RUNNING);
        assert_int_equal(driver_view(&d, junior, 0).state, fair ? QR_SEQUENCE_RUNNING : QR_SEQUENCE_PREEMPTED);
        driver_finish(&d);
    }
}

static void own_blocks_are_those_that_nobody_else_names(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_caching_options(32);
    driver_start(&d, &options);
    driver_running(&d, 20, 16, 1); /* 4 full blocks and, with its first token, a fifth later */
    driver_running(&d, 20, 16, 1); /* 3 of its 4 are hits */
    const uint32_t first = d.scheduler->running.head, second = d.scheduler->running.tail;
    assert_int_equal(qr_group_own_blocks(d.scheduler, second, 100), d.scheduler->sequences[second].self.count - 3);
    assert_int_equal(qr_group_own_blocks(d.scheduler, first, 100), d.scheduler->sequences[first].self.count - 3);
    assert_int_equal(qr_group_own_blocks(d.scheduler, first, 1), 1); /* counts no further than asked */
    driver_finish(&d);
}

static void windowed_sequences_under_shortage_give_up_all_and_come_back(void **state)
{
    (void)state;
    qr_scheduler_options options  = driver_options(6, 4);
    options.window                = 12;
    options.enable_prefix_caching = false;
    driver_start(&d, &options);
    quire_request_id ids[4];
    for (uint32_t i = 0; i < 4; i++) ids[i] = driver_submit(&d, driver_request_of(30), 9 + i, i, NULL);
    driver_run(&d, 1000);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(driver_find(&d, ids[i])->streams[0].count, 30);
    assert_true(driver_stats(&d).preemptions > 0);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v8_a_tail_block_is_taken_from_the_junior_and_v9_it_comes_back),
        cmocka_unit_test(v10_two_prompts_of_12_tokens_trade_one_block),
        cmocka_unit_test(the_most_junior_loses_blocks_first),
        cmocka_unit_test(a_preemption_ends_when_the_sequence_runs_again_and_not_later),
        cmocka_unit_test(a_preempted_sequence_comes_back_and_repeats_nothing),
        cmocka_unit_test(recompute_mode_takes_every_block_of_a_victim),
        cmocka_unit_test(a_paused_sequence_is_the_first_to_lose_blocks_and_may_be_cancelled),
        cmocka_unit_test(the_tenant_that_was_served_most_gives_first),
        cmocka_unit_test(own_blocks_are_those_that_nobody_else_names),
        cmocka_unit_test(windowed_sequences_under_shortage_give_up_all_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
