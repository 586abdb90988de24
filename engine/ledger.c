/* Records of unfinished requests: a free list, and the lists of those that wait, live and are to be cancelled. */
#include "engine/ledger.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"

void qr_ledger_layout(qr_ledger *ledger, qr_arena *arena, uint32_t sequences)
{
    ledger->record_count    = sequences;
    ledger->finish_capacity = sequences;
    ledger->records         = QR_ARENA_TAKE(arena, qr_record, sequences);
}

quire_status qr_event_fd_create(int *event_fd_out, quire_error *error)
{
    *event_fd_out = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (*event_fd_out >= 0) return QUIRE_OK;
    const quire_status status = errno == ENOMEM ? QUIRE_ERR_NO_MEMORY : QUIRE_ERR_IO;
    return qr_fail(error, status, "engine: a file descriptor for events: %s", strerror(errno));
}

quire_status qr_ledger_init(qr_ledger *ledger, quire_error *error)
{
    ledger->next_id = 1;
    ledger->pending = ledger->live = ledger->cancels = QR_LIST_EMPTY;
    for (uint32_t i = 0; i < ledger->record_count; i++)
        ledger->records[i].next_free = i + 1 < ledger->record_count ? i + 1 : QR_NO_RECORD;
    ledger->free_head = 0;
    QR_TRY(qr_event_fd_create(&ledger->wake_fd, error));
    pthread_mutex_init(&ledger->mutex, NULL);
    ledger->ready = true;
    return QUIRE_OK;
}

void qr_ledger_deinit(qr_ledger *ledger)
{
    if (!ledger->ready) return;
    close(ledger->wake_fd);
    pthread_mutex_destroy(&ledger->mutex);
    ledger->ready = false;
}

void qr_ledger_lock(qr_ledger *ledger) { pthread_mutex_lock(&ledger->mutex); }
void qr_ledger_unlock(qr_ledger *ledger) { pthread_mutex_unlock(&ledger->mutex); }

/* A record is in `pending` or `live`, and maybe in `cancels` as well. */
static qr_links record_links(const qr_ledger *ledger) { return QR_LINKS(ledger->records, link); }
static qr_links cancel_links(const qr_ledger *ledger) { return QR_LINKS(ledger->records, cancel); }

qr_record *qr_ledger_open(qr_ledger *ledger, uint32_t sequences)
{
    if (ledger->free_head == QR_NO_RECORD) return NULL;
    if (sequences > ledger->finish_capacity - ledger->finish_reserved) return NULL;
    const uint32_t index  = ledger->free_head;
    qr_record     *record = &ledger->records[index];
    ledger->free_head     = record->next_free;
    ledger->finish_reserved += sequences;
    *record = (qr_record){.id        = ledger->next_id++,
                          .sequences = sequences,
                          .state     = QR_RECORD_PENDING,
                          .link      = QR_UNLINKED,
                          .cancel    = QR_UNLINKED};
    qr_list_append(&ledger->pending, record_links(ledger), index);
    return record;
}

void qr_ledger_take_back(qr_ledger *ledger, qr_record *record)
{
    ledger->next_id = record->id;
    qr_ledger_close(ledger, record);
}

qr_record *qr_ledger_first_pending(qr_ledger *ledger)
{
    return ledger->pending.head == QR_NO_RECORD ? NULL : &ledger->records[ledger->pending.head];
}

void qr_ledger_make_live(qr_ledger *ledger, qr_record *record)
{
    qr_assert(record->state == QR_RECORD_PENDING);
    record->state = QR_RECORD_LIVE;
    qr_list_remove(&ledger->pending, record_links(ledger), qr_ledger_index(ledger, record));
    qr_list_append(&ledger->live, record_links(ledger), qr_ledger_index(ledger, record));
}

void qr_ledger_cancel(qr_ledger *ledger, qr_record *record)
{
    if (record->cancelled) return;
    record->cancelled = true;
    qr_list_append(&ledger->cancels, cancel_links(ledger), qr_ledger_index(ledger, record));
}

qr_record *qr_ledger_take_cancel(qr_ledger *ledger)
{
    const uint32_t index = ledger->cancels.head;
    if (index == QR_NO_RECORD) return NULL;
    qr_list_remove(&ledger->cancels, cancel_links(ledger), index);
    return &ledger->records[index];
}

void qr_ledger_close(qr_ledger *ledger, qr_record *record)
{
    const uint32_t index = qr_ledger_index(ledger, record);
    qr_list_remove(record->state == QR_RECORD_PENDING ? &ledger->pending : &ledger->live, record_links(ledger), index);
    if (qr_list_has(&ledger->cancels, cancel_links(ledger), index))
        qr_list_remove(&ledger->cancels, cancel_links(ledger), index);
    ledger->finish_reserved -= record->sequences;
    *record           = (qr_record){.next_free = ledger->free_head};
    ledger->free_head = index;
}

void qr_ledger_wake(qr_ledger *ledger)
{
    ledger->activity++;
    if (!ledger->sleeping) return;
    ledger->sleeping = false;
    /* Cannot fail but by overflow, and then the driver is awake already. */
    const ssize_t written = write(ledger->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)written;
}

void qr_ledger_sleep(qr_ledger *ledger, uint64_t activity_seen, int timeout_ms)
{
    qr_ledger_lock(ledger);
    const bool sleep = ledger->sleeping = ledger->activity == activity_seen;
    qr_ledger_unlock(ledger);
    if (!sleep) return;

    struct pollfd wake = {.fd = ledger->wake_fd, .events = POLLIN};
    uint64_t      count;
    const int     ready = poll(&wake, 1, timeout_ms);
    const ssize_t got   = ready > 0 ? read(ledger->wake_fd, &count, sizeof count) : 0;
    (void)got; /* whatever woke us, the caller looks at everything */
    qr_ledger_lock(ledger);
    ledger->sleeping = false;
    qr_ledger_unlock(ledger);
}
