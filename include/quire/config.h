/* Options from a TOML file, the environment and assignments. The library knows the keys of its options; a program may
 * add keys of its own. The sections of the `quire` tool are skipped where they are not added. */
#ifndef QUIRE_CONFIG_H
#define QUIRE_CONFIG_H

#include "quire/engine.h"

typedef struct quire_config quire_config; /* owns the strings the options point to */

/* The built-in defaults. Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_create(quire_config **config_out, quire_error *error);

/* Reads a file over what `config` holds. An unknown section or key is an error with file:line:column and the nearest
 * known name, and so is a value of the wrong type or out of range. ERR_IO, ERR_FORMAT, ERR_INVALID. Thread: owner. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_read(quire_config *config, const char *path, quire_error *error);

/* Takes every variable named QUIRE__SECTION__KEY. Thread: owner; reads the environment. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_read_environment(quire_config *config, quire_error *error);

/* "section.key=value"; the value is read as TOML, else as a string. `origin` ("--set") is copied. Thread: owner. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_set(quire_config *config, const char *assignment,
                                                        const char *origin, quire_error *error);

/* A value as a flag of a command line has it. For keys that hold text (string, choice, size, duration) `value` is taken
 * as it is, quotes and invalid UTF-8 included; for other keys it is parsed as TOML. Thread: owner. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_set_value(quire_config *config, const char *key, const char *value,
                                                              const char *origin, quire_error *error);

/* create + read + read_environment. Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_load(const char *path, quire_config **config_out,
                                                         quire_error *error);

/* Checks what depends on several keys (ERR_INVALID); the two option structs below are valid after it. Thread: owner. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_check(quire_config *config, quire_error *error);

QUIRE_API const quire_engine_options *quire_config_engine(const quire_config *config); /* Thread: any. */
QUIRE_API const quire_model_options  *quire_config_model(const quire_config *config);  /* Thread: any. */

/* model.path, or NULL; model.preset, or NULL. At most one is not NULL: the later in the order. Thread: any. */
QUIRE_API const char *quire_config_model_path(const quire_config *config);
QUIRE_API const char *quire_config_model_preset(const quire_config *config);

/* The value of a key, "section.key" (dotted deeper: "workload.prompt_tokens.dist", "tenant[0].name"). Unset, or of
 * another type: NULL, NaN, 0, false. Strings live until the config changes. Durations come in ns, sizes in bytes. A key
 * that is neither the library's nor added ends the program: it is a mistake in it. Thread: any. */
QUIRE_API const char *quire_config_string(const quire_config *config, const char *key);
QUIRE_API double      quire_config_number(const quire_config *config, const char *key);
QUIRE_API int64_t     quire_config_integer(const quire_config *config, const char *key);
QUIRE_API bool        quire_config_boolean(const quire_config *config, const char *key);
QUIRE_API bool        quire_config_is_set(const quire_config *config, const char *key);
/* Whether the value is the built-in one, even if somebody wrote it down. */
QUIRE_API bool quire_config_is_default(const quire_config *config, const char *key);
/* Elements of an array key; then index with "workload.mix[0].name". */
QUIRE_API size_t quire_config_count(const quire_config *config, const char *key);
/* Where the value came from: "built-in", "quire.toml:12", "QUIRE__MODEL__PATH", "--set". Never NULL. */
QUIRE_API const char *quire_config_origin(const quire_config *config, const char *key);

/* An error about a key's value in the form of the library's own, "quire.toml:12:8: [section] key: ...", for what a
 * program checks besides. Returns ERR_INVALID. Thread: any. */
QUIRE_API quire_status quire_config_refuse(const quire_config *config, const char *key, quire_error *error,
                                           const char *format, ...) QUIRE_PRINTF(4, 5);

/* ---- keys ---- */

/* Elements of an array given to the library: frozen. */
typedef struct quire_config_key {
    const char *name;     /* "section.key"; "[]" stands for an element of an array, a last "*" for any name */
    const char *type;     /* "integer", "number", "boolean", "string", "size", "duration", "choice", "table", "array",
                             "path": a relative one in a file is relative to the file's folder,
                             "axis": values for another key, whose name it has */
    const char *fallback; /* default as TOML text, NULL: none */
    const char *range;    /* "1..4096", ">0..1", "0..", "fcfs | priority", "1..64 | unlimited"; NULL: any */
    const char *help;
} quire_config_key;

/* Adds keys of the program's own, so that files, variables and assignments may set them; before these are read. Their
 * defaults apply at once. `keys` [count] are not copied and must outlive the config. `owner` names them for
 * quire_config_print(); the library's own are "quire". ERR_INVALID: a name is known already. Thread: owner. */
QUIRE_API QUIRE_NODISCARD quire_status quire_config_add_keys(quire_config *config, const char *owner,
                                                             const quire_config_key *keys, size_t count,
                                                             quire_error *error);

/* The i-th key in the order of printing, or NULL past the end: for flags, completion, documentation. Thread: any. */
QUIRE_API const quire_config_key *quire_config_key_at(const quire_config *config, size_t index);

typedef enum quire_print {
    QUIRE_PRINT_ORIGINS  = 0, /* each value with its origin as a comment */
    QUIRE_PRINT_TEMPLATE = 1, /* every key, with help */
    QUIRE_PRINT_BARE     = 2, /* values alone: equal text, equal configuration */
} quire_print;

/* The effective configuration as loadable TOML: of all keys, or of those added by `owner`. The text is the caller's,
 * quire_free() it. NULL: out of memory. Thread: any. */
QUIRE_API char *quire_config_print(const quire_config *config, quire_print how, const char *owner);

QUIRE_API void quire_config_destroy(quire_config *config); /* NULL is allowed. Thread: owner. */

#endif
