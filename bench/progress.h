/* One live line on a terminal, plain lines elsewhere; always on stderr. */
#ifndef QR_BENCH_PROGRESS_H
#define QR_BENCH_PROGRESS_H

#include <stdbool.h>

#include "quire/quire.h"

typedef struct qr_progress {
    enum { QR_PROGRESS_NONE, QR_PROGRESS_TTY, QR_PROGRESS_PLAIN, QR_PROGRESS_JSONL } mode;
    uint32_t repetition;
    int64_t  shown_ns; /* when the last line was shown */
    uint64_t tokens;   /* output tokens at that time */
    double   rate;     /* tokens per second, smoothed */
} qr_progress;

void qr_progress_init(qr_progress *progress, const quire_config *config, uint32_t repetition);

/* Shows a line if it is time for one. `total` UINT32_MAX: unknown. */
void qr_progress_show(qr_progress *progress, const quire_engine *engine, int64_t now_ns, uint32_t done, uint32_t total,
                      bool warm);
void qr_progress_end(qr_progress *progress);

#endif
