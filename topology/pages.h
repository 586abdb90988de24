/* Where pages of memory are, asked of the kernel. Costs a system call for every 512 pages: on demand, never in a step.
 * A page that a range holds only a part of does not count as its. */
#ifndef QR_PAGES_H
#define QR_PAGES_H

#include "topology/topology.h"

/* The nodes that may hold the pages of a range, by os_index. */
typedef struct qr_node_set {
    const uint32_t *node_os; /* [count] */
    uint32_t        count;
} qr_node_set;

typedef struct qr_page_count {
    uint64_t right, wrong; /* on one of the set's nodes, on another */
    uint64_t absent;       /* never touched, so nowhere yet */
    uint32_t wrong_node;   /* where the first wrong one is */
} qr_page_count;

/* Adds to *count. ERR_UNSUPPORTED: the kernel does not say (no NUMA in it, or a sandbox forbids the question). */
quire_status qr_pages_count(const void *base, size_t bytes, qr_node_set planned, qr_page_count *count,
                            quire_error *error);

#endif
