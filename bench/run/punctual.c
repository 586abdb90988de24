/* sched_setattr(2), which the C library does not wrap. */
#include "bench/run/punctual.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* struct sched_attr of Linux in its first version, which <sched.h> of Debian 12 does not have. */
typedef struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t  nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns; /* of SCHED_OTHER: the slice, 0 = the default */
} attributes;

static const uint64_t short_slice_ns = 100000; /* the least that is taken */

void qr_punctual(bool wanted)
{
    attributes own = {.size = sizeof own, .policy = SCHED_OTHER, .runtime_ns = wanted ? short_slice_ns : 0};
    if (sched_getscheduler(0) != SCHED_OTHER) return;
    errno    = 0;
    own.nice = getpriority(PRIO_PROCESS, 0);
    if (errno == 0) (void)syscall(SYS_sched_setattr, 0, &own, 0);
}
