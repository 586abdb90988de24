/* Many client threads, one driver, one reader: nothing lost, nothing twice, whatever they do at once. The tsan preset
 * runs this file for its memory order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/rng.h"
#include "support/sanitized.h"
#include "support/small_engine.h"

enum { CLIENTS = 4, PER_CLIENT = 25, REQUESTS = CLIENTS * PER_CLIENT, VOCAB = 256 };

/* Touched by the reader alone but for `id`. */
typedef struct entry {
    _Atomic quire_request_id id;
    uint32_t                 tokens, ends, expected_ends;
} entry;

typedef struct fixture {
    quire_model     *model;
    quire_engine    *engine;
    entry            entries[REQUESTS];
    _Atomic uint32_t clients_left;
    _Atomic bool     over;
} fixture;

static fixture shared;

static quire_request_id submit_until_accepted(const quire_request *request)
{
    for (;;) {
        quire_request_id   id     = 0;
        const quire_status status = quire_engine_submit(shared.engine, request, &id, NULL);
        if (status == QUIRE_OK) return id;
        assert_int_equal(status, QUIRE_ERR_FULL);
        poll(NULL, 0, 1);
    }
}

static void *be_client(void *number)
{
    const uint32_t client = (uint32_t)(intptr_t)number;
    for (uint32_t i = 0; i < PER_CLIENT; i++) {
        const uint32_t which = client * PER_CLIENT + i, size = 1 + qr_random_below(5, client, i, 60);
        int32_t        prompt[64];
        for (uint32_t k = 0; k < size; k++) prompt[k] = (int32_t)qr_random_below(6, which, k, VOCAB);
        entry *mine                    = &shared.entries[which];
        mine->expected_ends            = 1 + which % 3;
        const quire_request    request = {.size         = sizeof request,
                                          .prompt       = prompt,
                                          .prompt_count = size,
                                          .max_tokens   = 1 + qr_random_below(7, client, i, 20),
                                          .n            = mine->expected_ends,
                                          .logprobs     = which % 4,
                                          .logits       = which % 5 == 0 ? QUIRE_LOGITS_ALL : QUIRE_LOGITS_NONE,
                                          .user_data    = mine};
        const quire_request_id id      = submit_until_accepted(&request);
        atomic_store(&mine->id, id);
        if (which % 6 == 0) (void)quire_engine_cancel(shared.engine, id);
        quire_explanation explanation = {.size = sizeof explanation};
        (void)quire_engine_explain(shared.engine, id, &explanation);
    }
    atomic_fetch_sub(&shared.clients_left, 1);
    return NULL;
}

static void *be_observer(void *unused)
{
    (void)unused;
    uint64_t last_steps = 0;
    while (!atomic_load(&shared.over)) {
        quire_stats stats = {.size = sizeof stats};
        quire_engine_stats(shared.engine, &stats);
        assert_true(stats.steps >= last_steps);
        assert_int_equal(stats.blocks_used + stats.blocks_cached + stats.blocks_free, stats.blocks);
        last_steps = stats.steps;
        if (stats.steps % 64 == 0) quire_engine_flush_cache(shared.engine);
        poll(NULL, 0, 1);
    }
    return NULL;
}

static void *be_driver(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)quire_engine_run(shared.engine);
}

static uint32_t note(const quire_event *event)
{
    entry *to = event->user_data;
    if (event->kind == QUIRE_EVENT_TOKEN) {
        to->tokens++;
        return 0;
    }
    to->ends++;
    return event->last;
}

static void read_everything(void)
{
    for (uint32_t ended = 0; ended < REQUESTS;) {
        quire_event  events[16];
        const size_t count = quire_engine_wait(shared.engine, events, 16, 60000000000);
        assert_true(count > 0);
        for (size_t i = 0; i < count; i++) ended += note(&events[i]);
    }
}

static void clients_driver_reader_and_observer_work_at_once(void **state)
{
    (void)state;
    pthread_t   clients[CLIENTS], driver, observer;
    quire_stats before = {.size = sizeof before};
    quire_engine_stats(shared.engine, &before);
    atomic_store(&shared.clients_left, CLIENTS);
    assert_int_equal(pthread_create(&driver, NULL, be_driver, NULL), 0);
    assert_int_equal(pthread_create(&observer, NULL, be_observer, NULL), 0);
    for (intptr_t i = 0; i < CLIENTS; i++) pthread_create(&clients[i], NULL, be_client, (void *)i);
    read_everything();
    for (int i = 0; i < CLIENTS; i++) pthread_join(clients[i], NULL);
    atomic_store(&shared.over, true);
    quire_engine_stop(shared.engine);
    pthread_join(driver, NULL), pthread_join(observer, NULL);
    for (int i = 0; i < REQUESTS; i++) assert_int_equal(shared.entries[i].ends, shared.entries[i].expected_ends);
    quire_event event;
    assert_int_equal(quire_engine_poll(shared.engine, &event, 1), 0);
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(shared.engine, &stats);
    assert_int_equal(stats.requests_submitted, before.requests_submitted + REQUESTS);
    assert_int_equal(stats.requests_finished, stats.requests_submitted);
    assert_int_equal(stats.blocks_used, 0);
}

static void *step_some(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++) {
        quire_step report = {.size = sizeof report};
        if (quire_engine_step(shared.engine, &report) != QUIRE_OK) return (void *)1;
    }
    return NULL;
}

/* One at a time, each its own thread: the team belongs to the engine, not to who steps. */
static void any_thread_may_be_the_next_driver(void **state)
{
    (void)state;
    const int32_t       prompt[3] = {1, 2, 3};
    entry               mine      = {0};
    quire_request_id    id;
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = 3,
                                   .max_tokens   = 25,
                                   .ignore_eos   = true,
                                   .user_data    = &mine};
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, NULL), QUIRE_OK);
    for (int i = 0; i < 5; i++) {
        pthread_t driver;
        void     *result;
        assert_int_equal(pthread_create(&driver, NULL, step_some, NULL), 0);
        pthread_join(driver, &result);
        assert_null(result);
    }
    quire_event  events[64];
    const size_t count = quire_engine_poll(shared.engine, events, 64);
    for (size_t i = 0; i < count; i++) note(&events[i]);
    assert_int_equal(mine.tokens, 25);
    assert_int_equal(mine.ends, 1);
}

static void *pester(void *unused)
{
    (void)unused;
    const int32_t prompt[2] = {1, 2};
    for (;;) {
        static entry        nobody;
        quire_request_id    id;
        quire_stats         stats   = {.size = sizeof stats};
        const quire_request request = {
            .size = sizeof request, .prompt = prompt, .prompt_count = 2, .max_tokens = 1, .user_data = &nobody};
        if (quire_engine_submit(shared.engine, &request, &id, NULL) == QUIRE_OK)
            (void)quire_engine_cancel(shared.engine, id);
        quire_engine_stats(shared.engine, &stats);
        quire_engine_flush_cache(shared.engine);
        pthread_testcancel();
    }
    return NULL;
}

static void a_client_cancelled_in_a_call_leaves_no_lock_behind(void **state)
{
    (void)state;
    if (QR_SANITIZED) skip(); /* AddressSanitizer does not follow the unwinding of a cancelled thread's stack */
    quire_event events[64];
    quire_step  report = {.size = sizeof report};
    for (int i = 0; i < 10; i++) {
        pthread_t client;
        assert_int_equal(pthread_create(&client, NULL, pester, NULL), 0);
        for (int k = 0; k < 3; k++) assert_int_equal(quire_engine_step(shared.engine, &report), QUIRE_OK);
        pthread_cancel(client);
        pthread_join(client, NULL);
        while (quire_engine_poll(shared.engine, events, 64) > 0) continue;
    }
    do {
        assert_int_equal(quire_engine_step(shared.engine, &report), QUIRE_OK);
        while (quire_engine_poll(shared.engine, events, 64) > 0) continue;
    } while (report.rows > 0 || report.waiting > 0);
}

static int open_engine(void **state)
{
    (void)state;
    const quire_model_options model   = {.size = sizeof model, .weight_dtype = QUIRE_DTYPE_F32};
    quire_engine_options      options = small_engine_options();
    options.max_num_seqs              = 8;
    options.max_num_batched_tokens    = 64;
    options.num_kv_blocks             = 40;
    options.max_model_len             = 256;
    options.max_num_queued_reqs       = 16;
    options.max_logits_in_flight      = 4;
    shared.model                      = small_engine_model("tiny", &model);
    shared.engine                     = small_engine(&options, shared.model);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    quire_engine_destroy(shared.engine);
    quire_model_destroy(shared.model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_thread_may_be_the_next_driver),
        cmocka_unit_test(a_client_cancelled_in_a_call_leaves_no_lock_behind),
        cmocka_unit_test(clients_driver_reader_and_observer_work_at_once),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
