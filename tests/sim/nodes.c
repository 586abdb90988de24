/* What the rules for NUMA nodes are worth, on a machine that is not at hand: the real scheduler and cache plan steps
 * for it, and a step takes as long as its node with most to read. usage: quire_nodes [STEPS]
 *
 *   step = weights / (nodes * local) + max over nodes n of (own bytes + remote bytes * ratio) / local
 *
 * where a node's threads read the keys of the sequences that are at home there, of their own memory at `local` bytes a
 * second and of other nodes' at local / ratio. Prompts' arithmetic is left out: it is the same under every rule.
 *
 * With help, threads of a node that are done take work of others, all of it remote to them. By the rule they do so only
 * as long as the others would not be done sooner; the least T for which
 *   sum of (t_n - T) of nodes above T  <=  sum of (T - t_n) / ratio of nodes below
 * Without the rule they take their part of all work, whatever it costs them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/rng.h"
#include "cache/block_pool.h"
#include "scheduler/scheduler.h"

enum {
    NODES      = 4,
    BLOCK      = 32, /* tokens */
    STREAMS    = 48,
    PREFIXES   = 12, /* popular ones: the k-th is asked for with weight 1 / k */
    PREFIX     = 2048,
    OWN        = 256,
    OUTPUT_MIN = 32,
    OUTPUT_MAX = 256,
    POOL       = NODES * 2048, /* blocks */
    VOCAB      = 50000,
    ROWS       = 2048,
    WARM       = 300,
};
static const double block_bytes  = 4 << 20;                 /* of all layers: an 8B model with grouped queries, bf16 */
static const double weight_bytes = 8e9, local_rate = 100e9; /* bytes; bytes a second of a node */

typedef enum help { HELP_NONE, HELP_EQUAL, HELP_RULE } help;

typedef struct machine {
    double   ratio;    /* of remote to local reading time */
    uint32_t believed; /* the same as the scheduler is told, as ACPI's distance */
} machine;

typedef struct run {
    qr_scheduler *scheduler;
    uint64_t      id, now_ns, tokens;
    uint32_t      live;
    double        seconds[3], dealt_s; /* by help; with blocks dealt to the nodes in turn and no homes */
    double        read, remote;        /* bytes of keys and values */
    uint32_t      first_block[NODES + 1];
} run;

/* ---- requests ---- */

static uint32_t popular(uint64_t id)
{
    double all = 0, at = 0;
    for (uint32_t k = 1; k <= PREFIXES; k++) all += 1.0 / k;
    const double drawn = all * qr_random_below(1, 2, (uint32_t)id, 1 << 20) / (1 << 20);
    for (uint32_t k = 1; k <= PREFIXES; k++)
        if ((at += 1.0 / k) > drawn) return k;
    return PREFIXES;
}

static void submit(run *r)
{
    static int32_t prompt[PREFIX + OWN];
    const uint32_t prefix = popular(++r->id);
    for (uint32_t i = 0; i < PREFIX + OWN; i++)
        prompt[i] = (int32_t)qr_random_below(i < PREFIX ? prefix : 1000 + r->id, 3, i, VOCAB);
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = PREFIX + OWN,
                                   .max_tokens   = OUTPUT_MIN + qr_random_below(1, 4, r->id, OUTPUT_MAX - OUTPUT_MIN),
                                   .ignore_eos   = true};
    if (qr_scheduler_submit(r->scheduler, &request, r->id, r->now_ns, NULL) == QUIRE_OK) r->live++;
}

/* ---- the time of a step ---- */

static uint32_t node_of(const run *r, uint32_t block)
{
    uint32_t node = 0;
    while (block >= r->first_block[node + 1]) node++;
    return node;
}

/* Seconds that each node's threads need for the sequences at home there. */
static void read_keys(run *r, const quire_plan *plan, double ratio, double *seconds)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const quire_plan_sequence *s = &plan->sequences[i];
        for (uint32_t b = 0; b < qr_ceil_div_u32(s->position + s->row_count, BLOCK); b++) {
            const bool remote = node_of(r, s->blocks[b]) != s->node;
            seconds[s->node] += block_bytes * (remote ? ratio : 1) / local_rate;
            r->read += block_bytes;
            r->remote += remote ? block_bytes : 0;
        }
    }
}

static bool is_enough(const double *seconds, double ratio, double t)
{
    double above = 0, below = 0;
    for (int n = 0; n < NODES; n++)
        if (seconds[n] > t)
            above += seconds[n] - t;
        else
            below += (t - seconds[n]) / ratio;
    return above <= below;
}

static double slowest(const double *seconds, double ratio, help how)
{
    double most = 0, mean = 0;
    for (int n = 0; n < NODES; n++) most = seconds[n] > most ? seconds[n] : most, mean += seconds[n] / NODES;
    if (how == HELP_NONE) return most;
    double low = 0, high = most;
    for (int i = 0; how == HELP_RULE && i < 40; i++) {
        const double middle                                 = (low + high) / 2;
        *(is_enough(seconds, ratio, middle) ? &high : &low) = middle;
    }
    for (int n = 0; how == HELP_EQUAL && n < NODES; n++) {
        const double with = seconds[n] < mean ? seconds[n] + (mean - seconds[n]) * ratio : mean;
        low               = with > low ? with : low;
    }
    return how == HELP_RULE ? high : low;
}

static void count_time(run *r, const quire_plan *plan, double ratio)
{
    double       seconds[NODES] = {0};
    const double read = r->read, weights = weight_bytes / (NODES * local_rate);
    read_keys(r, plan, ratio, seconds);
    for (help how = HELP_NONE; how <= HELP_RULE; how++) r->seconds[how] += weights + slowest(seconds, ratio, how);
    r->dealt_s += weights + (r->read - read) * (1 + (NODES - 1) * ratio) / NODES / NODES / local_rate;
}

/* ---- a run ---- */

static qr_scheduler_options options_of(const uint32_t *distance)
{
    return (qr_scheduler_options){.max_num_seqs                 = STREAMS,
                                  .max_num_batched_tokens       = ROWS,
                                  .max_num_encoder_input_tokens = ROWS,
                                  .max_model_len                = PREFIX + OWN + OUTPUT_MAX,
                                  .enable_chunked_prefill       = true,
                                  .max_num_partial_prefills     = 4,
                                  .max_long_partial_prefills    = 4,
                                  .scheduler_reserve_full_isl   = true,
                                  .watermark                    = 0.01f,
                                  .max_head_passes              = 8,
                                  .max_num_tenants              = 1,
                                  .max_num_queued_reqs          = STREAMS,
                                  .max_num_queued_tokens        = 1 << 30,
                                  .num_blocks                   = POOL,
                                  .block_size                   = BLOCK,
                                  .node_count                   = NODES,
                                  .node_distance                = distance,
                                  .enable_prefix_caching        = true,
                                  .extents                      = true,
                                  .hash_seed                    = 1,
                                  .hash_bits                    = 64,
                                  .vocab_size                   = VOCAB};
}

static void step(run *r, double ratio, bool counts)
{
    static quire_sampled sampled[ROWS + STREAMS];
    uint32_t             count;
    while (r->live < STREAMS) submit(r);
    const quire_plan *plan = qr_scheduler_plan(r->scheduler, r->now_ns += 1000);
    for (uint32_t i = 0; i < plan->sample_count; i++)
        sampled[i] = (quire_sampled){.token = (int32_t)qr_random_below(r->now_ns, 5, i, VOCAB)};
    if (counts) count_time(r, plan, ratio);
    if (counts) r->tokens += plan->sample_count;
    qr_scheduler_commit(r->scheduler, sampled, r->now_ns += 1000);
    const qr_scheduler_event *events = qr_scheduler_events(r->scheduler, &count);
    for (uint32_t i = 0; i < count; i++) r->live -= events[i].kind == QUIRE_EVENT_FINISHED;
    qr_scheduler_events_clear(r->scheduler);
}

static run play(const machine *m, uint32_t steps, quire_stats *stats_out)
{
    uint32_t distance[NODES * NODES];
    for (uint32_t i = 0; i < NODES * NODES; i++) distance[i] = i / NODES == i % NODES ? 10 : m->believed;
    const qr_scheduler_options options = options_of(distance);
    quire_error                error   = {0};
    run                        r       = {0};
    if (qr_scheduler_create(&options, &r.scheduler, &error) != QUIRE_OK) {
        fprintf(stderr, "quire_nodes: %s\n", error.message);
        exit(1);
    }
    qr_block_pool_split(POOL, NODES, NULL, r.first_block);
    for (uint32_t i = 0; i < WARM + steps; i++) step(&r, m->ratio, i >= WARM);
    *stats_out = (quire_stats){.size = sizeof *stats_out};
    qr_scheduler_stats(r.scheduler, stats_out);
    qr_scheduler_destroy(r.scheduler);
    return r;
}

/* ---- the table ---- */

static double print_line(const char *rule, const run *r, double seconds, bool dealt, const quire_stats *stats)
{
    const double share = dealt ? 1 - 1.0 / NODES : r->remote / r->read;
    printf("  %-58s %8.0f %7.1f %% %9llu\n", rule, (double)r->tokens / seconds, 100 * share,
           (unsigned long long)(dealt ? 0 : stats->blocks_spilled));
    return (double)r->tokens / seconds;
}

static double hit_percent(const quire_stats *stats)
{
    return 100.0 * (double)stats->prefix_hits / (double)stats->prefix_queries;
}

/* Whether the rules are better than each of the others. */
static bool compare(double ratio, uint32_t steps)
{
    quire_stats stats[3];
    const run   ignores = play(&(machine){ratio, 10}, steps, &stats[0]);
    const run   follows = play(&(machine){ratio, 40}, steps, &stats[1]);
    const run   ours    = play(&(machine){ratio, (uint32_t)(10 * ratio)}, steps, &stats[2]);
    double      other[5];
    printf("remote memory takes %.1f times as long; prefix hits %.0f, %.0f and %.0f %%\n  %-58s %8s %9s %9s\n", ratio,
           hit_percent(&stats[0]), hit_percent(&stats[1]), hit_percent(&stats[2]), "rule", "tokens/s", "KV remote",
           "spilled");
    other[0] =
        print_line("no homes: blocks and work dealt to all nodes in turn", &ignores, ignores.dealt_s, true, stats);
    other[1] =
        print_line("home: least to read, wherever the prefix is", &ignores, ignores.seconds[0], false, &stats[0]);
    other[2] = print_line("home: where the prefix is, whatever there is to read", &follows, follows.seconds[0], false,
                          &stats[1]);
    other[3] = print_line("home: where the prefix is, if the load allows", &ours, ours.seconds[0], false, &stats[2]);
    other[4] =
        print_line("  the same, idle threads take an equal part of all", &ours, ours.seconds[1], false, &stats[2]);
    const double best =
        print_line("  the same, idle threads help while that is faster", &ours, ours.seconds[2], false, &stats[2]);
    for (int i = 0; i < 5; i++)
        if (other[i] > best * 1.0001) return false;
    return true;
}

int main(int argc, char **argv)
{
    const uint32_t steps   = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 2000;
    const double   ratio[] = {1.4, 2, 3};
    bool           best    = true;
    printf("%d nodes that read %.0f GB/s each; %.0f GB of weights; %d sequences of %d + %d tokens and %d to %d more,\n"
           "%d prefixes; %.0f KiB of keys and values a token; %u steps\n",
           NODES, local_rate * 1e-9, weight_bytes * 1e-9, STREAMS, PREFIX, OWN, OUTPUT_MIN, OUTPUT_MAX, PREFIXES,
           block_bytes / BLOCK / 1024, steps);
    for (size_t i = 0; i < sizeof ratio / sizeof *ratio; i++) best = compare(ratio[i], steps) && best;
    printf("%s\n", best ? "the last rule is the fastest everywhere" : "the last rule is NOT the fastest everywhere");
    return best ? 0 : 1;
}
