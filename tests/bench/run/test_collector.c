/* What a run's record says of events and steps that are made up here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/run/collector.h"

enum { START_NS = 1000, REQUESTS = 2, SEQUENCES = 2 };

typedef struct fixture {
    const quire_event *events; /* [left] to be polled */
    size_t             left;
    qr_target          target;
    qr_run             run;
    qr_generator       generator;
    int64_t            free_since[2];
    qr_collector       collector;
} fixture;

static size_t poll_events(void *self, quire_event *events, size_t capacity)
{
    fixture     *f     = self;
    const size_t count = f->left < capacity ? f->left : capacity;
    memcpy(events, f->events, count * sizeof *events);
    f->events += count;
    f->left -= count;
    return count;
}

static void begin(fixture *f)
{
    *f                   = (fixture){.target = {.self = f, .poll = poll_events}};
    f->generator         = (qr_generator){.run = &f->run, .streams = 2, .free_since = f->free_since};
    f->run.requests      = calloc(REQUESTS, sizeof *f->run.requests);
    f->run.request_count = REQUESTS;
    for (int i = 0; i < REQUESTS; i++)
        f->run.requests[i] = (qr_run_request){.first_ns = -1, .end_ns = -1, .planned_ns = -1, .tpot_ns = -1};
    f->collector = (qr_collector){
        .generator = &f->generator, .run = &f->run, .start_ns = START_NS, .sequences_per_request = SEQUENCES};
}

static void take(fixture *f, const quire_event *events, size_t count)
{
    f->events = events;
    f->left   = count;
    assert_int_equal(qr_collector_take_events(&f->collector, &f->target), QUIRE_OK);
}

static void end(fixture *f)
{
    qr_collector_deinit(&f->collector);
    qr_run_deinit(&f->run);
}

static quire_event token(uintptr_t request, uint32_t sequence, uint64_t ns)
{
    return (quire_event){
        .user_data = (void *)request, .sequence = sequence, .time_ns = START_NS + ns, .kind = QUIRE_EVENT_TOKEN};
}

static quire_event finish(uintptr_t request, uint32_t sequence, uint64_t ns, bool last,
                          const quire_finish_detail *detail)
{
    quire_event event = token(request, sequence, ns);
    event.kind        = QUIRE_EVENT_FINISHED;
    event.finish      = QUIRE_FINISH_STOP;
    event.last        = last;
    event.detail      = detail;
    return event;
}

static void gaps_are_between_tokens_of_one_sequence(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    const quire_event events[] = {token(1, 0, 10), token(1, 1, 12), token(0, 0, 13), token(1, 0, 20), token(1, 1, 42)};
    take(&f, events, 5);
    assert_int_equal(f.run.requests[1].first_ns, 10);
    assert_int_equal(f.run.requests[0].first_ns, 13);
    assert_int_equal(f.run.requests[1].output_tokens, 4);
    assert_int_equal(f.run.token_count, 5);
    assert_int_equal(f.run.tokens[4], 42);
    assert_int_equal(f.run.gap_count, 2);
    assert_int_equal(f.run.gaps[0].gap_ns, 10);
    assert_int_equal(f.run.gaps[1].gap_ns, 30);
    assert_int_equal(f.run.gaps[1].request, 1);
    end(&f);
}

static void a_request_ends_with_its_last_sequence(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    const quire_event first[] = {token(0, 0, 10), token(0, 0, 30), token(0, 1, 10), token(0, 1, 50),
                                 finish(0, 0, 30, false, NULL)};
    take(&f, first, 5);
    assert_int_equal(f.run.requests[0].end_ns, -1);
    assert_int_equal(f.run.ended, 0);
    const quire_event last = finish(0, 1, 50, true, NULL);
    take(&f, &last, 1);
    assert_int_equal(f.run.requests[0].end_ns, 50);
    assert_int_equal(f.run.requests[0].finish, QUIRE_FINISH_STOP);
    assert_true(f.run.requests[0].tpot_ns == (20 + 40) / 2.0);
    assert_int_equal(f.run.requests[0].itl_p99_ns, 40);
    assert_int_equal(f.run.ended, 1);
    assert_int_equal(f.generator.free_count, 1);
    assert_int_equal(f.free_since[0], 50);
    end(&f);
}

/* A target at the other end of a connection has none. */
static void an_end_without_details_leaves_them_out(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    const quire_event events[] = {token(0, 0, 10), finish(0, 0, 10, true, NULL)};
    take(&f, events, 2);
    assert_int_equal(f.run.requests[0].planned_ns, -1);
    assert_int_equal(f.run.requests[0].end_ns, 10);
    end(&f);
}

static void details_are_summed_over_sequences(void **state)
{
    (void)state;
    fixture             f;
    quire_finish_detail detail = {.first_planned_ns = START_NS + 5, .preemptions = 1, .cached_tokens = 7};
    begin(&f);
    detail.preemption_intervals[0].from_ns = START_NS + 6;
    detail.preemption_intervals[0].to_ns   = START_NS + 8;
    detail.wait_ns[1]                      = 3;
    const quire_event events[]             = {finish(1, 0, 20, false, &detail), finish(1, 1, 20, true, &detail)};
    take(&f, events, 2);
    const qr_run_request *r = &f.run.requests[1];
    assert_int_equal(r->planned_ns, 5);
    assert_int_equal(r->prompt_done_ns, -1);
    assert_int_equal(r->cached_tokens, 7);
    assert_int_equal(r->preemptions, 2);
    assert_int_equal(r->preemption_intervals[0].from_ns, 6);
    assert_int_equal(r->preemption_intervals[0].to_ns, 8);
    assert_int_equal(r->wait_ns[1], 6);
    end(&f);
}

static void tokens_of_the_first_sequence_are_kept_where_asked_for(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    f.run.requests[0].kept                = calloc(2, sizeof(int32_t));
    f.run.requests[0].shape.output_tokens = 2;
    quire_event events[]                  = {token(0, 0, 1), token(0, 1, 1), token(0, 0, 2), token(0, 0, 3)};
    for (int i = 0; i < 4; i++) events[i].token = 10 + i;
    take(&f, events, 4);
    assert_int_equal(f.run.requests[0].kept_count, 2);
    assert_int_equal(f.run.requests[0].kept[0], 10);
    assert_int_equal(f.run.requests[0].kept[1], 12);
    end(&f);
}

static void steps_and_stages_begin_at_the_start_of_the_run(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    const quire_step  step     = {.rows = 3, .start_ns = START_NS + 70};
    const quire_stage stages[] = {{.start_ns = START_NS + 71, .busy_ns = 5}, {.start_ns = START_NS + 76, .wait_ns = 2}};
    assert_true(qr_collector_take_step(&f.collector, &step));
    assert_true(qr_collector_take_stages(&f.collector, 0, stages, 2, 3));
    assert_true(qr_collector_take_stages(&f.collector, 1, stages, 1, 4));
    assert_int_equal(f.run.stages_dropped, 7);
    assert_true(qr_collector_take_stages(&f.collector, 0, stages, 0, 4)); /* of the next step: a sum since create */
    assert_true(qr_collector_take_stages(&f.collector, 1, stages, 0, 4));
    assert_int_equal(f.run.stages_dropped, 8);
    assert_int_equal(f.run.steps[0].start_ns, 70);
    assert_int_equal(f.run.stage_count, 3);
    assert_int_equal(f.run.stages[1].start_ns, 76);
    assert_int_equal(f.run.stages[2].thread, 1);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_between_tokens_of_one_sequence),
        cmocka_unit_test(a_request_ends_with_its_last_sequence),
        cmocka_unit_test(an_end_without_details_leaves_them_out),
        cmocka_unit_test(details_are_summed_over_sequences),
        cmocka_unit_test(tokens_of_the_first_sequence_are_kept_where_asked_for),
        cmocka_unit_test(steps_and_stages_begin_at_the_start_of_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
