/* For functions that recount a structure and compare: they return NULL, or a sentence that says what is wrong. */
#ifndef QR_BASE_CHECK_H
#define QR_BASE_CHECK_H

#include <stddef.h>

/* Returns the sentence from the calling function when the rule is violated. */
#define QR_RULE(condition, sentence)                                                                                   \
    do {                                                                                                               \
        if (!(condition)) return (sentence);                                                                           \
    } while (0)

/* Forwards the sentence of another check. */
#define QR_CHECK(expr)                                                                                                 \
    do {                                                                                                               \
        const char *qr_check_verdict_ = (expr);                                                                        \
        if (qr_check_verdict_ != NULL) return qr_check_verdict_;                                                       \
    } while (0)

#endif
