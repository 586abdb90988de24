/* quire config print|template|keys: what would be used, and everything that could be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"

typedef struct settings {
    qr_arguments common;
    const char  *what, *pattern;
} settings;

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &s->common; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0)
            s->what = value;
        else if (state->arg_num == 1)
            s->pattern = value;
        else
            argp_usage(state);
        return 0;
    case ARGP_KEY_END:
        if (s->what == NULL) argp_usage(state);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int show_keys(const char *pattern)
{
    bool found = false;
    for (size_t i = 0; quire_config_key_at(i) != NULL; ++i) {
        const quire_config_key *key = quire_config_key_at(i);
        if (pattern != NULL && strcasestr(key->name, pattern) == NULL &&
            (key->help == NULL || strcasestr(key->help, pattern) == NULL))
            continue;
        found = true;
        printf("%s = %s  (%s%s%s)\n    %s\n", key->name, key->fallback ? key->fallback : "unset", key->type,
               key->range ? ": " : "", key->range ? key->range : "", key->help ? key->help : "");
    }
    if (!found) {
        qr_complain("config keys: no key has \"%s\" in its name or help", pattern);
        return QR_EXIT_FAILED;
    }
    return fflush(stdout) == 0 ? QR_EXIT_OK : QR_EXIT_FAILED;
}

int qr_command_config(int argc, char **argv)
{
    static const struct argp argp = {
        .parser   = parse,
        .args_doc = "print\ntemplate\nkeys [WORD]",
        .doc      = "Show configuration.\v"
                    "print     the effective configuration as TOML, each value with its origin\n"
                    "template  every key with its default and help, to start a file from\n"
                    "keys      the keys whose name or help holds WORD\n\n"
                    "  quire config template > quire.toml\n"
                    "  quire config keys kv",
    };
    settings s = {0};
    qr_parse(&argp, argc, argv, &s);
    int status = QR_EXIT_USAGE;
    if (strcmp(s.what, "keys") == 0) {
        status = show_keys(s.pattern);
    } else if (strcmp(s.what, "print") != 0 && strcmp(s.what, "template") != 0) {
        qr_complain("config %s: expected print, template or keys", s.what);
    } else {
        quire_config *config = qr_arguments_load(&s.common);
        if (config != NULL)
            status =
                qr_print_config(config, strcmp(s.what, "template") == 0 ? QUIRE_PRINT_TEMPLATE : QUIRE_PRINT_ORIGINS);
        quire_config_destroy(config);
    }
    qr_arguments_deinit(&s.common);
    return status;
}
