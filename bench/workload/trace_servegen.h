/* ServeGen folders (chunk-N-trace.csv, chunk-N-dataset.json): per client, gaps by gamma or Weibull in windows of 600 s
 * and length histograms per 6 h. Requests are drawn from them, all clients merged in time. */
#ifndef QR_BENCH_TRACE_SERVEGEN_H
#define QR_BENCH_TRACE_SERVEGEN_H

#include "quire/status.h"

typedef quire_status qr_servegen_add(void *context, double time_s, uint32_t input_tokens, uint32_t output_tokens);

/* Calls `add` for every request of [start_s, start_s + duration_s) in ascending time; duration 0 = one hour.
 * ERR_IO, ERR_FORMAT name file and line. */
quire_status qr_servegen_read(const char *folder, double start_s, double duration_s, uint64_t seed,
                              qr_servegen_add *add, void *context, quire_error *error);

#endif
