/* Claims: a waiting group that outranks RUNNING ones by priority takes their slots and blocks. */
#include "base/bits.h"
#include "scheduler/admission.h"

/* Whether the head fits once RUNNING groups of lower priority, most junior first, have given up what they hold.
 * *slots_out: slots that must be freed for it. */
static bool claim_is_possible(qr_scheduler *s, uint32_t head, uint32_t *slots_out)
{
    qr_admission   a      = {.group = head, .mode = QR_ADMIT_CLAIM};
    const uint32_t needed = s->slots[QR_SEQUENCE_RUNNING] + s->sequences[head].slots;
    uint32_t       slots = 0, blocks = 0;
    bool           any = false;
    if (qr_admission_measure(s, &a) != QUIRE_WAIT_NONE) return false;
    const uint32_t idle = qr_idle_own_blocks(s, head, qr_admission_blocks(&a));
    for (uint32_t v = s->running.tail; v != QR_NONE; v = s->sequences[v].link.prev) {
        if (!qr_is_claim_victim(s, head, v)) continue;
        any = true;
        if (needed - slots <= s->options.max_num_seqs && qr_admission_blocks(&a) <= qr_available(s) + idle + blocks)
            break;
        slots += s->sequences[v].slots;
        blocks += qr_group_own_blocks(s, v, qr_admission_blocks(&a));
    }
    *slots_out = needed > s->options.max_num_seqs ? needed - s->options.max_num_seqs : 0;
    return any && needed - slots <= s->options.max_num_seqs &&
           qr_admission_blocks(&a) <= qr_available(s) + idle + blocks &&
           !qr_is_over_quota(s, head, a.need, s->options.tenant_fairness ? slots : 0, blocks);
}

static void free_slots(qr_scheduler *s, uint32_t head, uint32_t slots)
{
    for (uint32_t v = s->running.tail, next; v != QR_NONE && slots > 0; v = next) {
        next = s->sequences[v].link.prev;
        if (!qr_is_claim_victim(s, head, v)) continue;
        slots -= qr_min_u32(slots, s->sequences[v].slots);
        qr_group_preempt(s, v, QUIRE_WAIT_SEQUENCES);
    }
}

void qr_admit_claims(qr_scheduler *s)
{
    if (s->options.policy != QUIRE_POLICY_PRIORITY || s->options.capacity_policy == QUIRE_CAPACITY_GUARANTEED_NO_EVICT)
        return;
    uint32_t slots;
    for (uint32_t head = qr_tenant_head(s, false); head != QR_NONE && claim_is_possible(s, head, &slots);
         head          = qr_tenant_head(s, false)) {
        free_slots(s, head, slots);
        if (qr_try_admit(s, head, QR_ADMIT_CLAIM) != QUIRE_WAIT_NONE) return;
        s->stats.claims++;
    }
}
