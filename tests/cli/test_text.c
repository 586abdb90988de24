/* Texts of the tool: what a file holds does not steer a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/text.h"

static void assert_plain(const char *value, const char *expected)
{
    qr_text text = {0};
    qr_text_append_plain(&text, value);
    QR_TEXT_LITERAL(&text, "\0");
    assert_string_equal(text.data, expected);
    qr_text_deinit(&text);
}

static void readable_text_stays_as_it_is(void **state)
{
    (void)state;
    assert_plain("", "");
    assert_plain("a.csv:3: found \"1\"\n\tmore", "a.csv:3: found \"1\"\n\tmore");
    assert_plain("\u00e9 \u20ac \U0001f600 \ud7ff", "\u00e9 \u20ac \U0001f600 \ud7ff");
}

static void what_steers_a_terminal_is_escaped(void **state)
{
    (void)state;
    assert_plain("\x1b[2J\a\r\xff", "\\x1b[2J\\x07\\x0d\\xff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readable_text_stays_as_it_is),
        cmocka_unit_test(what_steers_a_terminal_is_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
