/* quire check: is this configuration valid, does the model fit it, and does all of it fit into memory? */
#include <stdio.h>

#include "cli/command.h"
#include "cli/forecast.h"

static int check(void *context, const quire_config *config)
{
    qr_forecast forecast;
    quire_error error = {0};
    (void)context;
    if (qr_forecast_make(config, &forecast, &error) != QUIRE_OK) return qr_report_error(&error);
    qr_forecast_print(&forecast, qr_stdout);
    const char *obstacle = qr_forecast_obstacle(&forecast);
    if (obstacle == NULL) fprintf(qr_stdout, "ok\n");
    fflush(qr_stdout);
    if (obstacle != NULL) qr_complain("%s", obstacle);
    return obstacle == NULL ? QR_EXIT_OK : QR_EXIT_USAGE;
}

int qr_command_check(int argc, char **argv)
{
    static const struct argp argp = {
        .args_doc = "[CONFIG]",
        .doc      = "Check a configuration and its model, and forecast the memory; nothing is loaded."
                    "\vExit status 2: the configuration is wrong, or does not fit into memory.\n\n"
                    "  quire check quire.toml\n"
                    "  quire check --model llama-3.1-8b --set kv_cache.size=8GiB",
    };
    qr_arguments arguments = {0};
    qr_parse(&argp, argc, argv, &arguments);
    return qr_arguments_run(&arguments, check, NULL);
}
