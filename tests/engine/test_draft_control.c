/* Drafts on machines whose steps cost a fixed time and a time per row: which of the two dominates decides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/draft_control.h"

enum { TRIAL = QR_DRAFT_TURN_STEPS * QR_DRAFT_TURNS, DRAFTS = 4 };

typedef struct machine {
    uint64_t step_ns, row_ns;
    uint32_t accepted; /* of the 4 drafts of each sequence */
} machine;

/* Returns in how many of the steps drafts were allowed. */
static uint32_t run(qr_draft_control *control, const machine *m, uint32_t sequences, uint32_t steps)
{
    uint32_t allowed = 0;
    for (uint32_t i = 0; i < steps; i++) {
        const bool     drafts = qr_draft_control_allows(control);
        const uint64_t rows   = sequences * (drafts ? 1 + DRAFTS : 1),
                       tokens = sequences * (drafts ? 1 + m->accepted : 1);
        allowed += drafts;
        qr_draft_control_note(control, sequences, tokens, m->step_ns + rows * m->row_ns);
    }
    return allowed;
}

static const machine memory_bound = {1000000, 1000, 2}, compute_bound = {1000, 1000000, 2};

static void drafts_stay_on_while_rows_are_nearly_free(void **state)
{
    (void)state;
    qr_draft_control control = {0};
    assert_int_equal(run(&control, &memory_bound, 4, TRIAL), TRIAL / 2);
    assert_int_equal(run(&control, &memory_bound, 4, QR_DRAFT_HOLD_STEPS), QR_DRAFT_HOLD_STEPS);
}

static void drafts_are_turned_off_when_each_row_costs_as_much_as_the_last(void **state)
{
    (void)state;
    qr_draft_control control = {0};
    assert_int_equal(run(&control, &compute_bound, 4, TRIAL), TRIAL / 2);
    assert_int_equal(run(&control, &compute_bound, 4, QR_DRAFT_HOLD_STEPS), 0);
}

static void drafts_that_are_never_right_are_turned_off_when_they_cost(void **state)
{
    (void)state;
    const machine    wrong   = {1000000, 100000, 0};
    qr_draft_control control = {0};
    run(&control, &wrong, 4, TRIAL);
    assert_int_equal(run(&control, &wrong, 4, QR_DRAFT_HOLD_STEPS), 0);
}

static void steps_that_do_not_differ_leave_drafts_on(void **state)
{
    (void)state;
    const machine    idle    = {1000000, 0, 0}; /* no drafts are found: both variants are the same */
    qr_draft_control control = {0};
    run(&control, &idle, 4, TRIAL);
    assert_true(qr_draft_control_allows(&control));
}

static void a_verdict_is_tried_again_after_a_while(void **state)
{
    (void)state;
    qr_draft_control control = {0};
    run(&control, &compute_bound, 4, TRIAL + QR_DRAFT_HOLD_STEPS);
    run(&control, &memory_bound, 4, TRIAL);
    assert_int_equal(run(&control, &memory_bound, 4, QR_DRAFT_HOLD_STEPS), QR_DRAFT_HOLD_STEPS);
}

/* The same machine: 1 us a row beside 10 us a step is memory-bound alone and compute-bound with 64 sequences. */
static void a_batch_that_grows_is_tried_again_at_once(void **state)
{
    (void)state;
    const machine    m       = {10000, 1000, 2};
    qr_draft_control control = {0};
    run(&control, &m, 1, TRIAL);
    assert_int_equal(run(&control, &m, 1, 10), 10);
    run(&control, &m, 64, TRIAL + 1);
    assert_int_equal(run(&control, &m, 64, 100), 0);
    run(&control, &m, 2, TRIAL + 1);
    assert_int_equal(run(&control, &m, 2, 100), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_stay_on_while_rows_are_nearly_free),
        cmocka_unit_test(drafts_are_turned_off_when_each_row_costs_as_much_as_the_last),
        cmocka_unit_test(drafts_that_are_never_right_are_turned_off_when_they_cost),
        cmocka_unit_test(steps_that_do_not_differ_leave_drafts_on),
        cmocka_unit_test(a_verdict_is_tried_again_after_a_while),
        cmocka_unit_test(a_batch_that_grows_is_tried_again_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
