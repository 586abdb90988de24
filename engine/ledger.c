/* Records of unfinished requests: a free list, a hash by id, and the list of those the scheduler has. */
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
    ledger->bucket_mask     = (uint32_t)qr_next_power_of_two(sequences) - 1;
    ledger->records         = QR_ARENA_TAKE(arena, qr_record, sequences);
    ledger->buckets         = QR_ARENA_TAKE(arena, uint32_t, (size_t)ledger->bucket_mask + 1);
}

quire_status qr_ledger_init(qr_ledger *ledger, quire_error *error)
{
    ledger->next_id = 1;
    ledger->live = ledger->cancels = QR_LIST_EMPTY;
    memset(ledger->buckets, 0xff, ((size_t)ledger->bucket_mask + 1) * sizeof *ledger->buckets);
    for (uint32_t i = 0; i < ledger->record_count; i++)
        ledger->records[i].chain = i + 1 < ledger->record_count ? i + 1 : QR_NO_RECORD;
    ledger->free_head = 0;
    ledger->wake_fd   = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ledger->wake_fd < 0) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "engine: eventfd: %s", strerror(errno));
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

static uint32_t *bucket_of(qr_ledger *ledger, quire_request_id id)
{
    return &ledger->buckets[id & ledger->bucket_mask];
}

qr_record *qr_ledger_open(qr_ledger *ledger, uint32_t sequences)
{
    if (ledger->free_head == QR_NO_RECORD) return NULL;
    if (sequences > ledger->finish_capacity - ledger->finish_reserved) return NULL;
    const uint32_t index  = ledger->free_head;
    qr_record     *record = &ledger->records[index];
    ledger->free_head     = record->chain;
    ledger->finish_reserved += sequences;

    uint32_t *bucket = bucket_of(ledger, ledger->next_id);
    *record          = (qr_record){.id        = ledger->next_id++,
                                   .sequences = sequences,
                                   .state     = QR_RECORD_PENDING,
                                   .chain     = *bucket,
                                   .live      = QR_UNLINKED,
                                   .cancel    = QR_UNLINKED};
    *bucket          = index;
    return record;
}

qr_record *qr_ledger_find(qr_ledger *ledger, quire_request_id id)
{
    for (uint32_t i = *bucket_of(ledger, id); i != QR_NO_RECORD; i = ledger->records[i].chain)
        if (ledger->records[i].id == id) return &ledger->records[i];
    return NULL;
}

static qr_links live_links(const qr_ledger *ledger) { return QR_LINKS(ledger->records, live); }
static qr_links cancel_links(const qr_ledger *ledger) { return QR_LINKS(ledger->records, cancel); }

void qr_ledger_make_live(qr_ledger *ledger, qr_record *record)
{
    qr_assert(record->state == QR_RECORD_PENDING);
    record->state = QR_RECORD_LIVE;
    qr_list_append(&ledger->live, live_links(ledger), qr_ledger_index(ledger, record));
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

static void leave(qr_list *list, qr_links links, uint32_t index)
{
    if (qr_list_has(list, links, index)) qr_list_remove(list, links, index);
}

static void unlink_bucket(qr_ledger *ledger, const qr_record *record)
{
    uint32_t *link = bucket_of(ledger, record->id);
    while (*link != qr_ledger_index(ledger, record)) link = &ledger->records[*link].chain;
    *link = record->chain;
}

void qr_ledger_close(qr_ledger *ledger, qr_record *record)
{
    const uint32_t index = qr_ledger_index(ledger, record);
    leave(&ledger->live, live_links(ledger), index);
    leave(&ledger->cancels, cancel_links(ledger), index);
    unlink_bucket(ledger, record);
    ledger->finish_reserved -= record->sequences;
    *record           = (qr_record){.chain = ledger->free_head};
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
