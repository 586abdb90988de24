/* See input_file.h. */
#include "bench/common/input_file.h"

#include <errno.h>
#include <fcntl.h>
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
