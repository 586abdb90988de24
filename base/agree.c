/* What ranks say to one another before they have an engine. */
#include "base/agree.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"

char *qr_gather_all(const quire_comm *comm, const void *mine, size_t size)
{
    char   *all     = qr_allocate(NULL, size * comm->ranks, 64);
    size_t *offsets = qr_allocate(NULL, (comm->ranks + 1) * sizeof *offsets, 64);
    for (uint32_t i = 0; offsets != NULL && i <= comm->ranks; i++) offsets[i] = i * size;
    if (all != NULL) memcpy(all + comm->rank * size, mine, size);
    const bool gathered = all != NULL && offsets != NULL && comm->all_gather(comm->context, all, offsets) == 0;
    qr_deallocate(NULL, offsets, (comm->ranks + 1) * sizeof *offsets);
    if (gathered) return all;
    qr_deallocate(NULL, all, size * comm->ranks);
    return NULL;
}

quire_status qr_unreachable(const quire_comm *comm, quire_error *error)
{
    return qr_fail(error, QUIRE_ERR_IO, "rank %u of %u on %s: the other ranks cannot be reached", comm->rank,
                   comm->ranks, comm->host);
}

typedef struct outcome {
    char         host[QUIRE_MAX_HOST_NAME];
    char         message[sizeof((quire_error *)0)->message];
    quire_status status;
    uint64_t     value;
} outcome;

quire_status qr_agree(const quire_comm *comm, quire_status status, uint64_t *least, quire_error *error)
{
    const uint32_t count = comm != NULL ? comm->ranks : 1;
    outcome        mine  = {.status = status, .value = least != NULL ? *least : 0};
    if (count <= 1) return status;
    memcpy(mine.host, comm->host, sizeof mine.host);
    snprintf(mine.message, sizeof mine.message, "%s",
             error != NULL && status != QUIRE_OK ? error->message : quire_status_text(status));
    outcome *all = (outcome *)(void *)qr_gather_all(comm, &mine, sizeof mine);
    if (all == NULL) return qr_unreachable(comm, error);
    uint32_t first = 0;
    while (first < count && all[first].status == QUIRE_OK) first++;
    for (uint32_t i = 0; least != NULL && i < count; i++) *least = qr_min_u64(*least, all[i].value);
    status = QUIRE_OK;
    if (first < count)
        status = qr_fail(error, all[first].status, "rank %u on %s: %.180s", first, all[first].host, all[first].message);
    qr_deallocate(NULL, all, sizeof *all * count);
    return status;
}
