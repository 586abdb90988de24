/* What sequences share: prefixes, encoder inputs, prompts of n > 1; and what a sliding window lets go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static qr_scheduler_options caching(uint32_t num_blocks)
{
    qr_scheduler_options options  = driver_options(num_blocks, 4);
    options.enable_prefix_caching = true;
    return options;
}

static uint32_t cached_tokens(quire_request_id id) { return driver_find(&d, id)->streams[0].detail.cached_tokens; }

static void a_prompt_seen_before_is_found_but_for_its_last_token(void **state)
{
    (void)state;
    const qr_scheduler_options options = caching(32);
    driver_start(&d, &options);
    driver_submit(&d, driver_request_of(2), 16, 1, NULL);
    driver_run(&d, 10);
    const quire_request_id b = driver_submit(&d, driver_request_of(2), 16, 1, NULL);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, b, 0)->position, 12);
    assert_int_equal(driver_entry(&d, b, 0)->rows, 4);
    driver_commit(&d);
    driver_run(&d, 10);
    assert_int_equal(cached_tokens(b), 12);
    driver_stop(&d);
}

static void nothing_is_found_before_its_step_has_completed(void **state)
{
    (void)state;
    const qr_scheduler_options options = caching(32);
    driver_start(&d, &options);
    const quire_request_id a = driver_submit(&d, driver_request_of(2), 12, 1, NULL);
    const quire_request_id b = driver_submit(&d, driver_request_of(2), 12, 1, NULL);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->rows, 12);
    assert_int_equal(driver_entry(&d, b, 0)->rows, 12);
    driver_commit(&d);
    driver_run(&d, 10);
    assert_int_equal(cached_tokens(b), 0);
    driver_stop(&d);
}

static void tenants_and_salts_do_not_share(void **state)
{
    (void)state;
    const qr_scheduler_options options = caching(64);
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
        assert_int_equal(cached_tokens(id), turns[i].hits);
    }
    driver_stop(&d);
}

static void a_tenants_record_taken_over_brings_no_blocks(void **state)
{
    (void)state;
    qr_scheduler_options options = caching(64);
    options.max_num_tenants      = 1;
    driver_start(&d, &options);
    static const char *const names[] = {"a", "b", "a"};
    for (uint32_t i = 0; i < 3; i++) {
        quire_request request     = driver_request_of(2);
        request.tenant            = names[i];
        const quire_request_id id = driver_submit(&d, request, 14, 1, NULL);
        driver_run(&d, 10);
        assert_int_equal(cached_tokens(id), 0);
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

static void reading_and_writing_the_cache_can_be_skipped(void **state)
{
    (void)state;
    const qr_scheduler_options options = caching(64);
    driver_start(&d, &options);
    quire_request request             = driver_request_of(2);
    request.skip_writing_prefix_cache = true;
    driver_submit(&d, request, 14, 1, NULL);
    driver_run(&d, 10);
    assert_int_equal(driver_stats(&d).blocks_cached, 0);
    request.skip_writing_prefix_cache = false;
    driver_submit(&d, request, 14, 1, NULL);
    driver_run(&d, 10);
    request.skip_reading_prefix_cache = true;
    const quire_request_id c          = driver_submit(&d, request, 14, 1, NULL);
    driver_run(&d, 10);
    assert_int_equal(cached_tokens(c), 0);
    qr_scheduler_flush_cache(d.scheduler);
    assert_int_equal(driver_stats(&d).blocks_free, 64);
    driver_stop(&d);
}

static void hits_are_not_evicted_for_the_request_that_hits_them(void **state)
{
    (void)state;
    const qr_scheduler_options options = caching(6);
    driver_start(&d, &options);
    driver_submit(&d, driver_request_of(1), 13, 1, NULL);
    driver_run(&d, 10); /* 3 CACHED */
    const quire_request_id b = driver_submit(&d, driver_request_of(1), 24, 1, NULL);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, b, 0)->position, 12); /* 3 hits + 3 new = all there is */
    driver_commit(&d);
    driver_run(&d, 10);
    driver_stop(&d);
}

static void equal_encoder_inputs_run_once_and_hold_one_set_of_blocks(void **state)
{
    (void)state;
    qr_scheduler_options options         = caching(200);
    options.encoder_decoder              = true;
    options.max_num_seqs                 = 16;
    options.max_num_encoder_input_tokens = 64;
    driver_start(&d, &options);
    for (uint32_t i = 0; i < 8; i++) driver_submit_encoder(&d, driver_request_of(12), 30, 1, 1 + i % 2, i);
    for (uint32_t i = 0; i < 8; i++) driver_submit_encoder(&d, driver_request_of(12), 22, 10 + i, 1, 1);
    for (uint32_t i = 0; i < 7; i++) driver_step(&d);
    quire_stats stats = driver_stats(&d);
    assert_int_equal(stats.running, 16);
    assert_int_equal(stats.encoder_runs, 9);
    assert_int_equal(stats.encoder_runs_saved, 7);
    assert_int_equal(stats.cross_blocks_used, 8 + 8 * 6);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, 8)->streams[0].detail.encoder_shared, 1);
    const quire_request_id again = driver_submit_encoder(&d, driver_request_of(4), 30, 1, 9, 3);
    driver_run(&d, 100); /* they stay cached after the last user */
    assert_int_equal(driver_stats(&d).encoder_runs, 9);
    assert_int_equal(driver_find(&d, again)->streams[0].detail.encoder_shared, 1);
    driver_stop(&d);
}

static void without_sharing_each_request_runs_its_encoder(void **state)
{
    (void)state;
    qr_scheduler_options options = caching(200);
    options.encoder_decoder      = true;
    options.enable_cross_sharing = false;
    driver_start(&d, &options);
    for (uint32_t i = 0; i < 3; i++) driver_submit_encoder(&d, driver_request_of(12), 10, 1, 9, 1);
    driver_run(&d, 100);
    assert_int_equal(driver_stats(&d).encoder_runs, 3);
    driver_stop(&d);
}

static void decoder_prefixes_are_shared_below_equal_encoder_inputs_only(void **state)
{
    (void)state;
    qr_scheduler_options options = caching(200);
    options.encoder_decoder      = true;
    driver_start(&d, &options);
    driver_submit_encoder(&d, driver_request_of(2), 10, 1, 14, 5);
    driver_run(&d, 10);
    const quire_request_id same = driver_submit_encoder(&d, driver_request_of(2), 10, 1, 14, 5);
    driver_run(&d, 10);
    const quire_request_id other = driver_submit_encoder(&d, driver_request_of(2), 10, 2, 14, 5);
    driver_run(&d, 10);
    assert_int_equal(cached_tokens(same), 12);
    assert_int_equal(cached_tokens(other), 0);
    driver_stop(&d);
}

static void an_encoder_owner_cancelled_in_flight_publishes_nothing(void **state)
{
    (void)state;
    qr_scheduler_options options = caching(200);
    options.encoder_decoder      = true;
    driver_start(&d, &options);
    const quire_request_id a = driver_submit_encoder(&d, driver_request_of(2), 10, 1, 1, 5);
    const quire_request_id b = driver_submit_encoder(&d, driver_request_of(2), 10, 1, 1, 6);
    driver_plan(&d);
    assert_int_equal(d.plan->encoder_count, 1);
    qr_scheduler_cancel(d.scheduler, a, d.now_ns);
    driver_commit(&d);
    driver_plan(&d);
    assert_int_equal(d.plan->encoder_count, 1);
    assert_non_null(driver_entry(&d, b, 0));
    driver_commit(&d);
    driver_run(&d, 10);
    assert_int_equal(driver_stats(&d).encoder_runs, 1);
    driver_stop(&d);
}

static void the_default_decoder_prompt_is_the_start_token(void **state)
{
    (void)state;
    qr_scheduler_options options   = caching(200);
    options.encoder_decoder        = true;
    options.decoder_start_token_id = 7;
    driver_start(&d, &options);
    int32_t       ids[3]  = {1, 2, 3};
    quire_request request = driver_request_of(3);
    request.encoder_input = ids, request.encoder_count = 3;
    assert_int_equal(qr_scheduler_submit(d.scheduler, &request, 1, d.now_ns, NULL), QUIRE_OK);
    assert_int_equal(driver_view(&d, 1, 0).prompt_count, 1);
    assert_int_equal(driver_view(&d, 1, 0).tokens[0], 7);
    driver_stop(&d);
}

static void a_window_lets_go_of_what_no_row_can_see(void **state)
{
    (void)state;
    qr_scheduler_options options = caching(10);
    options.window               = 8;
    driver_start(&d, &options);
    const quire_request_id id = driver_submit(&d, driver_request_of(60), 20, 1, NULL); /* 20 blocks without a window */
    uint32_t               most = 0;
    while (driver_step(&d)) {
        const uint32_t used = (uint32_t)driver_stats(&d).blocks_used;
        most                = used > most ? used : most;
    }
    assert_int_equal(driver_find(&d, id)->streams[0].count, 60);
    assert_true(most <= 5 && most >= 2);
    driver_stop(&d);
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
        cmocka_unit_test(a_prompt_seen_before_is_found_but_for_its_last_token),
        cmocka_unit_test(nothing_is_found_before_its_step_has_completed),
        cmocka_unit_test(tenants_and_salts_do_not_share),
        cmocka_unit_test(a_tenants_record_taken_over_brings_no_blocks),
        cmocka_unit_test(reading_and_writing_the_cache_can_be_skipped),
        cmocka_unit_test(hits_are_not_evicted_for_the_request_that_hits_them),
        cmocka_unit_test(equal_encoder_inputs_run_once_and_hold_one_set_of_blocks),
        cmocka_unit_test(without_sharing_each_request_runs_its_encoder),
        cmocka_unit_test(decoder_prefixes_are_shared_below_equal_encoder_inputs_only),
        cmocka_unit_test(an_encoder_owner_cancelled_in_flight_publishes_nothing),
        cmocka_unit_test(the_default_decoder_prompt_is_the_start_token),
        cmocka_unit_test(a_window_lets_go_of_what_no_row_can_see),
        cmocka_unit_test(windowed_sequences_under_shortage_give_up_all_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
