/* States, lists and extents of blocks, and the choice of the next block (docs/CACHE.md, States, Which block comes next,
 * Nodes). */
#include "cache/block_pool.h"

#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "cache/cache.h"
#include "cache/layout.h"

enum { WORD_BITS = 64, WHOLE = 0xff, EXTENT_CANDIDATES = 8 };
enum { REMOTE_PERCENT = 200, MOST_REMOTE_PERCENT = 400, LOAD_SCALE = 256, LEAST_LOAD_PERCENT = 150 };

/* ---- lists ---- */

static qr_links links_of(const qr_block_pool *pool) { return QR_LINKS(pool->blocks, link); }

/* ---- extents by number of FREE blocks ---- */

static void set_insert(qr_extent_set *set, uint32_t extent)
{
    const uint32_t word = extent / WORD_BITS;
    set->words[word] |= 1ull << extent % WORD_BITS;
    set->summary[word / WORD_BITS] |= 1ull << word % WORD_BITS;
}

static void set_remove(qr_extent_set *set, uint32_t extent)
{
    const uint32_t word = extent / WORD_BITS;
    set->words[word] &= ~(1ull << extent % WORD_BITS);
    if (set->words[word] == 0) set->summary[word / WORD_BITS] &= ~(1ull << word % WORD_BITS);
}

/* The lowest extent with exactly `free` FREE blocks, or QR_BLOCK_NONE. A summary word covers 32768 blocks. */
static uint32_t set_lowest(const qr_pool_node *node, uint32_t free)
{
    const qr_extent_set *set = &node->by_free[free];
    for (uint32_t s = 0; s < node->summary_count; s++) {
        if (set->summary[s] == 0) continue;
        const uint32_t word = s * WORD_BITS + (uint32_t)__builtin_ctzll(set->summary[s]);
        return word * WORD_BITS + (uint32_t)__builtin_ctzll(set->words[word]);
    }
    return QR_BLOCK_NONE;
}

static uint32_t extent_of(const qr_pool_node *node, uint32_t id) { return (id - node->first) / QR_EXTENT_BLOCKS; }
static uint32_t extent_first(const qr_pool_node *node, uint32_t extent)
{
    return node->first + extent * QR_EXTENT_BLOCKS;
}
static uint32_t extent_end(const qr_pool_node *node, uint32_t extent)
{
    return qr_min_u32(extent_first(node, extent) + QR_EXTENT_BLOCKS, node->end);
}

static void flip_free(qr_pool_node *node, uint32_t id)
{
    const uint32_t extent = extent_of(node, id);
    uint8_t       *mask   = &node->free_mask[extent];
    set_remove(&node->by_free[__builtin_popcount(*mask)], extent);
    *mask = (uint8_t)(*mask ^ 1u << (id - node->first) % QR_EXTENT_BLOCKS);
    set_insert(&node->by_free[__builtin_popcount(*mask)], extent);
}

/* ---- transitions ---- */

static qr_pool_node *node_of(const qr_block_pool *pool, uint32_t id) { return &pool->nodes[pool->blocks[id].node]; }

static void cached_insert(qr_block_pool *pool, qr_pool_node *node, uint32_t id)
{
    const uint32_t tenant = pool->blocks[id].tenant;
    if (node->cached_lists[tenant].count == 0) {
        node->active_place[tenant]         = node->active_count;
        node->active[node->active_count++] = tenant;
    }
    qr_list_append(&node->cached_lists[tenant], links_of(pool), id);
    node->cached++, pool->cached++, pool->tenants[tenant].cached++;
}

static void cached_remove(qr_block_pool *pool, qr_pool_node *node, uint32_t id)
{
    const uint32_t tenant = pool->blocks[id].tenant;
    qr_list_remove(&node->cached_lists[tenant], links_of(pool), id);
    node->cached--, pool->cached--, pool->tenants[tenant].cached--;
    if (node->cached_lists[tenant].count != 0) return;
    const uint32_t last                      = node->active[--node->active_count];
    node->active[node->active_place[tenant]] = last;
    node->active_place[last]                 = node->active_place[tenant];
}

static void leave_state(qr_block_pool *pool, uint32_t id)
{
    qr_pool_node *node = node_of(pool, id);
    switch ((qr_block_state)pool->blocks[id].state) {
    case QR_BLOCK_FREE:
        node->free--, pool->free--;
        if (pool->extents)
            flip_free(node, id);
        else
            qr_list_remove(&node->free_list, links_of(pool), id);
        break;
    case QR_BLOCK_RESERVED:
        node->reserved--, pool->reserved--;
        qr_list_remove(&node->reserved_list, links_of(pool), id);
        pool->blocks[id].owner = NULL;
        break;
    case QR_BLOCK_USED: node->used--, pool->used--, pool->tenants[pool->blocks[id].tenant].used--; break;
    case QR_BLOCK_CACHED: cached_remove(pool, node, id); break;
    }
}

static void enter_state(qr_block_pool *pool, uint32_t id, qr_block_state state)
{
    qr_pool_node *node     = node_of(pool, id);
    pool->blocks[id].state = (uint8_t)state;
    if (state != QR_BLOCK_USED) pool->blocks[id].released = ++pool->last_release;
    switch (state) {
    case QR_BLOCK_FREE:
        node->free++, pool->free++;
        if (pool->extents)
            flip_free(node, id);
        else
            qr_list_append(&node->free_list, links_of(pool), id);
        break;
    case QR_BLOCK_RESERVED:
        node->reserved++, pool->reserved++;
        qr_list_append(&node->reserved_list, links_of(pool), id);
        break;
    case QR_BLOCK_USED: node->used++, pool->used++, pool->tenants[pool->blocks[id].tenant].used++; break;
    case QR_BLOCK_CACHED: cached_insert(pool, node, id); break;
    }
}

/* RESERVED blocks have had no content since they were FREE. */
static void note_freed(qr_block_pool *pool, uint32_t id)
{
    if (!pool->list_freed || pool->is_freed[id] || pool->blocks[id].state == QR_BLOCK_RESERVED) return;
    pool->is_freed[id]               = 1;
    pool->freed[pool->freed_count++] = id;
}

static void change_state(qr_block_pool *pool, uint32_t id, qr_block_state state)
{
    if (state == QR_BLOCK_FREE) note_freed(pool, id);
    leave_state(pool, id);
    enter_state(pool, id, state);
}

static void forget_content(qr_block_pool *pool, uint32_t id)
{
    if (pool->blocks[id].index == QR_INDEX_PREFIX) qr_prefix_index_evict(pool->prefix, id);
    if (pool->blocks[id].index == QR_INDEX_CROSS) qr_cross_index_evict(pool->cross, id);
    if (pool->blocks[id].index == QR_INDEX_PARTNER) qr_prefix_index_part(pool->prefix, pool->partner[id]);
}

static void evict(qr_block_pool *pool, uint32_t id)
{
    pool->evictions++;
    forget_content(pool, id);
}

void qr_block_pool_unindex(qr_block_pool *pool, uint32_t id)
{
    pool->blocks[id].index = QR_INDEX_NONE;
    if (pool->blocks[id].state == QR_BLOCK_CACHED) change_state(pool, id, QR_BLOCK_FREE);
}

/* ---- whose block is evicted ---- */

static bool evicted_before(const qr_block_pool *pool, const qr_pool_node *node, uint32_t a, uint32_t b)
{
    const qr_pool_tenant *x = &pool->tenants[a], *y = &pool->tenants[b];
    const uint64_t        share_a = (uint64_t)(x->used + x->cached) * y->weight;
    const uint64_t        share_b = (uint64_t)(y->used + y->cached) * x->weight;
    if (share_a != share_b) return share_a > share_b;
    return pool->blocks[node->cached_lists[a].head].released < pool->blocks[node->cached_lists[b].head].released;
}

/* The tenant with the largest share for its weight; equal shares: the oldest block. */
static uint32_t victim_tenant(const qr_block_pool *pool, const qr_pool_node *node)
{
    uint32_t victim = node->active[0];
    for (uint32_t i = 1; i < node->active_count; i++)
        if (evicted_before(pool, node, node->active[i], victim)) victim = node->active[i];
    return victim;
}

static uint32_t evict_one(qr_block_pool *pool, qr_pool_node *node)
{
    if (node->cached == 0) return QR_BLOCK_NONE;
    const uint32_t id = node->cached_lists[victim_tenant(pool, node)].head;
    evict(pool, id);
    return id;
}

/* ---- choosing a block ---- */

static bool is_reserved_for(const qr_block_pool *pool, uint32_t id, const qr_block_table *table)
{
    return pool->blocks[id].state == QR_BLOCK_RESERVED && pool->blocks[id].owner == table;
}

/* Steps to the next block of the table's extent; theft takes from its end. */
static void advance_reservation(const qr_block_pool *pool, qr_block_table *table)
{
    const uint32_t      id   = table->reserved++;
    const qr_pool_node *node = node_of(pool, id);
    if (table->reserved >= extent_end(node, extent_of(node, id)) || !is_reserved_for(pool, table->reserved, table))
        table->reserved = QR_BLOCK_NONE;
}

static uint32_t take_reserved(const qr_block_pool *pool, qr_block_table *table)
{
    const uint32_t id = table->reserved;
    if (id == QR_BLOCK_NONE) return QR_BLOCK_NONE;
    if (is_reserved_for(pool, id, table)) {
        advance_reservation(pool, table);
        return id;
    }
    table->reserved = QR_BLOCK_NONE;
    return QR_BLOCK_NONE;
}

/* FREE, or CACHED by the tenant that must give and released in the oldest quarter of the time since its
 * oldest block was. */
static bool may_go_early(const qr_block_pool *pool, const qr_pool_node *node, uint32_t id, uint32_t tenant)
{
    const qr_block *block = &pool->blocks[id];
    if (block->state == QR_BLOCK_FREE) return true;
    if (block->state != QR_BLOCK_CACHED || block->tenant != tenant) return false;
    const uint64_t oldest = pool->blocks[node->cached_lists[tenant].head].released;
    return block->released - oldest <= (pool->last_release - oldest) / 4;
}

/* Another tenant's blocks stay: a flood must not evict others through their shared extents. So do young ones, which
 * cost more hits than the run is worth. */
static bool can_evict_extent(const qr_block_pool *pool, const qr_pool_node *node, uint32_t extent, uint32_t tenant)
{
    const uint32_t first = extent_first(node, extent);
    if (first + QR_EXTENT_BLOCKS > node->end) return false;
    for (uint32_t id = first; id < first + QR_EXTENT_BLOCKS; id++) {
        if (!may_go_early(pool, node, id, tenant)) return false;
    }
    return true;
}

static uint32_t evict_extent(qr_block_pool *pool, qr_pool_node *node)
{
    if (node->cached == 0) return QR_BLOCK_NONE;
    const uint32_t tenant = victim_tenant(pool, node);
    uint32_t       oldest = node->cached_lists[tenant].head;
    for (uint32_t i = 0; i < EXTENT_CANDIDATES && oldest != QR_BLOCK_NONE;
         i++, oldest = pool->blocks[oldest].link.next) {
        const uint32_t extent = extent_of(node, oldest);
        if (!can_evict_extent(pool, node, extent, tenant)) continue;
        const uint32_t first = extent_first(node, extent);
        for (uint32_t id = first; id < first + QR_EXTENT_BLOCKS; id++)
            if (pool->blocks[id].state == QR_BLOCK_CACHED) evict(pool, id);
        pool->extents_evicted++;
        return extent;
    }
    return QR_BLOCK_NONE;
}

/* Reserves a whole extent for the table and takes its first block. */
static uint32_t take_extent(qr_block_pool *pool, qr_pool_node *node, qr_block_table *table)
{
    uint32_t extent = set_lowest(node, QR_EXTENT_BLOCKS);
    if (extent == QR_BLOCK_NONE) extent = evict_extent(pool, node);
    if (extent == QR_BLOCK_NONE) return QR_BLOCK_NONE;
    pool->extents_taken++;
    const uint32_t first = extent_first(node, extent);
    for (uint32_t id = first; id < first + QR_EXTENT_BLOCKS; id++) {
        change_state(pool, id, QR_BLOCK_RESERVED);
        pool->blocks[id].owner = table;
    }
    table->reserved = first;
    return take_reserved(pool, table);
}

static uint32_t take(qr_block_pool *pool, uint32_t id)
{
    if (pool->blocks[id].state == QR_BLOCK_CACHED) evict(pool, id);
    return id;
}

/* The block after the previous one, if it is in the same extent and may go. */
static uint32_t take_next(qr_block_pool *pool, const qr_pool_node *node, const qr_block_table *table, uint32_t entry)
{
    if (entry <= table->first) return QR_BLOCK_NONE;
    const uint32_t previous = table->blocks[entry - 1];
    if (previous < node->first || previous >= node->end) return QR_BLOCK_NONE;
    if (previous + 1 == extent_end(node, extent_of(node, previous))) return QR_BLOCK_NONE;
    if (pool->blocks[previous + 1].state == QR_BLOCK_FREE) return previous + 1;
    if (node->cached == 0) return QR_BLOCK_NONE;
    return may_go_early(pool, node, previous + 1, victim_tenant(pool, node)) ? take(pool, previous + 1) : QR_BLOCK_NONE;
}

/* The first of a run of `wanted` blocks that may go, in the extents of the oldest CACHED blocks. */
static uint32_t evict_run(qr_block_pool *pool, const qr_pool_node *node, uint32_t wanted)
{
    if (node->cached < wanted || wanted < 2) return QR_BLOCK_NONE;
    const uint32_t tenant = victim_tenant(pool, node);
    uint32_t       oldest = node->cached_lists[tenant].head;
    for (uint32_t i = 0; i < EXTENT_CANDIDATES && oldest != QR_BLOCK_NONE;
         i++, oldest = pool->blocks[oldest].link.next) {
        const uint32_t extent = extent_of(node, oldest), end = extent_end(node, extent);
        uint32_t       run = 0;
        for (uint32_t id = extent_first(node, extent); id < end; id++) {
            run = may_go_early(pool, node, id, tenant) ? run + 1 : 0;
            if (run == wanted) return take(pool, id + 1 - wanted);
        }
    }
    return QR_BLOCK_NONE;
}

static uint32_t first_free(const qr_pool_node *node, uint32_t extent)
{
    if (extent == QR_BLOCK_NONE) return QR_BLOCK_NONE;
    return extent_first(node, extent) + (uint32_t)__builtin_ctz(node->free_mask[extent]);
}

/* From the fullest extent that still has `wanted` FREE blocks. */
static uint32_t take_open(const qr_pool_node *node, uint32_t wanted)
{
    uint32_t extent = QR_BLOCK_NONE;
    for (uint32_t free = wanted; free <= QR_EXTENT_BLOCKS && extent == QR_BLOCK_NONE; free++)
        extent = set_lowest(node, free);
    return first_free(node, extent);
}

/* From the extent with most FREE blocks below `wanted`. */
static uint32_t take_scattered(const qr_pool_node *node, uint32_t wanted)
{
    uint32_t extent = QR_BLOCK_NONE;
    for (uint32_t free = wanted - 1; free >= 1 && extent == QR_BLOCK_NONE; free--) extent = set_lowest(node, free);
    return first_free(node, extent);
}

static bool wants_extent(const qr_block_table *table, uint32_t entry, uint32_t wanted)
{
    if (entry % QR_EXTENT_BLOCKS != 0) return false;
    return wanted == QR_EXTENT_BLOCKS || (entry >= QR_EXTENT_BLOCKS && table->grows && table->running);
}

static uint32_t take_from_node(qr_block_pool *pool, qr_pool_node *node, qr_block_table *table, uint32_t entry,
                               uint32_t wanted)
{
    if (node->free + node->cached == 0) return QR_BLOCK_NONE;
    uint32_t id = QR_BLOCK_NONE;
    if (!pool->extents) {
        id = node->free_list.head;
    } else {
        if (wants_extent(table, entry, wanted)) id = take_extent(pool, node, table);
        if (id == QR_BLOCK_NONE) id = take_next(pool, node, table, entry);
        if (id == QR_BLOCK_NONE) id = take_open(node, wanted);
        if (id == QR_BLOCK_NONE) id = evict_run(pool, node, wanted);
        if (id == QR_BLOCK_NONE) id = take_scattered(node, wanted);
    }
    return id != QR_BLOCK_NONE ? id : evict_one(pool, node);
}

/* The block that was reserved last, of the nearest node that has one. */
static uint32_t steal(qr_block_pool *pool, uint32_t home)
{
    for (uint32_t i = 0; i < pool->node_count; i++) {
        const qr_pool_node *node = &pool->nodes[pool->nodes[home].order[i]];
        if (node->reserved == 0) continue;
        pool->reservation_thefts++;
        return node->reserved_list.tail;
    }
    return QR_BLOCK_NONE;
}

static void use(qr_block_pool *pool, uint32_t id, uint32_t tenant)
{
    qr_block *block = &pool->blocks[id];
    leave_state(pool, id);
    block->serial = ++pool->last_serial;
    block->chain = block->parent = 0;
    block->root                  = false;
    block->tenant                = tenant;
    block->refs                  = 1;
    enter_state(pool, id, QR_BLOCK_USED);
}

uint32_t qr_block_pool_acquire(qr_block_pool *pool, qr_block_table *table, uint32_t entry, uint32_t wanted)
{
    qr_assert(wanted >= 1 && wanted <= QR_EXTENT_BLOCKS && table->home < pool->node_count);
    uint32_t       id    = take_reserved(pool, table);
    const uint8_t *order = pool->nodes[table->home].order;
    for (uint32_t i = 0; i < pool->node_count && id == QR_BLOCK_NONE; i++)
        id = take_from_node(pool, &pool->nodes[order[i]], table, entry, wanted);
    if (id == QR_BLOCK_NONE) id = steal(pool, table->home);
    qr_assert(id != QR_BLOCK_NONE);
    pool->spilled += pool->blocks[id].node != table->home;
    use(pool, id, table->root.tenant);
    return id;
}

bool qr_block_pool_refuses(qr_block_pool *pool) { return pool->fail_after != 0 && --pool->fail_after == 0; }

void qr_block_pool_unreserve(qr_block_pool *pool, qr_block_table *table)
{
    for (uint32_t id; (id = take_reserved(pool, table)) != QR_BLOCK_NONE;) change_state(pool, id, QR_BLOCK_FREE);
}

/* ---- references ---- */

/* The last reference and pin are gone. */
static void settle(qr_block_pool *pool, uint32_t id)
{
    if (!pool->keep) forget_content(pool, id);
    change_state(pool, id, pool->blocks[id].index == QR_INDEX_NONE ? QR_BLOCK_FREE : QR_BLOCK_CACHED);
}

void qr_block_pool_share(qr_block_pool *pool, uint32_t id)
{
    qr_block *block = &pool->blocks[id];
    qr_assert(block->state == QR_BLOCK_USED || block->state == QR_BLOCK_CACHED);
    if (block->state == QR_BLOCK_CACHED) change_state(pool, id, QR_BLOCK_USED);
    block->refs++;
}

void qr_block_pool_release(qr_block_pool *pool, uint32_t id)
{
    qr_block *block = &pool->blocks[id];
    qr_assert(block->refs > 0);
    block->refs--;
    if (block->refs + block->pins == 0) settle(pool, id);
}

void qr_block_pool_pin(qr_block_pool *pool, uint32_t id)
{
    qr_assert(pool->blocks[id].state == QR_BLOCK_USED);
    pool->blocks[id].pins++;
}

void qr_block_pool_unpin(qr_block_pool *pool, uint32_t id)
{
    qr_block *block = &pool->blocks[id];
    qr_assert(block->pins > 0);
    block->pins--;
    if (block->refs + block->pins == 0) settle(pool, id);
}

/* ---- tenants, nodes ---- */

static void flush_list(qr_block_pool *pool, const qr_list *list)
{
    while (list->count != 0) forget_content(pool, list->head);
}

void qr_block_pool_flush(qr_block_pool *pool)
{
    for (uint32_t n = 0; n < pool->node_count; n++) {
        qr_pool_node *node = &pool->nodes[n];
        while (node->active_count != 0) flush_list(pool, &node->cached_lists[node->active[0]]);
    }
    if (pool->local != NULL) qr_block_pool_flush(pool->local);
}

void qr_block_pool_freed_clear(qr_block_pool *pool)
{
    while (pool->freed_count > 0) pool->is_freed[pool->freed[--pool->freed_count]] = 0;
}

void qr_block_pool_set_weight(qr_block_pool *pool, uint32_t tenant, uint32_t weight)
{
    qr_assert(tenant < pool->max_tenants && weight >= 1);
    pool->tenants[tenant].weight = weight;
    if (pool->local != NULL) qr_block_pool_set_weight(pool->local, tenant, weight);
}

void qr_block_pool_forget_tenant(qr_block_pool *pool, uint32_t tenant)
{
    qr_assert(tenant < pool->max_tenants && pool->tenants[tenant].used == 0);
    for (uint32_t n = 0; n < pool->node_count; n++) flush_list(pool, &pool->nodes[n].cached_lists[tenant]);
    if (pool->local != NULL) qr_block_pool_forget_tenant(pool->local, tenant);
}

static uint32_t available_on(const qr_pool_node *node) { return node->free + node->cached + node->reserved; }

/* What the sequence costs node n's threads, in hundredths of a block of their own. */
static uint64_t cost_on(const qr_block_pool *pool, uint32_t n, const uint32_t *hits_on, uint32_t fresh)
{
    const qr_pool_node *node = &pool->nodes[n];
    const uint32_t      here = qr_min_u32(fresh, available_on(node));
    uint64_t            cost = (uint64_t)here * 100 + (uint64_t)(fresh - here) * node->percent[node->order[1]];
    for (uint32_t m = 0; m < pool->node_count; m++) cost += (uint64_t)hits_on[m] * node->percent[m];
    return cost;
}

typedef struct home_choice {
    uint64_t cost, load; /* of the sequence; of a thread of the node with it */
    uint32_t available;
} home_choice;

static bool is_better(const home_choice *a, const home_choice *b)
{
    if (a->cost != b->cost) return a->cost < b->cost;
    return a->load != b->load ? a->load < b->load : a->available > b->available;
}

uint32_t qr_block_pool_home(const qr_block_pool *pool, const uint32_t *hits, uint32_t count, uint32_t fresh)
{
    if (pool->node_count == 1) return 0;
    uint32_t    hits_on[QR_MAX_NODES] = {0}, home = QR_NONE;
    home_choice choices[QR_MAX_NODES];
    uint64_t    least = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++)
        if (hits[i] != QR_BLOCK_NONE) hits_on[pool->blocks[hits[i]].node]++;
    for (uint32_t n = 0; n < pool->node_count; n++) {
        const qr_pool_node *node = &pool->nodes[n];
        const uint64_t      cost = cost_on(pool, n, hits_on, fresh);
        choices[n] = (home_choice){cost, (node->load * 100 + cost) * LOAD_SCALE / node->threads, available_on(node)};
        least      = qr_min_u64(least, choices[n].load);
    }
    for (uint32_t n = 0; n < pool->node_count; n++) {
        if (choices[n].load > least / 100 * pool->load_percent + pool->load_percent) continue;
        if (home == QR_NONE || is_better(&choices[n], &choices[home])) home = n;
    }
    return home;
}

/* ---- creation ---- */

static uint64_t sum_of_shares(const uint32_t *share, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t n = 0; n < count; n++) sum += share ? share[n] : 1;
    return sum;
}

void qr_block_pool_split(uint32_t num_blocks, uint32_t node_count, const uint32_t *share, uint32_t *first_block)
{
    const bool     whole = num_blocks / node_count >= QR_EXTENT_BLOCKS;
    const uint64_t all   = sum_of_shares(share, node_count);
    for (uint32_t n = 0; n < node_count; n++) {
        const uint32_t first = (uint32_t)((uint64_t)num_blocks * sum_of_shares(share, n) / all);
        first_block[n]       = whole ? first / QR_EXTENT_BLOCKS * QR_EXTENT_BLOCKS : first;
    }
    first_block[node_count] = num_blocks;
}

/* What the arena gives to one node, from its block range. */
static void layout_node(const qr_cache_options *options, qr_pool_node *node, qr_arena *arena)
{
    node->extent_count  = qr_ceil_div_u32(node->end - node->first, QR_EXTENT_BLOCKS);
    node->word_count    = qr_ceil_div_u32(node->extent_count, WORD_BITS);
    node->summary_count = qr_ceil_div_u32(node->word_count, WORD_BITS);
    node->free_mask     = QR_ARENA_TAKE(arena, uint8_t, node->extent_count);
    for (uint32_t k = 0; k <= QR_EXTENT_BLOCKS; k++) {
        node->by_free[k].words   = QR_ARENA_TAKE(arena, uint64_t, node->word_count);
        node->by_free[k].summary = QR_ARENA_TAKE(arena, uint64_t, node->summary_count);
    }
    node->cached_lists = QR_ARENA_TAKE(arena, qr_list, options->max_tenants);
    node->active       = QR_ARENA_TAKE(arena, uint32_t, options->max_tenants);
    node->active_place = QR_ARENA_TAKE(arena, uint32_t, options->max_tenants);
    node->order        = QR_ARENA_TAKE(arena, uint8_t, options->node_count);
    node->percent      = QR_ARENA_TAKE(arena, uint16_t, options->node_count);
}

static void split_blocks(const qr_cache_options *options, uint32_t *first_block)
{
    if (options->first_block != NULL)
        memcpy(first_block, options->first_block, (options->node_count + 1) * sizeof *first_block);
    else
        qr_block_pool_split(options->num_blocks, options->node_count, options->node_share, first_block);
}

void qr_block_pool_layout(qr_block_pool *pool, const qr_cache_options *options, qr_arena *arena)
{
    uint32_t first_block[QR_MAX_NODES + 1];
    split_blocks(options, first_block);
    pool->blocks   = QR_ARENA_TAKE(arena, qr_block, options->num_blocks);
    pool->nodes    = QR_ARENA_TAKE(arena, qr_pool_node, options->node_count);
    pool->tenants  = QR_ARENA_TAKE(arena, qr_pool_tenant, options->max_tenants);
    pool->freed    = QR_ARENA_TAKE(arena, uint32_t, options->list_freed ? options->num_blocks : 0);
    pool->is_freed = QR_ARENA_TAKE(arena, uint8_t, options->list_freed ? options->num_blocks : 0);
    for (uint32_t n = 0; n < options->node_count; n++) {
        qr_pool_node counted, *node = pool->nodes ? &pool->nodes[n] : &counted;
        node->first = first_block[n], node->end = first_block[n + 1];
        layout_node(options, node, arena);
    }
}

static uint32_t distance(const qr_cache_options *options, uint32_t a, uint32_t b)
{
    if (a == b) return 0; /* whatever the table says: a node is nearest to itself */
    if (options->distance != NULL) return options->distance[a * options->node_count + b] + 1;
    return a > b ? a - b : b - a;
}

/* ACPI's distances are times, 10 for local memory; whatever a machine claims, remote memory is neither faster nor so
 * slow that nothing would ever be read from it. */
static uint16_t percent_between(const qr_cache_options *options, uint32_t a, uint32_t b)
{
    if (a == b) return 100;
    if (options->distance == NULL) return REMOTE_PERCENT;
    const uint32_t tenths = options->distance[a * options->node_count + b];
    return (uint16_t)qr_max_u32(100, qr_min_u32(tenths, MOST_REMOTE_PERCENT / 10) * 10);
}

/* By distance, equal ones by number: insertion sort of at most QR_MAX_NODES. */
static void order_nodes(const qr_cache_options *options, uint32_t home, uint8_t *order)
{
    for (uint32_t n = 0; n < options->node_count; n++) {
        uint32_t at = n;
        for (; at > 0 && distance(options, home, order[at - 1]) > distance(options, home, n); at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)n;
    }
}

static void init_node(qr_block_pool *pool, const qr_cache_options *options, uint32_t n)
{
    qr_pool_node *node = &pool->nodes[n];
    order_nodes(options, n, node->order);
    node->threads = options->node_threads ? options->node_threads[n] : 1;
    for (uint32_t m = 0; m < options->node_count; m++) {
        node->percent[m]   = percent_between(options, n, m);
        pool->load_percent = qr_max_u32(pool->load_percent, node->percent[m]);
    }
    node->free_list = node->reserved_list = QR_LIST_EMPTY;
    for (uint32_t t = 0; t < pool->max_tenants; t++) node->cached_lists[t] = QR_LIST_EMPTY;
    for (uint32_t e = 0; e < node->extent_count; e++) set_insert(&node->by_free[0], e);
    for (uint32_t id = node->first; id < node->end; id++) {
        pool->blocks[id].node = (uint8_t)n;
        enter_state(pool, id, QR_BLOCK_FREE);
    }
}

void qr_block_pool_init(qr_block_pool *pool, const qr_cache_options *options)
{
    pool->num_blocks   = options->num_blocks;
    pool->block_size   = options->block_size;
    pool->node_count   = options->node_count;
    pool->max_tenants  = options->max_tenants;
    pool->extents      = options->extents;
    pool->list_freed   = options->list_freed;
    pool->keep         = options->enable_prefix_caching;
    pool->load_percent = LEAST_LOAD_PERCENT;
    for (uint32_t t = 0; t < pool->max_tenants; t++) pool->tenants[t].weight = 1;
    for (uint32_t n = 0; n < pool->node_count; n++) init_node(pool, options, n);
}
