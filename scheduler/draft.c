/* Prompt lookup: the tokens that followed the last earlier occurrence of the sequence's tail are tried as extra rows of
 * its decoding entry (Saxena, "Prompt Lookup Decoding", 2023). Only rows nobody else wants are used, and a sequence
 * whose drafts keep failing stops for a while. A draft counts only if the row before it sampled exactly that token. */
#include "base/bits.h"
#include "scheduler/state.h"

enum {
    LOOKUP_WINDOW = 4096, /* tokens that are searched: bounds the cost of a step */
    REST_TOKENS   = 16,   /* after drafts of length 1 failed */
};

/* Longest match of the tail, at most `longest` tokens, most recent first; drafts are written behind the tail. */
static uint32_t find_drafts(int32_t *tokens, uint32_t length, uint32_t longest, uint32_t limit)
{
    const uint32_t last = length - 1, end = last > LOOKUP_WINDOW ? last - LOOKUP_WINDOW : 0;
    uint32_t       best = 0, at = 0;
    for (uint32_t i = last; i-- > end && best < longest;) {
        uint32_t match = 0;
        while (match < longest && match <= i && tokens[i - match] == tokens[last - match]) match++;
        if (match > best) best = match, at = i;
    }
    if (best < qr_min_u32(2, longest)) return 0;
    for (uint32_t i = 0; i < limit; i++) tokens[length + i] = tokens[at + 1 + i]; /* may run on into the drafts */
    return limit;
}

static uint32_t limit_of(const qr_scheduler *s, uint32_t group)
{
    const qr_sequence *g    = &s->sequences[group];
    const qr_request  *r    = &s->requests[g->request];
    const uint32_t     left = r->stored.max_tokens - qr_outputs(s, g) - 1;
    const uint32_t     most = qr_min_u32(qr_min_u32(g->draft_length, s->rows_left), left);
    return most == 0 ? 0 : qr_group_rows_that_fit(s, group, 1 + most) - 1;
}

static void draft(qr_scheduler *s, uint32_t group)
{
    qr_sequence      *g = &s->sequences[group];
    const qr_request *r = &s->requests[g->request];
    if (!qr_decoding(g) || qr_is_beam(s, g) || (r->stored.n > 1 && !r->forked)) return;
    if (g->draft_rest > 0) {
        g->draft_rest--;
        return;
    }
    const uint32_t limit = limit_of(s, group);
    const uint32_t count =
        limit == 0 ? 0 : find_drafts(qr_tokens(s, group), g->length, s->options.prompt_lookup_max, limit);
    if (count == 0 || !qr_block_table_append(&s->cache.pool, &g->self, g->computed + 1 + count)) return;
    g->drafts = count;
    g->rows   = 1 + count;
    s->rows_left -= count;
}

void qr_draft(qr_scheduler *s)
{
    if (s->options.num_speculative_tokens == 0 || s->options.prompt_lookup_max == 0) return;
    if (s->drafts_held_back || s->suspect_count > 0) return;
    for (uint32_t i = 0; i < s->planned_count && s->rows_left > 0; i++) draft(s, s->planned[i]);
}

void qr_draft_judge(qr_sequence *g, uint32_t drafted, uint32_t accepted, uint32_t limit)
{
    if (accepted == drafted)
        g->draft_length = qr_min_u32(limit, 2 * g->draft_length);
    else if (2 * accepted < drafted && (g->draft_length /= 2) == 0) {
        g->draft_length = 1;
        g->draft_rest   = REST_TOKENS;
    }
}
