/* The JSON forms of a result, a request and a step; each returns a new reference. */
#ifndef QR_BENCH_RESULT_JSON_H
#define QR_BENCH_RESULT_JSON_H

#include <jansson.h>

#include "bench/result.h"

/* "xxh3:0123456789abcdef" of the effective values, but for [sweep], [capacity] and [output]. False: out of memory. */
bool qr_config_hash(const quire_config *config, char hash_out[32]);

json_t *qr_result_json(const qr_result *result);
json_t *qr_request_json(const qr_result *result, uint32_t run, size_t index);
/* The page of `quire report` for one result. False: out of memory, or the file does not take it. */
bool qr_result_html(const qr_result *result, FILE *to);

json_t *qr_step_json(const quire_step *step, uint32_t run);

#endif
