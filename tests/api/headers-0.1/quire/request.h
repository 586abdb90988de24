#ifndef QUIRE_REQUEST_H
#define QUIRE_REQUEST_H
#include "quire/status.h"
#include "quire/types.h"
typedef uint64_t quire_request_id;
enum {
    QUIRE_MAX_STOP_IDS     = 64,
    QUIRE_MAX_LOGIT_BIAS   = 300,
    QUIRE_MAX_LISTED_IDS   = 1024,
    QUIRE_MAX_TENANT_NAME  = 64,
    QUIRE_MAX_CACHE_SALT   = 16,
    QUIRE_MAX_LOGPROBS     = 20,
    QUIRE_KEPT_PREEMPTIONS = 4,
};
typedef struct quire_sampling {
    uint64_t seed;
    float    temperature;
    uint32_t top_k;
    float    top_p;
    float    min_p;
    float    repetition_penalty;
    float    presence_penalty;
    float    frequency_penalty;
    uint32_t reserved[7];
} quire_sampling;
typedef struct quire_logit_bias {
    int32_t token;
    float   bias;
} quire_logit_bias;
typedef enum quire_logits_wanted {
    QUIRE_LOGITS_NONE  = 0,
    QUIRE_LOGITS_FIRST = 1,
    QUIRE_LOGITS_LAST  = 2,
    QUIRE_LOGITS_ALL   = 4,
} quire_logits_wanted;
typedef enum quire_early_stopping {
    QUIRE_EARLY_STOPPING_FALSE = 0,
    QUIRE_EARLY_STOPPING_TRUE  = 1,
    QUIRE_EARLY_STOPPING_NEVER = 2,
} quire_early_stopping;
typedef struct quire_request {
    size_t size;
    void  *user_data;
    const int32_t *prompt;
    uint32_t       prompt_count;
    uint32_t       encoder_count;
    const int32_t *encoder_input;
    const float *encoder_features;
    uint32_t     encoder_frames;
    uint32_t       max_tokens;
    uint32_t       min_tokens;
    const int32_t *stop;
    uint32_t       stop_count;
    bool           ignore_eos;
    uint64_t       queue_timeout_ns;
    uint64_t       timeout_ns;
    quire_sampling          sampling;
    const quire_logit_bias *logit_bias;
    const int32_t          *allowed;
    const int32_t          *banned;
    const int32_t          *first_banned;
    const int32_t          *first_allowed;
    const int32_t          *last_allowed;
    uint32_t                logit_bias_count;
    uint32_t                allowed_count, banned_count;
    uint32_t             first_banned_count, first_allowed_count, last_allowed_count;
    bool                 masked;
    uint32_t             n;
    uint32_t             beam_width;
    float                length_penalty;
    quire_early_stopping early_stopping;
    uint32_t logprobs;
    uint32_t logits;
    int32_t     priority;
    bool        skip_reading_prefix_cache;
    bool        skip_writing_prefix_cache;
    const char *tenant;
    const char *cache_salt;
    uint32_t prompt_top_logprobs;
    bool     prompt_logprobs;
    uint8_t reserved[3];
} quire_request;
typedef struct quire_mask_row {
    size_t           size;
    quire_request_id request;
    void            *user_data;
    uint32_t         sequence;
    uint32_t         vocab_size;
    const int32_t   *tokens;
    uint32_t         token_count;
    uint32_t         prompt_count;
    uint32_t         drafts;
    const float     *logits;
} quire_mask_row;
typedef struct quire_mask_hook {
    void *context;
    void (*fill)(void *context, const quire_mask_row *row, uint32_t *allowed);
} quire_mask_hook;
typedef enum quire_event_kind {
    QUIRE_EVENT_TOKEN    = 1,
    QUIRE_EVENT_FINISHED = 2,
    QUIRE_EVENT_PROMPT   = 3,
} quire_event_kind;
typedef enum quire_finish {
    QUIRE_FINISH_NONE      = 0,
    QUIRE_FINISH_STOP      = 1,
    QUIRE_FINISH_LENGTH    = 2,
    QUIRE_FINISH_CANCELLED = 3,
    QUIRE_FINISH_ERROR     = 4,
    QUIRE_FINISH_TIMEOUT   = 5,
} quire_finish;
typedef enum quire_cache_event_kind {
    QUIRE_CACHE_STORED  = 1,
    QUIRE_CACHE_REMOVED = 2,
    QUIRE_CACHE_CLEARED = 3,
} quire_cache_event_kind;
typedef struct quire_cache_event {
    uint64_t block_hash;
    uint64_t               parent_hash;
    quire_cache_event_kind kind;
    uint32_t               reserved[3];
} quire_cache_event;
enum { QUIRE_MAX_FINISHES = 16 };
typedef struct quire_token_detail {
    size_t         size;
    const float   *logits;
    uint32_t       top_count;
    const int32_t *top_tokens;
    const float   *top_logprobs;
} quire_token_detail;
typedef struct quire_preemption_interval {
    uint64_t from_ns, to_ns;
} quire_preemption_interval;
typedef struct quire_finish_detail {
    size_t                    size;
    uint32_t                  prompt_tokens, encoder_tokens, output_tokens;
    uint32_t                  cached_tokens;
    uint32_t                  recomputed_tokens;
    uint32_t                  drafts, drafts_accepted;
    uint32_t                  preemptions;
    bool                      encoder_shared;
    float                     score;
    uint64_t                  submit_ns, first_planned_ns, prompt_done_ns, first_token_ns, finish_ns;
    uint64_t                  wait_ns[QUIRE_MAX_WAIT_REASONS];
    quire_preemption_interval preemption_intervals[QUIRE_KEPT_PREEMPTIONS];
} quire_finish_detail;
typedef struct quire_event {
    quire_request_id request;
    void            *user_data;
    uint64_t         time_ns;
    const void
        *detail;
    quire_event_kind kind;
    uint32_t         sequence;
    int32_t          token;
    uint32_t         index;
    float            logprob;
    quire_finish     finish;
    quire_status     status;
    bool             last;
    uint8_t          reserved[3];
} quire_event;
#endif
