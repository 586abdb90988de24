/* What the readers of trace files share: the rows they fill, and errors that name a place. */
#ifndef QR_BENCH_TRACE_READER_H
#define QR_BENCH_TRACE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quire/status.h"

enum { QR_TRACE_MAX_LENGTH = 1000000000, QR_TRACE_MAX_TENANTS = 1024 };

/* The year 5138; a first time beyond it is in a smaller unit. */
#define QR_TRACE_MAX_EPOCH_S 1e11

typedef enum qr_trace_format {
    QR_TRACE_AUTO,
    QR_TRACE_AZURE,
    QR_TRACE_MOONCAKE,
    QR_TRACE_BAILIAN,
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
    bool            is_asked;
    double          first_s;             /* time of the first row; NAN: none yet */
    bool            has_dates, has_zone; /* of the first row */
    qr_trace_row   *rows;                /* [count] */
    size_t          count;
    uint64_t       *hashes; /* [hash_count] */
    size_t          hash_count;
    uint32_t        hash_block; /* tokens behind one hash id; 0: the format's own number */
    bool            has_quoted; /* this line has integers above 2^63 - 1, made strings */
    quire_error    *error;
} qr_trace_reader;

/* ERR_FORMAT: "path:line: what: found ..." */
quire_status qr_trace_bad(const qr_trace_reader *r, const char *what, const char *found);

/* Sets r->format; ERR_INVALID if another one was asked for. */
quire_status qr_trace_is(qr_trace_reader *r, qr_trace_format found);

/* A date, "2023-11-16 18:15:46.6805900" or ISO 8601 with T and zone, in seconds since 1970. False, and status OK: none.
 */
bool qr_trace_is_date(qr_trace_reader *r, const char *text, double *seconds_out, quire_status *status_out);

/* ERR_FORMAT: a number among dates, or a date among numbers. */
quire_status qr_trace_check_dates(qr_trace_reader *r, const char *text, bool is_date);

/* Appends a row; its time must not be before that of the row above. Time 0 is the first row's, but for ServeGen, whose
 * times are drawn within the part asked for. */
quire_status qr_trace_push(qr_trace_reader *r, qr_trace_row *row);

/* One line of Mooncake's, Bailian's or quire's JSON Lines. */
quire_status qr_trace_read_json(qr_trace_reader *r, const char *line);

#endif
