/* Routing by hand, the router's knowledge against events, and runs in which each policy shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/replicas/replicas.h"
#include "support/scratch_file.h"
#include "support/simulated_model.h"

enum { BLOCK = 4, LOG_STEPS = 40 };

/* ---- the map ---- */

static void apply(qr_prefix_map *map, uint32_t replica, quire_cache_event_kind kind, uint64_t name, uint64_t parent,
                  const int32_t *tokens)
{
    const quire_cache_event event = {.block_hash = name, .parent_hash = parent, .kind = kind};
    assert_int_equal(qr_prefix_map_apply(map, replica, &event, tokens), QUIRE_OK);
}

static const int32_t prompt[13] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};

/* Replica 0 has the first block, 1 the first two, under names of its own. */
static void fill(qr_prefix_map *map)
{
    assert_int_equal(qr_prefix_map_init(map, 16, BLOCK), QUIRE_OK);
    apply(map, 0, QUIRE_CACHE_STORED, 70, 0, prompt);
    apply(map, 1, QUIRE_CACHE_STORED, 80, 0, prompt);
    apply(map, 1, QUIRE_CACHE_STORED, 81, 80, prompt + BLOCK);
}

static void the_longest_prefix_is_found(void **state)
{
    (void)state;
    qr_prefix_map map;
    fill(&map);
    uint32_t at = qr_prefix_map_find(&map, prompt, 13);
    assert_int_equal(map.holders[at].replica, 1);
    assert_int_equal(map.holders[at].name, 81);
    assert_int_equal(qr_prefix_map_next(&map, at), QR_NO_HOLDER);
    at = qr_prefix_map_find(&map, prompt, 8); /* the last token is computed, so the second block does not count */
    assert_int_equal(map.holders[at].name, 80);
    assert_int_equal(map.holders[qr_prefix_map_next(&map, at)].name, 70);
    assert_int_equal(qr_prefix_map_find(&map, prompt, 4), QR_NO_HOLDER);
    assert_int_equal(qr_prefix_map_find(&map, prompt + 1, 12), QR_NO_HOLDER);
    assert_int_equal(qr_prefix_map_find(&map, prompt + BLOCK, 9), QR_NO_HOLDER); /* not at the start */
    qr_prefix_map_deinit(&map);
}

static void what_is_removed_is_not_found(void **state)
{
    (void)state;
    qr_prefix_map map;
    fill(&map);
    apply(&map, 0, QUIRE_CACHE_REMOVED, 81, 0, NULL); /* another replica's name */
    assert_int_equal(map.holders[qr_prefix_map_find(&map, prompt, 13)].name, 81);
    apply(&map, 1, QUIRE_CACHE_REMOVED, 81, 0, NULL);
    assert_int_equal(map.holders[qr_prefix_map_find(&map, prompt, 13)].name, 80);
    apply(&map, 1, QUIRE_CACHE_CLEARED, 0, 0, NULL);
    assert_int_equal(map.holders[qr_prefix_map_find(&map, prompt, 13)].name, 70);
    apply(&map, 1, QUIRE_CACHE_STORED, 82, 81, prompt + BLOCK); /* its parent is gone */
    assert_int_equal(map.holders[qr_prefix_map_find(&map, prompt, 13)].name, 70);
    assert_int_equal(map.count, 3); /* records are used again */
    qr_prefix_map_deinit(&map);
}

/* ---- the router ---- */

static void each_policy_chooses_by_its_rule(void **state)
{
    (void)state;
    qr_prefix_map map;
    fill(&map);
    uint32_t  load[4] = {3, 5, 2, 4};
    qr_router router  = {.routing = QR_ROUTING_PREFIX, .count = 4, .slack = 3, .load = load, .map = &map};
    assert_int_equal(qr_router_choose(&router, prompt, 13), 1);
    assert_int_equal(qr_router_choose(&router, prompt, 8), 0); /* of two holders the less loaded one */
    assert_int_equal(qr_router_choose(&router, prompt + 1, 12), 2);
    load[1] = 6; /* more than 3 above the least */
    assert_int_equal(qr_router_choose(&router, prompt, 13), 2);
    router.routing    = QR_ROUTING_LEAST_LOADED;
    load[1]           = 2;
    unsigned times[4] = {0};
    for (int i = 0; i < 8; i++) times[qr_router_choose(&router, prompt, 13)]++;
    assert_int_equal(times[0] + times[3], 0);
    assert_true(times[1] >= 2 && times[2] >= 2); /* equals take turns */
    router.routing = QR_ROUTING_RANDOM;
    for (int i = 0; i < 400; i++) times[qr_router_choose(&router, prompt, 13)]++;
    for (int i = 0; i < 4; i++) assert_in_range(times[i], 60, 150);
    qr_prefix_map_deinit(&map);
}

/* ---- runs ---- */

/* A step takes 10 ms and 1 ms for each row more than one. */
static void write_log(char *path_out)
{
    static char text[LOG_STEPS * 400];
    int         length = 0;
    for (unsigned i = 0; i < LOG_STEPS; i++)
        length +=
            snprintf(text + length, sizeof text - (size_t)length,
                     "{\"run\": 0, \"t_ns\": %u, \"rows\": %u, \"rows_logits\": 1, \"sequences\": 1, \"running\": 0, "
                     "\"waiting\": 0, \"rows_encoder\": 0, \"kv_tokens\": 10, \"kv_pairs\": 10, \"cross_tokens\": 0, "
                     "\"cross_pairs\": 0, \"encoder_pairs\": 0, \"plan_us\": 0, \"sample_us\": 0, \"commit_us\": 0, "
                     "\"forward_us\": %u}\n",
                     i * 1000000000, 1 + i * 10, 10000 + i * 10000);
    scratch_file_write(text, path_out);
}

/* Conversations of ten rounds each: round i has the prompt of round i - 1 and 64 tokens more. */
static void write_trace(char *path_out)
{
    enum { CONVERSATIONS = 6, ROUNDS = 10 };
    static char text[CONVERSATIONS * ROUNDS * 200];
    int         length = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int c = 0; c < CONVERSATIONS; c++) {
            length += snprintf(text + length, sizeof text - (size_t)length,
                               "{\"timestamp\": %d, \"input_length\": %d, \"output_length\": 4, \"hash_ids\": [",
                               round * 4000 + c * 600, (round + 1) * 64);
            for (int i = 0; i <= round; i++)
                length += snprintf(text + length, sizeof text - (size_t)length, "%s%d", i ? ", " : "", c * 100 + i);
            length += snprintf(text + length, sizeof text - (size_t)length, "]}\n");
        }
    scratch_file_write(text, path_out);
}

static void set(quire_config *config, const char *assignment)
{
    quire_error error = {0};
    if (quire_config_set(config, assignment, "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
}

static quire_config *configuration(const char *log, const char *trace)
{
    quire_config *config;
    quire_error   error = {0};
    char          text[96];
    assert_int_equal(qr_bench_config_create(&config, &error), QUIRE_OK);
    snprintf(text, sizeof text, "run.cost_model=%s", log);
    set(config, text);
    snprintf(text, sizeof text, "workload.trace.path=%s", trace);
    set(config, text);
    set(config, "workload.source=trace");
    set(config, "load.profile=replay");
    set(config, "workload.trace.hash_block_size=64");
    set(config, "kv_cache.num_kv_blocks=256");
    set(config, "run.clock=virtual");
    if (quire_config_check(config, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return config;
}

static qr_replicas_result play(const quire_config *config, uint32_t count, qr_routing routing, uint32_t slack)
{
    const qr_replicas_options options = {config, &simulated_model, count, routing, slack};
    qr_replicas_result        result;
    quire_error               error = {0};
    if (qr_replicas_run(&options, &result, &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(result.requests, 60 * count);
    assert_int_equal(result.refused, 0);
    assert_int_equal(result.output_tokens, 240 * count); /* all have ended, whole */
    assert_int_equal(result.ttft.n, result.requests);
    return result;
}

static double hits(const qr_replicas_result *r) { return (double)r->cached_tokens / (double)r->prompt_tokens; }

static void runs(void **state)
{
    (void)state;
    char log[64], trace[64];
    write_log(log);
    write_trace(trace);
    quire_config            *config = configuration(log, trace);
    const qr_replicas_result one    = play(config, 1, QR_ROUTING_RANDOM, 0);
    const qr_replicas_result random = play(config, 6, QR_ROUTING_RANDOM, 0),
                             again  = play(config, 6, QR_ROUTING_RANDOM, 0);
    const qr_replicas_result least  = play(config, 6, QR_ROUTING_LEAST_LOADED, 0);
    const qr_replicas_result prefix = play(config, 6, QR_ROUTING_PREFIX, 4);
    const qr_replicas_result strict = play(config, 6, QR_ROUTING_PREFIX, 4096);
    assert_true(hits(&one) > 0.7); /* each round but the first finds the one before it */
    assert_true(hits(&prefix) > 0.9 * hits(&one));
    assert_true(hits(&random) < 0.7 * hits(&one));
    assert_true(hits(&least) < 0.8 * hits(&one));
    assert_true(hits(&strict) >= hits(&prefix));
    assert_true(prefix.ttft.mean < 0.8 * random.ttft.mean);
    assert_true(least.ttft.mean < random.ttft.mean);
    assert_true(random.hash != least.hash && least.hash != prefix.hash);
    assert_int_equal(random.hash, again.hash); /* the same run again */
    assert_true(random.ttft.mean == again.ttft.mean && random.length_s == again.length_s);
    set(config, "workload.seed=43");
    assert_true(play(config, 6, QR_ROUTING_RANDOM, 0).hash != random.hash);
    quire_config_destroy(config);
    unlink(log);
    unlink(trace);
}

static void a_workload_without_times_is_refused(void **state)
{
    (void)state;
    char log[64], trace[64];
    write_log(log);
    write_trace(trace);
    quire_config      *config = configuration(log, trace);
    quire_error        error  = {0};
    qr_replicas_result result;
    set(config, "load.profile=concurrent");
    const qr_replicas_options options = {config, &simulated_model, 2, QR_ROUTING_PREFIX, 4};
    assert_int_equal(qr_replicas_run(&options, &result, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "arrivals of its own"));
    quire_config_destroy(config);
    unlink(log);
    unlink(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_prefix_is_found),         cmocka_unit_test(what_is_removed_is_not_found),
        cmocka_unit_test(each_policy_chooses_by_its_rule),     cmocka_unit_test(runs),
        cmocka_unit_test(a_workload_without_times_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
