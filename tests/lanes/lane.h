/* What the programs of the lanes share: their form, a verdict that ends them, and counts that outlive children. */
#ifndef QR_TEST_LANE_H
#define QR_TEST_LANE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first argument. */
static inline bool lane_is_long(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "short") == 0 || strcmp(argv[1], "long") == 0)) return argv[1][0] == 'l';
    fprintf(stderr, "usage: %s short|long\n", argv[0]);
    exit(2);
}

/* Ends the process; the words say what was tried and what came of it. */
#define LANE_FAIL(...)                                                                                                 \
    do {                                                                                                               \
        fflush(stdout);                                                                                                \
        fprintf(stderr, "FAILED: " __VA_ARGS__);                                                                       \
        fputc('\n', stderr);                                                                                           \
        exit(1);                                                                                                       \
    } while (0)

#define LANE_CHECK(condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition)) LANE_FAIL(__VA_ARGS__);                                                                      \
    } while (0)

/* Zeroed memory that children of fork() write and the parent reads. */
static inline void *lane_shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    LANE_CHECK(memory != MAP_FAILED, "%zu bytes of shared memory", bytes);
    return memory;
}

/* Runs `part` in a child, to its good end. */
static inline void lane_in_child(void (*part)(void *), void *context)
{
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        part(context);
        exit(0);
    }
    int status = 0;
    LANE_CHECK(child > 0 && waitpid(child, &status, 0) == child, "fork");
    LANE_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child ended with status %#x", status);
}

#endif
