/* The second API level, used as a host uses it: public headers only. The host's "model" writes into each KV slot a hash
 * of everything up to it and looks at every slot a row may see, through the tables it was given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <quire/quire.h>

enum { VOCAB = 97, BLOCK = 4, REQUESTS = 40, OUTPUT = 64, PROMPT = 48, SEQUENCES = 4, BEAMS = 4, MAX_STEPS = 100000 };

typedef struct stream {
    int32_t             tokens[OUTPUT];
    uint32_t            count, ends;
    quire_finish        finish;
    quire_status        status;
    quire_finish_detail detail;
} stream;

typedef struct job {
    int32_t          prompt[PROMPT], encoder[PROMPT];
    quire_request    request;
    quire_request_id id;
    stream           streams[SEQUENCES];
    bool             last;
} job;

typedef struct host {
    quire_planner_model model;
    quire_planner      *planner;
    uint64_t           *slots, *local_slots; /* [num_blocks * block_size] */
    uint64_t            now_ns;
    int32_t             token_below; /* answers are drawn from [0, this) */
    quire_sampled       sampled[512];
    int32_t             candidates[512][2 * BEAMS];
    float               candidate_logprobs[512][2 * BEAMS];
    job                 jobs[REQUESTS];
    uint32_t            job_count;
    uint64_t            rows, rows_encoder, copies, drafts, kv_pairs, recomputed, local_reads;
} host;

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 29);
}

/* ---- the model ---- */

static uint64_t start_hash(const quire_request *request)
{
    uint64_t hash = 1;
    for (uint32_t i = 0; i < request->encoder_count; i++) hash = mix(hash, (uint64_t)request->encoder_input[i]);
    return hash;
}

static uint64_t prefix_hash(const quire_request *request, const int32_t *tokens, uint32_t count)
{
    uint64_t hash = start_hash(request);
    for (uint32_t i = 0; i < count; i++) hash = mix(hash, (uint64_t)tokens[i]);
    return hash;
}

static int32_t choose(const host *h, uint64_t hash, const quire_request *request, uint32_t sequence, bool mask_stops)
{
    for (uint64_t attempt = 0;; attempt++) {
        const int32_t token = (int32_t)(mix(mix(hash, sequence), attempt) % (uint32_t)h->token_below);
        bool          stops = false;
        for (uint32_t i = 0; i < h->model.eos_count; i++) stops |= token == h->model.eos_token_ids[i];
        for (uint32_t i = 0; i < request->stop_count; i++) stops |= token == request->stop[i];
        if (!stops || !mask_stops) return token;
    }
}

/* The same for the local layers, which hold something else. */
static void run_local_layers(host *h, const quire_plan_sequence *s, const uint32_t *blocks)
{
    uint64_t hash = start_hash(s->request);
    for (uint32_t p = 0; p < s->position + s->row_count; p++) {
        hash = mix(hash, (uint64_t)s->tokens[p]);
        if (p + h->model.local_window <= s->position) continue; /* behind the window of the first row */
        assert_true(blocks[p / BLOCK] < h->model.num_blocks);
        uint64_t *slot = &h->local_slots[(uint64_t)blocks[p / BLOCK] * BLOCK + p % BLOCK];
        if (p >= s->position)
            *slot = ~hash;
        else
            assert_true(*slot == ~hash), h->local_reads++;
    }
    if (s->position / BLOCK > h->model.local_window / BLOCK + 1) assert_int_equal(blocks[0], QUIRE_NO_BLOCK);
}

/* Writes the rows' slots one after the other and checks all that each row sees. */
static void run_sequence(host *h, const quire_plan *plan, const quire_plan_sequence *s)
{
    uint64_t hash = start_hash(s->request);
    for (uint32_t i = 0; i < s->cross_length; i++) {
        const uint64_t want = mix(7, (uint64_t)s->request->encoder_input[i]) + i;
        assert_int_equal(h->slots[(uint64_t)s->cross_blocks[i / BLOCK] * BLOCK + i % BLOCK], want);
    }
    const uint32_t end = s->position + s->row_count, window = h->model.window;
    for (uint32_t p = 0; p < end; p++) {
        hash = mix(hash, (uint64_t)s->tokens[p]);
        if (p < s->position) {
            const bool seen = window == 0 || p + window > s->position;
            if (!seen) continue;
            assert_true(s->blocks[p / BLOCK] != QUIRE_NO_BLOCK);
            assert_int_equal(h->slots[(uint64_t)s->blocks[p / BLOCK] * BLOCK + p % BLOCK], hash);
        } else {
            const uint32_t row = s->row_start + p - s->position;
            assert_int_equal(plan->tokens[row], s->tokens[p]);
            assert_int_equal(plan->positions[row], p);
            assert_int_equal(plan->slots[row], (uint64_t)s->blocks[p / BLOCK] * BLOCK + p % BLOCK);
            h->slots[plan->slots[row]] = hash;
        }
    }
    assert_true((end + BLOCK - 1) / BLOCK <= s->block_count);
    if (plan->local_blocks != NULL) run_local_layers(h, s, plan->local_blocks[s - plan->sequences]);
    h->drafts += s->drafts;
}

static void overwrite_freed(host *h, const quire_plan *plan)
{
    for (uint32_t i = 0; i < plan->local_freed_count; i++)
        memset(h->local_slots + (uint64_t)plan->local_freed[i] * BLOCK, 0, BLOCK * sizeof *h->local_slots);
    for (uint32_t i = 0; i < plan->freed_count; i++)
        memset(h->slots + (uint64_t)plan->freed[i] * BLOCK, 0, BLOCK * sizeof *h->slots);
}

static void copy_and_encode(host *h, const quire_plan *plan)
{
    for (uint32_t i = 0; i < plan->local_copy_count; i++)
        memcpy(h->local_slots + (uint64_t)plan->local_copies[i].to * BLOCK,
               h->local_slots + (uint64_t)plan->local_copies[i].from * BLOCK,
               plan->local_copies[i].slots * sizeof *h->local_slots);
    for (uint32_t i = 0; i < plan->copy_count; i++)
        memcpy(h->slots + (uint64_t)plan->copies[i].to * BLOCK, h->slots + (uint64_t)plan->copies[i].from * BLOCK,
               plan->copies[i].slots * sizeof *h->slots);
    for (uint32_t i = 0; i < plan->encoder_count; i++) {
        const quire_plan_encoder *e = &plan->encoders[i];
        for (uint32_t k = 0; k < e->token_count; k++)
            h->slots[(uint64_t)e->blocks[k / BLOCK] * BLOCK + k % BLOCK] = mix(7, (uint64_t)e->tokens[k]) + k;
        assert_int_equal(e->block_count, (e->token_count + BLOCK - 1) / BLOCK);
    }
}

static void sample_one(host *h, const quire_plan *plan, uint32_t i)
{
    const quire_plan_sample   *sample = &plan->samples[i];
    const quire_plan_sequence *s      = &plan->sequences[sample->entry];
    const uint64_t             hash   = prefix_hash(s->request, s->tokens, sample->position);
    assert_in_range(sample->row, s->row_start, s->row_start + s->row_count - 1);
    assert_int_equal(sample->index, sample->position - s->request->prompt_count);
    h->sampled[i] =
        (quire_sampled){.token = choose(h, hash, s->request, sample->sequence, sample->mask_stops), .logprob = -1};
    if (s->request->beam_width <= 1) return;
    for (uint32_t k = 0; k < 2 * s->request->beam_width; k++) {
        h->candidates[i][k]         = (int32_t)((hash + k) % VOCAB);
        h->candidate_logprobs[i][k] = -0.25f - (float)k;
    }
    h->sampled[i].candidates         = h->candidates[i];
    h->sampled[i].candidate_logprobs = h->candidate_logprobs[i];
}

static void run(host *h, const quire_plan *plan)
{
    uint32_t row = 0;
    copy_and_encode(h, plan);
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        assert_int_equal(plan->sequences[i].row_start, row);
        run_sequence(h, plan, &plan->sequences[i]);
        row += plan->sequences[i].row_count;
    }
    assert_int_equal(row, plan->rows);
    for (uint32_t i = 0; i < plan->sample_count; i++) sample_one(h, plan, i);
    h->rows += plan->rows, h->rows_encoder += plan->rows_encoder, h->copies += plan->copy_count;
    h->kv_pairs += plan->kv_pairs;
}

/* ---- the host ---- */

static quire_engine_options small_options(void)
{
    return (quire_engine_options){.size                   = sizeof(quire_engine_options),
                                  .max_num_seqs           = 6,
                                  .max_num_batched_tokens = 24,
                                  .max_num_queued_reqs    = 256,
                                  .watermark              = -1};
}

static quire_planner_model small_model(uint32_t num_blocks)
{
    return (quire_planner_model){.size          = sizeof(quire_planner_model),
                                 .vocab_size    = VOCAB,
                                 .max_model_len = 128,
                                 .eos_count     = 1,
                                 .eos_token_ids = {5},
                                 .num_blocks    = num_blocks,
                                 .block_size    = BLOCK};
}

static host *open_host(const quire_engine_options *options, const quire_planner_model *model)
{
    host       *h     = calloc(1, sizeof *h);
    quire_error error = {0};
    assert_non_null(h);
    h->model       = *model;
    h->token_below = VOCAB;
    h->slots       = calloc((size_t)model->num_blocks * BLOCK, sizeof *h->slots);
    h->local_slots = calloc((size_t)model->num_blocks * BLOCK, sizeof *h->local_slots);
    assert_true(h->slots != NULL && h->local_slots != NULL);
    if (quire_planner_create(options, model, &h->planner, &error) != QUIRE_OK) fail_msg("%s", error.message);
    return h;
}

static void close_host(host *h)
{
    quire_planner_destroy(h->planner);
    free(h->slots);
    free(h->local_slots);
    free(h);
}

/* Prompts of different jobs begin alike, so that there is something to share. */
static job *submit(host *h, quire_request request, uint32_t prompt_count)
{
    job        *j     = &h->jobs[h->job_count];
    quire_error error = {0};
    for (uint32_t i = 0; i < PROMPT; i++) {
        j->prompt[i]  = (int32_t)(mix(i < 16 ? h->job_count % 3 : h->job_count, i) % VOCAB);
        j->encoder[i] = (int32_t)(mix(h->job_count % 5, i + 100) % VOCAB);
    }
    request.size         = sizeof request;
    request.prompt       = j->prompt;
    request.prompt_count = prompt_count;
    if (h->model.encoder_decoder) request.encoder_input = j->encoder, request.encoder_count = 5 + h->job_count % 5;
    request.user_data = j;
    j->request        = request;
    if (quire_planner_submit(h->planner, &request, h->now_ns, &j->id, &error) != QUIRE_OK)
        fail_msg("%s", error.message);
    h->job_count++;
    return j;
}

static void take_events(host *h)
{
    quire_event events[3]; /* few, so that it takes several polls */
    for (size_t count; (count = quire_planner_poll(h->planner, events, 3)) > 0;)
        for (size_t i = 0; i < count; i++) {
            const quire_event *e = &events[i];
            job               *j = e->user_data;
            stream            *s = &j->streams[e->sequence];
            assert_int_equal(e->request, j->id);
            assert_int_equal(s->ends, 0);
            if (e->kind == QUIRE_EVENT_TOKEN) {
                assert_int_equal(e->index, s->count);
                s->tokens[s->count++] = e->token;
                continue;
            }
            s->ends++;
            s->finish = e->finish, s->status = e->status, j->last = e->last;
            s->detail = *(const quire_finish_detail *)e->detail;
            h->recomputed += s->detail.recomputed_tokens;
        }
}

/* False: there was nothing to run. */
static bool step(host *h)
{
    const quire_plan *plan;
    quire_error       error = {0};
    h->now_ns += 1000;
    if (quire_planner_plan(h->planner, h->now_ns, &plan, &error) != QUIRE_OK) fail_msg("%s", error.message);
    const bool any = plan->rows > 0 || plan->rows_encoder > 0;
    overwrite_freed(h, plan);
    if (any) {
        run(h, plan);
        h->now_ns += 1000;
        if (quire_planner_commit(h->planner, h->sampled, plan->sample_count, h->now_ns, &error) != QUIRE_OK)
            fail_msg("%s", error.message);
    }
    take_events(h);
    return any;
}

static void run_all(host *h)
{
    uint32_t steps = 0;
    while (step(h)) assert_true(++steps < MAX_STEPS);
}

static quire_stats stats_of(const host *h)
{
    quire_stats stats = {.size = sizeof stats};
    quire_planner_stats(h->planner, &stats);
    return stats;
}

/* What the model answers when it is asked for one sequence alone, token by token. */
static void assert_answer(const host *h, const job *j, uint32_t sequence)
{
    int32_t        tokens[PROMPT + OUTPUT];
    const stream  *s      = &j->streams[sequence];
    const uint32_t prompt = j->request.prompt_count;
    memcpy(tokens, j->prompt, prompt * sizeof *tokens);
    assert_int_equal(s->ends, 1);
    for (uint32_t i = 0; i < s->count; i++) {
        const uint64_t hash = prefix_hash(&j->request, tokens, prompt + i);
        tokens[prompt + i]  = choose(h, hash, &j->request, sequence, i < j->request.min_tokens);
        assert_int_equal(s->tokens[i], tokens[prompt + i]);
    }
    const bool ended = s->count > 0 && s->tokens[s->count - 1] == 5 && !j->request.ignore_eos;
    assert_int_equal(s->finish, ended ? QUIRE_FINISH_STOP : QUIRE_FINISH_LENGTH);
    if (!ended) assert_int_equal(s->count, j->request.max_tokens);
    assert_int_equal(s->detail.output_tokens, s->count);
}

static void assert_answers(const host *h)
{
    for (uint32_t i = 0; i < h->job_count; i++)
        for (uint32_t k = 0; k < (h->jobs[i].request.n ? h->jobs[i].request.n : 1); k++)
            assert_answer(h, &h->jobs[i], k);
}

static void submit_many(host *h, uint32_t n, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        submit(h, (quire_request){.max_tokens = 4 + i * 7 % 40, .min_tokens = i % 3, .n = 1 + i % n},
               6 + i * 5 % (PROMPT - 6));
}

/* ---- what a host gets ---- */

static void a_host_decodes_through_the_plans_tables(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(400);
    host                      *h       = open_host(&options, &model);
    submit_many(h, 1, REQUESTS);
    run_all(h);
    assert_answers(h);
    const quire_stats stats = stats_of(h);
    assert_int_equal(stats.requests_finished, REQUESTS);
    assert_true(stats.tokens_cached > 0);
    assert_int_equal(stats.preemptions, 0);
    assert_int_equal(stats.blocks_used, 0);
    close_host(h);
}

static void preemption_copies_and_forks_change_no_answer(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(60);
    host                      *h       = open_host(&options, &model);
    submit_many(h, SEQUENCES, REQUESTS);
    run_all(h);
    assert_answers(h);
    const quire_stats stats = stats_of(h);
    assert_true(stats.preemptions > 0 && stats.forks > 0 && h->copies > 0);
    assert_int_equal(stats.copies, h->copies);
    assert_true(h->recomputed > 0);
    close_host(h);
}

static void drafts_are_verified_and_change_no_answer(void **state)
{
    (void)state;
    quire_engine_options options    = small_options();
    options.num_speculative_tokens  = 3;
    options.prompt_lookup_max       = 2;
    const quire_planner_model model = small_model(100);
    host                     *h     = open_host(&options, &model);
    h->token_below                  = 3; /* repetitive enough for a lookup */
    const quire_request request     = {.max_tokens = 60, .ignore_eos = true};
    for (int i = 0; i < 6; i++) submit(h, request, 20);
    run_all(h);
    assert_answers(h);
    const quire_stats stats    = stats_of(h);
    uint64_t          accepted = 0, drafts = 0;
    for (uint32_t i = 0; i < h->job_count; i++) {
        drafts += h->jobs[i].streams[0].detail.drafts;
        accepted += h->jobs[i].streams[0].detail.drafts_accepted;
    }
    assert_true(h->drafts > 0 && stats.drafts_accepted > 0);
    assert_int_equal(stats.drafts, h->drafts);
    assert_int_equal(drafts, stats.drafts);
    assert_int_equal(accepted, stats.drafts_accepted);
    close_host(h);
}

static void a_sliding_window_leaves_blocks_behind(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    quire_planner_model        model   = small_model(40);
    model.window                       = 10;
    host *h                            = open_host(&options, &model);
    submit_many(h, 2, 20);
    run_all(h);
    assert_answers(h);
    close_host(h);
}

static void local_layers_have_blocks_of_their_own(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    quire_planner_model  model   = small_model(80);
    options.zero_on_free         = QUIRE_TOGGLE_ON;
    model.local_window           = 10;
    host *h                      = open_host(&options, &model);
    submit_many(h, 2, 20);
    run_all(h);
    assert_answers(h);
    const quire_stats stats = stats_of(h);
    /* of 6 sequences 3 + 2 blocks and 2 to spare, 3 of the rows */
    assert_int_equal(stats.local_blocks, 6 * (3 + 2 + 2) + 24 / BLOCK);
    assert_true(stats.prefix_hits > 0 && h->local_reads > 0);
    close_host(h);
}

static void encoder_inputs_are_run_once_and_shared(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    quire_planner_model        model   = small_model(80);
    model.encoder_decoder              = true;
    host *h                            = open_host(&options, &model);
    submit_many(h, 2, REQUESTS);
    run_all(h);
    assert_answers(h);
    const quire_stats stats = stats_of(h);
    assert_int_equal(stats.tokens_encoder, h->rows_encoder);
    assert_true(stats.encoder_runs > 0 && stats.encoder_runs_saved > 0);
    close_host(h);
}

static void a_beam_search_takes_candidates(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    job *j = submit(h, (quire_request){.beam_width = BEAMS, .n = 2, .max_tokens = 10, .ignore_eos = true}, 9);
    run_all(h);
    assert_true(j->last);
    for (int k = 0; k < 2; k++) assert_int_equal(j->streams[k].count, 10);
    assert_true(j->streams[0].detail.score >= j->streams[1].detail.score);
    close_host(h);
}

static void samples_say_when_min_tokens_forbids_an_end(void **state)
{
    (void)state;
    static const int32_t       stop[]  = {0, 1, 2, 3, 4, 6, 7, 8, 9};
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    h->token_below                     = 12; /* most tokens would end it */
    job *j = submit(h, (quire_request){.min_tokens = 10, .max_tokens = 30, .stop = stop, .stop_count = 9}, 8);
    run_all(h);
    const stream *s = &j->streams[0];
    assert_int_equal(s->finish, QUIRE_FINISH_STOP);
    assert_in_range(s->count, 10, 29);
    for (uint32_t i = 0; i + 1 < s->count; i++) assert_true(s->tokens[i] >= 10);
    close_host(h);
}

static uint32_t slots_with_content(const host *h)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < h->model.num_blocks * BLOCK; i++) count += h->slots[i] != 0;
    return count;
}

/* Whatever becomes of a block (cached and evicted, dropped by preemption, cancelled), the host hears of it. */
static void with_zero_on_free_nothing_stays_in_blocks_that_nobody_uses(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        quire_engine_options options = small_options();
        options.zero_on_free         = on ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_AUTO;
        quire_planner_model model    = small_model(50);
        model.encoder_decoder        = true;
        host *h                      = open_host(&options, &model);
        submit_many(h, SEQUENCES, REQUESTS);
        for (int i = 0; i < 40; i++) step(h);
        for (uint32_t i = 0; i < REQUESTS; i += 3) (void)quire_planner_cancel(h->planner, h->jobs[i].id, h->now_ns);
        take_events(h);
        run_all(h);
        const quire_stats stats = stats_of(h);
        assert_true(stats.preemptions > 0 && stats.blocks_cached > 0);
        assert_true(slots_with_content(h) > 0);
        if (on) assert_true(slots_with_content(h) <= stats.blocks_cached * BLOCK);
        quire_planner_flush_cache(h->planner);
        step(h);
        assert_int_equal(slots_with_content(h) == 0, on);
        close_host(h);
    }
}

static void the_same_calls_give_the_same_plans(void **state)
{
    (void)state;
    uint64_t hashes[2];
    for (int i = 0; i < 2; i++) {
        const quire_engine_options options = small_options();
        const quire_planner_model  model   = small_model(60);
        host                      *h       = open_host(&options, &model);
        submit_many(h, SEQUENCES, REQUESTS);
        run_all(h);
        hashes[i] = stats_of(h).decision_hash;
        close_host(h);
    }
    assert_int_equal(hashes[0], hashes[1]);
}

/* The engine's decisions on a real model, replayed with the tokens it chose. */
static void an_engine_and_a_planner_decide_alike(void **state)
{
    (void)state;
    enum { JOBS = 10, PROMPTS = 40, MOST = 60 };
    static int32_t             prompts[JOBS][PROMPTS], answers[JOBS][MOST];
    uint32_t                   counts[JOBS] = {0}, ended = 0;
    const quire_model_options  model_options = {.size = sizeof model_options};
    const quire_engine_options options       = {.size                   = sizeof options,
                                                .max_num_seqs           = 4,
                                                .max_num_batched_tokens = 32,
                                                .num_kv_blocks          = 6,
                                                .max_model_len          = 256,
                                                .bind                   = QUIRE_BIND_NONE,
                                                .logger                 = {.level = QUIRE_LOG_ERROR}};
    quire_model               *model         = NULL;
    quire_engine              *engine        = NULL;
    quire_planner             *planner       = NULL;
    quire_error                error         = {0};
    quire_stats                decided = {.size = sizeof decided}, planned = {.size = sizeof planned};
    assert_int_equal(quire_model_synthetic("tiny", &model_options, &model, &error), QUIRE_OK);
    assert_int_equal(quire_engine_create(&options, model, &engine, &error), QUIRE_OK);
    quire_model_info info = {.size = sizeof info};
    quire_model_describe(model, &info);
    const quire_planner_model geometry = {
        .size = sizeof geometry, .vocab_size = info.vocab_size, .max_model_len = 256, .node_count = 1};
    assert_int_equal(quire_planner_create(&options, &geometry, &planner, &error), QUIRE_OK);
    for (uint32_t i = 0; i < JOBS; i++) {
        for (uint32_t k = 0; k < PROMPTS; k++) prompts[i][k] = (int32_t)(mix(i % 2, k) % info.vocab_size);
        const quire_request request = {.size         = sizeof request,
                                       .prompt       = prompts[i],
                                       .prompt_count = PROMPTS - i,
                                       .max_tokens   = MOST - 3 * i,
                                       .ignore_eos   = true,
                                       .user_data    = (void *)(uintptr_t)i};
        assert_int_equal(quire_engine_submit(engine, &request, NULL, &error), QUIRE_OK);
        assert_int_equal(quire_planner_submit(planner, &request, i, NULL, &error), QUIRE_OK);
    }
    while (ended < JOBS) {
        quire_step  one = {.size = sizeof one};
        quire_event events[8];
        assert_int_equal(quire_engine_step(engine, &one), QUIRE_OK);
        for (size_t got; (got = quire_engine_poll(engine, events, 8)) > 0;)
            for (size_t i = 0; i < got; i++) {
                const size_t j = (uintptr_t)events[i].user_data;
                if (events[i].kind == QUIRE_EVENT_TOKEN) answers[j][counts[j]++] = events[i].token;
                ended += events[i].kind == QUIRE_EVENT_FINISHED;
            }
    }
    quire_engine_stats(engine, &decided);
    for (uint64_t now = 1000;; now += 1000) {
        const quire_plan *plan;
        quire_sampled     sampled[4] = {{0}};
        quire_event       event;
        assert_int_equal(quire_planner_plan(planner, now, &plan, &error), QUIRE_OK);
        if (plan->rows == 0) break;
        for (uint32_t i = 0; i < plan->sample_count; i++) {
            const size_t j   = (uintptr_t)plan->sequences[plan->samples[i].entry].request->user_data;
            sampled[i].token = answers[j][plan->samples[i].index];
        }
        assert_int_equal(quire_planner_commit(planner, sampled, plan->sample_count, now, &error), QUIRE_OK);
        while (quire_planner_poll(planner, &event, 1) == 1) continue;
    }
    quire_planner_stats(planner, &planned);
    assert_true(planned.preemptions > 0);
    assert_int_equal(planned.steps, decided.steps);
    assert_int_equal(planned.decision_hash, decided.decision_hash);
    quire_planner_destroy(planner);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

/* ---- time ---- */

static void all_times_are_the_hosts(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(12);
    host                      *h       = open_host(&options, &model);
    h->now_ns                          = 5000000;
    job *first                         = submit(h, (quire_request){.max_tokens = 20, .ignore_eos = true}, 24);
    job *second                        = submit(h, (quire_request){.max_tokens = 3, .ignore_eos = true}, 24);
    h->now_ns                          = 6000000;
    run_all(h);
    const quire_finish_detail *a = &first->streams[0].detail, *b = &second->streams[0].detail;
    assert_int_equal(a->submit_ns, 5000000);
    assert_int_equal(a->first_planned_ns, 6001000);
    assert_int_equal(a->wait_ns[QUIRE_WAIT_ORDER], 1001000);
    assert_true(b->first_planned_ns > a->first_planned_ns);
    uint64_t sum = 0;
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++) sum += b->wait_ns[i];
    assert_int_equal(sum, b->finish_ns - b->submit_ns);
    close_host(h);
}

static void a_timeout_passes_when_the_host_says_so(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    job *j = submit(h, (quire_request){.max_tokens = 60, .ignore_eos = true, .timeout_ns = 1000000000}, 8);
    for (int i = 0; i < 5; i++) step(h);
    assert_int_equal(j->streams[0].ends, 0);
    h->now_ns = 2000000000;
    assert_false(step(h));
    assert_int_equal(j->streams[0].finish, QUIRE_FINISH_TIMEOUT);
    close_host(h);
}

static void a_waiting_request_is_explained_at_any_time(void **state)
{
    (void)state;
    quire_engine_options options    = small_options();
    options.max_num_seqs            = 1;
    const quire_planner_model model = small_model(100);
    host                     *h     = open_host(&options, &model);
    quire_explanation         why   = {.size = sizeof why};
    job                      *j     = submit(h, (quire_request){.max_tokens = 9, .ignore_eos = true}, 8);
    job                      *k     = submit(h, (quire_request){.max_tokens = 9, .ignore_eos = true}, 8);
    step(h);
    assert_int_equal(quire_planner_explain(h->planner, j->id, h->now_ns, &why), QUIRE_OK);
    assert_int_equal(why.reason, QUIRE_WAIT_NONE);
    assert_int_equal(quire_planner_explain(h->planner, k->id, h->now_ns + 500, &why), QUIRE_OK);
    assert_int_equal(why.reason, QUIRE_WAIT_SEQUENCES);
    assert_int_equal(why.wait_ns[QUIRE_WAIT_ORDER] + why.wait_ns[QUIRE_WAIT_SEQUENCES], h->now_ns + 500);
    assert_int_equal(quire_planner_explain(h->planner, 999, h->now_ns, &why), QUIRE_ERR_NOT_FOUND);
    close_host(h);
}

/* ---- ends ---- */

static void a_request_can_be_cancelled_between_plan_and_commit(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    job                       *j       = submit(h, (quire_request){.max_tokens = 40, .ignore_eos = true}, 8);
    job                       *k       = submit(h, (quire_request){.max_tokens = 20, .ignore_eos = true}, 8);
    const quire_plan          *plan;
    step(h);
    assert_int_equal(quire_planner_plan(h->planner, h->now_ns, &plan, NULL), QUIRE_OK);
    assert_int_equal(plan->sequence_count, 2);
    run(h, plan);
    assert_int_equal(quire_planner_cancel(h->planner, j->id, h->now_ns), QUIRE_OK);
    assert_int_equal(quire_planner_cancel(h->planner, j->id, h->now_ns), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(quire_planner_commit(h->planner, h->sampled, plan->sample_count, h->now_ns, NULL), QUIRE_OK);
    take_events(h);
    assert_int_equal(j->streams[0].finish, QUIRE_FINISH_CANCELLED);
    assert_int_equal(j->streams[0].count, 1);
    run_all(h);
    assert_answer(h, k, 0);
    assert_int_equal(stats_of(h).blocks_used, 0);
    close_host(h);
}

static void a_paused_request_is_not_planned(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    job                       *j       = submit(h, (quire_request){.max_tokens = 10, .ignore_eos = true}, 8);
    step(h);
    assert_int_equal(quire_planner_pause(h->planner, j->id, h->now_ns), QUIRE_OK);
    assert_false(step(h));
    assert_int_equal(quire_planner_resume(h->planner, j->id, h->now_ns), QUIRE_OK);
    run_all(h);
    assert_answer(h, j, 0);
    close_host(h);
}

static void a_failed_step_counts_for_nobody_and_the_guilty_one_is_found(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    for (int i = 0; i < 5; i++) submit(h, (quire_request){.max_tokens = 12, .ignore_eos = true}, 8);
    const quire_plan *plan;
    for (int i = 0; i < 1000; i++) {
        bool poisoned = false;
        assert_int_equal(quire_planner_plan(h->planner, h->now_ns, &plan, NULL), QUIRE_OK);
        if (plan->rows == 0) break;
        for (uint32_t k = 0; k < plan->sequence_count; k++) poisoned |= plan->sequences[k].id == h->jobs[2].id;
        if (poisoned) {
            assert_int_equal(quire_planner_commit_failed(h->planner, h->now_ns, NULL), QUIRE_OK);
        } else {
            run(h, plan);
            assert_int_equal(quire_planner_commit(h->planner, h->sampled, plan->sample_count, h->now_ns, NULL),
                             QUIRE_OK);
        }
        take_events(h);
    }
    for (uint32_t i = 0; i < 5; i++)
        if (i != 2) assert_answer(h, &h->jobs[i], 0);
    assert_int_equal(h->jobs[2].streams[0].finish, QUIRE_FINISH_ERROR);
    assert_int_equal(h->jobs[2].streams[0].status, QUIRE_ERR_EXECUTION);
    close_host(h);
}

static void unusable_logits_end_their_request_alone(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    job                       *j       = submit(h, (quire_request){.max_tokens = 12, .ignore_eos = true}, 8);
    job                       *k       = submit(h, (quire_request){.max_tokens = 12, .ignore_eos = true}, 8);
    const quire_plan          *plan;
    assert_int_equal(quire_planner_plan(h->planner, h->now_ns, &plan, NULL), QUIRE_OK);
    run(h, plan);
    assert_int_equal(plan->sample_count, 2);
    h->sampled[0].failed = true;
    assert_int_equal(quire_planner_commit(h->planner, h->sampled, plan->sample_count, h->now_ns, NULL), QUIRE_OK);
    take_events(h);
    run_all(h);
    assert_int_equal(j->streams[0].status, QUIRE_ERR_EXECUTION);
    assert_answer(h, k, 0);
    close_host(h);
}

/* ---- what a step counts ---- */

static void a_plan_counts_what_attention_sees(void **state)
{
    (void)state;
    quire_engine_options options   = small_options();
    options.max_num_batched_tokens = 8;
    quire_planner_model model      = small_model(100);
    host               *h          = open_host(&options, &model);
    const quire_plan   *plan;
    submit(h, (quire_request){.max_tokens = 4, .ignore_eos = true}, 10);
    assert_int_equal(quire_planner_plan(h->planner, 1, &plan, NULL), QUIRE_OK);
    assert_int_equal(plan->rows, 8);
    assert_int_equal(plan->rows_prompt, 8);
    assert_int_equal(plan->rows_logits, 0);
    assert_int_equal(plan->kv_tokens, 8);
    assert_int_equal(plan->kv_pairs, 36);
    assert_int_equal(plan->running, 1);
    assert_int_equal(plan->blocks_used, 3);
    assert_int_equal(quire_planner_commit(h->planner, NULL, 0, 2, NULL), QUIRE_OK);
    assert_int_equal(quire_planner_plan(h->planner, 3, &plan, NULL), QUIRE_OK);
    assert_int_equal(plan->rows, 2);
    assert_int_equal(plan->rows_logits, 1);
    assert_int_equal(plan->kv_tokens, 10);
    assert_int_equal(plan->kv_pairs, 9 + 10);
    close_host(h);

    model.window = 4;
    h            = open_host(&options, &model);
    submit(h, (quire_request){.max_tokens = 4, .ignore_eos = true}, 6);
    assert_int_equal(quire_planner_plan(h->planner, 1, &plan, NULL), QUIRE_OK);
    assert_int_equal(plan->kv_tokens, 6);
    assert_int_equal(plan->kv_pairs, 1 + 2 + 3 + 4 + 4 + 4);
    close_host(h);
}

/* ---- errors ---- */

static void assert_refused(quire_status status, quire_status expected, const quire_error *error, const char *part)
{
    assert_int_equal(status, expected);
    if (strstr(error->message, part) == NULL) fail_msg("\"%s\" does not say \"%s\"", error->message, part);
}

static void a_wrong_model_or_option_is_refused_by_name(void **state)
{
    (void)state;
    quire_engine_options options = small_options();
    quire_planner       *planner;
    quire_error          error;
#define REFUSED(change, part)                                                                                          \
    do {                                                                                                               \
        quire_planner_model model = small_model(20);                                                                   \
        change;                                                                                                        \
        assert_refused(quire_planner_create(&options, &model, &planner, &error), QUIRE_ERR_INVALID, &error, part);     \
        assert_null(planner);                                                                                          \
    } while (0)
    REFUSED(model.vocab_size = 0, "vocab_size: 0 is not in 1..");
    REFUSED(model.num_blocks = 0, "num_blocks: 0");
    REFUSED(model.num_blocks = (1 << 28) + 1, "num_blocks: 268435457 is not in 0..268435456");
    REFUSED(model.block_size = 65537, "block_size: 65537 is not in 0..65536");
    REFUSED(model.node_count = 1000, "node_count: 1000");
    REFUSED(model.eos_count = 9, "eos_count: 9 is not in 0..8");
    REFUSED(model.eos_token_ids[0] = VOCAB, "eos_token_ids: id 97 is not in 0..96");
    REFUSED((model.encoder_decoder = true, model.decoder_start_token_id = -1), "decoder_start_token_id: id -1");
    REFUSED(model.size = 1, "quire_planner_model: size: 1");
    REFUSED((model.local_window = 10, model.num_local_blocks = 3), "num_local_blocks");
    REFUSED((model.local_window = 10, model.window = 20), "local_window");
    REFUSED((model.local_window = 10, model.encoder_decoder = true), "local_window");
    REFUSED(model.num_local_blocks = 9, "num_local_blocks");
    REFUSED(options.max_num_seqs = 5000, "max_num_seqs: 5000");
    options = small_options();
    REFUSED(options.max_model_len = 129, "max_model_len: 129 is above the model's own limit 128");
    options = small_options();
    assert_refused(quire_planner_create(NULL, NULL, &planner, &error), QUIRE_ERR_INVALID, &error, "options is NULL");
    assert_refused(quire_planner_create(&options, NULL, &planner, &error), QUIRE_ERR_INVALID, &error, "model is NULL");
    assert_refused(quire_planner_create(&options, NULL, NULL, &error), QUIRE_ERR_INVALID, &error, "planner_out");
    quire_planner_destroy(NULL);
}

static void calls_out_of_order_are_refused_and_change_nothing(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    quire_planner             *p       = h->planner;
    quire_error                error;
    const quire_plan          *plan, *second;
    quire_event                event;
    assert_refused(quire_planner_commit(p, NULL, 0, 0, &error), QUIRE_ERR_INVALID, &error, "no plan to commit");
    assert_refused(quire_planner_commit_failed(p, 0, &error), QUIRE_ERR_INVALID, &error, "no plan to commit");
    job *j = submit(h, (quire_request){.max_tokens = 2, .ignore_eos = true}, 8);
    assert_int_equal(quire_planner_plan(p, 0, &plan, &error), QUIRE_OK);
    assert_refused(quire_planner_plan(p, 0, &second, &error), QUIRE_ERR_INVALID, &error, "plan 1 is not committed");
    run(h, plan);
    assert_refused(quire_planner_commit(p, h->sampled, 2, 0, &error), QUIRE_ERR_INVALID, &error,
                   "2 samples are given, the plan has 1");
    assert_refused(quire_planner_commit(p, NULL, 1, 0, &error), QUIRE_ERR_INVALID, &error, "0 samples");
    const int32_t right = h->sampled[0].token;
    h->sampled[0].token = VOCAB;
    assert_refused(quire_planner_commit(p, h->sampled, 1, 0, &error), QUIRE_ERR_INVALID, &error,
                   "sampled[0]: token: id 97 is not in 0..96");
    h->sampled[0].token = right;
    assert_int_equal(quire_planner_commit(p, h->sampled, 1, 0, &error), QUIRE_OK);
    assert_refused(quire_planner_plan(p, 0, &second, &error), QUIRE_ERR_FULL, &error, "poll");
    assert_int_equal(quire_planner_poll(p, &event, 0), 0);
    take_events(h);
    run_all(h);
    assert_answer(h, j, 0);
    assert_refused(quire_planner_submit(p, NULL, 0, NULL, &error), QUIRE_ERR_INVALID, &error, "request is NULL");
    quire_request request = {.size = sizeof request, .prompt = j->prompt, .prompt_count = 8, .logits = 1};
    assert_refused(quire_planner_submit(p, &request, 0, NULL, &error), QUIRE_ERR_INVALID, &error, "logits: 1");
    request.logits     = 0;
    request.max_tokens = 200;
    assert_refused(quire_planner_submit(p, &request, 0, NULL, &error), QUIRE_ERR_INVALID, &error, "max_tokens: 200");
    assert_int_equal(quire_planner_cancel(p, 77, 0), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(quire_planner_pause(p, 77, 0), QUIRE_ERR_NOT_FOUND);
    assert_int_equal(quire_planner_resume(p, 77, 0), QUIRE_ERR_NOT_FOUND);
    close_host(h);
}

static void a_beam_searchs_unusable_candidates_are_refused(void **state)
{
    (void)state;
    const quire_engine_options options = small_options();
    const quire_planner_model  model   = small_model(100);
    host                      *h       = open_host(&options, &model);
    quire_error                error;
    const quire_plan          *plan;
    submit(h, (quire_request){.beam_width = 2, .max_tokens = 4}, 8);
    assert_int_equal(quire_planner_plan(h->planner, 0, &plan, &error), QUIRE_OK);
#define REFUSED_WITH(change, text)                                                                                     \
    do {                                                                                                               \
        run(h, plan);                                                                                                  \
        change;                                                                                                        \
        assert_refused(quire_planner_commit(h->planner, h->sampled, 1, 0, &error), QUIRE_ERR_INVALID, &error, text);   \
    } while (0)
    REFUSED_WITH(h->sampled[0].candidates = NULL, "sampled[0]: candidates: missing");
    REFUSED_WITH(h->candidates[0][3] = -1, "candidates[3]: id -1");
    REFUSED_WITH(h->candidates[0][3] = h->candidates[0][1], "appears twice");
    REFUSED_WITH(h->candidate_logprobs[0][2] = NAN, "candidate_logprobs[2]: nan");
    REFUSED_WITH(h->candidate_logprobs[0][0] = INFINITY, "candidate_logprobs[0]: inf");
    REFUSED_WITH(h->candidate_logprobs[0][2] = -0.5f, "candidate_logprobs[2]: -0.5 follows -1.25; best first");
#undef REFUSED_WITH
    run(h, plan); /* none is left: tokens there do not matter */
    h->candidates[0][3]         = h->candidates[0][2];
    h->candidate_logprobs[0][3] = -INFINITY;
    assert_int_equal(quire_planner_commit(h->planner, h->sampled, 1, 0, &error), QUIRE_OK);
    close_host(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_decodes_through_the_plans_tables),
        cmocka_unit_test(preemption_copies_and_forks_change_no_answer),
        cmocka_unit_test(drafts_are_verified_and_change_no_answer),
        cmocka_unit_test(a_sliding_window_leaves_blocks_behind),
        cmocka_unit_test(local_layers_have_blocks_of_their_own),
        cmocka_unit_test(encoder_inputs_are_run_once_and_shared),
        cmocka_unit_test(a_beam_search_takes_candidates),
        cmocka_unit_test(samples_say_when_min_tokens_forbids_an_end),
        cmocka_unit_test(with_zero_on_free_nothing_stays_in_blocks_that_nobody_uses),
        cmocka_unit_test(the_same_calls_give_the_same_plans),
        cmocka_unit_test(an_engine_and_a_planner_decide_alike),
        cmocka_unit_test(all_times_are_the_hosts),
        cmocka_unit_test(a_timeout_passes_when_the_host_says_so),
        cmocka_unit_test(a_waiting_request_is_explained_at_any_time),
        cmocka_unit_test(a_request_can_be_cancelled_between_plan_and_commit),
        cmocka_unit_test(a_paused_request_is_not_planned),
        cmocka_unit_test(a_failed_step_counts_for_nobody_and_the_guilty_one_is_found),
        cmocka_unit_test(unusable_logits_end_their_request_alone),
        cmocka_unit_test(a_plan_counts_what_attention_sees),
        cmocka_unit_test(a_wrong_model_or_option_is_refused_by_name),
        cmocka_unit_test(calls_out_of_order_are_refused_and_change_nothing),
        cmocka_unit_test(a_beam_searchs_unusable_candidates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
