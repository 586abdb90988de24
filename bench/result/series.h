/* A run over time, in equal intervals of at most a few hundred: what a timeline shows. */
#ifndef QR_BENCH_SERIES_H
#define QR_BENCH_SERIES_H

#include <jansson.h>

#include "bench/run/run.h"

/* {"dt_s", "output_tokens": [...], ...}; element i covers [i, i + 1) * dt_s from the start of the run, warm-up
 * included. Tokens are rates per second; running, waiting and kv_usage are means over the steps that began in the
 * interval, or the last known value where none did. A new reference; NULL: out of memory. */
json_t *qr_series_json(const qr_run *run);

#endif
