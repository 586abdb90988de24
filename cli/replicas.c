/* quire replicas: replicas of a simulated engine behind a router; a row for each number of them and each routing. */
#include <stdio.h>
#include <string.h>

#include "bench/replicas/replicas.h"
#include "bench/session.h"
#include "cli/command.h"

typedef struct settings {
    qr_arguments common;
} settings;

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    (void)value;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &s->common; return 0;
    case ARGP_KEY_END:
        if (s->common.dry_run) argp_error(state, "--dry-run: `quire replicas` only simulates; leave it out");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static qr_routing routing_named(const char *name)
{
    unsigned i = 0;
    while (i < QR_ROUTING_PREFIX && strcmp(name, qr_routing_names[i]) != 0) i++;
    return (qr_routing)i;
}

static void print_head(void)
{
    fprintf(qr_stdout, "%8s %-12s %9s %12s %6s %6s %9s %9s %9s %9s %9s %6s %9s %8s\n", "replicas", "routing",
            "requests", "output tok/s", "hits", "busy", "TTFT mean", "P50", "P90", "P99", "TPOT mean", "most",
            "preempted", "wall");
}

/* Times in seconds but TPOT, which is in ms; shares in per cent; `most` is the replica with the most requests, as a
 * multiple of the mean. */
static void print_row(const qr_replicas_options *o, const qr_replicas_result *r)
{
    const double looked_up = r->prompt_tokens > 0 ? (double)r->prompt_tokens : 1;
    fprintf(qr_stdout,
            "%8u %-12s %9llu %12.2f %5.1f%% %5.1f%% %8.3fs %8.3fs %8.3fs %8.3fs %7.1fms %5.2fx %9llu %7.1fs\n",
            o->count, qr_routing_names[o->routing], (unsigned long long)r->requests,
            (double)r->output_tokens / r->length_s, 100 * (double)r->cached_tokens / looked_up, 100 * r->busy_share,
            r->ttft.mean, r->ttft.any[QR_REPLICAS_P50], r->ttft.any[QR_REPLICAS_P90], r->ttft.any[QR_REPLICAS_P99],
            1e3 * r->tpot.mean, r->most_requests, (unsigned long long)r->preemptions, r->wall_s);
    if (r->refused > 0)
        fprintf(qr_stdout, "%8s %llu requests refused: the queue of their replica was full\n", "",
                (unsigned long long)r->refused);
    fflush(qr_stdout);
}

static quire_status run_all(const quire_config *config, const quire_model_info *model, quire_error *error)
{
    qr_replicas_options o = {
        .config = config, .model = model, .slack = (uint32_t)quire_config_integer(config, "replicas.slack")};
    qr_replicas_result r = {0};
    char               key[48];
    for (size_t i = 0; i < quire_config_count(config, "replicas.count"); i++) {
        snprintf(key, sizeof key, "replicas.count[%zu]", i);
        o.count = (uint32_t)quire_config_integer(config, key);
        for (size_t k = 0; k < quire_config_count(config, "replicas.routing"); k++) {
            snprintf(key, sizeof key, "replicas.routing[%zu]", k);
            o.routing                 = routing_named(quire_config_string(config, key));
            const quire_status status = qr_replicas_run(&o, &r, error);
            if (status != QUIRE_OK) return status;
            print_row(&o, &r);
        }
    }
    fprintf(qr_stdout, "%.0f %% of the last run's steps are beyond what the cost model was fitted to\n",
            r.steps > 0 ? 100 * (double)r.extrapolated / (double)r.steps : 0);
    return QUIRE_OK;
}

static int replicas(void *context, const quire_config *config)
{
    const quire_logger logger = qr_logger_of(config);
    quire_error        error  = {0};
    quire_model       *model  = NULL;
    quire_model_info   info   = {.size = sizeof info};
    (void)context;
    if (!qr_session_is_virtual(config)) {
        quire_config_refuse(config, "run.clock", &error, "`quire replicas` needs \"virtual\"");
        return qr_report_error(&error);
    }
    if (qr_session_open_model(config, &logger, &model, &error) != QUIRE_OK) return qr_report_error(&error);
    quire_model_describe(model, &info);
    print_head();
    const quire_status status = run_all(config, &info, &error);
    quire_model_destroy(model);
    if (status != QUIRE_OK) return qr_report_error(&error);
    return fflush(qr_stdout) == 0 && !ferror(qr_stdout) ? QR_EXIT_OK : QR_EXIT_FAILED;
}

static const char help[] =
    "Simulate replicas of an engine behind a router, on the virtual clock."
    "\vEach replica brings a copy of the workload with tokens of its own, and all copies go through the router. Needs "
    "run.clock = \"virtual\" and what goes with it.\n\n"
    "  quire replicas bench/scenarios/mooncake_replicas.toml --trace mooncake_conversation_trace.jsonl";

int qr_command_replicas(int argc, char **argv)
{
    static const struct argp_child children[] = {{&qr_workload_argp, 0, NULL, 0}, {0}};
    static const struct argp       argp = {.parser = parse, .children = children, .args_doc = "[CONFIG]", .doc = help};
    settings                       s    = {0};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, replicas, &s);
}
