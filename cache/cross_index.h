/* Finds the cross-attention blocks of an encoder input: the key is (tenant, salt, all encoder ids), compared in full.
 * An entry is all blocks of one content; they are acquired, referenced and evicted together. */
#ifndef QR_CROSS_INDEX_H
#define QR_CROSS_INDEX_H

#include "cache/block_table.h"

/* An entry is named by its first block. */
struct qr_cross_index {
    qr_block_pool *pool;
    uint32_t      *buckets;    /* [bucket_mask + 1] first block of an entry or QR_BLOCK_NONE */
    uint32_t      *entry_of;   /* [num_blocks] first block of the entry a block belongs to */
    uint32_t      *entry_next; /* [num_blocks] next block of the entry, or QR_BLOCK_NONE */
    uint32_t      *lengths;    /* [num_blocks] of an entry: encoder tokens */
    uint32_t       bucket_mask;
    uint32_t       entries;
    uint32_t       longest_bucket; /* ever */
    uint64_t       seed, hash_mask;
};

/* `count` words that stand for an encoder input that is no ids: its 128 bits of XXH3, again and again. */
void qr_cross_words(const float *values, size_t value_count, int32_t *words, uint32_t count);

/* First block of the entry of this content, or QR_BLOCK_NONE. root->content is ignored. Changes nothing. */
uint32_t qr_cross_index_lookup(const qr_cross_index *index, const qr_prefix_root *root, const int32_t *ids,
                               uint32_t count);

/* How many blocks of the entry are CACHED: all or none. They are not available once referenced. */
uint32_t qr_cross_index_cached(const qr_cross_index *index, uint32_t entry);

/* A hit: the empty cross table names all blocks of the entry, one reference more each. */
void qr_cross_index_share(qr_cross_index *index, uint32_t entry, qr_block_table *table);

/* The serial that stands for the content of a cross table: root.content of the decoder's table. */
uint64_t qr_cross_index_content(const qr_cross_index *index, const qr_block_table *table);

/* At commit of its encoder item: enters the content that the table's blocks hold. If it exists already (an equal input
 * was published meanwhile) the table's blocks stay out. Returns the content's serial. */
uint64_t qr_cross_index_publish(qr_cross_index *index, const qr_block_table *table, const int32_t *ids, uint32_t count);

/* For the pool: removes the entry that the block belongs to; its other blocks, if CACHED, become FREE. */
void qr_cross_index_evict(qr_cross_index *index, uint32_t block);

#endif
