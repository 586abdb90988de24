/* A file is the old one or a whole new one: written beside its name, flushed to the disk, renamed. Where a symbolic
 * link stands, that is done to the file it leads to; what is no regular file (a FIFO, a device) is written into. */
#ifndef QR_BENCH_WHOLE_FILE_H
#define QR_BENCH_WHOLE_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include "quire/status.h"

/* False: failed, errno says why. */
typedef bool qr_file_writer(const void *what, FILE *to);

/* ERR_IO: the message names the file and the reason; ERR_INVALID: the path is too long. */
quire_status qr_file_write_whole(const char *path, qr_file_writer *write, const void *what, quire_error *error);

/* For a file that is written again and again: does not wait for the disk, and leaves what is no regular file alone. A
 * failure leaves the old file. */
void qr_file_refresh(const char *path, qr_file_writer *write, const void *what);

#endif
