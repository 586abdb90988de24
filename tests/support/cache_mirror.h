/* A reader of cache events: the set of blocks that it has been told, against a walk over the prefix index. Functions
 * return NULL, or what is wrong as a sentence. */
#ifndef CACHE_MIRROR_H
#define CACHE_MIRROR_H

#include <stdbool.h>

#include "cache/cache.h"

enum { MIRROR_BLOCKS = 1024, MIRROR_BLOCK_SIZE = 64, MIRROR_READ = 64 };

typedef struct mirrored_block {
    uint64_t hash, parent;
    int32_t  tokens[MIRROR_BLOCK_SIZE];
} mirrored_block;

typedef struct cache_mirror {
    mirrored_block blocks[MIRROR_BLOCKS]; /* [count] */
    uint32_t       count;
    uint64_t       stored, removed, cleared; /* events */
} cache_mirror;

mirrored_block *cache_mirror_find(cache_mirror *mirror, uint64_t hash); /* NULL: not told */
const char     *cache_mirror_apply(cache_mirror *mirror, const quire_cache_event *event, const int32_t *tokens,
                                   uint32_t block_size);

/* Reads at most `capacity` <= MIRROR_READ events; parents that are indexed must have come first. */
const char *cache_mirror_read(cache_mirror *mirror, qr_cache *cache, uint32_t capacity);
/* Reads all, and compares: the same blocks with the same parents and tokens as the index has. */
const char *cache_mirror_compare(cache_mirror *mirror, qr_cache *cache);

#endif
