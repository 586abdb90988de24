/* The avx512_vnni table: every template compiled with simd/avx512_vnni.h. */
#define QR_ISA_NAME avx512_vnni
#include "kernels/simd/avx512_vnni.h"

#include "kernels/isa/projection_avx512.h"
#include "kernels/isa/table.h"
