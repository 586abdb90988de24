/* The search for the capacity: what a watch makes of requests, and that the bisection finds a known edge. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "bench/capacity.h"

#define MS INT64_C(1000000)

/* ---- the watch ---- */

enum { REQUESTS = 100 };

static qr_run_request requests[REQUESTS];

/* One request a millisecond; a first token after `ttft_ms`, the end after `e2el_ms`, < 0: not yet. */
static qr_run play(int64_t ttft_ms, int64_t e2el_ms)
{
    memset(requests, 0, sizeof requests);
    for (int64_t i = 0; i < REQUESTS; i++)
        requests[i] = (qr_run_request){.due_ns   = i * MS,
                                       .first_ns = ttft_ms < 0 ? -1 : (i + ttft_ms) * MS,
                                       .end_ns   = e2el_ms < 0 ? -1 : (i + e2el_ms) * MS,
                                       .finish   = QUIRE_FINISH_LENGTH,
                                       .tpot_ns  = -1};
    return (qr_run){.requests = requests, .request_count = REQUESTS};
}

static qr_slo_watch watch_for(double ttft_ms, bool may_pass_early)
{
    return (qr_slo_watch){
        .slo = {.ttft_ms = ttft_ms}, .test = {.target = 0.9, .confidence = 0.99}, .may_pass_early = may_pass_early};
}

static void good_requests_pass_early_when_that_is_allowed(void **state)
{
    (void)state;
    const qr_run run   = play(5, 10);
    qr_slo_watch watch = watch_for(20, true);
    assert_true(qr_slo_watch_decides(&watch, &run, 1000 * MS));
    assert_int_equal(watch.decision, QR_ABOVE);
    assert_true(watch.test.met < REQUESTS);
    watch = watch_for(20, false);
    assert_false(qr_slo_watch_decides(&watch, &run, 1000 * MS));
    assert_true(qr_slo_watch_passes(&watch, &run));
    assert_int_equal(watch.test.met, REQUESTS);
}

static void a_request_misses_as_soon_as_its_limit_has_passed(void **state)
{
    (void)state;
    const qr_run run   = play(-1, -1);
    qr_slo_watch watch = watch_for(20, false);
    assert_false(qr_slo_watch_decides(&watch, &run, 20 * MS));
    assert_int_equal(watch.test.missed, 0);
    assert_true(qr_slo_watch_decides(&watch, &run, 40 * MS));
    assert_int_equal(watch.decision, QR_BELOW);
    assert_true(watch.test.missed < 20);
}

static void an_open_request_holds_back_those_behind_it(void **state)
{
    (void)state;
    const qr_run run   = play(5, 10);
    qr_slo_watch watch = watch_for(20, true);
    requests[3].end_ns = -1; /* its first token came in time: it may still meet or miss */
    assert_false(qr_slo_watch_decides(&watch, &run, 1000 * MS));
    assert_int_equal(watch.test.met, 3);
    assert_int_equal(watch.next, 3);
}

static void requests_before_the_window_are_not_judged(void **state)
{
    (void)state;
    qr_run       run    = play(5, 10);
    qr_slo_watch watch  = watch_for(20, false);
    run.window_start_ns = 60 * MS;
    assert_false(qr_slo_watch_decides(&watch, &run, 1000 * MS));
    assert_int_equal(watch.test.met, 40);
}

static void nothing_is_decided_before_the_span(void **state)
{
    (void)state;
    const qr_run run   = play(50, 60);
    qr_slo_watch watch = watch_for(20, true);
    watch.min_span_ns  = 2000 * MS;
    assert_false(qr_slo_watch_decides(&watch, &run, 1999 * MS));
    watch             = watch_for(20, true);
    watch.min_span_ns = 2000 * MS;
    assert_true(qr_slo_watch_decides(&watch, &run, 2000 * MS));
}

static void what_is_open_at_the_end_has_missed(void **state)
{
    (void)state;
    qr_run       run   = play(5, 10);
    qr_slo_watch watch = watch_for(20, false);
    run.window_end_ns  = 1000 * MS;
    for (int i = 80; i < REQUESTS; i++) requests[i].end_ns = -1;
    assert_false(qr_slo_watch_passes(&watch, &run));
    assert_int_equal(watch.test.missed, 20);
}

static void what_never_got_into_the_queue_has_missed(void **state)
{
    (void)state;
    qr_run       run   = play(5, 10);
    qr_slo_watch watch = watch_for(20, false);
    run.window_end_ns  = 1000 * MS;
    run.held_back      = 12;
    assert_false(qr_slo_watch_passes(&watch, &run));
    assert_int_equal(watch.test.met, REQUESTS);
    assert_int_equal(watch.test.missed, 12);
}

static void a_window_without_requests_passes(void **state)
{
    (void)state;
    qr_run       run    = play(5, 10);
    qr_slo_watch watch  = watch_for(20, false);
    run.window_start_ns = 900 * MS;
    run.window_end_ns   = 1000 * MS;
    assert_true(qr_slo_watch_passes(&watch, &run)); /* a rate so low that none came */
    assert_int_equal(watch.test.met + watch.test.missed, 0);
}

/* ---- the search ---- */

typedef struct machine {
    double   capacity;
    double   optimism; /* early passes happen up to this factor beyond the capacity */
    uint32_t probes, limit;
} machine;

static bool serve(void *context, bool may_pass_early, qr_probe *probe)
{
    machine *m = context;
    if (m->limit != 0 && m->probes == m->limit) return false;
    m->probes++;
    probe->early   = may_pass_early && probe->rate <= m->capacity * m->optimism;
    probe->passed  = probe->rate <= m->capacity || probe->early;
    probe->seconds = 1;
    probe->met     = 10;
    return true;
}

static qr_capacity find(machine *m)
{
    const qr_capacity_search search = {
        .min_rate = 0.05, .max_rate = 64, .precision = 0.05, .probe = serve, .context = m};
    qr_capacity found;
    qr_capacity_find(&search, &found);
    assert_int_equal(found.probes, m->probes);
    assert_int_equal(found.requests, 10 * m->probes);
    return found;
}

static void the_edge_is_found_within_the_precision(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        machine           m     = {.capacity = 0.06 * pow(1000, qr_random_uniform(1, 1, i)), .optimism = 1};
        const qr_capacity found = find(&m);
        assert_int_equal(found.outcome, QR_CAPACITY_FOUND);
        assert_true(found.rate <= m.capacity && m.capacity < found.high);
        assert_true(found.high <= found.rate * 1.05);
        assert_true(m.probes < 16);
    }
}

static void an_early_pass_beyond_the_edge_is_taken_back(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        machine           m     = {.capacity = 0.06 * pow(1000, qr_random_uniform(1, 2, i)), .optimism = 1.3};
        const qr_capacity found = find(&m);
        assert_int_equal(found.outcome, QR_CAPACITY_FOUND);
        assert_true(found.rate <= m.capacity && m.capacity < found.high);
    }
}

static void the_ends_of_the_range_are_said(void **state)
{
    (void)state;
    assert_int_equal(find(&(machine){.capacity = 0.01, .optimism = 1}).outcome, QR_CAPACITY_BELOW_MIN);
    assert_int_equal(find(&(machine){.capacity = 100, .optimism = 1}).outcome, QR_CAPACITY_ABOVE_MAX);
    const qr_capacity stopped = find(&(machine){.capacity = 3, .optimism = 1, .limit = 4});
    assert_int_equal(stopped.outcome, QR_CAPACITY_STOPPED);
    assert_true(stopped.low <= 3 && stopped.high > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests_pass_early_when_that_is_allowed),
        cmocka_unit_test(a_request_misses_as_soon_as_its_limit_has_passed),
        cmocka_unit_test(an_open_request_holds_back_those_behind_it),
        cmocka_unit_test(requests_before_the_window_are_not_judged),
        cmocka_unit_test(nothing_is_decided_before_the_span),
        cmocka_unit_test(what_is_open_at_the_end_has_missed),
        cmocka_unit_test(what_never_got_into_the_queue_has_missed),
        cmocka_unit_test(a_window_without_requests_passes),
        cmocka_unit_test(the_edge_is_found_within_the_precision),
        cmocka_unit_test(an_early_pass_beyond_the_edge_is_taken_back),
        cmocka_unit_test(the_ends_of_the_range_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
