/* A request enters: the bounds of the queue, what is copied, its rank, its first state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static void a_new_request_waits_without_blocks_then_runs(void **state)
{
    (void)state;
    driver_start_blocks(&d, 8);
    const quire_request_id id = driver_submit(&d, driver_request_of(2), 6, 1, NULL);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_QUEUED);
    assert_int_equal(driver_view(&d, id, 0).block_count, 0);
    assert_int_equal(driver_stats(&d).queued_tokens, 6);
    driver_step(&d);
    assert_int_equal(driver_view(&d, id, 0).state, QR_SEQUENCE_RUNNING);
    assert_int_equal(driver_view(&d, id, 0).block_count, 2);
    assert_int_equal(driver_stats(&d).queued_tokens, 0);
    driver_step(&d);
    assert_int_equal(driver_find(&d, id)->streams[0].finish, QUIRE_FINISH_LENGTH);
    driver_stop_empty(&d);
}

static void the_queue_is_bounded_in_sequences_and_tokens(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(100, 4);
    quire_status         status;
    options.max_num_queued_reqs = 5, options.max_num_queued_tokens = 130;
    driver_start(&d, &options);
    quire_request r = driver_request_of(4);
    r.n             = 3;
    driver_submit(&d, r, 10, 1, &status);
    assert_int_equal(status, QUIRE_OK);
    driver_submit(&d, r, 10, 2, &status);
    assert_int_equal(status, QUIRE_ERR_FULL);
    r.n = 2;
    driver_submit(&d, r, 120, 3, &status);
    assert_int_equal(status, QUIRE_OK);
    r.n = 1;
    driver_submit(&d, r, 1, 4, &status);
    assert_int_equal(status, QUIRE_ERR_FULL); /* 5 sequences */
    qr_scheduler_cancel(d.scheduler, 1, d.now_ns);
    driver_take_events(&d);
    driver_submit(&d, r, 11, 5, &status);
    assert_int_equal(status, QUIRE_ERR_FULL); /* 131 tokens */
    driver_submit(&d, r, 10, 6, &status);
    assert_int_equal(status, QUIRE_OK);
    driver_finish(&d);
}

static void a_full_queue_says_how_much_waits_and_what_the_limit_is(void **state)
{
    (void)state;
    const quire_tenant_options tenant  = {.name = "a", .max_num_queued_reqs = 1};
    qr_scheduler_options       options = driver_options(100, 4);
    options.tenants = &tenant, options.tenant_count = 1;
    options.max_num_queued_reqs = 2;
    driver_start(&d, &options);
    int32_t       prompt[4] = {1, 2, 3, 4};
    quire_request r         = driver_request_of(4);
    quire_error   error     = {0};
    r.prompt = prompt, r.prompt_count = 4, r.tenant = "a";
    assert_int_equal(driver_submit_raw(&d, &r, &error, NULL), QUIRE_OK);
    assert_int_equal(driver_submit_raw(&d, &r, &error, NULL), QUIRE_ERR_FULL);
    assert_string_equal(
        error.message,
        "queue: 1 sequences of tenant \"a\" are waiting and 1 more do not fit in its max_num_queued_reqs 1"
        " (a request counts as its n, or its beam_width)");
    r.tenant = "b", r.n = 2;
    assert_int_equal(driver_submit_raw(&d, &r, &error, NULL), QUIRE_ERR_FULL);
    assert_string_equal(error.message, "queue: 1 sequences are waiting and 2 more do not fit in max_num_queued_reqs 2"
                                       " (a request counts as its n, or its beam_width)");
    driver_finish(&d);
}

static void an_id_must_be_nonzero_and_new(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    int32_t                prompt[4] = {1, 2, 3, 4};
    quire_request          r         = driver_request_of(4);
    quire_error            error     = {0};
    const quire_request_id ids[]     = {0, 1};
    r.prompt = prompt, r.prompt_count = 4;
    driver_submit_new(&d, 4, 4);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(qr_scheduler_submit(d.scheduler, &r, ids[i], d.now_ns, &error), QUIRE_ERR_INVALID);
        assert_non_null(strstr(error.message, "must be nonzero and not in use"));
    }
    driver_finish(&d);
}

static void what_came_with_a_request_is_copied(void **state)
{
    (void)state;
    driver_start_blocks(&d, 16);
    int32_t          prompt[4] = {1, 2, 3, 4}, stop[2] = {5, 6}, allowed[3] = {7, 8, 9}, banned[1] = {10};
    int32_t          first_banned[1] = {12}, first_allowed[1] = {13}, last_allowed[1] = {14};
    quire_logit_bias bias[1]  = {{.token = 11, .bias = 1}};
    char             tenant[] = "a", salt[] = "salt";
    quire_request    r = driver_request_of(4);
    r.prompt = prompt, r.prompt_count = 4, r.stop = stop, r.stop_count = 2;
    r.allowed = allowed, r.allowed_count = 3, r.banned = banned, r.banned_count = 1;
    r.first_banned = first_banned, r.first_allowed = first_allowed, r.last_allowed = last_allowed;
    r.first_banned_count = r.first_allowed_count = r.last_allowed_count = 1;
    r.logit_bias = bias, r.logit_bias_count = 1, r.tenant = tenant, r.cache_salt = salt;
    assert_int_equal(qr_scheduler_submit(d.scheduler, &r, 1, d.now_ns, NULL), QUIRE_OK);
    memset(prompt, 0, sizeof prompt), memset(stop, 0, sizeof stop), memset(allowed, 0, sizeof allowed);
    memset(banned, 0, sizeof banned), memset(bias, 0, sizeof bias), tenant[0] = 'x', salt[0] = 'x';
    first_banned[0] = first_allowed[0] = last_allowed[0] = 0;
    const quire_request *kept                            = driver_view(&d, 1, 0).request;
    assert_memory_equal(kept->prompt, ((int32_t[]){1, 2, 3, 4}), sizeof prompt);
    assert_memory_equal(kept->stop, ((int32_t[]){5, 6}), sizeof stop);
    assert_memory_equal(kept->allowed, ((int32_t[]){7, 8, 9}), sizeof allowed);
    assert_int_equal(kept->banned[0], 10);
    assert_true(kept->first_banned[0] == 12 && kept->first_allowed[0] == 13 && kept->last_allowed[0] == 14);
    assert_int_equal(kept->logit_bias[0].token, 11);
    assert_string_equal(kept->tenant, "a");
    assert_string_equal(kept->cache_salt, "salt");
    driver_stop(&d);
}

static void the_default_decoder_prompt_is_the_start_token(void **state)
{
    (void)state;
    qr_scheduler_options options   = driver_caching_options(200);
    options.encoder_decoder        = true;
    options.decoder_start_token_id = 7;
    driver_start(&d, &options);
    int32_t       ids[3]  = {1, 2, 3};
    quire_request request = driver_request_of(3);
    request.encoder_input = ids, request.encoder_count = 3;
    assert_int_equal(qr_scheduler_submit(d.scheduler, &request, 1, d.now_ns, NULL), QUIRE_OK);
    assert_int_equal(driver_view(&d, 1, 0).prompt_count, 1);
    assert_int_equal(driver_view(&d, 1, 0).tokens[0], 7);
    driver_stop(&d);
}

static void lower_priority_values_start_first_and_fcfs_ignores_them(void **state)
{
    (void)state;
    for (uint32_t policy = 0; policy < 2; policy++) {
        qr_scheduler_options options = driver_priority_options(64, 0);
        options.policy               = (quire_policy)policy;
        options.max_num_seqs         = 1;
        driver_start(&d, &options);
        const quire_request_id a = driver_submit_priority(&d, 5, 4, 3), b = driver_submit_priority(&d, 0, 4, 3),
                               c = driver_submit_priority(&d, -5, 4, 3);
        driver_run(&d, 50);
        if (policy == QUIRE_POLICY_FCFS)
            assert_true(driver_first_planned(&d, a) < driver_first_planned(&d, b) &&
                        driver_first_planned(&d, b) < driver_first_planned(&d, c));
        else
            assert_true(driver_first_planned(&d, c) < driver_first_planned(&d, b) &&
                        driver_first_planned(&d, b) < driver_first_planned(&d, a));
        driver_stop(&d);
    }
}

static void priority_ageing_makes_an_old_request_senior(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_priority_options(64, 5000);
    options.max_num_seqs         = 1;
    driver_start(&d, &options);
    driver_submit_priority(&d, 0, 4, 12);
    driver_step(&d);
    const quire_request_id old = driver_submit_priority(&d, 1, 4, 2);
    while (driver_reason(&d, old) != QUIRE_WAIT_NONE && d.steps < 6) driver_step(&d);
    const quire_request_id young =
        driver_submit_priority(&d, 0, 4, 2); /* more than 5000 ns later: one level is made up */
    driver_run(&d, 100);
    assert_true(driver_first_planned(&d, old) < driver_first_planned(&d, young));
    driver_stop(&d);
}

static void strict_priority_starves_and_ageing_does_not(void **state)
{
    (void)state;
    uint64_t waited[2];
    for (uint32_t ageing = 0; ageing < 2; ageing++) {
        qr_scheduler_options options = driver_priority_options(64, ageing ? 10000 : 0);
        options.max_num_seqs         = 1;
        driver_start(&d, &options);
        const quire_request_id low  = driver_submit_priority(&d, 3, 4, 2);
        uint64_t               seen = 0;
        for (uint32_t i = 0; i < 100; i++) {
            driver_submit_priority(&d, 0, 4, 2);
            driver_step(&d);
            if (driver_find(&d, low)->streams[0].count > 0 && seen == 0) seen = i + 1;
            while (d.request_count > 1 && driver_stats(&d).waiting > 3) driver_step(&d);
        }
        waited[ageing] = seen;
        driver_run(&d, 1000);
        driver_stop(&d);
    }
    assert_true(waited[1] != 0 && (waited[0] == 0 || waited[1] < waited[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_request_waits_without_blocks_then_runs),
        cmocka_unit_test(the_queue_is_bounded_in_sequences_and_tokens),
        cmocka_unit_test(a_full_queue_says_how_much_waits_and_what_the_limit_is),
        cmocka_unit_test(an_id_must_be_nonzero_and_new),
        cmocka_unit_test(what_came_with_a_request_is_copied),
        cmocka_unit_test(the_default_decoder_prompt_is_the_start_token),
        cmocka_unit_test(lower_priority_values_start_first_and_fcfs_ignores_them),
        cmocka_unit_test(priority_ageing_makes_an_old_request_senior),
        cmocka_unit_test(strict_priority_starves_and_ageing_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
