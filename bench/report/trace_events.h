/* A run as Chrome trace events, for ui.perfetto.dev: steps and their phases, the lives of requests, counters, and flows
 * from a request to the steps it took part in. docs/BENCHMARKING.md, The trace. */
#ifndef QR_BENCH_TRACE_EVENTS_H
#define QR_BENCH_TRACE_EVENTS_H

#include "bench/result/result.h"

/* False: out of memory, or the file does not take it (errno). */
bool qr_trace_events_write(const qr_result *result, FILE *to);
bool qr_trace_events_write_gz(const qr_result *result, FILE *to); /* compressed */

#endif
