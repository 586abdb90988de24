/* The layout of result files, and that it loses nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/common/json_text.h"

static char *text_of(const char *json)
{
    char   *text = NULL;
    size_t  size;
    FILE   *to    = open_memstream(&text, &size);
    json_t *value = json_loads(json, 0, NULL);
    assert_non_null(value);
    assert_true(qr_json_write(value, to));
    fclose(to);
    json_t *again = json_loads(text, 0, NULL);
    assert_true(json_equal(value, again));
    json_decref(again);
    json_decref(value);
    return text;
}

static void an_array_of_values_stays_on_one_line(void **state)
{
    (void)state;
    char *text = text_of("{\"a\": [1, 2.5, \"x, [y\", null], \"b\": {\"c\": []}}");
    assert_string_equal(text, "{\n  \"a\": [1, 2.5, \"x, [y\", null],\n  \"b\": {\n    \"c\": []\n  }\n}\n");
    free(text);
}

static void an_array_of_objects_keeps_its_lines(void **state)
{
    (void)state;
    char *text = text_of("[{\"a\": 1}, {\"b\": \"quote \\\" { [ \\\\\"}]");
    assert_string_equal(text, "[\n  {\n    \"a\": 1\n  },\n  {\n    \"b\": \"quote \\\" { [ \\\\\"\n  }\n]\n");
    free(text);
}

static void a_full_disk_is_reported(void **state)
{
    (void)state;
    FILE   *to    = fopen("/dev/full", "w");
    json_t *value = json_pack("[i]", 1);
    if (to == NULL) skip();
    setvbuf(to, NULL, _IONBF, 0);
    assert_false(qr_json_write(value, to));
    json_decref(value);
    fclose(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_of_values_stays_on_one_line),
        cmocka_unit_test(an_array_of_objects_keeps_its_lines),
        cmocka_unit_test(a_full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
