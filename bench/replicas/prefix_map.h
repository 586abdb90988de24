/* What a router knows of the caches of several engines: which replica holds which block of tokens, as the engines'
 * cache events tell. Blocks are named by their content and that of all before them, so that equal prefixes meet. */
#ifndef QR_BENCH_PREFIX_MAP_H
#define QR_BENCH_PREFIX_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "quire/request.h"

#define QR_NO_HOLDER UINT32_MAX

typedef struct qr_holder { /* a block of one replica */
    uint64_t content;      /* hash of its tokens and of all before them */
    uint64_t name;         /* block_hash of its events */
    uint32_t replica;      /* QR_NO_HOLDER: not in use */
    uint32_t next_content, next_name;
} qr_holder;

typedef struct qr_prefix_map {
    qr_holder *holders; /* [count] */
    size_t     count;
    uint32_t   free;                 /* list by next_content */
    uint32_t  *by_content, *by_name; /* [mask + 1] first holder, or QR_NO_HOLDER */
    uint64_t   mask;
    uint32_t   block_size;
} qr_prefix_map;

/* `blocks`: of all replicas together, for the size of the tables. ERR_NO_MEMORY; deinit then, too. */
quire_status qr_prefix_map_init(qr_prefix_map *map, uint64_t blocks, uint32_t block_size);
void         qr_prefix_map_deinit(qr_prefix_map *map);

/* An event of this replica; tokens[block_size] of a STORED block. ERR_NO_MEMORY. */
quire_status qr_prefix_map_apply(qr_prefix_map *map, uint32_t replica, const quire_cache_event *event,
                                 const int32_t *tokens);

/* Some replica's block where the longest prefix of whole blocks ends that any replica holds, or QR_NO_HOLDER. The
 * prompt's last token is always computed, so it is no part of a prefix. */
uint32_t qr_prefix_map_find(const qr_prefix_map *map, const int32_t *tokens, uint32_t token_count);

/* The same block of another replica, or QR_NO_HOLDER. */
uint32_t qr_prefix_map_next(const qr_prefix_map *map, uint32_t holder);

#endif
