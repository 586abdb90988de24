/* The avx512 table: every template compiled with simd/avx512.h. */
#define QR_ISA_NAME avx512
#include "kernels/simd/avx512.h"

#include "kernels/isa/projection_avx512.h"
#include "kernels/isa/table.h"
