/* What the commands that measure share: the flags of workload, load and run, the short forms of lengths and SLOs, and a
 * result to fill. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/result/result.h"
#include "cli/command.h"

enum {
    OPTION_NUM_PROMPTS = 0x2001,
    OPTION_PROMPT_TOKENS,
    OPTION_OUTPUT_TOKENS,
    OPTION_ENCODER_TOKENS,
    OPTION_PROFILE,
    OPTION_STREAMS,
    OPTION_RATE,
    OPTION_DURATION,
    OPTION_SEED,
    OPTION_TRACE,
    OPTION_REQUESTS,
    OPTION_THREADS,
    OPTION_GOODPUT,
    OPTION_REPETITIONS,
    OPTION_TARGET,
    OPTION_DRY_RUN,
};

static const struct argp_option options[] = {
    {"num-prompts", OPTION_NUM_PROMPTS, "N", 0,
     "number of requests; 0 = until --duration is over [workload.num_prompts]", 2},
    {"prompt-tokens", OPTION_PROMPT_TOKENS, "LENGTH", 0,
     "tokens of a prompt: 512, 128:1024 (uniform), lognormal:MEAN:STDEV, normal or gamma likewise, "
     "zipf:S:MAX, or a TOML table "
     "[workload.prompt_tokens]",
     2},
    {"output-tokens", OPTION_OUTPUT_TOKENS, "LENGTH", 0,
     "tokens to generate, in the same forms [workload.output_tokens]", 2},
    {"encoder-tokens", OPTION_ENCODER_TOKENS, "LENGTH", 0,
     "encoder-decoder models: tokens of an encoder input, in the same forms [workload.encoder_tokens]", 2},
    {"trace", OPTION_TRACE, "FILE", 0, "replay a recorded workload [workload.trace.path]", 2},
    {"requests", OPTION_REQUESTS, "FILE", 0, "play a file of requests as `quire generate` reads it [workload.path]", 2},
    {"seed", OPTION_SEED, "N", 0, "seed of arrivals, lengths and contents [workload.seed]", 2},
    {"profile", OPTION_PROFILE, "NAME", 0,
     "throughput, synchronous, concurrent, constant, poisson, gamma, weibull, replay [load.profile]", 3},
    {"streams", OPTION_STREAMS, "N", 0, "profile concurrent: requests in flight [load.streams]", 3},
    {"request-rate", OPTION_RATE, "R", 0,
     "requests per second, Poisson unless --profile says otherwise [load.request_rate]; inf = all at once", 3},
    {"duration", OPTION_DURATION, "TIME", 0, "measured window, e.g. 60s [run.duration]", 3},
    {"repetitions", OPTION_REPETITIONS, "N", 0, "how often the whole run is repeated [run.repetitions]", 3},
    {"goodput", OPTION_GOODPUT, "NAME:MS,...", 0, "SLOs in ms: ttft, tpot, e2el, itl_p99 [slo]", 3},
    {"threads", OPTION_THREADS, "N", 0, "compute threads [topology.threads]", 3},
    {"target", OPTION_TARGET, "URL", 0,
     "measure the server at http://HOST:PORT/v1, which has OpenAI's interface, instead of an engine [run.target]", 3},
    {"dry-run", OPTION_DRY_RUN, NULL, 0, "print the plan: threads, memory, runs and time; exit status 2: it cannot fit",
     3},
    {0},
};

static const struct form {
    const char *name, *parts[2];
} forms[] = {{"uniform", {"min", "max"}},
             {"normal", {"mean", "stdev"}},
             {"lognormal", {"mean", "stdev"}},
             {"gamma", {"mean", "stdev"}},
             {"zipf", {"s", "max"}}};

/* NULL: another value. "128:1024" is uniform. */
static const struct form *form_of(const char *value)
{
    const size_t length = strcspn(value, ":");
    if (value[length] != '\0' && value[0] >= '0' && value[0] <= '9') return &forms[0];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strlen(forms[i].name) == length && strncmp(value, forms[i].name, length) == 0) return &forms[i];
    return NULL;
}

/* "128:1024" and "lognormal:128:120" as a table; anything else goes on as it is, for the configuration to judge. */
static void set_length(struct argp_state *state, const char *flag, const char *key, const char *value)
{
    const struct form *form    = form_of(value);
    const bool         is_name = form != NULL && strncmp(value, form->name, strlen(form->name)) == 0;
    char               table[128];
    double             a, b;
    int                end = 0;
    if (form == NULL) {
        qr_arguments_set(state->input, flag, key, value);
        return;
    }
    const char *numbers = is_name ? value + strlen(form->name) + (strchr(value, ':') != NULL) : value;
    const int   given   = sscanf(numbers, "%lf:%lf%n", &a, &b, &end);
    if (given < 2)
        argp_error(state, "%s %s: %s is missing; expected %s%s%s:%s", flag, value, form->parts[given > 0],
                   is_name ? form->name : "", is_name ? ":" : "", form->parts[0], form->parts[1]);
    snprintf(table, sizeof table, "{dist=\"%s\",%s=%.10g,%s=%.10g}", form->name, form->parts[0], a, form->parts[1], b);
    qr_arguments_set(state->input, flag, key, numbers[end] == '\0' ? table : value);
}

static void set_goodput(qr_arguments *arguments, const char *value, struct argp_state *state)
{
    char *copy = strdup(value), *rest = copy, *item;
    while (copy != NULL && (item = strsep(&rest, ",")) != NULL) {
        char       *colon = strchr(item, ':');
        char        key[32];
        const char *known = "ttft tpot e2el itl_p99";
        if (colon != NULL) *colon = '\0';
        if (colon == NULL || *item == '\0' || strchr(item, ' ') != NULL || strstr(known, item) == NULL)
            argp_error(state, "--goodput %s: expected NAME:MS,... with NAME one of %s", value, known);
        snprintf(key, sizeof key, "slo.%.20s", item);
        qr_arguments_set(arguments, "--goodput", key, colon + 1);
    }
    free(copy);
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    qr_arguments *arguments = state->input;
    switch (option) {
    case OPTION_PROMPT_TOKENS: return set_length(state, "--prompt-tokens", "workload.prompt_tokens", value), 0;
    case OPTION_OUTPUT_TOKENS: return set_length(state, "--output-tokens", "workload.output_tokens", value), 0;
    case OPTION_ENCODER_TOKENS: return set_length(state, "--encoder-tokens", "workload.encoder_tokens", value), 0;
    case OPTION_DRY_RUN: arguments->dry_run = true; return 0;
    case OPTION_RATE:
        if (strcmp(value, "inf") == 0)
            qr_arguments_set(arguments, "--request-rate", "load.profile", "throughput");
        else
            qr_arguments_set(arguments, "--request-rate", "load.request_rate", value);
        return 0;
    case OPTION_GOODPUT: return set_goodput(arguments, value, state), 0;
    case OPTION_TRACE:
        qr_arguments_set(arguments, "--trace", "workload.source", "trace");
        qr_arguments_set(arguments, "--trace", "workload.trace.path", value);
        qr_arguments_set(arguments, "--trace", "load.profile", "replay");
        return 0;
    case OPTION_REQUESTS:
        qr_arguments_set(arguments, "--requests", "workload.source", "file");
        qr_arguments_set(arguments, "--requests", "workload.path", value);
        return 0;
    default: return qr_parse_alias(options, option, value, arguments);
    }
}

const struct argp qr_workload_argp = {.options = options, .parser = parse};

qr_result *qr_arguments_result(const qr_arguments *arguments, const quire_config *config)
{
    qr_result *result = calloc(1, sizeof *result);
    if (result == NULL) return qr_complain("out of memory"), NULL;
    result->config = config;
    result->argc   = arguments->argc;
    result->argv   = arguments->argv;
    result->git    = qr_tool_revision;
    return result;
}
