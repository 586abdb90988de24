/* What binding really does, and what a refusal looks like. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "topology/bind.h"

enum { ABSENT_NODE = 63, ABSENT_CPU = 4000 };

typedef struct lines {
    uint32_t count;
    char     last[512];
} lines;

static void keep_line(void *context, quire_log_level level, const char *line)
{
    lines *l = context;
    assert_int_equal(level, QUIRE_LOG_WARN);
    l->count++;
    strncpy(l->last, line, sizeof l->last - 1);
}

static lines  logged;
static qr_log log_;

static int start_log(void **state)
{
    (void)state;
    logged = (lines){0};
    qr_log_init(&log_, &(quire_logger){.context = &logged, .write = keep_line});
    return 0;
}

static int stop_log(void **state)
{
    (void)state;
    qr_log_deinit(&log_);
    return 0;
}

static void a_mapping_is_aligned_zero_and_rounded_up(void **state)
{
    (void)state;
    const size_t          two_mib = (size_t)2 << 20;
    const qr_bind_options options = {.log = &log_};
    for (size_t bytes = 1; bytes < 3 * two_mib; bytes += two_mib - 1) {
        qr_mapping m;
        assert_int_equal(qr_mapping_create(bytes, &options, "test", &m, NULL), QUIRE_OK);
        assert_int_equal((uintptr_t)m.base % two_mib, 0);
        assert_int_equal(m.bytes % two_mib, 0);
        assert_true(m.bytes >= bytes && m.bytes < bytes + two_mib);
        assert_int_equal(m.base[0], 0);
        m.base[m.bytes - 1] = 1;
        qr_mapping_destroy(&m);
        assert_null(m.base);
    }
}

static void more_than_the_address_space_is_refused_with_the_size(void **state)
{
    (void)state;
    const qr_bind_options options = {.log = &log_};
    const size_t          sizes[] = {SIZE_MAX, SIZE_MAX - ((size_t)2 << 20), (size_t)1 << 60};
    for (size_t i = 0; i < 3; i++) {
        qr_mapping  m;
        quire_error error;
        assert_int_equal(qr_mapping_create(sizes[i], &options, "weights", &m, &error), QUIRE_ERR_NO_MEMORY);
        assert_non_null(strstr(error.message, "weights: "));
        assert_null(m.base);
    }
}

static void huge_pages_can_be_switched_off(void **state)
{
    (void)state;
    qr_mapping            m;
    const qr_bind_options options = {.huge_pages = QUIRE_TOGGLE_OFF, .log = &log_};
    assert_int_equal(qr_mapping_create(100, &options, "test", &m, NULL), QUIRE_OK);
    assert_false(m.huge);
    assert_int_equal(logged.count, 0);
    qr_mapping_destroy(&m);
}

static void a_refused_binding_is_a_warning_or_strictly_an_error(void **state)
{
    (void)state;
    qr_mapping      m;
    quire_error     error;
    qr_bind_options options = {.log = &log_};
    assert_int_equal(qr_mapping_create(1 << 20, &options, "test", &m, NULL), QUIRE_OK);
    logged.count = 0;
    assert_int_equal(qr_mapping_bind(&m, 5000, 9000, ABSENT_NODE, 2, &options, &error), QUIRE_OK);
    assert_int_equal(logged.count, 1);
    assert_non_null(strstr(logged.last, "NUMA node 63"));
    options.strict = true;
    assert_int_equal(qr_mapping_bind(&m, 5000, 9000, ABSENT_NODE, 2, &options, &error), QUIRE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "12288 bytes of memory cannot be bound to NUMA node 63"));
    assert_int_equal(qr_mapping_bind(&m, 0, 4096, 5000, 2, &options, &error), QUIRE_ERR_UNSUPPORTED);
    assert_int_equal(logged.count, 1);
    qr_mapping_destroy(&m);
}

static void one_node_needs_no_binding(void **state)
{
    (void)state;
    const qr_bind_options options = {.strict = true, .log = &log_};
    assert_int_equal(qr_mapping_bind(&(qr_mapping){0}, 0, 4096, ABSENT_NODE, 1, &options, NULL), QUIRE_OK);
}

static void binding_to_the_node_that_exists_succeeds(void **state)
{
    (void)state;
    qr_mapping            m;
    const qr_bind_options options = {.strict = true, .log = &log_};
    quire_error           error   = {0};
    assert_int_equal(qr_mapping_create(1 << 20, &options, "test", &m, NULL), QUIRE_OK);
    const quire_status status = qr_mapping_bind(&m, 100, 1 << 19, 0, 2, &options, &error);
    if (status == QUIRE_ERR_UNSUPPORTED) { /* a sandbox without mbind */
        assert_non_null(strstr(error.message, "NUMA node 0"));
        qr_mapping_destroy(&m);
        skip();
    }
    assert_int_equal(status, QUIRE_OK);
    memset(m.base, 1, m.bytes);
    qr_mapping_destroy(&m);
}

static void a_thread_is_pinned_or_says_why_not(void **state)
{
    (void)state;
    cpu_set_t       before, now;
    qr_bind_options options = {.log = &log_};
    quire_error     error;
    sched_getaffinity(0, sizeof before, &before);
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &before)) cpu++;
    assert_int_equal(qr_bind_thread((uint32_t)cpu, QUIRE_BIND_PU, &options, NULL), QUIRE_OK);
    sched_getaffinity(0, sizeof now, &now);
    assert_int_equal(CPU_COUNT(&now), 1);
    assert_true(CPU_ISSET(cpu, &now));
    sched_setaffinity(0, sizeof before, &before);
    assert_int_equal(qr_bind_thread(ABSENT_CPU, QUIRE_BIND_CORE, &options, NULL), QUIRE_OK);
    assert_int_equal(logged.count, 1);
    options.strict = true;
    assert_int_equal(qr_bind_thread(ABSENT_CPU, QUIRE_BIND_CORE, &options, &error), QUIRE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "CPU 4000"));
    assert_int_equal(qr_bind_thread(UINT32_MAX, QUIRE_BIND_CORE, &options, &error), QUIRE_ERR_UNSUPPORTED);
}

static void a_core_holds_its_cpu_and_nothing_beyond_the_affinity(void **state)
{
    (void)state;
    cpu_set_t             before, now, both;
    const qr_bind_options options = {.strict = true};
    sched_getaffinity(0, sizeof before, &before);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &before)) continue;
        assert_int_equal(qr_bind_thread((uint32_t)cpu, QUIRE_BIND_CORE, &options, NULL), QUIRE_OK);
        sched_getaffinity(0, sizeof now, &now);
        CPU_AND(&both, &now, &before);
        assert_true(CPU_ISSET(cpu, &now) && CPU_EQUAL(&both, &now));
        assert_in_range(CPU_COUNT(&now), 1, 8);
        sched_setaffinity(0, sizeof before, &before);
    }
}

#define WITH_LOG(test) cmocka_unit_test_setup_teardown(test, start_log, stop_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LOG(a_mapping_is_aligned_zero_and_rounded_up),
        WITH_LOG(more_than_the_address_space_is_refused_with_the_size),
        WITH_LOG(huge_pages_can_be_switched_off),
        WITH_LOG(a_refused_binding_is_a_warning_or_strictly_an_error),
        WITH_LOG(one_node_needs_no_binding),
        WITH_LOG(binding_to_the_node_that_exists_succeeds),
        WITH_LOG(a_thread_is_pinned_or_says_why_not),
        WITH_LOG(a_core_holds_its_cpu_and_nothing_beyond_the_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
