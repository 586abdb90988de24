/* Sequence groups: order, slots, what a group keeps of its blocks, how many rows its blocks allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scheduler/state.h"
#include "support/scheduler_driver.h"

static driver d;

static void running_groups_are_sorted_by_rank_whoever_came_first(void **state)
{
    (void)state;
    driver_start_blocks(&d, 64);
    const quire_request_id a = driver_running(&d, 20, 4, 1), b = driver_running(&d, 20, 4, 2);
    qr_scheduler_pause(d.scheduler, a, d.now_ns);
    driver_step(&d);
    qr_scheduler_resume(d.scheduler, a, d.now_ns);
    driver_plan(&d); /* a is admitted behind b, and goes before it */
    const qr_list *running = &d.scheduler->running;
    assert_int_equal(qr_request_of(d.scheduler, running->head)->id, a);
    assert_int_equal(qr_request_of(d.scheduler, running->tail)->id, b);
    driver_commit(&d);
    driver_finish(&d);
}

static void a_group_takes_a_slot_for_each_sequence_it_stands_for(void **state)
{
    (void)state;
    driver_start_blocks(&d, 64);
    quire_request request     = driver_request_of(6);
    request.n                 = 3;
    const quire_request_id id = driver_submit(&d, request, 4, 1, NULL);
    assert_int_equal(d.scheduler->slots[QR_SEQUENCE_QUEUED], 3);
    driver_plan(&d);
    assert_int_equal(d.scheduler->slots[QR_SEQUENCE_QUEUED], 0);
    assert_int_equal(d.scheduler->slots[QR_SEQUENCE_RUNNING], 3);
    assert_int_equal(d.scheduler->groups_running, 1); /* not forked yet */
    driver_commit(&d);
    assert_int_equal(d.scheduler->slots[QR_SEQUENCE_RUNNING], 3);
    assert_int_equal(d.scheduler->groups_running, 3);
    qr_scheduler_pause(d.scheduler, id, d.now_ns);
    assert_int_equal(d.scheduler->slots[QR_SEQUENCE_PAUSED], 3);
    assert_int_equal(d.scheduler->groups_running, 0);
    qr_scheduler_resume(d.scheduler, id, d.now_ns);
    driver_finish(&d);
}

static void a_truncated_group_computes_again_what_it_lost(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    driver_running(&d, 20, 14, 1);
    qr_sequence *g = &d.scheduler->sequences[d.scheduler->running.head];
    assert_int_equal(g->computed, 14);
    qr_group_truncate(d.scheduler, d.scheduler->running.head, 2);
    assert_int_equal(g->self.count, 2);
    assert_int_equal(g->computed, 8);
    driver_check(&d);
    driver_finish(&d);
}

static void a_table_that_its_window_has_left_keeps_all_or_nothing(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(32, 4);
    options.window               = 8;
    driver_start(&d, &options);
    driver_running(&d, 20, 20, 1);
    qr_sequence *g = &d.scheduler->sequences[d.scheduler->running.head];
    assert_true(g->self.first > 0);
    qr_group_truncate(d.scheduler, d.scheduler->running.head, g->self.count);
    assert_int_equal(g->computed, 20);
    qr_group_truncate(d.scheduler, d.scheduler->running.head, g->self.count - 1);
    assert_int_equal(g->self.count, 0);
    assert_int_equal(g->computed, 0);
    driver_finish(&d);
}

static void a_local_table_that_its_window_has_left_keeps_all_or_nothing(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(32, 4);
    options.local_window         = 8;
    options.num_local_blocks     = 32;
    driver_start(&d, &options);
    driver_running(&d, 20, 20, 1);
    qr_sequence *g = &d.scheduler->sequences[d.scheduler->running.head];
    assert_int_equal(g->self.first, 0);
    assert_int_equal(g->local.first, 3); /* position 20 sees from 13 on */
    qr_group_truncate(d.scheduler, d.scheduler->running.head, g->self.count - 1);
    assert_int_equal(g->self.count + g->local.count, 0);
    assert_int_equal(g->computed, 0);
    driver_finish(&d);
}

static void the_rows_that_fit_are_those_of_blocks_held_and_available(void **state)
{
    (void)state;
    driver_start_blocks(&d, 6);
    driver_running(&d, 4, 10, 1); /* 3 of 6 blocks, 2 token slots of the third are left */
    const uint32_t group = d.scheduler->running.head;
    assert_int_equal(qr_group_rows_that_fit(d.scheduler, group, 100), 2 + 3 * 4);
    assert_int_equal(qr_group_rows_that_fit(d.scheduler, group, 5), 5);
    assert_int_equal(qr_group_missing(d.scheduler, group, 24), 3);
    driver_finish(&d);
}

static void each_group_that_shares_a_tail_expects_a_copy_and_the_last_writes_in_place(void **state)
{
    (void)state;
    driver_start_blocks(&d, 32);
    quire_request request = driver_request_of(6);
    request.n             = 3;
    driver_submit(&d, request, 6, 1, NULL);
    driver_step(&d); /* forked: the second block of 4 is half full, and named by three */
    uint32_t copies = 0;
    for (uint32_t g = d.scheduler->running.head; g != QR_NONE; g = d.scheduler->sequences[g].link.next)
        copies += qr_group_copies(d.scheduler, g);
    assert_int_equal(copies, 3); /* groups of their own: each must expect to copy */
    driver_plan(&d);
    assert_int_equal(d.plan->copy_count, 2); /* the last one writes in place */
    driver_commit(&d);
    driver_finish(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(running_groups_are_sorted_by_rank_whoever_came_first),
        cmocka_unit_test(a_group_takes_a_slot_for_each_sequence_it_stands_for),
        cmocka_unit_test(a_truncated_group_computes_again_what_it_lost),
        cmocka_unit_test(a_table_that_its_window_has_left_keeps_all_or_nothing),
        cmocka_unit_test(a_local_table_that_its_window_has_left_keeps_all_or_nothing),
        cmocka_unit_test(the_rows_that_fit_are_those_of_blocks_held_and_available),
        cmocka_unit_test(each_group_that_shares_a_tail_expects_a_copy_and_the_last_writes_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
