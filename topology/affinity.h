/* The CPUs that this process was started with. The kernel keeps a mask for each thread and none for the process, and
 * the calling thread's may say something else: OpenMP binds the first thread while it loads (OMP_PROC_BIND, OMP_PLACES,
 * GOMP_CPU_AFFINITY), hosts pin theirs. */
#ifndef QR_AFFINITY_H
#define QR_AFFINITY_H

#include "topology/cgroup.h"

/* False: the kernel does not say. Thread: any. */
bool qr_affinity_at_start(qr_cpu_set *cpus_out);

/* For a program's .preinit_array, which runs before any library's constructor, OpenMP's among them: then the mask is
 * known and not inferred. A library has no such array. */
void qr_affinity_remember(void);

/* Of the calling thread. */
bool qr_affinity_get(qr_cpu_set *cpus_out);
bool qr_affinity_set(const qr_cpu_set *cpus);

#endif
