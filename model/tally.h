/* Names that deserve the same warning: one line for all of them. */
#ifndef QR_TALLY_H
#define QR_TALLY_H

#include <stdint.h>

#include "base/log.h"

/* Zero to begin with. */
typedef struct qr_tally {
    uint32_t count;
    char     first[81];
} qr_tally;

void qr_tally_add(qr_tally *tally, const char *name);

/* Warns, where there are names: `place: what: "first" and 3 more`. */
void qr_tally_warn(const qr_tally *tally, qr_log *log, const char *place, const char *what);

#endif
