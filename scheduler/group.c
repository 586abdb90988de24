/* Sequence groups: their records, the states they are in and the transitions between them, why they wait, and the
 * blocks they hold. */
#include "base/assert.h"
#include "base/bits.h"
#include "base/request.h"
#include "scheduler/state.h"

/* ---- lists ---- */

static qr_links links_of(const qr_scheduler *s) { return QR_LINKS(s->sequences, link); }

static void insert_by_rank(qr_scheduler *s, uint32_t group)
{
    uint32_t after = s->running.tail;
    while (after != QR_NONE && qr_rank_before(&s->sequences[group].rank, &s->sequences[after].rank))
        after = s->sequences[after].link.prev;
    qr_list_insert_after(&s->running, links_of(s), after, group);
}

void qr_sequence_init(qr_scheduler *s, uint32_t record, uint32_t request, uint32_t index)
{
    const qr_request *r       = &s->requests[request];
    qr_sequence      *q       = &s->sequences[record];
    uint32_t *const   blocks  = s->self_blocks + (size_t)record * s->table_capacity;
    uint32_t *const   cross   = s->cross_blocks ? s->cross_blocks + (size_t)record * s->cross_capacity : NULL;
    qr_prefix_root    root    = {.tenant = r->tenant};
    const bool        is_long = s->options.long_length > 0 && qr_request_positions(&r->stored) > s->options.long_length;
    root.content              = s->options.encoder_decoder ? QR_CONTENT_UNKNOWN : is_long;
    for (uint32_t i = 0; i < QR_SALT_BYTES; i++) root.salt[i] = r->salt[i];
    *q              = (qr_sequence){.request     = request,
                                    .index       = index,
                                    .sibling     = q->sibling,
                                    .next_member = QR_NONE,
                                    .link        = QR_UNLINKED,
                                    .entry       = QR_NONE};
    q->draft_length = s->options.num_speculative_tokens;
    qr_block_table_init(&q->self, blocks, s->table_capacity, true, &root);
    qr_block_table_init(&q->cross, cross, s->cross_capacity, false, &root);
    if (s->local_capacity == 0) return;
    qr_block_table_init(&q->local, s->local_blocks + (size_t)record * s->local_capacity, s->local_capacity, true,
                        &root);
    q->self.local = &q->local;
}

/* ---- states ---- */

static bool is_waiting(qr_sequence_state state)
{
    return state == QR_SEQUENCE_QUEUED || state == QR_SEQUENCE_PREEMPTED;
}

static bool transition_exists(qr_sequence_state from, qr_sequence_state to)
{
    switch (to) {
    case QR_SEQUENCE_QUEUED: return from == QR_SEQUENCE_NONE;
    case QR_SEQUENCE_RUNNING: return from == QR_SEQUENCE_NONE || is_waiting(from);
    case QR_SEQUENCE_PREEMPTED: return from == QR_SEQUENCE_RUNNING || from == QR_SEQUENCE_PAUSED;
    case QR_SEQUENCE_PAUSED: return from == QR_SEQUENCE_RUNNING || from == QR_SEQUENCE_PREEMPTED;
    case QR_SEQUENCE_RETIRING: return from == QR_SEQUENCE_RUNNING;
    case QR_SEQUENCE_DONE: return from != QR_SEQUENCE_DONE;
    case QR_SEQUENCE_NONE: break;
    }
    return false;
}

static bool counts_as_queued(qr_sequence_state state) { return is_waiting(state) || state == QR_SEQUENCE_PAUSED; }

/* Counts that follow from the state alone: slots, bounds of the queue. */
static void count_state(qr_scheduler *s, const qr_sequence *g, qr_sequence_state state, bool enters)
{
    const qr_request *r     = &s->requests[g->request];
    qr_tenant        *t     = &s->tenants[r->tenant];
    const uint32_t    slots = enters ? g->slots : 0u - g->slots;
    s->slots[state] += slots;
    if (state == QR_SEQUENCE_RUNNING) t->running += slots, s->groups_running += enters ? 1 : UINT32_MAX;
    if (!counts_as_queued(state)) return;
    const uint64_t tokens = (uint64_t)r->stored.prompt_count + r->stored.encoder_count;
    t->queued += slots;
    s->queued_tokens += enters ? tokens : 0 - tokens;
}

static void set_running(qr_scheduler *s, uint32_t group, bool running)
{
    QR_FOR_EACH_MEMBER(s, m, group) {
        qr_block_table_set_running(&s->cache.pool, &s->sequences[m].self, running);
        qr_block_table_set_running(&s->cache.pool, &s->sequences[m].cross, running);
    }
}

/* A preemption lasts until the group runs again, whether it was paused meanwhile or not. */
static void end_preemption(qr_scheduler *s, qr_sequence *g)
{
    if (g->preemptions == 0 || g->preemptions > QUIRE_KEPT_PREEMPTIONS) return;
    quire_preemption_interval *last = &g->preemption_intervals[g->preemptions - 1];
    if (last->to_ns == 0) last->to_ns = s->now_ns; /* else it ended before: a failed step, too, leads to PREEMPTED */
}

static void leave(qr_scheduler *s, uint32_t group)
{
    const qr_sequence_state from = s->sequences[group].state;
    if (from == QR_SEQUENCE_NONE) return;
    count_state(s, &s->sequences[group], from, false);
    if (is_waiting(from)) qr_tenant_dequeue(s, group);
    if (from == QR_SEQUENCE_PREEMPTED) qr_list_remove(&s->preempted, links_of(s), group);
    if (from == QR_SEQUENCE_PAUSED) qr_list_remove(&s->paused, links_of(s), group);
    if (from == QR_SEQUENCE_RUNNING) {
        qr_list_remove(&s->running, links_of(s), group);
        set_running(s, group, false);
    }
}

static void enter(qr_scheduler *s, uint32_t group, qr_sequence_state to)
{
    QR_FOR_EACH_MEMBER(s, m, group) s->sequences[m].state = to;
    count_state(s, &s->sequences[group], to, true);
    if (is_waiting(to)) qr_tenant_enqueue(s, group);
    if (to == QR_SEQUENCE_PREEMPTED) qr_list_append(&s->preempted, links_of(s), group);
    if (to == QR_SEQUENCE_PAUSED) qr_list_append(&s->paused, links_of(s), group);
    if (to == QR_SEQUENCE_RUNNING) {
        end_preemption(s, &s->sequences[group]);
        insert_by_rank(s, group);
        set_running(s, group, true);
    }
}

void qr_group_move(qr_scheduler *s, uint32_t group, qr_sequence_state to)
{
    qr_assert(transition_exists(s->sequences[group].state, to));
    leave(s, group);
    enter(s, group, to);
}

void qr_note_wait(qr_scheduler *s, uint32_t group, quire_wait_reason reason, uint32_t missing)
{
    qr_sequence *g = &s->sequences[group];
    g->missing     = missing;
    if (g->reason == reason) return;
    if (s->now_ns > g->since_ns) {
        g->wait_ns[g->reason] += s->now_ns - g->since_ns;
        s->stats.wait_ns[g->reason] += s->now_ns - g->since_ns;
        g->since_ns = s->now_ns;
    }
    g->reason = reason;
}

/* ---- blocks ---- */

void qr_group_truncate(qr_scheduler *s, uint32_t group, uint32_t keep)
{
    uint32_t kept = keep; /* the same for all members, whose tables may differ when the pool refused one of them */
    QR_FOR_EACH_MEMBER(s, m, group)
        if (keep < s->sequences[m].self.count && qr_block_table_left_behind(&s->sequences[m].self) > 0) kept = 0;
    QR_FOR_EACH_MEMBER(s, m, group) {
        qr_sequence *q = &s->sequences[m];
        if (kept >= q->self.count) continue;
        qr_block_table_truncate(&s->cache.pool, &q->self, kept);
        q->computed = qr_min_u32(q->computed, kept * s->options.block_size);
    }
}

void qr_group_release_cross(qr_scheduler *s, uint32_t group)
{
    QR_FOR_EACH_MEMBER(s, m, group) {
        qr_sequence *q = &s->sequences[m];
        qr_block_table_release(&s->cache.pool, &q->cross);
        q->cross_written = false;
        if (s->options.encoder_decoder) q->self.root.content = QR_CONTENT_UNKNOWN;
    }
}

void qr_group_release_blocks(qr_scheduler *s, uint32_t group)
{
    QR_FOR_EACH_MEMBER(s, m, group) {
        qr_block_table_release(&s->cache.pool, &s->sequences[m].self);
        s->sequences[m].computed = 0;
    }
    qr_group_release_cross(s, group);
}

/* True for the last of the members that share this block, if nobody else names it: it may write in place. */
static bool last_writer(const qr_scheduler *s, uint32_t group, uint32_t member, uint32_t block, uint32_t entry)
{
    const qr_block *b     = &s->cache.pool.blocks[block];
    uint32_t        names = 0;
    bool            last = true, seen = false;
    if (b->index != QR_INDEX_NONE) return false;
    QR_FOR_EACH_MEMBER(s, m, group) {
        if (s->sequences[m].self.blocks[entry] != block) continue;
        names++;
        if (seen) last = false;
        if (m == member) seen = true;
    }
    return last && names == b->refs;
}

uint32_t qr_group_copies(const qr_scheduler *s, uint32_t group)
{
    uint32_t       copies   = 0;
    const uint32_t position = s->sequences[group].computed, entry = position / s->options.block_size;
    QR_FOR_EACH_MEMBER(s, m, group) {
        const qr_block_table *table = &s->sequences[m].self;
        if (!qr_block_table_needs_copy(&s->cache.pool, table, position)) continue;
        copies += !last_writer(s, group, m, table->blocks[entry], entry);
    }
    return copies;
}

uint32_t qr_group_missing(const qr_scheduler *s, uint32_t group, uint32_t upto)
{
    uint32_t missing = qr_group_copies(s, group);
    QR_FOR_EACH_MEMBER(s, m, group) missing += qr_block_table_missing(&s->cache.pool, &s->sequences[m].self, upto);
    return missing;
}

uint32_t qr_group_rows_that_fit(const qr_scheduler *s, uint32_t group, uint32_t rows)
{
    const qr_sequence *g      = &s->sequences[group];
    const uint32_t     copies = qr_group_copies(s, group), available = qr_available(s);
    const uint32_t     spare = available > copies ? (available - copies) / qr_width(g) : 0;
    const uint64_t     end   = ((uint64_t)g->self.count + spare) * s->options.block_size;
    const uint64_t     fits  = end > g->computed ? end - g->computed : 0;
    return qr_max_u32(1, (uint32_t)qr_min_u64(rows, fits));
}
