/* Row-wise primitives: one row each, f32 inside, sums in one order. Included once by each kernels/isa/<isa>.c. */
#include "base/bits.h"

enum { ROWWISE_CHAINS = 4 }; /* independent sums, added in order at the end: hides the latency of the addition */

static inline uint32_t elements_left(uint32_t count, uint32_t from) { return from < count ? count - from : 0; }

static inline float sum_of_chains(const vf32 chain[ROWWISE_CHAINS])
{
    return vf32_sum(vf32_add(vf32_add(chain[0], chain[1]), vf32_add(chain[2], chain[3])));
}

static inline vf32 first_lanes_of(vf32 x, uint32_t count) /* the others zero */
{
    return count >= VF32_LANES ? x : vf32_select(vmask_range(0, (int32_t)count), x, vf32_zero());
}

static float sum_squares(const float *x, uint32_t count)
{
    vf32 chain[ROWWISE_CHAINS] = {vf32_zero(), vf32_zero(), vf32_zero(), vf32_zero()};
    for (uint32_t i = 0; i < count; i += ROWWISE_CHAINS * VF32_LANES)
        for (uint32_t c = 0; c < ROWWISE_CHAINS; c++) {
            const vf32 v = vf32_load_upto(x + i + c * VF32_LANES, elements_left(count, i + c * VF32_LANES));
            chain[c]     = vf32_fma(v, v, chain[c]);
        }
    return sum_of_chains(chain);
}

static float sum_of(const float *x, uint32_t count)
{
    vf32 chain[ROWWISE_CHAINS] = {vf32_zero(), vf32_zero(), vf32_zero(), vf32_zero()};
    for (uint32_t i = 0; i < count; i += ROWWISE_CHAINS * VF32_LANES)
        for (uint32_t c = 0; c < ROWWISE_CHAINS; c++)
            chain[c] =
                vf32_add(chain[c], vf32_load_upto(x + i + c * VF32_LANES, elements_left(count, i + c * VF32_LANES)));
    return sum_of_chains(chain);
}

static float sum_squared_distances(const float *x, uint32_t count, float from)
{
    vf32 chain[ROWWISE_CHAINS] = {vf32_zero(), vf32_zero(), vf32_zero(), vf32_zero()};
    for (uint32_t i = 0; i < count; i += ROWWISE_CHAINS * VF32_LANES)
        for (uint32_t c = 0; c < ROWWISE_CHAINS; c++) {
            const uint32_t at = i + c * VF32_LANES, left = elements_left(count, at);
            const vf32     v = first_lanes_of(vf32_sub(vf32_load_upto(x + at, left), vf32_set(from)), left);
            chain[c]         = vf32_fma(v, v, chain[c]);
        }
    return sum_of_chains(chain);
}

/* Element i of a row on its way to memory: (in[i] - mean) * scale * weight[i] + bias[i]; in[i] where there is no
 * weight, and without a mean where there is no bias. */
typedef struct row_values {
    const float *in, *weight, *bias;
    float        mean, scale;
} row_values;

static inline vf32 row_value(const row_values *values, uint32_t i, uint32_t left)
{
    const vf32 x = vf32_load_upto(values->in + i, left);
    if (values->weight == NULL) return x;
    const vf32 weight = vf32_load_upto(values->weight + i, left);
    if (values->bias == NULL) return vf32_mul(vf32_mul(x, vf32_set(values->scale)), weight);
    const vf32 scaled = vf32_mul(vf32_sub(x, vf32_set(values->mean)), vf32_set(values->scale));
    return vf32_fma(scaled, weight, vf32_load_upto(values->bias + i, left));
}

/* Elements [from, end) of a row as int8; returns their scale. */
static float write_int8_block(int8_t *codes, const row_values *values, uint32_t from, uint32_t end)
{
    vf32 top = vf32_zero();
    for (uint32_t i = from; i < end; i += VF32_LANES) top = vf32_max(vf32_abs(row_value(values, i, end - i)), top);
    const float greatest = vf32_top(top), to_code = greatest > 0.0f ? 127.0f / greatest : 0.0f;
    for (uint32_t i = from; i < end; i += VF32_LANES)
        vf32_store_s8_upto(codes + i, vf32_mul(row_value(values, i, end - i), vf32_set(to_code)), end - i);
    return greatest / 127.0f;
}

static void write_int8(const qr_rows *out, uint32_t row, const row_values *values)
{
    int8_t        *codes = (int8_t *)out->data + (size_t)row * out->stride;
    const uint32_t count = qr_row_scales(out), block = count > 1 ? out->scale_block : out->dim;
    for (uint32_t i = 0; i < count; i++)
        out->scales[(size_t)row * count + i] =
            write_int8_block(codes, values, i * block, qr_min_u32(i * block + block, out->dim));
}

static void write_row(const qr_rows *out, uint32_t row, const row_values *values)
{
    char *data = (char *)out->data + (size_t)row * out->stride * qr_dtype_bytes(out->dtype);
    if (out->dtype == QR_F32)
        for (uint32_t i = 0; i < out->dim; i += VF32_LANES)
            vf32_store_upto((float *)data + i, row_value(values, i, out->dim - i), out->dim - i);
    else if (out->dtype == QR_BF16)
        for (uint32_t i = 0; i < out->dim; i += VF32_LANES)
            vf32_store_bf16_upto((qr_bf16 *)data + i, row_value(values, i, out->dim - i), out->dim - i);
    else
        write_int8(out, row, values);
    memset(data + out->dim * qr_dtype_bytes(out->dtype), 0, (out->stride - out->dim) * qr_dtype_bytes(out->dtype));
}

static void rms_norm(const qr_rows *out, uint32_t row, const float *in, const float *weight, float epsilon)
{
    const float mean = sum_squares(in, out->dim) / (float)out->dim;
    write_row(out, row, &(row_values){.in = in, .weight = weight, .scale = 1.0f / sqrtf(mean + epsilon)});
}

static void layer_norm(const qr_rows *out, uint32_t row, const float *in, const float *weight, const float *bias,
                       float epsilon)
{
    const float mean     = sum_of(in, out->dim) / (float)out->dim;
    const float variance = sum_squared_distances(in, out->dim, mean) / (float)out->dim;
    const float scale    = 1.0f / sqrtf(variance + epsilon);
    write_row(out, row, &(row_values){.in = in, .weight = weight, .bias = bias, .mean = mean, .scale = scale});
}

static void convert(const qr_rows *out, uint32_t row, const float *in) { write_row(out, row, &(row_values){.in = in}); }

static float greatest_of(const float *x, uint32_t count) /* -inf if all are NaN */
{
    vf32     top = vf32_set(-INFINITY);
    uint32_t i   = 0;
    for (; i + VF32_LANES <= count; i += VF32_LANES) top = vf32_max(vf32_load(x + i), top); /* NaN: keeps top */
    float greatest = vf32_top(top);
    for (; i < count; i++) greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}

static uint32_t argmax(const float *x, uint32_t count, float *value_out)
{
    const float greatest = greatest_of(x, count);
    uint32_t    i        = 0;
    for (; i + VF32_LANES <= count; i += VF32_LANES) {
        const uint32_t equal = vmask_bits(vmask_equal(vf32_load(x + i), vf32_set(greatest)));
        if (equal != 0) {
            i += (uint32_t)__builtin_ctz(equal);
            break;
        }
    }
    while (i < count && !(x[i] == greatest)) i++;
    if (i >= count) i = 0; /* nothing but NaN */
    *value_out = x[i];
    return i;
}

static float exp_scaled(float *scaled, float *weights, const float *x, uint32_t count, float top, float temperature)
{
    vf32 chain[ROWWISE_CHAINS] = {vf32_zero(), vf32_zero(), vf32_zero(), vf32_zero()};
    for (uint32_t i = 0; i < count; i += ROWWISE_CHAINS * VF32_LANES)
        for (uint32_t c = 0; c < ROWWISE_CHAINS; c++) {
            const uint32_t at = i + c * VF32_LANES, left = elements_left(count, at);
            if (left == 0) break;
            const vf32 v = vf32_div(vf32_sub(vf32_load_upto(x + at, left), vf32_set(top)), vf32_set(temperature));
            const vf32 e = vf32_select(vmask_less(v, vf32_set(-87.0f)), vf32_zero(), vf32_exp(v));
            vf32_store_upto(scaled + at, v, left);
            vf32_store_upto(weights + at, e, left);
            chain[c] = vf32_add(chain[c], first_lanes_of(e, left));
        }
    return sum_of_chains(chain);
}

static float sum_from(const float *x, const float *weights, uint32_t count, float floor)
{
    vf32 chain[ROWWISE_CHAINS] = {vf32_zero(), vf32_zero(), vf32_zero(), vf32_zero()};
    for (uint32_t i = 0; i < count; i += ROWWISE_CHAINS * VF32_LANES)
        for (uint32_t c = 0; c < ROWWISE_CHAINS; c++) {
            const uint32_t at = i + c * VF32_LANES, left = elements_left(count, at);
            const vmask    below = vmask_less(vf32_load_upto(x + at, left), vf32_set(floor));
            chain[c] = vf32_add(chain[c], vf32_select(below, vf32_zero(), vf32_load_upto(weights + at, left)));
        }
    return sum_of_chains(chain);
}

/* One pass over registers, without a branch on the values. */
static void partial_lse(const qr_partial_lse *out, const float *x, uint32_t first, uint32_t count)
{
    enum { VECTORS = QR_LSE_COLUMNS / VF32_LANES };
    vf32     v[VECTORS], top = vf32_set(-INFINITY), sum = vf32_zero();
    uint64_t finite = 0, equal = 0;
    for (uint32_t i = 0; i < VECTORS; i++) {
        const uint32_t left = elements_left(count, i * VF32_LANES);
        v[i]                = vf32_load_upto(x + i * VF32_LANES, left);
        finite |= (uint64_t)vmask_bits(vmask_less(vf32_abs(v[i]), vf32_set(INFINITY))) << i * VF32_LANES;
        if (left < VF32_LANES) v[i] = vf32_select(vmask_range(0, (int32_t)left), v[i], vf32_set(-INFINITY));
        top = vf32_max(v[i], top); /* NaN: keeps top */
    }
    const float greatest = vf32_top(top);
    for (uint32_t i = 0; i < VECTORS; i++) {
        equal |= (uint64_t)vmask_bits(vmask_equal(v[i], vf32_set(greatest))) << i * VF32_LANES;
        const vf32 below = vf32_mul(vf32_sub(v[i], vf32_set(greatest)), vf32_set(1.44269504f));
        sum              = vf32_add(sum, vf32_exp2(below)); /* beyond the count 2^-126, lost beside the greatest's 1 */
    }
    const uint32_t best = equal != 0 ? (uint32_t)__builtin_ctzll(equal) : 0;
    *out->best          = first + best;
    *out->greatest      = finite == UINT64_MAX ? x[best] : NAN;
    *out->sum_exp       = vf32_sum(sum);
}

static float merge_exp(const qr_partial_lse *partial_lse, uint32_t count, float top)
{
    vf32 chain[ROWWISE_CHAINS] = {vf32_zero(), vf32_zero(), vf32_zero(), vf32_zero()};
    for (uint32_t i = 0; i < count; i += ROWWISE_CHAINS * VF32_LANES)
        for (uint32_t c = 0; c < ROWWISE_CHAINS; c++) {
            const uint32_t at = i + c * VF32_LANES, left = elements_left(count, at);
            if (left == 0) break;
            const vf32 e     = vf32_exp(vf32_sub(vf32_load_upto(partial_lse->greatest + at, left), vf32_set(top)));
            const bool whole = left >= VF32_LANES;
            chain[c]         = vf32_fma(whole ? e : vf32_select(vmask_range(0, (int32_t)left), e, vf32_zero()),
                                vf32_load_upto(partial_lse->sum_exp + at, left), chain[c]);
        }
    return sum_of_chains(chain);
}

static void axpy(float *out, const float *in, float scale, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += VF32_LANES) {
        const vf32 x = vf32_load_upto(in + i, count - i), y = vf32_load_upto(out + i, count - i);
        vf32_store_upto(out + i, vf32_fma(x, vf32_set(scale), y), count - i);
    }
}
