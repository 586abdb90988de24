/* The reader of requests: parsing is on a thread of its own, and ahead by a bounded amount. What parses is ours here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/job_reader.h"

static sem_t       began, go_on;
static _Atomic int alive;

/* "slow" waits to be told, "bad" is refused, "none" finds no memory, a number is so many tokens. */
qr_job *qr_job_parse(const char *line, size_t length, uint64_t number, const qr_request_defaults *defaults,
                     qr_line_error *error_out)
{
    (void)defaults;
    *error_out = (qr_line_error){0};
    sem_post(&began);
    if (length == 4 && memcmp(line, "slow", 4) == 0) sem_wait(&go_on);
    if (length == 4 && memcmp(line, "none", 4) == 0) return NULL;
    if (length == 3 && memcmp(line, "bad", 3) == 0) error_out->status = QUIRE_ERR_INVALID;
    qr_job *job                    = calloc(1, sizeof *job);
    job->from.line                 = number;
    job->from.request.prompt_count = (uint32_t)atoi(line);
    alive++;
    return job;
}

void qr_job_destroy(qr_job *job)
{
    alive -= job != NULL;
    free(job);
}

typedef struct fixture {
    int            ends[2];
    qr_job_reader *reader;
} fixture;

static int start(void **state)
{
    static fixture             f;
    static qr_request_defaults none;
    if (pipe(f.ends) != 0 || sem_init(&began, 0, 0) != 0 || sem_init(&go_on, 0, 0) != 0) return -1;
    f.reader = qr_job_reader_start(f.ends[0], &none);
    *state   = &f;
    alive    = 0;
    return f.reader != NULL ? 0 : -1;
}

static int finish(void **state)
{
    fixture *f = *state;
    qr_job_reader_stop(f->reader);
    close(f->ends[0]);
    if (f->ends[1] >= 0) close(f->ends[1]);
    return alive; /* whatever was read ahead is freed */
}

static void send_text(const fixture *f, const char *text)
{
    assert_int_equal(write(f->ends[1], text, strlen(text)), strlen(text));
}

static qr_read_job next(const fixture *f)
{
    qr_read_job read;
    qr_job_reader_next(f->reader, 30000, &read);
    return read;
}

static void await_parses(int count)
{
    for (int i = 0; i < count; i++) sem_wait(&began);
}

static void expect_no_parse(void)
{
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sem_trywait(&began), -1);
        usleep(2000);
    }
}

static void nobody_waits_while_a_line_is_parsed(void **state)
{
    fixture    *f = *state;
    qr_read_job read;
    send_text(f, "1\nslow\n1\n");
    read = next(f);
    assert_int_equal(read.number, 1);
    qr_job_destroy(read.job);
    await_parses(2);
    for (int i = 0; i < 3; i++) {
        qr_job_reader_next(f->reader, i, &read);
        assert_int_equal(read.result, QR_LINE_WAIT);
    }
    sem_post(&go_on);
    for (uint64_t line = 2; line <= 3; line++) {
        read = next(f);
        assert_true(read.result == QR_LINE_READY && read.number == line && read.job != NULL);
        qr_job_destroy(read.job);
    }
}

static void bad_lines_come_with_their_error_and_blank_ones_do_not_come(void **state)
{
    fixture *f = *state;
    send_text(f, "bad\n\n \t\r\nnone\n5");
    close(f->ends[1]);
    f->ends[1]       = -1;
    qr_read_job read = next(f);
    assert_true(read.job != NULL && read.error.status == QUIRE_ERR_INVALID && read.number == 1);
    qr_job_destroy(read.job);
    read = next(f);
    assert_true(read.job == NULL && read.error.status == QUIRE_ERR_NO_MEMORY && read.number == 4);
    read = next(f);
    assert_true(read.job != NULL && read.error.status == QUIRE_OK && read.number == 5);
    qr_job_destroy(read.job);
    for (int i = 0; i < 2; i++) assert_int_equal(next(f).result, QR_LINE_END);
}

static void it_is_ahead_by_a_bounded_amount(void **state)
{
    fixture *f = *state;
    char     line[32];
    snprintf(line, sizeof line, "%d\n", QR_READ_AHEAD_TOKENS);
    send_text(f, line);
    for (int i = 0; i < 2 * QR_READ_AHEAD; i++) send_text(f, "1\n");
    await_parses(1);
    expect_no_parse();
    qr_job_destroy(next(f).job);
    await_parses(QR_READ_AHEAD);
    expect_no_parse();
    qr_job_destroy(next(f).job);
    await_parses(1);
}

static void an_error_of_the_input_is_said(void **state)
{
    static qr_request_defaults none;
    qr_read_job                read;
    qr_job_reader             *reader = qr_job_reader_start(1000, &none);
    (void)state;
    qr_job_reader_next(reader, 30000, &read);
    assert_true(read.result == QR_LINE_ERROR && read.why == EBADF);
    qr_job_reader_stop(reader);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, start, finish)
    const struct CMUnitTest tests[] = {
        CASE(nobody_waits_while_a_line_is_parsed),
        CASE(bad_lines_come_with_their_error_and_blank_ones_do_not_come),
        CASE(it_is_ahead_by_a_bounded_amount),
        cmocka_unit_test(an_error_of_the_input_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
