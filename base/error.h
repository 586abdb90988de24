/* Errors by value: forward them, or fill a caller's quire_error with a sentence. */
#ifndef QR_BASE_ERROR_H
#define QR_BASE_ERROR_H

#include "quire/status.h"

/* Returns from the calling function when `expr` is not QUIRE_OK. */
#define QR_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        const quire_status qr_try_status_ = (expr);                                                                    \
        if (qr_try_status_ != QUIRE_OK) return qr_try_status_;                                                         \
    } while (0)

/* Fills *error (NULL is allowed) and returns `status`. The message names the thing, the place and the limit. */
quire_status qr_fail(quire_error *error, quire_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
