/* Opens model and target, plays repetitions against them, and measures the roofline in between. */
#include "bench/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/agree.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "bench/report/result_file.h"
#include "bench/result/roofline.h"
#include "bench/run/target_engine.h"
#include "bench/workload/fit.h"

quire_status qr_session_open_model(const quire_config *config, const quire_logger *logger, quire_model **model_out,
                                   quire_error *error)
{
    quire_model_options options = *quire_config_model(config);
    options.logger              = *logger;
    const char *path = quire_config_model_path(config), *preset = quire_config_model_preset(config);
    *model_out = NULL;
    if (path != NULL) return quire_model_load(path, &options, model_out, error);
    if (preset != NULL) return quire_model_synthetic(preset, &options, model_out, error);
    return qr_fail(error, QUIRE_ERR_INVALID, "no model: set model.path or model.preset, or give --model");
}

struct qr_session {
    quire_logger  logger;
    quire_model  *model;  /* NULL: of a server, and not known here */
    quire_engine *engine; /* NULL: run.clock = virtual, or run.target */
    qr_target     target; /* the engine, a simulated one, or a server */
    quire_limits  limits; /* as measured last */
    qr_roofline   roof;   /* the limits that live metrics compare steps with */
    char         *asked;  /* the part of the configuration that model and engine read */
};

bool qr_session_is_virtual(const quire_config *config)
{
    const char *clock = quire_config_string(config, "run.clock");
    return clock != NULL && strcmp(clock, "virtual") == 0;
}

static const char *text_of(const quire_config *config, const char *key)
{
    const char *text = quire_config_string(config, key);
    return text != NULL ? text : "";
}

/* What decides how an engine is made: the library's keys, the clock, and the server. NULL: out of memory. */
static char *engine_part(const quire_config *config)
{
    char *part = NULL, *text = quire_config_print(config, QUIRE_PRINT_BARE, "quire");
    if (text == NULL ||
        asprintf(&part, "%s\n%d %s\n%s %s %lld %lld %lld", text, qr_session_is_virtual(config),
                 text_of(config, "run.cost_model"), text_of(config, "run.target"), text_of(config, "run.target_model"),
                 (long long)quire_config_integer(config, "run.target_vocab_size"),
                 (long long)quire_config_integer(config, "run.target_connections"),
                 (long long)quire_config_integer(config, "run.target_timeout")) < 0)
        part = NULL;
    quire_free(text);
    return part;
}

bool qr_session_serves(const qr_session *session, const quire_config *config)
{
    char      *asked  = engine_part(config);
    const bool serves = asked != NULL && strcmp(asked, session->asked) == 0;
    free(asked);
    return serves;
}

/* The threads' stages cost memory and are looked at in a trace only. */
static bool wants_stages(const quire_config *config)
{
    const size_t count = quire_config_count(config, "output.files");
    bool         wants = quire_config_boolean(config, "output.trace_stages");
    for (size_t i = 0; i < count && !wants; i++) {
        char key[48];
        snprintf(key, sizeof key, "output.files[%zu]", i);
        wants = qr_result_is_trace(quire_config_string(config, key));
    }
    return wants;
}

/* A model that is named as well gives its vocabulary, so that the prompts are those of a run of that model. */
static quire_status open_server(qr_session *session, const quire_config *config, quire_error *error)
{
    quire_model_info info = {.size = sizeof info};
    if (quire_config_model_path(config) != NULL || quire_config_model_preset(config) != NULL) {
        QR_TRY(qr_session_open_model(config, &session->logger, &session->model, error));
        quire_model_describe(session->model, &info);
    }
    if (info.encoder_feature_size > 0)
        return quire_config_refuse(config, "run.target", error, "a completion has no place for a model's features");
    return qr_target_http_create(config, info.vocab_size, &session->logger, &session->target, error);
}

static quire_status open_engine(qr_session *session, const quire_config *config, const quire_comm *comm,
                                quire_error *error)
{
    quire_engine_options options = *quire_config_engine(config);
    options.logger               = session->logger;
    options.comm                 = comm;
    if (wants_stages(config)) options.stage_slices = QR_STAGES_PER_STEP;
    session->asked = engine_part(config);
    if (session->asked == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "bench: out of memory");
    if (qr_target_is_http(config)) return open_server(session, config, error);
    QR_TRY(qr_agree(comm, qr_session_open_model(config, &session->logger, &session->model, error), NULL, error));
    if (qr_session_is_virtual(config)) {
        quire_model_info info = {.size = sizeof info};
        quire_model_describe(session->model, &info);
        return qr_target_virtual_create(config, &info, &session->target, error);
    }
    QR_TRY(quire_engine_create(&options, session->model, &session->engine, error));
    return qr_target_engine_create(session->engine, &session->target, error);
}

quire_status qr_session_open(const quire_config *config, const quire_logger *logger, const quire_comm *comm,
                             qr_session **session_out, quire_error *error)
{
    qr_session *session = calloc(1, sizeof *session);
    *session_out        = NULL;
    if (session == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "bench: out of memory");
    session->logger           = *logger;
    const quire_status status = open_engine(session, config, comm, error);
    if (status == QUIRE_OK)
        *session_out = session;
    else
        qr_session_close(session);
    return status;
}

void qr_session_close(qr_session *session)
{
    if (session == NULL) return;
    if (session->target.self != NULL) session->target.destroy(session->target.self);
    quire_engine_destroy(session->engine);
    quire_model_destroy(session->model);
    free(session->asked);
    free(session);
}

/* ---- repetitions ---- */

void qr_session_begin(const quire_config *config, qr_result *result_out)
{
    result_out->config    = config;
    result_out->is_remote = qr_target_is_http(config);
    result_out->source    = result_out->is_remote ? "server" : quire_config_model_path(config) ? "folder" : "preset";
    result_out->profile   = "throughput";
    result_out->seed      = (uint64_t)quire_config_integer(config, "workload.seed");
    result_out->started   = time(NULL);
    if (getloadavg(result_out->loadavg, 3) != 3) result_out->loadavg[0] = -1;
    result_out->model.size  = sizeof result_out->model;
    result_out->engine.size = sizeof result_out->engine;
}

void qr_session_end(qr_result *result)
{
    result->finished = time(NULL);
    qr_result_validate(result);
}

static void take_stats(const qr_session *session, qr_result *result)
{
    session->target.stats(session->target.self, &result->engine);
    result->is_virtual = session->target.is_simulated;
    if (result->is_virtual) result->cost = *qr_target_virtual_cost(&session->target);
}

/* Of a server's model no more is known than its name, and which token ids it takes. */
static void describe_server(const qr_session *session, qr_result *result)
{
    result->server           = *qr_target_http_facts(&session->target);
    result->model.name       = result->server.model;
    result->model.vocab_size = result->server.vocab_size;
}

/* Facts of model and engine; strings of the model info must outlive the model. */
static void describe(const qr_session *session, qr_result *result)
{
    if (session->model != NULL) quire_model_describe(session->model, &result->model);
    if (session->target.is_remote) describe_server(session, result);
    take_stats(session, result);
    snprintf(result->model_name, sizeof result->model_name, "%s", result->model.name ? result->model.name : "");
    snprintf(result->architecture, sizeof result->architecture, "%s",
             result->model.architecture ? result->model.architecture : "");
    result->model.name         = result->model_name;
    result->model.architecture = result->architecture;
}

static double floor_s(const void *context, const quire_step *step) { return qr_roofline_floor(context, step); }

/* Where the roofline was measured before the run, its live metrics compare steps with it. */
static void show_roofline(qr_session *session, const qr_result *result)
{
    const qr_prometheus_roofline roofline = {floor_s, &session->roof};
    if (qr_roofline_of(result, &session->roof)) qr_prometheus_compare(result->prometheus, &roofline);
}

static void warn(void *context, const char *sentence)
{
    qr_log log;
    qr_log_init(&log, &((qr_session *)context)->logger);
    qr_log_write(&log, QUIRE_LOG_WARN, "%s", sentence);
    qr_log_deinit(&log);
}

/* What no repetition could play is refused before the first one. */
static quire_status check_playable(qr_session *session, const qr_result *result, const qr_workload *workload,
                                   quire_error *error)
{
    qr_fit fit;
    if (result->run_count == 0) {
        QR_TRY(qr_workload_check_fit(workload, &result->model, &result->engine, &fit, error));
        qr_fit_warn(&fit, workload, warn, session);
    }
    if (!qr_workload_has_beams(workload) || session->engine != NULL) return QUIRE_OK;
    if (session->target.is_remote)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "run.target: a completion has no place for beam search, which %s asks for",
                       quire_config_string(result->config, "workload.path"));
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "[run] clock: virtual has no model that could score hypotheses; %s asks for beam search",
                   quire_config_string(result->config, "workload.path"));
}

static quire_status play(qr_session *session, volatile int *interrupt, const qr_run_stop *stop, qr_result *result,
                         quire_error *error)
{
    const quire_config *config     = result->config;
    const uint32_t      repetition = result->run_count;
    const bool          vary       = quire_config_boolean(config, "run.vary_seed");
    qr_workload        *workload;
    describe(session, result);
    QR_TRY(qr_workload_create(config, &result->model, result->engine.max_model_len,
                              result->seed + (vary ? repetition : 0), &workload, error));
    const quire_status playable = check_playable(session, result, workload, error);
    if (playable != QUIRE_OK) {
        qr_workload_destroy(workload);
        return playable;
    }
    const qr_run_options options = {.target     = &session->target,
                                    .workload   = workload,
                                    .config     = config,
                                    .repetition = repetition,
                                    .interrupt  = interrupt,
                                    .stop       = stop,
                                    .prometheus = result->prometheus};
    show_roofline(session, result);
    qr_run      *run    = &result->records[repetition];
    quire_status status = qr_run_execute(&options, run, error);
    result->profile     = qr_workload_profile(workload);
    result->partial |= run->interrupted;
    result->run_count = repetition + 1;
    if (run->is_remote) qr_target_http_take_counts(&session->target, &result->answers);
    const quire_status computed = qr_metrics_compute(run, config, workload, &result->runs[repetition], error);
    if (run->is_remote && result->answers.cached_answers == 0) result->runs[repetition].throughput.cached = NAN;
    qr_workload_destroy(workload);
    take_stats(session, result);
    return status != QUIRE_OK ? status : computed;
}

static bool is_fresh(const quire_limits *limits)
{
    return limits->measured_ns > 0 && qr_now_ns() - limits->measured_ns < UINT64_C(10000000000);
}

/* The roofline as it is now. Where it cannot be measured the run goes on, with a warning. */
static void measure_limits(qr_session *session, qr_result *result)
{
    quire_limits limits = {.size = sizeof limits};
    if (session->engine == NULL || result->limit_count == QR_MAX_LIMITS ||
        !quire_config_boolean(result->config, "run.limits"))
        return;
    if (result->limit_count == 0 && is_fresh(&session->limits)) { /* as the last result's run left the machine */
        result->limits[result->limit_count++] = session->limits;
        return;
    }
    quire_error error = {0};
    if (quire_engine_measure_limits(session->engine, &limits, &error) == QUIRE_OK) {
        result->limits[result->limit_count++] = session->limits = limits;
        return;
    }
    qr_log log;
    qr_log_init(&log, &session->logger);
    qr_log_write(&log, QUIRE_LOG_WARN, "the roofline is not measured: %s", error.message);
    qr_log_deinit(&log);
}

quire_status qr_session_repeat(qr_session *session, volatile int *interrupt, const qr_run_stop *stop, qr_result *result,
                               quire_error *error)
{
    if (*interrupt == QR_INTERRUPT_ENDS) *interrupt = QR_INTERRUPT_NONE;
    if (result->limit_count == 0) measure_limits(session, result);
    const quire_status status = play(session, interrupt, stop, result, error);
    if (status == QUIRE_OK) measure_limits(session, result);
    result->partial |= status != QUIRE_OK;
    return status;
}

void qr_session_cool(qr_session *session, const quire_config *config, const volatile int *interrupt)
{
    const int64_t cooldown_ns = quire_config_integer(config, "run.cooldown");
    const int64_t until       = (int64_t)qr_now_ns() + cooldown_ns;
    session->target.flush_cache(session->target.self);
    if (session->target.is_simulated) return;
    for (int64_t left; (left = until - (int64_t)qr_now_ns()) > 0 && *interrupt != QR_INTERRUPT_ASKED;)
        usleep((useconds_t)((left < 100000000 ? left : 100000000) / 1000 + 1));
}

/* ---- one configuration ---- */

static quire_status repeat_all(qr_session *session, volatile int *interrupt, qr_result *result, quire_error *error)
{
    const int64_t repetitions = quire_config_integer(result->config, "run.repetitions");
    for (int64_t i = 0; i < repetitions && i < QR_MAX_REPETITIONS && *interrupt != QR_INTERRUPT_ASKED; i++) {
        if (i > 0) qr_session_cool(session, result->config, interrupt);
        QR_TRY(qr_session_repeat(session, interrupt, NULL, result, error));
    }
    return QUIRE_OK;
}

quire_status qr_session_run(const quire_config *config, const quire_logger *logger, const quire_comm *comm,
                            volatile int *interrupt, qr_result *result_out, quire_error *error)
{
    qr_session *session;
    qr_session_begin(config, result_out);
    const bool   follows = comm != NULL && comm->rank > 0;
    quire_status status  = qr_session_open(config, logger, comm, &session, error);
    if (status == QUIRE_OK)
        status = follows ? quire_engine_run(session->engine) : repeat_all(session, interrupt, result_out, error);
    result_out->partial |= status != QUIRE_OK;
    qr_session_close(session);
    qr_session_end(result_out);
    return status;
}
