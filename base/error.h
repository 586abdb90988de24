/* Errors by value: forward them, or fill a caller's quire_error with a sentence. */
#ifndef QR_BASE_ERROR_H
#define QR_BASE_ERROR_H

#include "quire/status.h"

/* Returns from the calling function when `expr` is not QUIRE_OK. In debug builds, with QUIRE_TRACE_ERRORS in the
 * environment, each return is a line on stderr: the way of an error through the layers. */
#define QR_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        const quire_status qr_try_status_ = (expr);                                                                    \
        if (qr_try_status_ != QUIRE_OK) {                                                                              \
            QR_TRACE_ERROR(qr_try_status_, #expr);                                                                     \
            return qr_try_status_;                                                                                     \
        }                                                                                                              \
    } while (0)

#ifdef QR_DEBUG
#define QR_TRACE_ERROR(status, expr) qr_trace_error((status), (expr), __FILE__, __LINE__)
#else
#define QR_TRACE_ERROR(status, expr) ((void)0)
#endif

void qr_trace_error(quire_status status, const char *expr, const char *file, int line);

/* Fills *error (NULL is allowed) and returns `status`. The message names the thing, the place and the limit; it is one
 * printable line (base/printable.h), whatever it quotes. */
quire_status qr_fail(quire_error *error, quire_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
