/* The description of a model: a family's declare function says once which tensors there are, in which shapes, and where
 * they go. The same call counts bytes and parameters, checks files, and loads:
 *
 *   counting   no visit: names are not even built
 *   checking   visit compares each name, shape and dtype with the files
 *   loading    counting first, then with the arena's memory: vectors are read at once, matrices found; the threads that
 *              use them read and pack them later (load.c)
 *
 * The first failure sticks in `status`, and everything after it does nothing. */
#ifndef QR_DECLARE_H
#define QR_DECLARE_H

#include "base/memory.h"
#include "kernels/attention.h"
#include "model/share.h"
#include "model/weights.h"

enum { QR_LINEAR_MATRICES = 3 };

/* A projection and the tensors it is packed from, side by side (q, k, v) or as the two halves (gate, up). Of several
 * ranks each has its share of the columns, and of what the tensors hold only those. */
typedef struct qr_linear {
    struct qr_linear   *next; /* in the order of declaration; loaded models only */
    qr_projection      *projection;
    qr_projection_shape shape;               /* columns: of the share; 0: the layer has none */
    const float        *bias;                /* [columns] or NULL */
    const float        *whole_bias;          /* the same of all ranks' columns */
    qr_span             spans[QR_CUT_SPANS]; /* the share's columns; gated: of each half */
    uint32_t            span_count;          /* 0: all of them */
    qr_matrix           matrices[QR_LINEAR_MATRICES];
    uint32_t            matrix_count;
} qr_linear;

static inline uint32_t qr_linear_first_column(const qr_linear *linear)
{
    return linear->span_count > 0 ? linear->spans[0].first : 0;
}

/* [hidden_size]. Layer norm with a bias, RMS norm without one, and without a weight none. */
typedef struct qr_norm {
    const float *weight, *bias;
} qr_norm;

typedef struct qr_expert {
    qr_linear in, out;
} qr_expert;

/* One layer. What a family does not have is NULL or zero. */
typedef struct qr_layer {
    qr_norm      attention_norm, cross_norm, feed_norm;
    const float *attention_branch_norm, *feed_branch_norm; /* [hidden_size], of what is added to the residual stream */
    const float *q_norm, *k_norm;                          /* as qk_norm of the architecture says */
    const float *sinks;                                    /* [heads], as in qr_attention_args */
    const float *k_common;                                 /* [kv_columns], as in qr_attention_prologue */
    qr_attention_bias bias;                                /* of its self-attention: T5 */
    qr_linear         qkv, output;
    qr_linear         cross_q, cross_kv, cross_output;
    qr_linear         feed_in, feed_out; /* or: */
    qr_linear         router;            /* hidden -> experts */
    qr_expert        *experts;           /* [experts] */
} qr_layer;

/* Everything that comes from the files or follows from the architecture. */
typedef struct qr_parameters {
    qr_layer      *decoder, *encoder; /* [layers], [encoder_layers] */
    qr_linear      head;              /* hidden -> vocab */
    qr_linear      convolutions[2];   /* from features to the encoder's rows; the second takes every other window */
    qr_matrix      embedding;         /* [vocab_size][hidden_size] */
    qr_matrix      encoder_embedding; /* where it is another */
    qr_norm        decoder_norm, encoder_norm;
    qr_norm        decoder_embedding_norm, encoder_embedding_norm;
    const float   *decoder_positions, *encoder_positions; /* [max_..._positions][hidden_size], added to embeddings */
    qr_rope_tables rope, local_rope;           /* of max_model_len positions; longrope: the long ones follow */
    qr_linear     *first_linear, *last_linear; /* list of all, by next */
} qr_parameters;

/* *matrix_out: where the tensor was found. */
typedef quire_status qr_tensor_visit(void *context, const qr_tensor_spec *spec, qr_matrix *matrix_out,
                                     quire_error *error);

typedef struct qr_declaration {
    const qr_architecture *architecture;
    qr_dtype               dtype;         /* of the packed weights, but for those that stay wide */
    qr_code_format         codes;         /* of those in scale groups, where the files have no others */
    const qr_weights      *weights;       /* whose codes may be kept; NULL: none */
    const qr_share        *share;         /* NULL: everything, as for one rank */
    uint32_t               max_model_len; /* positions that tables are made for */
    qr_parameters         *parameters;
    qr_arena              *arena; /* without memory: counting and checking */
    qr_tensor_visit       *visit; /* for each tensor; NULL: none */
    void                  *context;
    quire_error           *error;
    quire_status           status;

    uint64_t parameter_count; /* a tied matrix counts once */
    uint64_t packed_bytes;    /* of the projections, and of the embedding's rows */

    char      prefix[64];
    qr_layer  spare; /* stands in for every layer where there is no memory */
    qr_expert spare_expert;
    uint32_t  expert; /* whose matrices come next */
} qr_declaration;

/* Runs the family's declare function, from its first tensor on. */
void qr_declare(qr_declaration *declaration);

/* Parameters, and the bytes they take as loaded with weights of `dtype` and `codes`, but for tables by position. */
void qr_declare_count(const qr_weights *weights, qr_dtype dtype, const qr_code_format *codes, uint64_t *parameters_out,
                      uint64_t *bytes_out);

/* Compares the files with the architecture: every tensor is there in its shape and a readable dtype, and nothing else
 * is there but what the family knows to be unread, and buffers, which are warned of. */
quire_status qr_declare_check(const qr_weights *weights, qr_log *log, quire_error *error);

/* Calls `each` for every tensor, in the order of the family's list, as loaded with weights of `dtype` and `codes`: a
 * tied matrix once, as the embedding. ERR_FORMAT, ERR_UNSUPPORTED: as qr_declare_check. */
typedef void qr_tensor_listing(void *context, const qr_tensor_spec *spec, const qr_tensor *stored);
quire_status qr_declare_list(const qr_weights *weights, qr_dtype dtype, const qr_code_format *codes,
                             qr_tensor_listing *each, void *context, quire_error *error);

/* Beside int8 weights: of the embedding's rows, and of matrices whose inputs int8 cannot hold. */
static inline qr_dtype qr_wide_dtype(qr_dtype dtype) { return dtype == QR_INT8 ? QR_BF16 : dtype; }

/* Of feed_out and its inputs, with weights of `dtype`. */
qr_dtype qr_feed_out_dtype(const qr_architecture *architecture, qr_dtype dtype);

/* ---- for the families ---- */

/* Set before names that begin alike: "model.layers.3.". */
void qr_declare_prefix(qr_declaration *declaration, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* layers[i]; a stand-in where layers is NULL. */
qr_layer *qr_declare_layer(qr_declaration *declaration, qr_layer *layers, uint32_t i);

#define QR_RANDOM_BIAS 0.02f /* standard deviation of random biases */

/* Standard deviation of random weights that keeps activations near 1 at any depth. */
float qr_random_scale(uint32_t inputs);

/* The input embeddings, by the architecture's names for them. `scale`: of random weights. */
void qr_declare_embedding(qr_declaration *declaration, float scale);
/* The output projection: an embedding again where it is tied. */
void qr_declare_head(qr_declaration *declaration);

/* [count] floats: of the tensor `name`, and one more where files hold them less one; random models have ones. NULL
 * without memory, as below. */
const float *qr_declare_norm(qr_declaration *declaration, uint32_t count, const char *name);
/* [count] each, of the tensors <name>.weight and <name>.bias. */
qr_norm qr_declare_layer_norm(qr_declaration *declaration, uint32_t count, const char *name);
/* [rows][columns] floats of the tensor `name`. */
const float *qr_declare_table(qr_declaration *declaration, uint32_t rows, uint32_t columns, float scale,
                              const char *name);
/* `count` matrices [rows][columns] in the one tensor `name`, of which qr_stack_part() makes projections. */
void qr_declare_stack(qr_declaration *declaration, qr_matrix *stack_out, uint32_t count, uint32_t rows,
                      uint32_t columns, const char *name);
/* [count] floats that no file has. */
float *qr_declare_floats(qr_declaration *declaration, size_t count);

/* `name` is that of the tensors <name>.weight [columns][k] and, with bias, <name>.bias [columns]. */
typedef struct qr_linear_part {
    uint32_t    columns;
    const char *name;
    bool        bias, convolves; /* weight [columns][k / QR_TAPS][QR_TAPS] */
    float       scale;           /* of random weights; 0: qr_random_scale(k) */
} qr_linear_part;

/* QR_PARTS(QR_PART(q, "q_proj", .bias = true), QR_PART(kv, "k_proj")): up to the first without columns. */
#define QR_PARTS(...) ((const qr_linear_part[QR_LINEAR_MATRICES]){__VA_ARGS__})
#define QR_PART(count, ...)                                                                                            \
    {                                                                                                                  \
        .columns = (count), .name = __VA_ARGS__                                                                        \
    }

/* `label`: for messages. `cut`: what its columns are. */
void qr_declare_linear(qr_declaration *declaration, qr_linear *linear, const char *label, uint32_t k, qr_cut cut,
                       const qr_linear_part *parts);
/* Likewise in f32 whatever the dtype of the others. */
void qr_declare_wide_linear(qr_declaration *declaration, qr_linear *linear, const char *label, uint32_t k,
                            const qr_linear_part *parts);
/* The first projection of a feed-forward, with its activation; where the architecture is gated, of gate and up, or of
 * one part with the rows of gate and then those of up. `cut`: INNER or EXPERT. */
void qr_declare_feed_in(qr_declaration *declaration, qr_linear *linear, const char *label, uint32_t k, qr_cut cut,
                        const qr_linear_part *parts);
/* Of the matrices of a stack, gate and up, and the one behind them. */
void qr_declare_feed_in_of(qr_declaration *declaration, qr_linear *linear, const char *label, qr_matrix gate,
                           qr_matrix up);
void qr_declare_feed_out_of(qr_declaration *declaration, qr_linear *linear, const char *label, qr_matrix matrix);
/* Over windows of QR_TAPS rows of `inputs`, by column then row; wide, with GELU. */
void qr_declare_convolution(qr_declaration *declaration, qr_linear *linear, const char *label, uint32_t inputs,
                            const qr_linear_part *parts);
/* The second matrix of a feed-forward; wide where the family says so. */
void qr_declare_feed_out(qr_declaration *declaration, qr_linear *linear, const char *label, uint32_t k,
                         const qr_linear_part *parts);

#endif
