/* docs/CONFIGURATION.md has a row for every key, with the defaults and ranges that the code has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/tool_config.h"

static char *page;

static int read_page(void **state)
{
    (void)state;
    if (qr_tool_keys_load(NULL) != QUIRE_OK) return -1;
    FILE *file = fopen(QUIRE_SOURCE_DIR "/docs/CONFIGURATION.md", "r");
    if (file == NULL) return -1;
    page              = calloc(1, 1 << 18);
    const size_t read = fread(page, 1, (1 << 18) - 1, file);
    fclose(file);
    return read > 0 ? 0 : -1;
}

static int free_page(void **state)
{
    (void)state;
    free(page);
    return 0;
}

/* The members of a distribution are documented once, at workload.prompt_tokens. */
static bool is_repeated(const char *name)
{
    static const char *const same[] = {"workload.output_tokens.", "workload.encoder_tokens.",
                                       "workload.mix[].prompt_tokens.", "workload.mix[].output_tokens."};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (strncmp(name, same[i], strlen(same[i])) == 0) return true;
    return false;
}

/* A table cell: "|" would end it. */
static void append_cell(char *row, const char *text, const char *quote)
{
    char *to = row + strlen(row);
    to       = stpcpy(stpcpy(to, "| "), *text ? quote : "");
    for (const char *from = text; *from != '\0'; from++) {
        if (*from == '|') *to++ = '\\';
        *to++ = *from;
    }
    stpcpy(stpcpy(to, *text ? quote : ""), *text ? " " : "");
}

static const char *row_of(const quire_config_key *key)
{
    static char row[1024];
    row[0] = '\0';
    append_cell(row, key->name, "`");
    append_cell(row, key->type, "");
    append_cell(row, key->fallback ? key->fallback : "", "`");
    append_cell(row, key->range ? key->range : "", "");
    append_cell(row, key->help, "");
    return strcat(row, "|");
}

static void every_key_has_its_row(void **state)
{
    (void)state;
    const quire_config_key *key;
    size_t                  missing = 0;
    for (size_t i = 0; (key = qr_tool_key_at(i)) != NULL; i++) {
        if (is_repeated(key->name) || strstr(page, row_of(key)) != NULL) continue;
        print_error("%s\n", row_of(key));
        missing++;
    }
    if (missing > 0)
        fail_msg("docs/CONFIGURATION.md lacks the %zu rows above: run tools/write_config_docs.py", missing);
}

/* A row that no key stands behind is a promise nobody keeps. */
static void every_row_has_its_key(void **state)
{
    (void)state;
    for (const char *at = page; (at = strstr(at, "\n| `")) != NULL; at += 4) {
        char                    name[128];
        const quire_config_key *key   = NULL;
        bool                    found = false;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 4, "`"), at + 4);
        for (size_t i = 0; !found && (key = qr_tool_key_at(i)) != NULL; i++) found = strcmp(key->name, name) == 0;
        if (!found) fail_msg("docs/CONFIGURATION.md has a row for %s, which is no key", name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_its_row),
        cmocka_unit_test(every_row_has_its_key),
    };
    return cmocka_run_group_tests(tests, read_page, free_page);
}
