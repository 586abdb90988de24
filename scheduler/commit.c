/* What a step achieved: positions become computed, blocks are published, tokens appended, sequences forked or ended.
 * Nothing that a failed step or a retiring sequence did counts. */
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "scheduler/state.h"

/* ---- one sequence ---- */

/* Publishes the blocks that `computed` has filled, then drops those that the window has left behind. */
static void publish_and_slide(qr_scheduler *s, uint32_t record)
{
    qr_sequence *q = &s->sequences[record];
    if (!s->requests[q->request].stored.skip_writing_prefix_cache)
        qr_prefix_index_publish(&s->cache.prefix, &q->self, qr_tokens(s, record), q->computed);
    qr_block_table_slide(&s->cache.pool, &q->self, q->computed, s->options.window);
}

static bool contains(const int32_t *ids, uint32_t count, int32_t token)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == token) return true;
    return false;
}

bool qr_token_stops(const qr_scheduler *s, const qr_request *r, int32_t token)
{
    if (!r->stored.ignore_eos && contains(s->options.eos_token_ids, s->options.eos_count, token)) return true;
    return contains(r->stored.stop, r->stored.stop_count, token);
}

/* Appends the token and its event; returns why the sequence ends now, or NONE. */
static quire_finish append(qr_scheduler *s, uint32_t record, const quire_sampled *result, uint32_t sample)
{
    qr_sequence      *q = &s->sequences[record];
    const qr_request *r = &s->requests[q->request];
    if (q->first_token_ns == 0) q->first_token_ns = s->now_ns;
    qr_tokens(s, record)[q->length++] = result->token;
    const uint32_t outputs            = q->length - r->stored.prompt_count;
    qr_emit_token(s, record, result->token, outputs - 1, result->logprob, sample);
    if (outputs >= r->stored.min_tokens && qr_token_stops(s, r, result->token)) return QUIRE_FINISH_STOP;
    return outputs >= r->stored.max_tokens || q->length >= s->options.max_model_len ? QUIRE_FINISH_LENGTH
                                                                                    : QUIRE_FINISH_NONE;
}

void qr_fail_request(qr_scheduler *s, uint32_t request)
{
    if (s->requests[request].failed) return;
    s->requests[request].failed  = true;
    s->failed[s->failed_count++] = request;
}

/* Accepts the samples of the rows whose drafts were right, and one more. */
static void accept(qr_scheduler *s, uint32_t group, const quire_sampled *sampled, uint32_t sample)
{
    qr_sequence   *g        = &s->sequences[group];
    const uint32_t drafted  = g->drafts;
    const int32_t *drafts   = qr_tokens(s, group) + g->length;
    uint32_t       accepted = 0;
    quire_finish   finish   = QUIRE_FINISH_NONE;
    for (uint32_t i = 0; finish == QUIRE_FINISH_NONE; i++) {
        if (sampled[sample + i].failed) {
            qr_fail_request(s, g->request);
            break;
        }
        const bool right = i < drafted && drafts[i] == sampled[sample + i].token;
        finish = append(s, group, &sampled[sample + i], sample + i); /* a right draft is written over by itself */
        if (!right) break;
        accepted += finish == QUIRE_FINISH_NONE;
    }
    if (drafted > 0) {
        g->computed += accepted;
        g->accepted += accepted;
        s->stats.drafts_accepted += accepted;
        qr_draft_judge(g, drafted, accepted, s->options.num_speculative_tokens);
        publish_and_slide(s, group);
    }
    if (finish != QUIRE_FINISH_NONE) qr_group_finish(s, group, finish, QUIRE_OK);
}

/* ---- fork ---- */

static void copy_to_child(qr_scheduler *s, uint32_t parent, uint32_t child)
{
    const qr_sequence *p = &s->sequences[parent];
    qr_sequence       *c = &s->sequences[child];
    c->rank              = p->rank;
    c->rank.tie += c->index;
    c->slots    = 1;
    c->computed = p->computed, c->highest = p->highest;
    c->cross_written = p->cross_written;
    c->reason        = p->reason;
    qr_copy_history(s, parent, child);
    memcpy(qr_tokens(s, child), qr_tokens(s, parent), p->length * sizeof(int32_t));
    qr_block_table_fork(&s->cache.pool, &p->self, &c->self);
    qr_block_table_fork(&s->cache.pool, &p->cross, &c->cross);
}

static void fork_sequences(qr_scheduler *s, uint32_t group)
{
    qr_sequence *g = &s->sequences[group];
    qr_request  *r = &s->requests[g->request];
    r->forked      = true;
    s->slots[QR_SEQUENCE_RUNNING] -= g->slots - 1;
    s->tenants[r->tenant].running -= g->slots - 1;
    g->slots = 1;
    for (uint32_t child = g->sibling; child != QR_NONE; child = s->sequences[child].sibling) {
        copy_to_child(s, group, child);
        qr_group_move(s, child, QR_SEQUENCE_RUNNING);
        s->stats.forks++;
    }
}

/* ---- one group ---- */

static void publish_encoder(qr_scheduler *s, uint32_t group)
{
    qr_sequence         *g      = &s->sequences[group];
    const quire_request *r      = &s->requests[g->request].stored;
    const bool           shared = s->options.enable_cross_sharing;
    const uint64_t       content =
        shared ? qr_cross_index_publish(&s->cache.cross, &g->cross, qr_encoder_words(s, g->request), r->encoder_count)
                     : qr_cross_index_content(&s->cache.cross, &g->cross);
    QR_FOR_EACH_MEMBER(s, m, group) s->sequences[m].self.root.content = content;
    g->cross_written = true;
    s->stats.encoder_runs++;
    s->stats.tokens_encoder += r->encoder_count;
}

static void tell_prompt(qr_scheduler *s, uint32_t group, const quire_plan_sequence *entry, const quire_sampled *sampled)
{
    const qr_sequence *g = &s->sequences[group];
    qr_request        *r = &s->requests[g->request];
    for (uint32_t i = entry->sample_start; i < entry->sample_start + g->given; i++) {
        const uint32_t position = s->plan.samples[i].position;
        if (sampled[i].failed)
            qr_fail_request(s, g->request);
        else
            qr_emit_prompt_token(s, group, position, sampled[i].logprob, i);
        r->prompt_told = position;
    }
}

static void commit_group(qr_scheduler *s, uint32_t group, const quire_plan_sequence *entry,
                         const quire_sampled *sampled)
{
    qr_sequence *g = &s->sequences[group];
    qr_request  *r = &s->requests[g->request];
    if (g->encodes) publish_encoder(s, group);
    QR_FOR_EACH_MEMBER(s, m, group) {
        s->sequences[m].computed += g->rows - g->drafts;
        publish_and_slide(s, m);
    }
    tell_prompt(s, group, entry, sampled);
    if (g->computed < g->length) return; /* an unfinished prompt has no token to choose */
    if (g->prompt_done_ns == 0) g->prompt_done_ns = s->now_ns;
    if (qr_is_beam(s, g)) {
        qr_beam_commit(s, group, entry, sampled);
        return;
    }
    const uint32_t sample = entry->sample_start + g->given;
    if (r->forked || r->stored.n == 1) {
        accept(s, group, sampled, sample);
        return;
    }
    fork_sequences(s, group);
    for (uint32_t m = r->first, i = 0; m != QR_NONE; m = s->sequences[m].sibling, i++)
        accept(s, m, sampled, sample + i);
}

/* ---- a whole step ---- */

static void retire(qr_scheduler *s, uint32_t group)
{
    const uint32_t request = s->sequences[group].request;
    qr_group_move(s, group, QR_SEQUENCE_DONE);
    qr_group_release_blocks(s, group);
    qr_request_close(s, request);
}

/* The plan is over: groups that were cancelled in flight end now, and so do requests that failed. */
static void end_step(qr_scheduler *s)
{
    qr_plan_drop_copies(s, 0, 0);
    for (uint32_t i = 0; i < s->planned_count; i++) {
        const uint32_t group = s->planned[i];
        qr_sequence   *g     = &s->sequences[group];
        g->entry = QR_NONE, g->rows = g->drafts = g->given = 0, g->encodes = false;
        if (g->state == QR_SEQUENCE_RETIRING) retire(s, group);
    }
    s->planned_count = 0;
    while (s->failed_count > 0)
        qr_request_finish(s, s->failed[--s->failed_count], QUIRE_FINISH_ERROR, QUIRE_ERR_EXECUTION);
}

static void pause_if_wanted(qr_scheduler *s, uint32_t group)
{
    qr_request *r = qr_request_of(s, group);
    if (!r->pause_wanted) return;
    r->pause_wanted = false;
    if (r->live > 0) qr_request_pause(s, s->sequences[group].request);
}

void qr_scheduler_commit(qr_scheduler *s, const quire_sampled *sampled, uint64_t now_ns)
{
    s->now_ns = qr_max_u64(s->now_ns, now_ns);
    if (!s->in_flight) return;
    s->in_flight = false;
    for (uint32_t i = 0; i < s->planned_count; i++) {
        const uint32_t group = s->planned[i];
        if (s->sequences[group].state == QR_SEQUENCE_RETIRING) continue;
        commit_group(s, group, &s->plan.sequences[s->sequences[group].entry], sampled);
    }
    const uint32_t planned = s->planned_count;
    end_step(s);
    if (s->suspect_count > 0) qr_fault_cleared(s, s->planned, planned);
    for (uint32_t i = 0; i < planned; i++) pause_if_wanted(s, s->planned[i]);
    qr_beam_deliver(s);
}

static void take_back(qr_scheduler *s, uint32_t group)
{
    qr_sequence *g = &s->sequences[group];
    if (g->encodes)
        qr_group_release_blocks(s, group);
    else
        qr_group_truncate(s, group, g->computed / s->options.block_size);
    qr_group_move(s, group, QR_SEQUENCE_PREEMPTED);
    qr_note_wait(s, group, QUIRE_WAIT_FAULT, 0);
}

void qr_scheduler_commit_failed(qr_scheduler *s, uint64_t now_ns)
{
    s->now_ns = qr_max_u64(s->now_ns, now_ns);
    if (!s->in_flight) return;
    s->in_flight     = false;
    uint32_t members = 0;
    s->stats.failed_steps++;
    for (uint32_t i = 0; i < s->planned_count; i++)
        if (s->sequences[s->planned[i]].state != QR_SEQUENCE_RETIRING) take_back(s, s->planned[i]);
    const uint32_t planned = s->planned_count;
    end_step(s);
    for (uint32_t i = 0; i < planned; i++)
        if (s->sequences[s->planned[i]].state == QR_SEQUENCE_PREEMPTED) s->planned[members++] = s->planned[i];
    qr_fault_isolate(s, s->planned, members, planned == 1);
    for (uint32_t i = 0; i < members; i++) pause_if_wanted(s, s->planned[i]);
}
