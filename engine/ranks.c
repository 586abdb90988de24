/* Joining: what ranks must have in common is compared before anything is loaded, and none goes on where one failed. */
#include "engine/ranks.h"

#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "base/agree.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/sized_struct.h"

quire_status qr_ranks_take(qr_ranks *ranks, const quire_comm *comm, quire_error *error)
{
    quire_comm *own = &ranks->comm;
    if (comm == NULL) return QUIRE_OK;
    QR_TRY(qr_options_copy("quire_comm", comm, sizeof comm->size, own, sizeof *own, error));
    if (own->ranks == 0 || own->ranks > QUIRE_MAX_RANKS || own->rank >= own->ranks)
        return qr_fail(error, QUIRE_ERR_INVALID, "comm: rank %u of %u; there may be 1 to %d ranks", own->rank,
                       own->ranks, QUIRE_MAX_RANKS);
    if (own->broadcast == NULL || own->gather == NULL || own->all_gather == NULL || own->abort == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "comm: one of its functions is NULL");
    own->host[sizeof own->host - 1] = '\0';
    return QUIRE_OK;
}

/* ---- what must be alike ---- */

typedef struct presence {
    char    host[QUIRE_MAX_HOST_NAME];
    uint8_t pinned[QR_MAX_CPUS / 8]; /* CPUs that threads are bound to */
    char    facts[QR_RANK_FACTS];
} presence;

/* The first line that differs. */
static quire_status compare_facts(const presence *all, uint32_t rank, quire_error *error)
{
    const char *a = all[0].facts, *b = all[rank].facts;
    if (strcmp(a, b) == 0) return QUIRE_OK;
    for (size_t i = strcspn(a, "\n"); i == strcspn(b, "\n") && strncmp(a, b, i) == 0; i = strcspn(a, "\n"))
        a += i + 1, b += i + 1;
    return qr_fail(error, QUIRE_ERR_INVALID, "rank %u on %s: %.*s, but of rank 0 on %s: %.*s", rank, all[rank].host,
                   (int)qr_min_u64(strcspn(b, "\n"), 80), b, all[0].host, (int)qr_min_u64(strcspn(a, "\n"), 80), a);
}

static quire_status compare_cpus(const presence *all, uint32_t a, uint32_t b, quire_error *error)
{
    if (strcmp(all[a].host, all[b].host) != 0) return QUIRE_OK;
    for (uint32_t cpu = 0; cpu < QR_MAX_CPUS; cpu++)
        if (all[a].pinned[cpu / 8] & all[b].pinned[cpu / 8] & 1u << cpu % 8)
            return qr_fail(error, QUIRE_ERR_INVALID,
                           "ranks %u and %u on %s both bind a thread to CPU %u; give each its own, as by mpirun "
                           "--map-by slot:PE=N --bind-to core, or bind none ([topology] bind = \"none\")",
                           a, b, all[a].host, cpu);
    return QUIRE_OK;
}

static quire_status compare_all(const presence *all, uint32_t count, quire_error *error)
{
    for (uint32_t i = 1; i < count; i++) QR_TRY(compare_facts(all, i, error));
    for (uint32_t i = 1; i < count; i++)
        for (uint32_t k = 0; k < i; k++) QR_TRY(compare_cpus(all, k, i, error));
    return QUIRE_OK;
}

quire_status qr_ranks_compare(const qr_ranks *ranks, const char facts[QR_RANK_FACTS], const qr_placement *placement,
                              quire_error *error)
{
    const uint32_t count = ranks->comm.ranks;
    if (count <= 1) return QUIRE_OK;
    presence mine = {0};
    memcpy(mine.host, ranks->comm.host, sizeof mine.host);
    memcpy(mine.facts, facts, sizeof mine.facts);
    for (uint32_t t = 0; placement->bind != QUIRE_BIND_NONE && t < placement->thread_count; t++)
        if (placement->cpu[t] < QR_MAX_CPUS)
            mine.pinned[placement->cpu[t] / 8] |= (uint8_t)(1u << placement->cpu[t] % 8);
    presence *all = (presence *)(void *)qr_gather_all(&ranks->comm, &mine, sizeof mine);
    if (all == NULL) return qr_unreachable(&ranks->comm, error);
    const quire_status status = compare_all(all, count, error);
    qr_deallocate(NULL, all, sizeof *all * count);
    return status;
}

/* ---- the binary ---- */

typedef struct binary_search {
    char  *text;
    size_t capacity;
} binary_search;

static void write_build_id(const ElfW(Nhdr) * note, const binary_search *search)
{
    const unsigned char *id = (const unsigned char *)(note + 1) + (note->n_namesz + 3) / 4 * 4;
    for (uint32_t i = 0; i < note->n_descsz && 2 * i + 2 < search->capacity; i++)
        snprintf(search->text + (size_t)2 * i, search->capacity - (size_t)2 * i, "%02x", id[i]);
}

static bool holds_us(const struct dl_phdr_info *object)
{
    const ElfW(Addr) here = (ElfW(Addr))(uintptr_t)&qr_ranks_binary;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && here - (object->dlpi_addr + p->p_vaddr) < p->p_memsz) return true;
    }
    return false;
}

static int look_at(struct dl_phdr_info *object, size_t size, void *context)
{
    (void)size;
    if (!holds_us(object)) return 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        if (p->p_type != PT_NOTE) continue;
        const char *at = (const char *)(object->dlpi_addr + p->p_vaddr), *end = at + p->p_memsz;
        while (end - at >= (ptrdiff_t)sizeof(ElfW(Nhdr))) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)(const void *)at;
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4) write_build_id(note, context);
            at += sizeof *note + (note->n_namesz + 3) / 4 * 4 + (note->n_descsz + 3) / 4 * 4;
        }
    }
    return 1;
}

void qr_ranks_binary(char *text, size_t capacity)
{
    binary_search search = {text, capacity};
    text[0]              = '\0';
    (void)dl_iterate_phdr(look_at, &search);
}

void qr_ranks_lose(qr_ranks *ranks, const char *why)
{
    if (!ranks->lost) ranks->comm.abort(ranks->comm.context, why);
    ranks->lost = true;
}
