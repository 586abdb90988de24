/* How fast the threads of each node read the memory of each node. */
#ifndef QR_NODE_BANDWIDTH_H
#define QR_NODE_BANDWIDTH_H

#include "kernels/kernels.h"
#include "topology/team.h"

typedef struct qr_node_bandwidth {
    uint32_t node_count; /* memories, by os_index; those of the topology, with or without threads */
    uint32_t node_os[QR_MAX_NODES];
    double gbs[QR_MAX_NODES][QR_MAX_NODES]; /* [of the placement's nodes: reader][memory]; 0 = could not be measured */
} qr_node_bandwidth;

/* Of GB = 10^9 bytes, the median of some reads by all threads of the reading node while the others are idle. Takes a
 * few tens of milliseconds for each pair, and up to 64 MiB of a node at a time. A node that does not lend that much
 * has 0. Thread: owner of the team. */
void qr_node_bandwidth_measure(qr_team *team, const qr_kernels *kernels, const qr_topology *topology,
                               qr_node_bandwidth *bandwidth_out);

#endif
