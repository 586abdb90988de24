/* How a request ends: cancelled in each state, past a deadline, given up from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void a_request_is_cancelled_while_queued(void **state)
{
    (void)state;
    driver_start_blocks(&d, 8);
    quire_request request     = driver_request_of(2);
    request.n                 = 3;
    const quire_request_id id = driver_submit(&d, request, 6, 1, NULL);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(driver_find(&d, id)->streams[i].finish, QUIRE_FINISH_CANCELLED);
    driver_assert_cancelled(&d, id, 0);
    driver_stop_empty(&d);
}

static void a_request_is_cancelled_while_running(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    const quire_request_id id = driver_running(&d, 20, 6, 1), other = driver_running(&d, 20, 7, 2);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    driver_check(&d);
    driver_assert_cancelled(&d, id, 2);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, other)->streams[0].count, 20);
    driver_stop_empty(&d);
}

static void a_request_cancelled_in_flight_keeps_its_blocks_until_commit(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    const quire_request_id id = driver_running(&d, 20, 6, 1), other = driver_running(&d, 20, 7, 2);
    driver_plan(&d);
    const uint64_t used = driver_stats(&d).blocks_used;
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_check(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RETIRING);
    assert_int_equal(driver_stats(&d).blocks_used, used);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_ERR_NOT_FOUND);
    driver_take_events(&d);
    driver_commit(&d);
    driver_assert_cancelled(&d, id, 2);
    assert_true(driver_stats(&d).blocks_used < used);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, other)->streams[0].count, 20);
    driver_stop_empty(&d);
}

static void a_prompt_cancelled_in_flight_leaves_nothing_in_the_prefix_index(void **state)
{
    (void)state;
    qr_scheduler_options options  = driver_options(16, 4);
    options.enable_prefix_caching = true;
    driver_start(&d, &options);
    const quire_request_id id = driver_submit(&d, driver_request_of(2), 12, 1, NULL);
    driver_plan(&d);
    qr_scheduler_cancel(d.scheduler, id, d.now_ns);
    driver_commit(&d);
    assert_int_equal(driver_stats(&d).blocks_cached, 0);
    driver_stop_empty(&d);
}

static void a_request_is_cancelled_while_preempted(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    quire_request_id       senior;
    const quire_request_id id     = driver_preempt(&d, &senior);
    const uint32_t         tokens = driver_find(&d, id)->streams[0].count;
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    driver_assert_cancelled(&d, id, tokens);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, senior)->streams[0].count, 13);
    driver_stop_empty(&d);
}

static void deadlines_end_what_waits_and_what_runs(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(32, 4);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    quire_request request    = driver_request_of(50);
    request.queue_timeout_ns = 10000;
    const quire_request_id a = driver_submit(&d, request, 5, 1, NULL); /* admitted at once: no longer bound by it */
    const quire_request_id b = driver_submit(&d, request, 5, 2, NULL);
    request.queue_timeout_ns = 0, request.timeout_ns = 30000;
    const quire_request_id c = driver_submit(&d, request, 5, 3, NULL);
    for (uint32_t i = 0; i < 10; i++) driver_step(&d);
    assert_int_equal(driver_find(&d, b)->streams[0].finish, QUIRE_FINISH_TIMEOUT);
    assert_int_equal(driver_find(&d, c)->streams[0].ends, 0);
    qr_scheduler_cancel(d.scheduler, a, d.now_ns);
    for (uint32_t i = 0; i < 10; i++) driver_step(&d);
    assert_int_equal(driver_find(&d, c)->streams[0].finish, QUIRE_FINISH_TIMEOUT);
    assert_true(driver_find(&d, c)->streams[0].count > 0);
    driver_take_events(&d);
    driver_stop_empty(&d);
}

static void a_request_failed_from_outside_ends_with_that_status(void **state)
{
    (void)state;
    driver_start_blocks(&d, 100);
    const quire_request_id id = driver_submit_priority(&d, 0, 4, 10);
    driver_step(&d);
    qr_scheduler_fail(d.scheduler, id, QUIRE_ERR_FULL, d.now_ns);
    driver_take_events(&d);
    assert_int_equal(driver_find(&d, id)->streams[0].finish, QUIRE_FINISH_ERROR);
    assert_int_equal(driver_find(&d, id)->streams[0].status, QUIRE_ERR_FULL);
    assert_int_equal(driver_stats(&d).blocks_used, 0);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_cancelled_while_queued),
        cmocka_unit_test(a_request_is_cancelled_while_running),
        cmocka_unit_test(a_request_cancelled_in_flight_keeps_its_blocks_until_commit),
        cmocka_unit_test(a_prompt_cancelled_in_flight_leaves_nothing_in_the_prefix_index),
        cmocka_unit_test(a_request_is_cancelled_while_preempted),
        cmocka_unit_test(deadlines_end_what_waits_and_what_runs),
        cmocka_unit_test(a_request_failed_from_outside_ends_with_that_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
