/* Each transition of docs/SCHEDULER.md, section 5: its cause, the blocks it leaves, and the events it brings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static quire_request_id running_for(uint32_t max_tokens, uint32_t prompt, uint32_t seed)
{
    const quire_request_id id = driver_submit(&d, driver_request_of(max_tokens), prompt, seed, NULL);
    driver_step(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    return id;
}

static quire_request_id running(uint32_t prompt, uint32_t seed) { return running_for(20, prompt, seed); }

/* Two sequences on a pool so small that the younger one loses its tail. */
static quire_request_id preempted(quire_request_id *senior_out)
{
    *senior_out               = driver_submit(&d, driver_request_of(13), 11, 1, NULL);
    const quire_request_id id = driver_submit(&d, driver_request_of(10), 8, 2, NULL);
    for (uint32_t i = 0; i < 3; i++) driver_step(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_PREEMPTED);
    return id;
}

static void start(uint32_t num_blocks)
{
    const qr_scheduler_options options = driver_options(num_blocks, 4);
    driver_start(&d, &options);
}

static void assert_all_free(void)
{
    assert_int_equal(driver_stats(&d).blocks_free, d.options.num_blocks);
    assert_true(qr_scheduler_idle(d.scheduler));
    driver_stop(&d);
}

static void assert_cancelled(quire_request_id id, uint32_t tokens)
{
    const driver_stream *stream = &driver_find(&d, id)->streams[0];
    assert_int_equal(stream->ends, 1);
    assert_int_equal(stream->finish, QUIRE_FINISH_CANCELLED);
    assert_int_equal(stream->count, tokens);
    assert_true(driver_find(&d, id)->last_seen);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_ERR_NOT_FOUND);
}

static void a_new_request_waits_without_blocks_then_runs(void **state)
{
    (void)state;
    start(8);
    const quire_request_id id = driver_submit(&d, driver_request_of(2), 6, 1, NULL);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_QUEUED);
    assert_int_equal(driver_view(&d, id, 0).block_count, 0);
    assert_int_equal(driver_stats(&d).queued_tokens, 6);
    driver_step(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    assert_int_equal(driver_view(&d, id, 0).block_count, 2);
    assert_int_equal(driver_stats(&d).queued_tokens, 0);
    driver_step(&d);
    assert_int_equal(driver_find(&d, id)->streams[0].finish, QUIRE_FINISH_LENGTH);
    assert_all_free();
}

static void a_request_is_cancelled_while_queued(void **state)
{
    (void)state;
    start(8);
    quire_request request     = driver_request_of(2);
    request.n                 = 3;
    const quire_request_id id = driver_submit(&d, request, 6, 1, NULL);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(driver_find(&d, id)->streams[i].finish, QUIRE_FINISH_CANCELLED);
    assert_cancelled(id, 0);
    assert_all_free();
}

static void a_request_is_cancelled_while_running(void **state)
{
    (void)state;
    start(16);
    const quire_request_id id = running(6, 1), other = running(7, 2);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    driver_check(&d);
    assert_cancelled(id, 2);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, other)->streams[0].count, 20);
    assert_all_free();
}

static void a_request_cancelled_in_flight_keeps_its_blocks_until_commit(void **state)
{
    (void)state;
    start(16);
    const quire_request_id id = running(6, 1), other = running(7, 2);
    driver_plan(&d);
    const uint64_t used = driver_stats(&d).blocks_used;
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_check(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RETIRING);
    assert_int_equal(driver_stats(&d).blocks_used, used);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_ERR_NOT_FOUND);
    driver_take_events(&d);
    driver_commit(&d);
    assert_cancelled(id, 2);
    assert_true(driver_stats(&d).blocks_used < used);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, other)->streams[0].count, 20);
    assert_all_free();
}

static void a_prompt_cancelled_in_flight_leaves_nothing_in_the_prefix_index(void **state)
{
    (void)state;
    qr_scheduler_options options  = driver_options(16, 4);
    options.enable_prefix_caching = true;
    driver_start(&d, &options);
    const quire_request_id id = driver_submit(&d, driver_request_of(2), 12, 1, NULL);
    driver_plan(&d);
    qr_scheduler_cancel(d.scheduler, id, d.now_ns);
    driver_commit(&d);
    assert_int_equal(driver_stats(&d).blocks_cached, 0);
    assert_all_free();
}

static void a_request_is_cancelled_while_preempted(void **state)
{
    (void)state;
    start(6);
    quire_request_id       senior;
    const quire_request_id id     = preempted(&senior);
    const uint32_t         tokens = driver_find(&d, id)->streams[0].count;
    assert_int_equal(qr_scheduler_cancel(d.scheduler, id, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    assert_cancelled(id, tokens);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, senior)->streams[0].count, 13);
    assert_all_free();
}

static void a_preempted_sequence_comes_back_and_repeats_nothing(void **state)
{
    (void)state;
    start(6);
    quire_request_id       senior;
    const quire_request_id id = preempted(&senior);
    driver_run(&d, 100); /* the driver compares each token and its index */
    assert_int_equal(driver_find(&d, id)->streams[0].count, 10);
    assert_true(driver_stats(&d).tokens_recomputed > 0);
    assert_all_free();
}

static void recompute_mode_takes_every_block_of_a_victim(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(6, 4);
    options.preemption_mode      = QUIRE_PREEMPTION_RECOMPUTE;
    driver_start(&d, &options);
    quire_request_id       senior;
    const quire_request_id id = preempted(&senior);
    assert_int_equal(driver_view(&d, id, 0).block_count, 0); /* tail mode leaves it 2 of 3 */
    assert_int_equal(driver_view(&d, id, 0).computed, 0);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, id)->streams[0].count, 10);
    assert_int_equal(driver_find(&d, senior)->streams[0].count, 13);
    assert_all_free();
}

static void a_paused_sequence_keeps_its_blocks_and_gives_up_its_place(void **state)
{
    (void)state;
    start(16);
    const quire_request_id id     = running(6, 1);
    const uint32_t         blocks = driver_view(&d, id, 0).block_count;
    assert_int_equal(qr_scheduler_pause(d.scheduler, id, d.now_ns), QUIRE_OK);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_PAUSED);
    assert_int_equal(driver_view(&d, id, 0).block_count, blocks);
    assert_int_equal(driver_stats(&d).running, 0);
    assert_int_equal(driver_reason(&d, id), QUIRE_WAIT_READER);
    assert_false(driver_step(&d));
    assert_int_equal(qr_scheduler_resume(d.scheduler, id, d.now_ns), QUIRE_OK);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_PREEMPTED);
    driver_step(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    driver_run(&d, 100);
    assert_int_equal(driver_stats(&d).tokens_recomputed, 0);
    assert_all_free();
}

static void a_pause_in_flight_takes_effect_after_the_step(void **state)
{
    (void)state;
    start(16);
    quire_request request     = driver_request_of(5);
    request.n                 = 3;
    const quire_request_id id = driver_submit(&d, request, 6, 1, NULL);
    driver_plan(&d);
    assert_int_equal(qr_scheduler_pause(d.scheduler, id, d.now_ns), QUIRE_OK);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    driver_commit(&d);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(driver_find(&d, id)->streams[i].count, 1);
        assert_int_equal(driver_view(&d, id, i).state, QR_SEQUENCE_PAUSED);
    }
    assert_false(driver_step(&d));
    qr_scheduler_resume(d.scheduler, id, d.now_ns);
    driver_run(&d, 100);
    assert_all_free();
}

static void a_paused_sequence_is_the_first_to_lose_blocks_and_may_be_cancelled(void **state)
{
    (void)state;
    start(6);
    const quire_request_id old = running_for(10, 11, 1);
    qr_scheduler_pause(d.scheduler, old, d.now_ns);
    const quire_request_id young = running_for(10, 10, 2); /* junior, but the other one is paused */
    for (uint32_t i = 0; i < 6; i++) driver_step(&d);
    assert_int_equal(driver_view(&d, young, 0).state, QR_SEQUENCE_RUNNING);
    assert_int_equal(driver_view(&d, young, 0).block_count, 4);
    assert_int_equal(driver_view(&d, old, 0).block_count, 2);
    assert_int_equal(qr_scheduler_cancel(d.scheduler, old, d.now_ns), QUIRE_OK);
    driver_take_events(&d);
    assert_cancelled(old, 1);
    qr_scheduler_cancel(d.scheduler, young, d.now_ns);
    driver_take_events(&d);
    assert_all_free();
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
    assert_int_equal(d.plan->entry_count, 1);
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
    assert_all_free();
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
        assert_int_equal(d.plan->samples[0].output_index, i);
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
    assert_all_free();
}

static void a_sequence_ends_at_max_model_len(void **state)
{
    (void)state;
    start(40);
    const quire_request_id id = driver_submit(&d, driver_request_of(0), 120, 1, NULL);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, id)->streams[0].count, 8);
    assert_int_equal(driver_find(&d, id)->streams[0].finish, QUIRE_FINISH_LENGTH);
    assert_all_free();
}

static void deadlines_end_what_waits_and_what_runs(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(32, 4);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    quire_request request    = driver_request_of(50);
    request.queue_timeout_ns = 10000;
    const quire_request_id a = driver_submit(&d, request, 5, 1, NULL); /* admitted at once: no longer bound by it */
    const quire_request_id b = driver_submit(&d, request, 5, 2, NULL);
    request.queue_timeout_ns = 0, request.timeout_ns = 30000;
    const quire_request_id c = driver_submit(&d, request, 5, 3, NULL);
    for (uint32_t i = 0; i < 10; i++) driver_step(&d);
    assert_int_equal(driver_find(&d, b)->streams[0].finish, QUIRE_FINISH_TIMEOUT);
    assert_int_equal(driver_find(&d, c)->streams[0].ends, 0);
    qr_scheduler_cancel(d.scheduler, a, d.now_ns);
    for (uint32_t i = 0; i < 10; i++) driver_step(&d);
    assert_int_equal(driver_find(&d, c)->streams[0].finish, QUIRE_FINISH_TIMEOUT);
    assert_true(driver_find(&d, c)->streams[0].count > 0);
    driver_take_events(&d);
    assert_all_free();
}

static void logits_that_are_not_finite_end_their_request_only(void **state)
{
    (void)state;
    start(32);
    const quire_request_id a = running(5, 1), b = running(6, 2);
    d.not_finite = a;
    driver_step(&d);
    assert_int_equal(driver_find(&d, a)->streams[0].finish, QUIRE_FINISH_ERROR);
    assert_int_equal(driver_find(&d, a)->streams[0].status, QUIRE_ERR_EXECUTION);
    driver_run(&d, 100);
    assert_int_equal(driver_find(&d, b)->streams[0].count, 20);
    assert_all_free();
}

static void equal_calls_give_equal_decisions(void **state)
{
    (void)state;
    uint64_t hashes[3];
    for (uint32_t run = 0; run < 3; run++) {
        start(10);
        for (uint32_t i = 0; i < 12; i++) {
            driver_submit(&d, driver_request_of(3 + i % 5), 3 + i, i + (run == 2 && i == 11), NULL);
            driver_step(&d);
        }
        driver_run(&d, 200);
        hashes[run] = qr_scheduler_decision_hash(d.scheduler);
        driver_stop(&d);
    }
    assert_true(hashes[0] == hashes[1]);
    assert_true(hashes[0] == hashes[2]); /* decisions depend on lengths, not on what the tokens are */
}

static bool     closed;
static uint32_t allocations;

static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    assert_false(closed);
    allocations++;
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void deallocate(void *context, void *pointer, size_t size)
{
    (void)context, (void)size;
    assert_false(closed);
    free(pointer);
}

static void nothing_is_allocated_after_creation(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(12, 4);
    options.allocator            = (quire_allocator){.allocate = allocate, .deallocate = deallocate};
    closed                       = false;
    driver_start(&d, &options);
    closed = true;
    assert_true(allocations > 0);
    for (uint32_t i = 0; i < 20; i++) {
        driver_submit(&d, driver_request_of(4 + i % 9), 3 + i, i, NULL);
        driver_step(&d);
    }
    driver_run(&d, 300);
    closed = false;
    assert_all_free();
}

static void *refuse(void *context, size_t size, size_t alignment)
{
    (void)alignment;
    return (*(uint32_t *)context)-- == 0 ? NULL : aligned_alloc(64, (size + 63) / 64 * 64);
}

static void each_refused_allocation_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    uint32_t k = 0;
    for (quire_status status = QUIRE_ERR_NO_MEMORY; status != QUIRE_OK; k++) {
        uint32_t             left    = k;
        quire_error          error   = {0};
        qr_scheduler        *created = NULL;
        qr_scheduler_options options = driver_options(12, 4);
        options.allocator = (quire_allocator){.context = &left, .allocate = refuse, .deallocate = deallocate};
        status            = qr_scheduler_create(&options, &created, &error);
        assert_true(status == QUIRE_OK || (status == QUIRE_ERR_NO_MEMORY && created == NULL && error.message[0] != 0));
        qr_scheduler_destroy(created);
        assert_true(k < 20);
    }
    assert_true(k >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_request_waits_without_blocks_then_runs),
        cmocka_unit_test(a_request_is_cancelled_while_queued),
        cmocka_unit_test(a_request_is_cancelled_while_running),
        cmocka_unit_test(a_request_cancelled_in_flight_keeps_its_blocks_until_commit),
        cmocka_unit_test(a_prompt_cancelled_in_flight_leaves_nothing_in_the_prefix_index),
        cmocka_unit_test(a_request_is_cancelled_while_preempted),
        cmocka_unit_test(a_preempted_sequence_comes_back_and_repeats_nothing),
        cmocka_unit_test(recompute_mode_takes_every_block_of_a_victim),
        cmocka_unit_test(a_paused_sequence_keeps_its_blocks_and_gives_up_its_place),
        cmocka_unit_test(a_pause_in_flight_takes_effect_after_the_step),
        cmocka_unit_test(a_paused_sequence_is_the_first_to_lose_blocks_and_may_be_cancelled),
        cmocka_unit_test(a_fork_shares_all_blocks_and_each_sequence_ends_alone),
        cmocka_unit_test(min_tokens_masks_stops_and_max_tokens_ends),
        cmocka_unit_test(a_sequence_ends_at_max_model_len),
        cmocka_unit_test(deadlines_end_what_waits_and_what_runs),
        cmocka_unit_test(logits_that_are_not_finite_end_their_request_only),
        cmocka_unit_test(equal_calls_give_equal_decisions),
        cmocka_unit_test(nothing_is_allocated_after_creation),
        cmocka_unit_test(each_refused_allocation_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
