/* Exhaustive search in a small scope: every sequence of nine operations up to a depth, on four blocks, by depth-first
 * search with copies of the whole state; all oracles at each node, a drain at the leaves. quire_scope [DEPTH]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { DEPTH = 4, MAX_DEPTH = 8, DRAIN_STEPS = 200 };

/* ---- copies of the state ---- */

/* Events and their capacity lie last in the arena and are empty between operations; lists of requests are never used.
 * All pointers stay valid, since copies go back to where they came from. */
typedef struct part {
    void  *at;
    size_t bytes;
} part;

typedef struct scope {
    sim          s;
    part         parts[12];
    uint32_t     part_count;
    size_t       bytes;
    char        *copies[MAX_DEPTH + 1];
    uint32_t     path[MAX_DEPTH], depth, limit;
    uint64_t     nodes, leaves;
    sim_coverage coverage;
} scope;

static void add_part(scope *x, void *at, size_t bytes)
{
    x->parts[x->part_count++] = (part){at, bytes};
    x->bytes += bytes;
}

static size_t between(const void *from, const void *to) { return (size_t)((const char *)to - (const char *)from); }

static void save(scope *x, uint32_t depth)
{
    char *to = x->copies[depth];
    for (uint32_t i = 0; i < x->part_count; to += x->parts[i++].bytes) memcpy(to, x->parts[i].at, x->parts[i].bytes);
}

static void restore(const scope *x, uint32_t depth)
{
    const char *from = x->copies[depth];
    for (uint32_t i = 0; i < x->part_count; from += x->parts[i++].bytes)
        memcpy(x->parts[i].at, from, x->parts[i].bytes);
}

/* ---- configurations ---- */

static sim_config config_of(uint32_t variant)
{
    sim_config c = {.options = {.max_num_seqs                 = 3,
                                .max_num_batched_tokens       = 4,
                                .max_num_encoder_input_tokens = 1,
                                .max_model_len                = 12,
                                .enable_chunked_prefill       = true,
                                .max_num_partial_prefills     = 1,
                                .max_long_partial_prefills    = 1,
                                .scheduler_reserve_full_isl   = variant == 0,
                                .max_head_passes              = 1,
                                .max_num_tenants              = 1,
                                .max_num_queued_reqs          = 4,
                                .max_num_queued_tokens        = 64,
                                .prompt_lookup_max            = 2,
                                .num_blocks                   = 4,
                                .block_size                   = 2,
                                .node_count                   = variant == 1 ? 2 : 1,
                                .enable_prefix_caching        = variant != 2,
                                .extents                      = variant == 1,
                                .hash_bits                    = 1,
                                .vocab_size                   = 29}};
    if (variant == 2) c.options.window = 3;
    if (variant == 3) c.options.local_window = 3, c.options.num_local_blocks = c.options.num_blocks;
    return c;
}
enum { VARIANTS = 4 };

/* ---- operations ---- */

typedef enum operation {
    SUBMIT_A,
    SUBMIT_B, /* shares A's first block */
    SUBMIT_TOO_LONG,
    STEP,
    CANCEL_OLDEST,
    CANCEL_NEWEST,
    SUBMIT_FORKING, /* A's prompt, two sequences */
    STEP_REFUSED,
    STEP_FAILED,
    OPERATIONS
} operation;

static const char *const operation_names[OPERATIONS] = {"submit A",       "submit B",      "submit too long",
                                                        "step",           "cancel oldest", "cancel newest",
                                                        "submit forking", "step refused",  "step failed"};

static void submit(sim *s, const int32_t *prompt, uint32_t count, uint32_t max_tokens, uint32_t n)
{
    sim_request *r       = s->requests;
    bool         or_full = false;
    while (r->used) r++;
    *r = (sim_request){.used = true, .not_finite = UINT32_MAX, .id = s->next_id, .submit_ns = s->now_ns};
    memcpy(r->prompt, prompt, count * sizeof *prompt);
    r->request                  = (quire_request){.size         = sizeof r->request,
                                                  .prompt       = r->prompt,
                                                  .prompt_count = count,
                                                  .max_tokens   = max_tokens,
                                                  .n            = n,
                                                  .tenant       = "",
                                                  .user_data    = r};
    const quire_status expected = sim_expected_status(s, &r->request, &or_full);
    const quire_status status   = qr_scheduler_submit(s->scheduler, &r->request, r->id, s->now_ns, NULL);
    if (status != expected && !(or_full && status == QUIRE_ERR_FULL))
        sim_fail(s, SIM_ORACLE_PROGRESS, "I14: submit returns %d, not %d", (int)status, (int)expected);
    r->used = status == QUIRE_OK;
    s->refused += !r->used;
    if (!r->used) return;
    s->next_id++, s->submitted++, s->live++;
    sim_expect(s, r);
    sim_did(s, r, SIM_DID_SUBMIT);
}

static void cancel(sim *s, bool newest)
{
    sim_request *which = NULL;
    for (uint32_t i = 0; i < SIM_REQUESTS; i++) {
        sim_request *r = &s->requests[i];
        if (r->used && (which == NULL || (r->id > which->id) == newest)) which = r;
    }
    if (which == NULL) return;
    which->cancelled = true;
    if (qr_scheduler_cancel(s->scheduler, which->id, s->now_ns) != QUIRE_OK)
        sim_fail(s, SIM_ORACLE_STREAM, "a live request cannot be cancelled");
}

static void step(sim *s, bool refused, bool fails)
{
    qr_block_pool *pool = &s->scheduler->cache.pool;
    s->step++, s->now_ns += 1000;
    pool->fail_after = refused;
    sim_before_plan(s);
    s->plan          = qr_scheduler_plan(s->scheduler, s->now_ns);
    refused          = refused && pool->fail_after == 0;
    pool->fail_after = 0;
    sim_check(s);
    sim_check_plan(s, refused);
    sim_observe(s);
    sim_check_progress(s, refused);
    if (s->plan->sequence_count == 0) return;
    if (!fails) {
        sim_forward(s);
        qr_scheduler_commit(s->scheduler, s->results, s->now_ns);
        return;
    }
    if (s->scheduler->planned_count == 1) sim_request_of(s, s->scheduler->arrays.sequence_records[0])->may_fail = true;
    sim_forward_garbage(s);
    qr_scheduler_commit_failed(s->scheduler, s->now_ns);
}

static void perform(sim *s, operation which)
{
    static const int32_t a[] = {3, 4, 5}, b[] = {3, 4, 6, 7}, too_long[] = {1, 2, 3, 4, 5, 6};
    switch (which) {
    case SUBMIT_A: submit(s, a, 3, 4, 1); break;
    case SUBMIT_B: submit(s, b, 4, 2, 1); break;
    case SUBMIT_TOO_LONG: submit(s, too_long, 6, 4, 1); break;
    case SUBMIT_FORKING: submit(s, a, 3, 3, 2); break;
    case STEP: step(s, false, false); break;
    case STEP_REFUSED: step(s, true, false); break;
    case STEP_FAILED: step(s, false, true); break;
    case CANCEL_OLDEST: cancel(s, false); break;
    case CANCEL_NEWEST: cancel(s, true); break;
    case OPERATIONS: break;
    }
    sim_take_events(s);
    sim_check(s);
    sim_poison_free(s);
}

/* ---- the search ---- */

static void drain(sim *s)
{
    for (uint32_t i = 0; i < DRAIN_STEPS && s->live > 0; i++) perform(s, STEP);
    sim_check_drained(s);
}

/* All sequences that continue the path; iterative, path[d] is the operation tried at depth d. */
static void search(scope *x)
{
    save(x, 0);
    x->path[0] = 0;
    for (x->depth = 0;;) {
        if (x->path[x->depth] == OPERATIONS) {
            if (x->depth == 0) return;
            x->path[--x->depth]++;
            continue;
        }
        restore(x, x->depth);
        perform(&x->s, (operation)x->path[x->depth]);
        x->nodes++;
        if (x->depth + 1 < x->limit) {
            save(x, ++x->depth);
            x->path[x->depth] = 0;
            continue;
        }
        x->leaves++;
        drain(&x->s);
        x->path[x->depth]++;
    }
}

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) abort();
    return memory;
}

static void create(scope *x, uint32_t variant)
{
    sim *s                  = &x->s;
    s->config               = config_of(variant);
    qr_scheduler_options *o = &s->config.options;
    quire_error           error;
    s->coverage = &x->coverage;
    if (qr_scheduler_create(o, &s->scheduler, &error) != QUIRE_OK)
        sim_fail(s, SIM_ORACLE_STATE, "create: %s", error.message);
    qr_scheduler *t = s->scheduler;
    s->slots        = zeroed((size_t)sim_blocks(s) * o->block_size, sizeof *s->slots);
    s->dirty        = zeroed(sim_blocks(s), 1);
    s->results      = zeroed(o->max_num_batched_tokens + o->max_num_seqs, sizeof *s->results);
    s->states       = zeroed(t->record_count, sizeof *s->states);
    s->preemptions  = zeroed(t->record_count, sizeof *s->preemptions);
    s->senior_ran   = zeroed(t->record_count, sizeof *s->senior_ran);
    s->decoding     = zeroed(t->record_count, sizeof *s->decoding);
    memset(s->apart, 0xff, sizeof s->apart);
    s->next_id = 1;
    s->now_ns  = 1000;
    /* what an operation may change */
    add_part(x, &s->now_ns, between(&s->now_ns, &s->coverage));
    add_part(x, t, sizeof *t);
    add_part(x, t->arena.base, between(t->arena.base, t->events));
    add_part(x, t->tokens, between(t->tokens, t->lists));
    add_part(x, t->self_blocks, between(t->self_blocks, t->reserve.base + t->reserve.used));
    add_part(x, t->cache.arena.base, t->cache.arena.used);
    add_part(x, s->slots, (size_t)sim_blocks(s) * o->block_size * sizeof *s->slots);
    add_part(x, s->dirty, sim_blocks(s));
    add_part(x, s->states, t->record_count * sizeof *s->states);
    add_part(x, s->preemptions, t->record_count * sizeof *s->preemptions);
    add_part(x, s->senior_ran, t->record_count * sizeof *s->senior_ran);
    for (uint32_t i = 0; i <= x->limit; i++) x->copies[i] = zeroed(1, x->bytes);
}

static void destroy(scope *x)
{
    sim *s = &x->s;
    qr_scheduler_destroy(s->scheduler);
    free(s->slots), free(s->dirty), free(s->results), free(s->states), free(s->preemptions), free(s->senior_ran);
    free(s->decoding);
    for (uint32_t i = 0; i <= x->limit; i++) free(x->copies[i]);
}

static int run(uint32_t variant, uint32_t depth)
{
    scope *x = zeroed(1, sizeof *x);
    x->limit = depth;
    if (sigsetjmp(x->s.escape, 1) != 0) {
        printf("FAILED: variant %u, %s: %s; after:", variant, sim_oracle_name(x->s.verdict.oracle), x->s.verdict.text);
        for (uint32_t i = 0; i <= x->depth; i++) printf(" %s,", operation_names[x->path[i]]);
        puts(" (then a drain, if that is the whole depth)");
        return 1;
    }
    create(x, variant);
    search(x);
    printf("variant %u: %llu nodes, %llu leaves drained, depth %u, %zu bytes a copy\n", variant,
           (unsigned long long)x->nodes, (unsigned long long)x->leaves, depth, x->bytes);
    destroy(x);
    free(x);
    return 0;
}

int main(int count, char **arguments)
{
    const unsigned long depth = count > 1 ? strtoul(arguments[1], NULL, 10) : DEPTH;
    if (count > 2 || depth < 1 || depth > MAX_DEPTH) {
        fprintf(stderr, "usage: quire_scope [depth 1..%d]\n", MAX_DEPTH);
        return 64;
    }
    int status = 0;
    for (uint32_t variant = 0; variant < VARIANTS && status == 0; variant++) status = run(variant, (uint32_t)depth);
    return status;
}
