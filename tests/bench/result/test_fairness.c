/* Shares of tenants, computed by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/result/fairness.h"

#define MS INT64_C(1000000)

static qr_run_request request(uint32_t tenant, int64_t wait_ms, uint32_t tokens)
{
    return (qr_run_request){.shape         = {.tenant = tenant},
                            .due_ns        = 10 * MS,
                            .planned_ns    = (10 + wait_ms) * MS,
                            .first_ns      = (30 + wait_ms) * MS,
                            .end_ns        = (90 + wait_ms) * MS,
                            .output_tokens = tokens,
                            .finish        = QUIRE_FINISH_LENGTH};
}

static void each_tenant_has_its_waits_and_tokens(void **state)
{
    (void)state;
    qr_run_request requests[] = {request(0, 100, 30), request(2, 1, 10), request(0, 300, 30), request(2, 3, 10),
                                 request(2, 5000, 99)};
    requests[2].finish        = QUIRE_FINISH_CANCELLED;
    const qr_run     run      = {.requests = requests, .request_count = 5, .window_end_ns = 1000 * MS};
    const qr_metrics metrics  = {.percentiles = {50}, .percentile_count = 1};
    qr_fairness      f;
    assert_int_equal(qr_fairness_of(&run, &metrics, &f), QUIRE_OK);
    assert_int_equal(f.count, 2); /* tenant 1 sent nothing */
    assert_int_equal(f.tenants[0].tenant, 0);
    assert_int_equal(f.tenants[0].due, 2);
    assert_int_equal(f.tenants[0].completed, 1);
    assert_int_equal(f.tenants[0].output_tokens, 60);
    assert_true(fabs(f.tenants[0].queue.mean - 200) < 1e-9);
    assert_true(fabs(f.tenants[0].ttft.mean - 220) < 1e-9);
    assert_int_equal(f.tenants[1].tenant, 2);
    assert_int_equal(f.tenants[1].due, 3);
    assert_int_equal(f.tenants[1].queue.n, 2); /* the third is beyond the window */
    assert_int_equal(f.tenants[1].output_tokens, 20);
    assert_true(fabs(f.tenants[1].queue.p[0] - 2) < 1e-9);
    assert_true(fabs(f.jain - 80.0 * 80.0 / (2 * (60.0 * 60 + 20 * 20))) < 1e-12);
    qr_fairness_deinit(&f);
}

static void a_run_without_requests_has_no_shares(void **state)
{
    (void)state;
    const qr_run     run     = {0};
    const qr_metrics metrics = {0};
    qr_fairness      f;
    assert_int_equal(qr_fairness_of(&run, &metrics, &f), QUIRE_OK);
    assert_int_equal(f.count, 0);
    assert_true(isnan(f.jain));
    qr_fairness_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tenant_has_its_waits_and_tokens),
        cmocka_unit_test(a_run_without_requests_has_no_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
