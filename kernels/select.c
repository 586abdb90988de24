/* Chooses a table once: the best the machine can run, not above the caps. */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "kernels/limits.h"

#define QR_ISA(name, features, onednn) extern const qr_kernels qr_kernels_##name;
#include "kernels/isa.inc"
#undef QR_ISA

static const struct {
    const qr_kernels *table;
    uint32_t          features;
} isas[] = {
#define QR_ISA(name, features, onednn) {&qr_kernels_##name, (features)},
#include "kernels/isa.inc"
#undef QR_ISA
};

enum { ISA_COUNT = sizeof isas / sizeof *isas };

static const char names[] = "auto"
#define QR_ISA(name, features, onednn) " | " #name
#include "kernels/isa.inc"
#undef QR_ISA
    ;

uint32_t qr_kernels_available(const qr_kernels **tables, uint32_t capacity)
{
    const uint32_t have  = qr_cpu_features();
    uint32_t       count = 0;
    for (uint32_t i = 0; i < ISA_COUNT && count < capacity; i++)
        if ((isas[i].features & ~have) == 0) tables[count++] = isas[i].table;
    return count;
}

/* Index of the cap's instruction set; 0 without a cap, ISA_COUNT when it is unknown. */
static uint32_t cap_index(const char *cap)
{
    if (cap == NULL || cap[0] == '\0' || strcmp(cap, "auto") == 0) return 0;
    uint32_t i = 0;
    while (i < ISA_COUNT && strcmp(isas[i].table->isa, cap) != 0) i++;
    return i;
}

quire_status qr_kernels_check_cap(const char *cap, quire_error *error)
{
    const char *environment = getenv("QUIRE_ISA");
    const bool  known       = cap_index(cap) < ISA_COUNT;
    if (known && cap_index(environment) < ISA_COUNT) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: \"%.32s\" is not one of %s", known ? "QUIRE_ISA" : "[kernels] isa",
                   known ? environment : cap, names);
}

/* ---- products of bf16 ---- */

enum { PROBE_ROUNDS = 5, PROBE_OPERATIONS = 10000000 }; /* of a loop: 0.05 to 0.1 ms */
#define CLEARLY 1.4 /* times as fast: CPUs have 1/2, 1 or 2, less what a busy machine adds */

static uint64_t loop_ns(const qr_limit_loops *loops, qr_dtype dtype)
{
    const uint64_t start  = qr_now_ns();
    volatile float result = loops->by_dtype[dtype].multiply(PROBE_OPERATIONS / loops->by_dtype[dtype].operations);
    (void)result;
    return qr_now_ns() - start;
}

bool qr_bf16_is_faster_widened(const qr_limit_loops *loops)
{
    uint64_t widened = UINT64_MAX, pairs = UINT64_MAX;
    for (int round = 0; round < PROBE_ROUNDS; round++) {
        widened = qr_min_u64(widened, loop_ns(loops, QR_F32));
        pairs   = qr_min_u64(pairs, loop_ns(loops, QR_BF16));
    }
    return (double)pairs > CLEARLY * (double)widened;
}

#if defined(__x86_64__)
static pthread_once_t bf16_probe = PTHREAD_ONCE_INIT;
static bool           widens; /* what it found, the same for all of the process's life */

static void probe_bf16(void) { widens = qr_bf16_is_faster_widened(qr_kernels_avx512_bf16.limits); }

/* avx512_vnni is avx512_bf16 but for the products of bf16, which it widens. */
static const qr_kernels *faster_of(const qr_kernels *table)
{
    if (table != &qr_kernels_avx512_bf16) return table;
    pthread_once(&bf16_probe, probe_bf16);
    return widens ? &qr_kernels_avx512_vnni : table;
}

const char *qr_kernels_remark(const qr_kernels *chosen)
{
    if (chosen != &qr_kernels_avx512_vnni || !widens) return NULL;
    return "avx512_vnni in place of avx512_bf16: this CPU multiplies bf16 faster when it is widened to f32; "
           "kernels.isa = \"avx512_bf16\" takes avx512_bf16 all the same";
}
#else
static const qr_kernels *faster_of(const qr_kernels *table) { return table; }

const char *qr_kernels_remark(const qr_kernels *chosen) { return (void)chosen, NULL; }
#endif

/* ---- selection ---- */

const qr_kernels *qr_kernels_select_with(uint32_t features, const char *cap)
{
    const uint32_t caller = cap_index(cap), environment = cap_index(getenv("QUIRE_ISA"));
    if (caller == ISA_COUNT || environment == ISA_COUNT) return NULL;
    const uint32_t capped = caller > environment ? caller : environment;
    uint32_t       i      = capped;
    while ((isas[i].features & ~features) != 0) i++; /* ends: scalar needs nothing */
    const bool named = i == capped && i > 0;
    return named ? isas[i].table : faster_of(isas[i].table);
}

const qr_kernels *qr_kernels_select(const char *cap) { return qr_kernels_select_with(qr_cpu_features(), cap); }
