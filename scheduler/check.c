/* qr_scheduler_check: counts again all that the scheduler keeps count of, then has the cache do the same. */
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/check.h"
#include "scheduler/state.h"

static const char *check_list(const qr_scheduler *s, const qr_list *list, qr_sequence_state state, bool ranked)
{
    uint32_t previous = QR_NONE;
    for (uint32_t g = list->head; g != QR_NONE; g = s->sequences[g].link.next) {
        const qr_sequence *q = &s->sequences[g];
        QR_RULE(q->state == state, "S1: a list has a group of another state");
        QR_RULE(q->link.prev == previous, "S1: next and prev of a list disagree");
        QR_RULE(!ranked || previous == QR_NONE || qr_rank_before(&s->sequences[previous].rank, &q->rank),
                "S2: RUNNING is not sorted by rank");
        QR_RULE(s->seen[g]++ == 0, "S1: a group is in two lists");
        previous = g;
    }
    QR_RULE(list->tail == previous, "S1: a list's tail is wrong");
    return NULL;
}

static const char *check_heaps(const qr_scheduler *s)
{
    uint64_t waiting = 0;
    for (uint32_t t = 0; t < s->tenant_count; t++) {
        const qr_tenant *tenant = &s->tenants[t];
        QR_RULE(qr_heap_check(&tenant->heap), "S3: a tenant's heap is out of order");
        QR_RULE(tenant->heap.count == tenant->waiting, "S3: a tenant's heap misses a group");
        for (uint32_t i = 0; i < tenant->heap.count; i++) {
            const uint32_t     group = tenant->heap.nodes[i].item;
            const qr_sequence *q     = &s->sequences[group];
            QR_RULE(q->state == QR_SEQUENCE_QUEUED || q->state == QR_SEQUENCE_PREEMPTED,
                    "S3: a heap has a group that does not wait");
            QR_RULE(s->requests[q->request].tenant == t, "S3: a group is in another tenant's heap");
            QR_RULE(q->state == QR_SEQUENCE_PREEMPTED || s->seen[group]++ == 0, "S1: a group is in two lists");
        }
        waiting += tenant->waiting;
    }
    QR_RULE(waiting == s->waiting_groups, "S3: waiting groups are miscounted");
    QR_RULE(qr_heap_check(&s->deadlines), "S3: the heap of deadlines is out of order");
    return NULL;
}

static const char *check_sequence(const qr_scheduler *s, const qr_sequence *q)
{
    const qr_request *r = &s->requests[q->request];
    QR_RULE(q->length >= r->stored.prompt_count && q->length <= s->options.max_model_len,
            "S4: a length is out of range");
    QR_RULE(q->computed < q->length, "S4: nothing is left to do for a live sequence");
    QR_RULE(q->state != QR_SEQUENCE_QUEUED || (q->self.count == 0 && q->cross.count == 0),
            "S5: a QUEUED sequence holds blocks");
    QR_RULE(q->self.running == (q->state == QR_SEQUENCE_RUNNING), "S5: a table's state is not its sequence's");
    QR_RULE(!s->options.encoder_decoder || q->self.count == 0 || s->sequences[r->first].cross.count > 0 ||
                q->cross.count > 0,
            "S5: self blocks without cross blocks");
    QR_RULE(q->length - r->stored.prompt_count <= r->stored.max_tokens, "S4: more than max_tokens");
    return NULL;
}

static const char *check_groups(const qr_scheduler *s)
{
    uint32_t slots[QR_SEQUENCE_STATES] = {0};
    uint64_t tokens = 0, promised = 0;
    for (uint32_t i = 0; i < s->record_count; i++) {
        const qr_sequence *q = &s->sequences[i];
        if (q->state == QR_SEQUENCE_NONE || q->state == QR_SEQUENCE_DONE) continue;
        const qr_request *r     = &s->requests[q->request];
        const bool        leads = !qr_is_beam(s, q) || r->first == i;
        if (q->state != QR_SEQUENCE_RETIRING) QR_CHECK(check_sequence(s, q));
        if (!leads) {
            const qr_sequence *first = &s->sequences[r->first];
            QR_RULE(q->state == first->state && q->length == first->length && q->computed == first->computed,
                    "S6: beams of a search differ in state or length");
            continue;
        }
        QR_RULE(s->seen[i] == (q->state != QR_SEQUENCE_RETIRING),
                "S1: a live group is in no list, or a retiring one is");
        slots[q->state] += q->slots;
        if (q->state == QR_SEQUENCE_QUEUED || q->state == QR_SEQUENCE_PREEMPTED || q->state == QR_SEQUENCE_PAUSED)
            tokens += (uint64_t)r->stored.prompt_count + r->stored.encoder_count;
    }
    for (uint32_t i = QR_SEQUENCE_QUEUED; i < QR_SEQUENCE_RETIRING; i++)
        QR_RULE(slots[i] == s->slots[i], "S7: a state's slots are miscounted");
    QR_RULE(tokens == s->queued_tokens, "S7: queued tokens are miscounted");
    QR_RULE(slots[QR_SEQUENCE_RUNNING] <= s->options.max_num_seqs, "S7: more slots than max_num_seqs");
    for (uint32_t i = 0; i < s->record_count; i++)
        if (s->requests[i].admitted) promised += s->requests[i].promised_blocks;
    QR_RULE(promised == s->promised_blocks, "S7: promised blocks are miscounted");
    return NULL;
}

static const char *check_plan(const qr_scheduler *s)
{
    const quire_plan *p    = &s->plan;
    uint32_t          rows = 0;
    QR_RULE(s->in_flight || s->planned_count == 0, "S8: groups are planned, but no step is in flight");
    if (!s->in_flight) return NULL;
    for (uint32_t i = 0; i < p->sequence_count; i++) {
        const quire_plan_sequence *e = &p->sequences[i];
        const qr_sequence         *q = &s->sequences[s->arrays.sequence_records[i]];
        QR_RULE(e->row_start == rows && e->row_count > e->drafts, "S8: an entry's rows are wrong");
        rows += e->row_count;
        QR_RULE(q->state == QR_SEQUENCE_RUNNING || q->state == QR_SEQUENCE_RETIRING,
                "S8: a planned sequence is not RUNNING");
        QR_RULE(e->position == q->computed, "S8: an entry does not start where computed ends");
    }
    QR_RULE(rows == p->rows && rows <= s->options.max_num_batched_tokens, "S8: more rows than max_num_batched_tokens");
    QR_RULE(p->rows_encoder <= s->options.max_num_encoder_input_tokens, "S8: more encoder tokens than allowed");
    return NULL;
}

static uint32_t planned_rows(const qr_scheduler *s, uint32_t record)
{
    const qr_sequence *q     = &s->sequences[record];
    const uint32_t     first = s->requests[q->request].first;
    const qr_sequence *g     = qr_is_beam(s, q) ? &s->sequences[first] : q;
    return s->in_flight && g->entry != QR_NONE ? g->rows : 0;
}

static uint32_t copy_for_walker(const quire_plan_copy *from, uint32_t count, qr_block_copy *to)
{
    for (uint32_t i = 0; i < count; i++) to[i] = (qr_block_copy){from[i].from, from[i].to, from[i].slots};
    return count;
}

static const char *check_cache(const qr_scheduler *s)
{
    qr_cache_holders holders = {.tables = s->holders, .copies = s->copies, .local_copies = s->local_copies};
    for (uint32_t i = 0; i < s->record_count; i++) {
        const qr_sequence *q = &s->sequences[i];
        if (q->state == QR_SEQUENCE_NONE) continue;
        const uint32_t encoder = s->requests[q->request].stored.encoder_count;
        if (q->self.count > 0)
            s->holders[holders.table_count++] =
                (qr_cache_holder){&q->self, q->computed, q->computed + planned_rows(s, i), s->options.window};
        if (q->cross.count > 0)
            s->holders[holders.table_count++] = (qr_cache_holder){&q->cross, q->cross_written ? encoder : 0,
                                                                  q->cross_written || q->encodes ? encoder : 0, 0};
    }
    holders.copy_count       = copy_for_walker(s->plan.copies, s->plan.copy_count, s->copies);
    holders.local_copy_count = copy_for_walker(s->plan.local_copies, s->plan.local_copy_count, s->local_copies);
    return qr_cache_check(&s->cache, &holders);
}

const char *qr_scheduler_check(const qr_scheduler *s)
{
    memset(s->seen, 0, s->record_count);
    QR_CHECK(check_list(s, &s->running, QR_SEQUENCE_RUNNING, true));
    QR_CHECK(check_list(s, &s->preempted, QR_SEQUENCE_PREEMPTED, false));
    QR_CHECK(check_list(s, &s->paused, QR_SEQUENCE_PAUSED, false));
    QR_CHECK(check_heaps(s));
    QR_CHECK(check_groups(s));
    QR_CHECK(check_plan(s));
    return check_cache(s);
}

#ifdef QR_DEBUG
void qr_scheduler_debug_check(const qr_scheduler *s)
{
    const char *violation = qr_scheduler_check(s);
    if (violation != NULL) qr_assert_failed(violation, __FILE__, __LINE__);
}
#endif
