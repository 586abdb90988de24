/* The loops of kernels/limits.h. Included once by each kernels/isa/<isa>.c. */
#include "kernels/limits.h"

/* One stream with the second-level cache asked 4 KB ahead. Of the plain readers tried (1 to 16 streams; no request, or
 * one for any cache level, 1 to 32 KB ahead) none was faster by more than 2 %, whatever the load of the host, and most
 * were slower. */
enum { READ_VECTORS = 4, READ_AHEAD = 4096 };

static inline void request(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

static float read_memory(const void *from, size_t bytes)
{
    const size_t step              = READ_VECTORS * VF32_LANES * sizeof(float);
    vf32         top[READ_VECTORS] = {vf32_zero(), vf32_zero(), vf32_zero(), vf32_zero()};
    for (size_t i = 0; i < bytes; i += step) {
        const char *p = (const char *)from + i;
        if (i + READ_AHEAD < bytes) request(p + READ_AHEAD, step); /* never beyond what is to be read */
        for (size_t v = 0; v < READ_VECTORS; v++)
            top[v] = vf32_max(vf32_load((const float *)p + v * VF32_LANES), top[v]);
    }
    return vf32_top(vf32_max(vf32_max(top[0], top[1]), vf32_max(top[2], top[3])));
}

/* Latency 4 to 6 cycles, at most two a cycle; three quarters of AVX2's registers. Each chain starts elsewhere: the
 * compiler would compute equal ones once. */
enum { MULTIPLY_CHAINS = 12 };

static float peak_f32(uint32_t steps)
{
    vf32       sum[MULTIPLY_CHAINS];
    const vf32 half = vf32_set(0.5f);

    VF32_UNROLL for (int c = 0; c < MULTIPLY_CHAINS; c++) sum[c] = vf32_set((float)c);
    VF32_ROLLED for (uint32_t i = 0; i < steps; i++)
    {
        VF32_UNROLL for (int c = 0; c < MULTIPLY_CHAINS; c++) sum[c] = vf32_fma(sum[c], half, half);
    }
    VF32_UNROLL for (int c = 1; c < MULTIPLY_CHAINS; c++) sum[0] = vf32_add(sum[0], sum[c]);
    return vf32_first(sum[0]);
}

#ifdef QR_SIMD_HAS_TILES
/* Four chains of tile products cover their latency of 52 cycles; each takes 16. */
enum { TILE_CHAINS = 4 };

VF32_INLINE float peak_tiles(uint32_t steps, const bool int8)
{
    static const uint8_t nothing[TILE_BYTES];
    float                sums[TILE_BYTES / sizeof(float)];
    tile_configure_rows(0, TILE_ROWS);
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    tile_load(6, nothing, TILE_ROW_BYTES);
    tile_load(7, nothing, TILE_ROW_BYTES);
    for (uint32_t i = 0; i < steps; i++) {
        if (int8) {
            tile_dot_int8(0, 6, 7);
            tile_dot_int8(1, 6, 7);
            tile_dot_int8(2, 6, 7);
            tile_dot_int8(3, 6, 7);
        } else {
            tile_dot_bf16(0, 6, 7);
            tile_dot_bf16(1, 6, 7);
            tile_dot_bf16(2, 6, 7);
            tile_dot_bf16(3, 6, 7);
        }
    }
    tile_store(0, sums, TILE_ROW_BYTES);
    tile_release();
    return sums[0];
}

enum { BF16_STEP = TILE_CHAINS * TILE_ROWS * TILE_ROWS * 32 * 2, INT8_STEP = 2 * BF16_STEP };
static float peak_bf16(uint32_t steps) { return peak_tiles(steps, false); }
static float peak_int8(uint32_t steps) { return peak_tiles(steps, true); }
#else
#if QR_SIMD_HAS_BF16_DOT
enum { BF16_OPERATIONS = 4 * VF32_LANES };
static float peak_bf16(uint32_t steps)
{
    vf32         sum[MULTIPLY_CHAINS];
    const vpairs small = vpairs_set(0x20002000); /* 2^-63: sums stay finite */

    VF32_UNROLL for (int c = 0; c < MULTIPLY_CHAINS; c++) sum[c] = vf32_set((float)c);
    VF32_ROLLED for (uint32_t i = 0; i < steps; i++)
    {
        VF32_UNROLL for (int c = 0; c < MULTIPLY_CHAINS; c++) sum[c] = vf32_dot_pairs(sum[c], small, small);
    }
    VF32_UNROLL for (int c = 1; c < MULTIPLY_CHAINS; c++) sum[0] = vf32_add(sum[0], sum[c]);
    return vf32_first(sum[0]);
}
#else
enum { BF16_OPERATIONS = 2 * VF32_LANES };
static float peak_bf16(uint32_t steps) { return peak_f32(steps); } /* widened for free at best */
#endif

static float peak_int8(uint32_t steps)
{
    static const int8_t  signed_codes[64]  = {1, 2, 3};
    static const uint8_t unsigned_codes[4] = {1, 2, 3, 4};
    const vquads         s                 = vquads_load(signed_codes);
    vquads               u                 = vquads_set(unsigned_codes);
    vi32                 sum[MULTIPLY_CHAINS];

    sum[0]                                                       = vi32_zero();
    VF32_UNROLL for (int c = 1; c < MULTIPLY_CHAINS; c++) sum[c] = vi32_dot_quads(sum[c - 1], u, s);
    VF32_ROLLED for (uint32_t i = 0; i < steps; i++)
    {
        VF32_UNROLL for (int c = 0; c < MULTIPLY_CHAINS; c++)
        {
            u      = vquads_in_register(u); /* else the products alone would be hoisted where they are not fused */
            sum[c] = vi32_in_register(vi32_dot_quads(sum[c], u, s));
        }
    }
    vf32 total                                                  = vf32_zero();
    VF32_UNROLL for (int c = 0; c < MULTIPLY_CHAINS; c++) total = vf32_add(total, vf32_of_i32(sum[c]));
    return vf32_first(total);
}

enum { BF16_STEP = BF16_OPERATIONS * MULTIPLY_CHAINS, INT8_STEP = 8 * VF32_LANES * MULTIPLY_CHAINS };
#endif

static const qr_limit_loops limit_loops = {
    .read     = read_memory,
    .by_dtype = {[QR_F32]  = {.multiply = peak_f32, .operations = 2 * VF32_LANES * MULTIPLY_CHAINS},
                 [QR_BF16] = {.multiply = peak_bf16, .operations = BF16_STEP},
                 [QR_INT8] = {.multiply = peak_int8, .operations = INT8_STEP}},
};
