/* What config.json says, checked: everything the forward passes must know of a model but its numbers. */
#ifndef QR_ARCHITECTURE_H
#define QR_ARCHITECTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/projection.h"

typedef enum qr_family {
    QR_FAMILY_DECODER = 0, /* llama, mistral, qwen2, qwen3: pre-norm, rope, gated feed-forward */
    QR_FAMILY_T5      = 1, /* encoder and decoder, relative position bias, unscaled attention */
} qr_family;

/* Rotary embedding, rotate-half form (element i of a head pairs with i + head_dim / 2). With llama3 the frequencies are
 * changed as in Hugging Face's _compute_llama3_parameters. */
typedef struct qr_rope {
    double   theta;
    bool     llama3;
    double   factor, low_freq_factor, high_freq_factor; /* llama3 only */
    uint32_t original_max_position_embeddings;          /* llama3 only */
} qr_rope;

/* Invariants, once qr_architecture_read or a preset returned it:
 *   every size >= 1; heads is a multiple of kv_heads; head_dim is even where rope is used
 *   T5: kv_heads = heads; encoder_layers >= 1
 *   decoder-only: encoder_layers = 0, decoder_start_token_id = -1 */
typedef struct qr_architecture {
    char      model_type[16]; /* as config.json has it */
    qr_family family;
    uint32_t  vocab_size, hidden_size;
    uint32_t  intermediate_size; /* columns of one half where gated */
    uint32_t  layers;            /* of the decoder */
    uint32_t  encoder_layers;    /* 0: decoder-only */
    uint32_t  heads, kv_heads, head_dim;
    float     norm_epsilon;

    bool          gated;      /* feed-forward: activation(gate) * up; else wo(activation(wi)), T5 v1.0 */
    qr_activation activation; /* of the feed-forward */

    /* decoder-only */
    bool     qkv_bias, output_bias;   /* of q, k, v; of o */
    bool     qk_norm;                 /* RMS norm of each head of q and k before rope */
    uint32_t window;                  /* a token sees itself and window - 1 before it, in all layers; 0 = all */
    uint32_t max_position_embeddings; /* 0 = none (T5) */
    qr_rope  rope;

    /* T5 */
    uint32_t relative_buckets, relative_max_distance;
    int32_t  decoder_start_token_id; /* -1: decoder-only */

    float       logits_scale;   /* multiplies the logits: d_model^-0.5 for a T5 that scales, else 1 */
    const char *embedding_name; /* tensor of the input embedding (both stacks of a T5) */
    const char *output_name;    /* tensor of the output projection; the same pointer as embedding_name when tied */

    bool     tie_given, tie_word_embeddings; /* as config.json has it; output_name is what counts */
    uint32_t eos_count;
    int32_t  eos_token_ids[8]; /* [eos_count] */
} qr_architecture;

#endif
