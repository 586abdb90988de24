/* The integer part of the cache in one object: pool, prefix index, cross index, in one arena made at creation. */
#ifndef QR_CACHE_H
#define QR_CACHE_H

#include "cache/cross_index.h"
#include "cache/journal.h"
#include "cache/prefix_index.h"

typedef struct qr_cache_options {
    uint32_t        num_blocks, block_size; /* any power of two */
    uint32_t        node_count;             /* 1..QR_MAX_NODES */
    const uint32_t *first_block;            /* [node_count + 1]; NULL: qr_block_pool_split() */
    const uint32_t *node_share;             /* [node_count] of the blocks, for that; NULL: even */
    const uint32_t *node_threads;           /* [node_count] that read them; NULL: as many on each */
    const uint32_t *distance; /* [node_count][node_count] as ACPI's, 10 = local; NULL: |i - j|, all others twice as far
                               */
    uint32_t        max_tenants; /* numbers in [0, max_tenants) */
    bool            extents;
    bool            enable_prefix_caching;
    bool            encoder_decoder; /* with a cross index */
    bool            list_freed;      /* pool.freed, for a host that overwrites what is not used any more */
    bool            keep_journal;    /* for readers who want to know which blocks the prefix index has */
    uint32_t        local_window;    /* of layers whose blocks are apart, in tokens; 0: there are none */
    uint32_t        local_blocks;    /* at most num_blocks; split over the nodes by qr_block_pool_split() */
    uint64_t        hash_seed;       /* picks buckets, and makes the hashes that the journal tells */
    uint32_t        hash_bits;       /* 64; fewer only in tests */
    quire_allocator allocator;
} qr_cache_options;

/* Does not move after creation. */
typedef struct qr_cache {
    qr_block_pool   pool, local; /* local: nothing without local layers */
    qr_prefix_index prefix;
    qr_cross_index  cross;
    qr_journal      journal;
    qr_arena        arena;
    uint32_t       *check_refs, *check_seen; /* [num_blocks] scratch of qr_cache_check */
} qr_cache;

/* ERR_INVALID names the option, ERR_NO_MEMORY the bytes. */
quire_status qr_cache_create(const qr_cache_options *options, qr_cache *cache, quire_error *error);
void         qr_cache_destroy(qr_cache *cache);
/* What create would allocate, in bytes, for valid options: about 110 and 4 * block_size per block, 24 more
 * with a journal. */
size_t qr_cache_bytes(const qr_cache_options *options);

/* What the walker must know of a table to judge it. */
typedef struct qr_cache_holder {
    const qr_block_table *table;     /* of the first pool; its local table comes with it */
    uint32_t              computed;  /* positions committed steps wrote; of a cross table 0 or all */
    uint32_t              write_end; /* the plan in flight writes [computed, write_end) */
    uint32_t              window;    /* sliding window in tokens; 0 = none */
} qr_cache_holder;

/* Everything that holds blocks: each live table once, each copy of the plan in flight. */
typedef struct qr_cache_holders {
    const qr_cache_holder *tables;
    uint32_t               table_count;
    const qr_block_copy   *copies;
    uint32_t               copy_count;
    const qr_block_copy   *local_copies;
    uint32_t               local_copy_count;
} qr_cache_holders;

/* Walks everything, O(blocks + entries + index): NULL, or the first violated rule as a sentence that starts with its
 * number in docs/CACHE.md ("C2: ..."). Changes nothing (it uses scratch of the cache); never aborts. */
const char *qr_cache_check(const qr_cache *cache, const qr_cache_holders *holders);

#endif
