/* The queue of submitted requests: copies, order, limits, cancels, many producers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/inbox.h"
#include "scheduler/state.h"

typedef struct fixture {
    qr_scheduler_options options;
    qr_scheduler        *scheduler;
    qr_arena             arena;
    qr_ledger            ledger;
    qr_inbox             inbox;
} fixture;

static qr_scheduler_options options_of(uint32_t requests, uint32_t tokens)
{
    return (qr_scheduler_options){.max_num_seqs                 = 4,
                                  .max_num_batched_tokens       = 64,
                                  .max_num_encoder_input_tokens = 64,
                                  .max_model_len                = 64,
                                  .enable_chunked_prefill       = true,
                                  .max_num_partial_prefills     = 1,
                                  .max_long_partial_prefills    = 1,
                                  .max_num_tenants              = 4,
                                  .max_num_queued_reqs          = requests,
                                  .max_num_queued_tokens        = tokens,
                                  .num_blocks                   = 64,
                                  .block_size                   = 16,
                                  .node_count                   = 1,
                                  .hash_bits                    = 64,
                                  .encoder_decoder              = true,
                                  .vocab_size                   = 100000};
}

static void open_fixture(fixture *f, uint32_t requests, uint32_t tokens, uint32_t sequences)
{
    *f = (fixture){.options = options_of(requests, tokens)};
    assert_int_equal(qr_scheduler_create(&f->options, &f->scheduler, NULL), QUIRE_OK);
    qr_ledger_layout(&f->ledger, &f->arena, sequences);
    assert_int_equal(qr_arena_create(&f->arena, NULL, "inbox", NULL), QUIRE_OK);
    qr_ledger_layout(&f->ledger, &f->arena, sequences);
    assert_int_equal(qr_ledger_init(&f->ledger, NULL), QUIRE_OK);
    f->inbox = (qr_inbox){.ledger = &f->ledger, .scheduler = f->scheduler, .limits = &f->options, .logits_slots = 4};
}

static void close_fixture(fixture *f)
{
    qr_ledger_deinit(&f->ledger);
    qr_arena_destroy(&f->arena);
    qr_scheduler_destroy(f->scheduler);
}

static quire_status submit_tokens(fixture *f, uint32_t count, quire_request_id *id_out, quire_error *error)
{
    int32_t tokens[64];
    for (uint32_t i = 0; i < count; i++) tokens[i] = (int32_t)(count * 1000 + i);
    const quire_request request = {.prompt = tokens, .prompt_count = count, .n = 1, .max_tokens = 1};
    return qr_inbox_submit(&f->inbox, &request, 7, id_out, error);
}

/* What the driver does with a request that enters, but that the scheduler never sees it. */
static void take(fixture *f)
{
    qr_record *record = qr_ledger_first_pending(&f->ledger);
    qr_inbox_entered(&f->inbox, record);
    qr_ledger_make_live(&f->ledger, record);
}

static const quire_request *kept(const fixture *f, const qr_record *record)
{
    return &f->scheduler->requests[record->request].stored;
}

static void every_array_and_string_is_copied(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, 8, 64, 8);
    int32_t          prompt[3] = {1, 2, 3}, encoder[2] = {4, 5}, stop[1] = {6}, allowed[2] = {7, 8}, banned[1] = {9};
    quire_logit_bias bias[1]  = {{.token = 10, .bias = 0.5f}};
    char             tenant[] = "alice", salt[] = "0123456789abcdef";
    int              mark    = 0;
    quire_request    request = {.prompt           = prompt,
                                .prompt_count     = 3,
                                .encoder_input    = encoder,
                                .encoder_count    = 2,
                                .stop             = stop,
                                .stop_count       = 1,
                                .logit_bias       = bias,
                                .logit_bias_count = 1,
                                .allowed          = allowed,
                                .allowed_count    = 2,
                                .banned           = banned,
                                .banned_count     = 1,
                                .tenant           = tenant,
                                .cache_salt       = salt,
                                .user_data        = &mark};
    quire_request_id id      = 0;
    request.n                = 1;
    assert_int_equal(qr_inbox_submit(&f.inbox, &request, 42, &id, NULL), QUIRE_OK);
    memset(prompt, 0, sizeof prompt), memset(encoder, 0, sizeof encoder), memset(bias, 0, sizeof bias);
    memset(tenant, 0, sizeof tenant), memset(salt, 0, sizeof salt), stop[0] = allowed[0] = banned[0] = 0;

    const qr_record     *record = qr_ledger_first_pending(&f.ledger);
    const quire_request *copy   = kept(&f, record);
    assert_int_equal(copy->prompt[2], 3);
    assert_int_equal(copy->encoder_input[1], 5);
    assert_int_equal(copy->stop[0], 6);
    assert_int_equal(copy->allowed[0], 7);
    assert_int_equal(copy->banned[0], 9);
    assert_int_equal(copy->logit_bias[0].token, 10);
    assert_string_equal(copy->tenant, "alice");
    assert_string_equal(copy->cache_salt, "0123456789abcdef");
    assert_ptr_equal(record->user_data, &mark);
    assert_int_equal(record->id, id);
    assert_int_equal(record->arrival_ns, 42);
    close_fixture(&f);
}

static void requests_come_out_in_order_with_ascending_ids(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, 8, 64, 8);
    quire_request_id id = 0;
    for (uint32_t i = 1; i <= 5; i++) assert_int_equal(submit_tokens(&f, i, &id, NULL), QUIRE_OK);
    for (uint32_t i = 1; i <= 5; i++) {
        const qr_record *record = qr_ledger_first_pending(&f.ledger);
        assert_int_equal(record->id, i);
        assert_int_equal(kept(&f, record)->prompt_count, i);
        assert_int_equal(kept(&f, record)->prompt[i - 1], i * 1000 + i - 1);
        take(&f);
    }
    assert_null(qr_ledger_first_pending(&f.ledger));
    close_fixture(&f);
}

static void the_request_limit_counts_what_the_scheduler_still_queues(void **state)
{
    (void)state;
    fixture          f;
    quire_request_id id    = 0;
    quire_error      error = {0};
    open_fixture(&f, 4, 64, 16);
    qr_inbox_report(&f.inbox, 2, 0);
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_OK);
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_OK);
    assert_int_equal(submit_tokens(&f, 1, &id, &error), QUIRE_ERR_FULL);
    assert_non_null(strstr(error.message, "max_num_queued_reqs 4"));
    qr_inbox_report(&f.inbox, 1, 0);
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_OK);
    assert_int_equal(f.inbox.refused, 1);
    assert_int_equal(f.inbox.submitted, 3);
    close_fixture(&f);
}

static void the_token_limit_is_exact(void **state)
{
    (void)state;
    fixture          f;
    quire_request_id id    = 0;
    quire_error      error = {0};
    open_fixture(&f, 8, 100, 8);
    assert_int_equal(submit_tokens(&f, 60, &id, NULL), QUIRE_OK);
    assert_int_equal(submit_tokens(&f, 41, &id, &error), QUIRE_ERR_FULL);
    assert_non_null(strstr(error.message, "max_num_queued_tokens 100"));
    assert_int_equal(submit_tokens(&f, 40, &id, NULL), QUIRE_OK);
    close_fixture(&f);
}

static void unread_ends_hold_back_new_requests(void **state)
{
    (void)state;
    fixture          f;
    quire_request_id id = 0;
    open_fixture(&f, 8, 64, 2);
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_OK);
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_OK);
    take(&f), take(&f);
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_ERR_FULL);
    qr_ledger_close(&f.ledger, qr_inbox_find(&f.inbox, 1));
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_OK);
    assert_int_equal(id, 3); /* a refused request uses no id */
    close_fixture(&f);
}

static void cancel_knows_pending_live_and_unknown_requests(void **state)
{
    (void)state;
    fixture          f;
    quire_request_id a = 0, b = 0;
    open_fixture(&f, 8, 64, 8);
    submit_tokens(&f, 1, &a, NULL), submit_tokens(&f, 2, &b, NULL);
    take(&f);
    assert_int_equal(qr_inbox_cancel(&f.inbox, b), QUIRE_OK);
    assert_int_equal(qr_inbox_cancel(&f.inbox, a), QUIRE_OK);
    assert_int_equal(qr_inbox_cancel(&f.inbox, a), QUIRE_OK); /* twice is once */
    assert_int_equal(qr_inbox_cancel(&f.inbox, 99), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(qr_inbox_cancel(&f.inbox, 0), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(qr_ledger_take_cancel(&f.ledger)->id, b);
    assert_int_equal(qr_ledger_take_cancel(&f.ledger)->id, a);
    assert_null(qr_ledger_take_cancel(&f.ledger));
    close_fixture(&f);
}

static void a_record_closed_with_its_cancel_still_listed_leaves_the_list(void **state)
{
    (void)state;
    fixture          f;
    quire_request_id a = 0, b = 0, c = 0;
    open_fixture(&f, 8, 64, 8);
    submit_tokens(&f, 1, &a, NULL), submit_tokens(&f, 1, &b, NULL), submit_tokens(&f, 1, &c, NULL);
    take(&f), take(&f), take(&f);
    qr_inbox_cancel(&f.inbox, a), qr_inbox_cancel(&f.inbox, b), qr_inbox_cancel(&f.inbox, c);
    qr_ledger_close(&f.ledger, qr_inbox_find(&f.inbox, b));
    assert_int_equal(qr_ledger_take_cancel(&f.ledger)->id, a);
    assert_int_equal(qr_ledger_take_cancel(&f.ledger)->id, c);
    assert_null(qr_ledger_take_cancel(&f.ledger));
    close_fixture(&f);
}

static void a_forgotten_request_gives_its_room_and_its_records_back(void **state)
{
    (void)state;
    fixture          f;
    quire_request_id id = 0;
    open_fixture(&f, 2, 64, 8);
    const uint32_t free = f.scheduler->free_sequence_count;
    submit_tokens(&f, 30, &id, NULL), submit_tokens(&f, 34, &id, NULL);
    assert_int_equal(f.scheduler->free_sequence_count, free - 2);
    assert_int_equal(submit_tokens(&f, 30, &id, NULL), QUIRE_ERR_FULL);
    qr_record *first = qr_inbox_find(&f.inbox, 1);
    qr_inbox_forget(&f.inbox, first);
    qr_ledger_close(&f.ledger, first);
    assert_int_equal(qr_ledger_first_pending(&f.ledger)->id, 2);
    assert_int_equal(submit_tokens(&f, 30, &id, NULL), QUIRE_OK);
    close_fixture(&f);
}

static void without_free_records_a_request_is_refused_and_leaves_no_trace(void **state)
{
    (void)state;
    fixture          f;
    quire_request_id id    = 0;
    quire_error      error = {0};
    open_fixture(&f, 64, 64, 256);
    f.scheduler->free_sequence_count = 1; /* the others have ended, and their events are not polled */
    assert_int_equal(submit_tokens(&f, 1, &id, NULL), QUIRE_OK);
    assert_int_equal(submit_tokens(&f, 1, &id, &error), QUIRE_ERR_FULL);
    assert_non_null(strstr(error.message, "still await poll()"));
    assert_int_equal(f.ledger.finish_reserved, 1);
    assert_int_equal(f.inbox.pending_requests, 1);
    close_fixture(&f);
}

enum { PRODUCERS = 4, PER_PRODUCER = 300 };

static void *produce(void *context)
{
    fixture *f = context;
    for (uint32_t i = 0; i < PER_PRODUCER;) {
        quire_request_id id = 0;
        if (submit_tokens(f, 1 + i % 50, &id, NULL) != QUIRE_OK) {
            sched_yield();
            continue;
        }
        if (i % 7 == 0) (void)qr_inbox_cancel(&f->inbox, id);
        i++;
    }
    return NULL;
}

static void many_producers_lose_nothing(void **state)
{
    (void)state;
    fixture   f;
    pthread_t threads[PRODUCERS];
    open_fixture(&f, 16, 1024, 64);
    for (int i = 0; i < PRODUCERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, produce, &f), 0);
    uint64_t last = 0, taken = 0;
    while (taken < PRODUCERS * PER_PRODUCER) {
        qr_ledger_lock(&f.ledger);
        while (qr_ledger_take_cancel(&f.ledger) != NULL) continue;
        qr_record *record = qr_ledger_first_pending(&f.ledger);
        if (record != NULL) {
            assert_true(record->id > last);
            assert_int_equal(kept(&f, record)->prompt[0], kept(&f, record)->prompt_count * 1000);
            last = record->id;
            qr_inbox_forget(&f.inbox, record);
            qr_ledger_close(&f.ledger, record);
            taken++;
        }
        qr_ledger_unlock(&f.ledger);
        if (record == NULL) sched_yield();
    }
    for (int i = 0; i < PRODUCERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(f.inbox.submitted, PRODUCERS * PER_PRODUCER);
    assert_int_equal(f.ledger.finish_reserved, 0);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_array_and_string_is_copied),
        cmocka_unit_test(requests_come_out_in_order_with_ascending_ids),
        cmocka_unit_test(the_request_limit_counts_what_the_scheduler_still_queues),
        cmocka_unit_test(the_token_limit_is_exact),
        cmocka_unit_test(unread_ends_hold_back_new_requests),
        cmocka_unit_test(cancel_knows_pending_live_and_unknown_requests),
        cmocka_unit_test(a_record_closed_with_its_cancel_still_listed_leaves_the_list),
        cmocka_unit_test(a_forgotten_request_gives_its_room_and_its_records_back),
        cmocka_unit_test(without_free_records_a_request_is_refused_and_leaves_no_trace),
        cmocka_unit_test(many_producers_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
