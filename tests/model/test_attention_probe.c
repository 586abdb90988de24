/* The start-up measurement behind attention's prefetch and costs: it needs memory beyond the caches, and concludes
 * within bounds that hold on any machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "model/attention_probe.h"

enum { THREADS = 2, BYTES = 48 << 20 };

static const qr_attention_shape shape = {
    .kv = {.dtype = QR_BF16, .kv_heads = 2, .head_dim = 64, .block_size = 32}, .heads = 8, .scale = 0.125f};

/* `bytes` of zeroed, touched memory for each thread. */
static qr_attention_tuning probe(size_t bytes, qr_attention_tuning tuning)
{
    static qr_placement placement;
    qr_team            *team;
    qr_mapping          memory[THREADS];
    placement                 = (qr_placement){.thread_count = THREADS, .node_count = 1, .bind = QUIRE_BIND_NONE};
    placement.node_threads[0] = THREADS;
    assert_int_equal(qr_team_create(&placement, &(qr_team_options){0}, &team, NULL), QUIRE_OK);
    for (uint32_t t = 0; t < THREADS; t++) {
        assert_int_equal(qr_mapping_create(bytes, &(qr_bind_options){0}, "keys", &memory[t], NULL), QUIRE_OK);
        memset(memory[t].base, 0, bytes);
        memory[t].bytes = bytes;
    }
    qr_attention_probe(
        &(qr_attention_probe_options){
            .kernels = qr_kernels_select(NULL), .shape = &shape, .team = team, .memory = memory},
        &tuning);
    for (uint32_t t = 0; t < THREADS; t++) qr_mapping_destroy(&memory[t]);
    qr_team_destroy(team);
    return tuning;
}

static void without_memory_beyond_the_caches_the_guesses_stay(void **state)
{
    (void)state;
    const qr_attention_tuning guess = {.prefetch = QR_PREFETCH_NONE, .byte_fs = 7, .pair_fs = 8};
    const qr_attention_tuning left  = probe(BYTES - (2u << 20), guess);
    assert_int_equal(left.prefetch, QR_PREFETCH_NONE);
    assert_int_equal(left.byte_fs, 7);
    assert_int_equal(left.pair_fs, 8);
}

/* Below 1 ps a pair a thread would do 256 flops a picosecond, above 100 ns none of any kind; a byte from memory takes
 * between nothing (all hidden) and 1 us. */
static void a_measurement_chooses_and_prices(void **state)
{
    (void)state;
    const qr_attention_tuning measured = probe(BYTES, (qr_attention_tuning){.prefetch = QR_PREFETCH_NONE});
    assert_true(measured.prefetch == QR_PREFETCH_JUMPS || measured.prefetch == QR_PREFETCH_ALL);
    assert_in_range(measured.pair_fs, 1000, 100000000);
    assert_in_range(measured.byte_fs, 1, 1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_memory_beyond_the_caches_the_guesses_stay),
        cmocka_unit_test(a_measurement_chooses_and_prices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
