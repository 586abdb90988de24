"""Writes GGUF files, and models of Hugging Face's kind as such files, by the format's description alone
(github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""
import re
import struct
from pathlib import Path

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "I32": 26, "BF16": 30}
ALIGNMENT = 32


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(item):
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + text(item)
    return struct.pack("<IIQ", 9, 8, len(item)) + b"".join(map(text, item))  # a list of words


def write_gguf(path, metadata, tensors):
    """tensors: name -> (type, shape in the order of Hugging Face, bytes)."""
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    header += b"".join(text(key) + value(item) for key, item in metadata.items())
    data = b""
    for name, (kind, shape, content) in tensors.items():
        header += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), TYPES[kind], len(data))
        data += content + bytes(-len(content) % ALIGNMENT)
    Path(path).write_bytes(header + bytes(-len(header) % ALIGNMENT) + data)
    return str(path)


SIZES = {"num_hidden_layers": "block_count", "hidden_size": "embedding_length", "vocab_size": "vocab_size",
         "intermediate_size": "feed_forward_length", "max_position_embeddings": "context_length",
         "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
         "head_dim": "attention.key_length", "rms_norm_eps": "attention.layer_norm_rms_epsilon",
         "rope_theta": "rope.freq_base"}
PAIRED = ("llama", "granite", "smollm3")
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    stem, end = name.rsplit(".", 1)
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", stem)
    return f"blk.{layer[1]}.{NAMES[layer[2]]}.{end}" if layer else f"{NAMES[stem]}.{end}"


def paired(tensor, heads):
    """Rows of each head's two halves in turn."""
    kind, shape, data = tensor
    width, half = len(data) // shape[0], shape[0] // heads // 2
    rows = [data[i * width:(i + 1) * width] for i in range(shape[0])]
    order = [2 * head * half + side * half + i for head in range(heads) for i in range(half) for side in range(2)]
    return kind, shape, b"".join(rows[i] for i in order)


def as_gguf(model):
    """(metadata, tensors) of a Checkpoint of a llama, qwen2 or qwen3."""
    config, kind = model.config, model.config["model_type"]
    metadata = {"general.architecture": kind, "tokenizer.ggml.tokens": ["a", "b"]}
    for name, key in SIZES.items():
        if config.get(name) is not None:
            metadata[f"{kind}.{key}"] = config[name]
    if isinstance(config.get("eos_token_id"), int):
        metadata["tokenizer.ggml.eos_token_id"] = config["eos_token_id"]
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    tensors = {}
    for name, tensor in model.tensors.items():
        part = re.search(r"self_attn\.([qk])_proj", name)
        tensors[gguf_name(name)] = paired(tensor, heads[part[1]]) if part and kind in PAIRED else tensor
    return metadata, tensors
