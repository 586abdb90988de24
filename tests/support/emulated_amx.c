/* The amx table compiled for any machine: see emulate_avx512.h and emulated_amx.h. */
#define QR_EMULATE_AVX512 "tests/support/emulate_avx512.h"
#define QR_EMULATE_AMX "tests/support/emulated_amx.h"
#define QR_ISA_NAME emulated_amx
#include "kernels/simd/amx.h"

#include "kernels/isa/projection_avx512.h"
#include "kernels/isa/table.h"
