/* A temporary directory that stands for "/": tests put their own /proc and /sys files below it. */
#ifndef TEST_FAKE_ROOT_H
#define TEST_FAKE_ROOT_H

typedef struct fake_root {
    char path[64];
} fake_root;

fake_root fake_root_create(void);
void      fake_root_destroy(const fake_root *root);

/* Writes a file, with the directories above it: fake_root_file(&r, "/proc/meminfo", "MemAvailable: 4 kB\n"). */
void fake_root_file(const fake_root *root, const char *path, const char *text);

#endif
