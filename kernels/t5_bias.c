/* T5's relative position buckets and the by-distance tables made of them at load. */
#include <math.h>

#include "kernels/attention.h"

enum { SATURATED = QR_TILE_TOKENS - 1 }; /* entries at each end, so that a tile at the edge is one unaligned load */

uint32_t qr_t5_bucket(int32_t relative, bool bidirectional, uint32_t num_buckets, uint32_t max_distance)
{
    uint32_t base = 0, distance = 0, buckets = num_buckets;
    if (bidirectional) {
        buckets /= 2;
        base     = relative > 0 ? buckets : 0;
        distance = relative > 0 ? (uint32_t)relative : 0u - (uint32_t)relative;
    } else if (relative < 0) {
        distance = 0u - (uint32_t)relative;
    }
    const uint32_t exact = buckets / 2;
    if (distance < exact) return base + distance;
    /* In f32 and truncated, as torch computes it; the divisor is a Python float that torch rounds to f32. */
    const float    octave = logf((float)distance / (float)exact) / (float)log((double)max_distance / (double)exact);
    const uint32_t large  = exact + (uint32_t)(octave * (float)(buckets - exact));
    return base + qr_min_u32(buckets - 1, large);
}

void qr_t5_bias_shape(bool bidirectional, uint32_t max_distance, qr_attention_bias *bias_out)
{
    const uint32_t zero = max_distance + SATURATED;
    const uint32_t last = bidirectional ? zero + max_distance + SATURATED : zero + SATURATED;
    *bias_out           = (qr_attention_bias){.stride = last + 1, .zero = zero, .reach = max_distance};
}

void qr_t5_bias_fill(qr_attention_bias *bias, float *table, const float *weights, uint32_t heads, bool bidirectional,
                     uint32_t num_buckets, uint32_t max_distance)
{
    for (uint32_t i = 0; i < bias->stride; i++) {
        const int32_t  relative = (int32_t)i - (int32_t)bias->zero;
        const uint32_t bucket   = qr_t5_bucket(relative, bidirectional, num_buckets, max_distance);
        for (uint32_t h = 0; h < heads; h++) table[(size_t)h * bias->stride + i] = weights[(size_t)bucket * heads + h];
    }
    bias->by_distance = table;
}
