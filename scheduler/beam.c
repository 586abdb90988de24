/* Beam search with the semantics of Hugging Face's generate() (transformers 4.50 and later): of all continuations of
 * all beams by cumulative log probability, ends among the first w become finished hypotheses, and the first w that are
 * no ends go on; at the length limit every continuation is an end. Beams share blocks; a beam that goes on twice is
 * forked with copy-on-write. */
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "scheduler/state.h"

typedef struct choice {
    uint32_t record; /* the beam it continues */
    int32_t  token;
    float    score; /* sum of log probabilities */
} choice;

typedef struct beam {
    uint32_t       record, cursor;
    const float   *scores;
    const int32_t *tokens;
} beam;

bool qr_is_beam(const qr_scheduler *s, const qr_sequence *q) { return s->requests[q->request].stored.beam_width > 1; }

/* ---- finished hypotheses: record i of the request keeps one behind its tokens ---- */

static int32_t *hypothesis(const qr_scheduler *s, uint32_t record)
{
    return qr_tokens(s, record) + s->token_stride / 2;
}

static double penalised(const qr_request *r, double sum, uint32_t length)
{
    return sum / pow(length, (double)r->stored.length_penalty);
}

/* By score; of equals the one added first. */
static bool is_better(const qr_sequence *a, const qr_sequence *b)
{
    if (a->hypothesis_score != b->hypothesis_score) return a->hypothesis_score > b->hypothesis_score;
    return a->hypothesis_serial < b->hypothesis_serial;
}

/* The worst kept; of equals the one added last. */
static uint32_t worst_hypothesis(const qr_scheduler *s, const qr_request *r)
{
    uint32_t worst = r->first;
    for (uint32_t m = s->sequences[worst].sibling, i = 1; i < r->hypotheses; m = s->sequences[m].sibling, i++)
        if (is_better(&s->sequences[worst], &s->sequences[m])) worst = m;
    return worst;
}

static uint32_t nth_record(const qr_scheduler *s, const qr_request *r, uint32_t n)
{
    uint32_t record = r->first;
    while (n-- > 0) record = s->sequences[record].sibling;
    return record;
}

/* The beam with one token more becomes a hypothesis, if it is better than the worst kept. */
static void add_hypothesis(qr_scheduler *s, qr_request *r, const choice *c)
{
    const uint32_t prompt = r->stored.prompt_count, outputs = s->sequences[c->record].length - prompt;
    const double   score = penalised(r, (double)c->score, outputs + 1);
    uint32_t       slot;
    if (r->hypotheses < r->stored.beam_width) {
        slot = nth_record(s, r, r->hypotheses++);
    } else {
        slot = worst_hypothesis(s, r);
        if (score <= s->sequences[slot].hypothesis_score) return;
    }
    memcpy(hypothesis(s, slot), qr_tokens(s, c->record) + prompt, outputs * sizeof(int32_t));
    hypothesis(s, slot)[outputs]         = c->token;
    s->sequences[slot].hypothesis_score  = score;
    s->sequences[slot].hypothesis_length = outputs + 1;
    s->sequences[slot].hypothesis_serial = r->hypothesis_serial++;
    s->sequences[slot].hypothesis_finish = qr_token_stops(s, r, c->token) ? QUIRE_FINISH_STOP : QUIRE_FINISH_LENGTH;
}

/* Hugging Face's rule for when no open beam can beat the kept ones any more: the best open one has `length` outputs. */
static bool is_done(const qr_scheduler *s, const qr_request *r, float best_sum, uint32_t length)
{
    if (r->hypotheses < r->stored.beam_width) return false;
    if (r->stored.early_stopping == QUIRE_EARLY_STOPPING_TRUE) return true;
    if (r->stored.early_stopping == QUIRE_EARLY_STOPPING_NEVER && r->stored.length_penalty > 0)
        length = r->stored.max_tokens;
    return s->sequences[worst_hypothesis(s, r)].hypothesis_score >= penalised(r, (double)best_sum, length);
}

/* ---- one step ---- */

/* The beams in the order of their ranks, each with its row's candidates. False: a row's logits were not finite. */
static bool open_beams(const qr_scheduler *s, uint32_t group, const quire_plan_sequence *entry,
                       const quire_sampled *sampled, beam *beams)
{
    uint32_t i = 0;
    QR_FOR_EACH_MEMBER(s, m, group) {
        const quire_sampled *result = &sampled[entry[i++].sample_start];
        if (result->failed || result->candidates == NULL || result->candidate_logprobs == NULL) return false;
        beams[s->sequences[m].beam_rank] =
            (beam){.record = m, .scores = result->candidate_logprobs, .tokens = result->candidates};
    }
    return true;
}

/* The best continuation not taken yet: candidates come sorted, ties go to the beam of the lower rank. */
static bool next_choice(const qr_scheduler *s, beam *beams, uint32_t count, uint32_t candidates, choice *out)
{
    beam *best = NULL;
    for (uint32_t i = 0; i < count; i++) {
        beam *b = &beams[i];
        if (b->scores == NULL || b->cursor == candidates) continue;
        const float score = s->sequences[b->record].beam_score + b->scores[b->cursor];
        if (!(score > -INFINITY) || (best != NULL && score <= out->score)) continue;
        best = b;
        *out = (choice){b->record, b->tokens[b->cursor], score};
    }
    if (best != NULL) best->cursor++;
    return best != NULL;
}

/* Fills chosen[] with the beams that go on; returns how many. `last`: none does. */
static uint32_t choose(qr_scheduler *s, qr_request *r, beam *beams, uint32_t count, bool last, choice *chosen)
{
    const uint32_t width = r->stored.beam_width;
    uint32_t       taken = 0;
    choice         c     = {0};
    for (uint32_t rank = 0; taken < width && next_choice(s, beams, count, 2 * width, &c); rank++) {
        if (last && rank == width) break;
        if (!last && !qr_token_stops(s, r, c.token))
            chosen[taken++] = c;
        else if (rank < width)
            add_hypothesis(s, r, &c);
    }
    return taken;
}

/* The record becomes a copy of the beam, blocks shared. */
static void fork_beam(qr_scheduler *s, uint32_t from, uint32_t to)
{
    const qr_sequence *a    = &s->sequences[from];
    qr_sequence       *b    = &s->sequences[to];
    qr_block_pool     *pool = &s->cache.pool;
    qr_block_table_release(pool, &b->self);
    qr_block_table_set_running(pool, &b->self, false);
    qr_block_table_fork(pool, &a->self, &b->self);
    qr_block_table_set_running(pool, &b->self, true);
    memcpy(qr_tokens(s, to), qr_tokens(s, from), a->length * sizeof(int32_t));
    b->state = a->state, b->length = a->length, b->computed = a->computed, b->highest = a->highest;
    b->slots = a->slots;
    s->stats.forks++;
}

static void open_members(qr_scheduler *s, qr_request *r)
{
    for (uint32_t m = r->first; m != QR_NONE; m = s->sequences[m].sibling)
        s->sequences[m].next_member = s->sequences[m].sibling;
    r->forked = true;
}

/* The first continuation of a beam stays in its record; the others go to records of beams that end here. */
static void assign(const qr_scheduler *s, const qr_request *r, const choice *chosen, uint32_t *records)
{
    const uint32_t width               = r->stored.beam_width;
    bool           taken[QR_MAX_BEAMS] = {0};
    for (uint32_t j = 0; j < width; j++) {
        const uint32_t index = s->sequences[chosen[j].record].index;
        records[j]           = taken[index] ? QR_NONE : chosen[j].record;
        taken[index]         = true;
    }
    uint32_t free = r->first;
    for (uint32_t j = 0; j < width; j++) {
        if (records[j] != QR_NONE) continue;
        while (taken[s->sequences[free].index]) free = s->sequences[free].sibling;
        records[j]                      = free;
        taken[s->sequences[free].index] = true;
    }
}

static void go_on(qr_scheduler *s, qr_request *r, const choice *chosen)
{
    const uint32_t width = r->stored.beam_width;
    uint32_t       records[QR_MAX_BEAMS];
    assign(s, r, chosen, records);
    for (uint32_t j = 0; j < width; j++)
        if (records[j] != chosen[j].record) fork_beam(s, chosen[j].record, records[j]);
    for (uint32_t j = 0; j < width; j++) {
        qr_sequence *q                        = &s->sequences[records[j]];
        qr_tokens(s, records[j])[q->length++] = chosen[j].token;
        q->beam_score                         = chosen[j].score;
        q->beam_rank                          = j;
    }
    if (!r->forked) open_members(s, r);
}

/* ---- the end ---- */

static void sort_hypotheses(const qr_scheduler *s, qr_request *r)
{
    for (uint32_t i = 0; i < r->hypotheses; i++) {
        const uint32_t record = nth_record(s, r, i);
        uint32_t       rank   = i;
        for (; rank > 0 && is_better(&s->sequences[record], &s->sequences[r->beam_order[rank - 1]]); rank--)
            r->beam_order[rank] = r->beam_order[rank - 1];
        r->beam_order[rank] = record;
    }
}

static void finish_search(qr_scheduler *s, uint32_t group)
{
    const uint32_t request = s->sequences[group].request;
    qr_request    *r       = &s->requests[request];
    sort_hypotheses(s, r);
    if (s->sequences[group].suspect) qr_fault_forget(s, group);
    qr_note_wait(s, group, QUIRE_WAIT_ORDER, 0); /* closes the interval */
    s->sequences[group].first_token_ns = s->now_ns;
    qr_group_move(s, group, QR_SEQUENCE_DONE);
    qr_group_release_blocks(s, group);
    for (uint32_t m = s->sequences[group].sibling; m != QR_NONE; m = s->sequences[m].sibling)
        qr_copy_history(s, group, m);
    qr_request_forget(s, request);
    qr_list_append(&s->emitting, QR_LINKS(s->requests, emitting), request);
}

void qr_beam_commit(qr_scheduler *s, uint32_t group, const quire_plan_sequence *entry, const quire_sampled *sampled)
{
    const uint32_t request = s->sequences[group].request;
    qr_request    *r       = &s->requests[request];
    const uint32_t outputs = qr_outputs(s, &s->sequences[group]) + 1;
    beam           beams[QR_MAX_BEAMS];
    choice         chosen[QR_MAX_BEAMS];
    const bool     last = outputs >= r->stored.max_tokens || s->sequences[group].length + 1 >= s->options.max_model_len;
    memset(beams, 0, sizeof beams);
    if (!open_beams(s, group, entry, sampled, beams)) {
        qr_fail_request(s, request);
        return;
    }
    const uint32_t count = choose(s, r, beams, r->forked ? r->stored.beam_width : 1, last, chosen);
    if (count == 0 || is_done(s, r, chosen[0].score, outputs)) {
        finish_search(s, group);
        return;
    }
    for (uint32_t j = count; j < r->stored.beam_width; j++) /* dead beams: nothing they lead to is ever chosen */
        chosen[j] = (choice){chosen[0].record, chosen[0].token, -INFINITY};
    go_on(s, r, chosen);
}

/* ---- delivery ---- */

/* One hypothesis, as far as there is room. True: all of it, its FINISHED event included. */
static bool deliver_one(qr_scheduler *s, qr_request *r)
{
    const uint32_t     target = nth_record(s, r, r->emit_rank);
    const bool         found  = r->emit_rank < r->hypotheses;
    const uint32_t     source = found ? r->beam_order[r->emit_rank] : QR_NONE;
    const uint32_t     length = found ? s->sequences[source].hypothesis_length : 0;
    const quire_finish finish = found ? s->sequences[source].hypothesis_finish : QUIRE_FINISH_LENGTH;
    for (; r->emit_token < length; r->emit_token++, s->hypothesis_room--) {
        if (s->hypothesis_room == 0) return false;
        qr_emit_token(s, target, hypothesis(s, source)[r->emit_token], r->emit_token, 0, UINT32_MAX);
    }
    r->live--;
    qr_emit_finished(s, target, finish, QUIRE_OK, found ? (float)s->sequences[source].hypothesis_score : -INFINITY);
    return true;
}

void qr_beam_deliver(qr_scheduler *s)
{
    while (s->emitting.head != QR_NONE) {
        const uint32_t request = s->emitting.head;
        qr_request    *r       = &s->requests[request];
        for (; r->emit_rank < r->stored.n; r->emit_rank++, r->emit_token = 0)
            if (!deliver_one(s, r)) return;
        qr_list_remove(&s->emitting, QR_LINKS(s->requests, emitting), request);
        qr_request_close(s, request);
    }
}
