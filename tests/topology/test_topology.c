/* Discovery on made-up machines and on this one. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/fake_root.h"
#include "topology/topology.h"

typedef struct machine {
    const char *synthetic;
    uint32_t    cpus, nodes, cores, packages;
} machine;

/* Different values of a field; values are small. */
static uint32_t count_distinct(const qr_topology *topology, size_t offset)
{
    uint32_t count             = 0;
    bool     seen[QR_MAX_CPUS] = {false};
    for (uint32_t i = 0; i < topology->cpu_count; i++) {
        const uint32_t value = *(const uint32_t *)(const void *)((const char *)&topology->cpus[i] + offset);
        assert_true(value < QR_MAX_CPUS);
        count += !seen[value];
        seen[value] = true;
    }
    return count;
}

static void assert_sorted(const qr_topology *topology)
{
    for (uint32_t i = 1; i < topology->cpu_count; i++) {
        const qr_cpu *a = &topology->cpus[i - 1], *b = &topology->cpus[i];
        assert_true(a->node < b->node ||
                    (a->node == b->node && (a->core < b->core || (a->core == b->core && a->os_index < b->os_index))));
    }
}

static void synthetic_machines_are_described_as_they_are(void **state)
{
    (void)state;
    static const machine machines[] = {
        {"pu:1", 1, 1, 1, 1},
        {"node:1 core:4 pu:1", 4, 1, 4, 1},
        {"node:1 core:4 pu:2", 8, 1, 4, 1},
        {"node:2 core:4 pu:2", 16, 2, 8, 1},
        {"pack:2 node:1 core:4 pu:2", 16, 2, 8, 2},
        {"pack:2 node:2 core:3 pu:1", 12, 4, 12, 2},
        {"pack:2 node:4 l3:1 core:8 pu:2", 128, 8, 64, 2},
        {"node:8 core:1 pu:1", 8, 8, 8, 1},
        {"pack:8 node:1 core:32 pu:2", 512, 8, 256, 8},
        {"node:1 core:512 pu:1", 512, 1, 512, 1},
        {"pack:1 l3:2 l2:4 core:1 pu:4", 32, 1, 8, 1},
        {"pack:4 node:2 core:16 pu:1", 128, 8, 128, 4},
        {"node:3 core:5 pu:3", 45, 3, 15, 1},
    };
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        const machine *m = &machines[i];
        qr_topology    topology;
        assert_int_equal(qr_topology_create(&(qr_topology_source){.synthetic = m->synthetic}, &topology, NULL),
                         QUIRE_OK);
        assert_int_equal(topology.cpu_count, m->cpus);
        assert_int_equal(topology.node_count, m->nodes);
        assert_int_equal(count_distinct(&topology, offsetof(qr_cpu, node)), m->nodes);
        assert_int_equal(count_distinct(&topology, offsetof(qr_cpu, core)), m->cores);
        assert_int_equal(count_distinct(&topology, offsetof(qr_cpu, package)), m->packages);
        assert_int_equal(count_distinct(&topology, offsetof(qr_cpu, os_index)), m->cpus);
        assert_true(topology.synthetic);
        assert_sorted(&topology);
        for (uint32_t a = 0; a < topology.node_count; a++) assert_int_equal(topology.nodes[a].distance[a], 10);
        if (topology.node_count > 1) assert_true(topology.nodes[0].distance[1] > 10);
        qr_topology_destroy(&topology);
    }
}

static void caches_are_counted(void **state)
{
    (void)state;
    qr_topology              topology;
    const qr_topology_source source = {.synthetic = "pack:2 node:1 l3:1(size=33554432) l2:4(size=524288) core:1 pu:2"};
    assert_int_equal(qr_topology_create(&source, &topology, NULL), QUIRE_OK);
    assert_int_equal(topology.l2_bytes, 512 << 10);
    assert_int_equal(topology.l3_bytes, 64 << 20);
    qr_topology_destroy(&topology);
}

static void an_unreadable_description_is_an_error(void **state)
{
    (void)state;
    qr_topology topology;
    quire_error error;
    assert_int_equal(qr_topology_create(&(qr_topology_source){.synthetic = "pond:7"}, &topology, &error),
                     QUIRE_ERR_INVALID);
    assert_non_null(strstr(error.message, "pond:7"));
}

static uint32_t count_allowed(const qr_topology *topology)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < topology->cpu_count; i++) count += topology->cpus[i].allowed;
    return count;
}

static void affinity_and_cpuset_are_intersected(void **state)
{
    (void)state;
    const fake_root root = fake_root_create();
    fake_root_file(&root, "/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t2-7\n");
    fake_root_file(&root, "/proc/self/cgroup", "0::/app\n");
    fake_root_file(&root, "/sys/fs/cgroup/app/cpuset.cpus.effective", "0-4\n");
    fake_root_file(&root, "/sys/fs/cgroup/app/cpu.max", "150000 100000\n");
    qr_topology topology;
    assert_int_equal(qr_topology_create(&(qr_topology_source){.synthetic = "node:2 core:4 pu:1", .root = root.path},
                                        &topology, NULL),
                     QUIRE_OK);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(topology.cpus[i].allowed, topology.cpus[i].os_index >= 2 && topology.cpus[i].os_index <= 4);
    assert_true(topology.quota_cpus == 1.5);
    qr_topology_destroy(&topology);
    fake_root_destroy(&root);
}

static void a_cpuset_outside_the_affinity_is_doubted(void **state)
{
    (void)state;
    const fake_root root = fake_root_create();
    fake_root_file(&root, "/proc/self/status", "Cpus_allowed_list:\t0-1\n");
    fake_root_file(&root, "/proc/self/cgroup", "0::/\n");
    fake_root_file(&root, "/sys/fs/cgroup/cpuset.cpus.effective", "2-3\n");
    qr_topology topology;
    assert_int_equal(
        qr_topology_create(&(qr_topology_source){.synthetic = "core:4 pu:1", .root = root.path}, &topology, NULL),
        QUIRE_OK);
    assert_int_equal(count_allowed(&topology), 2);
    assert_true(topology.cpus[0].allowed);
    qr_topology_destroy(&topology);
    fake_root_destroy(&root);
}

static void this_machine_has_the_cpus_the_process_was_started_with(void **state)
{
    (void)state;
    qr_topology topology;
    cpu_set_t   before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(qr_topology_create(NULL, &topology, NULL), QUIRE_OK);
    assert_int_equal(count_allowed(&topology), CPU_COUNT(&before));
    assert_false(topology.synthetic);
    const size_t last = topology.cpus[topology.cpu_count - 1].os_index;
    qr_topology_destroy(&topology);
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) skip();
    assert_int_equal(qr_topology_create(NULL, &topology, NULL), QUIRE_OK);
    assert_int_equal(count_allowed(&topology), CPU_COUNT(&before));
    qr_topology_destroy(&topology);
    sched_setaffinity(0, sizeof before, &before);
}

static void free_memory_of_a_node_counts_files_that_can_be_dropped(void **state)
{
    (void)state;
    const fake_root root = fake_root_create();
    fake_root_file(&root, "/sys/devices/system/node/node2/meminfo",
                   "Node 2 MemTotal:       9000 kB\nNode 2 MemFree:         700 kB\nNode 2 Active(file):     20 kB\n"
                   "Node 2 Inactive(file):    3 kB\n");
    assert_int_equal(qr_node_free_memory(root.path, 2), 723 * 1024);
    assert_true(qr_node_free_memory(root.path, 1) == UINT64_MAX);
    fake_root_destroy(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synthetic_machines_are_described_as_they_are),
        cmocka_unit_test(caches_are_counted),
        cmocka_unit_test(an_unreadable_description_is_an_error),
        cmocka_unit_test(affinity_and_cpuset_are_intersected),
        cmocka_unit_test(a_cpuset_outside_the_affinity_is_doubted),
        cmocka_unit_test(free_memory_of_a_node_counts_files_that_can_be_dropped),
        cmocka_unit_test(this_machine_has_the_cpus_the_process_was_started_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
