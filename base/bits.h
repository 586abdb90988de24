/* Small integer arithmetic: rounding, checked products, powers of two. */
#ifndef QR_BASE_BITS_H
#define QR_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint32_t qr_min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t qr_max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint64_t qr_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t qr_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline uint32_t qr_ceil_div_u32(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }
static inline uint64_t qr_ceil_div_u64(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
static inline uint32_t qr_round_up_u32(uint32_t a, uint32_t multiple)
{
    return qr_ceil_div_u32(a, multiple) * multiple;
}
static inline size_t qr_round_up(size_t a, size_t multiple) { return (a + multiple - 1) / multiple * multiple; }
static inline bool   qr_is_power_of_two(uint64_t a) { return a != 0 && (a & (a - 1)) == 0; }

/* The smallest power of two that is not below a; a <= 2^63. */
static inline uint64_t qr_next_power_of_two(uint64_t a)
{
    return a <= 1 ? 1 : (uint64_t)1 << (64 - __builtin_clzll(a - 1));
}

/* *out = a * b (a + b); false on overflow. Sizes from files go through these only. */
static inline bool qr_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool qr_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }

#endif
