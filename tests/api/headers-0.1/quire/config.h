#ifndef QUIRE_CONFIG_H
#define QUIRE_CONFIG_H
#include "quire/engine.h"
typedef struct quire_config quire_config;
QUIRE_API QUIRE_NODISCARD quire_status quire_config_create(quire_config **config_out, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_config_read(quire_config *config, const char *path, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_config_read_environment(quire_config *config, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_config_set(quire_config *config, const char *assignment,
                                                        const char *origin, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_config_set_value(quire_config *config, const char *key, const char *value,
                                                              const char *origin, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_config_load(const char *path, quire_config **config_out,
                                                         quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_config_check(quire_config *config, quire_error *error);
QUIRE_API const quire_engine_options *quire_config_engine(const quire_config *config);
QUIRE_API const quire_model_options  *quire_config_model(const quire_config *config);
QUIRE_API const char *quire_config_model_path(const quire_config *config);
QUIRE_API const char *quire_config_model_preset(const quire_config *config);
QUIRE_API const char *quire_config_string(const quire_config *config, const char *key);
QUIRE_API double      quire_config_number(const quire_config *config, const char *key);
QUIRE_API int64_t     quire_config_integer(const quire_config *config, const char *key);
QUIRE_API bool        quire_config_boolean(const quire_config *config, const char *key);
QUIRE_API bool        quire_config_is_set(const quire_config *config, const char *key);
QUIRE_API bool quire_config_is_default(const quire_config *config, const char *key);
QUIRE_API size_t quire_config_count(const quire_config *config, const char *key);
QUIRE_API const char *quire_config_origin(const quire_config *config, const char *key);
QUIRE_API quire_status quire_config_refuse(const quire_config *config, const char *key, quire_error *error,
                                           const char *format, ...) QUIRE_PRINTF(4, 5);
typedef struct quire_config_key {
    const char *name;
    const char *type;
    const char *fallback;
    const char *range;
    const char *help;
} quire_config_key;
QUIRE_API QUIRE_NODISCARD quire_status quire_config_add_keys(quire_config *config, const char *owner,
                                                             const quire_config_key *keys, size_t count,
                                                             quire_error *error);
QUIRE_API const quire_config_key *quire_config_key_at(const quire_config *config, size_t index);
typedef enum quire_print {
    QUIRE_PRINT_ORIGINS  = 0,
    QUIRE_PRINT_TEMPLATE = 1,
    QUIRE_PRINT_BARE     = 2,
} quire_print;
QUIRE_API char *quire_config_print(const quire_config *config, quire_print how, const char *owner);
QUIRE_API void quire_config_destroy(quire_config *config);
#endif
