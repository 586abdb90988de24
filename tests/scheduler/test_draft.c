/* Prompt lookup: drafts change how many steps a text takes, never the text; only spare rows are used; the prefix index
 * never sees a draft. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static qr_scheduler_options options_with(uint32_t drafts)
{
    qr_scheduler_options options   = driver_options(64, 4);
    options.num_speculative_tokens = drafts;
    options.prompt_lookup_max      = 3;
    options.enable_prefix_caching  = true;
    return options;
}

/* The driver compares each token with the one its prefix gives, so that finishing is being equal to the undrafted run.
 * With a single token in the vocabulary every draft is right. */
static void right_drafts_save_steps(void **state)
{
    (void)state;
    uint64_t steps[2];
    for (uint32_t i = 0; i < 2; i++) {
        const qr_scheduler_options options = options_with(i == 0 ? 0 : 4);
        driver_start(&d, &options);
        d.token_below             = 1;
        const quire_request_id id = driver_submit(&d, driver_request_of(41), 10, 1, NULL);
        driver_run(&d, 100);
        assert_int_equal(driver_find(&d, id)->streams[0].count, 41);
        steps[i] = d.steps;
        if (i == 1) assert_int_equal(driver_stats(&d).drafts_accepted, driver_stats(&d).drafts);
        driver_stop(&d);
    }
    assert_int_equal(steps[0], 41);
    assert_int_equal(steps[1], 1 + 8); /* 1, then five at a time */
}

static void wrong_drafts_change_nothing_and_are_given_up(void **state)
{
    (void)state;
    const qr_scheduler_options options = options_with(4);
    driver_start(&d, &options);
    d.token_below             = 3; /* repeats often, and is hardly ever predicted */
    const quire_request_id id = driver_submit(&d, driver_request_of(100), 10, 1, NULL);
    driver_run(&d, 200);
    assert_int_equal(driver_find(&d, id)->streams[0].count, 100);
    const quire_stats stats = driver_stats(&d);
    assert_true(stats.drafts > 0 && stats.drafts_accepted < stats.drafts);
    assert_true(stats.drafts < 150); /* undamped it would be 4 * 100 */
    driver_stop(&d);
}

static void drafts_use_only_rows_that_nobody_needs(void **state)
{
    (void)state;
    qr_scheduler_options options   = options_with(6);
    options.max_num_batched_tokens = 8;
    driver_start(&d, &options);
    d.token_below            = 1;
    const quire_request_id a = driver_submit(&d, driver_request_of(60), 4, 1, NULL);
    driver_step(&d);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->drafts, 6);
    driver_commit(&d);
    const quire_request_id b = driver_submit(&d, driver_request_of(4), 40, 2, NULL);
    for (uint32_t i = 0; i < 4; i++) {
        driver_plan(&d);
        assert_int_equal(driver_entry(&d, b, 0)->row_count, 7);
        assert_int_equal(driver_entry(&d, a, 0)->drafts, 0);
        driver_commit(&d);
    }
    driver_run(&d, 100);
    driver_stop(&d);
}

static void drafts_stop_at_max_tokens_and_at_a_stop_token(void **state)
{
    (void)state;
    qr_scheduler_options options = options_with(8);
    options.eos_count            = 1;
    options.eos_token_ids[0]     = 2;
    driver_start(&d, &options);
    d.token_below = 1;
    for (uint32_t tokens = 1; tokens < 12; tokens++) {
        const quire_request_id id = driver_submit(&d, driver_request_of(tokens), 6, 1, NULL);
        driver_run(&d, 20);
        assert_int_equal(driver_find(&d, id)->streams[0].count, tokens);
    }
    d.token_below = 3;
    for (uint32_t seed = 0; seed < 20; seed++) {
        quire_request request     = driver_request_of(60);
        request.ignore_eos        = false;
        const quire_request_id id = driver_submit(&d, request, 6, seed, NULL);
        driver_run(&d, 80);
        const driver_stream *stream = &driver_find(&d, id)->streams[0];
        for (uint32_t i = 0; i < stream->count; i++) assert_int_equal(stream->tokens[i] == 2, i + 1 == stream->count);
    }
    driver_stop(&d);
}

static void each_draft_row_is_sampled_at_its_own_position(void **state)
{
    (void)state;
    const qr_scheduler_options options = options_with(4);
    driver_start(&d, &options);
    d.token_below         = 1;
    quire_request request = driver_request_of(20);
    request.min_tokens    = 3;
    driver_submit(&d, request, 10, 1, NULL);
    driver_step(&d);
    const quire_plan *plan = driver_plan(&d);
    assert_int_equal(plan->sequences[0].row_count, 5);
    assert_int_equal(plan->sequences[0].drafts, 4);
    assert_int_equal(plan->sample_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(plan->samples[i].row, i);
        assert_int_equal(plan->samples[i].position, 11 + i);
        assert_int_equal(plan->samples[i].index, 1 + i);
        assert_int_equal(plan->samples[i].mask_stops, 1 + i < 3);
    }
    driver_commit(&d);
    driver_run(&d, 20);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_drafts_save_steps),
        cmocka_unit_test(wrong_drafts_change_nothing_and_are_given_up),
        cmocka_unit_test(drafts_use_only_rows_that_nobody_needs),
        cmocka_unit_test(drafts_stop_at_max_tokens_and_at_a_stop_token),
        cmocka_unit_test(each_draft_row_is_sampled_at_its_own_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
