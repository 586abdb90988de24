/* What a step achieved: tokens, stop rules, forks, blocks that become known or go; failures that count for nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void an_unfinished_prompt_emits_nothing(void **state)
{
    (void)state;
    driver_start_blocks(&d, 64);
    const quire_request_id id = driver_submit_new(&d, 40, 2);
    driver_plan(&d);
    assert_int_equal(d.plan->sample_count, 0);
    driver_commit(&d);
    assert_int_equal(driver_view(&d, id, 0).computed, 32);
    assert_int_equal(driver_find(&d, id)->streams[0].count, 0);
    driver_step(&d);
    assert_int_equal(driver_find(&d, id)->streams[0].count, 1);
    driver_finish(&d);
}

static void nothing_is_found_before_its_step_has_completed(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_caching_options(32);
    driver_start(&d, &options);
    const quire_request_id a = driver_submit(&d, driver_request_of(2), 12, 1, NULL);
    const quire_request_id b = driver_submit(&d, driver_request_of(2), 12, 1, NULL);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, a, 0)->row_count, 12);
    assert_int_equal(driver_entry(&d, b, 0)->row_count, 12);
    driver_commit(&d);
    driver_run(&d, 10);
    assert_int_equal(driver_cached_tokens(&d, b), 0);
    driver_stop(&d);
}

static void reading_and_writing_the_cache_can_be_skipped(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_caching_options(64);
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
    assert_int_equal(driver_cached_tokens(&d, c), 0);
    qr_scheduler_flush_cache(d.scheduler);
    assert_int_equal(driver_stats(&d).blocks_free, 64);
    driver_stop(&d);
}

static void an_encoder_owner_cancelled_in_flight_publishes_nothing(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_caching_options(200);
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

static void a_window_lets_go_of_what_no_row_can_see(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_caching_options(10);
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

static void a_fork_shares_all_blocks_and_each_sequence_ends_alone(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(32, 4);
    options.eos_count            = 1;
    options.eos_token_ids[0]     = 3;
    driver_start(&d, &options);
    d.token_below         = 8;
    quire_request request = driver_request_of(30);
    request.n = 4, request.ignore_eos = false;
    const quire_request_id id = driver_submit(&d, request, 9, 5, NULL);
    driver_plan(&d);
    assert_int_equal(d.plan->sequence_count, 1);
    assert_int_equal(d.plan->sample_count, 4);
    driver_commit(&d);
    driver_run(&d, 200);
    uint32_t stopped = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const driver_stream *stream = &driver_find(&d, id)->streams[i];
        assert_int_equal(stream->ends, 1);
        if (stream->finish != QUIRE_FINISH_STOP) continue;
        assert_int_equal(stream->tokens[stream->count - 1], 3);
        stopped++;
    }
    assert_true(stopped > 0);
    driver_stop_empty(&d);
}

static void v11_five_sequences_of_one_prompt_share_it_and_copy_the_tail(void **state)
{
    (void)state;
    driver_start_blocks(&d, 8);
    quire_request request    = driver_request_of(4);
    request.n                = 5;
    const quire_request_id a = driver_submit(&d, request, 5, 1, NULL);
    driver_plan(&d);
    ASSERT_TABLE(&d, a, 0, 0, 1);
    assert_int_equal(d.plan->sample_count, 5);
    driver_commit(&d);
    driver_plan(&d);
    assert_int_equal(d.plan->copy_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const quire_plan_copy copy = d.plan->copies[i];
        assert_true(copy.from == 1 && copy.to == 2 + i && copy.slots == 1);
        ASSERT_TABLE(&d, a, i, 0, 2 + i);
    }
    ASSERT_TABLE(&d, a, 4, 0, 1);
    quire_stats stats = driver_stats(&d);
    assert_int_equal(stats.blocks_free, 2);
    assert_int_equal(stats.forks, 4);
    driver_commit(&d);
    driver_run(&d, 100);
    for (uint32_t i = 0; i < 5; i++) assert_int_equal(driver_find(&d, a)->streams[i].count, 4);
    driver_stop(&d);
}

static void forked_sequences_tell_the_history_of_their_prompt(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_caching_options(32);
    driver_start(&d, &options);
    driver_submit(&d, driver_request_of(1), 14, 1, NULL);
    driver_run(&d, 10);
    quire_request request     = driver_request_of(3);
    request.n                 = 2;
    const quire_request_id id = driver_submit(&d, request, 14, 1, NULL);
    driver_run(&d, 10);
    const quire_finish_detail *a = &driver_find(&d, id)->streams[0].detail,
                              *b = &driver_find(&d, id)->streams[1].detail;
    assert_int_equal(b->cached_tokens, 12);
    assert_int_equal(b->cached_tokens, a->cached_tokens);
    assert_true(b->first_planned_ns == a->first_planned_ns && b->first_planned_ns > 0);
    assert_true(b->prompt_done_ns == a->prompt_done_ns && b->prompt_done_ns > 0);
    driver_stop(&d);
}

static void min_tokens_masks_stops_and_max_tokens_ends(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(32, 4);
    options.eos_count            = 1;
    options.eos_token_ids[0]     = 0; /* the only token there is */
    driver_start(&d, &options);
    d.token_below         = 1;
    quire_request request = driver_request_of(6);
    request.ignore_eos = false, request.min_tokens = 4;
    const quire_request_id a = driver_submit(&d, request, 3, 5, NULL);
    for (uint32_t i = 0; i < 4; i++) {
        driver_plan(&d);
        assert_true(d.plan->samples[0].mask_stops);
        assert_int_equal(d.plan->samples[0].index, i);
        driver_commit(&d); /* the model does not mask: rule 1 holds in the stop check as well */
    }
    assert_int_equal(driver_find(&d, a)->streams[0].count, 4);
    assert_int_equal(driver_find(&d, a)->streams[0].finish, QUIRE_FINISH_STOP);
    const int32_t stop = 0;
    request.min_tokens = 0, request.ignore_eos = true, request.stop = &stop, request.stop_count = 1;
    const quire_request_id b = driver_submit(&d, request, 3, 6, NULL);
    driver_plan(&d);
    assert_false(d.plan->samples[0].mask_stops);
    driver_commit(&d);
    assert_int_equal(driver_find(&d, b)->streams[0].finish, QUIRE_FINISH_STOP);
    request.stop_count       = 0;
    const quire_request_id c = driver_submit(&d, request, 3, 7, NULL);
    driver_run(&d, 50);
    assert_int_equal(driver_find(&d, c)->streams[0].finish, QUIRE_FINISH_LENGTH);
    assert_int_equal(driver_find(&d, c)->streams[0].count, 6);
    driver_stop_empty(&d);
}

static void a_sequence_ends_at_max_model_len(void **state)
{
    (void)state;
    driver_start_blocks(&d, 40);
    const quire_request_id id = driver_submit(&d, driver_request_of(0), 120, 1, NULL);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, id)->streams[0].count, 8);
    assert_int_equal(driver_find(&d, id)->streams[0].finish, QUIRE_FINISH_LENGTH);
    driver_stop_empty(&d);
}

static void logits_that_are_not_finite_end_their_request_only(void **state)
{
    (void)state;
    driver_start_blocks(&d, 32);
    const quire_request_id a = driver_running(&d, 20, 5, 1), b = driver_running(&d, 20, 6, 2);
    d.not_finite = a;
    driver_step(&d);
    assert_int_equal(driver_find(&d, a)->streams[0].finish, QUIRE_FINISH_ERROR);
    assert_int_equal(driver_find(&d, a)->streams[0].status, QUIRE_ERR_EXECUTION);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, b)->streams[0].count, 20);
    driver_stop_empty(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unfinished_prompt_emits_nothing),
        cmocka_unit_test(nothing_is_found_before_its_step_has_completed),
        cmocka_unit_test(reading_and_writing_the_cache_can_be_skipped),
        cmocka_unit_test(an_encoder_owner_cancelled_in_flight_publishes_nothing),
        cmocka_unit_test(a_window_lets_go_of_what_no_row_can_see),
        cmocka_unit_test(a_fork_shares_all_blocks_and_each_sequence_ends_alone),
        cmocka_unit_test(v11_five_sequences_of_one_prompt_share_it_and_copy_the_tail),
        cmocka_unit_test(forked_sequences_tell_the_history_of_their_prompt),
        cmocka_unit_test(min_tokens_masks_stops_and_max_tokens_ends),
        cmocka_unit_test(a_sequence_ends_at_max_model_len),
        cmocka_unit_test(logits_that_are_not_finite_end_their_request_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
