#!/usr/bin/env python3
"""Writes tests/real/smollm2.json: what transformers decodes greedily with the weights of SmolLM2's GGUF file, which the
package gguf dequantises to f32. Made with transformers 4.41.2, torch 1.13.0, gguf 0.19.0 and tokenizers 0.19.1.

A prompt's tokens end before the first one whose logit is less than MARGIN above the next: rounding would decide it.

usage: make_smollm2.py GGUF > smollm2.json"""
import json
import pathlib
import sys

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))
from quire.gguf import read_metadata, tokenizer_of

MARGIN, MAX_TOKENS = 0.02, 32
PROMPTS = ["The capital of France is", "Once upon a time", "Water boils at a temperature of", "The opposite of hot is",
           "def fibonacci(n):\n", "In 1969, the first man", "The largest planet of the solar system is", "2 + 2 =",
           "To bake bread, you need", "The three primary colours are", "Shakespeare wrote", "A triangle has",
           "The sun rises in the", "My favourite book is", "Dear Sir or Madam,\n", "The recipe calls for two cups of",
           "Photosynthesis is the process by which", "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
           "<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n", "1, 2, 3, 4, 5,"]
NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def weights_of(path, config):
    weights = {}
    for tensor in GGUFReader(path).tensors:
        values = torch.tensor(dequantize(tensor.data, tensor.tensor_type)).squeeze()
        part = tensor.name.split(".")
        if part[0] != "blk":
            weights[{"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[part[0]]] = values
            continue
        if part[2] in ("attn_q", "attn_k"):  # llama.cpp's pairs become halves again
            heads = config.num_attention_heads if part[2] == "attn_q" else config.num_key_value_heads
            values = values.reshape(heads, -1, 2, config.hidden_size).transpose(1, 2).reshape(values.shape)
        weights[f"model.layers.{part[1]}.{NAMES[part[2]]}.weight"] = values
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def model_of(path, metadata):
    said = {key.split(".", 1)[1]: value for key, value in metadata.items()}
    config = LlamaConfig(vocab_size=said["vocab_size"], hidden_size=said["embedding_length"],
                         intermediate_size=said["feed_forward_length"], num_hidden_layers=said["block_count"],
                         num_attention_heads=said["attention.head_count"],
                         num_key_value_heads=said["attention.head_count_kv"], tie_word_embeddings=True,
                         rms_norm_eps=said["attention.layer_norm_rms_epsilon"], rope_theta=said["rope.freq_base"],
                         max_position_embeddings=said["context_length"])
    model = LlamaForCausalLM(config).float().eval()
    model.load_state_dict(weights_of(path, config), strict=True)
    return model


def greedy(model, ids):
    tokens, cache, now = [], None, ids
    while len(tokens) < MAX_TOKENS:
        out = model(torch.tensor([now]), past_key_values=cache, use_cache=True)
        best = out.logits[0, -1].topk(2)
        if best.values[0] - best.values[1] < MARGIN:
            break
        tokens.append(int(best.indices[0]))
        cache, now = out.past_key_values, tokens[-1:]
    return tokens


def main():
    path = sys.argv[1]
    metadata = read_metadata(path)
    tokenizer, model = tokenizer_of(metadata), model_of(path, metadata)
    cases = []
    with torch.no_grad():
        for text in PROMPTS:
            ids = tokenizer.encode(text).ids
            cases.append({"text": text, "prompt": ids, "tokens": greedy(model, ids)})
    print("[" + ",\n ".join(json.dumps(case) for case in cases) + "]")


main()
