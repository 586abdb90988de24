/* A failed step counts for nobody; its members run in halves until the one that fails alone is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scheduler/state.h"
#include "support/scheduler_driver.h"

static driver d;

static void the_half_that_may_not_run_waits_for_the_fault(void **state)
{
    (void)state;
    driver_start_blocks(&d, 60);
    const quire_request_id a = driver_submit_new(&d, 4, 8), b = driver_submit_new(&d, 4, 8);
    driver_step(&d);
    d.poison = b;
    driver_step(&d);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_FAULT);
    driver_plan(&d);
    assert_int_equal(d.plan->sequence_count, 1);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_NONE);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_FAULT);
    driver_commit(&d);
    driver_finish(&d);
}

static void the_groups_of_a_failed_step_run_in_halves(void **state)
{
    (void)state;
    driver_start_blocks(&d, 100);
    for (uint32_t i = 0; i < 5; i++) driver_submit_new(&d, 4, 20);
    driver_step(&d);
    d.poison                    = 5;
    static const uint32_t ran[] = {5, 3, 2, 1, 1}; /* all; the half that is clean; the other; one of its; the cause */
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(driver_plan(&d)->sequence_count, ran[i]);
        driver_commit(&d);
    }
    assert_int_equal(driver_find(&d, 5)->streams[0].status, QUIRE_ERR_EXECUTION);
    assert_int_equal(driver_stats(&d).failed_steps, 3);
    driver_plan(&d);
    assert_int_equal(d.plan->sequence_count, 4);
    driver_commit(&d);
    driver_finish(&d);
}

static void a_suspect_that_is_cancelled_blames_nobody_else(void **state)
{
    (void)state;
    driver_start_blocks(&d, 100);
    const quire_request_id a = driver_submit_new(&d, 4, 6), b = driver_submit_new(&d, 4, 6);
    driver_step(&d);
    d.poison = a;
    driver_step(&d); /* fails: a and b are suspects */
    qr_scheduler_cancel(d.scheduler, a, d.now_ns);
    driver_take_events(&d);
    assert_int_equal(d.scheduler->suspect_count, 1);
    assert_int_equal(d.scheduler->suspect_set_count, 1);
    driver_run(&d, 50);
    assert_int_equal(driver_find(&d, b)->streams[0].finish, QUIRE_FINISH_LENGTH);
    assert_int_equal(d.scheduler->suspect_count, 0);
    driver_stop(&d);
}

static void nobody_new_is_admitted_while_a_failed_step_is_isolated(void **state)
{
    (void)state;
    driver_start_blocks(&d, 100);
    const quire_request_id a = driver_submit_new(&d, 4, 20), b = driver_submit_new(&d, 4, 20);
    driver_step(&d);
    d.poison = b;
    driver_step(&d);
    const quire_request_id later = driver_submit_new(&d, 4, 2);
    driver_plan(&d);
    assert_non_null(driver_entry(&d, a, 0));
    assert_null(driver_entry(&d, later, 0));
    driver_commit(&d);
    driver_finish(&d);
}

static void only_the_request_that_fails_every_step_ends_in_error(void **state)
{
    (void)state;
    for (uint32_t poison = 1; poison <= 5; poison++) {
        const qr_scheduler_options options = driver_options(100, 4);
        driver_start(&d, &options);
        for (uint32_t i = 0; i < 9; i++) driver_submit_priority(&d, 0, 4 + i, 10);
        driver_step(&d);
        driver_step(&d);
        d.poison = poison;
        driver_run(&d, 200);
        for (uint32_t i = 1; i <= 9; i++) {
            const driver_stream *stream = &driver_find(&d, i)->streams[0];
            assert_int_equal(stream->finish, i == poison ? QUIRE_FINISH_ERROR : QUIRE_FINISH_LENGTH);
            assert_int_equal(stream->status, i == poison ? QUIRE_ERR_EXECUTION : QUIRE_OK);
            if (i != poison) assert_int_equal(stream->count, 10);
        }
        assert_in_range(driver_stats(&d).failed_steps, 2, 5); /* 5, 3, 2, 1 members */
        driver_stop(&d);
    }
}

static void one_failure_that_does_not_come_back_ends_nobody(void **state)
{
    (void)state;
    qr_scheduler_options options  = driver_options(100, 4);
    options.enable_prefix_caching = true;
    options.encoder_decoder       = true;
    driver_start(&d, &options);
    for (uint32_t i = 0; i < 4; i++) driver_submit_encoder(&d, driver_request_of(6), 8, i % 2, 5, i);
    for (uint32_t i = 0; i < 3; i++) {
        d.poison = 1 + i;
        driver_step(&d);
        d.poison = 0;
        for (uint32_t j = 0; j < 4; j++) driver_step(&d);
    }
    driver_run(&d, 100);
    for (uint32_t i = 1; i <= 4; i++) assert_int_equal(driver_find(&d, i)->streams[0].finish, QUIRE_FINISH_LENGTH);
    assert_int_equal(driver_stats(&d).failed_steps, 3);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_half_that_may_not_run_waits_for_the_fault),
        cmocka_unit_test(the_groups_of_a_failed_step_run_in_halves),
        cmocka_unit_test(a_suspect_that_is_cancelled_blames_nobody_else),
        cmocka_unit_test(nobody_new_is_admitted_while_a_failed_step_is_isolated),
        cmocka_unit_test(only_the_request_that_fails_every_step_ends_in_error),
        cmocka_unit_test(one_failure_that_does_not_come_back_ends_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
