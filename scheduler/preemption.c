/* Who gives blocks back when they run out: tails first, the most junior first, never one that is in the plan. */
#include "base/bits.h"
#include "scheduler/state.h"

static uint32_t own_in_pool(const qr_block_pool *pool, const qr_block_table *table, uint32_t enough)
{
    uint32_t own = 0;
    for (uint32_t i = table->count; i > table->first && own < enough; i--)
        own += pool->blocks[table->blocks[i - 1]].refs == 1;
    return own;
}

/* Local blocks count where they are what is short. */
static uint32_t own_in_table(const qr_scheduler *s, const qr_block_table *table, uint32_t enough)
{
    const qr_block_pool *pool  = &s->cache.pool;
    const bool           local = table->local != NULL && qr_block_pool_available(pool->local) == qr_available(s);
    return local ? own_in_pool(pool->local, table->local, enough) : own_in_pool(pool, table, enough);
}

uint32_t qr_group_own_blocks(const qr_scheduler *s, uint32_t group, uint32_t enough)
{
    uint32_t own = 0;
    QR_FOR_EACH_MEMBER(s, m, group) {
        if (own < enough) own += own_in_table(s, &s->sequences[m].self, enough - own);
        if (own < enough) own += own_in_table(s, &s->sequences[m].cross, enough - own);
    }
    /* Blocks that only the beams of one search share are its own, too. */
    if (own < enough && s->sequences[group].next_member != QR_NONE && s->sequences[group].self.count > 0) own = enough;
    return own;
}

static bool holds_blocks(const qr_sequence *g) { return g->self.count > 0 || g->cross.count > 0; }

static bool is_junior(const qr_scheduler *s, uint32_t group, uint32_t to)
{
    return qr_rank_before(&s->sequences[to].rank, &s->sequences[group].rank);
}

uint32_t qr_idle_own_blocks(const qr_scheduler *s, uint32_t group, uint32_t enough)
{
    uint32_t own = 0;
    for (uint32_t v = s->paused.head; v != QR_NONE && own < enough; v = s->sequences[v].link.next)
        own += qr_group_own_blocks(s, v, enough - own);
    for (uint32_t v = s->preempted.head; v != QR_NONE && own < enough; v = s->sequences[v].link.next)
        if (v != group && is_junior(s, v, group)) own += qr_group_own_blocks(s, v, enough - own);
    return own;
}

bool qr_is_claim_victim(const qr_scheduler *s, uint32_t taker, uint32_t victim)
{
    const qr_request *t = qr_request_of(s, taker), *v = qr_request_of(s, victim);
    return is_junior(s, victim, taker) && v->stored.priority > t->stored.priority &&
           (!s->options.tenant_fairness || v->tenant == t->tenant);
}

static bool is_victim(const qr_scheduler *s, const qr_taker *taker, uint32_t victim, qr_sequence_state class)
{
    const qr_sequence *v = &s->sequences[victim];
    if (victim == taker->group || v->entry != QR_NONE || !holds_blocks(v)) return false;
    if (taker->forced) return true;
    if (class != QR_SEQUENCE_PAUSED && !is_junior(s, victim, taker->group)) return false;
    if (class == QR_SEQUENCE_RUNNING && taker->only_lower_priority && !qr_is_claim_victim(s, taker->group, victim))
        return false;
    return qr_group_own_blocks(s, victim, 1) > 0;
}

/* [larger tenant counter first,] most junior first */
static bool goes_before(const qr_scheduler *s, uint32_t a, uint32_t b)
{
    if (qr_fair_counter(s, a) != qr_fair_counter(s, b)) return qr_fair_counter(s, a) > qr_fair_counter(s, b);
    return is_junior(s, a, b);
}

static uint32_t choose(const qr_scheduler *s, const qr_taker *taker, const qr_list *list, qr_sequence_state class)
{
    uint32_t best = QR_NONE;
    for (uint32_t v = list->tail; v != QR_NONE; v = s->sequences[v].link.prev)
        if ((best == QR_NONE || goes_before(s, v, best)) && is_victim(s, taker, v, class)) best = v;
    return best;
}

void qr_group_preempt(qr_scheduler *s, uint32_t group, quire_wait_reason reason)
{
    qr_sequence *g = &s->sequences[group];
    if (s->visiting && qr_decoding(g) && qr_plan_may_run(s, group)) s->decode_rows -= qr_width(g);
    if (g->encodes) { /* claimed in this plan, and lost again: what its cross blocks hold will not be computed */
        g->encodes = false;
        s->encoder_left += s->requests[g->request].stored.encoder_count;
        qr_group_release_blocks(s, group);
    }
    qr_group_move(s, group, QR_SEQUENCE_PREEMPTED);
    qr_note_wait(s, group, reason, 0);
    if (g->preemptions < QUIRE_KEPT_PREEMPTIONS) g->preemption_intervals[g->preemptions].from_ns = s->now_ns;
    g->preemptions++;
    s->plan.preempted += g->slots;
    s->stats.preemptions += g->slots;
}

/* One block of each member, the tail; when no self block is left, all cross blocks. False: nothing left. */
static bool drop_tail(qr_scheduler *s, uint32_t group)
{
    const uint32_t before = s->cache.pool.used;
    qr_sequence   *g      = &s->sequences[group];
    if (g->self.count > 0)
        qr_group_truncate(s, group, g->self.count - 1);
    else if (g->cross.count > 0)
        qr_group_release_cross(s, group);
    else
        return false;
    s->stats.blocks_dropped += before - s->cache.pool.used;
    return true;
}

bool qr_take_from_victim(qr_scheduler *s, const qr_taker *taker)
{
    uint32_t victim = choose(s, taker, &s->paused, QR_SEQUENCE_PAUSED);
    if (victim == QR_NONE) victim = choose(s, taker, &s->preempted, QR_SEQUENCE_PREEMPTED);
    if (victim == QR_NONE && taker->from_running) victim = choose(s, taker, &s->running, QR_SEQUENCE_RUNNING);
    if (victim == QR_NONE) return false;
    if (s->sequences[victim].state == QR_SEQUENCE_RUNNING) {
        qr_group_preempt(s, victim, QUIRE_WAIT_BLOCKS);
        s->took_blocks = true;
    }
    const bool whole = s->options.preemption_mode == QUIRE_PREEMPTION_RECOMPUTE;
    while (drop_tail(s, victim))
        if (!whole && taker->has_enough(s, taker)) break;
    return true;
}
