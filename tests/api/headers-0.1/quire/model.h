#ifndef QUIRE_MODEL_H
#define QUIRE_MODEL_H
#include "quire/options.h"
typedef struct quire_model quire_model;
typedef struct quire_model_info {
    size_t      size;
    const char *name;
    const char *architecture;
    uint64_t    parameters;
    uint64_t    weight_bytes;
    uint32_t    vocab_size;
    uint32_t    max_position_embeddings;
    uint32_t    max_encoder_positions;
    uint32_t    encoder_feature_size;
    uint32_t    hidden_size, layers, heads, kv_heads, head_dim;
    uint32_t    encoder_layers;
    int32_t     decoder_start_token_id;
    uint32_t    eos_count;
    int32_t     eos_token_ids[QUIRE_MAX_EOS_IDS];
    quire_dtype weight_dtype;
    uint32_t    window;
    uint32_t    long_length;
    uint32_t       max_new_tokens;
    quire_sampling sampling;
    uint64_t       active_parameters;
    const int32_t *banned, *first_banned, *first_allowed, *last_allowed;
    uint32_t       banned_count, first_banned_count, first_allowed_count, last_allowed_count;
    uint32_t       local_layers, local_window;
} quire_model_info;
QUIRE_API QUIRE_NODISCARD quire_status quire_model_load(const char *path, const quire_model_options *options,
                                                        quire_model **model_out, quire_error *error);
QUIRE_API QUIRE_NODISCARD quire_status quire_model_synthetic(const char *preset, const quire_model_options *options,
                                                             quire_model **model_out, quire_error *error);
QUIRE_API void quire_model_describe(const quire_model *model, quire_model_info *info);
QUIRE_API void quire_model_destroy(quire_model *model);
#endif
