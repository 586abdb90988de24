/* CPU features through the compiler's run-time library, which also checks XCR0. */
#include "kernels/cpu.h"

#include <stdbool.h>
#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    EDX_AMX       = 1 << 22 | 1 << 24 | 1 << 25, /* CPUID leaf 7: bf16, tiles, int8 */
    REQUEST_STATE = 0x1023,                      /* ARCH_REQ_XCOMP_PERM */
    TILE_DATA     = 18,
};

static bool has_tiles(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & EDX_AMX) == EDX_AMX;
}

/* Linux saves the state of tiles for processes that asked. The answer is the same for all of the process's threads. */
static bool may_use_tiles(void) { return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0; }
#endif

uint32_t qr_cpu_features(void)
{
    uint32_t features = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) features |= QR_CPU_AVX2;
    if (__builtin_cpu_supports("fma")) features |= QR_CPU_FMA;
    if (__builtin_cpu_supports("avx512f")) features |= QR_CPU_AVX512F;
    if (__builtin_cpu_supports("avx512bw")) features |= QR_CPU_AVX512BW;
    if (__builtin_cpu_supports("avx512dq")) features |= QR_CPU_AVX512DQ;
    if (__builtin_cpu_supports("avx512vl")) features |= QR_CPU_AVX512VL;
    if (__builtin_cpu_supports("avx512vnni")) features |= QR_CPU_AVX512_VNNI;
    if (__builtin_cpu_supports("avx512bf16")) features |= QR_CPU_AVX512_BF16;
    if (has_tiles() && may_use_tiles()) features |= QR_CPU_AMX;
#endif
    return features;
}

const char *qr_cpu_refusal(void)
{
#if defined(__x86_64__)
    if (has_tiles() && !may_use_tiles())
        return "this CPU has AMX, but the operating system does not let this process use it (arch_prctl)";
#endif
    return NULL;
}
