#include "support/beam_reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct open_beam {
    int32_t  tokens[DRIVER_TOKENS];
    uint32_t count;
    float    sum;
} open_beam;

typedef struct candidate {
    uint32_t beam, order;
    int32_t  token;
    float    sum;
} candidate;

typedef struct search {
    const quire_request *p;
    beam_hypothesis      kept[DRIVER_BEAMS + 1];
    uint32_t             kept_count;
} search;

static int by_sum(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->sum != y->sum) return x->sum > y->sum ? -1 : 1;
    if (x->beam != y->beam) return x->beam < y->beam ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* The beam with one token more, kept if it is among the best. */
static void add(search *s, const open_beam *beam, int32_t token, bool ended, float sum)
{
    const uint32_t   length = beam->count + 1;
    beam_hypothesis *h      = &s->kept[s->kept_count];
    double           worst  = INFINITY;
    uint32_t         at     = 0;
    h->score                = (double)sum / pow(length, (double)s->p->length_penalty);
    for (uint32_t i = 0; i < s->kept_count; i++)
        if (s->kept[i].score <= worst) worst = s->kept[i].score, at = i;
    if (s->kept_count == s->p->beam_width && h->score <= worst) return;
    memcpy(h->tokens, beam->tokens, sizeof h->tokens);
    h->tokens[beam->count] = token;
    h->count               = length;
    h->ended               = ended;
    if (s->kept_count++ < s->p->beam_width) return;
    memmove(&s->kept[at], &s->kept[at + 1], (s->kept_count - at - 1) * sizeof *h);
    s->kept_count--;
}

/* `best`: the greatest sum of the beams that go on; `length` counts the token just chosen. */
static bool is_done(const search *s, float best, uint32_t length)
{
    if (s->kept_count < s->p->beam_width) return false;
    if (s->p->early_stopping == QUIRE_EARLY_STOPPING_TRUE) return true;
    double worst = INFINITY;
    for (uint32_t i = 0; i < s->kept_count; i++) worst = fmin(worst, s->kept[i].score);
    const bool     never = s->p->early_stopping == QUIRE_EARLY_STOPPING_NEVER && s->p->length_penalty > 0;
    const uint32_t over  = never ? s->p->max_tokens : length;
    return worst >= (double)best / pow(over, (double)s->p->length_penalty);
}

static uint32_t sort_kept(search *s, beam_hypothesis *out)
{
    for (uint32_t i = 0; i < s->kept_count; i++) { /* of equals the one kept first */
        uint32_t best = 0;
        for (uint32_t j = 0; j < s->kept_count; j++)
            if (s->kept[j].count > 0 && (s->kept[best].count == 0 || s->kept[j].score > s->kept[best].score)) best = j;
        out[i]              = s->kept[best];
        s->kept[best].count = 0;
    }
    return s->kept_count;
}

uint32_t beam_reference(const driver *d, const driver_request *r, const quire_request *p, int32_t stop_token,
                        beam_hypothesis *out)
{
    static open_beam beams[DRIVER_BEAMS], next[DRIVER_BEAMS];
    static search    s;
    const uint32_t   width = p->beam_width, each = 2 * width;
    uint32_t         count = 1;
    memset(&s, 0, sizeof s);
    memset(beams, 0, sizeof beams);
    s.p = p;
    for (uint32_t length = 1; length <= p->max_tokens; length++) {
        candidate all[DRIVER_BEAMS * 2 * DRIVER_BEAMS];
        uint32_t  total = 0, taken = 0;
        for (uint32_t b = 0; b < count; b++) {
            int32_t tokens[2 * DRIVER_BEAMS];
            float   logprobs[2 * DRIVER_BEAMS];
            driver_candidates(d, r, beams[b].tokens, beams[b].count, each, tokens, logprobs);
            for (uint32_t i = 0; i < each; i++) all[total++] = (candidate){b, i, tokens[i], beams[b].sum + logprobs[i]};
        }
        qsort(all, total, sizeof *all, by_sum);
        for (uint32_t i = 0; i < total && taken < width; i++) {
            const open_beam *from = &beams[all[i].beam];
            const bool       ends = all[i].token == stop_token;
            if (ends || length == p->max_tokens) {
                if (i < width) add(&s, from, all[i].token, ends, all[i].sum);
                continue;
            }
            next[taken]                             = *from;
            next[taken].tokens[next[taken].count++] = all[i].token;
            next[taken++].sum                       = all[i].sum;
        }
        if (taken == 0 || is_done(&s, next[0].sum, length)) break;
        memcpy(beams, next, sizeof beams);
        count = taken;
    }
    return sort_kept(&s, out);
}
