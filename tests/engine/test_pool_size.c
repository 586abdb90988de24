/* The number of KV blocks: what memory allows, and that engine, plan and virtual clock give one answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bench/keys.h"
#include "bench/run/target_virtual.h"
#include "engine/options.h"
#include "engine/pool_size.h"

#include "quire/quire.h"

static const uint64_t GiB = 1u << 30;

/* Keys and values of 8 layers, 8 heads of 128, 32 tokens, 2 bytes: a block is 1 MiB. */
static const qr_model_facts facts = {.vocab_size              = 100,
                                     .decoder_layers          = 8,
                                     .heads                   = 8,
                                     .kv_heads                = 8,
                                     .head_dim                = 128,
                                     .max_position_embeddings = 4096};
enum { COST = (1 << 20) + 96 + 128 }; /* of a block with its bookkeeping */

static quire_status size_pool(quire_engine_options options, uint64_t available, uint32_t nodes, uint32_t *blocks_out,
                              quire_error *error)
{
    quire_kv_pool pool = {.size = sizeof pool};
    options.size       = sizeof options;
    assert_int_equal(qr_options_resolve(&options, &facts, error), QUIRE_OK);
    const quire_status status = qr_pool_size(&options, &facts, available, nodes, &pool, error);
    *blocks_out               = pool.num_blocks;
    return status;
}

static uint32_t blocks_of(quire_engine_options options, uint64_t available, uint32_t nodes)
{
    uint32_t    blocks = 0;
    quire_error error;
    if (size_pool(options, available, nodes, &blocks, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return blocks;
}

static void automatic_size_leaves_a_twentieth_and_takes_the_fraction(void **state)
{
    (void)state;
    const quire_engine_options none = {0};
    assert_int_equal(blocks_of(none, 8 * GiB, 1), (8 * GiB - 8 * GiB / 20) / 2 / COST / 8 * 8);
    assert_int_equal(blocks_of(none, GiB, 1), 3 * GiB / 4 / 2 / COST / 8 * 8); /* here the spare is 256 MiB */
}

static void automatic_size_stops_at_four_times_what_the_longest_sequences_need(void **state)
{
    (void)state;
    const quire_engine_options few = {.max_num_seqs = 2, .max_model_len = 1024};
    assert_int_equal(blocks_of(few, 8 * GiB, 1), 4 * 2 * 1024 / 32);
}

static void automatic_size_leaves_at_most_half_of_a_small_limit(void **state)
{
    (void)state;
    assert_int_equal(blocks_of((quire_engine_options){0}, 100 << 20, 1), 24); /* a quarter, whole extents */
}

static void an_explicit_size_above_the_limit_is_refused_with_both_numbers(void **state)
{
    (void)state;
    uint32_t    blocks = 0;
    quire_error error;
    assert_int_equal(size_pool((quire_engine_options){.kv_cache_bytes = 8 * GiB + 1}, 8 * GiB, 1, &blocks, &error),
                     QUIRE_ERR_INVALID);
    assert_string_equal(error.message,
                        "[kv_cache] size: 8589934593 bytes are above the 8589934592 this process can take");
    assert_int_equal(blocks_of((quire_engine_options){.kv_cache_bytes = 8 * GiB}, 8 * GiB, 1), 8 * GiB / COST / 8 * 8);
    assert_int_equal(size_pool((quire_engine_options){.num_kv_blocks = 8192}, 8 * GiB, 1, &blocks, &error),
                     QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "8192 blocks"));
    assert_non_null(strstr(error.message, "8589934592"));
}

static void an_explicit_number_of_blocks_is_taken_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(
        blocks_of((quire_engine_options){.num_kv_blocks = 11, .max_num_seqs = 1, .max_model_len = 32}, 8 * GiB, 1), 11);
}

static void less_than_one_block_is_an_error(void **state)
{
    (void)state;
    uint32_t    blocks = 0;
    quire_error error;
    assert_int_equal(size_pool((quire_engine_options){.kv_cache_bytes = 1 << 20}, 8 * GiB, 1, &blocks, &error),
                     QUIRE_ERR_INVALID); /* the block, but not its bookkeeping */
    assert_string_equal(error.message, "[kv_cache] size: 1048576 bytes do not hold one block of 1048800");
    assert_int_equal(size_pool((quire_engine_options){0}, 1 << 20, 1, &blocks, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "memory_fraction"));
}

static void every_node_gets_whole_extents(void **state)
{
    (void)state;
    assert_int_equal(blocks_of((quire_engine_options){.kv_cache_bytes = (uint64_t)101 * COST}, 8 * GiB, 4), 96);
}

/* ---- local layers ---- */

/* Two layers of eight see everything: a block is 256 KiB, a local one 768 KiB. */
static quire_kv_pool pool_with_local_layers(quire_engine_options options)
{
    qr_model_facts local = facts;
    quire_kv_pool  pool  = {.size = sizeof pool};
    quire_error    error;
    local.local_layers = 6, local.local_window = 512;
    options.size = sizeof options;
    assert_int_equal(qr_options_resolve(&options, &local, &error), QUIRE_OK);
    if (qr_pool_size(&options, &local, 8 * GiB, 1, &pool, &error) != QUIRE_OK) fail_msg("%s", error.message);
    assert_int_equal(pool.block_bytes, 256 << 10);
    assert_int_equal(pool.local_block_bytes, 768 << 10);
    return pool;
}

static uint64_t cost_of(const quire_kv_pool *pool)
{
    return pool->num_blocks * (pool->block_bytes + 96 + 128) + pool->num_local_blocks * (pool->local_block_bytes + 96);
}

static void local_blocks_are_as_many_windows_as_there_are_longest_sequences(void **state)
{
    (void)state;
    const quire_engine_options options = {.kv_cache_bytes = GiB, .max_num_seqs = 4, .max_num_batched_tokens = 64};
    const quire_kv_pool        pool    = pool_with_local_layers(options);
    /* 128 blocks of the longest sequence, of which a window shows 17 at most */
    assert_int_equal(pool.num_local_blocks, (pool.num_blocks * 17 + 127) / 128);
    assert_true(cost_of(&pool) <= GiB);
    quire_kv_pool more = pool;
    more.num_blocks += 8, more.num_local_blocks = (more.num_blocks * 17 + 127) / 128;
    assert_true(cost_of(&more) > GiB);
}

static void local_blocks_are_at_least_those_that_all_sequences_use(void **state)
{
    (void)state;
    const quire_engine_options options = {.num_kv_blocks = 1000, .max_num_seqs = 16, .max_num_batched_tokens = 320};
    /* of each 16 + 2 blocks and 2 to spare, 10 of the rows, 5 % that admission leaves free */
    assert_int_equal(pool_with_local_layers(options).num_local_blocks, 16 * 20 + 10 + 50);
    const quire_engine_options few = {.num_kv_blocks = 200, .max_num_seqs = 16};
    assert_int_equal(pool_with_local_layers(few).num_local_blocks, 200);
}

/* ---- engine, plan and virtual clock ---- */

enum { MAX_OVERRIDES = 4 };
typedef struct shape { /* of a small synthetic model */
    const char          *preset;
    quire_shape_override overrides[MAX_OVERRIDES];
    uint32_t             count;
} shape;

static quire_model *open_model(const shape *wanted)
{
    const quire_model_options options = {.size        = sizeof options,
                                         .shape       = wanted->overrides,
                                         .shape_count = wanted->count,
                                         .logger      = {.level = QUIRE_LOG_ERROR}};
    quire_model              *model;
    quire_error               error;
    if (quire_model_synthetic(wanted->preset, &options, &model, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return model;
}

static quire_config *configuration(const quire_engine_options *options)
{
    char          settings[6][96];
    quire_config *config;
    quire_error   error;
    snprintf(settings[0], sizeof settings[0], "kv_cache.size=%lluB", (unsigned long long)options->kv_cache_bytes);
    snprintf(settings[1], sizeof settings[1], "kv_cache.block_size=%u", options->block_size);
    snprintf(settings[2], sizeof settings[2], "kv_cache.dtype=%s", quire_dtype_name(options->kv_dtype));
    snprintf(settings[3], sizeof settings[3], "scheduler.max_num_seqs=%u", options->max_num_seqs);
    snprintf(settings[4], sizeof settings[4], "scheduler.max_num_batched_tokens=%u", options->max_num_batched_tokens);
    snprintf(settings[5], sizeof settings[5], "run.cost_model=%s/bench/scenarios/tinyllama-2cores.steps.jsonl",
             QUIRE_SOURCE_DIR);
    assert_int_equal(qr_bench_config_create(&config, &error), QUIRE_OK);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (quire_config_set(config, settings[i], "test", &error) != QUIRE_OK) fail_msg("%s", error.message);
    return config;
}

static quire_stats stats_of_engine(const quire_engine_options *options, quire_model *model)
{
    quire_stats   stats = {.size = sizeof stats};
    quire_engine *engine;
    quire_error   error;
    if (quire_engine_create(options, model, &engine, &error) != QUIRE_OK) fail_msg("%s", error.message);
    quire_engine_stats(engine, &stats);
    quire_engine_destroy(engine);
    return stats;
}

static quire_stats stats_of_virtual(const quire_engine_options *options, const quire_model_info *info)
{
    quire_stats   stats  = {.size = sizeof stats};
    quire_config *config = configuration(options);
    qr_target     target;
    quire_error   error;
    if (qr_target_virtual_create(config, info, &target, &error) != QUIRE_OK) fail_msg("%s", error.message);
    target.stats(target.self, &stats);
    target.destroy(target.self);
    quire_config_destroy(config);
    return stats;
}

static void assert_one_answer(const quire_engine_options *options, quire_model *model)
{
    quire_model_info info = {.size = sizeof info};
    quire_kv_pool    pool = {.size = sizeof pool};
    quire_error      error;
    quire_model_describe(model, &info);
    const quire_stats engine = stats_of_engine(options, model), simulated = stats_of_virtual(options, &info);
    if (quire_kv_pool_plan(options, &info, UINT64_MAX, engine.nodes, &pool, &error) != QUIRE_OK)
        fail_msg("%s", error.message);
    assert_int_equal(engine.blocks, pool.num_blocks);
    assert_int_equal(engine.block_size, pool.block_size);
    assert_int_equal(engine.local_blocks, pool.num_local_blocks);
    assert_int_equal(engine.kv_cache_bytes,
                     pool.block_bytes * pool.num_blocks + pool.local_block_bytes * pool.num_local_blocks);
    if (engine.nodes > 1) return; /* the simulated engine has one */
    assert_int_equal(engine.blocks, simulated.blocks);
    assert_int_equal(engine.local_blocks, simulated.local_blocks);
    assert_int_equal(engine.kv_cache_bytes, simulated.kv_cache_bytes);
    assert_int_equal(engine.kv_bytes_per_token, simulated.kv_bytes_per_token);
}

/* The longest encoder input bounds what automatic sizing takes, and what the virtual clock lets in. */
static void inputs_of_features_count_alike_everywhere(void **state)
{
    (void)state;
    static const shape whisper = {"whisper-base", {{"d_model", 64}, {"encoder_layers", 1}, {"decoder_layers", 1}}, 3};
    const quire_engine_options options  = {.size = sizeof options, .max_num_seqs = 4, .block_size = 32};
    quire_model               *model    = open_model(&whisper);
    quire_model_info           info     = {.size = sizeof info};
    quire_engine_options       resolved = options;
    quire_kv_pool              planned = {.size = sizeof planned}, sized = {.size = sizeof sized};
    qr_model_facts             own;
    quire_error                error;
    quire_model_describe(model, &info);
    qr_model_facts_of(model, &own);
    assert_int_equal(qr_options_resolve(&resolved, &own, &error), QUIRE_OK);
    assert_int_equal(qr_pool_size(&resolved, &own, 22ull << 30, 1, &sized, &error), QUIRE_OK);
    assert_int_equal(quire_kv_pool_plan(&options, &info, 22ull << 30, 1, &planned, &error), QUIRE_OK);
    assert_int_equal(planned.num_blocks, sized.num_blocks);

    float                    *frames        = test_malloc(3000 * info.encoder_feature_size * sizeof *frames);
    const quire_planner_model planner_model = {.size                  = sizeof planner_model,
                                               .vocab_size            = info.vocab_size,
                                               .encoder_decoder       = true,
                                               .encoder_feature_size  = info.encoder_feature_size,
                                               .max_encoder_positions = info.max_encoder_positions,
                                               .num_blocks            = 512};
    const quire_request       request = {.size = sizeof request, .encoder_features = frames, .encoder_frames = 3000};
    quire_planner            *planner;
    quire_request_id          id;
    memset(frames, 0, 3000 * info.encoder_feature_size * sizeof *frames);
    if (quire_planner_create(&options, &planner_model, &planner, &error) != QUIRE_OK) fail_msg("%s", error.message);
    if (quire_planner_submit(planner, &request, 1, &id, &error) != QUIRE_OK) fail_msg("%s", error.message);
    quire_planner_destroy(planner);
    test_free(frames);
    quire_model_destroy(model);
}

static void engine_plan_and_virtual_clock_agree_on_the_number_of_blocks(void **state)
{
    (void)state;
    static const shape models[] = {
        {"tiny", {{0}}, 0},
        {"tiny", {{"head_dim", 24}}, 1}, /* 32 in memory */
        {"gemma-3-1b", {{"num_hidden_layers", 6}, {"hidden_size", 64}, {"vocab_size", 100}, {"sliding_window", 40}}, 4},
        {"t5-small", {{"num_layers", 1}, {"num_decoder_layers", 2}, {"vocab_size", 100}, {"d_kv", 24}}, 4},
    };
    static const quire_dtype dtypes[] = {QUIRE_DTYPE_F32, QUIRE_DTYPE_BF16, QUIRE_DTYPE_INT8};
    static const uint64_t    bytes[]  = {600001, 4 << 20};
    static const uint32_t    tokens[] = {32, 128};
    quire_engine_options     options  = {.size                   = sizeof options,
                                         .threads                = 1,
                                         .max_num_seqs           = 4,
                                         .max_num_batched_tokens = 32,
                                         .prefetch               = QUIRE_TOGGLE_OFF, /* else measured */
                                         .batch_invariant        = QUIRE_TOGGLE_OFF, /* else verified */
                                         .logger                 = {.level = QUIRE_LOG_ERROR}};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        quire_model *model = open_model(&models[m]);
        for (size_t i = 0; i < 3 * 2; i++) {
            options.kv_dtype       = dtypes[i % 3];
            options.kv_cache_bytes = bytes[i / 3];
            options.block_size     = tokens[i / 3];
            assert_one_answer(&options, model);
        }
        quire_model_destroy(model);
    }
}

static void assert_shares(uint64_t pool, const uint32_t *threads, const uint64_t *free_bytes, const double *want)
{
    uint32_t share[3];
    double   all = 0;
    qr_pool_share(pool, 3, threads, free_bytes, share);
    for (int n = 0; n < 3; n++) all += share[n];
    for (int n = 0; n < 3; n++) assert_true(share[n] / all > want[n] - 0.001 && share[n] / all < want[n] + 0.001);
}

static void nodes_hold_blocks_by_their_threads_as_far_as_their_memory_goes(void **state)
{
    (void)state;
    const uint32_t threads[3] = {4, 2, 2};
    assert_shares(GiB, threads, (uint64_t[]){8 * GiB, 8 * GiB, 8 * GiB}, (double[]){0.5, 0.25, 0.25});
    assert_shares(GiB, threads, (uint64_t[]){UINT64_MAX, UINT64_MAX, UINT64_MAX}, (double[]){0.5, 0.25, 0.25});
    /* the first is full with 0.3, and the others have a half each of the rest */
    assert_shares(GiB, threads, (uint64_t[]){GiB / 3, 8 * GiB, 8 * GiB}, (double[]){0.3, 0.35, 0.35});
    /* then the second is full as well */
    assert_shares(GiB, threads, (uint64_t[]){GiB / 3, GiB / 3, 8 * GiB}, (double[]){0.3, 0.3, 0.4});
    assert_shares(GiB, threads, (uint64_t[]){GiB / 100, GiB / 100, GiB / 50}, (double[]){0.25, 0.25, 0.5});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(automatic_size_leaves_a_twentieth_and_takes_the_fraction),
        cmocka_unit_test(automatic_size_stops_at_four_times_what_the_longest_sequences_need),
        cmocka_unit_test(automatic_size_leaves_at_most_half_of_a_small_limit),
        cmocka_unit_test(an_explicit_size_above_the_limit_is_refused_with_both_numbers),
        cmocka_unit_test(an_explicit_number_of_blocks_is_taken_as_it_is),
        cmocka_unit_test(less_than_one_block_is_an_error),
        cmocka_unit_test(every_node_gets_whole_extents),
        cmocka_unit_test(local_blocks_are_as_many_windows_as_there_are_longest_sequences),
        cmocka_unit_test(local_blocks_are_at_least_those_that_all_sequences_use),
        cmocka_unit_test(inputs_of_features_count_alike_everywhere),
        cmocka_unit_test(nodes_hold_blocks_by_their_threads_as_far_as_their_memory_goes),
        cmocka_unit_test(engine_plan_and_virtual_clock_agree_on_the_number_of_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
