/* The heap and the map of ids against plain arrays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "scheduler/queue.h"

enum { ITEMS = 200 };

static void the_heap_gives_the_most_senior_whatever_is_removed(void **state)
{
    (void)state;
    qr_heap_node nodes[ITEMS];
    uint32_t     index_of[ITEMS];
    qr_rank      ranks[ITEMS];
    qr_heap      heap = {.nodes = nodes, .index_of = index_of};
    for (uint32_t i = 0; i < ITEMS; i++) index_of[i] = QR_NONE;
    for (uint64_t step = 0; step < 5000; step++) {
        const uint32_t item = qr_random_below(1, 1, step, ITEMS);
        if (index_of[item] != QR_NONE) {
            qr_heap_remove(&heap, item);
        } else {
            ranks[item] = (qr_rank){.high = (int64_t)qr_random_below(1, 2, step, 3) - 1,
                                    .low  = qr_random_below(1, 3, step, 5),
                                    .tie  = step};
            qr_heap_push(&heap, &ranks[item], item);
        }
        assert_true(qr_heap_check(&heap));
        if (heap.count == 0) continue;
        for (uint32_t i = 0; i < ITEMS; i++)
            assert_false(index_of[i] != QR_NONE && qr_rank_before(&ranks[i], &ranks[nodes[0].item]));
    }
    for (uint32_t last = QR_NONE; heap.count > 0;) {
        const uint32_t item = nodes[0].item;
        qr_heap_remove(&heap, item);
        assert_true(last == QR_NONE || qr_rank_before(&ranks[last], &ranks[item]));
        last = item;
    }
}

static void ids_are_found_after_others_were_removed(void **state)
{
    (void)state;
    enum { RECORDS = 64 };
    qr_id_bucket buckets[256] = {0};
    qr_id_map    map          = {.buckets = buckets, .mask = qr_id_map_buckets(RECORDS) - 1};
    uint64_t     ids[RECORDS] = {0};
    assert_int_equal(map.mask, 127);
    for (uint64_t step = 1; step < 20000; step++) {
        const uint32_t record = qr_random_below(2, 1, step, RECORDS);
        if (ids[record] != 0) {
            qr_id_map_remove(&map, ids[record]);
            assert_int_equal(qr_id_map_find(&map, ids[record]), QR_NONE);
            ids[record] = 0;
        } else {
            ids[record] = step;
            qr_id_map_insert(&map, step, record);
        }
        const uint32_t other = qr_random_below(2, 2, step, RECORDS);
        if (ids[other] != 0) assert_int_equal(qr_id_map_find(&map, ids[other]), other);
    }
    for (uint32_t i = 0; i < RECORDS; i++)
        if (ids[i] != 0) assert_int_equal(qr_id_map_find(&map, ids[i]), i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heap_gives_the_most_senior_whatever_is_removed),
        cmocka_unit_test(ids_are_found_after_others_were_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
