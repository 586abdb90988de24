/* bench/run/punctual.c on the kernel that runs the test: one that has no slices ignores them. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/run/punctual.h"

typedef struct attributes { /* struct sched_attr, first version */
    uint32_t size, policy;
    uint64_t flags;
    int32_t  nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
} attributes;

static attributes own(void)
{
    attributes a = {0};
    assert_int_equal(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0), 0);
    return a;
}

static void a_short_slice_is_asked_for_and_given_back(void **state)
{
    (void)state;
    const attributes before = own();
    qr_punctual(true);
    const attributes during = own();
    qr_punctual(false);
    const attributes after = own();
    assert_int_equal(after.runtime_ns, before.runtime_ns);
    assert_true(during.runtime_ns == 100000 || during.runtime_ns == before.runtime_ns);
    if (before.runtime_ns > 100000) assert_int_equal(during.runtime_ns, 100000); /* a kernel that has slices */
}

static void the_rest_of_a_threads_scheduling_stays(void **state)
{
    (void)state;
    assert_int_equal(setpriority(PRIO_PROCESS, 0, 3), 0);
    qr_punctual(true);
    assert_int_equal(own().nice, 3);
    assert_int_equal(own().policy, SCHED_OTHER);
    qr_punctual(false);
    assert_int_equal(own().nice, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_slice_is_asked_for_and_given_back),
        cmocka_unit_test(the_rest_of_a_threads_scheduling_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
