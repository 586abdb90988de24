/* Who may start, or start again: candidates by (tenant counter, rank), each examined against slots, the encoder's
 * budget, rows, limits and blocks. A refusal changes nothing but the reason it leaves behind. */
#include <string.h>

#include "base/bits.h"
#include "scheduler/state.h"

/* What admission of one group would take. */
typedef struct admission {
    uint32_t          group;
    qr_admission_mode mode;
    uint32_t hits, first_live;   /* blocks of the prefix index in s->hits[]; the window shows those from first_live */
    uint32_t base, rows, upto;   /* computed after the hits; rows in this step; positions to take blocks for */
    uint32_t need, lost, room;   /* blocks: to acquire; hits that stop being available; to be left over */
    uint32_t self, copies;       /* of need: new self blocks, copies-on-write */
    uint32_t cross, cross_entry; /* new cross blocks; or the entry that is shared */
    bool     encodes;
} admission;

/* ---- encoder ---- */

static const qr_request *request_of(const qr_scheduler *s, uint32_t group)
{
    return &s->requests[s->sequences[group].request];
}

static bool equal_content(const qr_scheduler *s, uint32_t a, uint32_t b)
{
    const qr_request *x = request_of(s, a), *y = request_of(s, b);
    return x->tenant == y->tenant && x->stored.encoder_count == y->stored.encoder_count &&
           memcmp(x->salt, y->salt, sizeof x->salt) == 0 &&
           memcmp(x->stored.encoder_input, y->stored.encoder_input, x->stored.encoder_count * sizeof(int32_t)) == 0;
}

static bool is_being_computed(const qr_scheduler *s, uint32_t group)
{
    for (uint32_t g = s->running.head; g != QR_NONE; g = s->sequences[g].next)
        if (s->sequences[g].encodes && equal_content(s, g, group)) return true;
    return false;
}

static quire_wait_reason measure_cross(qr_scheduler *s, admission *a)
{
    qr_sequence      *g = &s->sequences[a->group];
    const qr_request *r = request_of(s, a->group);
    a->cross_entry      = QR_BLOCK_NONE;
    if (!s->options.encoder_decoder || g->cross.count > 0) return QUIRE_WAIT_NONE;
    if (s->options.enable_cross_sharing) {
        a->cross_entry =
            qr_cross_index_lookup(&s->cache.cross, &g->cross.root, r->stored.encoder_input, r->stored.encoder_count);
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

static void measure_hits(qr_scheduler *s, admission *a)
{
    const qr_sequence *g  = &s->sequences[a->group];
    const qr_request  *r  = request_of(s, a->group);
    const uint32_t     bs = s->options.block_size, window = s->options.window;
    a->base = g->computed;
    if (g->next_member != QR_NONE || r->stored.skip_reading_prefix_cache) return;
    a->hits = qr_prefix_index_lookup(&s->cache.prefix, &g->self, qr_tokens(s, a->group), g->length, s->hits, NULL);
    if (a->hits == 0) return;
    a->base       = (g->self.count + a->hits) * bs;
    a->first_live = window > 0 && a->base + 1 > window ? (a->base + 1 - window) / bs : 0;
    for (uint32_t i = 0; i < a->hits; i++)
        if (g->self.count + i >= a->first_live) a->lost += s->cache.pool.blocks[s->hits[i]].state == QR_BLOCK_CACHED;
}

static void measure_self(const qr_scheduler *s, admission *a)
{
    const qr_sequence *g       = &s->sequences[a->group];
    const uint32_t     missing = qr_block_table_missing(&s->cache.pool, &g->self, a->upto);
    a->self                    = (missing > a->hits ? missing - a->hits : 0) * qr_width(g);
    a->copies                  = a->hits == 0 ? qr_group_copies(s, a->group) : 0;
    a->need                    = a->cross + a->self + a->copies;
}

static uint32_t rows_in_this_step(const qr_scheduler *s, const admission *a)
{
    const qr_sequence *g    = &s->sequences[a->group];
    const uint32_t     todo = g->length - a->base;
    if (a->mode == QR_ADMIT_FORCED) return qr_min_u32(todo, s->rows_left / qr_width(g));
    return qr_plan_rows(s, a->group, todo, s->rows_left);
}

static quire_wait_reason measure(qr_scheduler *s, admission *a)
{
    const qr_sequence *g           = &s->sequences[a->group];
    *a                             = (admission){.group = a->group, .mode = a->mode};
    const quire_wait_reason reason = measure_cross(s, a);
    if (reason != QUIRE_WAIT_NONE) return reason;
    measure_hits(s, a);
    const bool whole = s->options.scheduler_reserve_full_isl && s->options.window == 0 && a->mode != QR_ADMIT_FORCED;
    a->rows          = rows_in_this_step(s, a);
    a->upto          = whole ? g->length : a->base + a->rows;
    if (a->mode == QR_ADMIT_NORMAL && s->groups_running > 0)
        a->room =
            g->state == QR_SEQUENCE_PREEMPTED ? qr_max_u32(s->watermark, s->slots[QR_SEQUENCE_RUNNING]) : s->watermark;
    measure_self(s, a);
    return QUIRE_WAIT_NONE;
}

static uint32_t wanted(const admission *a) { return a->need + a->lost + a->room; }

static bool has_admission(qr_scheduler *s, const qr_taker *taker)
{
    admission a = {.group = taker->group, .mode = taker->mode};
    return measure(s, &a) == QUIRE_WAIT_NONE && wanted(&a) <= qr_available(s);
}

/* Takes from those who may be asked, unless they could not give enough anyway. The last user of the cross content that
 * was to be shared may be among them: then it is to be computed, if the encoder's budget allows. */
static quire_wait_reason take_for(qr_scheduler *s, admission *a)
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
        const uint32_t missing = wanted(a) - qr_available(s);
        if (qr_idle_own_blocks(s, a->group, missing) < missing) return QUIRE_WAIT_NONE;
    }
    while (!has_admission(s, &taker) && qr_take_from_victim(s, &taker)) {
    }
    return measure(s, a);
}

/* With nobody running there is nothing to wait for: fewer rows than asked for, but at least one. */
static void reduce_rows(const qr_scheduler *s, admission *a)
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

/* ---- limits ---- */

/* Unfinished prompts after this step, and those with more than the threshold to do. */
static bool partials_reached(const qr_scheduler *s, uint32_t todo)
{
    const uint32_t threshold = s->options.long_prefill_token_threshold;
    uint32_t       partial = 0, longer = 0;
    for (uint32_t i = s->running.head; i != QR_NONE; i = s->sequences[i].next) {
        const qr_sequence *g = &s->sequences[i];
        if (qr_decoding(g) || (g->entry != QR_NONE && g->rows == qr_todo(g))) continue;
        partial++;
        longer += qr_todo(g) > threshold;
    }
    return partial >= s->options.max_num_partial_prefills ||
           (threshold > 0 && todo > threshold && longer >= s->options.max_long_partial_prefills);
}

static quire_wait_reason check_rows(const qr_scheduler *s, const admission *a)
{
    const qr_sequence *g    = &s->sequences[a->group];
    const uint32_t     most = s->rows_left / qr_width(g), todo = g->length - a->base;
    if (a->mode != QR_ADMIT_NORMAL) return QUIRE_WAIT_NONE;
    if (most == 0) return QUIRE_WAIT_BUDGET;
    if (todo <= most) return QUIRE_WAIT_NONE;
    if (!s->options.enable_chunked_prefill) return QUIRE_WAIT_BUDGET;
    return partials_reached(s, todo) ? QUIRE_WAIT_PARTIAL : QUIRE_WAIT_NONE;
}

static bool over_quota(const qr_scheduler *s, uint32_t group, uint32_t need, uint32_t slots_given,
                       uint32_t blocks_given)
{
    const uint32_t   tenant = request_of(s, group)->tenant;
    const qr_tenant *t      = &s->tenants[tenant];
    if (t->running == slots_given) return false;
    return t->running - slots_given + s->sequences[group].slots > t->max_num_seqs ||
           s->cache.pool.tenants[tenant].used + (uint64_t)need > (uint64_t)t->kv_limit + blocks_given;
}

/* A forced admission comes when only PAUSED groups hold promises: progress goes before them. */
static bool breaks_promises(const qr_scheduler *s, uint32_t group, qr_admission_mode mode)
{
    const qr_request *r = request_of(s, group);
    if (s->options.capacity_policy != QUIRE_CAPACITY_GUARANTEED_NO_EVICT || r->admitted || mode == QR_ADMIT_FORCED)
        return false;
    return s->promised_blocks + r->promised_blocks > s->options.num_blocks;
}

/* ---- taking ---- */

static void give_back(qr_scheduler *s, const admission *a, uint32_t kept, bool had_cross)
{
    QR_FOR_EACH_MEMBER(s, m, a->group)
    {
        qr_block_table_set_running(&s->cache.pool, &s->sequences[m].self, false);
        qr_block_table_set_running(&s->cache.pool, &s->sequences[m].cross, false);
    }
    qr_group_truncate(s, a->group, kept);
    if (!had_cross) qr_group_release_cross(s, a->group);
}

static bool take_blocks(qr_scheduler *s, const admission *a)
{
    qr_block_pool *pool  = &s->cache.pool;
    qr_sequence   *g     = &s->sequences[a->group];
    const bool     empty = g->self.count == 0, had_cross = g->cross.count > 0;
    const uint32_t kept = g->self.count;
    if (empty) g->self.home = g->cross.home = qr_block_pool_home(pool, s->hits, a->hits);
    QR_FOR_EACH_MEMBER(s, m, a->group)
    {
        qr_block_table_set_running(pool, &s->sequences[m].self, true);
        qr_block_table_set_running(pool, &s->sequences[m].cross, true);
    }
    qr_block_table_adopt(pool, &g->self, s->hits, a->hits, a->first_live);
    if (a->cross_entry != QR_BLOCK_NONE) qr_cross_index_share(&s->cache.cross, a->cross_entry, &g->cross);
    bool taken = !a->encodes || qr_block_table_append(pool, &g->cross, request_of(s, a->group)->stored.encoder_count);
    for (uint32_t m = a->group; m != QR_NONE && taken; m = s->sequences[m].next_member)
        taken = qr_block_table_append(pool, &s->sequences[m].self, a->upto);
    if (!taken) give_back(s, a, kept, had_cross);
    return taken;
}

static void record_first_admission(qr_scheduler *s, const admission *a)
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

static void enter(qr_scheduler *s, const admission *a, bool popped)
{
    qr_sequence *g = &s->sequences[a->group];
    s->stats.prefix_queries += g->length - g->computed;
    s->stats.prefix_hits += a->base - qr_min_u32(a->base, g->computed);
    g->computed = a->base;
    g->encodes  = a->encodes;
    if (a->cross_entry != QR_BLOCK_NONE) g->cross_written = true;
    if (a->encodes) s->encoder_left -= request_of(s, a->group)->stored.encoder_count;
    record_first_admission(s, a);
    s->last_admitted_counter = s->tenants[request_of(s, a->group)->tenant].counter;
    (popped ? qr_group_move_popped : qr_group_move)(s, a->group, QR_SEQUENCE_RUNNING);
}

/* NONE: it is RUNNING now, and in the plan unless it is a claim (step 2 gives it rows). */
static quire_wait_reason try_admit(qr_scheduler *s, uint32_t group, qr_admission_mode mode, bool popped,
                                   uint32_t *missing_out)
{
    admission a  = {.group = group, .mode = mode};
    *missing_out = 0;
    if (s->slots[QR_SEQUENCE_RUNNING] + s->sequences[group].slots > s->options.max_num_seqs)
        return QUIRE_WAIT_SEQUENCES;
    quire_wait_reason reason = measure(s, &a);
    if (reason == QUIRE_WAIT_NONE) reason = check_rows(s, &a);
    if (reason != QUIRE_WAIT_NONE) return reason;
    if (mode == QR_ADMIT_NORMAL && over_quota(s, group, a.need, 0, 0)) return QUIRE_WAIT_QUOTA;
    if (wanted(&a) > qr_available(s)) reason = take_for(s, &a);
    if (reason != QUIRE_WAIT_NONE) return reason;
    if (wanted(&a) > qr_available(s)) reduce_rows(s, &a);
    if (wanted(&a) > qr_available(s) || breaks_promises(s, group, mode)) {
        const uint32_t without_room = a.need + a.lost;
        *missing_out                = without_room > qr_available(s) ? without_room - qr_available(s) : 0;
        return *missing_out > 0 || breaks_promises(s, group, mode) ? QUIRE_WAIT_BLOCKS : QUIRE_WAIT_WATERMARK;
    }
    if (!take_blocks(s, &a)) {
        *missing_out = 1;
        return QUIRE_WAIT_BLOCKS;
    }
    enter(s, &a, popped);
    if (mode != QR_ADMIT_CLAIM && !qr_plan_schedule(s, group, a.rows)) qr_note_wait(s, group, QUIRE_WAIT_BLOCKS, 1);
    return QUIRE_WAIT_NONE;
}

bool qr_admit_forced(qr_scheduler *s, uint32_t group)
{
    uint32_t                missing;
    const quire_wait_reason reason = try_admit(s, group, QR_ADMIT_FORCED, false, &missing);
    if (reason != QUIRE_WAIT_NONE) qr_note_wait(s, group, reason, missing);
    return reason == QUIRE_WAIT_NONE && s->planned_count > 0;
}

void qr_admit_suspects(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->suspect_count; i++) {
        const uint32_t group = s->suspects[i];
        uint32_t       missing;
        if (!s->sequences[group].probed || s->sequences[group].state != QR_SEQUENCE_PREEMPTED) continue;
        const quire_wait_reason reason = try_admit(s, group, QR_ADMIT_NORMAL, false, &missing);
        if (reason != QUIRE_WAIT_NONE) qr_note_wait(s, group, reason, missing);
    }
    const uint32_t head = qr_tenant_head(s, false);
    if (head != QR_NONE && !s->sequences[head].probed) qr_note_wait(s, head, QUIRE_WAIT_FAULT, 0);
}

/* ---- step 3 ---- */

static void pop(qr_scheduler *s, uint32_t group)
{
    qr_heap_remove(&s->tenants[request_of(s, group)->tenant].heap, group);
}

static void put_back(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->refused_count; i++) {
        const uint32_t group = s->refused[i];
        qr_heap_push(&s->tenants[request_of(s, group)->tenant].heap, &s->sequences[group].rank, group);
    }
    s->refused_count = 0;
}

/* An older refused one must not be passed (again). */
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

static void set_aside(qr_scheduler *s, uint32_t group, quire_wait_reason reason, uint32_t missing)
{
    qr_note_wait(s, group, reason, missing);
    s->refused[s->refused_count++] = group;
    if (reason == QUIRE_WAIT_QUOTA)
        s->tenants[request_of(s, group)->tenant].skipped_in = s->plan.number;
    else if (blocks_others(s, reason))
        s->blockers[s->blocker_count++] = group;
}

static void count_passes(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->blocker_count; i++) s->sequences[s->blockers[i]].times_passed++;
    s->stats.head_passes += s->blocker_count;
}

/* The first of each tenant that waits for tenants with smaller counters. */
static void mark_tenants(qr_scheduler *s)
{
    const uint32_t head = qr_tenant_head(s, false);
    for (uint32_t i = s->active.head; i != QR_NONE; i = s->tenants[i].next) {
        const uint32_t first = s->tenants[i].heap.nodes[0].item;
        if (s->options.tenant_fairness && first != head && s->sequences[first].reason == QUIRE_WAIT_ORDER)
            qr_note_wait(s, first, QUIRE_WAIT_TENANT, 0);
    }
}

static void examine_candidates(qr_scheduler *s)
{
    uint32_t counted = 0; /* refusals, but those for QUOTA, which close one tenant each */
    s->blocker_count = 0;
    while (counted < QR_MAX_REFUSED) {
        const uint32_t group = qr_tenant_head(s, true);
        uint32_t       missing;
        if (group == QR_NONE) return;
        const bool full = s->slots[QR_SEQUENCE_RUNNING] >= s->options.max_num_seqs;
        if (s->rows_left == 0 || full || is_closed_for(s, group)) {
            qr_note_wait(s, group,
                         full                ? QUIRE_WAIT_SEQUENCES
                         : s->rows_left == 0 ? QUIRE_WAIT_BUDGET
                                             : QUIRE_WAIT_HEAD,
                         0);
            return;
        }
        pop(s, group);
        const quire_wait_reason reason = try_admit(s, group, QR_ADMIT_NORMAL, true, &missing);
        if (reason == QUIRE_WAIT_NONE)
            count_passes(s);
        else
            set_aside(s, group, reason, missing);
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

/* ---- step 1 ---- */

/* How many RUNNING groups of lower priority, most junior first, let the head in; their slots are counted out. */
static bool claim_is_possible(qr_scheduler *s, uint32_t head, uint32_t *slots_out)
{
    admission      a      = {.group = head, .mode = QR_ADMIT_CLAIM};
    const uint32_t needed = s->slots[QR_SEQUENCE_RUNNING] + s->sequences[head].slots;
    uint32_t       slots = 0, blocks = 0;
    bool           any = false;
    if (measure(s, &a) != QUIRE_WAIT_NONE) return false;
    const uint32_t idle = qr_idle_own_blocks(s, head, wanted(&a));
    for (uint32_t v = s->running.tail; v != QR_NONE; v = s->sequences[v].prev) {
        if (!qr_is_claim_victim(s, head, v)) continue;
        any = true;
        if (needed - slots <= s->options.max_num_seqs && wanted(&a) <= qr_available(s) + idle + blocks) break;
        slots += s->sequences[v].slots;
        blocks += qr_group_own_blocks(s, v, wanted(&a));
    }
    *slots_out = needed > s->options.max_num_seqs ? needed - s->options.max_num_seqs : 0;
    return any && needed - slots <= s->options.max_num_seqs && wanted(&a) <= qr_available(s) + idle + blocks &&
           !over_quota(s, head, a.need, s->options.tenant_fairness ? slots : 0, blocks);
}

static void free_slots(qr_scheduler *s, uint32_t head, uint32_t slots)
{
    for (uint32_t v = s->running.tail, next; v != QR_NONE && slots > 0; v = next) {
        next = s->sequences[v].prev;
        if (!qr_is_claim_victim(s, head, v)) continue;
        slots -= qr_min_u32(slots, s->sequences[v].slots);
        qr_group_preempt(s, v, QUIRE_WAIT_SEQUENCES);
    }
}

void qr_admit_claims(qr_scheduler *s)
{
    if (s->options.policy != QUIRE_POLICY_PRIORITY || s->options.capacity_policy == QUIRE_CAPACITY_GUARANTEED_NO_EVICT)
        return;
    for (;;) {
        const uint32_t head = qr_tenant_head(s, false);
        uint32_t       slots, missing;
        if (head == QR_NONE || !claim_is_possible(s, head, &slots)) return;
        free_slots(s, head, slots);
        const quire_wait_reason reason = try_admit(s, head, QR_ADMIT_CLAIM, false, &missing);
        if (reason != QUIRE_WAIT_NONE) {
            qr_note_wait(s, head, reason, missing);
            return;
        }
        s->stats.claims++;
    }
}
