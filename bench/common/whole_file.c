/* Writes NAME.partial, flushes it and renames it; a failure at any point removes it. */
#include "bench/common/whole_file.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

typedef struct place {
    char target[PATH_MAX];         /* where the links of the path lead */
    char temporary[PATH_MAX + 16]; /* beside it; "": the target is written into */
} place;

/* errno, or 0. A link that leads to nothing yet is written through, too. */
static int find_place(const char *path, place *to)
{
    struct stat info;
    to->temporary[0] = '\0';
    if (strlen(path) >= sizeof to->target) return ENAMETOOLONG;
    if (realpath(path, to->target) == NULL) strcpy(to->target, path);
    const bool is_there = lstat(to->target, &info) == 0;
    if (!is_there || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode))
        snprintf(to->temporary, sizeof to->temporary, "%s.partial", to->target);
    return 0;
}

/* errno of the first failure, or 0. */
static int write_all(const char *path, qr_file_writer *write, const void *what, bool to_disk)
{
    FILE *to = fopen(path, "w");
    if (to == NULL) return errno;
    errno            = 0;
    const bool whole = write(what, to) && fflush(to) == 0 && (!to_disk || fsync(fileno(to)) == 0);
    const int  why   = whole ? 0 : errno ? errno : EIO;
    return fclose(to) == 0 || why != 0 ? why : errno;
}

static int replace(const place *at, qr_file_writer *write, const void *what, bool to_disk)
{
    int why = write_all(at->temporary, write, what, to_disk);
    if (why == 0 && rename(at->temporary, at->target) != 0) why = errno;
    if (why != 0) unlink(at->temporary);
    return why;
}

quire_status qr_file_write_whole(const char *path, qr_file_writer *write, const void *what, quire_error *error)
{
    place at;
    int   why = find_place(path, &at);
    if (why == ENAMETOOLONG)
        return qr_fail(error, QUIRE_ERR_INVALID, "%.60s...: the path is longer than %d bytes", path, PATH_MAX - 1);
    why = at.temporary[0] != '\0' ? replace(&at, write, what, true) : write_all(at.target, write, what, false);
    return why == 0 ? QUIRE_OK : qr_fail(error, QUIRE_ERR_IO, "%s: %s", path, strerror(why));
}

void qr_file_refresh(const char *path, qr_file_writer *write, const void *what)
{
    place at;
    if (find_place(path, &at) == 0 && at.temporary[0] != '\0') (void)replace(&at, write, what, false);
}
