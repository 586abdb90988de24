/* What is frozen: sizes, values and names that programs compiled against an earlier release rely on. */
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
    assert_int_equal(offsetof(quire_event, detail), 48);
}

/* A host strides through the arrays of a plan, and a planner through those of a host. */
static void the_elements_of_a_plans_arrays_are_frozen(void **state)
{
    (void)state;
    assert_int_equal(sizeof(quire_plan_sequence), 96);
    assert_int_equal(offsetof(quire_plan_sequence, tokens), 40);
    assert_int_equal(offsetof(quire_plan_sequence, node), 88);
    assert_int_equal(sizeof(quire_plan_sample), 28);
    assert_int_equal(offsetof(quire_plan_sample, mask_stops), 24);
    assert_int_equal(sizeof(quire_plan_copy), 12);
    assert_int_equal(sizeof(quire_plan_encoder), 40);
    assert_int_equal(offsetof(quire_plan_encoder, node), 36);
    assert_int_equal(sizeof(quire_sampled), 32);
    assert_int_equal(offsetof(quire_sampled, candidate_logprobs), 24);
}

static void every_versioned_struct_begins_with_its_size(void **state)
{
    (void)state;
    assert_int_equal(offsetof(quire_engine_options, size), 0);
    assert_int_equal(offsetof(quire_request, size), 0);
    assert_int_equal(offsetof(quire_model_options, size), 0);
    assert_int_equal(offsetof(quire_model_info, size), 0);
    assert_int_equal(offsetof(quire_stats, size), 0);
    assert_int_equal(offsetof(quire_limits, size), 0);
    assert_int_equal(offsetof(quire_planner_model, size), 0);
    assert_int_equal(offsetof(quire_step, size), 0);
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
    assert_string_equal(quire_status_text(QUIRE_ERR_FULL), "queue full, retry after polling");
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

static void a_finish_detail_has_room_for_every_wait_reason(void **state)
{
    (void)state;
    const quire_finish_detail detail = {0};
    assert_true(sizeof detail.wait_ns / sizeof *detail.wait_ns >= QUIRE_WAIT_REASONS);
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
        cmocka_unit_test(the_elements_of_a_plans_arrays_are_frozen),
        cmocka_unit_test(every_versioned_struct_begins_with_its_size),
        cmocka_unit_test(status_codes_keep_their_values_and_have_texts),
        cmocka_unit_test(wait_reasons_have_distinct_names),
        cmocka_unit_test(a_finish_detail_has_room_for_every_wait_reason),
        cmocka_unit_test(the_build_is_told_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
