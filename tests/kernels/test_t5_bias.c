/* T5's relative position buckets against the values that Hugging Face computes, and the tables made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/attention.h"

enum { BUCKETS = 32, DISTANCE = 128, HEADS = 3, TABLE_MAX = 512 };

/* Bucket of a distance, from the distances at which the buckets after the exact ones start. */
static uint32_t bucket_from_starts(const uint32_t *starts, uint32_t count, uint32_t exact, uint32_t distance)
{
    if (distance < exact) return distance;
    uint32_t bucket = exact;
    while (bucket - exact + 1 < count && starts[bucket - exact + 1] <= distance) bucket++;
    return bucket;
}

static void causal_buckets_start_where_published(void **state)
{
    (void)state;
    static const uint32_t starts[] = {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
    for (int32_t n = 0; n < 100000; n += n < 1000 ? 1 : 997)
        assert_int_equal(qr_t5_bucket(-n, false, BUCKETS, DISTANCE), bucket_from_starts(starts, 16, 16, (uint32_t)n));
    assert_int_equal(qr_t5_bucket(1, false, BUCKETS, DISTANCE), 0);
    assert_int_equal(qr_t5_bucket(500, false, BUCKETS, DISTANCE), 0);
}

static void bidirectional_buckets_start_where_published(void **state)
{
    (void)state;
    static const uint32_t starts[] = {8, 12, 16, 23, 32, 46, 64, 91};
    for (int32_t n = 0; n < 100000; n += n < 1000 ? 1 : 997) {
        const uint32_t bucket = bucket_from_starts(starts, 8, 8, (uint32_t)n);
        assert_int_equal(qr_t5_bucket(-n, true, BUCKETS, DISTANCE), bucket);
        if (n > 0) assert_int_equal(qr_t5_bucket(n, true, BUCKETS, DISTANCE), bucket + 16);
    }
}

static void buckets_stay_inside_the_table_for_every_size(void **state)
{
    (void)state;
    for (uint32_t buckets = 4; buckets <= 64; buckets += 4)
        for (uint32_t distance = buckets; distance <= 512; distance += 61)
            for (int32_t relative = -1500; relative <= 1500; relative++) {
                assert_true(qr_t5_bucket(relative, true, buckets, distance) < buckets);
                assert_true(qr_t5_bucket(relative, false, buckets, distance) < buckets);
            }
}

static void a_table_holds_the_weight_of_each_distance_and_saturates_at_its_ends(void **state)
{
    (void)state;
    static float weights[BUCKETS][HEADS], table[HEADS * TABLE_MAX];
    for (uint32_t b = 0; b < BUCKETS; b++)
        for (uint32_t h = 0; h < HEADS; h++) weights[b][h] = (float)(100 * b + h);
    for (int bidirectional = 0; bidirectional <= 1; bidirectional++) {
        qr_attention_bias bias;
        qr_t5_bias_shape(bidirectional, DISTANCE, &bias);
        assert_true(bias.stride <= TABLE_MAX);
        qr_t5_bias_fill(&bias, table, weights[0], HEADS, bidirectional, BUCKETS, DISTANCE);
        for (uint32_t h = 0; h < HEADS; h++)
            for (uint32_t i = 0; i < bias.stride; i++) {
                const uint32_t bucket = qr_t5_bucket((int32_t)i - (int32_t)bias.zero, bidirectional, BUCKETS, DISTANCE);
                assert_true(bias.by_distance[h * bias.stride + i] == weights[bucket][h]);
            }
        for (uint32_t i = 0; i <= 31; i++) assert_true(bias.by_distance[i] == bias.by_distance[31]);
        if (bidirectional)
            for (uint32_t i = 1; i <= 32; i++)
                assert_true(bias.by_distance[bias.stride - i] == bias.by_distance[bias.zero + bias.reach]);
        assert_true(bias.zero >= bias.reach + 31 && bias.stride >= bias.zero + 32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(causal_buckets_start_where_published),
        cmocka_unit_test(bidirectional_buckets_start_where_published),
        cmocka_unit_test(buckets_stay_inside_the_table_for_every_size),
        cmocka_unit_test(a_table_holds_the_weight_of_each_distance_and_saturates_at_its_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
