/* What config.json says, checked: everything the forward passes must know of a model but its numbers. */
#ifndef QR_ARCHITECTURE_H
#define QR_ARCHITECTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/projection.h"
#include "model/packed.h"
#include "model/rope.h"

enum { QR_MAX_LAYERS = 4096 };

/* Some layers of the decoder. */
typedef struct qr_layer_set {
    uint64_t bits[QR_MAX_LAYERS / 64];
} qr_layer_set;

static inline bool qr_layer_set_has(const qr_layer_set *set, uint32_t layer)
{
    return (set->bits[layer / 64] >> layer % 64 & 1) != 0;
}

static inline void qr_layer_set_add(qr_layer_set *set, uint32_t layer)
{
    set->bits[layer / 64] |= UINT64_C(1) << layer % 64;
}

/* RMS norm of q and k before rope. */
typedef enum qr_qk_norm {
    QR_QK_NORM_NONE,
    QR_QK_NORM_HEADS, /* of each head, weights [head_dim] */
    QR_QK_NORM_ROW,   /* of all heads together, weights [q columns] and [kv columns] */
} qr_qk_norm;

/* Invariants, once qr_architecture_read or a preset returned it:
 *   every size >= 1; heads is a multiple of kv_heads; head_dim is even where rope is used
 *   encoder-decoder: encoder_layers >= 1 and decoder_start_token_id >= 0
 *   decoder-only: encoder_layers = 0, decoder_start_token_id = -1 */
typedef struct qr_architecture {
    const struct qr_family *family;
    uint32_t                type;           /* index into the family's types */
    char                    model_type[16]; /* as config.json has it */
    uint32_t                vocab_size, hidden_size;
    uint32_t                intermediate_size; /* columns of one half where gated */
    uint32_t                layers;            /* of the decoder */
    uint32_t                encoder_layers;    /* 0: decoder-only */
    uint32_t                heads, kv_heads, head_dim;
    float                   norm_epsilon;
    float                   attention_scale; /* multiplies the scores */
    float                   embedding_scale; /* multiplies the embedding's rows */
    float                   residual_scale;  /* multiplies what attention and feed-forward add to the residual stream */
    float                   logits_scale;    /* multiplies the logits */
    float                   attention_cap;   /* scores become c * tanh(score / c); 0 = none */
    float                   logits_cap;      /* likewise the logits */
    bool                    post_norm; /* encoder-decoder: norms stand behind a layer's sums, not before its parts */

    bool          gated;      /* feed-forward: down(activation(gate) * up); else wo(activation(wi)) */
    qr_activation activation; /* of the feed-forward */

    uint32_t     experts;                        /* 0: none */
    uint32_t     experts_per_token, expert_size; /* columns of one half of an expert */
    bool         expert_bias;                    /* of both products */
    bool         mxfp4_experts;                  /* files hold their weights so */
    bool         experts_renormalised;           /* the weights of a row's experts add up to 1 */
    qr_layer_set dense;                          /* layers without experts, where others have them */

    bool         qkv_bias, output_bias; /* of q, k, v; of o */
    qr_qk_norm   qk_norm;
    bool         norms_less_one; /* files hold the weights of norms less one */
    bool         branch_norms;   /* what attention and feed-forward add to the residual stream is normalised first */
    uint32_t     window;         /* a token sees itself and window - 1 before it; 0 = all, in every layer */
    uint32_t     full_layers;    /* with a window: how many of the decoder's layers see everything all the same */
    qr_layer_set full;           /* which */
    uint32_t     max_position_embeddings; /* 0 = no limit of the model's own (T5) */
    uint32_t     max_encoder_positions;   /* likewise, of the encoder */
    uint32_t     feature_size;            /* of a frame of an encoder's input; 0: it reads tokens */
    uint32_t     position_offset;         /* BART's like: the sine that position 0 has */
    qr_rope      rope;
    qr_rope      local_rope; /* of windowed layers, where theirs is another; theta 0: it is not */
    qr_layer_set unrotated;  /* layers whose q and k rope leaves as they are */
    uint32_t     relative_buckets, relative_max_distance; /* T5's bias */
    bool         relative_per_layer;                      /* each layer has its own; else all have the first one's */
    int32_t      decoder_start_token_id;                  /* -1: decoder-only */

    bool            tied;                   /* config.json says that the output projection is the input embedding */
    bool            never_tied;             /* it says the contrary: a missing output projection is an error */
    const char     *embedding_name;         /* tensor of the input embedding */
    const char     *encoder_embedding_name; /* where the encoder has another than the decoder; NULL: it has the same */
    const char     *head_name;              /* of the output projection: one of those where it is tied */
    qr_quantisation quantisation;           /* of the files' matrices */
    uint32_t        eos_count;
    int32_t         eos_token_ids[QUIRE_MAX_EOS_IDS]; /* [eos_count] */
} qr_architecture;

static inline uint32_t qr_q_columns(const qr_architecture *a) { return a->heads * a->head_dim; }
static inline uint32_t qr_kv_columns(const qr_architecture *a) { return a->kv_heads * a->head_dim; }

static inline bool qr_has_dense_layers(const qr_architecture *a)
{
    bool any = a->experts == 0;
    for (uint32_t i = 0; i < a->layers; i++) any |= qr_layer_set_has(&a->dense, i);
    return any;
}

/* Of the layers' experts that one token does not meet. */
static inline uint64_t qr_idle_parameters(const qr_architecture *a)
{
    uint64_t layers = 0;
    for (uint32_t i = 0; a->experts > 0 && i < a->layers; i++) layers += !qr_layer_set_has(&a->dense, i);
    const uint64_t biases = a->expert_bias ? 2ull * a->expert_size + a->hidden_size : 0;
    return layers * (a->experts - a->experts_per_token) * (3ull * a->hidden_size * a->expert_size + biases);
}

static inline uint32_t qr_layer_window(const qr_architecture *a, uint32_t layer)
{
    return qr_layer_set_has(&a->full, layer) ? 0 : a->window;
}

/* Of the layers that see most. What lies behind it no layer needs, so that the cache may let go of it. */
static inline uint32_t qr_widest_window(const qr_architecture *a) { return a->full_layers > 0 ? 0 : a->window; }

/* Layers with a window beside others that see everything. */
static inline uint32_t qr_local_layers(const qr_architecture *a)
{
    return a->full_layers > 0 ? a->layers - a->full_layers : 0;
}

#endif
