/* A log whose lines a test looks at. */
#ifndef QR_TEST_KEPT_LOG_H
#define QR_TEST_KEPT_LOG_H

#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* All lines, each with a newline; zero to begin with. */
typedef struct kept_log {
    char   text[4000];
    size_t length;
} kept_log;

static inline void kept_log_write(void *context, quire_log_level level, const char *line)
{
    kept_log *kept = context;
    (void)level;
    kept->length += (size_t)snprintf(kept->text + kept->length, sizeof kept->text - kept->length, "%s\n", line);
}

static inline quire_logger kept_log_logger(kept_log *kept)
{
    return (quire_logger){.context = kept, .write = kept_log_write, .level = QUIRE_LOG_WARN};
}

static inline qr_log kept_log_init(kept_log *kept)
{
    qr_log             log;
    const quire_logger logger = kept_log_logger(kept);
    qr_log_init(&log, &logger);
    return log;
}

#endif
