/* The machine as the process may use it: nodes, cores, hardware threads, caches, limits. The only user of hwloc is
 * this folder; hwloc types do not leave it. */
#ifndef QR_TOPOLOGY_H
#define QR_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quire/status.h"

enum { QR_MAX_NODES = 64, QR_MAX_CPUS = 4096 };

typedef struct qr_cpu {
    uint32_t os_index; /* as in /proc/cpuinfo and sched_setaffinity */
    uint32_t core;     /* hardware threads of one core share it */
    uint32_t node;     /* index into nodes[] */
    uint32_t package;
    bool     allowed; /* by the affinity mask the process was started with, and the cgroup's cpuset */
} qr_cpu;

typedef struct qr_node {
    uint32_t os_index;
    uint64_t memory_bytes;
    uint32_t distance[QR_MAX_NODES]; /* to nodes[i]; 10 = local */
} qr_node;

typedef struct qr_topology {
    qr_cpu  *cpus; /* [cpu_count] by (node, core, os_index) */
    uint32_t cpu_count;
    qr_node  nodes[QR_MAX_NODES];
    uint32_t node_count;         /* nodes with memory; at least 1 */
    uint64_t l2_bytes, l3_bytes; /* of one core, of the process's cores together; 0 = unknown */
    double   quota_cpus;         /* cgroup CPU quota, 0 = none */
    bool     synthetic;          /* from a description: nothing can be bound */
} qr_topology;

typedef struct qr_topology_source {
    const char *synthetic; /* hwloc synthetic string, e.g. "pack:2 node:1 core:4 pu:2"; NULL = this machine */
    const char *root;      /* where /proc and /sys are, for tests; NULL = "/" */
} qr_topology_source;

/* ERR_UNSUPPORTED, ERR_NO_MEMORY. Thread: any. */
quire_status qr_topology_create(const qr_topology_source *source, qr_topology *topology_out, quire_error *error);
void         qr_topology_destroy(qr_topology *topology);

/* Bytes of memory this process can still take: the least of MemAvailable, every cgroup's (v1 and v2) max - (current -
 * inactive_file) up to the root, RLIMIT_AS - VmSize. `root` as above. */
uint64_t qr_memory_limit(const char *root);

/* Bytes of a node that are free or hold files that can be dropped; UINT64_MAX: the kernel does not say. */
uint64_t qr_node_free_memory(const char *root, uint32_t node_os);

#endif
