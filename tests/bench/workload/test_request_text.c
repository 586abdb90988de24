/* The text of a request without its ids: with them it is the line again, for its parser and for its errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench/workload/request_text.h"

static const char *const NAMES[QR_REQUEST_LISTS] = {"prompt", "encoder_input", "stop",  "allowed",
                                                    "banned", "first_banned",  "first", "last"};

static void expect(const char *line, const char *rest, uint32_t count, int32_t last)
{
    qr_request_text text;
    assert_true(qr_request_text_read(line, strlen(line), NAMES, &text));
    if (strlen(rest) != text.length || memcmp(rest, text.rest, text.length) != 0)
        fail_msg("%s: rest %.*s", line, (int)text.length, text.rest);
    assert_int_equal(text.lists[0].count, count);
    if (count > 0) assert_int_equal(text.lists[0].ids[count - 1], last);
    qr_request_text_deinit(&text);
}

static void lists_of_ids_are_taken_out(void **state)
{
    (void)state;
    expect("{\"prompt\": [1, 2147483647]}", "{\"prompt\": []}", 2, INT32_MAX);
    expect("{ \"prompt\" :\t[ 0 ,\r7 ] , \"n\": 2}", "{ \"prompt\" :\t[] , \"n\": 2}", 2, 7);
    expect("{\"prompt\": [ ]}", "{\"prompt\": [ ]}", 0, 0);
    expect("{\"x\": {\"prompt\": [1]}, \"prompt \": [2], \"y\": \"prompt\"}",
           "{\"x\": {\"prompt\": [1]}, \"prompt \": [2], \"y\": \"prompt\"}", 0, 0);
    expect("{\"a\\\"\": \"\\\\\", \"prompt\": [3]}", "{\"a\\\"\": \"\\\\\", \"prompt\": []}", 1, 3);
    expect("{\"prompt\": [1], \"prompt\": [2]}", "{\"prompt\": [], \"prompt\": [2]}", 1, 1);
}

static void frames_of_one_size_are_taken_out(void **state)
{
    (void)state;
    static const struct {
        const char *line, *rest;
        uint32_t    frames, size;
    } cases[] = {
        {"{\"encoder_features\": [[1, -2.5], [3e2, 0]]}", "{\"encoder_features\": []}", 2, 2},
        {"{\"encoder_features\": [[1], [2], [3, 4]]}", "{\"encoder_features\": [ [2], [3, 4]]}", 1, 1},
        {"{\"encoder_features\": [[1], [2], [\"a\"]]}", "{\"encoder_features\": [ [2], [\"a\"]]}", 1, 1},
        {"{\"encoder_features\": [[01]]}", "{\"encoder_features\": [[01]]}", 0, 0},
        {"{\"encoder_features\": []}", "{\"encoder_features\": []}", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_request_text text;
        assert_true(qr_request_text_read(cases[i].line, strlen(cases[i].line), NAMES, &text));
        if (strlen(cases[i].rest) != text.length || memcmp(cases[i].rest, text.rest, text.length) != 0)
            fail_msg("%s: rest %.*s", cases[i].line, (int)text.length, text.rest);
        assert_true(text.features.frames == cases[i].frames && text.features.size == cases[i].size);
        qr_request_text_deinit(&text);
    }
}

static void base64_is_taken_out_to_where_it_ends(void **state)
{
    (void)state;
    static const struct {
        const char *line, *rest;
        size_t      bytes, left;
        float       first;
    } cases[] = {
        {"{\"encoder_features\": \"AACAPwAAIEAAAEBAAACAwA==\", \"n\": 2}", "{\"encoder_features\": \"\", \"n\": 2}", 16,
         0, 1},
        {"{\"encoder_features\": \"\\/\\/\\/\\/Pw==\"}", "{\"encoder_features\": \"\"}", 4, 0, 0x1.fffffep0f},
        {"{\"encoder_features\": \"++fDPw==\"}", "{\"encoder_features\": \"\"}", 4, 0, 0x1.87cff6p+0f},
        {"{\"encoder_features\": \"AACAPw===\"}", "{\"encoder_features\": \"=\"}", 4, 1, 1},
        {"{\"encoder_features\": \"AACAPw=\\\"=\"}", "{\"encoder_features\": \"\\\"=\"}", 4, 3, 1},
        {"{\"encoder_features\": \"AACAPw", "{\"encoder_features\": \"", 4, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qr_request_text text;
        assert_true(qr_request_text_read(cases[i].line, strlen(cases[i].line), NAMES, &text));
        if (strlen(cases[i].rest) != text.length || memcmp(cases[i].rest, text.rest, text.length) != 0)
            fail_msg("%s: rest %.*s", cases[i].line, (int)text.length, text.rest);
        assert_true(text.features.encoded && text.features.bytes == cases[i].bytes);
        assert_true(text.features.left == cases[i].left && text.features.values[0] == cases[i].first);
        qr_request_text_deinit(&text);
    }
}

static void from_what_is_no_id_on_all_is_left(void **state)
{
    (void)state;
    expect("{\"prompt\": [4, 5, -1, 6]}", "{\"prompt\": [ 5, -1, 6]}", 1, 4);
    expect("{\"prompt\": [4, 5,]}", "{\"prompt\": [ 5,]}", 1, 4);
    expect("{\"prompt\": [4,, 5]}", "{\"prompt\": [4,, 5]}", 0, 0);
    expect("{\"prompt\": [4, 05]}", "{\"prompt\": [4, 05]}", 0, 0);
    expect("{\"prompt\": [1, 2147483648]}", "{\"prompt\": [1, 2147483648]}", 0, 0);
    expect("{\"prompt\": [1, 2, 3", "{\"prompt\": [ 2, 3", 1, 1);
    expect("{\"prompt\": [1, 2.5]}", "{\"prompt\": [1, 2.5]}", 0, 0);
}

/* The members of both, where a list's are its ids and then what the rest has. */
static void compare_lists(const json_t *whole, const json_t *rest, const qr_request_text *text, const char *line)
{
    for (size_t i = 0; i < QR_REQUEST_LISTS; i++) {
        const json_t  *all = json_object_get(whole, NAMES[i]), *left = json_object_get(rest, NAMES[i]);
        const uint32_t count = text->lists[i].count;
        if (json_array_size(all) != count + json_array_size(left)) fail_msg("%s: %s", line, NAMES[i]);
        for (size_t k = 0; k < json_array_size(all); k++) {
            const json_t *at = json_array_get(all, k);
            if (k < count ? json_integer_value(at) != text->lists[i].ids[k]
                          : !json_equal(at, json_array_get(left, k - count)))
                fail_msg("%s: %s[%zu]", line, NAMES[i], k);
        }
    }
}

/* Frames that are taken out are the first ones, as the parser reads them. */
static void compare_frames(const json_t *whole, const json_t *rest, const qr_request_text *text, const char *line)
{
    const struct qr_request_features *f = &text->features;
    const json_t *all = json_object_get(whole, "encoder_features"), *left = json_object_get(rest, "encoder_features");
    const size_t  tail = json_string_length(left), shorter = json_string_length(all) - tail;
    if (json_array_size(all) != f->frames + json_array_size(left)) fail_msg("%s: frames", line);
    if (json_is_string(all) && strcmp(json_string_value(all) + shorter, json_string_value(left)) != 0)
        fail_msg("%s: left %s", line, json_string_value(left));
    for (size_t k = 0; k < json_array_size(all); k++) {
        const json_t *at = json_array_get(all, k);
        if (k >= f->frames && !json_equal(at, json_array_get(left, k - f->frames))) fail_msg("%s: left %zu", line, k);
        if (k < f->frames && json_array_size(at) != f->size) fail_msg("%s: size %zu", line, k);
        for (size_t i = 0; k < f->frames && i < f->size; i++)
            if ((float)json_number_value(json_array_get(at, i)) != f->values[k * f->size + i])
                fail_msg("%s: [%zu][%zu]", line, k, i);
    }
}

static void compare(const char *line, size_t length)
{
    qr_request_text text;
    json_error_t    a, b;
    assert_true(qr_request_text_read(line, length, NAMES, &text));
    json_t *whole = json_loadb(line, length, JSON_REJECT_DUPLICATES, &a);
    json_t *rest  = json_loadb(text.rest, text.length, JSON_REJECT_DUPLICATES, &b);
    if ((whole == NULL) != (rest == NULL)) fail_msg("%.*s: %s: %s", (int)length, line, a.text, b.text);
    if (whole == NULL && (size_t)a.position != qr_request_text_place(&text, (size_t)b.position))
        fail_msg("%.*s: %d, not %zu: %s", (int)length, line, a.position,
                 qr_request_text_place(&text, (size_t)b.position), b.text);
    if (json_is_object(whole)) compare_lists(whole, rest, &text, line);
    if (json_is_object(whole)) compare_frames(whole, rest, &text, line);
    json_decref(whole);
    json_decref(rest);
    qr_request_text_deinit(&text);
}

/* Line after line, changed in up to three places. */
static void compare_changed(const char *line, uint64_t *counter)
{
    static const char bytes[] = "[]{},:\"\\ 0129-.eE+tn/=\x80";
    char              copy[512];
    size_t            length = strlen(line);
    assert_true(length < sizeof copy);
    memcpy(copy, line, length);
    for (uint32_t left = qr_random_below(7, 0, (*counter)++, 4); left > 0; left--) {
        const size_t at = qr_random_below(7, 1, (*counter)++, (uint32_t)length);
        copy[at]        = bytes[qr_random_below(7, 2, (*counter)++, sizeof bytes - 1)];
        if (qr_random_below(7, 3, (*counter)++, 20) == 0) length = at + 1;
    }
    compare(copy, length);
}

static void the_parser_sees_the_same_in_the_rest_as_in_the_line(void **state)
{
    static const char listed[] =
        "{\"id\": \"[1\", \"prompt\": [10, 2, 3 , 0],\"stop\":[5],\"allowed\": [ ], \"n\": [1, 2],"
        " \"x\": {\"banned\": [1]}, \"encoder_input\" : [7, 8, -1, 9, \"a]\", [2]], \"banned\": [6],"
        " \"encoder_features\": [[1.5, -2e1] ,[0, 1E-2],[3,4]]}";
    static const char encoded[] = "{\"encoder_features\" : \"AACA\\/wAAgD8+/w==\", \"prompt\": [1, 2], \"id\": \"x\"}";
    uint64_t          counter   = 0;
    (void)state;
    for (int i = 0; i < 50000; i++) compare_changed(i % 2 ? listed : encoded, &counter);
}

static void the_rest_is_bounded(void **state)
{
    enum { LENGTH = 1 << 20 };
    static const char *const shapes[] = {"{\"prompt\":[{},", "{\"x\":[1,", "{\"prompt\":[1,\"a\",", "[1,"};
    char                    *line     = malloc(LENGTH);
    qr_request_text          text;
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        memset(line, ' ', LENGTH);
        memcpy(line, shapes[i], strlen(shapes[i]));
        assert_true(qr_request_text_read(line, LENGTH, NAMES, &text));
        assert_true(text.is_too_long && text.length == QR_MOST_REQUEST_REST);
        qr_request_text_deinit(&text);
    }
    memset(line, '1', LENGTH);
    memcpy(line, "{\"prompt\":[1", strlen("{\"prompt\":[1"));
    for (size_t i = 12; i < LENGTH; i += 2) line[i] = ',';
    memcpy(line + LENGTH - 2, "]}", 2);
    assert_true(qr_request_text_read(line, LENGTH, NAMES, &text));
    assert_true(!text.is_too_long && text.lists[0].count == (LENGTH - 12) / 2 && text.length == 13);
    qr_request_text_deinit(&text);
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_ids_are_taken_out),
        cmocka_unit_test(frames_of_one_size_are_taken_out),
        cmocka_unit_test(base64_is_taken_out_to_where_it_ends),
        cmocka_unit_test(from_what_is_no_id_on_all_is_left),
        cmocka_unit_test(the_parser_sees_the_same_in_the_rest_as_in_the_line),
        cmocka_unit_test(the_rest_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
