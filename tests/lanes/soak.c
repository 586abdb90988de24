/* Engine after engine, with models, types, options and requests of every kind at random and a KV cache too small for
 * them. What a request gives is, bit for bit, what it gives alone; a cancelled one gives the beginning of that. The
 * walkers recount every 100 steps; each engine leaves no block, no memory, no descriptor and no thread behind. */
#include <dirent.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>

#include <quire/quire.h>

#include "base/bits.h"
#include "base/rng.h"
#include "tests/lanes/lane.h"

enum {
    MOST_REQUESTS  = 260,
    MOST_PROMPT    = 110,
    MOST_OUTPUT    = 20,
    MOST_SEQUENCES = 4,
    MOST_LISTED    = 8,
    CHECK_EVERY    = 100,
    MOST_STEPS     = 100000,
    HEAP_SLACK     = 256 << 10,
    RESIDENT_SLACK = 16 << 20
};

static const char *const models[] = {
    "granite",    "llama-head-dim-100", "llama-linear", "llama-longrope",    "llama3-gqa",     "mistral-swa",
    "qwen2-bias", "qwen2-mixed-window", "qwen2-yarn",   "qwen3-qknorm",      "smollm3",        "qwen2-large-key-bias",
    "t5-gated",   "t5-gated-silu",      "t5-relu",      "t5-gated-gelu-erf", "t5-large-units", "t5-two-embeddings"};
static const char *const tenants[] = {"", "a", "b"};

/* ---- draws ---- */

typedef struct dice {
    uint64_t seed, stream, counter;
} dice;

static uint32_t roll(dice *d, uint32_t from, uint32_t to)
{
    return from + qr_random_below(d->seed, d->stream, d->counter++, to - from + 1);
}

static bool one_in(dice *d, uint32_t n) { return roll(d, 1, n) == 1; }

static quire_toggle toggle(dice *d) { return one_in(d, 2) ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_OFF; }

/* ---- memory ---- */

static _Atomic int64_t live_bytes;

static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    void *memory = aligned_alloc(alignment, (size / alignment + 1) * alignment);
    if (memory != NULL) atomic_fetch_add(&live_bytes, (int64_t)size);
    return memory;
}

static void deallocate(void *context, void *memory, size_t size)
{
    (void)context;
    if (memory != NULL) atomic_fetch_sub(&live_bytes, (int64_t)size);
    free(memory);
}

static const quire_allocator allocator = {.allocate = allocate, .deallocate = deallocate};
static const quire_logger    logger    = {.level = QUIRE_LOG_ERROR};

static uint32_t entries_of(const char *folder)
{
    DIR     *open  = opendir(folder);
    uint32_t count = 0;
    LANE_CHECK(open != NULL, "%s", folder);
    while (readdir(open) != NULL) count++;
    closedir(open);
    return count;
}

/* What must not grow: of malloc (oneDNN, hwloc and OpenMP use it), and of the process. */
typedef struct footprint {
    size_t   heap, resident; /* bytes */
    uint32_t descriptors, threads;
} footprint;

static size_t resident_bytes(void)
{
    FILE *from  = fopen("/proc/self/statm", "r");
    long  pages = 0;
    LANE_CHECK(from != NULL && fscanf(from, "%*d %ld", &pages) == 1, "/proc/self/statm");
    fclose(from);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static footprint measure(void)
{
    malloc_trim(0);
    return (footprint){mallinfo2().uordblks, resident_bytes(), entries_of("/proc/self/fd"),
                       entries_of("/proc/self/task")};
}

/* ---- requests ---- */

typedef struct answer {
    uint64_t     tokens[MOST_SEQUENCES][MOST_OUTPUT]; /* token, log probability and likeliest ones, hashed */
    uint64_t     logits[MOST_SEQUENCES];              /* of all tokens that came with some */
    uint64_t     prompt;                              /* of PROMPT events */
    uint32_t     counts[MOST_SEQUENCES];
    float        scores[MOST_SEQUENCES];
    quire_finish ends[MOST_SEQUENCES];
    quire_status statuses[MOST_SEQUENCES];
    bool         ended;
} answer;

typedef struct request {
    quire_request    from;
    int32_t          prompt[MOST_PROMPT], encoder_input[MOST_PROMPT], listed[MOST_LISTED], stop[2];
    quire_logit_bias bias[MOST_LISTED];
    quire_request_id id;
    uint32_t         submit_at, cancel_at; /* steps; UINT32_MAX: not */
    bool             was_refused, was_submitted;
    answer           alone, together;
} request;

typedef struct round {
    uint64_t         number;
    quire_model     *model;
    quire_model_info info;
    quire_dtype      keys;
    const char      *isa;
    request         *requests; /* [count] */
    uint32_t         count;
} round_t;

typedef struct totals {
    uint64_t engines, steps, requests, refused, cancelled, preemptions, tokens, drafts, hits, checks;
} totals;

static void draw_sampling(dice *d, quire_request *r, uint32_t vocab)
{
    r->sampling.seed        = roll(d, 0, 1000);
    r->sampling.temperature = one_in(d, 3) ? 0 : (float)roll(d, 1, 20) / 10;
    if (one_in(d, 3)) r->sampling.top_k = roll(d, 1, vocab);
    if (one_in(d, 3)) r->sampling.top_p = (float)roll(d, 1, 100) / 100;
    if (one_in(d, 4)) r->sampling.min_p = (float)roll(d, 0, 50) / 100;
    if (one_in(d, 4)) r->sampling.repetition_penalty = (float)roll(d, 50, 200) / 100;
    if (one_in(d, 4)) r->sampling.presence_penalty = (float)roll(d, 0, 40) / 10 - 2;
    if (one_in(d, 4)) r->sampling.frequency_penalty = (float)roll(d, 0, 40) / 10 - 2;
    if (one_in(d, 5)) r->n = roll(d, 1, MOST_SEQUENCES);
}

static void draw_beams(dice *d, quire_request *r)
{
    r->beam_width     = roll(d, 2, MOST_SEQUENCES);
    r->n              = roll(d, 1, r->beam_width);
    r->length_penalty = (float)roll(d, 0, 20) / 10;
    r->early_stopping = (quire_early_stopping)roll(d, 0, 2);
}

static void draw_lists(dice *d, request *to, uint32_t vocab)
{
    quire_request *r = &to->from;
    for (uint32_t i = 0; i < MOST_LISTED; i++) {
        to->listed[i] = (int32_t)(i * (vocab / MOST_LISTED) + roll(d, 0, vocab / MOST_LISTED - 1));
        to->bias[i]   = (quire_logit_bias){to->listed[i], (float)roll(d, 0, 200) - 100};
    }
    to->stop[0] = (int32_t)roll(d, 0, vocab - 1);
    to->stop[1] = (int32_t)roll(d, 0, vocab - 1);
    if (one_in(d, 5)) r->stop = to->stop, r->stop_count = 2;
    if (one_in(d, 6)) r->logit_bias = to->bias, r->logit_bias_count = MOST_LISTED;
    if (one_in(d, 8)) r->allowed = to->listed, r->allowed_count = MOST_LISTED;
    if (r->allowed == NULL && one_in(d, 8)) r->banned = to->listed, r->banned_count = MOST_LISTED;
}

/* Half of the prompts begin with one of three beginnings, so that blocks are shared. */
static void draw_input(dice *d, request *to, const quire_model_info *info)
{
    quire_request *r      = &to->from;
    const uint32_t shared = one_in(d, 3) ? 0 : roll(d, 1, 100), beginning = roll(d, 1, 3);
    const uint32_t length      = info->encoder_layers > 0 ? roll(d, 1, 8) : roll(d, 1, MOST_PROMPT);
    const bool     short_model = info->max_position_embeddings > 0 && info->max_position_embeddings < 128;
    r->prompt                  = to->prompt;
    r->prompt_count            = short_model && length > 40 ? 40 : length;
    for (uint32_t i = 0; i < MOST_PROMPT; i++) {
        const uint32_t own = roll(d, 0, info->vocab_size - 1);
        to->prompt[i]      = (int32_t)(i < shared ? (i * 7 + beginning * 13) % info->vocab_size : own);
    }
    if (info->encoder_layers == 0) return;
    r->encoder_input = to->encoder_input;
    r->encoder_count = roll(d, 1, 60);
    for (uint32_t i = 0; i < MOST_PROMPT; i++)
        to->encoder_input[i] = (int32_t)((i * 5 + (shared ? beginning : to->submit_at)) % info->vocab_size);
}

static void draw_details(dice *d, quire_request *r, const quire_model_info *info)
{
    if (one_in(d, 4)) r->logprobs = roll(d, 0, 5);
    if (one_in(d, 6)) r->logits = roll(d, 1, 7);
    if (one_in(d, 8) && info->encoder_layers == 0) r->prompt_logprobs = true, r->prompt_top_logprobs = roll(d, 0, 3);
}

/* One of `count`, which come about as fast as they can go. */
static void draw_request(dice *d, request *to, uint32_t count, const quire_model_info *info)
{
    quire_request *r = &to->from;
    to->submit_at    = roll(d, 0, count / 2);
    to->cancel_at    = one_in(d, 12) ? to->submit_at + roll(d, 0, 20) : UINT32_MAX;
    *r               = (quire_request){.size       = sizeof *r,
                                       .user_data  = to,
                                       .max_tokens = roll(d, 1, MOST_OUTPUT),
                                       .ignore_eos = one_in(d, 2),
                                       .priority   = (int32_t)roll(d, 0, 4) - 2,
                                       .tenant     = tenants[one_in(d, 2) ? 0 : roll(d, 0, 2)]};
    draw_input(d, to, info);
    if (one_in(d, 5))
        draw_beams(d, r);
    else
        draw_sampling(d, r, info->vocab_size);
    if (r->beam_width == 0) draw_details(d, r, info);
    draw_lists(d, to, info->vocab_size);
    if (one_in(d, 4)) r->min_tokens = roll(d, 0, r->max_tokens);
    if (one_in(d, 8)) r->cache_salt = "salt";
    r->masked                    = one_in(d, 8);
    r->skip_reading_prefix_cache = one_in(d, 10);
    r->skip_writing_prefix_cache = one_in(d, 10);
}

/* Forbids a third of the vocabulary, another one behind every token. */
static void fill_mask(void *context, const quire_mask_row *row, uint32_t *allowed)
{
    (void)context;
    const uint32_t last = row->token_count > 0 ? (uint32_t)row->tokens[row->token_count - 1] : 0;
    for (uint32_t id = (last + row->token_count) % 3; id < row->vocab_size; id += 3)
        allowed[id / 32] &= ~(UINT32_C(1) << id % 32);
}

/* ---- engines ---- */

/* Few blocks preempt, many sequences make many rows, a small budget cuts prompts. */
static quire_engine_options draw_options(dice *d)
{
    quire_engine_options o         = {.size = sizeof o, .max_num_seqs = roll(d, MOST_SEQUENCES, 32)};
    o.max_num_batched_tokens       = qr_max_u32(o.max_num_seqs, roll(d, 8, 200));
    o.max_num_encoder_input_tokens = roll(d, 60, 200);
    o.max_num_partial_prefills     = roll(d, 1, 4);
    o.block_size                   = 32;
    o.num_kv_blocks                = roll(d, 8, 18);
    o.threads                      = roll(d, 1, 2);
    o.policy                       = (quire_policy)roll(d, 0, 1);
    o.capacity_scheduler_policy    = one_in(d, 4) ? QUIRE_CAPACITY_GUARANTEED_NO_EVICT : QUIRE_CAPACITY_MAX_UTILIZATION;
    o.preemption_mode              = (quire_preemption_mode)roll(d, 0, 1);
    o.watermark                    = one_in(d, 2) ? QUIRE_NO_WATERMARK : 0.05F;
    o.enable_chunked_prefill       = QUIRE_TOGGLE_ON;
    o.scheduler_reserve_full_isl   = toggle(d);
    o.tenant_fairness              = toggle(d);
    o.enable_prefix_caching        = toggle(d);
    o.enable_cross_sharing         = toggle(d);
    o.extents                      = toggle(d);
    o.zero_on_free                 = toggle(d);
    o.num_speculative_tokens       = one_in(d, 2) ? roll(d, 1, 4) : 0;
    o.prompt_lookup_max            = roll(d, 1, 3);
    o.speculative_adaptive         = toggle(d);
    o.max_logits_in_flight         = roll(d, 8, 64);
    return o;
}

static quire_engine *create(const round_t *r, quire_engine_options options)
{
    quire_engine *engine = NULL;
    quire_error   error  = {0};
    options.kv_dtype     = r->keys;
    options.isa          = r->isa;
    options.max_model_len =
        r->info.max_position_embeddings > 0 ? qr_min_u32(r->info.max_position_embeddings, 256) : 256;
    options.bind      = QUIRE_BIND_NONE;
    options.mask      = (quire_mask_hook){.fill = fill_mask};
    options.allocator = allocator;
    options.logger    = logger;
    LANE_CHECK(quire_engine_create(&options, r->model, &engine, &error) == QUIRE_OK, "round %d: create: %s",
               (int)r->number, error.message);
    return engine;
}

static quire_stats stats_of(const quire_engine *engine)
{
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(engine, &stats);
    return stats;
}

static void check(const round_t *r, const quire_engine *engine, totals *sum)
{
    const char *broken = quire_engine_check(engine);
    LANE_CHECK(broken == NULL, "round %d: %s", (int)r->number, broken);
    sum->checks++;
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    for (; count >= 4; at += 4, count -= 4) {
        uint32_t word;
        memcpy(&word, at, 4);
        hash = qr_mix64(hash + word);
    }
    return hash;
}

static void take_token(const round_t *r, answer *to, const quire_event *e)
{
    const quire_token_detail *detail = e->detail;
    uint64_t                  hash   = hash_bytes(qr_mix64((uint64_t)e->token), &e->logprob, sizeof e->logprob);
    if (detail != NULL) {
        hash = hash_bytes(hash, detail->top_tokens, detail->top_count * sizeof *detail->top_tokens);
        hash = hash_bytes(hash, detail->top_logprobs, detail->top_count * sizeof *detail->top_logprobs);
    }
    if (e->kind == QUIRE_EVENT_PROMPT) {
        to->prompt = qr_mix64(to->prompt + hash);
        return;
    }
    LANE_CHECK(e->sequence < MOST_SEQUENCES && e->index < MOST_OUTPUT && e->index == to->counts[e->sequence],
               "round %d: token %u of sequence %u after %u", (int)r->number, e->index, e->sequence,
               to->counts[e->sequence]);
    to->tokens[e->sequence][to->counts[e->sequence]++] = hash;
    if (detail != NULL && detail->logits != NULL)
        to->logits[e->sequence] = hash_bytes(to->logits[e->sequence], detail->logits, r->info.vocab_size * 4);
}

/* True: the request is over. */
static bool take_event(const round_t *r, answer *to, const quire_event *e)
{
    LANE_CHECK(!to->ended, "round %d: an event after the last", (int)r->number);
    if (e->kind != QUIRE_EVENT_FINISHED) return take_token(r, to, e), false;
    LANE_CHECK(e->status == QUIRE_OK, "round %d: a request ends with status %d", (int)r->number, e->status);
    to->ends[e->sequence]     = e->finish;
    to->statuses[e->sequence] = e->status;
    to->scores[e->sequence]   = ((const quire_finish_detail *)e->detail)->score;
    to->ended                 = e->last;
    return e->last;
}

static void step(const round_t *r, quire_engine *engine)
{
    const quire_status status = quire_engine_step(engine, NULL);
    LANE_CHECK(status == QUIRE_OK, "round %d: step: status %d", (int)r->number, status);
}

/* ---- alone ---- */

static void run_alone(round_t *r, totals *sum)
{
    quire_event                events[64];
    const quire_engine_options options = {.max_num_seqs          = MOST_SEQUENCES,
                                          .num_kv_blocks         = 200,
                                          .threads               = 1,
                                          .enable_prefix_caching = QUIRE_TOGGLE_OFF,
                                          .enable_cross_sharing  = QUIRE_TOGGLE_OFF,
                                          .max_logits_in_flight  = 64,
                                          .size                  = sizeof options};
    quire_engine              *engine  = create(r, options);
    LANE_CHECK(stats_of(engine).batch_invariant, "round %d: not batch invariant", (int)r->number);
    for (uint32_t i = 0; i < r->count; i++) {
        request    *one   = &r->requests[i];
        quire_error error = {0};
        LANE_CHECK(quire_engine_submit(engine, &one->from, NULL, &error) == QUIRE_OK, "round %d: request %u alone: %s",
                   (int)r->number, i, error.message);
        for (uint32_t steps = 0; !one->alone.ended; steps++) {
            LANE_CHECK(steps < MOST_STEPS, "round %d: request %u does not end alone", (int)r->number, i);
            step(r, engine);
            const size_t got = quire_engine_poll(engine, events, 64);
            for (size_t k = 0; k < got; k++) take_event(r, &one->alone, &events[k]);
        }
    }
    sum->steps += stats_of(engine).steps;
    quire_engine_destroy(engine);
}

/* ---- together ---- */

/* Returns how many can now end. */
static uint32_t submit_due(round_t *r, quire_engine *engine, uint32_t now, totals *sum)
{
    uint32_t refused = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        request *one = &r->requests[i];
        if (one->was_submitted || one->was_refused || one->submit_at > now) continue;
        const quire_status status = quire_engine_submit(engine, &one->from, &one->id, NULL);
        LANE_CHECK(status == QUIRE_OK || status == QUIRE_ERR_FULL || status == QUIRE_ERR_TOO_LONG,
                   "round %d: submit: status %d", (int)r->number, status);
        one->was_submitted = status == QUIRE_OK;
        one->was_refused   = status == QUIRE_ERR_TOO_LONG; /* it could never fit into so few blocks */
        refused += one->was_refused;
    }
    sum->refused += refused;
    return refused;
}

static void cancel_due(round_t *r, quire_engine *engine, uint32_t now)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (r->requests[i].was_submitted && r->requests[i].cancel_at == now)
            (void)quire_engine_cancel(engine, r->requests[i].id);
}

static uint32_t poll(const round_t *r, quire_engine *engine, size_t most)
{
    quire_event  events[64];
    uint32_t     ended = 0;
    const size_t got   = quire_engine_poll(engine, events, most);
    for (size_t k = 0; k < got; k++) ended += take_event(r, &((request *)events[k].user_data)->together, &events[k]);
    return ended;
}

/* The reader takes few events at a time, or none for a while; the cache is emptied now and then. */
static void run_together(round_t *r, dice *d, totals *sum)
{
    quire_engine *engine = create(r, draw_options(d));
    uint32_t      over = 0, stalled = 0, now = 0;
    for (; over < r->count; now++) {
        LANE_CHECK(now < MOST_STEPS, "round %d: %u of %u requests ended in %d steps", (int)r->number, over, r->count,
                   MOST_STEPS);
        over += submit_due(r, engine, now, sum);
        cancel_due(r, engine, now);
        step(r, engine);
        if (stalled == 0 && one_in(d, 40)) stalled = roll(d, 1, 30);
        if (stalled > 0)
            stalled--;
        else
            over += poll(r, engine, roll(d, 1, 64));
        if (one_in(d, 200)) quire_engine_flush_cache(engine);
        if (now % CHECK_EVERY == 0) check(r, engine, sum);
    }
    quire_engine_flush_cache(engine);
    step(r, engine);
    check(r, engine, sum);
    const quire_stats end = stats_of(engine);
    LANE_CHECK(end.blocks_free == end.blocks, "round %d: %d of %d blocks are free", (int)r->number,
               (int)end.blocks_free, (int)end.blocks);
    sum->steps += end.steps;
    sum->preemptions += end.preemptions;
    sum->tokens += end.tokens_output;
    sum->drafts += end.drafts_accepted;
    sum->hits += end.tokens_cached;
    quire_engine_destroy(engine);
}

/* ---- both ---- */

static void compare_sequence(const round_t *r, uint32_t i, uint32_t s, bool is_whole)
{
    const answer  *a = &r->requests[i].alone, *b = &r->requests[i].together;
    const uint32_t count = b->counts[s];
    LANE_CHECK(count <= a->counts[s] && (!is_whole || count == a->counts[s]),
               "round %d: request %u.%u has %u tokens, %u alone", (int)r->number, i, s, count, a->counts[s]);
    for (uint32_t k = 0; k < count; k++)
        LANE_CHECK(a->tokens[s][k] == b->tokens[s][k], "round %d: request %u.%u differs from token %u on",
                   (int)r->number, i, s, k);
    if (!is_whole) return;
    LANE_CHECK(a->ends[s] == b->ends[s] && a->logits[s] == b->logits[s] &&
                   memcmp(&a->scores[s], &b->scores[s], sizeof a->scores[s]) == 0,
               "round %d: request %u.%u: its end, its logits or its score differ", (int)r->number, i, s);
}

static void compare(const round_t *r, uint32_t i, totals *sum)
{
    const request *one      = &r->requests[i];
    bool           is_whole = true;
    if (one->was_refused) return;
    for (uint32_t s = 0; s < MOST_SEQUENCES; s++) is_whole &= one->together.ends[s] != QUIRE_FINISH_CANCELLED;
    sum->cancelled += !is_whole;
    if (!is_whole && one->from.beam_width > 1) return; /* its best so far were not its best */
    for (uint32_t s = 0; s < MOST_SEQUENCES; s++) compare_sequence(r, i, s, is_whole);
    LANE_CHECK(!is_whole || one->alone.prompt == one->together.prompt,
               "round %d: request %u: log probabilities of its "
               "prompt differ",
               (int)r->number, i);
}

static void load(round_t *r, dice *d)
{
    static const quire_dtype  dtypes[] = {QUIRE_DTYPE_F32, QUIRE_DTYPE_BF16, QUIRE_DTYPE_INT8};
    static const char *const  isas[]   = {"auto", "auto", "avx2", "scalar"};
    const char               *name     = models[roll(d, 0, sizeof models / sizeof *models - 1)];
    char                      path[512];
    quire_error               error   = {0};
    const quire_model_options options = {
        .size = sizeof options, .weight_dtype = dtypes[roll(d, 0, 2)], .allocator = allocator, .logger = logger};
    snprintf(path, sizeof path, "%s/tests/models/%s", QUIRE_SOURCE_DIR, name);
    LANE_CHECK(quire_model_load(path, &options, &r->model, &error) == QUIRE_OK, "%s: %s", name, error.message);
    r->info = (quire_model_info){.size = sizeof r->info};
    quire_model_describe(r->model, &r->info);
    r->keys = dtypes[roll(d, 0, 2)];
    r->isa  = isas[roll(d, 0, 3)];
}

static void run_round(uint64_t number, uint32_t count, totals *sum)
{
    round_t r = {.number = number, .count = count, .requests = calloc(count, sizeof *r.requests)};
    dice    d = {.seed = number, .stream = 1};
    load(&r, &d);
    for (uint32_t i = 0; i < count; i++) draw_request(&d, &r.requests[i], count, &r.info);
    run_alone(&r, sum);
    run_together(&r, &d, sum);
    for (uint32_t i = 0; i < count; i++) compare(&r, i, sum);
    sum->engines += 2;
    sum->requests += count;
    quire_model_destroy(r.model);
    free(r.requests);
    LANE_CHECK(live_bytes == 0, "round %d: %d bytes are not given back", (int)number, (int)live_bytes);
}

int main(int argc, char **argv)
{
    const bool     is_long = lane_is_long(argc, argv);
    const uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, rounds = argc > 2 ? 1 : is_long ? 225 : 12;
    const uint32_t count = is_long ? MOST_REQUESTS : 40;
    footprint      early = {0};
    totals         sum   = {0};
    setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0", 1); /* else it keeps up to 1,024 products, one after the other */
    for (uint64_t i = 0; i < rounds; i++) {
        run_round(first + i, count, &sum);
        if (i == rounds / 4) early = measure();
    }
    const footprint end = measure();
    LANE_CHECK(end.heap <= early.heap + HEAP_SLACK && end.resident <= early.resident + RESIDENT_SLACK &&
                   end.descriptors == early.descriptors && end.threads == early.threads,
               "heap %zu -> %zu bytes, resident %zu -> %zu, descriptors %u -> %u, threads %u -> %u", early.heap,
               end.heap, early.resident, end.resident, early.descriptors, end.descriptors, early.threads, end.threads);
    printf(
        "%d engines, %d steps, %d requests compared with themselves alone (%d never fit, %d cancelled), %d tokens, %d "
        "preemptions, %d tokens found in the cache, %d drafts accepted, %d walks; heap %+d, resident %+d bytes\n",
        (int)sum.engines, (int)sum.steps, (int)sum.requests, (int)sum.refused, (int)sum.cancelled, (int)sum.tokens,
        (int)sum.preemptions, (int)sum.hits, (int)sum.drafts, (int)sum.checks, (int)(end.heap - early.heap),
        (int)(end.resident - early.resident));
    return 0;
}
