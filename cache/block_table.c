/* Operations on one sequence's block table (docs/CACHE.md, Block tables). */
#include "cache/block_table.h"

#include "base/assert.h"
#include "base/bits.h"

/* ---- entries, and the runs of adjacent ids among them ---- */

/* Entry i continues the run of entry i - 1. */
static bool joins(const qr_block_table *table, uint32_t i)
{
    return i > table->first && table->blocks[i] == table->blocks[i - 1] + 1;
}

static void count_runs(qr_block_pool *pool, qr_block_table *table, uint32_t more_runs, uint32_t fewer_runs)
{
    table->runs = table->runs + more_runs - fewer_runs;
    if (table->running) pool->runs = pool->runs + more_runs - fewer_runs;
}

/* Live entries of a running table: what its home's threads read in each step. */
static void count_load(qr_block_pool *pool, const qr_block_table *table, uint32_t more, uint32_t fewer)
{
    if (!table->running) return;
    pool->run_blocks              = pool->run_blocks + more - fewer;
    pool->nodes[table->home].load = pool->nodes[table->home].load + more - fewer;
}

static void push(qr_block_pool *pool, qr_block_table *table, uint32_t id)
{
    qr_assert(table->count < table->capacity);
    table->blocks[table->count++] = id;
    count_runs(pool, table, !joins(table, table->count - 1), 0);
    count_load(pool, table, 1, 0);
}

static void pop(qr_block_pool *pool, qr_block_table *table)
{
    const uint32_t last = table->count - 1, id = table->blocks[last];
    count_runs(pool, table, 0, !joins(table, last));
    count_load(pool, table, 0, 1);
    table->count = last;
    qr_block_pool_release(pool, id);
}

/* The window leaves the first live entry behind. */
static void drop_first(qr_block_pool *pool, qr_block_table *table)
{
    const uint32_t first = table->first, id = table->blocks[first];
    const bool     run_goes_on = first + 1 < table->count && joins(table, first + 1);
    count_runs(pool, table, 0, !run_goes_on);
    count_load(pool, table, 0, 1);
    table->blocks[first] = QR_BLOCK_NONE;
    table->first         = first + 1;
    qr_block_pool_release(pool, id);
}

static uint32_t runs_at(const qr_block_table *table, uint32_t i)
{
    return (uint32_t)!joins(table, i) + (i + 1 < table->count && !joins(table, i + 1));
}

static void replace(qr_block_pool *pool, qr_block_table *table, uint32_t i, uint32_t id)
{
    const uint32_t before = runs_at(table, i);
    table->blocks[i]      = id;
    count_runs(pool, table, runs_at(table, i), before);
}

/* Only the first `keep` blocks still have the content the index knows. */
static void cut_published(const qr_block_pool *pool, qr_block_table *table, uint32_t keep)
{
    if (table->published <= keep) return;
    table->published = keep;
    table->chain     = keep > table->first ? pool->blocks[table->blocks[keep - 1]].chain : 0;
}

/* ---- operations ---- */

void qr_block_table_init(qr_block_table *table, uint32_t *storage, uint32_t capacity, bool grows,
                         const qr_prefix_root *root)
{
    *table = (qr_block_table){
        .blocks = storage, .capacity = capacity, .root = *root, .reserved = QR_BLOCK_NONE, .grows = grows};
}

static void set_running(qr_block_pool *pool, qr_block_table *table, bool running)
{
    if (table->running == running) return;
    const uint32_t live = table->count - table->first;
    if (running) {
        table->running = true;
        count_load(pool, table, live, 0);
        pool->runs += table->runs;
    } else {
        count_load(pool, table, 0, live);
        table->running = false;
        pool->runs -= table->runs;
        qr_block_pool_unreserve(pool, table);
    }
}

void qr_block_table_set_running(qr_block_pool *pool, qr_block_table *table, bool running)
{
    set_running(pool, table, running);
    if (table->local != NULL) set_running(pool->local, table->local, running);
}

uint32_t qr_block_table_missing(const qr_block_pool *pool, const qr_block_table *table, uint32_t upto)
{
    const uint32_t needed = qr_ceil_div_u32(upto, pool->block_size);
    return needed > table->count ? needed - table->count : 0;
}

static void fill(qr_block_pool *pool, qr_block_table *table, uint32_t end)
{
    qr_assert(end <= table->capacity);
    while (table->count < end) {
        const uint32_t group_end = (table->count / QR_EXTENT_BLOCKS + 1) * QR_EXTENT_BLOCKS;
        const uint32_t wanted    = qr_min_u32(end, group_end) - table->count;
        push(pool, table, qr_block_pool_acquire(pool, table, table->count, wanted));
    }
}

bool qr_block_table_append(qr_block_pool *pool, qr_block_table *table, uint32_t upto)
{
    const uint32_t missing = qr_block_table_missing(pool, table, upto), end = table->count + missing;
    if (missing == 0) return true;
    if (missing > qr_block_pool_available(pool) || qr_block_pool_refuses(pool)) return false;
    fill(pool, table, end);
    if (table->local != NULL) fill(pool->local, table->local, end);
    return true;
}

/* partner: of each hit, the block that is meant; NULL: itself. */
static void adopt(qr_block_pool *pool, qr_block_table *table, const uint32_t *hits, const uint32_t *partner,
                  uint32_t count, uint32_t first_live)
{
    qr_assert(table->count + count <= table->capacity);
    while (table->first < qr_min_u32(first_live, table->count)) drop_first(pool, table);
    for (uint32_t i = 0; i < count; i++) {
        if (table->count < first_live) {
            table->blocks[table->count++] = QR_BLOCK_NONE;
            table->first                  = table->count;
            continue;
        }
        const uint32_t id = partner != NULL ? partner[hits[i]] : hits[i];
        qr_block_pool_share(pool, id);
        push(pool, table, id);
    }
}

void qr_block_table_adopt(qr_block_pool *pool, qr_block_table *table, const uint32_t *hits, uint32_t count,
                          uint32_t first_live)
{
    if (count == 0) return;
    const bool published = table->published == table->count;
    adopt(pool, table, hits, NULL, count, first_live);
    if (table->local != NULL)
        adopt(pool->local, table->local, hits, pool->partner, count,
              qr_first_visible_block(table->count * pool->block_size, pool->local->window, pool->block_size));
    if (!published) return;
    table->published = table->count;
    table->chain     = pool->blocks[hits[count - 1]].chain;
}

/* Nobody else reads the block, and the index does not promise its content. */
static bool is_writable(const qr_block *block) { return block->refs == 1 && block->index == QR_INDEX_NONE; }

static bool needs_copy(const qr_block_pool *pool, const qr_block_table *table, uint32_t entry)
{
    if (entry >= table->count || entry < table->first) return false;
    return !is_writable(&pool->blocks[table->blocks[entry]]);
}

bool qr_block_table_needs_copy(const qr_block_pool *pool, const qr_block_table *table, uint32_t position)
{
    const uint32_t entry = position / pool->block_size;
    return needs_copy(pool, table, entry) || (table->local != NULL && needs_copy(pool->local, table->local, entry));
}

static void make_writable(qr_block_pool *pool, qr_block_table *table, uint32_t position, qr_block_copy *copy)
{
    const uint32_t entry = position / pool->block_size;
    qr_assert(entry >= table->first && entry < table->count);
    const uint32_t from = table->blocks[entry];
    *copy               = (qr_block_copy){from, from, 0};
    if (is_writable(&pool->blocks[from])) {
        pool->blocks[from].chain = 0; /* of a twin of what it held so far */
        cut_published(pool, table, entry);
        return;
    }
    *copy = (qr_block_copy){from, qr_block_pool_acquire(pool, table, entry, 1), position % pool->block_size};
    if (copy->slots > 0) qr_block_pool_pin(pool, from);
    replace(pool, table, entry, copy->to);
    cut_published(pool, table, entry);
    qr_block_pool_release(pool, from);
}

bool qr_block_table_make_writable(qr_block_pool *pool, qr_block_table *table, uint32_t position, qr_block_copy *copy)
{
    if (qr_block_table_needs_copy(pool, table, position) &&
        (qr_block_pool_available(pool) == 0 || qr_block_pool_refuses(pool)))
        return false;
    make_writable(pool, table, position, &copy[0]);
    if (table->local != NULL) make_writable(pool->local, table->local, position, &copy[1]);
    return true;
}

static void fork_table(qr_block_pool *pool, const qr_block_table *parent, qr_block_table *child)
{
    qr_assert(child->count == 0 && !child->running && child->reserved == QR_BLOCK_NONE);
    qr_assert(parent->count <= child->capacity);
    for (uint32_t i = 0; i < parent->count; i++) {
        child->blocks[i] = parent->blocks[i];
        if (i >= parent->first) qr_block_pool_share(pool, parent->blocks[i]);
    }
    child->count = parent->count, child->first = parent->first, child->runs = parent->runs;
    child->root = parent->root, child->published = parent->published, child->chain = parent->chain;
    child->home = parent->home;
}

void qr_block_table_fork(qr_block_pool *pool, const qr_block_table *parent, qr_block_table *child)
{
    fork_table(pool, parent, child);
    if (parent->local != NULL) fork_table(pool->local, parent->local, child->local);
}

static void truncate(qr_block_pool *pool, qr_block_table *table, uint32_t keep)
{
    qr_assert(keep == 0 || keep >= table->first);
    while (table->count > qr_max_u32(keep, table->first)) pop(pool, table);
    if (keep == 0) table->count = table->first = 0;
    cut_published(pool, table, table->count);
    qr_block_pool_unreserve(pool, table);
}

void qr_block_table_truncate(qr_block_pool *pool, qr_block_table *table, uint32_t keep)
{
    truncate(pool, table, keep);
    if (table->local != NULL) truncate(pool->local, table->local, keep);
}

static void slide(qr_block_pool *pool, qr_block_table *table, uint32_t computed, uint32_t window)
{
    const uint32_t end = qr_min_u32(qr_first_visible_block(computed, window, pool->block_size), table->count);
    while (table->first < end) drop_first(pool, table);
}

void qr_block_table_slide(qr_block_pool *pool, qr_block_table *table, uint32_t computed, uint32_t window)
{
    slide(pool, table, computed, window);
    if (table->local != NULL) slide(pool->local, table->local, computed, pool->local->window);
}

void qr_block_table_release(qr_block_pool *pool, qr_block_table *table) { qr_block_table_truncate(pool, table, 0); }
