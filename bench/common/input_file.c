/* Opens a data file if its kind and size allow, and reads it line by line within a bound. */
#include "bench/common/input_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a FIFO"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISBLK(mode)  ? "a block device"
                            : "a character device";
}

static quire_status check(const char *path, int descriptor, uint64_t most_bytes, quire_error *error)
{
    struct stat info;
    if (fstat(descriptor, &info) != 0) return qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return qr_fail(error, QUIRE_ERR_IO, "%s: %s, expected a regular file", path, kind_of(info.st_mode));
    if ((uint64_t)info.st_size > most_bytes)
        return qr_fail(error, QUIRE_ERR_IO, "%s: %lld MiB, the most that is read is %llu MiB", path,
                       (long long)(info.st_size >> 20), (unsigned long long)(most_bytes >> 20));
    return QUIRE_OK;
}

FILE *qr_input_open(const char *path, uint64_t most_bytes, quire_error *error)
{
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO without a writer must not wait */
    FILE     *file       = NULL;
    if (descriptor < 0) {
        (void)qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno));
        return NULL;
    }
    if (check(path, descriptor, most_bytes, error) == QUIRE_OK) {
        file = fdopen(descriptor, "r");
        if (file == NULL) (void)qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(errno));
    }
    if (file == NULL) close(descriptor);
    return file;
}

static bool make_room(char **line, size_t *room, size_t needed)
{
    if (needed <= *room) return true;
    const size_t larger = needed < 4096 ? 4096 : 2 * needed;
    char        *grown  = realloc(*line, larger);
    if (grown == NULL) return false;
    *line = grown;
    *room = larger;
    return true;
}

ssize_t qr_input_line(FILE *from, char **line, size_t *room, size_t most)
{
    size_t length = 0;
    int    c;
    if (!make_room(line, room, 1)) return QR_LINE_NO_MEMORY;
    while ((c = getc_unlocked(from)) != EOF && c != '\n') {
        if (length == most) return QR_LINE_TOO_LONG;
        if (!make_room(line, room, length + 2)) return QR_LINE_NO_MEMORY;
        (*line)[length++] = (char)c;
    }
    (*line)[length] = '\0';
    return c == EOF && length == 0 ? QR_LINE_END : (ssize_t)length;
}
