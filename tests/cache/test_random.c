/* Random operations on the whole cache. After each one the walker runs; every slot holds a hash of all that its key and
 * value would depend on, and is read again through the table, so that wrong reuse, stale blocks and missing copies
 * show. Hits are compared with a naive search, the order of reuse with a naive pool. */
#include "cache/fixture.h"

#include "support/cache_mirror.h"

enum { ACTORS = 12, ENCODER_MAX = 24, DECODER_MAX = 160, COPIES_MAX = ACTORS };

typedef struct actor {
    sequence self, cross;
    uint64_t content; /* hash of the encoder input, 0: none */
    uint32_t index;   /* of the fork: its tokens differ */
    bool     live;
} actor;

typedef struct world {
    qr_cache      cache;
    actor         actors[ACTORS];
    uint64_t      slots[2][MAX_BLOCKS * 16]; /* what is written in each slot; of local blocks */
    uint64_t      seed, step, draws, decisions;
    uint32_t      window, tenants;
    bool          encoder_decoder, verify;
    qr_block_copy copies[2][COPIES_MAX]; /* of local blocks the second */
    uint32_t      copy_count[2];
} world;

static world        w;
static cache_mirror mirror; /* of a reader of cache events, who comes now and then */

static uint32_t draw(uint32_t limit) { return qr_random_below(w.seed, 1, w.draws++, limit); }
static bool     chance(uint32_t percent) { return draw(100) < percent; }

/* ---- the content oracle ---- */

/* What slot p of the sequence must hold; called with p ascending from 0. */
static uint64_t slot_hash(const sequence *s, uint64_t content, uint32_t p, uint64_t previous)
{
    if (p == 0) previous = qr_mix64(content * 31 + s->table.root.tenant * 7 + s->table.root.salt[0] + 1);
    return qr_mix64(previous + (uint64_t)(uint32_t)s->tokens[p] * 0x9e3779b97f4a7c15u + 1);
}

static uint64_t *slot(const qr_block_table *table, bool local, uint32_t p)
{
    const uint32_t bs = w.cache.pool.block_size;
    return &w.slots[local][(size_t)table->blocks[p / bs] * bs + p % bs];
}

/* Local layers hold something else of the same token. */
static void write_slots(const sequence *s, uint64_t content, uint32_t begin, uint32_t end)
{
    uint64_t hash = 0;
    for (uint32_t p = 0; p < end; p++) {
        hash = slot_hash(s, content, p, hash);
        if (p < begin) continue;
        *slot(&s->table, false, p) = hash;
        if (s->table.local != NULL) *slot(s->table.local, true, p) = ~hash;
    }
}

static void read_table(const sequence *s, const qr_block_table *table, bool local, uint64_t content, uint32_t window)
{
    const uint32_t hidden = window != 0 && s->computed + 1 > window ? s->computed + 1 - window : 0;
    uint64_t       hash   = 0;
    for (uint32_t p = 0; p < s->computed; p++) {
        hash = slot_hash(s, content, p, hash);
        if (p >= hidden && *slot(table, local, p) != (local ? ~hash : hash))
            fail_msg("step %lu: position %u reads wrong %scontent", w.step, p, local ? "local " : "");
    }
}

static void read_slots(const sequence *s, uint64_t content, uint32_t window)
{
    read_table(s, &s->table, false, content, window);
    if (s->table.local != NULL) read_table(s, s->table.local, true, content, w.cache.local.window);
}

static void verify(void)
{
    qr_cache_holder holders[2 * ACTORS];
    uint32_t        count = 0;
    if (!w.verify) return;
    for (uint32_t i = 0; i < ACTORS; i++) {
        const actor *x = &w.actors[i];
        if (!x->live) continue;
        holders[count++] = (qr_cache_holder){&x->self.table, x->self.computed, x->self.computed, w.window};
        read_slots(&x->self, x->content, w.window);
        if (x->content == 0) continue;
        holders[count++] = (qr_cache_holder){&x->cross.table, x->cross.computed, x->cross.computed, 0};
        read_slots(&x->cross, 0, 0);
    }
    const char *verdict = qr_cache_check(
        &w.cache, &(qr_cache_holders){holders, count, w.copies[0], w.copy_count[0], w.copies[1], w.copy_count[1]});
    if (verdict == NULL && w.cache.journal.blocks != NULL && w.step % 5 == 0)
        verdict = w.step % 3 == 0 ? cache_mirror_compare(&mirror, &w.cache)
                                  : cache_mirror_read(&mirror, &w.cache, (uint32_t)(w.step % 9));
    if (verdict != NULL) fail_msg("step %lu: %s", w.step, verdict);
}

/* ---- the naive index: all blocks are searched, hash and buckets are not used ---- */

static uint32_t naive_find(const sequence *s, uint32_t entry, uint64_t chain)
{
    const qr_block_pool *pool   = &w.cache.pool;
    const int32_t       *tokens = s->tokens + entry * pool->block_size;
    for (uint32_t id = 0; id < pool->num_blocks; id++) {
        const qr_block *block = &pool->blocks[id];
        if (block->index != QR_INDEX_PREFIX || block->tenant != s->table.root.tenant) continue;
        if (memcmp(pool->tokens + id * pool->block_size, tokens, pool->block_size * 4) != 0) continue;
        if (block->root != (entry == 0)) continue;
        if (entry == 0 && (block->parent != s->table.root.content || block->salt[0] != s->table.root.salt[0])) continue;
        if (entry > 0 && block->parent != chain) continue;
        return id;
    }
    return QR_BLOCK_NONE;
}

/* Of each block that the local window shows behind `count` hits the local one is there. */
static bool window_is_there(const sequence *s, const uint32_t *hits, uint32_t count)
{
    const uint32_t bs = w.cache.pool.block_size, window = w.cache.local.window, kept = s->table.count;
    if (window == 0) return true;
    const uint32_t end = (kept + count) * bs;
    for (uint32_t i = 0; i < kept + count; i++) {
        if ((i + 1) * bs + window <= end + 1) continue; /* no row at `end` or later sees it */
        if (i < kept ? i < s->local.first : w.cache.pool.partner[hits[i - kept]] == QR_BLOCK_NONE) return false;
    }
    return true;
}

static void compare_with_naive_search(const sequence *s, const uint32_t *hits, uint32_t count)
{
    const qr_block_pool *pool  = &w.cache.pool;
    const uint32_t       first = s->table.count, limit = (s->len - 1) / pool->block_size;
    uint64_t             chain = s->table.chain;
    uint32_t             naive[MAX_BLOCKS];
    if (s->table.published != first || s->table.root.content == QR_CONTENT_UNKNOWN || !w.cache.prefix.enabled) {
        assert_int_equal(count, 0);
        return;
    }
    uint32_t found = 0, usable = 0;
    for (uint32_t id; first + found < limit; found++) {
        if ((id = naive_find(s, first + found, chain)) == QR_BLOCK_NONE) break;
        if (found < count) assert_int_equal(hits[found], id);
        chain        = pool->blocks[id].serial;
        naive[found] = id;
        if (window_is_there(s, naive, found + 1)) usable = found + 1;
    }
    assert_int_equal(usable, count);
}

/* ---- operations ---- */

/* A few families of prompts that part at a few places: prefixes are often shared. */
static void choose_prompt(sequence *s, uint32_t limit)
{
    const uint32_t family = draw(4), part = draw(5) * limit / 5, noise = draw(3);
    s->len = 1 + draw(limit - 1);
    for (uint32_t i = 0; i < s->len; i++)
        s->tokens[i] = (int32_t)(family * 1000 + i % 7 + (i >= part ? noise * 100 : 0));
}

static void end(actor *x)
{
    qr_block_table_set_running(&w.cache.pool, &x->self.table, false);
    qr_block_table_set_running(&w.cache.pool, &x->cross.table, false);
    qr_block_table_release(&w.cache.pool, &x->self.table);
    if (x->content != 0) qr_block_table_release(&w.cache.pool, &x->cross.table);
    x->live = false;
}

/* Takes or computes the cross content. */
static bool start_cross(actor *x)
{
    qr_cross_index *index = &w.cache.cross;
    sequence       *s     = &x->cross;
    const uint32_t  entry = qr_cross_index_lookup(index, &s->table.root, s->tokens, s->len);
    if (entry != QR_BLOCK_NONE) {
        qr_cross_index_share(index, entry, &s->table);
    } else {
        if (!qr_block_table_append(&w.cache.pool, &s->table, s->len)) return false;
        write_slots(s, 0, 0, s->len);
        if (chance(80)) qr_cross_index_publish(index, &s->table, s->tokens, s->len);
    }
    x->content = 1;
    for (uint32_t i = 0; i < s->len; i++) x->content = slot_hash(s, 0, i, x->content);
    s->computed                = s->len;
    x->self.table.root.content = qr_cross_index_content(index, &s->table);
    return true;
}

static void take_hits(actor *x)
{
    sequence *s = &x->self;
    uint32_t  hits[MAX_BLOCKS], cached = 0, counted = 0;
    if (s->computed != s->table.count * w.cache.pool.block_size) return;
    const uint32_t count = qr_prefix_index_lookup(&w.cache.prefix, &s->table, s->tokens, s->len, hits, &cached);
    if (w.verify) compare_with_naive_search(s, hits, count);
    for (uint32_t i = 0; i < count; i++) counted += w.cache.pool.blocks[hits[i]].state == QR_BLOCK_CACHED;
    assert_int_equal(counted, cached);
    if (count == 0) return;
    const uint32_t computed = (s->table.count + count) * w.cache.pool.block_size;
    const uint32_t hidden   = w.window != 0 && computed + 1 > w.window ? computed + 1 - w.window : 0;
    qr_block_table_adopt(&w.cache.pool, &s->table, hits, count, hidden / w.cache.pool.block_size);
    s->computed = computed;
}

static void submit(actor *x)
{
    const qr_prefix_root root = {.tenant = draw(w.tenants), .salt = {chance(10)}};
    x->content = 0, x->index = 0, x->live = true, x->self.computed = x->cross.computed = 0;
    init_tables(&x->self, &root, w.cache.local.window > 0);
    qr_block_table_init(&x->cross.table, x->cross.storage, MAX_BLOCKS, false, &root);
    x->self.table.home = x->self.local.home = x->cross.table.home = qr_block_pool_home(&w.cache.pool, NULL, 0, 0);
    choose_prompt(&x->self, DECODER_MAX / 2);
    choose_prompt(&x->cross, ENCODER_MAX);
    qr_block_table_set_running(&w.cache.pool, &x->self.table, true);
    qr_block_table_set_running(&w.cache.pool, &x->cross.table, true);
    if (w.encoder_decoder && !start_cross(x)) {
        end(x);
        return;
    }
    take_hits(x);
}

static void run_copies(void)
{
    const uint32_t bs = w.cache.pool.block_size;
    for (uint32_t k = 0; k < 2; k++)
        for (uint32_t i = 0; i < w.copy_count[k]; i++)
            for (uint32_t j = 0; j < w.copies[k][i].slots; j++)
                w.slots[k][w.copies[k][i].to * bs + j] = w.slots[k][w.copies[k][i].from * bs + j];
}

/* A step of one sequence: blocks, copies, rows, commit; one in ten fails and counts for nothing. */
static void advance(actor *x)
{
    sequence      *s    = &x->self;
    qr_block_pool *pool = &w.cache.pool;
    if (s->computed == s->len) {
        if (s->len == DECODER_MAX) {
            end(x);
            return;
        }
        s->tokens[s->len] = (int32_t)((uint32_t)s->tokens[s->len - 1] * 5 + x->index) % 11, s->len++;
    }
    const uint32_t upto = qr_min_u32(s->len, s->computed + 1 + draw(40));
    if (qr_block_table_needs_copy(pool, &s->table, s->computed)) {
        qr_block_copy copy[2] = {0};
        if (!qr_block_table_make_writable(pool, &s->table, s->computed, copy)) return;
        for (uint32_t k = 0; k < 2; k++)
            if (copy[k].slots > 0) w.copies[k][w.copy_count[k]++] = copy[k];
    }
    const bool planned = qr_block_table_append(pool, &s->table, upto);
    run_copies();
    verify();
    if (planned) write_slots(s, x->content, s->computed, upto);
    const bool failed = chance(10);
    if (planned && !failed) {
        s->computed = upto;
        qr_prefix_index_publish(&w.cache.prefix, &s->table, s->tokens, s->computed);
        qr_block_table_slide(pool, &s->table, s->computed, w.window);
    }
    for (uint32_t k = 0; k < 2; k++)
        while (w.copy_count[k] > 0) qr_block_pool_unpin(k ? &w.cache.local : pool, w.copies[k][--w.copy_count[k]].from);
}

static void fork_actor(const actor *parent, actor *child)
{
    *child = *parent; /* lengths and tokens; the tables are made anew */
    init_tables(&child->self, &parent->self.table.root, parent->self.table.local != NULL);
    qr_block_table_init(&child->cross.table, child->cross.storage, MAX_BLOCKS, false, &parent->cross.table.root);
    qr_block_table_fork(&w.cache.pool, &parent->self.table, &child->self.table);
    qr_block_table_fork(&w.cache.pool, &parent->cross.table, &child->cross.table);
    qr_block_table_set_running(&w.cache.pool, &child->self.table, true);
    child->index = parent->index + 1;
}

/* Loses its tail, stops running, comes back and looks for hits. */
static void preempt(actor *x)
{
    sequence *s = &x->self;
    qr_block_table_set_running(&w.cache.pool, &s->table, false);
    const bool     whole = w.window != 0 || qr_block_table_left_behind(&s->table) > 0;
    const uint32_t keep  = whole || s->table.count == 0 ? 0 : draw(s->table.count);
    qr_block_table_truncate(&w.cache.pool, &s->table, keep);
    s->computed = qr_min_u32(s->computed, keep * w.cache.pool.block_size);
    verify();
    actor *other = &w.actors[draw(ACTORS)];
    if (other != x && other->live) advance(other); /* uses the blocks */
    qr_block_table_set_running(&w.cache.pool, &s->table, true);
    take_hits(x);
}

static void operate(void)
{
    actor *x = &w.actors[draw(ACTORS)], *y = &w.actors[draw(ACTORS)];
    w.step++;
    if (w.step % 97 == 0) qr_journal_restart(&w.cache.journal, &w.cache.pool);
    if (chance(2)) w.cache.pool.fail_after = 1 + draw(3);
    if (chance(1) && draw(4) == 0) qr_block_pool_flush(&w.cache.pool);
    if (!x->live)
        submit(x);
    else if (chance(5))
        end(x);
    else if (chance(8))
        preempt(x);
    else if (chance(8) && !y->live && x->self.computed == x->self.len)
        fork_actor(x, y);
    else
        advance(x);
    verify();
    const qr_block_table *table = &x->self.table;
    for (uint32_t i = 0; i < table->count; i++) w.decisions = qr_mix64(w.decisions * 31 + table->blocks[i]);
}

static uint64_t play(const qr_cache_options *options, uint64_t seed, uint32_t steps)
{
    create(&w.cache, options);
    mirror = (cache_mirror){0};
    w.seed = seed, w.step = w.draws = w.decisions = 0, w.copy_count[0] = w.copy_count[1] = 0;
    w.encoder_decoder = options->encoder_decoder;
    for (uint32_t i = 0; i < ACTORS; i++) w.actors[i].live = false;
    for (uint32_t i = 0; i < steps; i++) operate();
    w.cache.pool.fail_after = 0;
    for (uint32_t i = 0; i < ACTORS; i++)
        if (w.actors[i].live) end(&w.actors[i]);
    verify();
    qr_block_pool_flush(&w.cache.pool);
    verify();
    assert_int_equal(w.cache.pool.free, options->num_blocks);
    assert_int_equal(w.cache.local.free, options->local_blocks);
    assert_null(cache_mirror_compare(&mirror, &w.cache));
    assert_int_equal(mirror.count, 0);
    qr_cache_destroy(&w.cache);
    return w.decisions;
}

static qr_cache_options random_options(uint64_t seed)
{
    const uint32_t sizes[3] = {1, 4, 16};
    w.seed = seed, w.draws = 1u << 20;
    qr_cache_options options      = default_options(0, sizes[draw(3)]);
    options.num_blocks            = DECODER_MAX / options.block_size + 16 + draw(options.block_size == 1 ? 300 : 100);
    options.node_count            = 1 + draw(3);
    options.extents               = chance(70);
    options.enable_prefix_caching = chance(80);
    options.encoder_decoder       = chance(40);
    options.keep_journal          = seed % 3 != 0;
    options.hash_bits             = chance(50) ? 6 : 64;
    w.window                      = chance(25) ? 1 + draw(40) : 0;
    w.tenants                     = chance(50) ? 1 : 3;
    if (w.window > 0 || options.encoder_decoder || chance(50)) return options;
    options.local_window = 1 + draw(40);
    options.local_blocks = options.num_blocks / 2 + draw(options.num_blocks / 2);
    return options;
}

static void random_operations_keep_every_rule_and_every_byte(void **state)
{
    (void)state;
    w.verify = true;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        const qr_cache_options options = random_options(seed);
        play(&options, seed, 400);
    }
}

static void six_bits_of_hash_give_the_same_decisions(void **state)
{
    (void)state;
    w.verify = false;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        qr_cache_options options = random_options(seed);
        options.hash_bits        = 64;
        const uint64_t decisions = play(&options, seed, 1000);
        options.hash_bits        = 6;
        assert_true(play(&options, seed, 1000) == decisions);
        options.hash_bits = 64, options.hash_seed = 12345;
        assert_true(play(&options, seed, 1000) == decisions);
    }
}

static void the_time_of_an_operation_is_printed(void **state)
{
    (void)state;
    w.verify = false, w.window = 0, w.tenants = 1;
    qr_cache_options options = default_options(MAX_BLOCKS, 16);
    const double     begin   = now_ns();
    play(&options, 3, 20000);
    print_message("a random operation, its model included: %.0f ns\n", (now_ns() - begin) / 20000);
}

/* ---- the naive pool: FREE in release order, then the heaviest tenant's CACHED in release order ---- */

typedef struct naive_list {
    uint32_t ids[MAX_BLOCKS], count;
} naive_list;

static struct {
    naive_list free, cached;
    uint32_t   refs[MAX_BLOCKS], tenant[MAX_BLOCKS], used[4], cached_count[4];
    bool       indexed[MAX_BLOCKS];
} naive;

static const uint32_t weights[4] = {1, 3, 2, 1};

static uint32_t naive_remove(naive_list *list, uint32_t place)
{
    const uint32_t id = list->ids[place];
    memmove(&list->ids[place], &list->ids[place + 1], (--list->count - place) * sizeof *list->ids);
    return id;
}

static uint32_t naive_acquire(uint32_t tenant)
{
    uint32_t id;
    if (naive.free.count > 0) {
        id = naive_remove(&naive.free, 0);
    } else {
        uint32_t best = 0; /* the first of the list whose tenant's share is the largest */
        for (uint32_t i = 1; i < naive.cached.count; i++) {
            const uint32_t a = naive.tenant[naive.cached.ids[i]], b = naive.tenant[naive.cached.ids[best]];
            if ((naive.used[a] + naive.cached_count[a]) * weights[b] >
                (naive.used[b] + naive.cached_count[b]) * weights[a])
                best = i;
        }
        id = naive_remove(&naive.cached, best);
        naive.cached_count[naive.tenant[id]]--;
    }
    naive.tenant[id] = tenant, naive.refs[id] = 1, naive.indexed[id] = false, naive.used[tenant]++;
    return id;
}

static void naive_share(uint32_t id)
{
    if (naive.refs[id]++ > 0) return;
    uint32_t place = 0;
    while (naive.cached.ids[place] != id) place++;
    naive_remove(&naive.cached, place);
    naive.cached_count[naive.tenant[id]]--, naive.used[naive.tenant[id]]++;
}

static void naive_release(uint32_t id)
{
    if (--naive.refs[id] > 0) return;
    naive.used[naive.tenant[id]]--;
    naive_list *list         = naive.indexed[id] ? &naive.cached : &naive.free;
    list->ids[list->count++] = id;
    if (naive.indexed[id]) naive.cached_count[naive.tenant[id]]++;
}

static void without_extents_the_order_is_that_of_a_naive_pool(void **state)
{
    (void)state;
    qr_cache_options options = default_options(100, 4);
    options.extents          = false;
    create(&w.cache, &options);
    qr_block_pool *pool = &w.cache.pool;
    w.seed = 5, w.draws = 0, w.window = 0;
    memset(&naive, 0, sizeof naive);
    for (uint32_t i = 0; i < 100; i++) naive.free.ids[naive.free.count++] = i;
    for (uint32_t t = 0; t < 4; t++) qr_block_pool_set_weight(pool, t, weights[t]);
    for (uint32_t i = 0; i < ACTORS; i++) w.actors[i].live = false;
    for (uint32_t step = 0; step < 5000; step++) {
        sequence *s = &w.actors[draw(ACTORS)].self;
        actor    *x = (actor *)(void *)((char *)s - offsetof(actor, self));
        if (x->live) {
            for (uint32_t i = s->table.count; i-- > 0;) naive_release(s->table.blocks[i]);
            qr_block_table_release(pool, &s->table);
            x->live = false;
            continue;
        }
        const qr_prefix_root root = {.tenant = draw(4)};
        uint32_t             hits[MAX_BLOCKS];
        qr_block_table_init(&s->table, s->storage, MAX_BLOCKS, true, &root);
        choose_prompt(s, 80);
        const uint32_t count = qr_prefix_index_lookup(&w.cache.prefix, &s->table, s->tokens, s->len, hits, NULL);
        qr_block_table_adopt(pool, &s->table, hits, count, 0);
        for (uint32_t i = 0; i < count; i++) naive_share(hits[i]);
        if (qr_block_table_missing(pool, &s->table, s->len) > qr_block_pool_available(pool)) {
            for (uint32_t i = count; i-- > 0;) naive_release(hits[i]);
            qr_block_table_release(pool, &s->table);
            continue;
        }
        assert_true(qr_block_table_append(pool, &s->table, s->len));
        for (uint32_t i = count; i < s->table.count; i++)
            assert_int_equal(naive_acquire(root.tenant), s->table.blocks[i]);
        qr_prefix_index_publish(&w.cache.prefix, &s->table, s->tokens, s->len);
        for (uint32_t i = 0; i < s->table.count; i++)
            naive.indexed[s->table.blocks[i]] = pool->blocks[s->table.blocks[i]].index != QR_INDEX_NONE;
        x->live = true;
    }
    qr_cache_destroy(&w.cache);
}

/* ---- contiguity under churn ---- */

enum { CHURN_BLOCKS = 2048, CHURN_SEQUENCES = 48, CHURN_ENTRIES = 128 };

typedef struct grower {
    qr_block_table table;
    uint32_t       storage[CHURN_ENTRIES];
    uint32_t       target; /* blocks at its end */
} grower;

/* Sequences of 1 to 96 blocks: a prompt taken at once, then one block at a time, all interleaved; every step whoever is
 * done gives way to another. Returns the mean over time of blocks per run. */
static double mean_run(bool extents)
{
    static grower    growers[CHURN_SEQUENCES];
    qr_cache_options options = default_options(CHURN_BLOCKS, 1);
    options.extents          = extents;
    create(&w.cache, &options);
    qr_block_pool *pool = &w.cache.pool;
    w.seed = 11, w.draws = 0;
    memset(growers, 0, sizeof growers);
    uint64_t blocks = 0, runs = 0;
    for (uint32_t step = 0; step < 60000; step++) {
        grower *g = &growers[draw(CHURN_SEQUENCES)];
        if (g->table.running && g->table.count >= g->target) {
            qr_block_table_set_running(pool, &g->table, false);
            qr_block_table_release(pool, &g->table);
        }
        if (!g->table.running) {
            qr_block_table_init(&g->table, g->storage, CHURN_ENTRIES, true, &(qr_prefix_root){0});
            g->target = 1 + draw(12) * draw(8) + draw(8);
            qr_block_table_set_running(pool, &g->table, true);
            (void)qr_block_table_append(pool, &g->table, 1 + draw(g->target));
        } else if (!qr_block_table_append(pool, &g->table, g->table.count + 1)) {
            g->target = g->table.count;
        }
        if (step < 10000) continue;
        blocks += pool->run_blocks, runs += pool->runs;
    }
    qr_cache_destroy(&w.cache);
    return (double)blocks / (double)runs;
}

static void extents_keep_runs_long_under_churn(void **state)
{
    (void)state;
    const double with = mean_run(true), without = mean_run(false);
    print_message("mean run under churn: %.2f blocks with extents, %.2f without\n", with, without);
    assert_true(with > 5.0);
    assert_true(with > 2 * without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_keep_every_rule_and_every_byte),
        cmocka_unit_test(six_bits_of_hash_give_the_same_decisions),
        cmocka_unit_test(without_extents_the_order_is_that_of_a_naive_pool),
        cmocka_unit_test(extents_keep_runs_long_under_churn),
        cmocka_unit_test(the_time_of_an_operation_is_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
