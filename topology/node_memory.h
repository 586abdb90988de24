/* An allocator for what threads of several nodes work in. Each allocation is a mapping of its own, so that its pages
 * can be bound, parts of it to one node, and no policy stays behind on memory that somebody else gets later. Bound
 * memory is also left alone by the kernel's automatic balancing, which would take access to pages away to see who needs
 * them. */
#ifndef QR_NODE_MEMORY_H
#define QR_NODE_MEMORY_H

#include "topology/placement.h"

#include "quire/hooks.h"

/* Deals pages to the placement's nodes in turn; `placement` must outlive what is allocated. On a machine with one node
 * it is `otherwise`. For few and large allocations. Thread: any. */
quire_allocator qr_node_allocator(const qr_placement *placement, const quire_allocator *otherwise);

/* Moves the whole pages of a part of such an allocation to one node, for good. */
void qr_node_memory_give(void *base, size_t bytes, uint32_t node_os);

#endif
