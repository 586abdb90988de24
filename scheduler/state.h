/* What the scheduler's files share: records of requests and sequences, lists, tenants, the plan being built.
 *
 * A *sequence group*, for short group, is what is scheduled, refused and preempted as one: a sequence, a request whose
 * n sequences are not forked yet, or a beam search with all its beams. It is named by the record of its first sequence;
 * the members of a forked beam search are chained by next_member and always have equal lengths.
 *
 *   computed <= length;  todo = length - computed >= 1 while live
 *   ceil(computed / block_size) <= entries of the block table
 *   a group is in exactly one of: its tenant's heap (QUEUED, PREEMPTED), list RUNNING or PAUSED, or none (DONE) */
#ifndef QR_STATE_H
#define QR_STATE_H

#include "cache/cache.h"
#include "scheduler/queue.h"
#include "scheduler/scheduler.h"

/* RETIRING: cancelled while its rows are being computed, released by the next commit. */
typedef enum qr_sequence_state {
    QR_SEQUENCE_NONE,
    QR_SEQUENCE_QUEUED,
    QR_SEQUENCE_RUNNING,
    QR_SEQUENCE_PREEMPTED,
    QR_SEQUENCE_PAUSED,
    QR_SEQUENCE_RETIRING,
    QR_SEQUENCE_DONE, /* until its events are cleared */
} qr_sequence_state;

enum {
    QR_SEQUENCE_STATES   = QR_SEQUENCE_DONE + 1,
    QR_MAX_BEAMS         = 64,
    QR_MAX_REFUSED       = 16,   /* candidates refused in one plan before admission ends */
    QR_COUNTER_BITS      = 20,   /* fraction of a tenant's counter */
    QR_HYPOTHESIS_EVENTS = 1024, /* tokens of finished beam searches between two clears */
};

typedef struct qr_sequence {
    qr_sequence_state state;
    uint32_t          request, index;
    uint32_t          sibling;     /* next sequence of the request, or QR_NONE */
    uint32_t          next_member; /* next beam of the group, or QR_NONE */
    qr_link           link;        /* in RUNNING, PREEMPTED or PAUSED */
    qr_rank           rank;
    uint32_t          slots;            /* of max_num_seqs that the group takes: its sequences, forked or not */
    uint32_t          length, computed; /* positions; length = prompt + output */
    uint32_t          highest;          /* positions that ever had a row: charged once, replays are counted */
    uint32_t          times_passed;     /* admissions past this one while it was refused */
    bool              suspect, probed;  /* of a failed step; in the half that may run now */
    bool              cross_written;    /* its cross blocks hold committed content */
    /* in the plan */
    uint32_t entry;               /* of the first member; QR_NONE: not in it */
    uint32_t rows, drafts, given; /* given: samples of the prompt's own tokens */
    bool     encodes;
    /* blocks */
    qr_block_table self, cross, local; /* local: self.local, where there are local layers */
    /* why it waits */
    quire_wait_reason reason;
    uint32_t          missing;
    uint64_t          since_ns;
    uint64_t          wait_ns[QUIRE_WAIT_REASONS];
    /* what the client sees at the end */
    uint32_t cached_tokens, preemptions, encoder_shared, delivered; /* delivered: tokens in events */
    uint32_t recomputed, drafted, accepted;                         /* rows; tokens */
    uint64_t first_planned_ns, prompt_done_ns, first_token_ns;
    quire_preemption_interval
        preemption_intervals[QUIRE_KEPT_PREEMPTIONS]; /* the first of `preemptions`; to_ns 0: it lasts */
    /* prompt lookup: rows it may draft, and tokens to go before it tries again */
    uint32_t draft_length, draft_rest;
    /* beam search: of the running beam; and the finished hypothesis that this record keeps for the request */
    float        beam_score;
    double       hypothesis_score;
    uint32_t     beam_rank, hypothesis_length, hypothesis_serial;
    quire_finish hypothesis_finish;
} qr_sequence;

typedef struct qr_request {
    quire_request    stored; /* defaults resolved; pointers into the scheduler's storage */
    quire_request_id id;
    uint64_t         number;                                     /* order of submission */
    uint64_t         arrival_ns, queue_deadline_ns, deadline_ns; /* absolute; UINT64_MAX = none */
    uint32_t         first, sequences, live;                     /* records; live: sequences not DONE */
    uint32_t         tenant;
    uint32_t         promised_blocks; /* blocks promised under guaranteed_no_evict */
    bool             admitted, forked, failed;
    bool             pause_wanted; /* while a step of it was in flight */
    uint32_t         prompt_told;  /* positions of the prompt whose next token's log probability is in an event */
    uint8_t          salt[QR_SALT_BYTES];
    /* beam search */
    uint32_t hypotheses, hypothesis_serial; /* kept; ever added */
    uint32_t emit_rank, emit_token;         /* delivery in progress */
    qr_link  emitting;                      /* in the list of finished searches not yet delivered */
    uint32_t beam_order[QR_MAX_BEAMS];      /* records by rank of the hypothesis they keep, once finished */
} qr_request;

/* Arrays that come with a request; in reserved memory, touched only when given. */
typedef struct qr_request_lists {
    int32_t          stop[QUIRE_MAX_STOP_IDS];
    int32_t          allowed[QUIRE_MAX_LISTED_IDS];
    int32_t          banned[QUIRE_MAX_LISTED_IDS];
    int32_t          first_banned[QUIRE_MAX_STOP_IDS], first_allowed[QUIRE_MAX_STOP_IDS];
    int32_t          last_allowed[QUIRE_MAX_STOP_IDS];
    quire_logit_bias bias[QUIRE_MAX_LOGIT_BIAS];
    char             tenant[QUIRE_MAX_TENANT_NAME + 1];
    char             cache_salt[QUIRE_MAX_CACHE_SALT + 1];
} qr_request_lists;

typedef struct qr_tenant {
    char     name[QUIRE_MAX_TENANT_NAME + 1];
    uint64_t hash;
    bool     used, listed;      /* listed: named by the options, never given to another */
    uint64_t counter_per_token; /* what a charged token adds: 2^20 / weight */
    uint64_t counter;
    uint32_t kv_limit; /* blocks */
    uint32_t max_num_seqs, max_num_queued_reqs;
    uint32_t live;            /* requests */
    uint32_t running, queued; /* slots RUNNING; neither RUNNING nor DONE */
    uint32_t waiting;         /* groups in the heap, those under examination included */
    uint64_t skipped_in;      /* number of the plan that refused it for QUOTA */
    uint64_t rows;
    qr_heap  heap;
    qr_link  link; /* in active (something waits) or idle (nothing lives) */
} qr_tenant;

/* Memory of the arrays that a quire_plan shows, and the records behind two of them. */
typedef struct qr_plan_arrays {
    quire_plan_copy     *copies;       /* [max_num_seqs] */
    quire_plan_copy     *local_copies; /* [max_num_seqs] */
    const uint32_t     **local_blocks; /* [max_num_seqs] */
    quire_plan_encoder  *encoders;     /* [max_num_seqs] */
    quire_plan_sequence *sequences;    /* [max_num_seqs] */
    quire_plan_sample   *samples;      /* [max_num_seqs + max_num_batched_tokens] */
    int32_t             *tokens;       /* [max_num_batched_tokens], as all below */
    uint32_t            *positions, *logits_rows;
    uint64_t            *slots;
    uint32_t            *sequence_records, *encoder_records; /* [max_num_seqs] */
} qr_plan_arrays;

struct qr_scheduler {
    qr_scheduler_options options;
    qr_arena             arena;   /* small, touched at creation */
    qr_arena             reserve; /* address space, touched when used */
    qr_cache             cache;
    uint32_t             watermark;                      /* blocks */
    uint32_t             table_capacity;                 /* blocks of max_model_len */
    uint32_t             cross_capacity, local_capacity; /* 0 without such tables */
    size_t               token_stride;
    size_t               feature_stride; /* floats of the longest encoder input */
    /* records */
    uint32_t          record_count;
    qr_sequence      *sequences;      /* [record_count] */
    qr_request       *requests;       /* [record_count] by the record of its first sequence */
    uint32_t         *free_sequences; /* stack */
    uint32_t          free_sequence_count;
    uint32_t          live_requests; /* entered, and not all of their sequences DONE */
    uint32_t         *done_requests; /* to be freed when the events are cleared */
    uint32_t          done_count;
    qr_request_lists *lists;            /* [record_count] by request */
    int32_t          *tokens;           /* [record_count][token_stride]: tokens, then the kept hypothesis */
    int32_t          *encoder_words;    /* [record_count][max_num_encoder_input_tokens] by request */
    float            *encoder_features; /* [record_count][feature_stride] by request */
    uint32_t         *self_blocks, *cross_blocks, *local_blocks; /* [record_count][capacity]; local: as self */
    qr_id_map         ids; /* of the requests that are kept, ended ones included */
    uint64_t          last_number;
    qr_heap           deadlines; /* of requests */
    uint64_t          now_ns;
    /* who is where */
    qr_list    running, preempted, paused; /* running: by rank */
    uint32_t   groups_running;
    uint32_t   slots[QR_SEQUENCE_STATES];
    uint64_t   queued_tokens;
    uint64_t   promised_blocks; /* blocks, guaranteed_no_evict */
    qr_tenant *tenants;
    uint32_t   tenant_count;
    qr_list    active, idle;
    uint32_t  *waiting_index; /* [record_count] of the tenants' heaps */
    uint64_t   last_admitted_counter;
    uint64_t   waiting_groups;
    /* the plan */
    quire_plan     plan;
    qr_plan_arrays arrays; /* of `plan` */
    bool           in_flight, took_blocks, visiting;
    bool           drafts_held_back; /* asked for by the caller */
    uint32_t       rows_left, encoder_left, given_left;
    uint32_t       decode_rows; /* set aside for decoding groups not visited yet */
    uint32_t      *planned;     /* groups in plan order */
    uint32_t       planned_count;
    uint32_t      *refused, refused_count; /* groups taken out of the heaps while candidates are examined */
    uint32_t       blockers[QR_MAX_REFUSED], blocker_count; /* refused ones that others may pass only so often */
    uint32_t      *hits;                                    /* [table_capacity] */
    qr_block_copy *copies, *local_copies;                   /* of the plan, for the walker */
    /* failed steps: suspects[] is a stack of sets, the last one is probed */
    uint32_t *suspects, suspect_count;
    uint32_t *suspect_sets, suspect_set_count; /* sizes */
    /* events */
    qr_scheduler_event *events;
    uint32_t            event_count, event_capacity;
    uint32_t            hypothesis_room; /* events a beam search may still add before the next clear */
    qr_list             emitting;
    /* scratch */
    uint32_t        *failed, failed_count; /* requests that end at this commit */
    qr_cache_holder *holders;              /* [2 * record_count] for the walker */
    uint8_t         *seen;                 /* [record_count] */
    /* counters */
    quire_stats stats;
    uint64_t    hash;
};

/* ---- records ---- */

static inline qr_request *qr_request_of(const qr_scheduler *s, uint32_t record)
{
    return &s->requests[s->sequences[record].request];
}

static inline qr_tenant *qr_tenant_of(const qr_scheduler *s, uint32_t record)
{
    return &s->tenants[qr_request_of(s, record)->tenant];
}

static inline uint32_t qr_prompt_count(const qr_scheduler *s, const qr_sequence *sequence)
{
    return s->requests[sequence->request].stored.prompt_count;
}

/* What encoder inputs are told apart by: their ids, or words made of their features. */
static inline int32_t *qr_encoder_words(const qr_scheduler *s, uint32_t request)
{
    return s->encoder_words + (size_t)request * s->options.max_num_encoder_input_tokens;
}

static inline int32_t *qr_tokens(const qr_scheduler *s, uint32_t record)
{
    return s->tokens + (size_t)record * s->token_stride;
}

static inline uint32_t qr_outputs(const qr_scheduler *s, const qr_sequence *sequence)
{
    return sequence->length - qr_prompt_count(s, sequence);
}

static inline uint32_t qr_todo(const qr_sequence *sequence) { return sequence->length - sequence->computed; }
static inline bool     qr_decoding(const qr_sequence *sequence) { return qr_todo(sequence) == 1; }
static inline uint32_t qr_available(const qr_scheduler *s) { return qr_block_pool_available(&s->cache.pool); }

/* Rows that one position of the group costs: its members. */
static inline uint32_t qr_width(const qr_sequence *group) { return group->next_member == QR_NONE ? 1 : group->slots; }

#define QR_FOR_EACH_MEMBER(s, member, group)                                                                           \
    for (uint32_t member = (group); member != QR_NONE; member = (s)->sequences[member].next_member)

/* ---- group.c: states and blocks ---- */

/* In state NONE; its link to the next sequence of the request stays. */
void qr_sequence_init(qr_scheduler *s, uint32_t record, uint32_t request, uint32_t index);

/* The group enters a state: QUEUED or PREEMPTED (its tenant's heap), RUNNING, PAUSED, RETIRING or DONE. Asserts that
 * the transition is one of docs/SCHEDULER.md's. */
void qr_group_move(qr_scheduler *s, uint32_t group, qr_sequence_state to);
/* Why it waits from now on; the time since the last change is added to the previous reason. */
void qr_note_wait(qr_scheduler *s, uint32_t group, quire_wait_reason reason, uint32_t missing);

void qr_group_release_blocks(qr_scheduler *s, uint32_t group);
void qr_group_release_cross(qr_scheduler *s, uint32_t group);
/* Keeps at most `keep` self blocks of each member; a table the window has left parts of keeps all or none. */
void qr_group_truncate(qr_scheduler *s, uint32_t group, uint32_t keep);
/* Blocks lacking for positions [0, upto), copies-on-write of the first row's block included. */
uint32_t qr_group_missing(const qr_scheduler *s, uint32_t group, uint32_t upto);
/* The group's copies-on-write for a row at `computed`. */
uint32_t qr_group_copies(const qr_scheduler *s, uint32_t group);
/* Largest n <= rows for which missing(computed + n) <= available, at least 1. */
uint32_t qr_group_rows_that_fit(const qr_scheduler *s, uint32_t group, uint32_t rows);

/* ---- finish.c, events.c, pause.c: ends and what the client hears ---- */

/* Ends one sequence (an unforked or beam group: all of it) with its FINISHED events. */
void     qr_group_finish(qr_scheduler *s, uint32_t group, quire_finish finish, quire_status status);
void     qr_request_finish(qr_scheduler *s, uint32_t request, quire_finish finish, quire_status status);
uint32_t qr_request_find(const qr_scheduler *s, quire_request_id id); /* QR_NONE: not entered, or ended */
void     qr_request_forget(qr_scheduler *s, uint32_t request); /* its last sequence ended: no deadline any more */
/* After the last sequence is DONE, and no step in flight holds blocks of the request. */
void qr_request_close(qr_scheduler *s, uint32_t request);
void qr_copy_history(qr_scheduler *s, uint32_t from, uint32_t to); /* what a FINISHED event tells of a sequence */

void qr_emit_token(qr_scheduler *s, uint32_t record, int32_t token, uint32_t index, float logprob, uint32_t sample);
void qr_emit_prompt_token(qr_scheduler *s, uint32_t record, uint32_t index, float logprob, uint32_t sample);
void qr_emit_finished(qr_scheduler *s, uint32_t record, quire_finish finish, quire_status status, float score);

void qr_request_pause(qr_scheduler *s, uint32_t request); /* nothing of it is in flight */

/* ---- tenant.c: queues and fairness ---- */

void     qr_tenants_init(qr_scheduler *s);
uint32_t qr_tenant_find(const qr_scheduler *s, const char *name); /* QR_NONE */
uint32_t qr_tenant_open(qr_scheduler *s, const char *name);       /* found or taken over; QR_NONE: none is idle */
void     qr_tenant_request_opened(qr_scheduler *s, uint32_t tenant);
void     qr_tenant_request_closed(qr_scheduler *s, uint32_t tenant);
void     qr_tenant_enqueue(qr_scheduler *s, uint32_t group); /* lifts the counter if nothing waited */
void     qr_tenant_dequeue(qr_scheduler *s, uint32_t group);
void     qr_tenant_charge(qr_scheduler *s, uint32_t tenant, uint64_t tokens);
/* The next candidate by (counter, rank), or QR_NONE; tenants refused for QUOTA in this plan left out if asked. */
uint32_t qr_tenant_head(const qr_scheduler *s, bool skip_quota);
/* The key candidates and victims are ordered by before their rank. */
static inline uint64_t qr_fair_counter(const qr_scheduler *s, uint32_t group)
{
    return s->options.tenant_fairness ? qr_tenant_of(s, group)->counter : 0;
}

/* ---- plan.c: rows of a step ---- */

/* Of `rows` rows from `computed` on, those whose next token is the prompt's and has no log probability yet. */
uint32_t qr_given_rows(const qr_scheduler *s, const qr_sequence *group, uint32_t rows);
/* At most `rows`, so that those of them fit in the step. */
uint32_t qr_plan_given(const qr_scheduler *s, const qr_sequence *group, uint32_t rows);
/* Rows of the group for a step in which `left` rows are left. */
uint32_t qr_plan_rows(const qr_scheduler *s, uint32_t group, uint32_t todo, uint32_t left);
/* Takes blocks, lists copies, enters the plan with `rows` rows of each member. False: the pool refused. */
bool qr_plan_schedule(qr_scheduler *s, uint32_t group, uint32_t rows);
/* The plan's copies but the first `keep` and `local_keep` are over, done or not. */
void qr_plan_drop_copies(qr_scheduler *s, uint32_t keep, uint32_t local_keep);
bool qr_plan_may_run(const qr_scheduler *s, uint32_t group); /* no failed step is isolated, or it is in the half */

/* ---- admission.c, claim.c: who starts, or starts again ---- */

typedef enum qr_admission_mode { QR_ADMIT_NORMAL, QR_ADMIT_CLAIM, QR_ADMIT_FORCED } qr_admission_mode;

void qr_admit(qr_scheduler *s);
void qr_admit_claims(qr_scheduler *s);
void qr_admit_suspects(qr_scheduler *s);               /* while a failed step is isolated: the half that may run */
bool qr_admit_forced(qr_scheduler *s, uint32_t group); /* false: not admitted, or without a row */

/* ---- preemption.c: who gives blocks back ---- */

/* Who needs blocks, and when it has enough. */
typedef struct qr_taker {
    uint32_t group;
    bool (*has_enough)(qr_scheduler *s, const struct qr_taker *taker);
    bool     forced, from_running;
    bool     only_lower_priority; /* a claim: RUNNING victims have a larger priority value (and the taker's tenant) */
    uint32_t upto;                /* for has_enough */
    qr_admission_mode mode;
} qr_taker;

bool qr_take_from_victim(qr_scheduler *s, const qr_taker *taker); /* from one; false: there is none */
bool qr_is_claim_victim(const qr_scheduler *s, uint32_t taker, uint32_t victim);
void qr_group_preempt(qr_scheduler *s, uint32_t group, quire_wait_reason reason);
/* Blocks of the group that nobody else names; counts to `enough`. */
uint32_t qr_group_own_blocks(const qr_scheduler *s, uint32_t group, uint32_t enough);
/* Blocks that PAUSED and PREEMPTED juniors of the group could give; counts to `enough`. */
uint32_t qr_idle_own_blocks(const qr_scheduler *s, uint32_t group, uint32_t enough);

/* ---- commit.c, fault.c: what a step achieved ---- */

void qr_fail_request(qr_scheduler *s, uint32_t request); /* not finite: ends with ERR_EXECUTION at this commit */
bool qr_token_stops(const qr_scheduler *s, const qr_request *r, int32_t token);

/* The groups of a failed step; alone: it had only one. */
void qr_fault_isolate(qr_scheduler *s, const uint32_t *groups, uint32_t count, bool alone);
void qr_fault_cleared(qr_scheduler *s, const uint32_t *groups, uint32_t count); /* of a step that went well */
void qr_fault_forget(qr_scheduler *s, uint32_t suspect);                        /* it ended, or may not run */

/* ---- draft.c, beam.c ---- */

void qr_draft(qr_scheduler *s);
void qr_draft_judge(qr_sequence *sequence, uint32_t drafted, uint32_t accepted, uint32_t limit);

bool qr_is_beam(const qr_scheduler *s, const qr_sequence *sequence);
/* One step of a search: the group's beams have been extended by a row each. */
void qr_beam_commit(qr_scheduler *s, uint32_t group, const quire_plan_sequence *entry, const quire_sampled *sampled);
void qr_beam_deliver(qr_scheduler *s); /* as many events of finished searches as there is room for */

/* ---- validate.c, stats.c ---- */

/* The i-th, which may be of a caller of another version. */
quire_tenant_options qr_tenant_options_at(const qr_scheduler_options *options, uint32_t i);

/* Blocks that admission leaves free. */
uint32_t qr_watermark_blocks(const qr_scheduler_options *options);

/* The most blocks one sequence ever holds (F_max). `positions` = prompt + max_tokens - 1. */
uint32_t qr_blocks_most(const qr_scheduler_options *options, uint32_t positions, uint32_t width, uint32_t encoder);

void qr_stats_hash_plan(qr_scheduler *s);

#endif
