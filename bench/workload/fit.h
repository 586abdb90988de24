/* Whether the requests of a workload can ever be in the KV cache: known before any work. */
#ifndef QR_BENCH_WORKLOAD_FIT_H
#define QR_BENCH_WORKLOAD_FIT_H

#include "bench/workload/workload.h"

#include "quire/quire.h"

typedef struct qr_fit {
    uint32_t requests, too_long; /* looked at, the first thousand at most; longer than the whole cache */
    uint64_t longest, capacity;  /* tokens */
} qr_fit;

/* Looks at the requests without drawing them. A sliding window keeps less than all tokens, so there everything fits.
 * ERR_INVALID: none of the requests fits. */
quire_status qr_workload_check_fit(const qr_workload *workload, const quire_model_info *model,
                                   const quire_stats *engine, qr_fit *fit_out, quire_error *error);

#endif
