/* A binary heap of records by rank, and a map from request ids to records. Storage is the caller's, sized for every
 * record, so that nothing here can fail. */
#ifndef QR_QUEUE_H
#define QR_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

/* Compared field by field; smaller is more senior. */
typedef struct qr_rank {
    int64_t  high;
    uint64_t low;
    uint64_t tie; /* request number and sequence index: no two records have equal ranks */
} qr_rank;

static inline bool qr_rank_before(const qr_rank *a, const qr_rank *b)
{
    if (a->high != b->high) return a->high < b->high;
    if (a->low != b->low) return a->low < b->low;
    return a->tie < b->tie;
}

typedef struct qr_heap_node {
    qr_rank  rank;
    uint32_t item;
} qr_heap_node;

/* nodes[0] is the most senior; index_of[nodes[i].item] = i. Heaps whose items are disjoint may share `index_of`. */
typedef struct qr_heap {
    qr_heap_node *nodes;
    uint32_t     *index_of; /* by item; QR_NONE: not in the heap (the caller's to start with) */
    uint32_t      count;
} qr_heap;

void qr_heap_push(qr_heap *heap, const qr_rank *rank, uint32_t item);
void qr_heap_remove(qr_heap *heap, uint32_t item);
bool qr_heap_check(const qr_heap *heap); /* order and index_of */

/* Open addressing with linear probing; at most half full. Key 0 marks an empty bucket. */
typedef struct qr_id_bucket {
    uint64_t id;
    uint32_t record;
} qr_id_bucket;

typedef struct qr_id_map {
    qr_id_bucket *buckets; /* [mask + 1] */
    uint32_t      mask;
} qr_id_map;

uint32_t qr_id_map_buckets(uint32_t records);               /* power of two to allocate for so many */
uint32_t qr_id_map_find(const qr_id_map *map, uint64_t id); /* QR_NONE */
void     qr_id_map_insert(qr_id_map *map, uint64_t id, uint32_t record);
void     qr_id_map_remove(qr_id_map *map, uint64_t id);

#endif
