/* A host that follows docs/EMBEDDING.md: requests before the engine runs, retries when the queue is full, and an end in
 * good order with a deadline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>

#include "support/small_engine.h"

enum { SHORT = 10, REQUESTS = SHORT + 2, ENDLESS = 500 };

typedef struct request {
    quire_request_id id;
    uint32_t         tokens;
    bool             open;
    quire_finish     finish;
} request;

static request  requests[REQUESTS];
static uint32_t open_requests;

static quire_status submit(quire_engine *engine, uint32_t number)
{
    static const int32_t prompt[] = {1, 2, 3};
    const quire_request  asked    = {.size         = sizeof asked,
                                     .prompt       = prompt,
                                     .prompt_count = 3,
                                     .max_tokens   = number < SHORT ? 4 : ENDLESS,
                                     .ignore_eos   = true,
                                     .user_data    = &requests[number]};
    const quire_status   status   = quire_engine_submit(engine, &asked, &requests[number].id, NULL);
    requests[number].open         = status == QUIRE_OK;
    open_requests += status == QUIRE_OK;
    return status;
}

/* Waits for events and takes them; returns how many requests ended. */
static uint32_t take(quire_engine *engine)
{
    quire_event    events[8];
    const uint32_t before = open_requests;
    const size_t   count  = quire_engine_wait(engine, events, 8, UINT64_MAX);
    for (size_t i = 0; i < count; i++) {
        request *of = events[i].user_data;
        of->tokens += events[i].kind == QUIRE_EVENT_TOKEN;
        if (events[i].kind != QUIRE_EVENT_FINISHED) continue;
        of->finish = events[i].finish;
        of->open   = !events[i].last;
        open_requests -= events[i].last;
    }
    return before - open_requests;
}

static void *drive(void *engine) { return (void *)(intptr_t)quire_engine_run(engine); }

static void a_host_ends_in_good_order(void **state)
{
    (void)state;
    quire_engine_options options = small_engine_options();
    options.max_num_seqs         = 2;
    options.max_num_queued_reqs  = 4;
    quire_model  *model          = small_engine_model("tiny", NULL);
    quire_engine *engine         = small_engine(&options, model);
    pthread_t     driver;
    uint32_t      next = 0, refused = 0;

    while (submit(engine, next) == QUIRE_OK) next++; /* before it runs: they wait */
    assert_int_equal(next, 4);
    assert_int_equal(pthread_create(&driver, NULL, drive, engine), 0);
    while (next < REQUESTS)
        if (submit(engine, next) == QUIRE_OK)
            next++;
        else
            for (refused++; take(engine) == 0;) continue; /* room is made by an end that was read */
    assert_true(refused > 0);

    while (requests[SHORT - 1].open) (void)take(engine); /* running requests go on; then comes the deadline */
    for (uint32_t i = 0; i < REQUESTS; i++)
        if (requests[i].open) (void)quire_engine_cancel(engine, requests[i].id);
    while (open_requests > 0) (void)take(engine);
    quire_engine_stop(engine);
    void *result;
    pthread_join(driver, &result);
    assert_null(result);

    for (uint32_t i = 0; i < SHORT; i++) {
        assert_int_equal(requests[i].finish, QUIRE_FINISH_LENGTH);
        assert_int_equal(requests[i].tokens, 4);
    }
    for (uint32_t i = SHORT; i < REQUESTS; i++) /* without a reader they came 64 tokens far at most */
        assert_int_equal(requests[i].finish, QUIRE_FINISH_CANCELLED);
    quire_event event;
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(engine, &stats);
    assert_int_equal(quire_engine_poll(engine, &event, 1), 0);
    assert_int_equal(stats.requests_finished, REQUESTS);
    assert_int_equal(stats.blocks_used, 0);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_host_ends_in_good_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
