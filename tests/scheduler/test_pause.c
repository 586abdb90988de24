/* Pause and resume: a slow reader costs its request the slot, not the blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void a_paused_sequence_keeps_its_blocks_and_gives_up_its_slot(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    const quire_request_id id     = driver_running(&d, 20, 6, 1);
    const uint32_t         blocks = driver_view(&d, id, 0).block_count;
    assert_int_equal(qr_scheduler_pause(d.scheduler, id, d.now_ns), QUIRE_OK);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_PAUSED);
    assert_int_equal(driver_view(&d, id, 0).block_count, blocks);
    assert_int_equal(driver_stats(&d).running, 0);
    assert_int_equal(driver_reason(&d, id), QUIRE_WAIT_READER);
    assert_false(driver_step(&d));
    assert_int_equal(qr_scheduler_resume(d.scheduler, id, d.now_ns), QUIRE_OK);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_PREEMPTED);
    driver_step(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    driver_run(&d, 100);
    assert_int_equal(driver_stats(&d).tokens_recomputed, 0);
    driver_stop_empty(&d);
}

static void a_pause_in_flight_takes_effect_after_the_step(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    quire_request request     = driver_request_of(5);
    request.n                 = 3;
    const quire_request_id id = driver_submit(&d, request, 6, 1, NULL);
    driver_plan(&d);
    assert_int_equal(qr_scheduler_pause(d.scheduler, id, d.now_ns), QUIRE_OK);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    driver_commit(&d);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(driver_find(&d, id)->streams[i].count, 1);
        assert_int_equal(driver_view(&d, id, i).state, QR_SEQUENCE_PAUSED);
    }
    assert_false(driver_step(&d));
    qr_scheduler_resume(d.scheduler, id, d.now_ns);
    driver_run(&d, 100);
    driver_stop_empty(&d);
}

static void a_resume_in_flight_takes_the_pause_back(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    const quire_request_id id = driver_running(&d, 5, 6, 1);
    driver_plan(&d);
    assert_int_equal(qr_scheduler_pause(d.scheduler, id, d.now_ns), QUIRE_OK);
    assert_int_equal(qr_scheduler_resume(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_commit(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    driver_run(&d, 100);
    driver_stop_empty(&d);
}

static void pausing_an_unknown_request_is_not_found(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    assert_int_equal(qr_scheduler_pause(d.scheduler, 7, d.now_ns), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(qr_scheduler_resume(d.scheduler, 7, d.now_ns), QUIRE_ERR_NOT_FOUND);
    driver_stop_empty(&d);
}

static void a_paused_request_waits_for_its_reader(void **state)
{
    (void)state;
    driver_start_blocks(&d, 60);
    const quire_request_id a = driver_submit_new(&d, 4, 8);
    driver_step(&d);
    qr_scheduler_pause(d.scheduler, a, d.now_ns);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_READER);
    qr_scheduler_resume(d.scheduler, a, d.now_ns);
    driver_finish(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_paused_sequence_keeps_its_blocks_and_gives_up_its_slot),
        cmocka_unit_test(a_pause_in_flight_takes_effect_after_the_step),
        cmocka_unit_test(a_resume_in_flight_takes_the_pause_back),
        cmocka_unit_test(pausing_an_unknown_request_is_not_found),
        cmocka_unit_test(a_paused_request_waits_for_its_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
