/* quire config print|template|keys|schema|diff: what would be used, and everything that could be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/keys.h"

enum { MAX_ARGUMENTS = 2 };

typedef struct settings {
    qr_arguments common;
    const char  *what, *arguments[MAX_ARGUMENTS];
    unsigned     count;
} settings;

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &s->common; return 0;
    case ARGP_KEY_ARG:
        if (s->count == MAX_ARGUMENTS) argp_usage(state);
        if (s->what == NULL)
            s->what = value;
        else
            s->arguments[s->count++] = value;
        return 0;
    case ARGP_KEY_END:
        if (s->what == NULL) argp_usage(state);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int show(settings *s, quire_print how)
{
    if (s->count > 0) s->common.config_path = s->arguments[0];
    quire_config *config = qr_arguments_load(&s->common);
    const int     status = config != NULL ? qr_print_config(config, how) : QR_EXIT_USAGE;
    quire_config_destroy(config);
    return status;
}

/* ---- diff: the bare texts have the keys in one order ---- */

typedef struct line {
    char section[64], text[512];
} line;

/* The next "key = value", with its section; false at the end. */
static bool next_line(const char **at, line *out)
{
    while (**at != '\0') {
        const char  *from   = *at;
        const size_t length = strcspn(from, "\n");
        *at += length + (from[length] == '\n');
        if (*from == '[')
            snprintf(out->section, sizeof out->section, "%.*s ", (int)length, from);
        else if (length > 0 && *from != '#') {
            snprintf(out->text, sizeof out->text, "%.*s", (int)length, from);
            return true;
        }
    }
    return false;
}

static bool has_line(const char *text, const line *wanted)
{
    line l = {0};
    while (next_line(&text, &l))
        if (strcmp(l.section, wanted->section) == 0 && strcmp(l.text, wanted->text) == 0) return true;
    return false;
}

static bool print_missing(char sign, const char *from, const char *in)
{
    line l     = {0};
    bool found = false;
    while (next_line(&from, &l)) {
        if (has_line(in, &l)) continue;
        fprintf(qr_stdout, "%c %s%s\n", sign, l.section, l.text);
        found = true;
    }
    return found;
}

static char *effective(settings *s, const char *path)
{
    s->common.config_path = path;
    quire_config *config  = qr_arguments_load(&s->common);
    char         *text    = config != NULL ? quire_config_print(config, QUIRE_PRINT_BARE, NULL) : NULL;
    if (config != NULL && text == NULL) qr_out_of_memory();
    quire_config_destroy(config);
    return text;
}

static int diff(settings *s)
{
    if (s->count != 2) return qr_complain("config diff: needs two files"), QR_EXIT_USAGE;
    char *a = effective(s, s->arguments[0]), *b = effective(s, s->arguments[1]);
    int   status = QR_EXIT_USAGE;
    if (a != NULL && b != NULL) {
        const bool removed = print_missing('-', a, b), added = print_missing('+', b, a);
        status = removed || added ? QR_EXIT_FAILED : QR_EXIT_OK; /* as diff(1) */
    }
    quire_free(a);
    quire_free(b);
    return status;
}

/* ---- the command ---- */

static int run(settings *s)
{
    const char *argument = s->count > 0 ? s->arguments[0] : NULL;
    if (strcmp(s->what, "print") == 0) return show(s, QUIRE_PRINT_ORIGINS);
    if (strcmp(s->what, "template") == 0) return show(s, QUIRE_PRINT_TEMPLATE);
    if (strcmp(s->what, "keys") == 0) return qr_keys_show(argument, false);
    if (strcmp(s->what, "schema") == 0) return qr_keys_schema();
    if (strcmp(s->what, "scdoc") == 0) return qr_keys_scdoc();       /* quire.toml(5) is made of it */
    if (strcmp(s->what, "markdown") == 0) return qr_keys_markdown(); /* tools/write_config_docs.py */
    if (strcmp(s->what, "diff") == 0) return diff(s);
    qr_complain("config %s: expected print, template, keys, schema or diff", s->what);
    return QR_EXIT_USAGE;
}

int qr_command_config(int argc, char **argv)
{
    static const struct argp argp = {
        .parser   = parse,
        .args_doc = "print [CONFIG]\ntemplate\nkeys [WORD]\nschema\ndiff A B",
        .doc      = "Show the configuration, its keys and their defaults.\v"
                    "print     the effective configuration as TOML, each value with its origin\n"
                    "template  every key with its default and help, to start a file from\n"
                    "keys      the keys whose name or help holds WORD, with their flags\n"
                    "schema    JSON Schema of the configuration, for editors (that of results: docs/result.schema.json)\n"
                    "diff      values that differ between two files; exit status 1: some do\n\n"
                    "  quire config template > quire.toml\n"
                    "  quire config keys kv",
    };
    settings s = {0};
    qr_parse(&argp, argc, argv, &s);
    const int status = run(&s);
    qr_arguments_deinit(&s.common);
    return status;
}
