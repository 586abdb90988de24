/* The vector vocabulary in plain C, one float wide: the reference that the other instruction sets are tested against.
 * simd/avx2.h says what the names promise. */
#ifndef QR_SIMD_H
#define QR_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/number.h"

#define VF32_INLINE static inline __attribute__((always_inline, unused))

typedef float vf32;
typedef bool  vmask;
enum { VF32_LANES = 1 };
#define QR_SIMD_REGISTERS 16
#define VF32_UNROLL
#define VF32_ROLLED

VF32_INLINE vf32 vf32_zero(void) { return 0.0f; }
VF32_INLINE vf32 vf32_set(float x) { return x; }
VF32_INLINE vf32 vf32_load(const float *p) { return *p; }
VF32_INLINE void vf32_store(float *p, vf32 x) { *p = x; }
VF32_INLINE vf32 vf32_load_upto(const float *p, uint32_t count) { return count > 0 ? *p : 0.0f; }
VF32_INLINE void vf32_store_upto(float *p, vf32 x, uint32_t count)
{
    if (count > 0) *p = x;
}
VF32_INLINE void vf32_store_bf16_upto(qr_bf16 *p, vf32 x, uint32_t count)
{
    if (count > 0) *p = qr_bf16_of_f32(x);
}
VF32_INLINE void vf32_store_s8_upto(int8_t *p, vf32 x, uint32_t count)
{
    if (count > 0) *p = (int8_t)lrintf(x);
}
VF32_INLINE vf32  vf32_add(vf32 a, vf32 b) { return a + b; }
VF32_INLINE vf32  vf32_sub(vf32 a, vf32 b) { return a - b; }
VF32_INLINE vf32  vf32_mul(vf32 a, vf32 b) { return a * b; }
VF32_INLINE vf32  vf32_div(vf32 a, vf32 b) { return a / b; }
VF32_INLINE vf32  vf32_fma(vf32 a, vf32 b, vf32 c) { return a * b + c; }
VF32_INLINE vf32  vf32_max(vf32 a, vf32 b) { return a > b ? a : b; }
VF32_INLINE vf32  vf32_min(vf32 a, vf32 b) { return a < b ? a : b; }
VF32_INLINE vf32  vf32_abs(vf32 x) { return fabsf(x); }
VF32_INLINE vf32  vf32_with_sign_of(vf32 magnitude, vf32 sign) { return copysignf(magnitude, sign); }
VF32_INLINE vf32  vf32_pow2(vf32 t) { return qr_f32_of_bits((qr_bits_of_f32(t) + 127u) << 23); }
VF32_INLINE vf32  vf32_nearest(vf32 x) { return rintf(x); }
VF32_INLINE vf32  vf32_scale2(vf32 x, vf32 n) { return x * qr_f32_of_bits((uint32_t)((int32_t)n + 127) << 23); }
VF32_INLINE vf32  vf32_bf16_even(const qr_bf16 *pairs) { return qr_f32_of_bf16(pairs[0]); }
VF32_INLINE vf32  vf32_bf16_odd(const qr_bf16 *pairs) { return qr_f32_of_bf16(pairs[1]); }
VF32_INLINE float vf32_first(vf32 x) { return x; }
VF32_INLINE float vf32_sum(vf32 x) { return x; }
VF32_INLINE float vf32_top(vf32 x) { return x; }

VF32_INLINE vmask    vmask_range(int32_t from, int32_t to) { return from <= 0 && to > 0; }
VF32_INLINE vmask    vmask_less(vf32 a, vf32 b) { return a < b; }
VF32_INLINE vmask    vmask_equal(vf32 a, vf32 b) { return a == b; }
VF32_INLINE uint32_t vmask_bits(vmask mask) { return mask; }
VF32_INLINE vf32     vf32_select(vmask mask, vf32 a, vf32 b) { return mask ? a : b; }

typedef int32_t vi32;
typedef struct vquads {
    int32_t byte[4];
} vquads;
VF32_INLINE vi32 vi32_zero(void) { return 0; }
VF32_INLINE vi32 vi32_in_register(vi32 x)
{
    __asm__("" : "+r"(x));
    return x;
}
VF32_INLINE vquads vquads_load(const int8_t *p) { return (vquads){{p[0], p[1], p[2], p[3]}}; }
VF32_INLINE vquads vquads_set(const uint8_t *four) { return (vquads){{four[0], four[1], four[2], four[3]}}; }
VF32_INLINE vquads vquads_in_register(vquads x)
{
    for (int i = 0; i < 4; i++) x.byte[i] = vi32_in_register(x.byte[i]);
    return x;
}
VF32_INLINE vi32 vi32_dot_quads(vi32 sum, vquads u, vquads s)
{
    return sum + u.byte[0] * s.byte[0] + u.byte[1] * s.byte[1] + u.byte[2] * s.byte[2] + u.byte[3] * s.byte[3];
}
VF32_INLINE vf32 vf32_of_i32(vi32 x) { return (float)x; }
VF32_INLINE vi32 vi32_set(int32_t x) { return x; }
VF32_INLINE vi32 vi32_sub(vi32 a, vi32 b) { return a - b; }
VF32_INLINE void vi32_store_upto(int32_t *p, vi32 x, uint32_t count)
{
    if (count > 0) *p = x;
}
typedef uint32_t   vbytes;
VF32_INLINE vbytes vbytes_load(const void *p)
{
    vbytes x;
    memcpy(&x, p, sizeof x);
    return x;
}
VF32_INLINE vbytes vbytes_set(const void *four) { return vbytes_load(four); }
VF32_INLINE void   vbytes_store(void *p, vbytes x) { memcpy(p, &x, sizeof x); }
VF32_INLINE vbytes vbytes_low_halves(vbytes x) { return x & 0x0f0f0f0fu; }
VF32_INLINE vbytes vbytes_high_halves(vbytes x) { return x >> 4 & 0x0f0f0f0fu; }
VF32_INLINE vi32   vi32_dot_bytes(vi32 sum, vbytes u, vbytes s)
{
    for (int i = 0; i < 4; i++) sum += (uint8_t)(u >> 8 * i) * (int8_t)(s >> 8 * i);
    return sum;
}
VF32_INLINE vi32 vi32_dot_halves(vi32 sum, vbytes u, vbytes s) { return vi32_dot_bytes(sum, u, s); }
VF32_INLINE vf32 vf32_load_f16(const uint16_t *p) { return qr_f32_of_f16(*p); }
VF32_INLINE void vf32_store_u8(uint8_t *p, vf32 x) { *p = (uint8_t)lrintf(x); }

#endif
