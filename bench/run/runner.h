/* Plays a workload against an engine and records what happened: a driver thread gives its time to
 * quire_engine_step(), the calling thread submits requests when they are due and takes events. */
#ifndef QR_BENCH_RUNNER_H
#define QR_BENCH_RUNNER_H

#include "bench/run/noise.h"
#include "bench/run/prometheus.h"
#include "bench/run/virtual.h"
#include "bench/workload/workload.h"

#include "quire/quire.h"

enum { QR_STAGES_PER_STEP = 2048 }; /* of one thread; asked of an engine for a trace */

typedef struct qr_preemption_interval { /* preempted, until planned again */
    int64_t from_ns, to_ns;
} qr_preemption_interval;

/* All times are ns from the start of the run; -1 = did not happen. */
typedef struct qr_run_request {
    quire_request_id    id; /* 0: refused */
    qr_workload_request shape;
    int64_t             due_ns, submit_ns, planned_ns, prompt_done_ns, first_ns, end_ns;
    uint32_t            output_tokens, cached_tokens, preemptions, sequences_ended;
    uint64_t            itl_p99_ns; /* of its own gaps, once it has ended; 0: it has none */
    quire_finish        finish;     /* NONE: still running when the run ended */
    quire_status        status;     /* of a refused or failed request */
    bool                encoder_shared;
    uint64_t            wait_ns[QUIRE_WAIT_REASONS];
    qr_preemption_interval
             preemption_intervals[QUIRE_KEPT_PREEMPTIONS]; /* of its first sequence that was preempted; to_ns 0: none */
    double   tpot_ns; /* mean over its sequences of (last - first) / (tokens - 1); < 0: one token only */
    int32_t *kept;    /* [kept_count] tokens of sequence 0, for verification; NULL: not chosen */
    uint32_t kept_count;
} qr_run_request;

typedef struct qr_run_gap { /* an inter-token latency */
    int64_t  end_ns, gap_ns;
    uint32_t request;
} qr_run_gap;

typedef struct qr_run_stage { /* what a thread of the team did in one stage of a step */
    int64_t  start_ns;
    uint32_t busy_ns, wait_ns;
    uint16_t thread;
    uint8_t  kind, encoder; /* quire_stage_kind; 1: of the encoder's layers */
} qr_run_stage;

typedef struct qr_run {
    qr_run_request     *requests; /* [request_count] in order of due time */
    int64_t            *tokens;   /* [token_count] when each output token was sampled */
    qr_run_gap         *gaps;     /* [gap_count] */
    quire_step         *steps;    /* [step_count]; start_ns from the start of the run */
    qr_run_stage       *stages;   /* [stage_count] if the engine keeps them: by step, then by thread */
    size_t              stage_count;
    uint64_t            stages_dropped; /* for want of room */
    size_t              request_count, token_count, gap_count, step_count;
    quire_stats         before, after;           /* at the start and the end of the run */
    quire_stats         stats_first, stats_last; /* at the window's start and end */
    int64_t             window_start_ns, window_end_ns, end_ns;
    uint32_t            held_back; /* requests due in the window and never submitted: the queue was full to the end */
    uint32_t            verified, verify_failed;
    bool                steady;        /* the warm-up ended because the run was steady; true when none was asked for */
    bool                stopped;       /* qr_run_options.stop ended it */
    bool                oversaturated; /* requests came faster than they were served */
    double             *load; /* [load_count] requests due and not ended, at the end of each second of the run */
    uint32_t           *contaminated; /* [contaminated_count] seconds of the run that something else disturbed */
    size_t              load_count, contaminated_count;
    qr_noise_sample     noise_first, noise_last;    /* at the window's start and end */
    qr_thread_placement placement_first, placement; /* likewise; migrations of the latter are those between the two */
    bool                interrupted;                /* SIGINT, or the engine failed: the result is partial */
    quire_status        status;                     /* of the driver */
    double              wall_s;                     /* that a virtual run took to simulate */
} qr_run;

/* Asked each time events were taken, once the window has begun; true ends the run, which is not partial for it. */
typedef struct qr_run_stop {
    bool (*is_wanted)(void *context, const qr_run *run, int64_t now_ns);
    void *context;
} qr_run_stop;

typedef struct qr_run_options {
    quire_engine       *engine;
    qr_virtual         *machine; /* plays on the virtual clock, in place of the engine; or NULL */
    qr_workload        *workload;
    const quire_config *config;
    uint32_t            repetition;
    volatile int       *interrupt;  /* nonzero: end early */
    const qr_run_stop  *stop;       /* NULL: none */
    qr_prometheus      *prometheus; /* NULL: none */
} qr_run_options;

/* ERR_NO_MEMORY, or the engine's error. *run_out is valid in any case; deinit it. */
quire_status qr_run_execute(const qr_run_options *options, qr_run *run_out, quire_error *error);
void         qr_run_deinit(qr_run *run);

#endif
