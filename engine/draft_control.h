/* Whether drafts pay. A verified row is nearly free while a step is bound by reading weights, and costs as much as any
 * other once the batch is bound by arithmetic; where that changes depends on machine, model and batch, and what a draft
 * gains depends on the text. So it is measured: steps with and without drafts take turns in a trial, the variant with
 * more tokens per second is held for a while, then tried again. Tokens do not depend on it, since drafts change none.
 */
#ifndef QR_ENGINE_DRAFT_CONTROL_H
#define QR_ENGINE_DRAFT_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

enum {
    QR_DRAFT_TURN_STEPS = 4,   /* of one variant in a trial */
    QR_DRAFT_TURNS      = 4,   /* with, without, with, without */
    QR_DRAFT_HOLD_STEPS = 256, /* between two trials */
};

/* Steps counted here decode only: no prompt rows, no encoder. */
typedef struct qr_draft_control {
    bool     holding, drafts_pay; /* the last trial's verdict, in force while holding */
    uint32_t steps;               /* of the trial, or of the hold */
    uint32_t sequences;           /* in the trial's first step */
    uint64_t tokens[2], ns[2];    /* of the trial; [1]: with drafts */
} qr_draft_control;

/* Of the step that is planned next. All zero: a trial begins, with drafts. */
bool qr_draft_control_allows(const qr_draft_control *control);

/* A decoding step has run; `tokens` came out of it in `ns`. A batch that has halved or doubled is tried anew. */
void qr_draft_control_note(qr_draft_control *control, uint32_t sequences, uint64_t tokens, uint64_t ns);

#endif
