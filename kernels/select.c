/* Chooses a table once: the best the machine can run, not above the caps. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

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

const qr_kernels *qr_kernels_select(const char *cap)
{
    const uint32_t have = qr_cpu_features(), caller = cap_index(cap), environment = cap_index(getenv("QUIRE_ISA"));
    if (caller == ISA_COUNT || environment == ISA_COUNT) return NULL;
    uint32_t i = caller > environment ? caller : environment;
    while ((isas[i].features & ~have) != 0) i++; /* ends: scalar needs nothing */
    return isas[i].table;
}
