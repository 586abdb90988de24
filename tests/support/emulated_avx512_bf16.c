/* The avx512_bf16 table compiled for any machine: see emulate_avx512.h. */
#define QR_EMULATE_AVX512 "tests/support/emulate_avx512.h"
#define QR_ISA_NAME emulated_avx512_bf16
#include "kernels/simd/avx512_bf16.h"

#include "kernels/isa/projection_avx512.h"
#include "kernels/isa/table.h"
