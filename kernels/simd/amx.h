/* AVX-512-BF16 and Intel's tiles: the avx512_bf16 vocabulary, plus eight registers of up to 16 rows of 64 bytes.
 *
 * The names of tiles are literal numbers, 0 to 7. A thread configures its tiles before it uses them and releases them
 * before it returns from kernels/: a context switch then saves 8 KB less, and neither a signal handler nor another
 * library finds our configuration. A test may define QR_EMULATE_AMX as the header that stands in for the instructions.
 *
 * gcc 12 declares that tile loads and stores touch no memory, and that LDTILECFG reads 8 bytes of its 64: ordinary
 * stores before them may be moved behind or dropped. QR_TILE_FENCE forbids it and costs no instruction. */
#ifndef QR_SIMD_AMX_H
#define QR_SIMD_AMX_H

#define QR_SIMD_HAS_TILES 1

#include "kernels/simd/avx512_bf16.h"

#include <stddef.h>
#include <string.h>

/* A product's a has 4 bytes in a row for each row of b. */
typedef struct tile_shape {
    uint8_t rows, row_bytes; /* up to 16, up to 64 */
} tile_shape;

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILE_BYTES = TILE_ROWS * TILE_ROW_BYTES, TILE_COUNT = 8 };

#ifdef QR_EMULATE_AMX
#include QR_EMULATE_AMX
#else

#define QR_TILE_FENCE() __asm__ volatile("" ::: "memory")

#define tile_zero(tile) _tile_zero(tile)
/* Rows `stride` bytes apart, as many and as long as the tile is configured for. */
#define tile_load(tile, from, stride)                                                                                  \
    do {                                                                                                               \
        QR_TILE_FENCE();                                                                                               \
        _tile_loadd(tile, from, stride);                                                                               \
    } while (0)
#define tile_store(tile, to, stride)                                                                                   \
    do {                                                                                                               \
        _tile_stored(tile, to, stride);                                                                                \
        QR_TILE_FENCE();                                                                                               \
    } while (0)

/* sum[m][n] += a[m][] * b[][n], of f32 [m][16] and bf16 a[m][32], b[16][16][2]. For each m and n the even products are
 * one chain from zero in ascending k, the odd ones another, in f32 and fused; the two are added, and that to `sum`.
 * Subnormals are zeros. */
#define tile_dot_bf16(sum, a, b) _tile_dpbf16ps(sum, a, b)
/* The same of int32 sums, a[m][64] and b[16][16][4]: codes of both signs, and of an a without a sign. Exact. */
#define tile_dot_int8(sum, a, b) _tile_dpbssd(sum, a, b)
#define tile_dot_uint8(sum, a, b) _tile_dpbusd(sum, a, b)

/* What LDTILECFG reads: Intel's manual, volume 1, section 18.2. */
typedef struct tile_configuration {
    uint8_t  palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t  rows[16];
} tile_configuration;

static inline void tile_configure(const tile_shape shapes[TILE_COUNT])
{
    _Alignas(64) tile_configuration c;
    memset(&c, 0, sizeof c);
    c.palette = 1;
    for (int i = 0; i < TILE_COUNT; i++) c.row_bytes[i] = shapes[i].row_bytes, c.rows[i] = shapes[i].rows;
    QR_TILE_FENCE();
    _tile_loadconfig(&c);
    QR_TILE_FENCE();
}

static inline void tile_release(void) { _tile_release(); }

#endif

/* Tiles [0, few) of `rows` rows, 1 to 16, the others of 16. */
static inline void tile_configure_rows(uint32_t few, uint32_t rows)
{
    tile_shape shapes[TILE_COUNT];
    for (uint32_t i = 0; i < TILE_COUNT; i++)
        shapes[i] = (tile_shape){(uint8_t)(i < few ? rows : TILE_ROWS), TILE_ROW_BYTES};
    tile_configure(shapes);
}

#endif
