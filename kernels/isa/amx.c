/* The amx table: every template compiled with simd/amx.h. */
#define QR_ISA_NAME amx
#include "kernels/simd/amx.h"

#include "kernels/isa/projection_avx512.h"
#include "kernels/isa/table.h"
