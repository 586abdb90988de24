/* Two results side by side: the ratio of every metric with its interval, what differs between the two, and a gate. */
#ifndef QR_BENCH_COMPARE_H
#define QR_BENCH_COMPARE_H

#include <jansson.h>
#include <stdio.h>

#include "bench/common/statistics.h"

#include "quire/status.h"

typedef enum qr_verdict {
    QR_VERDICT_BETTER,
    QR_VERDICT_WORSE,
    QR_VERDICT_SAME,
    QR_VERDICT_UNCLEAR,
    QR_VERDICT_NONE, /* the two cannot be judged: qr_compare_note() says why */
} qr_verdict;

typedef struct qr_compared { /* one metric */
    char        name[48], unit[12];
    bool        higher_is_better;
    double      a, b;  /* means over the repetitions */
    qr_interval ratio; /* b / a; bounds NAN: no interval can be given; INFINITY: a is 0 */
    qr_verdict  verdict;
} qr_compared;

enum { QR_COMPARED_MAX = 128, QR_DIFFERENCES_MAX = 256 };

typedef struct qr_difference {
    const char *part; /* "config", "build", "machine", "model", "target" */
    char        name[64], a[96], b[96];
} qr_difference;

typedef struct qr_comparison {
    const json_t *a, *b;
    uint32_t      pairs;  /* repetitions of each side that were used; 1: intervals within the runs */
    bool          copies; /* a simulated side's repetitions are all the same, and count once */
    qr_compared   metrics[QR_COMPARED_MAX];
    size_t        metric_count;
    qr_difference differences[QR_DIFFERENCES_MAX];
    size_t        difference_count;
} qr_comparison;

/* A result file; *result_out is the caller's reference, NULL on failure. ERR_IO: cannot be read, or a folder;
 * ERR_FORMAT: not JSON, or refused by qr_result_check(). */
quire_status qr_result_read(const char *path, json_t **result_out, quire_error *error);
quire_status qr_result_load(FILE *from, const char *path, json_t **result_out, quire_error *error);

/* Borrows both. `metrics` are those that both sides measured in every repetition. */
void qr_compare(const json_t *a, const json_t *b, qr_comparison *comparison_out);

/* NULL: no such metric. */
const qr_compared *qr_compare_find(const qr_comparison *comparison, const char *name);

/* Is the result of this side (0 or 1) INVALID or partial? */
bool qr_compare_is_invalid(const qr_comparison *comparison, int side);

/* The first difference of the machine, NULL: none. */
const qr_difference *qr_compare_machine(const qr_comparison *comparison);

/* Are the times of this side (0 or 1) those of a cost model? */
bool qr_compare_is_simulated(const qr_comparison *comparison, int side);

/* By how much b is worse, as a share: 0.03 = 3 %; negative = better. Bounds NAN as in the ratio. */
qr_interval qr_compare_regression(const qr_compared *metric);

const char *qr_verdict_name(qr_verdict verdict);
const char *qr_compare_method(const qr_comparison *comparison); /* of the intervals, a phrase */

/* One sentence: why there are no verdicts, or how many of them chance would give between equal sides. */
void qr_compare_note(const qr_comparison *comparison, char *out, size_t size);

/* A rate that fell to 0: worse, with any number of pairs, unless a side is INVALID. */
bool qr_compare_is_loss(const qr_compared *metric);

void    qr_compare_table(const qr_comparison *comparison, FILE *to); /* at most 100 columns */
json_t *qr_compare_json(const qr_comparison *comparison);            /* a new reference; NULL: out of memory */

#endif
