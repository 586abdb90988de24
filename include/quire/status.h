/* Result codes. Zero is success, negative is an error; nothing else is returned. */
#ifndef QUIRE_STATUS_H
#define QUIRE_STATUS_H

#include "quire/api.h"

/* One line per code: name, value, text. Values are frozen once released. */
#define QUIRE_STATUS_MAP(X)                                                                                            \
    X(OK, 0, "success")                                                                                                \
    X(ERR_INVALID, -1, "invalid argument")                                                                             \
    X(ERR_NO_MEMORY, -2, "out of memory")                                                                              \
    X(ERR_FULL, -3, "queue full")                                                                                      \
    X(ERR_NOT_FOUND, -4, "no such request")                                                                            \
    X(ERR_TOO_LONG, -5, "request exceeds the engine's capacity")                                                       \
    X(ERR_UNSUPPORTED, -6, "not supported by this build or machine")                                                   \
    X(ERR_IO, -7, "input/output failure")                                                                              \
    X(ERR_FORMAT, -8, "malformed file")                                                                                \
    X(ERR_THREADS, -10, "the compute threads could not be created")                                                    \
    X(ERR_FORKED, -11, "the engine belongs to the parent process")                                                     \
    X(ERR_EXECUTION, -12, "the forward pass failed for this request")                                                  \
    X(ERR_INTERNAL, -9, "internal error, please report")

typedef enum quire_status {
#define QUIRE_STATUS_ENUM(name, value, text) QUIRE_##name = (value),
    QUIRE_STATUS_MAP(QUIRE_STATUS_ENUM)
#undef QUIRE_STATUS_ENUM
} quire_status;

/* Where and why a call failed. Filled only on failure; callers that do not care pass NULL. The message is one printable
 * line of UTF-8: other bytes and control characters of files and requests are shown as \xNN. */
typedef struct quire_error {
    quire_status status;
    char         message[252]; /* NUL-terminated, e.g. "engine.toml:12:8: [kv_cache] block_size: 31 is below ..." */
} quire_error;

/* Static text, never NULL, also for values from a newer library. Thread: any. */
QUIRE_API const char *quire_status_text(quire_status status);

#endif
