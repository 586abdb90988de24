/* Effects: memory on a node, huge pages, pinned threads. Each says what really happened. */
#ifndef QR_BIND_H
#define QR_BIND_H

#include "base/log.h"
#include "topology/placement.h"

typedef struct qr_mapping {
    char  *base;  /* 2 MiB-aligned, zero, not yet touched */
    size_t bytes; /* rounded up to 2 MiB */
    bool   huge;  /* madvise(MADV_HUGEPAGE) accepted */
} qr_mapping;

typedef struct qr_bind_options {
    quire_toggle huge_pages; /* on: ERR_NO_MEMORY where refused; auto: one warning */
    bool         strict;     /* a refused binding is ERR_UNSUPPORTED, else a warning */
    qr_log      *log;
} qr_bind_options;

/* Anonymous memory by mmap; pages are placed where first touched unless bound. ERR_NO_MEMORY names the bytes. */
quire_status qr_mapping_create(size_t bytes, const qr_bind_options *options, const char *what, qr_mapping *mapping_out,
                               quire_error *error);
void         qr_mapping_destroy(qr_mapping *mapping);

/* Binds [offset, offset + bytes), widened to whole pages, to a node by its os_index. No-op on a machine with one. */
quire_status qr_mapping_bind(const qr_mapping *mapping, size_t offset, size_t bytes, uint32_t node_os,
                             uint32_t machine_nodes, const qr_bind_options *options, quire_error *error);

/* Deals the mapping's pages to the nodes in turn, for memory that threads of all of them share; to one node, binds it.
 */
quire_status qr_mapping_spread(const qr_mapping *mapping, const uint32_t *node_os, uint32_t count,
                               uint32_t machine_nodes, const qr_bind_options *options, quire_error *error);

/* Binds whole pages and moves those that are elsewhere. A refusal changes nothing. */
void qr_bind_and_move(void *begin, size_t bytes, uint32_t node_os);

/* Pins the calling thread: to the CPU, or with QUIRE_BIND_CORE to those hardware threads of its core that the calling
 * thread may use already, so that it can leave one that an interrupt or a neighbour keeps busy. */
quire_status qr_bind_thread(uint32_t cpu_os, quire_bind bind, const qr_bind_options *options, quire_error *error);

#endif
