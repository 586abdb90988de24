"""The tokenizer inside a GGUF file, as one of the package tokenizers: byte-level BPE (`tokenizer.ggml.model` "gpt2")."""
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def read_metadata(path):
    """All keys of the file, with their values."""
    with open(path, "rb") as file:
        def take(form):
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))

        def value(kind):
            if kind == STRING:
                return file.read(take("Q")[0]).decode("utf-8", "replace")
            if kind == ARRAY:
                kind, count = take("IQ")
                return list(take(f"{count}{SCALARS[kind]}")) if kind in SCALARS else [value(kind) for _ in range(count)]
            return take(SCALARS[kind])[0]

        magic, _, _, count = take("4sIQQ")
        if magic != b"GGUF":
            raise ValueError(f"{path}: not a GGUF file")
        return {value(STRING): value(take("I")[0]) for _ in range(count)}


def splitter(kind):
    """What splits text into the words that merges stay inside, by `tokenizer.ggml.pre`."""
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind in ("smollm", "gpt-2", "default"))
    first = {"smollm": pre_tokenizers.Digits(individual_digits=True), "gpt-2": None, "default": None,
             "qwen2": pre_tokenizers.Split(Regex(WORDS % ""), "isolated"),
             "llama-bpe": pre_tokenizers.Split(Regex(WORDS % "{1,3}"), "isolated")}[kind]
    return pre_tokenizers.Sequence([first, by_bytes]) if first else by_bytes


def tokenizer_of(metadata):
    if metadata["tokenizer.ggml.model"] != "gpt2":
        raise ValueError(f'tokenizer.ggml.model {metadata["tokenizer.ggml.model"]!r} is not byte-level BPE')
    words = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = splitter(metadata.get("tokenizer.ggml.pre", "default"))
    tokenizer.decoder = decoders.ByteLevel()
    for word, kind in zip(words, metadata["tokenizer.ggml.token_type"]):
        if kind in (CONTROL, USER_DEFINED):
            tokenizer.add_tokens([AddedToken(word, special=kind == CONTROL, normalized=False)])
    return tokenizer
