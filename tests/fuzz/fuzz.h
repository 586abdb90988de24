/* What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput(); it aborts where an oracle is broken.
 * The preset `fuzz` links it with libFuzzer, every other build with replay.c. */
#ifndef QR_TEST_FUZZ_H
#define QR_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "quire/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The oracles. Not assert(): it must hold in every build. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Every failure is one sentence. */
static inline void fuzz_check_error(quire_status status, const quire_error *error)
{
    FUZZ_CHECK(status == QUIRE_OK || error->message[0] != 0);
}

/* The bytes as a file: its path, valid until the next call. NULL: no such file could be made. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* A folder of this process, emptied and removed at its end, and a file in it: the path, valid until the next call. */
const char *fuzz_folder(void);
void        fuzz_clear_folder(void);
const char *fuzz_named_file(const char *name, const uint8_t *data, size_t size);

#endif
