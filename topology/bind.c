/* mmap, madvise, mbind, sched_setaffinity. mbind goes by system call: it needs no hwloc object at hand, and libnuma is
 * not worth a dependency for one call. */
#include "topology/bind.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "topology/cgroup.h"

static const size_t huge_page_bytes = (size_t)2 << 20;

/* ---- mapping ---- */

/* Maps one huge page more than wanted and gives back what lies outside the aligned part. */
static char *map_aligned(size_t bytes)
{
    size_t wide = 0;
    if (__builtin_add_overflow(bytes, huge_page_bytes, &wide)) return NULL;
    char *base = mmap(NULL, wide, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    const size_t head = qr_round_up((size_t)(uintptr_t)base, huge_page_bytes) - (size_t)(uintptr_t)base;
    if (head > 0) munmap(base, head);
    if (huge_page_bytes > head) munmap(base + head + bytes, huge_page_bytes - head);
    return base + head;
}

/* madvise succeeds where huge pages are switched off, so that the switch is read too. */
static bool advise_huge(char *base, size_t bytes)
{
    char mode[128];
    if (qr_read_line(NULL, "/sys/kernel/mm/transparent_hugepage/enabled", mode, sizeof mode) &&
        strstr(mode, "[never]") != NULL)
        return false;
    return madvise(base, bytes, MADV_HUGEPAGE) == 0;
}

/* One warning for each log: a machine without huge pages refuses every mapping alike. */
static void warn_once_without_huge_pages(qr_log *log, const char *what)
{
    static _Atomic(qr_log *) warned = NULL;
    if (atomic_exchange(&warned, log) == log) return;
    qr_log_write(log, QUIRE_LOG_WARN,
                 "%s: no huge pages (see /sys/kernel/mm/transparent_hugepage/enabled); memory will be slower", what);
}

quire_status qr_mapping_create(size_t bytes, const qr_bind_options *options, const char *what, qr_mapping *mapping_out,
                               quire_error *error)
{
    *mapping_out = (qr_mapping){0};
    size_t whole = 0;
    if (!__builtin_add_overflow(bytes ? bytes : 1, huge_page_bytes - 1, &whole)) {
        mapping_out->bytes = whole / huge_page_bytes * huge_page_bytes;
        mapping_out->base  = map_aligned(mapping_out->bytes);
    }
    if (mapping_out->base == NULL) {
        *mapping_out = (qr_mapping){0};
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: %zu bytes of memory are not available", what, bytes);
    }
    if (options->huge_pages == QUIRE_TOGGLE_OFF) {
        madvise(mapping_out->base, mapping_out->bytes, MADV_NOHUGEPAGE); /* refused: there are none anyway */
        return QUIRE_OK;
    }
    mapping_out->huge = advise_huge(mapping_out->base, mapping_out->bytes);
    if (mapping_out->huge) return QUIRE_OK;
    if (options->huge_pages != QUIRE_TOGGLE_ON) {
        warn_once_without_huge_pages(options->log, what);
        return QUIRE_OK;
    }
    qr_mapping_destroy(mapping_out);
    return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: no huge pages here, and [topology] huge_pages is \"on\"", what);
}

void qr_mapping_destroy(qr_mapping *mapping)
{
    if (mapping->base != NULL) munmap(mapping->base, mapping->bytes);
    *mapping = (qr_mapping){0};
}

/* ---- binding ---- */

enum { MASK_BITS = 1024, WORD_BITS = 8 * sizeof(unsigned long) };

typedef struct node_mask {
    unsigned long word[MASK_BITS / WORD_BITS];
} node_mask;

static bool add_node(node_mask *mask, uint32_t node_os)
{
    if (node_os >= MASK_BITS) return false;
    mask->word[node_os / WORD_BITS] |= 1ul << (node_os % WORD_BITS);
    return true;
}

static quire_status bind_pages(char *begin, size_t bytes, int policy, const node_mask *mask, uint32_t first_node,
                               const qr_bind_options *options, quire_error *error)
{
    if (syscall(SYS_mbind, begin, bytes, policy, mask->word, (unsigned long)MASK_BITS, 0u) == 0) return QUIRE_OK;
    const int reason = errno;
    if (options->strict)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "%zu bytes of memory cannot be bound to NUMA node %u: %s", bytes,
                       first_node, strerror(reason));
    qr_log_write(options->log, QUIRE_LOG_WARN, "%zu bytes of memory cannot be bound to NUMA node %u: %s", bytes,
                 first_node, strerror(reason));
    return QUIRE_OK;
}

/* A preference unless strict: a node that runs full then lends from its neighbour instead of killing the process. */
quire_status qr_mapping_bind(const qr_mapping *mapping, size_t offset, size_t bytes, uint32_t node_os,
                             uint32_t machine_nodes, const qr_bind_options *options, quire_error *error)
{
    if (machine_nodes <= 1 || bytes == 0) return QUIRE_OK;
    const size_t page  = (size_t)sysconf(_SC_PAGESIZE);
    const size_t begin = offset / page * page;
    const size_t end   = qr_round_up(offset + bytes, page);
    node_mask    mask  = {0};
    (void)add_node(&mask, node_os); /* one beyond the mask: the kernel refuses an empty one */
    return bind_pages(mapping->base + begin, end - begin, options->strict ? MPOL_BIND : MPOL_PREFERRED, &mask, node_os,
                      options, error);
}

quire_status qr_mapping_spread(const qr_mapping *mapping, const uint32_t *node_os, uint32_t count,
                               uint32_t machine_nodes, const qr_bind_options *options, quire_error *error)
{
    if (count == 1) return qr_mapping_bind(mapping, 0, mapping->bytes, node_os[0], machine_nodes, options, error);
    if (machine_nodes <= 1 || mapping->bytes == 0) return QUIRE_OK;
    node_mask mask = {0};
    for (uint32_t n = 0; n < count; n++) (void)add_node(&mask, node_os[n]);
    return bind_pages(mapping->base, mapping->bytes, MPOL_INTERLEAVE, &mask, node_os[0], options, error);
}

void qr_bind_and_move(void *begin, size_t bytes, uint32_t node_os)
{
    node_mask mask = {0};
    if (!add_node(&mask, node_os)) return;
    (void)syscall(SYS_mbind, begin, bytes, MPOL_PREFERRED, mask.word, (unsigned long)MASK_BITS, MPOL_MF_MOVE);
}

/* The hardware threads of a core; the CPU alone where the kernel does not say. */
static qr_cpu_set core_of(uint32_t cpu_os)
{
    char       path[96], list[256];
    qr_cpu_set core = {0};
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu_os);
    if (!qr_read_line(NULL, path, list, sizeof list) || !qr_cpu_set_parse(list, &core)) core = (qr_cpu_set){0};
    qr_cpu_set_add(&core, cpu_os);
    return core;
}

/* 0: the calling thread. */
static int pin(uint32_t cpu_os, quire_bind bind)
{
    enum { MASK_BYTES = QR_MAX_CPUS / 8 };
    qr_cpu_set now = {0}, mask = {0};
    qr_cpu_set_add(&mask, cpu_os);
    if (bind == QUIRE_BIND_CORE && sched_getaffinity(0, MASK_BYTES, (cpu_set_t *)&now) == 0) {
        const qr_cpu_set core = core_of(cpu_os);
        for (size_t i = 0; i < sizeof mask.word / sizeof *mask.word; i++) mask.word[i] |= core.word[i] & now.word[i];
    }
    return sched_setaffinity(0, MASK_BYTES, (const cpu_set_t *)&mask);
}

quire_status qr_bind_thread(uint32_t cpu_os, quire_bind bind, const qr_bind_options *options, quire_error *error)
{
    errno = EINVAL;
    if (cpu_os < QR_MAX_CPUS && pin(cpu_os, bind) == 0) return QUIRE_OK;
    const int reason = errno;
    if (options->strict)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "a thread cannot be pinned to CPU %u: %s", cpu_os,
                       strerror(reason));
    qr_log_write(options->log, QUIRE_LOG_WARN, "a thread cannot be pinned to CPU %u: %s", cpu_os, strerror(reason));
    return QUIRE_OK;
}
