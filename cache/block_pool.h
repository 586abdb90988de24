/* Hands out blocks, counts who uses them and remembers in which order they became free. Integers only: it never touches
 * a KV byte, reads no clock and draws no random number; the same calls give the same blocks. Callers use block_table.h;
 * what they need from here are the counters. One thread at a time. docs/CACHE.md is the specification. */
#ifndef QR_BLOCK_POOL_H
#define QR_BLOCK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/list.h"
#include "base/memory.h"
#include "topology/topology.h" /* QR_MAX_NODES */

#define QR_BLOCK_NONE QR_NONE
enum { QR_EXTENT_BLOCKS = 8, QR_SALT_BYTES = 16 };

typedef struct qr_block_table  qr_block_table;
typedef struct qr_prefix_index qr_prefix_index;
typedef struct qr_cross_index  qr_cross_index;

/* Every block is in exactly one state:
 *   FREE      no content
 *   RESERVED  no content, promised to one table of a RUNNING sequence as the rest of its extent
 *   USED      refs + pins > 0
 *   CACHED    refs = pins = 0, in an index, in its tenant's list
 *   free + reserved + used + cached = num_blocks, per node and in all */
typedef enum qr_block_state { QR_BLOCK_FREE, QR_BLOCK_RESERVED, QR_BLOCK_USED, QR_BLOCK_CACHED } qr_block_state;
/* PARTNER: of a local pool, the local layers' part of a block that the prefix index has. */
typedef enum qr_block_index { QR_INDEX_NONE, QR_INDEX_PREFIX, QR_INDEX_CROSS, QR_INDEX_PARTNER } qr_block_index;

typedef struct qr_block {
    uint64_t    serial;   /* of this use, never given twice */
    uint64_t    chain;    /* serial that stands for the content up to the end of this block; 0: unknown */
    uint64_t    parent;   /* indexed: chain of the previous block; of a root: serial of the cross content, or 0 */
    uint64_t    released; /* stamp of the release that made it CACHED or FREE */
    const void *owner;    /* RESERVED: its table */
    uint8_t     salt[QR_SALT_BYTES]; /* of a root, else 0 */
    uint32_t    refs;                /* table entries naming it */
    uint32_t    pins;                /* copies of the step in flight that read it */
    uint32_t    tenant;
    qr_link     link;      /* in the list of its state; head: released first */
    qr_link     hash_link; /* in its bucket */
    uint32_t    bucket;
    uint8_t     state, index, node;
    bool        root; /* indexed as block 0 of a sequence */
} qr_block;
_Static_assert(sizeof(qr_block) == 96, "the size of the pool is computed with it");

typedef struct qr_pool_tenant {
    uint32_t weight; /* >= 1 */
    uint32_t used, cached;
} qr_pool_tenant;

/* Extents with exactly k FREE blocks, two levels: bit e of words, and bit w of summary when words[w] != 0. */
typedef struct qr_extent_set {
    uint64_t *words, *summary;
} qr_extent_set;

/* The blocks [first, end) of one node. Extent e of the node is [first + 8e, first + 8e + 8), cut at end. */
typedef struct qr_pool_node {
    uint32_t      first, end;
    uint32_t      extent_count, word_count, summary_count;
    uint32_t      free, reserved, used, cached;
    uint8_t      *free_mask; /* [extent_count] FREE blocks of each extent */
    qr_extent_set by_free[QR_EXTENT_BLOCKS + 1];
    qr_list       free_list;             /* extents off: FREE in release order */
    qr_list       reserved_list;         /* in order of reservation */
    qr_list      *cached_lists;          /* [max_tenants] */
    uint32_t     *active, *active_place; /* tenants with CACHED blocks here, [active_count]; [max_tenants] */
    uint32_t      active_count;
    uint8_t      *order;   /* [node_count] this node first, then by distance */
    uint16_t     *percent; /* [node_count] what its threads pay to read another node's memory; 100: their own's price */
    uint32_t      threads;
    uint64_t      load; /* blocks in tables of RUNNING sequences that are at home here */
} qr_pool_node;

typedef struct qr_block_pool qr_block_pool;
struct qr_block_pool {
    qr_block        *blocks; /* [num_blocks] */
    int32_t         *tokens; /* [num_blocks][block_size] of indexed blocks */
    qr_pool_node    *nodes;  /* [node_count] */
    qr_pool_tenant  *tenants;
    qr_prefix_index *prefix;
    qr_cross_index  *cross; /* NULL: decoder-only */
    uint32_t         num_blocks, block_size, node_count, max_tenants;
    bool             extents;
    bool             keep;                         /* indexed blocks stay after their last release */
    uint32_t         free, reserved, used, cached; /* all nodes */
    uint64_t         last_serial, last_release;
    uint32_t         load_percent;     /* of the least load of a node: so much is no reason to live elsewhere */
    uint64_t         run_blocks, runs; /* blocks, and maximal runs of adjacent ids, in tables of RUNNING sequences */
    uint64_t         extents_taken, extents_evicted, reservation_thefts, evictions;
    uint64_t         spilled;    /* blocks acquired away from the table's home */
    bool             list_freed; /* keep the list below */
    uint32_t        *freed;      /* [freed_count <= num_blocks] blocks that lost their content since the last clear */
    uint8_t         *is_freed;   /* [num_blocks] listed */
    uint32_t         freed_count;
    uint32_t         fail_after; /* fault injection: the fail_after-th next acquisition is refused; 0 = none */
    /* Local layers beside those that see everything: their blocks are in a pool of their own. */
    qr_block_pool *local;   /* NULL: none, or this is it */
    uint32_t       window;  /* of a local pool, in tokens */
    uint32_t      *partner; /* [num_blocks] of an indexed block, in the other pool; or QR_BLOCK_NONE */
};

/* Splits num_blocks over the nodes: first_block[node_count + 1]. By their shares (NULL: evenly), at whole extents where
 * there are 8 blocks for each node. */
void qr_block_pool_split(uint32_t num_blocks, uint32_t node_count, const uint32_t *share, uint32_t *first_block);

/* What a table can still get: with local blocks, of each kind. */
static inline uint32_t qr_block_pool_available(const qr_block_pool *pool)
{
    const uint32_t here = pool->free + pool->reserved + pool->cached;
    return pool->local == NULL ? here : qr_min_u32(here, qr_block_pool_available(pool->local));
}

/* The first block of which a row at position `computed` sees something through a window of so many tokens (0: none). */
static inline uint32_t qr_first_visible_block(uint32_t computed, uint32_t window, uint32_t block_size)
{
    return window > 0 && computed + 1 > window ? (computed + 1 - window) / block_size : 0;
}

/* Where a sequence that finds `hits` and takes `fresh` blocks should live: where they cost least, of the nodes whose
 * threads have at most load_percent of the least to read with it. Blocks of other nodes cost what the distance says:
 * hits there, and fresh ones beyond what the node has available. So it goes to the node that holds its prefix, unless
 * that has so much to read that others would have to help, from afar, with all of it. Equal ones: least load, then most
 * blocks available, then the lowest. */
uint32_t qr_block_pool_home(const qr_block_pool *pool, const uint32_t *hits, uint32_t count, uint32_t fresh);

/* One block for entry `entry` of the table, of `wanted` that are wanted now in its group of 8 (section 3 of the page);
 * USED, refs = 1, new serial. The caller made sure that one is available. */
uint32_t qr_block_pool_acquire(qr_block_pool *pool, qr_block_table *table, uint32_t entry, uint32_t wanted);
/* One more reference; a CACHED block becomes USED. */
void qr_block_pool_share(qr_block_pool *pool, uint32_t block);
/* One reference less; the last one makes it CACHED if it is indexed (and kept), else FREE, unless it is pinned. */
void qr_block_pool_release(qr_block_pool *pool, uint32_t block);
/* A copy of the step in flight reads it: it stays USED until unpin. */
void qr_block_pool_pin(qr_block_pool *pool, uint32_t block);
void qr_block_pool_unpin(qr_block_pool *pool, uint32_t block);
/* Every CACHED block becomes FREE, those of the local pool, too; as in the functions below. */
void qr_block_pool_flush(qr_block_pool *pool);

/* The host has overwritten the blocks of pool->freed. Before a block's new content is written, and only then, since a
 * listed block may have a new user already. */
void qr_block_pool_freed_clear(qr_block_pool *pool);

/* Weights choose whose blocks are evicted: of the tenant with the largest (USED + CACHED) / weight. 1 until set. */
void qr_block_pool_set_weight(qr_block_pool *pool, uint32_t tenant, uint32_t weight);
/* Before a tenant number is given to another tenant: drops its CACHED blocks. It must have none USED. */
void qr_block_pool_forget_tenant(qr_block_pool *pool, uint32_t tenant);

/* For block_table.c: the blocks RESERVED for the table become FREE. */
void qr_block_pool_unreserve(qr_block_pool *pool, qr_block_table *table);
/* For the indexes: content of a CACHED block is forgotten, it becomes FREE; a USED one only loses its entry. */
void qr_block_pool_unindex(qr_block_pool *pool, uint32_t block);
/* Counts an acquisition for `fail_after`; true: this one is to be refused. */
bool qr_block_pool_refuses(qr_block_pool *pool);

#endif
