/* One live line on a terminal, plain lines elsewhere; always on stderr. */
#ifndef QR_BENCH_PROGRESS_H
#define QR_BENCH_PROGRESS_H

#include <stdbool.h>

#include "quire/quire.h"

typedef struct qr_progress {
    enum { QR_PROGRESS_NONE, QR_PROGRESS_TTY, QR_PROGRESS_PLAIN, QR_PROGRESS_JSONL } mode;
    uint32_t repetition;
    int64_t  shown_ns, shown_wall_ns; /* when the last line was shown, on the run's clock and on the wall's */
    uint64_t tokens;                  /* output tokens at that time */
    double   rate;                    /* tokens per second, smoothed */
} qr_progress;

void qr_progress_init(qr_progress *progress, const quire_config *config, uint32_t repetition);

typedef struct qr_progress_state {
    int64_t  now_ns, wall_ns;          /* from the start of the run, on its clock and on the wall's */
    int64_t  end_ns;                   /* of the window, then of the grace, on the run's clock; 0: not known yet */
    uint32_t done, total;              /* requests; total UINT32_MAX: unknown */
    bool     warm, closed, is_virtual; /* closed: the window is over */
} qr_progress_state;

bool qr_progress_is_due(const qr_progress *progress, int64_t wall_ns);
void qr_progress_show(qr_progress *progress, const quire_stats *stats, const qr_progress_state *state);

/* After the run: `done` of the `total` requests to be decoded again alone have been. */
void qr_progress_show_verification(qr_progress *progress, int64_t wall_ns, uint32_t done, uint32_t total);
void qr_progress_end(qr_progress *progress);

#endif
