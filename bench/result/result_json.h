/* The JSON forms of a result, a request and a step; each returns a new reference. */
#ifndef QR_BENCH_RESULT_JSON_H
#define QR_BENCH_RESULT_JSON_H

#include <jansson.h>

#include "bench/result/result.h"

/* The owner (quire_config_add_keys) of the keys that decide how a run goes; those of output have another. */
#define QR_RUN_KEYS "bench"

/* "xxh3:0123456789abcdef" of the effective values, but for [sweep], [capacity] and [output]. False: out of memory. */
bool qr_config_hash(const quire_config *config, char hash_out[32]);

/* A key of model or engine, which a server does not read. */
bool qr_is_engine_key(const char *key);

json_t *qr_result_json(const qr_result *result);
json_t *qr_run_json(const qr_result *result, uint32_t run);
json_t *qr_aggregate_json(const qr_result *result); /* over the runs */
json_t *qr_request_json(const qr_result *result, uint32_t run, size_t index);
json_t *qr_step_json(const quire_step *step, uint32_t run);

/* Members of a result, or of one of its runs (analysis_json.c). */
json_t *qr_limits_json(const qr_result *result);                 /* {}: not measured */
json_t *qr_roofline_json(const qr_result *result, uint32_t run); /* null: the limits were not measured */
json_t *qr_attribution_json(const qr_run *run, const qr_metrics *metrics);

/* A step as a line of the step log: qr_step_json, and where limits were measured floor_us, fraction, fits_caches. */
json_t *qr_result_step_json(const qr_result *result, uint32_t run, size_t index);

#endif
