/* What a caller may lack besides memory: file descriptors, stack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/sanitized.h"
#include "support/small_engine.h"

static int refused_eventfd; /* the how manieth is refused; 0: none */

int eventfd(unsigned count, int flags)
{
    if (refused_eventfd > 0 && --refused_eventfd == 0) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_eventfd2, count, flags);
}

static void a_lack_of_descriptors_is_not_called_one_of_memory(void **state)
{
    (void)state;
    const quire_engine_options options = small_engine_options();
    quire_model               *model   = small_engine_model("tiny", NULL);
    for (int which = 1; which <= 2; which++) {
        quire_engine *engine = NULL;
        quire_error   error  = {0};
        refused_eventfd      = which;
        assert_int_equal(quire_engine_create(&options, model, &engine, &error), QUIRE_ERR_IO);
        assert_null(engine);
        assert_string_equal(error.message, "engine: a file descriptor for events: Too many open files");
        assert_int_equal(refused_eventfd, 0);
    }
    quire_engine_destroy(small_engine(&options, model));
    quire_model_destroy(model);
}

#if !QR_SANITIZED
typedef struct life {
    quire_model  *model;
    quire_engine *engine;
    quire_status  status;
} life;

static void run_on_stack(void *(*part)(void *), life *of, size_t bytes)
{
    pthread_t      thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, bytes);
    assert_int_equal(pthread_create(&thread, &attributes, part, of), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    assert_int_equal(of->status, QUIRE_OK);
}

static void *load_and_create(void *context)
{
    life                      *of      = context;
    const quire_engine_options options = small_engine_options();
    quire_config              *config  = NULL;
    of->status = quire_model_load(QUIRE_SOURCE_DIR "/tests/models/llama3-gqa", NULL, &of->model, NULL);
    if (of->status == QUIRE_OK) of->status = quire_engine_create(&options, of->model, &of->engine, NULL);
    if (of->status == QUIRE_OK) of->status = quire_config_create(&config, NULL);
    if (of->status == QUIRE_OK) of->status = quire_config_set(config, "scheduler.max_num_seqs=3", "test", NULL);
    quire_config_destroy(config);
    return NULL;
}

static void *use_and_destroy(void *context)
{
    life               *of         = context;
    const int32_t       prompt[90] = {0};
    const quire_request request    = {
           .size = sizeof request, .prompt = prompt, .prompt_count = 90, .max_tokens = 8, .n = 3, .logprobs = 5};
    quire_stats       stats       = {.size = sizeof stats};
    quire_explanation explanation = {.size = sizeof explanation};
    quire_request_id  id          = 0;
    quire_event       event;
    of->status = quire_engine_submit(of->engine, &request, &id, NULL);
    for (int i = 0; i < 12 && of->status == QUIRE_OK; i++) of->status = quire_engine_step(of->engine, NULL);
    quire_engine_stats(of->engine, &stats);
    (void)quire_engine_explain(of->engine, id, &explanation);
    if (quire_engine_check(of->engine) != NULL) of->status = QUIRE_ERR_INTERNAL;
    while (quire_engine_poll(of->engine, &event, 1) == 1) {
    }
    quire_engine_destroy(of->engine);
    quire_model_destroy(of->model);
    return NULL;
}

static void the_stacks_that_are_documented_suffice(void **state)
{
    (void)state;
    life of = {0};
    run_on_stack(load_and_create, &of, 128 << 10);
    run_on_stack(use_and_destroy, &of, 64 << 10);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lack_of_descriptors_is_not_called_one_of_memory),
#if !QR_SANITIZED
        cmocka_unit_test(the_stacks_that_are_documented_suffice),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
