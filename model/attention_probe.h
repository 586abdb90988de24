/* What suits attention on this machine, measured in about 30 ms. */
#ifndef QR_ATTENTION_PROBE_H
#define QR_ATTENTION_PROBE_H

#include "kernels/attention.h"
#include "topology/team.h"

typedef struct qr_attention_probe_options {
    const qr_kernels         *kernels;
    const qr_attention_shape *shape; /* as for qr_attention_plan_create() */
    qr_team                  *team;
    const qr_mapping *memory; /* [threads of the team] read only; 96 MiB together, touched, each thread's near it */
    qr_log           *log;
    const quire_allocator *allocator;
} qr_attention_probe_options;

/* Writes *tuning, or leaves it where there is too little memory to read or the scratch is refused. Thread: owner of the
 * team. */
void qr_attention_probe(const qr_attention_probe_options *options, qr_attention_tuning *tuning);

#endif
