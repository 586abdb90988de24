#ifndef QUIRE_STATS_H
#define QUIRE_STATS_H
#include "quire/engine.h"
typedef struct quire_stats {
    size_t size;
    uint64_t steps, step_ns;
    uint64_t failed_steps;
    uint64_t steps_drafts_paused;
    uint64_t forced_progress;
    uint64_t head_passes;
    uint64_t claims;
    uint64_t decision_hash;
    uint64_t requests_submitted, requests_refused, requests_finished;
    uint64_t finished_by[QUIRE_MAX_FINISHES];
    uint64_t forks;
    uint64_t preemptions, blocks_dropped;
    uint64_t wait_ns[QUIRE_MAX_WAIT_REASONS];
    uint64_t tokens_prompt;
    uint64_t tokens_recomputed;
    uint64_t tokens_cached;
    uint64_t tokens_output;
    uint64_t tokens_encoder;
    uint64_t drafts, drafts_accepted;
    uint64_t prefix_queries, prefix_hits;
    uint64_t encoder_runs, encoder_runs_saved;
    uint64_t copies;
    uint64_t extents_taken, extents_evicted, reservation_thefts;
    uint32_t running, waiting, paused, queued_tokens;
    uint64_t blocks, blocks_used, blocks_cached, blocks_free;
    uint64_t cross_blocks_used;
    double contiguous_run_blocks, contiguous_run_bytes;
    uint32_t threads, nodes, block_size, max_model_len, max_num_batched_tokens, max_num_queued_tokens;
    bool     batch_invariant;
    uint64_t weight_bytes, kv_cache_bytes, scratch_bytes, kv_bytes_per_token;
    char     isa[16];
    char     implementation[32];
    uint64_t local_blocks, local_blocks_used, local_blocks_cached;
    uint64_t kv_used_bytes;
    uint64_t numa_pages_checked, numa_pages_misplaced;
    uint64_t kv_remote_bytes;
    uint64_t blocks_spilled;
    uint64_t prefix_hits_remote;
    uint64_t attention_helped;
    uint32_t ranks, rank;
    uint64_t network_bytes, network_messages, network_wait_ns;
} quire_stats;
QUIRE_API void quire_engine_stats(const quire_engine *engine, quire_stats *stats);
#endif
