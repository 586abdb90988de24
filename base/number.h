/* Element types of weights, activations and KV, and their scalar conversions. */
#ifndef QR_BASE_NUMBER_H
#define QR_BASE_NUMBER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum qr_dtype { QR_F32 = 0, QR_BF16 = 1, QR_INT8 = 2 } qr_dtype;

typedef uint16_t qr_bf16;

static inline size_t qr_dtype_bytes(qr_dtype dtype) { return dtype == QR_F32 ? 4 : dtype == QR_BF16 ? 2 : 1; }

static inline const char *qr_dtype_name(qr_dtype dtype)
{
    return dtype == QR_F32 ? "f32" : dtype == QR_BF16 ? "bf16" : "int8";
}

static inline uint32_t qr_bits_of_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float qr_f32_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float qr_f32_of_bf16(qr_bf16 x) { return qr_f32_of_bits((uint32_t)x << 16); }

/* To nearest even; NaN stays NaN. */
static inline qr_bf16 qr_bf16_of_f32(float x)
{
    const uint32_t bits = qr_bits_of_f32(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (qr_bf16)(bits >> 16 | 0x40);
    return (qr_bf16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* IEEE half precision, exact. */
static inline float qr_f32_of_f16(uint16_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000u) << 16, exponent = x >> 10 & 31, fraction = x & 0x3ffu;
    if (exponent == 31) return qr_f32_of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return qr_f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

/* To nearest even; beyond 65504 infinite; NaN stays NaN. */
static inline uint16_t qr_f16_of_f32(float x)
{
    const uint32_t bits = qr_bits_of_f32(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520: the first that rounds up */
    if (magnitude < 0x38800000u) /* below 2^-14: the sum's last bit is 2^-24, that of a denormal */
        return (uint16_t)(sign | (qr_bits_of_f32(qr_f32_of_bits(magnitude) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13);
}

#endif
