/* Which CPU each thread is pinned to: a pure function of topology and options, so that big machines are tested on
 * small ones. */
#ifndef QR_PLACEMENT_H
#define QR_PLACEMENT_H

#include "topology/topology.h"

#include "quire/options.h"

enum { QR_MAX_THREADS = 1024 };

typedef struct qr_placement {
    uint32_t   thread_count;
    uint32_t   cpu[QR_MAX_THREADS];   /* os_index of each thread's CPU */
    uint32_t   node[QR_MAX_THREADS];  /* index into the placement's nodes, 0..node_count-1; never decreases */
    uint32_t   node_count;            /* nodes that have at least one thread */
    uint32_t   machine_nodes;         /* nodes with memory, whoever uses it; with one of them nothing needs binding */
    uint32_t   node_os[QR_MAX_NODES]; /* their os_index */
    uint32_t   node_distance[QR_MAX_NODES][QR_MAX_NODES];
    uint32_t   node_threads[QR_MAX_NODES]; /* threads on each */
    quire_bind bind;
} qr_placement;

/* options: cpus, threads, smt, bind of [topology]. One thread per allowed physical core by default, at most
 * floor(quota), at least 1; fewer threads than cores are spread evenly over nodes and cores. ERR_INVALID: `cpus`
 * cannot be read, names absent or forbidden CPUs (a place, e.g. "node:0", stands for its allowed ones), or holds fewer
 * than `threads` (with bind = none they share). `warning_out` (256 bytes) gets a sentence when more threads than the
 * quota were asked for, else "". */
quire_status qr_placement_plan(const qr_topology *topology, const quire_engine_options *options,
                               qr_placement *placement_out, char *warning_out, quire_error *error);

#endif
