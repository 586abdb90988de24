/* The twin's side of tile_products.h. */
#include "support/tile_products.h"

#define QR_EMULATE_AVX512 "tests/support/emulate_avx512.h"
#define QR_EMULATE_AMX "tests/support/emulated_amx.h"
#include "kernels/simd/amx.h"

#define PRODUCT(dot) emulated_##dot
#include "support/tile_products.inc"
