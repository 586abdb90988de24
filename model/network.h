/* The inside of a qr_network, shared by network.c (life, memory), load.c (weights), step.c, stages.c and the families'
 * forward passes. Not for other modules. */
#ifndef QR_NETWORK_H
#define QR_NETWORK_H

#include "model/declare.h"
#include "model/model.h"

/* Which experts the rows of a step chose. A slot is a row at one of its experts; slots are in the order of experts, and
 * of rows within one. */
typedef struct qr_routing {
    qr_rows   scores;         /* [rows][experts] f32 */
    uint32_t *chosen;         /* [rows][experts_per_token] greatest score first */
    float    *chosen_weights; /* likewise */
    uint32_t *first;          /* [experts + 2] first slot of each expert; behind the last: their number */
    uint32_t *row;            /* [slots] */
    float    *weights;        /* [slots] */
} qr_routing;

/* Activations of a step. Rows are the step's rows, or before them its encoder tokens. Padding up to each stride is
 * zero: every writer writes `dim` elements only. "as read": in the weights' dtype, what a projection takes. */
typedef struct qr_buffers {
    qr_rows    hidden;                  /* [rows][hidden_size] f32, the residual stream */
    qr_rows    normed;                  /* [rows][hidden_size] as read */
    qr_rows    qkv;                     /* [rows][q | k | v] f32, the share's; also cross q, and cross k | v */
    qr_rows    heads;                   /* [rows][q | k] f32 of all ranks, where norms want them; of one rank: qkv */
    qr_rows    attended, attended_read; /* [rows][heads * head_dim]; int8: f32 and its codes, else the same twice */
    qr_rows    branch;                  /* [rows][hidden_size] f32, what branch norms read; else without memory */
    qr_rows    fed, fed_read;           /* [rows][intermediate_size], likewise, as feed_out reads */
    qr_rows    routed;                  /* [rows][hidden_size] f32, what routers read; `normed` where that is f32 */
    qr_routing routing;
    qr_rows    expert_fed, expert_fed_read; /* [slots][expert_size], as fed */
    /* Of features, where the encoder reads them: windows as the first convolution reads them and what it makes of them,
     * for two frames a row; windows as the second one reads them; a window of each thread before it is converted. */
    qr_rows        frame_windows, convolved; /* [2 * encoder rows][3 * feature_size], [hidden_size] f32 */
    qr_rows        windows;                  /* [encoder rows][3 * hidden_size] */
    qr_rows        window;                   /* [threads][3 * the wider of both] f32 */
    qr_rows        selected;    /* [rows_logits][hidden_size] as read: final norm of the rows that want logits */
    qr_rows        logits;      /* [rows_logits][vocab_size] f32, not padded; of the rows that are kept */
    qr_partial_lse partial_lse; /* [rows_logits] of all of them */
    char          *exchanged;   /* [exchange_bytes] what ranks send and receive at once; NULL: there is one */
    size_t         exchange_bytes;
    size_t        *exchange_offsets; /* [ranks + 1] */
} qr_buffers;

enum { QR_LSE_PARTS = 3 }; /* arrays of a qr_partial_lse */

/* What one thread did in the last step. A cache line of its own: the thread writes it while the others write theirs. */
typedef struct qr_stage_log {
    _Alignas(64) quire_stage *items; /* [count], room for options.stage_slices */
    uint32_t count;
    uint64_t dropped; /* since create */
} qr_stage_log;

/* What some projections together cost, counted once. */
typedef struct qr_work {
    uint64_t bytes;             /* packed weights, per step */
    uint64_t flops, wide_flops; /* 2 N K, per row; of these, in another dtype than the network's */
} qr_work;

struct qr_network {
    const quire_model     *model;
    const qr_architecture *architecture;
    qr_share               share; /* of this rank */
    qr_network_options     options;
    const qr_kernels      *kernels;
    qr_projection_context *context;
    uint32_t               thread_count;
    qr_dtype               dtype; /* of weights and of what projections read, but for those that stay wide */
    qr_code_format         codes; /* of weights in scale groups; no bits: none are */

    /* weights */
    qr_parameters parameters;
    qr_arena      parameter_memory;       /* of layers, norms, biases, tables; and what lives as long */
    qr_mapping   *regions;                /* [thread_count] each thread's shards, on its node */
    qr_mapping    embedding_rows;         /* [vocab_size][share.hidden.count], f32 or bf16 */
    qr_mapping    encoder_embedding_rows; /* likewise, where the encoder's are others */
    qr_dtype      embedding_dtype;
    uint64_t      packed_bytes; /* of all regions, and embedding_rows */
    qr_work       decoder_work, encoder_work, cross_work, head_work;
    qr_work       expert_work; /* of one expert; the decoder's is without them */

    /* a step */
    qr_mapping             step_memory;
    qr_buffers             buffers;
    const qr_kv_memory    *kv, *local_kv; /* local_kv: of the windowed layers, where some see more; NULL: in kv */
    uint64_t              *counted;       /* [ceil(num_blocks / 64)] bits: blocks whose reading this step has counted */
    size_t                 counted_bytes;
    qr_kv_shape            kv_shape;
    qr_attention_tuning    tuning;
    qr_attention_plan     *self_plan;         /* of the layers that see most */
    qr_attention_plan     *window_plan;       /* of the windowed ones, where some see more; else NULL */
    qr_attention_plan     *cross_plan;        /* decoder rows over encoder keys */
    qr_attention_plan     *encoder_plan;      /* encoder rows over themselves */
    qr_attention_plan     *cross_append_plan; /* encoder rows into the cross blocks; only appends */
    qr_attention_sequence *self_sequences, *window_sequences, *cross_sequences; /* [max_sequences] */
    qr_attention_sequence *encoder_sequences, *cross_append_sequences;          /* [max_sequences] */
    qr_kv_shape            encoder_kv_shape;
    qr_mapping             encoder_kv;     /* one plane, reused by every encoder layer */
    uint32_t              *encoder_blocks; /* [encoder_block_count] 0, 1, 2, ... */
    uint32_t               encoder_block_count;
    uint32_t              *encoder_row_items;     /* [max_encoder_tokens] of the plan */
    uint32_t              *encoder_row_positions; /* [max_encoder_tokens] in its input */
    uint32_t              *lse_rows;              /* [3 * rows_logits] those of the parts of partial_lse */
    uint32_t              *kept_rows;             /* [max_logits_rows] those of logits that are kept */
    uint32_t               encoder_rows, kept_count;
    bool                   lost_ranks;                   /* in this step */
    uint64_t               experts_touched, expert_rows; /* of all layers: experts that were read, rows they had */
    const quire_plan      *plan;
    bool            *logits_kept; /* [max_logits_rows] of plan->logits_rows; false: its partial log-sum-exp is enough */
    qr_after_logits *after_logits;
    void            *after_context;
    quire_step      *report;
    qr_stage_log    *stage_logs; /* [thread_count], NULL: not kept */
};

static inline bool qr_network_has_encoder(const qr_network *network)
{
    return network->architecture->encoder_layers > 0;
}

/* Rows that one pass over the layers can have: the step's rows, or its encoder tokens before them. */
static inline uint32_t qr_network_most_rows(const qr_network *network)
{
    const qr_network_options *options = &network->options;
    return qr_network_has_encoder(network) ? qr_max_u32(options->max_rows, options->max_encoder_tokens)
                                           : options->max_rows;
}

/* The layer has a window and others see more. */
static inline bool qr_network_is_local(const qr_network *network, uint32_t layer)
{
    return network->window_plan != NULL && qr_layer_window(network->architecture, layer) != 0;
}

static inline uint64_t qr_network_embedding_bytes(const qr_network *network)
{
    const qr_architecture *a = network->architecture;
    return (uint64_t)a->vocab_size * network->share.hidden.count * qr_dtype_bytes(network->embedding_dtype);
}

/* Columns of the share's queries, and of its keys. */
static inline uint32_t qr_network_q_columns(const qr_network *network)
{
    return network->share.heads.count * network->architecture->head_dim;
}

static inline uint32_t qr_network_kv_columns(const qr_network *network)
{
    return network->share.kv_heads.count * network->architecture->head_dim;
}

/* load.c: the run of the family's description that counts, or once there is memory the one that loads. */
quire_status qr_network_declare(qr_network *network, quire_error *error);

/* load.c: of the thread's shards together, once there are projections. */
size_t qr_network_region_bytes(const qr_network *network, uint32_t thread);

/* load.c: parameters, projections, regions, embedding; everything is destroyed with the network. */
quire_status qr_network_load(qr_network *network, quire_error *error);

/* ---- stages ---- */

/* One thread's way through a step. */
typedef struct qr_pass {
    qr_network       *network;
    const quire_plan *plan;
    uint32_t          thread, thread_count;
    qr_stage_log     *log;        /* NULL: not kept */
    uint64_t          mark_ns;    /* end of the last stage; thread 0, and all that keep a log */
    bool              in_encoder; /* time counts as encoder_ns */
} qr_pass;

/* The barrier between stages; thread 0 adds its time to `bucket` of the report, which also says what stage it was. */
void qr_stage_end(qr_pass *pass, uint64_t *bucket);

/* Each stage is called by every thread; it ends with the barrier, so that the next one may read what it wrote. */
void qr_stage_copy_blocks(qr_pass *pass);
void qr_stage_embed(qr_pass *pass, uint32_t rows, bool encoder); /* no barrier: the norm reads the same rows */
/* exchange.c: of several ranks each has written its columns of the first `count` rows, which are cut so; then all have
 * all, or with `to_first` rank 0 has. rows->index: of these rows. */
void qr_stage_exchange(qr_pass *pass, const qr_rows *rows, uint32_t count, qr_cut cut, bool to_first);
/* The columns that this rank writes: a view of whole rows. */
qr_rows qr_share_view(const qr_rows *rows, qr_span span);
void    qr_stage_convolve(qr_pass *pass, uint32_t rows); /* instead of the encoder's embed where it reads features */
/* normed = norm(hidden) */
void qr_stage_norm(qr_pass *pass, uint32_t rows, const qr_norm *norm);
void qr_stage_norm_into(qr_pass *pass, uint32_t rows, const qr_norm *norm, const qr_rows *to); /* no barrier */
/* hidden = normed = norm(hidden) */
void qr_stage_norm_hidden(qr_pass *pass, uint32_t rows, const qr_norm *norm);
/* out->bias is the linear's. */
void qr_stage_project(qr_pass *pass, const qr_linear *linear, const qr_rows *x, uint32_t rows,
                      const qr_projection_out *out);
/* int8 weights: quantises what the last stage wrote. Otherwise it was written as the next projection reads it. */
void qr_stage_quantise(qr_pass *pass, const qr_rows *from, const qr_rows *to, uint32_t rows);

/* What runs of stages share, for layers of either stack. With post_norm each reads `normed` and ends with
 * hidden = normed = norm(hidden) instead of beginning with a norm. */

/* How a layer's self-attention differs between families. */
typedef struct qr_self_attention {
    qr_attention_plan       *plan;
    char                    *plane; /* where keys and values are appended and read */
    qr_attention_prologue    prologue;
    const qr_attention_bias *bias;  /* NULL: none */
    const float             *sinks; /* likewise */
} qr_self_attention;

/* hidden += output(attention(qkv(norm(hidden)))); what is added goes through the layer's branch norm, where it has one
 */
void qr_stage_self_attention(qr_pass *pass, const qr_layer *layer, const qr_self_attention *how, uint32_t rows);
/* hidden += cross_output(attention over the encoder's output (cross_q(norm(hidden)))); `i`: number of the layer */
void qr_stage_cross_attention(qr_pass *pass, const qr_layer *layer, uint32_t i, uint32_t rows);
/* Of the encoder's output (in `normed`) for every decoder layer: keys and values into the inputs' cross blocks. */
void qr_stage_write_cross_blocks(qr_pass *pass, uint32_t rows);
/* hidden += feed_out(activation(feed_in(norm(hidden)))), likewise */
void qr_stage_feed_forward(qr_pass *pass, const qr_layer *layer, uint32_t rows);
void qr_stage_logits(qr_pass *pass);

/* All stages of an encoder-decoder model's step but those around them. */
void qr_forward_encoder_decoder(qr_pass *pass);

#endif
