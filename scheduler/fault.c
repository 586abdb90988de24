/* Isolating the cause of a failed step: the members of the step are suspects, and run in halves until the one that
 * fails alone is found. suspects[] is a stack of sets; only the last set may run. */
#include <string.h>

#include "scheduler/state.h"

static void mark(qr_scheduler *s)
{
    const uint32_t top = s->suspect_set_count > 0 ? s->suspect_sets[s->suspect_set_count - 1] : 0;
    for (uint32_t i = 0; i < s->suspect_count; i++) s->sequences[s->suspects[i]].probed = i + top >= s->suspect_count;
}

static void push(qr_scheduler *s, const uint32_t *groups, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        s->sequences[groups[i]].suspect   = true;
        s->suspects[s->suspect_count + i] = groups[i];
    }
    s->suspect_count += count;
    if (count > 0) s->suspect_sets[s->suspect_set_count++] = count;
}

void qr_fault_forget(qr_scheduler *s, uint32_t group)
{
    uint32_t index = 0, set = 0, end = 0;
    while (s->suspects[index] != group) index++;
    for (end = s->suspect_sets[0]; end <= index; end += s->suspect_sets[set]) set++;
    memmove(&s->suspects[index], &s->suspects[index + 1], (--s->suspect_count - index) * sizeof *s->suspects);
    if (--s->suspect_sets[set] == 0)
        memmove(&s->suspect_sets[set], &s->suspect_sets[set + 1],
                (--s->suspect_set_count - set) * sizeof *s->suspect_sets);
    s->sequences[group].suspect = s->sequences[group].probed = false;
    mark(s);
}

void qr_fault_cleared(qr_scheduler *s, const uint32_t *groups, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (s->sequences[groups[i]].suspect) qr_fault_forget(s, groups[i]);
}

/* A single suspect that fails again has failed alone: it ends. Others are halved. */
void qr_fault_isolate(qr_scheduler *s, const uint32_t *groups, uint32_t count, bool alone)
{
    if (count == 1 && alone && s->sequences[groups[0]].suspect) {
        qr_group_finish(s, groups[0], QUIRE_FINISH_ERROR, QUIRE_ERR_EXECUTION);
        return;
    }
    const uint32_t half = (count + 1) / 2;
    qr_fault_cleared(s, groups, count);
    push(s, groups + half, count - half);
    push(s, groups, half);
    mark(s);
}
