/* What the readers of trace files share: the rows they fill, and errors that name a place. */
#ifndef QR_BENCH_TRACE_READER_H
#define QR_BENCH_TRACE_READER_H

#include <stddef.h>
#include <stdint.h>

#include "quire/status.h"

enum { QR_TRACE_MAX_LENGTH = 1000000000, QR_TRACE_MAX_TENANTS = 1024 };

typedef enum qr_trace_format {
    QR_TRACE_AUTO,
    QR_TRACE_AZURE,
    QR_TRACE_MOONCAKE,
    QR_TRACE_BURSTGPT,
    QR_TRACE_SERVEGEN,
    QR_TRACE_QUIRE,
} qr_trace_format;

typedef struct qr_trace_row {
    double   time_s;
    uint32_t prompt, output, encoder, prefix;
    uint64_t prefix_id, encoder_id; /* encoder_id UINT64_MAX: its own */
    size_t   hash_start;
    uint32_t hash_count;
    int32_t  priority;
    uint32_t tenant, mix; /* tenant UINT32_MAX: not given */
} qr_trace_row;

typedef struct qr_trace_reader {
    const char     *path;
    unsigned long   line;
    qr_trace_format format; /* as asked for, then as found */
    qr_trace_row   *rows;   /* [count] */
    size_t          count;
    uint64_t       *hashes; /* [hash_count] */
    size_t          hash_count;
    uint32_t        hash_block; /* tokens behind one hash id */
    quire_error    *error;
} qr_trace_reader;

/* ERR_FORMAT: "path:line: what: found ..." */
quire_status qr_trace_bad(const qr_trace_reader *r, const char *what, const char *found);

/* Sets r->format; ERR_INVALID if another one was asked for. */
quire_status qr_trace_is(qr_trace_reader *r, qr_trace_format found);

/* Appends a row; its time must not be before that of the row above. */
quire_status qr_trace_push(qr_trace_reader *r, const qr_trace_row *row);

/* One line of Mooncake's or quire's JSON Lines. */
quire_status qr_trace_read_json(qr_trace_reader *r, const char *line);

#endif
