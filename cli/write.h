/* Bytes to a descriptor that may be slow, non-blocking, full or gone. */
#ifndef QR_WRITE_H
#define QR_WRITE_H

#include <stdbool.h>
#include <stddef.h>

/* Writes all of data[size], and waits for a reader that takes nothing: without end, but no longer than 2 s once a
 * signal has asked for an end (cli/interrupt.h). False: errno says why; ETIMEDOUT: the reader. */
bool qr_write(int descriptor, const char *data, size_t size);

/* The same for whole lines. What a failed write left of them in a regular file is cut off again. */
bool qr_write_lines(int descriptor, const char *lines, size_t size);

/* strerror() of an errno of these two. */
const char *qr_write_error(int number);

#endif
