#include "model/tensor_list.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"

typedef struct walk {
    qr_tensor_visit *visit;
    void            *context;
} walk;

__attribute__((format(printf, 4, 5))) static quire_status matrix(const walk *w, uint32_t rows, uint32_t columns,
                                                                 const char *format, ...)
{
    qr_tensor_need need = {.rank = 2, .rows = rows, .columns = columns};
    va_list        arguments;
    va_start(arguments, format);
    vsnprintf(need.name, sizeof need.name, format, arguments);
    va_end(arguments);
    return w->visit(w->context, &need);
}

__attribute__((format(printf, 3, 4))) static quire_status vector(const walk *w, uint32_t count, const char *format, ...)
{
    qr_tensor_need need = {.rank = 1, .rows = 1, .columns = count};
    va_list        arguments;
    va_start(arguments, format);
    vsnprintf(need.name, sizeof need.name, format, arguments);
    va_end(arguments);
    return w->visit(w->context, &need);
}

static quire_status decoder_layer(const walk *w, const qr_architecture *a, uint32_t layer)
{
    const uint32_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    QR_TRY(vector(w, a->hidden_size, "model.layers.%u.input_layernorm.weight", layer));
    QR_TRY(matrix(w, q, a->hidden_size, "model.layers.%u.self_attn.q_proj.weight", layer));
    QR_TRY(matrix(w, kv, a->hidden_size, "model.layers.%u.self_attn.k_proj.weight", layer));
    QR_TRY(matrix(w, kv, a->hidden_size, "model.layers.%u.self_attn.v_proj.weight", layer));
    QR_TRY(matrix(w, a->hidden_size, q, "model.layers.%u.self_attn.o_proj.weight", layer));
    if (a->qkv_bias) {
        QR_TRY(vector(w, q, "model.layers.%u.self_attn.q_proj.bias", layer));
        QR_TRY(vector(w, kv, "model.layers.%u.self_attn.k_proj.bias", layer));
        QR_TRY(vector(w, kv, "model.layers.%u.self_attn.v_proj.bias", layer));
    }
    if (a->output_bias) QR_TRY(vector(w, a->hidden_size, "model.layers.%u.self_attn.o_proj.bias", layer));
    if (a->qk_norm) {
        QR_TRY(vector(w, a->head_dim, "model.layers.%u.self_attn.q_norm.weight", layer));
        QR_TRY(vector(w, a->head_dim, "model.layers.%u.self_attn.k_norm.weight", layer));
    }
    QR_TRY(vector(w, a->hidden_size, "model.layers.%u.post_attention_layernorm.weight", layer));
    QR_TRY(matrix(w, a->intermediate_size, a->hidden_size, "model.layers.%u.mlp.gate_proj.weight", layer));
    QR_TRY(matrix(w, a->intermediate_size, a->hidden_size, "model.layers.%u.mlp.up_proj.weight", layer));
    return matrix(w, a->hidden_size, a->intermediate_size, "model.layers.%u.mlp.down_proj.weight", layer);
}

static quire_status decoder(const walk *w, const qr_architecture *a)
{
    for (uint32_t layer = 0; layer < a->layers; ++layer) QR_TRY(decoder_layer(w, a, layer));
    return vector(w, a->hidden_size, "model.norm.weight");
}

static quire_status t5_attention(const walk *w, const qr_architecture *a, const char *stack, uint32_t block,
                                 uint32_t layer, const char *name)
{
    const uint32_t           inner    = a->heads * a->head_dim;
    static const char *const inputs[] = {"q", "k", "v"};
    for (size_t i = 0; i < 3; ++i)
        QR_TRY(matrix(w, inner, a->hidden_size, "%s.block.%u.layer.%u.%s.%s.weight", stack, block, layer, name,
                      inputs[i]));
    QR_TRY(matrix(w, a->hidden_size, inner, "%s.block.%u.layer.%u.%s.o.weight", stack, block, layer, name));
    return vector(w, a->hidden_size, "%s.block.%u.layer.%u.layer_norm.weight", stack, block, layer);
}

static quire_status t5_feed_forward(const walk *w, const qr_architecture *a, const char *stack, uint32_t block,
                                    uint32_t layer)
{
    static const char *const gated[] = {"wi_0", "wi_1"}, *const plain[] = {"wi"};
    for (size_t i = 0; i < (a->gated ? 2 : 1); ++i)
        QR_TRY(matrix(w, a->intermediate_size, a->hidden_size, "%s.block.%u.layer.%u.DenseReluDense.%s.weight", stack,
                      block, layer, a->gated ? gated[i] : plain[i]));
    QR_TRY(matrix(w, a->hidden_size, a->intermediate_size, "%s.block.%u.layer.%u.DenseReluDense.wo.weight", stack,
                  block, layer));
    return vector(w, a->hidden_size, "%s.block.%u.layer.%u.layer_norm.weight", stack, block, layer);
}

static quire_status t5_stack(const walk *w, const qr_architecture *a, const char *stack, uint32_t blocks, bool crosses)
{
    QR_TRY(matrix(w, a->relative_buckets, a->heads, "%s.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                  stack));
    for (uint32_t block = 0; block < blocks; ++block) {
        QR_TRY(t5_attention(w, a, stack, block, 0, "SelfAttention"));
        if (crosses) QR_TRY(t5_attention(w, a, stack, block, 1, "EncDecAttention"));
        QR_TRY(t5_feed_forward(w, a, stack, block, crosses ? 2 : 1));
    }
    return vector(w, a->hidden_size, "%s.final_layer_norm.weight", stack);
}

static quire_status t5(const walk *w, const qr_architecture *a)
{
    QR_TRY(t5_stack(w, a, "encoder", a->encoder_layers, false));
    return t5_stack(w, a, "decoder", a->layers, true);
}

quire_status qr_tensor_list_walk(const qr_architecture *architecture, qr_tensor_visit *visit, void *context)
{
    const qr_architecture *a = architecture;
    const walk             w = {visit, context};
    QR_TRY(matrix(&w, a->vocab_size, a->hidden_size, "%s", a->embedding_name));
    QR_TRY(a->family == QR_FAMILY_T5 ? t5(&w, a) : decoder(&w, a));
    if (a->output_name == a->embedding_name) return QUIRE_OK;
    return matrix(&w, a->vocab_size, a->hidden_size, "%s", a->output_name);
}
