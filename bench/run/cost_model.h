/* How long a step takes, as a function of what it computes; fitted to the step log of a real run.
 *
 *   seconds = c0 + R(rows) + E(rows_encoder) + sum of c_k * x_k,   every c >= 0
 *
 * R and E are increasing, piecewise linear functions, because a projection's time has a floor (its weights move once),
 * a slope (compute-bound) and steps (tiles, another kernel). The x are linear terms: the attention's keys and values
 * (bandwidth) and row-key pairs (compute), the same for cross-attention and encoder, logits rows, sequences, and one
 * each for "there are logits" and "there is an encoder run", whose matrices move once. */
#ifndef QR_BENCH_COST_MODEL_H
#define QR_BENCH_COST_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "quire/status.h"

/* What a step computes: counts, the same from a step log as from a plan. */
typedef struct qr_step_work {
    double rows, rows_encoder, rows_logits, sequences;
    double kv_tokens, kv_pairs; /* tokens whose keys and values are read; (row, token) pairs of attention */
    double cross_tokens, cross_pairs, encoder_pairs;
} qr_step_work;

typedef struct qr_cost_sample {
    qr_step_work work;
    double       seconds; /* above 0 */
} qr_cost_sample;

enum { QR_COST_MAX_KNOTS = 40, QR_COST_LINEAR = 9, QR_COST_MAX_TERMS = 1 + 2 * QR_COST_MAX_KNOTS + QR_COST_LINEAR };

/* An increasing function: 0 at knots[0] and below, `count - 1` pieces, the last one goes on. */
typedef struct qr_cost_curve {
    double   knots[QR_COST_MAX_KNOTS];
    unsigned count;
} qr_cost_curve;

/* Relative errors |predicted - measured| / measured of steps, and that of their total (signed). */
typedef struct qr_cost_error {
    double median, p90, total;
} qr_cost_error;

typedef struct qr_cost_model {
    qr_cost_curve rows, rows_encoder;
    double        seconds[QR_COST_MAX_TERMS]; /* coefficients: constant, rows, rows_encoder, linear terms */
    qr_step_work  most;                       /* the largest of each count that the fit saw */
    size_t        steps;
    qr_cost_error fitted;   /* on the steps it was fitted to */
    qr_cost_error held_out; /* each half of the steps (odd, even) predicted by a fit to the other */
} qr_cost_model;

/* Non-negative least squares with weights 1 / predicted (quasi-Poisson, by reweighting), so that long and short steps
 * count by their relative error and the total time is kept. Solver: sequential coordinate descent (Franc, Hlavac,
 * Navara: "Sequential coordinate-wise algorithm for the non-negative least squares problem", CAIP 2005).
 * ERR_INVALID: fewer than 32 samples. ERR_NO_MEMORY. */
quire_status qr_cost_model_fit(const qr_cost_sample *samples, size_t count, qr_cost_model *model_out,
                               quire_error *error);

double qr_cost_model_seconds(const qr_cost_model *model, const qr_step_work *work);

/* False: some count lies beyond everything that the fit saw, so the prediction is an extrapolation. */
bool qr_cost_model_covers(const qr_cost_model *model, const qr_step_work *work);

/* Reads a `.steps.jsonl`. A step's time runs to the start of the next one when the engine had more to do, else to its
 * own end. `samples_out` is the caller's, free() it. ERR_IO, ERR_FORMAT name file, line and field; ERR_NO_MEMORY. */
quire_status qr_step_log_read(const char *path, qr_cost_sample **samples_out, size_t *count_out, quire_error *error);

#endif
