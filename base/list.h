/* Doubly linked lists of records that are known by index. The links lie in the records: nothing is allocated, and a
 * record leaves its list without a search.
 *
 *   list  { head <-> ... <-> tail }, `count` records; empty: {QR_NONE, QR_NONE, 0}
 *   a record outside of all lists has the link {QR_NONE, QR_NONE} */
#ifndef QR_BASE_LIST_H
#define QR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QR_NONE UINT32_MAX /* no record */

typedef struct qr_link {
    uint32_t next, prev;
} qr_link;

typedef struct qr_list {
    uint32_t head, tail, count;
} qr_list;

#define QR_LIST_EMPTY ((qr_list){QR_NONE, QR_NONE, 0})
#define QR_UNLINKED ((qr_link){QR_NONE, QR_NONE})

/* The links of an array of records, e.g. QR_LINKS(pool->blocks, link). */
typedef struct qr_links {
    char  *first;
    size_t stride;
} qr_links;

#define QR_LINKS(records, member) ((qr_links){(char *)&(records)->member, sizeof *(records)})

static inline qr_link *qr_link_of(qr_links links, uint32_t record)
{
    return (qr_link *)(void *)(links.first + record * links.stride);
}

/* ---- chains: lists without a tail, as in the buckets of a hash table ---- */

static inline void qr_chain_push(uint32_t *head, qr_links links, uint32_t record)
{
    *qr_link_of(links, record) = (qr_link){.next = *head, .prev = QR_NONE};
    if (*head != QR_NONE) qr_link_of(links, *head)->prev = record;
    *head = record;
}

static inline void qr_chain_remove(uint32_t *head, qr_links links, uint32_t record)
{
    qr_link *link                                                          = qr_link_of(links, record);
    *(link->prev == QR_NONE ? head : &qr_link_of(links, link->prev)->next) = link->next;
    if (link->next != QR_NONE) qr_link_of(links, link->next)->prev = link->prev;
    *link = QR_UNLINKED;
}

/* ---- lists ---- */

static inline bool qr_list_has(const qr_list *list, qr_links links, uint32_t record)
{
    return list->head == record || qr_link_of(links, record)->prev != QR_NONE;
}

/* `after` QR_NONE: at the head. */
static inline void qr_list_insert_after(qr_list *list, qr_links links, uint32_t after, uint32_t record)
{
    uint32_t *to               = after == QR_NONE ? &list->head : &qr_link_of(links, after)->next;
    *qr_link_of(links, record) = (qr_link){.next = *to, .prev = after};
    *(*to == QR_NONE ? &list->tail : &qr_link_of(links, *to)->prev) = record;
    *to                                                             = record;
    list->count++;
}

static inline void qr_list_append(qr_list *list, qr_links links, uint32_t record)
{
    qr_list_insert_after(list, links, list->tail, record);
}

static inline void qr_list_remove(qr_list *list, qr_links links, uint32_t record)
{
    if (list->tail == record) list->tail = qr_link_of(links, record)->prev;
    qr_chain_remove(&list->head, links, record);
    list->count--;
}

#endif
