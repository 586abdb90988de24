/* The prefix index: buckets of blocks chained through their records (docs/CACHE.md, Prefix index). */
#include "cache/prefix_index.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/rng.h"
#include "cache/cache.h"
#include "cache/layout.h"

/* The identity of a block's content. */
typedef struct key {
    const int32_t *tokens; /* [block_size] */
    uint64_t       parent; /* chain of the previous block; of a root: serial of the cross content, or 0 */
    const uint8_t *salt;   /* of a root */
    uint32_t       tenant;
    bool           root;
} key;

static key key_after(const qr_block_table *table, uint32_t entry, uint64_t chain, const int32_t *tokens)
{
    const qr_prefix_root *root = &table->root;
    if (entry == 0) return (key){tokens, root->content, root->salt, root->tenant, true};
    return (key){tokens, chain, NULL, root->tenant, false};
}

static uint32_t bucket_of(const qr_prefix_index *index, const key *k)
{
    uint64_t seed = index->seed ^ qr_mix64(k->parent ^ (uint64_t)k->tenant << 40 ^ (uint64_t)k->root << 63);
    if (k->root) seed = XXH3_64bits_withSeed(k->salt, QR_SALT_BYTES, seed);
    const size_t bytes = index->pool->block_size * sizeof *k->tokens;
    return (uint32_t)(XXH3_64bits_withSeed(k->tokens, bytes, seed) & index->hash_mask) & index->bucket_mask;
}

static int32_t *tokens_of(const qr_prefix_index *index, uint32_t id)
{
    return index->pool->tokens + (size_t)id * index->pool->block_size;
}

static bool equal(const qr_prefix_index *index, uint32_t id, const key *k)
{
    const qr_block *block = &index->pool->blocks[id];
    return block->parent == k->parent && block->root == k->root && block->tenant == k->tenant &&
           (!k->root || memcmp(block->salt, k->salt, QR_SALT_BYTES) == 0) &&
           memcmp(tokens_of(index, id), k->tokens, index->pool->block_size * sizeof *k->tokens) == 0;
}

static uint32_t find(const qr_prefix_index *index, const key *k, uint32_t bucket, uint32_t *length_out)
{
    *length_out = 0;
    uint32_t id = index->buckets[bucket];
    for (; id != QR_BLOCK_NONE && !equal(index, id, k); id = index->pool->blocks[id].hash_link.next) (*length_out)++;
    return id;
}

static void insert(qr_prefix_index *index, uint32_t id, const key *k, uint32_t bucket)
{
    qr_block *block = &index->pool->blocks[id];
    block->parent   = k->parent;
    block->root     = k->root;
    block->chain    = block->serial;
    block->index    = QR_INDEX_PREFIX;
    block->bucket   = bucket;
    qr_chain_push(&index->buckets[bucket], QR_LINKS(index->pool->blocks, hash_link), id);
    if (k->root) memcpy(block->salt, k->salt, QR_SALT_BYTES);
    memcpy(tokens_of(index, id), k->tokens, index->pool->block_size * sizeof *k->tokens);
    index->entries++;
    qr_journal_change(index->journal, id, true);
}

/* ---- partners ---- */

static uint32_t partner_of(const qr_block_pool *pool, uint32_t id)
{
    return pool->local != NULL ? pool->partner[id] : QR_BLOCK_NONE;
}

/* The local block has the local layers' part of what the indexed one stands for. */
static void pair(qr_block_pool *pool, uint32_t id, uint32_t local)
{
    if (local == QR_BLOCK_NONE || partner_of(pool, id) != QR_BLOCK_NONE) return;
    if (pool->local->blocks[local].index != QR_INDEX_NONE) return;
    pool->partner[id]                = local;
    pool->local->partner[local]      = id;
    pool->local->blocks[local].index = QR_INDEX_PARTNER;
}

void qr_prefix_index_part(qr_prefix_index *index, uint32_t id)
{
    qr_block_pool *pool  = index->pool;
    const uint32_t local = partner_of(pool, id);
    if (local == QR_BLOCK_NONE) return;
    pool->partner[id] = pool->local->partner[local] = QR_BLOCK_NONE;
    qr_block_pool_unindex(pool->local, local);
}

/* ---- lookup, publishing ---- */

/* Whether the last `run` of `count` blocks, whose local part is there, are all that the window shows of them. */
static bool shows_window(const qr_block_pool *pool, uint32_t count, uint32_t run)
{
    if (pool->local == NULL) return true;
    return run >= count - qr_first_visible_block(count * pool->block_size, pool->local->window, pool->block_size);
}

uint32_t qr_prefix_index_lookup(const qr_prefix_index *index, const qr_block_table *table, const int32_t *tokens,
                                uint32_t token_count, uint32_t *hits, uint32_t *cached_out)
{
    const uint32_t block_size = index->pool->block_size;
    const uint32_t limit      = token_count == 0 ? 0 : (token_count - 1) / block_size;
    const bool     possible   = index->enabled && table->root.content != QR_CONTENT_UNKNOWN &&
                          table->published == table->count && (table->count == 0 || table->chain != 0);
    uint64_t chain = table->chain;
    uint32_t found = 0, cached = 0, cached_found = 0, count = 0, length = 0;
    uint32_t run = table->local != NULL ? table->count - table->local->first : 0; /* local blocks in a row, to here */
    for (uint32_t i = table->count; possible && i < limit; i++) {
        const key      k  = key_after(table, i, chain, tokens + (size_t)i * block_size);
        const uint32_t id = find(index, &k, bucket_of(index, &k), &length);
        if (id == QR_BLOCK_NONE) break;
        hits[found++] = id;
        chain         = index->pool->blocks[id].chain;
        run           = partner_of(index->pool, id) != QR_BLOCK_NONE ? run + 1 : 0;
        cached_found += index->pool->blocks[id].state == QR_BLOCK_CACHED;
        if (shows_window(index->pool, i + 1, run)) count = found, cached = cached_found;
    }
    if (cached_out != NULL) *cached_out = cached;
    return count;
}

/* The chain of a block that became full: its own serial if it enters the index, else that of its twin. The local block
 * becomes the partner of whichever is there. */
static uint64_t enter(qr_prefix_index *index, uint32_t id, uint32_t local, const key *k)
{
    qr_block      *block  = &index->pool->blocks[id];
    const uint32_t bucket = bucket_of(index, k);
    uint32_t       length = 0;
    const uint32_t twin   = find(index, k, bucket, &length);
    pair(index->pool, twin != QR_BLOCK_NONE ? twin : id, local);
    if (twin != QR_BLOCK_NONE) return block->chain = index->pool->blocks[twin].serial;
    insert(index, id, k, bucket);
    index->longest_bucket = qr_max_u32(index->longest_bucket, length + 1);
    return block->chain;
}

void qr_prefix_index_publish(qr_prefix_index *index, qr_block_table *table, const int32_t *tokens, uint32_t computed)
{
    if (!index->enabled || table->root.content == QR_CONTENT_UNKNOWN) return;
    const uint32_t full = qr_min_u32(computed / index->pool->block_size, table->count);
    for (uint32_t i = table->published; i < full; i++) {
        if (i < table->first || (i > 0 && table->chain == 0)) return; /* what it continues is not known */
        const uint32_t id = table->blocks[i];
        const key      k  = key_after(table, i, table->chain, tokens + (size_t)i * index->pool->block_size);
        /* A chain that is known already was found by a fork that shares the block. */
        const uint64_t known = index->pool->blocks[id].chain;
        const uint32_t local = table->local != NULL ? table->local->blocks[i] : QR_BLOCK_NONE;
        table->chain         = known != 0 ? known : enter(index, id, local, &k);
        table->published     = i + 1;
    }
}

void qr_prefix_index_evict(qr_prefix_index *index, uint32_t id)
{
    const qr_block *block = &index->pool->blocks[id];
    qr_assert(block->index == QR_INDEX_PREFIX);
    qr_prefix_index_part(index, id);
    qr_chain_remove(&index->buckets[block->bucket], QR_LINKS(index->pool->blocks, hash_link), id);
    index->entries--;
    qr_block_pool_unindex(index->pool, id);
    qr_journal_change(index->journal, id, false);
}

uint32_t qr_prefix_index_find_self(const qr_prefix_index *index, uint32_t id)
{
    const qr_block *block  = &index->pool->blocks[id];
    const key       k      = {tokens_of(index, id), block->parent, block->salt, block->tenant, block->root};
    uint32_t        length = 0;
    return find(index, &k, bucket_of(index, &k), &length);
}

void qr_prefix_index_layout(qr_prefix_index *index, const qr_cache_options *options, qr_arena *arena)
{
    index->buckets = QR_ARENA_TAKE(arena, uint32_t, qr_bucket_count(options->num_blocks));
}

void qr_prefix_index_init(qr_prefix_index *index, const qr_cache_options *options, qr_block_pool *pool)
{
    const uint32_t buckets = qr_bucket_count(options->num_blocks);
    memset(index->buckets, 0xff, buckets * sizeof *index->buckets);
    index->pool        = pool;
    index->bucket_mask = buckets - 1;
    index->seed        = options->hash_seed;
    index->hash_mask   = qr_hash_mask(options->hash_bits);
    index->enabled     = options->enable_prefix_caching;
}
