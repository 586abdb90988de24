/* Beam search against a naive one: tokens, scores, ends; together, under preemption, with cross-attention. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/beam_reference.h"

enum { STOP = 3 };

static qr_scheduler_options options_for(uint32_t num_blocks)
{
    qr_scheduler_options options  = driver_options(num_blocks, 4);
    options.max_num_seqs          = 8;
    options.eos_count             = 1;
    options.eos_token_ids[0]      = STOP;
    options.enable_prefix_caching = true;
    return options;
}

static quire_request search_of(uint32_t width, uint32_t n, float penalty, quire_early_stopping early, uint32_t tokens)
{
    quire_request request  = driver_request_of(tokens);
    request.ignore_eos     = false;
    request.beam_width     = width;
    request.n              = n;
    request.length_penalty = penalty;
    request.early_stopping = early;
    return request;
}

static void assert_equals_reference(driver *d, quire_request_id id, const quire_request *request)
{
    static beam_hypothesis expected[DRIVER_BEAMS];
    driver_request        *r     = driver_find(d, id);
    const uint32_t         count = beam_reference(d, r, request, STOP, expected);
    assert_true(count >= request->n);
    for (uint32_t i = 0; i < (request->n ? request->n : 1); i++) {
        const driver_stream *stream = &r->streams[i];
        assert_int_equal(stream->count, expected[i].count);
        assert_memory_equal(stream->tokens, expected[i].tokens, expected[i].count * sizeof(int32_t));
        assert_true(stream->detail.score == (float)expected[i].score);
        assert_int_equal(stream->finish, expected[i].ended ? QUIRE_FINISH_STOP : QUIRE_FINISH_LENGTH);
    }
}

static void a_search_equals_the_naive_one(void **state)
{
    (void)state;
    const float penalties[] = {0.0f, 1.0f, 2.0f, -1.0f};
    uint32_t    ends[8]     = {0};
    for (uint32_t seed = 0; seed < 60; seed++) {
        driver                     d;
        const qr_scheduler_options options = options_for(64);
        driver_start(&d, &options);
        d.token_below                  = 17;
        const uint32_t         width   = 2 + qr_random_below(seed, 1, 1, 4);
        const quire_request    request = search_of(width, 1 + qr_random_below(seed, 1, 2, width), penalties[seed % 4],
                                                   (quire_early_stopping)(seed / 4 % 3), 1 + seed % 25);
        const quire_request_id id      = driver_submit(&d, request, 1 + seed % 9, seed, NULL);
        driver_run(&d, 200);
        assert_equals_reference(&d, id, &request);
        ends[driver_find(&d, id)->streams[0].finish]++;
        driver_stop(&d);
    }
    assert_true(ends[QUIRE_FINISH_STOP] >= 5 && ends[QUIRE_FINISH_LENGTH] >= 5);
}

static void searches_equal_the_naive_one_in_company_and_when_preempted(void **state)
{
    (void)state;
    uint64_t preemptions = 0, copies = 0;
    for (uint32_t seed = 0; seed < 30; seed++) {
        driver               d;
        qr_scheduler_options options = options_for(22);
        quire_request        requests[6];
        quire_request_id     ids[6];
        options.max_num_seqs = 16;
        driver_start(&d, &options);
        d.token_below = 40;
        for (uint32_t i = 0; i < 6; i++) {
            requests[i] = i % 3 == 1 ? driver_request_of(20) : search_of(3, 2, 1, QUIRE_EARLY_STOPPING_FALSE, 14);
            ids[i]      = driver_submit(&d, requests[i], 5 + i, seed * 6 + i, NULL);
        }
        driver_run(&d, 500);
        for (uint32_t i = 0; i < 6; i++)
            if (requests[i].beam_width > 1) assert_equals_reference(&d, ids[i], &requests[i]);
        preemptions += driver_stats(&d).preemptions;
        copies += driver_stats(&d).copies;
        driver_stop(&d);
    }
    assert_true(preemptions > 20);
    assert_true(copies > 100);
}

static void the_beams_of_an_encoder_decoder_request_share_its_cross_blocks(void **state)
{
    (void)state;
    driver               d;
    qr_scheduler_options options = options_for(64);
    options.encoder_decoder      = true;
    driver_start(&d, &options);
    d.token_below                  = 40;
    const quire_request    request = search_of(4, 4, 1, QUIRE_EARLY_STOPPING_FALSE, 12);
    const quire_request_id id      = driver_submit_encoder(&d, request, 20, 7, 1, 1);
    driver_step(&d);
    driver_step(&d);
    assert_int_equal(driver_stats(&d).cross_blocks_used, 5);
    driver_run(&d, 100);
    assert_equals_reference(&d, id, &request);
    assert_int_equal(driver_stats(&d).encoder_runs, 1);
    driver_stop(&d);
}

static void a_cancelled_search_ends_without_tokens(void **state)
{
    (void)state;
    driver                     d;
    const qr_scheduler_options options = options_for(64);
    driver_start(&d, &options);
    const quire_request_id id = driver_submit(&d, search_of(3, 2, 1, QUIRE_EARLY_STOPPING_FALSE, 30), 6, 1, NULL);
    driver_step(&d);
    driver_step(&d);
    driver_plan(&d);
    assert_int_equal(d.plan->sequence_count, 3);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_commit(&d);
    assert_true(qr_scheduler_idle(d.scheduler));
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(driver_find(&d, id)->streams[i].finish, QUIRE_FINISH_CANCELLED);
        assert_int_equal(driver_find(&d, id)->streams[i].count, 0);
    }
    driver_stop(&d);
}

static void more_tokens_than_fit_are_delivered_clear_by_clear(void **state)
{
    (void)state;
    driver               d;
    qr_scheduler_options options  = options_for(2000);
    options.max_model_len         = 320;
    options.max_num_queued_tokens = 4096;
    driver_start(&d, &options);
    quire_request request     = search_of(8, 8, 1, QUIRE_EARLY_STOPPING_FALSE, 300);
    request.ignore_eos        = true;
    const quire_request_id id = driver_submit(&d, request, 6, 1, NULL);
    driver_run(&d, 400);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(driver_find(&d, id)->streams[i].count, 300);
    driver_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_equals_the_naive_one),
        cmocka_unit_test(searches_equal_the_naive_one_in_company_and_when_preempted),
        cmocka_unit_test(the_beams_of_an_encoder_decoder_request_share_its_cross_blocks),
        cmocka_unit_test(a_cancelled_search_ends_without_tokens),
        cmocka_unit_test(more_tokens_than_fit_are_delivered_clear_by_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
