/* The mask hook: what it forbids is never chosen, whatever else runs, and it sees each sequence's tokens in order. The
 * grammar of these tests: a token must be equal, modulo 5, to the number of outputs before it plus their sum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <quire/quire.h>

enum { VOCAB = 256, JOBS = 12, SEQUENCES = 4, OUTPUT = 64, PROMPT = 40, CLASSES = 5 };

typedef struct job {
    int32_t      prompt[PROMPT];
    int32_t      tokens[SEQUENCES][OUTPUT];
    uint32_t     counts[SEQUENCES], drafts_accepted;
    quire_finish finish;
    quire_status status;
    bool         last;
    /* what the hook saw */
    _Atomic bool     inside[SEQUENCES];
    _Atomic uint32_t calls, with_drafts, disorder;
    uint64_t         step_seen[SEQUENCES]; /* of the latest call of a sequence, and its position */
    uint32_t         position_seen[SEQUENCES];
} job;

typedef struct fixture {
    quire_model     *model;
    quire_engine    *engine;
    job              jobs[JOBS];
    _Atomic uint64_t steps;
    bool             only_two, nothing;
} fixture;

static fixture shared;

static uint32_t class_after(const int32_t *outputs, uint32_t count)
{
    uint64_t sum = count;
    for (uint32_t i = 0; i < count; i++) sum += (uint64_t)outputs[i];
    return (uint32_t)(sum % CLASSES);
}

static void look(const quire_mask_row *row)
{
    job           *j = row->user_data;
    const uint32_t s = row->sequence;
    if (atomic_exchange(&j->inside[s], true)) j->disorder++; /* somebody else is at the same sequence */
    if (j->step_seen[s] == shared.steps && row->token_count <= j->position_seen[s]) j->disorder++;
    if (memcmp(row->tokens, j->prompt, row->prompt_count * sizeof(int32_t)) != 0) j->disorder++;
    if (row->token_count < row->prompt_count + row->drafts || row->vocab_size != VOCAB) j->disorder++;
    j->step_seen[s]     = shared.steps;
    j->position_seen[s] = row->token_count;
    j->calls++;
    j->with_drafts += row->drafts > 0;
    atomic_store(&j->inside[s], false);
}

static void fill(void *context, const quire_mask_row *row, uint32_t *allowed)
{
    const fixture *f    = context;
    const uint32_t want = class_after(row->tokens + row->prompt_count, row->token_count - row->prompt_count);
    look(row);
    for (uint32_t t = 0; t < row->vocab_size; t++) {
        const bool keep = f->only_two ? t == 11 || t == 13 : t % CLASSES == want;
        if (!keep || f->nothing) allowed[t / 32] &= ~(1u << t % 32);
    }
}

static void open_engine(quire_engine_options options)
{
    quire_error error     = {0};
    options.size          = sizeof options;
    options.max_model_len = 256;
    options.threads       = 2;
    options.bind          = QUIRE_BIND_NONE;
    options.logger.level  = QUIRE_LOG_ERROR;
    options.mask          = (quire_mask_hook){.context = &shared, .fill = fill};
    shared.only_two       = false;
    shared.nothing        = false;
    memset((void *)shared.jobs, 0, sizeof shared.jobs);
    if (quire_engine_create(&options, shared.model, &shared.engine, &error) != QUIRE_OK) fail_msg("%s", error.message);
}

static quire_request request_of(uint32_t i)
{
    job *j = &shared.jobs[i];
    for (uint32_t k = 0; k < PROMPT; k++) j->prompt[k] = (int32_t)((i * 37 + k % 6) % VOCAB); /* invites drafts */
    return (quire_request){.size         = sizeof(quire_request),
                           .prompt       = j->prompt,
                           .prompt_count = 20 + i,
                           .max_tokens   = 48,
                           .n            = 1 + i % 3,
                           .ignore_eos   = true,
                           .sampling     = {.temperature = (float)(i % 2), .seed = i, .repetition_penalty = 0.8f},
                           .masked       = true,
                           .user_data    = j};
}

static void submit(const quire_request *request)
{
    quire_error error = {0};
    if (quire_engine_submit(shared.engine, request, NULL, &error) != QUIRE_OK) fail_msg("%s", error.message);
}

static void take(const quire_event *e)
{
    job *j = e->user_data;
    if (e->kind == QUIRE_EVENT_TOKEN) {
        assert_int_equal(e->index, j->counts[e->sequence]);
        j->tokens[e->sequence][j->counts[e->sequence]++] = e->token;
        return;
    }
    j->drafts_accepted += ((const quire_finish_detail *)e->detail)->drafts_accepted;
    j->finish = e->finish, j->status = e->status;
    j->last |= e->last;
}

static void run(uint32_t requests)
{
    for (uint32_t ended = 0; ended < requests;) {
        quire_event events[16];
        shared.steps++;
        assert_true(shared.steps < 100000);
        assert_int_equal(quire_engine_step(shared.engine, NULL), QUIRE_OK);
        for (size_t got; (got = quire_engine_poll(shared.engine, events, 16)) > 0;)
            for (size_t i = 0; i < got; i++) {
                take(&events[i]);
                ended += events[i].kind == QUIRE_EVENT_FINISHED && events[i].last;
            }
    }
}

static void close_engine(void)
{
    quire_engine_destroy(shared.engine);
    shared.engine = NULL;
}

static void assert_grammar(const job *j)
{
    for (uint32_t s = 0; s < SEQUENCES; s++)
        for (uint32_t i = 0; i < j->counts[s]; i++)
            assert_int_equal((uint32_t)j->tokens[s][i] % CLASSES, class_after(j->tokens[s], i));
    assert_int_equal(j->disorder, 0);
}

/* Each request by itself, without drafts, in a pool with room. */
static void run_alone(job *answers)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        open_engine((quire_engine_options){.max_num_seqs = 4, .num_kv_blocks = 64});
        const quire_request request = request_of(i);
        submit(&request);
        run(1);
        memcpy((void *)&answers[i], (void *)&shared.jobs[i], sizeof answers[i]);
        close_engine();
    }
}

static job alone[JOBS];

static void what_the_mask_forbids_is_never_chosen(void **state)
{
    (void)state;
    run_alone(alone);
    for (uint32_t i = 0; i < JOBS; i++) {
        assert_grammar(&alone[i]);
        assert_int_equal(alone[i].counts[0], 48);
        assert_int_equal(alone[i].calls, 48 * (1 + i % 3)); /* each token once */
    }
}

static quire_stats run_together(quire_engine_options options)
{
    quire_stats stats = {.size = sizeof stats};
    open_engine(options);
    for (uint32_t i = 0; i < JOBS; i++) {
        const quire_request request = request_of(i);
        submit(&request);
    }
    run(JOBS);
    quire_engine_stats(shared.engine, &stats);
    for (uint32_t i = 0; i < JOBS; i++) {
        assert_grammar(&shared.jobs[i]);
        assert_memory_equal(shared.jobs[i].tokens, alone[i].tokens, sizeof alone[i].tokens);
    }
    return stats;
}

static void batching_and_preemption_change_no_masked_answer(void **state)
{
    (void)state;
    const quire_stats stats =
        run_together((quire_engine_options){.max_num_seqs = 8, .max_num_batched_tokens = 48, .num_kv_blocks = 8});
    assert_true(stats.preemptions > 0);
    for (uint32_t i = 0; i < JOBS; i++) assert_int_equal(shared.jobs[i].calls, alone[i].calls);
    close_engine();
}

static void drafts_are_judged_by_the_mask_too(void **state)
{
    (void)state;
    const quire_stats stats       = run_together((quire_engine_options){
              .max_num_seqs = 6, .max_num_batched_tokens = 64, .num_kv_blocks = 20, .num_speculative_tokens = 4});
    uint32_t          with_drafts = 0;
    for (uint32_t i = 0; i < JOBS; i++) with_drafts += shared.jobs[i].with_drafts;
    assert_true(stats.drafts > 0);
    assert_true(with_drafts > 0);
    close_engine();
}

static void beams_obey_even_when_fewer_tokens_are_allowed_than_they_ask_for(void **state)
{
    (void)state;
    open_engine((quire_engine_options){.max_num_seqs = 8, .num_kv_blocks = 64});
    shared.only_two       = true;
    quire_request request = request_of(0);
    request.beam_width = request.n = 4;
    request.sampling               = (quire_sampling){0};
    submit(&request);
    run(1);
    const job *j = &shared.jobs[0];
    for (uint32_t s = 0; s < 4; s++) {
        assert_int_equal(j->counts[s], 48);
        for (uint32_t i = 0; i < 48; i++) assert_true(j->tokens[s][i] == 11 || j->tokens[s][i] == 13);
        if (s > 0) assert_memory_not_equal(j->tokens[s], j->tokens[0], sizeof j->tokens[0]);
    }
    close_engine();
}

static void requests_without_masks_do_not_meet_the_hook(void **state)
{
    (void)state;
    open_engine((quire_engine_options){.max_num_seqs = 4, .num_kv_blocks = 64});
    quire_request plain = request_of(1), masked = request_of(2);
    plain.masked = false;
    submit(&plain);
    submit(&masked);
    run(2);
    assert_int_equal(shared.jobs[1].calls, 0);
    assert_grammar(&shared.jobs[2]);
    bool outside = false;
    for (uint32_t i = 0; i < 48; i++)
        outside |= (uint32_t)shared.jobs[1].tokens[0][i] % CLASSES != class_after(shared.jobs[1].tokens[0], i);
    assert_true(outside);
    close_engine();
}

static void a_mask_without_a_token_ends_its_request_alone(void **state)
{
    (void)state;
    open_engine((quire_engine_options){.max_num_seqs = 4, .num_kv_blocks = 64});
    shared.nothing       = true;
    quire_request masked = request_of(0), plain = request_of(1);
    plain.masked = false;
    submit(&masked);
    submit(&plain);
    run(2);
    assert_int_equal(shared.jobs[0].status, QUIRE_ERR_EXECUTION);
    assert_int_equal(shared.jobs[0].counts[0], 0);
    assert_int_equal(shared.jobs[1].status, QUIRE_OK);
    assert_int_equal(shared.jobs[1].counts[0], 48);
    close_engine();
}

static void a_masked_request_needs_a_hook(void **state)
{
    (void)state;
    quire_error                error   = {0};
    const quire_engine_options options = {.size          = sizeof options,
                                          .num_kv_blocks = 16,
                                          .max_model_len = 128,
                                          .bind          = QUIRE_BIND_NONE,
                                          .logger        = {.level = QUIRE_LOG_ERROR}};
    assert_int_equal(quire_engine_create(&options, shared.model, &shared.engine, &error), QUIRE_OK);
    const quire_request request = request_of(0);
    assert_int_equal(quire_engine_submit(shared.engine, &request, NULL, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "masked: 1, but this engine has no mask hook"));
    close_engine();
}

static int load(void **state)
{
    (void)state;
    const quire_model_options options = {.size = sizeof options};
    return quire_model_synthetic("tiny", &options, &shared.model, NULL) != QUIRE_OK;
}

static int unload(void **state)
{
    (void)state;
    quire_model_destroy(shared.model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_mask_forbids_is_never_chosen),
        cmocka_unit_test(batching_and_preemption_change_no_masked_answer),
        cmocka_unit_test(drafts_are_judged_by_the_mask_too),
        cmocka_unit_test(beams_obey_even_when_fewer_tokens_are_allowed_than_they_ask_for),
        cmocka_unit_test(requests_without_masks_do_not_meet_the_hook),
        cmocka_unit_test(a_mask_without_a_token_ends_its_request_alone),
        cmocka_unit_test(a_masked_request_needs_a_hook),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
