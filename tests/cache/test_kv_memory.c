/* Planes and their alignment, sizes that overflow, and the binding of a node's blocks. */
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/kv_memory.h"

static const uint32_t one_node_os[]    = {0};
static const uint32_t one_node_first[] = {0, 100};

static qr_kv_memory_options one_node(uint32_t layers, size_t block_bytes)
{
    return (qr_kv_memory_options){
        .layers      = layers,
        .num_blocks  = 100,
        .block_bytes = block_bytes,
        .first_block = one_node_first,
        .node_os     = one_node_os,
        .node_count  = 1,
    };
}

static void planes_are_aligned_and_hold_every_block(void **state)
{
    (void)state;
    static const size_t sizes[] = {64, 4096, 20480, 32768};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const qr_kv_memory_options options = one_node(3, sizes[i]);
        qr_kv_memory               memory;
        assert_int_equal(qr_kv_memory_create(&options, &memory, NULL), QUIRE_OK);
        assert_int_equal(memory.plane_bytes % ((size_t)2 << 20), 0);
        assert_true(memory.plane_bytes >= 100 * sizes[i]);
        assert_true(memory.plane_bytes < 100 * sizes[i] + ((size_t)2 << 20));
        assert_int_equal((uintptr_t)qr_kv_memory_plane(&memory, 2) % ((size_t)2 << 20), 0);
        char *last = qr_kv_memory_plane(&memory, 2) + 100 * sizes[i] - 1;
        assert_int_equal(*last, 0);
        *last = 1;
        assert_true(last < memory.mapping.base + memory.mapping.bytes);
        qr_kv_memory_destroy(&memory);
        assert_null(memory.mapping.base);
    }
}

static void sizes_beyond_memory_are_errors(void **state)
{
    (void)state;
    quire_error          error;
    qr_kv_memory         memory;
    qr_kv_memory_options options = one_node(4, SIZE_MAX / 50);
    assert_int_equal(qr_kv_memory_create(&options, &memory, &error), QUIRE_ERR_INVALID);
    options = one_node(UINT32_MAX, (size_t)1 << 50);
    assert_int_equal(qr_kv_memory_create(&options, &memory, &error), QUIRE_ERR_INVALID);
    options = one_node(1, (size_t)1 << 50);
    assert_int_equal(qr_kv_memory_create(&options, &memory, &error), QUIRE_ERR_NO_MEMORY);
    assert_non_null(strstr(error.message, "KV cache"));
    assert_null(memory.mapping.base);
}

static uint32_t warnings;

static void count_warning(void *context, quire_log_level level, const char *line)
{
    (void)context, (void)level;
    warnings += strstr(line, "NUMA node 62") != NULL;
}

static void the_blocks_of_each_node_are_bound_in_every_layer(void **state)
{
    (void)state;
    static const uint32_t first[] = {0, 40, 40, 100}, absent[] = {62, 62, 62};
    qr_log                log;
    qr_kv_memory          memory;
    quire_error           error;
    qr_log_init(&log, &(quire_logger){.write = count_warning});
    qr_kv_memory_options options = one_node(5, 4096);
    options.first_block = first, options.node_os = absent, options.node_count = options.machine_nodes = 3;
    options.bind = (qr_bind_options){.log = &log};
    warnings     = 0;
    assert_int_equal(qr_kv_memory_create(&options, &memory, &error), QUIRE_OK);
    assert_int_equal(warnings, 2); /* two nodes own blocks; five layers, but one warning each */
    qr_kv_memory_destroy(&memory);
    options.bind.strict = true;
    assert_int_equal(qr_kv_memory_create(&options, &memory, &error), QUIRE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "163840 bytes"));
    assert_null(memory.mapping.base);
    qr_log_deinit(&log);
}

/* The kernel's own word: MPOL_DEFAULT where nothing was bound. */
static int policy_at(const char *address)
{
    int mode = -1;
    return syscall(SYS_get_mempolicy, &mode, NULL, 0ul, address, MPOL_F_ADDR) == 0 ? mode : -1;
}

static void every_block_of_every_layer_has_a_policy_and_the_rest_none(void **state)
{
    (void)state;
    static const uint32_t first[] = {0, 40, 100}, here[] = {0, 0};
    qr_kv_memory          memory;
    qr_kv_memory_options  options = one_node(3, 4096);
    options.first_block = first, options.node_os = here, options.node_count = options.machine_nodes = 2;
    options.bind.strict = true;
    if (qr_kv_memory_create(&options, &memory, NULL) != QUIRE_OK) skip(); /* a sandbox without mbind */
    if (policy_at(qr_kv_memory_plane(&memory, 0)) < 0) skip();
    for (uint32_t layer = 0; layer < 3; layer++) {
        for (uint32_t block = 0; block < 100; block++)
            assert_int_equal(policy_at(qr_kv_memory_plane(&memory, layer) + (size_t)block * 4096), MPOL_BIND);
        assert_int_equal(policy_at(qr_kv_memory_plane(&memory, layer) + (size_t)100 * 4096), MPOL_DEFAULT);
    }
    qr_kv_memory_destroy(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_are_aligned_and_hold_every_block),
        cmocka_unit_test(sizes_beyond_memory_are_errors),
        cmocka_unit_test(every_block_of_every_layer_has_a_policy_and_the_rest_none),
        cmocka_unit_test(the_blocks_of_each_node_are_bound_in_every_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
