/* Counter-based randomness: a number is a pure function of (seed, stream, counter), so that it depends on neither
 * order nor thread nor batch. Two rounds of the SplitMix64 finaliser (Steele, Lea, Flood 2014) over the mixed words. */
#ifndef QR_BASE_RNG_H
#define QR_BASE_RNG_H

#include <stdint.h>

static inline uint64_t qr_mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t qr_random_u64(uint64_t seed, uint64_t stream, uint64_t counter)
{
    const uint64_t key =
        qr_mix64(seed + 0x9e3779b97f4a7c15u) ^ qr_mix64(stream * 0xd1342543de82ef95u + 0x632be59bd9b4e019u);
    return qr_mix64(qr_mix64(key + counter * 0x9e3779b97f4a7c15u) ^ key);
}

/* In [0, 1), 53 bits. */
static inline double qr_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return (double)(qr_random_u64(seed, stream, counter) >> 11) * 0x1p-53;
}

/* In [0, limit), limit >= 1. */
static inline uint32_t qr_random_below(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t limit)
{
    return (uint32_t)(((qr_random_u64(seed, stream, counter) >> 32) * limit) >> 32);
}

#endif
