/* The scalar table: every template compiled with simd/scalar.h. */
#define QR_ISA_NAME scalar
#include "kernels/simd/scalar.h"

#include "kernels/isa/projection_scalar.h"
#include "kernels/isa/table.h"
