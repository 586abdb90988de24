/* Pages counted by where they are, on a machine of one node or more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "topology/bind.h"
#include "topology/node_memory.h"
#include "topology/pages.h"

enum { PAGES = 1200, TOUCHED = 700, ABSENT_NODE = 63 };

static uint32_t all_nodes[QR_MAX_NODES];

static qr_node_set every_node(void)
{
    for (uint32_t n = 0; n < QR_MAX_NODES; n++) all_nodes[n] = n;
    return (qr_node_set){all_nodes, QR_MAX_NODES};
}

/* Small pages, or touching one would touch more; 77 where the kernel does not answer. */
static char *map_pages(qr_mapping *mapping)
{
    const qr_bind_options small = {.huge_pages = QUIRE_TOGGLE_OFF};
    const size_t          page  = (size_t)sysconf(_SC_PAGESIZE);
    qr_page_count         count = {0};
    assert_int_equal(qr_mapping_create(PAGES * page, &small, "test", mapping, NULL), QUIRE_OK);
    if (qr_pages_count(mapping->base, page, every_node(), &count, NULL) != QUIRE_OK) exit(77);
    return mapping->base;
}

static void touched_pages_are_right_and_others_absent(void **state)
{
    (void)state;
    qr_mapping    mapping;
    qr_page_count count = {0};
    const size_t  page  = (size_t)sysconf(_SC_PAGESIZE);
    char         *base  = map_pages(&mapping);
    memset(base, 1, TOUCHED * page);
    assert_int_equal(qr_pages_count(base, PAGES * page, every_node(), &count, NULL), QUIRE_OK);
    assert_int_equal(count.right, TOUCHED);
    assert_int_equal(count.wrong, 0);
    assert_int_equal(count.absent, PAGES - TOUCHED);
    qr_mapping_destroy(&mapping);
}

static void pages_on_a_node_that_is_not_planned_are_wrong(void **state)
{
    (void)state;
    qr_mapping        mapping;
    qr_page_count     count  = {0};
    const uint32_t    absent = ABSENT_NODE;
    const qr_node_set other  = {&absent, 1};
    const size_t      page   = (size_t)sysconf(_SC_PAGESIZE);
    char             *base   = map_pages(&mapping);
    memset(base, 1, TOUCHED * page);
    assert_int_equal(qr_pages_count(base, PAGES * page, other, &count, NULL), QUIRE_OK);
    assert_int_equal(count.wrong, TOUCHED);
    assert_int_equal(count.right, 0);
    assert_true(count.wrong_node < ABSENT_NODE);
    qr_mapping_destroy(&mapping);
}

static void parts_of_pages_do_not_count(void **state)
{
    (void)state;
    qr_mapping    mapping;
    qr_page_count count = {0};
    const size_t  page  = (size_t)sysconf(_SC_PAGESIZE);
    char         *base  = map_pages(&mapping);
    memset(base, 1, 3 * page);
    assert_int_equal(qr_pages_count(base + 1, 3 * page - 1, every_node(), &count, NULL), QUIRE_OK);
    assert_int_equal(count.right, 2);
    assert_int_equal(qr_pages_count(base + 1, page - 1, every_node(), &count, NULL), QUIRE_OK);
    assert_int_equal(qr_pages_count(base, 3 * page - 1, every_node(), &count, NULL), QUIRE_OK);
    assert_int_equal(count.right, 4);
    qr_mapping_destroy(&mapping);
}

static void memory_of_one_node_is_from_the_allocator_given(void **state)
{
    (void)state;
    static qr_placement   placement = {.machine_nodes = 1};
    const quire_allocator given     = {.context = all_nodes};
    assert_ptr_equal(qr_node_allocator(&placement, &given).context, all_nodes);
}

/* Two nodes as far as the placement knows, both the one that is here. */
static void memory_of_several_nodes_is_writable_and_goes_back(void **state)
{
    (void)state;
    static qr_placement   placement = {.machine_nodes = 2, .node_count = 2};
    const quire_allocator given     = {0};
    const quire_allocator memory    = qr_node_allocator(&placement, &given);
    const size_t          sizes[]   = {0, 1, 4096, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *base = memory.allocate(memory.context, sizes[i], 64);
        assert_non_null(base);
        assert_int_equal((uintptr_t)base % 4096, 0);
        memset(base, 1, sizes[i]);
        qr_node_memory_give(base, sizes[i], 0);
        memory.deallocate(memory.context, base, sizes[i]);
    }
    assert_null(memory.allocate(memory.context, SIZE_MAX / 2 + 1, 64));
    memory.deallocate(memory.context, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(touched_pages_are_right_and_others_absent),
        cmocka_unit_test(pages_on_a_node_that_is_not_planned_are_wrong),
        cmocka_unit_test(parts_of_pages_do_not_count),
        cmocka_unit_test(memory_of_one_node_is_from_the_allocator_given),
        cmocka_unit_test(memory_of_several_nodes_is_writable_and_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
