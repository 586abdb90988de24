/* Measures at start-up, with all threads at once, whether attention should fetch keys ahead where they lie in one run,
 * and what its work costs. Hardware prefetchers win where memory is fast against the arithmetic, software where not,
 * and on a shared machine that is not known before. Any memory beyond the caches stands in for keys: the query is zero
 * and the results are thrown away. */
#include "model/attention_probe.h"

#include <math.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

enum {
    FAR_BYTES  = 96 << 20, /* of all threads together: beyond the caches */
    NEAR_BYTES = 128 << 10,
    NEAR_TIMES = 16, /* that a thread reads its near bytes in a row */
    ROUNDS     = 3,
};

/* NEAR_BLOCK: with a block of query heads for each kv head, where kernels have blocks. REMOTE: another node's keys. */
typedef enum probe_variant { FAR_PLAIN, FAR_PREFETCH, NEAR, NEAR_BLOCK, REMOTE, VARIANTS } probe_variant;

typedef struct probe {
    const qr_attention_probe_options *options;
    uint32_t                          block_heads;
    qr_attention_shape                block;     /* the shape with so many query heads for each kv head */
    size_t                            far_bytes; /* of a thread */
    float                            *scratch;   /* [thread_count][floats]: queries, states */
    size_t                            floats;
    uint64_t                          best_ns[VARIANTS], tokens[VARIANTS]; /* tokens of one thread */
} probe;

static uint64_t walk(const probe *p, const qr_attention_shape *shape, uint32_t thread, uint32_t owner, size_t bytes,
                     bool prefetch)
{
    return qr_attention_walk(p->options->kernels, shape, p->options->memory[owner].base, bytes, prefetch,
                             p->scratch + thread * p->floats);
}

/* A thread of another node, all threads having different ones where nodes have equally many; itself on one node. */
static uint32_t remote_owner(const probe *p, uint32_t thread)
{
    const qr_placement *placement = qr_team_placement(p->options->team);
    const uint32_t      threads   = placement->thread_count;
    uint32_t            steps     = placement->node_threads[placement->node[thread]];
    while (steps < threads && placement->node[(thread + steps) % threads] == placement->node[thread]) steps++;
    return (thread + steps) % threads;
}

static uint64_t walk_variant(const probe *p, uint32_t thread, probe_variant variant)
{
    const qr_attention_shape *shape = variant == NEAR_BLOCK ? &p->block : p->options->shape;
    if (variant == REMOTE) return walk(p, shape, thread, remote_owner(p, thread), p->far_bytes, false);
    if (variant < NEAR) return walk(p, shape, thread, thread, p->far_bytes, variant == FAR_PREFETCH);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < NEAR_TIMES; i++) tokens += walk(p, shape, thread, thread, NEAR_BYTES, false);
    return tokens;
}

static void probe_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    (void)thread_count;
    probe         *p        = context;
    qr_team       *team     = p->options->team;
    const uint32_t variants = qr_team_placement(team)->node_count > 1 ? VARIANTS : REMOTE;
    for (uint32_t i = 0; i < ROUNDS * variants; i++) {
        const probe_variant variant = (probe_variant)(i % variants);
        if (variant == NEAR_BLOCK && p->block_heads == 0) continue;
        qr_team_barrier(team);
        const uint64_t start = qr_now_ns(), tokens = walk_variant(p, thread, variant);
        qr_team_barrier(team);
        if (thread != 0) continue;
        p->tokens[variant]  = tokens;
        p->best_ns[variant] = qr_min_u64(p->best_ns[variant], qr_now_ns() - start);
    }
}

static double token_ns(const probe *p, probe_variant variant)
{
    return (double)p->best_ns[variant] / (double)p->tokens[variant];
}

/* What a key costs with the shape's query heads and with a whole block of them tells a block's share from a head's. */
static void conclude_blocks(const probe *p, qr_attention_tuning *tuning)
{
    const double heads = p->options->shape->heads, more = p->block.heads;
    const double near = token_ns(p, NEAR), block = token_ns(p, NEAR_BLOCK), kv_heads = p->block.kv.kv_heads;
    if (more <= heads || block <= near) return;
    const double pair = (block - near) / (more - heads);
    tuning->pair_fs   = (uint32_t)fmax(1, 1e6 * pair);
    tuning->block_fs  = (uint32_t)fmax(1, 1e6 * (near - pair * heads) / kv_heads);
}

/* Memory and arithmetic add up; what prefetching hides of the arithmetic counts as cheaper memory. */
static void conclude(const probe *p, qr_attention_tuning *tuning)
{
    const qr_attention_shape *shape = p->options->shape;
    const double plain = token_ns(p, FAR_PLAIN), ahead = token_ns(p, FAR_PREFETCH), near = token_ns(p, NEAR);
    const double bytes = (double)(qr_kv_tile_bytes(&shape->kv) * shape->kv.kv_heads) / QR_TILE_TOKENS;
    tuning->prefetch   = plain < ahead ? QR_PREFETCH_JUMPS : QR_PREFETCH_ALL;
    tuning->byte_fs    = (uint32_t)fmax(1, 1e6 * (fmin(plain, ahead) - near) / bytes);
    tuning->pair_fs    = (uint32_t)fmax(1, 1e6 * near / shape->heads);
    tuning->block_fs   = 0;
    if (p->block_heads > 0) conclude_blocks(p, tuning);
    if (p->tokens[REMOTE] > 0)
        tuning->remote_percent = (uint32_t)fmin(1000, fmax(100, 100 * token_ns(p, REMOTE) / plain));
    qr_log_write(
        p->options->log, QUIRE_LOG_INFO,
        "attention: prefetch %s within runs; a thread reads keys at %.1f GB/s without, %.1f with it, %.1f from L2",
        tuning->prefetch == QR_PREFETCH_ALL ? "t1" : "none", bytes / plain, bytes / ahead, bytes / near);
}

void qr_attention_probe(const qr_attention_probe_options *options, qr_attention_tuning *tuning)
{
    const uint32_t threads = qr_team_size(options->team);
    const size_t   tiles   = qr_kv_tile_bytes(&options->shape->kv) * options->shape->kv.kv_heads;
    probe          p       = {.options   = options,
                              .far_bytes = FAR_BYTES / threads,
                              .block     = *options->shape,
                              .best_ns   = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    p.block_heads          = qr_attention_block_heads(options->kernels, &options->shape->kv);
    p.block.heads          = qr_max_u32(options->shape->heads, p.block_heads * options->shape->kv.kv_heads);
    p.floats               = qr_attention_walk_floats(&p.block);
    if (p.far_bytes < qr_max_u64(2 * NEAR_BYTES, tiles)) return;
    for (uint32_t thread = 0; thread < threads; thread++)
        if (options->memory[thread].bytes < p.far_bytes) return;
    const size_t bytes = threads * p.floats * sizeof(float);
    p.scratch          = qr_allocate(options->allocator, bytes, 64);
    if (p.scratch == NULL) return; /* guesses do */
    qr_team_run(options->team, probe_thread, &p);
    conclude(&p, tuning);
    qr_deallocate(options->allocator, p.scratch, bytes);
}
