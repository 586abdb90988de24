/* Writes PATH.partial, flushes it and renames it; a failure at any point removes it. */
#include "bench/common/whole_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

enum { MOST_PATH = 4096 };

/* errno of the first failure, or 0. */
static int write_temporary(const char *temporary, qr_file_writer *write, const void *what)
{
    FILE *to = fopen(temporary, "w");
    if (to == NULL) return errno;
    errno            = 0;
    const bool whole = write(what, to) && fflush(to) == 0 && fsync(fileno(to)) == 0;
    const int  why   = whole ? 0 : errno ? errno : EIO;
    return fclose(to) == 0 || why != 0 ? why : errno;
}

quire_status qr_file_write_whole(const char *path, qr_file_writer *write, const void *what, quire_error *error)
{
    char temporary[MOST_PATH];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.partial", path) >= sizeof temporary)
        return qr_fail(error, QUIRE_ERR_INVALID, "%.60s...: the path is longer than %d bytes", path, MOST_PATH);
    int why = write_temporary(temporary, write, what);
    if (why == 0 && rename(temporary, path) != 0) why = errno;
    if (why == 0) return QUIRE_OK;
    unlink(temporary);
    return qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(why));
}
