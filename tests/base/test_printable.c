/* Text from files and callers becomes one printable line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/printable.h"
#include "support/kept_log.h"

static void assert_copy(const char *text, const char *expected)
{
    char out[200];
    qr_printable_copy(out, sizeof out, text);
    assert_string_equal(out, expected);
}

static void readable_text_stays_as_it_is(void **state)
{
    (void)state;
    assert_copy("", "");
    assert_copy("a.csv:3: found \"1\" ~", "a.csv:3: found \"1\" ~");
    assert_copy("\u00e9 \u20ac \U0001f600 \ud7ff \ufffd", "\u00e9 \u20ac \U0001f600 \ud7ff \ufffd");
}

static void control_characters_are_escaped(void **state)
{
    (void)state;
    assert_copy("\x1b[2J\a\r\n\t\x7f", "\\x1b[2J\\x07\\x0d\\x0a\\x09\\x7f");
    assert_copy("\xc2\x9b"
                "31m",
                "\\xc2\\x9b31m"); /* CSI as one character */
    assert_copy("\u2028\u202e\u2066", "\\xe2\\x80\\xa8\\xe2\\x80\\xae\\xe2\\x81\\xa6");
}

static void what_is_not_utf8_is_escaped(void **state)
{
    (void)state;
    assert_copy("\xff"
                "a",
                "\\xffa");
    assert_copy("\xc3", "\\xc3"); /* cut */
    assert_copy("\xe2\x82"
                "z",
                "\\xe2\\x82z");
    assert_copy("\xc0\x80", "\\xc0\\x80");                   /* overlong */
    assert_copy("\xe0\x9f\xbf", "\\xe0\\x9f\\xbf");          /* overlong */
    assert_copy("\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"); /* overlong */
    assert_copy("\xed\xa0\x80", "\\xed\\xa0\\x80");          /* a surrogate */
    assert_copy("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond U+10FFFF */
}

static void what_does_not_fit_is_left_out_whole(void **state)
{
    (void)state;
    char out[5];
    qr_printable_copy(out, sizeof out, "ab\u20ac");
    assert_string_equal(out, "ab");
    qr_printable_copy(out, sizeof out, "a\n");
    assert_string_equal(out, "a");
    qr_printable_copy(out, sizeof out, "\n");
    assert_string_equal(out, "\\x0a");
    qr_printable_copy(out, 1, "a");
    assert_string_equal(out, "");
}

static void text_is_cut_behind_a_whole_character(void **state)
{
    (void)state;
    assert_int_equal(qr_whole_length("ab", 5), 2);
    assert_int_equal(qr_whole_length("abc", 2), 2);
    assert_int_equal(qr_whole_length("", 5), 0);
    for (int most = 0; most < 3; most++) assert_int_equal(qr_whole_length("\u20ac", most), 0);
    assert_int_equal(qr_whole_length("\u20ac\u20ac", 3), 3);
    assert_int_equal(qr_whole_length("\u20ac\u20ac", 5), 3);
    assert_int_equal(qr_whole_length("\u20ac\xe2\x82", 9), 3); /* cut by someone else */
    assert_int_equal(qr_whole_length("a\U0001f600", 4), 1);
    assert_int_equal(qr_whole_length("\x82\x82\x82\x82\x82", 9), 5); /* no UTF-8 */
}

static void a_logged_line_is_printable(void **state)
{
    (void)state;
    kept_log kept = {0};
    qr_log   log  = kept_log_init(&kept);
    qr_log_write(&log, QUIRE_LOG_WARN, "model %s", "\x1b]0;x\n");
    qr_log_deinit(&log);
    assert_string_equal(kept.text, "model \\x1b]0;x\\x0a\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readable_text_stays_as_it_is),         cmocka_unit_test(control_characters_are_escaped),
        cmocka_unit_test(what_is_not_utf8_is_escaped),          cmocka_unit_test(what_does_not_fit_is_left_out_whole),
        cmocka_unit_test(text_is_cut_behind_a_whole_character), cmocka_unit_test(a_logged_line_is_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
