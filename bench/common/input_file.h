/* Opens files that hold data: traces, logs, results. What has no end or no size - a device, a FIFO, a socket - and a
 * folder is refused by name, because reading it would wait or go on for ever. */
#ifndef QR_BENCH_INPUT_FILE_H
#define QR_BENCH_INPUT_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "quire/status.h"

/* The most that is read of a file of each kind. Results are held as a whole, sweeps and datasets in parts, the
 * others line by line. */
#define QR_MOST_RESULT_BYTES (UINT64_C(256) << 20)
#define QR_MOST_ROWS_BYTES (UINT64_C(1) << 30)
#define QR_MOST_LINES_BYTES (UINT64_C(4) << 30)

/* A file to read from its start; the caller closes it. NULL: ERR_IO (it cannot be opened, is no regular file, or is
 * longer than `most_bytes`; the message says which). */
FILE *qr_input_open(const char *path, uint64_t most_bytes, quire_error *error);

enum { QR_LINE_END = -1, QR_LINE_TOO_LONG = -2, QR_LINE_NO_MEMORY = -3 };

/* The next line without its newline, as getline(3), but of at most `most` bytes: its length, or one of the above. *line
 * grows and is freed by the caller. */
ssize_t qr_input_line(FILE *from, char **line, size_t *room, size_t most);

#endif
