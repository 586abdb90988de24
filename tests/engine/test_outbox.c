/* The ring of events: order, details, the eventfd, and who is held back when nobody reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <string.h>

#include "engine/outbox.h"

enum { VOCAB = 8, SEQUENCES = 2, LOGITS = 2, SECOND = 1000000000 };

typedef struct fixture {
    qr_arena  arena;
    qr_ledger ledger;
    qr_outbox outbox;
    char      changes[256]; /* "P1 R1 F2 ": what regulate told the scheduler */
} fixture;

static void layout(fixture *f)
{
    const qr_outbox_limits limits = {.max_sequences       = SEQUENCES,
                                     .tokens_per_step     = 1,
                                     .logits_slots        = LOGITS,
                                     .vocab_size          = VOCAB,
                                     .consumer_timeout_ns = SECOND};
    qr_ledger_layout(&f->ledger, &f->arena, 8);
    qr_outbox_layout(&f->outbox, &f->arena, &limits, &f->ledger);
}

static int open_fixture(void **state)
{
    static fixture f;
    f = (fixture){0};
    layout(&f);
    assert_int_equal(qr_arena_create(&f.arena, NULL, "outbox", NULL), QUIRE_OK);
    layout(&f);
    assert_int_equal(qr_ledger_init(&f.ledger, NULL), QUIRE_OK);
    assert_int_equal(qr_outbox_init(&f.outbox, NULL), QUIRE_OK);
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    qr_outbox_deinit(&f->outbox);
    qr_ledger_deinit(&f->ledger);
    qr_arena_destroy(&f->arena);
    return 0;
}

static qr_record *add_request(fixture *f, uint32_t logits)
{
    qr_record *record       = qr_ledger_open(&f->ledger, 1);
    record->logits          = logits;
    record->logits_per_step = (logits & (QUIRE_LOGITS_FIRST | QUIRE_LOGITS_ALL)) != 0;
    record->firsts_due      = 1;
    qr_outbox_make_live(&f->outbox, record);
    return record;
}

static bool put_token(fixture *f, qr_record *record, uint32_t index, const qr_token_extra *extra, uint64_t now_ns)
{
    const qr_token_extra     none  = {0};
    const qr_scheduler_event event = {.id        = record->id,
                                      .user_data = record,
                                      .kind      = QUIRE_EVENT_TOKEN,
                                      .token     = (int32_t)index + 100,
                                      .index     = index};
    const bool               fits  = qr_outbox_put_token(&f->outbox, &event, extra ? extra : &none, now_ns);
    qr_outbox_signal(&f->outbox, !fits);
    return fits;
}

static bool put_finished(fixture *f, qr_record *record)
{
    const qr_scheduler_event event = {.id        = record->id,
                                      .user_data = record,
                                      .kind      = QUIRE_EVENT_FINISHED,
                                      .finish    = QUIRE_FINISH_STOP,
                                      .last      = true,
                                      .detail    = {.output_tokens = 5}};
    const bool               fits  = qr_outbox_put_finished(&f->outbox, &event, 1);
    qr_outbox_signal(&f->outbox, !fits);
    return fits;
}

static void note_change(void *context, quire_request_id id, qr_change change)
{
    fixture     *f         = context;
    const size_t length    = strlen(f->changes);
    f->changes[length]     = change == QR_PAUSE ? 'P' : change == QR_RESUME ? 'R' : 'F';
    f->changes[length + 1] = (char)('0' + id);
    f->changes[length + 2] = ' ';
}

static const char *regulate(fixture *f, uint64_t now_ns)
{
    memset(f->changes, 0, sizeof f->changes);
    qr_outbox_regulate(&f->outbox, now_ns, note_change, f);
    return f->changes;
}

static bool readable(const fixture *f)
{
    struct pollfd descriptor = {.fd = f->outbox.event_fd, .events = POLLIN};
    return poll(&descriptor, 1, 0) == 1;
}

static void events_come_in_order_with_their_details(void **state)
{
    fixture             *f          = *state;
    qr_record           *record     = add_request(f, QUIRE_LOGITS_FIRST);
    const float          raw[VOCAB] = {1, 2, 3, 4, 5, 6, 7, 8}, logprobs[2] = {-0.5f, -1.5f};
    const int32_t        tops[2] = {7, 6};
    const qr_token_extra extra   = {.logits = raw, .top_count = 2, .top_tokens = tops, .top_logprobs = logprobs};
    record->user_data            = f;
    assert_true(put_token(f, record, 0, &extra, 77));
    assert_true(put_token(f, record, 1, NULL, 78));
    assert_true(put_finished(f, record));

    quire_event events[4];
    assert_int_equal(qr_outbox_poll(&f->outbox, events, 4, 0), 3);
    assert_int_equal(events[0].token, 100);
    assert_int_equal(events[0].time_ns, 77);
    assert_ptr_equal(events[0].user_data, f);
    assert_int_equal(events[0].request, 1);
    const quire_token_detail *detail = events[0].detail;
    assert_memory_equal(detail->logits, raw, sizeof raw);
    assert_int_equal(detail->top_count, 2);
    assert_memory_equal(detail->top_tokens, tops, sizeof tops);
    assert_memory_equal(detail->top_logprobs, logprobs, sizeof logprobs);
    assert_int_equal(events[1].index, 1);
    assert_null(events[1].detail);
    assert_int_equal(events[2].kind, QUIRE_EVENT_FINISHED);
    assert_int_equal(events[2].last, 1);
    assert_int_equal(((const quire_finish_detail *)events[2].detail)->output_tokens, 5);
}

static void details_belong_to_the_reader_until_its_next_poll(void **state)
{
    fixture             *f        = *state;
    qr_record           *record   = add_request(f, QUIRE_LOGITS_ALL);
    const float          a[VOCAB] = {1}, b[VOCAB] = {2}, c[VOCAB] = {3};
    const qr_token_extra first = {.logits = a}, second = {.logits = b}, third = {.logits = c};
    quire_event          event;
    assert_true(put_token(f, record, 0, &first, 1));
    assert_true(put_token(f, record, 1, &second, 1));
    assert_int_equal(qr_outbox_poll(&f->outbox, &event, 1, 0), 1);
    assert_false(put_token(f, record, 2, &third, 1)); /* both slots are in use: nothing is lost, it waits */
    assert_true(((const quire_token_detail *)event.detail)->logits[0] == 1);
    assert_int_equal(qr_outbox_poll(&f->outbox, &event, 1, 0), 1);
    assert_true(((const quire_token_detail *)event.detail)->logits[0] == 2);
    assert_true(put_token(f, record, 2, &third, 1));
    assert_true(((const quire_token_detail *)event.detail)->logits[0] == 2);
}

static void the_descriptor_is_readable_exactly_while_there_are_events(void **state)
{
    fixture    *f      = *state;
    qr_record  *record = add_request(f, 0);
    quire_event event;
    assert_false(readable(f));
    put_token(f, record, 0, NULL, 1);
    put_token(f, record, 1, NULL, 1);
    assert_true(readable(f));
    assert_int_equal(qr_outbox_poll(&f->outbox, &event, 1, 0), 1);
    assert_true(readable(f));
    assert_int_equal(qr_outbox_poll(&f->outbox, &event, 1, 0), 1);
    assert_false(readable(f));
    assert_int_equal(qr_outbox_poll(&f->outbox, &event, 1, 0), 0);
    put_token(f, record, 2, NULL, 1);
    assert_true(readable(f));
}

static void a_reader_that_sleeps_on_the_descriptor_is_called_for_the_places_it_holds(void **state)
{
    fixture             *f          = *state;
    qr_record           *record     = add_request(f, QUIRE_LOGITS_ALL);
    const float          raw[VOCAB] = {0};
    const qr_token_extra extra      = {.logits = raw};
    quire_event          events[4];
    assert_true(put_token(f, record, 0, &extra, 1) && put_token(f, record, 1, &extra, 1));
    assert_int_equal(qr_outbox_poll(&f->outbox, events, 4, 0), 2);
    assert_false(readable(f));
    assert_false(put_token(f, record, 2, &extra, 1));
    assert_true(readable(f));
    assert_int_equal(qr_outbox_poll(&f->outbox, events, 4, 0), 0);
    assert_false(readable(f));
    assert_true(put_token(f, record, 2, &extra, 1));
}

static void a_request_nobody_reads_is_paused_and_resumed_alone(void **state)
{
    fixture       *f    = *state;
    qr_record     *slow = add_request(f, 0), *other = add_request(f, 0);
    const uint32_t limit = f->outbox.hold_above;
    quire_event    events[256];
    put_token(f, other, 0, NULL, 1);
    for (uint32_t i = 0; i + 1 < limit; i++) put_token(f, slow, i, NULL, 1);
    assert_string_equal(regulate(f, 2), "");
    put_token(f, slow, limit - 1, NULL, 1);
    assert_string_equal(regulate(f, 2), "P1 ");
    assert_string_equal(regulate(f, 3), "P1 "); /* again: the scheduler may have started it only now */
    qr_outbox_poll(&f->outbox, events, 1 + limit / 2 - 1, 3);
    qr_outbox_poll(&f->outbox, events, 1, 3);
    assert_string_equal(regulate(f, 4), "P1 ");
    qr_outbox_poll(&f->outbox, events, 1, 3);
    assert_string_equal(regulate(f, 4), "R1 ");
}

static void tokens_stop_at_the_limit_and_ends_still_fit(void **state)
{
    fixture    *f = *state;
    qr_record  *a = add_request(f, 0), *b = add_request(f, 0);
    uint32_t    count = 0;
    quire_event event;
    while (put_token(f, a, count, NULL, 1)) count++;
    assert_int_equal(count, f->outbox.token_capacity);
    assert_false(qr_outbox_has_room(&f->outbox));
    assert_true(put_finished(f, b));
    assert_true(put_finished(f, a));
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(qr_outbox_poll(&f->outbox, &event, 1, 0), 1);
        assert_int_equal(event.index, i);
    }
    assert_int_equal(qr_outbox_poll(&f->outbox, &event, 1, 0), 1);
    assert_int_equal(event.request, 2);
    assert_true(qr_outbox_has_room(&f->outbox));
}

static void a_reader_that_never_comes_back_loses_its_request_after_the_timeout(void **state)
{
    fixture   *f    = *state;
    qr_record *slow = add_request(f, 0);
    for (uint32_t i = 0; i < f->outbox.hold_above; i++) put_token(f, slow, i, NULL, 10);
    assert_string_equal(regulate(f, 20), "P1 ");
    assert_string_equal(regulate(f, SECOND + 10), "P1 ");
    assert_string_equal(regulate(f, SECOND + 11), "P1 F1 ");
    assert_string_equal(regulate(f, SECOND + 12), "");
}

static void reading_anything_of_a_request_starts_its_timeout_anew(void **state)
{
    fixture    *f    = *state;
    qr_record  *slow = add_request(f, 0);
    quire_event event;
    for (uint32_t i = 0; i < f->outbox.hold_above; i++) put_token(f, slow, i, NULL, 10);
    regulate(f, 20);
    qr_outbox_poll(&f->outbox, &event, 1, SECOND);
    qr_outbox_poll(&f->outbox, &event, 1, SECOND); /* lets go of the first */
    assert_string_equal(regulate(f, SECOND + 11), "P1 ");
    assert_string_equal(regulate(f, 2 * (uint64_t)SECOND + 1), "P1 F1 ");
}

static void logits_slots_go_to_the_oldest_requests(void **state)
{
    fixture             *f          = *state;
    const float          raw[VOCAB] = {0};
    const qr_token_extra extra      = {.logits = raw};
    qr_record           *a          = add_request(f, QUIRE_LOGITS_ALL);
    add_request(f, QUIRE_LOGITS_FIRST);
    add_request(f, 0);
    add_request(f, QUIRE_LOGITS_ALL);
    assert_string_equal(regulate(f, 1), "P4 ");
    put_token(f, a, 0, &extra, 1);
    assert_string_equal(regulate(f, 1), "P2 P4 ");
    quire_event event;
    qr_outbox_poll(&f->outbox, &event, 1, 2);
    qr_outbox_poll(&f->outbox, &event, 1, 2);
    assert_string_equal(regulate(f, 3), "R2 P4 ");
    put_finished(f, a);
    assert_string_equal(regulate(f, 3), "R4 ");
}

static void a_request_for_last_logits_stands_still_only_while_no_slot_is_free(void **state)
{
    fixture             *f          = *state;
    const float          raw[VOCAB] = {0};
    const qr_token_extra extra      = {.logits = raw};
    qr_record           *a          = add_request(f, QUIRE_LOGITS_ALL);
    add_request(f, QUIRE_LOGITS_LAST);
    add_request(f, QUIRE_LOGITS_LAST);
    put_token(f, a, 0, &extra, 1);
    assert_string_equal(regulate(f, 1), "P2 P3 "); /* the one free slot is promised to the oldest */
    put_token(f, a, 1, &extra, 1);
    assert_string_equal(regulate(f, 1), "P1 P2 P3 ");
    quire_event event;
    qr_outbox_poll(&f->outbox, &event, 1, 2);
    qr_outbox_poll(&f->outbox, &event, 1, 2);
    put_finished(f, a);
    assert_string_equal(regulate(f, 3), "R2 R3 ");
}

static void a_request_for_first_logits_needs_no_slot_afterwards(void **state)
{
    fixture             *f          = *state;
    const float          raw[VOCAB] = {0};
    const qr_token_extra extra      = {.logits = raw};
    qr_record           *a          = add_request(f, QUIRE_LOGITS_FIRST);
    put_token(f, a, 0, &extra, 1);
    assert_int_equal(a->logits_per_step, 0);
    assert_int_equal(f->outbox.logits_wanted, 0);
}

static void a_read_end_closes_the_request(void **state)
{
    fixture    *f      = *state;
    qr_record  *record = add_request(f, 0);
    quire_event event;
    put_finished(f, record);
    assert_int_equal(record->state, QR_RECORD_ENDED);
    qr_outbox_poll(&f->outbox, &event, 1, 0);
    assert_int_equal(record->state, QR_RECORD_ENDED); /* its detail is with the reader */
    qr_outbox_poll(&f->outbox, &event, 1, 0);
    assert_int_equal(record->state, QR_RECORD_FREE);
    assert_int_equal(f->ledger.finish_reserved, 0);
}

static void a_request_that_never_started_ends_once_per_sequence(void **state)
{
    fixture    *f      = *state;
    qr_record  *record = qr_ledger_open(&f->ledger, 3);
    quire_event events[8];
    record->arrival_ns = 5;
    qr_outbox_end_unstarted(&f->outbox, record, QUIRE_FINISH_CANCELLED, QUIRE_OK, 25);
    assert_int_equal(qr_outbox_poll(&f->outbox, events, 8, 0), 3);
    assert_int_equal(events[0].last, 0);
    assert_int_equal(events[2].last, 1);
    assert_int_equal(events[2].sequence, 2);
    assert_int_equal(events[2].finish, QUIRE_FINISH_CANCELLED);
    assert_int_equal(((const quire_finish_detail *)events[0].detail)->wait_ns[QUIRE_WAIT_ORDER], 20);
    assert_int_equal(qr_outbox_poll(&f->outbox, events, 8, 0), 0);
    assert_int_equal(f->ledger.finish_reserved, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(events_come_in_order_with_their_details),
        TEST(details_belong_to_the_reader_until_its_next_poll),
        TEST(the_descriptor_is_readable_exactly_while_there_are_events),
        TEST(a_reader_that_sleeps_on_the_descriptor_is_called_for_the_places_it_holds),
        TEST(a_request_nobody_reads_is_paused_and_resumed_alone),
        TEST(tokens_stop_at_the_limit_and_ends_still_fit),
        TEST(a_reader_that_never_comes_back_loses_its_request_after_the_timeout),
        TEST(reading_anything_of_a_request_starts_its_timeout_anew),
        TEST(logits_slots_go_to_the_oldest_requests),
        TEST(a_request_for_last_logits_stands_still_only_while_no_slot_is_free),
        TEST(a_request_for_first_logits_needs_no_slot_afterwards),
        TEST(a_read_end_closes_the_request),
        TEST(a_request_that_never_started_ends_once_per_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
