/* A file of a test, in its own temporary folder. */
#ifndef QR_TEST_SCRATCH_FILE_H
#define QR_TEST_SCRATCH_FILE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writes `text` to a new file; the path is in path_out[64]. */
static inline void scratch_file_write(const char *text, char *path_out)
{
    strcpy(path_out, "/tmp/quire-test-XXXXXX");
    const int file = mkstemp(path_out);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text) || close(file) != 0) abort();
}

#endif
