/* An engine of this process as a benchmark's target: a driver thread gives its time to quire_engine_step(). */
#ifndef QR_BENCH_TARGET_ENGINE_H
#define QR_BENCH_TARGET_ENGINE_H

#include "bench/run/target.h"

enum { QR_STAGES_PER_STEP = 2048 }; /* of one thread; asked of an engine for a trace */

/* `engine` is borrowed. ERR_NO_MEMORY. */
quire_status qr_target_engine_create(quire_engine *engine, qr_target *target_out, quire_error *error);

#endif
