/* Runs a target over a folder of inputs and over seeded mutations of each, without libFuzzer: in every build, `make
 * test` included, the corpus and its neighbourhood stay clean.
 *
 * usage: TARGET FOLDER [MUTATIONS of each input, default 300] [SEED, default 17] */
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "fuzz/fuzz.h"

enum { LONGEST_INPUT = 1 << 16, MOST_SECONDS = 20 };

typedef struct input {
    uint8_t bytes[LONGEST_INPUT];
    size_t  size;
} input;

/* ---- what is running, for the one who looks for it ---- */

static uint64_t seed = 17;
static char     running[4300];

static void say_what_is_running(int number)
{
    (void)!write(STDERR_FILENO, running, strlen(running));
    signal(number, SIG_DFL);
    raise(number);
}

/* An input that takes too long ends the process, like one that breaks it. It lies in memory of its own size, so that a
 * sanitizer sees who reads beyond it. */
static void run_one(const char *path, uint32_t mutation, const uint8_t *bytes, size_t size)
{
    snprintf(running, sizeof running, "%s, mutation %u of seed %llu: broken, or more than %d s\n", path, mutation,
             (unsigned long long)seed, MOST_SECONDS);
    uint8_t *const copy = malloc(size);
    FUZZ_CHECK(size == 0 || copy != NULL);
    if (size > 0) memcpy(copy, bytes, size);
    alarm(MOST_SECONDS);
    LLVMFuzzerTestOneInput(copy, size);
    alarm(0);
    free(copy);
}

/* ---- mutations ---- */

static uint32_t draw(uint64_t *counter, uint32_t below) { return qr_random_below(seed, 0, (*counter)++, below); }

static const char *const WORDS[] = {"-1", "0", "1e999", "NaN", "18446744073709551616", "null", "\"\"",
                                    "[",  "}", "\n",    ","};

static void overwrite(input *in, size_t at, const void *bytes, size_t size)
{
    const size_t fits = size < in->size - at ? size : in->size - at;
    memcpy(in->bytes + at, bytes, fits);
}

static void mutate(input *in, uint64_t *counter)
{
    for (uint32_t left = 1 + draw(counter, 3); left > 0 && in->size > 0; left--) {
        const size_t      at   = draw(counter, (uint32_t)in->size);
        const size_t      from = draw(counter, (uint32_t)in->size);
        const char *const word = WORDS[draw(counter, sizeof WORDS / sizeof *WORDS)];
        switch (draw(counter, 5)) {
        case 0: in->bytes[at] ^= (uint8_t)(1u << draw(counter, 8)); break;
        case 1: in->bytes[at] = (uint8_t)draw(counter, 256); break;
        case 2: in->size = at; break;
        case 3: overwrite(in, at, word, strlen(word)); break;
        case 4: memmove(in->bytes + at, in->bytes + from, in->size - (at > from ? at : from)); break;
        }
    }
}

static int replay(const char *path, uint32_t mutations, uint64_t *counter)
{
    static input original, changed; /* too large for a stack */
    FILE        *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    original.size = fread(original.bytes, 1, sizeof original.bytes, file);
    fclose(file);
    run_one(path, 0, original.bytes, original.size);
    for (uint32_t i = 1; i <= mutations; i++) {
        changed = original;
        mutate(&changed, counter);
        run_one(path, i, changed.bytes, changed.size);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const uint32_t mutations = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 300;
    uint64_t       counter   = 0;
    uint32_t       inputs    = 0;
    int            status    = 0;
    DIR           *folder    = argc > 1 ? opendir(argv[1]) : NULL;
    if (folder == NULL) {
        fprintf(stderr, "usage: %s FOLDER [MUTATIONS [SEED]]\n", argv[0]);
        return 2;
    }
    if (argc > 3) seed = strtoull(argv[3], NULL, 10);
    signal(SIGALRM, say_what_is_running);
    signal(SIGABRT, say_what_is_running);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        status |= replay(path, mutations, &counter);
        inputs++;
    }
    closedir(folder);
    printf("%u inputs, %u mutations of each\n", inputs, mutations);
    return inputs > 0 ? status : 1;
}
