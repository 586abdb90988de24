/* The engine from submit to the last event, on a small random model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <quire/quire.h>

#include "support/sanitized.h"

enum { VOCAB = 256, MAX_STEPS = 20000, MAX_ANSWERS = 64, MAX_OUTPUT = 256 };

/* What came back for one sequence. */
typedef struct answer {
    int32_t             tokens[MAX_OUTPUT];
    float               logprobs[MAX_OUTPUT];
    uint32_t            count;
    bool                finished, last;
    quire_finish        finish;
    quire_status        status;
    quire_finish_detail detail;
} answer;

typedef struct fixture {
    quire_model  *model;
    quire_engine *engine;
    answer        answers[MAX_ANSWERS][4]; /* by user_data - 1, then by sequence */
} fixture;

static fixture shared;

static quire_engine_options small_options(void)
{
    return (quire_engine_options){.size                   = sizeof(quire_engine_options),
                                  .max_num_seqs           = 4,
                                  .max_num_batched_tokens = 32,
                                  .num_kv_blocks          = 64,
                                  .max_model_len          = 512,
                                  .threads                = 2,
                                  .bind                   = QUIRE_BIND_NONE,
                                  .max_logits_in_flight   = 8,
                                  .logger                 = {.level = QUIRE_LOG_ERROR}};
}

static quire_engine *create(const quire_engine_options *options)
{
    quire_engine *engine = NULL;
    quire_error   error  = {0};
    if (quire_engine_create(options, shared.model, &engine, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return engine;
}

static void open_engine(const quire_engine_options *options)
{
    memset(shared.answers, 0, sizeof shared.answers);
    shared.engine = create(options);
}

static int open_default(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    open_engine(&options);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    quire_engine_destroy(shared.engine);
    shared.engine = NULL;
    return 0;
}

static int open_model(void **state)
{
    (void)state;
    const quire_model_options options = {.size = sizeof options, .weight_dtype = QUIRE_DTYPE_F32, .weight_seed = 3};
    return quire_model_synthetic("tiny", &options, &shared.model, NULL) == QUIRE_OK ? 0 : -1;
}

static int close_model(void **state)
{
    (void)state;
    quire_model_destroy(shared.model);
    return 0;
}

static void *mark(int number) { return (void *)(intptr_t)number; }

/* Request `number` has a prompt of its own. */
static quire_request request_of(int number, uint32_t prompt_count, uint32_t max_tokens, int32_t *prompt)
{
    for (uint32_t i = 0; i < prompt_count; i++) prompt[i] = (int32_t)((uint32_t)number * 31 + i * 7) % VOCAB;
    return (quire_request){.size         = sizeof(quire_request),
                           .prompt       = prompt,
                           .prompt_count = prompt_count,
                           .max_tokens   = max_tokens,
                           .ignore_eos   = true,
                           .user_data    = mark(number)};
}

static quire_request_id submit(const quire_request *request)
{
    quire_request_id id    = 0;
    quire_error      error = {0};
    if (quire_engine_submit(shared.engine, request, &id, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return id;
}

static quire_request_id submit_plain(int number, uint32_t prompt_count, uint32_t max_tokens)
{
    int32_t             prompt[512];
    const quire_request request = request_of(number, prompt_count, max_tokens, prompt);
    return submit(&request);
}

static answer *answer_of(const quire_event *event)
{
    return &shared.answers[(intptr_t)event->user_data - 1][event->sequence];
}

/* The stream rule: indices 0, 1, 2, ... once each, then one end. */
static void note(const quire_event *event)
{
    answer *to = answer_of(event);
    assert_false(to->finished);
    if (event->kind == QUIRE_EVENT_TOKEN) {
        assert_int_equal(event->index, to->count);
        assert_true(to->count < MAX_OUTPUT);
        to->tokens[to->count]     = event->token;
        to->logprobs[to->count++] = event->logprob;
        return;
    }
    assert_int_equal(event->kind, QUIRE_EVENT_FINISHED);
    to->finished = true;
    to->last     = event->last;
    to->finish   = event->finish;
    to->status   = event->status;
    to->detail   = *(const quire_finish_detail *)event->detail;
}

/* Returns how many requests ended. */
static int take_events(void)
{
    quire_event  events[32];
    const size_t count = quire_engine_poll(shared.engine, events, 32);
    int          ended = 0;
    for (size_t i = 0; i < count; i++) {
        note(&events[i]);
        ended += events[i].kind == QUIRE_EVENT_FINISHED && events[i].last;
    }
    return ended;
}

static uint32_t step(void)
{
    quire_step report = {.size = sizeof report};
    assert_int_equal(quire_engine_step(shared.engine, &report), QUIRE_OK);
    return report.rows;
}

static void a_step_fills_no_more_than_the_caller_knows(void **state)
{
    (void)state;
    quire_step report = {.size = sizeof report};
    memset(&report, 0xee, sizeof report);
    report.size = offsetof(quire_step, running); /* as if compiled when there was no more */
    assert_int_equal(quire_engine_step(shared.engine, &report), QUIRE_OK);
    assert_int_equal(report.size, offsetof(quire_step, running));
    assert_int_equal(report.rows, 0);
    for (size_t i = report.size; i < sizeof report; i++) assert_int_equal(((unsigned char *)&report)[i], 0xee);
}

static void run_until_ended(int requests)
{
    for (int i = 0; i < MAX_STEPS && requests > 0; i++) {
        step();
        requests -= take_events();
    }
    assert_int_equal(requests, 0);
}

static void same_tokens(const answer *a, const answer *b)
{
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->tokens, b->tokens, a->count * sizeof *a->tokens);
    assert_memory_equal(a->logprobs, b->logprobs, a->count * sizeof *a->logprobs);
}

/* ---- decoding ---- */

static void a_request_is_decoded_to_its_max_tokens(void **state)
{
    (void)state;
    submit_plain(1, 40, 20);
    run_until_ended(1);
    const answer *a = &shared.answers[0][0];
    assert_int_equal(a->count, 20);
    assert_int_equal(a->finish, QUIRE_FINISH_LENGTH);
    assert_int_equal(a->status, QUIRE_OK);
    assert_true(a->last);
    assert_int_equal(a->detail.prompt_tokens, 40);
    assert_int_equal(a->detail.output_tokens, 20);
    for (uint32_t i = 0; i < a->count; i++) {
        assert_in_range(a->tokens[i], 0, VOCAB - 1);
        assert_true(a->logprobs[i] < 0);
    }
}

static void the_times_of_a_request_are_in_order_and_its_waits_add_up(void **state)
{
    (void)state;
    for (int i = 1; i <= 8; i++) submit_plain(i, 50, 10);
    run_until_ended(8);
    for (int i = 0; i < 8; i++) {
        const quire_finish_detail *d = &shared.answers[i][0].detail;
        assert_true(d->submit_ns <= d->first_planned_ns && d->first_planned_ns <= d->prompt_done_ns);
        assert_true(d->prompt_done_ns <= d->first_token_ns && d->first_token_ns < d->finish_ns);
        uint64_t waits = 0;
        for (int w = 0; w < 16; w++) waits += d->wait_ns[w];
        assert_int_equal(waits, d->finish_ns - d->submit_ns);
    }
}

static void a_sequence_gets_the_same_bits_alone_and_in_company(void **state)
{
    (void)state;
    submit_plain(1, 37, 30);
    run_until_ended(1);
    const answer alone = shared.answers[0][0];
    quire_engine_flush_cache(shared.engine);
    memset(shared.answers, 0, sizeof shared.answers);
    for (int i = 12; i > 0; i--) submit_plain(i, 37 + (uint32_t)(i - 1) * 5, 30);
    run_until_ended(12);
    same_tokens(&alone, &shared.answers[0][0]);
}

static void sequences_of_one_request_differ_and_repeat_with_their_seed(void **state)
{
    (void)state;
    int32_t       prompt[16];
    quire_request request = request_of(1, 16, 24, prompt);
    request.n             = 3;
    request.sampling      = (quire_sampling){.temperature = 1, .seed = 7};
    submit(&request);
    request.user_data = mark(2);
    submit(&request);
    run_until_ended(2);
    for (int s = 0; s < 3; s++) {
        assert_int_equal(shared.answers[0][s].count, 24);
        same_tokens(&shared.answers[0][s], &shared.answers[1][s]);
    }
    assert_memory_not_equal(shared.answers[0][0].tokens, shared.answers[0][1].tokens, 24 * sizeof(int32_t));
    assert_int_equal(shared.answers[0][0].last + shared.answers[0][1].last + shared.answers[0][2].last, 1);
}

static void a_stop_id_ends_the_sequence_and_stays_in_the_output(void **state)
{
    (void)state;
    submit_plain(1, 20, 12);
    run_until_ended(1);
    const int32_t stop  = shared.answers[0][0].tokens[5];
    uint32_t      first = 0;
    while (shared.answers[0][0].tokens[first] != stop) first++;
    int32_t       prompt[20];
    quire_request request = request_of(1, 20, 12, prompt);
    request.stop          = &stop;
    request.stop_count    = 1;
    request.user_data     = mark(2);
    submit(&request);
    run_until_ended(1);
    assert_int_equal(shared.answers[1][0].finish, QUIRE_FINISH_STOP);
    assert_int_equal(shared.answers[1][0].count, first + 1);
    assert_int_equal(shared.answers[1][0].tokens[first], stop);
}

static void a_repeated_prompt_comes_from_the_cache_until_it_is_flushed(void **state)
{
    (void)state;
    submit_plain(1, 100, 4);
    run_until_ended(1);
    int32_t       prompt[100];
    quire_request request = request_of(1, 100, 4, prompt);
    request.user_data     = mark(2);
    submit(&request);
    run_until_ended(1);
    assert_int_equal(shared.answers[1][0].detail.cached_tokens, 96);
    same_tokens(&shared.answers[0][0], &shared.answers[1][0]);
    quire_engine_flush_cache(shared.engine);
    request.user_data = mark(3);
    submit(&request);
    run_until_ended(1);
    assert_int_equal(shared.answers[2][0].detail.cached_tokens, 0);
    same_tokens(&shared.answers[0][0], &shared.answers[2][0]);
}

/* 24 blocks of 32 tokens for 4 sequences of up to 300: the pool runs out while they decode. */
static void preempted_sequences_lose_and_repeat_nothing(void **state)
{
    (void)state;
    for (int i = 1; i <= 4; i++) submit_plain(i, 100, 200);
    run_until_ended(4);
    answer reference[4];
    for (int i = 0; i < 4; i++) reference[i] = shared.answers[i][0];
    close_engine(NULL);

    quire_engine_options options = small_options();
    options.num_kv_blocks        = 24;
    open_engine(&options);
    for (int i = 1; i <= 4; i++) submit_plain(i, 100, 200);
    run_until_ended(4);
    uint32_t preemptions = 0;
    for (int i = 0; i < 4; i++) {
        same_tokens(&reference[i], &shared.answers[i][0]);
        preemptions += shared.answers[i][0].detail.preemptions;
    }
    assert_true(preemptions > 0);
}

/* ---- what events carry ---- */

static uint32_t argmax(const float *logits)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < VOCAB; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static double log_softmax(const float *logits, uint32_t token)
{
    double sum = 0;
    for (uint32_t i = 0; i < VOCAB; i++) sum += exp((double)logits[i] - (double)logits[token]);
    return -log(sum);
}

/* Collects which token indices came with logits, as a string of digits and letters. */
static void collect_logits(quire_request request, char *indices)
{
    submit(&request);
    for (int i = 0; i < MAX_STEPS; i++) {
        quire_event event;
        step();
        if (quire_engine_poll(shared.engine, &event, 1) == 0) continue;
        note(&event);
        if (event.kind == QUIRE_EVENT_FINISHED) return;
        const quire_token_detail *detail = event.detail;
        if (detail == NULL || detail->logits == NULL) continue;
        *indices++ = (char)('0' + event.index);
        assert_int_equal(argmax(detail->logits), event.token);
        assert_true(fabs(log_softmax(detail->logits, (uint32_t)event.token) - (double)event.logprob) < 1e-4);
    }
}

static void logits_come_with_the_tokens_they_were_asked_for(void **state)
{
    (void)state;
    static const struct {
        uint32_t    wanted;
        const char *indices;
    } cases[] = {{QUIRE_LOGITS_NONE, ""},
                 {QUIRE_LOGITS_FIRST, "0"},
                 {QUIRE_LOGITS_LAST, "5"},
                 {QUIRE_LOGITS_FIRST | QUIRE_LOGITS_LAST, "05"},
                 {QUIRE_LOGITS_ALL, "012345"}};
    for (int i = 0; i < 5; i++) {
        int32_t       prompt[10];
        char          indices[16] = "";
        quire_request request     = request_of(i + 1, 10, 6, prompt);
        request.logits            = cases[i].wanted;
        collect_logits(request, indices);
        assert_string_equal(indices, cases[i].indices);
    }
}

/* The penalty of Hugging Face over prompt and output so far, by hand. */
static uint32_t argmax_penalised(const float *logits, float penalty, const int32_t *seen, uint32_t count)
{
    float changed[VOCAB];
    memcpy(changed, logits, sizeof changed);
    for (uint32_t i = 0; i < count; i++) {
        const float raw  = logits[seen[i]];
        changed[seen[i]] = raw > 0 ? raw / penalty : raw * penalty;
    }
    return argmax(changed);
}

/* Returns for how many tokens the last one before them mattered. */
static uint32_t follow_penalties(int number)
{
    int32_t       seen[64] = {0};
    uint32_t      count = 10, mattered = 0;
    quire_request request               = request_of(number, count, 40, seen);
    request.logits                      = QUIRE_LOGITS_ALL;
    request.sampling.repetition_penalty = 1.5f;
    submit(&request);
    for (int i = 0; i < MAX_STEPS; i++) {
        quire_event event;
        step();
        if (quire_engine_poll(shared.engine, &event, 1) == 0) continue;
        if (event.kind == QUIRE_EVENT_FINISHED) break;
        const float *logits = ((const quire_token_detail *)event.detail)->logits;
        assert_int_equal(argmax_penalised(logits, 1.5f, seen, count), event.token);
        mattered += argmax_penalised(logits, 1.5f, seen, count - 1) != (uint32_t)event.token;
        seen[count++] = event.token;
    }
    assert_int_equal(count, 50);
    return mattered;
}

static void penalties_see_every_token_before_the_one_they_weigh(void **state)
{
    (void)state;
    uint32_t mattered = 0;
    for (int number = 1; number <= 12; number++) mattered += follow_penalties(number);
    assert_true(mattered > 0);
}

static void logits_are_refused_where_no_slots_were_asked_for(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    options.max_logits_in_flight = 0;
    open_engine(&options);
    int32_t          prompt[4];
    quire_request_id id;
    quire_error      error;
    quire_request    request = request_of(1, 4, 4, prompt);
    request.logits           = QUIRE_LOGITS_LAST;
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "max_logits_in_flight"));
}

static void one_logits_slot_is_enough_for_many_requests(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    options.max_logits_in_flight = 1;
    open_engine(&options);
    int      ended   = 0;
    uint32_t seen[7] = {0};
    for (int i = 1; i <= 6; i++) {
        int32_t       prompt[8];
        quire_request request = request_of(i, 8, 5, prompt);
        request.logits        = i % 2 ? QUIRE_LOGITS_ALL : QUIRE_LOGITS_FIRST | QUIRE_LOGITS_LAST;
        submit(&request);
    }
    for (int i = 0; i < MAX_STEPS && ended < 6; i++) {
        quire_event event;
        if (i % 3 == 0) step();
        if (quire_engine_poll(shared.engine, &event, 1) == 0) continue;
        note(&event);
        ended += event.kind == QUIRE_EVENT_FINISHED;
        const quire_token_detail *detail = event.kind == QUIRE_EVENT_TOKEN ? event.detail : NULL;
        if (detail == NULL) continue;
        assert_int_equal(argmax(detail->logits), event.token);
        seen[(intptr_t)event.user_data]++;
    }
    assert_int_equal(ended, 6);
    for (int i = 1; i <= 6; i++) assert_int_equal(seen[i], i % 2 ? 5 : 2);
}

static void the_most_likely_tokens_come_in_order(void **state)
{
    (void)state;
    int32_t       prompt[10];
    quire_request request = request_of(1, 10, 5, prompt);
    request.logprobs      = 20;
    submit(&request);
    for (int i = 0, tokens = 0; tokens < 5; i++) {
        quire_event event;
        assert_true(i < MAX_STEPS);
        step();
        if (quire_engine_poll(shared.engine, &event, 1) == 0 || event.kind != QUIRE_EVENT_TOKEN) continue;
        const quire_token_detail *detail = event.detail;
        assert_non_null(detail);
        assert_int_equal(detail->top_count, 20);
        assert_int_equal(detail->top_tokens[0], event.token);
        assert_true(detail->top_logprobs[0] == event.logprob);
        for (int k = 1; k < 20; k++) assert_true(detail->top_logprobs[k] <= detail->top_logprobs[k - 1]);
        tokens++;
    }
}

/* ---- log probabilities of a prompt ---- */

/* Takes the events of one request: `told` of its prompt, `chosen` of its output, by position. */
static void take_logprobs(const quire_request *request, float *told, float *chosen)
{
    submit(request);
    for (int i = 0; i < MAX_STEPS; i++) {
        quire_event event;
        step();
        while (quire_engine_poll(shared.engine, &event, 1) > 0) {
            const quire_token_detail *detail = event.detail;
            if (event.kind == QUIRE_EVENT_FINISHED) return;
            if (event.kind == QUIRE_EVENT_TOKEN) {
                chosen[request->prompt_count + event.index] = event.logprob;
                continue;
            }
            assert_int_equal(event.token, request->prompt[event.index]);
            told[event.index] = event.logprob;
            if (request->prompt_top_logprobs == 0) continue;
            assert_int_equal(detail->top_count, request->prompt_top_logprobs);
            assert_true(detail->top_logprobs[0] >= event.logprob);
            for (uint32_t k = 0; k < detail->top_count; k++)
                if (detail->top_tokens[k] == event.token) assert_true(detail->top_logprobs[k] == event.logprob);
        }
    }
    fail();
}

/* What the model wrote, given to it as a prompt, has the bits that it had when it was written: in one step, in pieces,
 * beside others, and where the prefix cache holds the prompt. */
static void a_prompt_has_the_log_probabilities_of_its_tokens_as_outputs(void **state)
{
    (void)state;
    enum { PROMPT = 5, OUTPUT = 300 };
    static float         chosen[512], told[512], unused[512];
    int32_t              prompt[PROMPT + OUTPUT];
    quire_engine_options options = small_options();
    options.max_logits_in_flight = 1;
    open_engine(&options);
    quire_request request = request_of(1, PROMPT, OUTPUT, prompt);
    submit(&request);
    for (int i = 0, count = 0; count < OUTPUT; i++) {
        quire_event event;
        assert_true(i < MAX_STEPS);
        step();
        while (quire_engine_poll(shared.engine, &event, 1) > 0)
            if (event.kind == QUIRE_EVENT_TOKEN)
                prompt[PROMPT + event.index] = event.token, chosen[PROMPT + event.index] = event.logprob, count++;
    }
    submit_plain(2, 40, 200); /* runs beside it */
    request.prompt_count = PROMPT + OUTPUT, request.max_tokens = 1, request.user_data = mark(9);
    request.prompt_logprobs = true, request.prompt_top_logprobs = 3, request.logits = QUIRE_LOGITS_ALL;
    for (int again = 0; again < 2; again++) {
        memset(told, 0, sizeof told);
        take_logprobs(&request, told, unused);
        for (int i = 1; i < PROMPT + OUTPUT; i++) assert_true(told[i] < 0);
        for (int i = PROMPT; i < PROMPT + OUTPUT; i++) assert_true(told[i] == chosen[i]);
        request.prompt_top_logprobs = 0;
    }
}

/* ---- refusals and early ends ---- */

static void bad_requests_are_refused_and_harm_nobody(void **state)
{
    (void)state;
    int32_t          prompt[600], outside = VOCAB;
    quire_request_id id;
    quire_error      error;
    quire_request    request = request_of(1, 600, 1, prompt);
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, &error), QUIRE_ERR_TOO_LONG);
    request        = request_of(1, 1, 1, prompt);
    request.prompt = &outside;
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, &error), QUIRE_ERR_INVALID);
    request                      = request_of(1, 4, 1, prompt);
    request.sampling.temperature = NAN;
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "temperature"));
    request               = request_of(1, 4, 1, prompt);
    request.encoder_input = prompt;
    request.encoder_count = 2;
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, &error), QUIRE_ERR_INVALID);
    assert_int_equal(quire_engine_submit(shared.engine, NULL, &id, &error), QUIRE_ERR_INVALID);
    submit_plain(2, 8, 4);
    run_until_ended(1);
    assert_int_equal(shared.answers[1][0].count, 4);
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(shared.engine, &stats);
    assert_int_equal(stats.requests_submitted, 1);
    assert_int_equal(stats.requests_refused, 4);
}

static void requests_of_other_versions_are_read_by_their_size(void **state)
{
    (void)state;
    struct {
        quire_request request;
        uint64_t      unknown;
    } newer = {0};
    int32_t          prompt[4];
    quire_request_id id;
    newer.request      = request_of(1, 4, 3, prompt);
    newer.request.size = sizeof newer;
    assert_int_equal(quire_engine_submit(shared.engine, &newer.request, &id, NULL), QUIRE_OK);
    newer.unknown = 1;
    assert_int_equal(quire_engine_submit(shared.engine, &newer.request, &id, NULL), QUIRE_ERR_INVALID);
    quire_request older = request_of(2, 4, 3, prompt);
    older.size          = offsetof(quire_request, encoder_input); /* max_tokens lies beyond: not seen */
    older.user_data     = mark(3);
    older.size          = 0;
    assert_int_equal(quire_engine_submit(shared.engine, &older, &id, NULL), QUIRE_ERR_INVALID);
    older.size = offsetof(quire_request, min_tokens);
    assert_int_equal(quire_engine_submit(shared.engine, &older, &id, NULL), QUIRE_OK);
    quire_event events[16];
    uint32_t    tokens = 0, ends = 0;
    for (int i = 0; i < 200 && ends < 2; i++) {
        step();
        const size_t count = quire_engine_poll(shared.engine, events, 16);
        for (size_t k = 0; k < count; k++) {
            tokens += events[k].kind == QUIRE_EVENT_TOKEN;
            ends += events[k].kind == QUIRE_EVENT_FINISHED;
        }
    }
    assert_int_equal(ends, 2);
    assert_in_range(tokens, 4, 6); /* eos may end the second, whose ignore_eos is not seen */
}

static void a_request_that_can_never_fit_is_refused_with_what_is_missing(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    options.num_kv_blocks        = 8;
    open_engine(&options);
    int32_t             prompt[300];
    quire_request_id    id;
    quire_error         error;
    const quire_request request = request_of(1, 300, 21, prompt);
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, &error), QUIRE_ERR_TOO_LONG);
    assert_non_null(strstr(error.message, "2 missing"));
}

static void a_full_queue_refuses_until_there_is_room(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    options.max_num_queued_reqs  = 3;
    options.max_num_seqs         = 1;
    open_engine(&options);
    int32_t          prompt[8];
    quire_request_id id;
    for (int i = 1; i <= 3; i++) submit_plain(i, 8, 4);
    const quire_request request = request_of(4, 8, 4, prompt);
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, NULL), QUIRE_ERR_FULL);
    step();
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, NULL), QUIRE_OK);
    assert_int_equal(quire_engine_submit(shared.engine, &request, &id, NULL), QUIRE_ERR_FULL);
    run_until_ended(4);
}

static void cancel_works_before_while_and_not_after(void **state)
{
    (void)state;
    const quire_request_id pending = submit_plain(1, 8, 50);
    assert_int_equal(quire_engine_cancel(shared.engine, pending), QUIRE_OK);
    const quire_request_id running = submit_plain(2, 8, 50), other = submit_plain(3, 8, 10);
    for (int i = 0; i < 6; i++) step();
    assert_int_equal(quire_engine_cancel(shared.engine, running), QUIRE_OK);
    run_until_ended(3);
    assert_int_equal(shared.answers[0][0].finish, QUIRE_FINISH_CANCELLED);
    assert_int_equal(shared.answers[0][0].count, 0);
    assert_int_equal(shared.answers[1][0].finish, QUIRE_FINISH_CANCELLED);
    assert_in_range(shared.answers[1][0].count, 1, 10);
    assert_int_equal(shared.answers[2][0].finish, QUIRE_FINISH_LENGTH);
    assert_int_equal(quire_engine_cancel(shared.engine, other), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(quire_engine_cancel(shared.engine, 12345), QUIRE_ERR_NOT_FOUND);
}

static void timeouts_end_requests_with_what_they_have(void **state)
{
    (void)state;
    int32_t  prompt[8];
    uint32_t tokens = 0;
    /* A busy machine may not get to the first step within the time: then with more of it. */
    for (uint64_t timeout_ns = 20000000; tokens == 0; timeout_ns *= 4) {
        quire_request late = request_of(1, 8, 50, prompt), queued = request_of(2, 8, 50, prompt);
        late.timeout_ns         = timeout_ns;
        queued.queue_timeout_ns = 1;
        memset(&shared.answers, 0, sizeof shared.answers);
        assert_true(timeout_ns < UINT64_C(60000000000));
        submit(&late), submit(&queued);
        step();
        usleep((useconds_t)(timeout_ns / 1000 + 5000));
        run_until_ended(2);
        assert_int_equal(shared.answers[0][0].finish, QUIRE_FINISH_TIMEOUT);
        assert_int_equal(shared.answers[1][0].finish, QUIRE_FINISH_TIMEOUT);
        assert_int_equal(shared.answers[1][0].count, 0);
        tokens = shared.answers[0][0].count;
    }
    assert_in_range(tokens, 1, 49);
}

static void a_request_that_could_never_be_sampled_is_refused(void **state)
{
    (void)state;
    int32_t       prompt[8];
    const int32_t id      = 5;
    quire_request request = request_of(1, 8, 10, prompt);
    request.allowed       = &id;
    request.banned        = &id;
    request.allowed_count = request.banned_count = 1;
    quire_request_id request_id;
    assert_int_equal(quire_engine_submit(shared.engine, &request, &request_id, NULL), QUIRE_ERR_INVALID);
    submit_plain(1, 8, 10);
    run_until_ended(1);
    assert_int_equal(shared.answers[0][0].count, 10);
}

/* ---- slow readers ---- */

static void nothing_is_lost_when_nobody_reads_for_long(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    options.num_kv_blocks        = 256;
    open_engine(&options);
    for (int i = 1; i <= 8; i++) submit_plain(i, 8, 200);
    uint32_t idle = 0;
    for (int i = 0; i < MAX_STEPS && idle < 50; i++) idle = step() == 0 ? idle + 1 : 0;
    assert_int_equal(idle, 50); /* the engine holds back */
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(shared.engine, &stats);
    assert_true(stats.tokens_output < 1600);
    assert_true(stats.paused > 0);
    run_until_ended(8);
    for (int i = 0; i < 8; i++) assert_int_equal(shared.answers[i][0].count, 200);
}

static void a_dead_reader_costs_only_the_requests_it_held(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    options.consumer_timeout_ns  = 30000000;
    open_engine(&options);
    submit_plain(1, 8, 200);
    for (int i = 0; i < 200; i++) step();
    usleep(40000);
    step();
    submit_plain(2, 8, 10);
    run_until_ended(2);
    assert_int_equal(shared.answers[0][0].finish, QUIRE_FINISH_ERROR);
    assert_int_equal(shared.answers[0][0].status, QUIRE_ERR_FULL);
    assert_true(shared.answers[0][0].count > 0);
    assert_int_equal(shared.answers[1][0].finish, QUIRE_FINISH_LENGTH);
}

/* ---- the process ---- */

static void two_engines_in_one_process_do_not_meet(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    options.threads              = 1;
    quire_engine *first = shared.engine, *second = create(&options);
    submit_plain(1, 30, 20);
    shared.engine = second;
    int32_t       prompt[30];
    quire_request request = request_of(1, 30, 20, prompt);
    request.user_data     = mark(2);
    submit(&request);
    for (int ended = 0; ended < 2;) {
        shared.engine = first;
        step(), ended += take_events();
        shared.engine = second;
        step(), ended += take_events();
    }
    same_tokens(&shared.answers[0][0], &shared.answers[1][0]);
    quire_engine_destroy(second);
    shared.engine = first;
}

static int child_main(void)
{
    int32_t           prompt[4];
    quire_request_id  id;
    quire_step        report = {.size = sizeof report};
    quire_event       event;
    quire_explanation explanation = {.size = sizeof explanation};
    quire_stats       stats       = {.size = sizeof stats};
    quire_request     request     = request_of(1, 4, 4, prompt);
    if (quire_engine_submit(shared.engine, &request, &id, NULL) != QUIRE_ERR_FORKED) return 1;
    if (quire_engine_step(shared.engine, &report) != QUIRE_ERR_FORKED) return 2;
    if (quire_engine_run(shared.engine) != QUIRE_ERR_FORKED) return 3;
    if (quire_engine_cancel(shared.engine, 1) != QUIRE_ERR_FORKED) return 4;
    if (quire_engine_explain(shared.engine, 1, &explanation) != QUIRE_ERR_FORKED) return 5;
    if (quire_engine_poll(shared.engine, &event, 1) != 0) return 6;
    if (quire_engine_wait(shared.engine, &event, 1, UINT64_MAX) != 0) return 7;
    quire_engine_stats(shared.engine, &stats);
    quire_engine_flush_cache(shared.engine);
    quire_engine_stop(shared.engine);
    quire_engine_destroy(shared.engine);
    return 42;
}

static void a_forked_child_gets_errors_and_the_parent_goes_on(void **state)
{
    (void)state;
    submit_plain(1, 8, 10);
    for (int i = 0; i < 3; i++) step();
    const pid_t child = fork();
    if (child == 0) _exit(child_main());
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    run_until_ended(1);
    assert_int_equal(shared.answers[0][0].count, 10);
}

static void errno_and_the_signal_mask_stay_as_they_were(void **state)
{
    (void)state;
    sigset_t before = {0}, after = {0};
    sigprocmask(SIG_SETMASK, NULL, &before);
    errno = 7;
    submit_plain(1, 8, 4);
    assert_int_equal(errno, 7);
    step();
    assert_int_equal(errno, 7);
    quire_event event;
    while (quire_engine_poll(shared.engine, &event, 1) > 0) continue;
    assert_int_equal(errno, 7);
    quire_engine_stop(shared.engine);
    assert_int_equal(errno, 7);
    sigprocmask(SIG_SETMASK, NULL, &after);
    assert_memory_equal(&before, &after, sizeof before);
}

static void destroy_with_requests_in_flight_is_fine(void **state)
{
    (void)state;
    for (int i = 1; i <= 8; i++) submit_plain(i, 8, 100);
    for (int i = 0; i < 5; i++) step();
    quire_engine_destroy(NULL);
}

static void stop_from_signal(int number)
{
    (void)number;
    quire_engine_stop(shared.engine);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void run_until_alarm(void)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 60000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    assert_int_equal(quire_engine_run(shared.engine), QUIRE_OK);
}

static void run_sleeps_when_idle_and_ends_by_stop_from_a_signal_handler(void **state)
{
    (void)state;
    const struct sigaction action = {.sa_handler = stop_from_signal};
    sigaction(SIGALRM, &action, NULL);
    submit_plain(1, 8, 6);
    for (int tries = 0, ended = 0; ended == 0; tries++) {
        assert_true(tries < 100);
        run_until_alarm();
        ended = take_events();
    }
    assert_int_equal(shared.answers[0][0].count, 6);
    const double cpu = seconds(CLOCK_THREAD_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
    run_until_alarm(); /* with nothing to do */
    assert_true(seconds(CLOCK_MONOTONIC) - wall > 0.05);
    assert_true(seconds(CLOCK_THREAD_CPUTIME_ID) - cpu < 0.02);
    signal(SIGALRM, SIG_DFL);
}

static void an_idle_step_does_nothing(void **state)
{
    (void)state;
    quire_step report = {.size = sizeof report};
    assert_int_equal(quire_engine_step(shared.engine, &report), QUIRE_OK);
    assert_int_equal(report.rows, 0);
    assert_int_equal(report.running, 0);
    struct pollfd descriptor = {.fd = quire_engine_event_fd(shared.engine), .events = POLLIN};
    assert_int_equal(poll(&descriptor, 1, 0), 0);
    submit_plain(1, 8, 2);
    step();
    assert_int_equal(poll(&descriptor, 1, 0), 1);
}

/* ---- waiting ---- */

enum { MS = 1000000 };

static void *run_in_background(void *engine) { return (void *)(intptr_t)quire_engine_run(engine); }

static void *stop_soon(void *engine)
{
    usleep(20000);
    quire_engine_stop(engine);
    return NULL;
}

/* Returns how many events came, and how long that took. */
static size_t wait_for(uint64_t timeout_ns, double *seconds_out)
{
    quire_event  event;
    const double start = seconds(CLOCK_MONOTONIC);
    const size_t count = quire_engine_wait(shared.engine, &event, 1, timeout_ns);
    *seconds_out       = seconds(CLOCK_MONOTONIC) - start;
    return count;
}

static void wait_returns_the_events_of_another_thread(void **state)
{
    (void)state;
    pthread_t driver;
    double    took;
    assert_int_equal(pthread_create(&driver, NULL, run_in_background, shared.engine), 0);
    usleep(10000); /* the engine sleeps by now, and so will the reader */
    submit_plain(1, 8, 5);
    for (int events = 0; events < 6; events++) assert_int_equal(wait_for(UINT64_MAX, &took), 1);
    assert_int_equal(wait_for(10 * MS, &took), 0);
    quire_engine_stop(shared.engine);
    pthread_join(driver, NULL);
}

static void wait_returns_what_is_there_without_waiting(void **state)
{
    (void)state;
    double took;
    submit_plain(1, 8, 1);
    step();
    assert_int_equal(wait_for(UINT64_MAX, &took), 1);
    assert_int_equal(wait_for(0, &took), 1);
    assert_int_equal(wait_for(0, &took), 0);
}

static void wait_ends_when_its_time_is_over(void **state)
{
    (void)state;
    double       took;
    const double cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
    assert_int_equal(wait_for(0, &took), 0);
    assert_int_equal(wait_for(200 * MS, &took), 0);
    assert_true(took >= 0.2 && took < 20);
    assert_true(seconds(CLOCK_THREAD_CPUTIME_ID) - cpu < 0.02);
    quire_event event;
    assert_int_equal(quire_engine_wait(shared.engine, &event, 0, UINT64_MAX), 0); /* room for none */
}

static void stop_ends_one_wait(void **state)
{
    (void)state;
    pthread_t stopper;
    double    took;
    assert_int_equal(pthread_create(&stopper, NULL, stop_soon, shared.engine), 0);
    assert_int_equal(wait_for(UINT64_MAX, &took), 0);
    pthread_join(stopper, NULL);
    quire_engine_stop(shared.engine); /* with nobody waiting: the next one */
    assert_int_equal(wait_for(UINT64_MAX, &took), 0);
    assert_int_equal(wait_for(30 * MS, &took), 0);
    assert_true(took >= 0.03);
}

static void events_come_before_the_stop(void **state)
{
    (void)state;
    double took;
    submit_plain(1, 8, 1);
    step();
    quire_engine_stop(shared.engine);
    assert_int_equal(wait_for(UINT64_MAX, &took), 1);
    assert_int_equal(wait_for(UINT64_MAX, &took), 1);
    assert_int_equal(wait_for(UINT64_MAX, &took), 0);
}

static void do_nothing(int number) { (void)number; }

static void a_signal_does_not_end_a_wait(void **state)
{
    (void)state;
    const struct sigaction action = {.sa_handler = do_nothing}; /* no SA_RESTART */
    const struct itimerval soon   = {.it_value = {.tv_usec = 10000}};
    double                 took;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    assert_int_equal(wait_for(60 * MS, &took), 0);
    assert_true(took >= 0.06);
    signal(SIGALRM, SIG_DFL);
}

/* ---- looking in ---- */

static void explain_tells_pending_running_and_unknown_apart(void **state)
{
    (void)state;
    quire_explanation      explanation = {.size = sizeof explanation};
    const quire_request_id id          = submit_plain(1, 8, 20);
    assert_int_equal(quire_engine_explain(shared.engine, id, &explanation), QUIRE_OK);
    assert_int_equal(explanation.reason, QUIRE_WAIT_ORDER);
    assert_true(explanation.wait_ns[QUIRE_WAIT_ORDER] > 0);
    step();
    assert_int_equal(quire_engine_explain(shared.engine, id, &explanation), QUIRE_OK);
    assert_int_equal(explanation.reason, QUIRE_WAIT_NONE);
    for (int i = 2; i <= 5; i++) submit_plain(i, 8, 20);
    const quire_request_id sixth = submit_plain(6, 8, 20);
    step();
    assert_int_equal(quire_engine_explain(shared.engine, sixth, &explanation), QUIRE_OK);
    assert_int_not_equal(explanation.reason, QUIRE_WAIT_NONE);
    run_until_ended(6);
    assert_int_equal(quire_engine_explain(shared.engine, id, &explanation), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(quire_engine_explain(shared.engine, 999, &explanation), QUIRE_ERR_NOT_FOUND);
}

static void counters_add_up(void **state)
{
    (void)state;
    quire_stats stats = {.size = sizeof stats};
    for (int i = 1; i <= 6; i++) submit_plain(i, 40, 10);
    quire_engine_stats(shared.engine, &stats);
    assert_int_equal(stats.waiting, 6);
    assert_int_equal(stats.queued_tokens, 240);
    run_until_ended(6);
    step();
    quire_engine_stats(shared.engine, &stats);
    assert_int_equal(stats.requests_submitted, 6);
    assert_int_equal(stats.requests_finished, 6);
    assert_int_equal(stats.finished_by[QUIRE_FINISH_LENGTH], 6);
    assert_int_equal(stats.tokens_output, 60);
    assert_int_equal(stats.tokens_prompt + stats.tokens_cached, 240);
    assert_int_equal(stats.blocks, 64);
    assert_int_equal(stats.blocks_used, 0);
    assert_int_equal(stats.blocks_used + stats.blocks_cached + stats.blocks_free, 64);
    assert_int_equal(stats.waiting + stats.running + stats.paused, 0);
    assert_int_equal(stats.threads, 2);
    assert_int_equal(stats.block_size, 32);
    assert_int_equal(stats.max_model_len, 512);
    assert_int_equal(stats.kv_cache_bytes, stats.kv_bytes_per_token * 32 * 64);
    assert_true(stats.steps > 10 && stats.step_ns > 0);
    assert_true(stats.isa[0] != 0 && stats.implementation[0] != 0);

    quire_stats older;
    memset(&older, 0xee, sizeof older);
    older.size = offsetof(quire_stats, steps);
    quire_engine_stats(shared.engine, &older);
    assert_int_equal(older.steps, 0xeeeeeeeeeeeeeeee);
}

static void a_step_reports_what_it_ran(void **state)
{
    (void)state;
    quire_step report = {.size = sizeof report};
    submit_plain(1, 20, 4), submit_plain(2, 8, 4);
    assert_int_equal(quire_engine_step(shared.engine, &report), QUIRE_OK);
    assert_int_equal(report.step, 1);
    assert_int_equal(report.rows, 28);
    assert_int_equal(report.rows_prompt, 28);
    assert_int_equal(report.rows_logits, 2);
    assert_int_equal(report.sequences, 2);
    assert_int_equal(report.running, 2);
    assert_true(report.forward_ns > 0 && report.weight_bytes > 0 && report.flops > 0);
    assert_int_equal(quire_engine_step(shared.engine, &report), QUIRE_OK);
    assert_int_equal(report.step, 2);
    assert_int_equal(report.rows, 2);
    assert_int_equal(report.rows_prompt, 0);
}

/* ---- creation ---- */

static quire_status create_status(const quire_engine_options *options, quire_error *error)
{
    quire_engine      *engine = (quire_engine *)&shared;
    const quire_status status = quire_engine_create(options, shared.model, &engine, error);
    if (status != QUIRE_OK) assert_null(engine);
    quire_engine_destroy(status == QUIRE_OK ? engine : NULL);
    return status;
}

static void sizes_that_cannot_be_are_refused_at_creation(void **state)
{
    (void)state;
    quire_error          error;
    quire_engine_options options = small_options();
    options.num_kv_blocks        = 0;
    options.kv_cache_bytes       = (uint64_t)1 << 50;
    assert_int_equal(create_status(&options, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "1125899906842624 bytes are above"));
    options               = small_options();
    options.max_model_len = 4096;
    assert_int_equal(create_status(&options, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "[model] max_model_len: 4096 is above the model's own limit 2048");
    options      = small_options();
    options.size = 0;
    assert_int_equal(create_status(&options, &error), QUIRE_ERR_INVALID);
    options         = small_options();
    options.cpus    = "0-0";
    options.threads = 3;
    options.bind    = QUIRE_BIND_CORE;
    assert_int_equal(create_status(&options, &error), QUIRE_ERR_INVALID);
    assert_int_equal(create_status(NULL, &error), QUIRE_ERR_INVALID);
    quire_engine *engine;
    options = small_options();
    assert_int_equal(quire_engine_create(&options, NULL, &engine, &error), QUIRE_ERR_INVALID);
}

static void options_of_other_versions_are_read_by_their_size(void **state)
{
    (void)state;
    struct {
        quire_engine_options known;
        uint64_t             unknown;
    } newer          = {.known = small_options()};
    newer.known.size = sizeof newer;
    assert_int_equal(create_status(&newer.known, NULL), QUIRE_OK);
    newer.unknown = 1;
    assert_int_equal(create_status(&newer.known, NULL), QUIRE_ERR_INVALID);
    quire_engine_options older = small_options();
    older.prompt_lookup_max    = 999; /* out of range, but beyond what this caller knows */
    assert_int_equal(create_status(&older, NULL), QUIRE_ERR_INVALID);
    older.size = offsetof(quire_engine_options, prompt_lookup_max);
    assert_int_equal(create_status(&older, NULL), QUIRE_OK);
}

/* ---- an allocator that fails ---- */

typedef struct failing {
    _Atomic int64_t left, live; /* allocations until the first failure; not yet given back */
} failing;

static void *allocate_until(void *context, size_t size, size_t alignment)
{
    failing *f = context;
    if (atomic_fetch_sub(&f->left, 1) <= 0) return NULL;
    atomic_fetch_add(&f->live, 1);
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void give_back(void *context, void *pointer, size_t size)
{
    (void)size;
    if (pointer != NULL) atomic_fetch_sub(&((failing *)context)->live, 1);
    free(pointer);
}

static void every_allocation_of_create_may_fail(void **state)
{
    (void)state;
    for (int64_t k = 0; k < 1000; k++) {
        failing              f       = {.left = k};
        quire_error          error   = {0};
        quire_engine_options options = small_options();
        options.allocator = (quire_allocator){.context = &f, .allocate = allocate_until, .deallocate = give_back};
        const quire_status status = create_status(&options, &error);
        assert_int_equal(f.live, 0);
        if (status == QUIRE_OK) {
            assert_true(k > 3);
            return;
        }
        if (status != QUIRE_ERR_NO_MEMORY) fail_msg("allocation %d: %s", (int)k, error.message);
        assert_true(error.message[0] != 0);
    }
    fail_msg("create never succeeded");
}

/* Entries of a folder. Counted in this process: a child of popen() may look while its parent still holds the pipe's
 * other end, and see one descriptor too many. */
static long count_entries(const char *path)
{
    long entries = 0;
    DIR *folder  = opendir(path);
    assert_non_null(folder);
    while (readdir(folder) != NULL) entries++;
    closedir(folder);
    return entries;
}

/* Private data of this process in KiB. */
static long data_kib(void)
{
    char  line[256];
    long  kib  = -1;
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmData: %ld", &kib) == 1) break;
    fclose(file);
    assert_true(kib > 0);
    return kib;
}

static void destroy_gives_back_memory_descriptors_and_threads(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    assert_int_equal(create_status(&options, NULL), QUIRE_OK);
    const long size = data_kib(), fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (int i = 0; i < 4; i++) assert_int_equal(create_status(&options, NULL), QUIRE_OK);
    assert_int_equal(count_entries("/proc/self/fd"), fds);
    long left = count_entries("/proc/self/task");
    for (int i = 0; i < 6000 && left > threads; i++) { /* OpenMP's threads end a little after their opener */
        usleep(10000);
        left = count_entries("/proc/self/task");
    }
    assert_true(left <= threads);
    if (!QR_SANITIZED) assert_true(data_kib() < size + 4096);
}

static void remember_warning(void *context, quire_log_level level, const char *line)
{
    if (level == QUIRE_LOG_WARN) strncat(context, line, 1000);
}

static void a_pool_too_small_for_the_longest_sequence_is_a_warning(void **state)
{
    (void)state;
    char                 log[2048] = "";
    quire_engine_options options   = small_options();
    options.num_kv_blocks          = 10;
    options.logger                 = (quire_logger){.context = log, .write = remember_warning};
    assert_int_equal(create_status(&options, NULL), QUIRE_OK);
    assert_non_null(
        strstr(log, "hold a sequence of 321 tokens at most, the last of which is not stored; max_model_len is 512"));
}

static void an_encoder_decoder_model_goes_the_same_way(void **state)
{
    (void)state;
    const quire_shape_override shape[]      = {{"num_layers", 2},    {"num_decoder_layers", 2}, {"d_model", 64},
                                               {"d_ff", 128},        {"num_heads", 4},          {"d_kv", 16},
                                               {"vocab_size", VOCAB}};
    const quire_model_options  options      = {.size         = sizeof options,
                                               .weight_dtype = QUIRE_DTYPE_F32,
                                               .shape        = shape,
                                               .shape_count  = sizeof shape / sizeof *shape};
    quire_model               *decoder_only = shared.model;
    quire_error                error;
    if (quire_model_synthetic("t5-small", &options, &shared.model, &error) != QUIRE_OK) fail_msg("%s", error.message);
    const quire_engine_options engine_options = small_options();
    open_engine(&engine_options);
    int32_t       encoder[30], none[1];
    quire_request request = request_of(1, 0, 8, none);
    for (int i = 0; i < 30; i++) encoder[i] = 3 + i;
    request.encoder_input = encoder;
    request.encoder_count = 30;
    submit(&request);
    request.user_data = mark(2);
    submit(&request);
    run_until_ended(2);
    assert_int_equal(shared.answers[0][0].count, 8);
    assert_int_equal(shared.answers[0][0].detail.encoder_tokens, 30);
    same_tokens(&shared.answers[0][0], &shared.answers[1][0]);
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(shared.engine, &stats);
    assert_int_equal(stats.encoder_runs, 1);
    close_engine(NULL);
    quire_model_destroy(shared.model);
    shared.model = decoder_only;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_default, close_engine)
#define TEST_OWN(function) cmocka_unit_test_setup_teardown(function, NULL, close_engine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_step_fills_no_more_than_the_caller_knows),
        TEST(a_request_is_decoded_to_its_max_tokens),
        TEST(the_times_of_a_request_are_in_order_and_its_waits_add_up),
        TEST(a_sequence_gets_the_same_bits_alone_and_in_company),
        TEST(sequences_of_one_request_differ_and_repeat_with_their_seed),
        TEST(a_stop_id_ends_the_sequence_and_stays_in_the_output),
        TEST(a_repeated_prompt_comes_from_the_cache_until_it_is_flushed),
        TEST(preempted_sequences_lose_and_repeat_nothing),
        TEST(logits_come_with_the_tokens_they_were_asked_for),
        TEST(penalties_see_every_token_before_the_one_they_weigh),
        TEST_OWN(logits_are_refused_where_no_slots_were_asked_for),
        TEST_OWN(one_logits_slot_is_enough_for_many_requests),
        TEST(the_most_likely_tokens_come_in_order),
        TEST_OWN(a_prompt_has_the_log_probabilities_of_its_tokens_as_outputs),
        TEST(bad_requests_are_refused_and_harm_nobody),
        TEST(requests_of_other_versions_are_read_by_their_size),
        TEST_OWN(a_request_that_can_never_fit_is_refused_with_what_is_missing),
        TEST_OWN(a_full_queue_refuses_until_there_is_room),
        TEST(cancel_works_before_while_and_not_after),
        TEST(timeouts_end_requests_with_what_they_have),
        TEST(a_request_that_could_never_be_sampled_is_refused),
        TEST_OWN(nothing_is_lost_when_nobody_reads_for_long),
        TEST_OWN(a_dead_reader_costs_only_the_requests_it_held),
        TEST(two_engines_in_one_process_do_not_meet),
        TEST(a_forked_child_gets_errors_and_the_parent_goes_on),
        TEST(errno_and_the_signal_mask_stay_as_they_were),
        TEST(destroy_with_requests_in_flight_is_fine),
        TEST(run_sleeps_when_idle_and_ends_by_stop_from_a_signal_handler),
        TEST(an_idle_step_does_nothing),
        TEST(wait_returns_the_events_of_another_thread),
        TEST(wait_returns_what_is_there_without_waiting),
        TEST(wait_ends_when_its_time_is_over),
        TEST(stop_ends_one_wait),
        TEST(events_come_before_the_stop),
        TEST(a_signal_does_not_end_a_wait),
        TEST(explain_tells_pending_running_and_unknown_apart),
        TEST(counters_add_up),
        TEST(a_step_reports_what_it_ran),
        TEST_OWN(sizes_that_cannot_be_are_refused_at_creation),
        TEST_OWN(options_of_other_versions_are_read_by_their_size),
        TEST_OWN(every_allocation_of_create_may_fail),
        TEST_OWN(destroy_gives_back_memory_descriptors_and_threads),
        TEST_OWN(a_pool_too_small_for_the_longest_sequence_is_a_warning),
        TEST_OWN(an_encoder_decoder_model_goes_the_same_way),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
