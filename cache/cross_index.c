/* The cross index: entries named by their first block, which carries salt, tenant and bucket links (docs/CACHE.md,
 * Cross content). The blocks keep the encoder ids among the pool's token ids, block_size each. */
#include "cache/cross_index.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/rng.h"
#include "cache/cache.h"
#include "cache/layout.h"

static uint32_t bucket_of(const qr_cross_index *index, uint32_t tenant, const uint8_t *salt, const int32_t *ids,
                          uint32_t count)
{
    const uint64_t seed = XXH3_64bits_withSeed(salt, QR_SALT_BYTES, index->seed ^ qr_mix64(tenant));
    return (uint32_t)(XXH3_64bits_withSeed(ids, count * sizeof *ids, seed) & index->hash_mask) & index->bucket_mask;
}

void qr_cross_words(const float *values, size_t value_count, int32_t *words, uint32_t count)
{
    const XXH128_hash_t hash = XXH3_128bits(values, value_count * sizeof *values);
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t half = (i & 1) == 0 ? hash.low64 : hash.high64;
        words[i]            = (int32_t)(uint32_t)(half >> (i & 2 ? 32 : 0));
    }
}

static int32_t *tokens_of(const qr_cross_index *index, uint32_t id)
{
    return index->pool->tokens + (size_t)id * index->pool->block_size;
}

static bool equal(const qr_cross_index *index, uint32_t entry, const qr_prefix_root *root, const int32_t *ids,
                  uint32_t count)
{
    const qr_block *block = &index->pool->blocks[entry];
    if (index->lengths[entry] != count || block->tenant != root->tenant) return false;
    if (memcmp(block->salt, root->salt, QR_SALT_BYTES) != 0) return false;
    for (uint32_t id = entry, done = 0; done < count; id = index->entry_next[id]) {
        const uint32_t part = qr_min_u32(count - done, index->pool->block_size);
        if (memcmp(tokens_of(index, id), ids + done, part * sizeof *ids) != 0) return false;
        done += part;
    }
    return true;
}

static uint32_t find(const qr_cross_index *index, uint32_t bucket, const qr_prefix_root *root, const int32_t *ids,
                     uint32_t count, uint32_t *length_out)
{
    *length_out    = 0;
    uint32_t entry = index->buckets[bucket];
    for (; entry != QR_BLOCK_NONE && !equal(index, entry, root, ids, count);
         entry = index->pool->blocks[entry].hash_link.next)
        (*length_out)++;
    return entry;
}

uint32_t qr_cross_index_lookup(const qr_cross_index *index, const qr_prefix_root *root, const int32_t *ids,
                               uint32_t count)
{
    uint32_t length = 0;
    return find(index, bucket_of(index, root->tenant, root->salt, ids, count), root, ids, count, &length);
}

static uint32_t blocks_of(const qr_cross_index *index, uint32_t entry)
{
    return qr_ceil_div_u32(index->lengths[entry], index->pool->block_size);
}

uint32_t qr_cross_index_cached(const qr_cross_index *index, uint32_t entry)
{
    return index->pool->blocks[entry].state == QR_BLOCK_CACHED ? blocks_of(index, entry) : 0;
}

void qr_cross_index_share(qr_cross_index *index, uint32_t entry, qr_block_table *table)
{
    qr_assert(table->count == 0);
    for (uint32_t id = entry; id != QR_BLOCK_NONE; id = index->entry_next[id])
        qr_block_table_adopt(index->pool, table, &id, 1, 0);
}

/* `chain` of a first block: the serial of the content; 0 until it is published. */
uint64_t qr_cross_index_content(const qr_cross_index *index, const qr_block_table *table)
{
    qr_assert(table->count > 0);
    const qr_block *block = &index->pool->blocks[table->blocks[0]];
    return block->chain != 0 ? block->chain : block->serial;
}

static void insert(qr_cross_index *index, const qr_block_table *table, uint32_t bucket, const int32_t *ids,
                   uint32_t count)
{
    const uint32_t entry = table->blocks[0], block_size = index->pool->block_size;
    for (uint32_t i = 0; i < table->count; i++) {
        const uint32_t id             = table->blocks[i];
        const uint32_t part           = qr_min_u32(count - i * block_size, block_size);
        index->pool->blocks[id].index = QR_INDEX_CROSS;
        index->entry_of[id]           = entry;
        index->entry_next[id]         = i + 1 < table->count ? table->blocks[i + 1] : QR_BLOCK_NONE;
        memcpy(tokens_of(index, id), ids + (size_t)i * block_size, part * sizeof *ids);
    }
    qr_block *block = &index->pool->blocks[entry];
    memcpy(block->salt, table->root.salt, QR_SALT_BYTES);
    block->chain          = block->serial;
    block->bucket         = bucket;
    index->lengths[entry] = count;
    qr_chain_push(&index->buckets[bucket], QR_LINKS(index->pool->blocks, hash_link), entry);
    index->entries++;
}

uint64_t qr_cross_index_publish(qr_cross_index *index, const qr_block_table *table, const int32_t *ids, uint32_t count)
{
    qr_assert(count > 0 && table->count == qr_ceil_div_u32(count, index->pool->block_size));
    qr_block *block = &index->pool->blocks[table->blocks[0]];
    if (block->chain != 0) return block->chain;
    const uint32_t bucket = bucket_of(index, table->root.tenant, table->root.salt, ids, count);
    uint32_t       length = 0;
    const uint32_t twin   = find(index, bucket, &table->root, ids, count, &length);
    if (twin != QR_BLOCK_NONE) return block->chain = index->pool->blocks[twin].serial;
    insert(index, table, bucket, ids, count);
    index->longest_bucket = qr_max_u32(index->longest_bucket, length + 1);
    return block->chain;
}

void qr_cross_index_evict(qr_cross_index *index, uint32_t id)
{
    qr_assert(index->pool->blocks[id].index == QR_INDEX_CROSS);
    const uint32_t  entry = index->entry_of[id];
    const qr_block *block = &index->pool->blocks[entry];
    qr_chain_remove(&index->buckets[block->bucket], QR_LINKS(index->pool->blocks, hash_link), entry);
    index->entries--;
    for (uint32_t next, i = entry; i != QR_BLOCK_NONE; i = next) {
        next = index->entry_next[i];
        qr_block_pool_unindex(index->pool, i);
    }
}

static bool same_content(const qr_cross_index *index, uint32_t a, uint32_t b)
{
    const qr_block *x = &index->pool->blocks[a], *y = &index->pool->blocks[b];
    if (index->lengths[a] != index->lengths[b] || x->tenant != y->tenant) return false;
    if (memcmp(x->salt, y->salt, QR_SALT_BYTES) != 0) return false;
    const uint32_t count = index->lengths[a], block_size = index->pool->block_size;
    for (uint32_t done = 0; done < count; done += block_size) {
        const uint32_t part = qr_min_u32(count - done, block_size);
        if (memcmp(tokens_of(index, a), tokens_of(index, b), part * sizeof(int32_t)) != 0) return false;
        a = index->entry_next[a], b = index->entry_next[b];
    }
    return true;
}

uint32_t qr_cross_index_find_self(const qr_cross_index *index, uint32_t entry)
{
    uint32_t other = index->buckets[index->pool->blocks[entry].bucket];
    while (other != QR_BLOCK_NONE && !same_content(index, other, entry))
        other = index->pool->blocks[other].hash_link.next;
    return other;
}

void qr_cross_index_layout(qr_cross_index *index, const qr_cache_options *options, qr_arena *arena)
{
    index->buckets    = QR_ARENA_TAKE(arena, uint32_t, qr_bucket_count(options->num_blocks));
    index->entry_of   = QR_ARENA_TAKE(arena, uint32_t, options->num_blocks);
    index->entry_next = QR_ARENA_TAKE(arena, uint32_t, options->num_blocks);
    index->lengths    = QR_ARENA_TAKE(arena, uint32_t, options->num_blocks);
}

void qr_cross_index_init(qr_cross_index *index, const qr_cache_options *options, qr_block_pool *pool)
{
    const uint32_t buckets = qr_bucket_count(options->num_blocks);
    memset(index->buckets, 0xff, buckets * sizeof *index->buckets);
    index->pool        = pool;
    index->bucket_mask = buckets - 1;
    index->seed        = options->hash_seed;
    index->hash_mask   = qr_hash_mask(options->hash_bits);
}
