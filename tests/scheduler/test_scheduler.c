/* A scheduler as a whole: creation, memory, equal decisions for equal calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/scheduler_driver.h"

static driver d;

static bool     closed;
static uint32_t allocations;

static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    assert_false(closed);
    allocations++;
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void deallocate(void *context, void *pointer, size_t size)
{
    (void)context, (void)size;
    assert_false(closed);
    free(pointer);
}

static void *refuse(void *context, size_t size, size_t alignment)
{
    (void)alignment;
    return (*(uint32_t *)context)-- == 0 ? NULL : aligned_alloc(64, (size + 63) / 64 * 64);
}

static void equal_calls_give_equal_decisions(void **state)
{
    (void)state;
    uint64_t hashes[3];
    for (uint32_t run = 0; run < 3; run++) {
        driver_start_blocks(&d, 10);
        for (uint32_t i = 0; i < 12; i++) {
            driver_submit(&d, driver_request_of(3 + i % 5), 3 + i, i + (run == 2 && i == 11), NULL);
            driver_step(&d);
        }
        driver_run(&d, 200);
        hashes[run] = qr_scheduler_decision_hash(d.scheduler);
        driver_stop(&d);
    }
    assert_true(hashes[0] == hashes[1]);
    assert_true(hashes[0] == hashes[2]); /* decisions depend on lengths, not on what the tokens are */
}

static void nothing_is_allocated_after_creation(void **state)
{
    (void)state;
    qr_scheduler_options options = driver_options(12, 4);
    options.allocator            = (quire_allocator){.allocate = allocate, .deallocate = deallocate};
    closed                       = false;
    driver_start(&d, &options);
    closed = true;
    assert_true(allocations > 0);
    for (uint32_t i = 0; i < 20; i++) {
        driver_submit(&d, driver_request_of(4 + i % 9), 3 + i, i, NULL);
        driver_step(&d);
    }
    driver_run(&d, 300);
    closed = false;
    driver_stop_empty(&d);
}

static void each_refused_allocation_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    uint32_t k = 0;
    for (quire_status status = QUIRE_ERR_NO_MEMORY; status != QUIRE_OK; k++) {
        uint32_t             left    = k;
        quire_error          error   = {0};
        qr_scheduler        *created = NULL;
        qr_scheduler_options options = driver_options(12, 4);
        options.allocator = (quire_allocator){.context = &left, .allocate = refuse, .deallocate = deallocate};
        status            = qr_scheduler_create(&options, &created, &error);
        assert_true(status == QUIRE_OK || (status == QUIRE_ERR_NO_MEMORY && created == NULL && error.message[0] != 0));
        qr_scheduler_destroy(created);
        assert_true(k < 20);
    }
    assert_true(k >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_calls_give_equal_decisions),
        cmocka_unit_test(nothing_is_allocated_after_creation),
        cmocka_unit_test(each_refused_allocation_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
