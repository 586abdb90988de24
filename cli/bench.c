/* quire bench: one workload against one engine, a table, and result files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/report/result_file.h"
#include "bench/session.h"
#include "cli/command.h"
#include "cli/dry_run.h"
#include "cli/ignored.h"
#include "cli/inputs.h"
#include "cli/interrupt.h"
#include "cli/mpirun.h"
#include "cli/output.h"
#include "cli/write.h"

enum { MAX_FILES = 16 };

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0,
     "also write FILE; the suffix chooses: " QR_RESULT_SUFFIXES "; - = JSON on stdout. Repeatable", 4},
    {0},
};

typedef struct settings {
    qr_arguments common;
    const char  *files[MAX_FILES];
    unsigned     file_count;
} settings;

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &s->common; return 0;
    case 'o':
        if (!qr_result_knows_suffix(value))
            argp_error(state, "--output %s: the suffix is none of " QR_RESULT_SUFFIXES, value);
        if (s->file_count == MAX_FILES) argp_error(state, "--output: more than %d files", MAX_FILES);
        if (qr_result_is_trace(value)) qr_arguments_set(&s->common, "--output", "output.trace_stages", "true");
        s->files[s->file_count++] = value;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* Without a model, the benchmark that `make bench` shows: a real shape that two cores can serve in a minute, and at
 * most two minutes of it where they are slower. */
static const qr_default scenario[] = {{"model.preset", "qwen3-0.6b", "model.preset"},
                                      {"workload.num_prompts", "32", "workload.num_prompts"},
                                      {"workload.prompt_tokens", "64", "workload.prompt_tokens.dist"},
                                      {"workload.output_tokens", "64", "workload.output_tokens.dist"},
                                      {"run.duration", "120s", "run.duration"},
                                      {"scheduler.max_num_seqs", "32", "scheduler.max_num_seqs"}};

static const char *file_at(const settings *s, const quire_config *config, size_t index)
{
    char key[48];
    if (index < s->file_count) return s->files[index];
    snprintf(key, sizeof key, "output.files[%zu]", index - s->file_count);
    return index - s->file_count < quire_config_count(config, "output.files") ? quire_config_string(config, key) : NULL;
}

static const char *prometheus_path(const settings *s, const quire_config *config)
{
    const char *path;
    for (size_t i = 0; (path = file_at(s, config, i)) != NULL; i++)
        if (qr_result_has_suffix(path, ".prom")) return path;
    return NULL;
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
        if (strcmp(path, "-") == 0) {
            stdout_is_json = true;
            if (qr_result_write_json(result, qr_stdout) && fflush(qr_stdout) == 0) continue;
            qr_complain("stdout: %s", qr_write_error(errno));
        } else {
            if (qr_result_write(result, path, &error) == QUIRE_OK) continue;
            qr_report_error(&error);
        }
        status = QR_EXIT_FAILED;
    }
    FILE *to = stdout_is_json || status != QR_EXIT_OK ? stderr : qr_stdout;
    if (!quire_config_boolean(config, "output.table")) return status;
    qr_result_table(result, isatty(to == stderr ? STDERR_FILENO : qr_stdout_descriptor()), to);
    if (fflush(to) == 0 && !ferror(to)) return status;
    qr_result_table(result, isatty(STDERR_FILENO), stderr); /* a closed pipe: the summary still reaches the terminal */
    return QR_EXIT_FAILED;
}

/* A server tells nothing of its steps. */
static bool is_of_engine(const char *path)
{
    return qr_result_has_suffix(path, ".steps.jsonl") || qr_result_has_suffix(path, ".prom") ||
           qr_result_is_trace(path);
}

static bool is_writable(const settings *s, const quire_config *config, size_t index)
{
    const char *path = file_at(s, config, index);
    if (!qr_result_knows_suffix(path))
        return qr_complain("output.files: %s: the suffix is none of " QR_RESULT_SUFFIXES, path), false;
    if (is_of_engine(path) && qr_target_is_http(config))
        return qr_complain("output.files: %s: it is made of an engine's steps, which the server of run.target does not "
                           "tell",
                           path),
               false;
    for (size_t i = 0; i < index; i++)
        if (qr_output_is_same(path, file_at(s, config, i)))
            return qr_complain("output.files: %s: given twice", path), false;
    return qr_inputs_are_kept("output.files", path, qr_arguments_config_path(&s->common), config) &&
           qr_output_is_possible("output.files", path);
}

/* What can be known to fail is refused before any work. */
static bool is_runnable(const settings *s, const quire_config *config)
{
    bool ok = true;
    for (size_t i = 0; file_at(s, config, i) != NULL; i++) ok &= is_writable(s, config, i);
    return ok;
}

static int judge(const quire_config *config, const qr_result *result, int status)
{
    const bool   fails  = strcmp(quire_config_string(config, "run.on_invalid"), "fail") == 0;
    const double needed = quire_config_number(config, "slo.min_attainment");
    if (status != QR_EXIT_OK) return status;
    for (uint32_t i = 0; i < result->run_count; i++) {
        if (result->runs[i].requests.due > 0 && result->runs[i].requests.completed == 0) return QR_EXIT_FAILED;
        if (result->runs[i].attainment < needed) return QR_EXIT_MISSED;
    }
    return fails && !qr_result_is_valid(result) ? QR_EXIT_INVALID : QR_EXIT_OK;
}

/* Keys that another command reads, or this one with another workload or load. */
static void warn_of_ignored(const quire_config *config)
{
    static const char *const capacity[] = {"capacity.min_rate", "capacity.max_rate", "capacity.confidence",
                                           "capacity.precision"};
    for (size_t i = 0; i < quire_config_count(config, "sweep"); i++) {
        char key[32];
        snprintf(key, sizeof key, "sweep[%zu].key", i);
        qr_warn("%s: [sweep] \"%s\" is an axis of `quire sweep`; bench runs one point",
                quire_config_origin(config, key), quire_config_string(config, key));
    }
    qr_ignored_warn(config);
    for (size_t i = 0; i < sizeof capacity / sizeof *capacity; i++)
        if (qr_is_changed(config, capacity[i]))
            qr_warn("%s: %s is read by `quire sweep --capacity` only", quire_config_origin(config, capacity[i]),
                    capacity[i]);
}

static int run(const settings *s, const quire_config *config, const quire_comm *comm, qr_result *result)
{
    const quire_logger plain     = qr_logger_of(config);
    const quire_logger logger    = qr_mpirun_logger(comm, &plain);
    volatile int      *interrupt = qr_interrupt_install();
    quire_error        error     = {0};
    int                status    = QR_EXIT_OK;
    qr_mpirun_leave_signals(comm);
    if (!qr_session_is_virtual(config) && !qr_target_is_http(config) && !qr_mpirun_follows(comm))
        qr_warn_of_machine(config);
    const quire_status ended = qr_session_run(config, &logger, comm, interrupt, result, &error);
    if (ended != QUIRE_OK) status = qr_mpirun_follows(comm) ? qr_exit_status(ended) : qr_report_error(&error);
    if (result->run_count == 0) return *interrupt == QR_INTERRUPT_ASKED ? QR_EXIT_INTERRUPTED : status;
    note_logs(s, config, result);
    const int published = publish(s, config, result);
    if (*interrupt == QR_INTERRUPT_ASKED) return QR_EXIT_INTERRUPTED;
    return judge(config, result, status == QR_EXIT_OK ? published : status);
}

static int bench(void *context, const quire_config *config)
{
    const settings *s = context;
    if (!is_runnable(s, config)) return QR_EXIT_USAGE;
    warn_of_ignored(config);
    if (s->common.dry_run) return qr_dry_run(&config, 1, true);
    qr_result *result = qr_arguments_result(&s->common, config);
    if (result == NULL) return QR_EXIT_FAILED;
    const quire_comm *comm   = NULL;
    const bool        engine = !qr_session_is_virtual(config) && !qr_target_is_http(config);
    if (engine ? !qr_mpirun_join("bench", &comm) : !qr_mpirun_is_alone("bench of a server or on the virtual clock")) {
        qr_result_destroy(result);
        return QR_EXIT_FAILED;
    }
    const char    *path    = qr_mpirun_follows(comm) ? NULL : prometheus_path(s, config);
    qr_prometheus *metrics = path ? qr_prometheus_create(path) : NULL;
    result->prometheus     = metrics;
    const int status       = run(s, config, comm, result);
    qr_mpirun_leave(comm);
    qr_result_destroy(result);
    qr_prometheus_destroy(metrics);
    return status;
}

int qr_command_bench(int argc, char **argv)
{
    static const struct argp_child children[] = {{&qr_workload_argp, 0, "Workload, load and run", 2}, {0}};
    static const struct argp       argp       = {
                    .options  = options,
                    .parser   = parse,
                    .children = children,
                    .args_doc = "[CONFIG]",
                    .doc = "Run a workload on an engine or a server, report the results, and say whether they are valid.\v"
                                       "Without a model, a run on synthetic qwen3-0.6b weights, of two minutes at most.\n\n"
                                       "  quire bench --model tinyllama-1.1b --profile concurrent --streams 16 --num-prompts 0 \\\n"
                                       "      --duration 120s --prompt-tokens 64 --output-tokens 32\n"
                                       "  quire bench chat.toml --request-rate 0.5 --duration 120s -o result.json\n"
                                       "  quire bench --model t5-base --encoder-tokens '{dist=\"uniform\",min=16,max=512}'\n"
                                       "  quire bench --model tinyllama-1.1b --trace conv.csv --set workload.trace.duration=10s\n"
                                       "  quire bench --target http://localhost:8000/v1 --model NAME --request-rate 2 --duration 60s\n\n"
                                       "Exit status: 0 done, 1 a run or a file failed, 2 usage or configuration, 3 "
                                       "slo.min_attainment missed, 4 INVALID with run.on_invalid = \"fail\", 130 interrupted.",
    };
    settings s = {.common = {.defaults = scenario, .default_count = sizeof scenario / sizeof *scenario}};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, bench, &s);
}
