/* Several results measured in turn: a repetition of each, there and back (ABBA), so that a drift of the machine falls
 * on all alike. One engine is open at a time; neighbours that ask for the same one share it. */
#ifndef QR_BENCH_TURNS_H
#define QR_BENCH_TURNS_H

#include "bench/session.h"

typedef struct qr_turns {
    qr_result *const   *results; /* [count] each with its config, zeroed otherwise; NULL: done already, skipped */
    size_t              count;
    bool                sequential; /* all repetitions of one, then the next */
    const quire_logger *logger;
    volatile int       *interrupt;
    /* Result `index` has all its repetitions, or failed: status and error say why. It is begun and ended, and no longer
     * used. False stops everything. */
    bool (*ended)(void *context, size_t index, quire_status status, const quire_error *error);
    void *context;
} qr_turns;

/* False: stopped or interrupted; results in progress are then ended as partial ones, and reported. */
bool qr_turns_run(const qr_turns *turns);

#endif
