/* The inside of a quire_engine, shared by create.c (life), step.c (one step) and engine.c (the public calls).
 *
 * Locks, in this order: scheduler_mutex (the scheduler's state; held by the driver but for the forward pass, and by
 * explain), the ledger's (queues and records), stats_mutex (the last snapshot). */
#ifndef QR_ENGINE_ENGINE_H
#define QR_ENGINE_ENGINE_H

#include <stdatomic.h>

#include "base/log.h"
#include "engine/draft_control.h"
#include "engine/inbox.h"
#include "engine/options.h"
#include "engine/outbox.h"
#include "engine/planner.h"
#include "engine/ranks.h"
#include "model/model.h"
#include "model/sample.h"

/* What sampling a row gives, per sample of a plan. */
typedef struct qr_sampling {
    quire_sampled *results;          /* [samples] */
    uint32_t      *top_counts;       /* [samples] */
    uint32_t      *candidate_counts; /* [samples] of beam searches */
    int32_t       *top_tokens;       /* [samples][top] */
    float         *top_logprobs;     /* [samples][top] */
    uint32_t       samples, top;
} qr_sampling;

struct quire_engine {
    quire_engine_options options;        /* resolved; its strings and tenants are not kept */
    qr_model_facts       facts;          /* kv_heads: of this rank */
    uint32_t             model_kv_heads; /* of all ranks */
    qr_log               log;

    const qr_kernels *kernels;
    qr_team          *team;
    quire_allocator   shared;      /* of what threads of several nodes work in; the options' where there is one node */
    uint64_t          cache_bytes; /* last-level caches of its cores together */
    qr_network       *network;
    quire_kv_pool     pool;
    uint32_t          node_share[QR_MAX_NODES];                   /* of the blocks */
    uint32_t          node_distance[QR_MAX_NODES * QR_MAX_NODES]; /* [nodes][nodes] */
    qr_kv_memory      kv, local_kv;                               /* local_kv: none without local layers */
    quire_planner     planner;
    qr_ranks          ranks;
    qr_arena          arena; /* everything below */
    qr_ledger         ledger;
    qr_inbox          inbox;
    qr_outbox         outbox;

    /* the driver's */
    qr_sampler     **samplers; /* [thread_count] */
    uint32_t        *masks;    /* [thread_count][mask_words], if there is a mask hook */
    uint32_t         mask_words;
    uint32_t         thread_count;
    qr_sampling      sampling;
    bool             backlog; /* some events found no room in the outbox */
    qr_draft_control draft_control;
    uint64_t         steps_drafts_paused;
    uint64_t         steps, step_ns, activity_seen;
    uint64_t         unstarted,
        unstarted_by[QUIRE_MAX_FINISHES]; /* requests, sequences by quire_finish, that the scheduler never had */
    bool idle;                            /* nothing live after the last step */

    pthread_mutex_t scheduler_mutex, stats_mutex;
    quire_stats     stats;               /* after the last step */
    _Atomic bool    stop_run, stop_wait; /* quire_engine_stop(), until run and wait have taken notice */
};

/* How the engine's memory is placed. */
qr_bind_options qr_engine_bind_options(quire_engine *engine);

/* What all ranks must have alike, for qr_ranks_compare(). ERR_IO: the model's files cannot be read. */
quire_status qr_rank_facts(const quire_engine *engine, const quire_model *model, char text[QR_RANK_FACTS],
                           quire_error *error);

/* One step, all stages. */
void qr_engine_step(quire_engine *engine, quire_step *step_out);

/* Refreshes engine->stats and what the inbox knows of the scheduler's queue. Holds scheduler_mutex. */
void qr_engine_take_stats(quire_engine *engine);

/* memory_check.c: gives each thread's scratch to its node. */
void qr_engine_settle_memory(quire_engine *engine);

/* memory_check.c: counts pages by where they are; for all nodes the statistics get the result. Holds scheduler_mutex.
 */
quire_status qr_engine_check_memory(quire_engine *engine, uint32_t node, quire_memory_check *check_out,
                                    quire_error *error);

#endif
