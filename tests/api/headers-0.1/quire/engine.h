#ifndef QUIRE_ENGINE_H
#define QUIRE_ENGINE_H
#include "quire/model.h"
#include "quire/options.h"
#include "quire/request.h"
typedef struct quire_engine quire_engine;
typedef struct quire_step {
    size_t   size;
    uint64_t step;
    uint64_t start_ns;
    uint32_t sequences;
    uint32_t rows;
    uint32_t rows_prompt;
    uint32_t rows_logits;
    uint32_t rows_encoder;
    uint32_t preempted;
    uint32_t running, waiting;
    uint32_t blocks_used, blocks_cached;
    uint64_t plan_ns, forward_ns, sample_ns, commit_ns;
    uint64_t projection_ns, attention_ns, logits_ns, rowwise_ns, encoder_ns, barrier_ns;
    float    imbalance;
    uint64_t weight_bytes, kv_bytes, flops;
    uint64_t projection_bytes, projection_flops, attention_flops, logits_bytes, logits_flops;
    uint64_t encoder_weight_bytes, encoder_kv_bytes, encoder_projection_flops, encoder_attention_flops;
    uint64_t kv_tokens, kv_pairs, cross_tokens, cross_pairs, encoder_pairs;
    uint64_t wide_flops, encoder_wide_flops;
    uint64_t kv_used_bytes;
    uint64_t network_bytes, network_messages, network_ns, network_wait_ns;
} quire_step;
typedef struct quire_explanation {
    size_t            size;
    quire_wait_reason reason;
    uint32_t          missing_blocks;
    uint64_t          wait_ns[QUIRE_MAX_WAIT_REASONS];
} quire_explanation;
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_create(const quire_engine_options *options, quire_model *model,
                                                           quire_engine **engine_out, quire_error *error);
QUIRE_API void quire_engine_destroy(quire_engine *engine);
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_submit(quire_engine *engine, const quire_request *request,
                                                           quire_request_id *id_out, quire_error *error);
QUIRE_API quire_status quire_engine_cancel(quire_engine *engine, quire_request_id id);
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_step(quire_engine *engine, quire_step *step_out);
QUIRE_API size_t quire_engine_stages(const quire_engine *engine, uint32_t thread, quire_stage *stages, size_t capacity,
                                     uint64_t *dropped_out);
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_run(quire_engine *engine);
QUIRE_API void quire_engine_stop(quire_engine *engine);
QUIRE_API size_t quire_engine_poll(quire_engine *engine, quire_event *events, size_t capacity);
QUIRE_API size_t quire_engine_wait(quire_engine *engine, quire_event *events, size_t capacity, uint64_t timeout_ns);
QUIRE_API int quire_engine_event_fd(const quire_engine *engine);
QUIRE_API quire_status quire_engine_explain(const quire_engine *engine, quire_request_id id,
                                            quire_explanation *explanation_out);
QUIRE_API const char *quire_engine_check(const quire_engine *engine);
typedef struct quire_memory_check {
    size_t      size;
    uint64_t    page_bytes;
    quire_pages pages[QUIRE_MAX_MEMORIES];
    uint64_t blocks_home, blocks_away;
} quire_memory_check;
#define QUIRE_ALL_NODES UINT32_MAX
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_check_memory(quire_engine *engine, uint32_t node,
                                                                 quire_memory_check *check_out, quire_error *error);
QUIRE_API size_t quire_engine_poll_cache_events(quire_engine *engine, quire_cache_event *events, int32_t *tokens,
                                                size_t capacity);
QUIRE_API void quire_engine_restart_cache_events(quire_engine *engine);
QUIRE_API void quire_engine_flush_cache(quire_engine *engine);
#endif
