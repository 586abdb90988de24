/* The chip's side of tile_products.h. */
#include "support/tile_products.h"

#include "kernels/simd/amx.h"

#define PRODUCT(dot) native_##dot
#include "support/tile_products.inc"

uint32_t native_configured_rows(uint32_t rows)
{
    _Alignas(64) tile_configuration now;
    tile_configure_rows(1, rows);
    _tile_storeconfig(&now);
    QR_TILE_FENCE();
    tile_release();
    return now.rows[0];
}

bool native_is_configured(void)
{
    _Alignas(64) tile_configuration now;
    _tile_storeconfig(&now);
    QR_TILE_FENCE();
    return now.palette != 0;
}
