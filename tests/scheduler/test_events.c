/* Events: what they carry, their order, and that records are free again only when they have been cleared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void an_event_carries_the_user_data_of_its_request(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    int           mine    = 0;
    quire_request request = driver_request_of(2);
    request.user_data     = &mine;
    driver_submit(&d, request, 4, 1, NULL);
    qr_scheduler_plan(d.scheduler, d.now_ns);
    const quire_sampled result = {.token = 5};
    qr_scheduler_commit(d.scheduler, &result, d.now_ns);
    uint32_t                  count;
    const qr_scheduler_event *events = qr_scheduler_events(d.scheduler, &count);
    assert_int_equal(count, 1);
    assert_ptr_equal(events[0].user_data, &mine);
    assert_int_equal(events[0].token, 5);
    qr_scheduler_events_clear(d.scheduler);
    driver_stop(&d);
}

static void a_record_is_free_again_only_after_its_end_has_been_cleared(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    const quire_request_id id = driver_submit_new(&d, 4, 4);
    qr_scheduler_cancel(d.scheduler, id, d.now_ns);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_DONE);
    assert_true(qr_scheduler_idle(d.scheduler));
    driver_take_events(&d);
    for (uint32_t i = 0; i < d.scheduler->record_count; i++) {
        assert_int_equal(d.scheduler->sequences[i].state, QR_SEQUENCE_NONE);
    }
    driver_stop_empty(&d);
}

static void only_the_last_sequence_of_a_request_ends_it(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    quire_request request     = driver_request_of(4);
    request.n                 = 3;
    const quire_request_id id = driver_submit(&d, request, 4, 1, NULL);
    qr_scheduler_cancel(d.scheduler, id, d.now_ns);
    uint32_t                  count;
    const qr_scheduler_event *events = qr_scheduler_events(d.scheduler, &count);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(events[i].last, i == 2);
    driver_take_events(&d);
    driver_stop_empty(&d);
}

static void the_times_of_all_reasons_add_up(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    for (uint32_t i = 0; i < 6; i++) driver_submit_new(&d, 6 + i, 6);
    for (uint32_t step = 0; step < 40; step++) {
        driver_step(&d);
        d.now_ns += step * 100;
        for (quire_request_id id = 1; id <= 6; id++) {
            quire_explanation why;
            uint64_t          sum = 0;
            if (qr_scheduler_explain(d.scheduler, id, d.now_ns, &why) != QUIRE_OK) continue;
            for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) sum += why.wait_ns[i];
            assert_int_equal(sum, d.now_ns - 1000000);
        }
    }
    driver_finish(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_carries_the_user_data_of_its_request),
        cmocka_unit_test(a_record_is_free_again_only_after_its_end_has_been_cleared),
        cmocka_unit_test(only_the_last_sequence_of_a_request_ends_it),
        cmocka_unit_test(the_times_of_all_reasons_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
