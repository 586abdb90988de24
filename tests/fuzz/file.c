/* One memory file, rewritten for each input. */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/fuzz.h"

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int  descriptor = -1;
    if (descriptor < 0) descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    if (descriptor < 0 || ftruncate(descriptor, 0) != 0 || pwrite(descriptor, data, size, 0) != (ssize_t)size)
        return NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    return path;
}
