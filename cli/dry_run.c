/* Prints what would be run. Time is a lower bound: what must move and be multiplied, over the roofline of this machine,
 * measured by an engine of the same threads with a tiny model. */
#include "cli/dry_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/printable.h"
#include "bench/session.h"
#include "bench/workload/fit.h"
#include "cli/forecast.h"

typedef struct load { /* of one repetition */
    const char *profile;
    bool        closed, offline, by_requests; /* by_requests: ends with the last request, not by the clock */
    uint32_t    streams;
    double      requests, prompt_tokens, output_tokens, encoder_tokens, longest; /* longest: output of a request */
    double      last_due_s, longest_window_s;                                    /* 0: until the requests have ended */
} load;

static void warn(void *context, const char *sentence)
{
    (void)context;
    qr_warn("%s", sentence);
}

/* Requests that can never run: all of them are an error, some a warning. */
static quire_status check_fit(const qr_workload *workload, const quire_model_info *info, const quire_stats *stats,
                              quire_error *error)
{
    qr_fit             fit;
    const quire_status status = qr_workload_check_fit(workload, info, stats, &fit, error);
    if (status == QUIRE_OK) qr_fit_warn(&fit, workload, warn, NULL);
    return status;
}

enum { MAX_DRAWN = 1000000 };

/* `sizes`: of the pool and the model; blocks = 0: the pool is refused anyway. */
static quire_status draw(const quire_config *config, const quire_model_info *info, const quire_stats *sizes, load *l,
                         quire_error *error)
{
    qr_workload   *workload;
    const uint64_t seed   = (uint64_t)quire_config_integer(config, "workload.seed");
    quire_status   status = qr_workload_create(config, info, sizes->max_model_len, seed, &workload, error);
    *l                    = (load){0};
    if (status != QUIRE_OK) return status;
    const uint32_t count = qr_workload_count(workload);
    l->profile           = qr_workload_profile(workload);
    l->closed            = qr_workload_is_closed(workload);
    l->offline           = qr_workload_is_offline(workload);
    l->streams           = l->closed ? qr_workload_streams(workload) : count;
    l->longest_window_s  = (double)quire_config_integer(config, "run.duration") * 1e-9;
    l->by_requests       = count != UINT32_MAX && (l->offline || l->longest_window_s == 0);
    for (uint32_t i = 0; l->by_requests && i < count && i < MAX_DRAWN; i++) {
        qr_workload_request request;
        qr_workload_next(workload, &request);
        l->requests++;
        l->prompt_tokens += request.prompt_tokens;
        l->output_tokens += request.output_tokens;
        l->encoder_tokens += request.encoder_tokens;
        l->longest    = fmax(l->longest, request.output_tokens);
        l->last_due_s = (double)request.due_ns * 1e-9;
    }
    if (sizes->blocks > 0) status = check_fit(workload, info, sizes, error);
    qr_workload_destroy(workload);
    return status;
}

/* The team of the configuration, with a model that costs nothing. */
static quire_status measure(const quire_config *config, quire_limits *limits, quire_error *error)
{
    quire_model         *model   = NULL;
    quire_engine        *engine  = NULL;
    quire_engine_options options = *quire_config_engine(config);
    quire_model_options  synth   = {.size = sizeof synth, .logger = {.level = QUIRE_LOG_ERROR}};
    quire_engine_options small   = {.size          = sizeof small,
                                    .cpus          = options.cpus,
                                    .threads       = options.threads,
                                    .smt           = options.smt,
                                    .bind          = options.bind,
                                    .isa           = options.isa,
                                    .num_kv_blocks = 64,
                                    .logger        = {.level = QUIRE_LOG_ERROR}};
    quire_status         status  = quire_model_synthetic("tiny", &synth, &model, error);
    *limits                      = (quire_limits){.size = sizeof *limits};
    if (status == QUIRE_OK) status = quire_engine_create(&small, model, &engine, error);
    if (status == QUIRE_OK) status = quire_engine_measure_limits(engine, limits, error);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return status;
}

static double gflops_of(const qr_forecast *f, const quire_limits *limits)
{
    if (f->info.weight_dtype == QUIRE_DTYPE_F32) return limits->f32_gflops;
    return limits->bf16_gflops > 0 ? limits->bf16_gflops : limits->f32_gflops;
}

/* Seconds below which one repetition that ends with its requests cannot come: the larger of bytes and operations. The
 * embedding table is only looked up in; the output matrix counts for output tokens alone, of experts those that one
 * token chooses. */
static double floor_s(const qr_forecast *f, const load *l, const quire_limits *limits)
{
    const double table    = (double)f->info.vocab_size * f->info.hidden_size;
    const double body     = fmax(0, (double)f->info.active_parameters - 2 * table);
    const double active   = (double)f->info.active_parameters / (double)f->info.parameters;
    const double together = fmin(fmin(f->scheduler.max_num_seqs, l->streams), l->requests);
    const double steps    = fmax(l->output_tokens / fmax(1, together), l->longest);
    const double rows     = l->prompt_tokens + l->output_tokens + l->encoder_tokens;
    const double moved = fmax(0, active * (double)f->memory.weight_bytes - 2 * table); /* the table is bf16 at least */
    const double bytes_s = steps * moved / (limits->read_gbs * 1e9);
    const double flops_s = 2 * (rows * body + l->output_tokens * table) / (gflops_of(f, limits) * 1e9);
    return fmax(fmax(bytes_s, flops_s), l->closed || l->offline ? 0 : l->last_due_s);
}

static double seconds(const quire_config *config, const char *key)
{
    return (double)quire_config_integer(config, key) * 1e-9;
}

static void print_span(const char *what, double low, double high)
{
    if (high > low)
        fprintf(qr_stdout, "%s%.0f to %.0f s", what, low, high);
    else
        fprintf(qr_stdout, "%s%.0f s", what, low);
}

/* Windows by the clock: warm-up, window, and the time that requests in flight may take to end. */
static void print_windows(const quire_config *config, double repetitions, double pauses, const char *what,
                          double *total)
{
    const char  *mode = quire_config_string(config, "run.warmup.mode");
    const bool   none = strcmp(mode, "none") == 0, steady = strcmp(mode, "steady") == 0;
    const double min      = none ? 0 : seconds(config, "run.warmup.min");
    const double max      = steady ? fmax(min, seconds(config, "run.warmup.max")) : min;
    const double duration = seconds(config, "run.duration"), grace = seconds(config, "run.grace");
    fprintf(qr_stdout, "%-11s", what);
    print_span("warm-up ", min, max);
    fprintf(qr_stdout, ", window %.0f s, at most %.0f s for requests in flight; ", duration, grace);
    print_span("in all ", repetitions * (min + duration) + pauses, repetitions * (max + duration + grace) + pauses);
    fprintf(qr_stdout, "\n");
    *total += repetitions * (max + duration + grace) + pauses;
}

/* Of a number of seconds, so that a short time is not 0.0. */
static int decimals_of(double seconds) { return seconds >= 0.95 ? 1 : seconds >= 0.01 ? 2 : 4; }

static void print_requests(const qr_forecast *f, const load *l, const quire_limits *limits, double repetitions,
                           double pauses, double *total)
{
    const double most  = l->longest_window_s > 0 ? l->longest_window_s : INFINITY;
    const double needs = floor_s(f, l, limits), least = fmin(most, needs);
    fprintf(qr_stdout, "work       %.0f request%s, %.0f prompt tokens, %.0f output tokens", l->requests,
            qr_plural((uint64_t)l->requests), l->prompt_tokens, l->output_tokens);
    if (l->encoder_tokens > 0) fprintf(qr_stdout, ", %.0f encoder tokens", l->encoder_tokens);
    fprintf(qr_stdout, "\ntime       at least %.*f s each (this machine: %.1f GB/s read bandwidth, %.0f GFLOP/s)",
            decimals_of(needs), needs, limits->read_gbs, gflops_of(f, limits));
    if (isfinite(most)) fprintf(qr_stdout, ", of which run.duration allows %.0f s", most);
    const double all = repetitions * least + pauses;
    fprintf(qr_stdout, "; in all at least %.*f s\n", decimals_of(all), all);
    if (needs > most) fprintf(qr_stdout, "           too long: not all requests can end within run.duration\n");
    *total += repetitions * least + pauses;
}

static double repetitions_of(const quire_config *config)
{
    return (double)quire_config_integer(config, "run.repetitions");
}

static void print_runs(const quire_config *config, const load *l, bool cools)
{
    const double repetitions = repetitions_of(config);
    fprintf(qr_stdout, "runs       %.0f, profile %s", repetitions, l->profile);
    if (repetitions > 1 && cools) fprintf(qr_stdout, ", %.0f s between them", seconds(config, "run.cooldown"));
    fprintf(qr_stdout, "\n");
}

/* ---- on the virtual clock ---- */

/* Seconds below which a run that ends with its requests cannot come: no step is cheaper than one of one row, and none
 * holds more than max_num_seqs decoding rows. */
static double simulated_floor_s(const quire_config *config, const load *l, const qr_cost_model *model)
{
    const double       most     = (double)quire_config_integer(config, "scheduler.max_num_seqs");
    const double       together = fmax(1, fmin(fmin(most, l->streams), l->requests));
    const double       steps    = fmax(l->output_tokens / together, l->longest);
    const qr_step_work least    = {.rows = 1, .rows_logits = 1, .sequences = 1};
    return fmax(steps * qr_cost_model_seconds(model, &least), l->closed || l->offline ? 0 : l->last_due_s);
}

static void print_simulation(const quire_config *config, const load *l, const qr_cost_report *cost, bool times)
{
    const double repetitions = repetitions_of(config);
    fprintf(qr_stdout, "memory     only for the step log and the requests: no model is loaded\n");
    fprintf(qr_stdout, "cost model %zu steps of %s, error per step: median %.1f %%, P90 %.1f %%\n", cost->model.steps,
            cost->path, 100 * cost->model.fitted.median, 100 * cost->model.fitted.p90);
    if (!times) return;
    print_runs(config, l, false);
    const double least = l->by_requests ? simulated_floor_s(config, l, &cost->model) : 0;
    if (l->by_requests)
        fprintf(qr_stdout,
                "work       %.0f request%s, %.0f prompt tokens, %.0f output tokens\n"
                "simulated  at least %.*f s each, in all at least %.*f s\n",
                l->requests, qr_plural((uint64_t)l->requests), l->prompt_tokens, l->output_tokens, decimals_of(least),
                least, decimals_of(repetitions * least), repetitions * least);
    else
        print_windows(config, repetitions, 0, "simulated", &(double){0});
}

/* What a simulated engine needs is checked by creating one. */
static quire_status plan_virtual(const quire_config *config, bool times, quire_error *error)
{
    const quire_logger logger = qr_logger_of(config);
    quire_model       *model  = NULL;
    qr_target          target = {0};
    quire_model_info   info   = {.size = sizeof info};
    quire_stats        stats  = {.size = sizeof stats};
    load               l;
    quire_status       status = qr_session_open_model(config, &logger, &model, error);
    if (status != QUIRE_OK) return status;
    quire_model_describe(model, &info);
    status = qr_target_virtual_create(config, &info, &target, error);
    if (status == QUIRE_OK) {
        target.stats(target.self, &stats);
        status = draw(config, &info, &stats, &l, error);
    }
    if (status == QUIRE_OK) {
        fprintf(qr_stdout, "model      %s: %s, %.1f M parameters\n", info.name, info.architecture,
                (double)info.parameters / 1e6);
        fprintf(qr_stdout, "clock      virtual: %llu KV blocks of %u tokens, %.1f MiB in the simulated engine\n",
                (unsigned long long)stats.blocks, stats.block_size, (double)stats.kv_cache_bytes / (1 << 20));
        print_simulation(config, &l, qr_target_virtual_cost(&target), times);
    }
    if (target.self != NULL) target.destroy(target.self);
    quire_model_destroy(model);
    return status;
}

/* ---- a server ---- */

/* What it can do is not known before it is measured; that it is there, and has the model, is. */
static quire_status plan_remote(const quire_config *config, bool times, double *total, quire_error *error)
{
    qr_http_facts    facts;
    load             l;
    quire_model_info info  = {.size = sizeof info};
    quire_stats      sizes = {.size = sizeof sizes};
    QR_TRY(qr_target_http_look(config, &facts, error));
    info.vocab_size     = facts.vocab_size;
    sizes.max_model_len = facts.max_model_len > 0 ? facts.max_model_len : QR_HTTP_UNKNOWN_LENGTH;
    QR_TRY(draw(config, &info, &sizes, &l, error));
    fprintf(qr_stdout, "server     %s\nmodel      %s", facts.url, facts.model);
    if (facts.max_model_len > 0) fprintf(qr_stdout, ", at most %u tokens", facts.max_model_len);
    fprintf(qr_stdout, "\n");
    if (!times) return QUIRE_OK;
    const double repetitions = repetitions_of(config), pauses = (repetitions - 1) * seconds(config, "run.cooldown");
    print_runs(config, &l, true);
    if (l.by_requests)
        fprintf(qr_stdout, "work       %.0f request%s, %.0f prompt tokens, %.0f output tokens\n", l.requests,
                qr_plural((uint64_t)l.requests), l.prompt_tokens, l.output_tokens);
    else
        print_windows(config, repetitions, pauses, "time", total);
    return QUIRE_OK;
}

/* Prints one plan; limits NULL: without times. */
static quire_status plan(const quire_config *config, const quire_limits *limits, double *total, bool *fits,
                         quire_error *error)
{
    qr_forecast       f;
    load              l;
    quire_status      status = qr_forecast_make(config, &f, error);
    const quire_stats sizes  = {.blocks        = f.pool_error.status == QUIRE_OK ? f.scheduler.num_blocks : 0,
                                .block_size    = f.scheduler.block_size,
                                .max_model_len = f.scheduler.max_model_len};
    if (status == QUIRE_OK) status = draw(config, &f.info, &sizes, &l, error);
    if (status != QUIRE_OK) return status;
    const double repetitions = repetitions_of(config), pauses = (repetitions - 1) * seconds(config, "run.cooldown");
    qr_forecast_print(&f, qr_stdout);
    if (limits != NULL) print_runs(config, &l, true);
    if (limits != NULL && l.by_requests)
        print_requests(&f, &l, limits, repetitions, pauses, total);
    else if (limits != NULL)
        print_windows(config, repetitions, pauses, "time", total);
    const char *obstacle = qr_forecast_obstacle(&f);
    *fits                = obstacle == NULL;
    fflush(qr_stdout);
    if (obstacle != NULL) qr_complain("%s", obstacle);
    return QUIRE_OK;
}

int qr_dry_run(const quire_config *const *configs, size_t count, bool times)
{
    quire_error  error    = {0};
    quire_limits limits   = {0};
    double       total    = 0;
    bool         fits     = true;
    quire_status status   = QUIRE_OK;
    size_t       measured = 0; /* configurations on the real clock */
    for (size_t i = 0; i < count && status == QUIRE_OK && fits; i++) {
        if (count > 1) fprintf(qr_stdout, "%s---- %zu of %zu\n", i ? "\n" : "", i + 1, count);
        if (qr_session_is_virtual(configs[i])) {
            status = plan_virtual(configs[i], times, &error);
            continue;
        }
        if (qr_target_is_http(configs[i])) {
            status = plan_remote(configs[i], times, &total, &error);
            continue;
        }
        if (measured++ == 0 && times) status = measure(configs[i], &limits, &error);
        if (status == QUIRE_OK) status = plan(configs[i], times ? &limits : NULL, &total, &fits, &error);
    }
    fflush(qr_stdout);
    if (status != QUIRE_OK) return qr_report_error(&error);
    if (fits && count > 1 && measured > 0 && times) fprintf(qr_stdout, "\n%zu points: about %.0f s\n", count, total);
    if (fits && count > 1 && measured == 0)
        fprintf(qr_stdout, "\n%zu points, all %s\n", count, qr_target_is_http(configs[0]) ? "of servers" : "simulated");
    if (fits) fprintf(qr_stdout, "dry run: no request was run\n");
    return fits ? QR_EXIT_OK : QR_EXIT_USAGE;
}
