/* Pause and resume: a request whose reader is slow gives up its slots and keeps its blocks while nobody needs them. */
#include "base/bits.h"
#include "scheduler/state.h"

static bool leads_group(const qr_scheduler *s, uint32_t record)
{
    return qr_request_of(s, record)->first == record || !qr_is_beam(s, &s->sequences[record]);
}

void qr_request_pause(qr_scheduler *s, uint32_t request)
{
    for (uint32_t m = s->requests[request].first; m != QR_NONE; m = s->sequences[m].sibling) {
        const qr_sequence_state state = s->sequences[m].state;
        if (!leads_group(s, m) || (state != QR_SEQUENCE_RUNNING && state != QR_SEQUENCE_PREEMPTED)) continue;
        if (s->sequences[m].suspect) qr_fault_forget(s, m);
        qr_group_move(s, m, QR_SEQUENCE_PAUSED);
        qr_note_wait(s, m, QUIRE_WAIT_READER, 0);
    }
}

static bool is_in_flight(const qr_scheduler *s, uint32_t request)
{
    for (uint32_t m = s->requests[request].first; m != QR_NONE; m = s->sequences[m].sibling)
        if (s->in_flight && s->sequences[m].entry != QR_NONE) return true;
    return false;
}

quire_status qr_scheduler_pause(qr_scheduler *s, quire_request_id id, uint64_t now_ns)
{
    const uint32_t request = qr_request_find(s, id);
    if (request == QR_NONE) return QUIRE_ERR_NOT_FOUND;
    s->now_ns = qr_max_u64(s->now_ns, now_ns);
    if (is_in_flight(s, request))
        s->requests[request].pause_wanted = true;
    else
        qr_request_pause(s, request);
    return QUIRE_OK;
}

quire_status qr_scheduler_resume(qr_scheduler *s, quire_request_id id, uint64_t now_ns)
{
    const uint32_t request = qr_request_find(s, id);
    if (request == QR_NONE) return QUIRE_ERR_NOT_FOUND;
    s->now_ns                         = qr_max_u64(s->now_ns, now_ns);
    s->requests[request].pause_wanted = false;
    for (uint32_t m = s->requests[request].first; m != QR_NONE; m = s->sequences[m].sibling) {
        if (s->sequences[m].state != QR_SEQUENCE_PAUSED || !leads_group(s, m)) continue;
        qr_group_move(s, m, QR_SEQUENCE_PREEMPTED);
        qr_note_wait(s, m, QUIRE_WAIT_ORDER, 0);
    }
    return QUIRE_OK;
}
