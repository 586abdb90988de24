/* Why a sequence waits: each reason of docs/SCHEDULER.md, section 7, is brought about and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static quire_request_id submit(uint32_t prompt, uint32_t max_tokens)
{
    return driver_submit(&d, driver_request_of(max_tokens), prompt, d.request_count + 1, NULL);
}

static quire_request_id submit_of(const char *tenant, uint32_t prompt, uint32_t max_tokens)
{
    quire_request request = driver_request_of(max_tokens);
    request.tenant        = tenant;
    return driver_submit(&d, request, prompt, d.request_count + 1, NULL);
}

static void finish(void)
{
    driver_run(&d, 500);
    driver_stop(&d);
}

static void none_and_order(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(32, 4);
    driver_start(&d, &options);
    const quire_request_id a = submit(4, 4);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_ORDER);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_NONE);
    driver_commit(&d);
    finish();
}

static void sequences(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(32, 4);
    driver_start(&d, &options);
    quire_request request = driver_request_of(4);
    request.n             = 4;
    submit(4, 8), submit(4, 8);
    const quire_request_id wide = driver_submit(&d, request, 4, 9, NULL), narrow = submit(4, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, wide), QUIRE_WAIT_SEQUENCES);
    assert_int_equal(driver_reason(&d, narrow), QUIRE_WAIT_NONE); /* passed it, once */
    assert_int_equal(driver_stats(&d).head_passes, 1);
    driver_commit(&d);
    finish();
}

static void budget(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(64, 4);
    driver_start(&d, &options);
    submit(32, 4);
    const quire_request_id b = submit(4, 4);
    driver_plan(&d);
    assert_int_equal(d.plan->rows, 32);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BUDGET);
    driver_commit(&d);
    finish();
}

static void budget_of_a_running_prompt_when_decodes_take_all_rows(void **state)
{
    (void)state;
    qr_scheduler_options options   = driver_options(64, 4);
    options.max_num_seqs           = 3;
    options.max_num_batched_tokens = 4;
    driver_start(&d, &options);
    quire_request request = driver_request_of(10);
    request.n             = 2;
    driver_submit(&d, request, 4, 1, NULL);
    driver_step(&d);
    const quire_request_id b = submit(9, 4);
    driver_plan(&d);
    assert_int_equal(driver_entry(&d, b, 0)->rows, 2); /* the decodes' rows were set aside */
    driver_commit(&d);
    finish();
}

static void partial(void **state)
{
    (void)state;
    qr_scheduler_options options         = driver_options(100, 4);
    options.long_prefill_token_threshold = 16;
    driver_start(&d, &options);
    const quire_request_id a = submit(60, 4), b = submit(60, 4), c = submit(10, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_PARTIAL);
    assert_int_equal(driver_entry(&d, c, 0)->rows, 10); /* ends in the step: does not count */
    assert_int_equal(driver_entry(&d, a, 0)->rows, 22); /* clamped to 16, then what nobody took */
    driver_commit(&d);
    finish();
}

static void long_partial(void **state)
{
    (void)state;
    qr_scheduler_options options         = driver_options(200, 4);
    options.long_prefill_token_threshold = 12;
    options.max_num_partial_prefills     = 3;
    driver_start(&d, &options);
    const quire_request_id a = submit(60, 4), b = submit(60, 4);
    driver_plan(&d);
    assert_non_null(driver_entry(&d, a, 0));
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_PARTIAL);
    driver_commit(&d);
    finish();
}

static void blocks_with_how_many(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(6, 4);
    driver_start(&d, &options);
    submit(15, 2);
    const quire_request_id b = submit(13, 2);
    quire_explanation      why;
    driver_plan(&d);
    assert_int_equal(qr_scheduler_explain(d.scheduler, b, d.now_ns, &why), QUIRE_OK);
    assert_int_equal(why.reason, QUIRE_WAIT_BLOCKS);
    assert_int_equal(why.missing, 2); /* 4 and 4 of 6 */
    driver_commit(&d);
    finish();
}

static void watermark(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(10, 4);
    options.watermark            = 0.2f;
    driver_start(&d, &options);
    submit(15, 3);
    const quire_request_id b = submit(17, 2); /* 4 + 5, and 2 are to be left */
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_WATERMARK);
    driver_commit(&d);
    finish();
}

static void head(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(8, 4);
    options.max_head_passes      = 1;
    driver_start(&d, &options);
    submit(11, 8);
    const quire_request_id b = submit(26, 2), c = submit(4, 1), e = submit(4, 1);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BLOCKS);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_NONE);
    assert_int_equal(driver_reason(&d, e), QUIRE_WAIT_HEAD);
    driver_commit(&d);
    finish();
}

static void nobody_passes_a_preempted_one(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(6, 4);
    driver_start(&d, &options);
    submit(11, 13);
    const quire_request_id b = submit(8, 10);
    for (uint32_t i = 0; i < 3; i++) driver_step(&d);
    assert_int_equal(driver_view(&d, b, 0).state, QR_SEQUENCE_PREEMPTED);
    qr_scheduler_pause(d.scheduler, b, d.now_ns), qr_scheduler_resume(d.scheduler, b, d.now_ns);
    const quire_request_id c = submit(1, 1);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_BLOCKS);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_HEAD);
    driver_commit(&d);
    finish();
}

static void quota(void **state)
{
    (void)state;
    const quire_tenant_options tenants[] = {{.name = "a", .max_num_seqs = 1}, {.name = "b", .max_kv_fraction = 0.2f}};
    qr_scheduler_options       options   = driver_options(20, 4);
    options.tenants = tenants, options.tenant_count = 2;
    driver_start(&d, &options);
    submit_of("a", 4, 4);
    const quire_request_id a = submit_of("a", 4, 4);
    submit_of("b", 9, 4);
    const quire_request_id b = submit_of("b", 9, 4), c = submit_of("c", 4, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_QUOTA);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_QUOTA);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_NONE);
    driver_commit(&d);
    finish();
}

static void a_tenant_that_was_served_more_waits_for_the_others(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(40, 4);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    submit_of("a", 20, 4);
    const quire_request_id b = submit_of("b", 4, 4), a = submit_of("a", 4, 4);
    driver_step(&d);
    const quire_request_id second = submit_of("b", 4, 4);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_SEQUENCES);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_TENANT);
    assert_int_equal(driver_reason(&d, second), QUIRE_WAIT_ORDER);
    driver_commit(&d);
    finish();
}

static void encoder_and_encoder_shared(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(60, 4);
    options.encoder_decoder      = true;
    driver_start(&d, &options);
    driver_submit_encoder(&d, driver_request_of(4), 20, 1, 1, 1);
    const quire_request_id b = driver_submit_encoder(&d, driver_request_of(4), 20, 1, 1, 1);
    const quire_request_id c = driver_submit_encoder(&d, driver_request_of(4), 20, 2, 1, 1);
    const quire_request_id e = driver_submit_encoder(&d, driver_request_of(4), 12, 3, 1, 1);
    driver_plan(&d);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_ENCODER_SHARED);
    assert_int_equal(driver_reason(&d, c), QUIRE_WAIT_ENCODER);
    assert_int_equal(driver_reason(&d, e), QUIRE_WAIT_NONE);
    assert_int_equal(d.plan->rows_encoder, 32);
    driver_commit(&d);
    finish();
}

static void fault(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(60, 4);
    driver_start(&d, &options);
    const quire_request_id a = submit(4, 8), b = submit(4, 8);
    driver_step(&d);
    d.poison = b;
    driver_step(&d);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_FAULT);
    driver_plan(&d);
    assert_int_equal(d.plan->entry_count, 1);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_NONE);
    assert_int_equal(driver_reason(&d, b), QUIRE_WAIT_FAULT);
    driver_commit(&d);
    finish();
}

static void reader(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(60, 4);
    driver_start(&d, &options);
    const quire_request_id a = submit(4, 8);
    driver_step(&d);
    qr_scheduler_pause(d.scheduler, a, d.now_ns);
    assert_int_equal(driver_reason(&d, a), QUIRE_WAIT_READER);
    qr_scheduler_resume(d.scheduler, a, d.now_ns);
    finish();
    assert_true(QUIRE_WAIT_REASONS == 14);
}

static void the_times_of_all_reasons_add_up(void **state)
{
    (void)state;
    const qr_scheduler_options options = driver_options(6, 4);
    driver_start(&d, &options);
    for (uint32_t i = 0; i < 6; i++) submit(6 + i, 6);
    for (uint32_t step = 0; step < 40; step++) {
        driver_step(&d);
        d.now_ns += step * 100;
        for (quire_request_id id = 1; id <= 6; id++) {
            quire_explanation why;
            uint64_t          sum = 0;
            if (qr_scheduler_explain(d.scheduler, id, d.now_ns, &why) != QUIRE_OK) continue;
            for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) sum += why.wait_ns[i];
            assert_int_equal(sum, d.now_ns - 1000000);
        }
    }
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_and_order),
        cmocka_unit_test(sequences),
        cmocka_unit_test(budget),
        cmocka_unit_test(budget_of_a_running_prompt_when_decodes_take_all_rows),
        cmocka_unit_test(partial),
        cmocka_unit_test(long_partial),
        cmocka_unit_test(blocks_with_how_many),
        cmocka_unit_test(watermark),
        cmocka_unit_test(head),
        cmocka_unit_test(nobody_passes_a_preempted_one),
        cmocka_unit_test(quota),
        cmocka_unit_test(a_tenant_that_was_served_more_waits_for_the_others),
        cmocka_unit_test(encoder_and_encoder_shared),
        cmocka_unit_test(fault),
        cmocka_unit_test(reader),
        cmocka_unit_test(the_times_of_all_reasons_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
