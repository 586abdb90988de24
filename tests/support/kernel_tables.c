#include "tests/support/kernel_tables.h"

#include <string.h>

extern const qr_kernels qr_kernels_emulated_avx512;
extern const qr_kernels qr_kernels_emulated_avx512_bf16;
extern const qr_kernels qr_kernels_emulated_amx;

static void add_unless_native(const qr_kernels **tables, uint32_t *count, const qr_kernels *emulated)
{
    for (uint32_t i = 0; i < *count; i++)
        if (strcmp(tables[i]->isa, emulated->isa + strlen("emulated_")) == 0) return;
    tables[(*count)++] = emulated;
}

uint32_t kernel_tables(const qr_kernels *tables[KERNEL_TABLES_MAX])
{
    uint32_t count = qr_kernels_available(tables, KERNEL_TABLES_MAX - 3);
    add_unless_native(tables, &count, &qr_kernels_emulated_avx512);
    add_unless_native(tables, &count, &qr_kernels_emulated_avx512_bf16);
    add_unless_native(tables, &count, &qr_kernels_emulated_amx);
    return count;
}
