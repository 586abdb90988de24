/* The part of a run that counts: after the warm-up, for run.duration; and what is looked at meanwhile, once a second. A
 * run without a duration is its own window. */
#ifndef QR_BENCH_WINDOW_H
#define QR_BENCH_WINDOW_H

#include "bench/run/target.h"
#include "bench/run/watch.h"

typedef struct qr_window {
    const qr_target *target;
    qr_run          *run;
    qr_watch         watch;
    const char      *warmup_mode; /* run.warmup.mode */
    int64_t          warmup_min_ns, warmup_max_ns;
    double           warmup_slope;
    int64_t          duration_ns, grace_ns; /* duration 0: the whole run */
    bool             is_open_loop, stop_overloaded;
    bool             is_open, is_closed;
} qr_window;

/* is_open_loop: requests come whether or not others have ended; no other loop can fail to keep up. */
void qr_window_init(qr_window *window, const qr_target *target, const quire_config *config, bool is_open_loop,
                    qr_run *run);

/* Opens the window when the warm-up is over, and closes it when the duration is. */
void qr_window_pass(qr_window *window, int64_t now_ns);

/* When it ends by the clock; INT64_MAX: not known yet, or never. */
int64_t qr_window_end_ns(const qr_window *window);

/* Over, and the time that requests in flight had to end as well. */
bool qr_window_is_past_grace(const qr_window *window, int64_t now_ns);

/* Once a second: notes the load and what else used the CPUs. True: the run should end, since it cannot keep up. */
bool qr_window_watch(qr_window *window, int64_t now_ns, double load);

/* The run ends here: the window too, at the latest. */
void qr_window_finish(qr_window *window, int64_t now_ns);

/* After that, and after the requests that were held back are counted: sets run->overloaded where the counts show it. */
void qr_window_judge(qr_window *window);

#endif
