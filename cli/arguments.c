/* The options that every command has. See command.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/command.h"

enum { OPTION_SET = 0x1001, OPTION_MODEL, OPTION_PRINT_CONFIG };

void qr_complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("quire: error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

const char *qr_status_name(quire_status status)
{
    switch (status) {
#define STATUS_NAME(name, value, text)                                                                                 \
    case QUIRE_##name: return #name;
        QUIRE_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    }
    return "ERR_INTERNAL";
}

int qr_report_error(const quire_error *error)
{
    qr_complain("%s", error->message[0] != '\0' ? error->message : quire_status_text(error->status));
    return error->status == QUIRE_ERR_INVALID ? QR_EXIT_USAGE : QR_EXIT_FAILED;
}

/* ---- assignments
 * ------------------------------------------------------------------------------------------------------ */

static void add(qr_arguments *arguments, const char *origin, char *text)
{
    if (text == NULL || arguments->assignment_count == QR_MAX_ASSIGNMENTS) {
        qr_complain("%s: more than %d options", origin, QR_MAX_ASSIGNMENTS);
        exit(QR_EXIT_USAGE);
    }
    arguments->assignments[arguments->assignment_count].origin = origin;
    arguments->assignments[arguments->assignment_count++].text = text;
}

/* `key="value"` as a TOML basic string: a folder called "1" or "true" stays a folder. */
static char *quoted(const char *key, const char *value)
{
    char *text = malloc(strlen(key) + 6 * strlen(value) + 4);
    if (text == NULL) return NULL;
    char *to = text + sprintf(text, "%s=\"", key);
    for (; *value != '\0'; ++value) {
        const unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\')
            to += sprintf(to, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            to += sprintf(to, "\\u%04X", c);
        else
            *to++ = (char)c;
    }
    strcpy(to, "\"");
    return text;
}

void qr_arguments_set(qr_arguments *arguments, const char *origin, const char *key, const char *value, bool as_text)
{
    char *text = NULL;
    if (as_text)
        text = quoted(key, value);
    else if (asprintf(&text, "%s=%s", key, value) < 0)
        text = NULL;
    add(arguments, origin, text);
}

bool qr_arguments_take(qr_arguments *arguments, const qr_flag *flags, size_t count, int option, const char *value)
{
    for (size_t i = 0; i < count; ++i) {
        if (flags[i].option != option) continue;
        qr_arguments_set(arguments, flags[i].flag, flags[i].key, value, flags[i].quoted);
        return true;
    }
    return false;
}

/* What names something on disk, or looks like it, is a folder; the rest is a preset. */
static bool is_path(const char *model)
{
    struct stat status;
    return strchr(model, '/') != NULL || model[0] == '.' || stat(model, &status) == 0;
}

void qr_arguments_deinit(qr_arguments *arguments)
{
    for (unsigned i = 0; i < arguments->assignment_count; ++i) free(arguments->assignments[i].text);
    arguments->assignment_count = 0;
}

/* ---- argp
 * ---------------------------------------------------------------------------------------------------------------- */

static error_t parse(int option, char *value, struct argp_state *state)
{
    qr_arguments *arguments = state->input;
    switch (option) {
    case 'c': arguments->config_path = value; return 0;
    case OPTION_SET:
        if (strchr(value, '=') == NULL) argp_error(state, "--set %s: expected section.key=value", value);
        add(arguments, "--set", strdup(value));
        return 0;
    case OPTION_MODEL:
        qr_arguments_set(arguments, "--model", is_path(value) ? "model.path" : "model.preset", value, true);
        return 0;
    case OPTION_PRINT_CONFIG: arguments->print_config = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "configuration to read (default: the environment's QUIRE_CONFIG)", 1},
    {"set", OPTION_SET, "SECTION.KEY=VALUE", 0,
     "set any key; VALUE is read as TOML, else as text. Repeatable; later wins. `quire config template` lists the keys",
     1},
    {"model", OPTION_MODEL, "FOLDER|PRESET", 0,
     "folder with config.json and *.safetensors [model.path], or a preset with synthetic weights [model.preset]", 1},
    {"print-config", OPTION_PRINT_CONFIG, NULL, 0, "print the effective configuration with origins and stop", 1},
    {0},
};
const struct argp qr_common_argp = {.options = options, .parser = parse};

/* ---- the configuration
 * --------------------------------------------------------------------------------------------------- */

static quire_status apply(const qr_arguments *arguments, quire_config *config, quire_error *error)
{
    const char  *path   = arguments->config_path ? arguments->config_path : getenv("QUIRE_CONFIG");
    quire_status status = path && path[0] != '\0' ? quire_config_read(config, path, error) : QUIRE_OK;
    if (status == QUIRE_OK) status = quire_config_read_environment(config, error);
    for (unsigned i = 0; i < arguments->assignment_count && status == QUIRE_OK; ++i)
        status = quire_config_set(config, arguments->assignments[i].text, arguments->assignments[i].origin, error);
    return status == QUIRE_OK ? quire_config_check(config, error) : status;
}

quire_config *qr_arguments_load(const qr_arguments *arguments)
{
    quire_config *config = NULL;
    quire_error   error  = {0};
    quire_status  status = quire_config_create(&config, &error);
    if (status == QUIRE_OK) status = apply(arguments, config, &error);
    if (status == QUIRE_OK) return config;
    qr_report_error(&error);
    quire_config_destroy(config);
    return NULL;
}

bool qr_arguments_printed(const qr_arguments *arguments, const quire_config *config, int *status_out)
{
    if (!arguments->print_config) return false;
    char *text  = quire_config_print(config, 0);
    *status_out = text != NULL && fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? QR_EXIT_OK : QR_EXIT_FAILED;
    free(text);
    return true;
}

quire_logger qr_logger_of(const quire_config *config)
{
    static const char *const names[] = {"", "error", "warn", "info", "debug"};
    const char              *level   = getenv("QUIRE_LOG");
    if (level == NULL || level[0] == '\0') level = quire_config_string(config, "output.log_level");
    quire_logger logger = {.level = QUIRE_LOG_INFO};
    for (int i = QUIRE_LOG_ERROR; level != NULL && i <= QUIRE_LOG_DEBUG; ++i)
        if (strcmp(level, names[i]) == 0) logger.level = (quire_log_level)i;
    return logger;
}
