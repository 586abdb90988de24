#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/printable.h"

static const char *level_name(quire_log_level level)
{
    switch (level) {
    case QUIRE_LOG_ERROR: return "error";
    case QUIRE_LOG_WARN: return "warning";
    case QUIRE_LOG_INFO: return "info";
    case QUIRE_LOG_DEBUG: return "debug";
    }
    return "log";
}

void qr_log_init(qr_log *log, const quire_logger *logger)
{
    log->logger = logger ? *logger : (quire_logger){0};
    if (log->logger.level == 0) log->logger.level = QUIRE_LOG_WARN;
    pthread_mutex_init(&log->mutex, NULL);
}

void qr_log_deinit(qr_log *log) { pthread_mutex_destroy(&log->mutex); }

void qr_log_write(qr_log *log, quire_log_level level, const char *format, ...)
{
    if (log == NULL || level > log->logger.level) return;
    char    line[500], text[sizeof line + 4]; /* the last character that fits is whole */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    qr_printable_copy(line, sizeof line, text);
    pthread_mutex_lock(&log->mutex);
    if (log->logger.write != NULL)
        log->logger.write(log->logger.context, level, line);
    else
        fprintf(stderr, "quire: %s: %s\n", level_name(level), line);
    pthread_mutex_unlock(&log->mutex);
}
