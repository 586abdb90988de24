/* Random configurations, requests and disturbances, by seed: every token, every slot read and every counter is checked
 * by the driver; in the end all must have finished and all blocks be back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/scheduler_driver.h"

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
    o.capacity_policy              = chance(15) ? QUIRE_GUARANTEED_NO_EVICT : QUIRE_MAX_UTILIZATION;
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
        r.ignore_eos         = 0;
    }
    if (chance(20)) r.ignore_eos = 0;
    if (chance(10)) r.deadline_ns = 1000 + below(100000);
    if (chance(10)) r.queue_deadline_ns = 1000 + below(50000);
    r.skip_reading_prefix_cache = chance(10);
    r.skip_writing_prefix_cache = chance(10);
    if (chance(20)) r.cache_salt = "salt";
    if (r.cache_salt != NULL && r.tenant == NULL) r.cache_salt = NULL; /* the mock model knows tenants, not salts */
    int32_t encoder[32];
    if (d->options.encoder_decoder) {
        r.encoder_count = 1 + below(32);
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
        d.poison = chance(trouble / 4) ? 1 + below(d.request_count + 1) : chance(50) ? d.poison : 0;
        driver_plan(&d);
        if (chance(trouble)) disturb(&d);
        driver_commit(&d);
    }
    d.poison = 0;
    for (uint32_t i = 1; i <= d.request_count; i++) (void)qr_scheduler_resume(d.scheduler, i, d.now_ns);
    driver_run(&d, 4000);
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_ends_and_every_token_is_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
