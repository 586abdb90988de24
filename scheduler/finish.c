/* How a request ends, by itself or from outside, and when its records are free again. */
#include <string.h>

#include "base/bits.h"
#include "scheduler/state.h"

void qr_copy_history(qr_scheduler *s, uint32_t from, uint32_t to)
{
    const qr_sequence *a = &s->sequences[from];
    qr_sequence       *b = &s->sequences[to];
    b->length = a->length, b->since_ns = a->since_ns, b->preemptions = a->preemptions;
    b->recomputed    = a->recomputed;
    b->cached_tokens = a->cached_tokens, b->encoder_shared = a->encoder_shared;
    b->first_planned_ns = a->first_planned_ns, b->prompt_done_ns = a->prompt_done_ns;
    memcpy(b->preemption_intervals, a->preemption_intervals, sizeof b->preemption_intervals);
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) b->wait_ns[i] = a->wait_ns[i];
}

void qr_request_forget(qr_scheduler *s, uint32_t request)
{
    if (s->deadlines.index_of[request] != QR_NONE) qr_heap_remove(&s->deadlines, request);
    s->stats.requests_finished++;
}

static void emit_ends(qr_scheduler *s, uint32_t group, quire_finish finish, quire_status status)
{
    qr_request *r     = qr_request_of(s, group);
    const bool  whole = !r->forked || qr_is_beam(s, &s->sequences[group]);
    if (!whole) {
        r->live--;
        qr_emit_finished(s, group, finish, status, 0);
        return;
    }
    uint32_t record = r->first;
    for (uint32_t i = 0; i < r->stored.n; i++, record = s->sequences[record].sibling) {
        if (record != group) qr_copy_history(s, group, record);
        r->live--;
        qr_emit_finished(s, record, finish, status, 0);
    }
}

void qr_group_finish(qr_scheduler *s, uint32_t group, quire_finish finish, quire_status status)
{
    qr_sequence   *g         = &s->sequences[group];
    const uint32_t request   = g->request;
    const bool     in_flight = s->in_flight && g->entry != QR_NONE;
    if (g->suspect) qr_fault_forget(s, group);
    const bool runs = g->reason == QUIRE_WAIT_NONE;
    qr_note_wait(s, group, runs ? QUIRE_WAIT_ORDER : QUIRE_WAIT_NONE, 0); /* another reason: closes the interval */
    qr_group_move(s, group, in_flight ? QR_SEQUENCE_RETIRING : QR_SEQUENCE_DONE);
    if (!in_flight) qr_group_release_blocks(s, group);
    emit_ends(s, group, finish, status);
    if (s->requests[request].live == 0) qr_request_forget(s, request);
    if (!in_flight) qr_request_close(s, request);
}

void qr_request_finish(qr_scheduler *s, uint32_t request, quire_finish finish, quire_status status)
{
    uint32_t next = QR_NONE;
    for (uint32_t record = s->requests[request].first; record != QR_NONE && s->requests[request].live > 0;
         record          = next) {
        next                          = s->sequences[record].sibling;
        const qr_sequence_state state = s->sequences[record].state;
        if (state != QR_SEQUENCE_NONE && state != QR_SEQUENCE_RETIRING && state != QR_SEQUENCE_DONE)
            qr_group_finish(s, record, finish, status);
    }
}

void qr_request_close(qr_scheduler *s, uint32_t request)
{
    qr_request *r = &s->requests[request];
    if (r->live > 0) return;
    for (uint32_t record = r->first; record != QR_NONE; record = s->sequences[record].sibling)
        if (s->sequences[record].state == QR_SEQUENCE_RETIRING) return;
    if (r->admitted) s->promised_blocks -= r->promised_blocks;
    r->promised_blocks = 0;
    qr_tenant_request_closed(s, r->tenant);
    s->done_requests[s->done_count++] = request;
    s->live_requests--;
}

static quire_status end_request(qr_scheduler *s, quire_request_id id, quire_finish finish, quire_status status,
                                uint64_t now_ns)
{
    const uint32_t request = qr_request_find(s, id);
    if (request == QR_NONE) return QUIRE_ERR_NOT_FOUND;
    s->now_ns = qr_max_u64(s->now_ns, now_ns);
    qr_request_finish(s, request, finish, status);
    return QUIRE_OK;
}

quire_status qr_scheduler_cancel(qr_scheduler *s, quire_request_id id, uint64_t now_ns)
{
    return end_request(s, id, QUIRE_FINISH_CANCELLED, QUIRE_OK, now_ns);
}

void qr_scheduler_fail(qr_scheduler *s, quire_request_id id, quire_status status, uint64_t now_ns)
{
    (void)end_request(s, id, QUIRE_FINISH_ERROR, status, now_ns);
}
