/* The ring of events, what each request has unread in it, and who is held back for that. */
#include "engine/outbox.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"

_Static_assert(sizeof(quire_event) == 64, "an event is 64 bytes, frozen");

enum { TOKENS_PER_SEQUENCE = 128 }; /* in the ring, for each that can run at once */

void qr_outbox_layout(qr_outbox *outbox, qr_arena *arena, const qr_outbox_limits *limits, qr_ledger *ledger)
{
    const uint32_t per_sequence = qr_max_u32(TOKENS_PER_SEQUENCE, 4 * limits->tokens_per_step);
    outbox->ledger              = ledger;
    outbox->limits              = *limits;
    outbox->hold_above          = per_sequence / 2;
    outbox->token_capacity      = limits->max_sequences * per_sequence + limits->given_per_step;
    outbox->slot_count          = outbox->token_capacity + ledger->finish_capacity;
    outbox->slots               = QR_ARENA_TAKE(arena, qr_outbox_slot, outbox->slot_count);
    outbox->logits              = qr_arena_take(arena, limits->logits_slots, limits->vocab_size * sizeof(float));
    outbox->logits_free         = QR_ARENA_TAKE(arena, uint32_t, limits->logits_slots);
}

quire_status qr_outbox_init(qr_outbox *outbox, quire_error *error)
{
    QR_TRY(qr_event_fd_create(&outbox->event_fd, error));
    outbox->ready             = true;
    outbox->logits_free_count = outbox->limits.logits_slots;
    for (uint32_t i = 0; i < outbox->logits_free_count; i++) outbox->logits_free[i] = i;
    return QUIRE_OK;
}

void qr_outbox_deinit(qr_outbox *outbox)
{
    if (!outbox->ready) return;
    close(outbox->event_fd);
    outbox->ready = false;
}

static qr_outbox_slot *slot_at(qr_outbox *outbox, uint64_t position)
{
    return &outbox->slots[position % outbox->slot_count];
}

/* ---- putting ---- */

static bool ring_is_full(const qr_outbox *outbox) { return outbox->head - outbox->released == outbox->slot_count; }

quire_event qr_event_of(const qr_scheduler_event *event, void *user_data, uint64_t time_ns)
{
    return (quire_event){.request   = event->id,
                         .user_data = user_data,
                         .time_ns   = time_ns,
                         .kind      = event->kind,
                         .token     = event->token,
                         .index     = event->index,
                         .logprob   = event->logprob,
                         .finish    = event->finish,
                         .status    = event->status,
                         .last      = event->last,
                         .sequence  = event->sequence_index};
}

static qr_outbox_slot *next_slot(qr_outbox *outbox, qr_record *record, const qr_scheduler_event *event, uint64_t now_ns)
{
    qr_outbox_slot *slot = slot_at(outbox, outbox->head++);
    slot->record         = qr_ledger_index(outbox->ledger, record);
    slot->logits         = QR_NO_LOGITS;
    slot->event          = qr_event_of(event, record->user_data, now_ns);
    return slot;
}

static void copy_logits(qr_outbox *outbox, qr_outbox_slot *slot, const float *logits)
{
    const size_t vocab = outbox->limits.vocab_size;
    slot->logits       = outbox->logits_free[--outbox->logits_free_count];
    float *copy        = outbox->logits + slot->logits * vocab;
    memcpy(copy, logits, vocab * sizeof(float));
    slot->u.token.detail.logits = copy;
}

static void fill_detail(qr_outbox *outbox, qr_outbox_slot *slot, const qr_token_extra *extra)
{
    const uint32_t count = qr_min_u32(extra->top_count, QUIRE_MAX_LOGPROBS);
    if (extra->logits == NULL && count == 0) return;
    slot->u.token.detail = (quire_token_detail){.size         = sizeof(quire_token_detail),
                                                .top_count    = count,
                                                .top_tokens   = slot->u.token.top_tokens,
                                                .top_logprobs = slot->u.token.top_logprobs};
    if (count > 0) {
        memcpy(slot->u.token.top_tokens, extra->top_tokens, count * sizeof(int32_t));
        memcpy(slot->u.token.top_logprobs, extra->top_logprobs, count * sizeof(float));
    }
    if (extra->logits != NULL) copy_logits(outbox, slot, extra->logits);
    slot->event.detail = &slot->u.token.detail;
}

/* One of `wants` is no longer due. */
static void stop_wanting_logits(qr_outbox *outbox, qr_record *record, uint32_t wants)
{
    if (record->logits == 0) return;
    record->logits &= ~wants;
    if ((record->logits & (QUIRE_LOGITS_FIRST | QUIRE_LOGITS_ALL)) == 0) record->logits_per_step = 0;
    if (record->logits == 0) outbox->logits_wanted--;
}

static void note_token(qr_outbox *outbox, qr_record *record, uint32_t index, uint64_t now_ns)
{
    outbox->tokens++;
    if (record->unread++ == 0) record->read_ns = now_ns;
    if (record->unread >= outbox->hold_above * record->sequences) outbox->crossed = true;
    if (index == 0 && record->firsts_due > 0) record->firsts_due--;
    if (record->firsts_due == 0) stop_wanting_logits(outbox, record, QUIRE_LOGITS_FIRST);
}

bool qr_outbox_put_token(qr_outbox *outbox, const qr_scheduler_event *event, const qr_token_extra *extra,
                         uint64_t now_ns)
{
    qr_record *record = event->user_data;
    if (outbox->tokens == outbox->token_capacity || ring_is_full(outbox)) return false;
    if (extra->logits != NULL && outbox->logits_free_count == 0) return false;
    fill_detail(outbox, next_slot(outbox, record, event, now_ns), extra);
    note_token(outbox, record, event->index, now_ns);
    return true;
}

static void end_record(qr_outbox *outbox, qr_record *record)
{
    stop_wanting_logits(outbox, record, UINT32_MAX);
    if (record->holds != 0) outbox->held--;
    record->holds = 0;
    record->state = QR_RECORD_ENDED;
}

static void put_end(qr_outbox *outbox, qr_record *record, const qr_scheduler_event *event, uint64_t now_ns)
{
    qr_outbox_slot *slot = next_slot(outbox, record, event, now_ns);
    slot->u.finish       = event->detail;
    slot->event.detail   = &slot->u.finish;
    if (event->last) end_record(outbox, record);
}

bool qr_outbox_put_finished(qr_outbox *outbox, const qr_scheduler_event *event, uint64_t now_ns)
{
    if (ring_is_full(outbox)) return false;
    put_end(outbox, event->user_data, event, now_ns);
    return true;
}

void qr_outbox_end_unstarted(qr_outbox *outbox, qr_record *record, quire_finish finish, quire_status status,
                             uint64_t now_ns)
{
    qr_ledger_make_live(outbox->ledger, record);
    record->logits_per_step  = 0;
    qr_scheduler_event event = {.id = record->id, .kind = QUIRE_EVENT_FINISHED, .finish = finish, .status = status};
    event.detail.size        = sizeof event.detail;
    event.detail.submit_ns   = record->arrival_ns;
    event.detail.finish_ns   = now_ns;
    event.detail.wait_ns[QUIRE_WAIT_ORDER] = now_ns - record->arrival_ns;
    for (uint32_t i = 0; i < record->sequences; i++) {
        event.sequence_index = i;
        event.last           = i + 1 == record->sequences;
        qr_assert(!ring_is_full(outbox)); /* reserved at submit */
        put_end(outbox, record, &event, now_ns);
    }
}

/* Places that the reader has seen come back with its next poll. When somebody waits for them the descriptor calls for
 * that poll, though it may return nothing: a reader that sleeps on the descriptor would else never give them back. */
static bool needs_slots_back(const qr_outbox *outbox, bool waiting)
{
    return (waiting || outbox->stuck || outbox->held > 0) && outbox->released < outbox->tail;
}

void qr_outbox_signal(qr_outbox *outbox, bool waiting)
{
    if (outbox->head == outbox->tail && !needs_slots_back(outbox, waiting)) return;
    const ssize_t written = write(outbox->event_fd, &(uint64_t){1}, sizeof(uint64_t)); /* fails only when readable */
    (void)written;
}

bool qr_outbox_has_room(qr_outbox *outbox)
{
    const qr_outbox_limits *limits = &outbox->limits;
    const uint32_t          step   = limits->max_sequences * limits->tokens_per_step + limits->given_per_step;
    outbox->stuck                  = outbox->token_capacity - outbox->tokens < step;
    return !outbox->stuck;
}

/* ---- reading ---- */

static void release_slot(qr_outbox *outbox, const qr_outbox_slot *slot, uint64_t now_ns)
{
    qr_record *record = &outbox->ledger->records[slot->record];
    record->read_ns   = now_ns;
    if (slot->event.kind != QUIRE_EVENT_FINISHED) {
        outbox->tokens--;
        record->unread--;
    } else if (slot->event.last) {
        qr_ledger_close(outbox->ledger, record);
    }
    if (slot->logits != QR_NO_LOGITS) outbox->logits_free[outbox->logits_free_count++] = slot->logits;
}

/* The details of the last poll are the engine's again. */
static void release_read_slots(qr_outbox *outbox, uint64_t now_ns)
{
    const bool any = outbox->released < outbox->tail;
    for (; outbox->released < outbox->tail; outbox->released++)
        release_slot(outbox, slot_at(outbox, outbox->released), now_ns);
    if (any) qr_ledger_wake(outbox->ledger);
}

static void unsignal(qr_outbox *outbox)
{
    uint64_t      count;
    const ssize_t got = read(outbox->event_fd, &count, sizeof count); /* EAGAIN: was not signalled */
    (void)got;
}

size_t qr_outbox_poll(qr_outbox *outbox, quire_event *events, size_t capacity, uint64_t now_ns)
{
    size_t count = 0;
    qr_ledger_lock(outbox->ledger);
    release_read_slots(outbox, now_ns);
    while (count < capacity && outbox->tail < outbox->head) events[count++] = slot_at(outbox, outbox->tail++)->event;
    if (outbox->tail == outbox->head) unsignal(outbox);
    qr_ledger_unlock(outbox->ledger);
    return count;
}

bool qr_outbox_sleep(qr_outbox *outbox, uint64_t until_ns)
{
    const uint64_t now = qr_now_ns();
    if (now >= until_ns) return false;
    const struct timespec left  = {.tv_sec  = (time_t)((until_ns - now) / 1000000000),
                                   .tv_nsec = (long)((until_ns - now) % 1000000000)};
    struct pollfd         ready = {.fd = outbox->event_fd, .events = POLLIN};
    ppoll(&ready, 1, until_ns == UINT64_MAX ? NULL : &left, NULL);
    return true;
}

/* ---- holding back ---- */

void qr_outbox_make_live(qr_outbox *outbox, qr_record *record)
{
    qr_ledger_make_live(outbox->ledger, record);
    if (record->logits != 0) outbox->logits_wanted++;
}

static bool too_much_unread(const qr_outbox *outbox, const qr_record *record)
{
    const uint32_t limit = outbox->hold_above * record->sequences;
    return record->unread >= limit || (record->holds & QR_HOLD_UNREAD && record->unread > limit / 2);
}

static bool timed_out(const qr_outbox *outbox, const qr_record *record, uint64_t now_ns)
{
    return record->unread > 0 && (record->holds != 0 || outbox->stuck) && !record->failed && now_ns > record->read_ns &&
           now_ns - record->read_ns > outbox->limits.consumer_timeout_ns;
}

/* *logits_left: slots not yet promised to an older request. For the last token's logits nothing is promised, since
 * which token that is shows late: such a request only stands still while there is no slot at all. */
static uint32_t holds_of(const qr_outbox *outbox, const qr_record *record, uint32_t *logits_left)
{
    uint32_t holds = too_much_unread(outbox, record) ? QR_HOLD_UNREAD : 0;
    if (record->logits != 0 && (*logits_left == 0 || record->logits_per_step > *logits_left))
        holds |= QR_HOLD_LOGITS;
    else if (holds == 0)
        *logits_left -= record->logits_per_step;
    return holds;
}

/* A pause reaches only sequences that have started, so it is repeated while the hold lasts. */
static void set_holds(qr_outbox *outbox, qr_record *record, uint32_t holds, qr_apply_change *apply, void *context)
{
    const bool was_held = record->holds != 0, is_held = holds != 0;
    record->holds = holds;
    if (is_held) {
        outbox->held += !was_held;
        apply(context, record->id, QR_PAUSE);
    } else if (was_held) {
        outbox->held--;
        apply(context, record->id, QR_RESUME);
    }
}

void qr_outbox_regulate(qr_outbox *outbox, uint64_t now_ns, qr_apply_change *apply, void *context)
{
    if (!outbox->crossed && !outbox->stuck && outbox->held == 0 && outbox->logits_wanted == 0) return;
    outbox->crossed      = false;
    uint32_t logits_left = outbox->logits_free_count;
    for (uint32_t i = outbox->ledger->live.head; i != QR_NO_RECORD; i = outbox->ledger->records[i].link.next) {
        qr_record *record = &outbox->ledger->records[i];
        if (record->state != QR_RECORD_LIVE || record->failed) continue;
        set_holds(outbox, record, holds_of(outbox, record, &logits_left), apply, context);
        if (!timed_out(outbox, record, now_ns)) continue;
        record->failed = true;
        apply(context, record->id, QR_FAIL);
    }
}
