/* Parents are told first because they enter the index first, and each change puts a block behind all others. */
#include "cache/journal.h"

#include <string.h>

#include "base/rng.h"
#include "cache/layout.h"

static qr_links links_of(const qr_journal *journal) { return QR_LINKS(journal->blocks, link); }

static void leave(qr_journal *journal, uint32_t id)
{
    qr_journal_block *block = &journal->blocks[id];
    if (block->place == QR_JOURNAL_OPEN) qr_list_remove(&journal->open, links_of(journal), id);
    if (block->place == QR_JOURNAL_TOLD) qr_list_remove(&journal->told, links_of(journal), id);
    block->place = QR_JOURNAL_NOWHERE;
}

static void put(qr_journal *journal, uint32_t id, qr_journal_place place)
{
    leave(journal, id);
    qr_list_append(place == QR_JOURNAL_OPEN ? &journal->open : &journal->told, links_of(journal), id);
    journal->blocks[id].place = (uint8_t)place;
}

void qr_journal_change(qr_journal *journal, uint32_t id, bool is_indexed)
{
    if (journal->blocks == NULL) return;
    if (is_indexed || journal->blocks[id].told != 0)
        put(journal, id, QR_JOURNAL_OPEN);
    else
        leave(journal, id); /* it came and went */
}

uint64_t qr_journal_hash(const qr_journal *journal, uint64_t serial)
{
    return serial != 0 ? qr_mix64(serial ^ journal->key) : 0;
}

static quire_cache_event removed(qr_journal *journal, uint32_t id)
{
    const quire_cache_event event = {.kind       = QUIRE_CACHE_REMOVED,
                                     .block_hash = qr_journal_hash(journal, journal->blocks[id].told)};
    journal->blocks[id].told      = 0;
    return event;
}

static quire_cache_event stored(qr_journal *journal, const qr_block_pool *pool, uint32_t id, int32_t *tokens)
{
    const qr_block *block    = &pool->blocks[id];
    journal->blocks[id].told = block->serial;
    memcpy(tokens, pool->tokens + (size_t)id * pool->block_size, pool->block_size * sizeof *tokens);
    return (quire_cache_event){.kind        = QUIRE_CACHE_STORED,
                               .block_hash  = qr_journal_hash(journal, block->serial),
                               .parent_hash = qr_journal_hash(journal, block->root ? 0 : block->parent)};
}

uint32_t qr_journal_read(qr_journal *journal, const qr_block_pool *pool, quire_cache_event *events, int32_t *tokens,
                         uint32_t capacity)
{
    uint32_t count = 0;
    if (journal->blocks == NULL) return 0;
    if (journal->is_cleared && capacity > 0) {
        events[count++]     = (quire_cache_event){.kind = QUIRE_CACHE_CLEARED};
        journal->is_cleared = false;
    }
    while (count < capacity && journal->open.count > 0) {
        const uint32_t id         = journal->open.head;
        const bool     is_indexed = pool->blocks[id].index == QR_INDEX_PREFIX;
        const bool     was_told   = journal->blocks[id].told != 0;
        events[count] =
            was_told ? removed(journal, id) : stored(journal, pool, id, tokens + (size_t)count * pool->block_size);
        count++;
        if (was_told && is_indexed) continue; /* now as what it is */
        if (is_indexed)
            put(journal, id, QR_JOURNAL_TOLD);
        else
            leave(journal, id);
    }
    return count;
}

/* The blocks told changed before the open ones. */
void qr_journal_restart(qr_journal *journal, const qr_block_pool *pool)
{
    if (journal->blocks == NULL) return;
    while (journal->open.count > 0) put(journal, journal->open.head, QR_JOURNAL_TOLD);
    for (uint32_t id, left = journal->told.count; left > 0; left--) {
        id                       = journal->told.head;
        journal->blocks[id].told = 0;
        if (pool->blocks[id].index == QR_INDEX_PREFIX)
            put(journal, id, QR_JOURNAL_OPEN);
        else
            leave(journal, id);
    }
    journal->is_cleared = true;
}

void qr_journal_layout(qr_journal *journal, const qr_cache_options *options, qr_arena *arena)
{
    if (options->keep_journal) journal->blocks = QR_ARENA_TAKE(arena, qr_journal_block, options->num_blocks);
}

void qr_journal_init(qr_journal *journal, const qr_cache_options *options)
{
    journal->open = journal->told = QR_LIST_EMPTY;
    journal->key                  = options->hash_seed;
}
