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
         "rope_theta": "rope.freq_base",
         "num_local_experts": "expert_count", "num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
         "moe_intermediate_size": "expert_feed_forward_length", "attn_logit_softcapping": "attn_logit_softcapping",
         "final_logit_softcapping": "final_logit_softcapping"}
ARCHITECTURES = {"mixtral": "llama", "qwen3_moe": "qwen3moe", "gemma3_text": "gemma3"}
PAIRED = ("llama", "granite", "smollm3", "mixtral")
GEMMA = ("gemma2", "gemma3_text")
WINDOWED = (*GEMMA, "mixtral")
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "block_sparse_moe.gate": "ffn_gate_inp",
         "mlp.gate": "ffn_gate_inp"}
GEMMA_NAMES = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"}
EXPERT_NAMES = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps", "gate_proj": "ffn_gate_exps",
                "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


def gguf_name(name, names=NAMES):
    stem, end = name.rsplit(".", 1)
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", stem)
    return f"blk.{layer[1]}.{names[layer[2]]}.{end}" if layer else f"{names[stem]}.{end}"


def stacked(tensors):
    """The tensors of a layer's experts as one: experts in ascending order, each as it was."""
    stacks, others = {}, {}
    for name, tensor in tensors.items():
        expert = re.fullmatch(r"model\.layers\.(\d+)\.\w+\.experts\.(\d+)\.(\w+)\.weight", name)
        if expert:
            stacks.setdefault(f"blk.{expert[1]}.{EXPERT_NAMES[expert[3]]}.weight", {})[int(expert[2])] = tensor
        else:
            others[name] = tensor
    return others, {name: (parts[0][0], [len(parts), *parts[0][1]], b"".join(parts[e][2] for e in range(len(parts))))
                    for name, parts in stacks.items()}


def raised(tensor):
    """The weights of a norm plus one, as llama.cpp keeps Gemma's."""
    kind, shape, data = tensor
    form = f"<{len(data) // 4}f"
    return kind, shape, struct.pack(form, *(value + 1 for value in struct.unpack(form, data)))


def paired(tensor, heads):
    """Rows of each head's two halves in turn."""
    kind, shape, data = tensor
    width, half = len(data) // shape[0], shape[0] // heads // 2
    rows = [data[i * width:(i + 1) * width] for i in range(shape[0])]
    order = [2 * head * half + side * half + i for head in range(heads) for i in range(half) for side in range(2)]
    return kind, shape, b"".join(rows[i] for i in order)


def as_gguf(model):
    """(metadata, tensors) of a Checkpoint of a type that GGUF files have."""
    config, kind = model.config, model.config["model_type"]
    architecture = ARCHITECTURES.get(kind, kind)
    metadata = {"general.architecture": architecture, "tokenizer.ggml.tokens": ["a", "b"]}
    for name, key in SIZES.items():
        if config.get(name) is not None:
            metadata[f"{architecture}.{key}"] = config[name]
    if kind in WINDOWED:
        metadata[f"{architecture}.attention.sliding_window"] = config["sliding_window"]
    if isinstance(config.get("eos_token_id"), int):
        metadata["tokenizer.ggml.eos_token_id"] = config["eos_token_id"]
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    others, tensors = stacked(model.tensors)
    for name, tensor in others.items():
        part = re.search(r"self_attn\.([qk])_proj", name)
        if part and kind in PAIRED:
            tensor = paired(tensor, heads[part[1]])
        elif kind in GEMMA and name.endswith("norm.weight"):
            tensor = raised(tensor)
        tensors[gguf_name(name, NAMES | GEMMA_NAMES if kind in GEMMA else NAMES)] = tensor
    return metadata, tensors
