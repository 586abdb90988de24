#!/usr/bin/env python3
"""Makes the folder that Hugging Face publishes of a Whisper model in CTranslate2's format: config.json,
generation_config.json, model.safetensors, tokenizer.json. Needs the package numpy.

usage: convert_ct2_whisper.py CT2_FOLDER FOLDER [f16|f32]    (the type of the weights, default f16)

CT2_FOLDER has model.bin, config.json and tokenizer.json. model.bin, little-endian (CTranslate2's model_spec.py): u32
version, the specification's name, u32 revision, u32 number of variables, each of a name, u8 rank, u32 sizes, u8 type, u32
bytes and the bytes; u32 number of aliases, each of two names. A name is a u16 length, and so many bytes with a final NUL."""
import json
import pathlib
import struct
import sys

import numpy

CT2_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2", 5: "bf16"}
OLDEST, NEWEST = 4, 6  # versions of the container
PARTS = {  # in a layer: CTranslate2's norm, fused input and output, and Hugging Face's; and what the inputs are
    "self_attention": ("self_attn_layer_norm", "self_attn", ["qkv"]),
    "attention": ("encoder_attn_layer_norm", "encoder_attn", ["q", "kv"]),
}


class Reader:
    def __init__(self, data):
        self.data, self.at = memoryview(data), 0

    def bytes(self, count):
        if self.at + count > len(self.data):
            raise ValueError(f"{len(self.data)} bytes end within a variable")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.bytes(struct.calcsize("<" + form)))[0]

    def name(self):
        return bytes(self.bytes(self.number("H"))[:-1]).decode()

    def variable(self):
        sizes = [self.number("I") for _ in range(self.number("B"))]
        kind = self.number("B")
        data = self.bytes(self.number("I"))
        if kind not in CT2_TYPES:
            raise ValueError(f"a variable of the unknown type {kind}")
        if CT2_TYPES[kind] == "bf16":
            return (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").reshape(sizes)
        return numpy.frombuffer(data, CT2_TYPES[kind]).reshape(sizes)


def read_variables(path):
    reader = Reader(path.read_bytes())
    version = reader.number("I")
    if not OLDEST <= version <= NEWEST:
        raise ValueError(f"version {version} of the container, not {OLDEST} to {NEWEST}")
    specification, _ = reader.name(), reader.number("I")
    if specification != "WhisperSpec":
        raise ValueError(f"the model is a {specification}, not a WhisperSpec")
    variables = {reader.name(): reader.variable() for _ in range(reader.number("I"))}
    for _ in range(reader.number("I")):
        alias, name = reader.name(), reader.name()
        variables[alias] = variables[name]
    return variables


class Converter:
    """Takes variables by their names, and has tensors by Hugging Face's. Refuses what no Whisper of Hugging Face has."""

    def __init__(self, variables):
        self.variables, self.tensors = variables, {}

    def take(self, name):
        values = self.variables[name].astype(numpy.float32)
        scale = self.variables.get(name + "_scale")  # of int8: one for each row
        return values if scale is None else values / scale.reshape(-1, *[1] * (values.ndim - 1))

    def move(self, source, target, names=("weight", "bias")):
        for ct2, own in zip(names, ("weight", "bias")):
            self.tensors[f"{target}.{own}"] = self.take(f"{source}/{ct2}")

    def move_norm(self, source, target):
        self.move(source, target, ("gamma", "beta"))

    def split(self, source, target, letters):
        weights, biases = (numpy.split(self.take(f"{source}/{kind}"), len(letters)) for kind in ("weight", "bias"))
        for letter, weight, bias in zip(letters, weights, biases):
            self.tensors[f"{target}.{letter}_proj.weight"] = weight
            if letter != "k":
                self.tensors[f"{target}.{letter}_proj.bias"] = bias
            elif bias.any():
                raise ValueError(f"{source}/bias: keys with a bias")

    def move_attention(self, source, layer, kind):
        norm, target, inputs = PARTS[kind]
        self.move_norm(f"{source}/{kind}/layer_norm", f"{layer}.{norm}")
        for i, letters in enumerate(inputs):
            self.split(f"{source}/{kind}/linear_{i}", f"{layer}.{target}", letters)
        self.move(f"{source}/{kind}/linear_{len(inputs)}", f"{layer}.{target}.out_proj")

    def move_stack(self, stack):
        target = f"model.{stack}"
        self.tensors[f"{target}.embed_positions.weight"] = self.take(f"{stack}/position_encodings/encodings")
        self.move_norm(f"{stack}/layer_norm", f"{target}.layer_norm")
        for i in range(self.layers(stack)):
            source, layer = f"{stack}/layer_{i}", f"{target}.layers.{i}"
            self.move_attention(source, layer, "self_attention")
            if stack == "decoder":
                self.move_attention(source, layer, "attention")
            self.move_norm(f"{source}/ffn/layer_norm", f"{layer}.final_layer_norm")
            self.move(f"{source}/ffn/linear_0", f"{layer}.fc1")
            self.move(f"{source}/ffn/linear_1", f"{layer}.fc2")

    def layers(self, stack):
        return sum(name.startswith(f"{stack}/layer_") and name.endswith("/ffn/linear_0/weight") for name in self.variables)

    def run(self):
        for number in (1, 2):
            self.move(f"encoder/conv{number}", f"model.encoder.conv{number}")
        self.tensors["model.decoder.embed_tokens.weight"] = self.take("decoder/embeddings/weight")
        self.move_stack("encoder")
        self.move_stack("decoder")
        return self.tensors


def config_of(variables, tensors, converter, special):
    vocab_size, width = tensors["model.decoder.embed_tokens.weight"].shape
    sizes = {"encoder": 0, "decoder": 0}
    stacks = {f"{stack}_{key}": value for stack in sizes for key, value in
              (("layers", converter.layers(stack)), ("attention_heads", int(variables[f"{stack}/num_heads"])),
               ("ffn_dim", tensors[f"model.{stack}.layers.0.fc1.weight"].shape[0]))}
    return {"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "vocab_size": vocab_size,
            "d_model": width, "num_mel_bins": tensors["model.encoder.conv1.weight"].shape[1], **stacks,
            "max_source_positions": tensors["model.encoder.embed_positions.weight"].shape[0],
            "max_target_positions": tensors["model.decoder.embed_positions.weight"].shape[0],
            "activation_function": "gelu", "scale_embedding": False, "is_encoder_decoder": True,
            "tie_word_embeddings": True, "decoder_start_token_id": special["<|startoftranscript|>"],
            "bos_token_id": special["<|endoftext|>"], "eos_token_id": special["<|endoftext|>"],
            "pad_token_id": special["<|endoftext|>"]}


def generation_of(ct2, config, special):
    languages = {word: token for word, token in special.items() if token in set(ct2["lang_ids"])}
    return {"decoder_start_token_id": config["decoder_start_token_id"], "eos_token_id": config["eos_token_id"],
            "pad_token_id": config["pad_token_id"], "is_multilingual": len(languages) > 1, "lang_to_id": languages,
            "task_to_id": {task: special[f"<|{task}|>"] for task in ("transcribe", "translate")},
            "no_timestamps_token_id": special["<|notimestamps|>"], "suppress_tokens": ct2["suppress_ids"],
            "begin_suppress_tokens": ct2["suppress_ids_begin"], "alignment_heads": ct2["alignment_heads"]}


def write_safetensors(tensors, path, dtype):
    name, kind = {"f16": ("F16", "<f2"), "f32": ("F32", "<f4")}[dtype]
    header, offset = {}, 0
    for key, values in tensors.items():
        end = offset + values.size * numpy.dtype(kind).itemsize
        header[key] = {"dtype": name, "shape": values.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.astype(kind).tobytes())


def convert(source, target, dtype):
    variables = read_variables(source / "model.bin")
    if any(variables.get(f"{stack}/scale_embeddings", numpy.zeros(1)).any() for stack in ("encoder", "decoder")):
        raise ValueError("scaled embeddings")
    converter = Converter(variables)
    tensors = converter.run()
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    special = {word["content"]: word["id"] for word in tokenizer["added_tokens"]}
    config = config_of(variables, tensors, converter, special)
    generation = generation_of(json.loads((source / "config.json").read_text()), config, special)
    target.mkdir(parents=True, exist_ok=True)
    write_safetensors(tensors, target / "model.safetensors", dtype)
    for name, content in (("config", config), ("generation_config", generation), ("tokenizer", tokenizer)):
        (target / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4 or sys.argv[3:] not in ([], ["f16"], ["f32"]):
        sys.exit(__doc__.split("\n\n")[1])
    try:
        convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), (sys.argv[3:] or ["f16"])[0])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{sys.argv[0]}: {sys.argv[1]}: {error!r}" if isinstance(error, KeyError) else
                 f"{sys.argv[0]}: {sys.argv[1]}: {error}")
