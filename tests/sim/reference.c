/* What a request must deliver, computed from the request alone: hashes of prefixes, the token that follows each, stops,
 * and a plain beam search. Shares no code with the scheduler. */
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "tests/sim/sim.h"

uint64_t sim_extend(uint64_t hash, int32_t token)
{
    return qr_mix64(hash * 0x9e3779b97f4a7c15u + (uint64_t)(uint32_t)token + 1);
}

bool sim_is_stop(const sim *s, const sim_request *r, int32_t token)
{
    if (!r->request.ignore_eos && s->config.options.eos_count > 0 && token == s->config.options.eos_token_ids[0])
        return true;
    for (uint32_t i = 0; i < r->request.stop_count; i++)
        if (r->stop[i] == token) return true;
    return false;
}

int32_t sim_token(const sim *s, const sim_request *r, uint64_t hash, int32_t last, const quire_plan_sample *sample)
{
    const uint32_t vocab = s->config.options.vocab_size;
    const uint64_t index = (uint64_t)sample->position << 32 | sample->index;
    uint64_t       x     = qr_random_u64(hash ^ r->request.sampling.seed, sample->sequence, index);
    if (s->config.repetitive && x >> 60 != 0) x = sim_extend(7, last) >> 32;
    uint32_t token = (uint32_t)(x % vocab);
    while (sample->mask_stops && sim_is_stop(s, r, (int32_t)token)) token = (token + 1) % vocab;
    return (int32_t)token;
}

float sim_given_logprob(uint64_t hash) { return -(float)(hash % 1009); }

void sim_candidates(const sim *s, const sim_request *r, uint64_t hash, bool mask_stops, int32_t *tokens,
                    float *logprobs)
{
    const uint32_t vocab = s->config.options.vocab_size, stride = 1 + (uint32_t)(hash >> 32) % (vocab - 1);
    uint32_t       token   = (uint32_t)(hash % vocab);
    float          logprob = 0;
    for (uint32_t i = 0; i < 2 * r->request.beam_width; token = (token + stride) % vocab) {
        if (mask_stops && sim_is_stop(s, r, (int32_t)token)) continue;
        logprob -= 0.01f + (float)(sim_extend(hash, (int32_t)i) >> 44) * 0x1p-20f;
        tokens[i]     = (int32_t)token;
        logprobs[i++] = logprob;
    }
}

/* ---- what submit must say ---- */

uint32_t sim_blocks_needed(const sim *s, const quire_request *q, uint32_t max_tokens)
{
    const qr_scheduler_options *o = &s->config.options;
    const bool     no_evict = o->capacity_policy == QUIRE_CAPACITY_GUARANTEED_NO_EVICT, beams = q->beam_width > 1;
    const uint32_t positions = q->prompt_count + max_tokens - 1, rows = no_evict ? o->max_num_batched_tokens : 1;
    uint32_t       self = (positions + o->block_size - 1) / o->block_size;
    if (o->window > 0) self = qr_min_u32(self, (o->window + rows - 2 + o->block_size - 1) / o->block_size + 1);
    const uint32_t cross = (q->encoder_count + o->block_size - 1) / o->block_size;
    const uint32_t one   = (beams ? q->beam_width : 1) * self + cross;
    return no_evict && !beams ? q->n * one : one;
}

static bool may_be_full(const sim *s, const quire_request *q, uint32_t slots)
{
    const qr_scheduler_options *o      = &s->config.options;
    const qr_scheduler         *t      = s->scheduler;
    uint64_t                    queued = 0, tokens = 0, of_tenant = 0, tenants = 0;
    const quire_tenant_options *limits = NULL;
    for (uint32_t i = 0; i < o->tenant_count; i++)
        if (strcmp(o->tenants[i].name, q->tenant) == 0) limits = &o->tenants[i];
    for (uint32_t i = 0; i < t->record_count; i++) {
        const qr_sequence *u = &t->sequences[i];
        if (u->state != QR_SEQUENCE_QUEUED && u->state != QR_SEQUENCE_PREEMPTED && u->state != QR_SEQUENCE_PAUSED)
            continue;
        const qr_request *r = &t->requests[u->request];
        if (r->stored.beam_width > 1 && r->first != i) continue;
        queued += u->slots;
        tokens += r->stored.prompt_count + r->stored.encoder_count;
        if (strcmp(r->stored.tenant, q->tenant) == 0) of_tenant += u->slots;
    }
    for (uint32_t i = 0; i < t->tenant_count; i++) tenants += t->tenants[i].live > 0;
    uint32_t leaving = 0; /* hold their records until their events are taken */
    for (uint32_t i = 0; i < t->record_count; i++)
        leaving += t->sequences[i].state == QR_SEQUENCE_DONE || t->sequences[i].state == QR_SEQUENCE_RETIRING;
    if (leaving > 0 && slots > t->free_sequence_count) return true;
    if (queued + slots > o->max_num_queued_reqs) return true;
    if (tokens + q->prompt_count + q->encoder_count > o->max_num_queued_tokens) return true;
    if (limits && limits->max_num_queued_reqs && of_tenant + slots > limits->max_num_queued_reqs) return true;
    return tenants >= o->max_num_tenants;
}

quire_status sim_expected_status(const sim *s, quire_request *q, bool *or_full)
{
    const qr_scheduler_options *o    = &s->config.options;
    const uint32_t              room = o->max_model_len - q->prompt_count;
    q->n                             = qr_max_u32(q->n, 1);
    if (q->max_tokens == 0) {
        uint32_t fits = 0;
        while (fits < room && sim_blocks_needed(s, q, fits + 1) <= o->num_blocks) fits++;
        q->max_tokens = qr_max_u32(1, qr_max_u32(fits, q->min_tokens));
    }
    if (sim_blocks_needed(s, q, q->max_tokens) > o->num_blocks) return QUIRE_ERR_TOO_LONG;
    *or_full = may_be_full(s, q, q->beam_width > 1 ? q->beam_width : q->n);
    return QUIRE_OK;
}

/* ---- streams ---- */

static uint64_t hash_prompt(const sim_request *r)
{
    uint64_t hash = r->root_hash;
    for (uint32_t i = 0; i < r->request.prompt_count; i++) hash = sim_extend(hash, r->prompt[i]);
    return hash;
}

static void expect_stream(const sim *s, sim_request *r, uint32_t index)
{
    const quire_request *q      = &r->request;
    sim_stream          *stream = &r->streams[index];
    uint64_t             hash   = hash_prompt(r);
    int32_t              last   = r->prompt[q->prompt_count - 1];
    stream->expected_finish     = QUIRE_FINISH_NONE;
    for (uint32_t i = 0; stream->expected_finish == QUIRE_FINISH_NONE; i++) {
        const quire_plan_sample sample = {
            .sequence = index, .position = q->prompt_count + i, .index = i, .mask_stops = i < q->min_tokens};
        last                   = sim_token(s, r, hash, last, &sample);
        hash                   = sim_extend(hash, last);
        stream->expected[i]    = last;
        stream->expected_count = i + 1;
        if (i + 1 >= q->min_tokens && sim_is_stop(s, r, last))
            stream->expected_finish = QUIRE_FINISH_STOP;
        else if (i + 1 >= q->max_tokens || q->prompt_count + i + 1 >= s->config.options.max_model_len)
            stream->expected_finish = QUIRE_FINISH_LENGTH;
    }
}

/* ---- beam search, as Hugging Face's generate() ---- */

typedef struct hypothesis {
    int32_t      tokens[SIM_TOKENS];
    uint32_t     count, serial;
    double       score;
    quire_finish finish;
} hypothesis;

typedef struct beam {
    int32_t  tokens[SIM_TOKENS];
    uint32_t count;
    uint64_t hash;
    float    sum;
} beam;

typedef struct search {
    beam       beams[SIM_STREAMS], next[SIM_STREAMS];
    hypothesis kept[SIM_STREAMS];
    uint32_t   open, kept_count, serial;
} search;

static void keep(search *b, const sim_request *r, const beam *from, int32_t token, bool ends, float sum)
{
    hypothesis h = {.count = from->count + 1, .serial = b->serial};
    h.finish     = ends ? QUIRE_FINISH_STOP : QUIRE_FINISH_LENGTH;
    memcpy(h.tokens, from->tokens, sizeof h.tokens);
    h.tokens[from->count] = token;
    h.score               = (double)sum / pow(h.count, (double)r->request.length_penalty);
    uint32_t slot         = b->kept_count;
    if (slot == r->request.beam_width) {
        slot = 0;
        for (uint32_t i = 1; i < b->kept_count; i++)
            if (b->kept[i].score < b->kept[slot].score ||
                (b->kept[i].score == b->kept[slot].score && b->kept[i].serial > b->kept[slot].serial))
                slot = i;
        if (h.score <= b->kept[slot].score) return;
    } else {
        b->kept_count++;
    }
    b->serial++;
    b->kept[slot] = h;
}

static bool search_is_done(const search *b, const sim_request *r, float best, uint32_t length)
{
    const quire_request *q     = &r->request;
    double               worst = INFINITY;
    if (b->kept_count < q->beam_width) return false;
    if (q->early_stopping == QUIRE_EARLY_STOPPING_TRUE) return true;
    if (q->early_stopping == QUIRE_EARLY_STOPPING_NEVER && q->length_penalty > 0) length = q->max_tokens;
    for (uint32_t i = 0; i < b->kept_count; i++) worst = fmin(worst, b->kept[i].score);
    return worst >= (double)best / pow(length, (double)q->length_penalty);
}

/* Extends the beams by one token. False: the search has ended. */
static bool search_step(const sim *s, search *b, const sim_request *r, uint32_t outputs)
{
    const uint32_t width = r->request.beam_width;
    int32_t        tokens[SIM_STREAMS][2 * SIM_STREAMS];
    float          logprobs[SIM_STREAMS][2 * SIM_STREAMS];
    uint32_t       cursor[SIM_STREAMS] = {0}, taken = 0;
    const bool     last =
        outputs >= r->request.max_tokens || r->request.prompt_count + outputs >= s->config.options.max_model_len;
    for (uint32_t i = 0; i < b->open; i++)
        sim_candidates(s, r, b->beams[i].hash, outputs - 1 < r->request.min_tokens, tokens[i], logprobs[i]);
    for (uint32_t rank = 0; taken < width; rank++) {
        uint32_t from  = UINT32_MAX;
        float    score = -INFINITY;
        for (uint32_t i = 0; i < b->open; i++)
            if (cursor[i] < 2 * width && b->beams[i].sum + logprobs[i][cursor[i]] > score)
                from = i, score = b->beams[i].sum + logprobs[i][cursor[i]];
        if (from == UINT32_MAX) break;
        const int32_t token = tokens[from][cursor[from]++];
        const bool    ends  = sim_is_stop(s, r, token);
        if (ends || last) {
            if (rank < width) keep(b, r, &b->beams[from], token, ends, score);
            continue;
        }
        beam *next                  = &b->next[taken++];
        *next                       = b->beams[from];
        next->tokens[next->count++] = token;
        next->hash                  = sim_extend(next->hash, token);
        next->sum                   = score;
    }
    if (taken == 0 || search_is_done(b, r, b->next[0].sum, outputs)) return false;
    memcpy(b->beams, b->next, sizeof b->beams);
    b->open = taken;
    return true;
}

static void expect_beams(const sim *s, sim_request *r)
{
    const quire_request *q = &r->request;
    search               b = {.open = 1};
    b.beams[0].hash        = hash_prompt(r);
    for (uint32_t outputs = 1; search_step(s, &b, r, outputs);) outputs++;
    for (uint32_t rank = 0; rank < q->n; rank++) {
        sim_stream *stream      = &r->streams[rank];
        stream->expected_finish = QUIRE_FINISH_LENGTH;
        if (rank >= b.kept_count) continue;
        uint32_t best = rank;
        for (uint32_t i = rank + 1; i < b.kept_count; i++)
            if (b.kept[i].score > b.kept[best].score ||
                (b.kept[i].score == b.kept[best].score && b.kept[i].serial < b.kept[best].serial))
                best = i;
        const hypothesis h = b.kept[best];
        b.kept[best]       = b.kept[rank];
        b.kept[rank]       = h;
        memcpy(stream->expected, h.tokens, sizeof stream->expected);
        stream->expected_count  = h.count;
        stream->expected_finish = h.finish;
    }
}

void sim_expect(sim *s, sim_request *r)
{
    uint64_t hash = qr_random_u64(99, r->tenant_number, (uint64_t)(unsigned char)r->salt[0]);
    for (uint32_t i = 0; i < r->request.encoder_count; i++) r->encoder_hash[i] = hash = sim_extend(hash, r->encoder[i]);
    r->root_hash = hash;
    if (r->request.beam_width > 1) {
        expect_beams(s, r);
        return;
    }
    for (uint32_t i = 0; i < r->request.n; i++) expect_stream(s, r, i);
}
