/* What its readers were told of the prefix index. Not a queue of events: every block that is indexed, or that was told
 * and is not indexed any more, is in one of two lists, in the order in which blocks changed. So memory is that of the
 * blocks, nothing is ever lost however late a reader comes, and what comes and goes between two reads is not told.
 *
 *   open   changed since it was told: to be told as removed, if it was told, then as stored, if it is indexed
 *   told   indexed, and told as it is */
#ifndef QR_JOURNAL_H
#define QR_JOURNAL_H

#include "cache/block_pool.h"

#include "quire/request.h"

typedef enum qr_journal_place { QR_JOURNAL_NOWHERE, QR_JOURNAL_OPEN, QR_JOURNAL_TOLD } qr_journal_place;

typedef struct qr_journal_block {
    uint64_t told; /* serial under which it was stored; 0: nothing was told, or it was removed */
    qr_link  link;
    uint8_t  place; /* qr_journal_place */
} qr_journal_block;

typedef struct qr_journal {
    qr_journal_block *blocks; /* [num_blocks]; NULL: nobody wants to know */
    qr_list           open, told;
    uint64_t          key;        /* makes hashes of serials: two engines have different ones */
    bool              is_cleared; /* CLEARED comes first */
} qr_journal;

/* A block enters the index, or has left it. O(1). */
void qr_journal_change(qr_journal *journal, uint32_t block, bool is_indexed);

/* The oldest changes, at most `capacity`; event i STORED has the block's token ids in tokens[i * block_size]. A block
 * comes behind its parent, if that is there. O(capacity). */
uint32_t qr_journal_read(qr_journal *journal, const qr_block_pool *pool, quire_cache_event *events, int32_t *tokens,
                         uint32_t capacity);

/* Tells everything anew: CLEARED, then all blocks. O(num_blocks). */
void qr_journal_restart(qr_journal *journal, const qr_block_pool *pool);

/* Of a block's serial; that of none (0) is 0. */
uint64_t qr_journal_hash(const qr_journal *journal, uint64_t serial);

#endif
