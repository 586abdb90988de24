/* Limits of control groups, read from made-up /proc and /sys trees: v1, v2, both, nested, namespaced, broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fake_root.h"
#include "topology/cgroup.h"

static fake_root root;

static int create_root(void **state)
{
    (void)state;
    root = fake_root_create();
    return 0;
}

static int destroy_root(void **state)
{
    (void)state;
    fake_root_destroy(&root);
    return 0;
}

static void assert_quota(double expected) { assert_true(qr_cgroup_quota(root.path) == expected); }

static void without_files_there_is_no_limit(void **state)
{
    (void)state;
    qr_cpu_set set;
    assert_quota(0.0);
    assert_false(qr_cgroup_cpuset(root.path, &set));
    assert_true(qr_cgroup_memory(root.path) == UINT64_MAX);
}

static void v2_takes_the_least_quota_up_to_the_root(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "0::/pod/app\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/app/cpu.max", "800000 100000\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/cpu.max", "250000 100000\n");
    assert_quota(2.5);
}

static void v2_max_is_no_quota(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "0::/app\n");
    fake_root_file(&root, "/sys/fs/cgroup/app/cpu.max", "max 100000\n");
    assert_quota(0.0);
}

static void v1_quota_of_minus_one_is_none_and_the_parent_counts(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/a/b\n");
    fake_root_file(&root, "/sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
    fake_root_file(&root, "/sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
    assert_quota(0.0);
    fake_root_file(&root, "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "150000\n");
    fake_root_file(&root, "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    assert_quota(1.5);
}

static void mountinfo_says_where_a_v1_hierarchy_is(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "3:cpu,cpuacct:/a\n");
    fake_root_file(&root, "/proc/self/mountinfo",
                   "25 20 0:22 / /sys rw - sysfs sysfs rw\n"
                   "33 31 0:30 / /odd\\040place rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct\n");
    fake_root_file(&root, "/odd place/a/cpu.cfs_quota_us", "300000\n");
    fake_root_file(&root, "/odd place/a/cpu.cfs_period_us", "100000\n");
    assert_quota(3.0);
}

static void the_mounts_own_root_is_not_part_of_the_path(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "0::/docker/abc/app\n");
    fake_root_file(&root, "/proc/self/mountinfo", "33 31 0:30 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
    fake_root_file(&root, "/sys/fs/cgroup/app/cpu.max", "400000 100000\n");
    assert_quota(4.0);
    fake_root_file(&root, "/sys/fs/cgroup/cpu.max", "100000 100000\n");
    assert_quota(1.0);
}

static void a_mount_of_another_branch_shows_its_top_alone(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "0::/system/app\n");
    fake_root_file(&root, "/proc/self/mountinfo", "33 31 0:30 /../other /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
    fake_root_file(&root, "/sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_quota(2.0);
}

static void hybrid_takes_each_controller_where_it_is(void **state)
{
    (void)state;
    qr_cpu_set set;
    fake_root_file(&root, "/proc/self/cgroup", "5:cpuset:/box\n0::/unified\n");
    fake_root_file(&root, "/proc/self/mountinfo",
                   "32 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                   "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    fake_root_file(&root, "/sys/fs/cgroup/cpuset/box/cpuset.cpus", "1,4-5\n");
    fake_root_file(&root, "/sys/fs/cgroup/unified/unified/cpu.max", "50000 100000\n");
    assert_quota(0.5);
    assert_true(qr_cgroup_cpuset(root.path, &set));
    assert_int_equal(set.word[0], 0x32);
}

static void an_empty_v2_cpuset_means_the_parents(void **state)
{
    (void)state;
    qr_cpu_set set;
    fake_root_file(&root, "/proc/self/cgroup", "0::/pod/app\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/app/cpuset.cpus.effective", "\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/cpuset.cpus.effective", "0-3,64\n");
    assert_true(qr_cgroup_cpuset(root.path, &set));
    assert_int_equal(set.word[0], 0xf);
    assert_int_equal(set.word[1], 1);
}

static void v2_memory_counts_inactive_files_as_free(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "0::/pod/app\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/app/memory.max", "max\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/app/memory.current", "1000\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/memory.max", "10000\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/memory.current", "4000\n");
    fake_root_file(&root, "/sys/fs/cgroup/pod/memory.stat", "anon 1\nfile 3000\ninactive_file 1500\n");
    assert_int_equal(qr_cgroup_memory(root.path), 7500);
}

static void v1_memory_takes_the_least_of_the_chain(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "4:memory:/a/b\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "100\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "2000\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 600\n");
    assert_int_equal(qr_cgroup_memory(root.path), 3600);
}

static void memory_beyond_the_limit_leaves_nothing(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/self/cgroup", "0::/\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory.max", "100\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory.current", "300\n");
    assert_int_equal(qr_cgroup_memory(root.path), 0);
}

static void nonsense_in_files_is_no_limit(void **state)
{
    (void)state;
    qr_cpu_set set;
    fake_root_file(&root, "/proc/self/cgroup", "what\n:\n::\n0::/x\n");
    fake_root_file(&root, "/proc/self/mountinfo", "- - -\n1 2 - cgroup2\n - cgroup2 a b\n");
    fake_root_file(&root, "/sys/fs/cgroup/x/cpu.max", "12 0\n");
    fake_root_file(&root, "/sys/fs/cgroup/x/cpuset.cpus.effective", "1-x\n");
    fake_root_file(&root, "/sys/fs/cgroup/x/memory.max", "-5\n");
    assert_quota(0.0);
    assert_false(qr_cgroup_cpuset(root.path, &set));
    assert_true(qr_cgroup_memory(root.path) == UINT64_MAX);
}

static void the_memory_limit_is_the_least_of_machine_group_and_address_space(void **state)
{
    (void)state;
    fake_root_file(&root, "/proc/meminfo", "MemTotal: 900 kB\nMemAvailable:    500 kB\n");
    assert_int_equal(qr_memory_limit(root.path), 500 * 1024);
    fake_root_file(&root, "/proc/self/cgroup", "0::/\n");
    fake_root_file(&root, "/sys/fs/cgroup/memory.max", "409600\n");
    assert_int_equal(qr_memory_limit(root.path), 400 * 1024);
    fake_root_file(&root, "/proc/self/limits",
                   "Limit   Soft Limit  Hard Limit Units\n"
                   "Max address space         1024000              unlimited            bytes\n");
    fake_root_file(&root, "/proc/self/status", "Name: x\nVmSize:\t     700 kB\n");
    assert_int_equal(qr_memory_limit(root.path), 300 * 1024);
    fake_root_file(&root, "/proc/self/limits", "Max address space         unlimited       unlimited    bytes\n");
    assert_int_equal(qr_memory_limit(root.path), 400 * 1024);
}

static void this_machine_has_some_memory(void **state)
{
    (void)state;
    const uint64_t limit = qr_memory_limit(NULL);
    assert_in_range(limit, 1u << 20, (uint64_t)1 << 50);
}

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, create_root, destroy_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(without_files_there_is_no_limit),
        WITH_ROOT(v2_takes_the_least_quota_up_to_the_root),
        WITH_ROOT(v2_max_is_no_quota),
        WITH_ROOT(v1_quota_of_minus_one_is_none_and_the_parent_counts),
        WITH_ROOT(mountinfo_says_where_a_v1_hierarchy_is),
        WITH_ROOT(the_mounts_own_root_is_not_part_of_the_path),
        WITH_ROOT(a_mount_of_another_branch_shows_its_top_alone),
        WITH_ROOT(hybrid_takes_each_controller_where_it_is),
        WITH_ROOT(an_empty_v2_cpuset_means_the_parents),
        WITH_ROOT(v2_memory_counts_inactive_files_as_free),
        WITH_ROOT(v1_memory_takes_the_least_of_the_chain),
        WITH_ROOT(memory_beyond_the_limit_leaves_nothing),
        WITH_ROOT(nonsense_in_files_is_no_limit),
        WITH_ROOT(the_memory_limit_is_the_least_of_machine_group_and_address_space),
        cmocka_unit_test(this_machine_has_some_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
