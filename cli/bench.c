/* quire bench: one workload against one engine, a table, and result files. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/result.h"
#include "bench/session.h"
#include "cli/command.h"
#include "cli/interrupt.h"

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
    OPTION_THREADS,
    MAX_FILES = 16,
};

static const struct argp_option options[] = {
    {"num-prompts", OPTION_NUM_PROMPTS, "N", 0, "requests; 0 = until --duration is over [workload.num_prompts]", 2},
    {"prompt-tokens", OPTION_PROMPT_TOKENS, "N|TABLE", 0, "length, or {dist=...} [workload.prompt_tokens]", 2},
    {"output-tokens", OPTION_OUTPUT_TOKENS, "N|TABLE", 0, "the same [workload.output_tokens]", 2},
    {"encoder-tokens", OPTION_ENCODER_TOKENS, "N|TABLE", 0, "encoder-decoder models [workload.encoder_tokens]", 2},
    {"trace", OPTION_TRACE, "FILE", 0, "replay a recorded workload [workload.trace.path]", 2},
    {"seed", OPTION_SEED, "N", 0, "of arrivals, lengths, contents [workload.seed]", 2},
    {"profile", OPTION_PROFILE, "NAME", 0,
     "throughput, synchronous, concurrent, constant, poisson, gamma, weibull, replay [load.profile]", 3},
    {"streams", OPTION_STREAMS, "N", 0, "concurrent: requests in flight [load.streams]", 3},
    {"request-rate", OPTION_RATE, "R", 0, "requests per second [load.request_rate]", 3},
    {"duration", OPTION_DURATION, "TIME", 0, "measured window, e.g. 60s [run.duration]", 3},
    {"threads", OPTION_THREADS, "N", 0, "compute threads [topology.threads]", 3},
    {"output", 'o', "FILE", 0,
     "also write FILE; the suffix chooses: .json .csv .md .requests.jsonl .steps.jsonl; - = JSON on stdout. Repeatable",
     4},
    {0},
};

static const qr_flag flags[] = {
    {OPTION_NUM_PROMPTS, "--num-prompts", "workload.num_prompts", false},
    {OPTION_PROMPT_TOKENS, "--prompt-tokens", "workload.prompt_tokens", false},
    {OPTION_OUTPUT_TOKENS, "--output-tokens", "workload.output_tokens", false},
    {OPTION_ENCODER_TOKENS, "--encoder-tokens", "workload.encoder_tokens", false},
    {OPTION_SEED, "--seed", "workload.seed", false},
    {OPTION_PROFILE, "--profile", "load.profile", true},
    {OPTION_STREAMS, "--streams", "load.streams", false},
    {OPTION_RATE, "--request-rate", "load.request_rate", false},
    {OPTION_DURATION, "--duration", "run.duration", true},
    {OPTION_THREADS, "--threads", "topology.threads", false},
};

typedef struct settings {
    qr_arguments  common;
    const char   *files[MAX_FILES];
    unsigned      file_count;
    volatile int *interrupt;
} settings;

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &s->common; return 0;
    case ARGP_KEY_ARG:
        if (s->common.config_path != NULL) argp_error(state, "%s: a configuration was given already", value);
        s->common.config_path = value;
        return 0;
    case OPTION_TRACE:
        qr_arguments_set(&s->common, "--trace", "workload.source", "trace", true);
        qr_arguments_set(&s->common, "--trace", "workload.trace.path", value, true);
        qr_arguments_set(&s->common, "--trace", "load.profile", "replay", true);
        return 0;
    case 'o':
        if (!qr_result_knows_suffix(value)) argp_error(state, "--output %s: not a suffix that quire writes", value);
        if (s->file_count == MAX_FILES) argp_error(state, "--output: more than %d files", MAX_FILES);
        s->files[s->file_count++] = value;
        return 0;
    default:
        return qr_arguments_take(&s->common, flags, sizeof flags / sizeof *flags, option, value) ? 0 : ARGP_ERR_UNKNOWN;
    }
}

/* Without a model, the benchmark that `make bench` shows: a real shape that two cores can serve in a minute. */
static void add_default_scenario(qr_arguments *arguments)
{
    static const struct {
        const char *key, *value;
        bool        text;
    } scenario[] = {{"model.preset", "qwen3-0.6b", true},
                    {"workload.num_prompts", "32", false},
                    {"workload.prompt_tokens", "64", false},
                    {"workload.output_tokens", "64", false},
                    {"scheduler.max_num_seqs", "32", false}};
    for (size_t i = 0; i < sizeof scenario / sizeof *scenario; i++)
        qr_arguments_set(arguments, "default scenario", scenario[i].key, scenario[i].value, scenario[i].text);
}

static bool names_a_model(const quire_config *config)
{
    return quire_config_model_path(config) != NULL || quire_config_model_preset(config) != NULL;
}

/* The scenario goes before what the user gave, so that every flag still wins. */
static quire_config *load(settings *s)
{
    quire_config *config = qr_arguments_load(&s->common);
    if (config == NULL || names_a_model(config)) return config;
    quire_config_destroy(config);
    qr_arguments given         = s->common;
    s->common.assignment_count = 0;
    add_default_scenario(&s->common);
    for (unsigned i = 0; i < given.assignment_count; i++)
        s->common.assignments[s->common.assignment_count++] = given.assignments[i];
    return qr_arguments_load(&s->common);
}

static const char *file_at(const settings *s, const quire_config *config, size_t index)
{
    char key[48];
    if (index < s->file_count) return s->files[index];
    snprintf(key, sizeof key, "output.files[%zu]", index - s->file_count);
    return index - s->file_count < quire_config_count(config, "output.files") ? quire_config_string(config, key) : NULL;
}

/* A result names the logs written with it, for quire report. */
static void note_logs(const settings *s, const quire_config *config, qr_result *result)
{
    const char *path;
    for (size_t i = 0; (path = file_at(s, config, i)) != NULL; i++) {
        if (qr_result_has_suffix(path, ".requests.jsonl")) result->requests_log = path;
        if (qr_result_has_suffix(path, ".steps.jsonl")) result->steps_log = path;
    }
}

/* Writes what was asked for; a file that fails does not lose the others, nor the table. */
static int publish(const settings *s, const quire_config *config, const qr_result *result)
{
    int         status         = QR_EXIT_OK;
    bool        stdout_is_json = false;
    quire_error error;
    const char *path;
    for (size_t i = 0; (path = file_at(s, config, i)) != NULL; i++) {
        stdout_is_json |= strcmp(path, "-") == 0;
        if (qr_result_write(result, path, &error) == QUIRE_OK) continue;
        qr_report_error(&error);
        status = QR_EXIT_FAILED;
    }
    FILE *to = stdout_is_json || status != QR_EXIT_OK ? stderr : stdout;
    if (!quire_config_boolean(config, "output.table", 1)) return status;
    qr_result_table(result, to);
    if (fflush(to) == 0 && !ferror(to)) return status;
    qr_result_table(result, stderr); /* a closed pipe: the summary still reaches the terminal */
    return QR_EXIT_FAILED;
}

/* What can be known to fail is refused before any work: file names, and keys that only do something in later versions.
 */
static bool is_runnable(const settings *s, const quire_config *config)
{
    static const struct {
        const char *key, *value; /* value NULL: any */
    } unsupported[] = {{"run.clock", "virtual"}, {"run.cost_model", NULL}, {"workload.source", "file"}};
    bool        ok  = true;
    const char *path;
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const char *value = quire_config_string(config, unsupported[i].key);
        if (value == NULL || (unsupported[i].value != NULL && strcmp(value, unsupported[i].value) != 0)) continue;
        qr_complain("%s: %s: \"%s\" is not supported by this version", quire_config_origin(config, unsupported[i].key),
                    unsupported[i].key, value);
        ok = false;
    }
    for (size_t i = 0; (path = file_at(s, config, i)) != NULL; i++) {
        char        folder[4096];
        const char *slash = strrchr(path, '/');
        snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
        if (!qr_result_knows_suffix(path))
            qr_complain("output.files: %s: the suffix is none of .json .csv .md .requests.jsonl .steps.jsonl", path);
        else if (strcmp(path, "-") != 0 && access(folder, W_OK) != 0)
            qr_complain("output.files: %s: %s", path, strerror(errno));
        else
            continue;
        ok = false;
    }
    return ok;
}

static int judge(const settings *s, const quire_config *config, const qr_result *result, int status)
{
    const char  *on_invalid = quire_config_string(config, "run.on_invalid");
    const double needed     = quire_config_number(config, "slo.min_attainment", 0);
    if (*s->interrupt == QR_INTERRUPT_ASKED) return QR_EXIT_INTERRUPTED;
    if (status != QR_EXIT_OK) return status;
    for (uint32_t i = 0; i < result->run_count; i++) {
        if (result->runs[i].requests.due > 0 && result->runs[i].requests.completed == 0) return QR_EXIT_FAILED;
        if (result->runs[i].attainment < needed) return QR_EXIT_MISSED;
    }
    const bool fails = on_invalid != NULL && strcmp(on_invalid, "fail") == 0;
    return fails && !qr_result_is_valid(result) ? QR_EXIT_INVALID : QR_EXIT_OK;
}

static int bench(const settings *s, const quire_config *config, int argc, char **argv)
{
    const quire_logger logger = qr_logger_of(config);
    quire_error        error  = {0};
    qr_result         *result = calloc(1, sizeof *result);
    if (result == NULL) {
        qr_complain("out of memory");
        return QR_EXIT_FAILED;
    }
    result->argc = argc;
    result->argv = argv;
    int status   = QR_EXIT_OK;
    if (qr_session_run(config, &logger, s->interrupt, result, &error) != QUIRE_OK) status = qr_report_error(&error);
    if (result->run_count > 0) {
        note_logs(s, config, result);
        const int published = publish(s, config, result);
        if (status == QR_EXIT_OK) status = published;
        status = judge(s, config, result, status);
    }
    qr_result_deinit(result);
    free(result);
    return status;
}

int qr_command_bench(int argc, char **argv)
{
    static const struct argp_child children[] = {{&qr_common_argp, 0, "Configuration", 1}, {0}};
    static const struct argp       argp       = {
                    .options  = options,
                    .parser   = parse,
                    .children = children,
                    .args_doc = "[CONFIG]",
                    .doc      = "Play a workload against an engine and report what came out, and whether to believe it.\v"
                                            "Without a model, a short run on synthetic qwen3-0.6b weights.\n\n"
                                            "  quire bench --model tinyllama-1.1b --profile concurrent --streams 16\n"
                                            "  quire bench chat.toml --request-rate 0.5 --duration 120s -o result.json\n"
                                            "  quire bench --model t5-base --encoder-tokens '{dist=\"uniform\",min=16,max=512}'\n"
                                            "  quire bench --model tinyllama-1.1b --trace conv.csv --set workload.trace.duration=10s\n\n"
                                            "Exit status: 0 done, 1 a run or a file failed, 2 usage or configuration, 3 "
                                            "slo.min_attainment missed, 4 INVALID with run.on_invalid = \"fail\", 130 interrupted.",
    };
    settings s = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &s);
    quire_config *config = load(&s);
    int           status = QR_EXIT_USAGE;
    signal(SIGPIPE, SIG_IGN);
    s.interrupt = qr_interrupt_install();
    if (config != NULL && !qr_arguments_printed(&s.common, config, &status) && is_runnable(&s, config))
        status = bench(&s, config, argc, argv);
    quire_config_destroy(config);
    qr_arguments_deinit(&s.common);
    return status;
}
