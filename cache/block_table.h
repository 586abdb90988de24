/* The block table of one sequence, self- or cross-attention: entry i names the block of positions [i * bs, i * bs +
 * bs). Tables live where their owner put them and do not move while they hold blocks. All operations are O(blocks
 * touched).
 *
 *   first <= count <= capacity;  blocks[i] == QR_BLOCK_NONE  <=>  i < first (left behind by the window)
 *   published <= count: leading blocks known to the prefix index, `chain` stands for their content
 *
 * Where local layers have blocks of their own, a sequence has two tables: `local` is the one of these layers, and its
 * blocks are the local pool's. Operations on the first one work on both, which always have as many entries:
 *
 *   local->count == count;  first <= local->first */
#ifndef QR_BLOCK_TABLE_H
#define QR_BLOCK_TABLE_H

#include "cache/block_pool.h"

/* Where a chain of the prefix index starts. Sequences share blocks only below equal roots. */
typedef struct qr_prefix_root {
    uint64_t content; /* serial of the cross content; decoder-only: 0, or 1 with the long keys; QR_CONTENT_UNKNOWN: no
                         lookup, no publishing */
    uint8_t  salt[QR_SALT_BYTES];
    uint32_t tenant;
} qr_prefix_root;
#define QR_CONTENT_UNKNOWN UINT64_MAX

struct qr_block_table {
    uint32_t       *blocks; /* [capacity] */
    uint32_t        capacity, count, first;
    qr_prefix_root  root;
    uint32_t        published;
    uint64_t        chain;
    uint32_t        home;     /* node preferred for its blocks */
    uint32_t        reserved; /* next block RESERVED for it, or QR_BLOCK_NONE */
    uint32_t        runs;     /* maximal runs of adjacent ids among its blocks */
    bool            grows;    /* false: a cross table, whose size is known at once */
    bool            running;  /* counted in the pool's runs; may hold RESERVED blocks */
    qr_block_table *local;    /* the owner's to set while it is empty; NULL: all layers are in one block */
};

/* Copy-on-write: the first `slots` slots of block `from` go to `to` before any row of the step is written. */
typedef struct qr_block_copy {
    uint32_t from, to, slots;
} qr_block_copy;

/* Entries before this one have been dropped, of one of the tables at least. */
static inline uint32_t qr_block_table_left_behind(const qr_block_table *table)
{
    return table->local != NULL ? qr_max_u32(table->first, table->local->first) : table->first;
}

/* An empty table over storage[capacity]. Root, home (0) and running (false) are the owner's to set. */
void qr_block_table_init(qr_block_table *table, uint32_t *storage, uint32_t capacity, bool grows,
                         const qr_prefix_root *root);

/* Enters or leaves the RUNNING state: only a running table may hold RESERVED blocks (leaving frees them) and counts in
 * the contiguity statistic. Set it before appending. */
void qr_block_table_set_running(qr_block_pool *pool, qr_block_table *table, bool running);

/* Entries still missing for positions [0, upto). */
uint32_t qr_block_table_missing(const qr_block_pool *pool, const qr_block_table *table, uint32_t upto);
/* Acquires them. All or nothing: false, and nothing changed, if fewer are available (or a fault is injected). */
bool qr_block_table_append(qr_block_pool *pool, qr_block_table *table, uint32_t upto);

/* Appends `count` hits of the prefix index (or the blocks of a cross entry), one reference more each; entries below
 * `first_live` become NONE and are not referenced (sliding window; 0 without). The local table gets the partners that
 * its window shows. */
void qr_block_table_adopt(qr_block_pool *pool, qr_block_table *table, const uint32_t *hits, uint32_t count,
                          uint32_t first_live);

/* True if the block of this position exists and may not be written: somebody else reads it, or it is indexed. */
bool qr_block_table_needs_copy(const qr_block_pool *pool, const qr_block_table *table, uint32_t position);
/* Makes it writable. If it must be copied: acquires a block, replaces the entry, and when slots before `position` are
 * to be kept fills *copy and pins copy->from until the commit (qr_block_pool_unpin); else copy->slots = 0 and nothing
 * is pinned. With a local table copy[1] is its own. False, and nothing changed, if no block is available (or a fault is
 * injected). */
bool qr_block_table_make_writable(qr_block_pool *pool, qr_block_table *table, uint32_t position, qr_block_copy *copy);

/* The child (initialised, empty, capacity large enough, with a local table if the parent has one) names the same
 * blocks, one reference more each. It takes over root, chain, home; not RESERVED blocks, not `running`. */
void qr_block_table_fork(qr_block_pool *pool, const qr_block_table *parent, qr_block_table *child);

/* Drops entries from the tail until `keep` are left, and the RESERVED blocks. A table the window has left parts of
 * (qr_block_table_left_behind() > 0) keeps either all or nothing that is live: keep >= count or keep == 0. */
void qr_block_table_truncate(qr_block_pool *pool, qr_block_table *table, uint32_t keep);
/* At commit: drops the blocks that no position >= computed can see through a window of `window` tokens; of the local
 * table, through its own. */
void qr_block_table_slide(qr_block_pool *pool, qr_block_table *table, uint32_t computed, uint32_t window);
/* All entries, last to first, then the RESERVED blocks. The table is empty and usable again. */
void qr_block_table_release(qr_block_pool *pool, qr_block_table *table);

#endif
