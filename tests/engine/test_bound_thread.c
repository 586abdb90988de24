/* The warning about a calling thread that is bound elsewhere than the process was. The child is this program again. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <quire/quire.h>

#include "support/kept_log.h"
#include "topology/affinity.h"

/* The first and the last of the CPUs that the calling thread may use. */
static bool find_two(uint32_t *first, uint32_t *last)
{
    qr_cpu_set own;
    *first = UINT32_MAX;
    if (!qr_affinity_get(&own)) return false;
    for (uint32_t cpu = 0; cpu < QR_MAX_CPUS; cpu++) {
        if (!qr_cpu_set_has(&own, cpu)) continue;
        if (*first == UINT32_MAX) *first = cpu;
        *last = cpu;
    }
    return *first != *last;
}

static bool bind_to(uint32_t cpu)
{
    qr_cpu_set set = {0};
    qr_cpu_set_add(&set, cpu);
    return qr_affinity_set(&set);
}

/* Started with one CPU, bound to `cpu` since. */
static int warns_after_moving_to(uint32_t cpu)
{
    quire_model               *model   = NULL;
    quire_engine              *engine  = NULL;
    kept_log                   kept    = {.length = 0};
    const quire_model_options  load    = {.size = sizeof load};
    const quire_engine_options options = {
        .size = sizeof options, .num_kv_blocks = 16, .max_model_len = 128, .logger = kept_log_logger(&kept)};
    if (quire_model_synthetic("tiny", &load, &model, NULL) != QUIRE_OK || !bind_to(cpu)) return 2;
    const bool created = quire_engine_create(&options, model, &engine, NULL) == QUIRE_OK;
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    if (!created || strstr(kept.text, " 0 of the ") != NULL) return 3;
    return strstr(kept.text, "the calling thread was moved to CPUs outside those that the process was started with")
               ? 0
               : 4;
}

static void a_thread_that_was_moved_off_the_processs_cpus_is_told_so(void **state)
{
    (void)state;
    uint32_t first, last;
    if (!find_two(&first, &last)) skip();
    char to[16];
    snprintf(to, sizeof to, "%u", last);
    const pid_t child = fork();
    if (child == 0) {
        if (bind_to(first)) execl("/proc/self/exe", "test_bound_thread", to, (char *)NULL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    unsigned cpu;
    if (argc == 2 && sscanf(argv[1], "%u", &cpu) == 1) return warns_after_moving_to(cpu);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_thread_that_was_moved_off_the_processs_cpus_is_told_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
