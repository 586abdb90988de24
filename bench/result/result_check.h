/* Is a JSON value a result that this version reads? */
#ifndef QR_BENCH_RESULT_CHECK_H
#define QR_BENCH_RESULT_CHECK_H

#include <jansson.h>

#include "quire/status.h"

/* ERR_FORMAT: another schema, no runs, or a number of a run that is something else; the message begins with `place`
 * and names the member. What is null was not measurable; members that are missing are let pass. */
quire_status qr_result_check(const json_t *result, const char *place, quire_error *error);

#endif
