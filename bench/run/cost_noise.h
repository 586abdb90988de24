/* What a cost model leaves out, drawn from the steps it was fitted to: each simulated step deviates from its prediction
 * as some step of the log did that took about as long. Picked by a counter, so that runs repeat. */
#ifndef QR_BENCH_COST_NOISE_H
#define QR_BENCH_COST_NOISE_H

#include <stdint.h>

#include "bench/run/cost_model.h"

typedef struct qr_residual { /* of one step of the log */
    double predicted, ratio; /* s; measured / predicted */
} qr_residual;

typedef struct qr_cost_noise {
    qr_residual *residuals; /* [count] by predicted time; NULL: no noise */
    size_t       count;
} qr_cost_noise;

/* ERR_NO_MEMORY. */
quire_status qr_cost_noise_init(qr_cost_noise *noise, const qr_cost_model *model, const qr_cost_sample *samples,
                                size_t count);
void         qr_cost_noise_deinit(qr_cost_noise *noise);

/* The factor for the `number`th step; 1 without noise. */
double qr_cost_noise_factor(const qr_cost_noise *noise, double predicted, uint64_t number);

#endif
