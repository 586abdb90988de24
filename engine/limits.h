/* Measures a team's limits: see quire/limits.h, which promises what is done here. */
#ifndef QR_ENGINE_LIMITS_H
#define QR_ENGINE_LIMITS_H

#include "kernels/kernels.h"
#include "topology/team.h"

#include "quire/limits.h"

typedef struct qr_limits_options {
    const qr_kernels      *kernels;     /* whose loops read and multiply */
    uint64_t               cache_bytes; /* last-level caches of the team's cores together */
    const qr_bind_options *bind;
} qr_limits_options;

/* Bytes that are beyond caches of `cache_bytes` together: eight times as many, at most 512 MiB. Thread: any. */
uint64_t qr_limits_beyond(uint64_t cache_bytes);

/* Fills all of *limits_out but `size`. Thread: the one that runs the team. */
quire_status qr_limits_measure(qr_team *team, const qr_limits_options *options, quire_limits *limits_out,
                               quire_error *error);

#endif
