/* What else happened on the CPUs while a run was measured: time stolen by the hypervisor, other processes, faults,
 * throttling. Read from /proc and /sys below `root` ("" = the real ones), so that tests bring their own. */
#ifndef QR_BENCH_NOISE_H
#define QR_BENCH_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Counters at one moment, of the CPUs that the calling thread may use; what cannot be read is 0. */
typedef struct qr_noise_sample {
    int64_t  time_ns;
    uint32_t cpus;
    double   busy_s, steal_s, own_s; /* busy: not idle, not stolen; own: of that, this process */
    uint64_t involuntary_switches, page_faults, major_faults, throttled_periods;
    uint64_t frequency_khz; /* lowest of the CPUs; 0 = unknown */
} qr_noise_sample;

typedef struct qr_noise {                       /* between two samples */
    double   seconds, steal_share, other_share; /* shares of seconds * cpus */
    uint64_t involuntary_switches, page_faults, major_faults, throttled_periods;
} qr_noise;

/* Of the time: above the first a second is contaminated and a run is warned of, above the second a run is INVALID. */
enum { QR_NOISE_LIMIT_PERCENT = 2, QR_NOISE_INVALID_PERCENT = 5 };

uint64_t qr_throttled_periods(const char *root); /* of this process's control group, since it was made */
void     qr_noise_sample_take(const char *root, qr_noise_sample *sample_out);
qr_noise qr_noise_between(const qr_noise_sample *first, const qr_noise_sample *last);

/* Share of the time that went elsewhere, less what may be a tick of the kernel's clock on the wrong side of an end. */
double qr_noise_share(const qr_noise *noise);

/* True when more than QR_NOISE_LIMIT_PERCENT of the time went elsewhere, pages were read from disk, the cgroup was
 * throttled, or the clock fell by more than a tenth. */
bool qr_noise_is_contaminated(const qr_noise_sample *first, const qr_noise_sample *last);

/* ---- the engine's threads, by their names ---- */

typedef struct qr_thread_placement {
    uint32_t threads;
    uint32_t cpus[64]; /* where the first 64 are now */
    bool     pinned;   /* each to a part of what this process may use; with one CPU alone: true */
    uint64_t migrations;
    uint64_t huge_bytes;   /* of this process's memory, in huge pages (transparent and hugetlbfs) */
    double   memory_local; /* share of this process's memory on the nodes of its threads; NAN: cannot be read */
} qr_thread_placement;

void qr_thread_placement_read(qr_thread_placement *placement_out);

#endif
