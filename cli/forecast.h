/* What an engine of a configuration would take. The functions that size the engine are asked, so that nothing is loaded
 * and the answer is the engine's own. */
#ifndef QR_FORECAST_H
#define QR_FORECAST_H

#include <stdio.h>

#include "engine/options.h"

#include "quire/quire.h"

typedef struct qr_forecast {
    quire_engine_options options; /* resolved */
    qr_model_facts       facts;
    quire_model_info     info; /* its strings are the two below */
    char                 model_name[128], architecture[32];
    qr_scheduler_options scheduler;
    qr_network_options   network;
    qr_network_forecast  memory;
    uint32_t             threads, nodes;
    uint64_t             limit, fixed_bytes; /* fixed: all but the KV cache */
    quire_kv_pool        pool;
    quire_error          pool_error; /* why the KV cache has no size; status OK: it has one */
} qr_forecast;

/* Errors of the model's files, of the options and of the placement, and what an engine would refuse of them, with its
 * message; too little memory is none. */
quire_status qr_forecast_make(const quire_config *config, qr_forecast *forecast_out, quire_error *error);

/* NULL: it fits; else the reason. */
const char *qr_forecast_obstacle(const qr_forecast *forecast);

void qr_forecast_print(const qr_forecast *forecast, FILE *to); /* model, limits, memory */

#endif
