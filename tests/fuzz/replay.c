/* Runs a target over a folder of inputs and over seeded mutations of each, without libFuzzer: in every build, `make
 * test` included, the corpus and its neighbourhood stay clean.
 *
 * usage: TARGET FOLDER [MUTATIONS of each input, default 300] */
#include <dirent.h>
#include <string.h>

#include "base/rng.h"
#include "fuzz/fuzz.h"

enum { LONGEST_INPUT = 1 << 16, SEED = 17 };

typedef struct input {
    uint8_t bytes[LONGEST_INPUT];
    size_t  size;
} input;

static uint32_t draw(uint64_t *counter, uint32_t below) { return qr_random_below(SEED, 0, (*counter)++, below); }

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
    LLVMFuzzerTestOneInput(original.bytes, original.size);
    for (uint32_t i = 0; i < mutations; i++) {
        changed = original;
        mutate(&changed, counter);
        LLVMFuzzerTestOneInput(changed.bytes, changed.size);
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
        fprintf(stderr, "usage: %s FOLDER [MUTATIONS]\n", argv[0]);
        return 2;
    }
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
