/* Tenants: what each is charged, who is served next, and that they share nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/state.h"
#include "support/scheduler_driver.h"

static driver d;

static void a_tenant_is_charged_once_for_a_prompt_token_and_twice_for_an_output_token(void **state)
{
    (void)state;
    const quire_tenant_options heavy   = {.name = "heavy", .weight = 2};
    qr_scheduler_options       options = driver_options(32, 4);
    options.tenants = &heavy, options.tenant_count = 1;
    driver_start(&d, &options);
    static const char *const names[] = {"heavy", "light"};
    for (uint32_t i = 0; i < 2; i++) driver_submit_for(&d, names[i], 6, 4);
    driver_run(&d, 50);
    for (uint32_t i = 0; i < 2; i++) {
        const qr_tenant *t = &d.scheduler->tenants[qr_tenant_find(d.scheduler, names[i])];
        assert_int_equal(t->counter >> QR_COUNTER_BITS, (6 + 2 * 3) / (i == 0 ? 2 : 1)); /* the last token has no row */
        assert_int_equal(t->rows, 6 + 2 * 3);
    }
    driver_stop(&d);
}

static void what_was_preempted_is_not_charged_again(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    quire_request_id senior;
    driver_preempt(&d, &senior);
    driver_run(&d, 100);
    assert_true(driver_stats(&d).tokens_recomputed > 0);
    assert_int_equal(d.scheduler->tenants[qr_tenant_find(d.scheduler, "")].rows, 11 + 2 * 12 + 8 + 2 * 9);
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
        waited[fair] = driver_first_planned(&d, id);
        driver_stop(&d);
    }
    assert_true(waited[1] - 1000000 < 30000);
    assert_true(waited[0] - 1000000 > 200000);
}

static void a_tenant_that_comes_late_brings_no_credit_for_what_it_did_not_ask_for(void **state)
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
    assert_true(driver_first_planned(&d, waiting) <
                driver_first_planned(&d, late[4])); /* in turns, not after all ten */
    assert_true(driver_first_planned(&d, late[1]) < driver_first_planned(&d, 20));
    driver_stop(&d);
}

static void a_tenant_that_was_served_more_waits_for_the_others(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(40, 4);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    driver_submit_for(&d, "a", 20, 4);
    const quire_request_id b = driver_submit_for(&d, "b", 4, 4), a = driver_submit_for(&d, "a", 4, 4);
    driver_step(&d);
    const quire_request_id second = driver_submit_for(&d, "b", 4, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_SEQUENCES);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_TENANT);
    assert_int_equal(driver_reason(&d, second), QUIRE_WAIT_ORDER);
    driver_commit(&d);
    driver_finish(&d);
}

static void tenants_and_salts_do_not_share(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_caching_options(64);
    driver_start(&d, &options);
    static const struct {
        const char *tenant, *salt;
        uint32_t    hits;
    } turns[] = {{"a", NULL, 0}, {"b", NULL, 0}, {"a", "x", 0}, {"a", "x", 12}, {"a", NULL, 12}, {"b", NULL, 12}};
    for (uint32_t i = 0; i < 6; i++) {
        quire_request request     = driver_request_of(2);
        request.tenant            = turns[i].tenant;
        request.cache_salt        = turns[i].salt;
        const quire_request_id id = driver_submit(&d, request, 14, 1, NULL);
        driver_run(&d, 10);
        assert_int_equal(driver_cached_tokens(&d, id), turns[i].hits);
    }
    driver_stop(&d);
}

/* 14 prompt tokens and n more take 13 + n positions. */
static void long_and_short_requests_do_not_share(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_caching_options(64);
    options.long_length          = 16;
    driver_start(&d, &options);
    static const struct {
        uint32_t max_tokens, hits;
    } turns[] = {{2, 0}, {3, 12}, {4, 0}, {20, 12}, {3, 12}};
    for (uint32_t i = 0; i < 5; i++) {
        const quire_request_id id = driver_submit(&d, driver_request_of(turns[i].max_tokens), 14, 1, NULL);
        driver_run(&d, 40);
        assert_int_equal(driver_cached_tokens(&d, id), turns[i].hits);
    }
    driver_stop(&d);
}

static void a_tenants_record_taken_over_brings_no_blocks(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_caching_options(64);
    options.max_num_tenants      = 1;
    driver_start(&d, &options);
    static const char *const names[] = {"a", "b", "a"};
    for (uint32_t i = 0; i < 3; i++) {
        quire_request request     = driver_request_of(2);
        request.tenant            = names[i];
        const quire_request_id id = driver_submit(&d, request, 14, 1, NULL);
        driver_run(&d, 10);
        assert_int_equal(driver_cached_tokens(&d, id), 0);
    }
    quire_request request = driver_request_of(20);
    quire_status  status;
    request.tenant = "a";
    driver_submit(&d, request, 14, 1, NULL);
    request.tenant = "b";
    driver_submit(&d, request, 14, 1, &status);
    assert_int_equal(status, QUIRE_ERR_FULL);
    driver_run(&d, 40);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tenant_is_charged_once_for_a_prompt_token_and_twice_for_an_output_token),
        cmocka_unit_test(what_was_preempted_is_not_charged_again),
        cmocka_unit_test(tenants_are_served_by_weight),
        cmocka_unit_test(a_flood_of_one_tenant_does_not_keep_another_waiting),
        cmocka_unit_test(a_tenant_that_comes_late_brings_no_credit_for_what_it_did_not_ask_for),
        cmocka_unit_test(a_tenant_that_was_served_more_waits_for_the_others),
        cmocka_unit_test(tenants_and_salts_do_not_share),
        cmocka_unit_test(long_and_short_requests_do_not_share),
        cmocka_unit_test(a_tenants_record_taken_over_brings_no_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
