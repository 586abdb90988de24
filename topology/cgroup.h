/* What the control groups of this process (v1, v2 and both at once) leave of the machine. Files are read below `root`
 * (NULL = "/"), so that tests bring their own /proc and /sys. Missing files mean no limit. */
#ifndef QR_CGROUP_H
#define QR_CGROUP_H

#include "topology/topology.h"

typedef struct qr_cpu_set {
    uint64_t word[QR_MAX_CPUS / 64];
} qr_cpu_set;

static inline bool qr_cpu_set_has(const qr_cpu_set *set, uint32_t cpu)
{
    return cpu < QR_MAX_CPUS && (set->word[cpu / 64] >> (cpu % 64) & 1) != 0;
}

static inline void qr_cpu_set_add(qr_cpu_set *set, uint32_t cpu)
{
    if (cpu < QR_MAX_CPUS) set->word[cpu / 64] |= (uint64_t)1 << (cpu % 64);
}

/* Reads the kernel's list format, "0-3,8\n". False: not a list, or empty. */
bool qr_cpu_set_parse(const char *text, qr_cpu_set *set_out);

/* The least CPU quota from the process's group up to the root, in CPUs; 0 = none. */
double qr_cgroup_quota(const char *root);

/* The group's cpuset. False: none. */
bool qr_cgroup_cpuset(const char *root, qr_cpu_set *set_out);

/* The least max - (current - inactive_file) up to the root; UINT64_MAX = no limit. */
uint64_t qr_cgroup_memory(const char *root);

/* The first line of root/path, cut at capacity; false: cannot be read. */
bool qr_read_line(const char *root, const char *path, char *line, size_t capacity);

/* The text after `key` in the first line of root/path that starts with it, e.g. "MemAvailable:"; false: absent. */
bool qr_read_field(const char *root, const char *path, const char *key, char *value, size_t capacity);

#endif
