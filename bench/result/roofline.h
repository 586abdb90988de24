/* Which fraction of the roofline a run reached (Williams et al., 2009). Per step
 *
 *   floor    = max(bytes / R, sum over dtypes of operations / P)
 *   fraction = sum of floors / sum of step times
 *
 * with bytes and operations as the engine counted them (quire_step) and R and P as the engine measured them before,
 * between and after the repetitions (quire_limits): the best of each, since what else runs only takes away; a fraction
 * is given where the samples of R agree. R is that of a working set as large as what the step moves, read over and
 * over, so that caches count as far as they can hold it. */
#ifndef QR_BENCH_ROOFLINE_H
#define QR_BENCH_ROOFLINE_H

#include "bench/result/result.h"

/* What a step is divided by. */
typedef struct qr_roofline {
    double   read_gbs, set_gbs[QUIRE_LIMIT_SETS]; /* as in quire_limits */
    uint64_t read_bytes;
    double   weight_gflops, kv_gflops; /* of the dtypes that projections and logits, and attention, multiply */
    double   wide_gflops;              /* of what stays bf16 among int8 weights */
    uint64_t cache_bytes;              /* a step that moves no more fits the last-level caches */
} qr_roofline;

/* False: the result has no measured limits. */
bool qr_roofline_of(const qr_result *result, qr_roofline *roofline_out);

/* R of a working set: between the measured sizes by the logarithms of both, beyond them that of the nearest. */
double qr_roofline_read_gbs(const qr_roofline *roof, double bytes);

/* Seconds a step takes at least; seconds it took, planning and sampling included. */
double qr_roofline_floor(const qr_roofline *roof, const quire_step *step);
double qr_roofline_step_seconds(const quire_step *step);
bool   qr_roofline_fits_caches(const qr_roofline *roof, const quire_step *step);

enum { QR_ROOFLINE_PHASES = 4, QR_ROOFLINE_CLASSES = 4 };

typedef struct qr_roofline_fraction {
    double   floor_s, step_s, fraction; /* fraction NAN: there is no step, or R differs */
    double   read_gbs, step_bytes;      /* R of a step's bytes, as all steps together have them; a step's bytes, mean */
    uint64_t steps, cached_steps;       /* cached: fit the last-level caches */
    struct {
        const char *name; /* "projections", "attention", "logits", "encoder" */
        double      bytes, flops, floor_s, measured_s, fraction, gbs, gflops;
    } phases[QR_ROOFLINE_PHASES]; /* the encoder's layers and cross blocks are a phase of their own, not in the others
                                   */
    double rest_s;                /* of step_s: row-wise work, sampling, planning, barriers */
    struct {
        uint32_t first, last; /* rows, encoder rows included; last 0: no end */
        uint64_t steps;
        double   floor_s, step_s, fraction;
    } by_rows[QR_ROOFLINE_CLASSES];
} qr_roofline_fraction;

/* Steps of the window of one repetition. False: no measured limits. */
bool qr_roofline_fraction_of(const qr_result *result, uint32_t run, qr_roofline_fraction *fraction_out);

/* A number in all the limits that were measured, in the order of measuring. */
void qr_limits_values(const qr_result *result, size_t offset, double values_out[QR_MAX_LIMITS]);

/* The greatest sample of R over the least; at most QR_LIMITS_AGREE: they agree, and fractions are given. */
#define QR_LIMITS_AGREE 1.15
double qr_limits_spread(const qr_result *result);

#endif
