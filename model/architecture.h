/* What config.json says, checked: everything the forward passes must know of a model but its numbers. */
#ifndef QR_ARCHITECTURE_H
#define QR_ARCHITECTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/projection.h"
#include "model/rope.h"

/* Invariants, once qr_architecture_read or a preset returned it:
 *   every size >= 1; heads is a multiple of kv_heads; head_dim is even where rope is used
 *   encoder-decoder: encoder_layers >= 1 and decoder_start_token_id >= 0
 *   decoder-only: encoder_layers = 0, decoder_start_token_id = -1 */
typedef struct qr_architecture {
    const struct qr_family *family;
    char                    model_type[16]; /* as config.json has it */
    uint32_t                vocab_size, hidden_size;
    uint32_t                intermediate_size; /* columns of one half where gated */
    uint32_t                layers;            /* of the decoder */
    uint32_t                encoder_layers;    /* 0: decoder-only */
    uint32_t                heads, kv_heads, head_dim;
    float                   norm_epsilon;
    float                   attention_scale; /* multiplies the scores */
    float                   logits_scale;    /* multiplies the logits */

    bool          gated;      /* feed-forward: down(activation(gate) * up); else wo(activation(wi)) */
    qr_activation activation; /* of the feed-forward */

    bool     qkv_bias, output_bias;   /* of q, k, v; of o */
    bool     qk_norm;                 /* RMS norm of each head of q and k before rope */
    uint32_t window;                  /* a token sees itself and window - 1 before it, in all layers; 0 = all */
    uint32_t max_position_embeddings; /* 0 = no limit of the model's own (T5) */
    qr_rope  rope;
    uint32_t relative_buckets, relative_max_distance; /* T5's bias */
    int32_t  decoder_start_token_id;                  /* -1: decoder-only */

    bool        tied;                   /* config.json says that the output projection is the input embedding */
    bool        never_tied;             /* it says the contrary: a missing output projection is an error */
    const char *embedding_name;         /* tensor of the input embedding */
    const char *encoder_embedding_name; /* where the encoder has another than the decoder; NULL: it has the same */
    const char *head_name;              /* of the output projection: one of those where it is tied */
    uint32_t    eos_count;
    int32_t     eos_token_ids[QUIRE_MAX_EOS_IDS]; /* [eos_count] */
} qr_architecture;

static inline uint32_t qr_q_columns(const qr_architecture *a) { return a->heads * a->head_dim; }
static inline uint32_t qr_kv_columns(const qr_architecture *a) { return a->kv_heads * a->head_dim; }

#endif
