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
#define ONES_16 "1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1"
#define ONES_48 ONES_16 ", " ONES_16 ", " ONES_16
#define BART(type, vocab_size, d_model, d_ff, layers, heads, rest)                                                     \
    "{'model_type': '" type "', 'vocab_size': " #vocab_size ", 'd_model': " #d_model ", 'encoder_ffn_dim': " #d_ff     \
    ", 'decoder_ffn_dim': " #d_ff ", 'encoder_layers': " #layers ", 'decoder_layers': " #layers                        \
    ", 'encoder_attention_heads': " #heads ", 'decoder_attention_heads': " #heads                                      \
    ", 'tie_word_embeddings': true, " rest "}"
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
    {"phi-4-mini", "{'model_type': 'phi3', 'vocab_size': 200064, 'hidden_size': 3072, 'intermediate_size': 8192,"
                   " 'num_hidden_layers': 32, 'num_attention_heads': 24, 'num_key_value_heads': 8,"
                   " 'max_position_embeddings': 131072, 'original_max_position_embeddings': 4096,"
                   " 'rms_norm_eps': 1e-05, 'rope_theta': 10000.0, 'partial_rotary_factor': 0.75,"
                   " 'rope_scaling': {'type': 'longrope', 'short_factor': [" ONES_48 "], 'long_factor': ["
                   "1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649,"
                   " 2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845,"
                   " 5.351743533, 5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158,"
                   " 11.70738129, 13.09260651, 14.64173252, 16.37415215, 18.31155283, 20.47818807, 22.90118105,"
                   " 25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71,"
                   " 32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77]}, 'sliding_window': 262144,"
                   " 'tie_word_embeddings': true, 'eos_token_id': 199999}"},
    {"gemma-3-1b", "{'model_type': 'gemma3_text', 'vocab_size': 262144, 'hidden_size': 1152, 'intermediate_size': 6912,"
                   " 'num_hidden_layers': 26, 'num_attention_heads': 4, 'num_key_value_heads': 1, 'head_dim': 256,"
                   " 'max_position_embeddings': 32768, 'rms_norm_eps': 1e-06, 'rope_theta': 1000000.0,"
                   " 'rope_local_base_freq': 10000.0, 'query_pre_attn_scalar': 256, 'sliding_window': 512,"
                   " 'sliding_window_pattern': 6, 'hidden_activation': 'gelu_pytorch_tanh',"
                   " 'tie_word_embeddings': true, 'eos_token_id': 1}"},
    {"mixtral-8x7b", "{'model_type': 'mixtral', 'vocab_size': 32000, 'hidden_size': 4096, 'intermediate_size': 14336,"
                     " 'num_hidden_layers': 32, 'num_attention_heads': 32, 'num_key_value_heads': 8,"
                     " 'num_local_experts': 8, 'num_experts_per_tok': 2, 'max_position_embeddings': 32768,"
                     " 'rms_norm_eps': 1e-05, 'rope_theta': 1000000.0, 'sliding_window': null,"
                     " 'tie_word_embeddings': false, 'eos_token_id': 2}"},
    {"qwen3-30b-a3b",
     "{'model_type': 'qwen3_moe', 'vocab_size': 151936, 'hidden_size': 2048, 'intermediate_size': 6144,"
     " 'moe_intermediate_size': 768, 'num_hidden_layers': 48, 'num_attention_heads': 32,"
     " 'num_key_value_heads': 4, 'head_dim': 128, 'num_experts': 128, 'num_experts_per_tok': 8,"
     " 'norm_topk_prob': true, 'decoder_sparse_step': 1, 'mlp_only_layers': [],"
     " 'max_position_embeddings': 40960, 'rms_norm_eps': 1e-06, 'rope_theta': 1000000.0,"
     " 'use_sliding_window': false, 'sliding_window': null, 'tie_word_embeddings': false,"
     " 'eos_token_id': 151645}"},
    {"gpt-oss-20b", "{'model_type': 'gpt_oss', 'vocab_size': 201088, 'hidden_size': 2880, 'intermediate_size': 2880,"
                    " 'num_hidden_layers': 24, 'num_attention_heads': 64, 'num_key_value_heads': 8, 'head_dim': 64,"
                    " 'num_local_experts': 32, 'num_experts_per_tok': 4, 'sliding_window': 128,"
                    " 'max_position_embeddings': 131072, 'rms_norm_eps': 1e-05, 'rope_theta': 150000,"
                    " 'rope_scaling': {'rope_type': 'yarn', 'factor': 32.0, 'beta_fast': 32.0, 'beta_slow': 1.0,"
                    " 'truncate': false, 'original_max_position_embeddings': 4096},"
                    " 'attention_bias': true, 'swiglu_limit': 7.0, 'tie_word_embeddings': false,"
                    " 'eos_token_id': 200002}"},
    {"t5-small", T5(512, 2048, 6, 8, 'relu', true)},
    {"t5-base", T5(768, 3072, 12, 12, 'relu', true)},
    {"t5-large", T5(1024, 4096, 24, 16, 'relu', true)},
    {"flan-t5-xl", T5(2048, 5120, 24, 32, 'gated-gelu', false)},
    {"bart-large", BART("bart", 50265, 1024, 4096, 12, 16,
                        "'activation_function': 'gelu', 'scale_embedding': false, 'max_position_embeddings': 1024,"
                        " 'pad_token_id': 1, 'decoder_start_token_id': 2, 'eos_token_id': 2")},
    {"nllb-600m", BART("m2m_100", 256206, 1024, 4096, 12, 16,
                       "'activation_function': 'relu', 'scale_embedding': true, 'max_position_embeddings': 1024,"
                       " 'pad_token_id': 1, 'decoder_start_token_id': 2, 'eos_token_id': 2")},
    {"opus-mt", BART("marian", 58101, 512, 2048, 6, 8,
                     "'activation_function': 'swish', 'scale_embedding': true, 'max_position_embeddings': 512,"
                     " 'pad_token_id': 58100, 'decoder_start_token_id': 58100, 'eos_token_id': 0")},
    {"whisper-base", BART("whisper", 51865, 512, 2048, 6, 8,
                          "'activation_function': 'gelu', 'num_mel_bins': 80, 'max_source_positions': 1500,"
                          " 'max_target_positions': 448, 'decoder_start_token_id': 50258, 'eos_token_id': 50257")},
    {"whisper-large-v3", BART("whisper", 51866, 1280, 5120, 32, 20,
                              "'activation_function': 'gelu', 'num_mel_bins': 128, 'max_source_positions': 1500,"
                              " 'max_target_positions': 448, 'decoder_start_token_id': 50258, 'eos_token_id': 50257")},
};
enum { PRESET_COUNT = sizeof presets / sizeof *presets, TEXT_BYTES = 2048 };

const char *qr_preset_name(uint32_t index) { return index < PRESET_COUNT ? presets[index].name : NULL; }

static const struct preset *find(const char *name)
{
    for (uint32_t i = 0; i < PRESET_COUNT; i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

static quire_status refuse(const char *name, quire_error *error)
{
    char     known[120] = ""; /* a message has no room for all */
    size_t   used       = 0;
    uint32_t i          = 0;
    for (; i < PRESET_COUNT && used + strlen(presets[i].name) + 2 < sizeof known; i++)
        used += (size_t)sprintf(known + used, "%s%s", i ? ", " : "", presets[i].name);
    return qr_fail(error, QUIRE_ERR_INVALID, "model.preset: \"%.40s\" is not one of %s and %u more (quire models)",
                   name, known, PRESET_COUNT - i);
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
