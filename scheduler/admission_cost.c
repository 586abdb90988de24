/* What an admission costs: encoder input, hits in the prefix index, rows, blocks; and what can be done when blocks are
 * missing. */
#include <string.h>

#include "base/bits.h"
#include "scheduler/admission.h"

/* ---- encoder ---- */

static bool equal_content(const qr_scheduler *s, uint32_t a, uint32_t b)
{
    const qr_request *x = qr_request_of(s, a), *y = qr_request_of(s, b);
    return x->tenant == y->tenant && x->stored.encoder_count == y->stored.encoder_count &&
           memcmp(x->salt, y->salt, sizeof x->salt) == 0 &&
           memcmp(qr_encoder_words(s, s->sequences[a].request), qr_encoder_words(s, s->sequences[b].request),
                  x->stored.encoder_count * sizeof(int32_t)) == 0;
}

static bool is_being_computed(const qr_scheduler *s, uint32_t group)
{
    for (uint32_t g = s->running.head; g != QR_NONE; g = s->sequences[g].link.next)
        if (s->sequences[g].encodes && equal_content(s, g, group)) return true;
    return false;
}

static quire_wait_reason measure_cross(qr_scheduler *s, qr_admission *a)
{
    qr_sequence      *g = &s->sequences[a->group];
    const qr_request *r = qr_request_of(s, a->group);
    a->cross_entry      = QR_BLOCK_NONE;
    if (!s->options.encoder_decoder || g->cross.count > 0) return QUIRE_WAIT_NONE;
    if (s->options.enable_cross_sharing) {
        a->cross_entry = qr_cross_index_lookup(&s->cache.cross, &g->cross.root, qr_encoder_words(s, g->request),
                                               r->stored.encoder_count);
        if (a->cross_entry != QR_BLOCK_NONE) {
            g->self.root.content = s->cache.pool.blocks[a->cross_entry].chain;
            a->lost += qr_cross_index_cached(&s->cache.cross, a->cross_entry);
            return QUIRE_WAIT_NONE;
        }
        if (is_being_computed(s, a->group)) return QUIRE_WAIT_ENCODER_SHARED;
    }
    g->self.root.content = QR_CONTENT_UNKNOWN;
    if (r->stored.encoder_count > s->encoder_left) return QUIRE_WAIT_ENCODER;
    a->encodes = true;
    a->cross   = qr_ceil_div_u32(r->stored.encoder_count, s->options.block_size);
    return QUIRE_WAIT_NONE;
}

/* ---- blocks ---- */

static bool is_cached(const qr_block_pool *pool, uint32_t id) { return pool->blocks[id].state == QR_BLOCK_CACHED; }

static uint32_t cached_hits(const qr_scheduler *s, const qr_admission *a, uint32_t first)
{
    uint32_t cached = 0, kept = s->sequences[a->group].self.count;
    for (uint32_t i = first > kept ? first - kept : 0; i < a->hits; i++)
        cached += is_cached(&s->cache.pool, s->hits[i]);
    return cached;
}

/* Of the hits' partners. */
static uint32_t cached_local_hits(const qr_scheduler *s, const qr_admission *a)
{
    const qr_block_pool *pool = &s->cache.pool;
    if (pool->local == NULL) return 0;
    const uint32_t first  = qr_first_visible_block(a->base, pool->local->window, pool->block_size);
    uint32_t       cached = 0, kept = s->sequences[a->group].self.count;
    for (uint32_t i = first > kept ? first - kept : 0; i < a->hits; i++)
        cached += is_cached(pool->local, pool->partner[s->hits[i]]);
    return cached;
}

static void measure_hits(qr_scheduler *s, qr_admission *a)
{
    const qr_sequence *g  = &s->sequences[a->group];
    const qr_request  *r  = qr_request_of(s, a->group);
    const uint32_t     bs = s->options.block_size;
    a->base               = g->computed;
    if (g->next_member != QR_NONE || r->stored.skip_reading_prefix_cache) return;
    a->hits = qr_prefix_index_lookup(&s->cache.prefix, &g->self, qr_tokens(s, a->group), g->length, s->hits, NULL);
    if (a->hits == 0) return;
    a->base       = (g->self.count + a->hits) * bs;
    a->first_live = qr_first_visible_block(a->base, s->options.window, bs);
    a->lost += qr_max_u32(cached_hits(s, a, a->first_live), cached_local_hits(s, a));
}

static void measure_self(const qr_scheduler *s, qr_admission *a)
{
    const qr_sequence *g       = &s->sequences[a->group];
    const uint32_t     missing = qr_block_table_missing(&s->cache.pool, &g->self, a->upto);
    a->self                    = (missing > a->hits ? missing - a->hits : 0) * qr_width(g);
    a->copies                  = a->hits == 0 ? qr_group_copies(s, a->group) : 0;
    a->need                    = a->cross + a->self + a->copies;
}

static uint32_t rows_in_this_step(const qr_scheduler *s, const qr_admission *a)
{
    const qr_sequence *g    = &s->sequences[a->group];
    const uint32_t     todo = g->length - a->base;
    if (a->mode == QR_ADMIT_FORCED) return qr_plan_given(s, g, qr_min_u32(todo, s->rows_left / qr_width(g)));
    return qr_plan_rows(s, a->group, todo, s->rows_left);
}

quire_wait_reason qr_admission_measure(qr_scheduler *s, qr_admission *a)
{
    const qr_sequence *g           = &s->sequences[a->group];
    *a                             = (qr_admission){.group = a->group, .mode = a->mode};
    const quire_wait_reason reason = measure_cross(s, a);
    if (reason != QUIRE_WAIT_NONE) return reason;
    measure_hits(s, a);
    /* what a window will leave behind is not taken before it is needed */
    const bool slides = s->options.window > 0 || s->options.local_window > 0;
    const bool whole  = s->options.scheduler_reserve_full_isl && !slides && a->mode != QR_ADMIT_FORCED;
    a->rows           = rows_in_this_step(s, a);
    a->upto           = whole ? g->length : a->base + a->rows;
    if (a->mode == QR_ADMIT_NORMAL && s->groups_running > 0)
        a->room =
            g->state == QR_SEQUENCE_PREEMPTED ? qr_max_u32(s->watermark, s->slots[QR_SEQUENCE_RUNNING]) : s->watermark;
    measure_self(s, a);
    return QUIRE_WAIT_NONE;
}

/* ---- when blocks are missing ---- */

static bool has_admission(qr_scheduler *s, const qr_taker *taker)
{
    qr_admission a = {.group = taker->group, .mode = taker->mode};
    return qr_admission_measure(s, &a) == QUIRE_WAIT_NONE && qr_admission_blocks(&a) <= qr_available(s);
}

/* Not if all victims together could not give enough. The last user of the cross content that was to be shared may be
 * among them: then it must be computed, if the encoder's budget allows. */
quire_wait_reason qr_admission_take_from_victims(qr_scheduler *s, qr_admission *a)
{
    const qr_sequence *g      = &s->sequences[a->group];
    const bool         forced = a->mode == QR_ADMIT_FORCED, claim = a->mode == QR_ADMIT_CLAIM;
    if (a->mode == QR_ADMIT_NORMAL && g->state != QR_SEQUENCE_PREEMPTED) return QUIRE_WAIT_NONE;
    const qr_taker taker = {.group               = a->group,
                            .has_enough          = has_admission,
                            .forced              = forced,
                            .from_running        = forced || claim,
                            .only_lower_priority = claim,
                            .mode                = a->mode};
    if (a->mode == QR_ADMIT_NORMAL) {
        const uint32_t missing = qr_admission_blocks(a) - qr_available(s);
        if (qr_idle_own_blocks(s, a->group, missing) < missing) return QUIRE_WAIT_NONE;
    }
    while (!has_admission(s, &taker) && qr_take_from_victim(s, &taker)) {
    }
    return qr_admission_measure(s, a);
}

/* With nobody running there is nothing to wait for: better fewer rows than none. */
void qr_admission_reduce_rows(const qr_scheduler *s, qr_admission *a)
{
    const qr_sequence *g      = &s->sequences[a->group];
    const bool         forced = a->mode == QR_ADMIT_FORCED;
    if (a->upto != a->base + a->rows || (s->groups_running > 0 && !forced)) return;
    if (!s->options.enable_chunked_prefill && !forced) return;
    const uint32_t fixed = a->cross + a->copies + a->lost + a->room;
    if (fixed > qr_available(s)) return;
    const uint64_t blocks = (uint64_t)g->self.count + a->hits + (qr_available(s) - fixed) / qr_width(g);
    const uint64_t end    = blocks * s->options.block_size;
    if (end <= a->base) return;
    a->rows = (uint32_t)qr_min_u64(a->rows, end - a->base);
    a->upto = a->base + a->rows;
    measure_self(s, a);
}
