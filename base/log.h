/* Log lines to the host's logger, else to stderr. */
#ifndef QR_BASE_LOG_H
#define QR_BASE_LOG_H

#include <pthread.h>

#include "quire/hooks.h"

typedef struct qr_log {
    quire_logger    logger; /* level resolved */
    pthread_mutex_t mutex;  /* writes are serialised */
} qr_log;

void qr_log_init(qr_log *log, const quire_logger *logger); /* NULL: stderr, level WARN */
void qr_log_deinit(qr_log *log);

/* A NULL log drops the line. Lines are printable (base/printable.h) and cut at 500 bytes. Thread: any. */
void qr_log_write(qr_log *log, quire_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
