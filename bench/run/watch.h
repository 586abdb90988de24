/* What a run is watched for, once a second: whether load and throughput are steady, whether requests come faster than
 * they are served, and what else used the CPUs. */
#ifndef QR_BENCH_WATCH_H
#define QR_BENCH_WATCH_H

#include "bench/run/run.h"

enum { QR_STEADY_SECONDS = 10, QR_SATURATION_SECONDS = 30, QR_SWAMPED_SECONDS = 10 };
enum { QR_SWAMPED_REQUESTS = 100, QR_SWAMPED_TIMES = 4 };

typedef struct qr_watch {
    int64_t         next_ns;              /* when the next second ends */
    qr_noise_sample previous;             /* at the end of the last one */
    int64_t         look_s;               /* the length of the window at which overload is looked for next */
    bool            falls_behind;         /* so it seemed at the last look */
    bool            is_virtual;           /* time is simulated: what else happens here does not matter */
    bool            is_remote;            /* other processes may be the server: their time is none of the noise */
    bool            has_begun, has_ended; /* the window */
} qr_watch;

/* Begins at the start of the run. */
void qr_watch_start(qr_watch *watch, bool is_virtual, bool is_remote);

/* True once a second, after the second's load (requests due and not ended) and noise went into the run. ERR_NO_MEMORY
 * leaves them out. */
bool qr_watch_second(qr_watch *watch, qr_run *run, int64_t now_ns, double load);

/* The window begins or ends here; the first call of each counts. A window that never began ends as if it had been the
 * whole run. */
void qr_watch_window_starts(qr_watch *watch, qr_run *run);
void qr_watch_window_ends(qr_watch *watch, qr_run *run);

/* Over the last 10 s, in 1 s buckets: the least-squares slopes of output tokens per second and of the load are within
 * +-slope of their mean per 10 s, or cannot be told from 0 (95 %). False before 10 s. */
bool qr_watch_is_steady(const qr_run *run, int64_t now_ns, double slope);

/* Over the window so far, in 30 parts: load and ttft grow, each with a slope whose 95 % interval is positive, and by at
 * least half its mean; and the load by at least a tenth of the requests that came. Looked at when the window is 30, 45,
 * 67, 100 ... s long: over a few seconds every queue grows now and then, and who looks each second finds one that does.
 * True when two looks in a row say so, since a burst passes; false in between. */
bool qr_watch_is_overloaded(qr_watch *watch, const qr_run *run, int64_t now_ns);

/* Of a run that has ended, by its counts: two looks in a row are not needed to see that, nor is a TTFT. Either the
 * window is of 10 s and more, and the load grew in it (what came less what ended) by at least 10 requests, and by more
 * than came in it and got their first token. Or, however short the window, at its end at least 100 requests that came
 * in it had not been begun, and 4 times as many as were begun in it. */
bool qr_watch_is_swamped(const qr_run *run);

#endif
