#ifndef QUIRE_OPTIONS_H
#define QUIRE_OPTIONS_H
#include "quire/comm.h"
#include "quire/hooks.h"
#include "quire/request.h"
#include "quire/types.h"
#define QUIRE_DISABLED UINT32_MAX
#define QUIRE_UNLIMITED UINT32_MAX
#define QUIRE_FOREVER UINT64_MAX
#define QUIRE_NO_WATERMARK (-1.0F)
typedef enum quire_policy {
    QUIRE_POLICY_FCFS     = 0,
    QUIRE_POLICY_PRIORITY = 1,
} quire_policy;
typedef enum quire_capacity_policy {
    QUIRE_CAPACITY_MAX_UTILIZATION     = 0,
    QUIRE_CAPACITY_GUARANTEED_NO_EVICT = 1,
} quire_capacity_policy;
typedef enum quire_preemption_mode {
    QUIRE_PREEMPTION_TAIL      = 0,
    QUIRE_PREEMPTION_RECOMPUTE = 1,
} quire_preemption_mode;
typedef struct quire_tenant_options {
    size_t      size;
    const char *name;
    float       weight;
    float       max_kv_fraction;
    uint32_t    max_num_seqs;
    uint32_t    max_num_queued_reqs;
} quire_tenant_options;
typedef struct quire_engine_options {
    size_t size;
    uint32_t max_model_len;
    quire_policy          policy;
    uint64_t              priority_ageing_ns;
    uint32_t              max_num_seqs;
    uint32_t              max_num_batched_tokens;
    uint32_t              max_num_encoder_input_tokens;
    quire_toggle          enable_chunked_prefill;
    uint32_t              long_prefill_token_threshold;
    uint32_t              max_num_partial_prefills, max_long_partial_prefills;
    quire_toggle          scheduler_reserve_full_isl;
    quire_capacity_policy capacity_scheduler_policy;
    quire_preemption_mode preemption_mode;
    float                 watermark;
    uint32_t              max_head_passes;
    uint32_t              max_num_queued_reqs, max_num_queued_tokens;
    uint64_t              consumer_timeout_ns;
    quire_toggle          tenant_fairness;
    uint32_t              max_num_tenants;
    uint32_t              num_speculative_tokens;
    uint32_t              prompt_lookup_max;
    quire_toggle          speculative_adaptive;
    const quire_tenant_options *tenants;
    uint32_t                    tenant_count;
    uint32_t block_size;
    uint64_t     kv_cache_bytes;
    uint32_t     num_kv_blocks;
    float        memory_fraction;
    quire_dtype  kv_dtype;
    quire_toggle enable_prefix_caching, enable_cross_sharing;
    quire_toggle extents;
    quire_toggle zero_on_free;
    const char  *cpus;
    uint32_t     threads;
    quire_toggle smt;
    quire_bind   bind;
    quire_toggle huge_pages;
    uint64_t     barrier_spin_ns;
    quire_toggle numa_strict;
    const char   *isa;
    quire_small_m small_m;
    quire_toggle  batch_invariant;
    quire_toggle  prefetch;
    uint32_t          max_logits_in_flight;
    uint32_t          stage_slices;
    quire_toggle      cache_events;
    quire_mask_hook   mask;
    const quire_comm *comm;
    quire_allocator   allocator;
    quire_logger      logger;
} quire_engine_options;
typedef struct quire_shape_override {
    const char *name;
    int64_t     value;
} quire_shape_override;
typedef enum quire_generation_config {
    QUIRE_GENERATION_CONFIG_AUTO = 0,
    QUIRE_GENERATION_CONFIG_NONE = 1,
} quire_generation_config;
typedef struct quire_model_options {
    size_t      size;
    quire_dtype weight_dtype;
    quire_generation_config     generation_config;
    uint64_t                    weight_seed;
    const quire_shape_override *shape;
    uint32_t                    shape_count;
    quire_toggle                check_tensors;
    uint32_t                    weight_group_size;
    quire_allocator             allocator;
    quire_logger                logger;
} quire_model_options;
#endif
