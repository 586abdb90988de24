/* quire kernel: micro-benchmarks of the parts, arms interleaved in one run. */
#include <stdlib.h>
#include <string.h>

#include "bench/micro/micro.h"
#include "cli/command.h"

enum { OPTION_ISA = 0x3001, OPTION_ROUNDS, OPTION_STEPS };

typedef struct settings {
    const char *what, *isa;
    unsigned    rounds, steps;
} settings;

static unsigned number(const struct argp_state *state, const char *flag, const char *text)
{
    char               *end;
    const unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value < 1 || value > 1000000) argp_error(state, "%s %s: not in 1..1000000", flag, text);
    return (unsigned)value;
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case OPTION_ISA: s->isa = value; return 0;
    case OPTION_ROUNDS: s->rounds = number(state, "--rounds", value); return 0;
    case OPTION_STEPS: s->steps = number(state, "--steps", value); return 0;
    case ARGP_KEY_ARG:
        if (s->what != NULL) argp_usage(state);
        s->what = value;
        return 0;
    case ARGP_KEY_END:
        if (s->what == NULL) argp_usage(state);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int qr_command_kernel(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"isa", OPTION_ISA, "NAME", 0, "projection: cap, as kernels.isa", 1},
        {"rounds", OPTION_ROUNDS, "N", 0, "projection: rounds of all arms, the best counts (default 10)", 1},
        {"steps", OPTION_STEPS, "N", 0, "scheduler: steps of each load (default 2000)", 1},
        {0},
    };
    static const struct argp argp = {
        .options  = options,
        .parser   = parse,
        .args_doc = "projection\nscheduler",
        .doc      = "Measure one part alone, against the limits of this machine in the same run.\v"
                    "projection  rows times packed weights, against a plain read, a register loop and oneDNN\n"
                    "scheduler   plan, commit and submit with a model that takes no time",
    };
    settings s = {.rounds = 10, .steps = 2000};
    argp_parse(&argp, argc, argv, 0, NULL, &s);
    if (strcmp(s.what, "projection") == 0) return qr_micro_projection(s.isa, s.rounds, stdout);
    if (strcmp(s.what, "scheduler") == 0) return qr_micro_scheduler(s.steps, stdout);
    qr_complain("kernel %s: expected projection or scheduler", s.what);
    return QR_EXIT_USAGE;
}
