/* When requests are submitted: by the clock, when a stream is free, when the queue has room; on a scripted target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/run/generator.h"
#include "support/scripted_target.h"

#define MS INT64_C(1000000)
enum { START_NS = 1000 }; /* of the run, on the target's clock */

static const scripted_request steady = {100 * MS, 0, 1, QUIRE_OK};

typedef struct fixture {
    scripted_target scripted;
    qr_target       target;
    quire_config   *config;
    qr_workload    *workload;
    qr_run          run;
    qr_generator    generator;
} fixture;

static void begin(fixture *f, const scripted_request *script, const char *const *settings)
{
    const quire_model_info model = {.size = sizeof model, .vocab_size = 100, .decoder_start_token_id = -1};
    quire_error            error;
    *f        = (fixture){.scripted = {.script = script, .script_count = 1, .now_ns = START_NS}};
    f->target = scripted_target_of(&f->scripted);
    f->target.stats(f->target.self, &f->run.before);
    assert_int_equal(qr_bench_config_create(&f->config, &error), QUIRE_OK);
    for (; *settings != NULL; settings++)
        if (quire_config_set(f->config, *settings, "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(qr_workload_create(f->config, &model, 256, 1, &f->workload, &error), QUIRE_OK);
    assert_int_equal(qr_generator_init(&f->generator, &f->target, f->workload, f->config, NULL, &f->run), QUIRE_OK);
    f->generator.start_ns = START_NS;
}

static void end(fixture *f)
{
    qr_generator_deinit(&f->generator);
    qr_run_deinit(&f->run);
    qr_workload_destroy(f->workload);
    quire_config_destroy(f->config);
}

/* How many requests there are after what was due at `ns` has been submitted. */
static size_t submitted_at(fixture *f, int64_t ns)
{
    f->scripted.now_ns = (uint64_t)(START_NS + ns);
    assert_int_equal(qr_generator_submit_due(&f->generator), QUIRE_OK);
    return f->run.request_count;
}

static void an_open_loop_submits_by_the_clock(void **state)
{
    (void)state;
    fixture f;
    begin(&f, &steady,
          (const char *[]){"workload.num_prompts=3", "load.profile=constant", "load.request_rate=10", "run.duration=9s",
                           NULL});
    const int64_t first = qr_generator_next_moment(&f.generator, -1);
    assert_int_equal(submitted_at(&f, first - 1), 0);
    assert_int_equal(submitted_at(&f, first), 1);
    assert_int_equal(qr_generator_next_moment(&f.generator, first), first + 100 * MS);
    assert_int_equal(submitted_at(&f, first + 205 * MS), 3); /* late, and says so */
    assert_int_equal(f.run.requests[1].due_ns, first + 100 * MS);
    assert_int_equal(f.run.requests[1].submit_ns, first + 205 * MS);
    assert_int_equal(f.run.requests[2].due_ns, first + 200 * MS);
    assert_int_equal(qr_generator_next_moment(&f.generator, 0), (int64_t)f.target.idle_ns);
    end(&f);
}

static void a_closed_loops_request_is_due_when_its_stream_became_free(void **state)
{
    (void)state;
    fixture f;
    begin(&f, &steady, (const char *[]){"workload.num_prompts=4", "load.profile=concurrent", "load.streams=2", NULL});
    assert_int_equal(submitted_at(&f, 0), 2);
    assert_int_equal(submitted_at(&f, 50 * MS), 2);
    f.run.ended = 1;
    qr_generator_free_stream(&f.generator, 60 * MS);
    assert_int_equal(submitted_at(&f, 61 * MS), 3);
    assert_int_equal(f.run.requests[2].due_ns, 60 * MS);
    assert_int_equal(f.run.requests[2].submit_ns, 61 * MS);
    assert_true(qr_generator_load(&f.generator, 61 * MS) == 2);
    end(&f);
}

static void a_full_queue_keeps_the_due_time_and_is_tried_again(void **state)
{
    (void)state;
    fixture f;
    begin(&f, &steady, (const char *[]){"workload.num_prompts=2", "load.profile=throughput", NULL});
    f.scripted.queue = 1;
    assert_int_equal(submitted_at(&f, 0), 1);
    assert_int_equal(qr_generator_next_moment(&f.generator, 5), 5 + (int64_t)f.target.retry_ns);
    f.scripted.queue = 2;
    assert_int_equal(submitted_at(&f, 7 * MS), 2);
    assert_int_equal(f.run.requests[1].due_ns, 0);
    assert_int_equal(f.run.requests[1].submit_ns, 7 * MS);
    end(&f);
}

static void no_more_are_in_flight_than_max_concurrency(void **state)
{
    (void)state;
    fixture f;
    begin(&f, &steady,
          (const char *[]){"workload.num_prompts=5", "load.profile=throughput", "load.max_concurrency=2", NULL});
    assert_int_equal(submitted_at(&f, 0), 2);
    f.run.ended = 1;
    assert_int_equal(submitted_at(&f, 1), 3);
    end(&f);
}

static void a_refused_request_has_ended_and_the_next_one_follows(void **state)
{
    (void)state;
    static const scripted_request refused = {.refusal = QUIRE_ERR_TOO_LONG};
    fixture                       f;
    begin(&f, &refused, (const char *[]){"workload.num_prompts=2", "load.profile=throughput", NULL});
    assert_int_equal(submitted_at(&f, 3), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(f.run.requests[i].id, 0);
        assert_int_equal(f.run.requests[i].status, QUIRE_ERR_TOO_LONG);
        assert_int_equal(f.run.requests[i].finish, QUIRE_FINISH_ERROR);
        assert_int_equal(f.run.requests[i].end_ns, 3);
    }
    assert_int_equal(f.run.ended, 2);
    assert_true(qr_generator_is_done(&f.generator));
    end(&f);
}

static void a_closed_generator_submits_only_what_was_due_before(void **state)
{
    (void)state;
    fixture f;
    begin(&f, &steady,
          (const char *[]){"workload.num_prompts=0", "load.profile=constant", "load.request_rate=10", "run.duration=9s",
                           NULL});
    const int64_t first = qr_generator_next_moment(&f.generator, -1);
    qr_generator_close(&f.generator, first + 150 * MS);
    assert_int_equal(submitted_at(&f, first + 900 * MS), 2);
    f.run.window_end_ns   = first + 400 * MS;
    f.run.window_start_ns = first + 250 * MS;
    qr_generator_count_held_back(&f.generator);
    assert_int_equal(f.run.held_back, 2); /* due at 300 and 400 ms */
    end(&f);
}

static void what_is_behind_counts_as_load(void **state)
{
    (void)state;
    fixture f;
    begin(&f, &steady,
          (const char *[]){"workload.num_prompts=0", "load.profile=constant", "load.request_rate=10", "run.duration=9s",
                           NULL});
    const int64_t first = qr_generator_next_moment(&f.generator, -1);
    f.scripted.queue    = 1;
    assert_int_equal(submitted_at(&f, first + 1000 * MS), 1);
    assert_in_range((int)qr_generator_load(&f.generator, first + 1000 * MS), 2, 3); /* drawn: 2 in 100 ms, 900 late */
    f.scripted.queue = 30;
    assert_int_equal(submitted_at(&f, first + 3500 * MS), 30);                          /* the next is due at 3 s */
    assert_in_range((int)qr_generator_load(&f.generator, first + 10000 * MS), 98, 104); /* 30, and 7 s at 10 a second */
    end(&f);
}

static void tokens_of_one_in_so_many_requests_are_kept(void **state)
{
    (void)state;
    fixture f;
    begin(&f, &steady,
          (const char *[]){"workload.num_prompts=5", "load.profile=throughput", "run.verify_fraction=0.5", NULL});
    assert_int_equal(submitted_at(&f, 0), 5);
    for (int i = 0; i < 5; i++) assert_true((f.run.requests[i].kept != NULL) == (i % 2 == 0));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_open_loop_submits_by_the_clock),
        cmocka_unit_test(a_closed_loops_request_is_due_when_its_stream_became_free),
        cmocka_unit_test(a_full_queue_keeps_the_due_time_and_is_tried_again),
        cmocka_unit_test(no_more_are_in_flight_than_max_concurrency),
        cmocka_unit_test(a_refused_request_has_ended_and_the_next_one_follows),
        cmocka_unit_test(a_closed_generator_submits_only_what_was_due_before),
        cmocka_unit_test(what_is_behind_counts_as_load),
        cmocka_unit_test(tokens_of_one_in_so_many_requests_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
