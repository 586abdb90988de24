/* move_pages(2) without nodes to move to: it then only tells. */
#include "topology/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"

enum { BATCH = 512 };

/* The whole pages of a range, some at a time. */
typedef struct page_walk {
    char    *next, *end;
    size_t   page_bytes;
    void    *pages[BATCH];
    int      status[BATCH];
    uint32_t count;
} page_walk;

static void start_walk(page_walk *walk, const void *base, size_t bytes)
{
    char *first      = (char *)(uintptr_t)base;
    walk->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    walk->next       = first + (qr_round_up((size_t)(uintptr_t)first, walk->page_bytes) - (size_t)(uintptr_t)first);
    walk->end        = first + bytes;
}

static bool next_batch(page_walk *walk)
{
    walk->count = 0;
    while (walk->count < BATCH && walk->next < walk->end && (size_t)(walk->end - walk->next) >= walk->page_bytes) {
        walk->pages[walk->count++] = walk->next;
        walk->next += walk->page_bytes;
    }
    return walk->count > 0;
}

static int ask_kernel(page_walk *walk)
{
    return (int)syscall(SYS_move_pages, 0, (unsigned long)walk->count, walk->pages, NULL, walk->status, 0);
}

static bool is_resident(const page_walk *walk, uint32_t i)
{
    unsigned char resident = 0;
    return mincore(walk->pages[i], walk->page_bytes, &resident) == 0 && (resident & 1) != 0;
}

/* Automatic balancing takes pages' access away to see who comes for them, and move_pages then calls them absent. A
 * page that is in memory all the same is read, which gives the access back, and asked for again. */
static int ask_for_all(page_walk *walk)
{
    bool hidden = false;
    if (ask_kernel(walk) != 0) return -1;
    for (uint32_t i = 0; i < walk->count; i++) {
        if (walk->status[i] != -ENOENT || !is_resident(walk, i)) continue;
        (void)*(volatile const char *)walk->pages[i];
        hidden = true;
    }
    return hidden ? ask_kernel(walk) : 0;
}

static bool holds(qr_node_set set, uint32_t node_os)
{
    for (uint32_t i = 0; i < set.count; i++)
        if (set.node_os[i] == node_os) return true;
    return false;
}

static void count_page(int status, qr_node_set planned, qr_page_count *count)
{
    if (status < 0) {
        count->absent++;
    } else if (holds(planned, (uint32_t)status)) {
        count->right++;
    } else {
        if (count->wrong++ == 0) count->wrong_node = (uint32_t)status;
    }
}

quire_status qr_pages_count(const void *base, size_t bytes, qr_node_set planned, qr_page_count *count,
                            quire_error *error)
{
    page_walk walk;
    start_walk(&walk, base, bytes);
    while (next_batch(&walk)) {
        if (ask_for_all(&walk) != 0)
            return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "the kernel does not say where pages are (move_pages): %s",
                           strerror(errno));
        for (uint32_t i = 0; i < walk.count; i++) count_page(walk.status[i], planned, count);
    }
    return QUIRE_OK;
}
