#!/usr/bin/env python3
"""Writes the weights of a GGUF file of a Llama model as bf16 into a folder that has config.json and the tokenizer already. Needs
the packages gguf, torch and safetensors.

usage: gguf_to_safetensors.py GGUF FOLDER"""
import json
import re
import sys

import gguf
import numpy
import torch
from safetensors.torch import save_file
source, to = sys.argv[1:]
reader = gguf.GGUFReader(source)


def value(name):
    return int(reader.fields["llama." + name].contents())


heads = {"attn_q": value("attention.head_count"), "attn_k": value("attention.head_count_kv")}
parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm"}
whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
         "output.weight": "lm_head.weight"}
tensors = {}
for each in reader.tensors:
    data = gguf.quants.dequantize(each.data, each.tensor_type)
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", each.name)
    name = f"model.layers.{found[1]}.{parts[found[2]]}.weight" if found else whole[each.name]
    if found and found[2] in heads:  # llama.cpp keeps the two halves of a rotary head in turns
        data = data.reshape(heads[found[2]], -1, 2, data.shape[-1]).swapaxes(1, 2).reshape(data.shape)
    tensors[name] = torch.from_numpy(numpy.ascontiguousarray(data, numpy.float32)).to(torch.bfloat16)
save_file(tensors, to + "/model.safetensors", {"format": "pt"})
base = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"), "num_hidden_layers": value("block_count"),
        "num_attention_heads": heads["attn_q"], "num_key_value_heads": heads["attn_k"], "hidden_act": "silu",
        "rms_norm_eps": float(reader.fields["llama.attention.layer_norm_rms_epsilon"].contents()),
        "rope_theta": float(reader.fields["llama.rope.freq_base"].contents()),
        "max_position_embeddings": value("context_length"), "vocab_size": len(tensors["model.embed_tokens.weight"]),
        "tie_word_embeddings": "lm_head.weight" not in tensors, "torch_dtype": "bfloat16"}
json.dump({**json.load(open(to + "/config.json")), **base}, open(to + "/config.json", "w"))
