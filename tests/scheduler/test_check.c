/* The walker: each rule, S1 to S8, is broken once and named. The cache's rules have their own test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/state.h"
#include "support/scheduler_driver.h"

static driver        d;
static qr_scheduler *s;

static void assert_breaks(const char *rule)
{
    const char *found = qr_scheduler_check(s);
    if (found == NULL || strcmp(found, rule) != 0) fail_msg("%s, not: %s", found ? found : "no rule", rule);
}

/* The value is broken, found, and mended. */
#define BREAK(place, value, rule)                                                                                      \
    do {                                                                                                               \
        const __typeof__(place) kept_ = (place);                                                                       \
        (place)                       = (value);                                                                       \
        assert_breaks(rule);                                                                                           \
        (place) = kept_;                                                                                               \
        assert_null(qr_scheduler_check(s));                                                                            \
    } while (0)

/* Two groups RUNNING, one QUEUED. */
static int set_up(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(32, 4);
    options.max_num_seqs         = 2;
    driver_start(&d, &options);
    s = d.scheduler;
    for (uint32_t i = 0; i < 3; i++) driver_submit_new(&d, 6, 20);
    driver_step(&d);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    driver_stop(&d);
    return 0;
}

static void lists_and_their_order_are_checked(void **state)
{
    (void)state;
    qr_sequence *first = &s->sequences[s->running.head], *second = &s->sequences[s->running.tail];
    BREAK(first->state, QR_SEQUENCE_PAUSED, "S1: a list has a group of another state");
    BREAK(second->link.prev, QR_NONE, "S1: next and prev of a list disagree");
    BREAK(s->running.tail, s->running.head, "S1: a list's tail is wrong");
    BREAK(second->rank.low, 0, "S2: RUNNING is not sorted by rank");
    qr_scheduler_pause(s, 1, d.now_ns);
    BREAK(s->paused, QR_LIST_EMPTY, "S1: a live group is in no list, or a retiring one is");
}

static void heaps_are_checked(void **state)
{
    (void)state;
    qr_tenant     *tenant = &s->tenants[s->active.head];
    const uint32_t queued = tenant->heap.nodes[0].item;
    BREAK(tenant->heap.nodes[0].item, s->running.head, "S3: a tenant's heap is out of order");
    BREAK(s->sequences[queued].state, QR_SEQUENCE_RUNNING, "S3: a heap has a group that does not wait");
    BREAK(qr_request_of(s, queued)->tenant, 1, "S3: a group is in another tenant's heap");
    BREAK(s->sequences[queued].self.count, 1, "S5: a QUEUED sequence holds blocks");
    BREAK(tenant->waiting, 2, "S3: a tenant's heap misses a group");
    BREAK(s->waiting_groups, 2, "S3: waiting groups are miscounted");
    quire_request request = driver_request_of(4);
    request.timeout_ns    = 1000000;
    driver_submit(&d, request, 4, 9, NULL);
    BREAK(s->deadlines.index_of[s->deadlines.nodes[0].item], 1, "S3: the heap of deadlines is out of order");
}

static void a_sequence_is_checked(void **state)
{
    (void)state;
    const uint32_t group = s->running.head;
    qr_sequence   *q     = &s->sequences[group];
    BREAK(q->length, 5, "S4: a length is out of range");
    BREAK(q->computed, q->length, "S4: nothing is left to do for a live sequence");
    BREAK(s->requests[q->request].stored.max_tokens, 0, "S4: more than max_tokens");
    BREAK(q->self.running, false, "S5: a table's state is not its sequence's");
}

static void what_is_counted_is_counted_again(void **state)
{
    (void)state;
    BREAK(s->sequences[s->running.head].slots, 2, "S7: a state's slots are miscounted");
    BREAK(s->queued_tokens, 7, "S7: queued tokens are miscounted");
    BREAK(s->options.max_num_seqs, 1, "S7: more slots than max_num_seqs");
    BREAK(s->promised_blocks, 1, "S7: promised blocks are miscounted");
}

static void a_plan_in_flight_is_checked(void **state)
{
    (void)state;
    driver_plan(&d);
    BREAK(s->in_flight, false, "S8: groups are planned, but no step is in flight");
    BREAK(s->arrays.sequences[1].row_start, 0, "S8: an entry's rows are wrong");
    BREAK(s->arrays.sequences[0].position, 1, "S8: an entry does not start where computed ends");
    BREAK(s->arrays.sequence_records[0], s->tenants[s->active.head].heap.nodes[0].item,
          "S8: a planned sequence is not RUNNING");
    BREAK(s->plan.rows, 1, "S8: more rows than max_num_batched_tokens");
    BREAK(s->plan.rows_encoder, 33, "S8: more encoder tokens than allowed");
    driver_commit(&d);
}

static void the_beams_of_a_search_must_agree(void **state)
{
    (void)state;
    for (quire_request_id id = 1; id <= 3; id++) qr_scheduler_cancel(s, id, d.now_ns);
    driver_take_events(&d);
    quire_request request = driver_request_of(8);
    request.beam_width    = 2;
    driver_submit(&d, request, 6, 9, NULL);
    driver_step(&d);
    const uint32_t beam = s->sequences[s->running.head].next_member;
    assert_int_not_equal(beam, QR_NONE);
    BREAK(s->sequences[beam].computed, 5, "S6: beams of a search differ in state or length");
}

static void cross_blocks_come_before_self_blocks(void **state)
{
    tear_down(state);
    qr_scheduler_options options = driver_options(32, 4);
    options.encoder_decoder      = true;
    driver_start(&d, &options);
    s = d.scheduler;
    driver_submit_encoder(&d, driver_request_of(4), 6, 1, 1, 1);
    driver_step(&d);
    BREAK(s->sequences[s->running.head].cross.count, 0, "S5: self blocks without cross blocks");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(lists_and_their_order_are_checked),
        TEST(heaps_are_checked),
        TEST(a_sequence_is_checked),
        TEST(what_is_counted_is_counted_again),
        TEST(a_plan_in_flight_is_checked),
        TEST(the_beams_of_a_search_must_agree),
        TEST(cross_blocks_come_before_self_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
