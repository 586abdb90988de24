/* The tile vocabulary: what the chip computes, and the twin that stands in for it (tests/support/emulated_amx.h), which
 * are compared where there is a chip. The chip's side is in tests/support/native_amx.c, compiled for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "kernels/attention_kernels.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "kernels/projection_kernels.h"
#include "support/tile_products.h"

enum { ROUNDS = 400, KINDS = 4 };

static bool has_amx(void) { return (qr_cpu_features() & QR_CPU_AMX) != 0; }

/* ordinary | tiny, with subnormal inputs and products | large, some of which overflow | any bits */
static qr_bf16 bf16_of_kind(int kind, uint64_t r)
{
    const uint64_t sign = r & 0x8000, fraction = r >> 24 & 127;
    switch (kind) {
    case 0: return (qr_bf16)(sign | (118 + r % 16) << 7 | fraction);
    case 1: return (qr_bf16)(sign | (r >> 16) % 80 << 7 | fraction);
    case 2: return (qr_bf16)(sign | (170 + r % 24) << 7 | fraction);
    default: return (qr_bf16)(r >> 8);
    }
}

static void fill(tile_operands *o, int kind, uint64_t round)
{
    uint64_t stream = (uint64_t)kind << 40 | round << 16;
    for (int i = 0; i < TILE_OPERAND_BYTES / 2; i++) {
        const qr_bf16 a = bf16_of_kind(kind, qr_mix64(stream++));
        const qr_bf16 b = bf16_of_kind(kind == 1 && round % 2 ? 0 : kind, qr_mix64(stream++));
        memcpy(o->a + 2 * i, &a, 2);
        memcpy(o->b + 2 * i, &b, 2);
    }
    for (int i = 0; i < TILE_SUMS; i++) {
        const uint64_t r    = qr_mix64(stream++);
        const uint32_t bits = (uint32_t)bf16_of_kind(kind, r) << 16 | (uint32_t)(r >> 48);
        memcpy(&o->sums[i], &bits, 4);
    }
}

static void compare(const tile_operands *o, uint32_t rows, tile_product *native, tile_product *emulated, bool floats)
{
    tile_operands got = *o, want = *o;
    native(&got, rows);
    emulated(&want, rows);
    for (int i = 0; i < TILE_SUMS; i++) {
        float a, b;
        memcpy(&a, &got.sums[i], 4);
        memcpy(&b, &want.sums[i], 4);
        if (floats && isnan(a) && isnan(b)) continue;
        assert_memory_equal(&got.sums[i], &want.sums[i], 4);
    }
}

static void the_twin_computes_what_the_chip_does(void **state)
{
    (void)state;
    if (!has_amx()) skip();
    for (int kind = 0; kind < KINDS; kind++)
        for (uint64_t round = 0; round < ROUNDS; round++) {
            tile_operands  o;
            const uint32_t rows = 1 + (uint32_t)(round % 16);
            fill(&o, kind, round);
            compare(&o, rows, native_dot_bf16, emulated_dot_bf16, true);
            compare(&o, rows, native_dot_int8, emulated_dot_int8, false);
            compare(&o, rows, native_dot_uint8, emulated_dot_uint8, false);
            compare(&o, rows, native_dot_half, emulated_dot_half, false);
        }
}

/* By hand: the even chain and the odd one, then their sum to what was there. */
static void products_are_pairs_of_bf16_and_fours_of_codes(void **state)
{
    (void)state;
    static tile_operands o;
    const qr_bf16        two = qr_bf16_of_f32(2.0f), three = qr_bf16_of_f32(3.0f);
    memset(&o, 0, sizeof o);
    memcpy(o.a + 64 + 2 * 5, &two, 2);                       /* a[1][5] */
    memcpy(o.b + 2 * ((5 / 2 * 16 + 7) * 2 + 1), &three, 2); /* b[2][7][1] */
    const float ten = 10.0f;
    memcpy(&o.sums[16 + 7], &ten, 4);
    emulated_dot_bf16(&o, 16);
    float sum;
    memcpy(&sum, &o.sums[16 + 7], 4);
    assert_true(sum == 16.0f);

    memset(&o, 0, sizeof o);
    o.a[64 + 9]                   = (char)-3; /* a[1][9], 253 without a sign */
    o.b[(9 / 4 * 16 + 7) * 4 + 1] = (char)-5; /* b[2][7][1] */
    tile_operands unsigned_too = o, half = o;
    half.a[64 + 40] = half.b[(40 / 4 * 16 + 7) * 4] = 1; /* beyond its 32 bytes and 8 rows */
    emulated_dot_half(&half, 16);
    assert_int_equal(half.sums[16 + 7], 253 * -5);
    emulated_dot_int8(&o, 16);
    emulated_dot_uint8(&unsigned_too, 16);
    assert_int_equal(o.sums[16 + 7], 15);
    assert_int_equal(unsigned_too.sums[16 + 7], 253 * -5);
}

/* gcc 12 drops or moves what LDTILECFG reads unless it is told. */
static void a_configuration_is_written_before_it_is_read(void **state)
{
    (void)state;
    if (!has_amx()) skip();
    for (uint32_t rows = 1; rows <= 16; rows++) assert_int_equal(native_configured_rows(rows), rows);
}

/* ---- interruptions ---- */

enum { WORK_K = 1088, WORK_DIM = 80, WORK_HEADS = 33, WORK_TURNS = 150 };

/* A product and a split of attention, of bf16 or int8, with their results. */
typedef struct work {
    qr_dtype dtype;
    _Alignas(64) char weights[WORK_K * QR_GROUP_COLUMNS * 2];
    _Alignas(64) char x[QR_TILED_ROWS * WORK_K * 2];
    _Alignas(64) char keys[QR_SPLIT_TILES][128 * WORK_DIM];
    _Alignas(64) char q[WORK_HEADS * WORK_DIM * 4];
    _Alignas(64) float out[QR_TILED_ROWS * QR_GROUP_COLUMNS];
    _Alignas(64) float states[WORK_HEADS * (WORK_DIM + QR_ATTENTION_STATE_TAIL)];
} work;

static work *work_create(const qr_kernels *kernels, qr_dtype dtype)
{
    const qr_kv_shape shape = {.dtype = dtype, .kv_heads = 1, .head_dim = WORK_DIM, .block_size = QR_TILE_TOKENS};
    work             *w     = aligned_alloc(64, sizeof *w);
    assert_non_null(w);
    memset(w, 0, sizeof *w);
    w->dtype = dtype;
    for (uint32_t i = 0; i < sizeof w->weights / 2; i++)
        memcpy(w->weights + 2 * i, &(qr_bf16){bf16_of_kind(0, qr_mix64(i))}, 2);
    for (uint32_t i = 0; i < sizeof w->x / 2; i++) memcpy(w->x + 2 * i, &(qr_bf16){bf16_of_kind(0, qr_mix64(~i))}, 2);
    float row[WORK_DIM];
    for (uint32_t i = 0; i < QR_SPLIT_TOKENS + WORK_HEADS; i++) {
        for (uint32_t d = 0; d < WORK_DIM; d++) row[d] = qr_f32_of_bf16(bf16_of_kind(0, qr_mix64(i << 8 | d)));
        if (i < QR_SPLIT_TOKENS)
            qr_kv_tile_store(kernels->attention, &shape, w->keys[i / QR_TILE_TOKENS], i % QR_TILE_TOKENS, row, row);
        else
            kernels->attention->by_dtype[dtype].pack_q(row, WORK_DIM,
                                                       w->q + (size_t)(i - QR_SPLIT_TOKENS) * WORK_DIM * 4);
    }
    return w;
}

static void multiply(const qr_kernels *kernels, work *w, uint32_t rows)
{
    kernels->projection->formats[w->dtype].product(&(qr_product){.group      = w->weights,
                                                                 .x          = w->x,
                                                                 .x_stride   = WORK_K * qr_dtype_bytes(w->dtype),
                                                                 .rows       = rows,
                                                                 .k          = WORK_K,
                                                                 .out        = w->out,
                                                                 .out_stride = QR_GROUP_COLUMNS});
}

static void attend(const qr_kernels *kernels, work *w)
{
    qr_attention_split s = {.rest       = {.padded_dim  = WORK_DIM,
                                           .heads       = 1,
                                           .rows        = 1,
                                           .group       = WORK_HEADS,
                                           .head_rows   = WORK_HEADS,
                                           .q           = w->q,
                                           .state       = w->states,
                                           .visible_end = QR_SPLIT_TOKENS},
                            .tile_count = QR_SPLIT_TILES};
    for (uint32_t i = 0; i < QR_SPLIT_TILES; i++) s.tiles[i] = w->keys[i];
    kernels->attention->by_dtype[w->dtype].attend_split(&s);
}

static void tiles_are_released_before_kernels_return(void **state)
{
    (void)state;
    if (!has_amx()) skip();
    static const uint32_t rows[] = {1, 16, 33, 65, 256};
    const qr_kernels     *amx    = qr_kernels_select_with(qr_cpu_features(), "amx");
    for (qr_dtype dtype = QR_BF16; dtype <= QR_INT8; dtype++) {
        work *w = work_create(amx, dtype);
        for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            multiply(amx, w, rows[i]);
            assert_false(native_is_configured());
        }
        attend(amx, w);
        assert_false(native_is_configured());
        free(w);
    }
}

static _Atomic uint32_t signals;

static void use_tiles(int signal)
{
    (void)signal;
    tile_operands o = {.a = "its own", .b = "tiles"};
    native_dot_half(&o, 16);
    atomic_fetch_add(&signals, 1);
}

typedef struct worker {
    const qr_kernels *kernels;
    qr_dtype          dtype;
    bool              is_equal;
} worker;

/* The same again and again, beside other threads. */
static void *repeat(void *argument)
{
    worker *me    = argument;
    work   *first = work_create(me->kernels, me->dtype), *again = work_create(me->kernels, me->dtype);
    me->is_equal = true;
    for (uint32_t turn = 0; turn <= WORK_TURNS; turn++) {
        work *w = turn == 0 ? first : again;
        multiply(me->kernels, w, QR_TILED_ROWS);
        attend(me->kernels, w);
        if (turn > 0 && memcmp(first, again, sizeof *again) != 0) me->is_equal = false;
    }
    free(first), free(again);
    return NULL;
}

/* Four threads on one CPU, and signals whose handler uses tiles itself: what has been interrupted goes on as before. */
static void interruptions_do_not_show_in_bits(void **state)
{
    (void)state;
    if (!has_amx()) skip();
    const qr_kernels      *amx    = qr_kernels_select_with(qr_cpu_features(), "amx");
    const struct sigaction action = {.sa_handler = use_tiles, .sa_flags = SA_RESTART};
    struct sigaction       before;
    const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    cpu_set_t              all, one;
    worker                 workers[4];
    pthread_t              threads[4];
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (uint32_t i = 0; i < 4; i++) {
        workers[i] = (worker){.kernels = amx, .dtype = i % 2 == 0 ? QR_BF16 : QR_INT8};
        assert_int_equal(pthread_create(&threads[i], NULL, repeat, &workers[i]), 0);
    }
    sigset_t alarm, mask;
    sigemptyset(&alarm), sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, &mask); /* signals are the workers' */
    for (uint32_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    pthread_sigmask(SIG_SETMASK, &mask, NULL); /* the last signal comes now */
    sigaction(SIGALRM, &before, NULL);
    sched_setaffinity(0, sizeof all, &all);
    assert_true(signals > 10);
    for (uint32_t i = 0; i < 4; i++) assert_true(workers[i].is_equal);
}

/* ---- leave ---- */

/* Makes arch_prctl fail, as sandboxes do. */
static int forbid_tiles(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* 0: as it should be. */
static int without_leave(bool has_tiles)
{
    if (!forbid_tiles()) return 77;
    if ((qr_cpu_features() & QR_CPU_AMX) != 0) return 1;
    if ((qr_cpu_refusal() != NULL) != has_tiles) return 2;
    const qr_kernels *kernels = qr_kernels_select(NULL);
    return kernels != NULL && strcmp(kernels->isa, "amx") != 0 ? 0 : 3;
}

static void without_the_kernels_leave_the_next_set_runs(void **state)
{
    (void)state;
    const bool  refused   = qr_cpu_refusal() != NULL; /* already, by where this test runs */
    const bool  has_tiles = has_amx() || refused;
    const pid_t child     = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(without_leave(has_tiles));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip(); /* no seccomp here */
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true((qr_cpu_refusal() != NULL) == refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_twin_computes_what_the_chip_does),
        cmocka_unit_test(products_are_pairs_of_bf16_and_fours_of_codes),
        cmocka_unit_test(a_configuration_is_written_before_it_is_read),
        cmocka_unit_test(tiles_are_released_before_kernels_return),
        cmocka_unit_test(interruptions_do_not_show_in_bits),
        cmocka_unit_test(without_the_kernels_leave_the_next_set_runs),
    };
    return cmocka_run_group_tests_name("kernels/amx", tests, NULL, NULL);
}
