/* After the run: a share of its requests again, each alone, whose tokens must be the same. */
#ifndef QR_BENCH_VERIFY_H
#define QR_BENCH_VERIFY_H

#include "bench/run/generator.h"

/* Those of the run that ended well and whose tokens were kept; the result is in run->verified, verify_failed. The
 * target must be empty and stopped. A nonzero *interrupt ends it early. */
quire_status qr_verify(qr_generator *generator, const volatile int *interrupt, quire_error *error);

#endif
