/* Verification finds the request whose tokens differ when it is decoded alone, and only that kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/run/runner.h"
#include "support/scripted_target.h"

#define MS UINT64_C(1000000)

static const scripted_request three_tokens = {10 * MS, 10 * MS, 3, QUIRE_OK};

/* Plays four requests of three tokens; `interrupt_after`: verification does not begin. */
static qr_run play(scripted_target *scripted, const char *fraction)
{
    static const quire_model_info model = {.size = sizeof model, .vocab_size = 100, .decoder_start_token_id = -1};
    const char *const settings[]        = {"workload.num_prompts=4", "workload.output_tokens=3", "output.progress=none",
                                           fraction};
    const qr_target   target            = scripted_target_of(scripted);
    volatile int      interrupt         = 0;
    quire_config     *config;
    qr_workload      *workload;
    qr_run            run;
    quire_error       error;
    assert_int_equal(qr_bench_config_create(&config, &error), QUIRE_OK);
    for (size_t i = 0; i < 4; i++)
        if (quire_config_set(config, settings[i], "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(qr_workload_create(config, &model, 256, 1, &workload, &error), QUIRE_OK);
    const qr_run_options options = {.target = &target, .workload = workload, .config = config, .interrupt = &interrupt};
    if (qr_run_execute(&options, &run, &error) != QUIRE_OK) fail_msg("%s", error.message);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
    return run;
}

static void equal_tokens_are_verified_each_with_an_empty_cache(void **state)
{
    (void)state;
    scripted_target scripted = {.script = &three_tokens, .script_count = 1};
    qr_run          run      = play(&scripted, "run.verify_fraction=1");
    assert_int_equal(run.verified, 4);
    assert_int_equal(run.verify_failed, 0);
    assert_int_equal(scripted.flushes, 4);
    assert_int_equal(scripted.submitted, 8);
    qr_run_deinit(&run);
}

static void another_token_is_a_failure(void **state)
{
    (void)state;
    scripted_target scripted = {.script = &three_tokens, .script_count = 1, .lies_after = true};
    qr_run          run      = play(&scripted, "run.verify_fraction=1");
    assert_int_equal(run.verified, 4);
    assert_int_equal(run.verify_failed, 4);
    qr_run_deinit(&run);
}

/* Requests 0 to 3 have 3, 3, 3, 3 tokens; those after them, which verify the first ones, one less. */
static void fewer_tokens_are_a_failure(void **state)
{
    (void)state;
    const scripted_request full = three_tokens, less = {10 * MS, 10 * MS, 2, QUIRE_OK};
    const scripted_request script[] = {full, full, full, full, less, less, full, full};
    scripted_target        scripted = {.script = script, .script_count = 8};
    qr_run                 run      = play(&scripted, "run.verify_fraction=1");
    assert_int_equal(run.verified, 4);
    assert_int_equal(run.verify_failed, 2);
    qr_run_deinit(&run);
}

static void only_the_share_asked_for_is_decoded_again(void **state)
{
    (void)state;
    scripted_target scripted = {.script = &three_tokens, .script_count = 1};
    qr_run          run      = play(&scripted, "run.verify_fraction=0.5");
    assert_int_equal(run.verified, 2);
    qr_run_deinit(&run);
    scripted = (scripted_target){.script = &three_tokens, .script_count = 1};
    run      = play(&scripted, "run.verify_fraction=0");
    assert_int_equal(run.verified, 0);
    assert_int_equal(scripted.flushes, 0);
    qr_run_deinit(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_tokens_are_verified_each_with_an_empty_cache),
        cmocka_unit_test(another_token_is_a_failure),
        cmocka_unit_test(fewer_tokens_are_a_failure),
        cmocka_unit_test(only_the_share_asked_for_is_decoded_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
