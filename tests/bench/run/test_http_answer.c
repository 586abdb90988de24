/* Streams of events as servers send them, and as they should not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/run/http_answer.h"

typedef struct told { /* by take_tokens */
    uint32_t calls, tokens[4];
} told;

static bool take_tokens(void *context, uint32_t sequence, uint32_t count)
{
    told *t = context;
    t->calls++;
    t->tokens[sequence] += count;
    return true;
}

static qr_answer begin(told *t, uint32_t n)
{
    qr_answer answer = {.take_tokens = take_tokens, .context = t};
    *t               = (told){0};
    assert_int_equal(qr_answer_begin(&answer, n, 8), QUIRE_OK);
    return answer;
}

static quire_status take(qr_answer *answer, const char *text, quire_error *error)
{
    return qr_answer_take(answer, text, strlen(text), error);
}

/* The status of a whole stream, of its bytes or of its end. */
static quire_status status_of(const char *text, uint32_t n, quire_error *error)
{
    told         t;
    qr_answer    answer = begin(&t, n);
    quire_status status = take(&answer, text, error);
    if (status == QUIRE_OK) status = qr_answer_end(&answer, error);
    qr_answer_deinit(&answer);
    return status;
}

#define CHUNK(text, reason)                                                                                            \
    "data: {\"choices\": [{\"index\": 0, \"text\": \"" text "\", \"finish_reason\": " reason "}]}\n\n"
#define USAGE(tokens)                                                                                                  \
    "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 5, \"completion_tokens\": " #tokens "}}\n\n"
#define DONE "data: [DONE]\n\n"

static void a_stream_may_come_in_any_pieces(void **state)
{
    (void)state;
    static const char stream[] =
        ": a comment\r\nevent: x\r\n" CHUNK("a", "null") "data:{\"choices\": [\r\ndata:{\"index\": 0, "
                                                         "\"text\": \"b\"}]}\r\n\r\n" CHUNK("c", "\"length\"") USAGE(3)
                                                             DONE;
    for (size_t piece = 1; piece < sizeof stream; piece += 1 + piece / 8) {
        told      t;
        qr_answer answer = begin(&t, 1);
        for (size_t at = 0; at < sizeof stream - 1; at += piece) {
            const size_t left = sizeof stream - 1 - at;
            assert_int_equal(qr_answer_take(&answer, stream + at, left < piece ? left : piece, NULL), QUIRE_OK);
        }
        assert_int_equal(qr_answer_end(&answer, NULL), QUIRE_OK);
        assert_true(answer.is_done);
        assert_int_equal(t.tokens[0], 3);
        assert_int_equal(t.calls, 3);
        assert_int_equal(answer.choices[0].finish, QUIRE_FINISH_LENGTH);
        assert_int_equal(answer.prompt_tokens, 5);
        assert_int_equal(answer.cached_tokens, -1);
        assert_int_equal(answer.counted_by, QR_BY_TOTAL);
        qr_answer_deinit(&answer);
    }
}

static void tokens_are_counted_by_the_best_that_is_told(void **state)
{
    (void)state;
    static const struct {
        const char   *text;
        qr_counted_by how;
        uint32_t      tokens, missing, excess;
    } cases[] = {
        {CHUNK("a", "null") CHUNK("", "null") CHUNK("", "\"stop\"") DONE, QR_BY_CHUNKS, 2, 0, 0},
        {CHUNK("a", "null") CHUNK("b", "\"stop\"") USAGE(5) DONE, QR_BY_TOTAL, 5, 3, 0},
        {CHUNK("a", "null") CHUNK("b", "\"stop\"") USAGE(1) DONE, QR_BY_TOTAL, 2, 0, 1},
        {"data: {\"choices\": [{\"text\": \"abc\"}], \"usage\": {\"completion_tokens\": 3}}\n\n"
         "data: {\"choices\": [{\"text\": \"d\", \"finish_reason\": \"stop\"}], \"usage\": {\"completion_tokens\": "
         "4}}\n\n",
         QR_BY_USAGE, 4, 0, 0},
        {"data: {\"choices\": [{\"text\": \"abc\", \"token_ids\": [4, 5]}]}\n\n"
         "data: {\"choices\": [{\"text\": \"\", \"token_ids\": [], \"finish_reason\": \"stop\"}]}\n\n" USAGE(2) DONE,
         QR_BY_TOKEN_IDS, 2, 0, 0},
        {"data: {\"choices\": [{\"text\": \"abc\", \"token_ids\": [4, 5]}]}\n\n" CHUNK("b", "\"stop\"") DONE,
         QR_BY_CHUNKS, 3, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        told      t;
        qr_answer answer = begin(&t, 1);
        assert_int_equal(take(&answer, cases[i].text, NULL), QUIRE_OK);
        assert_int_equal(qr_answer_end(&answer, NULL), QUIRE_OK);
        assert_int_equal(answer.counted_by, cases[i].how);
        assert_int_equal(t.tokens[0], cases[i].tokens);
        assert_int_equal(answer.missing, cases[i].missing);
        assert_int_equal(answer.excess, cases[i].excess);
        qr_answer_deinit(&answer);
    }
}

static void choices_are_told_apart(void **state)
{
    (void)state;
    told      t;
    qr_answer answer = begin(&t, 2);
    /* the usage of a chunk is that of one choice or of all, by the server: it is not used here */
    assert_int_equal(take(&answer,
                          "data: {\"choices\": [{\"index\": 1, \"text\": \"a\"}, {\"index\": 0, \"text\": \"a\"}], "
                          "\"usage\": {\"completion_tokens\": 1}}\n\n"
                          "data: {\"choices\": [{\"index\": 1, \"text\": \"a\", \"finish_reason\": \"stop\"}]}\n\n",
                          NULL),
                     QUIRE_OK);
    assert_int_equal(qr_answer_end(&answer, NULL), QUIRE_ERR_IO); /* one has not ended */
    assert_int_equal(take(&answer, DONE, NULL), QUIRE_OK);
    assert_int_equal(t.tokens[0], 1);
    assert_int_equal(t.tokens[1], 2);
    assert_int_equal(answer.choices[1].finish, QUIRE_FINISH_STOP);
    qr_answer_deinit(&answer);
}

static void a_buffer_serves_one_answer_after_the_other(void **state)
{
    (void)state;
    told      t;
    qr_answer answer = begin(&t, 3);
    assert_int_equal(take(&answer, CHUNK("a", "null") "data: {\"choi", NULL), QUIRE_OK); /* left in the middle */
    assert_int_equal(qr_answer_begin(&answer, 1, 8), QUIRE_OK);
    assert_int_equal(take(&answer, CHUNK("a", "\"stop\""), NULL), QUIRE_OK);
    assert_int_equal(qr_answer_end(&answer, NULL), QUIRE_OK);
    assert_int_equal(answer.tokens, 1);
    assert_false(answer.is_done);
    qr_answer_deinit(&answer);
}

static void what_is_no_stream_of_a_completion_is_said(void **state)
{
    (void)state;
    static const struct {
        const char  *text;
        quire_status status;
        const char  *message;
    } cases[] = {
        {"data: {\"choices\"\n\n", QUIRE_ERR_FORMAT, "an event is not JSON: {\"choices\": "},
        {"data: [1]\n\n", QUIRE_ERR_FORMAT, "an event has no \"choices\""},
        {"data: {\"choices\": [{\"index\": 1, \"text\": \"\"}]}\n\n", QUIRE_ERR_FORMAT,
         "an event has no choice of those asked for"},
        {"data: {\"choices\": [{\"index\": -1}]}\n\n", QUIRE_ERR_FORMAT, "an event has no choice of those asked for"},
        {"data: {\"choices\": [7]}\n\n", QUIRE_ERR_FORMAT, "an event has no choice of those asked for"},
        {"data: {\"choices\": [{\"text\": 7}]}\n\n", QUIRE_ERR_FORMAT, "the text of an event is no string"},
        {"data: {\"choices\": [{\"text\": \"\"}], \"usage\": {\"completion_tokens\": 99999999999}}\n\n",
         QUIRE_ERR_FORMAT, "more tokens come than the 8 asked for"},
        {"data: {\"error\": {\"message\": \"no\"}}\n\n", QUIRE_ERR_EXECUTION, "the server stops the stream: no"},
        {"data: {\"error\": \"no\"}\n\n", QUIRE_ERR_EXECUTION, "the server stops the stream: no"},
        {"data: {\"error\": 7}\n\n", QUIRE_ERR_EXECUTION, "the server stops the stream: it does not say why"},
        {CHUNK("a", "\"abort\""), QUIRE_ERR_EXECUTION, "the server ended a request with \"abort\""},
        {DONE, QUIRE_ERR_FORMAT, "the stream has no token"},
        {USAGE(0) DONE, QUIRE_ERR_FORMAT, "the stream has no token"},
        {CHUNK("a", "null"), QUIRE_ERR_IO, "the stream breaks off in the middle"},
        {"", QUIRE_ERR_IO, "the stream breaks off in the middle"},
        {USAGE(4000000000) DONE, QUIRE_ERR_FORMAT, "more tokens come than the 8 asked for"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        quire_error error = {0};
        assert_int_equal(status_of(cases[i].text, 1, &error), cases[i].status);
        assert_memory_equal(error.message, cases[i].message, strlen(cases[i].message));
    }
}

static void an_event_has_a_bound(void **state)
{
    (void)state;
    static char  text[1 << 20];
    told         t;
    qr_answer    answer = begin(&t, 1);
    quire_error  error  = {0};
    quire_status status = QUIRE_OK;
    memset(text, 'x', sizeof text);
    size_t sent = 0;
    for (; status == QUIRE_OK && sent < 2 * (size_t)QR_ANSWER_MOST_EVENT; sent += sizeof text)
        status = qr_answer_take(&answer, text, sizeof text, &error);
    assert_int_equal(status, QUIRE_ERR_FORMAT);
    assert_int_equal(sent, (size_t)QR_ANSWER_MOST_EVENT + sizeof text);
    assert_string_equal(error.message, "an event is longer than 16 MiB");
    qr_answer_deinit(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_may_come_in_any_pieces),
        cmocka_unit_test(tokens_are_counted_by_the_best_that_is_told),
        cmocka_unit_test(choices_are_told_apart),
        cmocka_unit_test(a_buffer_serves_one_answer_after_the_other),
        cmocka_unit_test(what_is_no_stream_of_a_completion_is_said),
        cmocka_unit_test(an_event_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
