"""Text in, text out: tokenizers, text of tokens as they come, stop strings and chat templates.

`load_text(model)` reads what a model's folder or file has: tokenizer.json, the vocabulary in a GGUF file, or
SentencePiece's spiece.model (T5) and tokenizer.model (Llama)."""
from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from .request import QuireError

SPACE = "\u2581"  # SentencePiece's sign for a space
BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


class TextError(QuireError):
    """A tokenizer, a chat template or a conversation that cannot be used; the message names it."""

    def __init__(self, message: str):
        super().__init__("ERR_UNSUPPORTED", message)

    def __reduce__(self) -> tuple[Any, ...]:
        return TextError, (self.message,)


class Tokenizer(Protocol):
    """What Text needs of a tokenizer library."""

    vocab_size: int
    added: dict[str, int]  # tokens that are found in a text before it is split
    special: set[int]  # ids of tokens that are no text
    strips_first_space: bool  # the text of a sequence begins without the space of its first token

    def encode(self, text: str, add_special_tokens: bool) -> list[int]: ...

    def piece(self, token_id: int) -> bytes: ...


class Text:
    """The tokenizer of a model, and its chat templates. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, special_tokens: Mapping[str, str], templates: Mapping[str, str]):
        """special_tokens: bos_token, eos_token, ... by name; templates: by name, "default" among them."""
        self.tokenizer = tokenizer
        self.special_tokens = dict(special_tokens)
        self._templates = dict(templates)
        self._pieces: dict[int, bytes] = {}

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens)

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        stream = self.stream((), skip_special_tokens=skip_special_tokens)
        return "".join(map(stream.push, token_ids)) + stream.finish()

    def stream(self, prompt_token_ids: Sequence[int], *, stop: Sequence[str] = (),
               include_stop_str_in_output: bool = False, skip_special_tokens: bool = True,
               min_tokens: int = 0) -> TextStream:
        """The text of tokens that come one by one after `prompt_token_ids`. Stop strings do not count in the text of
        the first `min_tokens`."""
        begins = all(token in self.tokenizer.special for token in prompt_token_ids)
        return TextStream(self, StopStrings(stop, include_stop_str_in_output), skip_special_tokens, min_tokens,
                          self.tokenizer.strips_first_space and begins)

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to a text. Nothing for an id that the tokenizer does not know: models have some."""
        piece = self._pieces.get(token_id)
        if piece is None:
            known = 0 <= token_id < self.vocab_size
            piece = self._pieces[token_id] = self.tokenizer.piece(token_id) if known else b""
        return piece

    def token_text(self, token_id: int) -> str:
        """A token alone, as OpenAI writes it: half a character is `bytes:\\xe2\\x80`."""
        piece = self.token_bytes(token_id)
        try:
            return piece.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)

    def is_special(self, token_id: int) -> bool:
        return token_id in self.tokenizer.special

    def chat_template(self, with_tools: bool) -> str | None:
        """The one of conversations with tools, or without."""
        name = "tool_use" if with_tools and "tool_use" in self._templates else "default"
        return self._templates.get(name)

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], /, *, add_generation_prompt: bool = True,
                            **variables: Any) -> str:
        """The text of a conversation. `variables` are the template's: tools, documents, enable_thinking, ..."""
        if not self._templates:
            raise TextError("the model has no chat template")
        template = self.chat_template(bool(variables.setdefault("tools", None)))
        if template is None:
            raise TextError(f"the model has no default chat template, only {', '.join(self._templates)}")
        variables.setdefault("documents", None)
        from .chat_template import render  # Jinja2 takes a while to import
        try:
            return render(template, {**self.special_tokens, **variables, "messages": messages,
                                                  "add_generation_prompt": add_generation_prompt})
        except Exception as error:  # a template is a program: whatever it does to these messages is its answer
            raise TextError(f"the chat template refuses the conversation: {error or type(error).__name__}") from error


class TextStream:
    """The text of one sequence, piece by piece. What may be the first half of a character or the beginning of a stop
    string is held back until it is known."""

    def __init__(self, text: Text, stops: StopStrings, skip_special_tokens: bool, min_tokens: int, strip: bool):
        self._text = text
        self._stops = stops
        self._skips = text.tokenizer.special if skip_special_tokens else ()
        self._free = min_tokens
        self._strip = strip
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    @property
    def stopped(self) -> str | None:
        """The stop string that was met; nothing comes after it."""
        return self._stops.met

    def push(self, token_id: int) -> str:
        self._free -= 1
        if token_id in self._skips:
            return ""
        return self._release(self._decode(self._text.token_bytes(token_id)))

    def finish(self) -> str:
        return self._release(self._decode(b"", True)) + self._stops.finish()

    def _release(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            text = text.removeprefix(" ")
        return text if self._free >= 0 else self._stops.add(text)


class StopStrings:
    """Looks for the first of several strings in a text that comes in parts. Each string is followed by the automaton
    of Knuth, Morris and Pratt, so a character costs the same however the strings repeat themselves."""

    def __init__(self, stops: Sequence[str], include: bool = False):
        self.met: str | None = None
        self._stops = [stop for stop in dict.fromkeys(stops) if stop]
        self._borders = [_borders(stop) for stop in self._stops]
        self._lengths = [0] * len(self._stops)  # of the beginning of each that the text ends with
        self._held = ""
        self._include = include

    def add(self, text: str) -> str:
        """The part of what came so far that is certain to stand before any stop string, and was not given yet."""
        if self.met is not None:
            return ""
        if not self._stops:
            return text
        text, done = self._held + text, len(self._held)
        for end in range(done, len(text)):
            self.met = self._follow(text[end])
            if self.met is not None:
                return text[:end + 1 if self._include else end + 1 - len(self.met)]
        keep = len(text) - max(self._lengths)
        self._held = text[keep:]
        return text[:keep]

    def finish(self) -> str:
        """What is still held back, at the end of the text."""
        held, self._held = self._held, ""
        return held if self.met is None else ""

    def _follow(self, character: str) -> str | None:
        met = None
        for k, stop in enumerate(self._stops):
            length = self._lengths[k]
            while length and stop[length] != character:
                length = self._borders[k][length - 1]
            self._lengths[k] = length = length + (stop[length] == character)
            if length == len(stop) and (met is None or length > len(met)):
                met = stop
        return met


def _borders(word: str) -> list[int]:
    """For each prefix: the length of the longest shorter one that it also ends with."""
    borders, length = [0] * len(word), 0
    for i in range(1, len(word)):
        while length and word[i] != word[length]:
            length = borders[length - 1]
        length += word[i] == word[length]
        borders[i] = length
    return borders


# ---- tokenizers ----


class HuggingFace:
    """One of the package tokenizers."""

    def __init__(self, tokenizer: Any, where: str):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.vocab_size = max(tokenizer.get_vocab().values(), default=-1) + 1
        added = tokenizer.get_added_tokens_decoder()
        self.added = {token.content: i for i, token in added.items()}
        self.special = {i for i, token in added.items() if token.special}
        rules = _decoder_rules(tokenizer, where)
        self._piece: Callable[[str], bytes] = _byte_level if "ByteLevel" in rules else _sentencepiece
        self.strips_first_space = "Strip" in rules or "Metaspace" in rules

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """By encode_batch, which lets other threads run meanwhile; encode does not."""
        [encoding] = self.tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids

    def piece(self, token_id: int) -> bytes:
        token = self.tokenizer.id_to_token(token_id)
        return b"" if token is None else self._piece(token)


def _decoder_rules(tokenizer: Any, where: str) -> set[str]:
    """Names of the steps that make text of tokens. What a token adds must not depend on its neighbours."""
    decoder = json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder else {"type": "none"}
    rules, known = set(), {"ByteLevel", "Metaspace", "ByteFallback", "Fuse"}
    for rule in decoder.get("decoders", [decoder]):
        kind, never = rule["type"], "never" in (rule.get("prepend_scheme"), rule.get("add_prefix_space"))
        is_space = kind == "Replace" and rule["pattern"].get("String") == SPACE and rule["content"] == " "
        is_first = kind == "Strip" and (rule["content"], rule["start"], rule["stop"]) == (" ", 1, 0)
        if kind not in known and not is_space and not is_first:
            raise TextError(f"{where}: the decoder's step {json.dumps(rule)} is not supported; byte-level BPE and "
                            "SentencePiece are")
        rules.add("Replace" if kind == "Metaspace" and never else kind)
    return rules


def _byte_characters() -> dict[str, int]:
    """The characters that stand for bytes in byte-level BPE: printable ones for themselves, others from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{chr(byte): byte for byte in plain}, **{chr(256 + i): byte for i, byte in enumerate(others)}}


BYTES = _byte_characters()


def _byte_level(token: str) -> bytes:
    try:
        return bytes(BYTES[character] for character in token)
    except KeyError:  # an added token, written as it is
        return token.encode("utf-8")


def _sentencepiece(token: str) -> bytes:
    byte = BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode("utf-8")


class SentencePiece:
    """A model of the package sentencepiece, with the tokens that Hugging Face's folders add to it."""

    def __init__(self, path: Path, config: Mapping[str, Any]):
        try:
            import sentencepiece
        except ImportError:
            raise TextError(f"{path}: reading it needs the package sentencepiece") from None
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except Exception as error:
            raise TextError(f"{path}: not a model of SentencePiece: {error}") from None
        model, is_t5 = self._model, path.name == "spiece.model"
        count = model.get_piece_size()
        control = {model.id_to_piece(i): i for i in range(count) if model.is_control(i)}
        extra = config.get("extra_ids", 100 if is_t5 else 0)  # <extra_id_0> is the last token
        control.update({f"<extra_id_{k}>": count + extra - 1 - k for k in range(extra)})
        listed = {int(i): token for i, token in config.get("added_tokens_decoder", {}).items()}
        self.added = {**control, **_json(path.parent / "added_tokens.json"),
                      **{token["content"]: i for i, token in listed.items()}}
        self.special = {*control.values(), *(i for i, token in listed.items() if token.get("special"))}
        self._words = {i: word for word, i in self.added.items()}
        self.vocab_size = max([count, *(i + 1 for i in self._words)])
        self._before = [model.bos_id()] if config.get("add_bos_token", not is_t5) else []
        self._after = [model.eos_id()] if config.get("add_eos_token", is_t5) else []
        self.strips_first_space = model.encode("a", out_type=str)[0].startswith(SPACE)
        longest_first = sorted(self.added, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})").split

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = []
        for part in self._split(text):
            ids += [self.added[part]] if part in self.added else self._model.encode(part)
        return self._before + ids + self._after if add_special_tokens else ids

    def piece(self, token_id: int) -> bytes:
        if token_id in self._words or token_id >= self._model.get_piece_size():
            return bytes(self._words.get(token_id, ""), "utf-8")
        if self._model.is_unknown(token_id):
            return " \u2047 ".encode("utf-8")
        return _sentencepiece(self._model.id_to_piece(token_id))


# ---- reading a model's files ----


def load_text(model: str | Path) -> Text:
    """The tokenizer and the chat templates of a model: a folder as Hugging Face publishes it, a GGUF file, or a folder
    with one. TextError: it has none, or one that is not supported; OSError: a file cannot be read."""
    path = Path(model)
    if path.is_file():
        return _from_gguf(path)
    if not path.is_dir():
        raise TextError(f"{path}: no such folder or GGUF file, so there is no tokenizer")
    if (path / "tokenizer.json").exists():
        return _from_json(path / "tokenizer.json")
    if not any(path.glob("*.safetensors")) and (files := sorted(path.glob("*.gguf"))):
        return _from_gguf(files[0])
    for name in ("spiece.model", "tokenizer.model"):
        if (path / name).exists():
            config = _config(path)
            return Text(SentencePiece(path / name, config), _special_tokens(config), _templates(path, config))
    raise TextError(f"{path}: no tokenizer.json, GGUF file, spiece.model or tokenizer.model")


def _from_json(path: Path) -> Text:
    import tokenizers
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the package has no class of its own for what is wrong with a file
        raise TextError(f"{path}: {error}") from None
    config = _config(path.parent)
    return Text(HuggingFace(tokenizer, str(path)), _special_tokens(config), _templates(path.parent, config))


def _from_gguf(path: Path) -> Text:
    from . import gguf
    try:
        metadata = gguf.read_metadata(path)
        tokenizer = HuggingFace(gguf.tokenizer_of(metadata), str(path))
    except ValueError as error:
        raise TextError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    words, special = metadata["tokenizer.ggml.tokens"], {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        i = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if i is not None and i < len(words):
            special[f"{name}_token"] = words[i]
    prefix = "tokenizer.chat_template"
    templates = {key.removeprefix(prefix).lstrip(".") or "default": value for key, value in metadata.items()
                 if key == prefix or key.startswith(prefix + ".")}
    return Text(tokenizer, special, templates)


def _json(path: Path) -> dict[str, Any]:
    """A file's object; none where there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise TextError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise TextError(f"{path}: not an object")
    return value


def _config(folder: Path) -> dict[str, Any]:
    return {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """bos_token and the like; a token is its text or an object with it."""
    tokens = {}
    for name, token in config.items():
        content = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """By name. A file of its own goes before the entry of tokenizer_config.json, which may be a list."""
    entry = config.get("chat_template") or []
    templates = {"default": entry} if isinstance(entry, str) else {each["name"]: each["template"] for each in entry}
    file = folder / "chat_template.jinja"
    return {**templates, "default": file.read_text(encoding="utf-8")} if file.exists() else templates
