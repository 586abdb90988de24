/* Building and tearing down: machine, team, network, memory, scheduler, buffers, in this order, since each next one is
 * sized by what the ones before have found. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/agree.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/printable.h"
#include "base/request.h"
#include "cache/block_pool.h"
#include "engine/engine.h"
#include "engine/pool_size.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "topology/affinity.h"
#include "topology/node_memory.h"

enum {
    MAX_BEAM_WIDTH = 64, /* as the scheduler accepts */
};

/* ---- the machine ---- */

qr_bind_options qr_engine_bind_options(quire_engine *engine)
{
    return (qr_bind_options){.huge_pages = engine->options.huge_pages,
                             .strict     = engine->options.numa_strict == QUIRE_TOGGLE_ON,
                             .log        = &engine->log};
}

static quire_status create_team(quire_engine *engine, const qr_topology *topology, quire_error *error)
{
    qr_placement placement;
    char         warning[256] = "";
    QR_TRY(qr_placement_plan(topology, &engine->options, &placement, warning, error));
    if (warning[0]) qr_log_write(&engine->log, QUIRE_LOG_WARN, "%s", warning);
    const qr_team_options options = {.barrier_spin_ns = (uint32_t)engine->options.barrier_spin_ns,
                                     .bind            = qr_engine_bind_options(engine),
                                     .allocator       = engine->options.allocator};
    QR_TRY(qr_team_create(&placement, &options, &engine->team, error));
    engine->thread_count = qr_team_size(engine->team);
    return QUIRE_OK;
}

static void warn_if_bound(quire_engine *engine, const qr_topology *topology)
{
    qr_cpu_set own;
    uint32_t   allowed = 0, shared = 0;
    if (!qr_affinity_get(&own)) return;
    for (uint32_t i = 0; i < topology->cpu_count; i++) {
        allowed += topology->cpus[i].allowed;
        shared += topology->cpus[i].allowed && qr_cpu_set_has(&own, topology->cpus[i].os_index);
    }
    if (shared == 0)
        qr_log_write(
            &engine->log, QUIRE_LOG_WARN,
            "the calling thread was moved to CPUs outside those that the process was started with; the engine's "
            "threads run on the latter, %u in all, not where that thread runs ([topology] cpus chooses among "
            "them)",
            allowed);
    else if (shared < allowed)
        qr_log_write(&engine->log, QUIRE_LOG_WARN,
                     "the calling thread is bound to %u of the %u CPUs that the process was started with; the engine's "
                     "threads may use all %u ([topology] cpus confines them)",
                     shared, allowed, allowed);
}

static quire_status find_machine(quire_engine *engine, quire_model *model, quire_error *error)
{
    (void)model;
    const qr_topology_source source = {0};
    qr_topology              topology;
    QR_TRY(qr_topology_create(&source, &topology, error));
    warn_if_bound(engine, &topology);
    const quire_status status = create_team(engine, &topology, error);
    engine->cache_bytes       = topology.l3_bytes;
    if (status == QUIRE_OK)
        engine->shared = qr_node_allocator(qr_team_placement(engine->team), &engine->options.allocator);
    qr_topology_destroy(&topology);
    return status;
}

static quire_status create_network(quire_engine *engine, quire_model *model, quire_error *error)
{
    qr_network_options options;
    qr_options_network(&engine->options, &engine->facts, &options);
    options.team   = engine->team;
    options.bind   = qr_engine_bind_options(engine);
    options.shared = engine->shared;
    options.comm   = qr_ranks_several(&engine->ranks) ? &engine->ranks.comm : NULL;
    return qr_network_create(model, &options, &engine->network, error);
}

/* ---- the pool of blocks ---- */

static void warn_if_short(quire_engine *engine)
{
    char warning[160];
    if (qr_pool_is_short(&engine->planner.options, warning, sizeof warning))
        qr_log_write(&engine->log, QUIRE_LOG_WARN, "%s", warning);
}

static quire_status ask_pool_size(quire_engine *engine, const quire_engine_options *options, quire_error *error)
{
    return qr_pool_size(options, &engine->facts, qr_memory_limit(NULL), engine->planner.options.node_count,
                        &engine->pool, error);
}

static quire_status ask_blocks(quire_engine *engine, quire_model *model, quire_error *error)
{
    (void)model;
    engine->planner.options.node_count = qr_team_placement(engine->team)->node_count;
    return ask_pool_size(engine, &engine->options, error);
}

/* All ranks number their blocks alike, so the one with the fewest decides. */
static quire_status agree_on_blocks(quire_engine *engine, quire_error *error)
{
    quire_engine_options fewest = engine->options;
    uint64_t             blocks = engine->pool.num_blocks;
    if (!qr_ranks_several(&engine->ranks)) return QUIRE_OK;
    QR_TRY(qr_agree(&engine->ranks.comm, QUIRE_OK, &blocks, error));
    fewest.kv_cache_bytes  = 0;
    fewest.memory_fraction = 0;
    fewest.num_kv_blocks   = (uint32_t)blocks;
    return ask_pool_size(engine, &fewest, error);
}

static quire_status size_pool(quire_engine *engine, quire_model *model, quire_error *error)
{
    (void)model;
    qr_scheduler_options *options = &engine->planner.options;
    QR_TRY(agree_on_blocks(engine, error));
    options->num_blocks       = engine->pool.num_blocks;
    options->num_local_blocks = (uint32_t)engine->pool.num_local_blocks;
    warn_if_short(engine);
    return QUIRE_OK;
}

static void copy_distances(quire_engine *engine, const qr_placement *placement)
{
    const uint32_t count = placement->node_count;
    for (uint32_t i = 0; i < count; i++)
        memcpy(engine->node_distance + i * count, placement->node_distance[i], count * sizeof *engine->node_distance);
}

/* Blocks follow the threads that read them, as far as the nodes' memory goes. Ranks plan alike, so that several of them
 * look at nothing in which their machines may differ: nodes hold equally many, and are equally far. */
static void share_blocks(quire_engine *engine)
{
    const qr_placement   *placement = qr_team_placement(engine->team);
    qr_scheduler_options *options   = &engine->planner.options;
    uint64_t              free_bytes[QR_MAX_NODES];
    for (uint32_t n = 0; n < placement->node_count; n++) engine->node_share[n] = 1;
    if (qr_ranks_several(&engine->ranks)) return;
    for (uint32_t n = 0; n < placement->node_count; n++)
        free_bytes[n] = qr_node_free_memory(NULL, placement->node_os[n]);
    qr_pool_share(qr_pool_bytes(&engine->pool, options->num_blocks, options->num_local_blocks), placement->node_count,
                  placement->node_threads, free_bytes, engine->node_share);
    copy_distances(engine, placement);
    options->node_share    = engine->node_share;
    options->node_threads  = placement->node_threads;
    options->node_distance = engine->node_distance;
}

static quire_status create_memory(quire_engine *engine, uint32_t layers, uint32_t num_blocks, qr_kv_memory *memory_out,
                                  quire_error *error)
{
    const qr_placement *placement = qr_team_placement(engine->team);
    const qr_kv_shape   shape     = qr_network_kv_shape(engine->network);
    uint32_t            first_block[QR_MAX_NODES + 1];
    qr_block_pool_split(num_blocks, placement->node_count, engine->node_share, first_block);
    const qr_kv_memory_options options = {.layers        = layers,
                                          .num_blocks    = num_blocks,
                                          .block_bytes   = qr_kv_block_bytes(&shape),
                                          .first_block   = first_block,
                                          .node_os       = placement->node_os,
                                          .node_count    = placement->node_count,
                                          .machine_nodes = placement->machine_nodes,
                                          .bind          = qr_engine_bind_options(engine)};
    return qr_kv_memory_create(&options, memory_out, error);
}

static quire_status create_cache(quire_engine *engine, quire_error *error)
{
    const uint32_t        local   = engine->facts.local_layers;
    qr_scheduler_options *options = &engine->planner.options;
    share_blocks(engine);
    QR_TRY(create_memory(engine, engine->facts.decoder_layers - local, options->num_blocks, &engine->kv, error));
    if (local > 0) QR_TRY(create_memory(engine, local, options->num_local_blocks, &engine->local_kv, error));
    return qr_network_attach_kv(engine->network, &engine->kv, local > 0 ? &engine->local_kv : NULL, error);
}

/* ---- scheduler and buffers ---- */

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) seed = qr_now_ns();
    return seed;
}

static quire_status create_scheduler(quire_engine *engine, quire_error *error)
{
    qr_scheduler_options options = engine->planner.options;
    options.hash_seed            = random_seed(); /* picks buckets only: no decision depends on it */
    options.allocator            = engine->shared;
    return qr_planner_init(&engine->planner, &options, error);
}

static void layout_sampling(qr_sampling *sampling, qr_arena *arena, uint32_t samples, uint32_t top)
{
    sampling->samples          = samples;
    sampling->top              = top;
    sampling->results          = QR_ARENA_TAKE(arena, quire_sampled, samples);
    sampling->top_counts       = QR_ARENA_TAKE(arena, uint32_t, samples);
    sampling->candidate_counts = QR_ARENA_TAKE(arena, uint32_t, samples);
    sampling->top_tokens       = QR_ARENA_TAKE(arena, int32_t, (size_t)samples * top);
    sampling->top_logprobs     = QR_ARENA_TAKE(arena, float, (size_t)samples *top);
}

static void layout_ranks(quire_engine *engine, qr_arena *arena, uint32_t top)
{
    const quire_engine_options *options = &engine->options;
    const uint32_t              encoder = engine->facts.encoder_decoder ? options->max_num_encoder_input_tokens : 0;
    const qr_ranks_limits       limits  = {.records = 2 * (options->max_num_queued_reqs + options->max_num_seqs),
                                           .prompt  = options->max_model_len,
                                           .encoder = encoder,
                                           .features = QR_FRAMES_PER_POSITION * encoder * engine->facts.encoder_feature_size,
                                           .samples = qr_options_logits_rows(options),
                                           .top     = top};
    if (qr_ranks_several(&engine->ranks)) qr_ranks_layout(&engine->ranks, arena, &limits);
}

static void layout(quire_engine *engine, qr_arena *arena)
{
    const quire_engine_options *options = &engine->options;
    const uint32_t              beams   = qr_min_u32(options->max_num_seqs, MAX_BEAM_WIDTH);
    const qr_outbox_limits      outbox  = {.max_sequences       = options->max_num_seqs,
                                           .tokens_per_step     = 1 + options->num_speculative_tokens,
                                           .given_per_step      = QR_MAX_GIVEN_ROWS,
                                           .logits_slots        = options->max_logits_in_flight,
                                           .vocab_size          = engine->facts.vocab_size,
                                           .consumer_timeout_ns = options->consumer_timeout_ns};
    /* twice what the scheduler can hold: as many may have ended without being read yet */
    qr_ledger_layout(&engine->ledger, arena, 2 * (options->max_num_queued_reqs + options->max_num_seqs));
    qr_outbox_layout(&engine->outbox, arena, &outbox, &engine->ledger);
    layout_ranks(engine, arena, qr_max_u32(QUIRE_MAX_LOGPROBS, 2 * beams));
    layout_sampling(&engine->sampling, arena, qr_options_logits_rows(options),
                    qr_max_u32(QUIRE_MAX_LOGPROBS, 2 * beams));
    engine->samplers   = QR_ARENA_TAKE(arena, qr_sampler *, engine->thread_count);
    engine->mask_words = options->mask.fill ? qr_ceil_div_u32(engine->facts.vocab_size, 32) : 0;
    engine->masks      = QR_ARENA_TAKE(arena, uint32_t, (size_t)engine->thread_count * engine->mask_words);
}

static quire_status create_buffers(quire_engine *engine, quire_error *error)
{
    layout(engine, &engine->arena);
    QR_TRY(qr_arena_create(&engine->arena, &engine->shared, "engine queues", error));
    layout(engine, &engine->arena);
    QR_TRY(qr_ledger_init(&engine->ledger, error));
    engine->inbox = (qr_inbox){.ledger       = &engine->ledger,
                               .scheduler    = engine->planner.scheduler,
                               .limits       = &engine->planner.options,
                               .logits_slots = engine->options.max_logits_in_flight};
    return qr_outbox_init(&engine->outbox, error);
}

static quire_status create_samplers(quire_engine *engine, quire_error *error)
{
    QR_TRY(qr_kernels_check_cap(engine->options.isa, error));
    engine->kernels    = qr_kernels_select(engine->options.isa);
    const char *remark = qr_kernels_remark(engine->kernels);
    if (qr_cpu_refusal() != NULL) qr_log_write(&engine->log, QUIRE_LOG_WARN, "kernels: %s", qr_cpu_refusal());
    if (remark != NULL) qr_log_write(&engine->log, QUIRE_LOG_INFO, "kernels: %s", remark);
    for (uint32_t i = 0; i < engine->thread_count; i++)
        QR_TRY(qr_sampler_create(engine->kernels, engine->facts.vocab_size, engine->sampling.top, &engine->shared,
                                 &engine->samplers[i], error));
    return QUIRE_OK;
}

/* ---- facts for reports ---- */

static void state_facts(quire_engine *engine)
{
    quire_stats         *stats = &engine->stats;
    const quire_kv_pool *pool  = &engine->pool;
    const uint32_t       size  = pool->block_size;
    stats->size                = sizeof *stats;
    stats->threads             = engine->thread_count;
    stats->nodes               = qr_team_placement(engine->team)->node_count;
    stats->weight_bytes        = qr_network_weight_bytes(engine->network);
    stats->scratch_bytes       = qr_network_scratch_bytes(engine->network);
    stats->kv_cache_bytes      = qr_pool_bytes(pool, pool->num_blocks, pool->num_local_blocks);
    stats->kv_bytes_per_token  = qr_pool_bytes(pool, 1, 1) / size;
    stats->batch_invariant     = qr_network_batch_invariant(engine->network);
    strncpy(stats->isa, qr_network_isa(engine->network), sizeof stats->isa - 1);
    strncpy(stats->implementation, qr_network_implementation(engine->network), sizeof stats->implementation - 1);
    qr_engine_take_stats(engine);
    if (qr_ranks_several(&engine->ranks))
        qr_log_write(&engine->log, QUIRE_LOG_INFO, "engine: %u ranks, this is rank %u on %s, with %u of %u key heads%s",
                     stats->ranks, stats->rank, engine->ranks.comm.host, engine->facts.kv_heads, engine->model_kv_heads,
                     stats->ranks > engine->model_kv_heads ? ", which some ranks hold twice" : "");
    qr_log_write(
        &engine->log, QUIRE_LOG_INFO,
        "engine: %u thread%s on %u node%s, %s, %s, weights %llu MiB, KV cache %u blocks of %u tokens, %llu MiB",
        stats->threads, qr_plural(stats->threads), stats->nodes, qr_plural(stats->nodes), stats->isa,
        stats->implementation, (unsigned long long)stats->weight_bytes >> 20, engine->planner.options.num_blocks, size,
        (unsigned long long)stats->kv_cache_bytes >> 20);
}

/* ---- create, destroy ---- */

/* Of several ranks' keys. */
static quire_status take_share(quire_engine *engine, quire_model *model, quire_error *error)
{
    const quire_comm *comm = &engine->ranks.comm;
    qr_options_scheduler(&engine->options, &engine->facts, &engine->planner.options);
    engine->model_kv_heads = engine->facts.kv_heads;
    if (!qr_ranks_several(&engine->ranks)) return QUIRE_OK;
    return qr_model_kv_heads_of_rank(model, comm->rank, comm->ranks, &engine->facts.kv_heads, error);
}

static quire_status compare_ranks(quire_engine *engine, quire_model *model, quire_error *error)
{
    char facts[QR_RANK_FACTS] = "";
    if (!qr_ranks_several(&engine->ranks)) return QUIRE_OK;
    const qr_placement *placement = qr_team_placement(engine->team);
    const quire_status  status    = qr_rank_facts(engine, model, facts, error);
    QR_TRY(qr_agree(&engine->ranks.comm, status, NULL, error));
    return qr_ranks_compare(&engine->ranks, facts, placement, error);
}

static quire_status create_rest(quire_engine *engine, quire_model *model, quire_error *error)
{
    (void)model;
    QR_TRY(create_cache(engine, error));
    QR_TRY(create_scheduler(engine, error));
    QR_TRY(create_buffers(engine, error));
    QR_TRY(create_samplers(engine, error));
    qr_engine_settle_memory(engine);
    return QUIRE_OK;
}

typedef quire_status phase(quire_engine *engine, quire_model *model, quire_error *error);

/* Each is followed by a comparison of how the ranks fared, so that none waits for one that has failed. */
static quire_status run_phases(quire_engine *engine, quire_model *model, phase *const *phases, quire_error *error)
{
    for (; *phases != NULL; phases++)
        QR_TRY(qr_agree(&engine->ranks.comm, (*phases)(engine, model, error), NULL, error));
    return QUIRE_OK;
}

static quire_status build(quire_engine *engine, quire_model *model, quire_error *error)
{
    static phase *const before[] = {take_share, find_machine, NULL};
    static phase *const behind[] = {create_network, ask_blocks, size_pool, create_rest, NULL};
    QR_TRY(run_phases(engine, model, before, error));
    QR_TRY(compare_ranks(engine, model, error));
    QR_TRY(run_phases(engine, model, behind, error));
    engine->ranks.joined = qr_ranks_several(&engine->ranks);
    state_facts(engine);
    engine->idle = true;
    /* The caller's arrays and strings need not outlive this call. */
    engine->options.cpus = engine->options.isa = NULL;
    engine->options.tenants                    = NULL;
    return QUIRE_OK;
}

static void start_life(quire_engine *engine)
{
    qr_log_init(&engine->log, &engine->options.logger);
    pthread_mutex_init(&engine->scheduler_mutex, NULL);
    pthread_mutex_init(&engine->stats_mutex, NULL);
}

quire_status quire_engine_create(const quire_engine_options *options, quire_model *model, quire_engine **engine_out,
                                 quire_error *error)
{
    if (engine_out == NULL) return qr_fail(error, QUIRE_ERR_INVALID, "quire_engine_create: engine_out is NULL");
    *engine_out = NULL;
    if (options == NULL || model == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "quire_engine_create: %s is NULL", options ? "model" : "options");
    quire_engine_options resolved;
    qr_model_facts       facts;
    qr_ranks             ranks = {0};
    QR_TRY(qr_options_copy("quire_engine_options", options, sizeof options->size, &resolved, sizeof resolved, error));
    QR_TRY(qr_ranks_take(&ranks, resolved.comm, error));
    qr_model_facts_of(model, &facts);
    QR_TRY(qr_agree(&ranks.comm, qr_options_resolve(&resolved, &facts, error), NULL, error));

    quire_engine *engine = qr_allocate(&resolved.allocator, sizeof *engine, _Alignof(quire_engine));
    if (engine == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "engine: %zu bytes", sizeof *engine);
    engine->options = resolved;
    engine->facts   = facts;
    engine->ranks   = ranks;
    start_life(engine);
    const quire_status status = build(engine, model, error);
    if (status == QUIRE_OK)
        *engine_out = engine;
    else
        quire_engine_destroy(engine);
    return status;
}

void quire_engine_destroy(quire_engine *engine)
{
    if (engine == NULL || (engine->team != NULL && qr_team_is_forked(engine->team))) return;
    const quire_allocator allocator = engine->options.allocator;
    if (engine->ranks.joined && !engine->ranks.lost && !qr_ranks_follows(&engine->ranks))
        (void)qr_ranks_send_order(&engine->ranks, &(qr_order){.end = true});
    for (uint32_t i = 0; engine->samplers != NULL && i < engine->thread_count; i++)
        qr_sampler_destroy(engine->samplers[i]);
    qr_outbox_deinit(&engine->outbox);
    qr_ledger_deinit(&engine->ledger);
    qr_arena_destroy(&engine->arena);
    qr_planner_deinit(&engine->planner);
    qr_network_destroy(engine->network);
    qr_kv_memory_destroy(&engine->kv);
    qr_kv_memory_destroy(&engine->local_kv);
    qr_team_destroy(engine->team);
    pthread_mutex_destroy(&engine->stats_mutex);
    pthread_mutex_destroy(&engine->scheduler_mutex);
    qr_log_deinit(&engine->log);
    qr_deallocate(&allocator, engine, sizeof *engine);
}
