/* The reader of config.json: the same values as Jansson where that reads the text, and what Python reads besides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "model/json_read.h"

static json_t *read_text(const char *text)
{
    qr_json_problem problem;
    json_t         *value = qr_json_read(text, strlen(text), &problem);
    if (value == NULL) fail_msg("%s: %d:%d %s", text, problem.line, problem.column, problem.text);
    return value;
}

static void proper_json_is_read_as_jansson_does(void **state)
{
    (void)state;
    static const char *const texts[] = {"null",
                                        " true ",
                                        "-0.5e-3",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "\"a\\\"\\\\\\u00e9\\n\"",
                                        "[]",
                                        "{}",
                                        "[[],{}, [1,[2 ,3]],{\"a\":{\"b\":[]}}]",
                                        "{\"a\":1,\n\"b\":[true,false,null],\"c\":\"]}\"}",
                                        "{\"\":{\"\":\"\"}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *own = read_text(texts[i]), *reference = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        if (!json_equal(own, reference)) fail_msg("%s", texts[i]);
        json_decref(own);
        json_decref(reference);
    }
}

static void what_is_not_json_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
        int         line, column;
    } cases[] = {
        {"", "expected a value", 1, 1},
        {"[1,\n 2", "']'", 2, 3},
        {"[1,]", "expected a value", 1, 4},
        {"{,}", "name in quotes", 1, 2},
        {"{\"a\" 1}", "':'", 1, 6},
        {"{\"a\":1,}", "name in quotes", 1, 8},
        {"[1}", "']'", 1, 3},
        {"{\"a\":1]", "'}'", 1, 7},
        {"[nan]", "nan", 1, 2},
        {"[-NaN]", "-", 1, 2},
        {"[01]", "0", 1, 2},
        {"[1.]", "1", 1, 2},
        {"[+1]", "+", 1, 2},
        {"\"a", "inside a string", 1, 1},
        {"[\"\\x\"]", "x", 1, 2},
        {"[\"\xff\"]", "unable to decode", 1, 2},
        {"{} {}", "follows", 1, 4},
        {"[1] x", "follows", 1, 5},
        {"[InfinityX]", "InfinityX", 1, 2},
        {"{\"a\":1 \"b\":2}", "'}'", 1, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_json_problem problem;
        json_t         *value = qr_json_read(cases[i].text, strlen(cases[i].text), &problem);
        assert_null(value);
        if (strstr(problem.text, cases[i].words) == NULL || problem.line != cases[i].line ||
            problem.column != cases[i].column)
            fail_msg("%s: %d:%d %s", cases[i].text, problem.line, problem.column, problem.text);
    }
    qr_json_problem problem;
    assert_null(qr_json_read("[1\0]", 4, &problem));
    assert_null(qr_json_read("1\0", 2, &problem));
}

static void nesting_ends_at_its_limit(void **state)
{
    (void)state;
    char text[2 * QR_JSON_MAX_DEPTH + 3];
    for (int extra = 0; extra <= 1; extra++) {
        const size_t depth = QR_JSON_MAX_DEPTH + (size_t)extra;
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        qr_json_problem problem;
        json_t         *value = qr_json_read(text, 2 * depth, &problem);
        assert_true((value == NULL) == (extra == 1));
        if (extra == 1) assert_non_null(strstr(problem.text, "too deeply"));
        json_decref(value);
    }
}

static void what_python_reads_besides_says_what_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
    } cases[] = {{"NaN", "NaN"},
                 {"-Infinity", "-Infinity"},
                 {"1e400", "Infinity"},
                 {"-1e400", "-Infinity"},
                 {"9223372036854775808", "a number beyond 64 bits"},
                 {"0.5", "a number with a fraction"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = read_text(cases[i].text);
        assert_string_equal(qr_json_type_name(value), cases[i].name);
        json_decref(value);
    }
    char digits[500];
    memset(digits, '9', sizeof digits - 1);
    digits[sizeof digits - 1] = '\0';
    json_t *value             = read_text(digits);
    assert_string_equal(qr_json_type_name(value), "Infinity");
    json_decref(value);
}

static void a_key_with_two_values_is_ambiguous(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool        ambiguous;
    } cases[] = {{"{\"a\":1,\"a\":1}", false},
                 {"{\"a\":1,\"a\":2}", true},
                 {"{\"a\":1,\"a\":2,\"a\":1}", true},
                 {"{\"a\":1,\"\\u0061\":2}", true},
                 {"{\"a\":{\"b\":[1]},\"a\":{\"b\":[1]}}", false},
                 {"{\"a\":{\"b\":[1]},\"a\":{\"b\":[2]}}", true},
                 {"{\"a\":null,\"a\":{}}", true},
                 {"{\"a\":{\"b\":1,\"b\":2}}", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = read_text(cases[i].text);
        if (qr_json_is_ambiguous(json_object_get(value, "a")) != cases[i].ambiguous) fail_msg("%s", cases[i].text);
        json_decref(value);
    }
    json_t *inner = read_text("{\"a\":{\"b\":1,\"b\":2}}");
    assert_true(qr_json_is_ambiguous(json_object_get(json_object_get(inner, "a"), "b")));
    json_decref(inner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proper_json_is_read_as_jansson_does),
        cmocka_unit_test(what_is_not_json_is_refused_with_its_place),
        cmocka_unit_test(nesting_ends_at_its_limit),
        cmocka_unit_test(what_python_reads_besides_says_what_it_is),
        cmocka_unit_test(a_key_with_two_values_is_ambiguous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
