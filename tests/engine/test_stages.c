/* What each thread did in a step: in order, within the step, and the same times as the step's own sums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/small_engine.h"

enum { THREADS = 2, ROOM = 512 };

static quire_model *model;

static quire_engine *engine_with(uint32_t slices)
{
    quire_engine_options options = small_engine_options();
    options.stage_slices         = slices;
    return small_engine(&options, model);
}

static quire_step step_once(quire_engine *engine)
{
    const int32_t       prompt[] = {1, 2, 3, 4, 5};
    const quire_request request  = {.size = sizeof request, .prompt = prompt, .prompt_count = 5, .max_tokens = 4};
    quire_request_id    id;
    quire_step          step = {.size = sizeof step};
    assert_int_equal(quire_engine_submit(engine, &request, &id, NULL), QUIRE_OK);
    assert_int_equal(quire_engine_step(engine, &step), QUIRE_OK);
    assert_true(step.rows >= 5);
    return step;
}

static void stages_follow_each_other_and_add_up_to_the_step(void **state)
{
    (void)state;
    quire_engine    *engine = engine_with(ROOM);
    const quire_step step   = step_once(engine);
    const uint64_t   after  = qr_now_ns();
    for (uint32_t thread = 0; thread < THREADS; thread++) {
        quire_stage  stages[ROOM];
        uint64_t     sums[QUIRE_STAGE_SAMPLING + 1] = {0}, waited = 0, dropped = 1, at = step.start_ns;
        const size_t count = quire_engine_stages(engine, thread, stages, ROOM, &dropped);
        assert_in_range(count, 8, ROOM - 1);
        assert_int_equal(dropped, 0);
        for (size_t i = 0; i < count; i++) {
            assert_true(stages[i].start_ns >= at);
            at = stages[i].start_ns + stages[i].busy_ns + stages[i].wait_ns;
            sums[stages[i].kind] += stages[i].busy_ns;
            waited += stages[i].wait_ns;
        }
        assert_true(at <= after);
        if (thread != 0) continue; /* the sums of a step are those of thread 0 */
        assert_int_equal(sums[QUIRE_STAGE_PROJECTION], step.projection_ns);
        assert_int_equal(sums[QUIRE_STAGE_ATTENTION], step.attention_ns);
        assert_int_equal(sums[QUIRE_STAGE_LOGITS], step.logits_ns);
        assert_int_equal(sums[QUIRE_STAGE_ROWWISE], step.rowwise_ns);
        assert_int_equal(sums[QUIRE_STAGE_SAMPLING], step.sample_ns);
        assert_true(step.sample_ns > 0);
        assert_int_equal(waited, step.barrier_ns);
    }
    quire_engine_destroy(engine);
}

static void stages_beyond_the_room_are_counted(void **state)
{
    (void)state;
    quire_engine *engine = engine_with(3);
    quire_stage   stages[ROOM];
    uint64_t      dropped = 0, more = 0;
    (void)step_once(engine);
    assert_int_equal(quire_engine_stages(engine, 1, stages, ROOM, &dropped), 3);
    assert_true(dropped > 0);
    assert_int_equal(quire_engine_stages(engine, 1, stages, 2, NULL), 2);
    (void)step_once(engine);
    assert_int_equal(quire_engine_stages(engine, 1, stages, ROOM, &more), 3);
    assert_true(more > dropped);
    quire_engine_destroy(engine);
}

static void none_are_kept_unless_asked_for_and_no_thread_beyond_the_team_has_any(void **state)
{
    (void)state;
    quire_engine *without = engine_with(0), *with = engine_with(ROOM);
    quire_stage   stages[ROOM];
    uint64_t      dropped = 1;
    (void)step_once(without);
    (void)step_once(with);
    assert_int_equal(quire_engine_stages(without, 0, stages, ROOM, &dropped), 0);
    assert_int_equal(dropped, 0);
    assert_int_equal(quire_engine_stages(with, THREADS, stages, ROOM, &dropped), 0);
    quire_engine_destroy(with);
    quire_engine_destroy(without);
}

static int open_model(void **state)
{
    (void)state;
    model = small_engine_model("tiny", NULL);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    quire_model_destroy(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_follow_each_other_and_add_up_to_the_step),
        cmocka_unit_test(stages_beyond_the_room_are_counted),
        cmocka_unit_test(none_are_kept_unless_asked_for_and_no_thread_beyond_the_team_has_any),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
