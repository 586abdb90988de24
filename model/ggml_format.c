/* GGML's block formats. A block of 32 elements, or of 256 in eight or sixteen parts, is f16 scales (little-endian) and
 * codes; the arithmetic is done in f32 in the order of the reference (ggml-quants.c), so that values are equal to the
 * bit. Nibbles: the low ones of a run of bytes are its first elements, the high ones follow. */
#include <stdbool.h>
#include <string.h>

#include "base/number.h"
#include "model/tensor_format.h"

enum { SMALL = 32, LARGE = 256 };

static float f16_at(const uint8_t *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return qr_f32_of_f16(half);
}

/* The fifth bit of element i. */
static int fifth_bit(const uint8_t *high, uint32_t i) { return (high[i / 8] >> i % 8 & 1) << 4; }

/* In two loops, not one with a choice, so that compilers vectorise: loading is as fast as this. */
static void unpack_nibbles(const uint8_t *packed, uint8_t codes[SMALL])
{
    for (uint32_t i = 0; i < SMALL / 2; i++) codes[i] = packed[i] & 15;
    for (uint32_t i = 0; i < SMALL / 2; i++) codes[SMALL / 2 + i] = packed[i] >> 4;
}

/* f16 scale, 16 bytes of nibbles that stand for -8..7 */
static void decode_q4_0(const uint8_t *b, float *out)
{
    const float scale = f16_at(b);
    uint8_t     codes[SMALL];
    unpack_nibbles(b + 2, codes);
    for (uint32_t i = 0; i < SMALL; i++) out[i] = (float)(codes[i] - 8) * scale;
}

/* f16 scale and minimum, 16 bytes of nibbles */
static void decode_q4_1(const uint8_t *b, float *out)
{
    const float scale = f16_at(b), minimum = f16_at(b + 2);
    uint8_t     codes[SMALL];
    unpack_nibbles(b + 4, codes);
    for (uint32_t i = 0; i < SMALL; i++) out[i] = (float)codes[i] * scale + minimum;
}

/* f16 scale, 32 fifth bits, 16 bytes of nibbles: -16..15 */
static void decode_q5_0(const uint8_t *b, float *out)
{
    const float scale = f16_at(b);
    uint8_t     codes[SMALL];
    unpack_nibbles(b + 6, codes);
    for (uint32_t i = 0; i < SMALL; i++) out[i] = (float)((codes[i] | fifth_bit(b + 2, i)) - 16) * scale;
}

/* f16 scale and minimum, 32 fifth bits, 16 bytes of nibbles */
static void decode_q5_1(const uint8_t *b, float *out)
{
    const float scale = f16_at(b), minimum = f16_at(b + 2);
    uint8_t     codes[SMALL];
    unpack_nibbles(b + 8, codes);
    for (uint32_t i = 0; i < SMALL; i++) out[i] = (float)(codes[i] | fifth_bit(b + 4, i)) * scale + minimum;
}

/* f16 scale, 32 signed bytes */
static void decode_q8_0(const uint8_t *b, float *out)
{
    const float scale = f16_at(b);
    for (uint32_t i = 0; i < SMALL; i++) out[i] = (float)(int8_t)b[2 + i] * scale;
}

/* Scale and minimum of part i of eight, 6 bits each in 12 bytes: the first four in bytes 0..3 and 4..7, whose upper two
 * bits are those of the last four, with their lower four in bytes 8..11. */
static void six_bits(const uint8_t *s, uint32_t i, float *scale_out, float *minimum_out)
{
    const bool first = i < 4;
    *scale_out       = (float)(first ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4);
    *minimum_out     = (float)(first ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4);
}

/* f16 scale of scales and of minimums, 12 bytes of these, 128 bytes of nibbles: 32 bytes hold two parts; Q5_K has the
 * fifth bits of all parts before them, bit i of 32 bytes being part i's. */
static void decode_k(const uint8_t *b, const uint8_t *fifth, const uint8_t *codes, float *out)
{
    const float scale = f16_at(b), minimum = f16_at(b + 2);
    for (uint32_t part = 0; part < 8; part++, out += SMALL) {
        float s, m;
        six_bits(b + 4, part, &s, &m);
        s *= scale;
        m *= minimum;
        for (uint32_t i = 0; i < SMALL; i++) {
            const int high = fifth != NULL ? (fifth[i] >> part & 1) << 4 : 0;
            const int low  = codes[part / 2 * SMALL + i] >> part % 2 * 4 & 15;
            out[i]         = s * (float)(low | high) - m;
        }
    }
}

static void decode_q4_k(const uint8_t *b, float *out) { decode_k(b, NULL, b + 16, out); }
static void decode_q5_k(const uint8_t *b, float *out) { decode_k(b, b + 16, b + 48, out); }

/* 128 bytes of lower four bits, 64 of upper two, 16 signed scales, f16 scale of these: halves of 128 elements, in each
 * of which four runs of 32 share their bytes. */
static void decode_q6_k(const uint8_t *b, float *out)
{
    const float scale = f16_at(b + 208);
    for (uint32_t part = 0; part < 16; part++, out += 16) {
        const uint32_t half = part / 8, run = part / 2 % 4, j = part % 2 * 16, shift = run / 2 * 4;
        const uint8_t *low = b + half * 64 + run % 2 * SMALL + j, *high = b + 128 + half * SMALL + j;
        const float    factor = scale * (float)(int8_t)b[192 + part];
        for (uint32_t i = 0; i < 16; i++)
            out[i] = factor * (float)(((low[i] >> shift & 15) | (high[i] >> run * 2 & 3) << 4) - 32);
    }
}

/* ---- the same as codes ---- */

static void split_q4_0(const uint8_t *b, uint8_t *codes, float *scales, float *minima)
{
    (void)minima; /* products take code - 8, too */
    *scales = f16_at(b);
    unpack_nibbles(b + 2, codes);
}

static void split_q4_1(const uint8_t *b, uint8_t *codes, float *scales, float *minima)
{
    *scales = f16_at(b);
    *minima = f16_at(b + 2);
    unpack_nibbles(b + 4, codes);
}

static void split_q8_0(const uint8_t *b, uint8_t *codes, float *scales, float *minima)
{
    (void)minima;
    *scales = f16_at(b);
    memcpy(codes, b + 2, SMALL);
}

static void split_q4_k(const uint8_t *b, uint8_t *codes, float *scales, float *minima)
{
    const float scale = f16_at(b), minimum = f16_at(b + 2);
    for (uint32_t part = 0; part < 8; part++) {
        float s, m;
        six_bits(b + 4, part, &s, &m);
        scales[part] = s * scale;
        minima[part] = -(m * minimum);
        for (uint32_t i = 0; i < SMALL; i++)
            codes[part * SMALL + i] = b[16 + part / 2 * SMALL + i] >> part % 2 * 4 & 15;
    }
}

#define DECODE(name, elements, bytes)                                                                                  \
    static void decode_all_##name(const void *from, uint64_t blocks, float *out)                                       \
    {                                                                                                                  \
        const uint8_t *block = from;                                                                                   \
        for (uint64_t i = 0; i < blocks; i++) decode_##name(block + i * (bytes), out + i * (elements));                \
    }
DECODE(q4_0, SMALL, 18)
DECODE(q4_1, SMALL, 20)
DECODE(q5_0, SMALL, 22)
DECODE(q5_1, SMALL, 24)
DECODE(q8_0, SMALL, 34)
DECODE(q4_k, LARGE, 144)
DECODE(q5_k, LARGE, 176)
DECODE(q6_k, LARGE, 210)

#define SPLIT(name, elements, bytes)                                                                                   \
    static void split_all_##name(const void *from, uint64_t blocks, uint8_t *codes, float *scales, float *minima)      \
    {                                                                                                                  \
        const uint8_t *block = from;                                                                                   \
        for (uint64_t i = 0; i < blocks; i++) {                                                                        \
            const uint64_t group = i * ((elements) / SMALL);                                                           \
            split_##name(block + i * (bytes), codes + i * (elements), scales + group, minima ? minima + group : NULL); \
        }                                                                                                              \
    }
SPLIT(q4_0, SMALL, 18)
SPLIT(q4_1, SMALL, 20)
SPLIT(q8_0, SMALL, 34)
SPLIT(q4_k, LARGE, 144)

/* By GGML's number of the type. */
static const struct {
    uint32_t         type;
    qr_tensor_format format;
} types[] = {
    {2, {"Q4_0", SMALL, 18, decode_all_q4_0, {4, SMALL, false}, split_all_q4_0}},
    {3, {"Q4_1", SMALL, 20, decode_all_q4_1, {4, SMALL, true}, split_all_q4_1}},
    {6, {"Q5_0", SMALL, 22, decode_all_q5_0, {0}, NULL}},
    {7, {"Q5_1", SMALL, 24, decode_all_q5_1, {0}, NULL}},
    {8, {"Q8_0", SMALL, 34, decode_all_q8_0, {8, SMALL, false}, split_all_q8_0}},
    {10, {"Q2_K", LARGE, 84, NULL, {0}, NULL}},
    {11, {"Q3_K", LARGE, 110, NULL, {0}, NULL}},
    {12, {"Q4_K", LARGE, 144, decode_all_q4_k, {4, SMALL, true}, split_all_q4_k}},
    {13, {"Q5_K", LARGE, 176, decode_all_q5_k, {0}, NULL}},
    {14, {"Q6_K", LARGE, 210, decode_all_q6_k, {0}, NULL}},
    {16, {"IQ2_XXS", LARGE, 66, NULL, {0}, NULL}},
    {17, {"IQ2_XS", LARGE, 74, NULL, {0}, NULL}},
    {18, {"IQ3_XXS", LARGE, 98, NULL, {0}, NULL}},
    {19, {"IQ1_S", LARGE, 50, NULL, {0}, NULL}},
    {20, {"IQ4_NL", SMALL, 18, NULL, {0}, NULL}},
    {21, {"IQ3_S", LARGE, 110, NULL, {0}, NULL}},
    {22, {"IQ2_S", LARGE, 82, NULL, {0}, NULL}},
    {23, {"IQ4_XS", LARGE, 136, NULL, {0}, NULL}},
    {29, {"IQ1_M", LARGE, 56, NULL, {0}, NULL}},
    {34, {"TQ1_0", LARGE, 54, NULL, {0}, NULL}},
    {35, {"TQ2_0", LARGE, 66, NULL, {0}, NULL}},
    {39, {"MXFP4", SMALL, 17, NULL, {0}, NULL}},
};

const qr_tensor_format *qr_tensor_format_of_ggml(uint32_t type)
{
    static const char *const plain[] = {
        [0] = "F32", [1] = "F16", [24] = "I8", [25] = "I16", [26] = "I32", [27] = "I64", [28] = "F64", [30] = "BF16"};
    if (type < sizeof plain / sizeof *plain && plain[type] != NULL) return qr_tensor_format_of_dtype(plain[type]);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == type) return &types[i].format;
    return NULL;
}
