#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/write.h"

enum { MOST_PATH = 4096 };

/* ---- standard output ---- */

FILE      *qr_stdout;
static int own_stdout = STDOUT_FILENO;

int qr_stdout_descriptor(void) { return own_stdout; }

/* 0: the stream fails. */
static ssize_t write_stdout(void *descriptor, const char *data, size_t size)
{
    return qr_write(*(int *)descriptor, data, size) ? (ssize_t)size : 0;
}

/* Libraries print to `stdout` and to its descriptor: results go through one that only the tool knows, and through
 * qr_write(). */
void qr_stdout_take(void)
{
    const int own = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (own >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0) {
        own_stdout = own;
        setvbuf(stdout, NULL, _IOLBF, 0); /* line by line among the messages */
    }
    qr_stdout = fopencookie(&own_stdout, "w", (cookie_io_functions_t){.write = write_stdout});
    if (qr_stdout == NULL) qr_out_of_memory();
}

/* ---- files ---- */

/* Returns the name of the file in it. */
static const char *split(const char *path, char folder[MOST_PATH])
{
    const char *slash = strrchr(path, '/');
    snprintf(folder, MOST_PATH, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    return slash ? slash + 1 : path;
}

bool qr_output_is_possible(const char *what, const char *path)
{
    char        folder[MOST_PATH];
    struct stat info = {0};
    if (qr_output_is_stdout(path)) return true;
    char      *real       = realpath(path, NULL); /* NULL: not there */
    const bool is_special = stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
    (void)split(real ? real : path, folder);
    if (access(is_special ? path : folder, is_special ? W_OK : W_OK | X_OK) != 0)
        qr_complain("%s: %s: %s", what, path, strerror(errno));
    else if (S_ISDIR(info.st_mode))
        qr_complain("%s: %s: a folder, expected the name of a file", what, path);
    else
        return free(real), true;
    free(real);
    return false;
}

bool qr_output_is_stdout(const char *path) { return path != NULL && strcmp(path, "-") == 0; }

bool qr_output_write(const char *path, qr_file_writer *write, const void *what)
{
    quire_error error = {0};
    if (!qr_output_is_stdout(path) && qr_file_write_whole(path, write, what, &error) == QUIRE_OK) return true;
    if (qr_output_is_stdout(path) && write(what, qr_stdout) && fflush(qr_stdout) == 0) return true;
    qr_complain("%s%s", error.message[0] ? "" : "stdout: ", error.message[0] ? error.message : strerror(errno));
    return false;
}

bool qr_output_is_same(const char *a, const char *b)
{
    char        folders[2][MOST_PATH];
    struct stat x, y;
    if (qr_output_is_stdout(a) || qr_output_is_stdout(b)) return strcmp(a, b) == 0;
    if (stat(a, &x) == 0 && stat(b, &y) == 0) return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
    if (strcmp(split(a, folders[0]), split(b, folders[1])) != 0) return false;
    return stat(folders[0], &x) == 0 && stat(folders[1], &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
