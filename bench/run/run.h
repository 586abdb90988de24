/* The record of a run: what each request, token, step and stage did, and when. Metrics are computed from it afterwards
 * (bench/result). All times are ns from the start of the run; -1 = did not happen. */
#ifndef QR_BENCH_RUN_H
#define QR_BENCH_RUN_H

#include "bench/run/noise.h"
#include "bench/workload/workload.h"

#include "quire/quire.h"

typedef struct qr_preemption_interval { /* from the preemption until planned again; to_ns 0: there is none */
    int64_t from_ns, to_ns;
} qr_preemption_interval;

/* A request's life. A closed loop's request is due when the one before it on its stream ended.
 *
 *   due <= submit <= planned <= prompt_done <= first <= end
 *
 * due and submit are the generator's; the rest is the target's: `planned` when its first row entered a plan,
 * `prompt_done` when its prompt was computed, `first` and `end` when its first and last token were sampled. */
typedef struct qr_run_request {
    quire_request_id       id; /* 0: refused */
    qr_workload_request    shape;
    int64_t                due_ns, submit_ns, planned_ns, prompt_done_ns, first_ns, end_ns;
    uint32_t               output_tokens, cached_tokens, preemptions, sequences_ended;
    uint64_t               itl_p99_ns; /* of its own gaps, once it has ended; 0: it has none */
    quire_finish           finish;     /* NONE: still running when the run ended */
    quire_status           status;     /* of a refused or failed request */
    bool                   encoder_shared;
    uint64_t               wait_ns[QUIRE_WAIT_REASONS];
    qr_preemption_interval preemption_intervals[QUIRE_KEPT_PREEMPTIONS]; /* of its first sequence that was preempted */
    double                 tpot_ns; /* mean over its sequences of (last - first) / (tokens - 1); < 0: one token only */
    int32_t               *kept;    /* [kept_count] tokens of sequence 0, for verification; NULL: not chosen */
    uint32_t               kept_count;
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
    size_t              request_count, token_count, gap_count, step_count, stage_count;
    uint64_t            stages_dropped;          /* for want of room */
    uint32_t            ended;                   /* requests, refused ones too */
    quire_stats         before, after;           /* at the start and the end of the run */
    quire_stats         stats_first, stats_last; /* at the window's start and end */
    int64_t             window_start_ns, window_end_ns, end_ns;
    uint32_t            held_back; /* requests due in the window and never submitted: the queue was full to the end */
    uint32_t            verified, verify_failed;
    bool                steady;      /* the warm-up ended because the run was steady; true when none was asked for */
    bool                stopped;     /* an overload or qr_run_options.stop ended it */
    bool                overloaded;  /* requests came faster than they were served */
    bool                interrupted; /* SIGINT, or the target failed: the result is partial */
    bool                is_remote;   /* of a server: no steps, and of a request no more than when its tokens came */
    double             *load;        /* [load_count] requests due and not ended, at the end of each second of the run */
    uint32_t           *contaminated; /* [contaminated_count] seconds of the run that something else disturbed */
    size_t              load_count, contaminated_count;
    qr_noise_sample     noise_first, noise_last;    /* at the window's start and end */
    qr_thread_placement placement_first, placement; /* likewise; migrations of the latter are those between the two */
    double              wall_s;                     /* that it took; a simulated run takes less than it lasts */
} qr_run;

void qr_run_deinit(qr_run *run);

/* "stop"; NONE, of a request that did not end: "unfinished". */
const char *qr_finish_name(quire_finish finish);

#endif
