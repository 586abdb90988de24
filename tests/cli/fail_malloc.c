/* Preloaded into the tool: allocation number FAIL_MALLOC, from 0, fails, and with FAIL_MALLOC_ALL all after it. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

/* glibc's own, which need no dlsym(): that allocates. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *pointer, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_long left = -1;
static bool        counts, all_after;

__attribute__((constructor)) static void begin(void)
{
    const char *number = getenv("FAIL_MALLOC");
    if (number == NULL) return;
    left      = atol(number);
    all_after = getenv("FAIL_MALLOC_ALL") != NULL;
    counts    = true;
}

static bool fails(void)
{
    const long number = counts ? atomic_fetch_sub(&left, 1) : 1;
    if (number > 0 || (number < 0 && !all_after)) return false;
    errno = ENOMEM;
    return true;
}

EXPORTED void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
EXPORTED void *calloc(size_t count, size_t size) { return fails() ? NULL : __libc_calloc(count, size); }
EXPORTED void *realloc(void *pointer, size_t size) { return fails() ? NULL : __libc_realloc(pointer, size); }
EXPORTED void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

EXPORTED int posix_memalign(void **pointer_out, size_t alignment, size_t size)
{
    if (fails()) return ENOMEM;
    *pointer_out = __libc_memalign(alignment, size);
    return *pointer_out != NULL ? 0 : ENOMEM;
}
