/* What one step runs, as decided by the scheduler: integers only, borrowed from the scheduler until the next plan. */
#ifndef QR_PLAN_H
#define QR_PLAN_H

#include <stdbool.h>
#include <stdint.h>

/* Rows of one sequence: positions [position, position + rows), tokens qr_scheduler_sequence()->tokens[position..]. */
typedef struct qr_plan_entry {
    uint32_t sequence; /* record */
    uint32_t position;
    uint32_t rows;
    uint32_t row_start; /* first row in the batch; entries are in row order */
    uint32_t drafts;    /* of the rows, the last `drafts` hold unverified tokens (speculative decoding) */
    uint32_t sample_start, sample_count; /* into samples[]; 0 samples: an unfinished prompt */
} qr_plan_entry;

/* One token to choose. Several samples may share a row (n > 1: the fork happens at commit). Penalties look at tokens
 * [0, position) of the entry's sequence: with drafts a row is judged by the drafts before it, as if they were true. */
typedef struct qr_plan_sample {
    uint32_t row; /* whose logits */
    uint32_t entry;
    uint32_t sequence_index; /* 0..n-1 within the request: the stream of the random number */
    uint32_t position;       /* that the token will have: the counter of the random number */
    uint32_t output_index;   /* 0 for the first generated token */
    bool     mask_stops;     /* min_tokens not reached: eos and stop ids may not be chosen */
} qr_plan_sample;

/* Copy-on-write: the first `slots` token slots of block `from` go to block `to`, in all layers, before anything runs.
 */
typedef struct qr_plan_copy {
    uint32_t from, to, slots;
} qr_plan_copy;

/* One whole encoder input to run; its cross keys and values go to `blocks`. */
typedef struct qr_plan_encoder {
    uint32_t        sequence; /* record of the owner */
    uint32_t        token_count;
    const int32_t  *tokens; /* [token_count] */
    const uint32_t *blocks; /* [ceil(token_count / block_size)] */
} qr_plan_encoder;

typedef struct qr_plan {
    uint64_t         number; /* of the step, from 1 */
    uint32_t         rows, rows_prompt, rows_encoder;
    uint32_t         entry_count, sample_count, copy_count, encoder_count;
    uint32_t         preempted; /* sequences put back while planning */
    qr_plan_entry   *entries;
    qr_plan_sample  *samples;
    qr_plan_copy    *copies;
    qr_plan_encoder *encoders;
} qr_plan;

/* What sampling found for samples[i]. */
typedef struct qr_sample_result {
    int32_t        token;
    float          logprob;    /* of the token, log softmax of the raw logits */
    bool           failed;     /* the logits were not finite: the request ends with ERR_EXECUTION */
    const int32_t *candidates; /* beam search: [2 * beam_width] best tokens of the row, and their logprobs */
    const float   *candidate_logprobs;
} qr_sample_result;

#endif
