/* Distributions of lengths and gaps, drawn from counter-based streams with quire's own formulas: the same seed gives
 * the same workload with every compiler. */
#ifndef QR_BENCH_DISTRIBUTION_H
#define QR_BENCH_DISTRIBUTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quire/config.h"

/* A stream of numbers; each draw takes the next counter value, so equal streams give equal draws. */
typedef struct qr_stream {
    uint64_t seed, stream, counter;
} qr_stream;

double qr_stream_uniform(qr_stream *stream);               /* (0, 1) */
double qr_stream_normal(qr_stream *stream);                /* mean 0, variance 1; Wichura, AS 241 */
double qr_stream_gamma(qr_stream *stream, double shape);   /* scale 1; Marsaglia & Tsang 2000 */
double qr_stream_weibull(qr_stream *stream, double shape); /* scale 1, by inversion */

typedef enum qr_distribution_kind {
    QR_DISTRIBUTION_FIXED,
    QR_DISTRIBUTION_UNIFORM,
    QR_DISTRIBUTION_NORMAL,
    QR_DISTRIBUTION_LOGNORMAL,
    QR_DISTRIBUTION_GAMMA,
    QR_DISTRIBUTION_ZIPF,
    QR_DISTRIBUTION_EMPIRICAL,
} qr_distribution_kind;

typedef struct qr_distribution {
    qr_distribution_kind kind;
    double               value, mean, stdev, s; /* mean and stdev of the lengths themselves, also for lognormal */
    double               min, max;              /* every draw is clipped to these */
    double              *table;                 /* zipf: cumulative [table_count]; empirical: values; owned */
    size_t               table_count;
} qr_distribution;

/* Reads `key` of the configuration ("workload.prompt_tokens"): a number, or a table with `dist`. `fallback` where it is
 * not set. ERR_INVALID / ERR_IO / ERR_FORMAT (empirical) name the key or the file's line. */
quire_status qr_distribution_read(const quire_config *config, const char *key, qr_distribution *distribution_out,
                                  quire_error *error);
void         qr_distribution_deinit(qr_distribution *distribution);

/* Rounded to the nearest integer, clipped to [min, max]. */
uint32_t qr_distribution_draw(const qr_distribution *distribution, qr_stream *stream);

/* Cumulative weights of ranks 1..count under Zipf(s), ending at 1. `table_out` is the caller's, [count]. */
void   qr_zipf_fill(double *table_out, size_t count, double s);
size_t qr_table_draw(const double *table, size_t count, qr_stream *stream); /* rank - 1 */

#endif
