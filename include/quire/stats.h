/* Counters since create. A snapshot is consistent in itself and costs nothing to the driver. */
#ifndef QUIRE_STATS_H
#define QUIRE_STATS_H

#include "quire/engine.h"

typedef struct quire_stats {
    size_t   size;                                                    /* sizeof(quire_stats), set by the caller */
    uint64_t steps, step_ns;                                          /* planning and compute, idle time excluded */
    uint64_t requests_submitted, requests_refused, requests_finished; /* finished: cancelled and failed ones included */
    uint64_t finished_by[6];                                          /* by quire_finish, sequences */
    uint64_t preemptions, blocks_dropped;                             /* sequences put back; their blocks given away */
    uint64_t tokens_prompt;                                           /* prompt rows computed */
    uint64_t tokens_recomputed; /* of those, computed before a preemption already */
    uint64_t tokens_cached;     /* prompt tokens found in the prefix cache */
    uint64_t tokens_output;
    uint64_t tokens_encoder; /* encoder tokens computed */
    uint64_t encoder_runs, encoder_runs_saved;
    uint64_t prefix_queries, prefix_hits; /* tokens */
    uint64_t forks, copies;               /* sequences forked; blocks copied on write */
    uint64_t drafts, drafts_accepted;     /* tokens */
    uint64_t failed_steps, forced_progress, head_passes, claims;
    uint64_t blocks, blocks_used, blocks_cached, blocks_free;
    uint64_t cross_blocks_used; /* of blocks_used, holding encoder keys and values */
    uint64_t extents_taken, extents_evicted, reservation_thefts;
    uint32_t running, waiting, paused, queued_tokens;
    double   contiguous_run_bytes;        /* mean run of adjacent blocks of running sequences, one layer */
    uint64_t wait_ns[QUIRE_WAIT_REASONS]; /* all sequences */
    uint64_t decision_hash;               /* running hash over all plans */
    /* facts of the engine */
    uint32_t threads, nodes, block_size, max_model_len, max_num_batched_tokens;
    uint64_t weight_bytes, kv_cache_bytes, scratch_bytes, kv_bytes_per_token;
    bool     batch_invariant;       /* verified at start-up; false: see the log */
    char     isa[16];               /* of the kernels in use */
    char     implementation[32];    /* of the projections, e.g. "brg:avx512_core_bf16", "own:avx2" */
    double   contiguous_run_blocks; /* as contiguous_run_bytes, in blocks */
    uint64_t steps_drafts_paused;   /* speculative decoding is on, but did not pay (speculative_adaptive) */
    uint32_t max_num_queued_tokens; /* a fact of the engine, as max_num_batched_tokens */
} quire_stats;

/* Thread: any. */
QUIRE_API void quire_engine_stats(const quire_engine *engine, quire_stats *stats);

#endif
