/* One record for each block of each replica, in two hash tables with chains: by content, to route; by replica and name,
 * to apply events. */
#include "bench/replicas/prefix_map.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"
#include "bench/common/array.h"

#define ROOT UINT64_C(0x243f6a8885a308d3) /* before a first block */

quire_status qr_prefix_map_init(qr_prefix_map *map, uint64_t blocks, uint32_t block_size)
{
    uint64_t buckets = 64;
    while (buckets < blocks) buckets *= 2;
    *map            = (qr_prefix_map){.free = QR_NO_HOLDER, .mask = buckets - 1, .block_size = block_size};
    map->by_content = malloc(buckets * sizeof *map->by_content);
    map->by_name    = malloc(buckets * sizeof *map->by_name);
    if (map->by_content == NULL || map->by_name == NULL) return QUIRE_ERR_NO_MEMORY;
    memset(map->by_content, 0xff, buckets * sizeof *map->by_content);
    memset(map->by_name, 0xff, buckets * sizeof *map->by_name);
    return QUIRE_OK;
}

void qr_prefix_map_deinit(qr_prefix_map *map)
{
    free(map->holders);
    free(map->by_content);
    free(map->by_name);
}

/* ---- tables ---- */

static uint64_t name_key(uint32_t replica, uint64_t name) { return qr_mix64(name ^ qr_mix64(replica + UINT64_C(1))); }

static uint32_t *content_bucket(const qr_prefix_map *map, uint64_t content)
{
    return &map->by_content[content & map->mask];
}

static uint32_t *name_bucket(const qr_prefix_map *map, uint32_t replica, uint64_t name)
{
    return &map->by_name[name_key(replica, name) & map->mask];
}

static uint32_t with_content(const qr_prefix_map *map, uint32_t from, uint64_t content)
{
    while (from != QR_NO_HOLDER && map->holders[from].content != content) from = map->holders[from].next_content;
    return from;
}

static uint32_t with_name(const qr_prefix_map *map, uint32_t replica, uint64_t name)
{
    uint32_t at = *name_bucket(map, replica, name);
    while (at != QR_NO_HOLDER && (map->holders[at].name != name || map->holders[at].replica != replica))
        at = map->holders[at].next_name;
    return at;
}

static quire_status take_free(qr_prefix_map *map, uint32_t *at_out)
{
    if (map->free == QR_NO_HOLDER) {
        *at_out = (uint32_t)map->count;
        return QR_ARRAY_PUSH(map->holders, map->count, (qr_holder){0}) ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
    }
    *at_out   = map->free;
    map->free = map->holders[map->free].next_content;
    return QUIRE_OK;
}

static quire_status add(qr_prefix_map *map, uint32_t replica, uint64_t name, uint64_t content)
{
    uint32_t at;
    QR_TRY(take_free(map, &at));
    uint32_t *of_content = content_bucket(map, content), *of_name = name_bucket(map, replica, name);
    map->holders[at] = (qr_holder){content, name, replica, *of_content, *of_name};
    *of_content = *of_name = at;
    return QUIRE_OK;
}

static void drop(qr_prefix_map *map, uint32_t at)
{
    qr_holder *holder = &map->holders[at];
    uint32_t  *link   = content_bucket(map, holder->content);
    while (*link != at) link = &map->holders[*link].next_content;
    *link = holder->next_content;
    link  = name_bucket(map, holder->replica, holder->name);
    while (*link != at) link = &map->holders[*link].next_name;
    *link                = holder->next_name;
    holder->replica      = QR_NO_HOLDER;
    holder->next_content = map->free;
    map->free            = at;
}

/* ---- events ---- */

static uint64_t continued(const qr_prefix_map *map, uint64_t content, const int32_t *tokens)
{
    for (uint32_t i = 0; i < map->block_size; i++) content = qr_mix64(content ^ ((uint64_t)(uint32_t)tokens[i] + 1));
    return content;
}

/* A block whose parent is gone cannot be found by the replica either. */
static quire_status store(qr_prefix_map *map, uint32_t replica, const quire_cache_event *event, const int32_t *tokens)
{
    const uint32_t parent = event->parent_hash ? with_name(map, replica, event->parent_hash) : QR_NO_HOLDER;
    if (event->parent_hash != 0 && parent == QR_NO_HOLDER) return QUIRE_OK;
    const uint64_t before = event->parent_hash ? map->holders[parent].content : ROOT;
    return add(map, replica, event->block_hash, continued(map, before, tokens));
}

static void clear(qr_prefix_map *map, uint32_t replica)
{
    for (size_t i = 0; i < map->count; i++)
        if (map->holders[i].replica == replica) drop(map, (uint32_t)i);
}

quire_status qr_prefix_map_apply(qr_prefix_map *map, uint32_t replica, const quire_cache_event *event,
                                 const int32_t *tokens)
{
    if (event->kind == QUIRE_CACHE_STORED) return store(map, replica, event, tokens);
    if (event->kind == QUIRE_CACHE_CLEARED) clear(map, replica);
    if (event->kind != QUIRE_CACHE_REMOVED) return QUIRE_OK;
    const uint32_t at = with_name(map, replica, event->block_hash);
    if (at != QR_NO_HOLDER) drop(map, at);
    return QUIRE_OK;
}

/* ---- questions ---- */

uint32_t qr_prefix_map_find(const qr_prefix_map *map, const int32_t *tokens, uint32_t token_count)
{
    uint32_t found   = QR_NO_HOLDER;
    uint64_t content = ROOT;
    for (uint32_t end = map->block_size; end < token_count; end += map->block_size) {
        content           = continued(map, content, tokens + end - map->block_size);
        const uint32_t at = with_content(map, *content_bucket(map, content), content);
        if (at == QR_NO_HOLDER) break;
        found = at;
    }
    return found;
}

uint32_t qr_prefix_map_next(const qr_prefix_map *map, uint32_t holder)
{
    return with_content(map, map->holders[holder].next_content, map->holders[holder].content);
}
