/* Plain pread: a mapped file that is truncated kills the process with SIGBUS, a read returns. */
#include "model/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

enum { TAIL_BYTES = 80, READ_AT_ONCE = 1 << 30, AHEAD_AT_ONCE = 512 << 10 };

const char *qr_path_tail(const char *path)
{
    const size_t length = strlen(path);
    return length > TAIL_BYTES ? path + length - TAIL_BYTES : path;
}

quire_status qr_file_open(const char *path, qr_file *file_out, quire_error *error)
{
    struct stat status;
    file_out->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a FIFO must not hang us */
    if (file_out->descriptor < 0)
        return qr_fail(error, QUIRE_ERR_IO, "%s: cannot be opened: %s", qr_path_tail(path), strerror(errno));
    if (fstat(file_out->descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        qr_file_close(file_out);
        return qr_fail(error, QUIRE_ERR_IO, "%s: not a regular file", qr_path_tail(path));
    }
    file_out->size       = (uint64_t)status.st_size;
    file_out->changed_s  = status.st_mtim.tv_sec;
    file_out->changed_ns = status.st_mtim.tv_nsec;
    return QUIRE_OK;
}

void qr_file_close(qr_file *file)
{
    if (file->descriptor >= 0) close(file->descriptor);
    file->descriptor = -1;
}

quire_status qr_file_read(const qr_file *file, const char *label, uint64_t offset, void *out, uint64_t length,
                          quire_error *error)
{
    char *to = out;
    while (length > 0) {
        const size_t  wanted = length < READ_AT_ONCE ? (size_t)length : READ_AT_ONCE;
        const ssize_t got    = pread(file->descriptor, to, wanted, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return qr_fail(error, QUIRE_ERR_IO, "%s: reading at offset %llu: %s", label, (unsigned long long)offset,
                           strerror(errno));
        if (got == 0)
            return qr_fail(error, QUIRE_ERR_IO, "%s: ends at offset %llu, %llu bytes too early; it was %llu bytes long",
                           label, (unsigned long long)offset, (unsigned long long)length,
                           (unsigned long long)file->size);
        to += got;
        offset += (uint64_t)got;
        length -= (uint64_t)got;
    }
    return QUIRE_OK;
}

quire_status qr_file_read_whole(const char *path, uint64_t most, const quire_allocator *allocator, char **text_out,
                                uint64_t *length_out, quire_error *error)
{
    const char *label = qr_path_tail(path);
    qr_file     file;
    *text_out = NULL;
    QR_TRY(qr_file_open(path, &file, error));
    *length_out         = file.size;
    quire_status status = QUIRE_OK;
    if (file.size > most)
        status = qr_fail(error, QUIRE_ERR_FORMAT, "%s: %llu bytes, at most %llu", label, (unsigned long long)file.size,
                         (unsigned long long)most);
    else if ((*text_out = qr_allocate(allocator, file.size, 64)) == NULL)
        status = qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no memory", label);
    if (status == QUIRE_OK) status = qr_file_read(&file, label, 0, *text_out, file.size, error);
    qr_file_close(&file);
    return status;
}

/* Linux reads no more ahead for one call than a request of the device holds. */
void qr_file_expect(const qr_file *file, uint64_t offset, uint64_t length)
{
    for (const uint64_t end = offset + length; offset < end; offset += AHEAD_AT_ONCE)
        (void)posix_fadvise(file->descriptor, (off_t)offset, AHEAD_AT_ONCE, POSIX_FADV_WILLNEED);
}

bool qr_file_unchanged(const qr_file *file)
{
    struct stat status;
    return fstat(file->descriptor, &status) == 0 && (uint64_t)status.st_size == file->size &&
           status.st_mtim.tv_sec == file->changed_s && status.st_mtim.tv_nsec == file->changed_ns;
}
