/* Trials in turns, with and without drafts, and the comparison of their tokens per second. */
#include "engine/draft_control.h"

enum { ADVANTAGE_PERCENT = 2 }; /* by which steps without drafts must be better: noise alone must not turn them off */

bool qr_draft_control_allows(const qr_draft_control *control)
{
    if (control->holding) return control->drafts_pay;
    return control->steps / QR_DRAFT_TURN_STEPS % 2 == 0;
}

/* tokens / ns of both variants, compared crosswise; 128 bits, since tokens times ns may not fit 64. */
static bool drafts_pay(const qr_draft_control *control)
{
    const __uint128_t with    = (__uint128_t)control->tokens[1] * control->ns[0] * (100 + ADVANTAGE_PERCENT);
    const __uint128_t without = (__uint128_t)control->tokens[0] * control->ns[1] * 100;
    return with >= without;
}

static bool batch_changed(const qr_draft_control *control, uint32_t sequences)
{
    return sequences >= 2 * control->sequences || 2 * sequences <= control->sequences;
}

static void note_trial(qr_draft_control *control, uint32_t sequences, uint64_t tokens, uint64_t ns)
{
    const bool with = qr_draft_control_allows(control);
    if (control->steps == 0) control->sequences = sequences;
    control->tokens[with] += tokens;
    control->ns[with] += ns;
    if (++control->steps < QR_DRAFT_TURN_STEPS * QR_DRAFT_TURNS) return;
    const bool pay = drafts_pay(control);
    *control       = (qr_draft_control){.holding = true, .drafts_pay = pay, .sequences = control->sequences};
}

void qr_draft_control_note(qr_draft_control *control, uint32_t sequences, uint64_t tokens, uint64_t ns)
{
    if (control->sequences > 0 && batch_changed(control, sequences)) *control = (qr_draft_control){0};
    if (!control->holding) {
        note_trial(control, sequences, tokens, ns);
        return;
    }
    if (++control->steps == QR_DRAFT_HOLD_STEPS) *control = (qr_draft_control){0};
}
