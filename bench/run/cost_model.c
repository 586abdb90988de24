/* Knots where the steps are, then non-negative least squares by coordinate descent, reweighted. */
#include "bench/run/cost_model.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/median.h"
#include "bench/common/statistics.h"

enum { LEAST_SAMPLES = 32, LEAST_PER_PIECE = 8, REWEIGHTINGS = 12, MOST_SWEEPS = 20000 };

/* ---- terms ---- */

static unsigned add_curve(const qr_cost_curve *curve, double value, double *terms_out)
{
    for (unsigned i = 0; i + 1 < curve->count; i++) {
        const double along = (value - curve->knots[i]) / (curve->knots[i + 1] - curve->knots[i]);
        const bool   last  = i + 2 == curve->count;
        terms_out[i]       = along < 0 ? 0 : along > 1 && !last ? 1 : along;
    }
    return curve->count > 0 ? curve->count - 1 : 0;
}

/* terms_out[QR_COST_MAX_TERMS]; returns how many. */
static unsigned terms_of(const qr_cost_model *model, const qr_step_work *w, double *terms_out)
{
    const double linear[QR_COST_LINEAR] = {w->sequences,        w->rows_logits, w->rows_logits > 0,
                                           w->rows_encoder > 0, w->kv_tokens,   w->kv_pairs,
                                           w->cross_tokens,     w->cross_pairs, w->encoder_pairs};
    unsigned     count                  = 0;
    terms_out[count++]                  = 1;
    count += add_curve(&model->rows, w->rows, terms_out + count);
    count += add_curve(&model->rows_encoder, w->rows_encoder, terms_out + count);
    for (unsigned i = 0; i < QR_COST_LINEAR; i++) terms_out[count++] = linear[i];
    return count;
}

double qr_cost_model_seconds(const qr_cost_model *model, const qr_step_work *work)
{
    double         terms[QR_COST_MAX_TERMS], sum = 0;
    const unsigned count = terms_of(model, work, terms);
    for (unsigned i = 0; i < count; i++) sum += model->seconds[i] * terms[i];
    return sum;
}

/* The counts as an array, in the order of the struct. */
enum { COUNTS = sizeof(qr_step_work) / sizeof(double) };
typedef union counts {
    qr_step_work work;
    double       values[COUNTS];
} counts;

bool qr_cost_model_covers(const qr_cost_model *model, const qr_step_work *work)
{
    const counts most = {.work = model->most}, seen = {.work = *work};
    bool         covers = true;
    for (unsigned i = 0; i < COUNTS; i++) covers &= seen.values[i] <= most.values[i];
    return covers;
}

static void note_most(qr_cost_model *model, const qr_step_work *work)
{
    counts       most = {.work = model->most};
    const counts seen = {.work = *work};
    for (unsigned i = 0; i < COUNTS; i++) most.values[i] = fmax(most.values[i], seen.values[i]);
    model->most = most.work;
}

/* ---- knots ---- */

static size_t count_up_to(const double *sorted, size_t count, double limit)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (sorted[middle] <= limit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* 1, 2, 3, ..., then four to an octave, and the one after each power of two from 16 on, where kernels change. */
static double next_candidate(double knot)
{
    if (knot < 8) return floor(knot) + 1;
    int exponent;
    (void)frexp(knot, &exponent);
    const double octave = ldexp(1, exponent - 1);
    if (octave >= 16 && knot == octave) return knot + 1;
    return octave * (1 + (floor((knot / octave - 1) * 4) + 1) / 4);
}

/* A piece has at least LEAST_PER_PIECE of the values; there is none where all values are equal. */
static void choose_knots(double *values, size_t count, qr_cost_curve *curve_out)
{
    qr_sort(values, count);
    const double most = values[count - 1];
    curve_out->count  = 0;
    if (values[0] == most) return;
    curve_out->knots[curve_out->count++] = values[0];
    size_t before                        = count_up_to(values, count, values[0]);
    double knot                          = values[0];
    while ((knot = next_candidate(knot)) < most) {
        const size_t upto = count_up_to(values, count, knot);
        if (upto - before < LEAST_PER_PIECE || count - upto < LEAST_PER_PIECE) continue;
        if (curve_out->count == QR_COST_MAX_KNOTS - 1) break;
        curve_out->knots[curve_out->count++] = knot;
        before                               = upto;
    }
    curve_out->knots[curve_out->count++] = most;
}

static void place_knots(const qr_cost_sample *samples, size_t count, double *scratch, qr_cost_model *model)
{
    for (size_t i = 0; i < count; i++) scratch[i] = samples[i].work.rows;
    choose_knots(scratch, count, &model->rows);
    size_t encodes = 0;
    for (size_t i = 0; i < count; i++)
        if (samples[i].work.rows_encoder > 0) scratch[encodes++] = samples[i].work.rows_encoder;
    if (encodes > 0) choose_knots(scratch, encodes, &model->rows_encoder);
}

/* ---- least squares ---- */

typedef struct normal {
    double   matrix[QR_COST_MAX_TERMS][QR_COST_MAX_TERMS]; /* sum of w x x' */
    double   right[QR_COST_MAX_TERMS];                     /* sum of w x y */
    double   scale[QR_COST_MAX_TERMS];                     /* the largest of each term, so that columns compare */
    unsigned count;
} normal;

static void add_sample(normal *n, const double *terms, double weight, double seconds)
{
    for (unsigned i = 0; i < n->count; i++) {
        if (terms[i] == 0) continue;
        n->right[i] += weight * terms[i] * seconds;
        for (unsigned k = 0; k < n->count; k++) n->matrix[i][k] += weight * terms[i] * terms[k];
    }
}

static void find_scales(const qr_cost_model *model, const qr_cost_sample *samples, size_t count, normal *n)
{
    double terms[QR_COST_MAX_TERMS] = {0};
    for (size_t i = 0; i < count; i++) {
        n->count = terms_of(model, &samples[i].work, terms);
        for (unsigned k = 0; k < n->count; k++) n->scale[k] = fmax(n->scale[k], terms[k]);
    }
}

/* Weights 1 / predicted; 1 / measured before there is a prediction. */
static void accumulate(const qr_cost_model *model, const qr_cost_sample *samples, size_t count, bool first, normal *n)
{
    double terms[QR_COST_MAX_TERMS] = {0};
    for (unsigned i = 0; i < n->count; i++) {
        n->right[i] = 0;
        for (unsigned k = 0; k < n->count; k++) n->matrix[i][k] = 0;
    }
    for (size_t i = 0; i < count; i++) {
        const double predicted = first ? samples[i].seconds : qr_cost_model_seconds(model, &samples[i].work);
        (void)terms_of(model, &samples[i].work, terms);
        for (unsigned k = 0; k < n->count; k++) terms[k] = n->scale[k] > 0 ? terms[k] / n->scale[k] : 0;
        add_sample(n, terms, 1 / fmax(predicted, 0.01 * samples[i].seconds), samples[i].seconds);
    }
}

/* Minimises x'Ax/2 - b'x over x >= 0, from the x given. The gradient is kept, one coordinate moves at a time. */
static void descend(const normal *n, double *x)
{
    double gradient[QR_COST_MAX_TERMS];
    for (unsigned i = 0; i < n->count; i++) {
        gradient[i] = -n->right[i];
        for (unsigned k = 0; k < n->count; k++) gradient[i] += n->matrix[i][k] * x[k];
    }
    for (unsigned sweep = 0; sweep < MOST_SWEEPS; sweep++) {
        double moved = 0, size = 0;
        for (unsigned i = 0; i < n->count; i++) {
            if (n->matrix[i][i] <= 0) continue;
            const double to = fmax(0, x[i] - gradient[i] / n->matrix[i][i]), by = to - x[i];
            x[i] = to;
            for (unsigned k = 0; k < n->count && by != 0; k++) gradient[k] += by * n->matrix[k][i];
            moved = fmax(moved, fabs(by));
            size  = fmax(size, to);
        }
        if (moved <= 1e-10 * size) break;
    }
}

/* ---- fitting ---- */

/* scratch[count] */
static void fit(const qr_cost_sample *samples, size_t count, normal *n, double *scratch, qr_cost_model *model_out)
{
    double x[QR_COST_MAX_TERMS] = {0};
    *model_out                  = (qr_cost_model){.steps = count};
    *n                          = (normal){0};
    place_knots(samples, count, scratch, model_out);
    find_scales(model_out, samples, count, n);
    for (size_t i = 0; i < count; i++) note_most(model_out, &samples[i].work);
    for (unsigned round = 0; round < REWEIGHTINGS; round++) {
        accumulate(model_out, samples, count, round == 0, n);
        descend(n, x);
        for (unsigned k = 0; k < n->count; k++) model_out->seconds[k] = n->scale[k] > 0 ? x[k] / n->scale[k] : 0;
    }
}

/* predicted[count] is sorted away. */
static qr_cost_error error_of(const qr_cost_sample *samples, size_t count, double *predicted)
{
    double total = 0, measured = 0;
    for (size_t i = 0; i < count; i++) {
        total += predicted[i];
        measured += samples[i].seconds;
        predicted[i] = fabs(predicted[i] / samples[i].seconds - 1);
    }
    qr_sort(predicted, count);
    return (qr_cost_error){.median = qr_quantile(predicted, count, 0.5),
                           .p90    = qr_quantile(predicted, count, 0.9),
                           .total  = total / measured - 1};
}

/* Predicts the steps of one parity by a fit to the others. half, scratch: [count]. */
static void predict_half(const qr_cost_sample *samples, size_t count, size_t parity, normal *n, qr_cost_sample *half,
                         double *scratch, double *predicted)
{
    size_t        others = 0;
    qr_cost_model model;
    for (size_t i = 1 - parity; i < count; i += 2) half[others++] = samples[i];
    fit(half, others, n, scratch, &model);
    for (size_t i = parity; i < count; i += 2) predicted[i] = qr_cost_model_seconds(&model, &samples[i].work);
}

static void fit_and_judge(const qr_cost_sample *samples, size_t count, normal *n, qr_cost_sample *half, double *scratch,
                          double *predicted, qr_cost_model *model_out)
{
    for (size_t parity = 0; parity < 2; parity++) predict_half(samples, count, parity, n, half, scratch, predicted);
    const qr_cost_error held_out = error_of(samples, count, predicted);
    fit(samples, count, n, scratch, model_out);
    for (size_t i = 0; i < count; i++) predicted[i] = qr_cost_model_seconds(model_out, &samples[i].work);
    model_out->held_out = held_out;
    model_out->fitted   = error_of(samples, count, predicted);
}

quire_status qr_cost_model_fit(const qr_cost_sample *samples, size_t count, qr_cost_model *model_out,
                               quire_error *error)
{
    *model_out = (qr_cost_model){0};
    if (count < LEAST_SAMPLES)
        return qr_fail(error, QUIRE_ERR_INVALID, "cost model: %zu steps are too few to fit, %d are needed", count,
                       LEAST_SAMPLES);
    normal         *n       = malloc(sizeof *n);
    qr_cost_sample *half    = malloc(count * sizeof *half);
    double         *scratch = malloc(2 * count * sizeof *scratch);
    const bool      ok      = n != NULL && half != NULL && scratch != NULL;
    if (ok) fit_and_judge(samples, count, n, half, scratch, scratch + count, model_out);
    free(n);
    free(half);
    free(scratch);
    return ok ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "cost model: out of memory");
}
