/* Residuals sorted by predicted time; a step draws among its nearest neighbours. */
#include "bench/run/cost_noise.h"

#include <stdlib.h>

#include "base/rng.h"

enum { NEIGHBOURS = 64 };

static int by_prediction(const void *a, const void *b)
{
    const qr_residual *x = a, *y = b;
    const int          order = (x->predicted > y->predicted) - (x->predicted < y->predicted);
    return order != 0 ? order : (x->ratio > y->ratio) - (x->ratio < y->ratio); /* the same order with every qsort */
}

quire_status qr_cost_noise_init(qr_cost_noise *noise, const qr_cost_model *model, const qr_cost_sample *samples,
                                size_t count)
{
    noise->residuals = malloc(count * sizeof *noise->residuals);
    noise->count     = count;
    if (noise->residuals == NULL) return QUIRE_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const double predicted = qr_cost_model_seconds(model, &samples[i].work);
        noise->residuals[i]    = (qr_residual){predicted, samples[i].seconds / predicted};
    }
    qsort(noise->residuals, count, sizeof *noise->residuals, by_prediction);
    return QUIRE_OK;
}

void qr_cost_noise_deinit(qr_cost_noise *noise) { free(noise->residuals); }

static size_t first_not_below(const qr_cost_noise *noise, double predicted)
{
    size_t low = 0, high = noise->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (noise->residuals[middle].predicted < predicted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

double qr_cost_noise_factor(const qr_cost_noise *noise, double predicted, uint64_t number)
{
    if (noise->residuals == NULL) return 1;
    const size_t at    = first_not_below(noise, predicted);
    const size_t width = noise->count < NEIGHBOURS ? noise->count : NEIGHBOURS;
    const size_t first = at < width / 2 ? 0 : at - width / 2;
    const size_t last  = noise->count - width;
    return noise->residuals[(first < last ? first : last) + qr_random_below(0, 0, number, (uint32_t)width)].ratio;
}
