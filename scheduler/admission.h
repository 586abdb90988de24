/* What the admission of one group would take. Measuring it changes nothing but the root of the group's prefix chain. */
#ifndef QR_ADMISSION_H
#define QR_ADMISSION_H

#include "scheduler/state.h"

typedef struct qr_admission {
    uint32_t          group;
    qr_admission_mode mode;
    uint32_t hits, first_live;   /* blocks of the prefix index in s->hits[]; the window shows those from first_live */
    uint32_t base, rows, upto;   /* computed after the hits; rows in this step; positions to take blocks for */
    uint32_t need, lost, room;   /* blocks: to acquire; hits that stop being available; to be left over */
    uint32_t self, copies;       /* of need: new self blocks, copies-on-write */
    uint32_t cross, cross_entry; /* new cross blocks; or the entry that is shared */
    bool     encodes;
} qr_admission;

static inline uint32_t qr_admission_blocks(const qr_admission *a) { return a->need + a->lost + a->room; }

/* Fills *a for a->group and a->mode. NONE, or why its encoder input cannot be had in this step. */
quire_wait_reason qr_admission_measure(qr_scheduler *s, qr_admission *a);
/* Takes blocks from victims that the mode allows, as far as that can be enough, and measures again. */
quire_wait_reason qr_admission_take_from_victims(qr_scheduler *s, qr_admission *a);
/* Fewer rows than asked for, but at least one, if nobody runs whose end would bring more blocks. */
void qr_admission_reduce_rows(const qr_scheduler *s, qr_admission *a);

/* admission.c: whether the tenant's limits forbid it, once `slots` and `blocks` of the tenant have been given up. */
bool qr_is_over_quota(const qr_scheduler *s, uint32_t group, uint32_t need, uint32_t slots, uint32_t blocks);
/* NONE: it is RUNNING now, and in the plan unless it is a claim. Otherwise the reason has been noted. */
quire_wait_reason qr_try_admit(qr_scheduler *s, uint32_t group, qr_admission_mode mode);

#endif
