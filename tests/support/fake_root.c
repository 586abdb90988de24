#include "support/fake_root.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void give_up(const char *what, const char *path)
{
    fprintf(stderr, "fake root: cannot %s %s\n", what, path);
    abort();
}

fake_root fake_root_create(void)
{
    fake_root root = {"/tmp/quire-fake-root-XXXXXX"};
    if (mkdtemp(root.path) == NULL) give_up("create", root.path);
    return root;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status, (void)type, (void)where;
    return remove(path);
}

void fake_root_destroy(const fake_root *root) { nftw(root->path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

void fake_root_file(const fake_root *root, const char *path, const char *text)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", root->path, path);
    for (char *slash = whole + strlen(root->path) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *file = fopen(whole, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) give_up("write", whole);
}
