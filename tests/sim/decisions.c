/* quire_decisions FILE: plays a list of scenarios with the mock model and compares what the scheduler decided, in
 * numbers that a reviewer understands, with FILE; so that a change of policy is a readable diff.
 * quire_decisions --write FILE: writes it. Exit status: 0 equal, 1 different, 64 usage. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { STEPS = 2000, LINE = 512 };

static sim_config base(void)
{
    return (sim_config){.options         = {.policy                       = QUIRE_POLICY_FCFS,
                                            .priority_ageing_ns           = 100000,
                                            .max_num_seqs                 = 8,
                                            .max_num_batched_tokens       = 48,
                                            .max_num_encoder_input_tokens = 1,
                                            .max_model_len                = 128,
                                            .enable_chunked_prefill       = true,
                                            .long_prefill_token_threshold = 24,
                                            .max_num_partial_prefills     = 1,
                                            .max_long_partial_prefills    = 1,
                                            .scheduler_reserve_full_isl   = true,
                                            .watermark                    = 0.05f,
                                            .max_head_passes              = 8,
                                            .tenant_fairness              = true,
                                            .max_num_tenants              = 4,
                                            .max_num_queued_reqs          = 64,
                                            .max_num_queued_tokens        = 8192,
                                            .prompt_lookup_max            = 3,
                                            .num_blocks                   = 96,
                                            .block_size                   = 8,
                                            .node_count                   = 1,
                                            .enable_prefix_caching        = true,
                                            .enable_cross_sharing         = true,
                                            .extents                      = true,
                                            .hash_bits                    = 64,
                                            .vocab_size                   = 211},
                        .arrivals        = 200,
                        .tenant_names    = 1,
                        .longest_prompt  = 80,
                        .longest_output  = 40,
                        .longest_encoder = 32,
                        .documents       = 3,
                        .overlap         = 50,
                        .encoder_inputs  = 6};
}

static void tight(sim_config *c) { c->options.num_blocks = 28; }
static void tight_watermark(sim_config *c) { tight(c), c->options.watermark = 0.25f; }
static void tight_no_reserve(sim_config *c) { tight(c), c->options.scheduler_reserve_full_isl = false; }
static void tight_no_evict(sim_config *c) { tight(c), c->options.capacity_policy = QUIRE_CAPACITY_GUARANTEED_NO_EVICT; }
static void tight_strict_order(sim_config *c) { tight(c), c->options.max_head_passes = 0; }
static void small_steps(sim_config *c)
{
    c->options.max_num_batched_tokens = 12, c->options.long_prefill_token_threshold = 6;
}
static void no_threshold(sim_config *c) { c->options.long_prefill_token_threshold = 0; }
static void many_partial(sim_config *c) { c->options.max_num_partial_prefills = 4; }
static void no_chunks(sim_config *c)
{
    c->options.enable_chunked_prefill = false, c->options.max_num_batched_tokens = 128;
}
static void priority(sim_config *c) { tight(c), c->options.policy = QUIRE_POLICY_PRIORITY; }
static void priority_strict(sim_config *c) { priority(c), c->options.priority_ageing_ns = 0; }
static void two_tenants(sim_config *c)
{
    c->tenant_names         = 2;
    c->options.tenant_count = 2;
    c->tenants[0]           = (quire_tenant_options){.name = "", .weight = 4};
    c->tenants[1]           = (quire_tenant_options){.name = "a", .weight = 1};
    c->arrivals             = 500;
}
static void two_tenants_unfair(sim_config *c) { two_tenants(c), c->options.tenant_fairness = false; }
static void tenant_quota(sim_config *c) { two_tenants(c), c->tenants[1].max_num_seqs = 1; }
static void all_prefixes(sim_config *c) { c->overlap = 100; }
static void no_prefix_caching(sim_config *c) { all_prefixes(c), c->options.enable_prefix_caching = false; }
static void no_extents(sim_config *c) { c->options.extents = false; }
static void two_nodes(sim_config *c) { c->options.node_count = 2; }
static void tiny_blocks(sim_config *c) { c->options.block_size = 1, c->options.num_blocks = 700; }
static void fans(sim_config *c) { c->fan_percent = 50; }
static void beams(sim_config *c) { c->beam_percent = 50, c->options.watermark = 0; }
static void drafts(sim_config *c) { c->repetitive = true, c->options.num_speculative_tokens = 4; }
static void window(sim_config *c) { tight(c), c->options.window = 20; }
static void local_layers(sim_config *c)
{
    all_prefixes(c), c->options.local_window = 20, c->options.num_local_blocks = 70;
}
static void encoder(sim_config *c) { c->options.encoder_decoder = true, c->options.max_num_encoder_input_tokens = 40; }
static void encoder_alone(sim_config *c) { encoder(c), c->options.enable_cross_sharing = false; }
static void plain(sim_config *c) { (void)c; }

typedef struct scenario {
    const char *name;
    void (*change)(sim_config *);
} scenario;

#define SCENARIO(name)                                                                                                 \
    {                                                                                                                  \
#name, name                                                                                                    \
    }
static const scenario scenarios[] = {
    SCENARIO(plain),
    SCENARIO(tight),
    SCENARIO(tight_watermark),
    SCENARIO(tight_no_reserve),
    SCENARIO(tight_no_evict),
    SCENARIO(tight_strict_order),
    SCENARIO(small_steps),
    SCENARIO(no_threshold),
    SCENARIO(many_partial),
    SCENARIO(no_chunks),
    SCENARIO(priority),
    SCENARIO(priority_strict),
    SCENARIO(two_tenants),
    SCENARIO(two_tenants_unfair),
    SCENARIO(tenant_quota),
    SCENARIO(all_prefixes),
    SCENARIO(no_prefix_caching),
    SCENARIO(no_extents),
    SCENARIO(two_nodes),
    SCENARIO(tiny_blocks),
    SCENARIO(fans),
    SCENARIO(beams),
    SCENARIO(drafts),
    SCENARIO(window),
    SCENARIO(local_layers),
    SCENARIO(encoder),
    SCENARIO(encoder_alone),
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static const char header[] =
    "scenario,steps,requests,refused,prompt_rows,recomputed,output,hit_tokens,preemptions,blocks_dropped,claims,forced,"
    "head_passes,forks,copies,drafts,drafts_accepted,encoder_runs,encoder_runs_saved,extents,thefts,wait_order_us,"
    "wait_tenant_us,wait_head_us,wait_sequences_us,wait_budget_us,wait_partial_us,wait_blocks_us,wait_watermark_us,"
    "wait_quota_us,wait_encoder_us";

static unsigned long long u(uint64_t value) { return value; }

static void write_line(const char *name, const quire_stats *s, char *line)
{
    int n = snprintf(line, LINE,
                     "%s,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,%llu,"
                     "%llu,%llu,%llu,%llu",
                     name, u(s->steps), u(s->requests_submitted), u(s->requests_refused), u(s->tokens_prompt),
                     u(s->tokens_recomputed), u(s->tokens_output), u(s->prefix_hits), u(s->preemptions),
                     u(s->blocks_dropped), u(s->claims), u(s->forced_progress), u(s->head_passes), u(s->forks),
                     u(s->copies), u(s->drafts), u(s->drafts_accepted), u(s->encoder_runs), u(s->encoder_runs_saved),
                     u(s->extents_taken), u(s->reservation_thefts));
    for (uint32_t r = QUIRE_WAIT_ORDER; r <= QUIRE_WAIT_ENCODER; r++)
        n += snprintf(line + n, LINE - (size_t)n, ",%llu", u(s->wait_ns[r] / 1000));
}

static bool play(const scenario *which, char *line)
{
    sim_config config = base();
    which->change(&config);
    config.options.tenants     = config.tenants;
    quire_stats       stats    = {.size = sizeof stats};
    sim_coverage      coverage = {0};
    sim_verdict       verdict;
    const sim_options run = {.seed = 7, .steps = STEPS, .config = &config, .stats_out = &stats};
    sim_run(&run, &coverage, &verdict);
    if (verdict.oracle != SIM_ORACLE_NONE)
        printf("%s: %s: %s\n", which->name, sim_oracle_name(verdict.oracle), verdict.text);
    write_line(which->name, &stats, line);
    return verdict.oracle == SIM_ORACLE_NONE;
}

/* ---- comparing ---- */

static const char *next_field(const char *text, char *field)
{
    const size_t length = strcspn(text, ",\n");
    snprintf(field, LINE, "%.*s", (int)length, text);
    return text[length] == ',' ? text + length + 1 : text + length;
}

/* Prints the columns that differ. */
static bool differs(const char *was, const char *is)
{
    char        name[LINE], scenario_name[LINE], a[LINE], b[LINE];
    const char *columns = header;
    if (strcmp(was, is) == 0) return false;
    next_field(is, scenario_name);
    printf("%s:", scenario_name);
    for (const char *x = was, *y = is; *columns;) {
        columns = next_field(columns, name), x = next_field(x, a), y = next_field(y, b);
        if (strcmp(a, b) != 0) printf(" %s %s -> %s", name, a[0] ? a : "(none)", b);
    }
    putchar('\n');
    return true;
}

static bool read_line(FILE *file, char *line)
{
    if (fgets(line, LINE, file) == NULL) return false;
    line[strcspn(line, "\n")] = 0;
    return true;
}

static int compare(FILE *file)
{
    char     was[LINE], is[LINE];
    uint32_t different = 0;
    if (!read_line(file, was) || strcmp(was, header) != 0) different += printf("the columns differ\n") > 0;
    for (uint32_t i = 0; i < SCENARIOS; i++) {
        if (!play(&scenarios[i], is)) return 1;
        if (!read_line(file, was)) was[0] = 0;
        different += differs(was, is);
    }
    if (read_line(file, was)) different += printf("scenarios are missing, from %s on\n", was) > 0;
    printf(different ? "%u of %u scenarios are decided differently; if that is meant: quire_decisions --write "
                       "tests/golden/decisions.csv\n"
                     : "%u of %u scenarios are decided differently\n",
           different, (uint32_t)SCENARIOS);
    return different > 0;
}

static int write_all(FILE *file)
{
    char line[LINE];
    fprintf(file, "%s\n", header);
    for (uint32_t i = 0; i < SCENARIOS; i++) {
        if (!play(&scenarios[i], line)) return 1;
        fprintf(file, "%s\n", line);
    }
    return 0;
}

int main(int count, char **arguments)
{
    const bool writes = count == 3 && strcmp(arguments[1], "--write") == 0;
    if (count != 2 && !writes) {
        fputs("usage: quire_decisions [--write] FILE\n", stderr);
        return 64;
    }
    FILE *file = fopen(arguments[count - 1], writes ? "w" : "r");
    if (file == NULL) {
        perror(arguments[count - 1]);
        return 1;
    }
    const int status = writes ? write_all(file) : compare(file);
    return fclose(file) == 0 ? status : 1;
}
