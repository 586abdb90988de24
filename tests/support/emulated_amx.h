/* Stands in for the tile instructions where a test builds the amx kernels for a machine without them (QR_EMULATE_AMX in
 * kernels/simd/amx.h): a tile is an array. Results are those of the chip bit for bit, as test_amx compares where there
 * is one. */
#ifndef EMULATED_AMX_H
#define EMULATED_AMX_H

typedef union emulated_tile {
    float   f32[16][16];
    int32_t i32[16][16];
    qr_bf16 bf16[16][32];
    uint8_t u8[16][64];
    int8_t  i8[16][64];
} emulated_tile;

static _Thread_local struct {
    emulated_tile tile[TILE_COUNT];
    tile_shape    shape[TILE_COUNT]; /* no rows: not configured */
} emulated_tiles;

#define QR_TILE_FENCE() ((void)0)

static __attribute__((unused)) void tile_configure(const tile_shape shapes[TILE_COUNT])
{
    memset(&emulated_tiles, 0, sizeof emulated_tiles);
    memcpy(emulated_tiles.shape, shapes, sizeof emulated_tiles.shape);
}

static __attribute__((unused)) void tile_release(void) { memset(&emulated_tiles, 0, sizeof emulated_tiles); }

/* A tile that is not configured faults on the chip. */
static __attribute__((unused)) emulated_tile *emulated_tile_at(int tile)
{
    if (emulated_tiles.shape[tile].rows == 0) __builtin_trap();
    return &emulated_tiles.tile[tile];
}

/* So do shapes that do not go together. Rows of `sum` are returned. */
static __attribute__((unused)) int emulated_product_rows(int sum, int a, int b)
{
    const tile_shape *s = &emulated_tiles.shape[sum], *x = &emulated_tiles.shape[a], *y = &emulated_tiles.shape[b];
    if (s->rows != x->rows || s->row_bytes != y->row_bytes || x->row_bytes != 4 * y->rows) __builtin_trap();
    return s->rows;
}

static __attribute__((unused)) void tile_zero(int tile) { memset(emulated_tile_at(tile), 0, sizeof(emulated_tile)); }

/* What lies beyond the configured rows and bytes becomes zero, as on the chip. */
static __attribute__((unused)) void tile_load(int tile, const void *from, size_t stride)
{
    tile_zero(tile);
    const tile_shape shape = emulated_tiles.shape[tile];
    for (int row = 0; row < shape.rows; row++)
        memcpy(emulated_tiles.tile[tile].u8[row], (const char *)from + (size_t)row * stride, shape.row_bytes);
}

static __attribute__((unused)) void tile_store(int tile, void *to, size_t stride)
{
    const emulated_tile *t     = emulated_tile_at(tile);
    const tile_shape     shape = emulated_tiles.shape[tile];
    for (int row = 0; row < shape.rows; row++) memcpy((char *)to + (size_t)row * stride, t->u8[row], shape.row_bytes);
}

static inline float emulated_tile_flush(float x) { return fpclassify(x) == FP_SUBNORMAL ? copysignf(0.0f, x) : x; }

static inline float emulated_tile_widen(qr_bf16 x) { return emulated_tile_flush(qr_f32_of_bf16(x)); }

static __attribute__((unused)) void tile_dot_bf16(int sum, int a, int b)
{
    emulated_tile       *s = emulated_tile_at(sum);
    const emulated_tile *x = emulated_tile_at(a), *y = emulated_tile_at(b);
    const int            rows = emulated_product_rows(sum, a, b);
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < 16; n++) {
            float chain[2] = {0.0f, 0.0f}; /* the even products, and the odd ones */
            for (int k = 0; k < 32; k++)
                chain[k % 2] =
                    emulated_tile_flush(fmaf(emulated_tile_widen(x->bf16[m][k]),
                                             emulated_tile_widen(y->bf16[k / 2][2 * n + k % 2]), chain[k % 2]));
            s->f32[m][n] =
                emulated_tile_flush(emulated_tile_flush(s->f32[m][n]) + emulated_tile_flush(chain[0] + chain[1]));
        }
}

static void emulated_dot_codes(int sum, int a, int b, bool is_signed)
{
    emulated_tile       *s = emulated_tile_at(sum);
    const emulated_tile *x = emulated_tile_at(a), *y = emulated_tile_at(b);
    const int            rows = emulated_product_rows(sum, a, b);
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < 16; n++)
            for (int k = 0; k < 64; k++) {
                const int32_t code    = is_signed ? x->i8[m][k] : x->u8[m][k];
                const int32_t product = code * y->i8[k / 4][4 * n + k % 4];
                s->i32[m][n]          = (int32_t)((uint32_t)s->i32[m][n] + (uint32_t)product); /* wraps */
            }
}

static __attribute__((unused)) void tile_dot_int8(int sum, int a, int b) { emulated_dot_codes(sum, a, b, true); }
static __attribute__((unused)) void tile_dot_uint8(int sum, int a, int b) { emulated_dot_codes(sum, a, b, false); }

#endif
