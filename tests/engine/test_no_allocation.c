/* After create nothing comes from the heap: not through the host's allocator, and not behind its back. This program has
 * its own malloc in front of libc's, so that calls from any library count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "support/sanitized.h"
#include "support/small_engine.h"

static _Atomic bool     armed;
static _Atomic uint32_t heap_calls, hook_calls;

#if !QR_SANITIZED
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static void count(void)
{
    if (atomic_load(&armed)) atomic_fetch_add(&heap_calls, 1);
}

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *pointer, size_t size)
{
    count();
    return __libc_realloc(pointer, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **pointer, size_t alignment, size_t size)
{
    count();
    *pointer = __libc_memalign(alignment, size);
    return *pointer ? 0 : ENOMEM;
}
#endif

static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    if (atomic_load(&armed)) atomic_fetch_add(&hook_calls, 1);
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void deallocate(void *context, void *pointer, size_t size)
{
    (void)context, (void)size;
    free(pointer);
}

static void forbid_one(void *context, const quire_mask_row *row, uint32_t *allowed)
{
    (void)context;
    allowed[0] &= ~(1u << row->token_count % 32);
}

static quire_engine *create(quire_model **model_out)
{
    quire_engine_options options   = small_engine_options();
    options.max_num_batched_tokens = 32;
    options.num_kv_blocks          = 24;
    options.threads                = 0;
    options.max_logits_in_flight   = 4;
    options.allocator              = (quire_allocator){.allocate = allocate, .deallocate = deallocate};
    options.mask                   = (quire_mask_hook){.fill = forbid_one};
    *model_out                     = small_engine_model("tiny", NULL);
    return small_engine(&options, *model_out);
}

/* Everything a request can ask for, preemption included (24 blocks for 4 sequences of 250 tokens). */
static int submit_a_bit_of_everything(quire_engine *engine)
{
    static int32_t prompt[100];
    int            accepted = 0;
    for (int i = 0; i < 12; i++) {
        for (int k = 0; k < 100; k++) prompt[k] = (i * 31 + k) % 256;
        const quire_logit_bias bias    = {.token = 3, .bias = -1};
        quire_request_id       id      = 0;
        const quire_request    request = {
               .size             = sizeof request,
               .prompt           = prompt,
               .prompt_count     = 20 + (uint32_t)i * 5,
               .max_tokens       = 150,
               .n                = 1 + (uint32_t)i % 2,
               .logit_bias       = &bias,
               .logit_bias_count = 1,
               .sampling         = {.temperature = i % 3 ? 1 : 0, .top_p = 0.9f, .repetition_penalty = 1.1f},
               .logprobs         = 5,
               .logits           = i % 4 ? QUIRE_LOGITS_NONE : QUIRE_LOGITS_LAST,
               .tenant           = i % 2 ? "a" : "b",
               .masked           = i % 3 == 1};
        accepted += quire_engine_submit(engine, &request, &id, NULL) == QUIRE_OK;
        if (i % 5 == 4) (void)quire_engine_cancel(engine, id);
    }
    return accepted;
}

static void submit_step_poll_stats_and_explain_allocate_nothing(void **state)
{
    (void)state;
    quire_model  *model  = NULL;
    quire_engine *engine = create(&model);
    atomic_store(&armed, true);
    const int accepted = submit_a_bit_of_everything(engine);
    uint32_t  ended    = 0;
    for (int i = 0; i < 20000 && ended < 12; i++) {
        quire_step        step = {.size = sizeof step};
        quire_event       events[16];
        quire_explanation explanation = {.size = sizeof explanation};
        quire_stats       stats       = {.size = sizeof stats};
        if (quire_engine_step(engine, &step) != QUIRE_OK) break;
        const size_t got = quire_engine_poll(engine, events, 16);
        for (size_t k = 0; k < got; k++) ended += events[k].kind == QUIRE_EVENT_FINISHED && events[k].last;
        quire_engine_stats(engine, &stats);
        (void)quire_engine_explain(engine, 3, &explanation);
    }
    atomic_store(&armed, false);
    assert_int_equal(accepted, 12);
    assert_int_equal(ended, 12);
    assert_int_equal(hook_calls, 0);
    assert_int_equal(heap_calls, 0);
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

/* A model that answers at once; pools are small enough for preemption. */
static void a_planner_allocates_nothing(void **state)
{
    (void)state;
    static int32_t             prompt[40];
    const quire_allocator      allocator = {.allocate = allocate, .deallocate = deallocate};
    const quire_engine_options options   = {.size                   = sizeof options,
                                            .max_num_seqs           = 4,
                                            .max_num_batched_tokens = 32,
                                            .num_speculative_tokens = 2,
                                            .allocator              = allocator};
    const quire_planner_model  model     = {
             .size = sizeof model, .vocab_size = 50, .max_model_len = 256, .num_blocks = 24, .block_size = 8};
    quire_planner *planner = NULL;
    uint32_t       ended   = 0;
    quire_stats    stats   = {.size = sizeof stats};
    assert_int_equal(quire_planner_create(&options, &model, &planner, NULL), QUIRE_OK);
    atomic_store(&armed, true);
    for (uint32_t i = 0; i < 12; i++) {
        const quire_request request = {.size         = sizeof request,
                                       .prompt       = prompt,
                                       .prompt_count = 10 + i,
                                       .max_tokens   = 100,
                                       .n            = 1 + i % 2,
                                       .tenant       = i % 2 ? "a" : "b"};
        if (quire_planner_submit(planner, &request, i, NULL, NULL) != QUIRE_OK) ended = 100;
    }
    for (uint64_t now = 100; ended < 12; now++) {
        const quire_plan *plan;
        quire_sampled     sampled[16] = {{0}};
        quire_event       events[4];
        if (quire_planner_plan(planner, now, &plan, NULL) != QUIRE_OK) break;
        for (uint32_t i = 0; i < plan->sample_count; i++)
            sampled[i].token = (int32_t)((plan->samples[i].position * 7 + plan->samples[i].entry) % 50);
        if (quire_planner_commit(planner, sampled, plan->sample_count, now, NULL) != QUIRE_OK) break;
        for (size_t got; (got = quire_planner_poll(planner, events, 4)) > 0;)
            for (size_t k = 0; k < got; k++) ended += events[k].kind == QUIRE_EVENT_FINISHED && events[k].last;
    }
    quire_planner_stats(planner, &stats);
    atomic_store(&armed, false);
    assert_int_equal(ended, 12);
    assert_true(stats.preemptions > 0);
    assert_int_equal(hook_calls, 0);
    assert_int_equal(heap_calls, 0);
    quire_planner_destroy(planner);
}

#if !QR_SANITIZED
static void the_counter_counts(void **state)
{
    (void)state;
    atomic_store(&armed, true);
    void *volatile pointer = malloc(10);
    atomic_store(&armed, false);
    free(pointer);
    assert_int_equal(heap_calls, 1);
    heap_calls = 0;
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#if !QR_SANITIZED
        cmocka_unit_test(the_counter_counts),
#endif
        cmocka_unit_test(submit_step_poll_stats_and_explain_allocate_nothing),
        cmocka_unit_test(a_planner_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
