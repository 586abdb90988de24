/* After the run: a share of its requests again, each alone, whose tokens must be the same. */
#ifndef QR_BENCH_VERIFY_H
#define QR_BENCH_VERIFY_H

#include "bench/run/generator.h"

typedef struct qr_verify_watcher { /* told before each request */
    void (*take)(void *context, uint32_t done, uint32_t total);
    void *context;
} qr_verify_watcher;

/* Those of the run that ended well and whose tokens were kept; the result is in run->verified, verify_failed. The
 * target must be empty and stopped. A nonzero *interrupt ends it early. */
quire_status qr_verify(qr_generator *generator, const qr_verify_watcher *watcher, const volatile int *interrupt,
                       quire_error *error);

#endif
