/* Creation of the parts of qr_cache, for cache.c: layout takes from the arena (twice: counting, then for real), init
 * fills. */
#ifndef QR_CACHE_LAYOUT_H
#define QR_CACHE_LAYOUT_H

#include "base/bits.h"
#include "cache/cache.h"

void qr_block_pool_layout(qr_block_pool *pool, const qr_cache_options *options, qr_arena *arena);
void qr_block_pool_init(qr_block_pool *pool, const qr_cache_options *options);
void qr_prefix_index_layout(qr_prefix_index *index, const qr_cache_options *options, qr_arena *arena);
void qr_prefix_index_init(qr_prefix_index *index, const qr_cache_options *options, qr_block_pool *pool);
void qr_cross_index_layout(qr_cross_index *index, const qr_cache_options *options, qr_arena *arena);
void qr_cross_index_init(qr_cross_index *index, const qr_cache_options *options, qr_block_pool *pool);
void qr_journal_layout(qr_journal *journal, const qr_cache_options *options, qr_arena *arena);
void qr_journal_init(qr_journal *journal, const qr_cache_options *options);

/* For qr_cache_check: the block found for the key of an indexed block (of an entry's first block): itself. */
uint32_t qr_prefix_index_find_self(const qr_prefix_index *index, uint32_t block);
uint32_t qr_cross_index_find_self(const qr_cross_index *index, uint32_t entry);

/* Buckets are a power of two, so that a mask picks one: the smallest that is not below the number of blocks. */
static inline uint32_t qr_bucket_count(uint32_t num_blocks) { return (uint32_t)qr_next_power_of_two(num_blocks); }

static inline uint64_t qr_hash_mask(uint32_t bits) { return bits >= 64 ? UINT64_MAX : (1ull << bits) - 1; }

#endif
