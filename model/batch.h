/* One step as the model sees it: ragged arrays, no scheduler types. Built by engine/batch_builder. */
#ifndef QR_BATCH_H
#define QR_BATCH_H

#include <stdbool.h>
#include <stdint.h>

typedef struct qr_batch_sequence {
    uint32_t        row_start, row_count;
    uint32_t        position;     /* absolute position of the first row */
    const uint32_t *blocks;       /* covers position + row_count tokens */
    const uint32_t *cross_blocks; /* encoder-decoder: [ceil(cross_length / block_size)] */
    uint32_t        cross_length; /* encoder tokens */
    uint32_t        node;
} qr_batch_sequence;

typedef struct qr_batch_copy {
    uint32_t from, to, slots;
} qr_batch_copy;

typedef struct qr_batch_encoder {
    const int32_t  *tokens; /* [token_count] */
    uint32_t        token_count;
    const uint32_t *blocks; /* where the cross keys and values go */
    uint32_t        node;
} qr_batch_encoder;

typedef struct qr_batch {
    uint32_t                 row_count, sequence_count, logits_count, copy_count, encoder_count;
    const int32_t           *tokens;      /* [row_count] */
    const uint32_t          *positions;   /* [row_count] */
    const qr_batch_sequence *sequences;   /* [sequence_count] */
    const uint32_t          *logits_rows; /* [logits_count] ascending row numbers whose logits are wanted */
    const bool          *logits_kept; /* [logits_count] false: its partial log-sum-exp is enough; NULL: all are kept */
    const qr_batch_copy *copies;      /* [copy_count] done first */
    const qr_batch_encoder *encoders; /* [encoder_count] done before the rows */

    /* Run by all threads behind the logits of a batch that has some, in the same handing-over: sampling. NULL: nothing
     */
    void (*finish)(void *context, uint32_t thread, uint32_t thread_count);
    void *finish_context;
} qr_batch;

#endif
