/* The second level: scheduler and KV cache for a host that brings its own model, or its own clock.
 *
 * A planner decides, as an engine does and with the same code, which tokens of which sequences run next and where their
 * keys and values live; it runs nothing, reads no clock and knows blocks by number only. The host repeats:
 *
 *   quire_planner_plan(planner, now, &plan, NULL);        what to run: ragged rows, block tables, slots, samples
 *   ... plan->copies, then plan->encoders, then the rows ...
 *   quire_planner_commit(planner, sampled, plan->sample_count, now, NULL);    one token for each of plan->samples
 *   while (quire_planner_poll(planner, &event, 1) == 1) ...                   tokens and ends, as from an engine
 *
 * Time is an argument, in ns from any origin: the same calls give the same plans, on a real clock or a virtual one. A
 * time smaller than an earlier one counts as that one.
 *
 * Memory. Everything is allocated in create. Threads. Every function is to be called by one thread at a time. */
#ifndef QUIRE_PLAN_H
#define QUIRE_PLAN_H

#include <stdbool.h>

#include "quire/engine.h"
#include "quire/stats.h"

typedef struct quire_planner quire_planner;

#define QUIRE_NO_BLOCK UINT32_MAX /* in a block table: left behind by a sliding window */

/* What the planner must know of the host's model and of its KV memory. */
typedef struct quire_planner_model {
    size_t   size;                   /* sizeof(quire_planner_model) */
    uint32_t vocab_size;             /* at least 1 */
    uint32_t max_model_len;          /* prompt + output tokens the model can take; 0 = no limit of its own */
    uint32_t window;                 /* sliding window that all layers have, in tokens; 0 = none */
    bool     encoder_decoder;        /* requests bring an encoder input, and cross blocks hold its K and V */
    int32_t  decoder_start_token_id; /* encoder-decoder: of requests without a prompt */
    uint32_t eos_count;              /* at most QUIRE_MAX_EOS_IDS */
    int32_t  eos_token_ids[QUIRE_MAX_EOS_IDS];
    uint32_t num_blocks;           /* KV blocks, numbered from 0; 0 = the options' num_kv_blocks */
    uint32_t block_size;           /* tokens per block, a power of two up to 65536; 0 = the options' */
    uint32_t node_count;           /* NUMA nodes that the blocks are dealt to; 0 = 1 */
    uint32_t encoder_feature_size; /* encoder inputs are frames of so many features; 0: they are tokens */
    /* Of a decoder without `window` some of whose layers, the local ones, have one: theirs, in tokens; 0 = there are
     * none. Their keys and values lie in blocks of their own, numbered from 0; 0 = as many as can be in use
     * at once, the fewest that are allowed, at most num_blocks. */
    uint32_t local_window, num_local_blocks;
    uint32_t
        max_encoder_positions; /* encoder-decoder: positions of an encoder input at most; 0 = no limit of its own */
    uint32_t long_length;      /* as in quire_model_info; the prefix cache keeps longer requests apart */
} quire_planner_model;

/* Rows of one sequence. Everything pointed to is the planner's and valid until commit. Frozen, as all elements of a
 * plan: what is new comes as an array of its own. */
typedef struct quire_plan_sequence {
    quire_request_id     id;
    const quire_request *request;  /* the planner's copy, defaults resolved: sampling, user_data, ... */
    uint32_t             sequence; /* which one of the request: 0..n-1, or the beam */
    uint32_t             row_start, row_count;
    uint32_t             position; /* of the first row; the rows' K and V go to positions [position, + row_count) */
    uint32_t             drafts;   /* of the rows, the last so many hold unverified tokens (speculative decoding) */
    const int32_t       *tokens;   /* [position + row_count] the sequence so far, drafts last */
    const uint32_t      *blocks;   /* [block_count] position p lies in blocks[p / block_size]; QUIRE_NO_BLOCK */
    uint32_t             block_count;
    const uint32_t      *cross_blocks; /* encoder-decoder: [cross_block_count] the same for encoder positions */
    uint32_t             cross_block_count;
    uint32_t             cross_length;   /* encoder tokens */
    uint32_t sample_start, sample_count; /* into samples[]; given ones first; else none: an unfinished prompt */
    uint32_t node;                       /* whose blocks it prefers */
} quire_plan_sequence;

/* One token to choose from the logits of one row; in row order. A request with n > 1 asks for its n first tokens from
 * one row, a beam search for one result per beam, and a draft is judged by the sample of the row before it. */
typedef struct quire_plan_sample {
    uint32_t row;
    uint32_t logits_row; /* index into logits_rows[]: logits_rows[logits_row] == row */
    uint32_t entry;      /* index into sequences[] */
    uint32_t sequence;   /* 0..n-1: with `position` the stream and counter of a reproducible random number */
    uint32_t position;   /* that the token will have; penalties look at tokens [0, position), drafts among them */
    uint32_t index;      /* 0 for the first generated token */
    bool     mask_stops; /* min_tokens is not reached: neither an eos id nor a stop id of the request may be chosen */
    bool     given;      /* nothing to choose: it is the prompt's token at `position`, only its logprob is wanted */
} quire_plan_sample;

/* Copy-on-write: the first `slots` token slots of block `from` go to block `to`, in all layers that it has. */
typedef struct quire_plan_copy {
    uint32_t from, to, slots;
} quire_plan_copy;

/* One whole encoder input to run; its cross K and V go to `blocks`. */
typedef struct quire_plan_encoder {
    quire_request_id id;
    const int32_t   *tokens; /* [token_count]; NULL where the model reads features */
    uint32_t         token_count;
    uint32_t         frame_count;
    const float     *features; /* [frame_count][encoder_feature_size], or NULL */
    const uint32_t  *blocks;   /* [block_count] */
    uint32_t         block_count;
    uint32_t         node;
} quire_plan_encoder;

/* One step, valid until its commit. */
typedef struct quire_plan {
    size_t   size;   /* as this library knows it */
    uint64_t number; /* from 1 */

    uint32_t freed_count, copy_count, encoder_count, sequence_count, sample_count;
    uint32_t rows;         /* in all; 0, and rows_encoder 0: there is nothing to run and nothing to commit */
    uint32_t rows_prompt;  /* of rows, in unfinished or just finished prompts */
    uint32_t rows_logits;  /* of rows, with at least one sample */
    uint32_t rows_encoder; /* encoder tokens */

    const uint32_t *freed;                /* [freed_count] zero_on_free: blocks to overwrite before all else; there may
                                           * be some though there is nothing to run */
    const quire_plan_copy     *copies;    /* [copy_count] to be done first */
    const quire_plan_encoder  *encoders;  /* [encoder_count] to be run before the rows */
    const quire_plan_sequence *sequences; /* [sequence_count] in row order, no gaps */
    const quire_plan_sample   *samples;   /* [sample_count] */
    const int32_t             *tokens;    /* [rows] */
    const uint32_t            *positions; /* [rows] */
    const uint64_t            *slots;     /* [rows] block * block_size + offset: where the row's K and V go */
    const uint32_t            *logits_rows; /* [rows_logits] rows whose logits are wanted, ascending */

    /* after planning */
    uint32_t preempted; /* sequences put back by it */
    uint32_t running, waiting, paused;
    uint32_t blocks_used, blocks_cached;
    /* as in quire_step */
    uint64_t kv_tokens, kv_pairs;
    uint64_t cross_tokens, cross_pairs;
    uint64_t encoder_pairs;

    /* with local layers, whose blocks are others; else NULL and 0 */
    const uint32_t *const *local_blocks; /* [sequence_count] of each, as its `blocks`, and as many */
    const quire_plan_copy *local_copies; /* [local_copy_count] as `copies` */
    const uint32_t        *local_freed;  /* [local_freed_count] as `freed` */
    uint32_t               local_copy_count, local_freed_count;
    uint32_t               local_blocks_used, local_blocks_cached;
} quire_plan;

/* The host's answer for samples[i]. */
typedef struct quire_sampled {
    int32_t token;   /* not read of a `given` sample */
    float   logprob; /* comes back in the event */
    bool    failed;  /* its logits were unusable; the request ends with ERR_EXECUTION */
    /* Beam search, else NULL: [2 * beam_width] tokens of the row, best first, and their log probabilities: the best
     * beam_width, then the best others that do not end the sequence; no token twice. -INFINITY: none is left. */
    const int32_t *candidates;
    const float   *candidate_logprobs;
} quire_sampled;

/* The KV cache of an engine. */
typedef struct quire_kv_pool {
    size_t   size; /* sizeof(quire_kv_pool), set by the caller */
    uint32_t num_blocks;
    uint32_t block_size;  /* tokens */
    uint64_t block_bytes; /* of the keys and values of one block, in all layers, or all but the local ones */
    /* Where some layers have a window and others see everything: blocks of the first, the local ones; else 0. */
    uint64_t num_local_blocks, local_block_bytes;
} quire_kv_pool;

/* The KV cache that quire_engine_create() makes of these options for this model, where `available_bytes` are left to
 * the process (UINT64_MAX: a machine that is not this one has as much as the options say) and its threads are on
 * `node_count` NUMA nodes (0 = 1). Takes no memory. ERR_INVALID: of the options; more than is available; less than one
 * block. */
QUIRE_API QUIRE_NODISCARD quire_status quire_kv_pool_plan(const quire_engine_options *options,
                                                          const quire_model_info *model, uint64_t available_bytes,
                                                          uint32_t node_count, quire_kv_pool *pool_out,
                                                          quire_error *error);

/* `options`: those of an engine; [scheduler], num_kv_blocks, block_size, enable_prefix_caching, enable_cross_sharing,
 * extents, zero_on_free, cache_events, the speculative ones, max_model_len and allocator count. Copies both.
 * ERR_INVALID, ERR_NO_MEMORY. */
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_create(const quire_engine_options *options,
                                                            const quire_planner_model  *model,
                                                            quire_planner **planner_out, quire_error *error);

/* Drops unfinished requests without events. NULL is allowed. */
QUIRE_API void quire_planner_destroy(quire_planner *planner);

/* As quire_engine_submit(). `now_ns` is the arrival: it orders and starts timeouts. ERR_INVALID also for
 * request->logits, which are the host's own. */
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_submit(quire_planner *planner, const quire_request *request,
                                                            uint64_t now_ns, quire_request_id *id_out,
                                                            quire_error *error);

/* Ends a request early, also between plan and commit; its blocks are then kept until commit. ERR_NOT_FOUND. */
QUIRE_API quire_status quire_planner_cancel(quire_planner *planner, quire_request_id id, uint64_t now_ns);

/* pause: the request gives up its place in the batch, as for a slow reader, and keeps its blocks until others need
 * them. resume: it may be scheduled again. ERR_NOT_FOUND: unknown, or ended. */
QUIRE_API quire_status quire_planner_pause(quire_planner *planner, quire_request_id id, uint64_t now_ns);
QUIRE_API quire_status quire_planner_resume(quire_planner *planner, quire_request_id id, uint64_t now_ns);

/* The next step. ERR_FULL: poll until it returns 0 first. ERR_INVALID: the last plan is not committed yet. On an error
 * *plan_out is NULL. Timeouts may end requests, so poll even when there is nothing to run. */
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_plan(quire_planner *planner, uint64_t now_ns,
                                                          const quire_plan **plan_out, quire_error *error);

/* The step has run: its tokens count, full blocks become findable, ended sequences give their blocks back. `count` must
 * be the plan's sample_count. ERR_INVALID names the sample and changes nothing: commit again, or commit_failed. */
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_commit(quire_planner *planner, const quire_sampled *sampled,
                                                            uint32_t count, uint64_t now_ns, quire_error *error);

/* The step could not be run: nothing of it counts. The planner runs its members in halves until the one that makes
 * steps fail is alone; that one ends with ERR_EXECUTION. */
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_commit_failed(quire_planner *planner, uint64_t now_ns,
                                                                   quire_error *error);

/* Whether the next plans may add drafts; true until told otherwise. The host knows whether its steps are bound by
 * arithmetic, so that more rows cost more time. */
QUIRE_API void quire_planner_allow_drafts(quire_planner *planner, bool allowed);

/* Moves up to `capacity` events, oldest first. FINISHED events have a quire_finish_detail, valid until the next call
 * other than stats and explain; TOKEN events have none. */
QUIRE_API size_t quire_planner_poll(quire_planner *planner, quire_event *events, size_t capacity);

/* As quire_engine_explain(), at the time given. */
QUIRE_API quire_status quire_planner_explain(const quire_planner *planner, quire_request_id id, uint64_t now_ns,
                                             quire_explanation *explanation_out);

/* The counters of scheduler and cache; those of time, threads and bytes are 0. */
QUIRE_API void quire_planner_stats(const quire_planner *planner, quire_stats *stats);

/* As quire_engine_check(). */
QUIRE_API const char *quire_planner_check(const quire_planner *planner);

/* As those of an engine, at any time between two calls; the hashes are the same in each run. */
QUIRE_API size_t quire_planner_poll_cache_events(quire_planner *planner, quire_cache_event *events, int32_t *tokens,
                                                 size_t capacity);
QUIRE_API void   quire_planner_restart_cache_events(quire_planner *planner);

/* Forgets every cached block that no request uses. */
QUIRE_API void quire_planner_flush_cache(quire_planner *planner);

#endif
