/* What a workload is like: lengths, gaps, burstiness, and how much of its prompts a prefix cache could save. */
#ifndef QR_BENCH_DESCRIBE_H
#define QR_BENCH_DESCRIBE_H

#include <stdio.h>

#include <jansson.h>

#include "bench/workload/workload.h"

enum { QR_MAX_CLASSES = 64 };

/* Of all requests, so no percentile is too rare to be given. stdev is the population's. */
typedef struct qr_spread {
    uint64_t n;
    double   mean, stdev, min, p50, p90, p99, max;
} qr_spread;

typedef struct qr_description {
    const char *profile;
    uint64_t    seed;
    uint32_t    requests, skipped, shortened; /* skipped: trace rows beyond max_model_len */
    uint32_t    empty;                        /* trace rows without tokens */
    bool        timed;                        /* due by the clock; false: all at once, or when a slot frees */
    qr_spread   prompt, output, encoder;      /* tokens; encoder.n = 0: none */
    /* timed */
    double    span_s;                   /* from the first to the last due time */
    double    rate;                     /* gaps / span */
    double    peak_rate;                /* the busiest 10 s */
    double    prompt_rate, output_rate; /* tokens asked for, per second of the span */
    qr_spread gap;                      /* s */
    double    gap_cv, burstiness;       /* burstiness: shape of the gamma process with this CV, 1 / CV^2 */
    double    zero_gaps;                /* share */
    /* an unlimited prefix cache that has each prompt as soon as it arrives */
    uint32_t block_size;
    double   reuse;                    /* share of prompt tokens found in it */
    uint64_t blocks;                   /* distinct full blocks of prompts: what it would hold */
    uint32_t hash_block;               /* trace with hash ids: tokens behind one; 0: none */
    uint64_t hash_blocks, hash_unique; /* ids in all rows; distinct ones */
    double   encoder_reuse;            /* share of encoder inputs that an earlier request had */
    uint32_t tenants;
    double   largest_tenant; /* its share of the requests */
    uint32_t classes;
    double   class_share[QR_MAX_CLASSES];
} qr_description;

/* Draws the whole workload. `until_ns` ends one without a number of requests. ERR_NO_MEMORY; ERR_INVALID: a closed
 * loop without a number of requests has no end. */
quire_status qr_describe(qr_workload *workload, uint32_t block_size, uint64_t until_ns, qr_description *description_out,
                         quire_error *error);

void    qr_description_print(const qr_description *description, FILE *to); /* at most 100 columns */
json_t *qr_description_json(const qr_description *description);            /* a new reference */

/* Draws the whole workload and writes it as a trace of format `quire`: played with the same seed, model and [workload]
 * shape it gives the same requests, token for token. ERR_IO, ERR_INVALID as above. */
quire_status qr_workload_write(qr_workload *workload, uint64_t until_ns, FILE *to, quire_error *error);

#endif
