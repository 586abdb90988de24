/* What follows the products, and the table of slots. Included once by each kernels/isa/projection_<isa>.h, after
 * panel_formats, arrange_quads() and QR_OWN_NAME; uses the vector vocabulary, so that every element of every row goes
 * through the same operations wherever it stands. */
#include "kernels/simd/math.h"

#include "kernels/grouped_template.h"

static inline vf32 sigmoid(vf32 x) /* without overflow */
{
    const vf32 one = vf32_set(1.0f), e = vf32_exp(vf32_sub(vf32_zero(), vf32_abs(x)));
    const vf32 top = vf32_select(vmask_less(x, vf32_zero()), e, one);
    return vf32_div(top, vf32_add(one, e));
}

static inline vf32 silu(vf32 x) { return vf32_mul(x, sigmoid(x)); }

/* Of the gate; NaN stays. */
static inline vf32 swiglu_oai(vf32 x)
{
    const vf32 gate = vf32_min(vf32_set(7.0f), x);
    return vf32_mul(gate, sigmoid(vf32_mul(vf32_set(1.702f), gate)));
}

/* What the activated gate is multiplied with. */
static inline vf32 factor_of_up(qr_activation activation, vf32 up)
{
    if (activation != QR_ACTIVATION_SWIGLU_OAI) return up;
    return vf32_add(vf32_max(vf32_set(-7.0f), vf32_min(vf32_set(7.0f), up)), vf32_set(1.0f));
}

static inline vf32 gelu_new(vf32 x) /* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
{
    const vf32 cube  = vf32_mul(vf32_mul(x, x), x);
    const vf32 inner = vf32_mul(vf32_set(0.797884561f), vf32_fma(cube, vf32_set(0.044715f), x));
    return vf32_mul(vf32_mul(vf32_set(0.5f), x), vf32_add(vf32_set(1.0f), vf32_tanh(inner)));
}

static inline vf32 gelu(vf32 x) /* x Phi(x) = 0.5 x (1 + erf(x / sqrt(2))); Hendrycks & Gimpel, arXiv:1606.08415 */
{
    const vf32 half = vf32_mul(vf32_set(0.5f), x);
    return vf32_fma(half, vf32_erf(vf32_mul(vf32_set(0.707106781f), x)), half);
}

static inline vf32 activate(qr_activation activation, vf32 x)
{
    switch (activation) {
    case QR_ACTIVATION_SILU: return silu(x);
    case QR_ACTIVATION_GELU: return gelu(x);
    case QR_ACTIVATION_GELU_NEW: return gelu_new(x);
    case QR_ACTIVATION_SWIGLU_OAI: return swiglu_oai(x);
    case QR_ACTIVATION_RELU: return vf32_max(vf32_zero(), x); /* NaN stays */
    default: return x;
    }
}

/* Element (row, column) and the lanes after it. */
static inline vf32 epilogue_value(const qr_epilogue *e, uint32_t row, uint32_t column, uint32_t left)
{
    const size_t at = (size_t)row * e->acc_stride + column;
    vf32         x  = vf32_load_upto(e->acc + at, left);
    if (e->row_scales)
        x = vf32_mul(vf32_mul(x, vf32_load_upto(e->column_scales + column, left)), vf32_set(e->row_scales[row]));
    if (e->bias) x = vf32_add(x, vf32_load_upto(e->bias + column, left));
    x = activate(e->activation, x);
    if (e->up) {
        vf32 up = vf32_load_upto(e->up + at, left);
        if (e->row_scales)
            up = vf32_mul(vf32_mul(up, vf32_load_upto(e->up_scales + column, left)), vf32_set(e->row_scales[row]));
        if (e->up_bias) up = vf32_add(up, vf32_load_upto(e->up_bias + column, left));
        x = vf32_mul(x, factor_of_up(e->activation, up));
    }
    x = vf32_mul(x, vf32_set(e->multiply));
    if (e->softcap == 0.0f) return x;
    return vf32_mul(vf32_set(e->softcap), vf32_tanh(vf32_div(x, vf32_set(e->softcap))));
}

static void epilogue(const qr_epilogue *e)
{
    for (uint32_t row = 0; row < e->rows; row++)
        for (uint32_t column = 0; column < e->columns; column += VF32_LANES) {
            const uint32_t left = e->columns - column;
            const size_t   at   = (size_t)row * e->out_stride + column;
            const vf32     x    = epilogue_value(e, row, column, left);
            if (e->out_dtype == QR_BF16)
                vf32_store_bf16_upto((qr_bf16 *)e->out + at, x, left);
            else if (e->add)
                vf32_store_upto((float *)e->out + at, vf32_add(vf32_load_upto((float *)e->out + at, left), x), left);
            else
                vf32_store_upto((float *)e->out + at, x, left);
        }
}

static const struct qr_projection_kernels projection_kernels = {
    .name     = QR_OWN_NAME,
    .formats  = panel_formats,
    .grouped  = &grouped_format,
    .quantize = quantize_group,
    .epilogue = epilogue,
};
#define QR_HAS_PROJECTION_KERNELS 1
