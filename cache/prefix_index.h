/* Finds full, committed blocks by content: the key is (chain of the previous block, or the root) and the token ids, and
 * is compared in full on every hit. The hash only picks the bucket, so no decision depends on it. */
#ifndef QR_PREFIX_INDEX_H
#define QR_PREFIX_INDEX_H

#include "cache/block_table.h"
#include "cache/journal.h"

struct qr_prefix_index {
    qr_block_pool *pool;
    qr_journal    *journal;
    uint32_t      *buckets; /* [bucket_mask + 1] first block or QR_BLOCK_NONE */
    uint32_t       bucket_mask;
    uint32_t       entries;
    uint32_t       longest_bucket; /* ever */
    uint64_t       seed, hash_mask;
    bool           enabled;
};

/* The longest chain that continues the table: tokens[token_count] are those of the whole sequence; block ids go to
 * hits[], at most floor((token_count - 1) / bs) blocks in all, kept ones included. Returns how many; *cached_out (NULL
 * is allowed) tells how many of them are CACHED, that is, would no longer be available once referenced. Changes
 * nothing. 0 hits if the table's last block is not published (partial, or written with publishing off). With a local
 * pool a chain ends where all that its window shows is there; hits[] may be written behind it. */
uint32_t qr_prefix_index_lookup(const qr_prefix_index *index, const qr_block_table *table, const int32_t *tokens,
                                uint32_t token_count, uint32_t *hits, uint32_t *cached_out);

/* At commit, before qr_block_table_slide: enters the table's blocks that `computed` committed positions fill. A block
 * whose key exists stays out, and continues the chain of its twin. */
void qr_prefix_index_publish(qr_prefix_index *index, qr_block_table *table, const int32_t *tokens, uint32_t computed);

/* For the pools: removes the entry of an indexed block, its partner's, too; its partner's only. */
void qr_prefix_index_evict(qr_prefix_index *index, uint32_t block);
void qr_prefix_index_part(qr_prefix_index *index, uint32_t block);

#endif
