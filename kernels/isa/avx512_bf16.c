/* The avx512_bf16 table: every template compiled with simd/avx512_bf16.h. */
#define QR_ISA_NAME avx512_bf16
#include "kernels/simd/avx512_bf16.h"

#include "kernels/isa/projection_avx512.h"
#include "kernels/isa/table.h"
