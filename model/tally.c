/* Counts names, keeps the first, and warns of them in one line. */
#include "model/tally.h"

#include <stdio.h>

void qr_tally_add(qr_tally *tally, const char *name)
{
    if (tally->count++ == 0) snprintf(tally->first, sizeof tally->first, "%s", name);
}

void qr_tally_warn(const qr_tally *tally, qr_log *log, const char *place, const char *what)
{
    char more[32] = "";
    if (tally->count == 0) return;
    if (tally->count > 1) snprintf(more, sizeof more, " and %u more", tally->count - 1);
    qr_log_write(log, QUIRE_LOG_WARN, "%s: %s: \"%s\"%s", place, what, tally->first, more);
}
