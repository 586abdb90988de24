/* Recorded workloads: lengths, times and prefix identities of real requests. One reader per published format. */
#ifndef QR_BENCH_TRACE_H
#define QR_BENCH_TRACE_H

#include "bench/workload.h"

typedef struct qr_trace qr_trace;

/* Reads [workload.trace] whole and checks it; times become relative to `start`, scaled. ERR_IO, ERR_FORMAT name file
 * and line: missing columns, NaN, negative or decreasing times, lengths beyond 1e9; rows longer than max_model_len are
 * skipped, truncated or an error as `overlong` says. */
quire_status qr_trace_read(const quire_config *config, uint32_t max_model_len, qr_trace **trace_out,
                           quire_error *error);
void         qr_trace_destroy(qr_trace *trace); /* NULL is allowed */

uint32_t qr_trace_count(const qr_trace *trace);
uint32_t qr_trace_skipped(const qr_trace *trace);
uint32_t qr_trace_hash_block(const qr_trace *trace); /* tokens behind one hash id */

/* Sets lengths, due_ns, priority, tenant and hash_ids of *request_out; they live as long as the trace. */
void qr_trace_request(const qr_trace *trace, uint32_t index, qr_workload_request *request_out);

#endif
