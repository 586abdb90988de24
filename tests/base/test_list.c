/* Lists and chains of records by index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

enum { RECORDS = 6 };

static struct record {
    int     value;
    qr_link link;
} records[RECORDS];

static qr_list  list;
static qr_links links;

static int start(void **state)
{
    (void)state;
    for (int i = 0; i < RECORDS; i++) records[i].link = QR_UNLINKED;
    list  = QR_LIST_EMPTY;
    links = QR_LINKS(records, link);
    return 0;
}

/* The records of the list, forwards and backwards. */
static void assert_list(uint32_t count, const uint32_t *expected)
{
    uint32_t at = list.head, i = 0;
    assert_int_equal(list.count, count);
    for (; at != QR_NONE && i < count; at = records[at].link.next) assert_int_equal(at, expected[i++]);
    assert_int_equal(at, QR_NONE);
    assert_int_equal(i, count);
    for (at = list.tail; at != QR_NONE; at = records[at].link.prev) assert_int_equal(at, expected[--i]);
    assert_int_equal(i, 0);
}

static void an_appended_record_is_the_last(void **state)
{
    (void)state;
    assert_list(0, NULL);
    qr_list_append(&list, links, 3);
    assert_list(1, (uint32_t[]){3});
    qr_list_append(&list, links, 1);
    assert_list(2, (uint32_t[]){3, 1});
}

static void a_record_is_inserted_in_front_between_and_behind(void **state)
{
    (void)state;
    qr_list_insert_after(&list, links, QR_NONE, 2);
    qr_list_insert_after(&list, links, QR_NONE, 0);
    qr_list_insert_after(&list, links, 0, 5);
    qr_list_insert_after(&list, links, 2, 4);
    assert_list(4, (uint32_t[]){0, 5, 2, 4});
}

static void a_record_leaves_from_any_place(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) qr_list_append(&list, links, i);
    qr_list_remove(&list, links, 2);
    assert_list(4, (uint32_t[]){0, 1, 3, 4});
    qr_list_remove(&list, links, 0);
    assert_list(3, (uint32_t[]){1, 3, 4});
    qr_list_remove(&list, links, 4);
    assert_list(2, (uint32_t[]){1, 3});
    qr_list_remove(&list, links, 1);
    qr_list_remove(&list, links, 3);
    assert_list(0, NULL);
}

static void a_record_knows_whether_it_is_listed(void **state)
{
    (void)state;
    qr_list_append(&list, links, 1);
    qr_list_append(&list, links, 2);
    assert_true(qr_list_has(&list, links, 1));
    assert_true(qr_list_has(&list, links, 2));
    assert_false(qr_list_has(&list, links, 0));
    qr_list_remove(&list, links, 2);
    assert_false(qr_list_has(&list, links, 2));
}

static void a_chain_is_last_in_first_out_and_can_be_left(void **state)
{
    (void)state;
    uint32_t head = QR_NONE;
    for (uint32_t i = 0; i < 3; i++) qr_chain_push(&head, links, i);
    assert_int_equal(head, 2);
    qr_chain_remove(&head, links, 1);
    assert_int_equal(records[2].link.next, 0);
    assert_int_equal(records[0].link.prev, 2);
    qr_chain_remove(&head, links, 2);
    assert_int_equal(head, 0);
    qr_chain_remove(&head, links, 0);
    assert_int_equal(head, QR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_appended_record_is_the_last, start),
        cmocka_unit_test_setup(a_record_is_inserted_in_front_between_and_behind, start),
        cmocka_unit_test_setup(a_record_leaves_from_any_place, start),
        cmocka_unit_test_setup(a_record_knows_whether_it_is_listed, start),
        cmocka_unit_test_setup(a_chain_is_last_in_first_out_and_can_be_left, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
