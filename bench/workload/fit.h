/* Whether the requests of a workload can ever be in the KV cache, and what else of them will not be as asked for: known
 * before any work. */
#ifndef QR_BENCH_WORKLOAD_FIT_H
#define QR_BENCH_WORKLOAD_FIT_H

#include "bench/workload/workload.h"

#include "quire/quire.h"

typedef struct qr_fit {
    uint32_t requests, too_long; /* looked at, the first thousand at most; longer than the whole cache */
    uint32_t shortened, max_model_len;
    uint64_t longest, capacity; /* tokens */
} qr_fit;

/* Looks at the requests without drawing them. A sliding window keeps less than all tokens, so there everything fits,
 * as in an engine that does not say how many blocks it has (0).
 * ERR_INVALID: none of the requests fits. */
quire_status qr_workload_check_fit(const qr_workload *workload, const quire_model_info *model,
                                   const quire_stats *engine, qr_fit *fit_out, quire_error *error);

/* Says, a sentence each, what of the workload will not be played as it was asked for. */
typedef void qr_fit_sayer(void *context, const char *sentence);
void         qr_fit_warn(const qr_fit *fit, const qr_workload *workload, qr_fit_sayer *say, void *context);

#endif
