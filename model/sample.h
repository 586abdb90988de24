/* From logits to a token: masks, penalties, temperature, top-k, top-p, min-p, then one uniform number of
 * (seed, sequence index, position). Works on one row; the engine spreads rows over the team. */
#ifndef QR_SAMPLE_H
#define QR_SAMPLE_H

#include "base/memory.h"
#include "kernels/kernels.h"

#include "quire/hooks.h"
#include "quire/request.h"

typedef struct qr_sample_input {
    const float         *logits;      /* [vocab] raw; NULL where qr_sample_reads_logits() is false */
    qr_partial_lse       partial_lse; /* of them */
    const quire_request *request;     /* sampling, bias, masks, logprobs, beam_width, stop ids */
    const int32_t       *tokens;      /* [token_count] prompt and output so far, for penalties; with `given` one more */
    uint32_t             token_count, prompt_count;
    uint32_t             sequence_index, position; /* of the random number */
    uint32_t             index;                    /* of the token in the output */
    bool                 mask_stops;               /* eos and stop ids may not be chosen */
    bool                 given; /* tokens[position] is told, not chosen; the list is of prompt_top_logprobs */
    const int32_t       *eos;   /* [eos_count] */
    uint32_t             eos_count;
    const uint32_t      *mask; /* [ceil(vocab / 32)] bit t % 32 of word t / 32: t may be chosen; NULL: all may */
} qr_sample_input;

typedef struct qr_sample_output {
    int32_t  token;
    float    logprob;      /* of token, log softmax of the raw logits */
    bool     failed;       /* non-finite logits, or every token masked */
    uint32_t top_count;    /* what was asked for: logprobs, or 2 * beam_width */
    int32_t *top_tokens;   /* [capacity of the scratch] most likely first, ties by lower id */
    float   *top_logprobs; /* log softmax of the raw logits; for beams biased, penalised and masked afterwards. Of a
                            * beam's 2 * beam_width the second half has no ends; what nothing is left for is token 0
                            * with -INFINITY */
} qr_sample_output;

/* Per-thread scratch for a vocabulary and at most `top` listed tokens; allocated once. */
typedef struct qr_sampler qr_sampler;
quire_status              qr_sampler_create(const qr_kernels *kernels, uint32_t vocab, uint32_t top,
                                            const quire_allocator *allocator, qr_sampler **sampler_out, quire_error *error);
void                      qr_sampler_destroy(qr_sampler *sampler);
void qr_sampler_visit_memory(const qr_sampler *sampler, uint32_t node, qr_memory_visitor *visit, void *context);

/* Whether the row itself is needed, by sampling or by who asked for it: what is greedy with nothing to mask and no list
 * follows from the partial log-sum-exp alone. */
bool qr_sample_reads_logits(const quire_request *request, uint32_t index, bool mask_stops);

/* output->top_* point to caller memory. Thread: the sampler's. */
void qr_sample(qr_sampler *sampler, const qr_sample_input *input, qr_sample_output *output);

#endif
