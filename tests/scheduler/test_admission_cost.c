/* What an admission costs: encoder runs and prefixes that are shared, and hits that it must not evict. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void a_prompt_seen_before_is_found_but_for_its_last_token(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_caching_options(32);
    driver_start(&d, &options);
    driver_submit(&d, driver_request_of(2), 16, 1, NULL);
    driver_run(&d, 10);
    const quire_request_id b = driver_submit(&d, driver_request_of(2), 16, 1, NULL);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, b, 0)->position, 12);
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 4);
    driver_commit(&d);
    driver_run(&d, 10);
    assert_int_equal(driver_cached_tokens(&d, b), 12);
    driver_stop(&d);
}

static void hits_are_not_evicted_for_the_request_that_hits_them(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_caching_options(6);
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
    qr_scheduler_options options         = driver_caching_options(200);
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
    qr_scheduler_options options = driver_caching_options(200);
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
    qr_scheduler_options options = driver_caching_options(200);
    options.encoder_decoder      = true;
    driver_start(&d, &options);
    driver_submit_encoder(&d, driver_request_of(2), 10, 1, 14, 5);
    driver_run(&d, 10);
    const quire_request_id same = driver_submit_encoder(&d, driver_request_of(2), 10, 1, 14, 5);
    driver_run(&d, 10);
    const quire_request_id other = driver_submit_encoder(&d, driver_request_of(2), 10, 2, 14, 5);
    driver_run(&d, 10);
    assert_int_equal(driver_cached_tokens(&d, same), 12);
    assert_int_equal(driver_cached_tokens(&d, other), 0);
    driver_stop(&d);
}

static void a_request_waits_for_the_encoder_budget_or_for_equal_content(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(60, 4);
    options.encoder_decoder      = true;
    driver_start(&d, &options);
    driver_submit_encoder(&d, driver_request_of(4), 20, 1, 1, 1);
    const quire_request_id b = driver_submit_encoder(&d, driver_request_of(4), 20, 1, 1, 1);
    const quire_request_id c = driver_submit_encoder(&d, driver_request_of(4), 20, 2, 1, 1);
    const quire_request_id e = driver_submit_encoder(&d, driver_request_of(4), 12, 3, 1, 1);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_ENCODER_SHARED);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_ENCODER);
    assert_int_equal(driver_reason(&d, e), QUIRE_WAIT_NONE);
    assert_int_equal(d.plan->rows_encoder, 32);
    driver_commit(&d);
    driver_finish(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_seen_before_is_found_but_for_its_last_token),
        cmocka_unit_test(hits_are_not_evicted_for_the_request_that_hits_them),
        cmocka_unit_test(equal_encoder_inputs_run_once_and_hold_one_set_of_blocks),
        cmocka_unit_test(without_sharing_each_request_runs_its_encoder),
        cmocka_unit_test(decoder_prefixes_are_shared_below_equal_encoder_inputs_only),
        cmocka_unit_test(a_request_waits_for_the_encoder_budget_or_for_equal_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
