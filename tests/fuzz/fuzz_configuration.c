/* A configuration that was accepted prints as one that is accepted and prints the same. */
#include <string.h>

#include "bench/keys.h"
#include "fuzz/fuzz.h"
#include "quire/config.h"

static const quire_config_key axes = {"sweep.*", "axis", NULL, NULL, "as the tool has it"};

/* The effective configuration of the bytes as text, or NULL where they are refused. */
static char *effective(const uint8_t *data, size_t size)
{
    quire_config *config = NULL;
    quire_error   error  = {0};
    const char   *path   = fuzz_file(data, size);
    char         *text   = NULL;
    if (path == NULL || qr_bench_config_create(&config, &error) != QUIRE_OK) return NULL;
    quire_status status = quire_config_add_keys(config, "fuzz", &axes, 1, &error);
    if (status == QUIRE_OK) status = quire_config_read(config, path, &error);
    fuzz_check_error(status, &error);
    if (status == QUIRE_OK) status = quire_config_check(config, &error);
    if (status == QUIRE_OK) status = qr_bench_config_check(config, &error);
    fuzz_check_error(status, &error);
    if (status == QUIRE_OK) text = quire_config_print(config, QUIRE_PRINT_ORIGINS, NULL);
    quire_config_destroy(config);
    return text;
}

/* Origins stand in comments and name lines, which move. */
static void drop_comments(char *text)
{
    char *to = text;
    for (const char *from = text; *from != 0; from++) {
        if (*from == '#' && (from == text || from[-1] == ' ' || from[-1] == '\n'))
            while (from[1] != '\n' && from[1] != 0) from++;
        else
            *to++ = *from;
    }
    *to = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *first = effective(data, size);
    if (first == NULL) return 0;
    char *second = effective((const uint8_t *)first, strlen(first));
    FUZZ_CHECK(second != NULL);
    drop_comments(first);
    drop_comments(second);
    FUZZ_CHECK(strcmp(first, second) == 0);
    quire_free(second);
    quire_free(first);
    return 0;
}
