/* One tile product each, by the chip and by its twin, for test_amx. */
#ifndef TILE_PRODUCTS_H
#define TILE_PRODUCTS_H

#include <stdbool.h>
#include <stdint.h>

enum { TILE_OPERAND_BYTES = 1024, TILE_SUMS = 256 };

typedef struct tile_operands {
    _Alignas(64) char a[TILE_OPERAND_BYTES], b[TILE_OPERAND_BYTES];
    _Alignas(64) int32_t sums[TILE_SUMS]; /* or the bits of floats */
} tile_operands;

/* sums += a * b in the first `rows` rows. */
typedef void tile_product(tile_operands *o, uint32_t rows);

tile_product native_dot_bf16, native_dot_int8, native_dot_uint8, native_dot_half;
tile_product emulated_dot_bf16, emulated_dot_int8, emulated_dot_uint8, emulated_dot_half;

/* Rows of tile 0, as the chip has them after a configuration of so many. */
uint32_t native_configured_rows(uint32_t rows);

/* Whether the thread has tiles. */
bool native_is_configured(void);

#endif
