/* The mask of the thread that loads the library is the process's, unless an OpenMP runtime has bound that thread
 * before. Then OpenMP tells what it saw: its places, and how many CPUs it could use. */
#include "topology/affinity.h"

#include <omp.h>
#include <sched.h>
#include <string.h>

static qr_cpu_set at_load;
static bool       is_known, is_exact; /* exact: seen before OpenMP could bind the thread */

bool qr_affinity_get(qr_cpu_set *cpus_out)
{
    *cpus_out = (qr_cpu_set){0};
    return sched_getaffinity(0, sizeof *cpus_out, (cpu_set_t *)cpus_out) == 0;
}

bool qr_affinity_set(const qr_cpu_set *cpus)
{
    return sched_setaffinity(0, sizeof *cpus, (const cpu_set_t *)cpus) == 0;
}

/* A constructor, since a host may pin its first thread at any time after. */
__attribute__((constructor)) static void remember(void)
{
    if (!is_known) is_known = qr_affinity_get(&at_load);
}

void qr_affinity_remember(void) { is_known = is_exact = qr_affinity_get(&at_load); }

static uint32_t count_cpus(const qr_cpu_set *set)
{
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof set->word / sizeof *set->word; i++)
        count += (uint32_t)__builtin_popcountll(set->word[i]);
    return count;
}

static void add_places(qr_cpu_set *set)
{
    int cpus[QR_MAX_CPUS];
    for (int place = 0; place < omp_get_num_places(); place++) {
        const int count = omp_get_place_num_procs(place);
        if (count > QR_MAX_CPUS) continue;
        omp_get_place_proc_ids(place, cpus);
        for (int i = 0; i < count; i++) qr_cpu_set_add(set, (uint32_t)cpus[i]);
    }
}

/* All that the kernel would give the calling thread: the container's CPUs. */
static bool widest(qr_cpu_set *set)
{
    qr_cpu_set all;
    memset(&all, 0xff, sizeof all);
    return qr_affinity_set(&all) && qr_affinity_get(set);
}

/* Leaves the first `most` CPUs. */
static void keep_first(qr_cpu_set *set, uint32_t most)
{
    qr_cpu_set kept = {0};
    for (uint32_t cpu = 0; cpu < QR_MAX_CPUS && most > 0; cpu++)
        if (qr_cpu_set_has(set, cpu)) qr_cpu_set_add(&kept, cpu), most--;
    *set = kept;
}

/* Places that were listed outright may leave CPUs out; if all of the container's are as many as OpenMP could use, the
 * process was started with them. They may also name CPUs that the process was not started with: GOMP_CPU_AFFINITY is
 * not checked against the mask. */
static void ask_places(qr_cpu_set *set)
{
    qr_cpu_set     wide;
    const uint32_t usable = (uint32_t)omp_get_num_procs(); /* of the mask at the start */
    add_places(set);
    if (count_cpus(set) < usable && widest(&wide) && count_cpus(&wide) == usable) *set = wide;
    if (count_cpus(set) > usable) {
        if (count_cpus(&at_load) == usable)
            *set = at_load;
        else
            keep_first(set, usable);
    }
}

static void ask_openmp(qr_cpu_set *set)
{
    qr_cpu_set own;
    if (!qr_affinity_get(&own)) return;
    if (omp_get_num_places() > 0) ask_places(set);
    qr_affinity_set(&own); /* also what asking may have done: some runtimes bind a thread at its first call */
}

bool qr_affinity_at_start(qr_cpu_set *cpus_out)
{
    *cpus_out = at_load;
    if (is_known && !is_exact) ask_openmp(cpus_out);
    return is_known;
}
