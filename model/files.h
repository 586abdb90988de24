/* Files of a model: opened without surprises, read whole or at an offset, named briefly in messages. */
#ifndef QR_FILES_H
#define QR_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "quire/hooks.h"
#include "quire/status.h"

typedef struct qr_file {
    int      descriptor; /* -1: not open */
    uint64_t size;
    int64_t  changed_s, changed_ns; /* time of the last change when it was opened */
} qr_file;

/* Regular files only: a pipe or a device would block or never end. ERR_IO. */
quire_status qr_file_open(const char *path, qr_file *file_out, quire_error *error);
void         qr_file_close(qr_file *file);

/* Exactly `length` bytes at `offset`. ERR_IO, its message beginning with `label`; also when the file became shorter. */
quire_status qr_file_read(const qr_file *file, const char *label, uint64_t offset, void *out, uint64_t length,
                          quire_error *error);

/* A file of at most `most` bytes. *text_out is the caller's to deallocate, [*length_out], also after a failure (NULL).
 */
quire_status qr_file_read_whole(const char *path, uint64_t most, const quire_allocator *allocator, char **text_out,
                                uint64_t *length_out, quire_error *error);

/* Lets the system read ahead what is wanted soon; returns at once. */
void qr_file_expect(const qr_file *file, uint64_t offset, uint64_t length);

/* Whether size and time of change are those of the opening. */
bool qr_file_unchanged(const qr_file *file);

/* The last 80 bytes of a path, so that it leaves room for the rest of a message. */
const char *qr_path_tail(const char *path);

#endif
