/* What of a model one of several ranks holds: of each matrix a run of its output columns, so that every element of a
 * product is one sum over all inputs, by whoever owns its column, and the bits are those of one rank. */
#ifndef QR_SHARE_H
#define QR_SHARE_H

#include "model/architecture.h"

typedef struct qr_span {
    uint32_t first, count;
} qr_span;

/* What the output columns of a projection are, and so where they are cut. */
typedef enum qr_cut {
    QR_CUT_NONE, /* every rank has all */
    QR_CUT_QUERIES,
    QR_CUT_KEYS,
    QR_CUT_KEYS_VALUES,         /* k, then v */
    QR_CUT_QUERIES_KEYS_VALUES, /* q, then k, then v */
    QR_CUT_HIDDEN,
    QR_CUT_INNER,  /* of a feed-forward; gate and up alike */
    QR_CUT_EXPERT, /* of an expert's; likewise */
    QR_CUT_VOCABULARY,
    QR_CUT_GROUPS, /* of QR_LSE_COLUMNS of the vocabulary */
} qr_cut;

enum { QR_CUT_SPANS = 3 };

/* Heads: query heads go with their key head. Where there are more ranks than key heads, several ranks have the same one
 * and divide its query heads. */
typedef struct qr_share {
    uint32_t rank, ranks;
    qr_span  heads, kv_heads, hidden, inner, expert, vocabulary; /* vocabulary: may have none */
} qr_share;

/* ERR_INVALID: there are more ranks than heads or columns. */
quire_status qr_share_check(const qr_architecture *architecture, uint32_t ranks, quire_error *error);

/* Of rank `rank`; what the check accepts. */
qr_share qr_share_of(const qr_architecture *architecture, uint32_t rank, uint32_t ranks);

/* The share's columns of what is cut so, in ascending order; returns how many spans. */
uint32_t qr_share_spans(const qr_architecture *architecture, const qr_share *share, qr_cut cut,
                        qr_span spans[QR_CUT_SPANS]);

/* Ranks that have the same key head as another. */
static inline bool qr_share_repeats_keys(const qr_architecture *architecture, uint32_t ranks)
{
    return ranks > architecture->kv_heads;
}

#endif
