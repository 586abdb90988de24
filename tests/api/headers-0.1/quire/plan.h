#ifndef QUIRE_PLAN_H
#define QUIRE_PLAN_H
#include <stdbool.h>
#include "quire/engine.h"
#include "quire/stats.h"
typedef struct quire_planner quire_planner;
#define QUIRE_NO_BLOCK UINT32_MAX
typedef struct quire_planner_model {
    size_t   size;
    uint32_t vocab_size;
    uint32_t max_model_len;
    uint32_t window;
    bool     encoder_decoder;
    int32_t  decoder_start_token_id;
    uint32_t eos_count;
    int32_t  eos_token_ids[QUIRE_MAX_EOS_IDS];
    uint32_t num_blocks;
    uint32_t block_size;
    uint32_t node_count;
    uint32_t encoder_feature_size;
    uint32_t local_window, num_local_blocks;
    uint32_t
        max_encoder_positions;
    uint32_t long_length;
} quire_planner_model;
typedef struct quire_plan_sequence {
    quire_request_id     id;
    const quire_request *request;
    uint32_t             sequence;
    uint32_t             row_start, row_count;
    uint32_t             position;
    uint32_t             drafts;
    const int32_t       *tokens;
    const uint32_t      *blocks;
    uint32_t             block_count;
    const uint32_t      *cross_blocks;
    uint32_t             cross_block_count;
    uint32_t             cross_length;
    uint32_t sample_start, sample_count;
    uint32_t node;
} quire_plan_sequence;
typedef struct quire_plan_sample {
    uint32_t row;
    uint32_t logits_row;
    uint32_t entry;
    uint32_t sequence;
    uint32_t position;
    uint32_t index;
    bool     mask_stops;
    bool     given;
} quire_plan_sample;
typedef struct quire_plan_copy {
    uint32_t from, to, slots;
} quire_plan_copy;
typedef struct quire_plan_encoder {
    quire_request_id id;
    const int32_t   *tokens;
    uint32_t         token_count;
    uint32_t         frame_count;
    const float     *features;
    const uint32_t  *blocks;
    uint32_t         block_count;
    uint32_t         node;
} quire_plan_encoder;
typedef struct quire_plan {
    size_t   size;
    uint64_t number;
    uint32_t freed_count, copy_count, encoder_count, sequence_count, sample_count;
    uint32_t rows;
    uint32_t rows_prompt;
    uint32_t rows_logits;
    uint32_t rows_encoder;
    const uint32_t *freed;
    const quire_plan_copy     *copies;
    const quire_plan_encoder  *encoders;
    const quire_plan_sequence *sequences;
    const quire_plan_sample   *samples;
    const int32_t             *tokens;
    const uint32_t            *positions;
    const uint64_t            *slots;
    const uint32_t            *logits_rows;
    uint32_t preempted;
    uint32_t running, waiting, paused;
    uint32_t blocks_used, blocks_cached;
    uint64_t kv_tokens, kv_pairs;
    uint64_t cross_tokens, cross_pairs;
    uint64_t encoder_pairs;
    const uint32_t *const *local_blocks;
    const quire_plan_copy *local_copies;
    const uint32_t        *local_freed;
    uint32_t               local_copy_count, local_freed_count;
    uint32_t               local_blocks_used, local_blocks_cached;
} quire_plan;
typedef struct quire_sampled {
    int32_t token;
    float   logprob;
    bool    failed;
    const int32_t *candidates;
    const float   *candidate_logprobs;
} quire_sampled;
typedef struct quire_kv_pool {
    size_t   size;
    uint32_t num_blocks;
    uint32_t block_size;
    uint64_t block_bytes;
    uint64_t num_local_blocks, local_block_bytes;
} quire_kv_pool;
QUIRE_API QUIRE_NODISCARD quire_status quire_kv_pool_plan(const quire_engine_options *options,
                                                          const quire_model_info *model, uint64_t available_bytes,
                                                          uint32_t node_count, quire_kv_pool *pool_out,
                                                          quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_create(const quire_engine_options *options,
                                                            const quire_planner_model  *model,
                                                            quire_planner **planner_out, quire_error *error);
QUIRE_API void quire_planner_destroy(quire_planner *planner);
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_submit(quire_planner *planner, const quire_request *request,
                                                            uint64_t now_ns, quire_request_id *id_out,
                                                            quire_error *error);
QUIRE_API quire_status quire_planner_cancel(quire_planner *planner, quire_request_id id, uint64_t now_ns);
QUIRE_API quire_status quire_planner_pause(quire_planner *planner, quire_request_id id, uint64_t now_ns);
QUIRE_API quire_status quire_planner_resume(quire_planner *planner, quire_request_id id, uint64_t now_ns);
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_plan(quire_planner *planner, uint64_t now_ns,
                                                          const quire_plan **plan_out, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_commit(quire_planner *planner, const quire_sampled *sampled,
                                                            uint32_t count, uint64_t now_ns, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_planner_commit_failed(quire_planner *planner, uint64_t now_ns,
                                                                   quire_error *error);
QUIRE_API void quire_planner_allow_drafts(quire_planner *planner, bool allowed);
QUIRE_API size_t quire_planner_poll(quire_planner *planner, quire_event *events, size_t capacity);
QUIRE_API quire_status quire_planner_explain(const quire_planner *planner, quire_request_id id, uint64_t now_ns,
                                             quire_explanation *explanation_out);
QUIRE_API void quire_planner_stats(const quire_planner *planner, quire_stats *stats);
QUIRE_API const char *quire_planner_check(const quire_planner *planner);
QUIRE_API size_t quire_planner_poll_cache_events(quire_planner *planner, quire_cache_event *events, int32_t *tokens,
                                                 size_t capacity);
QUIRE_API void   quire_planner_restart_cache_events(quire_planner *planner);
QUIRE_API void quire_planner_flush_cache(quire_planner *planner);
#endif
