/* One memory file, rewritten for each input, and a folder for those whose name counts. */
#include <dirent.h>
#include <string.h>
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

static void remove_folder(void)
{
    fuzz_clear_folder();
    rmdir(fuzz_folder());
}

const char *fuzz_folder(void)
{
    static char folder[64];
    if (folder[0] != '\0') return folder;
    snprintf(folder, sizeof folder, "/tmp/quire-fuzz-XXXXXX");
    FUZZ_CHECK(mkdtemp(folder) != NULL && atexit(remove_folder) == 0);
    return folder;
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    return path;
}

void fuzz_clear_folder(void)
{
    DIR *folder = opendir(fuzz_folder());
    FUZZ_CHECK(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.') unlink(path_of(entry->d_name));
    closedir(folder);
}

const char *fuzz_named_file(const char *name, const uint8_t *data, size_t size)
{
    FILE *to = fopen(path_of(name), "wb");
    FUZZ_CHECK(to != NULL && fwrite(data, 1, size, to) == size && fclose(to) == 0);
    return path_of(name);
}
