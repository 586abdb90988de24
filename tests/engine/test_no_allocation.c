/* After create nothing comes from the heap: not through the host's allocator, and not behind its back, but for what
 * oneDNN takes for products of more than 64 rows and is not needed. This program has its own malloc in front of libc's,
 * so that calls from any library count, and can be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "support/sanitized.h"
#include "support/small_engine.h"

static _Atomic bool     armed, refusing;
static _Atomic uint32_t heap_calls, hook_calls;

enum { MOST_ROWS = 200 };

#if !QR_SANITIZED
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static bool refused(void)
{
    if (!atomic_load(&armed)) return false;
    atomic_fetch_add(&heap_calls, 1);
    if (atomic_load(&refusing)) errno = ENOMEM;
    return atomic_load(&refusing);
}

#pragma GCC visibility push(default) /* hidden, no library would call them */
void                  *malloc(size_t size) { return refused() ? NULL : __libc_malloc(size); }

void *calloc(size_t number, size_t size) { return refused() ? NULL : __libc_calloc(number, size); }

void *realloc(void *pointer, size_t size) { return refused() ? NULL : __libc_realloc(pointer, size); }

void *aligned_alloc(size_t alignment, size_t size) { return refused() ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void **pointer, size_t alignment, size_t size)
{
    *pointer = refused() ? NULL : __libc_memalign(alignment, size);
    return *pointer ? 0 : ENOMEM;
}
#pragma GCC visibility pop
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

#if !QR_SANITIZED
static void drop_line(void *context, quire_log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}
#endif

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

/* The tokens after a prompt of `rows` tokens, one step of as many rows. */
static void decode(quire_engine *engine, uint32_t rows, int32_t tokens[2])
{
    static int32_t prompt[MOST_ROWS];
    for (uint32_t i = 0; i < rows; i++) prompt[i] = (int32_t)((rows * 31 + i * 7) % 256);
    const quire_request request = {
        .size = sizeof request, .prompt = prompt, .prompt_count = rows, .max_tokens = 2, .ignore_eos = true};
    quire_status status = quire_engine_submit(engine, &request, NULL, NULL);
    uint32_t     count  = 0;
    for (bool ended = false; !ended && status == QUIRE_OK;) {
        quire_event event;
        quire_step  step = {.size = sizeof step};
        status           = quire_engine_step(engine, &step);
        if (count == 0 && step.rows != rows) status = QUIRE_ERR_INTERNAL;
        while (quire_engine_poll(engine, &event, 1) == 1) {
            if (event.kind == QUIRE_EVENT_TOKEN && count < 2) tokens[count++] = event.token;
            ended = ended || event.kind == QUIRE_EVENT_FINISHED;
        }
    }
    if (count != 2 || status != QUIRE_OK) tokens[0] = tokens[1] = -1;
}

static void decode_without_heap(quire_engine *engine, uint32_t rows, int32_t tokens[2])
{
    atomic_store(&refusing, true);
    atomic_store(&armed, true);
    decode(engine, rows, tokens);
    atomic_store(&armed, false);
    atomic_store(&refusing, false);
}

/* Twice each: with every call refused, and with the heap. */
static void decode_every_row_count(quire_dtype dtype)
{
    const quire_model_options model_options = {.size = sizeof model_options, .weight_dtype = dtype};
    quire_engine_options      options       = small_engine_options();
    options.max_num_batched_tokens          = MOST_ROWS;
    options.long_prefill_token_threshold    = MOST_ROWS;
    options.enable_prefix_caching           = QUIRE_TOGGLE_OFF;
    quire_model  *model                     = small_engine_model("tiny", &model_options);
    quire_engine *engine                    = small_engine(&options, model);
    for (uint32_t rows = 1; rows <= MOST_ROWS; rows++) {
        int32_t        with[2], without[2];
        const uint32_t before = heap_calls;
        decode_without_heap(engine, rows, without); /* first: no buffer has its results yet */
        decode(engine, rows, with);
        assert_true(with[0] >= 0);
        assert_memory_equal(with, without, sizeof with);
        if (rows <= 64) assert_int_equal(heap_calls, before);
    }
    heap_calls = 0;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

static void no_number_of_rows_needs_the_heap(void **state)
{
    (void)state;
    const quire_dtype dtypes[] = {QUIRE_DTYPE_F32, QUIRE_DTYPE_BF16, QUIRE_DTYPE_INT8};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) decode_every_row_count(dtypes[i]);
}

#if !QR_SANITIZED
/* oneDNN's unpacked product has other bits than quire's kernel, which therefore cannot take its place. */
static void a_product_that_cannot_be_replaced_fails_its_step_alone(void **state)
{
    (void)state;
    const quire_model_options model_options = {.size = sizeof model_options, .weight_dtype = QUIRE_DTYPE_F32};
    quire_engine_options      options       = small_engine_options();
    options.isa                             = "avx2";
    options.small_m                         = QUIRE_SMALL_M_ONEDNN;
    options.logger.write                    = drop_line;
    quire_model  *model                     = small_engine_model("tiny", &model_options);
    quire_engine *engine                    = small_engine(&options, model);
    int32_t       before[2], without[2], after[2];
    decode(engine, 20, before);
    decode_without_heap(engine, 20, without);
    decode(engine, 20, after);
    assert_true(heap_calls > 0);
    assert_int_equal(without[0], -1);
    assert_true(before[0] >= 0);
    assert_memory_equal(before, after, sizeof before);
    heap_calls = 0;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

/* The first engine of the process: what the end of a thread needs is loaded by then. */
static void an_engine_is_destroyed_without_heap(void **state)
{
    (void)state;
    quire_model  *model  = NULL;
    quire_engine *engine = create(&model);
    atomic_store(&refusing, true);
    atomic_store(&armed, true);
    quire_engine_destroy(engine);
    atomic_store(&armed, false);
    atomic_store(&refusing, false);
    heap_calls = 0;
    quire_model_destroy(model);
}

static void calls_of_this_program_and_of_libraries_count(void **state)
{
    (void)state;
    atomic_store(&armed, true);
    void *volatile pointer = malloc(10);
    char *volatile copy    = strdup("made in libc");
    atomic_store(&armed, false);
    free(pointer);
    free(copy);
    assert_int_equal(heap_calls, 2);
    heap_calls = 0;
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#if !QR_SANITIZED
        cmocka_unit_test(calls_of_this_program_and_of_libraries_count),
        cmocka_unit_test(an_engine_is_destroyed_without_heap),
#endif
        cmocka_unit_test(submit_step_poll_stats_and_explain_allocate_nothing),
        cmocka_unit_test(no_number_of_rows_needs_the_heap),
        cmocka_unit_test(a_planner_allocates_nothing),
#if !QR_SANITIZED /* last: oneDNN keeps the instruction set it was capped at first */
        cmocka_unit_test(a_product_that_cannot_be_replaced_fails_its_step_alone),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
