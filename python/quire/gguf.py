"""What a GGUF file says besides its tensors: its metadata, and the tokenizer in it as one of the package tokenizers."""
from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6  # of tokenizer.ggml.token_type

# What splits text into the words that merges stay inside, by `tokenizer.ggml.pre`: nothing but GPT-2's own pattern,
# that after single digits, or a pattern.
LETTERS_APART = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
                 r"|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASES_APART = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s|\p{{N}}%s"
               r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERNS = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"), LETTERS_APART % "{1,3}"),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), LETTERS_APART % ""),
    "gpt-4o": CASES_APART % (CONTRACTIONS, CONTRACTIONS, "{1,3}"),
    "tekken": CASES_APART % ("", "", ""),
}
GPT2 = {"gpt-2", "default", "olmo"}
SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell"}
WHOLE_WORDS_FIRST = {"llama-bpe", "llama3", "llama-v3", "tekken"}  # a word of the vocabulary needs no merges


def read_metadata(path: str | Path) -> dict[str, Any]:
    """All keys of the file, with their values. ValueError names the file and what is wrong with it."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        def read(count: int) -> bytes:
            if count > size - file.tell():
                raise ValueError(f"{path}: ends within its metadata, at byte {size}")
            return file.read(count)

        def take(form: str) -> tuple[Any, ...]:
            return struct.unpack("<" + form, read(struct.calcsize("<" + form)))

        def value(kind: int) -> Any:
            if kind == STRING:
                return read(take("Q")[0]).decode("utf-8", "replace")
            if kind == ARRAY:
                kind, count = take("IQ")
                if kind in SCALARS:
                    width = struct.calcsize(SCALARS[kind])
                    return list(struct.unpack(f"<{count}{SCALARS[kind]}", read(count * width)))
                if kind == STRING:
                    return [value(STRING) for _ in range(count)]
            if kind not in SCALARS:
                raise ValueError(f"{path}: a value of type {kind} in the metadata, before byte {file.tell()}")
            return take(SCALARS[kind])[0]

        magic, _, _, count = take("4sIQQ")
        if magic != b"GGUF":
            raise ValueError(f"{path}: not a GGUF file")
        return {value(STRING): value(take("I")[0]) for _ in range(count)}


def save_folder(path: str | Path, folder: str | Path) -> None:
    """The tokenizer of a file, its chat template and what its model is, as the files of a Hugging Face folder, without
    weights: for programs that read no GGUF. ValueError as of read_metadata() and tokenizer_of()."""
    metadata, to = read_metadata(path), Path(folder)
    tokenizer_of(metadata).save(str(to / "tokenizer.json"))
    words, family = metadata["tokenizer.ggml.tokens"], str(metadata.get("general.architecture"))
    ids = {name: i for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
           if (i := metadata.get(f"tokenizer.ggml.{key}_token_id")) is not None and i < len(words)}
    special = {f"{name}_token_id": i for name, i in ids.items() if name != "unk"}
    sizes = {"max_position_embeddings": "context_length", "hidden_size": "embedding_length",
             "num_hidden_layers": "block_count", "num_attention_heads": "attention.head_count",
             "num_key_value_heads": "attention.head_count_kv", "intermediate_size": "feed_forward_length"}
    files: dict[str, dict[str, Any]] = {
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast",
                                  "chat_template": metadata.get("tokenizer.chat_template"),
                                  "model_max_length": metadata.get(f"{family}.context_length"),
                                  **{f"{name}_token": words[i] for name, i in ids.items()}},
        "config.json": {"model_type": family, "architectures": [family], "vocab_size": len(words),
                        **{name: metadata.get(f"{family}.{key}") for name, key in sizes.items()}, **special},
        "generation_config.json": special}
    for name, content in files.items():
        known = {key: value for key, value in content.items() if value is not None}
        (to / name).write_text(json.dumps(known, indent=1), encoding="utf-8")


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a file with this metadata. ValueError: it has none, or of a kind that is not known here."""
    kind = metadata.get("tokenizer.ggml.model")
    if kind not in MAKERS:
        raise ValueError(f"tokenizer.ggml.model is {kind!r}; known are {', '.join(MAKERS)}")
    try:
        tokenizer = MAKERS[kind](metadata)
    except KeyError as missing:
        raise ValueError(f"the key {missing} is missing beside tokenizer.ggml.model = {kind!r}") from None
    for word, type_ in zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]):
        if type_ in (CONTROL, USER_DEFINED):
            tokenizer.add_tokens([AddedToken(word, special=type_ == CONTROL, normalized=False)])
    _add_ends(tokenizer, metadata, kind)
    return tokenizer


def _byte_level(metadata: dict[str, Any]) -> Tokenizer:
    pre = metadata.get("tokenizer.ggml.pre", "default")
    first: list[Any] = []
    if pre in PATTERNS:
        first = [pre_tokenizers.Split(Regex(PATTERNS[pre]), "isolated")]
    elif pre in GPT2 | SINGLE_DIGITS:
        first = [pre_tokenizers.Digits(individual_digits=True)] if pre in SINGLE_DIGITS else []
    else:
        raise ValueError(f"tokenizer.ggml.pre is {pre!r}; known are {', '.join(sorted(GPT2 | SINGLE_DIGITS | {*PATTERNS}))}")
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=_ids(metadata), merges=merges, ignore_merges=pre in WHOLE_WORDS_FIRST))
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre not in PATTERNS)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*first, by_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece_bpe(metadata: dict[str, Any]) -> Tokenizer:
    """Pieces with scores: a pair is merged if it gives a piece, the best piece first."""
    ids, words = _ids(metadata), metadata["tokenizer.ggml.tokens"]
    types, scores = metadata["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.scores"]
    ranks = [(-score, ids[word[:cut]], ids[word[cut:]])
             for word, type_, score in zip(words, types, scores) if type_ not in (UNKNOWN, CONTROL, BYTE)
             for cut in range(1, len(word)) if word[:cut] in ids and word[cut:] in ids]
    merges = [(words[left], words[right]) for _, left, right in sorted(ranks)]
    unknown = words[types.index(UNKNOWN)] if UNKNOWN in types else None
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True,
                                     byte_fallback=BYTE in types))
    begins = metadata.get("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces] if begins else [spaces])
    back = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)] if begins else back)
    return tokenizer


def _unigram(metadata: dict[str, Any]) -> Tokenizer:
    words, scores = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"]
    unknown = metadata["tokenizer.ggml.unknown_token_id"]
    tokenizer = Tokenizer(models.Unigram(list(zip(words, scores)), unk_id=unknown, byte_fallback=False))
    charsmap = bytes(byte & 255 for byte in metadata.get("tokenizer.ggml.precompiled_charsmap", []))
    rules = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence([*rules, normalizers.Replace(Regex(" {2,}"), " ")])
    scheme = "always" if metadata.get("tokenizer.ggml.add_space_prefix", True) else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return tokenizer


MAKERS: dict[str, Callable[[dict[str, Any]], Tokenizer]] = {
    "gpt2": _byte_level, "llama": _sentencepiece_bpe, "t5": _unigram}


def _ids(metadata: dict[str, Any]) -> dict[str, int]:
    return {word: i for i, word in enumerate(metadata["tokenizer.ggml.tokens"])}


def _add_ends(tokenizer: Tokenizer, metadata: dict[str, Any], kind: str) -> None:
    """What stands before and after a text when special tokens are asked for. Defaults are llama.cpp's."""
    begins = kind == "llama" or metadata.get("tokenizer.ggml.pre") in WHOLE_WORDS_FIRST
    words, ends = metadata["tokenizer.ggml.tokens"], {}
    for name, default in (("bos", begins), ("eos", kind == "t5")):
        if metadata.get(f"tokenizer.ggml.add_{name}_token", default):
            i = metadata.get(f"tokenizer.ggml.{name}_token_id")
            if i is None or i >= len(words):
                raise ValueError(f"tokenizer.ggml.{name}_token_id is {i}, and a text is to have this token")
            ends[name] = (words[i], i)
    if ends:
        form = [ends["bos"][0], "$A"] if "bos" in ends else ["$A"]
        form += [ends["eos"][0]] if "eos" in ends else []
        tokenizer.post_processor = processors.TemplateProcessing(single=form, special_tokens=list(ends.values()))
