/* A small engine as a target: the driver computes while the caller waits, and the caller computes when it is stopped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bench/run/target_engine.h"

typedef struct fixture {
    quire_model  *model;
    quire_engine *engine;
    qr_target     target;
    atomic_uint   steps, stages;
    bool          out_of_memory;
} fixture;

static bool take_step(void *context, const quire_step *step)
{
    fixture *f = context;
    assert_true(step->rows > 0);
    f->steps++;
    return !f->out_of_memory;
}

static bool take_stages(void *context, uint32_t thread, const quire_stage *stages, size_t count, uint64_t dropped)
{
    (void)thread;
    (void)stages;
    (void)dropped;
    ((fixture *)context)->stages += (unsigned)count;
    return true;
}

static void begin(fixture *f)
{
    const quire_model_options  synthetic = {.size = sizeof synthetic, .logger = {.level = QUIRE_LOG_ERROR}};
    const quire_engine_options options   = {.size          = sizeof options,
                                            .threads       = 1,
                                            .num_kv_blocks = 64,
                                            .stage_slices  = QR_STAGES_PER_STEP,
                                            .logger        = {.level = QUIRE_LOG_ERROR}};
    quire_error                error;
    *f = (fixture){0};
    assert_int_equal(quire_model_synthetic("tiny", &synthetic, &f->model, &error), QUIRE_OK);
    assert_int_equal(quire_engine_create(&options, f->model, &f->engine, &error), QUIRE_OK);
    assert_int_equal(qr_target_engine_create(f->engine, &f->target, &error), QUIRE_OK);
}

static void end(fixture *f)
{
    f->target.destroy(f->target.self);
    quire_engine_destroy(f->engine);
    quire_model_destroy(f->model);
}

static void submit(fixture *f)
{
    static const int32_t prompt[] = {1, 2, 3};
    const quire_request  request  = {.size = sizeof request, .prompt = prompt, .prompt_count = 3, .max_tokens = 4};
    quire_request_id     id;
    assert_int_equal(f->target.submit(f->target.self, &request, &id), QUIRE_OK);
}

/* Events until the request has ended; waits for them. */
static unsigned wait_for_end(fixture *f, quire_status *status_out)
{
    unsigned    count = 0;
    quire_event event = {0};
    quire_error error = {0};
    while (event.kind != QUIRE_EVENT_FINISHED) {
        *status_out = f->target.wait(f->target.self, f->target.now(f->target.self) + 20000000, &error);
        if (*status_out != QUIRE_OK) break;
        while (f->target.poll(f->target.self, &event, 1) == 1) count++;
    }
    return count;
}

static void the_driver_computes_and_tells_its_steps(void **state)
{
    (void)state;
    fixture      f;
    quire_status status;
    begin(&f);
    const qr_step_listener listener = {take_step, take_stages, &f};
    for (unsigned run = 1; run <= 2; run++) { /* as repetitions do */
        assert_int_equal(f.target.start(f.target.self, &listener, NULL), QUIRE_OK);
        submit(&f);
        assert_int_equal(wait_for_end(&f, &status), 5);
        f.target.stop(f.target.self);
        assert_int_equal(f.steps, 4 * run);
        assert_true(f.stages > 0);
    }
    end(&f);
}

static void the_caller_computes_when_it_is_stopped(void **state)
{
    (void)state;
    fixture      f;
    quire_status status;
    begin(&f);
    submit(&f);
    assert_int_equal(wait_for_end(&f, &status), 5);
    assert_int_equal(f.steps, 0);
    end(&f);
}

static void a_listener_out_of_memory_ends_the_run(void **state)
{
    (void)state;
    fixture      f;
    quire_status status;
    begin(&f);
    const qr_step_listener listener = {take_step, take_stages, &f};
    f.out_of_memory                 = true;
    assert_int_equal(f.target.start(f.target.self, &listener, NULL), QUIRE_OK);
    submit(&f);
    (void)wait_for_end(&f, &status);
    assert_int_equal(status, QUIRE_ERR_NO_MEMORY);
    f.target.stop(f.target.self);
    assert_int_equal(f.steps, 1);
    end(&f);
}

static void a_wait_ends_at_its_time(void **state)
{
    (void)state;
    fixture     f;
    quire_error error = {0};
    begin(&f);
    const qr_step_listener listener = {take_step, take_stages, &f};
    assert_int_equal(f.target.start(f.target.self, &listener, NULL), QUIRE_OK);
    const uint64_t until = f.target.now(f.target.self) + 5000000;
    assert_int_equal(f.target.wait(f.target.self, until, &error), QUIRE_OK);
    assert_true(f.target.now(f.target.self) >= until - 1000);
    assert_int_equal(f.target.wait(f.target.self, 1, &error), QUIRE_OK); /* long past */
    f.target.stop(f.target.self);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_driver_computes_and_tells_its_steps),
        cmocka_unit_test(the_caller_computes_when_it_is_stopped),
        cmocka_unit_test(a_listener_out_of_memory_ends_the_run),
        cmocka_unit_test(a_wait_ends_at_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
