/* What the processor has and the operating system saves, as far as the kernels care. */
#ifndef QR_CPU_H
#define QR_CPU_H

#include <stdint.h>

enum {
    QR_CPU_AVX2        = 1 << 0,
    QR_CPU_FMA         = 1 << 1,
    QR_CPU_AVX512F     = 1 << 2,
    QR_CPU_AVX512BW    = 1 << 3,
    QR_CPU_AVX512DQ    = 1 << 4,
    QR_CPU_AVX512VL    = 1 << 5,
    QR_CPU_AVX512_VNNI = 1 << 6,
    QR_CPU_AVX512_BF16 = 1 << 7,
    QR_CPU_AMX         = 1 << 8, /* tiles, their bf16 and int8 products, and the kernel's leave to use them */
};

uint32_t qr_cpu_features(void);

/* What the processor has and this process may not use, as a sentence; NULL: nothing. */
const char *qr_cpu_refusal(void);

#endif
