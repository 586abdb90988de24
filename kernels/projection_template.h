/* What follows the products, and the table of slots. Included once by each kernels/isa/projection_<isa>.h, after
 * panel_formats, arrange_quads() and QR_OWN_NAME; uses the vector vocabulary, so that every element of every row goes
 * through the same operations wherever it stands. */
#include "kernels/simd/math.h"

#include "kernels/grouped_template.h"

/* 1 / (1 + e) for 0 <= e <= 1, relative error 1e-7: the best polynomial of degree 2, right to 1 %, and two steps of
 * Newton's. In 512 bits a division takes as long as sixteen multiplications. */
static inline vf32 inverse_of_one_plus(vf32 e)
{
    const vf32 one = vf32_set(1.0f), d = vf32_sub(vf32_set(-1.0f), e);
    vf32 y = vf32_fma(vf32_fma(vf32_set(32.0f / 99.0f), d, vf32_set(144.0f / 99.0f)), d, vf32_set(210.0f / 99.0f));
    y      = vf32_fma(y, vf32_fma(y, d, one), y);
    return vf32_fma(y, vf32_fma(y, d, one), y);
}

static inline vf32 sigmoid(vf32 x) /* without overflow */
{
    const vf32 e   = vf32_exp2(vf32_mul(vf32_abs(x), vf32_set(-1.44269504f)));
    const vf32 top = vf32_select(vmask_less(x, vf32_zero()), e, vf32_set(1.0f));
    return vf32_mul(top, inverse_of_one_plus(e));
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

enum { GROUP_VECTORS = QR_GROUP_COLUMNS / VF32_LANES };

/* `whole`: all columns of a group, so that no lane is masked. */
VF32_INLINE vf32 load_part(const bool whole, const float *from, const uint32_t vector, uint32_t columns)
{
    const uint32_t at = vector * VF32_LANES;
    if (whole) return vf32_load(from + at);
    return at < columns ? vf32_load_upto(from + at, columns - at) : vf32_zero();
}

/* Sums of the products as floats. */
VF32_INLINE vf32 load_sums(const bool whole, const qr_epilogue *e, const float *from, const uint32_t vector)
{
    const vf32 bits = load_part(whole, from, vector, e->columns);
#ifdef QR_SIMD_HAS_TILES
    if (e->int32_sums) return vf32_of_i32(vi32_of_bits(bits));
#endif
    return bits;
}

#define QR_EACH_VECTOR(j) VF32_UNROLL for (uint32_t j = 0; j < GROUP_VECTORS; j++)

/* x = x * column_scales * row_scale + bias, where there are such. */
VF32_INLINE void scale_and_bias(const bool whole, const qr_epilogue *e, uint32_t row, const float *scales,
                                const float *bias, vf32 x[GROUP_VECTORS])
{
    if (e->row_scales != NULL) QR_EACH_VECTOR(j)
        {
            x[j] = vf32_mul(vf32_mul(x[j], load_part(whole, scales, j, e->columns)), vf32_set(e->row_scales[row]));
        }
    if (bias != NULL) QR_EACH_VECTOR(j)
        {
            x[j] = vf32_add(x[j], load_part(whole, bias, j, e->columns));
        }
}

VF32_INLINE void store_results(const bool whole, const qr_epilogue *e, uint32_t row, const vf32 x[GROUP_VECTORS])
{
    QR_EACH_VECTOR(j)
    {
        const uint32_t at = j * VF32_LANES, left = whole ? VF32_LANES : e->columns > at ? e->columns - at : 0;
        const size_t   to  = (size_t)row * e->out_stride + at;
        float         *out = (float *)e->out + to;
        if (e->out_dtype == QR_BF16)
            vf32_store_bf16_upto((qr_bf16 *)e->out + to, x[j], left);
        else if (whole)
            vf32_store(out, e->add ? vf32_add(vf32_load(out), x[j]) : x[j]);
        else
            vf32_store_upto(out, e->add ? vf32_add(vf32_load_upto(out, left), x[j]) : x[j], left);
    }
}

VF32_INLINE void epilogue_row(const bool whole, const qr_activation activation, const qr_epilogue *e, uint32_t row)
{
    const size_t at = (size_t)row * e->acc_stride;
    vf32         x[GROUP_VECTORS];
    QR_EACH_VECTOR(j) { x[j] = load_sums(whole, e, e->acc + at, j); }
    scale_and_bias(whole, e, row, e->column_scales, e->bias, x);
    if (whole) QR_EACH_VECTOR(j)
        {
            x[j] = activate(activation, x[j]);
        }
    else
        for (uint32_t j = 0; j < GROUP_VECTORS; j++) x[j] = activate(activation, x[j]);
    if (e->up != NULL) {
        vf32 up[GROUP_VECTORS];
        QR_EACH_VECTOR(j) { up[j] = load_sums(whole, e, e->up + at, j); }
        scale_and_bias(whole, e, row, e->up_scales, e->up_bias, up);
        QR_EACH_VECTOR(j) { x[j] = vf32_mul(x[j], factor_of_up(activation, up[j])); }
    }
    QR_EACH_VECTOR(j) { x[j] = vf32_mul(x[j], vf32_set(e->multiply)); }
    if (e->softcap != 0.0f)
        for (uint32_t j = 0; j < GROUP_VECTORS; j++)
            x[j] = vf32_mul(vf32_set(e->softcap), vf32_tanh(vf32_div(x[j], vf32_set(e->softcap))));
    store_results(whole, e, row, x);
}

enum { ROWS_AHEAD = 8 };

/* Results go to rows far apart, whose lines have to come from memory before they can be written. */
static inline void ask_for_results(const qr_epilogue *e, uint32_t row)
{
    const size_t bytes = qr_dtype_bytes(e->out_dtype);
    const char  *to    = (const char *)e->out + row * e->out_stride * bytes;
    for (uint32_t at = 0; at < e->columns * bytes; at += 64) __builtin_prefetch(to + at, 1, 3);
}

VF32_INLINE void epilogue_rows(const bool whole, const qr_activation activation, const qr_epilogue *all)
{
    const qr_epilogue e = *all; /* of which no store of results can be a part */
    for (uint32_t row = 0; row < e.rows; row++) {
        if (row + ROWS_AHEAD < e.rows) ask_for_results(&e, row + ROWS_AHEAD);
        epilogue_row(whole, activation, &e, row);
    }
}

/* By activation, so that no vector of a whole group asks for it. */
static void epilogue(const qr_epilogue *e)
{
    if (e->columns != QR_GROUP_COLUMNS) {
        epilogue_rows(false, e->activation, e);
        return;
    }
    switch (e->activation) {
    case QR_ACTIVATION_NONE: epilogue_rows(true, QR_ACTIVATION_NONE, e); break;
    case QR_ACTIVATION_SILU: epilogue_rows(true, QR_ACTIVATION_SILU, e); break;
    case QR_ACTIVATION_GELU: epilogue_rows(true, QR_ACTIVATION_GELU, e); break;
    case QR_ACTIVATION_GELU_NEW: epilogue_rows(true, QR_ACTIVATION_GELU_NEW, e); break;
    case QR_ACTIVATION_SWIGLU_OAI: epilogue_rows(true, QR_ACTIVATION_SWIGLU_OAI, e); break;
    case QR_ACTIVATION_RELU: epilogue_rows(true, QR_ACTIVATION_RELU, e); break;
    }
}
#undef QR_EACH_VECTOR

static const struct qr_projection_kernels projection_kernels = {
    .name     = QR_OWN_NAME,
    .formats  = panel_formats,
    .grouped  = &grouped_format,
    .quantize = quantize_group,
    .epilogue = epilogue,
};
#define QR_HAS_PROJECTION_KERNELS 1
