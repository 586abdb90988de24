/* The presets are config.json texts with the published numbers, so that they take the way every model takes. */
#include "model/presets.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/config_json.h"

/* clang-format off */
#define T5(d_model, d_ff, layers, heads, feed_forward, tied)                                                           \
    "{'model_type': 't5', 'vocab_size': 32128, 'd_model': " #d_model ", 'd_kv': 64, 'd_ff': " #d_ff                    \
    ", 'num_layers': " #layers ", 'num_decoder_layers': " #layers ", 'num_heads': " #heads                             \
    ", 'relative_attention_num_buckets': 32, 'relative_attention_max_distance': 128, 'layer_norm_epsilon': 1e-06,"     \
    " 'feed_forward_proj': " #feed_forward ", 'tie_word_embeddings': " #tied ", 'decoder_start_token_id': 0,"          \
    " 'pad_token_id': 0, 'eos_token_id': 1}"
/* clang-format on */

static const struct preset {
    const char *name, *text;
} presets[] = {
    {"tiny", "{'model_type': 'llama', 'vocab_size': 256, 'hidden_size': 64, 'intermediate_size': 176,"
             " 'num_hidden_layers': 2, 'num_attention_heads': 4, 'num_key_value_heads': 2, 'head_dim': 16,"
             " 'max_position_embeddings': 2048, 'rms_norm_eps': 1e-05, 'rope_theta': 10000.0,"
             " 'tie_word_embeddings': false, 'eos_token_id': 2}"},
    {"tinyllama-1.1b", "{'model_type': 'llama', 'vocab_size': 32000, 'hidden_size': 2048, 'intermediate_size': 5632,"
                       " 'num_hidden_layers': 22, 'num_attention_heads': 32, 'num_key_value_heads': 4, 'head_dim': 64,"
                       " 'max_position_embeddings': 2048, 'rms_norm_eps': 1e-05, 'rope_theta': 10000.0,"
                       " 'tie_word_embeddings': false, 'eos_token_id': 2}"},
    {"llama-3.2-1b", "{'model_type': 'llama', 'vocab_size': 128256, 'hidden_size': 2048, 'intermediate_size': 8192,"
                     " 'num_hidden_layers': 16, 'num_attention_heads': 32, 'num_key_value_heads': 8, 'head_dim': 64,"
                     " 'max_position_embeddings': 131072, 'rms_norm_eps': 1e-05, 'rope_theta': 500000.0,"
                     " 'rope_scaling': {'rope_type': 'llama3', 'factor': 32.0, 'low_freq_factor': 1.0,"
                     " 'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192},"
                     " 'tie_word_embeddings': true, 'eos_token_id': 128001}"},
    {"llama-3.1-8b", "{'model_type': 'llama', 'vocab_size': 128256, 'hidden_size': 4096, 'intermediate_size': 14336,"
                     " 'num_hidden_layers': 32, 'num_attention_heads': 32, 'num_key_value_heads': 8, 'head_dim': 128,"
                     " 'max_position_embeddings': 131072, 'rms_norm_eps': 1e-05, 'rope_theta': 500000.0,"
                     " 'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0,"
                     " 'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192},"
                     " 'tie_word_embeddings': false, 'eos_token_id': 128001}"},
    {"qwen3-0.6b", "{'model_type': 'qwen3', 'vocab_size': 151936, 'hidden_size': 1024, 'intermediate_size': 3072,"
                   " 'num_hidden_layers': 28, 'num_attention_heads': 16, 'num_key_value_heads': 8, 'head_dim': 128,"
                   " 'max_position_embeddings': 40960, 'rms_norm_eps': 1e-06, 'rope_theta': 1000000,"
                   " 'use_sliding_window': false, 'sliding_window': null, 'max_window_layers': 28,"
                   " 'tie_word_embeddings': true, 'eos_token_id': 151645}"},
    {"t5-small", T5(512, 2048, 6, 8, 'relu', true)},
    {"t5-base", T5(768, 3072, 12, 12, 'relu', true)},
    {"t5-large", T5(1024, 4096, 24, 16, 'relu', true)},
    {"flan-t5-xl", T5(2048, 5120, 24, 32, 'gated-gelu', false)},
};
enum { PRESET_COUNT = sizeof presets / sizeof *presets, TEXT_BYTES = 1024 };

const char *qr_preset_name(uint32_t index) { return index < PRESET_COUNT ? presets[index].name : NULL; }

static const struct preset *find(const char *name)
{
    for (uint32_t i = 0; i < PRESET_COUNT; i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

static quire_status refuse(const char *name, quire_error *error)
{
    char   known[256] = "";
    size_t used       = 0;
    for (uint32_t i = 0; qr_preset_name(i) != NULL && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", qr_preset_name(i));
    return qr_fail(error, QUIRE_ERR_INVALID, "model.preset: \"%.60s\" is not one of %s", name, known);
}

quire_status qr_architecture_preset(const char *preset, const quire_shape_override *overrides, uint32_t override_count,
                                    qr_architecture *architecture_out, quire_error *error)
{
    const struct preset *found = find(preset);
    if (found == NULL) return refuse(preset, error);
    char         text[TEXT_BYTES];
    const size_t length = strlen(found->text);
    for (size_t i = 0; i < length; i++) /* single quotes above keep the table readable */
        text[i] = found->text[i] == '\'' ? '"' : found->text[i];
    const quire_status status =
        qr_architecture_parse(text, length, found->name, overrides, override_count, architecture_out, error);
    if (status == QUIRE_OK || status == QUIRE_ERR_NO_MEMORY) return status;
    if (error != NULL) error->status = QUIRE_ERR_INVALID; /* the text is ours: an override made it impossible */
    return QUIRE_ERR_INVALID;
}
