/* The unfinished requests: one record each, from submit until the reader has let go of its last event, and the one
 * lock of the engine's two queues. inbox.c and outbox.c are its users; nothing here allocates after creation.
 *
 *   free records + open records = record_count
 *   finish_reserved = sum of `sequences` over open records that still owe or hold FINISHED events
 *
 * Every accepted request has its slots for its FINISHED events in the outbox reserved, so that an end can always be
 * told. */
#ifndef QR_ENGINE_LEDGER_H
#define QR_ENGINE_LEDGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/memory.h"

#include "quire/request.h"

#define QR_NO_RECORD QR_NONE

typedef enum qr_record_state {
    QR_RECORD_FREE,
    QR_RECORD_PENDING, /* kept by the scheduler, but not in its queue yet */
    QR_RECORD_LIVE,    /* in the scheduler */
    QR_RECORD_ENDED,   /* its last event is in the outbox */
} qr_record_state;

/* Why the driver holds a request back; bits. */
typedef enum qr_hold { QR_HOLD_UNREAD = 1, QR_HOLD_LOGITS = 2 } qr_hold;

typedef struct qr_record {
    quire_request_id id;      /* 0: free */
    uint32_t         request; /* of the scheduler; while PENDING or LIVE */
    uint32_t         queued_tokens;
    void            *user_data;
    uint64_t         arrival_ns;
    uint64_t         read_ns;         /* since when its reader has taken none of its unread events */
    uint32_t         sequences;       /* FINISHED events it will have */
    uint32_t         unread;          /* TOKEN events in the outbox */
    uint32_t         logits;          /* quire_logits_wanted */
    uint32_t         logits_per_step; /* logits slots one step may need for FIRST and ALL */
    uint32_t         firsts_due;      /* first tokens not yet seen */
    uint32_t         holds;           /* qr_hold bits as last told to the scheduler */
    qr_record_state  state;
    bool             cancelled; /* asked for */
    bool             failed;    /* ended by the engine for its slow reader */
    uint32_t         next_free;
    qr_link          link; /* in `pending` or `live` */
    qr_link          cancel;
} qr_record;

typedef struct qr_ledger {
    pthread_mutex_t  mutex; /* of everything below and of both queues */
    qr_record       *records;
    uint32_t         record_count, free_head;
    qr_list          pending;                          /* in the order of their ids */
    qr_list          live;                             /* LIVE and ENDED records in the order the scheduler got them */
    qr_list          cancels;                          /* records whose cancel the driver has not taken, in order */
    uint32_t         finish_reserved, finish_capacity; /* slots for FINISHED events in the outbox */
    quire_request_id next_id;
    bool             ready;    /* mutex and wake_fd exist */
    uint64_t         activity; /* counts what may give the driver something to do */
    bool             sleeping; /* the driver waits for wake_fd */
    int              wake_fd;  /* eventfd */
} qr_ledger;

/* Layout for an arena, counting or taking. `sequences`: how many sequences may be unfinished or unread at once. */
void         qr_ledger_layout(qr_ledger *ledger, qr_arena *arena, uint32_t sequences);
quire_status qr_ledger_init(qr_ledger *ledger, quire_error *error);
void         qr_ledger_deinit(qr_ledger *ledger);

/* An eventfd that does not block. ERR_IO: no descriptor is left. */
quire_status qr_event_fd_create(int *event_fd_out, quire_error *error);

void qr_ledger_lock(qr_ledger *ledger);
void qr_ledger_unlock(qr_ledger *ledger);

/* ---- with the lock held ---- */

/* A PENDING record with the next id, or NULL: full. */
qr_record *qr_ledger_open(qr_ledger *ledger, uint32_t sequences);
void       qr_ledger_take_back(qr_ledger *ledger, qr_record *record); /* the last one opened, as if it had not been */
qr_record *qr_ledger_first_pending(qr_ledger *ledger);                /* oldest, or NULL */
void       qr_ledger_make_live(qr_ledger *ledger, qr_record *record);
void       qr_ledger_cancel(qr_ledger *ledger, qr_record *record); /* lists it once */
qr_record *qr_ledger_take_cancel(qr_ledger *ledger);               /* NULL: none */
void       qr_ledger_close(qr_ledger *ledger, qr_record *record);
void       qr_ledger_wake(qr_ledger *ledger); /* something changed for the driver; wakes it if it sleeps */

/* ---- not with the lock held ---- */

/* Sleeps until something has changed since `activity_seen`, wake_fd is written or the time is over. Thread: driver. */
void qr_ledger_sleep(qr_ledger *ledger, uint64_t activity_seen, int timeout_ms);

static inline uint32_t qr_ledger_index(const qr_ledger *ledger, const qr_record *record)
{
    return (uint32_t)(record - ledger->records);
}

#endif
