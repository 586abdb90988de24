/* Reads lines of requests in a thread of its own, so that nobody waits while a long line is parsed. It is ahead of its
 * user by at most QR_READ_AHEAD lines, and by one more line once those hold QR_READ_AHEAD_TOKENS token ids. */
#ifndef QR_JOB_READER_H
#define QR_JOB_READER_H

#include "cli/job.h"
#include "cli/lines.h"

enum { QR_READ_AHEAD = 256, QR_READ_AHEAD_TOKENS = 1 << 20 };

typedef struct qr_job_reader qr_job_reader;

/* Of QR_LINE_READY: the job, which is then the caller's, and whether its line is good. NULL, with an error, where there
 * is none to hold the id: a line that is too long, or no memory. */
typedef struct qr_read_job {
    qr_line_result result;
    uint64_t       number; /* of the line */
    qr_job        *job;
    qr_line_error  error;
    int            why; /* errno, of QR_LINE_ERROR */
} qr_read_job;

/* `descriptor` and what `defaults` points to are borrowed until the stop. NULL: out of memory, or no thread. */
qr_job_reader *qr_job_reader_start(int descriptor, const qr_request_defaults *defaults);
void           qr_job_reader_stop(qr_job_reader *reader); /* NULL is allowed */

/* The next line, waiting at most timeout_ms for it: QR_LINE_READY, WAIT, END or ERROR. Blank lines do not come. */
void qr_job_reader_next(qr_job_reader *reader, int timeout_ms, qr_read_job *read_out);

#endif
