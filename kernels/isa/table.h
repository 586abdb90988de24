/* Body of kernels/isa/<isa>.c: every template, then the table. QR_ISA_NAME comes from the includer, as does the vector
 * vocabulary. A test may build a copy under another QR_ISA_NAME. */
#include "kernels/kernels.h"

#include "kernels/simd/math.h"

#include "kernels/rowwise_template.h"

#include "kernels/attention_template.h"

#include "kernels/limits_template.h"

#define QR_TABLE_NAME_(isa) qr_kernels_##isa
#define QR_TABLE_NAME(isa) QR_TABLE_NAME_(isa)
#define QR_STRING_(isa) #isa
#define QR_STRING(isa) QR_STRING_(isa)

extern const qr_kernels QR_TABLE_NAME(QR_ISA_NAME);

const qr_kernels QR_TABLE_NAME(QR_ISA_NAME) = {
    .isa         = QR_STRING(QR_ISA_NAME),
    .rms_norm    = rms_norm,
    .layer_norm  = layer_norm,
    .convert     = convert,
    .argmax      = argmax,
    .partial_lse = partial_lse,
    .merge_exp   = merge_exp,
    .exp_scaled  = exp_scaled,
    .sum_from    = sum_from,
    .axpy        = axpy,
#ifdef QR_HAS_PROJECTION_KERNELS
    .projection = &projection_kernels,
#endif
    .attention = &attention_kernels,
    .limits    = &limit_loops,
};
