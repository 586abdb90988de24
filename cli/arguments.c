/* The options that every command has: flags become assignments, which are applied over file and environment. Also
 * completion, --help=WORD, messages and exit statuses. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/result/machine.h"
#include "bench/run/target_http.h"
#include "bench/workload/workload.h"
#include "cli/command.h"
#include "cli/keys.h"
#include "cli/text.h"
#include "cli/tool_config.h"

enum {
    OPTION_SET = 0x1001,
    OPTION_MODEL,
    OPTION_PRINT_CONFIG,
    OPTION_DTYPE,
    OPTION_KEY    = 0x10000,
    OPTION_NO_KEY = 0x20000
};
enum { LONG_NAME = 0x8000 }; /* the flag that was written has the section too */

/* A message may quote what a file holds, and that must not steer the terminal. */
static void say(const char *kind, const char *format, va_list arguments)
{
    char   *message = NULL;
    qr_text plain   = {0};
    if (vasprintf(&message, format, arguments) < 0) message = NULL;
    if (message != NULL) qr_text_append_plain(&plain, message);
    if (message == NULL || plain.failed)
        fprintf(stderr, "quire: %s: out of memory\n", kind);
    else
        fprintf(stderr, "quire: %s: %.*s\n", kind, (int)plain.length, plain.data ? plain.data : "");
    qr_text_deinit(&plain);
    free(message);
}

void qr_complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("error", format, arguments);
    va_end(arguments);
}

void qr_warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("warning", format, arguments);
    va_end(arguments);
}

void qr_out_of_memory(void)
{
    qr_complain("out of memory");
    if (qr_stdout != NULL) fflush(qr_stdout);
    _exit(QR_EXIT_FAILED); /* exit() would take from other threads what they use */
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

long qr_parse_number(struct argp_state *state, const char *flag, const char *value, long least, long most)
{
    char      *end;
    const long number = strtol(value, &end, 10);
    if (*value == '\0' || *end != '\0' || number < least || number > most)
        argp_error(state, "%s: %s is not in %ld..%ld", flag, value, least, most);
    return number;
}

int qr_exit_status(quire_status status)
{
    if (status == QUIRE_OK) return QR_EXIT_OK;
    return status == QUIRE_ERR_INVALID || status == QUIRE_ERR_TOO_LONG ? QR_EXIT_USAGE : QR_EXIT_FAILED;
}

int qr_report_error(const quire_error *error)
{
    qr_complain("%s", error->message[0] != '\0' ? error->message : quire_status_text(error->status));
    return qr_exit_status(error->status);
}

/* ---- assignments ---- */

static void add(qr_arguments *arguments, const char *origin, const char *key, const char *value)
{
    if (arguments->assignment_count == QR_MAX_ASSIGNMENTS) {
        qr_complain("%s: at most %d values can be set on the command line", origin, QR_MAX_ASSIGNMENTS);
        exit(QR_EXIT_USAGE);
    }
    qr_assignment *to = &arguments->assignments[arguments->assignment_count++];
    to->origin        = strdup(origin);
    to->key           = key != NULL ? strdup(key) : NULL;
    to->value         = strdup(value);
    if (to->origin == NULL || to->value == NULL || (key != NULL && to->key == NULL)) qr_out_of_memory();
}

void qr_arguments_set(qr_arguments *arguments, const char *origin, const char *key, const char *value)
{
    add(arguments, origin, key, value);
}

/* What names something on disk, or looks like it, is a folder; the rest is a preset. */
static bool is_path(const char *model)
{
    struct stat status;
    return strchr(model, '/') != NULL || model[0] == '.' || stat(model, &status) == 0;
}

void qr_arguments_deinit(qr_arguments *arguments)
{
    for (unsigned i = 0; i < arguments->assignment_count; i++) {
        free(arguments->assignments[i].origin);
        free(arguments->assignments[i].key);
        free(arguments->assignments[i].value);
    }
    arguments->assignment_count = 0;
}

/* ---- argp ---- */

static bool is_boolean(const quire_config_key *key) { return strcmp(key->type, "boolean") == 0; }

static const quire_config_key *key_called(const char *name, size_t length)
{
    const quire_config_key *key = NULL;
    for (size_t i = 0; (key = qr_tool_key_at(i)) != NULL; i++)
        if (strlen(key->name) == length && strncmp(key->name, name, length) == 0) break;
    return key;
}

error_t qr_parse_alias(const struct argp_option *options, int option, const char *value, qr_arguments *arguments)
{
    char flag[64];
    while (options->name != NULL && options->key != option) options++;
    const char             *bracket = options->name != NULL ? strrchr(options->doc, '[') : NULL;
    const quire_config_key *key     = bracket != NULL ? key_called(bracket + 1, strcspn(bracket + 1, "]")) : NULL;
    if (key == NULL) return ARGP_ERR_UNKNOWN;
    snprintf(flag, sizeof flag, "--%s", options->name);
    qr_arguments_set(arguments, flag, key->name, value);
    return 0;
}

static void take_alias(qr_arguments *arguments, int option, const char *value)
{
    const quire_config_key *key      = qr_tool_key_at((size_t)(option & (LONG_NAME - 1)));
    char                    flag[64] = "";
    qr_flag_name(key, (option & LONG_NAME) == 0, flag, sizeof flag);
    if (value == NULL) value = option >= OPTION_NO_KEY ? "false" : "true";
    add(arguments, flag, key->name, value);
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    qr_arguments *arguments = state->input;
    if (option >= OPTION_KEY && option < 2 * OPTION_NO_KEY) return take_alias(arguments, option, value), 0;
    switch (option) {
    case ARGP_KEY_INIT:
        state->out_stream = qr_stdout;
        arguments->argc   = state->argc;
        arguments->argv   = state->argv;
        return 0;
    case 'c': arguments->config_path = value; return 0;
    case OPTION_SET:
        if (strchr(value, '=') == NULL) argp_error(state, "--set %s: expected section.key=value", value);
        add(arguments, "--set", NULL, value);
        return 0;
    case OPTION_MODEL: add(arguments, "--model", is_path(value) ? "model.path" : "model.preset", value); return 0;
    case OPTION_DTYPE: add(arguments, "--dtype", "model.weight_dtype", value); return 0;
    case OPTION_PRINT_CONFIG: arguments->print_config = true; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0) argp_error(state, "%s: at most one configuration file can be given", value);
        arguments->config_path = value;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "configuration file to read (default: the file that the variable QUIRE_CONFIG names)",
     1},
    {"set", OPTION_SET, "SECTION.KEY=VALUE", 0,
     "set any configuration key (`quire config keys` lists them); VALUE is TOML, quotes may be left out. Repeatable, "
     "the "
     "last one wins",
     1},
    {"model", OPTION_MODEL, "FOLDER|PRESET", 0,
     "folder with config.json and *.safetensors, or a GGUF file [model.path], or a preset with synthetic weights "
     "[model.preset]; with --target the server's name of it [run.target_model]",
     1},
    {"dtype", OPTION_DTYPE, "TYPE", 0,
     "element type of the weights [model.weight_dtype]; that of keys and values is --kv-cache-dtype", 1},
    {"print-config", OPTION_PRINT_CONFIG, NULL, 0,
     "print the effective configuration, each value with its origin, and exit", 1},
    {0},
};

error_t qr_parse_common(int option, char *value, struct argp_state *state)
{
    (void)value;
    if (option != ARGP_KEY_INIT) return ARGP_ERR_UNKNOWN;
    state->child_inputs[0] = state->input;
    return 0;
}

/* ---- an alias for every key ---- */

/* Alone among the last words of keys, and no option that every command has. */
static bool is_unique(const char *word)
{
    unsigned count = 0;
    for (const struct argp_option *o = options; o->name != NULL; o++) count += strcmp(o->name, word) == 0;
    for (size_t i = 0; qr_tool_key_at(i) != NULL; i++) {
        const char *name = qr_tool_key_at(i)->name;
        count += strchr(name, '[') == NULL && strcmp(qr_last_word(name), word) == 0;
    }
    return count == 1;
}

bool qr_flag_name(const quire_config_key *key, bool brief, char *name_out, size_t size)
{
    const char *from = brief ? qr_last_word(key->name) : key->name;
    if (strpbrk(key->name, "[*") != NULL || strcmp(key->name, "schema_version") == 0) return false;
    if (brief && (!is_unique(from) || from == key->name)) return false;
    snprintf(name_out, size, "--%s", from);
    for (char *at = name_out; *at != '\0'; at++)
        if (*at == '.' || *at == '_') *at = '-';
    return true;
}

/* The aliases are hidden: --help=WORD finds them, 200 lines of --help would hide the rest. */
typedef struct alias_table {
    struct argp_option *options; /* [count], then a zero one */
    char (*names)[64];
    size_t count;
} alias_table;

static void add_alias(alias_table *table, size_t key, bool brief, bool negated)
{
    char  flag[60];
    char *name = table->names[table->count];
    if (!qr_flag_name(qr_tool_key_at(key), brief, flag, sizeof flag)) return;
    if (negated && !is_boolean(qr_tool_key_at(key))) return;
    snprintf(name, sizeof *table->names, "%s%s", negated ? "no-" : "", flag + 2);
    table->options[table->count++] = (struct argp_option){
        .name  = name,
        .key   = (int)key + (negated ? OPTION_NO_KEY : OPTION_KEY) + (brief ? 0 : LONG_NAME),
        .arg   = negated ? NULL : "VALUE",
        .flags = OPTION_HIDDEN | (is_boolean(qr_tool_key_at(key)) && !negated ? OPTION_ARG_OPTIONAL : 0),
    };
}

static void fill_aliases(alias_table *table)
{
    size_t keys = 0, own = sizeof options / sizeof *options - 1;
    while (qr_tool_key_at(keys) != NULL) keys++;
    *table         = (alias_table){.count = own};
    table->options = calloc(4 * keys + own + 1, sizeof *table->options);
    table->names   = calloc(4 * keys + own + 1, sizeof *table->names);
    if (table->options == NULL || table->names == NULL) qr_out_of_memory();
    memcpy(table->options, options, sizeof options);
    for (size_t i = 0; i < 4 * keys; i++) add_alias(table, i / 4, i & 1, i & 2);
}

/* ---- completion: the shell's function runs "QUIRE_COMPLETE=WORD quire COMMAND" ---- */

static void print_flags(const struct argp *argp)
{
    for (const struct argp_option *o = argp->options; o != NULL && (o->name != NULL || o->key != 0); o++)
        if (o->name != NULL) fprintf(qr_stdout, "--%s\n", o->name);
    for (const struct argp_child *c = argp->children; c != NULL && c->argp != NULL; c++)
        for (const struct argp_option *o = c->argp->options; o != NULL && o->name != NULL; o++)
            fprintf(qr_stdout, "--%s\n", o->name);
}

static bool is_flag_of(const quire_config_key *key, const char *word)
{
    char flag[64];
    if (strcmp(word, "--model") == 0) return strcmp(key->name, "model.preset") == 0;
    if (strcmp(word, "--dtype") == 0) return strcmp(key->name, "model.weight_dtype") == 0;
    return (qr_flag_name(key, true, flag, sizeof flag) && strcmp(flag, word) == 0) ||
           (qr_flag_name(key, false, flag, sizeof flag) && strcmp(flag, word) == 0);
}

/* Flags that stand for several keys, or none. */
static const struct choices {
    const char *flag, *words;
} choices[] = {{"--goodput", "ttft:\ntpot:\ne2el:\nitl_p99:\n"},
               {"--metric", "output_tokens\ninput_tokens\ntotal_tokens\nrequests\ngoodput\nattainment\n"
                            "ttft.mean\nttft.p50\nttft.p90\nttft.p95\nttft.p99\n"
                            "itl.mean\nitl.p50\nitl.p90\nitl.p95\nitl.p99\n"
                            "tpot.mean\ntpot.p50\ntpot.p90\ntpot.p95\ntpot.p99\n"
                            "e2el.mean\ne2el.p50\ne2el.p90\ne2el.p95\ne2el.p99\n"}};

/* What may follow the flag `word`: its own words, or the choices of its key. */
static void print_choices(const char *word)
{
    const quire_config_key *key;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        if (strcmp(word, choices[i].flag) == 0) fputs(choices[i].words, qr_stdout);
    for (size_t i = 0; (key = qr_tool_key_at(i)) != NULL; i++) {
        if (strcmp(word, "--set") == 0 && strpbrk(key->name, "[*") == NULL) fprintf(qr_stdout, "%s=\n", key->name);
        if (key->range == NULL || !is_flag_of(key, word) || strchr(key->range, '|') == NULL) continue;
        for (const char *at = key->range; *at != '\0'; at++)
            if (*at != ' ') fputc(*at == '|' ? '\n' : *at, qr_stdout);
        fputc('\n', qr_stdout);
    }
}

void qr_complete(const struct argp *argp)
{
    const char *word = getenv("QUIRE_COMPLETE");
    if (word == NULL) return;
    if (word[0] == '\0')
        print_flags(argp);
    else
        print_choices(word);
    exit(fflush(qr_stdout) == 0 ? QR_EXIT_OK : QR_EXIT_FAILED);
}

static bool show_flags(const struct argp_option *o, const char *word)
{
    bool found = false;
    for (; o != NULL && o->name != NULL; o++) {
        if ((o->flags & OPTION_HIDDEN) || o->doc == NULL || !(strcasestr(o->name, word) || strcasestr(o->doc, word)))
            continue;
        fprintf(qr_stdout, "--%s%s%s\n    %s\n", o->name, o->arg ? " " : "", o->arg ? o->arg : "", o->doc);
        found = true;
    }
    return found;
}

/* --help=WORD searches the command's own flags, then the keys, because every key is a flag. */
static void answer_help(const struct argp *argp, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--help=", 7) != 0) continue;
        bool found = show_flags(argp->options, argv[i] + 7);
        for (const struct argp_child *c = argp->children; c != NULL && c->argp != NULL; c++)
            found |= show_flags(c->argp->options, argv[i] + 7);
        exit(qr_keys_show(argv[i] + 7, found));
    }
}

enum { MAX_CHILDREN = 4 };

void qr_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    struct argp_child children[MAX_CHILDREN + 2] = {{0}};
    struct argp       whole                      = *argp;
    alias_table       aliases;
    quire_error       error;
    if (qr_tool_keys_load(&error) != QUIRE_OK) exit(qr_report_error(&error));
    fill_aliases(&aliases);
    const struct argp common = {
        .options = aliases.options,
        .parser  = parse,
        .doc = "\vEvery key of the configuration is a flag too: --max-num-seqs 16 or --scheduler-max-num-seqs 16 sets "
               "scheduler.max_num_seqs. --help=WORD finds flags and keys, `quire config keys` lists them.\n"};
    size_t count = 0;
    for (; argp->children != NULL && argp->children[count].argp != NULL && count < MAX_CHILDREN; count++)
        children[count] = argp->children[count];
    children[count] = (struct argp_child){&common, 0, "Configuration", 9};
    whole.children  = children;
    if (whole.parser == NULL) whole.parser = qr_parse_common;
    answer_help(&whole, argc, argv);
    qr_complete(&whole);
    if (argp_parse(&whole, argc, argv, 0, NULL, input) == ENOMEM) qr_out_of_memory();
    free(aliases.options);
    free(aliases.names);
}

/* ---- the configuration ---- */

static quire_status apply_defaults(const qr_arguments *arguments, quire_config *config, quire_error *error)
{
    if (quire_config_model_path(config) != NULL || quire_config_model_preset(config) != NULL) return QUIRE_OK;
    if (qr_target_is_http(config)) return QUIRE_OK; /* the server has a model */
    for (size_t i = 0; i < arguments->default_count; i++) {
        const qr_default *d = &arguments->defaults[i];
        if (strcmp(quire_config_origin(config, d->probe), "built-in") != 0) continue;
        const quire_status status = quire_config_set_value(config, d->key, d->value, "default scenario", error);
        if (status != QUIRE_OK) return status;
    }
    return QUIRE_OK;
}

/* Somebody chose it; a file that spells out a default, as a template does, chooses nothing. */
static bool is_chosen(const quire_config *config, const char *key)
{
    const char *origin = quire_config_origin(config, key);
    return strcmp(origin, "built-in") != 0 && !(quire_config_is_default(config, key) && strchr(origin, ':') != NULL);
}

/* A rate alone means requests at that rate. */
static quire_status imply_profile(quire_config *config, quire_error *error)
{
    if (!is_chosen(config, "load.request_rate") || is_chosen(config, "load.profile")) return QUIRE_OK;
    return quire_config_set_value(config, "load.profile", "poisson", quire_config_origin(config, "load.request_rate"),
                                  error);
}

/* --model names one of the server's where there is a server. */
static quire_status assign(quire_config *config, const qr_assignment *a, bool is_remote, quire_error *error)
{
    if (is_remote && strcmp(a->origin, "--model") == 0)
        return quire_config_set_value(config, "run.target_model", a->value, a->origin, error);
    return a->key != NULL ? quire_config_set_value(config, a->key, a->value, a->origin, error)
                          : quire_config_set(config, a->value, a->origin, error);
}

const char *qr_arguments_config_path(const qr_arguments *arguments)
{
    const char *path = arguments->config_path ? arguments->config_path : getenv("QUIRE_CONFIG");
    return path && path[0] != '\0' ? path : NULL;
}

/* Known before the assignments are made, whose order is free. */
static bool has_target(const qr_arguments *arguments, const quire_config *config)
{
    static const char key[] = "run.target";
    bool              has   = qr_target_is_http(config);
    for (unsigned i = 0; i < arguments->assignment_count; i++) {
        const qr_assignment *a    = &arguments->assignments[i];
        const char          *name = a->key != NULL ? a->key : a->value;
        has |= strncmp(name, key, sizeof key - 1) == 0 && name[sizeof key - 1] == (a->key != NULL ? '\0' : '=');
    }
    return has;
}

static quire_status apply(const qr_arguments *arguments, quire_config *config, quire_error *error)
{
    const char  *path   = qr_arguments_config_path(arguments);
    quire_status status = path ? quire_config_read(config, path, error) : QUIRE_OK;
    if (status == QUIRE_OK) status = quire_config_read_environment(config, error);
    const bool is_remote = has_target(arguments, config);
    for (unsigned i = 0; i < arguments->assignment_count && status == QUIRE_OK; i++)
        status = assign(config, &arguments->assignments[i], is_remote, error);
    return status == QUIRE_OK ? apply_defaults(arguments, config, error) : status;
}

quire_config *qr_arguments_load(const qr_arguments *arguments)
{
    return qr_arguments_load_with(arguments, NULL, NULL, 0);
}

/* "section.key=value", where the value is one as of a flag. */
static quire_status set_pair(quire_config *config, const char *origin, const char *pair, quire_error *error)
{
    char        key[96];
    const char *equal = strchr(pair, '=');
    snprintf(key, sizeof key, "%.*s", (int)(equal - pair), pair);
    return quire_config_set_value(config, key, equal + 1, origin, error);
}

quire_config *qr_arguments_load_with(const qr_arguments *arguments, const char *origin, char *const *more, size_t count)
{
    quire_config *config = NULL;
    quire_error   error  = {0};
    quire_status  status = qr_tool_config_create(&config, &error);
    if (status == QUIRE_OK) status = apply(arguments, config, &error);
    for (size_t i = 0; i < count && status == QUIRE_OK; i++) status = set_pair(config, origin, more[i], &error);
    if (status == QUIRE_OK) status = imply_profile(config, &error);
    if (status == QUIRE_OK) status = qr_tool_config_check(config, &error);
    if (status == QUIRE_OK) return config;
    const int exit_status = qr_report_error(&error);
    quire_config_destroy(config);
    if (status == QUIRE_ERR_NO_MEMORY) exit(exit_status); /* NULL means a fault of the configuration */
    return NULL;
}

int qr_print_config(const quire_config *config, quire_print how)
{
    char *text = quire_config_print(config, how, NULL);
    if (text == NULL) qr_out_of_memory();
    fputs(text, qr_stdout);
    quire_free(text);
    return QR_EXIT_OK;
}

int qr_arguments_run(qr_arguments *arguments, qr_body *body, void *context)
{
    int           status = QR_EXIT_USAGE;
    quire_config *config = qr_arguments_load(arguments);
    if (config != NULL)
        status = arguments->print_config ? qr_print_config(config, QUIRE_PRINT_ORIGINS) : body(context, config);
    quire_config_destroy(config);
    qr_arguments_deinit(arguments);
    return status;
}

void qr_warn_of_machine(const quire_config *config)
{
    json_t       *machine = qr_machine_json("");
    const json_t *text;
    size_t        index;
    if (qr_logger_of(config).level >= QUIRE_LOG_WARN)
        json_array_foreach(json_object_get(machine, "warnings"), index, text) qr_warn("%s", json_string_value(text));
    json_decref(machine);
}

static bool find_level(const char *name, quire_log_level *level_out)
{
    static const char *const names[] = {"", "error", "warn", "info", "debug"};
    for (int i = QUIRE_LOG_ERROR; i <= QUIRE_LOG_DEBUG; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *level_out = (quire_log_level)i;
        return true;
    }
    return false;
}

quire_logger qr_logger_of(const quire_config *config)
{
    static bool  warned;
    const char  *level  = getenv("QUIRE_LOG");
    quire_logger logger = {.level = QUIRE_LOG_INFO};
    const bool   given  = level != NULL && level[0] != '\0';
    if (given && find_level(level, &logger.level)) return logger;
    if (given && !warned)
        qr_warn("QUIRE_LOG: \"%.32s\" is not one of error | warn | info | debug; it is ignored", level);
    warned |= given;
    level = quire_config_string(config, "output.log_level");
    if (level != NULL) (void)find_level(level, &logger.level);
    return logger;
}
