/* Who may start, or start again: candidates by (tenant counter, rank), each examined against slots, the encoder's
 * budget, rows, limits and blocks. A refusal changes nothing but the reason it leaves behind. */
#include "scheduler/admission.h"
#include "base/bits.h"

/* ---- budget, quotas, promises ---- */

/* Unfinished prompts after this step, and those with more than the threshold to do. */
static bool partials_reached(const qr_scheduler *s, uint32_t todo)
{
    const uint32_t threshold = s->options.long_prefill_token_threshold;
    uint32_t       partial = 0, longer = 0;
    for (uint32_t i = s->running.head; i != QR_NONE; i = s->sequences[i].link.next) {
        const qr_sequence *g = &s->sequences[i];
        if (qr_decoding(g) || (g->entry != QR_NONE && g->rows == qr_todo(g))) continue;
        partial++;
        longer += qr_todo(g) > threshold;
    }
    return partial >= s->options.max_num_partial_prefills ||
           (threshold > 0 && todo > threshold && longer >= s->options.max_long_partial_prefills);
}

static quire_wait_reason check_rows(const qr_scheduler *s, const qr_admission *a)
{
    const uint32_t todo = s->sequences[a->group].length - a->base;
    if (a->mode != QR_ADMIT_NORMAL || a->rows == todo) return QUIRE_WAIT_NONE;
    if (a->rows == 0) return QUIRE_WAIT_BUDGET;
    if (!s->options.enable_chunked_prefill) return QUIRE_WAIT_BUDGET;
    return partials_reached(s, todo) ? QUIRE_WAIT_PARTIAL : QUIRE_WAIT_NONE;
}

bool qr_is_over_quota(const qr_scheduler *s, uint32_t group, uint32_t need, uint32_t slots_given, uint32_t blocks_given)
{
    const uint32_t   tenant = qr_request_of(s, group)->tenant;
    const qr_tenant *t      = &s->tenants[tenant];
    if (t->running == slots_given) return false;
    return t->running - slots_given + s->sequences[group].slots > t->max_num_seqs ||
           s->cache.pool.tenants[tenant].used + (uint64_t)need > (uint64_t)t->kv_limit + blocks_given;
}

/* Admission is forced when only PAUSED groups hold promises: progress is more important than those. */
static bool breaks_promises(const qr_scheduler *s, uint32_t group, qr_admission_mode mode)
{
    const qr_request *r = qr_request_of(s, group);
    if (s->options.capacity_policy != QUIRE_CAPACITY_GUARANTEED_NO_EVICT || r->admitted || mode == QR_ADMIT_FORCED)
        return false;
    return s->promised_blocks + r->promised_blocks > s->options.num_blocks;
}

/* ---- one group ---- */

static void give_back(qr_scheduler *s, const qr_admission *a, uint32_t kept, bool had_cross)
{
    QR_FOR_EACH_MEMBER(s, m, a->group) {
        qr_block_table_set_running(&s->cache.pool, &s->sequences[m].self, false);
        qr_block_table_set_running(&s->cache.pool, &s->sequences[m].cross, false);
    }
    qr_group_truncate(s, a->group, kept);
    if (!had_cross) qr_group_release_cross(s, a->group);
}

static uint32_t remote_hits(const qr_scheduler *s, const qr_admission *a)
{
    uint32_t count = 0;
    for (uint32_t i = 0; s->options.node_count > 1 && i < a->hits; i++)
        count +=
            s->hits[i] != QR_BLOCK_NONE && s->cache.pool.blocks[s->hits[i]].node != s->sequences[a->group].self.home;
    return count;
}

static bool take_blocks(qr_scheduler *s, const qr_admission *a)
{
    qr_block_pool *pool  = &s->cache.pool;
    qr_sequence   *g     = &s->sequences[a->group];
    const bool     empty = g->self.count == 0, had_cross = g->cross.count > 0;
    const uint32_t kept = g->self.count;
    if (empty) g->self.home = g->cross.home = g->local.home = qr_block_pool_home(pool, s->hits, a->hits, a->need);
    QR_FOR_EACH_MEMBER(s, m, a->group) {
        qr_block_table_set_running(pool, &s->sequences[m].self, true);
        qr_block_table_set_running(pool, &s->sequences[m].cross, true);
    }
    qr_block_table_adopt(pool, &g->self, s->hits, a->hits, a->first_live);
    if (a->cross_entry != QR_BLOCK_NONE) qr_cross_index_share(&s->cache.cross, a->cross_entry, &g->cross);
    bool taken =
        !a->encodes || qr_block_table_append(pool, &g->cross, qr_request_of(s, a->group)->stored.encoder_count);
    for (uint32_t m = a->group; m != QR_NONE && taken; m = s->sequences[m].next_member)
        taken = qr_block_table_append(pool, &s->sequences[m].self, a->upto);
    if (!taken) give_back(s, a, kept, had_cross);
    if (taken) s->stats.prefix_hits_remote += (uint64_t)remote_hits(s, a) * s->options.block_size;
    return taken;
}

static void record_first_admission(qr_scheduler *s, const qr_admission *a)
{
    qr_sequence *g = &s->sequences[a->group];
    qr_request  *r = &s->requests[g->request];
    if (r->admitted) return;
    r->admitted       = true;
    g->cached_tokens  = qr_min_u32(a->base, r->stored.prompt_count);
    g->encoder_shared = a->cross_entry != QR_BLOCK_NONE;
    s->stats.tokens_cached += g->cached_tokens;
    s->stats.encoder_runs_saved += g->encoder_shared;
    s->promised_blocks += r->promised_blocks;
    qr_tenant_charge(s, r->tenant, r->stored.prompt_count - g->cached_tokens);
    if (r->queue_deadline_ns == UINT64_MAX) return;
    if (s->deadlines.index_of[g->request] != QR_NONE) qr_heap_remove(&s->deadlines, g->request);
    const qr_rank rank = {.low = r->deadline_ns, .tie = r->number};
    if (r->deadline_ns != UINT64_MAX) qr_heap_push(&s->deadlines, &rank, g->request);
}

static void enter(qr_scheduler *s, const qr_admission *a)
{
    qr_sequence *g = &s->sequences[a->group];
    s->stats.prefix_queries += g->length - g->computed;
    s->stats.prefix_hits += a->base - qr_min_u32(a->base, g->computed);
    g->computed = a->base;
    g->encodes  = a->encodes;
    if (a->cross_entry != QR_BLOCK_NONE) g->cross_written = true;
    if (a->encodes) s->encoder_left -= qr_request_of(s, a->group)->stored.encoder_count;
    record_first_admission(s, a);
    s->last_admitted_counter = qr_tenant_of(s, a->group)->counter;
    qr_group_move(s, a->group, QR_SEQUENCE_RUNNING);
}

/* NONE: it was admitted. Otherwise why not; *missing_out: how many blocks are missing. */
static quire_wait_reason admit(qr_scheduler *s, uint32_t group, qr_admission_mode mode, uint32_t *missing_out)
{
    qr_admission a = {.group = group, .mode = mode};
    if (s->slots[QR_SEQUENCE_RUNNING] + s->sequences[group].slots > s->options.max_num_seqs)
        return QUIRE_WAIT_SEQUENCES;
    quire_wait_reason reason = qr_admission_measure(s, &a);
    if (reason == QUIRE_WAIT_NONE) reason = check_rows(s, &a);
    if (reason != QUIRE_WAIT_NONE) return reason;
    if (mode == QR_ADMIT_NORMAL && qr_is_over_quota(s, group, a.need, 0, 0)) return QUIRE_WAIT_QUOTA;
    if (qr_admission_blocks(&a) > qr_available(s)) reason = qr_admission_take_from_victims(s, &a);
    if (reason != QUIRE_WAIT_NONE) return reason;
    if (qr_admission_blocks(&a) > qr_available(s)) qr_admission_reduce_rows(s, &a);
    if (qr_admission_blocks(&a) > qr_available(s) || breaks_promises(s, group, mode)) {
        const uint32_t without_room = a.need + a.lost;
        *missing_out                = without_room > qr_available(s) ? without_room - qr_available(s) : 0;
        return *missing_out > 0 || breaks_promises(s, group, mode) ? QUIRE_WAIT_BLOCKS : QUIRE_WAIT_WATERMARK;
    }
    if (!take_blocks(s, &a)) {
        *missing_out = 1;
        return QUIRE_WAIT_BLOCKS;
    }
    enter(s, &a);
    if (mode != QR_ADMIT_CLAIM && !qr_plan_schedule(s, group, a.rows)) qr_note_wait(s, group, QUIRE_WAIT_BLOCKS, 1);
    return QUIRE_WAIT_NONE;
}

quire_wait_reason qr_try_admit(qr_scheduler *s, uint32_t group, qr_admission_mode mode)
{
    uint32_t                missing = 0;
    const quire_wait_reason reason  = admit(s, group, mode, &missing);
    if (reason != QUIRE_WAIT_NONE) qr_note_wait(s, group, reason, missing);
    return reason;
}

bool qr_admit_forced(qr_scheduler *s, uint32_t group)
{
    return qr_try_admit(s, group, QR_ADMIT_FORCED) == QUIRE_WAIT_NONE && s->planned_count > 0;
}

void qr_admit_suspects(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->suspect_count; i++) {
        const qr_sequence *g = &s->sequences[s->suspects[i]];
        if (g->probed && g->state == QR_SEQUENCE_PREEMPTED) qr_try_admit(s, s->suspects[i], QR_ADMIT_NORMAL);
    }
    const uint32_t head = qr_tenant_head(s, false);
    if (head != QR_NONE && !s->sequences[head].probed) qr_note_wait(s, head, QUIRE_WAIT_FAULT, 0);
}

/* ---- candidates ---- */

static void put_back(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->refused_count; i++) {
        const uint32_t group = s->refused[i];
        qr_heap_push(&qr_tenant_of(s, group)->heap, &s->sequences[group].rank, group);
    }
    s->refused_count = 0;
}

/* True if an older refused group must not be passed by this one. */
static bool is_closed_for(const qr_scheduler *s, uint32_t candidate)
{
    const uint64_t ahead = (uint64_t)s->options.max_model_len << (QR_COUNTER_BITS + 1);
    for (uint32_t i = 0; i < s->blocker_count; i++) {
        const uint32_t     h = s->blockers[i];
        const qr_sequence *g = &s->sequences[h];
        if (g->state == QR_SEQUENCE_PREEMPTED || g->times_passed >= s->options.max_head_passes) return true;
        if (qr_fair_counter(s, candidate) > qr_fair_counter(s, h) + ahead) return true;
    }
    return false;
}

static bool blocks_others(const qr_scheduler *s, quire_wait_reason reason)
{
    return reason == QUIRE_WAIT_SEQUENCES || reason == QUIRE_WAIT_BLOCKS || reason == QUIRE_WAIT_WATERMARK ||
           (reason == QUIRE_WAIT_BUDGET && !s->options.enable_chunked_prefill);
}

/* Out of its heap until all candidates have been examined, so that the next one can be seen. */
static void set_aside(qr_scheduler *s, uint32_t group, quire_wait_reason reason)
{
    qr_heap_remove(&qr_tenant_of(s, group)->heap, group);
    s->refused[s->refused_count++] = group;
    if (reason == QUIRE_WAIT_QUOTA)
        qr_tenant_of(s, group)->skipped_in = s->plan.number;
    else if (blocks_others(s, reason))
        s->blockers[s->blocker_count++] = group;
}

static void count_passes(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->blocker_count; i++) s->sequences[s->blockers[i]].times_passed++;
    s->stats.head_passes += s->blocker_count;
}

/* The first group of each tenant that waits because others were served less. */
static void mark_tenants(qr_scheduler *s)
{
    const uint32_t head = qr_tenant_head(s, false);
    for (uint32_t i = s->active.head; i != QR_NONE; i = s->tenants[i].link.next) {
        const uint32_t first = s->tenants[i].heap.nodes[0].item;
        if (s->options.tenant_fairness && first != head && s->sequences[first].reason == QUIRE_WAIT_ORDER)
            qr_note_wait(s, first, QUIRE_WAIT_TENANT, 0);
    }
}

/* Why admission ends before this candidate and all after it, or NONE. */
static quire_wait_reason reason_to_end(const qr_scheduler *s, uint32_t candidate)
{
    if (s->slots[QR_SEQUENCE_RUNNING] >= s->options.max_num_seqs) return QUIRE_WAIT_SEQUENCES;
    if (s->rows_left == 0) return QUIRE_WAIT_BUDGET;
    return is_closed_for(s, candidate) ? QUIRE_WAIT_HEAD : QUIRE_WAIT_NONE;
}

static void examine_candidates(qr_scheduler *s)
{
    uint32_t counted = 0; /* refusals, but those for QUOTA, which close one tenant each */
    s->blocker_count = 0;
    while (counted < QR_MAX_REFUSED) {
        const uint32_t group = qr_tenant_head(s, true);
        if (group == QR_NONE) return;
        const quire_wait_reason end = reason_to_end(s, group);
        if (end != QUIRE_WAIT_NONE) {
            qr_note_wait(s, group, end, 0);
            return;
        }
        const quire_wait_reason reason = qr_try_admit(s, group, QR_ADMIT_NORMAL);
        if (reason == QUIRE_WAIT_NONE)
            count_passes(s);
        else
            set_aside(s, group, reason);
        counted += reason != QUIRE_WAIT_NONE && reason != QUIRE_WAIT_QUOTA;
    }
}

void qr_admit(qr_scheduler *s)
{
    const uint32_t head = qr_tenant_head(s, false);
    if (head == QR_NONE) return;
    if (s->took_blocks)
        qr_note_wait(s, head, QUIRE_WAIT_BLOCKS, 0); /* a plan that took blocks from RUNNING admits nobody */
    else
        examine_candidates(s);
    put_back(s);
    mark_tenants(s);
}
