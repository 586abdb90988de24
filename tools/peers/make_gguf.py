#!/usr/bin/env python3
"""Writes a GGUF file of random weights in bf16, in the shape of TinyLlama 1.1B and without a tokenizer: engines differ in
speed, not in what they would say. With a checkpoint that checkpoints.py made, of its weights. Needs the packages gguf and numpy.

usage: make_gguf.py FILE [CHECKPOINT]"""
import pathlib
import sys

import numpy as np
from checkpoints import read_safetensors
from gguf import GGMLQuantizationType, GGUFWriter

LAYERS, WIDTH, INNER, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 22, 2048, 5632, 32, 4, 32000, 4096
DEVIATION = 0.02
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
random = np.random.default_rng(7)
checkpoint = dict(read_safetensors(pathlib.Path(sys.argv[2]) / "model.safetensors")) if len(sys.argv) > 2 else None


def shapes():
    kv_width = WIDTH // HEADS * KV_HEADS
    yield "token_embd.weight", (VOCABULARY, WIDTH)
    for layer in range(LAYERS):
        for name, shape in (("attn_norm", (WIDTH,)), ("attn_q", (WIDTH, WIDTH)), ("attn_k", (kv_width, WIDTH)),
                            ("attn_v", (kv_width, WIDTH)), ("attn_output", (WIDTH, WIDTH)), ("ffn_norm", (WIDTH,)),
                            ("ffn_gate", (INNER, WIDTH)), ("ffn_up", (INNER, WIDTH)), ("ffn_down", (WIDTH, INNER))):
            yield f"blk.{layer}.{name}.weight", shape
    yield "output_norm.weight", (WIDTH,)
    yield "output.weight", (VOCABULARY, WIDTH)


def stored(name):
    """A matrix of the checkpoint. GGUF has the rows of a head in pairs (0, 1), (2, 3), ... that RoPE turns, where they are
    (0, 32), (1, 33), ... in a folder."""
    if name in ("token_embd.weight", "output.weight"):
        return checkpoint["lm_head.weight" if name == "output.weight" else "model.embed_tokens.weight"]
    _, layer, part, _ = name.split(".")
    matrix = checkpoint[f"model.layers.{layer}.{NAMES[part]}.weight"]
    if part not in ("attn_q", "attn_k"):
        return matrix
    heads = HEADS if part == "attn_q" else KV_HEADS
    return matrix.reshape(heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(matrix.shape)


def values_of(name, shape):
    """Norms are ones in f32, matrices bf16 in pairs of bytes."""
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    if checkpoint:
        return np.ascontiguousarray(stored(name))
    bits = (random.standard_normal(shape, dtype=np.float32) * np.float32(DEVIATION)).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def write(path):
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("none")
    for name, shape in shapes():
        matrix, elements = len(shape) == 2, int(np.prod(shape))
        writer.add_tensor_info(name, shape, np.dtype(np.float16 if matrix else np.float32), elements * (2 if matrix else 4),
                               GGMLQuantizationType.BF16 if matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape in shapes():
        writer.write_tensor_data(values_of(name, shape))
    writer.close()


write(sys.argv[1])
