/* Lines from pipes and files: bounded, in pieces, with every kind of end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/lines.h"

typedef struct piped {
    int      ends[2];
    qr_lines lines;
} piped;

static void start(piped *p)
{
    assert_int_equal(pipe(p->ends), 0);
    assert_true(qr_lines_init(&p->lines, p->ends[0]));
}

static void stop(piped *p)
{
    qr_lines_deinit(&p->lines);
    close(p->ends[0]);
}

static void say(piped *p, const char *text) { assert_int_equal(write(p->ends[1], text, strlen(text)), strlen(text)); }

static void expect_line(piped *p, const char *text, uint64_t number)
{
    const char *line   = NULL;
    size_t      length = 0;
    assert_int_equal(qr_lines_next(&p->lines, 1000, &line, &length), QR_LINE_READY);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(line, text, length);
    assert_int_equal(p->lines.number, number);
}

static qr_line_result next(piped *p)
{
    const char *line;
    size_t      length;
    return qr_lines_next(&p->lines, 0, &line, &length);
}

static void lines_arrive_in_any_pieces(void **state)
{
    (void)state;
    piped p;
    start(&p);
    assert_int_equal(next(&p), QR_LINE_WAIT);
    say(&p, "ab");
    assert_int_equal(next(&p), QR_LINE_WAIT);
    say(&p, "c\nd\n\ne");
    expect_line(&p, "abc", 1);
    expect_line(&p, "d", 2);
    expect_line(&p, "", 3);
    assert_int_equal(next(&p), QR_LINE_WAIT);
    close(p.ends[1]);
    expect_line(&p, "e", 4); /* without a newline */
    assert_int_equal(next(&p), QR_LINE_END);
    assert_int_equal(next(&p), QR_LINE_END);
    stop(&p);
}

static void carriage_returns_and_a_byte_order_mark_are_dropped(void **state)
{
    (void)state;
    piped p;
    start(&p);
    say(&p, "\xef\xbb\xbf{}\r\n\xef\xbb\xbf\r\n");
    close(p.ends[1]);
    expect_line(&p, "{}", 1);
    expect_line(&p, "\xef\xbb\xbf", 2); /* a mark at the start of the input only */
    assert_int_equal(next(&p), QR_LINE_END);
    stop(&p);
}

static void a_line_above_the_limit_is_skipped_and_the_next_is_read(void **state)
{
    (void)state;
    char name[] = "/tmp/quire-test-XXXXXX";
    int  file   = mkstemp(name);
    assert_true(file >= 0);
    unlink(name);
    char *block = malloc(1 << 20);
    memset(block, 'x', 1 << 20);
    for (int i = 0; i < 40; i++) /* 40 MiB: one line; then one of exactly the limit, then one above by one */
        assert_int_equal(write(file, block, 1 << 20), 1 << 20);
    assert_int_equal(write(file, "\nnext\n", 6), 6);
    for (int extra = 0; extra <= 1; extra++) {
        for (int i = 0; i < QR_MAX_LINE_BYTES >> 20; i++) assert_int_equal(write(file, block, 1 << 20), 1 << 20);
        assert_int_equal(write(file, &"x\n"[!extra], (size_t)(1 + extra)), 1 + extra);
    }
    free(block);
    lseek(file, 0, SEEK_SET);
    piped p = {.ends = {file, -1}};
    assert_true(qr_lines_init(&p.lines, file));
    assert_int_equal(next(&p), QR_LINE_TOO_LONG);
    assert_int_equal(p.lines.number, 1);
    expect_line(&p, "next", 2);
    assert_int_equal(next(&p), QR_LINE_READY);
    assert_int_equal(next(&p), QR_LINE_TOO_LONG);
    assert_int_equal(next(&p), QR_LINE_END);
    stop(&p);
}

static void a_broken_input_is_an_error(void **state)
{
    (void)state;
    piped p = {.ends = {open("/", O_RDONLY), -1}}; /* a folder cannot be read */
    assert_true(qr_lines_init(&p.lines, p.ends[0]));
    assert_int_equal(next(&p), QR_LINE_ERROR);
    stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_arrive_in_any_pieces),
        cmocka_unit_test(carriage_returns_and_a_byte_order_mark_are_dropped),
        cmocka_unit_test(a_line_above_the_limit_is_skipped_and_the_next_is_read),
        cmocka_unit_test(a_broken_input_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
