/* CPU features through the compiler's run-time library, which also checks XCR0. */
#include "kernels/cpu.h"

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
#endif
    return features;
}
