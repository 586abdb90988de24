/* quire check: is this configuration valid, does the model fit it, and does all of it fit into memory? */
#include <stdio.h>

#include "base/error.h"

#include "bench/session.h"
#include "cli/command.h"
#include "cli/forecast.h"
#include "model/declare.h"

typedef struct settings {
    qr_arguments common;
    bool         tensors;
} settings;

static void print_tensor(void *context, const qr_tensor_spec *spec, const qr_tensor *stored)
{
    static const char *const loaded[] = {[QR_F32] = "f32", [QR_BF16] = "bf16", [QR_INT8] = "int8"};
    char                     shape[32], groups[48] = "";
    (void)context;
    if (spec->rank == 1)
        snprintf(shape, sizeof shape, "[%u]", spec->columns);
    else
        snprintf(shape, sizeof shape, "[%u, %u]", spec->rows, spec->columns);
    if (spec->codes.bits > 0)
        snprintf(groups, sizeof groups, "int%u, groups of %u%s", spec->codes.bits, spec->codes.group,
                 spec->codes.has_minimum ? " with minimum" : "");
    fprintf(qr_stdout, "%-50s %-16s %-7s -> %s\n", spec->name, shape, stored ? stored->format->name : "random",
            groups[0] != 0 ? groups : loaded[spec->dtype]);
}

static quire_status print_tensors(const quire_config *config, quire_error *error)
{
    const quire_logger silent = {0};
    quire_model       *model;
    QR_TRY(qr_session_open_model(config, &silent, &model, error));
    const qr_dtype       dtype  = qr_model_weight_dtype(model);
    const qr_code_format codes  = qr_model_weight_codes(model);
    const quire_status   status = qr_declare_list(qr_model_weights(model), dtype, &codes, print_tensor, NULL, error);
    quire_model_destroy(model);
    return status;
}

static int check(void *context, const quire_config *config)
{
    const settings *s = context;
    qr_forecast     forecast;
    quire_error     error = {0};
    if (s->tensors && print_tensors(config, &error) != QUIRE_OK) return qr_report_error(&error);
    if (qr_forecast_make(config, &forecast, &error) != QUIRE_OK) return qr_report_error(&error);
    qr_forecast_print(&forecast, qr_stdout);
    const char *obstacle = qr_forecast_obstacle(&forecast);
    if (obstacle == NULL) fprintf(qr_stdout, "ok\n");
    fflush(qr_stdout);
    if (obstacle != NULL) qr_complain("%s", obstacle);
    return obstacle == NULL ? QR_EXIT_OK : QR_EXIT_USAGE;
}

enum { OPTION_TENSORS = 1 };

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    (void)value;
    if (option == ARGP_KEY_INIT) state->child_inputs[0] = &s->common;
    if (option != OPTION_TENSORS) return option == ARGP_KEY_INIT ? 0 : ARGP_ERR_UNKNOWN;
    s->tensors = true;
    return 0;
}

int qr_command_check(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"tensors", OPTION_TENSORS, NULL, 0, "list the model's tensors: shape, stored type, and what it becomes", 0},
        {0}};
    static const struct argp argp = {
        .options  = options,
        .parser   = parse,
        .args_doc = "[CONFIG]",
        .doc      = "Check a configuration and its model, and forecast the memory; nothing is loaded."
                    "\vExit status 2: the configuration is wrong, or does not fit into memory.\n\n"
                    "  quire check quire.toml\n"
                    "  quire check --model llama-3.1-8b --set kv_cache.size=8GiB",
    };
    settings s = {0};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, check, &s);
}
