/* The deterministic simulator: production scheduler and cache, unchanged, with everything around them played by one
 * thread: clients, the forward pass, sampling, the reader, the clock, the allocator. A seed and a number of steps
 * replay a run. docs/TESTING.md describes it.
 *
 *   swarm.c      a seed's configuration, its requests and which faults it may meet
 *   reference.c  what a request must deliver, computed without a scheduler
 *   model.c      the mock model: every KV slot holds a hash of all it depends on
 *   oracle.c     what must hold of a plan, a stream of events, and of progress
 *   sim.c        the loop
 *   coverage.c   what a run reached, and the gate */
#ifndef SIM_H
#define SIM_H

#include <setjmp.h>
#include <stdnoreturn.h>

#include "base/rng.h"
#include "scheduler/state.h"
#include "support/cache_mirror.h"

enum {
#ifdef SIM_SMALL /* scope.c copies the whole state at each node */
    SIM_TOKENS   = 16,
    SIM_ENCODER  = 4,
    SIM_STREAMS  = 2,
    SIM_REQUESTS = 8,
#else
    SIM_TOKENS   = 192, /* longest sequence */
    SIM_ENCODER  = 64,
    SIM_STREAMS  = 4, /* n, beams */
    SIM_REQUESTS = 160,
#endif
    SIM_TENANTS = 4,
    SIM_STOPS   = 2,
};

/* Chance per 100,000 steps (of POISON and NOT_FINITE: requests). */
#define SIM_FAULTS(X)                                                                                                  \
    X(POOL_REFUSES, "pool refuses", 200)                                                                               \
    X(ALLOCATOR_REFUSES, "allocator refuses", 100)                                                                     \
    X(FORWARD_FAILS, "forward fails", 200)                                                                             \
    X(POISON, "poison request", 300)                                                                                   \
    X(NOT_FINITE, "logits not finite", 300)                                                                            \
    X(CANCEL, "cancel", 2000)                                                                                          \
    X(CANCEL_IN_FLIGHT, "cancel in flight", 1000)                                                                      \
    X(CANCEL_ALL, "cancel all", 50)                                                                                    \
    X(BURST, "burst of submits", 300)                                                                                  \
    X(READER_STOPS, "reader stops", 300)                                                                               \
    X(READER_STOPS_IN_FLIGHT, "reader stops in flight", 200)                                                           \
    X(CLOCK_JUMPS, "clock jumps", 100)                                                                                 \
    X(CLOCK_STANDS, "clock stands still", 100)                                                                         \
    X(DRAIN, "stop and drain", 20)                                                                                     \
    X(FLUSH, "cache flushed", 50)                                                                                      \
    X(GIVE_UP, "engine gives a request up", 100)                                                                       \
    X(BAD_REQUEST, "invalid request", 300)                                                                             \
    X(UNKNOWN_ID, "unknown id", 100)

typedef enum sim_fault {
#define SIM_FAULT_ENUM(name, text, rate) SIM_##name,
    SIM_FAULTS(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
        SIM_FAULT_KINDS
} sim_fault;

/* What happens to a request; pairs of successive ones are counted. */
#define SIM_OPERATIONS(X)                                                                                              \
    X(SUBMIT, "submit")                                                                                                \
    X(ADMIT, "admit")                                                                                                  \
    X(PREEMPT, "preempt")                                                                                              \
    X(READMIT, "readmit")                                                                                              \
    X(FAULT, "failed step")                                                                                            \
    X(PAUSE, "pause")                                                                                                  \
    X(RESUME, "resume")                                                                                                \
    X(FORK, "fork")                                                                                                    \
    X(CANCEL_RESTING, "cancel")                                                                                        \
    X(CANCEL_FLYING, "cancel in flight")                                                                               \
    X(EXPIRE, "timeout")                                                                                               \
    X(END, "end")                                                                                                      \
    X(ERROR, "error")

typedef enum sim_operation {
#define SIM_OPERATION_ENUM(name, text) SIM_DID_##name,
    SIM_OPERATIONS(SIM_OPERATION_ENUM)
#undef SIM_OPERATION_ENUM
        SIM_OPERATION_KINDS
} sim_operation;

typedef enum sim_oracle {
    SIM_ORACLE_NONE,
    SIM_ORACLE_STATE,    /* an invariant of scheduler or cache */
    SIM_ORACLE_CONTENT,  /* a KV slot read or written that must not be */
    SIM_ORACLE_STREAM,   /* wrong, lost, repeated events */
    SIM_ORACLE_PROGRESS, /* starvation, refusal or acceptance that is not justified */
    SIM_ORACLE_CRASH,    /* assertion, signal, hang */
    SIM_ORACLES
} sim_oracle;

typedef struct sim_coverage {
    uint64_t faults[SIM_FAULT_KINDS];
    uint64_t pairs[SIM_OPERATION_KINDS][SIM_OPERATION_KINDS];
    uint64_t reasons[QUIRE_WAIT_REASONS];
    uint64_t finishes[QUIRE_FINISH_TIMEOUT + 1];
    uint64_t statuses[16]; /* by -status */
    uint64_t steps, rows, tokens, requests, seeds, replays;
    uint64_t preemptions, blocks_dropped, hits, copies, forks, claims, forced, drafts_accepted, encoder_shared, stolen,
        evictions, slid, spilled, beams, told;
} sim_coverage;

typedef struct sim_verdict {
    sim_oracle oracle;
    uint64_t   seed, step;
    char       text[256];
    uint64_t   hash; /* of decisions and events */
} sim_verdict;

/* What a seed draws. */
typedef struct sim_config {
    qr_scheduler_options options;
    quire_tenant_options tenants[SIM_TENANTS];
    uint32_t             faults;   /* bits */
    uint32_t             arrivals; /* per 1000 steps */
    uint32_t             tenant_names, longest_prompt, longest_output, longest_encoder;
    uint32_t             documents, overlap; /* prompts begin with a part of one of so many documents; percent */
    uint32_t             encoder_inputs;
    uint32_t             fan_percent, beam_percent, timeout_percent, stop_percent, salt_percent;
    uint32_t             told_percent; /* prompt_logprobs */
    bool                 repetitive;   /* output repeats itself, so that drafts are accepted */
    bool                 drafts_pause; /* every fourth step adds none */
    bool                 bounded;      /* the wait bound of docs/SCHEDULER.md applies */
} sim_config;

typedef struct sim_options {
    uint64_t seed;
    uint64_t steps;
    uint32_t without;              /* bits of sim_fault that never happen */
    uint32_t hash_bits, hash_salt; /* of the prefix index's buckets: no decision may depend on them; 0 = the seed's */
    bool     trace;
    const sim_config *config;    /* instead of the seed's */
    quire_stats      *stats_out; /* at the end, NULL is allowed */
    bool              canary;    /* the harness itself breaks a rule: must be reported */
} sim_options;

typedef struct sim_stream {
    int32_t      expected[SIM_TOKENS];
    uint32_t     expected_count, delivered;
    quire_finish expected_finish;
    bool         ended;
} sim_stream;

typedef struct sim_request {
    bool          used;
    quire_request request; /* resolved: pointers into this record, defaults replaced */
    uint64_t      id, submit_ns;
    char          tenant[4], salt[4];
    uint32_t      tenant_number;
    int32_t       prompt[SIM_TOKENS], encoder[SIM_ENCODER], stop[SIM_STOPS];
    uint64_t      encoder_hash[SIM_ENCODER], root_hash;
    sim_stream    streams[SIM_STREAMS];
    bool          poison;     /* every forward pass with it fails */
    uint32_t      not_finite; /* output index whose logits are not finite; UINT32_MAX: none */
    bool          may_fail;   /* an ERROR is justified */
    bool          cancelled, given_up, paused;
    bool          expired; /* by the plan; its end has not been taken yet */
    bool          first_row_seen;
    uint32_t      told; /* tokens of the prompt whose log probability has come */
    uint64_t      submit_step, wait_bound, faults_at_submit;
    uint64_t      recompute_bound;
    sim_operation last;
} sim_request;

typedef struct sim {
    sim_options       run;
    sim_config        config;
    qr_scheduler     *scheduler;
    const quire_plan *plan;
    uint64_t          now_ns, step;
    uint64_t         *slots; /* [num_blocks][block_size], then those of the local blocks */
    uint8_t          *dirty; /* [num_blocks], likewise; holds something else than poison */
    quire_sampled    *results;
    int32_t          *candidates;
    float            *candidate_logprobs;
    sim_request       requests[SIM_REQUESTS];
    sim_request       cancelled; /* the last one, which its client may send again */
    uint32_t          retries;
    uint32_t          live;
    uint64_t          next_id, draws, submitted, finished, refused;
    uint64_t          faulted_steps;   /* failed or refused */
    bool              draining, quiet; /* no arrivals; no faults */
    uint64_t          drain_from, drain_bound;
    /* [record_count] what was seen last */
    qr_sequence_state *states;
    uint32_t          *preemptions;
    bool              *senior_ran; /* since the last preemption */
    bool               failing;    /* commit_failed is being observed */
    bool              *decoding;   /* [record_count] RUNNING with one row to do, before the plan */
    /* [i][j] how far apart the counters were when both tenants began to wait; UINT64_MAX: one does not */
    uint64_t      apart[2 * SIM_TENANTS][2 * SIM_TENANTS];
    uint64_t      events_hash, forced;
    uint64_t      allocations;
    cache_mirror *mirror; /* of a reader of cache events; NULL: there is none */
    sim_coverage *coverage;
    sim_verdict   verdict;
    sigjmp_buf    escape;
} sim;

/* Runs one seed to its end or to the first violation; adds to *coverage. */
void sim_run(const sim_options *options, sim_coverage *coverage, sim_verdict *verdict_out);

/* Ends the run. */
noreturn void sim_fail(sim *s, sim_oracle oracle, const char *format, ...) __attribute__((format(printf, 3, 4)));
void          sim_trace(const sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Random numbers of the seed: by stream and counter, so that leaving one kind of event out disturbs no other. */
uint32_t sim_draw(sim *s, uint32_t limit);                        /* the next, below limit */
uint32_t sim_roll(const sim *s, uint32_t stream, uint32_t limit); /* this step's of a stream */

/* swarm.c */
void sim_draw_config(sim *s);
void sim_draw_request(sim *s, sim_request *r);
/* Makes a field invalid; with which status submit has to refuse it. */
quire_status sim_spoil_request(sim *s, quire_request *request);

/* reference.c */
uint64_t sim_extend(uint64_t hash, int32_t token);
int32_t  sim_token(const sim *s, const sim_request *r, uint64_t hash, int32_t last, const quire_plan_sample *sample);
/* Of a token of the prompt, after the prefix with this hash. */
float sim_given_logprob(uint64_t hash);
void  sim_candidates(const sim *s, const sim_request *r, uint64_t hash, bool mask_stops, int32_t *tokens,
                     float *logprobs);
bool  sim_is_stop(const sim *s, const sim_request *r, int32_t token);
void  sim_expect(sim *s, sim_request *r); /* fills hashes and streams */
/* Of both kinds. */
static inline uint32_t sim_blocks(const sim *s)
{
    return s->config.options.num_blocks + s->config.options.num_local_blocks;
}

uint32_t sim_blocks_needed(const sim *s, const quire_request *request, uint32_t max_tokens);
/* Resolves max_tokens and n; the status submit must return, or one of two where *or_full is set. */
quire_status sim_expected_status(const sim *s, quire_request *request, bool *or_full);

/* model.c */
void sim_forward(sim *s);         /* copies, encoder items, rows, samples */
void sim_forward_garbage(sim *s); /* a step that failed half-way */
void sim_poison_free(sim *s);     /* FREE blocks hold no content */

/* oracle.c */
void sim_check(sim *s);
void sim_before_plan(sim *s);
/* Before sim_observe(): compares with the states before the plan. */
void         sim_check_plan(sim *s, bool refused);
void         sim_check_progress(sim *s, bool refused);
void         sim_check_drained(sim *s);
void         sim_take_events(sim *s);
void         sim_observe(sim *s); /* transitions since the last call */
void         sim_did(sim *s, sim_request *r, sim_operation operation);
sim_request *sim_request_of(const sim *s, uint32_t record);
uint64_t     sim_wait_bound(const sim *s, const sim_request *r);
uint64_t     sim_drain_bound(const sim *s);

/* coverage.c */
const char *sim_oracle_name(sim_oracle oracle);
const char *sim_fault_name(sim_fault fault);
void        sim_coverage_print(const sim_coverage *coverage);
/* How many goals were missed; each is printed. */
uint32_t sim_coverage_gate(const sim_coverage *coverage);

#endif
