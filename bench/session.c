/* See session.h. */
#include "bench/session.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

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

typedef struct session {
    const quire_config *config;
    const quire_logger *logger;
    volatile int       *interrupt;
    quire_model        *model;
    quire_engine       *engine;
    qr_result          *result;
} session;

static quire_status run_once(session *s, uint32_t repetition, quire_error *error)
{
    qr_result   *result = s->result;
    qr_workload *workload;
    const bool   vary = quire_config_boolean(s->config, "run.vary_seed", 0) != 0;
    QR_TRY(qr_workload_create(s->config, &result->model, result->engine.max_model_len,
                              result->seed + (vary ? repetition : 0), &workload, error));
    const qr_run_options options = {s->engine, workload, s->config, repetition, s->interrupt};
    qr_run              *run     = &result->records[repetition];
    quire_status         status  = qr_run_execute(&options, run, error);
    result->profile              = qr_workload_profile(workload);
    result->partial |= run->interrupted;
    result->run_count           = repetition + 1;
    const quire_status computed = qr_metrics_compute(run, s->config, workload, &result->runs[repetition], error);
    qr_workload_destroy(workload);
    return status != QUIRE_OK ? status : computed;
}

static quire_status repeat(session *s, quire_error *error)
{
    const int64_t asked       = quire_config_integer(s->config, "run.repetitions", 1);
    const int64_t cooldown_ns = quire_config_integer(s->config, "run.cooldown", INT64_C(2000000000));
    for (int64_t i = 0; i < asked && i < QR_MAX_REPETITIONS && !*s->interrupt; i++) {
        if (i > 0) {
            quire_engine_flush_cache(s->engine);
            usleep((useconds_t)(cooldown_ns / 1000));
        }
        QR_TRY(run_once(s, (uint32_t)i, error));
    }
    return QUIRE_OK;
}

static quire_status run(session *s, quire_error *error)
{
    qr_result *result            = s->result;
    result->model.size           = sizeof result->model;
    result->engine.size          = sizeof result->engine;
    quire_engine_options options = *quire_config_engine(s->config);
    options.logger               = *s->logger;
    QR_TRY(qr_session_open_model(s->config, s->logger, &s->model, error));
    quire_model_describe(s->model, &result->model);
    QR_TRY(quire_engine_create(&options, s->model, &s->engine, error));
    quire_engine_stats(s->engine, &result->engine);
    if (*s->interrupt == QR_INTERRUPT_ENDS) *s->interrupt = QR_INTERRUPT_NONE;
    const quire_status status = repeat(s, error);
    quire_engine_stats(s->engine, &result->engine);
    return status;
}

/* Strings of the model info must outlive the model. */
static void keep_names(qr_result *result)
{
    snprintf(result->model_name, sizeof result->model_name, "%s", result->model.name ? result->model.name : "");
    snprintf(result->architecture, sizeof result->architecture, "%s",
             result->model.architecture ? result->model.architecture : "");
    result->model.name         = result->model_name;
    result->model.architecture = result->architecture;
}

quire_status qr_session_run(const quire_config *config, const quire_logger *logger, volatile int *interrupt,
                            qr_result *result_out, quire_error *error)
{
    session s                 = {.config = config, .logger = logger, .interrupt = interrupt, .result = result_out};
    result_out->config        = config;
    result_out->source        = quire_config_model_path(config) ? "folder" : "preset";
    result_out->profile       = "throughput";
    result_out->seed          = (uint64_t)quire_config_integer(config, "workload.seed", 42);
    result_out->started       = time(NULL);
    const quire_status status = run(&s, error);
    result_out->finished      = time(NULL);
    result_out->partial |= status != QUIRE_OK;
    keep_names(result_out);
    quire_engine_destroy(s.engine);
    quire_model_destroy(s.model);
    qr_result_validate(result_out);
    return status;
}
