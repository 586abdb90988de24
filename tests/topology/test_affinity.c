/* What a process was started with, seen from threads that are bound to less. Children are this program again. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "topology/affinity.h"

enum { MOST_CPUS = 120 }; /* an exit status can say that many */

static int count_cpus(const qr_cpu_set *set)
{
    int count = 0;
    for (uint32_t cpu = 0; cpu < QR_MAX_CPUS; cpu++) count += qr_cpu_set_has(set, cpu);
    return count;
}

static uint32_t first_cpu(const qr_cpu_set *set)
{
    uint32_t cpu = 0;
    while (!qr_cpu_set_has(set, cpu)) cpu++;
    return cpu;
}

static qr_cpu_set only(uint32_t cpu)
{
    qr_cpu_set set = {0};
    qr_cpu_set_add(&set, cpu);
    return set;
}

/* How many CPUs a process finds that is started with the variable and, unless NULL, the mask. */
static int started_with(const char *name, const char *value, const qr_cpu_set *mask)
{
    const pid_t child = fork();
    if (child == 0) {
        if (mask != NULL && !qr_affinity_set(mask)) _exit(0);
        setenv(name, value, 1);
        execl("/proc/self/exe", "test_affinity", "count", (char *)NULL);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int enter(void **state)
{
    static qr_cpu_set all;
    *state = &all;
    return qr_affinity_at_start(&all) && count_cpus(&all) <= MOST_CPUS ? 0 : -1;
}

static void a_thread_that_binds_itself_does_not_narrow_the_process(void **state)
{
    const qr_cpu_set *all = *state, one = only(first_cpu(all));
    qr_cpu_set        now;
    assert_true(qr_affinity_set(&one));
    assert_true(qr_affinity_at_start(&now));
    assert_memory_equal(&now, all, sizeof now);
    assert_true(qr_affinity_get(&now)); /* and asking leaves its mask as it was */
    assert_memory_equal(&now, &one, sizeof now);
    qr_affinity_set(all);
}

static void openmp_variables_do_not_narrow_the_process(void **state)
{
    const qr_cpu_set *all = *state;
    char              first[16], place[32];
    snprintf(first, sizeof first, "%u", first_cpu(all));
    snprintf(place, sizeof place, "{%s}", first);
    const char *const variables[][2] = {{"OMP_PROC_BIND", "true"},
                                        {"OMP_PROC_BIND", "close"},
                                        {"OMP_PLACES", "cores"},
                                        {"OMP_PLACES", place},
                                        {"GOMP_CPU_AFFINITY", first}};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        assert_int_equal(started_with(variables[i][0], variables[i][1], NULL), count_cpus(all));
}

static void a_mask_from_before_the_start_counts(void **state)
{
    const qr_cpu_set *all = *state, one = only(first_cpu(all));
    assert_int_equal(started_with("OMP_PROC_BIND", "false", &one), 1);
    assert_int_equal(started_with("OMP_PROC_BIND", "true", &one), 1);
    assert_int_equal(started_with("OMP_PLACES", "cores", &one), 1);
    assert_int_equal(started_with("GOMP_CPU_AFFINITY", "0-4095", &one), 1); /* which OpenMP does not cut to the mask */
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "count") == 0) {
        qr_cpu_set cpus;
        return qr_affinity_at_start(&cpus) ? count_cpus(&cpus) : 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_thread_that_binds_itself_does_not_narrow_the_process, enter),
        cmocka_unit_test_setup(openmp_variables_do_not_narrow_the_process, enter),
        cmocka_unit_test_setup(a_mask_from_before_the_start_counts, enter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
