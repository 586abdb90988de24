"""A request on its way in: a prompt's parts, and quire_request filled from Python values."""
from __future__ import annotations

import numbers
import operator
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._binding import invalid
from ._model import RULES, ModelInfo
from ._quire import ffi, lib
from .request import Prompt, PromptDict, QuireError, SamplingParams


# ---- prompts ----

@dataclass(slots=True)
class PromptParts:
    text: str | None
    token_ids: list[int]
    encoder_token_ids: list[int]
    features: Any
    cache_salt: str | None
    vocab_size: int


def _ids(value: Any, field: str) -> list[int]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise invalid(field, f"expected token ids, found {type(value).__name__}")
    return list(value.tolist() if hasattr(value, "tolist") else value)


def prompt_parts(prompt: Prompt, info: ModelInfo, encode: Callable[[str, str], list[int]]) -> PromptParts:
    """Text becomes ids by encode(text, field). A bare text or list is the encoder's input where there is an encoder."""
    main = "encoder_input" if info.encoder_layers > 0 else "prompt"
    parts: Mapping[str, Any] = prompt if isinstance(prompt, Mapping) else {main: prompt}
    for name in parts:
        if name not in PromptDict.__annotations__:
            raise invalid("prompt", f"unknown part {name!r}; there are {', '.join(PromptDict.__annotations__)}")
    text, ids, encoder = parts.get("prompt"), parts.get("prompt_token_ids"), parts.get("encoder_input")
    if text is not None and ids is None and not isinstance(text, str):
        ids, text = text, None
    encoder_ids = [] if encoder is None else (
        encode(encoder, "encoder_input") if isinstance(encoder, str) else _ids(encoder, "encoder_input"))
    ids = _ids(ids, "prompt") if ids is not None else [] if text is None else encode(text, "prompt")
    shown = text if text is not None else encoder if isinstance(encoder, str) else None
    return PromptParts(shown, ids, encoder_ids, parts.get("encoder_features"), parts.get("cache_salt"),
                       info.vocab_size)


# ---- quire_request ----

DAY_S = 86400


def _number(params: Any, name: str, convert: Callable[[Any], Any], least: float) -> Any:
    """Signs and types are checked here, where Python's value is at hand; the rest of the range by the library."""
    value = getattr(params, name)
    try:
        number = convert(value)
    except (TypeError, ValueError):
        kind = "an integer" if convert is operator.index else "a number"
        raise invalid(name, f"expected {kind}, found {value!r}") from None
    if number < least:
        raise invalid(name, f"{value} is below the minimum {least:g}")
    if convert is operator.index and number > 0xFFFFFFFF:
        raise invalid(name, f"{value} is above the maximum {0xFFFFFFFF}")
    return number


def _real(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError
    return float(value)


def time_ns(name: str, seconds: float | None) -> int:
    if seconds is None:
        return 0
    if not isinstance(seconds, numbers.Real) or not 0 < float(seconds) <= DAY_S:
        raise invalid(name, f"{seconds!r} is not a number above 0 and at most {DAY_S} seconds")
    return max(1, int(float(seconds) * 1e9))


class Filler:
    """Fills a quire_request from Python values. `kept` owns what it points to."""

    def __init__(self, info: ModelInfo):
        self.request = ffi.new("quire_request *", {"size": ffi.sizeof("quire_request")})
        self.info = info
        self.kept: list[Any] = []

    def ids(self, member: str, values: Iterable[int], field: str) -> None:
        values = list(values)
        try:
            ids = ffi.new("int32_t[]", values)
        except (TypeError, OverflowError):
            i, bad = next(((i, v) for i, v in enumerate(values) if not _is_id(v)), (0, values[0]))
            raise QuireError("ERR_INVALID", f"{field}[{i}]: {bad!r} is no token id", field) from None
        self.kept.append(ids)
        count = {"prompt": "prompt_count", "encoder_input": "encoder_count"}.get(member, member + "_count")
        setattr(self.request, member, ids)
        setattr(self.request, count, len(values))

    def text(self, member: str, value: str | None) -> None:
        if not value:
            return
        if not isinstance(value, str):
            raise invalid(member, f"expected a string, found {value!r}")
        if "\0" in value:
            raise invalid(member, "has a NUL character")
        text = ffi.new("char[]", value.encode("utf-8", "surrogatepass"))
        self.kept.append(text)
        setattr(self.request, member, text)

    def features(self, features: Any) -> None:
        if features is None:
            return
        size = self.info.encoder_feature_size
        try:
            view = memoryview(features)
        except TypeError:
            view = _flat(features, size)
        if view.format != "f" or not view.c_contiguous or view.nbytes % (4 * max(1, size)) != 0:
            raise invalid("encoder_features", f"expected float32 values in one piece of memory, {size} to a frame")
        values = ffi.from_buffer("float[]", view)
        self.kept.append(values)
        self.request.encoder_features = values
        self.request.encoder_frames = view.nbytes // (4 * max(1, size))

    def prompt(self, parts: PromptParts) -> None:
        self.ids("prompt", parts.token_ids, "prompt")
        if parts.encoder_token_ids:
            self.ids("encoder_input", parts.encoder_token_ids, "encoder_input")
        self.features(parts.features)
        self.text("cache_salt", parts.cache_salt)

    def rules(self, params: SamplingParams, prompt_count: int) -> None:
        """Lists that are left out are the model's."""
        for rule in RULES:
            field = rule + "_token_ids"
            value = getattr(params, field)
            if value is None and not (rule == "first_allowed" and prompt_count > 1) and not (
                    rule == "last_allowed" and params.ignore_eos):
                value = self.info.generation.get(field)
            if value is not None:
                self.ids(rule, value, field)
        if params.allowed_token_ids is not None:
            if len(params.allowed_token_ids) == 0:
                raise invalid("allowed_token_ids", "empty: no token could be chosen")
            self.ids("allowed", params.allowed_token_ids, "allowed_token_ids")
        self.ids("stop", params.stop_token_ids or (), "stop_token_ids")

    def sampling(self, params: SamplingParams, seed: int) -> None:
        to, own = self.request.sampling, {"top_k": 0, "top_p": 0.0, "min_p": 0.0, "temperature": 0.0,
                                          "repetition_penalty": 0.0}
        beams = params.beam_width > 1
        own |= {name: value for name, value in self.info.generation.items()
                if name in own and (not beams or name == "repetition_penalty")}
        for name, default in own.items():
            value = getattr(params, name)
            if value is None or (name == "top_k" and value == -1):
                setattr(to, name, default if value is None else 0)
                continue
            least = {"repetition_penalty": 0.01}.get(name, 0)
            setattr(to, name, _number(params, name, operator.index if name == "top_k" else _real, least))
            if name == "top_p" and value == 0:
                raise invalid(name, "0 is not above 0")
        to.presence_penalty = _number(params, "presence_penalty", _real, -2)
        to.frequency_penalty = _number(params, "frequency_penalty", _real, -2)
        try:
            to.seed = seed if params.seed is None else params.seed
        except (TypeError, OverflowError):
            raise invalid("seed", f"{params.seed!r} is not an integer in 0..{(1 << 64) - 1}") from None

    def bias(self, bias: Mapping[int, float] | None) -> None:
        if not bias:
            return
        try:
            entries = ffi.new("quire_logit_bias[]", [(int(token), float(value)) for token, value in bias.items()])
        except (TypeError, ValueError, OverflowError, AttributeError):
            raise invalid("logit_bias", "expected {token id: number}") from None
        self.kept.append(entries)
        self.request.logit_bias = entries
        self.request.logit_bias_count = len(entries)

    def limits(self, params: SamplingParams, prompt_count: int) -> None:
        """Where it ends, and what comes with each token."""
        to = self.request
        for name, least in (("min_tokens", 0), ("n", 1), ("beam_width", 1)):
            setattr(to, name, _number(params, name, operator.index, least))
        to.ignore_eos = bool(params.ignore_eos)
        if params.max_tokens == -1:
            to.max_tokens = 0  # the library's word for it
        elif params.max_tokens is not None:
            to.max_tokens = _number(params, "max_tokens", operator.index, 1)
        else:  # at least min_tokens, at most what fits behind the prompt
            own, room = self.info.generation.get("max_tokens", 128), self.info.max_model_len - max(prompt_count, 1)
            to.max_tokens = min(max(own, to.min_tokens), room) if room > 0 else own
        to.length_penalty = _number(params, "length_penalty", _real, float("-inf"))
        try:
            to.early_stopping = {False: lib.QUIRE_EARLY_STOPPING_FALSE, True: lib.QUIRE_EARLY_STOPPING_TRUE,
                                 "never": lib.QUIRE_EARLY_STOPPING_NEVER}[params.early_stopping]
        except (KeyError, TypeError):
            raise invalid("early_stopping", f'{params.early_stopping!r} is not True, False or "never"') from None
        if params.logprobs is not None:
            to.logprobs = _number(params, "logprobs", operator.index, 0)
        if params.prompt_logprobs is not None:
            to.prompt_logprobs = True
            to.prompt_top_logprobs = _number(params, "prompt_logprobs", operator.index, 0)
        bits = {None: 0, "first": lib.QUIRE_LOGITS_FIRST, "last": lib.QUIRE_LOGITS_LAST, "all": lib.QUIRE_LOGITS_ALL,
                "first,last": lib.QUIRE_LOGITS_FIRST | lib.QUIRE_LOGITS_LAST}
        if params.logits not in bits:
            raise invalid("logits", f"{params.logits!r} is not one of first | last | first,last | all")
        to.logits = bits[params.logits]
        to.masked = params.mask is not None


def _flat(frames: Any, size: int) -> memoryview:
    """Lists of `size` numbers each."""
    values = array("f")
    for i, frame in enumerate(frames if isinstance(frames, Sequence) else [None]):
        try:
            values.extend(map(float, frame))
        except (TypeError, ValueError):
            frame = ()
        if size > 0 and len(frame) != size:
            raise QuireError("ERR_INVALID", f"encoder_features[{i}]: expected {size} numbers", "encoder_features")
    return memoryview(values)


def _is_id(value: Any) -> bool:
    try:
        return -(1 << 31) <= operator.index(value) < 1 << 31
    except TypeError:
        return False
