/* Values and names that programs compiled against an earlier release rely on; layouts are layout_test.py's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <quire/quire.h>

static void an_event_is_64_bytes(void **state)
{
    (void)state;
    assert_int_equal(sizeof(quire_event), 64);
}

static void status_codes_keep_their_values_and_have_texts(void **state)
{
    (void)state;
    assert_int_equal(QUIRE_OK, 0);
    assert_int_equal(QUIRE_ERR_INVALID, -1);
    assert_int_equal(QUIRE_ERR_FULL, -3);
    assert_int_equal(QUIRE_ERR_TOO_LONG, -5);
    assert_int_equal(QUIRE_ERR_FORKED, -11);
    assert_int_equal(QUIRE_ERR_EXECUTION, -12);
    assert_string_equal(quire_status_text(QUIRE_ERR_FULL), "queue full");
    assert_non_null(quire_status_text((quire_status)-1000));
}

static void wait_reasons_have_distinct_names(void **state)
{
    (void)state;
    for (int a = 0; a < QUIRE_WAIT_REASONS; a++)
        for (int b = 0; b < a; b++)
            assert_string_not_equal(quire_wait_reason_name((quire_wait_reason)a),
                                    quire_wait_reason_name((quire_wait_reason)b));
    assert_string_equal(quire_wait_reason_name(QUIRE_WAIT_BLOCKS), "blocks");
    assert_string_equal(quire_wait_reason_name(QUIRE_WAIT_REASONS), "unknown");
    assert_string_equal(quire_wait_reason_name((quire_wait_reason)-1), "unknown");
}

static void arrays_by_reason_have_room_for_every_one(void **state)
{
    (void)state;
    assert_in_range(QUIRE_WAIT_REASONS, 1, QUIRE_MAX_WAIT_REASONS);
    assert_in_range(QUIRE_FINISH_TIMEOUT + 1, 1, QUIRE_MAX_FINISHES);
}

static void the_build_is_told_in_one_line(void **state)
{
    (void)state;
    const char *line = quire_build_info();
    assert_ptr_equal(strstr(line, "quire 0."), line);
    assert_non_null(strstr(line, "oneDNN 2."));
    assert_non_null(strstr(line, "hwloc 2."));
    assert_non_null(strstr(line, "scalar"));
    assert_null(strchr(line, '\n'));
    assert_int_equal(quire_version(), QUIRE_VERSION_MAJOR * 1000000 + QUIRE_VERSION_MINOR * 1000 + QUIRE_VERSION_PATCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_64_bytes),
        cmocka_unit_test(status_codes_keep_their_values_and_have_texts),
        cmocka_unit_test(wait_reasons_have_distinct_names),
        cmocka_unit_test(arrays_by_reason_have_room_for_every_one),
        cmocka_unit_test(the_build_is_told_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
