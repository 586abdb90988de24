/* What goes into an engine (requests) and what comes out (events). */
#ifndef QUIRE_REQUEST_H
#define QUIRE_REQUEST_H

#include "quire/status.h"
#include "quire/types.h"

typedef uint64_t quire_request_id; /* unique in an engine's lifetime; 0 is never used */

enum {
    QUIRE_MAX_STOP_IDS     = 64,
    QUIRE_MAX_LOGIT_BIAS   = 300,
    QUIRE_MAX_LISTED_IDS   = 1024, /* allowed and banned token ids */
    QUIRE_MAX_TENANT_NAME  = 64,
    QUIRE_MAX_CACHE_SALT   = 16,
    QUIRE_MAX_LOGPROBS     = 20,
    QUIRE_KEPT_PREEMPTIONS = 4, /* preemptions of a sequence whose times are kept */
};

/* Zero in every field is greedy decoding with no penalty. A token depends on (seed, sequence index, position) and the
 * logits only, never on what else is in the batch. 64 bytes, frozen. */
typedef struct quire_sampling {
    uint64_t seed;
    float    temperature;        /* 0..100; 0 = greedy */
    uint32_t top_k;              /* 0, or the vocabulary and more = off */
    float    top_p;              /* 0..1; 0 = off */
    float    min_p;              /* 0..1; 0 = off */
    float    repetition_penalty; /* 0.01..100; 0 or 1 = off; over prompt and output, as Hugging Face */
    float    presence_penalty;   /* -2..2; over the output, as OpenAI */
    float    frequency_penalty;  /* -2..2; over the output, as OpenAI */
    uint32_t reserved[7];        /* 0 */
} quire_sampling;

/* Frozen. */
typedef struct quire_logit_bias {
    int32_t token;
    float   bias; /* added to the raw logit; -100..100 */
} quire_logit_bias;

/* Bits. */
typedef enum quire_logits_wanted {
    QUIRE_LOGITS_NONE  = 0,
    QUIRE_LOGITS_FIRST = 1,
    QUIRE_LOGITS_LAST  = 2,
    QUIRE_LOGITS_ALL   = 4,
} quire_logits_wanted;

/* Hugging Face's early_stopping: False, True, "never" */
typedef enum quire_early_stopping {
    QUIRE_EARLY_STOPPING_FALSE = 0,
    QUIRE_EARLY_STOPPING_TRUE  = 1,
    QUIRE_EARLY_STOPPING_NEVER = 2,
} quire_early_stopping;

/* Everything is copied by quire_engine_submit(); the caller may free it when the call returns. Zero is the default of
 * every field but those that say "required". Values are checked before anything is queued: ERR_INVALID names field,
 * value and range. */
typedef struct quire_request {
    size_t size;      /* sizeof(quire_request), required */
    void  *user_data; /* comes back in every event of this request */

    /* ---- input ---- */
    const int32_t *prompt; /* [prompt_count] token ids, required; encoder-decoder: the decoder's start, may be NULL */
    uint32_t       prompt_count;
    uint32_t       encoder_count;
    const int32_t *encoder_input; /* [encoder_count] token ids; for encoder-decoder models only, and required there */
    /* [encoder_frames][encoder_feature_size] instead, where the model has such a size: finite floats, for Whisper
     * log-mel features of 10 ms each. Two frames make one of encoder_count positions, which is not to be given. */
    const float *encoder_features;
    uint32_t     encoder_frames;

    /* ---- where it ends ---- */
    uint32_t       max_tokens;       /* tokens to generate at most; 0 = what fits into max_model_len */
    uint32_t       min_tokens;       /* neither eos nor a stop id ends the sequence before this many */
    const int32_t *stop;             /* [stop_count] token ids that end generation and stay in the output */
    uint32_t       stop_count;       /* at most QUIRE_MAX_STOP_IDS */
    bool           ignore_eos;       /* the model's end-of-sequence ids do not stop */
    uint64_t       queue_timeout_ns; /* from submit until it first runs, at most a day; 0 = none */
    uint64_t       timeout_ns;       /* from submit until the end, at most a day; 0 = none */

    /* ---- how tokens are chosen ---- */
    quire_sampling          sampling;
    const quire_logit_bias *logit_bias;    /* [logit_bias_count] */
    const int32_t          *allowed;       /* [allowed_count] if given, no other token is ever sampled */
    const int32_t          *banned;        /* [banned_count] never sampled */
    const int32_t          *first_banned;  /* [first_banned_count] not sampled as the first token */
    const int32_t          *first_allowed; /* [first_allowed_count] if given, the first token is one of these */
    const int32_t          *last_allowed;  /* [last_allowed_count] if given, token number max_tokens is one of these */
    uint32_t                logit_bias_count;            /* at most QUIRE_MAX_LOGIT_BIAS */
    uint32_t                allowed_count, banned_count; /* at most QUIRE_MAX_LISTED_IDS each */
    /* At most QUIRE_MAX_STOP_IDS each. first_allowed and last_allowed override every other restriction; a beam search
     * scores a token that they force with log probability 0. */
    uint32_t             first_banned_count, first_allowed_count, last_allowed_count;
    bool                 masked;         /* the engine's mask hook says for each token which ids are allowed */
    uint32_t             n;              /* sequences to generate from this prompt; 0 = 1 */
    uint32_t             beam_width;     /* 0 or 1 = none; excludes sampling; n of its hypotheses are returned */
    float                length_penalty; /* beam search; score = sum of logprobs / length^penalty; 0 is 0 */
    quire_early_stopping early_stopping;

    /* ---- what comes with each token ---- */
    uint32_t logprobs; /* the K most likely tokens and their log probabilities; 0..QUIRE_MAX_LOGPROBS */
    uint32_t logits;   /* quire_logits_wanted bits: raw logits come with those tokens */

    /* ---- whose it is ---- */
    int32_t     priority;                  /* -1000..1000; lower runs first under QUIRE_POLICY_PRIORITY, as in vLLM */
    bool        skip_reading_prefix_cache; /* the prompt is computed, not looked up */
    bool        skip_writing_prefix_cache; /* its blocks are not kept for others */
    const char *tenant; /* at most QUIRE_MAX_TENANT_NAME bytes, NULL = ""; prefix blocks are shared within a tenant */
    const char *cache_salt; /* at most QUIRE_MAX_CACHE_SALT bytes, NULL = none; as tenant */

    /* ---- what comes with the prompt ---- */
    uint32_t prompt_top_logprobs; /* as `logprobs`, of each token that prompt_logprobs gives; 0..QUIRE_MAX_LOGPROBS */
    bool     prompt_logprobs;     /* each token of the prompt but the first comes as a PROMPT event, with the log
                                   * probability that the model gave it; implies skip_reading_prefix_cache; not with
                                   * beam search. A step tells at most 128 tokens of prompts, so without chunked prefill
                                   * a prompt may have no more */
    uint8_t reserved[3];          /* 0 */
} quire_request;

/* A token about to be chosen, as the mask hook sees it. Valid during the call. */
typedef struct quire_mask_row {
    size_t           size; /* as this library knows it */
    quire_request_id request;
    void            *user_data;
    uint32_t         sequence; /* 0..n-1; the beams of a search swap theirs, so judge those by their tokens */
    uint32_t         vocab_size;
    const int32_t   *tokens;       /* [token_count] prompt, output, then drafts */
    uint32_t         token_count;  /* the position that the chosen token will have */
    uint32_t         prompt_count; /* of tokens */
    uint32_t         drafts;       /* of tokens, the last so many are guesses which this step may reject */
    const float     *logits;       /* [vocab_size] raw */
} quire_mask_row;

/* Structured output: `fill` says which tokens may follow, one bit each, token t at bit t % 32 of allowed[t / 32]. All
 * bits are set when it is called; it clears those that are not allowed. What allowed, banned and min_tokens of the
 * request forbid stays forbidden. If no token is left, the request ends with ERR_EXECUTION.
 *
 * Called during step, by the compute threads: at the same time for different sequences, one after the other in
 * ascending position for the tokens of one sequence. With drafts a position may be asked for again in a later step,
 * with other tokens before it; otherwise each is asked for once, preemption or not. A mask that depends on the tokens
 * alone gives the same output in every batch, with drafts or without. It must not call the engine, block, or end the
 * thread. Frozen. */
typedef struct quire_mask_hook {
    void *context;
    void (*fill)(void *context, const quire_mask_row *row, uint32_t *allowed); /* NULL: no hook */
} quire_mask_hook;

typedef enum quire_event_kind {
    QUIRE_EVENT_TOKEN    = 1,
    QUIRE_EVENT_FINISHED = 2, /* the last event of one sequence of a request; of the request when `last` is set */
    QUIRE_EVENT_PROMPT   = 3, /* a token of the prompt, asked for by prompt_logprobs; before any TOKEN */
} quire_event_kind;

typedef enum quire_finish {
    QUIRE_FINISH_NONE      = 0,
    QUIRE_FINISH_STOP      = 1,
    QUIRE_FINISH_LENGTH    = 2,
    QUIRE_FINISH_CANCELLED = 3,
    QUIRE_FINISH_ERROR     = 4, /* see status */
    QUIRE_FINISH_TIMEOUT   = 5, /* queue_timeout_ns or timeout_ns; it ends with what it has */
} quire_finish;

typedef enum quire_cache_event_kind {
    QUIRE_CACHE_STORED  = 1, /* a full block can be found by its content */
    QUIRE_CACHE_REMOVED = 2, /* no longer */
    QUIRE_CACHE_CLEARED = 3, /* forget all blocks: those that are there come anew */
} quire_cache_event_kind;

/* A change of what the prefix cache can find, for a router that sends requests where their prefix is. Frozen. */
typedef struct quire_cache_event {
    uint64_t block_hash;                /* STORED, REMOVED: names the block from the one to the other. Blocks of other
                                         * content, tenant or salt never have it, nor those of another engine */
    uint64_t               parent_hash; /* STORED: of the block before it in its sequence; 0: it is the first */
    quire_cache_event_kind kind;
    uint32_t               reserved[3];
} quire_cache_event;

enum { QUIRE_MAX_FINISHES = 16 }; /* room in arrays by quire_finish */

/* What a request asked to see of a token's distribution. */
typedef struct quire_token_detail {
    size_t         size;         /* as this library knows it */
    const float   *logits;       /* [vocab_size] raw, before penalties, bias and masks; NULL if not asked for */
    uint32_t       top_count;    /* of log softmax(logits) */
    const int32_t *top_tokens;   /* [top_count] most likely first, ties by lower id */
    const float   *top_logprobs; /* [top_count] */
} quire_token_detail;

/* From a preemption until the sequence was planned again, or ended. Monotonic clock. Frozen. */
typedef struct quire_preemption_interval {
    uint64_t from_ns, to_ns;
} quire_preemption_interval;

/* Of one sequence, at its end. Times on the monotonic clock. */
typedef struct quire_finish_detail {
    size_t                    size; /* as this library knows it */
    uint32_t                  prompt_tokens, encoder_tokens, output_tokens;
    uint32_t                  cached_tokens;     /* of the prompt, found in the prefix cache at the first admission */
    uint32_t                  recomputed_tokens; /* rows that preemption made compute again */
    uint32_t                  drafts, drafts_accepted; /* speculative decoding, tokens */
    uint32_t                  preemptions;
    bool                      encoder_shared; /* the cross-attention blocks were another request's */
    float                     score;          /* beam search: the hypothesis' score */
    uint64_t                  submit_ns, first_planned_ns, prompt_done_ns, first_token_ns, finish_ns; /* 0 = never */
    uint64_t                  wait_ns[QUIRE_MAX_WAIT_REASONS]; /* by quire_wait_reason; sums to finish_ns - submit_ns */
    quire_preemption_interval preemption_intervals[QUIRE_KEPT_PREEMPTIONS]; /* the first of `preemptions` */
} quire_finish_detail;

/* 64 bytes, frozen; what is new comes in the details. */
typedef struct quire_event {
    quire_request_id request;
    void            *user_data;
    uint64_t         time_ns; /* monotonic clock, after the step that chose the token was committed */
    const void
        *detail; /* TOKEN, PROMPT: quire_token_detail or NULL; FINISHED: quire_finish_detail. Until the next poll */
    quire_event_kind kind;
    uint32_t         sequence; /* 0..n-1; beam search: rank of the hypothesis */
    int32_t          token;    /* TOKEN, PROMPT */
    uint32_t         index;    /* TOKEN: 0 for the first generated token of its sequence; PROMPT: place in the prompt */
    float            logprob;  /* TOKEN, PROMPT: of the token, log softmax of the raw logits */
    quire_finish     finish;   /* FINISHED */
    quire_status     status;   /* FINISHED: why, if finish is QUIRE_FINISH_ERROR; else QUIRE_OK */
    bool             last;     /* FINISHED: no event of this request follows */
    uint8_t          reserved[3];
} quire_event;

#endif
