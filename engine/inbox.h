/* Requests and cancels on their way to the scheduler: any thread has the scheduler keep a request and lists its record
 * as PENDING; the driver lets them enter at the start of each step.
 *
 *   queued = what the scheduler last reported waiting + what is still here;  submit keeps it within the limits */
#ifndef QR_ENGINE_INBOX_H
#define QR_ENGINE_INBOX_H

#include "engine/ledger.h"
#include "scheduler/scheduler.h"

typedef struct qr_inbox {
    qr_ledger                  *ledger;
    qr_scheduler               *scheduler; /* its records and ids are looked at with the ledger locked */
    const qr_scheduler_options *limits;
    uint32_t                    logits_slots;                         /* of the outbox */
    uint32_t                    pending_requests, pending_tokens;     /* here */
    uint32_t                    scheduler_requests, scheduler_tokens; /* as last reported, and what entered since */
    uint64_t                    submitted, refused;
    bool                        flush_cache;
} qr_inbox;

/* Queues a resolved request. ERR_FULL: a limit is reached, or nobody takes the events of finished requests; the message
 * says which. Thread: any. */
quire_status qr_inbox_submit(qr_inbox *inbox, const quire_request *resolved, uint64_t now_ns, quire_request_id *id_out,
                             quire_error *error);

/* ERR_NOT_FOUND: never submitted or ended. Thread: any. */
quire_status qr_inbox_cancel(qr_inbox *inbox, quire_request_id id);
void         qr_inbox_flush_cache(qr_inbox *inbox);   /* Thread: any */
void         qr_inbox_count_refusal(qr_inbox *inbox); /* Thread: any */

/* ---- with the ledger locked. Thread: the driver, where nothing else is said ---- */

qr_record *qr_inbox_find(const qr_inbox *inbox, quire_request_id id); /* NULL: unknown or ended. Thread: any */

void qr_inbox_entered(qr_inbox *inbox, const qr_record *record); /* into the scheduler */
void qr_inbox_forget(qr_inbox *inbox, const qr_record *record);  /* cancelled or refused: its records are free again */
void qr_inbox_report(qr_inbox *inbox, uint32_t scheduler_requests, uint32_t scheduler_tokens);

#endif
