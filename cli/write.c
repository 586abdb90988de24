#include "cli/write.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/interrupt.h"

enum { GLANCE_MS = 100, PATIENCE_MS = 2000 };

/* A pipe, a socket or a terminal that poll() calls writable takes so much at once without blocking. */
static size_t most_at_once(int descriptor, size_t size)
{
    struct stat info;
    const bool  is_file = fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
    return is_file ? size : PIPE_BUF;
}

/* Waiting happens here and never in write(), where a signal would be seen only if it came after the call began. */
static bool await_reader(int descriptor)
{
    struct pollfd reader = {.fd = descriptor, .events = POLLOUT};
    for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms += qr_interrupt_is_asked() ? GLANCE_MS : 0) {
        const int ready = poll(&reader, 1, GLANCE_MS);
        if (ready > 0) return true; /* or an error, which write() will name */
        if (ready < 0 && errno != EINTR) return false;
    }
    errno = ETIMEDOUT;
    return false;
}

bool qr_write(int descriptor, const char *data, size_t size)
{
    const size_t most = most_at_once(descriptor, size);
    while (size > 0) {
        if (!await_reader(descriptor)) return false;
        const ssize_t written = write(descriptor, data, size < most ? size : most);
        if (written < 0 && errno != EINTR && errno != EAGAIN) return false;
        if (written <= 0) continue;
        data += written;
        size -= (size_t)written;
    }
    return true;
}

/* Where the next line begins; -1: not in a regular file. */
static off_t end_of(int descriptor)
{
    struct stat info;
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) return -1;
    return fcntl(descriptor, F_GETFL) & O_APPEND ? info.st_size : lseek(descriptor, 0, SEEK_CUR);
}

/* Only where nobody else has written behind it. */
static void cut_back(int descriptor, off_t start)
{
    const off_t at = lseek(descriptor, 0, SEEK_CUR);
    struct stat info;
    if (start < 0 || at <= start || fstat(descriptor, &info) != 0 || info.st_size != at) return;
    if (ftruncate(descriptor, start) == 0) (void)lseek(descriptor, start, SEEK_SET);
}

bool qr_write_lines(int descriptor, const char *lines, size_t size)
{
    const off_t start = end_of(descriptor);
    if (qr_write(descriptor, lines, size)) return true;
    const int why = errno;
    cut_back(descriptor, start);
    errno = why;
    return false;
}

const char *qr_write_error(int number)
{
    return number == ETIMEDOUT ? "the reader took nothing for 2 s after the interrupt" : strerror(number);
}
