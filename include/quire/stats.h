/* Counters since create. A snapshot is consistent in itself and costs the driver nothing. */
#ifndef QUIRE_STATS_H
#define QUIRE_STATS_H

#include "quire/engine.h"

typedef struct quire_stats {
    size_t size; /* sizeof(quire_stats), set by the caller */

    /* ---- steps ---- */
    uint64_t steps, step_ns;      /* planning and compute, idle time excluded */
    uint64_t failed_steps;        /* those that could not be run */
    uint64_t steps_drafts_paused; /* drafts did not pay (speculative_adaptive) */
    /* Steps in which nothing could be planned, so that the request first in order took its blocks from the others. */
    uint64_t forced_progress;
    uint64_t head_passes;   /* how often a later request was admitted before a waiting one that did not fit */
    uint64_t claims;        /* requests admitted with slots or blocks taken from running ones of lower priority */
    uint64_t decision_hash; /* running hash over all plans */

    /* ---- requests and sequences ---- */
    uint64_t requests_submitted, requests_refused, requests_finished; /* finished: also cancelled and failed ones */
    uint64_t finished_by[QUIRE_MAX_FINISHES];                         /* sequences, by quire_finish */
    uint64_t forks;                                                   /* sequences that began as another's copy */
    uint64_t preemptions, blocks_dropped;     /* preempted sequences, and the blocks they lost */
    uint64_t wait_ns[QUIRE_MAX_WAIT_REASONS]; /* of all sequences, by quire_wait_reason */

    /* ---- tokens ---- */
    uint64_t tokens_prompt;     /* prompt rows computed */
    uint64_t tokens_recomputed; /* of those, computed before a preemption already */
    uint64_t tokens_cached;     /* prompt tokens found in the prefix cache */
    uint64_t tokens_output;
    uint64_t tokens_encoder;          /* encoder tokens computed */
    uint64_t drafts, drafts_accepted; /* speculative decoding */

    /* ---- cache ---- */
    uint64_t prefix_queries, prefix_hits;      /* tokens looked up, and found */
    uint64_t encoder_runs, encoder_runs_saved; /* encoder inputs computed, and found */
    uint64_t copies;                           /* blocks copied on write */
    /* Runs of 8 adjacent blocks handed out, and emptied of cached blocks for that; blocks taken out of the run that was
     * reserved for a sequence, because no other was free. */
    uint64_t extents_taken, extents_evicted, reservation_thefts;

    /* ---- now ---- */
    uint32_t running, waiting, paused, queued_tokens;
    uint64_t blocks, blocks_used, blocks_cached, blocks_free;
    uint64_t cross_blocks_used; /* of blocks_used, holding encoder keys and values */
    /* mean run of adjacent blocks of running sequences; bytes of one layer */
    double contiguous_run_blocks, contiguous_run_bytes;

    /* ---- facts of the engine ---- */
    uint32_t threads, nodes, block_size, max_model_len, max_num_batched_tokens, max_num_queued_tokens;
    bool     batch_invariant; /* verified at start-up; false: see the log */
    uint64_t weight_bytes, kv_cache_bytes, scratch_bytes, kv_bytes_per_token;
    char     isa[16];            /* of the kernels in use */
    char     implementation[32]; /* of the projections, e.g. "brg:avx512_core_bf16", "own:avx2" */

    /* ---- now ---- */
    uint64_t local_blocks, local_blocks_used, local_blocks_cached; /* of local layers, where their blocks are others */
    uint64_t kv_used_bytes;                                        /* of kv_cache_bytes, in blocks that are used */

    /* ---- NUMA ---- */
    /* By the last quire_engine_check_memory() of all nodes; 0 before it. */
    uint64_t numa_pages_checked, numa_pages_misplaced;
    uint64_t kv_remote_bytes;    /* keys and values that a thread read from another node's memory */
    uint64_t blocks_spilled;     /* taken on another node than the sequence's home, which had none left */
    uint64_t prefix_hits_remote; /* of prefix_hits, tokens on another node than the sequence's home */
    uint64_t attention_helped;   /* shares of attention that a thread of another node took over */

    /* ---- several ranks ---- */
    uint32_t ranks, rank; /* weights, keys and scratch above are this rank's; 1 and 0 where it is alone */
    /* Since create: what this rank received of the others, in how many messages, and how long it waited in the network
     * for them, for the others to be ready included. */
    uint64_t network_bytes, network_messages, network_wait_ns;
} quire_stats;

/* Fills *stats up to stats->size bytes. Thread: any. */
QUIRE_API void quire_engine_stats(const quire_engine *engine, quire_stats *stats);

#endif
