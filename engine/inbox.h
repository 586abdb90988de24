/* Requests and cancels on their way to the scheduler: a bounded queue of copies, filled by any thread, emptied by the
 * driver at the start of each step.
 *
 *   queued = what the scheduler last reported waiting + what is still here;  submit keeps it within the limits */
#ifndef QR_ENGINE_INBOX_H
#define QR_ENGINE_INBOX_H

#include "engine/ledger.h"

typedef struct qr_message {
    quire_request request; /* pointers into the byte ring; user_data is the qr_record */
    qr_record    *record;  /* NULL: cancelled meanwhile, to be skipped */
    uint32_t      places, tokens;
    size_t        byte_start, byte_end;
} qr_message;

typedef struct qr_inbox_limits {
    uint32_t requests, tokens; /* queued: places, prompt and encoder tokens */
    uint32_t logits_slots;     /* of the outbox */
    uint32_t tokens_per_step;  /* of one sequence: 1 + drafts */
} qr_inbox_limits;

typedef struct qr_inbox {
    qr_ledger      *ledger;
    qr_inbox_limits limits;
    qr_message     *messages; /* ring [message_capacity] */
    uint32_t        message_capacity, head, count;
    char           *bytes; /* ring of the messages' arrays, each message contiguous */
    size_t          byte_capacity, byte_head, byte_tail;
    uint32_t        pending_requests, pending_tokens;     /* here */
    uint32_t        scheduler_requests, scheduler_tokens; /* as last reported */
    uint64_t        submitted, refused;
    bool            flush_cache;
} qr_inbox;

void qr_inbox_layout(qr_inbox *inbox, qr_arena *arena, const qr_inbox_limits *limits);
void qr_inbox_init(qr_inbox *inbox, qr_ledger *ledger);

/* Copies a valid request. ERR_FULL: a limit is reached, or nobody takes the events of finished requests; the message
 * says which. Thread: any. */
quire_status qr_inbox_submit(qr_inbox *inbox, const quire_request *request, uint64_t now_ns, quire_request_id *id_out,
                             quire_error *error);

/* ERR_NOT_FOUND: never submitted or ended. Thread: any. */
quire_status qr_inbox_cancel(qr_inbox *inbox, quire_request_id id);
void         qr_inbox_flush_cache(qr_inbox *inbox);   /* Thread: any */
void         qr_inbox_count_refusal(qr_inbox *inbox); /* Thread: any */

/* ---- Thread: the driver, ledger locked; what peek returned stays valid unlocked until pop ---- */

qr_message *qr_inbox_peek(qr_inbox *inbox); /* oldest that is not cancelled, or NULL */
void        qr_inbox_pop(qr_inbox *inbox);
void        qr_inbox_forget(qr_inbox *inbox, qr_record *record); /* a cancelled PENDING record: skip its message */
void        qr_inbox_report(qr_inbox *inbox, uint32_t scheduler_requests, uint32_t scheduler_tokens);

#endif
