/* Who goes first: priorities, claims, ageing, tenants; promises of no_evict; and how a failing request is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static quire_request_id submit(int32_t priority, uint32_t prompt, uint32_t max_tokens)
{
    quire_request request = driver_request_of(max_tokens);
    request.priority      = priority;
    return driver_submit(&d, request, prompt, d.request_count + 1, NULL);
}

static qr_scheduler_options by_priority(uint32_t num_blocks, uint64_t ageing_ns)
{
    qr_scheduler_options options = driver_options(num_blocks, 4);
    options.policy               = QUIRE_POLICY_PRIORITY;
    options.priority_ageing_ns   = ageing_ns;
    return options;
}

static uint64_t first_planned(quire_request_id id) { return driver_find(&d, id)->streams[0].detail.first_planned_ns; }

static void lower_values_start_first_and_fcfs_ignores_them(void **state)
{
    (void)state;
    for (uint32_t policy = 0; policy < 2; policy++) {
        qr_scheduler_options options = by_priority(64, 0);
        options.policy               = (quire_policy)policy;
        options.max_num_seqs         = 1;
        driver_start(&d, &options);
        const quire_request_id a = submit(5, 4, 3), b = submit(0, 4, 3), c = submit(-5, 4, 3);
        driver_run(&d, 50);
        if (policy == QUIRE_POLICY_FCFS)
            assert_true(first_planned(a) < first_planned(b) && first_planned(b) < first_planned(c));
        else
            assert_true(first_planned(c) < first_planned(b) && first_planned(b) < first_planned(a));
        driver_stop(&d);
    }
}

static void an_urgent_one_claims_a_place_and_its_owner_keeps_its_blocks(void **state)
{
    (void)state;
    qr_scheduler_options options = by_priority(64, 0);
    options.max_num_seqs         = 2;
    driver_start(&d, &options);
    const quire_request_id a = submit(1, 8, 10), b = submit(2, 8, 10);
    driver_step(&d);
    const quire_request_id urgent = submit(0, 4, 3);
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

static void an_urgent_one_claims_blocks(void **state)
{
    (void)state;
    const qr_scheduler_options options = by_priority(8, 0);
    driver_start(&d, &options);
    const quire_request_id a = submit(1, 14, 10), b = submit(2, 14, 10);
    driver_step(&d);
    const quire_request_id urgent = submit(0, 8, 3);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, urgent, 0)->rows, 8);
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
    qr_scheduler_options options = by_priority(64, 0);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    submit(0, 4, 10);
    driver_step(&d);
    const quire_request_id same = submit(0, 4, 3), lower = submit(1, 4, 3);
    driver_step(&d);
    assert_int_equal(driver_view(&d, same, 0).state, QR_SEQUENCE_QUEUED);
    assert_int_equal(driver_view(&d, lower, 0).state, QR_SEQUENCE_QUEUED);
    driver_run(&d, 100);
    assert_int_equal(driver_stats(&d).claims, 0);
    driver_stop(&d);
}

static void waiting_makes_senior(void **state)
{
    (void)state;
    qr_scheduler_options options = by_priority(64, 5000);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    submit(0, 4, 12);
    driver_step(&d);
    const quire_request_id old = submit(1, 4, 2);
    while (driver_reason(&d, old) != QUIRE_WAIT_NONE && d.steps < 6) driver_step(&d);
    const quire_request_id young = submit(0, 4, 2); /* more than 5000 ns later: one level is made up */
    driver_run(&d, 100);
    assert_true(first_planned(old) < first_planned(young));
    driver_stop(&d);
}

static void strict_priority_starves_and_ageing_does_not(void **state)
{
    (void)state;
    uint64_t waited[2];
    for (uint32_t ageing = 0; ageing < 2; ageing++) {
        qr_scheduler_options options = by_priority(64, ageing ? 10000 : 0);
        options.max_num_seqs         = 1;
        driver_start(&d, &options);
        const quire_request_id low  = submit(3, 4, 2);
        uint64_t               seen = 0;
        for (uint32_t i = 0; i < 100; i++) {
            submit(0, 4, 2);
            driver_step(&d);
            if (driver_find(&d, low)->streams[0].count > 0 && seen == 0) seen = i + 1;
            while (d.request_count > 1 && driver_stats(&d).waiting > 3) driver_step(&d);
        }
        waited[ageing] = seen;
        driver_run(&d, 1000);
        driver_stop(&d);
    }
    assert_true(waited[1] != 0 && (waited[0] == 0 || waited[1] < waited[0]));
}

static void promises_of_no_evict_are_kept(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(12, 4);
    options.capacity_policy      = QUIRE_CAPACITY_GUARANTEED_NO_EVICT;
    driver_start(&d, &options);
    for (uint32_t i = 0; i < 12; i++) submit(0, 5 + i % 7, 6 + i % 9);
    driver_run(&d, 300);
    assert_int_equal(driver_stats(&d).preemptions, 0);
    assert_int_equal(driver_stats(&d).tokens_recomputed, 0);
    driver_stop(&d);
}

/* Two tenants that always wait: what each was given, by weight, stays within the bound of docs/SCHEDULER.md. */
static void tenants_are_served_by_weight(void **state)
{
    (void)state;
    const quire_tenant_options tenants[] = {{.name = "a", .weight = 1}, {.name = "b", .weight = 3}};
    qr_scheduler_options       options   = driver_options(64, 4);
    options.tenants = tenants, options.tenant_count = 2;
    options.max_num_seqs        = 2;
    options.max_num_queued_reqs = 16;
    driver_start(&d, &options);
    uint32_t waiting[2] = {0}, tokens[2] = {0};
    for (uint32_t step = 0; step < 600 && d.request_count < DRIVER_REQUESTS - 20; step++) {
        for (uint32_t t = 0; t < 2; t++)
            for (; waiting[t] < (t == 0 ? 8u : 5u); waiting[t]++) {
                quire_request request = driver_request_of(8);
                request.tenant        = tenants[t].name;
                driver_find(&d, driver_submit(&d, request, 4, d.request_count, NULL));
            }
        driver_step(&d);
        memset(waiting, 0, sizeof waiting), memset(tokens, 0, sizeof tokens);
        for (uint32_t i = 0; i < d.request_count; i++) {
            const uint32_t t = d.requests[i].tenant_hash == d.requests[0].tenant_hash ? 0 : 1;
            waiting[t] += !d.requests[i].last_seen;
            tokens[t] += (d.requests[i].streams[0].count > 0 ? 4u : 0u) + 2 * d.requests[i].streams[0].count;
        }
    }
    const int32_t difference = (int32_t)tokens[0] - (int32_t)tokens[1] / 3;
    assert_true(tokens[0] > 500);
    assert_in_range(difference + 100, 0, 200); /* far within (2 + 1) * 2 * max_model_len = 768 */
    driver_run(&d, 1000);
    driver_stop(&d);
}

static void a_flood_of_one_tenant_does_not_keep_another_waiting(void **state)
{
    (void)state;
    uint64_t waited[2];
    for (uint32_t fair = 0; fair < 2; fair++) {
        qr_scheduler_options options = driver_options(64, 4);
        options.tenant_fairness      = fair;
        options.max_num_seqs         = 2;
        driver_start(&d, &options);
        quire_request request = driver_request_of(8);
        request.tenant        = "flood";
        for (uint32_t i = 0; i < 40; i++) driver_submit(&d, request, 6, i, NULL);
        for (uint32_t i = 0; i < 4; i++) driver_step(&d);
        request.tenant            = "victim";
        const quire_request_id id = driver_submit(&d, request, 6, 99, NULL);
        driver_run(&d, 1000);
        waited[fair] = first_planned(id);
        driver_stop(&d);
    }
    assert_true(waited[1] - 1000000 < 30000);
    assert_true(waited[0] - 1000000 > 200000);
}

static void a_tenant_that_comes_late_does_not_bring_what_it_did_not_ask_for(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(64, 4);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    quire_request request = driver_request_of(4);
    request.tenant        = "old";
    for (uint32_t i = 0; i < 20; i++) driver_submit(&d, request, 4, i, NULL);
    for (uint32_t i = 0; i < 60; i++) driver_step(&d); /* 15 served */
    const quire_request_id waiting = 18;
    request.tenant                 = "late";
    quire_request_id late[10];
    for (uint32_t i = 0; i < 10; i++) late[i] = driver_submit(&d, request, 4, 50 + i, NULL);
    driver_run(&d, 500);
    assert_true(first_planned(waiting) < first_planned(late[4])); /* in turns, not after all ten */
    assert_true(first_planned(late[1]) < first_planned(20));
    driver_stop(&d);
}

static void only_the_request_that_fails_every_step_ends_in_error(void **state)
{
    (void)state;
    for (uint32_t poison = 1; poison <= 5; poison++) {
        const qr_scheduler_options options = driver_options(100, 4);
        driver_start(&d, &options);
        for (uint32_t i = 0; i < 9; i++) submit(0, 4 + i, 10);
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

static void a_request_failed_from_outside_ends_with_that_status(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(100, 4);
    driver_start(&d, &options);
    const quire_request_id id = submit(0, 4, 10);
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
        cmocka_unit_test(lower_values_start_first_and_fcfs_ignores_them),
        cmocka_unit_test(an_urgent_one_claims_a_place_and_its_owner_keeps_its_blocks),
        cmocka_unit_test(an_urgent_one_claims_blocks),
        cmocka_unit_test(equal_or_higher_values_claim_nothing),
        cmocka_unit_test(waiting_makes_senior),
        cmocka_unit_test(strict_priority_starves_and_ageing_does_not),
        cmocka_unit_test(promises_of_no_evict_are_kept),
        cmocka_unit_test(tenants_are_served_by_weight),
        cmocka_unit_test(a_flood_of_one_tenant_does_not_keep_another_waiting),
        cmocka_unit_test(a_tenant_that_comes_late_does_not_bring_what_it_did_not_ask_for),
        cmocka_unit_test(only_the_request_that_fails_every_step_ends_in_error),
        cmocka_unit_test(one_failure_that_does_not_come_back_ends_nobody),
        cmocka_unit_test(a_request_failed_from_outside_ends_with_that_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
