#!/usr/bin/env python3
"""Checkpoints of random weights that every engine reads: folders with the shapes of TinyLlama 1.1B and T5-base in bf16, and the
first once more as compressed-tensors int8. Engines differ in speed, not in what they would say. Needs numpy and tokenizers.

usage: checkpoints.py FOLDER"""
import functools
import json
import pathlib
import shutil
import struct
import sys

import numpy as np

random = np.random.default_rng(7)
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 22,
         "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 5632, "vocab_size": 32000,
         "tie_word_embeddings": False, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096,
         "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16", "attention_bias": False,
         "mlp_bias": False}
T5 = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 768, "num_layers": 12,
      "num_decoder_layers": 12, "num_heads": 12, "d_kv": 64, "d_ff": 3072, "vocab_size": 32128, "n_positions": 512,
      "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "dropout_rate": 0.1,
      "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu", "is_encoder_decoder": True, "tie_word_embeddings": True,
      "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "torch_dtype": "bfloat16"}


# ---- tensors ----

def llama_tensors():
    """Name, shape and standard deviation; a norm has none, its weights are ones."""
    width, inner, vocabulary = LLAMA["hidden_size"], LLAMA["intermediate_size"], LLAMA["vocab_size"]
    kv_width = LLAMA["num_key_value_heads"] * LLAMA["head_dim"]
    yield "model.embed_tokens.weight", (vocabulary, width), 0.02
    for layer in range(LLAMA["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, rows, columns in (("self_attn.q_proj", width, width), ("self_attn.k_proj", kv_width, width),
                                    ("self_attn.v_proj", kv_width, width), ("self_attn.o_proj", width, width),
                                    ("mlp.gate_proj", inner, width), ("mlp.up_proj", inner, width),
                                    ("mlp.down_proj", width, inner)):
            yield f"{prefix}{name}.weight", (rows, columns), 0.02
        yield prefix + "input_layernorm.weight", (width,), None
        yield prefix + "post_attention_layernorm.weight", (width,), None
    yield "model.norm.weight", (width,), None
    yield "lm_head.weight", (vocabulary, width), 0.02


def t5_attention(prefix, name):
    width, inner = T5["d_model"], T5["num_heads"] * T5["d_kv"]
    for part in "qkv":
        deviation = (width * T5["d_kv"]) ** -0.5 if part == "q" else width ** -0.5  # T5 does not scale its scores
        yield f"{prefix}.{name}.{part}.weight", (inner, width), deviation
    yield f"{prefix}.{name}.o.weight", (width, inner), inner ** -0.5


def t5_tensors():
    width, inner = T5["d_model"], T5["d_ff"]
    yield "shared.weight", (T5["vocab_size"], width), 1.0
    for side in ("encoder", "decoder"):
        for layer in range(T5["num_layers"]):
            prefix = f"{side}.block.{layer}.layer."
            attentions = ["SelfAttention"] + ["EncDecAttention"] * (side == "decoder")
            for number, name in enumerate(attentions):
                yield from t5_attention(f"{prefix}{number}", name)
                yield f"{prefix}{number}.layer_norm.weight", (width,), None
            if layer == 0:
                shape = (T5["relative_attention_num_buckets"], T5["num_heads"])
                yield f"{prefix}0.SelfAttention.relative_attention_bias.weight", shape, 0.05
            last = f"{prefix}{len(attentions)}"
            yield f"{last}.DenseReluDense.wi.weight", (inner, width), width ** -0.5
            yield f"{last}.DenseReluDense.wo.weight", (width, inner), inner ** -0.5
            yield f"{last}.layer_norm.weight", (width,), None
        yield f"{side}.final_layer_norm.weight", (width,), None


def bf16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def values_of(shape, deviation):
    if deviation is None:
        return bf16(np.ones(shape, np.float32))
    return bf16(random.standard_normal(shape, dtype=np.float32) * np.float32(deviation))


# ---- files ----

DTYPES = {"BF16": np.uint16, "I8": np.int8}


def write_safetensors(path, tensors):
    """tensors: (name, dtype, shape, function that makes the values), so that one at a time is in memory."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, _ in tensors:
        size = int(np.prod(shape)) * np.dtype(DTYPES[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, dtype, _, make in tensors:
            file.write(np.ascontiguousarray(make(), DTYPES[dtype]).tobytes())


def read_safetensors(path):
    """Each tensor's name and its values, of bf16 the bits."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, np.memmap(path, DTYPES[entry["dtype"]], "r", 8 + size + entry["data_offsets"][0], tuple(entry["shape"]))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1))


def write_tokenizer(folder, size, specials):
    """Of single bytes, filled up with words that no text has: prompts are token ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    words = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [f"tok{number}" for number in range(len(words), size)]
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    begin = {"bos_token": "<s>"} if "<s>" in specials else {}
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096, "clean_up_tokenization_spaces": False,
                "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>" if "<pad>" in specials else "</s>", **begin})


def write_checkpoint(folder, config, tensors, specials):
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors",
                      [(name, "BF16", shape, lambda s=shape, d=deviation: values_of(s, d)) for name, shape, deviation in tensors])
    write_tokenizer(folder, config["vocab_size"], specials)
    write_json(folder / "generation_config.json", {key: config[key] for key in config if key.endswith("_token_id")})
    write_json(folder / "config.json", config)  # the last: a folder that has it is whole


# ---- int8 as vLLM reads it ----

def channel(kind, strategy, dynamic):
    return {"num_bits": 8, "type": kind, "symmetric": True, "strategy": strategy, "dynamic": dynamic, "group_size": None,
            "block_structure": None, "observer": None if dynamic else "minmax"}


QUANTIZATION = {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
                "ignore": ["lm_head"], "kv_cache_scheme": None,
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": channel("int", "channel", False),
                                              "input_activations": channel("int", "token", True),
                                              "output_activations": None}}}


def int8_tensors(path):
    """W8A8: a scale for each row of a matrix, inputs quantised as they come; all but the embedding and the output matrix."""
    for name, bits in read_safetensors(path):
        if "_proj.weight" not in name:
            yield name, "BF16", bits.shape, lambda b=bits: b
            continue
        def floats(b=bits):
            return (b.astype(np.uint32) << 16).view(np.float32)
        @functools.cache
        def scales(f=floats):
            return np.maximum(np.abs(f()).max(1, keepdims=True) / 127, 1e-8)
        yield name, "I8", bits.shape, lambda f=floats, s=scales: np.clip(np.rint(f() / s()), -127, 127)
        yield name + "_scale", "BF16", (bits.shape[0], 1), lambda s=scales: bf16(s())


def write_int8(folder, source):
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", list(int8_tensors(source / "model.safetensors")))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, folder)
    write_json(folder / "config.json", {**LLAMA, "quantization_config": QUANTIZATION})


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    write_checkpoint(folder / "tinyllama", LLAMA, list(llama_tensors()), ["<unk>", "<s>", "</s>"])
    write_checkpoint(folder / "t5-base", T5, list(t5_tensors()), ["<pad>", "</s>", "<unk>"])
    write_int8(folder / "tinyllama-w8a8", folder / "tinyllama")
