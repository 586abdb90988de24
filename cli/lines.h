/* Lines of an input, one at a time, of bounded length, without ever blocking when asked not to. */
#ifndef QR_LINES_H
#define QR_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QR_MAX_LINE_BYTES = 16 << 20 };

typedef enum qr_line_result {
    QR_LINE_READY,    /* line[length], without its end; valid until the next call */
    QR_LINE_TOO_LONG, /* a line above the limit was skipped */
    QR_LINE_WAIT,     /* nothing complete has arrived yet */
    QR_LINE_END,
    QR_LINE_ERROR, /* errno says why */
} qr_line_result;

typedef struct qr_lines {
    int      descriptor;
    char    *buffer; /* [capacity] */
    size_t   start, end, scanned, capacity;
    uint64_t number; /* of the line that was returned last, from 1 */
    bool     ended, skipping;
} qr_lines;

bool qr_lines_init(qr_lines *lines, int descriptor); /* false: no memory */
void qr_lines_deinit(qr_lines *lines);

/* Waits for input at most timeout_ms (negative: without end; a signal ends the wait as QR_LINE_WAIT). */
qr_line_result qr_lines_next(qr_lines *lines, int timeout_ms, const char **line_out, size_t *length_out);

#endif
