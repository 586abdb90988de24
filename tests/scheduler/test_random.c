/* Random configurations, requests and disturbances, by seed: every token, every slot read and every counter is checked
 * by the driver; in the end all must have finished and all blocks be back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/beam_reference.h"

static uint64_t seed, drawn;

static uint32_t below(uint32_t limit) { return qr_random_below(seed, 1, drawn++, limit); }
static bool     chance(uint32_t percent) { return below(100) < percent; }

static qr_scheduler_options draw_options(void)
{
    const uint32_t       sizes[] = {1, 2, 4, 16};
    qr_scheduler_options o       = driver_options(12 + below(60), sizes[below(4)]);
    if (o.block_size == 1) o.num_blocks += 60;
    o.policy                 = chance(40) ? QUIRE_POLICY_PRIORITY : QUIRE_POLICY_FCFS;
    o.priority_ageing_ns     = chance(50) ? 0 : 50000;
    o.max_num_seqs           = 1 + below(8);
    o.max_num_batched_tokens = o.max_num_seqs + below(40);
    o.max_model_len          = 64;
    o.enable_chunked_prefill = chance(85);
    if (!o.enable_chunked_prefill) o.max_num_batched_tokens = 64 + below(32);
    o.long_prefill_token_threshold = chance(50) ? below(o.max_num_batched_tokens + 1) : 0;
    o.max_num_partial_prefills     = 1 + below(o.max_num_seqs);
    o.max_long_partial_prefills    = 1 + below(o.max_num_partial_prefills);
    o.scheduler_reserve_full_isl   = chance(60);
    o.capacity_policy              = chance(15) ? QUIRE_CAPACITY_GUARANTEED_NO_EVICT : QUIRE_CAPACITY_MAX_UTILIZATION;
    o.watermark                    = chance(50) ? 0 : 0.1f;
    o.max_head_passes              = below(10);
    o.tenant_fairness              = chance(60);
    o.max_num_queued_reqs          = 8 + below(24);
    o.enable_prefix_caching        = chance(60);
    o.extents                      = chance(50);
    o.node_count                   = 1 + below(2);
    o.hash_bits                    = chance(50) ? 6 : 64;
    o.window                       = chance(25) ? 2 + below(20) : 0;
    o.encoder_decoder              = chance(35);
    o.max_num_encoder_input_tokens = 32;
    o.enable_cross_sharing         = chance(80);
    o.num_speculative_tokens       = chance(40) ? 1 + below(6) : 0;
    o.prompt_lookup_max            = 1 + below(3);
    if (o.window > 0 || o.encoder_decoder || chance(50)) return o;
    o.local_window     = 2 + below(20);
    o.num_local_blocks = qr_scheduler_local_blocks(&o);
    return o;
}

static void submit_one(driver *d)
{
    static const char *const tenants[] = {NULL, "a", "b"};
    const uint32_t           prompt = 1 + below(40), longest = d->options.max_model_len - prompt;
    quire_request            r = driver_request_of(1 + below(longest < 24 ? longest : 24));
    quire_status             status;
    r.priority = (int32_t)below(5) - 2;
    r.tenant   = tenants[below(3)];
    if (chance(30)) r.n = 1 + below(d->options.max_num_seqs);
    if (chance(15)) {
        const uint32_t width = 1 + below(4);
        r.beam_width         = width < d->options.max_num_seqs ? width : d->options.max_num_seqs;
        r.n                  = 1 + below(r.beam_width);
        r.early_stopping     = (quire_early_stopping)below(3);
        r.ignore_eos         = false;
    }
    if (chance(20)) r.ignore_eos = false;
    if (chance(10)) r.timeout_ns = 1000 + below(100000);
    if (chance(10)) r.queue_timeout_ns = 1000 + below(50000);
    r.skip_reading_prefix_cache = chance(10);
    r.skip_writing_prefix_cache = chance(10);
    if (chance(20)) r.cache_salt = "salt";
    if (r.cache_salt != NULL && r.tenant == NULL) r.cache_salt = NULL; /* the mock model knows tenants, not salts */
    int32_t encoder[32];
    if (d->options.encoder_decoder) {
        r.encoder_count = 4 + 9 * below(4);
        r.encoder_input = encoder;
        driver_fill(encoder, r.encoder_count, below(3), d->options.vocab_size);
    }
    (void)driver_submit(d, r, prompt, below(4), &status);
    assert_true(status == QUIRE_OK || status == QUIRE_ERR_FULL || status == QUIRE_ERR_TOO_LONG);
}

static void disturb(driver *d)
{
    if (d->request_count == 0) return;
    const quire_request_id id = 1 + below(d->request_count);
    if (chance(30)) (void)qr_scheduler_cancel(d->scheduler, id, d->now_ns);
    if (chance(20)) (void)qr_scheduler_pause(d->scheduler, id, d->now_ns);
    if (chance(40)) (void)qr_scheduler_resume(d->scheduler, 1 + below(d->request_count), d->now_ns);
    if (chance(5)) qr_scheduler_flush_cache(d->scheduler);
    driver_check(d);
    driver_take_events(d);
    driver_check(d);
}

static quire_stats total; /* over all runs: what was reached */
static uint64_t    searches;

static void add_stats(const driver *d)
{
    const quire_stats stats = driver_stats(d);
    total.preemptions += stats.preemptions, total.claims += stats.claims, total.copies += stats.copies;
    total.forced_progress += stats.forced_progress, total.failed_steps += stats.failed_steps;
    total.drafts_accepted += stats.drafts_accepted, total.forks += stats.forks;
    total.encoder_runs_saved += stats.encoder_runs_saved, total.head_passes += stats.head_passes;
    total.tokens_recomputed += stats.tokens_recomputed, total.tokens_cached += stats.tokens_cached;
    total.reservation_thefts += stats.reservation_thefts;
    for (uint32_t i = 0; i < 6; i++) total.finished_by[i] += stats.finished_by[i];
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) total.wait_ns[i] += stats.wait_ns[i];
}

static void compare_searches(driver *d, int32_t stop)
{
    static beam_hypothesis expected[DRIVER_BEAMS];
    for (uint32_t i = 0; i < d->request_count; i++) {
        const driver_request *r      = &d->requests[i];
        const quire_finish    finish = r->streams[0].finish;
        if (r->beam_width <= 1 || (finish != QUIRE_FINISH_STOP && finish != QUIRE_FINISH_LENGTH)) continue;
        const uint32_t count = beam_reference(d, r, &r->parameters, stop, expected);
        for (uint32_t n = 0; n < r->parameters.n; n++) {
            assert_true(n < count && r->streams[n].count == expected[n].count);
            assert_memory_equal(r->streams[n].tokens, expected[n].tokens, expected[n].count * sizeof(int32_t));
        }
        searches++;
    }
}

static void run_one(uint32_t steps)
{
    driver               d;
    qr_scheduler_options options = draw_options();
    const uint32_t       eos     = chance(50);
    options.eos_count            = eos;
    options.eos_token_ids[0]     = 3;
    driver_start(&d, &options);
    d.token_below       = (int32_t)(12 + below(20));
    const uint32_t load = 10 + below(50), trouble = chance(70) ? below(25) : 0;
    for (uint32_t i = 0; i < steps && d.request_count < DRIVER_REQUESTS - 8; i++) {
        while (chance(load)) submit_one(&d);
        if (chance(trouble)) disturb(&d);
        d.poison = chance(trouble / 4) ? 1 + below(d.request_count + 1) : chance(85) ? d.poison : 0;
        driver_plan(&d);
        if (chance(trouble)) disturb(&d);
        driver_commit(&d);
    }
    d.poison = 0;
    for (uint32_t i = 1; i <= d.request_count; i++) (void)qr_scheduler_resume(d.scheduler, i, d.now_ns);
    driver_run(&d, 4000);
    compare_searches(&d, eos ? 3 : -1);
    add_stats(&d);
    qr_scheduler_flush_cache(d.scheduler);
    assert_int_equal(driver_stats(&d).blocks_free, options.num_blocks);
    driver_stop(&d);
}

static void everything_ends_and_every_token_is_right(void **state)
{
    (void)state;
    const char    *text  = getenv("QUIRE_TEST_SEED");
    const char    *scale = getenv("QUIRE_TEST_RUNS");
    const uint64_t first = text ? strtoull(text, NULL, 10) : 1, runs = scale ? strtoull(scale, NULL, 10) : 150;
    for (uint64_t i = 0; i < (text ? 1 : runs); i++) {
        seed = first + i, drawn = 0;
        if (text || scale) fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        run_one(120);
    }
    if (text) return;
    assert_true(searches > 20 && total.preemptions > 100 && total.claims > 20 && total.copies > 100);
    assert_true(total.forced_progress > 5 && total.failed_steps > 20 && total.drafts_accepted > 20);
    assert_true(total.forks > 100 && total.encoder_runs_saved > 20 && total.head_passes > 20);
    assert_true(total.tokens_recomputed > 100 && total.tokens_cached > 100 && total.reservation_thefts > 0);
    for (uint32_t i = 1; i < 6; i++) assert_true(total.finished_by[i] > 3);
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++)
        if (i != QUIRE_WAIT_QUOTA) assert_true(total.wait_ns[i] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_ends_and_every_token_is_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
