/* A set without order, searched from its end: what was told last is asked for first. */
#include "support/cache_mirror.h"

#include <string.h>

mirrored_block *cache_mirror_find(cache_mirror *mirror, uint64_t hash)
{
    for (uint32_t i = mirror->count; i-- > 0;)
        if (mirror->blocks[i].hash == hash) return &mirror->blocks[i];
    return NULL;
}

static const char *store(cache_mirror *mirror, const quire_cache_event *event, const int32_t *tokens,
                         uint32_t block_size)
{
    if (cache_mirror_find(mirror, event->block_hash) != NULL) return "a block is stored twice";
    if (mirror->count == MIRROR_BLOCKS || block_size > MIRROR_BLOCK_SIZE) return "the mirror is too small";
    mirrored_block *block = &mirror->blocks[mirror->count++];
    *block                = (mirrored_block){.hash = event->block_hash, .parent = event->parent_hash};
    memcpy(block->tokens, tokens, block_size * sizeof *tokens);
    mirror->stored++;
    return NULL;
}

const char *cache_mirror_apply(cache_mirror *mirror, const quire_cache_event *event, const int32_t *tokens,
                               uint32_t block_size)
{
    mirrored_block *block;
    switch (event->kind) {
    case QUIRE_CACHE_STORED: return store(mirror, event, tokens, block_size);
    case QUIRE_CACHE_REMOVED:
        block = cache_mirror_find(mirror, event->block_hash);
        if (block == NULL) return "a block is removed that was not stored";
        *block = mirror->blocks[--mirror->count];
        mirror->removed++;
        return NULL;
    case QUIRE_CACHE_CLEARED:
        mirror->count = 0;
        mirror->cleared++;
        return NULL;
    }
    return "an event of no kind";
}

static bool is_indexed(const qr_cache *cache, uint64_t hash)
{
    const qr_block_pool *pool = &cache->pool;
    for (uint32_t id = 0; id < pool->num_blocks; id++)
        if (pool->blocks[id].index == QR_INDEX_PREFIX &&
            qr_journal_hash(&cache->journal, pool->blocks[id].serial) == hash)
            return true;
    return false;
}

const char *cache_mirror_read(cache_mirror *mirror, qr_cache *cache, uint32_t capacity)
{
    static quire_cache_event events[MIRROR_READ];
    static int32_t           tokens[MIRROR_READ * MIRROR_BLOCK_SIZE];
    const uint32_t           size  = cache->pool.block_size;
    const uint32_t           count = qr_journal_read(&cache->journal, &cache->pool, events, tokens, capacity);
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t parent = events[i].parent_hash;
        if (events[i].kind == QUIRE_CACHE_STORED && parent != 0 && cache_mirror_find(mirror, parent) == NULL &&
            is_indexed(cache, parent))
            return "a block comes before its parent";
        const char *wrong = cache_mirror_apply(mirror, &events[i], tokens + (size_t)i * size, size);
        if (wrong != NULL) return wrong;
    }
    return NULL;
}

const char *cache_mirror_compare(cache_mirror *mirror, qr_cache *cache)
{
    const qr_block_pool *pool  = &cache->pool;
    uint32_t             found = 0;
    while (cache->journal.open.count > 0 || cache->journal.is_cleared) {
        const char *wrong = cache_mirror_read(mirror, cache, MIRROR_READ);
        if (wrong != NULL) return wrong;
    }
    for (uint32_t id = 0; id < pool->num_blocks; id++) {
        const qr_block *block = &pool->blocks[id];
        if (block->index != QR_INDEX_PREFIX) continue;
        const mirrored_block *told = cache_mirror_find(mirror, qr_journal_hash(&cache->journal, block->serial));
        if (told == NULL) return "a block of the index was not told";
        if (told->parent != qr_journal_hash(&cache->journal, block->root ? 0 : block->parent))
            return "a block was told with another parent";
        if (memcmp(told->tokens, pool->tokens + (size_t)id * pool->block_size,
                   pool->block_size * sizeof *told->tokens) != 0)
            return "a block was told with other tokens";
        found++;
    }
    return found == mirror->count ? NULL : "a block was told that the index does not have";
}
