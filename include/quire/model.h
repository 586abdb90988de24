/* What is decoded: a shape and where its weights come from.
 *
 * A model is a description: the configuration, the checked table of tensors and the open files, a few kilobytes. The
 * weights themselves are read by quire_engine_create(), packed by the threads that will use them into memory of their
 * own NUMA node, and belong to the engine. So a model is cheap, immutable and may be shared by engines. */
#ifndef QUIRE_MODEL_H
#define QUIRE_MODEL_H

#include "quire/options.h"

typedef struct quire_model quire_model;

/* What a model is, for reports. Strings live as long as the model. */
typedef struct quire_model_info {
    size_t      size;         /* sizeof(quire_model_info), set by the caller */
    const char *name;         /* the folder's last part, or the preset */
    const char *architecture; /* model_type of config.json: "llama", "qwen3", "t5", ... */
    uint64_t    parameters;   /* a tied matrix counts once */
    uint64_t    weight_bytes; /* packed, in the chosen weight_dtype */
    uint32_t    vocab_size;
    uint32_t    max_position_embeddings; /* the model's own limit; 0 = none (T5) */
    uint32_t    max_encoder_positions;   /* likewise, of an encoder input */
    uint32_t    encoder_feature_size;    /* an encoder input is frames of so many features; 0: it is tokens */
    uint32_t    hidden_size, layers, heads, kv_heads, head_dim; /* of the decoder */
    uint32_t    encoder_layers;                                 /* 0: decoder-only */
    int32_t     decoder_start_token_id;                         /* -1: decoder-only */
    uint32_t    eos_count;
    int32_t     eos_token_ids[QUIRE_MAX_EOS_IDS]; /* [eos_count] */
    quire_dtype weight_dtype;                     /* auto resolved */
    uint32_t    window;                           /* in tokens, of all layers; 0 = some see all */
    uint32_t    long_length; /* LongRoPE: requests of more positions have other keys for the same tokens; else 0 */
    /* What generation_config.json has for requests that do not say; zero where it says nothing. A host applies it. */
    uint32_t       max_new_tokens;
    quire_sampling sampling;          /* the seed is 0 */
    uint64_t       active_parameters; /* used for one token: of the experts of a layer those that it is routed to */
    /* Defaults for the fields of quire_request of the same names. Apply first_allowed only where the prompt has at most
     * one token, last_allowed only without ignore_eos. */
    const int32_t *banned, *first_banned, *first_allowed, *last_allowed;
    uint32_t       banned_count, first_banned_count, first_allowed_count, last_allowed_count;
    uint32_t       local_layers, local_window; /* layers that have a window, in tokens, where others see all; else 0 */
} quire_model_info;

/* Opens a folder as Hugging Face publishes it: config.json and model.safetensors, or shards with
 * model.safetensors.index.json; generation_config.json, unless the options say no: docs/CHECKPOINTS.md has what is read
 * of it and what goes first. Or a GGUF file, the first of its parts, or a folder with one and no safetensors. The
 * logger gets a line that says what was found, and a warning for what the folder has besides. Everything but the
 * numbers is checked here: names, shapes, dtypes, file sizes. ERR_IO: a file is missing or unreadable. ERR_FORMAT: it
 * is not what it says; the message names file, tensor or key, and offset. ERR_UNSUPPORTED: an architecture or feature
 * quire does not have. Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_model_load(const char *path, const quire_model_options *options,
                                                        quire_model **model_out, quire_error *error);

/* A preset's shape with seeded random weights: the same code path and cost, no download.
 * ERR_INVALID: unknown preset (the message names some; `quire models` has all) or an impossible shape. Thread: any. */
QUIRE_API QUIRE_NODISCARD quire_status quire_model_synthetic(const char *preset, const quire_model_options *options,
                                                             quire_model **model_out, quire_error *error);

/* Fills *info up to info->size bytes. Thread: any. */
QUIRE_API void quire_model_describe(const quire_model *model, quire_model_info *info);

/* NULL is allowed. Thread: owner; after every engine using the model is destroyed. */
QUIRE_API void quire_model_destroy(quire_model *model);

#endif
