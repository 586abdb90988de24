#include "tests/support/reference_attention.h"

#include <math.h>
#include <stdlib.h>

/* RMSNorm, then half-split rotary embedding, of one head's row. */
static void prologue_of(const qr_attention_prologue *p, const float *norm, uint32_t dim, uint32_t position,
                        const float *in, double *out)
{
    double squares = 0;
    for (uint32_t d = 0; d < dim; d++) squares += (double)in[d] * (double)in[d];
    const double scale = norm == NULL ? 1 : 1 / sqrt(squares / dim + (double)p->norm_epsilon);
    for (uint32_t d = 0; d < dim; d++) out[d] = (double)in[d] * scale * (norm == NULL ? 1 : (double)norm[d]);
    if (p->rope_cos == NULL) return;
    const uint32_t half = p->rotary_dim / 2;
    for (uint32_t d = 0; d < half; d++) {
        const double c = (double)p->rope_cos[position * half + d], s = (double)p->rope_sin[position * half + d];
        const double a = out[d], b = out[d + half];
        out[d]        = a * c - b * s;
        out[d + half] = b * c + a * s;
    }
}

static bool is_visible(const qr_attention_shape *shape, uint32_t position, uint32_t key)
{
    if (shape->kind == QR_ATTENTION_FULL) return true;
    return key <= position && (shape->window == 0 || key + shape->window > position);
}

static double bias_of(const qr_attention_bias *bias, uint32_t head, uint32_t position, uint32_t key)
{
    if (bias == NULL) return 0;
    int64_t distance = (int64_t)key - position;
    if (distance > (int64_t)bias->reach) distance = bias->reach;
    if (distance < -(int64_t)bias->reach) distance = -(int64_t)bias->reach;
    return (double)bias->by_distance[(int64_t)head * bias->stride + distance + bias->zero];
}

typedef struct one_head {
    uint32_t      head, position, dim;
    const double *q, *keys; /* [dim], [keys][dim] */
    const float  *values;   /* first value of the kv head */
    size_t        value_stride;
    double       *scores; /* [keys] */
    const float  *sink;   /* or NULL */
} one_head;

static void attend(const qr_attention_shape *shape, const qr_attention_bias *bias, uint32_t keys, const one_head *h,
                   double *out)
{
    double top = h->sink ? (double)*h->sink : -INFINITY, sum = 0;
    for (uint32_t j = 0; j < keys; j++) {
        double score = 0;
        if (!is_visible(shape, h->position, j)) continue;
        for (uint32_t d = 0; d < h->dim; d++) score += h->q[d] * h->keys[j * h->dim + d];
        score *= (double)shape->scale;
        if (shape->softcap != 0.0f) score = (double)shape->softcap * tanh(score / (double)shape->softcap);
        h->scores[j] = score + bias_of(bias, h->head, h->position, j);
        top          = fmax(top, h->scores[j]);
    }
    if (h->sink != NULL) sum = exp((double)*h->sink - top);
    for (uint32_t d = 0; d < h->dim; d++) out[d] = 0;
    for (uint32_t j = 0; j < keys; j++) {
        if (!is_visible(shape, h->position, j)) continue;
        const double p = exp(h->scores[j] - top);
        sum += p;
        for (uint32_t d = 0; d < h->dim; d++) out[d] += p * (double)h->values[j * h->value_stride + d];
    }
    for (uint32_t d = 0; d < h->dim; d++) out[d] /= sum;
}

void reference_attention(const qr_attention_shape *shape, const qr_attention_prologue *prologue,
                         const qr_attention_bias *bias, const float *sinks, const reference_sequence *sequence,
                         double *out)
{
    const uint32_t dim = shape->kv.head_dim, kv_heads = shape->kv.kv_heads, group = shape->heads / kv_heads;
    double *keys = malloc(sizeof *keys * sequence->keys * dim), *scores = malloc(sizeof *scores * sequence->keys);
    double  q[256];
    for (uint32_t h = 0; h < kv_heads; h++) {
        for (uint32_t j = 0; j < sequence->keys; j++)
            prologue_of(prologue, prologue->k_norm, dim, j, sequence->k + ((size_t)j * kv_heads + h) * dim,
                        keys + (size_t)j * dim);
        for (uint32_t r = 0; r < sequence->rows; r++)
            for (uint32_t g = 0; g < group; g++) {
                const size_t   at   = ((size_t)r * shape->heads + h * group + g) * dim;
                const one_head head = {.head         = h * group + g,
                                       .position     = sequence->first + r,
                                       .dim          = dim,
                                       .q            = q,
                                       .keys         = keys,
                                       .values       = sequence->v + (size_t)h * dim,
                                       .value_stride = (size_t)kv_heads * dim,
                                       .scores       = scores,
                                       .sink         = sinks ? &sinks[h * group + g] : NULL};
                prologue_of(prologue, prologue->q_norm, dim, head.position, sequence->q + at, q);
                attend(shape, bias, sequence->keys, &head, out + at);
            }
    }
    free(scores);
    free(keys);
}
