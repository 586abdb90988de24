/* The queue of copied requests. Arrays of a request go to one contiguous piece of a byte ring, in submit order. */
#include "engine/inbox.h"

#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"

enum {
    PIECE_ALIGNMENT = 8,
    /* the lists of one request at their limits: stop, logit_bias, allowed, banned, tenant, salt */
    LIST_BYTES = QUIRE_MAX_STOP_IDS * 4 + QUIRE_MAX_LOGIT_BIAS * 8 + QUIRE_MAX_LISTED_IDS * 8 + QUIRE_MAX_TENANT_NAME +
                 QUIRE_MAX_CACHE_SALT + 64,
    FULL_LISTS = 64, /* requests with lists at their limits that fit at once */
};

void qr_inbox_layout(qr_inbox *inbox, qr_arena *arena, const qr_inbox_limits *limits)
{
    inbox->limits           = *limits;
    inbox->message_capacity = limits->requests;
    inbox->byte_capacity    = (size_t)limits->tokens * sizeof(int32_t) + (size_t)LIST_BYTES * (FULL_LISTS + 1);
    inbox->messages         = QR_ARENA_TAKE(arena, qr_message, inbox->message_capacity);
    inbox->bytes            = QR_ARENA_TAKE(arena, char, inbox->byte_capacity);
}

void qr_inbox_init(qr_inbox *inbox, qr_ledger *ledger) { inbox->ledger = ledger; }

/* ---- copying ---- */

typedef struct piece {
    const void **field; /* of the copied request: the caller's array, then ours */
    size_t       bytes;
} piece;

enum { PIECES = 8 };

static void pieces_of(quire_request *request, piece pieces[PIECES])
{
    const size_t tenant = request->tenant ? strnlen(request->tenant, QUIRE_MAX_TENANT_NAME) : 0;
    const size_t salt   = request->cache_salt ? strnlen(request->cache_salt, QUIRE_MAX_CACHE_SALT) : 0;
    pieces[0]           = (piece){(const void **)&request->prompt, request->prompt_count * sizeof(int32_t)};
    pieces[1]           = (piece){(const void **)&request->encoder_input, request->encoder_count * sizeof(int32_t)};
    pieces[2]           = (piece){(const void **)&request->stop, request->stop_count * sizeof(int32_t)};
    pieces[3] = (piece){(const void **)&request->logit_bias, request->logit_bias_count * sizeof(quire_logit_bias)};
    pieces[4] = (piece){(const void **)&request->allowed, request->allowed_count * sizeof(int32_t)};
    pieces[5] = (piece){(const void **)&request->banned, request->banned_count * sizeof(int32_t)};
    pieces[6] = (piece){(const void **)&request->tenant, tenant};
    pieces[7] = (piece){(const void **)&request->cache_salt, salt};
}

static size_t room_of(const piece *part, bool is_string)
{
    return qr_round_up(part->bytes + (is_string ? 1 : 0), PIECE_ALIGNMENT);
}

static size_t payload_bytes(const quire_request *request)
{
    quire_request copy = *request;
    piece         pieces[PIECES];
    size_t        bytes = 0;
    pieces_of(&copy, pieces);
    for (int i = 0; i < PIECES; i++) bytes += room_of(&pieces[i], i >= 6);
    return bytes;
}

/* Copies the arrays of *request to `to` and points *request at the copies. Strings get their NUL. */
static void copy_payload(quire_request *request, char *to)
{
    piece pieces[PIECES];
    pieces_of(request, pieces);
    for (int i = 0; i < PIECES; i++) {
        const bool is_string = i >= 6;
        if (pieces[i].bytes > 0) memcpy(to, *pieces[i].field, pieces[i].bytes);
        if (is_string) to[pieces[i].bytes] = 0;
        *pieces[i].field = pieces[i].bytes > 0 ? to : NULL;
        to += room_of(&pieces[i], is_string);
    }
}

/* Start of a contiguous free piece, or SIZE_MAX. The ring is empty when head == tail, so it is never filled whole. */
static size_t find_room(const qr_inbox *inbox, size_t bytes)
{
    const size_t head = inbox->byte_head, tail = inbox->byte_tail;
    if (head < tail) return bytes < tail - head ? head : SIZE_MAX;
    if (bytes <= inbox->byte_capacity - head) return head;
    return bytes < tail ? 0 : SIZE_MAX;
}

/* ---- submit ---- */

static quire_status check_limits(const qr_inbox *inbox, uint32_t places, uint32_t tokens, size_t byte_start,
                                 quire_error *error)
{
    const uint64_t requests = (uint64_t)inbox->scheduler_requests + inbox->pending_requests;
    const uint64_t queued   = (uint64_t)inbox->scheduler_tokens + inbox->pending_tokens;
    if (requests + places > inbox->limits.requests || inbox->count == inbox->message_capacity)
        return qr_fail(error, QUIRE_ERR_FULL,
                       "queue: %llu sequences wait and %u more do not fit in max_num_queued_reqs %u",
                       (unsigned long long)requests, places, inbox->limits.requests);
    if (queued + tokens > inbox->limits.tokens)
        return qr_fail(error, QUIRE_ERR_FULL,
                       "queue: %llu tokens wait and %u more do not fit in max_num_queued_tokens %u",
                       (unsigned long long)queued, tokens, inbox->limits.tokens);
    if (byte_start == SIZE_MAX)
        return qr_fail(error, QUIRE_ERR_FULL, "queue: no room to copy the request until the next step");
    return QUIRE_OK;
}

static uint32_t logits_demand(const qr_inbox_limits *limits, const quire_request *request, uint32_t places)
{
    if ((request->logits & (QUIRE_LOGITS_FIRST | QUIRE_LOGITS_ALL)) == 0) return 0;
    const uint32_t tokens = request->logits & QUIRE_LOGITS_ALL ? limits->tokens_per_step : 1;
    return qr_min_u32(places * tokens, limits->logits_slots);
}

static void append(qr_inbox *inbox, qr_record *record, const quire_request *request, uint32_t places, uint32_t tokens,
                   size_t byte_start, size_t bytes)
{
    qr_message *message = &inbox->messages[(inbox->head + inbox->count) % inbox->message_capacity];
    *message            = (qr_message){.request    = *request,
                                       .record     = record,
                                       .places     = places,
                                       .tokens     = tokens,
                                       .byte_start = byte_start,
                                       .byte_end   = byte_start + bytes};
    copy_payload(&message->request, inbox->bytes + byte_start);
    message->request.user_data = record;
    inbox->byte_head           = byte_start + bytes;
    inbox->count++;
    inbox->pending_requests += places;
    inbox->pending_tokens += tokens;
    inbox->submitted++;
}

static quire_status submit_locked(qr_inbox *inbox, const quire_request *request, uint64_t now_ns,
                                  quire_request_id *id_out, quire_error *error)
{
    const uint32_t places = qr_max_u32(qr_max_u32(request->n, request->beam_width), 1);
    const uint32_t tokens = request->prompt_count + request->encoder_count;
    const size_t   bytes  = payload_bytes(request);
    const size_t   start  = find_room(inbox, bytes);
    QR_TRY(check_limits(inbox, places, tokens, start, error));
    qr_record *record = qr_ledger_open(inbox->ledger, places);
    if (record == NULL)
        return qr_fail(error, QUIRE_ERR_FULL, "queue: the ends of %u sequences are not read or not reached yet; poll",
                       inbox->ledger->finish_reserved);
    record->user_data       = request->user_data;
    record->arrival_ns      = now_ns;
    record->logits          = request->logits;
    record->logits_per_step = logits_demand(&inbox->limits, request, places);
    record->firsts_due      = places;
    append(inbox, record, request, places, tokens, start, bytes);
    *id_out = record->id;
    qr_ledger_wake(inbox->ledger);
    return QUIRE_OK;
}

quire_status qr_inbox_submit(qr_inbox *inbox, const quire_request *request, uint64_t now_ns, quire_request_id *id_out,
                             quire_error *error)
{
    qr_ledger_lock(inbox->ledger);
    const quire_status status = submit_locked(inbox, request, now_ns, id_out, error);
    if (status != QUIRE_OK) inbox->refused++;
    qr_ledger_unlock(inbox->ledger);
    return status;
}

void qr_inbox_count_refusal(qr_inbox *inbox)
{
    qr_ledger_lock(inbox->ledger);
    inbox->refused++;
    qr_ledger_unlock(inbox->ledger);
}

/* ---- cancel, flush ---- */

quire_status qr_inbox_cancel(qr_inbox *inbox, quire_request_id id)
{
    qr_ledger_lock(inbox->ledger);
    qr_record *record = qr_ledger_find(inbox->ledger, id);
    const bool found  = record != NULL && record->state != QR_RECORD_ENDED;
    if (found) qr_ledger_cancel(inbox->ledger, record);
    if (found) qr_ledger_wake(inbox->ledger);
    qr_ledger_unlock(inbox->ledger);
    return found ? QUIRE_OK : QUIRE_ERR_NOT_FOUND;
}

void qr_inbox_flush_cache(qr_inbox *inbox)
{
    qr_ledger_lock(inbox->ledger);
    inbox->flush_cache = true;
    qr_ledger_wake(inbox->ledger);
    qr_ledger_unlock(inbox->ledger);
}

/* ---- the driver's side ---- */

static qr_message *oldest(qr_inbox *inbox) { return &inbox->messages[inbox->head]; }

static void drop_oldest(qr_inbox *inbox)
{
    inbox->byte_tail = oldest(inbox)->byte_end;
    inbox->head      = (inbox->head + 1) % inbox->message_capacity;
    if (--inbox->count == 0) inbox->byte_head = inbox->byte_tail = 0;
}

qr_message *qr_inbox_peek(qr_inbox *inbox)
{
    while (inbox->count > 0 && oldest(inbox)->record == NULL) drop_oldest(inbox);
    return inbox->count > 0 ? oldest(inbox) : NULL;
}

void qr_inbox_pop(qr_inbox *inbox)
{
    qr_assert(inbox->count > 0);
    inbox->pending_requests -= oldest(inbox)->places;
    inbox->pending_tokens -= oldest(inbox)->tokens;
    drop_oldest(inbox);
}

void qr_inbox_forget(qr_inbox *inbox, qr_record *record)
{
    uint32_t i = 0;
    while (i < inbox->count && inbox->messages[(inbox->head + i) % inbox->message_capacity].record != record) i++;
    qr_assert(i < inbox->count); /* a PENDING record has a message */
    qr_message *message = &inbox->messages[(inbox->head + i) % inbox->message_capacity];
    inbox->pending_requests -= message->places;
    inbox->pending_tokens -= message->tokens;
    message->record = NULL;
}

void qr_inbox_report(qr_inbox *inbox, uint32_t scheduler_requests, uint32_t scheduler_tokens)
{
    inbox->scheduler_requests = scheduler_requests;
    inbox->scheduler_tokens   = scheduler_tokens;
}
