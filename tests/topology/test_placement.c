/* Which CPU each thread gets, on machines this one is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/fake_root.h"
#include "topology/placement.h"

static qr_topology  topology;
static qr_placement placement;
static char         warning[256];
static quire_error  error;

static quire_status plan(const char *machine, const quire_engine_options *options)
{
    assert_int_equal(qr_topology_create(&(qr_topology_source){.synthetic = machine}, &topology, NULL), QUIRE_OK);
    const quire_status status = qr_placement_plan(&topology, options, &placement, warning, &error);
    qr_topology_destroy(&topology);
    return status;
}

/* "0 1 | 4 5": the CPUs in thread order, nodes apart. */
static const char *placed(void)
{
    static char text[QR_MAX_THREADS * 8];
    size_t      at = 0;
    text[0]        = '\0';
    for (uint32_t i = 0; i < placement.thread_count; i++) {
        const char *gap = i == 0 ? "" : placement.node[i] != placement.node[i - 1] ? " | " : " ";
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%u", gap, placement.cpu[i]);
    }
    return text;
}

typedef struct example {
    const char *machine, *cpus;
    uint32_t    threads;
    bool        smt;
    const char *placed;
} example;

static void threads_are_placed_as_written_here(void **state)
{
    (void)state;
    static const example examples[] = {
        /* one per core */
        {"pu:1", NULL, 0, false, "0"},
        {"core:4 pu:1", NULL, 0, false, "0 1 2 3"},
        {"core:4 pu:2", NULL, 0, false, "0 2 4 6"},
        {"core:4 pu:2", "auto", 0, true, "0 1 2 3 4 5 6 7"},
        {"node:2 core:2 pu:2", NULL, 0, false, "0 2 | 4 6"},
        {"pack:2 node:2 core:2 pu:1", NULL, 0, false, "0 1 | 2 3 | 4 5 | 6 7"},
        {"node:8 core:1 pu:1", NULL, 0, false, "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7"},
        /* fewer threads than cores are spread */
        {"core:4 pu:1", NULL, 2, false, "0 2"},
        {"node:2 core:4 pu:1", NULL, 4, false, "0 2 | 4 6"},
        {"node:4 core:2 pu:1", NULL, 1, false, "0"},
        {"node:4 core:2 pu:1", NULL, 2, false, "0 | 4"},
        {"node:2 core:3 pu:1", NULL, 5, false, "0 1 2 | 3 4"},
        /* names */
        {"node:2 core:4 pu:1", "node:1", 0, false, "4 5 6 7"},
        {"node:2 core:4 pu:1", "0-1,4-5", 0, false, "0 1 | 4 5"},
        {"node:2 core:4 pu:1", "5,1", 0, false, "1 | 5"},
        {"node:2 core:4 pu:1", "node:0-1", 2, false, "0 | 4"},
        {"pack:2 node:2 core:4 pu:2", "package:1.core:0-1", 0, false, "16 18"},
        {"pack:2 node:2 core:4 pu:2", "package:0.core:6-7,node:2", 0, false, "12 14 | 16 18 20 22"},
        {"core:4 pu:2", "core:1-2.pu:1", 0, false, "3 5"},
        {"core:2 pu:4", "pu:0-1", 0, true, "0 1 4 5"},
        {"core:4 pu:2", "0-1", 2, true, "0 1"},
        {"core:2 pu:2", "0-3,0,1", 0, true, "0 1 2 3"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const example             *e       = &examples[i];
        const quire_engine_options options = {
            .cpus = e->cpus, .threads = e->threads, .smt = e->smt ? QUIRE_TOGGLE_ON : QUIRE_TOGGLE_AUTO};
        assert_int_equal(plan(e->machine, &options), QUIRE_OK);
        assert_string_equal(placed(), e->placed);
        assert_string_equal(warning, "");
    }
}

static void every_plan_holds_together(void **state)
{
    (void)state;
    static const char *const machines[] = {
        "pu:1",
        "node:1 core:4 pu:2",
        "node:2 core:7 pu:2",
        "pack:2 node:4 core:8 pu:2",
        "node:8 core:3 pu:1",
        "pack:4 node:2 core:2 pu:4",
        "node:1 core:512 pu:1",
        "pack:8 node:1 core:32 pu:2",
        "pack:2 node:1 core:64 pu:1",
    };
    for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++) {
        assert_int_equal(qr_topology_create(&(qr_topology_source){.synthetic = machines[m]}, &topology, NULL),
                         QUIRE_OK);
        for (uint32_t threads = 0; threads < 40; threads++) {
            const quire_engine_options options = {.threads = threads};
            if (qr_placement_plan(&topology, &options, &placement, warning, &error) != QUIRE_OK) {
                assert_true(threads > 1);
                continue;
            }
            uint32_t sum = 0, used[QR_MAX_CPUS] = {0};
            assert_true(placement.thread_count == threads || threads == 0);
            for (uint32_t i = 0; i < placement.thread_count; i++) {
                assert_true(placement.node[i] < placement.node_count);
                if (i > 0) assert_true(placement.node[i] >= placement.node[i - 1]);
                assert_int_equal(used[placement.cpu[i]]++, 0);
            }
            for (uint32_t n = 0; n < placement.node_count; n++) {
                assert_true(placement.node_threads[n] > 0);
                assert_int_equal(placement.node_distance[n][n], 10);
                sum += placement.node_threads[n];
            }
            assert_int_equal(sum, placement.thread_count);
        }
        qr_topology_destroy(&topology);
    }
}

static void a_node_without_threads_is_left_out(void **state)
{
    (void)state;
    assert_int_equal(plan("node:4 core:2 pu:1", &(quire_engine_options){.cpus = "node:1,node:3"}), QUIRE_OK);
    assert_int_equal(placement.node_count, 2);
    assert_int_equal(placement.node_os[0], 1);
    assert_int_equal(placement.node_os[1], 3);
    assert_true(placement.node_distance[0][1] > 10);
}

static void assert_refused(const char *cpus, uint32_t threads, const char *text)
{
    assert_int_equal(plan("node:2 core:2 pu:2", &(quire_engine_options){.cpus = cpus, .threads = threads}),
                     QUIRE_ERR_INVALID);
    if (strstr(error.message, text) == NULL) fail_msg("\"%s\" lacks \"%s\"", error.message, text);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    (void)state;
    assert_refused("0-9", 0, "CPU 8, which does not exist");
    assert_refused("node:2", 0, "\"node:2\" holds no CPU");
    assert_refused("0,node:5", 0, "\"node:5\" holds no CPU");
    assert_refused("core:4", 0, "\"core:4\" holds no CPU");
    assert_refused(NULL, 5, "4 physical cores");
    assert_refused("0-3", 3, "2 physical cores");
    assert_refused(NULL, QR_MAX_THREADS + 1, "above the maximum 1024");
    static const char *const unreadable[] = {"x",     "0-",      "3-1",      "0,",         ",0",          "0;1", "node",
                                             "node:", "node:0.", "socket:0", "0-1.core:0", "99999999999", "-1",  "0 1"};
    for (size_t i = 0; i < sizeof unreadable / sizeof unreadable[0]; i++)
        assert_refused(unreadable[i], 0, "cannot be read at");
}

static const quire_engine_options nothing = {0};

static void a_forbidden_cpu_may_not_be_named(void **state)
{
    (void)state;
    assert_int_equal(qr_topology_create(&(qr_topology_source){.synthetic = "core:4 pu:1"}, &topology, NULL), QUIRE_OK);
    topology.cpus[1].allowed = false;
    assert_int_equal(qr_placement_plan(&topology, &nothing, &placement, warning, &error), QUIRE_OK);
    assert_string_equal(placed(), "0 2 3");
    const quire_engine_options named = {.cpus = "0-1"};
    assert_int_equal(qr_placement_plan(&topology, &named, &placement, warning, &error), QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "CPU 1, which this process may not use"));
    const quire_engine_options place = {.cpus = "node:0"};
    assert_int_equal(qr_placement_plan(&topology, &place, &placement, warning, &error), QUIRE_OK);
    assert_int_equal(placement.thread_count, 3);
    qr_topology_destroy(&topology);
}

static void the_quota_bounds_the_default_and_warns_otherwise(void **state)
{
    (void)state;
    static const struct {
        double   quota;
        uint32_t threads;
    } cases[] = {{0.0, 8}, {0.3, 1}, {1.0, 1}, {1.99, 1}, {2.0, 2}, {7.5, 7}, {8.0, 8}, {100.0, 8}};
    assert_int_equal(qr_topology_create(&(qr_topology_source){.synthetic = "core:8 pu:1"}, &topology, NULL), QUIRE_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        topology.quota_cpus = cases[i].quota;
        assert_int_equal(qr_placement_plan(&topology, &nothing, &placement, warning, &error), QUIRE_OK);
        assert_int_equal(placement.thread_count, cases[i].threads);
        assert_string_equal(warning, "");
    }
    topology.quota_cpus              = 2.5;
    const quire_engine_options asked = {.threads = 4};
    assert_int_equal(qr_placement_plan(&topology, &asked, &placement, warning, &error), QUIRE_OK);
    assert_int_equal(placement.thread_count, 4);
    assert_string_equal(warning, "4 threads on a cgroup CPU quota of 2.50 CPUs will be throttled");
    qr_topology_destroy(&topology);
}

static void unbound_threads_may_share_cpus(void **state)
{
    (void)state;
    assert_int_equal(plan("node:2 core:1 pu:1", &(quire_engine_options){.threads = 4, .bind = QUIRE_BIND_NONE}),
                     QUIRE_OK);
    assert_string_equal(placed(), "0 0 | 1 1");
    assert_int_equal(placement.bind, QUIRE_BIND_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_placed_as_written_here),
        cmocka_unit_test(every_plan_holds_together),
        cmocka_unit_test(a_node_without_threads_is_left_out),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(a_forbidden_cpu_may_not_be_named),
        cmocka_unit_test(the_quota_bounds_the_default_and_warns_otherwise),
        cmocka_unit_test(unbound_threads_may_share_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
