/* Messages of failures, and their trace in debug builds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef QR_DEBUG
#define QR_DEBUG
#endif
#include "base/error.h"

static quire_status opens(int descriptor) { return descriptor < 0 ? QUIRE_ERR_IO : QUIRE_OK; }

static quire_status forwards(int descriptor)
{
    QR_TRY(opens(descriptor));
    return QUIRE_ERR_INTERNAL;
}

/* What a call of forwards() writes on stderr. */
static void capture(int descriptor, quire_status expected, char *text, size_t capacity)
{
    FILE     *file = tmpfile();
    const int kept = dup(STDERR_FILENO);
    assert_non_null(file);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    const quire_status status = forwards(descriptor);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, capacity - 1, file)] = '\0';
    fclose(file);
    assert_int_equal(status, expected);
}

static void a_forwarded_error_says_file_line_and_expression_when_asked(void **state)
{
    (void)state;
    char text[512];
    setenv("QUIRE_TRACE_ERRORS", "1", 1);
    capture(-1, QUIRE_ERR_IO, text, sizeof text);
    assert_non_null(strstr(text, "test_error.c:"));
    assert_non_null(strstr(text, ": opens(descriptor): input/output failure\n"));
    capture(0, QUIRE_ERR_INTERNAL, text, sizeof text);
    assert_string_equal(text, "");
}

static void nobody_asked_nothing_is_said(void **state)
{
    (void)state;
    char text[512];
    unsetenv("QUIRE_TRACE_ERRORS");
    capture(-1, QUIRE_ERR_IO, text, sizeof text);
    assert_string_equal(text, "");
}

static void a_message_is_truncated_to_its_buffer(void **state)
{
    (void)state;
    quire_error error;
    assert_int_equal(qr_fail(&error, QUIRE_ERR_INVALID, "%0300d", 7), QUIRE_ERR_INVALID);
    assert_int_equal(error.status, QUIRE_ERR_INVALID);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    assert_int_equal(qr_fail(NULL, QUIRE_ERR_IO, "nobody listens"), QUIRE_ERR_IO);
}

static void a_message_is_one_printable_line(void **state)
{
    (void)state;
    quire_error error;
    qr_fail(&error, QUIRE_ERR_FORMAT, "tensor \"%s\" of \u00e9", "\x1b[31mred\n x\xff");
    assert_string_equal(error.message, "tensor \"\\x1b[31mred\\x0a x\\xff\" of \u00e9");
    qr_fail(&error, QUIRE_ERR_FORMAT, "%250s\u20ac", ""); /* one byte is left for three */
    assert_int_equal(strlen(error.message), 250);
    qr_fail(&error, QUIRE_ERR_FORMAT, "%250s\n", "");
    assert_int_equal(strlen(error.message), 250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forwarded_error_says_file_line_and_expression_when_asked),
        cmocka_unit_test(nobody_asked_nothing_is_said),
        cmocka_unit_test(a_message_is_truncated_to_its_buffer),
        cmocka_unit_test(a_message_is_one_printable_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
