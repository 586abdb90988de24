/* The arena's counting mode and its allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"

typedef struct table {
    uint32_t *ids;
    double   *values;
} table;

static void layout(table *t, qr_arena *arena)
{
    t->ids    = QR_ARENA_TAKE(arena, uint32_t, 5);
    t->values = QR_ARENA_TAKE(arena, double, 7);
}

static void counting_and_taking_agree(void **state)
{
    (void)state;
    table    t;
    qr_arena arena = {0};
    layout(&t, &arena);
    assert_null(t.ids);
    assert_int_equal(arena.used, 128);
    assert_int_equal(qr_arena_create(&arena, NULL, "table", NULL), QUIRE_OK);
    layout(&t, &arena);
    assert_int_equal(arena.used, arena.capacity);
    assert_int_equal((uintptr_t)t.ids % 64, 0);
    assert_int_equal((uintptr_t)t.values % 64, 0);
    assert_true(t.values[6] == 0.0);
    qr_arena_destroy(&arena);
}

static void *refuse(void *context, size_t size, size_t alignment)
{
    (void)context, (void)size, (void)alignment;
    return NULL;
}

static void give_back(void *context, void *pointer, size_t size) { (void)context, (void)pointer, (void)size; }

static void a_refusing_allocator_is_an_error_that_names_the_thing(void **state)
{
    (void)state;
    const quire_allocator allocator = {.allocate = refuse, .deallocate = give_back};
    quire_error           error     = {0};
    qr_arena              arena     = {.used = 4096};
    assert_int_equal(qr_arena_create(&arena, &allocator, "block pool", &error), QUIRE_ERR_NO_MEMORY);
    assert_string_equal(error.message, "block pool: 4096 bytes of memory are not available");
    qr_arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counting_and_taking_agree),
        cmocka_unit_test(a_refusing_allocator_is_an_error_that_names_the_thing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
