/* The avx2 table: every template compiled with simd/avx2.h. */
#define QR_ISA_NAME avx2
#include "kernels/simd/avx2.h"

#include "kernels/isa/projection_avx2.h"
#include "kernels/isa/table.h"
