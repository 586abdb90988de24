/* The plan of a step, phase by phase: deadlines, claims, RUNNING groups by rank, admission, leftover rows, forced
 * progress, drafts; then the plan as arrays. qr_scheduler_plan() at the end is the table of contents. */
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "scheduler/state.h"

/* ---- rows ---- */

static uint32_t first_untold(const qr_scheduler *s, const qr_sequence *group)
{
    return qr_max_u32(group->computed, s->requests[group->request].prompt_told);
}

uint32_t qr_given_rows(const qr_scheduler *s, const qr_sequence *group, uint32_t rows)
{
    if (!s->requests[group->request].stored.prompt_logprobs) return 0;
    const uint32_t from = first_untold(s, group);
    const uint32_t end  = qr_min_u32(group->computed + rows, qr_prompt_count(s, group) - 1);
    return end > from ? end - from : 0;
}

uint32_t qr_plan_given(const qr_scheduler *s, const qr_sequence *group, uint32_t rows)
{
    if (qr_given_rows(s, group, rows) <= s->given_left) return rows;
    return first_untold(s, group) - group->computed + s->given_left;
}

uint32_t qr_plan_rows(const qr_scheduler *s, uint32_t group, uint32_t todo, uint32_t left)
{
    const qr_sequence *g     = &s->sequences[group];
    const uint32_t     width = qr_width(g), most = left / width;
    const uint32_t     threshold = s->options.long_prefill_token_threshold;
    uint32_t           rows      = qr_min_u32(todo, most);
    if (todo > most && threshold > 0) /* a prompt that ends now is not clamped */
        rows = qr_min_u32(most, qr_max_u32(1, threshold / width));
    return qr_plan_given(s, g, rows);
}

bool qr_plan_may_run(const qr_scheduler *s, uint32_t group)
{
    return s->suspect_count == 0 || s->sequences[group].probed;
}

/* ---- scheduling one group ---- */

/* The positions that get their first row: output costs two, prompt rows were charged at admission. */
static void charge(qr_scheduler *s, uint32_t group, uint32_t rows)
{
    qr_sequence   *g      = &s->sequences[group];
    const uint32_t prompt = qr_prompt_count(s, g), end = g->computed + rows;
    const uint32_t from = qr_max_u32(g->highest, prompt);
    if (end > from) qr_tenant_charge(s, s->requests[g->request].tenant, 2 * (uint64_t)(end - from) * qr_width(g));
}

static void add_copy(quire_plan_copy *copies, uint32_t *count, const qr_block_copy *copy)
{
    if (copy->slots > 0) copies[(*count)++] = (quire_plan_copy){copy->from, copy->to, copy->slots};
}

static bool take_blocks(qr_scheduler *s, uint32_t group, uint32_t rows)
{
    qr_block_pool *pool = &s->cache.pool;
    QR_FOR_EACH_MEMBER(s, m, group) {
        qr_sequence  *q       = &s->sequences[m];
        qr_block_copy copy[2] = {0};
        if (!qr_block_table_needs_copy(pool, &q->self, q->computed)) continue;
        if (!qr_block_table_make_writable(pool, &q->self, q->computed, copy)) return false;
        s->stats.copies++;
        add_copy(s->arrays.copies, &s->plan.copy_count, &copy[0]);
        add_copy(s->arrays.local_copies, &s->plan.local_copy_count, &copy[1]);
    }
    QR_FOR_EACH_MEMBER(s, m, group) {
        qr_sequence *q = &s->sequences[m];
        if (!qr_block_table_append(pool, &q->self, q->computed + rows)) return false;
    }
    return true;
}

void qr_plan_drop_copies(qr_scheduler *s, uint32_t keep, uint32_t local_keep)
{
    quire_plan *p = &s->plan;
    for (uint32_t i = keep; i < p->copy_count; i++) qr_block_pool_unpin(&s->cache.pool, p->copies[i].from);
    for (uint32_t i = local_keep; i < p->local_copy_count; i++)
        qr_block_pool_unpin(&s->cache.local, p->local_copies[i].from);
    p->copy_count       = keep;
    p->local_copy_count = local_keep;
}

/* Undoes copies that were planned for a group which then got no rows: its tail goes, and so does what was copied. */
static void undo(qr_scheduler *s, uint32_t group, uint32_t copies, uint32_t local_copies)
{
    qr_plan_drop_copies(s, copies, local_copies);
    qr_group_truncate(s, group, s->sequences[group].computed / s->options.block_size);
}

static void set_rows(qr_scheduler *s, qr_sequence *g, uint32_t rows)
{
    s->rows_left -= (rows - g->rows) * qr_width(g);
    s->given_left += g->given;
    g->given = qr_given_rows(s, g, rows);
    s->given_left -= g->given;
    g->rows = rows;
}

bool qr_plan_schedule(qr_scheduler *s, uint32_t group, uint32_t rows)
{
    qr_sequence   *g      = &s->sequences[group];
    const uint32_t copies = s->plan.copy_count, local_copies = s->plan.local_copy_count;
    if (!take_blocks(s, group, rows)) {
        undo(s, group, copies, local_copies);
        return false;
    }
    charge(s, group, rows);
    set_rows(s, g, rows);
    g->drafts                      = 0;
    g->entry                       = s->planned_count;
    s->planned[s->planned_count++] = group;
    if (g->first_planned_ns == 0) g->first_planned_ns = s->now_ns;
    qr_note_wait(s, group, QUIRE_WAIT_NONE, 0);
    return true;
}

/* ---- running groups ---- */

static bool has_rows(qr_scheduler *s, const qr_taker *taker)
{
    return qr_group_missing(s, taker->group, taker->upto) <= qr_available(s);
}

/* Takes from victims until all blocks are there, or gives up. Victims are junior, so none is in the plan yet. */
static bool schedule_or_take(qr_scheduler *s, uint32_t group, uint32_t rows, bool forced)
{
    qr_sequence   *g     = &s->sequences[group];
    const qr_taker taker = {
        .group = group, .has_enough = has_rows, .forced = forced, .from_running = true, .upto = g->computed + rows};
    while (!has_rows(s, &taker)) {
        if (qr_take_from_victim(s, &taker)) continue;
        qr_note_wait(s, group, QUIRE_WAIT_BLOCKS, qr_group_missing(s, group, taker.upto) - qr_available(s));
        return false;
    }
    if (qr_plan_schedule(s, group, rows)) return true;
    qr_note_wait(s, group, QUIRE_WAIT_BLOCKS, 1);
    return false;
}

static void visit(qr_scheduler *s, uint32_t group)
{
    qr_sequence *g = &s->sequences[group];
    if (!qr_plan_may_run(s, group)) {
        qr_note_wait(s, group, QUIRE_WAIT_FAULT, 0);
        return;
    }
    if (qr_decoding(g)) s->decode_rows -= qr_width(g);
    uint32_t rows = qr_plan_rows(s, group, qr_todo(g), s->rows_left - s->decode_rows);
    if (rows == 0) {
        qr_note_wait(s, group, QUIRE_WAIT_BUDGET, 0);
        return;
    }
    if (!qr_decoding(g)) rows = qr_group_rows_that_fit(s, group, rows);
    schedule_or_take(s, group, rows, false);
}

static void schedule_running(qr_scheduler *s)
{
    s->decode_rows = 0; /* set aside: decodes never stall for a prompt */
    for (uint32_t g = s->running.head; g != QR_NONE; g = s->sequences[g].link.next)
        if (qr_decoding(&s->sequences[g]) && qr_plan_may_run(s, g)) s->decode_rows += qr_width(&s->sequences[g]);
    s->visiting = true;
    for (uint32_t g = s->running.head; g != QR_NONE; g = s->sequences[g].link.next) visit(s, g);
    s->visiting = false;
    qr_assert(s->decode_rows == 0);
}

/* ---- deadlines, leftover rows, forced progress ---- */

static void expire(qr_scheduler *s)
{
    while (s->deadlines.count > 0 && s->deadlines.nodes[0].rank.low <= s->now_ns)
        qr_request_finish(s, s->deadlines.nodes[0].item, QUIRE_FINISH_TIMEOUT, QUIRE_OK);
}

static void widen(qr_scheduler *s, uint32_t group)
{
    qr_sequence   *g     = &s->sequences[group];
    const uint32_t extra = qr_min_u32(qr_todo(g) - g->rows, s->rows_left / qr_width(g));
    if (extra == 0 || qr_given_rows(s, g, g->rows + extra) > g->given + s->given_left) return;
    const uint32_t rows = qr_group_rows_that_fit(s, group, g->rows + extra);
    if (rows <= g->rows) return;
    QR_FOR_EACH_MEMBER(s, m, group)
        if (!qr_block_table_append(&s->cache.pool, &s->sequences[m].self, g->computed + rows)) return;
    set_rows(s, g, rows);
}

static void schedule_leftover(qr_scheduler *s)
{
    for (uint32_t g = s->running.head; g != QR_NONE && s->rows_left > 0; g = s->sequences[g].link.next)
        if (s->sequences[g].entry != QR_NONE) widen(s, g);
}

static uint32_t senior_preempted(const qr_scheduler *s)
{
    uint32_t best = QR_NONE;
    for (uint32_t g = s->preempted.head; g != QR_NONE; g = s->sequences[g].link.next)
        if (qr_plan_may_run(s, g) &&
            (best == QR_NONE || qr_rank_before(&s->sequences[g].rank, &s->sequences[best].rank)))
            best = g;
    return best;
}

/* The most senior RUNNING group, else the head. guaranteed_no_evict: groups with a promise before new ones. */
static uint32_t forced_group(const qr_scheduler *s)
{
    for (uint32_t g = s->running.head; g != QR_NONE; g = s->sequences[g].link.next)
        if (qr_plan_may_run(s, g)) return g;
    const bool     old_first = s->suspect_count > 0 || s->options.capacity_policy == QUIRE_CAPACITY_GUARANTEED_NO_EVICT;
    const uint32_t preempted = old_first ? senior_preempted(s) : QR_NONE;
    return preempted != QR_NONE || s->suspect_count > 0 ? preempted : qr_tenant_head(s, false);
}

/* Nothing could be planned although something waits: the most senior takes what it needs for one row from anybody. */
static void force(qr_scheduler *s)
{
    const uint32_t group = forced_group(s);
    if (group == QR_NONE) return;
    const qr_sequence *g = &s->sequences[group];
    bool               done;
    if (g->state == QR_SEQUENCE_RUNNING) {
        const uint32_t rows = qr_plan_rows(s, group, qr_todo(g), s->rows_left);
        done                = schedule_or_take(s, group, qr_group_rows_that_fit(s, group, rows), true);
    } else {
        done = qr_admit_forced(s, group);
    }
    s->stats.forced_progress += done;
}

/* ---- the plan as arrays ---- */

/* Samples come in row order, several on one row for n > 1. */
static uint32_t add_logits_row(qr_scheduler *s, uint32_t row)
{
    uint32_t *rows = s->arrays.logits_rows, *count = &s->plan.rows_logits;
    if (*count == 0 || rows[*count - 1] != row) rows[(*count)++] = row;
    return *count - 1;
}

static void add_given(qr_scheduler *s, const quire_plan_sequence *entry, uint32_t record)
{
    const qr_sequence *q     = &s->sequences[record];
    const uint32_t     first = first_untold(s, q);
    for (uint32_t i = 0; i < q->given; i++) {
        const uint32_t row                        = entry->row_start + first - entry->position + i;
        s->arrays.samples[s->plan.sample_count++] = (quire_plan_sample){.row        = row,
                                                                        .logits_row = add_logits_row(s, row),
                                                                        .entry      = s->plan.sequence_count,
                                                                        .position   = first + i + 1,
                                                                        .given      = true};
    }
}

static void add_samples(qr_scheduler *s, const quire_plan_sequence *entry, uint32_t record)
{
    const qr_sequence *q        = &s->sequences[record];
    const qr_request  *r        = &s->requests[q->request];
    const bool         unforked = r->stored.n > 1 && !r->forked && !qr_is_beam(s, q); /* n samples of one row */
    const uint32_t     last     = entry->row_start + entry->row_count - 1;
    for (uint32_t i = 0; i < entry->sample_count - q->given; i++) {
        const uint32_t ahead = unforked ? 0 : i, row = last - entry->drafts + ahead;
        const uint32_t index                      = q->length - r->stored.prompt_count + ahead;
        s->arrays.samples[s->plan.sample_count++] = (quire_plan_sample){.row        = row,
                                                                        .logits_row = add_logits_row(s, row),
                                                                        .entry      = s->plan.sequence_count,
                                                                        .sequence   = unforked ? i : q->index,
                                                                        .position   = q->length + ahead,
                                                                        .index      = index,
                                                                        .mask_stops = index < r->stored.min_tokens};
    }
}

static void add_rows(qr_scheduler *s, const quire_plan_sequence *entry)
{
    const uint32_t  size = s->options.block_size, start = entry->row_start;
    const uint32_t *block  = entry->blocks + entry->position / size;
    uint32_t        offset = entry->position % size;
    memcpy(s->arrays.tokens + start, entry->tokens + entry->position, entry->row_count * sizeof *entry->tokens);
    for (uint32_t i = 0; i < entry->row_count; i++) {
        s->arrays.positions[start + i] = entry->position + i;
        s->arrays.slots[start + i]     = (uint64_t)*block * size + offset;
        if (++offset == size) offset = 0, block++;
    }
}

static uint64_t sum_to(uint64_t n) { return n * (n + 1) / 2; }

/* Tokens that rows at positions [position, end) see: together, and summed over the rows. A row sees itself, too. */
static void count_reads(qr_scheduler *s, const quire_plan_sequence *entry)
{
    const uint64_t position = entry->position, end = position + entry->row_count;
    const uint64_t window = s->options.window > 0 ? s->options.window : end;
    const uint64_t inside = qr_min_u64(end, window), before = qr_min_u64(position, window); /* seen by the last row */
    s->plan.kv_tokens += end - (position + 1 > window ? position + 1 - window : 0);
    s->plan.kv_pairs += sum_to(inside) - sum_to(before) + window * (end - inside - (position - before));
    s->plan.cross_tokens += entry->cross_length;
    s->plan.cross_pairs += (uint64_t)entry->cross_length * entry->row_count;
}

static void add_sequence(qr_scheduler *s, uint32_t record, const qr_sequence *g)
{
    const qr_sequence    *q    = &s->sequences[record];
    const qr_request     *r    = &s->requests[q->request];
    const bool            beam = qr_is_beam(s, q), crosses = r->stored.encoder_count > 0;
    const bool            samples = g->computed + g->rows - g->drafts == g->length;
    const uint32_t        count   = r->forked || beam ? 1 : r->stored.n;
    const qr_block_table *cross   = beam ? &s->sequences[r->first].cross : &q->cross;
    quire_plan           *plan    = &s->plan;
    quire_plan_sequence  *entry   = &s->arrays.sequences[plan->sequence_count];
    *entry                        = (quire_plan_sequence){
                               .id                = r->id,
                               .request           = &r->stored,
                               .sequence          = q->index,
                               .row_start         = plan->rows,
                               .row_count         = g->rows,
                               .position          = g->computed,
                               .drafts            = g->drafts,
                               .tokens            = qr_tokens(s, record),
                               .blocks            = q->self.blocks,
                               .block_count       = q->self.count,
                               .cross_blocks      = crosses ? cross->blocks : NULL,
                               .cross_block_count = qr_ceil_div_u32(r->stored.encoder_count, s->options.block_size),
                               .cross_length      = r->stored.encoder_count,
                               .sample_start      = plan->sample_count,
                               .sample_count      = g->given + (samples ? count + g->drafts : 0),
                               .node              = q->self.home,
    };
    s->arrays.sequence_records[plan->sequence_count] = record;
    s->arrays.local_blocks[plan->sequence_count]     = q->local.blocks;
    qr_assert(plan->rows + g->rows <= s->options.max_num_batched_tokens);
    add_rows(s, entry);
    add_given(s, entry, record);
    add_samples(s, entry, record);
    count_reads(s, entry);
    plan->rows += g->rows;
    plan->sequence_count++;
}

static void add_encoder(qr_scheduler *s, uint32_t group)
{
    const qr_sequence *g     = &s->sequences[group];
    const qr_request  *r     = &s->requests[g->request];
    const uint32_t     count = r->stored.encoder_count, item = s->plan.encoder_count++;
    s->arrays.encoder_records[item] = group;
    s->arrays.encoders[item]        = (quire_plan_encoder){.id          = r->id,
                                                           .tokens      = r->stored.encoder_input,
                                                           .token_count = count,
                                                           .frame_count = r->stored.encoder_frames,
                                                           .features    = r->stored.encoder_features,
                                                           .blocks      = g->cross.blocks,
                                                           .block_count = qr_ceil_div_u32(count, s->options.block_size),
                                                           .node        = g->self.home};
    s->plan.rows_encoder += count;
    s->plan.encoder_pairs += (uint64_t)count * count;
}

static void count_rows(qr_scheduler *s, qr_sequence *g)
{
    const uint32_t width = qr_width(g), end = g->computed + g->rows - g->drafts;
    const bool     prompt = !qr_decoding(g) || g->computed < qr_prompt_count(s, g);
    if (prompt) {
        s->plan.rows_prompt += g->rows * width;
        s->stats.tokens_prompt += (uint64_t)g->rows * width;
    }
    if (g->highest > g->computed) {
        const uint32_t again = qr_min_u32(g->highest, end) - g->computed;
        g->recomputed += again;
        s->stats.tokens_recomputed += (uint64_t)again * width;
    }
    g->drafted += g->drafts;
    s->stats.drafts += g->drafts;
    g->highest = qr_max_u32(g->highest, end);
}

static void build(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->planned_count; i++) {
        const uint32_t group = s->planned[i];
        qr_sequence   *g     = &s->sequences[group];
        g->entry             = s->plan.sequence_count;
        if (g->encodes) add_encoder(s, group);
        QR_FOR_EACH_MEMBER(s, m, group) add_sequence(s, m, g);
        count_rows(s, g);
        QR_FOR_EACH_MEMBER(s, m, group) s->sequences[m].highest = g->highest; /* any of them may replace the first */
    }
}

/* A group that claimed a slot and was to run its encoder, but got no row: its encoder waits, too. */
static void cancel_idle_encoders(qr_scheduler *s)
{
    for (uint32_t g = s->running.head, next; g != QR_NONE; g = next) {
        next = s->sequences[g].link.next;
        if (s->sequences[g].encodes && s->sequences[g].entry == QR_NONE) qr_group_preempt(s, g, QUIRE_WAIT_BUDGET);
    }
}

static void begin(qr_scheduler *s)
{
    const qr_plan_arrays *a = &s->arrays;
    s->plan                 = (quire_plan){.size        = sizeof s->plan,
                                           .number      = s->plan.number + 1,
                                           .copies      = a->copies,
                                           .encoders    = a->encoders,
                                           .sequences   = a->sequences,
                                           .samples     = a->samples,
                                           .tokens      = a->tokens,
                                           .positions   = a->positions,
                                           .slots       = a->slots,
                                           .logits_rows = a->logits_rows};
    if (s->local_capacity > 0) s->plan.local_copies = a->local_copies, s->plan.local_blocks = a->local_blocks;
    s->planned_count = 0;
    s->took_blocks   = false;
    s->rows_left     = s->options.max_num_batched_tokens;
    s->encoder_left  = s->options.max_num_encoder_input_tokens;
    s->given_left    = qr_max_given_rows(&s->options);
}

static void describe_state(qr_scheduler *s)
{
    s->plan.running             = s->slots[QR_SEQUENCE_RUNNING];
    s->plan.waiting             = s->slots[QR_SEQUENCE_QUEUED] + s->slots[QR_SEQUENCE_PREEMPTED];
    s->plan.paused              = s->slots[QR_SEQUENCE_PAUSED];
    s->plan.blocks_used         = s->cache.pool.used;
    s->plan.blocks_cached       = s->cache.pool.cached;
    s->plan.local_blocks_used   = s->cache.local.used;
    s->plan.local_blocks_cached = s->cache.local.cached;
}

const quire_plan *qr_scheduler_plan(qr_scheduler *s, uint64_t now_ns)
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
    describe_state(s);
    s->in_flight = s->planned_count > 0;
    s->stats.steps += s->in_flight;
    if (s->in_flight) qr_stats_hash_plan(s); /* planning an idle scheduler changes nothing */
    return &s->plan;
}
