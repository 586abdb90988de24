/* quire workload: what a configured workload or a trace asks for; described, or written as a trace. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/result_file.h"
#include "bench/session.h"
#include "bench/workload/describe.h"
#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/output.h"

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0,
     "*.jsonl: write the requests as a trace of format quire; *.json: write the description; - = the trace on stdout "
     "and the description on stderr",
     4},
    {0},
};

typedef struct settings {
    qr_arguments common;
    const char  *output; /* NULL: describe only */
} settings;

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &s->common; return 0;
    case 'o':
        if (s->output != NULL) argp_error(state, "--output %s: only one file can be written", value);
        if (!qr_output_is_stdout(value) && !qr_result_has_suffix(value, ".jsonl") &&
            !qr_result_has_suffix(value, ".json"))
            argp_error(state, "--output %s: the suffix is neither .jsonl nor .json", value);
        s->output = value;
        return 0;
    case ARGP_KEY_END:
        if (s->common.dry_run) argp_error(state, "--dry-run: `quire workload` runs nothing; leave it out");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* Without a model lengths are limited by nothing but the library, and ids are drawn from 32000. */
static quire_status facts(const quire_config *config, quire_model_info *info_out, uint32_t *max_model_len_out,
                          quire_error *error)
{
    const quire_logger logger = qr_logger_of(config);
    quire_model       *model  = NULL;
    *info_out                 = (quire_model_info){.size = sizeof *info_out, .vocab_size = 32000};
    if (quire_config_model_path(config) != NULL || quire_config_model_preset(config) != NULL) {
        const quire_status status = qr_session_open_model(config, &logger, &model, error);
        if (status != QUIRE_OK) return status;
        quire_model_describe(model, info_out);
        info_out->name = info_out->architecture = NULL; /* they live as long as the model */
    }
    quire_model_destroy(model);
    *max_model_len_out = quire_config_engine(config)->max_model_len;
    if (*max_model_len_out == 0) *max_model_len_out = info_out->max_position_embeddings;
    if (*max_model_len_out == 0) *max_model_len_out = 1 << 20;
    return QUIRE_OK;
}

/* A workload is drawn once; each look at it needs its own. */
static quire_status draw(const quire_config *config, qr_workload **workload_out, quire_error *error)
{
    quire_model_info   info;
    uint32_t           max_model_len;
    const quire_status status = facts(config, &info, &max_model_len, error);
    if (status != QUIRE_OK) return status;
    const uint64_t seed = (uint64_t)quire_config_integer(config, "workload.seed");
    return qr_workload_create(config, &info, max_model_len, seed, workload_out, error);
}

static uint64_t end_of(const quire_config *config) { return (uint64_t)quire_config_integer(config, "run.duration"); }

static quire_status describe(const quire_config *config, qr_description *description_out, quire_error *error)
{
    const uint32_t asked = quire_config_engine(config)->block_size;
    qr_workload   *workload;
    quire_status   status = draw(config, &workload, error);
    if (status != QUIRE_OK) return status;
    status = qr_describe(workload, asked ? asked : 32, end_of(config), description_out, error);
    qr_workload_destroy(workload);
    return status;
}

static quire_status write_trace(const quire_config *config, FILE *to, quire_error *error)
{
    qr_workload *workload;
    quire_status status = draw(config, &workload, error);
    if (status != QUIRE_OK) return status;
    status = qr_workload_write(workload, end_of(config), to, error);
    qr_workload_destroy(workload);
    return status;
}

static bool write_json(const qr_description *description, FILE *to)
{
    json_t    *object = qr_description_json(description);
    const bool ok     = object != NULL && json_dumpf(object, to, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
    json_decref(object);
    return ok && fputc('\n', to) != EOF;
}

typedef struct output {
    const quire_config   *config;
    const qr_description *description; /* NULL: the trace is wanted */
} output;

static bool write_output(const void *what, FILE *to)
{
    const output *o     = what;
    quire_error   error = {0};
    return o->description != NULL ? write_json(o->description, to) : write_trace(o->config, to, &error) == QUIRE_OK;
}

/* A trace holds lengths, not ids: written as one, requests with ids would become others. */
static bool is_writable(const settings *s, const quire_config *config)
{
    const char *source = quire_config_string(config, "workload.source");
    if (s->output == NULL) return true;
    if (strcmp(source, "file") == 0 && !qr_result_has_suffix(s->output, ".json")) {
        qr_complain("--output %s: requests with token ids cannot be written as a trace; *.json writes the description",
                    s->output);
        return false;
    }
    return qr_inputs_are_kept("--output", s->output, qr_arguments_config_path(&s->common), config) &&
           qr_output_is_possible("--output", s->output);
}

static int workload(void *context, const quire_config *config)
{
    const settings *s     = context;
    quire_error     error = {0};
    qr_description  description;
    if (!is_writable(s, config)) return QR_EXIT_USAGE;
    if (describe(config, &description, &error) != QUIRE_OK) return qr_report_error(&error);
    const bool   is_json = s->output != NULL && qr_result_has_suffix(s->output, ".json");
    const output what    = {config, is_json ? &description : NULL};
    const bool   ok      = s->output == NULL || qr_output_write(s->output, write_output, &what);
    FILE        *to      = qr_output_is_stdout(s->output) ? stderr : qr_stdout;
    qr_description_print(&description, to);
    return fflush(to) == 0 && !ferror(to) && ok ? QR_EXIT_OK : QR_EXIT_FAILED;
}

int qr_command_workload(int argc, char **argv)
{
    static const struct argp_child children[] = {{&qr_workload_argp, 0, NULL, 0}, {0}};
    static const struct argp       argp       = {
                    .options  = options,
                    .parser   = parse,
                    .children = children,
                    .args_doc = "[CONFIG]",
                    .doc = "Describe the workload that a benchmark would play, or write it as a trace: lengths, gaps, reuse."
                                       "\vNothing is run. Without a model, prompts may be as long as 1048576 tokens.\n\n"
                                       "  quire workload chat.toml\n"
                                       "  quire workload --trace AzureLLMInferenceTrace_conv.csv\n"
                                       "  quire workload --profile gamma --burstiness 0.25 --num-prompts 1000 -o bursts.jsonl",
    };
    settings s = {0};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, workload, &s);
}
