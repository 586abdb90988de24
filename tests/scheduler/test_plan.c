/* The step: rows, blocks, preemption, and the golden tables of docs/CACHE.md (V8 to V11). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static void assert_table(const driver *d, quire_request_id id, uint32_t index, uint32_t count, const uint32_t *blocks)
{
    const qr_sequence_view view = driver_view(d, id, index);
    assert_int_equal(view.block_count, count);
    assert_memory_equal(view.blocks, blocks, count * sizeof *blocks);
}
#define ASSERT_TABLE(d, id, index, ...)                                                                                \
    assert_table(d, id, index, sizeof((uint32_t[]){__VA_ARGS__}) / 4, (uint32_t[]){__VA_ARGS__})

static void v8_a_tail_block_is_taken_from_the_junior_and_v9_it_comes_back(void **state)
{
    (void)state;
    driver                     d;
    const qr_scheduler_options options = driver_options(6, 4);
    driver_start(&d, &options);
    const quire_request_id a = driver_submit(&d, driver_request_of(13), 11, 1, NULL);
    const quire_request_id b = driver_submit(&d, driver_request_of(10), 8, 2, NULL);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->rows, 11);
    assert_int_equal(driver_entry(&d, b, 0)->rows, 8);
    ASSERT_TABLE(&d, a, 0, 0, 1, 2);
    ASSERT_TABLE(&d, b, 0, 3, 4);
    driver_commit(&d);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->rows, 1);
    assert_int_equal(driver_entry(&d, b, 0)->rows, 1);
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
    assert_int_equal(driver_entry(&d, b, 0)->rows, 2);
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

static void v10_two_prompts_of_12(void **state)
{
    (void)state;
    driver                     d;
    const qr_scheduler_options options = driver_options(6, 4);
    driver_start(&d, &options);
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
    assert_int_equal(driver_entry(&d, b, 0)->rows, 5);
    driver_commit(&d);
    driver_run(&d, 100);
    driver_stop(&d);
}

static void v11_five_sequences_of_one_prompt_share_it_and_copy_the_tail(void **state)
{
    (void)state;
    driver                     d;
    const qr_scheduler_options options = driver_options(8, 4);
    driver_start(&d, &options);
    quire_request request    = driver_request_of(4);
    request.n                = 5;
    const quire_request_id a = driver_submit(&d, request, 5, 1, NULL);
    driver_plan(&d);
    ASSERT_TABLE(&d, a, 0, 0, 1);
    assert_int_equal(d.plan->sample_count, 5);
    driver_commit(&d);
    driver_plan(&d);
    assert_int_equal(d.plan->copy_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const qr_plan_copy copy = d.plan->copies[i];
        assert_true(copy.from == 1 && copy.to == 2 + i && copy.slots == 1);
        ASSERT_TABLE(&d, a, i, 0, 2 + i);
    }
    ASSERT_TABLE(&d, a, 4, 0, 1);
    quire_stats stats = driver_stats(&d);
    assert_int_equal(stats.blocks_free, 2);
    assert_int_equal(stats.forks, 4);
    driver_commit(&d);
    driver_run(&d, 100);
    for (uint32_t i = 0; i < 5; i++) assert_int_equal(driver_find(&d, a)->streams[i].count, 4);
    driver_stop(&d);
}

static void a_long_prompt_is_cut_and_decodes_go_on_beside_it(void **state)
{
    (void)state;
    driver                     d;
    const qr_scheduler_options options = driver_options(64, 4);
    driver_start(&d, &options);
    const quire_request_id a = driver_submit(&d, driver_request_of(20), 3, 1, NULL);
    driver_step(&d);
    const quire_request_id b     = driver_submit(&d, driver_request_of(4), 100, 2, NULL);
    uint32_t               steps = 0;
    for (; driver_find(&d, b)->streams[0].count == 0; steps++) {
        driver_plan(&d);
        assert_int_equal(driver_entry(&d, a, 0)->rows, 1);
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
    driver               d;
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
        for (uint32_t i = 0; i < 3; i++) assert_int_equal(driver_entry(&d, others[i], 0)->rows, 1);
        assert_int_equal(driver_entry(&d, prompt, 0)->rows, 5);
        if (step > 0) assert_int_equal(driver_entry(&d, prompt, 0)->row_start, 0); /* it is the senior */
        driver_commit(&d);
    }
    driver_run(&d, 200);
    driver_stop(&d);
}

static void the_most_junior_loses_blocks_first(void **state)
{
    (void)state;
    driver                     d;
    const qr_scheduler_options options = driver_options(9, 4);
    driver_start(&d, &options);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v8_a_tail_block_is_taken_from_the_junior_and_v9_it_comes_back),
        cmocka_unit_test(v10_two_prompts_of_12),
        cmocka_unit_test(v11_five_sequences_of_one_prompt_share_it_and_copy_the_tail),
        cmocka_unit_test(a_long_prompt_is_cut_and_decodes_go_on_beside_it),
        cmocka_unit_test(decodes_keep_their_rows_beside_a_senior_prompt),
        cmocka_unit_test(the_most_junior_loses_blocks_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
