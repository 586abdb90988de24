/* Claims: who outranks RUNNING ones by priority takes a slot or blocks; equal values claim nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void an_urgent_request_claims_a_slot_and_its_owner_keeps_its_blocks(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_priority_options(64, 0);
    options.max_num_seqs         = 2;
    driver_start(&d, &options);
    const quire_request_id a = driver_submit_priority(&d, 1, 8, 10), b = driver_submit_priority(&d, 2, 8, 10);
    driver_step(&d);
    const quire_request_id urgent = driver_submit_priority(&d, 0, 4, 3);
    driver_plan(&d);
    assert_non_null(driver_entry(&d, urgent, 0));
    assert_non_null(driver_entry(&d, a, 0));
    assert_int_equal(driver_view(&d, b, 0).state, QR_SEQUENCE_PREEMPTED); /* the most junior */
    assert_int_equal(driver_view(&d, b, 0).block_count, 2);
    assert_int_equal(driver_stats(&d).claims, 1);
    driver_commit(&d);
    driver_run(&d, 100);
    assert_int_equal(driver_stats(&d).tokens_recomputed, 0);
    driver_stop(&d);
}

static void an_urgent_request_claims_blocks(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_priority_options(8, 0);
    driver_start(&d, &options);
    const quire_request_id a = driver_submit_priority(&d, 1, 14, 10), b = driver_submit_priority(&d, 2, 14, 10);
    driver_step(&d);
    const quire_request_id urgent = driver_submit_priority(&d, 0, 8, 3);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, urgent, 0)->row_count, 8);
    assert_int_equal(driver_view(&d, a, 0).state, QR_SEQUENCE_RUNNING);
    assert_int_equal(driver_view(&d, b, 0).state, QR_SEQUENCE_PREEMPTED);
    assert_int_equal(driver_view(&d, b, 0).block_count, 2);
    driver_commit(&d);
    driver_run(&d, 200);
    driver_stop(&d);
}

static void equal_or_higher_values_claim_nothing(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_priority_options(64, 0);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    driver_submit_priority(&d, 0, 4, 10);
    driver_step(&d);
    const quire_request_id same = driver_submit_priority(&d, 0, 4, 3), lower = driver_submit_priority(&d, 1, 4, 3);
    driver_step(&d);
    assert_int_equal(driver_view(&d, same, 0).state, QR_SEQUENCE_QUEUED);
    assert_int_equal(driver_view(&d, lower, 0).state, QR_SEQUENCE_QUEUED);
    driver_run(&d, 100);
    assert_int_equal(driver_stats(&d).claims, 0);
    driver_stop(&d);
}

static void a_claim_takes_nothing_from_another_tenant(void **state)
{
    (void)state;
    for (uint32_t fair = 0; fair < 2; fair++) {
        qr_scheduler_options options = driver_priority_options(64, 0);
        options.max_num_seqs         = 1;
        options.tenant_fairness      = fair;
        driver_start(&d, &options);
        quire_request request = driver_request_of(10);
        request.tenant = "a", request.priority = 1;
        driver_submit(&d, request, 4, 1, NULL);
        driver_step(&d);
        request.tenant = "b", request.priority = 0;
        driver_submit(&d, request, 4, 2, NULL);
        driver_step(&d);
        assert_int_equal(driver_stats(&d).claims, !fair);
        driver_finish(&d);
    }
}

static void nothing_is_claimed_from_those_who_were_promised_not_to_be_evicted(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_priority_options(64, 0);
    options.max_num_seqs         = 1;
    options.capacity_policy      = QUIRE_CAPACITY_GUARANTEED_NO_EVICT;
    driver_start(&d, &options);
    driver_submit_priority(&d, 1, 4, 10);
    driver_step(&d);
    driver_submit_priority(&d, 0, 4, 3);
    driver_run(&d, 100);
    assert_int_equal(driver_stats(&d).claims, 0);
    assert_int_equal(driver_stats(&d).preemptions, 0);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_urgent_request_claims_a_slot_and_its_owner_keeps_its_blocks),
        cmocka_unit_test(an_urgent_request_claims_blocks),
        cmocka_unit_test(equal_or_higher_values_claim_nothing),
        cmocka_unit_test(a_claim_takes_nothing_from_another_tenant),
        cmocka_unit_test(nothing_is_claimed_from_those_who_were_promised_not_to_be_evicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
