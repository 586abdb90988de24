/* Isolating the cause of a failed step: the members of the step are suspects, and run in halves until the one that
 * fails alone is found. suspects[] is a stack of groups; only the last group may run. */
#include <string.h>

#include "scheduler/state.h"

static void mark(qr_scheduler *s)
{
    const uint32_t top = s->group_count > 0 ? s->groups[s->group_count - 1] : 0;
    for (uint32_t i = 0; i < s->suspect_count; i++) s->sequences[s->suspects[i]].probed = i + top >= s->suspect_count;
}

static void push(qr_scheduler *s, const uint32_t *units, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        s->sequences[units[i]].suspect    = true;
        s->suspects[s->suspect_count + i] = units[i];
    }
    s->suspect_count += count;
    if (count > 0) s->groups[s->group_count++] = count;
}

void qr_fault_forget(qr_scheduler *s, uint32_t unit)
{
    uint32_t place = 0, group = 0, end = 0;
    while (s->suspects[place] != unit) place++;
    for (end = s->groups[0]; end <= place; end += s->groups[group]) group++;
    memmove(&s->suspects[place], &s->suspects[place + 1], (--s->suspect_count - place) * sizeof *s->suspects);
    if (--s->groups[group] == 0)
        memmove(&s->groups[group], &s->groups[group + 1], (--s->group_count - group) * sizeof *s->groups);
    s->sequences[unit].suspect = s->sequences[unit].probed = false;
    mark(s);
}

void qr_fault_cleared(qr_scheduler *s, const uint32_t *units, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (s->sequences[units[i]].suspect) qr_fault_forget(s, units[i]);
}

/* A single suspect that fails again has failed alone: it ends. Others are halved. */
void qr_fault_isolate(qr_scheduler *s, const uint32_t *units, uint32_t count, bool alone)
{
    if (count == 1 && alone && s->sequences[units[0]].suspect) {
        qr_unit_finish(s, units[0], QUIRE_FINISH_ERROR, QUIRE_ERR_EXECUTION);
        return;
    }
    const uint32_t half = (count + 1) / 2;
    qr_fault_cleared(s, units, count);
    push(s, units + half, count - half);
    push(s, units, half);
    mark(s);
}
