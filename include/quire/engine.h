/* The engine: a queue of requests, a KV cache of blocks, and one step at a time.
 *
 * Threads. Each function names who may call it:
 *   any     from any thread, at any time between create and destroy
 *   driver  from one thread at a time: the one that gives its time to compute
 *   reader  from one thread at a time: the one that takes events
 *   owner   when no other call on the object is in progress
 * Driver and reader may be the same thread. No call runs user code except the logger
 * and, in step, the mask hook.
 *
 * Memory. Everything is allocated in create; submit, step and poll allocate nothing.
 *
 * After fork() every call on the child's copy returns ERR_FORKED; destroy does nothing there. */
#ifndef QUIRE_ENGINE_H
#define QUIRE_ENGINE_H

#include "quire/model.h"
#include "quire/request.h"

typedef struct quire_engine quire_engine;

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
    const char *name;
    float       weight;              /* 1..1000; 0 = 1 */
    float       max_kv_fraction;     /* 0.01..1; 0 = 1 */
    uint32_t    max_num_seqs;        /* 0 = the engine's */
    uint32_t    max_num_queued_reqs; /* 0 = the engine's */
} quire_tenant_options;

/* Zero means the default, so `{.size = sizeof options}` is a valid configuration. Names, meanings and defaults are
 * those of the configuration file (docs/CONFIGURATION.md). New fields are added at the end only. */
typedef struct quire_engine_options {
    size_t size; /* sizeof(quire_engine_options) as the caller sees it */
    /* [model] */
    uint32_t max_model_len; /* prompt + output tokens of a sequence; 0 = the model's own limit */
    /* [scheduler] */
    quire_policy policy;
    uint32_t     priority_ageing_ms;           /* 0 = 10000; UINT32_MAX - 1 = strict priority */
    uint32_t     max_num_seqs;                 /* sequences running at once; 0 = 64 */
    uint32_t     max_num_batched_tokens;       /* rows of one step; 0 = 512, at least max_num_seqs */
    uint32_t     max_num_encoder_input_tokens; /* encoder tokens of one step; 0 = batched tokens, at least 512 */
    quire_toggle enable_chunked_prefill;       /* auto = on */
    uint32_t     long_prefill_token_threshold; /* 0 = half of max_num_batched_tokens; = that: off */
    uint32_t     max_num_partial_prefills;     /* 0 = 1 */
    uint32_t     max_long_partial_prefills;    /* 0 = 1 */
    quire_toggle scheduler_reserve_full_isl;   /* auto = on */
    quire_capacity_policy       capacity_scheduler_policy;
    float                       watermark;             /* 0 = 0.05; negative = none */
    uint32_t                    max_head_passes;       /* 0 = 8; UINT32_MAX = strict order */
    uint32_t                    max_num_queued_reqs;   /* 0 = 1024 */
    uint32_t                    max_num_queued_tokens; /* 0 = 1048576 */
    uint32_t                    consumer_timeout_ms;   /* 0 = 30000 */
    quire_toggle                tenant_fairness;       /* auto = on */
    uint32_t                    max_num_tenants;       /* 0 = 64 */
    const quire_tenant_options *tenants;               /* [tenant_count] */
    uint32_t                    tenant_count;
    /* [kv_cache] */
    uint32_t     block_size;            /* tokens per KV block: 32, 64, 128 or 256; 0 = 32 */
    uint64_t     kv_cache_bytes;        /* `size`, all nodes together; 0 = by num_kv_blocks or memory_fraction */
    uint32_t     num_kv_blocks;         /* 0 = by kv_cache_bytes or memory_fraction */
    float        memory_fraction;       /* 0 = 0.5 of the memory free once the weights are loaded */
    quire_dtype  kv_dtype;              /* auto = bf16 */
    quire_toggle enable_prefix_caching; /* auto = on */
    quire_toggle enable_cross_sharing;  /* auto = on */
    quire_toggle extents;               /* auto = on */
    quire_toggle zero_on_free;          /* auto = off */
    /* [topology], [numa] */
    const char  *cpus;    /* e.g. "0-15,32-47", "node:0"; NULL = the process's affinity */
    uint32_t     threads; /* compute threads; 0 = one per allowed physical core */
    quire_toggle smt;     /* auto = off */
    quire_bind   bind;
    quire_toggle huge_pages;      /* auto = try, fall back with a warning; on = else fail */
    uint32_t     barrier_spin_ns; /* 0 = 20000 */
    quire_toggle numa_strict;     /* on: a refused binding is an error */
    /* [kernels] */
    const char   *isa; /* cap: "scalar", "avx2", "avx512", "avx512_bf16"; NULL = best available */
    quire_small_m small_m;
    quire_toggle  batch_invariant; /* auto = on */
    quire_toggle  prefetch;        /* auto = probe */
    /* what events may carry */
    uint32_t max_logits_in_flight; /* tokens whose raw logits wait for the reader; 0 = none may be asked for */
    /* speculative decoding */
    uint32_t              num_speculative_tokens; /* prompt lookup: drafts per step; 0 = off */
    uint32_t              prompt_lookup_max;      /* longest n-gram; 0 = 4 */
    quire_allocator       allocator;
    quire_logger          logger;
    quire_mask_hook       mask;            /* for requests with `masked` */
    quire_preemption_mode preemption_mode; /* [scheduler] */
    quire_toggle speculative_adaptive;     /* auto = on: drafts pause while steps without them yield more per second */
    uint32_t     stage_slices; /* stages of a step that each thread keeps, for quire_engine_stages(); 0 = none */
} quire_engine_options;

/* What the last step did. rows == 0: there was nothing to do. Times in ns, bytes and flops as counted by the plan. */
typedef struct quire_step {
    uint64_t step;             /* number of the step, from 1 */
    uint64_t start_ns;         /* monotonic clock */
    uint32_t rows;             /* tokens computed: decode + prompt */
    uint32_t rows_prompt;      /* of those, in unfinished or just finished prompts */
    uint32_t rows_encoder;     /* encoder tokens computed */
    uint32_t rows_logits;      /* rows whose logits were computed */
    uint32_t sequences;        /* in the batch */
    uint32_t running, waiting; /* after the step */
    uint32_t preempted;        /* sequences put back by this step */
    uint32_t blocks_used, blocks_cached;
    uint64_t plan_ns, forward_ns, sample_ns, commit_ns;                                  /* one after the other */
    uint64_t projection_ns, attention_ns, logits_ns, encoder_ns, rowwise_ns, barrier_ns; /* within forward_ns */
    uint64_t weight_bytes, kv_bytes;                                                     /* that must move once */
    uint64_t flops; /* projections, attention, logits */
    uint64_t projection_bytes, projection_flops, attention_flops, logits_bytes, logits_flops;
    /* of these, what is done in encoder_ns: the encoder's layers and writing the cross blocks */
    uint64_t encoder_weight_bytes, encoder_kv_bytes, encoder_projection_flops, encoder_attention_flops;
    float    imbalance; /* slowest thread's attention time over the mean */
    /* what attention reads: tokens whose keys and values move once per sequence, (row, token) pairs; of the encoder:
     * the squares of its inputs' lengths */
    uint64_t kv_tokens, kv_pairs, cross_tokens, cross_pairs, encoder_pairs;
} quire_step;

/* Why a sequence is not in the last plan; docs/SCHEDULER.md has the table. */
typedef enum quire_wait_reason {
    QUIRE_WAIT_NONE           = 0,
    QUIRE_WAIT_ORDER          = 1,
    QUIRE_WAIT_TENANT         = 2,
    QUIRE_WAIT_HEAD           = 3,
    QUIRE_WAIT_SEQUENCES      = 4,
    QUIRE_WAIT_BUDGET         = 5,
    QUIRE_WAIT_PARTIAL        = 6,
    QUIRE_WAIT_BLOCKS         = 7,
    QUIRE_WAIT_WATERMARK      = 8,
    QUIRE_WAIT_QUOTA          = 9,
    QUIRE_WAIT_ENCODER        = 10,
    QUIRE_WAIT_ENCODER_SHARED = 11,
    QUIRE_WAIT_READER         = 12,
    QUIRE_WAIT_FAULT          = 13,
    QUIRE_WAIT_REASONS        = 14, /* how many */
} quire_wait_reason;

/* "blocks", ...; never NULL. Thread: any. */
QUIRE_API const char *quire_wait_reason_name(quire_wait_reason reason);

typedef struct quire_explanation {
    quire_wait_reason reason;
    uint32_t          missing;                     /* BLOCKS: how many; else 0 */
    uint64_t          wait_ns[QUIRE_WAIT_REASONS]; /* adds up to the time since submit */
} quire_explanation;

/* Reads and packs the weights, starts the threads, allocates everything. Borrows `model`, which must outlive the
 * engine. On failure *engine_out is NULL. ERR_INVALID: an option out of range, or sizes that cannot fit; ERR_THREADS:
 * fewer threads exist than asked for; errors of reading the model's files. Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_create(const quire_engine_options *options, quire_model *model,
                                                           quire_engine **engine_out, quire_error *error);

/* Drops unfinished requests without events. NULL is allowed. Thread: owner. */
QUIRE_API void quire_engine_destroy(quire_engine *engine);

/* Queues a request. ERR_FULL: the queue is at its limit, poll and retry. ERR_TOO_LONG: could never fit in
 * the cache; the message says how many blocks are missing. Returns without waiting. Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_submit(quire_engine *engine, const quire_request *request,
                                                           quire_request_id *id_out, quire_error *error);

/* Asks for an early end; the FINISHED event still comes. ERR_NOT_FOUND: already finished. Thread: any. */
QUIRE_API quire_status quire_engine_cancel(quire_engine *engine, quire_request_id id);

/* Plans one batch, runs one forward pass, samples, queues events. Thread: driver. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_step(quire_engine *engine, quire_step *step_out);

/* The stages of the last step as `thread` (0..threads-1) went through them, in order: copies at most `capacity` of the
 * options' `stage_slices` that were kept, and returns how many. *dropped_out (may be NULL): stages since create that
 * were not kept for want of room. Thread: driver. */
QUIRE_API size_t quire_engine_stages(const quire_engine *engine, uint32_t thread, quire_stage *stages, size_t capacity,
                                     uint64_t *dropped_out);

/* Steps until quire_engine_stop(), sleeping when idle. Thread: driver. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_run(quire_engine *engine);
QUIRE_API void quire_engine_stop(quire_engine *engine); /* Thread: any; also async-signal-safe. */

/* Moves up to `capacity` events into `events`, oldest first; never blocks. Returns how many.
 * Events are never dropped: a full queue holds its requests back instead. Thread: reader. */
QUIRE_API size_t quire_engine_poll(quire_engine *engine, quire_event *events, size_t capacity);

/* Readable while poll would return at least one event, for epoll and the like; now and then also when the engine needs
 * back what the last poll's details point to, and poll then returns 0. Owned by the engine: do not read or close it.
 * Thread: any. */
QUIRE_API int quire_engine_event_fd(const quire_engine *engine);

/* Why the first unfinished sequence of a request is not running, and for how long. ERR_NOT_FOUND. Thread: any. */
QUIRE_API quire_status quire_engine_explain(const quire_engine *engine, quire_request_id id,
                                            quire_explanation *explanation_out);

/* Recounts scheduler and cache from scratch, in time proportional to blocks and sequences: NULL, or the first rule that
 * does not hold, as a sentence; then please report. Debug builds do it in every step and abort. Thread: any. */
QUIRE_API const char *quire_engine_check(const quire_engine *engine);

/* Forgets every cached block that no request uses. Takes effect before the next step. Thread: any. */
QUIRE_API void quire_engine_flush_cache(quire_engine *engine);

#endif
