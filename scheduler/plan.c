/* One step: deadlines, claims, the RUNNING ones by rank, admission, leftover rows, drafts; and the plan's arrays. */
#include "base/assert.h"
#include "base/bits.h"
#include "scheduler/state.h"

uint32_t qr_plan_rows(const qr_scheduler *s, uint32_t unit, uint32_t todo, uint32_t left)
{
    const uint32_t width = qr_width(&s->sequences[unit]), most = left / width;
    const uint32_t threshold = s->options.long_prefill_token_threshold;
    if (todo <= most || threshold == 0) return qr_min_u32(todo, most); /* a prompt that ends now is not clamped */
    return qr_min_u32(most, qr_max_u32(1, threshold / width));
}

bool qr_plan_may_run(const qr_scheduler *s, uint32_t unit)
{
    return s->suspect_count == 0 || s->sequences[unit].probed;
}

/* ---- scheduling one unit ---- */

/* The positions that get their first row: output costs two, prompt rows were charged at admission. */
static void charge(qr_scheduler *s, uint32_t unit, uint32_t rows)
{
    qr_sequence   *u      = &s->sequences[unit];
    const uint32_t prompt = qr_prompt_count(s, u), end = u->computed + rows;
    const uint32_t from = qr_max_u32(u->highest, prompt);
    if (end > from) qr_tenant_charge(s, s->requests[u->request].tenant, 2 * (uint64_t)(end - from) * qr_width(u));
}

static bool take_blocks(qr_scheduler *s, uint32_t unit, uint32_t rows)
{
    qr_block_pool *pool = &s->cache.pool;
    QR_FOR_EACH_MEMBER(s, m, unit)
    {
        qr_sequence  *q    = &s->sequences[m];
        qr_block_copy copy = {0};
        if (!qr_block_table_needs_copy(pool, &q->self, q->computed)) continue;
        if (!qr_block_table_make_writable(pool, &q->self, q->computed, &copy)) return false;
        s->stats.copies++;
        if (copy.slots == 0) continue;
        s->plan.copies[s->plan.copy_count++] = (qr_plan_copy){copy.from, copy.to, copy.slots};
    }
    QR_FOR_EACH_MEMBER(s, m, unit)
    {
        qr_sequence *q = &s->sequences[m];
        if (!qr_block_table_append(pool, &q->self, q->computed + rows)) return false;
    }
    return true;
}

/* Undoes copies that were planned for a unit which then got no rows: its tail goes, and so does what was copied. */
static void undo(qr_scheduler *s, uint32_t unit, uint32_t copies)
{
    while (s->plan.copy_count > copies) qr_block_pool_unpin(&s->cache.pool, s->plan.copies[--s->plan.copy_count].from);
    qr_unit_truncate(s, unit, s->sequences[unit].computed / s->options.block_size);
}

bool qr_plan_schedule(qr_scheduler *s, uint32_t unit, uint32_t rows)
{
    qr_sequence   *u      = &s->sequences[unit];
    const uint32_t copies = s->plan.copy_count;
    if (!take_blocks(s, unit, rows)) {
        undo(s, unit, copies);
        return false;
    }
    charge(s, unit, rows);
    u->rows                        = rows;
    u->drafts                      = 0;
    u->entry                       = s->planned_count;
    s->planned[s->planned_count++] = unit;
    s->rows_left -= rows * qr_width(u);
    if (u->first_planned_ns == 0) u->first_planned_ns = s->now_ns;
    qr_wait(s, unit, QUIRE_WAIT_NONE, 0);
    return true;
}

/* ---- step 2 ---- */

static bool has_rows(qr_scheduler *s, const qr_taker *taker)
{
    return qr_unit_missing(s, taker->unit, taker->upto) <= qr_available(s);
}

/* All or nothing; victims are junior, so none of them is in the plan. */
static bool schedule_or_take(qr_scheduler *s, uint32_t unit, uint32_t rows, bool forced)
{
    qr_sequence   *u     = &s->sequences[unit];
    const qr_taker taker = {
        .unit = unit, .has_enough = has_rows, .forced = forced, .from_running = true, .upto = u->computed + rows};
    while (!has_rows(s, &taker)) {
        if (qr_take_from_one(s, &taker)) continue;
        qr_wait(s, unit, QUIRE_WAIT_BLOCKS, qr_unit_missing(s, unit, taker.upto) - qr_available(s));
        return false;
    }
    if (qr_plan_schedule(s, unit, rows)) return true;
    qr_wait(s, unit, QUIRE_WAIT_BLOCKS, 1);
    return false;
}

static void visit(qr_scheduler *s, uint32_t unit)
{
    qr_sequence *u = &s->sequences[unit];
    if (!qr_plan_may_run(s, unit)) {
        qr_wait(s, unit, QUIRE_WAIT_FAULT, 0);
        return;
    }
    if (qr_decoding(u)) s->decode_rows -= qr_width(u);
    uint32_t rows = qr_plan_rows(s, unit, qr_todo(u), s->rows_left - s->decode_rows);
    if (rows == 0) {
        qr_wait(s, unit, QUIRE_WAIT_BUDGET, 0);
        return;
    }
    if (!qr_decoding(u)) rows = qr_unit_rows_that_fit(s, unit, rows);
    schedule_or_take(s, unit, rows, false);
}

static void schedule_running(qr_scheduler *s)
{
    s->decode_rows = 0; /* set aside: decodes never stall for a prompt */
    for (uint32_t u = s->running.head; u != QR_NONE; u = s->sequences[u].next)
        if (qr_decoding(&s->sequences[u]) && qr_plan_may_run(s, u)) s->decode_rows += qr_width(&s->sequences[u]);
    s->visiting = true;
    for (uint32_t u = s->running.head; u != QR_NONE; u = s->sequences[u].next) visit(s, u);
    s->visiting = false;
    qr_assert(s->decode_rows == 0);
}

/* ---- steps 0, 4, 5 ---- */

static void expire(qr_scheduler *s)
{
    while (s->deadlines.count > 0 && s->deadlines.nodes[0].rank.low <= s->now_ns)
        qr_request_finish(s, s->deadlines.nodes[0].item, QUIRE_FINISH_TIMEOUT, QUIRE_OK);
}

static void widen(qr_scheduler *s, uint32_t unit)
{
    qr_sequence   *u     = &s->sequences[unit];
    const uint32_t extra = qr_min_u32(qr_todo(u) - u->rows, s->rows_left / qr_width(u));
    if (extra == 0) return;
    const uint32_t rows = qr_unit_rows_that_fit(s, unit, u->rows + extra);
    if (rows <= u->rows) return;
    QR_FOR_EACH_MEMBER(s, m, unit)
    if (!qr_block_table_append(&s->cache.pool, &s->sequences[m].self, u->computed + rows)) return;
    s->rows_left -= (rows - u->rows) * qr_width(u);
    u->rows = rows;
}

static void schedule_leftover(qr_scheduler *s)
{
    for (uint32_t u = s->running.head; u != QR_NONE && s->rows_left > 0; u = s->sequences[u].next)
        if (s->sequences[u].entry != QR_NONE) widen(s, u);
}

static uint32_t senior_preempted(const qr_scheduler *s)
{
    uint32_t best = QR_NONE;
    for (uint32_t u = s->preempted.head; u != QR_NONE; u = s->sequences[u].next)
        if (qr_plan_may_run(s, u) &&
            (best == QR_NONE || qr_rank_before(&s->sequences[u].rank, &s->sequences[best].rank)))
            best = u;
    return best;
}

/* The most senior RUNNING, else the head; guaranteed_no_evict: those it made a promise to before new ones. */
static uint32_t forced_unit(const qr_scheduler *s)
{
    for (uint32_t u = s->running.head; u != QR_NONE; u = s->sequences[u].next)
        if (qr_plan_may_run(s, u)) return u;
    const bool     old_first = s->suspect_count > 0 || s->options.capacity_policy == QUIRE_CAPACITY_GUARANTEED_NO_EVICT;
    const uint32_t preempted = old_first ? senior_preempted(s) : QR_NONE;
    return preempted != QR_NONE || s->suspect_count > 0 ? preempted : qr_tenant_head(s, false);
}

/* Nothing could be planned, though something lives: the most senior takes what it needs for one row from anybody. */
static void force(qr_scheduler *s)
{
    const uint32_t unit = forced_unit(s);
    if (unit == QR_NONE) return;
    const qr_sequence *u = &s->sequences[unit];
    bool               done;
    if (u->state == QR_SEQUENCE_RUNNING) {
        const uint32_t rows = qr_plan_rows(s, unit, qr_todo(u), s->rows_left);
        done                = schedule_or_take(s, unit, qr_unit_rows_that_fit(s, unit, rows), true);
    } else {
        done = qr_admit_forced(s, unit);
    }
    s->stats.forced_progress += done;
}

/* ---- the arrays ---- */

static void add_samples(qr_scheduler *s, const qr_plan_entry *entry, uint32_t number)
{
    const qr_sequence *q    = &s->sequences[entry->sequence];
    const qr_request  *r    = &s->requests[q->request];
    const bool         fans = r->stored.n > 1 && !r->forked && !qr_is_beam(s, q); /* n samples of one row */
    const uint32_t     last = entry->row_start + entry->rows - 1;
    for (uint32_t i = 0; i < entry->sample_count; i++) {
        const uint32_t ahead = fans ? 0 : i, output = q->length - r->stored.prompt_count + ahead;
        s->plan.samples[s->plan.sample_count++] = (qr_plan_sample){.row            = last - entry->drafts + ahead,
                                                                   .entry          = number,
                                                                   .sequence_index = fans ? i : q->index,
                                                                   .position       = q->length + ahead,
                                                                   .output_index   = output,
                                                                   .mask_stops     = output < r->stored.min_tokens};
    }
}

static void add_entry(qr_scheduler *s, uint32_t record, const qr_sequence *u)
{
    const qr_sequence *q       = &s->sequences[record];
    const qr_request  *r       = &s->requests[q->request];
    const bool         samples = u->computed + u->rows - u->drafts == u->length;
    const uint32_t     count   = r->forked || qr_is_beam(s, q) ? 1 : r->stored.n;
    qr_plan           *plan    = &s->plan;
    qr_plan_entry     *entry   = &plan->entries[plan->entry_count];
    *entry                     = (qr_plan_entry){.sequence     = record,
                                                 .position     = u->computed,
                                                 .rows         = u->rows,
                                                 .row_start    = plan->rows,
                                                 .drafts       = u->drafts,
                                                 .sample_start = plan->sample_count,
                                                 .sample_count = samples ? count + u->drafts : 0};
    plan->rows += u->rows;
    add_samples(s, entry, plan->entry_count++);
}

static void add_encoder(qr_scheduler *s, uint32_t unit)
{
    const qr_sequence *u                      = &s->sequences[unit];
    const qr_request  *r                      = &s->requests[u->request];
    s->plan.encoders[s->plan.encoder_count++] = (qr_plan_encoder){.sequence    = unit,
                                                                  .token_count = r->stored.encoder_count,
                                                                  .tokens      = r->stored.encoder_input,
                                                                  .blocks      = u->cross.blocks};
    s->plan.rows_encoder += r->stored.encoder_count;
}

static void count_rows(qr_scheduler *s, qr_sequence *u)
{
    const uint32_t width = qr_width(u), end = u->computed + u->rows - u->drafts;
    const bool     prompt = !qr_decoding(u) || u->computed < qr_prompt_count(s, u);
    if (prompt) {
        s->plan.rows_prompt += u->rows * width;
        s->stats.tokens_prompt += (uint64_t)u->rows * width;
    }
    if (u->highest > u->computed) {
        const uint32_t again = qr_min_u32(u->highest, end) - u->computed;
        u->recomputed += again;
        s->stats.tokens_recomputed += (uint64_t)again * width;
    }
    u->drafted += u->drafts;
    s->stats.drafts += u->drafts;
    u->highest = qr_max_u32(u->highest, end);
}

static void build(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->planned_count; i++) {
        const uint32_t unit = s->planned[i];
        qr_sequence   *u    = &s->sequences[unit];
        u->entry            = s->plan.entry_count;
        if (u->encodes) add_encoder(s, unit);
        QR_FOR_EACH_MEMBER(s, m, unit) add_entry(s, m, u);
        count_rows(s, u);
        QR_FOR_EACH_MEMBER(s, m, unit) s->sequences[m].highest = u->highest; /* any of them may replace the first */
    }
}

/* A claimed unit whose encoder was to run, but which got no row: its encoder waits, too. */
static void cancel_idle_encoders(qr_scheduler *s)
{
    for (uint32_t u = s->running.head, next; u != QR_NONE; u = next) {
        next = s->sequences[u].next;
        if (s->sequences[u].encodes && s->sequences[u].entry == QR_NONE) qr_unit_preempt(s, u, QUIRE_WAIT_BUDGET);
    }
}

static void begin(qr_scheduler *s)
{
    qr_plan *p = &s->plan;
    p->number++;
    p->rows = p->rows_prompt = p->rows_encoder = p->preempted = 0;
    p->entry_count = p->sample_count = p->copy_count = p->encoder_count = 0;
    s->planned_count                                                    = 0;
    s->took                                                             = false;
    s->rows_left                                                        = s->options.max_num_batched_tokens;
    s->encoder_left                                                     = s->options.max_num_encoder_input_tokens;
}

const qr_plan *qr_scheduler_plan(qr_scheduler *s, uint64_t now_ns)
{
    qr_assert(!s->in_flight);
    s->now_ns = qr_max_u64(s->now_ns, now_ns);
    begin(s);
    expire(s);
    if (s->suspect_count == 0) qr_admit_claims(s);
    schedule_running(s);
    if (s->suspect_count == 0)
        qr_admit(s);
    else
        qr_admit_suspects(s);
    schedule_leftover(s);
    if (s->planned_count == 0) force(s);
    if (s->options.encoder_decoder) cancel_idle_encoders(s);
    qr_draft(s);
    build(s);
    s->in_flight = s->planned_count > 0;
    s->stats.steps += s->in_flight;
    if (s->in_flight) qr_stats_hash_plan(s); /* how often an idle scheduler is asked changes nothing */
    return &s->plan;
}
