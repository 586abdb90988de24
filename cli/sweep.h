/* What `quire sweep` and its --capacity share: the points of a sweep, and the file of results. */
#ifndef QR_SWEEP_H
#define QR_SWEEP_H

#include <jansson.h>

#include "bench/result/result.h"
#include "cli/command.h"

enum { QR_MAX_AXES = 8, QR_MAX_POINTS = 4096 };

typedef struct qr_point { /* a combination of the axes' values */
    quire_config *config;
    char         *assignments[QR_MAX_AXES]; /* "load.request_rate=2" */
    char          hash[32];                 /* of the configuration */
} qr_point;

typedef struct qr_sweep {
    const qr_arguments *arguments;
    const quire_config *base;
    const char         *axes[QR_MAX_AXES]; /* keys; they live in base */
    size_t              axis_count;
    qr_point           *points;
    size_t              point_count;
    const char         *path; /* NAME.jsonl */
    int                 file; /* descriptor */
    volatile int       *interrupt;
} qr_sweep;

/* {"load.request_rate": 2}; a new reference. */
json_t *qr_point_axes(const qr_sweep *sweep, const qr_point *point);

/* A result with its place in the sweep, which it takes over. NULL: no memory. */
json_t *qr_sweep_line(const qr_result *result, json_t *place);

/* One more line, whole or not at all; takes the reference. False: said on stderr. */
bool qr_sweep_write(const qr_sweep *sweep, json_t *line);

/* --capacity: a search at every point. The first says on stderr why a configuration cannot be searched, the second
 * prints for --dry-run how many probes a point takes, and how long they are. */
bool qr_sweep_is_searchable(const qr_sweep *sweep);
void qr_sweep_plan_capacity(const qr_sweep *sweep);
int  qr_sweep_capacity(qr_sweep *sweep);

#endif
