#include "cli/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_CAPACITY = 1 << 16 };

bool qr_lines_init(qr_lines *lines, int descriptor)
{
    *lines        = (qr_lines){.descriptor = descriptor, .capacity = FIRST_CAPACITY};
    lines->buffer = malloc(lines->capacity);
    return lines->buffer != NULL;
}

void qr_lines_deinit(qr_lines *lines)
{
    free(lines->buffer);
    lines->buffer = NULL;
}

/* Room for more bytes: move what is left to the front, then grow, then give the line up. */
static bool make_room(qr_lines *lines)
{
    if (lines->start > 0) {
        memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->scanned -= lines->start;
        lines->start = 0;
    }
    if (lines->end < lines->capacity) return true;
    if (lines->capacity > QR_MAX_LINE_BYTES) {
        lines->skipping = true;
        lines->end = lines->scanned = 0;
        return true;
    }
    char *larger = realloc(lines->buffer, 2 * lines->capacity);
    if (larger == NULL) return false;
    lines->buffer = larger;
    lines->capacity *= 2;
    return true;
}

/* >= 0: bytes read; -1: an error; -2: nothing within the time. */
static ssize_t receive(qr_lines *lines, int timeout_ms)
{
    struct pollfd waiting = {.fd = lines->descriptor, .events = POLLIN};
    const int     ready   = poll(&waiting, 1, timeout_ms);
    if (ready == 0 || (ready < 0 && errno == EINTR)) return -2;
    if (ready < 0) return -1;
    const ssize_t got = read(lines->descriptor, lines->buffer + lines->end, lines->capacity - lines->end);
    return got < 0 && (errno == EINTR || errno == EAGAIN) ? -2 : got;
}

static qr_line_result give(qr_lines *lines, size_t length, size_t consumed, const char **line_out, size_t *length_out)
{
    const bool  skipped = lines->skipping;
    const char *line    = lines->buffer + lines->start;
    lines->number++;
    lines->skipping = false;
    lines->start += consumed;
    lines->scanned = lines->start;
    if (skipped || length > QR_MAX_LINE_BYTES) return QR_LINE_TOO_LONG;
    if (length > 0 && line[length - 1] == '\r') length--;
    if (lines->number == 1 && length >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        line += 3;
        length -= 3;
    }
    *line_out   = line;
    *length_out = length;
    return QR_LINE_READY;
}

qr_line_result qr_lines_next(qr_lines *lines, int timeout_ms, const char **line_out, size_t *length_out)
{
    for (;;) {
        const char *end = memchr(lines->buffer + lines->scanned, '\n', lines->end - lines->scanned);
        if (end != NULL) {
            const size_t length = (size_t)(end - (lines->buffer + lines->start));
            return give(lines, length, length + 1, line_out, length_out);
        }
        lines->scanned = lines->end;
        if (lines->ended) {
            const size_t rest = lines->end - lines->start;
            return rest > 0 || lines->skipping ? give(lines, rest, rest, line_out, length_out) : QR_LINE_END;
        }
        if (!make_room(lines)) return QR_LINE_ERROR;
        const ssize_t got = receive(lines, timeout_ms);
        if (got == -2) return QR_LINE_WAIT;
        if (got == -1) return QR_LINE_ERROR;
        lines->ended = got == 0;
        lines->end += (size_t)got;
    }
}
