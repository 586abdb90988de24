/* Options from a TOML file, the environment and assignments, checked against one table of keys. */
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

/* Values of any key, "section.key" (dotted deeper: "workload.prompt_tokens.dist"). NULL / fallback if unset.
 * Strings live until the config changes. Durations come in ns, sizes in bytes. Thread: any. */
QUIRE_API const char *quire_config_string(const quire_config *config, const char *key);
QUIRE_API double      quire_config_number(const quire_config *config, const char *key, double fallback);
QUIRE_API int64_t     quire_config_integer(const quire_config *config, const char *key, int64_t fallback);
QUIRE_API bool        quire_config_boolean(const quire_config *config, const char *key, bool fallback);
/* Elements of an array key (tables in arrays: "workload.mix"); then index with "workload.mix[0].name". */
QUIRE_API size_t quire_config_count(const quire_config *config, const char *key);
/* Where the value came from: "built-in", "quire.toml:12", "QUIRE__MODEL__PATH", "--set". Never NULL. */
QUIRE_API const char *quire_config_origin(const quire_config *config, const char *key);

typedef enum quire_print {
    QUIRE_PRINT_ORIGINS  = 0, /* each value with its origin as a comment */
    QUIRE_PRINT_TEMPLATE = 1, /* every key, with help */
    QUIRE_PRINT_BARE     = 2, /* values alone: equal text, equal configuration */
} quire_print;

/* The effective configuration as loadable TOML. The text is the caller's, free() it. NULL: out of memory. Thread: any.
 */
QUIRE_API char *quire_config_print(const quire_config *config, quire_print how);

/* The key table, for flags, completion and documentation: the i-th key, or NULL past the end. Thread: any. */
typedef struct quire_config_key {
    const char *name;     /* "scheduler.max_num_seqs" */
    const char *type;     /* "integer", "number", "boolean", "string", "size", "duration", "choice", "table", "array" */
    const char *fallback; /* default as TOML text, NULL: none */
    const char *range;    /* "1..4096", "fcfs | priority", NULL: any */
    const char *help;
} quire_config_key;
QUIRE_API const quire_config_key *quire_config_key_at(size_t index);

QUIRE_API void quire_config_destroy(quire_config *config); /* NULL is allowed. Thread: owner. */

#endif
