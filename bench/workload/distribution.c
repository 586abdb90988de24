/* One inverse or sum per kind of distribution. Equal streams give equal bits on every machine, so log, exp and pow
 * are not those of the math library. */
#include "bench/workload/distribution.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"
#include "bench/common/input_file.h"
#include "bench/common/portable_math.h"

double qr_stream_uniform(qr_stream *stream)
{
    return ((double)(qr_random_u64(stream->seed, stream->stream, stream->counter++) >> 12) + 0.5) * 0x1p-52;
}

static double ratio(const double *numerator, const double *denominator, double r)
{
    double a = numerator[7], b = denominator[6];
    for (int i = 6; i >= 0; i--) a = a * r + numerator[i];
    for (int i = 5; i >= 0; i--) b = b * r + denominator[i];
    return a / (b * r + 1.0);
}

/* The normal quantile: Wichura, "Algorithm AS 241", Applied Statistics 37 (1988), PPND16. */
double qr_stream_normal(qr_stream *stream)
{
    static const double a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                                1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static const double b[7] = {4.2313330701600911252e+1, 6.8718700749205790830e+2, 5.3941960214247511077e+3,
                                2.1213794301586595867e+4, 3.9307895800092710610e+4, 2.8729085735721942674e+4,
                                5.2264952788528545610e+3};
    static const double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                                3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                                2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double d[7] = {2.05319162663775882187e0,  1.67638483018380384940e0,  6.89767334985100004550e-1,
                                1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
                                1.05075007164441684324e-9};
    static const double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                                2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double f[7] = {5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
                                7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
                                2.04426310338993978564e-15};
    const double        p = qr_stream_uniform(stream), q = p - 0.5;
    if (fabs(q) <= 0.425) return q * ratio(a, b, 0.180625 - q * q);
    const double r = sqrt(-qr_portable_log(q < 0 ? p : 1.0 - p));
    const double z = r <= 5.0 ? ratio(c, d, r - 1.6) : ratio(e, f, r - 5.0);
    return q < 0 ? -z : z;
}

/* Marsaglia & Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000); shape < 1 by their boost. */
double qr_stream_gamma(qr_stream *stream, double shape)
{
    const double boost = shape < 1.0 ? qr_portable_pow(qr_stream_uniform(stream), 1.0 / shape) : 1.0;
    const double d = (shape < 1.0 ? shape + 1.0 : shape) - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        const double x = qr_stream_normal(stream), v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
        const double u = qr_stream_uniform(stream);
        if (v > 0 && qr_portable_log(u) < 0.5 * x * x + d - d * v + d * qr_portable_log(v)) return boost * d * v;
    }
}

double qr_stream_weibull(qr_stream *stream, double shape)
{
    return qr_portable_pow(-qr_portable_log(qr_stream_uniform(stream)), 1.0 / shape);
}

void qr_zipf_fill(double *table_out, size_t count, double s)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) table_out[i] = sum += qr_portable_pow((double)(i + 1), -s);
    for (size_t i = 0; i < count; i++) table_out[i] /= sum;
}

size_t qr_table_draw(const double *table, size_t count, qr_stream *stream)
{
    const double u   = qr_stream_uniform(stream);
    size_t       low = 0, high = count - 1;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (table[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- reading ---- */

static quire_status append_value(qr_distribution *to, size_t *capacity, double value, quire_error *error)
{
    if (to->table_count == *capacity) {
        *capacity     = *capacity ? 2 * *capacity : 1024;
        double *grown = realloc(to->table, *capacity * sizeof *grown);
        if (grown == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "empirical distribution: out of memory");
        to->table = grown;
    }
    to->table[to->table_count++] = value;
    return QUIRE_OK;
}

/* The field-th comma-separated part of `line`, which is cut up; NULL past the end. */
static char *field_of(char *line, size_t field)
{
    char *text = strsep(&line, ",\r\n");
    while (text != NULL && field-- > 0) text = strsep(&line, ",\r\n");
    return text;
}

static size_t count_fields(const char *line)
{
    size_t count = 1;
    for (; *line != '\0'; line++) count += *line == ',';
    return count;
}

static quire_status read_rows(FILE *file, const char *path, const char *column, qr_distribution *to, quire_error *error)
{
    char   line[65536];
    size_t wanted = 0, capacity = 0;
    if (fgets(line, sizeof line, file) == NULL) return qr_fail(error, QUIRE_ERR_FORMAT, "%s: empty", path);
    if (strncmp(line, "\xef\xbb\xbf", 3) == 0) memmove(line, line + 3, strlen(line + 3) + 1); /* byte order mark */
    const size_t columns = count_fields(line);
    for (char header[sizeof line], *name;; wanted++) {
        memcpy(header, line, sizeof header);
        name = field_of(header, wanted);
        if (name == NULL) return qr_fail(error, QUIRE_ERR_FORMAT, "%s:1: no column named \"%s\"", path, column);
        if (strcmp(name, column) == 0) break;
    }
    for (unsigned long number = 2; fgets(line, sizeof line, file) != NULL; number++) {
        if (line[strspn(line, "\r\n")] == '\0') continue;
        if (count_fields(line) != columns)
            return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%lu: %zu columns, the header has %zu", path, number,
                           count_fields(line), columns);
        const char  *text  = field_of(line, wanted);
        char        *end   = NULL;
        const double value = text ? strtod(text, &end) : 0;
        if (text == NULL || end == text || *end != '\0' || !(value >= 0 && value <= 1e9))
            return qr_fail(error, QUIRE_ERR_FORMAT, "%s:%lu: %s: \"%.40s\" is not a length between 0 and 1e9", path,
                           number, column, text ? text : "");
        QR_TRY(append_value(to, &capacity, value, error));
    }
    return to->table_count ? QUIRE_OK : qr_fail(error, QUIRE_ERR_FORMAT, "%s: no rows", path);
}

static quire_status read_column(const char *path, const char *column, qr_distribution *to, quire_error *error)
{
    FILE *file = qr_input_open(path, QR_MOST_LINES_BYTES, error);
    if (file == NULL) return QUIRE_ERR_IO;
    const quire_status status = read_rows(file, path, column, to, error);
    fclose(file);
    return status;
}

static double number_part(const quire_config *config, const char *key, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", key, name);
    return quire_config_number(config, full);
}

static const char *text_part(const quire_config *config, const char *key, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", key, name);
    return quire_config_string(config, full);
}

static quire_status check(const qr_distribution *d, const char *key, const char *dist, quire_error *error)
{
    const bool spread = d->kind == QR_DISTRIBUTION_LOGNORMAL || d->kind == QR_DISTRIBUTION_GAMMA;
    if (d->min > d->max) return qr_fail(error, QUIRE_ERR_INVALID, "%s: min %g is above max %g", key, d->min, d->max);
    if (spread && (d->mean <= 0 || d->stdev <= 0))
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %s needs mean and stdev above 0", key, dist);
    if (d->kind == QR_DISTRIBUTION_UNIFORM && d->max >= 1e9)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: uniform needs max", key);
    if (d->kind == QR_DISTRIBUTION_ZIPF && !(d->max >= 1 && d->max <= 1048576))
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: zipf needs max in 1..1048576", key);
    return QUIRE_OK;
}

/* NaN: not given. */
static double or_else(double x, double otherwise) { return isnan(x) ? otherwise : x; }

quire_status qr_distribution_read(const quire_config *config, const char *key, qr_distribution *distribution_out,
                                  quire_error *error)
{
    static const char *const names[] = {"fixed", "uniform", "normal", "lognormal", "gamma", "zipf", "empirical"};
    enum { NAMES = sizeof names / sizeof *names };
    qr_distribution *to   = distribution_out;
    const char      *dist = text_part(config, key, "dist");
    size_t           kind = 0;
    *to                   = (qr_distribution){.max = 1e9};
    while (kind < NAMES && dist != NULL && strcmp(names[kind], dist) != 0) kind++;
    if (kind == NAMES) return qr_fail(error, QUIRE_ERR_INVALID, "%s.dist: \"%s\" is unknown", key, dist);
    to->kind  = (qr_distribution_kind)kind;
    to->value = number_part(config, key, "value");
    to->mean  = number_part(config, key, "mean");
    to->stdev = number_part(config, key, "stdev");
    to->s     = number_part(config, key, "s");
    to->min   = or_else(number_part(config, key, "min"), to->kind == QR_DISTRIBUTION_UNIFORM ? 1 : 0);
    to->max   = or_else(number_part(config, key, "max"), 1e9);
    QR_TRY(check(to, key, dist, error));
    if (to->kind == QR_DISTRIBUTION_ZIPF) {
        to->table_count = (size_t)to->max;
        to->table       = malloc(to->table_count * sizeof *to->table);
        if (to->table == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: out of memory", key);
        qr_zipf_fill(to->table, to->table_count, to->s);
    }
    if (to->kind != QR_DISTRIBUTION_EMPIRICAL) return QUIRE_OK;
    const char *file = text_part(config, key, "file"), *column = text_part(config, key, "column");
    if (file == NULL || column == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: empirical needs file and column", key);
    return read_column(file, column, to, error);
}

void qr_distribution_deinit(qr_distribution *distribution)
{
    free(distribution->table);
    *distribution = (qr_distribution){0};
}

static double draw(const qr_distribution *from, qr_stream *stream)
{
    switch (from->kind) {
    case QR_DISTRIBUTION_FIXED: return from->value;
    case QR_DISTRIBUTION_UNIFORM: return floor(from->min + qr_stream_uniform(stream) * (from->max - from->min + 1));
    case QR_DISTRIBUTION_NORMAL: return from->mean + from->stdev * qr_stream_normal(stream);
    case QR_DISTRIBUTION_LOGNORMAL: {
        const double variance = qr_portable_log(1 + from->stdev * from->stdev / (from->mean * from->mean));
        return qr_portable_exp(qr_portable_log(from->mean) - variance / 2 + sqrt(variance) * qr_stream_normal(stream));
    }
    case QR_DISTRIBUTION_GAMMA: {
        const double shape = from->mean * from->mean / (from->stdev * from->stdev);
        return qr_stream_gamma(stream, shape) * from->mean / shape;
    }
    case QR_DISTRIBUTION_ZIPF: return (double)qr_table_draw(from->table, from->table_count, stream) + 1;
    case QR_DISTRIBUTION_EMPIRICAL: return from->table[(size_t)(qr_stream_uniform(stream) * (double)from->table_count)];
    }
    return from->value;
}

uint32_t qr_distribution_draw(const qr_distribution *distribution, qr_stream *stream)
{
    const double x = round(draw(distribution, stream));
    return (uint32_t)fmin(fmax(x, distribution->min), distribution->max);
}
