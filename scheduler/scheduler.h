/* Decides which rows run in the next step and which blocks they may write. It reads no clock, draws no random number,
 * starts no thread, touches no KV byte and allocates nothing after creation: time is an argument, and the same calls
 * give the same decisions. Called by one thread. docs/SCHEDULER.md is its specification. */
#ifndef QR_SCHEDULER_H
#define QR_SCHEDULER_H

#include "base/memory.h"

#include "quire/plan.h"

typedef struct qr_scheduler qr_scheduler;

enum { QR_MAX_GIVEN_ROWS = 128 };

/* All values resolved: nothing here has a "0 means default" unless its line says so. */
typedef struct qr_scheduler_options {
    quire_policy                policy;
    uint64_t                    priority_ageing_ns; /* 0 = strict priority */
    uint32_t                    max_num_seqs;
    uint32_t                    max_num_batched_tokens;
    uint32_t                    max_num_encoder_input_tokens;
    uint32_t                    max_model_len;
    bool                        enable_chunked_prefill;
    uint32_t                    long_prefill_token_threshold; /* 0 = off */
    uint32_t                    max_num_partial_prefills, max_long_partial_prefills;
    bool                        scheduler_reserve_full_isl;
    quire_capacity_policy       capacity_policy;
    quire_preemption_mode       preemption_mode;
    float                       watermark;
    uint32_t                    max_head_passes; /* 0 = strict order */
    bool                        tenant_fairness;
    uint32_t                    max_num_tenants;
    const quire_tenant_options *tenants;       /* [tenant_count], copied */
    size_t                      tenant_stride; /* bytes from one to the next; 0 = sizeof(quire_tenant_options) */
    uint32_t                    tenant_count;
    uint32_t                    max_num_queued_reqs, max_num_queued_tokens;
    uint32_t                    num_speculative_tokens, prompt_lookup_max;
    uint32_t max_given_rows; /* of a step: their next token is the prompt's, and told; 0 = QR_MAX_GIVEN_ROWS */
    /* cache */
    uint32_t num_blocks, block_size, node_count;
    /* As in qr_cache_options, which has their defaults; borrowed until it is created. */
    const uint32_t *node_share, *node_threads, *node_distance;
    uint32_t        num_local_blocks; /* with local_window: qr_scheduler_local_blocks(), or more up to num_blocks */
    bool            enable_prefix_caching, enable_cross_sharing, extents;
    bool            zero_on_free; /* qr_scheduler_freed() tells what to overwrite */
    bool            cache_events; /* qr_scheduler_read_cache_events() tells what the prefix index has */
    uint64_t        hash_seed;    /* of the prefix index: picks buckets, and makes the hashes of cache events */
    uint32_t        hash_bits;    /* 64; fewer only in tests */
    /* model */
    bool     encoder_decoder;
    uint32_t vocab_size;
    uint32_t max_encoder_positions; /* longest encoder input the model can take; 0 = no limit of its own */
    uint32_t encoder_feature_size;  /* encoder inputs are frames of so many features; 0: they are tokens */
    uint32_t window;                /* sliding window in tokens, 0 = none */
    uint32_t local_window; /* of layers beside those, which have num_local_blocks of their own; 0: there are none */
    uint32_t long_length;  /* requests of more positions have other keys for the same tokens; 0 = none have */
    int32_t  decoder_start_token_id;
    uint32_t eos_count;
    int32_t  eos_token_ids[QUIRE_MAX_EOS_IDS];
    quire_allocator allocator;
} qr_scheduler_options;

static inline uint32_t qr_max_given_rows(const qr_scheduler_options *options)
{
    return options->max_given_rows > 0 ? options->max_given_rows : QR_MAX_GIVEN_ROWS;
}

/* The checks of create alone. */
quire_status qr_scheduler_options_check(const qr_scheduler_options *options, quire_error *error);
quire_status qr_scheduler_create(const qr_scheduler_options *options, qr_scheduler **scheduler_out, quire_error *error);
void         qr_scheduler_destroy(qr_scheduler *scheduler);
/* Shows its tables and the cache's; not what it has reserved and touches when it is used. */
void qr_scheduler_visit_memory(const qr_scheduler *scheduler, qr_memory_visitor *visit, void *context);
/* Blocks of running sequences, those of local layers too, on their home node and elsewhere. */
void   qr_scheduler_count_homes(const qr_scheduler *scheduler, uint64_t *home_out, uint64_t *away_out);
size_t qr_scheduler_record_bytes(const qr_scheduler *scheduler);   /* memory for each request it can hold */
size_t qr_scheduler_reserved_bytes(const qr_scheduler *scheduler); /* address space, in use as far as touched */

/* ---- a request's way in ---- */

/* A copy of its caller's size with the defaults resolved. Checks every field against one table, then feasibility;
 * ERR_INVALID, ERR_TOO_LONG. Arrays stay the caller's. Pure. Thread: any. */
quire_status qr_request_resolve(const qr_scheduler_options *options, const quire_request *request,
                                quire_request *resolved_out, quire_error *error);

/* The limits of the whole queue, in which so many sequences and tokens wait. ERR_FULL. Pure. Thread: any. */
quire_status qr_scheduler_check_queue(const qr_scheduler_options *options, const quire_request *resolved,
                                      uint64_t queued, uint64_t queued_tokens, quire_error *error);

/* Records for a resolved request, with a copy of it and its arrays, under an id that is unique and ascends; UINT32_MAX:
 * none are free. release gives them back unless the request has entered. Calls that name a request by its id, keep,
 * release and events_clear: one at a time. Thread: any. */
uint32_t qr_scheduler_keep(qr_scheduler *scheduler, const quire_request *resolved, quire_request_id id);
void     qr_scheduler_release(qr_scheduler *scheduler, uint32_t request);
/* The copy, from keep until it is released or, when it has ended, the events are cleared; NULL: there is none. */
const quire_request *qr_scheduler_kept(const qr_scheduler *scheduler, quire_request_id id);

/* What was kept enters the queue. `arrival_ns` orders requests and starts deadlines. ERR_FULL: a limit of its tenant.
 */
quire_status qr_scheduler_enter(qr_scheduler *scheduler, uint32_t request, uint64_t arrival_ns, quire_error *error);

/* All of it, one after the other. */
quire_status qr_scheduler_submit(qr_scheduler *scheduler, const quire_request *request, quire_request_id id,
                                 uint64_t arrival_ns, quire_error *error);

/* ---- after that ---- */

quire_status qr_scheduler_cancel(qr_scheduler *scheduler, quire_request_id id, uint64_t now_ns);
quire_status qr_scheduler_pause(qr_scheduler *scheduler, quire_request_id id, uint64_t now_ns); /* its reader is slow */
quire_status qr_scheduler_resume(qr_scheduler *scheduler, quire_request_id id, uint64_t now_ns);
void         qr_scheduler_fail(qr_scheduler *scheduler, quire_request_id id, quire_status status, uint64_t now_ns);

/* The next step, followed by exactly one commit or commit_failed; rows == 0 and rows_encoder == 0: nothing to do, and
 * commit need not be called. Planning itself may end requests (deadlines), so look at the events in any case. The plan
 * lists nothing in `freed`: see qr_scheduler_freed(). */
const quire_plan *qr_scheduler_plan(qr_scheduler *scheduler, uint64_t now_ns);
/* sampled[plan->sample_count], checked. */
void qr_scheduler_commit(qr_scheduler *scheduler, const quire_sampled *sampled, uint64_t now_ns);
void qr_scheduler_commit_failed(qr_scheduler *scheduler, uint64_t now_ns);

/* Whether the next plans may add drafts (num_speculative_tokens); true until told otherwise. */
void qr_scheduler_allow_drafts(qr_scheduler *scheduler, bool allowed);

/* Tokens and ends since the last clear, in order: at most qr_scheduler_event_capacity(). A FINISHED event's record is
 * reused after clear. The hypotheses of a beam search come all at its end and may be more than that: clear then puts
 * the next of them in place, so take events until the count is 0. */
typedef struct qr_scheduler_event {
    quire_request_id    id;
    void               *user_data;
    quire_event_kind    kind;
    uint32_t            sequence_index;
    int32_t             token;
    uint32_t            index; /* of the token */
    float               logprob;
    uint32_t            sample; /* of the plan it came from, for logits; UINT32_MAX: none */
    quire_finish        finish;
    quire_status        status;
    bool                last;
    quire_finish_detail detail; /* FINISHED */
} qr_scheduler_event;

const qr_scheduler_event *qr_scheduler_events(const qr_scheduler *scheduler, uint32_t *count_out);
void                      qr_scheduler_events_clear(qr_scheduler *scheduler);
uint32_t                  qr_scheduler_event_capacity(const qr_scheduler *scheduler);

quire_status qr_scheduler_explain(const qr_scheduler *scheduler, quire_request_id id, uint64_t now_ns,
                                  quire_explanation *explanation_out);

/* Fills the scheduler's and the cache's part of *stats. */
void qr_scheduler_stats(const qr_scheduler *scheduler, quire_stats *stats);
/* What the limits of the queue count: sequences that wait or are paused, tokens of their prompts and encoder inputs. */
void     qr_scheduler_queued(const qr_scheduler *scheduler, uint32_t *sequences_out, uint32_t *tokens_out);
uint64_t qr_scheduler_decision_hash(const qr_scheduler *scheduler);
bool     qr_scheduler_idle(const qr_scheduler *scheduler); /* nothing live */
uint32_t qr_scheduler_read_cache_events(qr_scheduler *scheduler, quire_cache_event *events, int32_t *tokens,
                                        uint32_t capacity); /* as qr_journal_read() */
void     qr_scheduler_restart_cache_events(qr_scheduler *scheduler);
void     qr_scheduler_flush_cache(qr_scheduler *scheduler); /* every CACHED block becomes FREE */

/* zero_on_free: blocks, or local blocks, whose content nobody may see any more, since the last clear. To be overwritten
 * after plan and before its copies and rows, which may use them again; then cleared. */
const uint32_t *qr_scheduler_freed(const qr_scheduler *scheduler, bool local, uint32_t *count_out);
void            qr_scheduler_freed_clear(qr_scheduler *scheduler);

/* Blocks with which one sequence of these lengths can always end (docs/SCHEDULER.md, Feasibility). */
uint32_t qr_scheduler_blocks_needed(const qr_scheduler_options *options, uint32_t prompt, uint32_t max_tokens,
                                    uint32_t encoder);

/* Local blocks with which `num_blocks` other blocks are never held up: what max_num_seqs windows hold at once, and what
 * admission leaves free; at most num_blocks, since a local block is nothing without the other. With local_window. */
uint32_t qr_scheduler_local_blocks(const qr_scheduler_options *options);

/* Walks everything: NULL, or the first violated rule as a sentence. */
const char *qr_scheduler_check(const qr_scheduler *scheduler);

/* Debug builds: the same after each plan and commit of an engine or planner; a violated rule aborts. */
#ifdef QR_DEBUG
void qr_scheduler_debug_check(const qr_scheduler *scheduler);
#else
static inline void qr_scheduler_debug_check(const qr_scheduler *scheduler) { (void)scheduler; }
#endif

#endif
