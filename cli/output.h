/* Where results go: standard output, and what can be known about a file before the work whose result it is to hold. */
#ifndef QR_OUTPUT_H
#define QR_OUTPUT_H

#include <stdbool.h>

#include "bench/common/whole_file.h"

/* Keeps standard output for qr_stdout and makes `stdout` standard error. Before anything is written. */
void qr_stdout_take(void);

/* What qr_stdout writes to. */
int qr_stdout_descriptor(void);

/* False, and a complaint that begins with `what`: the folder is not there or cannot be written, or `path` is a folder.
 * "-" (stdout) can always be written. */
bool qr_output_is_possible(const char *what, const char *path);

/* Writes a file whole or not at all, or to stdout where `path` is "-". False: said on stderr. */
bool qr_output_write(const char *path, qr_file_writer *write, const void *what);

bool qr_output_is_stdout(const char *path); /* "-"; NULL: no output is none */

/* The same file, also by a link or by different names of its folder. */
bool qr_output_is_same(const char *a, const char *b);

#endif
