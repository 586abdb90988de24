/* The matrix products of a few steps. Which sequences run, and over how many keys, is what the planner decides; which
 * products there are is what the model's family declares. Nothing is computed, so that a model of any size can be
 * asked.
 */
#ifndef QR_SHAPE_TABLE_H
#define QR_SHAPE_TABLE_H

#include "quire/quire.h"

enum { QR_SHAPE_SEQUENCES = 8, QR_SHAPE_STEPS = 32 };

/* What is decoded: all sequences begin at once, and none ends before the last step. */
typedef struct qr_shape_run {
    uint32_t steps; /* 1..QR_SHAPE_STEPS */
    uint32_t sequence_count;
    uint32_t prompt_tokens[QR_SHAPE_SEQUENCES];  /* 0: none, encoder-decoder models only */
    uint32_t encoder_tokens[QR_SHAPE_SEQUENCES]; /* encoder-decoder models only */
} qr_shape_run;

typedef enum qr_product_kind {
    QR_PRODUCT_ROWS,         /* a projection of the step's rows */
    QR_PRODUCT_ENCODER_ROWS, /* of the step's encoder tokens */
    QR_PRODUCT_FRAME_ROWS,   /* of the frames that become them */
    QR_PRODUCT_EXPERT_ROWS,  /* of the step's rows at each of their experts, over all experts together */
    QR_PRODUCT_LOGITS_ROWS,  /* of the rows that want logits */
    QR_PRODUCT_SELF,         /* attention of one sequence's rows over its keys so far */
    QR_PRODUCT_CROSS,        /* over its encoder input */
    QR_PRODUCT_ENCODER_SELF, /* of an encoder input over itself */
} qr_product_kind;

/* [m, k] x [k, n]. Attention has two products of each kind: scores, whose n is the keys, and sums, whose k is. */
typedef struct qr_product {
    qr_product_kind kind;
    uint32_t        group;                   /* index into groups; those of a group stand together */
    char            name[40];                /* as the family calls it */
    bool            sums;                    /* attention: the second of the two */
    uint32_t        layers, heads, matrices; /* so many times in a step; 2 matrices are gate and up */
    uint32_t        k, n;                    /* of projections; of attention one is 0, it varies */
    uint32_t        window;                  /* self-attention: in tokens; 0 = all */
    uint32_t        sequence;                /* attention: whose */
    uint32_t        experts_per_token;
} qr_product;

typedef struct qr_shape {
    uint32_t m, k, n; /* m = 0: the step does not have it */
} qr_shape;

typedef struct qr_shape_step {
    uint32_t sequences, rows, rows_prompt, rows_encoder, rows_logits;
} qr_shape_step;

typedef struct qr_shape_table {
    qr_shape_run run;
    char (*groups)[64]; /* [group_count] "decoder, 16 layers" */
    qr_product   *products;
    qr_shape     *shapes; /* [steps][product_count] */
    qr_shape_step steps[QR_SHAPE_STEPS];
    size_t        group_count, product_count;
} qr_shape_table;

static inline bool qr_product_is_attention(const qr_product *product) { return product->kind >= QR_PRODUCT_SELF; }

static inline const qr_shape *qr_shape_at(const qr_shape_table *table, uint32_t step, size_t product)
{
    return &table->shapes[step * table->product_count + product];
}

/* Of the planner, as for requests of such lengths; ERR_UNSUPPORTED: a family with products that this does not know. The
 * cache is as large as the run needs. *table: zero; to be released with deinit in any case. */
quire_status qr_shape_table_init(qr_shape_table *table, const quire_model *model, const quire_engine_options *options,
                                 const qr_shape_run *run, quire_error *error);
void         qr_shape_table_deinit(qr_shape_table *table);

#endif
