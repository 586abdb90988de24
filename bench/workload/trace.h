/* Recorded workloads: lengths, times and prefix identities of real requests. One reader per published format. */
#ifndef QR_BENCH_TRACE_H
#define QR_BENCH_TRACE_H

#include "bench/workload/workload.h"

typedef struct qr_trace qr_trace;

/* Reads [workload.trace] whole and checks it; times become relative to `start`, scaled. ERR_IO, ERR_FORMAT name file
 * and line: missing columns, NaN, negative or decreasing times, lengths beyond 1e9; ERR_INVALID: another format than
 * workload.trace.format asks for; rows longer than max_model_len are
 * skipped, truncated or an error as `overlong` says. */
quire_status qr_trace_read(const quire_config *config, uint32_t max_model_len, qr_trace **trace_out,
                           quire_error *error);
void         qr_trace_destroy(qr_trace *trace); /* NULL is allowed */

typedef struct qr_trace_facts {
    uint32_t count, skipped; /* rows kept; rows beyond max_model_len */
    uint32_t empty;          /* of those kept, without any token: played with 1 of each */
    uint32_t hash_block;     /* tokens behind one hash id, after length_scale */
    uint32_t tenants;        /* the highest given, plus 1; 0: none is given */
    bool     has_encoder;    /* some row has encoder_tokens */
} qr_trace_facts;

qr_trace_facts qr_trace_describe(const qr_trace *trace);

/* Sets lengths, due_ns, priority, tenant (UINT32_MAX: not given), class, prefix and encoder identity and hash_ids of
 * *request_out; the ids live as long as the trace. */
void qr_trace_request(const qr_trace *trace, uint32_t index, qr_workload_request *request_out);

#endif
