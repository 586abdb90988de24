/* Events: tokens and ends, in order, until the caller clears them; then records of requests that ended are free. */
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/bits.h"
#include "scheduler/state.h"

enum {
    KEPT_BYTES = 64 * 1024, /* of a record's tokens that stay resident when it is freed */
    PAGE_BYTES = 4096,
};

static qr_scheduler_event *next_event(qr_scheduler *s, uint32_t request)
{
    qr_assert(s->event_count < s->event_capacity); /* the caller takes events after each commit */
    qr_scheduler_event *event = &s->events[s->event_count++];
    *event = (qr_scheduler_event){.id = s->requests[request].id, .user_data = s->requests[request].stored.user_data};
    return event;
}

static void put_token(qr_scheduler *s, uint32_t record, quire_event_kind kind, int32_t token, uint32_t index,
                      float logprob, uint32_t sample)
{
    const qr_sequence  *q     = &s->sequences[record];
    qr_scheduler_event *event = next_event(s, q->request);
    event->kind               = kind;
    event->sequence_index     = q->index;
    event->token              = token;
    event->index              = index;
    event->logprob            = logprob;
    event->sample             = sample;
}

void qr_emit_token(qr_scheduler *s, uint32_t record, int32_t token, uint32_t index, float logprob, uint32_t sample)
{
    put_token(s, record, QUIRE_EVENT_TOKEN, token, index, logprob, sample);
    s->sequences[record].delivered++;
    s->stats.tokens_output++;
}

void qr_emit_prompt_token(qr_scheduler *s, uint32_t record, uint32_t index, float logprob, uint32_t sample)
{
    put_token(s, record, QUIRE_EVENT_PROMPT, qr_tokens(s, record)[index], index, logprob, sample);
}

void qr_emit_finished(qr_scheduler *s, uint32_t record, quire_finish finish, quire_status status, float score)
{
    const qr_sequence   *q     = &s->sequences[record];
    const qr_request    *r     = &s->requests[q->request];
    qr_scheduler_event  *event = next_event(s, q->request);
    quire_finish_detail *d     = &event->detail;
    event->kind                = QUIRE_EVENT_FINISHED;
    event->sequence_index      = q->index;
    event->sample              = UINT32_MAX;
    event->finish              = finish;
    event->status              = status;
    event->last                = r->live == 0; /* counted down before */
    *d                         = (quire_finish_detail){.size              = sizeof *d,
                                                       .prompt_tokens     = r->stored.prompt_count,
                                                       .encoder_tokens    = r->stored.encoder_count,
                                                       .cached_tokens     = q->cached_tokens,
                                                       .output_tokens     = q->delivered,
                                                       .preemptions       = q->preemptions,
                                                       .encoder_shared    = q->encoder_shared,
                                                       .score             = score,
                                                       .submit_ns         = r->arrival_ns,
                                                       .first_planned_ns  = q->first_planned_ns,
                                                       .prompt_done_ns    = q->prompt_done_ns,
                                                       .first_token_ns    = q->first_token_ns,
                                                       .finish_ns         = qr_max_u64(s->now_ns, q->since_ns),
                                                       .recomputed_tokens = q->recomputed,
                                                       .drafts            = q->drafted,
                                                       .drafts_accepted   = q->accepted};
    for (uint32_t i = 0; i < QUIRE_WAIT_REASONS; i++) d->wait_ns[i] = q->wait_ns[i];
    memcpy(d->preemption_intervals, q->preemption_intervals, sizeof d->preemption_intervals);
    for (uint32_t i = 0; i < QUIRE_KEPT_PREEMPTIONS; i++) /* one that never ended */
        if (d->preemption_intervals[i].from_ns > d->preemption_intervals[i].to_ns)
            d->preemption_intervals[i].to_ns = d->finish_ns;
    s->stats.finished_by[finish]++;
}

const qr_scheduler_event *qr_scheduler_events(const qr_scheduler *s, uint32_t *count_out)
{
    *count_out = s->event_count;
    return s->events;
}

/* Returns the pages of a long sequence to the system. */
static void discard_tokens(const qr_scheduler *s, uint32_t record)
{
    const size_t bytes = s->token_stride * sizeof(int32_t);
    if (bytes <= KEPT_BYTES || s->sequences[record].length * sizeof(int32_t) <= KEPT_BYTES) return;
    const uintptr_t first = (uintptr_t)qr_tokens(s, record) + KEPT_BYTES, end = (uintptr_t)qr_tokens(s, record) + bytes;
    const uintptr_t from = qr_round_up(first, PAGE_BYTES), to = end / PAGE_BYTES * PAGE_BYTES;
    if (to > from) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

void qr_scheduler_release(qr_scheduler *s, uint32_t request)
{
    qr_id_map_remove(&s->ids, s->requests[request].id);
    s->requests[request].id = 0;
    for (uint32_t m = request; m != QR_NONE; m = s->sequences[m].sibling) {
        s->sequences[m].state                       = QR_SEQUENCE_NONE;
        s->free_sequences[s->free_sequence_count++] = m;
    }
}

static void free_request(qr_scheduler *s, uint32_t request)
{
    for (uint32_t m = request; m != QR_NONE; m = s->sequences[m].sibling) discard_tokens(s, m);
    qr_scheduler_release(s, request);
}

void qr_scheduler_events_clear(qr_scheduler *s)
{
    s->event_count = 0;
    while (s->done_count > 0) free_request(s, s->done_requests[--s->done_count]);
    s->hypothesis_room = QR_HYPOTHESIS_EVENTS;
    qr_beam_deliver(s);
}

uint32_t qr_scheduler_event_capacity(const qr_scheduler *s) { return s->event_capacity; }
