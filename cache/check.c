/* qr_cache_check: recounts everything from scratch and compares (docs/CACHE.md, Invariants). */
#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "cache/cache.h"
#include "cache/layout.h"

/* ---- C1, C14: counters ---- */

static const char *check_node_counts(const qr_block_pool *pool, uint32_t n)
{
    const qr_pool_node *node      = &pool->nodes[n];
    uint32_t            counts[4] = {0};
    for (uint32_t id = node->first; id < node->end; id++) {
        QR_RULE(pool->blocks[id].state <= QR_BLOCK_CACHED, "C1: a block is in no state");
        QR_RULE(pool->blocks[id].node == n, "C1: a block is on a node that does not own it");
        counts[pool->blocks[id].state]++;
    }
    QR_RULE(counts[QR_BLOCK_FREE] == node->free && counts[QR_BLOCK_RESERVED] == node->reserved &&
                counts[QR_BLOCK_USED] == node->used && counts[QR_BLOCK_CACHED] == node->cached,
            "C1: a node's counters differ from the states of its blocks");
    return NULL;
}

static const char *check_counts(const qr_block_pool *pool)
{
    uint32_t free = 0, reserved = 0, used = 0, cached = 0;
    for (uint32_t n = 0; n < pool->node_count; n++) {
        QR_CHECK(check_node_counts(pool, n));
        free += pool->nodes[n].free, reserved += pool->nodes[n].reserved;
        used += pool->nodes[n].used, cached += pool->nodes[n].cached;
    }
    QR_RULE(free == pool->free && reserved == pool->reserved && used == pool->used && cached == pool->cached,
            "C1: the pool's counters differ from the sums over its nodes");
    QR_RULE(free + reserved + used + cached == pool->num_blocks, "C1: the states do not add up to num_blocks");
    return NULL;
}

static const char *check_tenants(const qr_block_pool *pool)
{
    uint64_t used = 0, cached = 0;
    for (uint32_t t = 0; t < pool->max_tenants; t++) {
        uint32_t listed = 0;
        for (uint32_t n = 0; n < pool->node_count; n++) listed += pool->nodes[n].cached_lists[t].count;
        QR_RULE(listed == pool->tenants[t].cached, "C14: a tenant's CACHED blocks differ from its lists");
        used += pool->tenants[t].used, cached += pool->tenants[t].cached;
    }
    QR_RULE(used == pool->used && cached == pool->cached, "C14: the tenants' blocks do not add up to USED and CACHED");
    return NULL;
}

/* ---- C2, C6, C9, C10, C12: tables ---- */

/* What is checked in one go: a pool, and of each holder the table in it. */
typedef struct part {
    const qr_cache         *cache;
    const qr_block_pool    *pool;
    const qr_cache_holders *holders;
    const qr_block_copy    *copies;
    uint32_t                copy_count;
    bool                    local;
} part;

/* NULL: it has none in this pool. */
static const qr_block_table *table_in(const part *p, const qr_cache_holder *holder)
{
    return p->local ? holder->table->local : holder->table;
}

static const char *check_ids(const part *p, const qr_block_table *table, uint32_t stamp)
{
    const qr_cache      *cache = p->cache;
    const qr_block_pool *pool  = p->pool;
    QR_RULE(table->first <= table->count && table->count <= table->capacity,
            "C12: a table is longer than its capacity");
    for (uint32_t i = 0; i < table->count; i++) {
        const uint32_t id = table->blocks[i];
        QR_RULE((id == QR_BLOCK_NONE) == (i < table->first), "C12: NONE above the window, or a block below it");
        if (id == QR_BLOCK_NONE) continue;
        QR_RULE(id < pool->num_blocks, "C6: a table names a block outside the pool");
        QR_RULE(cache->check_seen[id] != stamp, "C6: a table names a block twice");
        cache->check_seen[id] = stamp;
        cache->check_refs[id]++;
        QR_RULE(pool->blocks[id].tenant == table->root.tenant, "C10: a table names a block of another tenant");
    }
    return NULL;
}

static const char *check_runs(const qr_block_table *table)
{
    uint32_t runs = 0;
    for (uint32_t i = table->first; i < table->count; i++)
        runs += i == table->first || table->blocks[i] != table->blocks[i - 1] + 1;
    QR_RULE(runs == table->runs, "C15: a table's runs of adjacent blocks are miscounted");
    return NULL;
}

static const char *check_positions(const part *p, const qr_cache_holder *holder, const qr_block_table *table)
{
    const uint32_t bs = p->pool->block_size, window = p->local ? p->pool->window : holder->window;
    QR_RULE(holder->write_end >= holder->computed, "C12: a plan writes before what was computed");
    QR_RULE(qr_ceil_div_u32(holder->write_end, bs) <= table->count, "C12: a table is too short for its positions");
    QR_RULE(table->published <= table->count, "C12: more blocks published than the table has");
    for (uint32_t i = table->first; i < table->count; i++) {
        const uint64_t end = (uint64_t)(i + 1) * bs;
        QR_RULE(window == 0 || end + window > (uint64_t)holder->computed + 1,
                "C12: a table holds a block that the window left behind");
        const qr_block *block   = &p->pool->blocks[table->blocks[i]];
        const bool      indexed = block->index == QR_INDEX_PREFIX || block->index == QR_INDEX_PARTNER;
        QR_RULE(!indexed || holder->computed >= end,
                "C8: a block is indexed, but no committed step wrote all its slots");
        QR_RULE(block->index != QR_INDEX_CROSS || holder->computed > 0,
                "C8: cross content is indexed, but no committed step wrote it");
    }
    return NULL;
}

static const char *check_writes(const part *p, const qr_cache_holder *holder, const qr_block_table *table)
{
    const uint32_t bs = p->pool->block_size;
    for (uint32_t i = holder->computed / bs; i < qr_ceil_div_u32(holder->write_end, bs); i++) {
        if (holder->write_end == holder->computed) break;
        QR_RULE(i >= table->first, "C9: a plan writes a block that the window left behind");
        const qr_block *block = &p->pool->blocks[table->blocks[i]];
        QR_RULE(block->refs == 1 && block->index == QR_INDEX_NONE,
                "C9: a plan writes a block that is shared or indexed");
    }
    return NULL;
}

static const char *check_references(const part *p)
{
    const qr_cache      *cache = p->cache;
    const qr_block_pool *pool  = p->pool;
    memset(cache->check_refs, 0, pool->num_blocks * sizeof *cache->check_refs);
    memset(cache->check_seen, 0, pool->num_blocks * sizeof *cache->check_seen);
    for (uint32_t t = 0; t < p->holders->table_count; t++) {
        const qr_block_table *table = table_in(p, &p->holders->tables[t]);
        if (table != NULL) QR_CHECK(check_ids(p, table, t + 1));
    }
    for (uint32_t id = 0; id < pool->num_blocks; id++)
        QR_RULE(pool->blocks[id].refs == cache->check_refs[id],
                "C2: refs differ from the table entries naming the block");
    memset(cache->check_seen, 0, pool->num_blocks * sizeof *cache->check_seen);
    for (uint32_t c = 0; c < p->copy_count; c++) {
        QR_RULE(p->copies[c].from < pool->num_blocks, "C6: a copy names a block outside the pool");
        if (p->copies[c].slots > 0) cache->check_seen[p->copies[c].from]++;
    }
    for (uint32_t id = 0; id < pool->num_blocks; id++)
        QR_RULE(pool->blocks[id].pins == cache->check_seen[id],
                "C2: pins differ from the copies of the plan in flight");
    return NULL;
}

static const char *check_tables(const part *p)
{
    uint64_t blocks = 0, runs = 0, load[QR_MAX_NODES] = {0};
    for (uint32_t t = 0; t < p->holders->table_count; t++) {
        const qr_cache_holder *holder = &p->holders->tables[t];
        const qr_block_table  *table  = table_in(p, holder);
        if (table == NULL) continue;
        QR_RULE(table->count == holder->table->count, "C16: a table and its local one differ in length");
        QR_CHECK(check_positions(p, holder, table));
        QR_CHECK(check_writes(p, holder, table));
        QR_CHECK(check_runs(table));
        if (!table->running) continue;
        blocks += table->count - table->first;
        load[table->home] += table->count - table->first;
        runs += table->runs;
    }
    for (uint32_t n = 0; n < p->pool->node_count; n++)
        QR_RULE(load[n] == p->pool->nodes[n].load, "C17: a node's load differs from the tables that are at home there");
    QR_RULE(blocks == p->pool->run_blocks && runs == p->pool->runs, "C15: the pool's runs are miscounted");
    return NULL;
}

/* ---- C3: states ---- */

static const char *check_states(const qr_block_pool *pool)
{
    for (uint32_t id = 0; id < pool->num_blocks; id++) {
        const qr_block *block   = &pool->blocks[id];
        const bool      in_use  = block->refs + block->pins > 0;
        const bool      indexed = block->index != QR_INDEX_NONE;
        QR_RULE((block->state == QR_BLOCK_USED) == in_use, "C3: USED, but refs + pins = 0, or the other way round");
        QR_RULE((block->state == QR_BLOCK_CACHED) == (!in_use && indexed),
                "C3: CACHED, but not indexed, or not CACHED");
        QR_RULE((block->state == QR_BLOCK_RESERVED) == (block->owner != NULL), "C3: RESERVED without an owner");
    }
    return NULL;
}

/* Each RESERVED block is the rest of the extent of one RUNNING table: the tables account for all of them. */
static const char *check_reservations(const part *p)
{
    const qr_block_pool *pool  = p->pool;
    uint32_t             found = 0;
    for (uint32_t t = 0; t < p->holders->table_count; t++) {
        const qr_block_table *table = table_in(p, &p->holders->tables[t]);
        const uint32_t        first = table != NULL ? table->reserved : QR_BLOCK_NONE;
        for (uint32_t id = first; id != QR_BLOCK_NONE && id < pool->num_blocks && id < first + QR_EXTENT_BLOCKS; id++) {
            if (pool->blocks[id].state != QR_BLOCK_RESERVED || pool->blocks[id].owner != table) break;
            QR_RULE(table->running, "C3: a block is RESERVED for a sequence that is not RUNNING");
            found++;
        }
    }
    QR_RULE(found == pool->reserved, "C3: a block is RESERVED for nobody");
    return NULL;
}

/* ---- C4: lists ---- */

static const char *check_list(const qr_block_pool *pool, const qr_list *list, qr_block_state state)
{
    uint32_t previous = QR_BLOCK_NONE, count = 0;
    uint64_t stamp = 0;
    for (uint32_t id = list->head; id != QR_BLOCK_NONE; id = pool->blocks[id].link.next) {
        QR_RULE(id < pool->num_blocks && count < list->count, "C4: a list leads outside the pool, or in a circle");
        const qr_block *block = &pool->blocks[id];
        QR_RULE(block->link.prev == previous, "C4: next and prev of a list disagree");
        QR_RULE(block->state == state, "C4: a list has a member of another state");
        QR_RULE(block->released > stamp, "C4: a list is not in release order");
        stamp = block->released, previous = id, count++;
    }
    QR_RULE(list->tail == previous && list->count == count, "C4: a list's tail or length is wrong");
    return NULL;
}

static const char *check_node_lists(const qr_block_pool *pool, const qr_pool_node *node)
{
    QR_CHECK(check_list(pool, &node->reserved_list, QR_BLOCK_RESERVED));
    QR_CHECK(check_list(pool, &node->free_list, QR_BLOCK_FREE));
    QR_RULE(node->reserved_list.count == node->reserved, "C4: the RESERVED list misses a block");
    QR_RULE(pool->extents || node->free_list.count == node->free, "C4: the FREE list misses a block");
    uint32_t cached = 0, active = 0;
    for (uint32_t t = 0; t < pool->max_tenants; t++) {
        const qr_list *list = &node->cached_lists[t];
        QR_CHECK(check_list(pool, list, QR_BLOCK_CACHED));
        for (uint32_t id = list->head; id != QR_BLOCK_NONE; id = pool->blocks[id].link.next)
            QR_RULE(pool->blocks[id].tenant == t, "C4: a CACHED block is in another tenant's list");
        cached += list->count;
        if (list->count == 0) continue;
        active++;
        QR_RULE(node->active_place[t] < node->active_count && node->active[node->active_place[t]] == t,
                "C4: a tenant with CACHED blocks is not among the active ones");
    }
    QR_RULE(cached == node->cached && active == node->active_count, "C4: the CACHED lists miss a block");
    return NULL;
}

/* ---- C5: extents ---- */

static bool set_contains(const qr_extent_set *set, uint32_t extent)
{
    return set->words[extent / 64] >> extent % 64 & 1;
}

static const char *check_extents(const qr_block_pool *pool, const qr_pool_node *node)
{
    for (uint32_t e = 0; e < node->extent_count; e++) {
        uint32_t mask = 0;
        for (uint32_t i = 0; i < QR_EXTENT_BLOCKS; i++) {
            const uint32_t id = node->first + e * QR_EXTENT_BLOCKS + i;
            if (id < node->end && pool->blocks[id].state == QR_BLOCK_FREE) mask |= 1u << i;
        }
        QR_RULE(mask == node->free_mask[e], "C5: an extent's mask differs from its FREE blocks");
        for (uint32_t k = 0; k <= QR_EXTENT_BLOCKS; k++)
            QR_RULE(set_contains(&node->by_free[k], e) == (k == (uint32_t)__builtin_popcount(mask)),
                    "C5: an extent is in a set that its FREE blocks do not put it in");
    }
    for (uint32_t k = 0; k <= QR_EXTENT_BLOCKS; k++)
        for (uint32_t w = 0; w < node->word_count; w++)
            QR_RULE((node->by_free[k].words[w] != 0) == (node->by_free[k].summary[w / 64] >> w % 64 & 1),
                    "C5: a set's summary differs from its words");
    return NULL;
}

/* ---- C7, C10, C11: indexes ---- */

static const char *check_prefix(const qr_cache *cache)
{
    const qr_block_pool   *pool  = &cache->pool;
    const qr_prefix_index *index = &cache->prefix;
    uint32_t               found = 0, flagged = 0;
    for (uint32_t bucket = 0; bucket <= index->bucket_mask; bucket++) {
        for (uint32_t id = index->buckets[bucket]; id != QR_BLOCK_NONE; id = pool->blocks[id].hash_link.next) {
            QR_RULE(id < pool->num_blocks && found < pool->num_blocks,
                    "C7: a bucket leads outside the pool, or in a circle");
            QR_RULE(pool->blocks[id].index == QR_INDEX_PREFIX && pool->blocks[id].bucket == bucket,
                    "C7: a bucket holds a block that is not indexed there");
            found++;
        }
    }
    for (uint32_t id = 0; id < pool->num_blocks; id++) {
        const qr_block *block = &pool->blocks[id];
        if (block->index != QR_INDEX_PREFIX) continue;
        flagged++;
        QR_RULE(block->chain == block->serial, "C7: an indexed block's chain is not its own serial");
        QR_RULE(qr_prefix_index_find_self(index, id) == id,
                "C7: the key of an indexed block finds another one, or none");
    }
    QR_RULE(found == flagged && found == index->entries, "C7: the prefix index misses a block flagged as indexed");
    return NULL;
}

/* Walks one cross entry; *blocks_out counts its blocks. */
static const char *check_entry(const qr_cache *cache, uint32_t entry, uint32_t *blocks_out)
{
    const qr_block_pool  *pool  = &cache->pool;
    const qr_cross_index *index = &cache->cross;
    uint32_t              count = 0;
    for (uint32_t id = entry; id != QR_BLOCK_NONE; id = index->entry_next[id]) {
        QR_RULE(id < pool->num_blocks && count < pool->num_blocks, "C7: a cross entry leads outside the pool");
        const qr_block *block = &pool->blocks[id];
        QR_RULE(block->index == QR_INDEX_CROSS && index->entry_of[id] == entry,
                "C7: a cross entry has a foreign block");
        QR_RULE(block->tenant == pool->blocks[entry].tenant, "C10: a cross entry has blocks of two tenants");
        QR_RULE(block->state == pool->blocks[entry].state, "C11: a cross entry is partly CACHED, partly USED");
        count++;
    }
    QR_RULE(count == qr_ceil_div_u32(index->lengths[entry], pool->block_size), "C11: a cross entry misses a block");
    QR_RULE(qr_cross_index_find_self(index, entry) == entry,
            "C7: the key of cross content finds another entry, or none");
    *blocks_out += count;
    return NULL;
}

static const char *check_cross(const qr_cache *cache)
{
    const qr_block_pool  *pool  = &cache->pool;
    const qr_cross_index *index = &cache->cross;
    uint32_t              found = 0, blocks = 0, flagged = 0;
    for (uint32_t bucket = 0; bucket <= index->bucket_mask; bucket++) {
        for (uint32_t entry = index->buckets[bucket]; entry != QR_BLOCK_NONE;
             entry          = pool->blocks[entry].hash_link.next) {
            QR_RULE(entry < pool->num_blocks && found < pool->num_blocks, "C7: a cross bucket leads outside the pool");
            QR_RULE(pool->blocks[entry].bucket == bucket, "C7: a cross entry is in another bucket than its own");
            QR_CHECK(check_entry(cache, entry, &blocks));
            found++;
        }
    }
    for (uint32_t id = 0; id < pool->num_blocks; id++) flagged += pool->blocks[id].index == QR_INDEX_CROSS;
    QR_RULE(found == index->entries && blocks == flagged, "C7: the cross index misses a block flagged as indexed");
    return NULL;
}

/* ---- C16: local blocks ---- */

static const char *check_partners(const qr_block_pool *pool, const qr_block_pool *other, qr_block_index index)
{
    for (uint32_t id = 0; id < pool->num_blocks; id++) {
        const uint32_t partner = pool->partner[id];
        QR_RULE(partner == QR_BLOCK_NONE || (partner < other->num_blocks && other->partner[partner] == id),
                "C16: a block's partner is another's");
        QR_RULE(partner == QR_BLOCK_NONE || pool->blocks[id].index == index,
                "C16: a block has a partner, but is not indexed");
        QR_RULE(partner != QR_BLOCK_NONE || index != QR_INDEX_PARTNER || pool->blocks[id].index == QR_INDEX_NONE,
                "C16: a local block is indexed without a partner");
        QR_RULE(partner == QR_BLOCK_NONE || pool->blocks[id].tenant == other->blocks[partner].tenant,
                "C10: a block and its partner are two tenants'");
    }
    return NULL;
}

/* ---- C17: the journal ---- */

static const char *check_journal_list(const qr_cache *cache, const qr_list *list, qr_journal_place place)
{
    const qr_journal *journal = &cache->journal;
    uint32_t          count   = 0;
    for (uint32_t id = list->head; id != QR_BLOCK_NONE; id = journal->blocks[id].link.next, count++) {
        QR_RULE(id < cache->pool.num_blocks && count < list->count, "C17: a list of the journal leads astray");
        QR_RULE(journal->blocks[id].place == place, "C17: a list of the journal has a block of another place");
    }
    QR_RULE(count == list->count, "C17: a list of the journal is miscounted");
    return NULL;
}

static const char *check_journal(const qr_cache *cache)
{
    const qr_journal *journal = &cache->journal;
    uint32_t          placed  = 0;
    QR_CHECK(check_journal_list(cache, &journal->open, QR_JOURNAL_OPEN));
    QR_CHECK(check_journal_list(cache, &journal->told, QR_JOURNAL_TOLD));
    for (uint32_t id = 0; id < cache->pool.num_blocks; id++) {
        const qr_journal_block *block      = &journal->blocks[id];
        const bool              is_indexed = cache->pool.blocks[id].index == QR_INDEX_PREFIX;
        placed += block->place != QR_JOURNAL_NOWHERE;
        QR_RULE((block->place != QR_JOURNAL_NOWHERE) == (is_indexed || block->told != 0),
                "C17: the journal misses a block, or has one of which nothing is to be told");
        QR_RULE(block->place != QR_JOURNAL_TOLD || (is_indexed && block->told == cache->pool.blocks[id].serial),
                "C17: a block is not as it was told");
    }
    QR_RULE(placed == journal->open.count + journal->told.count, "C17: a block of the journal is in no list");
    return NULL;
}

/* ---- all ---- */

static const char *check_part(const part *p)
{
    const qr_block_pool *pool = p->pool;
    QR_CHECK(check_counts(pool));
    /* C2 and C3 imply it, but this names the case. */
    QR_RULE(p->holders->table_count + p->copy_count > 0 || pool->used + pool->reserved == 0,
            "C13: nothing is live, but blocks are USED or RESERVED");
    QR_CHECK(check_references(p));
    QR_CHECK(check_states(pool));
    QR_CHECK(check_reservations(p));
    for (uint32_t n = 0; n < pool->node_count; n++) {
        QR_CHECK(check_node_lists(pool, &pool->nodes[n]));
        if (pool->extents) QR_CHECK(check_extents(pool, &pool->nodes[n]));
    }
    if (!p->local) QR_CHECK(check_prefix(p->cache));
    if (pool->cross != NULL) QR_CHECK(check_cross(p->cache));
    QR_CHECK(check_tables(p));
    return check_tenants(pool);
}

const char *qr_cache_check(const qr_cache *cache, const qr_cache_holders *holders)
{
    const part first = {cache, &cache->pool, holders, holders->copies, holders->copy_count, false};
    const part local = {cache, &cache->local, holders, holders->local_copies, holders->local_copy_count, true};
    QR_CHECK(check_part(&first));
    if (cache->journal.blocks != NULL) QR_CHECK(check_journal(cache));
    if (cache->pool.local == NULL) return NULL;
    QR_CHECK(check_part(&local));
    QR_CHECK(check_partners(&cache->pool, &cache->local, QR_INDEX_PREFIX));
    return check_partners(&cache->local, &cache->pool, QR_INDEX_PARTNER);
}
