/* Options of an engine and of a model.
 *
 * Zero means the default, so `{.size = sizeof options}` is a valid choice. Names, meanings, ranges and defaults are
 * those of the configuration file: docs/CONFIGURATION.md, or `quire config keys NAME`. Values outside a range that have
 * a meaning of their own: */
#ifndef QUIRE_OPTIONS_H
#define QUIRE_OPTIONS_H

#include "quire/comm.h"
#include "quire/hooks.h"
#include "quire/request.h"
#include "quire/types.h"

#define QUIRE_DISABLED UINT32_MAX  /* of a count that would otherwise have a default: none */
#define QUIRE_UNLIMITED UINT32_MAX /* of a count: no limit */
#define QUIRE_FOREVER UINT64_MAX   /* of a duration: without end */
#define QUIRE_NO_WATERMARK (-1.0F)

typedef enum quire_policy {
    QUIRE_POLICY_FCFS     = 0,
    QUIRE_POLICY_PRIORITY = 1,
} quire_policy;

typedef enum quire_capacity_policy {
    QUIRE_CAPACITY_MAX_UTILIZATION     = 0, /* admit optimistically, preempt when blocks run out */
    QUIRE_CAPACITY_GUARANTEED_NO_EVICT = 1, /* admit only while all worst cases fit */
} quire_capacity_policy;

typedef enum quire_preemption_mode {
    QUIRE_PREEMPTION_TAIL      = 0, /* a preempted sequence loses as many of its last blocks as are needed */
    QUIRE_PREEMPTION_RECOMPUTE = 1, /* it loses all of them, as in vLLM; for comparison */
} quire_preemption_mode;

typedef struct quire_tenant_options {
    size_t      size;                /* sizeof(quire_tenant_options) as the caller sees it, in each of an array */
    const char *name;                /* as in quire_request */
    float       weight;              /* share of service, relative to other tenants */
    float       max_kv_fraction;     /* of the blocks */
    uint32_t    max_num_seqs;        /* running at once; 0 = the engine's */
    uint32_t    max_num_queued_reqs; /* 0 = the engine's */
} quire_tenant_options;

typedef struct quire_engine_options {
    size_t size; /* sizeof(quire_engine_options) as the caller sees it */
    /* [model] */
    uint32_t max_model_len; /* prompt + output tokens of a sequence; 0 = the model's own limit */
    /* [scheduler] */
    quire_policy          policy;
    uint64_t              priority_ageing_ns;           /* QUIRE_FOREVER: strict priority */
    uint32_t              max_num_seqs;                 /* sequences running at once */
    uint32_t              max_num_batched_tokens;       /* rows of one step */
    uint32_t              max_num_encoder_input_tokens; /* encoder tokens of one step */
    quire_toggle          enable_chunked_prefill;
    uint32_t              long_prefill_token_threshold; /* QUIRE_UNLIMITED: off */
    uint32_t              max_num_partial_prefills, max_long_partial_prefills;
    quire_toggle          scheduler_reserve_full_isl;
    quire_capacity_policy capacity_scheduler_policy;
    quire_preemption_mode preemption_mode;
    float                 watermark;       /* share of blocks kept free, or QUIRE_NO_WATERMARK */
    uint32_t              max_head_passes; /* QUIRE_DISABLED: strict order */
    uint32_t              max_num_queued_reqs, max_num_queued_tokens;
    uint64_t              consumer_timeout_ns;
    quire_toggle          tenant_fairness;
    uint32_t              max_num_tenants;
    uint32_t              num_speculative_tokens; /* prompt lookup: drafts per step; 0 = off */
    uint32_t              prompt_lookup_max;      /* longest n-gram */
    quire_toggle          speculative_adaptive;
    /* [[tenant]] */
    const quire_tenant_options *tenants; /* [tenant_count] */
    uint32_t                    tenant_count;
    /* [kv_cache] */
    uint32_t block_size; /* tokens */
    /* At most one of these three; none: memory_fraction 0.5. */
    uint64_t     kv_cache_bytes; /* `size`, all nodes together */
    uint32_t     num_kv_blocks;
    float        memory_fraction; /* of the memory free once the weights are loaded */
    quire_dtype  kv_dtype;
    quire_toggle enable_prefix_caching, enable_cross_sharing;
    quire_toggle extents;
    quire_toggle zero_on_free;
    /* [topology], [numa] */
    const char  *cpus;    /* e.g. "0-15,32-47", "node:0"; NULL or "auto" = all that the process was started with */
    uint32_t     threads; /* 0 = one per allowed physical core */
    quire_toggle smt;
    quire_bind   bind;
    quire_toggle huge_pages; /* auto = try, fall back with a warning; on = else fail */
    uint64_t     barrier_spin_ns;
    quire_toggle numa_strict;
    /* [kernels] */
    const char   *isa; /* highest instruction set to use; NULL or "auto" = best available */
    quire_small_m small_m;
    quire_toggle  batch_invariant;
    quire_toggle  prefetch; /* auto = probe */
    /* not in a file */
    uint32_t          max_logits_in_flight; /* tokens whose raw logits wait for the reader; 0 = none may be asked for */
    uint32_t          stage_slices; /* stages of a step that each thread keeps, for quire_engine_stages(); 0 = none */
    quire_toggle      cache_events; /* for quire_engine_poll_cache_events(); off by default */
    quire_mask_hook   mask;         /* for requests with `masked` */
    const quire_comm *comm;         /* this engine is one rank of several; borrowed for its life. NULL: it is alone */
    quire_allocator   allocator;
    quire_logger      logger;
} quire_engine_options;

/* Changes one number of a preset's shape; `name` as in config.json, e.g. {"num_hidden_layers", 4}. Frozen. */
typedef struct quire_shape_override {
    const char *name;
    int64_t     value;
} quire_shape_override;

typedef enum quire_generation_config {
    QUIRE_GENERATION_CONFIG_AUTO = 0, /* a folder's generation_config.json is read where there is one */
    QUIRE_GENERATION_CONFIG_NONE = 1,
} quire_generation_config;

typedef struct quire_model_options {
    size_t      size;         /* sizeof(quire_model_options) as the caller sees it */
    quire_dtype weight_dtype; /* of the packed weights, whatever the files hold; int8: T5's wo is bf16;
                               int4: so is that, and the output projection is int8; auto: codes of 4 and 8 bits in
                               the files are kept */
    quire_generation_config     generation_config;
    uint64_t                    weight_seed; /* synthetic models only */
    const quire_shape_override *shape;       /* [shape_count], synthetic models only */
    uint32_t                    shape_count;
    quire_toggle                check_tensors;     /* on by default: weights that are not finite are refused */
    uint32_t                    weight_group_size; /* int4: inputs that share a scale: 32, 64 or 128 */
    quire_allocator             allocator;
    quire_logger                logger;
} quire_model_options;

#endif
