/* quire_sim --seed S --steps N: simulates from seed S on, 3,000 steps a seed, until N steps are done. A failure prints
 * the shortest command found that shows it. Exit status: 0 passed, 1 a rule was violated, 2 a goal of the coverage was
 * missed, 64 usage. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim/sim.h"

enum { STEPS_PER_SEED = 3000, REPLAY_EVERY = 50 };

typedef struct command {
    sim_options run;
    uint64_t    seeds, steps;
    bool        gate, quiet;
} command;

static int usage(void)
{
    fputs("usage: quire_sim [--seed S] [--steps N] [--seeds K] [--without F,F] [--trace] [--no-gate] [--quiet] "
          "[--canary]\n"
          "  --seed S      the first seed (1)\n"
          "  --steps N     steps in all (200000), 3000 or N / K of each seed\n"
          "  --seeds K     number of seeds\n"
          "  --without F   fault kinds, by number, that never happen\n"
          "  --trace       one line per decision and event\n"
          "  --no-gate     reach whatever it reaches\n"
          "  --quiet       the verdict only\n"
          "  --canary      break the harness: the run must fail\n",
          stderr);
    return 64;
}

static uint32_t parse_faults(const char *text)
{
    uint32_t bits = 0;
    for (char *end; *text; text = *end == ',' ? end + 1 : end) {
        const unsigned long kind = strtoul(text, &end, 10);
        if (end == text || kind >= SIM_FAULT_KINDS) exit(usage());
        bits |= 1u << kind;
    }
    return bits;
}

static command parse(int count, char **arguments)
{
    command c = {.run = {.seed = 1}, .steps = 200000, .gate = true};
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : "";
        if (strcmp(name, "--trace") == 0 || strcmp(name, "--no-gate") == 0 || strcmp(name, "--quiet") == 0 ||
            strcmp(name, "--canary") == 0) {
            c.run.trace |= name[2] == 't', c.gate &= name[2] != 'n', c.quiet |= name[2] == 'q',
                c.run.canary |= name[2] == 'c';
            continue;
        }
        if (*value == 0) exit(usage());
        i++;
        if (strcmp(name, "--seed") == 0)
            c.run.seed = strtoull(value, NULL, 10);
        else if (strcmp(name, "--steps") == 0)
            c.steps = strtoull(value, NULL, 10);
        else if (strcmp(name, "--seeds") == 0)
            c.seeds = strtoull(value, NULL, 10);
        else if (strcmp(name, "--without") == 0)
            c.run.without = parse_faults(value);
        else
            exit(usage());
    }
    if (c.seeds == 0) c.seeds = (c.steps + STEPS_PER_SEED - 1) / STEPS_PER_SEED;
    if (c.seeds == 0) exit(usage());
    c.run.steps = c.steps / c.seeds;
    return c;
}

/* The same seed again, with another hash for the index: no decision may differ. */
static void replay(const sim_options *run, sim_verdict *verdict)
{
    sim_coverage ignored = {0};
    sim_verdict  again;
    sim_options  other = *run;
    other.trace        = false;
    other.hash_bits    = 3;
    other.hash_salt    = 1;
    sim_run(&other, &ignored, &again);
    if (again.oracle == SIM_ORACLE_NONE && again.hash == verdict->hash) return;
    *verdict = (sim_verdict){.seed = run->seed, .oracle = SIM_ORACLE_STATE, .step = run->steps};
    snprintf(verdict->text, sizeof verdict->text, "a second run with other hashes of the prefix index differs");
}

/* Leaves out one kind of fault after the other, as long as the same oracle still complains. */
static void report(const sim_options *run, const sim_verdict *verdict, const char *program)
{
    sim_options shortest = *run;
    sim_verdict best     = *verdict;
    shortest.trace       = false;
    shortest.steps       = verdict->step;
    for (uint32_t f = 0; f < SIM_FAULT_KINDS; f++) {
        sim_options  trial   = shortest;
        sim_coverage ignored = {0};
        sim_verdict  again;
        trial.without |= 1u << f;
        sim_run(&trial, &ignored, &again);
        if (again.oracle != verdict->oracle) continue;
        trial.steps = again.step;
        shortest = trial, best = again;
    }
    printf("FAILED: seed %llu, step %llu, %s: %s\n", (unsigned long long)verdict->seed,
           (unsigned long long)verdict->step, sim_oracle_name(verdict->oracle), verdict->text);
    printf("shortest: %s --trace --seeds 1 --seed %llu --steps %llu", program, (unsigned long long)run->seed,
           (unsigned long long)shortest.steps);
    for (uint32_t f = 0, first = 1; f < SIM_FAULT_KINDS; f++)
        if (shortest.without >> f & 1) printf("%s%u", first ? " --without " : ",", f), first = 0;
    printf("   # %s\n", best.text);
}

int main(int count, char **arguments)
{
    command      c        = parse(count, arguments);
    sim_coverage coverage = {0};
    const time_t start    = time(NULL);
    for (uint64_t i = 0; i < c.seeds; i++, c.run.seed++) {
        sim_verdict verdict;
        sim_run(&c.run, &coverage, &verdict);
        if (verdict.oracle == SIM_ORACLE_NONE && (c.run.seed % REPLAY_EVERY == 0 || c.seeds == 1)) {
            coverage.replays++;
            replay(&c.run, &verdict);
        }
        if (verdict.oracle == SIM_ORACLE_NONE) continue;
        if (c.quiet)
            printf("FAILED %llu %s %llu %s\n", (unsigned long long)c.run.seed, sim_oracle_name(verdict.oracle),
                   (unsigned long long)coverage.steps, verdict.text);
        else
            report(&c.run, &verdict, arguments[0]);
        return 1;
    }
    if (!c.quiet) sim_coverage_print(&coverage);
    const uint32_t missed = c.gate ? sim_coverage_gate(&coverage) : 0;
    printf("passed: seeds %llu..%llu, %llu steps in %ld s, %llu replays equal%s\n",
           (unsigned long long)(c.run.seed - c.seeds), (unsigned long long)(c.run.seed - 1),
           (unsigned long long)coverage.steps, (long)(time(NULL) - start), (unsigned long long)coverage.replays,
           missed ? ", but goals of the coverage were missed" : "");
    return missed ? 2 : 0;
}
