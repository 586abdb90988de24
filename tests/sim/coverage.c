/* What the runs reached, and what they must reach: a simulation that meets no fault proves nothing. */
#include <stdio.h>

#include "tests/sim/sim.h"

const char *sim_oracle_name(sim_oracle oracle)
{
    static const char *const names[SIM_ORACLES] = {"none", "state", "content", "stream", "progress", "crash"};
    return names[oracle];
}

static const char *const fault_names[] = {
#define SIM_FAULT_NAME(name, text, rate) text,
    SIM_FAULTS(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
};

const char *sim_fault_name(sim_fault fault) { return fault_names[fault]; }

static const char *const operation_names[] = {
#define SIM_OPERATION_NAME(name, text) text,
    SIM_OPERATIONS(SIM_OPERATION_NAME)
#undef SIM_OPERATION_NAME
};

static const char *const reason_names[QUIRE_WAIT_REASONS] = {
    "none",   "order",     "tenant", "head",    "sequences",      "budget", "partial",
    "blocks", "watermark", "quota",  "encoder", "encoder_shared", "reader", "fault"};
static const char *const finish_names[] = {"none", "stop", "length", "cancelled", "error", "timeout"};

/* Statuses that scheduler and cache can return. */
static const quire_status statuses[]     = {QUIRE_OK,           QUIRE_ERR_INVALID,   QUIRE_ERR_NO_MEMORY,
                                            QUIRE_ERR_FULL,     QUIRE_ERR_NOT_FOUND, QUIRE_ERR_TOO_LONG,
                                            QUIRE_ERR_EXECUTION};
static const char *const  status_names[] = {"OK", "INVALID", "NO_MEMORY", "FULL", "NOT_FOUND", "TOO_LONG", "EXECUTION"};

static unsigned long long u(uint64_t value) { return value; }

static void print_list(const char *title, const char *const *names, const uint64_t *counts, uint32_t count)
{
    printf("%s:", title);
    for (uint32_t i = 0; i < count; i++) printf("%s %s %llu", i ? "," : "", names[i], u(counts[i]));
    putchar('\n');
}

static void print_pairs(const sim_coverage *c)
{
    printf("pairs on one request (row, then column):\n%-17s", "");
    for (uint32_t b = 0; b < SIM_OPERATION_KINDS; b++) printf(" %9.9s", operation_names[b]);
    putchar('\n');
    for (uint32_t a = 0; a < SIM_OPERATION_KINDS; a++) {
        printf("  %-15s", operation_names[a]);
        for (uint32_t b = 0; b < SIM_OPERATION_KINDS; b++)
            if (c->pairs[a][b])
                printf(" %9llu", u(c->pairs[a][b]));
            else
                printf(" %9s", ".");
        putchar('\n');
    }
}

void sim_coverage_print(const sim_coverage *c)
{
    uint64_t seen[sizeof statuses / sizeof *statuses];
    for (uint32_t i = 0; i < sizeof statuses / sizeof *statuses; i++) seen[i] = c->statuses[-(int)statuses[i]];
    printf("%llu seeds, %llu steps, %llu rows, %llu tokens, %llu requests (%llu beam searches), %llu tokens of prompts "
           "told\n",
           u(c->seeds), u(c->steps), u(c->rows), u(c->tokens), u(c->requests), u(c->beams), u(c->told));
    print_list("faults", fault_names, c->faults, SIM_FAULT_KINDS);
    print_list("wait reasons", reason_names, c->reasons, QUIRE_WAIT_REASONS);
    print_list("ends", finish_names + 1, c->finishes + 1, QUIRE_FINISH_TIMEOUT);
    print_list("statuses", status_names, seen, sizeof statuses / sizeof *statuses);
    printf("preempted %llu, blocks dropped %llu, hit tokens %llu, copies %llu, forks %llu, claims %llu, forced %llu, "
           "drafts accepted %llu, encoders shared %llu, thefts %llu, evictions %llu, spilled %llu\n",
           u(c->preemptions), u(c->blocks_dropped), u(c->hits), u(c->copies), u(c->forks), u(c->claims), u(c->forced),
           u(c->drafts_accepted), u(c->encoder_shared), u(c->stolen), u(c->evictions), u(c->spilled));
    print_pairs(c);
}

static uint32_t require(const char *kind, const char *name, uint64_t count, uint64_t goal)
{
    if (count >= goal) return 0;
    printf("NOT REACHED: %s %s: %llu of %llu\n", kind, name, u(count), u(goal));
    return 1;
}

/* Pairs that must occur. '+': often; 'r': rare, asked of long runs only; '.': impossible, or an accident of two
 * sequences of one request. Rows and columns in the order of SIM_OPERATIONS. */
static const char *const pair_goals[SIM_OPERATION_KINDS] = {
    /*                  s a p r f p r f c c d e e */
    /* submit      */ ".+......+++.+",
    /* admit       */ "..+.++.++++++",
    /* preempt     */ "..++.r..+rr..",
    /* readmit     */ "..++++.r+rr++",
    /* failed step */ "...+r........",
    /* pause       */ ".....++.rr...",
    /* resume      */ "...+..r.r....",
    /* fork        */ "..+.rr.++rr+r",
    ".............",
    ".............",
    ".............",
    ".............",
    "............."};

uint32_t sim_coverage_gate(const sim_coverage *c)
{
    const uint64_t faults = 1 + c->steps / 20000, pairs = 1 + c->steps / 600000;
    uint32_t       missed = 0;
    for (uint32_t i = 0; i < SIM_FAULT_KINDS; i++) missed += require("fault", fault_names[i], c->faults[i], faults);
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++)
        missed += require("reason", reason_names[i], c->reasons[i], pairs);
    for (uint32_t i = 1; i <= QUIRE_FINISH_TIMEOUT; i++)
        missed += require("end", finish_names[i], c->finishes[i], pairs);
    for (uint32_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        missed += require("status", status_names[i], c->statuses[-(int)statuses[i]], pairs);
    for (uint32_t a = 0; a < SIM_OPERATION_KINDS; a++)
        for (uint32_t b = 0; b < SIM_OPERATION_KINDS; b++) {
            char name[64];
            snprintf(name, sizeof name, "%s, %s", operation_names[a], operation_names[b]);
            if (pair_goals[a][b] == '+' || (pair_goals[a][b] == 'r' && c->steps >= 2000000))
                missed += require("pair", name, c->pairs[a][b], pairs);
        }
    return missed;
}
