/* A plan (records, positions) as the arrays a model understands, and which logits row each sample looks at. */
#ifndef QR_ENGINE_BATCH_BUILDER_H
#define QR_ENGINE_BATCH_BUILDER_H

#include "model/batch.h"
#include "scheduler/scheduler.h"

typedef struct qr_batch_limits {
    uint32_t rows, sequences, samples;
} qr_batch_limits;

typedef struct qr_batch_builder {
    qr_batch_limits    limits;
    qr_batch           batch;         /* points to the arrays below */
    int32_t           *tokens;        /* [rows] */
    uint32_t          *positions;     /* [rows] */
    qr_batch_sequence *sequences;     /* [sequences] */
    qr_sequence_view  *views;         /* [sequences] of each entry, for sampling */
    uint32_t          *logits_rows;   /* [samples] ascending, each row once */
    bool              *logits_kept;   /* [samples] of logits_rows: some sample or reader needs the row itself */
    uint32_t          *sample_logits; /* [samples] index into logits_rows */
    qr_batch_copy     *copies;        /* [samples] */
    qr_batch_encoder  *encoders;      /* [sequences] */
} qr_batch_builder;

void qr_batch_builder_layout(qr_batch_builder *builder, qr_arena *arena, const qr_batch_limits *limits);

/* What attention reads, as quire_step and quire_plan count it. */
typedef struct qr_batch_reads {
    uint64_t kv_tokens, kv_pairs, cross_tokens, cross_pairs, encoder_pairs;
} qr_batch_reads;

qr_batch_reads qr_batch_count_reads(const qr_batch *batch, uint32_t window);

/* Fills builder->batch, views and sample_logits; valid until the plan's commit. */
void qr_batch_build(qr_batch_builder *builder, const qr_plan *plan, const qr_scheduler *scheduler);

#endif
