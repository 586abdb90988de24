/* What this build is made of, in one line. */
#include "quire/version.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels/kernels.h"

#ifndef QR_ONEDNN_VERSION
#define QR_ONEDNN_VERSION "?"
#endif
#ifndef QR_HWLOC_VERSION
#define QR_HWLOC_VERSION "?"
#endif

uint32_t quire_version(void)
{
    return QUIRE_VERSION_MAJOR * 1000000 + QUIRE_VERSION_MINOR * 1000 + QUIRE_VERSION_PATCH;
}

static char build_line[256];

static void list_isas(char *list, size_t size)
{
    const qr_kernels *tables[8];
    const uint32_t    count = qr_kernels_available(tables, 8);
    size_t            used  = 0;
    for (uint32_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(list + used, size - used, "%s%s", i ? " " : "", tables[i]->isa);
}

static void write_line(void)
{
    char isas[96] = "";
    list_isas(isas, sizeof isas);
#ifdef __clang__
    const char *compiler = "clang " __clang_version__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    snprintf(build_line, sizeof build_line, "quire %d.%d.%d, %s, oneDNN %s, hwloc %s, this CPU runs: %s",
             QUIRE_VERSION_MAJOR, QUIRE_VERSION_MINOR, QUIRE_VERSION_PATCH, compiler, QR_ONEDNN_VERSION,
             QR_HWLOC_VERSION, isas);
}

const char *quire_build_info(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, write_line);
    return build_line;
}
