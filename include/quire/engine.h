/* The engine: a queue of requests, a KV cache of blocks, and one step at a time.
 *
 * Threads. Each function names who may call it:
 *   any     from any thread, at any time between create and destroy
 *   driver  from one thread at a time: the one that gives its time to compute
 *   reader  from one thread at a time: the one that takes events
 *   owner   when no other call on the object is in progress
 * Driver and reader may be the same thread. User code runs as the logger, in create
 * and destroy as the allocator, and in step as the mask hook.
 *
 * Memory. Everything is allocated in create; submit, step and poll allocate nothing. oneDNN alone takes a few hundred
 * bytes of the heap for the time of each product of more than 64 rows; if it gets none, quire's own kernel takes its
 * place, with the same bits, so that no step fails for it (with small_m = QUIRE_SMALL_M_ONEDNN on AVX2 it does).
 *
 * After fork() the child's copy is dead: what returns a status returns ERR_FORKED, poll and wait return 0, event_fd
 * returns -1, all else does nothing. */
#ifndef QUIRE_ENGINE_H
#define QUIRE_ENGINE_H

#include "quire/model.h"
#include "quire/options.h"
#include "quire/request.h"

typedef struct quire_engine quire_engine;

/* What the last step did; with rows and rows_encoder 0 there was nothing to do. Times in ns; bytes and floating-point
 * operations are those that must be moved and done at least, counted from the plan. */
typedef struct quire_step {
    size_t   size;             /* sizeof(quire_step), set by the caller: so much is filled */
    uint64_t step;             /* number of the step, from 1 */
    uint64_t start_ns;         /* monotonic clock */
    uint32_t sequences;        /* in the batch */
    uint32_t rows;             /* tokens computed: decode + prompt */
    uint32_t rows_prompt;      /* of those, in unfinished or just finished prompts */
    uint32_t rows_logits;      /* of those, whose logits were computed */
    uint32_t rows_encoder;     /* encoder tokens computed */
    uint32_t preempted;        /* sequences put back by this step */
    uint32_t running, waiting; /* after the step */
    uint32_t blocks_used, blocks_cached;
    uint64_t plan_ns, forward_ns, sample_ns, commit_ns;                                  /* one after the other */
    uint64_t projection_ns, attention_ns, logits_ns, rowwise_ns, encoder_ns, barrier_ns; /* within forward_ns */
    float    imbalance;                     /* slowest thread's attention time over the mean */
    uint64_t weight_bytes, kv_bytes, flops; /* in all */
    uint64_t projection_bytes, projection_flops, attention_flops, logits_bytes, logits_flops;
    /* of these, what is done in encoder_ns: the encoder's layers and writing the cross blocks */
    uint64_t encoder_weight_bytes, encoder_kv_bytes, encoder_projection_flops, encoder_attention_flops;
    /* Attention of one layer, of those with the widest window. kv_tokens: cached tokens that it reads, once per
     * sequence; kv_pairs: (row, visible token) pairs; cross_*: the same over encoder outputs; encoder_pairs: the
     * squares of the encoder inputs' lengths, summed. */
    uint64_t kv_tokens, kv_pairs, cross_tokens, cross_pairs, encoder_pairs;
    /* of projection_flops and encoder_projection_flops, those in bf16 though the weights are int8 */
    uint64_t wide_flops, encoder_wide_flops;
    uint64_t kv_used_bytes; /* after the step, as in quire_stats */
    /* Several ranks: what this one received of the others within forward_ns, in how many messages; and how long they
     * took, of which thread 0 waited in the network for network_wait_ns. */
    uint64_t network_bytes, network_messages, network_ns, network_wait_ns;
} quire_step;

typedef struct quire_explanation {
    size_t            size; /* sizeof(quire_explanation), set by the caller */
    quire_wait_reason reason;
    uint32_t          missing_blocks;                  /* QUIRE_WAIT_BLOCKS: how many; else 0 */
    uint64_t          wait_ns[QUIRE_MAX_WAIT_REASONS]; /* by reason so far; adds up to the time since submit */
} quire_explanation;

/* Reads and packs the weights, starts the threads, allocates everything. Borrows `model`, which must outlive the
 * engine. On failure *engine_out is NULL. ERR_INVALID: an option out of range, or sizes that cannot fit; ERR_THREADS:
 * fewer threads exist than asked for; ERR_NO_MEMORY; ERR_IO: no file descriptor is left; errors of reading the model's
 * files. Needs 128 KiB of stack, as loading a model and a configuration does; other calls get by with 64 KiB.
 * Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_create(const quire_engine_options *options, quire_model *model,
                                                           quire_engine **engine_out, quire_error *error);

/* Drops unfinished requests without events. NULL is allowed. Thread: owner. */
QUIRE_API void quire_engine_destroy(quire_engine *engine);

/* Queues a request; before the first step it waits there. ERR_FULL: a limit of the queue, which the message names, is
 * reached; retry when the reader has had a FINISHED event, of which there are none before a step. ERR_TOO_LONG: could
 * never run: the prompt or the encoder's input is longer than the model takes, or the cache is too small and the
 * message says how many blocks are missing. ERR_INVALID: a value out of its range. ERR_FORKED. Returns without waiting.
 * Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_submit(quire_engine *engine, const quire_request *request,
                                                           quire_request_id *id_out, quire_error *error);

/* Asks for an early end; the FINISHED event still comes. ERR_NOT_FOUND: already finished. Thread: any. */
QUIRE_API quire_status quire_engine_cancel(quire_engine *engine, quire_request_id id);

/* Plans one batch, runs one forward pass, samples, queues events. Fills *step_out up to step_out->size bytes; it may be
 * NULL. QUIRE_OK, also when there was nothing to do (rows and rows_encoder are 0) and when the forward pass failed: the
 * log has why, stats.failed_steps counts it, its requests run again, and one that fails alone ends with ERR_EXECUTION.
 * Else ERR_FORKED. Thread: driver. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_step(quire_engine *engine, quire_step *step_out);

/* The stages of the last step as `thread` (0..threads-1) went through them, in order: copies at most `capacity` of the
 * options' `stage_slices` that were kept, and returns how many. *dropped_out (may be NULL): stages since create that
 * were not kept for want of room. Thread: driver. */
QUIRE_API size_t quire_engine_stages(const quire_engine *engine, uint32_t thread, quire_stage *stages, size_t capacity,
                                     uint64_t *dropped_out);

/* Steps until quire_engine_stop(), sleeping when idle; then QUIRE_OK. ERR_FORKED. Thread: driver. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_run(quire_engine *engine);

/* Ends run after the step in progress and wakes the reader in wait; without one of them in progress, the next call of
 * it returns at once. Requests stay where they are: a later run goes on. Thread: any; also async-signal-safe. */
QUIRE_API void quire_engine_stop(quire_engine *engine);

/* Moves up to `capacity` events into `events`, oldest first; never blocks. Returns how many.
 * Events are never dropped: a full queue holds its requests back instead. Thread: reader. */
QUIRE_API size_t quire_engine_poll(quire_engine *engine, quire_event *events, size_t capacity);

/* The same, but with no event there it waits for one, `timeout_ns` at most (0: does not wait; QUIRE_FOREVER: no limit).
 * Another thread must be the driver. Returns 0 when the time is over, when quire_engine_stop() was called since the
 * last 0, and in a forked child; a signal does not end it. Thread: reader. */
QUIRE_API size_t quire_engine_wait(quire_engine *engine, quire_event *events, size_t capacity, uint64_t timeout_ns);

/* Readable while poll would return at least one event, for epoll and the like. Now and then poll returns 0 all the
 * same: after quire_engine_stop(), and when the engine needs back what the last poll's details point to. Owned by the
 * engine: do not read or close it. Thread: any. */
QUIRE_API int quire_engine_event_fd(const quire_engine *engine);

/* Why the first unfinished sequence of a request is not running, and for how long. ERR_NOT_FOUND. Thread: any. */
QUIRE_API quire_status quire_engine_explain(const quire_engine *engine, quire_request_id id,
                                            quire_explanation *explanation_out);

/* Recounts scheduler and cache from scratch, in time proportional to blocks and sequences: NULL, or the first rule that
 * does not hold, as a sentence; then please report. Debug builds do it in every step and abort. Thread: any. */
QUIRE_API const char *quire_engine_check(const quire_engine *engine);

/* Where an engine's memory is. */
typedef struct quire_memory_check {
    size_t      size; /* sizeof(quire_memory_check), set by the caller */
    uint64_t    page_bytes;
    quire_pages pages[QUIRE_MAX_MEMORIES]; /* by quire_memory */
    /* Blocks of running sequences: on their sequence's home node, and elsewhere (taken there because home had none, or
     * shared with a sequence at home there). */
    uint64_t blocks_home, blocks_away;
} quire_memory_check;

#define QUIRE_ALL_NODES UINT32_MAX

/* Asks the kernel where each page is that is planned for `node` (as the operating system counts; QUIRE_ALL_NODES: and
 * those that any of the threads' nodes may hold). A page that holds parts of two plans does not count. Takes about a
 * second for every 16 GiB; for QUIRE_ALL_NODES stats.numa_pages_checked and _misplaced say the same afterwards.
 * ERR_NOT_FOUND: no thread of the engine is on such a node. ERR_UNSUPPORTED: the kernel does not say, or a sandbox
 * forbids to ask. ERR_FORKED. Thread: driver. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_check_memory(quire_engine *engine, uint32_t node,
                                                                 quire_memory_check *check_out, quire_error *error);

/* Moves up to `capacity` changes of the prefix cache into `events`, oldest first, and the token ids of a STORED block i
 * into tokens[i * block_size] (quire_stats has block_size): an array of [capacity][block_size]. Returns how many, 0
 * without the option `cache_events`, without prefix caching, and in a forked child.
 *
 * Whoever applies the events in order to an empty set has, when it returns less than `capacity`, just the blocks that
 * the prefix cache could find at that moment, used ones included. A block comes behind its parent if that is
 * still there. None is ever lost: a late reader gets what changed since it came last, and not what came and went in
 * between. Never waits for a forward pass. Thread: any, but one at a time. */
QUIRE_API size_t quire_engine_poll_cache_events(quire_engine *engine, quire_cache_event *events, int32_t *tokens,
                                                size_t capacity);

/* The next poll begins anew: CLEARED, then all blocks. For a reader that joins late, or has lost events behind this
 * interface. Takes time proportional to the blocks. Thread: any. */
QUIRE_API void quire_engine_restart_cache_events(quire_engine *engine);

/* Forgets every cached block that no request uses. Takes effect before the next step. Thread: any. */
QUIRE_API void quire_engine_flush_cache(quire_engine *engine);

#endif
