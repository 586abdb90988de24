"""The library as Python objects: configuration, model and engine, a request on its way in, events on their way out."""
from __future__ import annotations

import json
import logging
import numbers
import operator
import os
import re
import struct
import sys
import threading
import weakref
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ._quire import ffi, lib
from .request import (CompletionOutput, EngineClosed, Logprob, MaskRow, Prompt, QuireError, RequestOutput,
                      SamplingParams, SequenceMetrics, Text, TextStream)

log = logging.getLogger("quire")


# ---- names and errors of the library ----

def _names(enum: str, prefix: str) -> dict[int, str]:
    return {value: name.removeprefix(prefix) for value, name in ffi.typeof(enum).elements.items()}


STATUSES = _names("quire_status", "QUIRE_")
FINISHES = {value: name.lower() for value, name in _names("quire_finish", "QUIRE_FINISH_").items()}

# Members of quire_request whose name in Python is another one.
PYTHON_NAMES = {"prompt_count": "prompt", "encoder_count": "encoder_input", "encoder_frames": "encoder_features",
                "stop": "stop_token_ids", "stop_count": "stop_token_ids", "prompt_top_logprobs": "prompt_logprobs",
                "timeout_ns": "timeout", "queue_timeout_ns": "queue_timeout", "logit_bias_count": "logit_bias"}
for _list in ("allowed", "banned", "first_banned", "first_allowed", "last_allowed"):
    PYTHON_NAMES[_list] = PYTHON_NAMES[_list + "_count"] = _list + "_token_ids"


def text_of(pointer: Any) -> str:
    return ffi.string(pointer).decode("utf-8", "replace")


def error_of(status: int, error: Any) -> QuireError:
    """"member: sentence" of a request is told with the member's name in Python."""
    name, message = STATUSES.get(status, str(status)), text_of(error.message) or text_of(lib.quire_status_text(status))
    message = message.removeprefix("request: ")
    member = re.match(r"([a-z_]+)(?=: |\[| is NULL)", message) if name == "ERR_INVALID" else None
    if member is None:
        return QuireError(name, message)
    field = PYTHON_NAMES.get(member[1], member[1])
    return QuireError(name, field + message[member.end():], field)


def invalid(field: str, sentence: str) -> QuireError:
    return QuireError("ERR_INVALID", f"{field}: {sentence}", field)


def attempt(function: Callable[..., int], *arguments: Any) -> None:
    """Calls a function whose last parameter is a quire_error."""
    error = ffi.new("quire_error *")
    status = function(*arguments, error)
    if status != lib.QUIRE_OK:
        raise error_of(status, error)


def as_dict(pointer: Any) -> dict[str, Any]:
    """The members of a struct; texts and arrays of numbers as Python has them."""
    result = {}
    for name, field in ffi.typeof(pointer[0]).fields:
        value = getattr(pointer, name)
        if field.type.kind == "array":
            value = text_of(value) if field.type.item.kind == "primitive" and field.type.item.cname == "char" else value
        if name != "size":
            result[name] = value
    return result


def by_name(values: Sequence[int], names: Callable[[int], str | None]) -> dict[str, int]:
    """Those that have a name."""
    return {name: values[i] for i in range(len(values)) if (name := names(i)) is not None}


def wait_reason(number: int) -> str | None:
    return text_of(lib.quire_wait_reason_name(number)) if number < lib.QUIRE_WAIT_REASONS else None


def build_info() -> str:
    return text_of(lib.quire_build_info())


# ---- configuration ----

def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(os.fspath(value), ensure_ascii=False)


def _bytes(text: Any, what: str) -> bytes:
    data = os.fsencode(text)
    if b"\0" in data:
        raise invalid(what, "has a NUL character")
    return data


def _keys(config: Any) -> list[str]:
    keys, i = [], 0
    while (key := lib.quire_config_key_at(config, i)) != ffi.NULL:
        keys.append(text_of(key.name))
        i += 1
    return keys


def _argument_names(keys: list[str]) -> dict[str, str]:
    """The flags of the command-line tool, as arguments: scheduler_max_num_seqs, max_num_seqs where no other key ends
    in it; dtype is that of the weights."""
    plain = [key for key in keys if not re.search(r"[\[*]", key)]
    last = [key.rpartition(".")[2] for key in plain]
    names = {word: key for word, key in zip(last, plain) if last.count(word) == 1}
    return names | {key.replace(".", "_"): key for key in plain} | {"dtype": "model.weight_dtype"}


def open_config(model: str | os.PathLike[str] | None, path: str | os.PathLike[str] | None,
                options: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """Defaults, file, environment, arguments: later wins. `options` have full keys. Checked."""
    out = ffi.new("quire_config **")
    attempt(lib.quire_config_create, out)
    config = ffi.gc(out[0], lib.quire_config_destroy)
    if path is not None:
        attempt(lib.quire_config_read, config, _bytes(path, "config"))
    attempt(lib.quire_config_read_environment, config)

    def assign(origin: str, key: str, value: Any) -> None:
        if value is None:
            return
        text = os.fsencode(value) if isinstance(value, (str, bytes, os.PathLike)) else _toml(value).encode()
        attempt(lib.quire_config_set_value, config, _bytes(key, "options"), _bytes(text, key), origin.encode())

    if model is not None:
        is_path = "/" in str(model) or str(model).startswith(".") or os.path.exists(model)
        assign("model", "model.path" if is_path else "model.preset", model)
    for key, value in options.items():
        assign("options", key, value)
    names = _argument_names(_keys(config))
    for name, value in arguments.items():
        if name not in names:
            import difflib
            near = difflib.get_close_matches(name, names, 1)
            raise invalid(name, "unknown option" + (f", did you mean {near[0]}?" if near else ""))
        assign(name, names[name], value)
    attempt(lib.quire_config_check, config)
    return config


# ---- callbacks ----

@ffi.def_extern()
def quire_python_log(context: Any, level: int, line: Any) -> None:
    log.log({lib.QUIRE_LOG_ERROR: logging.ERROR, lib.QUIRE_LOG_WARN: logging.WARNING,
             lib.QUIRE_LOG_INFO: logging.INFO}.get(level, logging.DEBUG), "%s", text_of(line))


def _set_logger(options: Any) -> None:
    options.logger.write = lib.quire_python_log
    options.logger.level = next(quire for python, quire in (
        (logging.DEBUG, lib.QUIRE_LOG_DEBUG), (logging.INFO, lib.QUIRE_LOG_INFO),
        (logging.WARNING, lib.QUIRE_LOG_WARN), (sys.maxsize, lib.QUIRE_LOG_ERROR)) if log.getEffectiveLevel() <= python)


_cores: weakref.WeakValueDictionary[int, Core] = weakref.WeakValueDictionary()  # by the hook's context


@ffi.def_extern()
def quire_python_mask(context: Any, row: Any, allowed: Any) -> None:
    """An exception leaves no token allowed, which ends the request."""
    bits = ffi.buffer(allowed, (row.vocab_size + 31) // 32 * 4)
    core = _cores.get(int(ffi.cast("uintptr_t", context)))
    if core is None:  # collected; its engine is about to end
        return
    request = core.requests[int(ffi.cast("uintptr_t", row.user_data))]
    try:
        tokens = memoryview(ffi.buffer(row.tokens, row.token_count * 4)).cast("i")
        request.params.mask.fill(MaskRow(row.sequence, tokens, row.prompt_count, row.drafts, row.vocab_size),
                                 memoryview(bits).cast("I"))
    except BaseException as error:
        request.mask_error = error
        bits[:] = bytes(len(bits))


# ---- a request ----

class Output:
    """What came of one sequence, not yet given to the caller."""

    __slots__ = ("index", "token_ids", "logprobs", "logits", "stream", "pushed", "text", "is_stopped", "stop_reason",
                 "finish_reason", "status", "metrics", "is_told")

    def __init__(self, index: int, stream: TextStream | None, has_logprobs: bool, has_logits: bool):
        self.index = index
        self.stream = stream
        self.token_ids: list[int] = []
        self.logprobs: list[dict[int, Logprob]] | None = [] if has_logprobs else None
        self.logits: list[array[float]] | None = [] if has_logits else None
        self.pushed = 0  # of token_ids, those that are in text
        self.text = ""
        self.is_stopped = False  # by a stop string: what the engine still gives is dropped
        self.stop_reason: int | str | None = None
        self.finish_reason: Any = None
        self.status = 0
        self.metrics: SequenceMetrics | None = None
        self.is_told = False  # that it is finished

    def push_text(self, request: Request) -> None:
        """Makes text of the tokens that are not text yet, up to a stop string."""
        stream, ids = self.stream, self.token_ids
        if stream is None or self.is_stopped:
            return
        while self.pushed < len(ids):
            token = ids[self.pushed]
            self.pushed += 1
            if token not in request.silent_ids:
                self.text += stream.push(token)
            if stream.stopped is not None:
                self.is_stopped, self.stop_reason = True, stream.stopped
                del ids[self.pushed:]
                if self.logprobs is not None:
                    del self.logprobs[self.pushed:]
                return
        if self.finish_reason is not None:
            self.text += stream.finish()

    def finish(self, request: Request, finish: int, status: int, detail: int) -> None:
        self.metrics = _metrics_of(ffi.cast("quire_finish_detail *", detail))
        self.status = status
        self.finish_reason = "stop" if self.is_stopped else FINISHES[finish]
        if self.finish_reason == "stop" and self.token_ids and self.token_ids[-1] in request.stop_ids:
            self.stop_reason = self.token_ids[-1]

    def take(self, request: Request) -> CompletionOutput:
        """What came since the last call."""
        error = None
        if self.finish_reason == "error":
            error = QuireError(STATUSES[self.status], f"request {request.request_id}: " + (
                f"the mask raised {request.mask_error!r}" if request.mask_error is not None
                else text_of(lib.quire_status_text(self.status))))
            error.__cause__ = request.mask_error
        output = CompletionOutput(self.index, self.text if self.stream is not None else None, self.token_ids,
                                  self.logprobs, self.logits, self.finish_reason, self.stop_reason, error, self.metrics)
        self.token_ids, self.text, self.pushed = [], "", 0
        self.logprobs = None if self.logprobs is None else []
        self.logits = None if self.logits is None else []
        self.is_told = self.finish_reason is not None
        return output


def _metrics_of(detail: Any) -> SequenceMetrics:
    return SequenceMetrics(*[getattr(detail, field.name) for field in _METRICS],
                           {wait_reason(i): ns for i, ns in enumerate(ffi.unpack(detail.wait_ns, lib.QUIRE_WAIT_REASONS))
                            if ns > 0})


_METRICS = fields(SequenceMetrics)[:-1]


def _logprobs_of(token: int, logprob: float, detail: Any) -> dict[int, Logprob]:
    """The best, and the token itself."""
    result = {}
    if detail != ffi.NULL and detail.top_count > 0:
        pairs = zip(ffi.unpack(detail.top_tokens, detail.top_count), ffi.unpack(detail.top_logprobs, detail.top_count))
        result = {top: Logprob(value, rank) for rank, (top, value) in enumerate(pairs, 1)}
    if token not in result:
        result[token] = Logprob(logprob, None)
    return result


class Request:
    """One in the engine."""

    def __init__(self, key: int, request_id: str, params: SamplingParams, prompt: PromptParts, text: Text | None,
                 eos_token_ids: Sequence[int]):
        self.key, self.request_id, self.params, self.prompt, self.text = key, request_id, params, prompt, text
        self.handle = 0  # quire_request_id
        self.outputs: list[Output] = []
        self.failure: BaseException | None = None  # on Python's side
        self.mask_error: BaseException | None = None
        self.is_touched = False
        self.is_finished = False
        self.waiter: Any = None  # the future of a reader that has taken all
        self.unread_since: float | None = None
        self.has_details = params.logprobs is not None or params.logits is not None
        self.stop_ids = frozenset(params.stop_token_ids or ())
        eos = frozenset() if params.ignore_eos else frozenset(eos_token_ids)
        self.silent_ids = frozenset() if params.include_stop_str_in_output else self.stop_ids | eos
        self.stop = [params.stop] if isinstance(params.stop, str) else list(params.stop or ())
        if self.stop and text is None:
            raise invalid("stop", "strings need a tokenizer, and this engine has none")
        self.prompt_logprobs: list[dict[int, Logprob] | None] | None = None

    def begin(self, handle: int) -> None:
        """It was accepted, n is within its range."""
        self.handle = handle
        self.outputs = [Output(i, self._stream(), self.params.logprobs is not None, self.params.logits is not None)
                        for i in range(self.params.n)]
        if self.params.prompt_logprobs is not None:
            self.prompt_logprobs = [None]

    def _stream(self) -> TextStream | None:
        if self.text is None or not (self.params.detokenize or self.stop):
            return None
        return self.text.stream(self.prompt.token_ids, stop=self.stop,
                                include_stop_str_in_output=self.params.include_stop_str_in_output,
                                skip_special_tokens=self.params.skip_special_tokens)

    def take_detail(self, output: Output, token: int, logprob: float, detail: int) -> None:
        pointer = ffi.cast("quire_token_detail *", detail)
        if output.logprobs is not None:
            output.logprobs.append(_logprobs_of(token, logprob, pointer))
        if output.logits is not None and pointer != ffi.NULL and pointer.logits != ffi.NULL:
            output.logits.append(array("f", ffi.buffer(pointer.logits, 4 * self.prompt.vocab_size)))

    def take_prompt_token(self, token: int, logprob: float, detail: int) -> None:
        assert self.prompt_logprobs is not None
        self.prompt_logprobs.append(_logprobs_of(token, logprob, ffi.cast("quire_token_detail *", detail)))

    def find_stop(self) -> bool:
        """Whether nothing more is wanted: every sequence has found a stop string or ended, or text cannot be made."""
        try:
            for output in self.outputs:
                output.push_text(self)
        except Exception as error:  # of the tokenizer: the others go on
            self.failure = error
        return self.failure is not None or all(o.is_stopped or o.finish_reason is not None for o in self.outputs)

    def take(self, all_of_it: bool) -> RequestOutput | None:
        """What is new, or all if nothing was taken before. None: there is nothing."""
        for output in self.outputs:
            output.push_text(self)
        outputs = [output.take(self) for output in self.outputs
                   if all_of_it or output.token_ids or output.text
                   or (output.finish_reason is not None and not output.is_told)]
        prompt_logprobs = self.prompt_logprobs
        if not outputs and not prompt_logprobs:
            return None
        self.prompt_logprobs = None if prompt_logprobs is None else []
        return RequestOutput(self.request_id, self.prompt.text, self.prompt.token_ids, self.prompt.encoder_token_ids,
                             outputs, self.is_finished, prompt_logprobs or None)


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
    return list(value)


def prompt_parts(prompt: Prompt, info: ModelInfo, encode: Callable[[str, str], list[int]]) -> PromptParts:
    """Text becomes ids by encode(text, field). A bare text or list is the encoder's input where there is an encoder."""
    main = "encoder_input" if info.encoder_layers > 0 else "prompt"
    if not isinstance(prompt, Mapping):
        prompt = {main: prompt} if isinstance(prompt, str) or main != "prompt" else {"prompt_token_ids": prompt}
    known = ("prompt", "prompt_token_ids", "encoder_input", "encoder_features", "cache_salt")
    for name in prompt:
        if name not in known:
            raise invalid("prompt", f"unknown part {name!r}; there are {', '.join(known)}")
    text, ids, encoder = prompt.get("prompt"), prompt.get("prompt_token_ids"), prompt.get("encoder_input")
    if text is not None and ids is None and not isinstance(text, str):
        ids, text = text, None
    encoder_ids = [] if encoder is None else (
        encode(encoder, "encoder_input") if isinstance(encoder, str) else _ids(encoder, "encoder_input"))
    ids = _ids(ids, "prompt") if ids is not None else [] if text is None else encode(text, "prompt")
    shown = text if text is not None else encoder if isinstance(encoder, str) else None
    return PromptParts(shown, ids, encoder_ids, prompt.get("encoder_features"), prompt.get("cache_salt"),
                       info.vocab_size)


# ---- the model ----

@dataclass(slots=True, frozen=True)
class ModelInfo:
    """What a model is. `generation` has what its generation_config.json says for requests that do not."""

    name: str
    path: str | None  # None: a preset
    architecture: str
    parameters: int
    active_parameters: int
    weight_bytes: int
    vocab_size: int
    max_model_len: int  # of this engine: prompt and output
    max_encoder_positions: int
    encoder_feature_size: int  # 0: an encoder input is tokens
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    encoder_layers: int  # 0: decoder-only
    decoder_start_token_id: int | None
    eos_token_ids: tuple[int, ...]
    weight_dtype: str
    batch_invariant: bool
    generation: dict[str, Any]


_RULES = ("banned", "first_banned", "first_allowed", "last_allowed")
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def _model_info(model: Any, path: str | None, stats: Any) -> ModelInfo:
    info = ffi.new("quire_model_info *", {"size": ffi.sizeof("quire_model_info")})
    lib.quire_model_describe(model, info)
    generation = {name: value for name in _SAMPLING if (value := getattr(info.sampling, name)) > 0}
    if info.max_new_tokens > 0:
        generation["max_tokens"] = info.max_new_tokens
    for rule in _RULES:
        if (count := getattr(info, rule + "_count")) > 0:
            generation[rule + "_token_ids"] = ffi.unpack(getattr(info, rule), count)
    same = {field.name: getattr(info, field.name) for field in fields(ModelInfo) if hasattr(info, field.name)}
    same |= {"name": text_of(info.name), "architecture": text_of(info.architecture), "path": path,
             "decoder_start_token_id": info.decoder_start_token_id if info.encoder_layers > 0 else None,
             "eos_token_ids": tuple(ffi.unpack(info.eos_token_ids, info.eos_count)),
             "weight_dtype": text_of(lib.quire_dtype_name(info.weight_dtype)), "max_model_len": stats.max_model_len,
             "batch_invariant": stats.batch_invariant, "generation": generation}
    return ModelInfo(**same)


# ---- filling quire_request ----

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


def _time_ns(name: str, seconds: float | None) -> int:
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
        for rule in _RULES:
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
        if params.max_tokens is not None:
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


# ---- the engine ----

_TOKEN, _FINISHED = lib.QUIRE_EVENT_TOKEN, lib.QUIRE_EVENT_FINISHED


class _Handles:
    """What must be freed, apart from Core, which may be gone by then."""

    def __init__(self, config: Any):
        self.config, self.model, self.engine = config, ffi.NULL, ffi.NULL
        self.driver: threading.Thread | None = None
        self.in_use = threading.Lock()  # by a thread that steps
        self.process = os.getpid()

    def free(self) -> None:
        """Ends the step in progress, then everything. In a forked child the parent's engine is left alone."""
        if os.getpid() != self.process:
            return
        if self.engine != ffi.NULL:
            lib.quire_engine_stop(self.engine)
            if self.driver is not None:
                self.driver.join()
        if not self.in_use.acquire(timeout=10):
            return  # at exit, while another thread steps: the process takes it along
        lib.quire_engine_destroy(self.engine)
        lib.quire_model_destroy(self.model)
        self.engine = self.model = ffi.NULL
        self.in_use.release()


class Core:
    """A model, its engine, and the requests in it. `requests` are those without their last event."""

    EVENT = struct.Struct("=QQQQiIiIfiiB3x")  # quire_event, which is frozen
    EVENTS = 1024

    def __init__(self, model: str | os.PathLike[str] | None, config: str | os.PathLike[str] | None,
                 tokenizer: Text | None, skip_tokenizer_init: bool, seed: int, max_logits_in_flight: int,
                 options: Mapping[str, Any], arguments: Mapping[str, Any]):
        self.config = open_config(model, config, options, arguments)
        self._handles = _Handles(self.config)
        self._finalizer = weakref.finalize(self, self._handles.free)
        self._open_model()
        self._open_engine(max_logits_in_flight)
        stats = self._stats()
        self.info = _model_info(self._handles.model, self._path(), stats)
        self.tokenizer, self._why_none = tokenizer, "skip_tokenizer_init"
        if tokenizer is None and not skip_tokenizer_init:
            self._load_tokenizer()
        self.requests: dict[int, Request] = {}
        self._seed, self._number = seed, 0
        assert ffi.sizeof("quire_event") == self.EVENT.size
        self._events = ffi.new("quire_event[]", self.EVENTS)
        self._bytes = memoryview(ffi.buffer(self._events))
        self._step = ffi.new("quire_step *")

    def _path(self) -> str | None:
        path = lib.quire_config_model_path(self.config)
        return None if path == ffi.NULL else os.fsdecode(ffi.string(path))

    def _open_model(self) -> None:
        options, out = ffi.new("quire_model_options *", lib.quire_config_model(self.config)[0]), ffi.new("quire_model **")
        _set_logger(options)
        path = lib.quire_config_model_path(self.config)
        preset = lib.quire_config_model_preset(self.config)
        if path == ffi.NULL and preset == ffi.NULL:
            raise invalid("model", "none: give a folder, a GGUF file or the name of a preset")
        load, name = (lib.quire_model_load, path) if path != ffi.NULL else (lib.quire_model_synthetic, preset)
        attempt(load, name, options, out)
        self._handles.model = out[0]

    def _open_engine(self, max_logits_in_flight: int) -> None:
        options = ffi.new("quire_engine_options *", lib.quire_config_engine(self.config)[0])
        out = ffi.new("quire_engine **")
        _set_logger(options)
        options.max_logits_in_flight = max_logits_in_flight
        _cores[id(self)] = self
        options.mask.context = ffi.cast("void *", id(self))
        options.mask.fill = lib.quire_python_mask
        attempt(lib.quire_engine_create, options, self._handles.model, out)
        self._handles.engine = out[0]

    def _load_tokenizer(self) -> None:
        """A model without one, or whose packages are not installed, takes token ids."""
        if self.info.path is None:
            self._why_none = "a preset has none"
            return
        try:
            from .text import load_text
            self.tokenizer = load_text(self.info.path)
        except (ImportError, QuireError) as error:
            self._why_none = str(error)
            log.info("no tokenizer: %s", error)

    def _encode(self, text: str, field: str) -> list[int]:
        if self.tokenizer is None:
            raise invalid(field, f"is text, and there is no tokenizer ({self._why_none}): give token ids")
        return self.tokenizer.encode(text)

    @property
    def engine(self) -> Any:
        engine = self._handles.engine
        if engine == ffi.NULL:
            raise EngineClosed("the engine is closed")
        return engine

    @property
    def event_fd(self) -> int:
        return lib.quire_engine_event_fd(self.engine)

    @property
    def in_use(self) -> threading.Lock:
        return self._handles.in_use

    def start_driver(self) -> None:
        """A thread that steps. It holds nothing of this object, which may so be collected."""
        self._handles.driver = threading.Thread(target=lib.quire_engine_run, args=(self.engine,), daemon=True,
                                                name="quire driver")
        self._handles.driver.start()

    def close(self) -> None:
        self._finalizer()

    # ---- requests in ----

    def submit(self, prompt: Prompt, params: SamplingParams | None, request_id: str | None = None, *, priority: int = 0,
               tenant: str = "", timeout: float | None = None, queue_timeout: float | None = None,
               skip_reading_prefix_cache: bool = False, skip_writing_prefix_cache: bool = False) -> Request:
        params = SamplingParams() if params is None else params
        parts = prompt_parts(prompt, self.info, self._encode)
        number = self._number + 1
        filler = Filler(self.info)
        filler.prompt(parts)
        filler.limits(params, len(parts.token_ids))
        filler.sampling(params, self._seed + number & (1 << 64) - 1)
        filler.rules(params, len(parts.token_ids))
        filler.bias(params.logit_bias)
        filler.text("tenant", tenant)
        to = filler.request
        to.timeout_ns, to.queue_timeout_ns = _time_ns("timeout", timeout), _time_ns("queue_timeout", queue_timeout)
        to.skip_reading_prefix_cache = skip_reading_prefix_cache
        to.skip_writing_prefix_cache = skip_writing_prefix_cache
        try:
            to.priority = priority
        except (TypeError, OverflowError):
            raise invalid("priority", f"{priority!r} is not in -1000..1000") from None
        request = Request(number, str(number) if request_id is None else request_id, params, parts, self.tokenizer,
                          self.info.eos_token_ids)
        self._submit(to, request, params.max_tokens is None)
        return request

    def _submit(self, to: Any, request: Request, may_shorten: bool) -> None:
        """A default of max_tokens that the cache has no room for becomes what it has."""
        handle = ffi.new("quire_request_id *")
        to.user_data = ffi.cast("void *", request.key)
        self.requests[request.key] = request  # its first event may come before submit returns
        try:
            try:
                attempt(lib.quire_engine_submit, self.engine, to, handle)
            except QuireError as error:
                if error.status != "ERR_TOO_LONG" or not may_shorten:
                    raise
                to.max_tokens = 0
                attempt(lib.quire_engine_submit, self.engine, to, handle)
        except BaseException:
            del self.requests[request.key]
            raise
        request.begin(handle[0])
        self._number = request.key

    def cancel(self, request: Request) -> None:
        lib.quire_engine_cancel(self.engine, request.handle)

    # ---- steps and events out ----

    def step(self) -> bool:
        """Whether there was something to compute. For an engine without a driver."""
        self._step.size = ffi.sizeof("quire_step")
        status = lib.quire_engine_step(self.engine, self._step)
        if status != lib.QUIRE_OK:
            raise QuireError(STATUSES[status], text_of(lib.quire_status_text(status)))
        return self._step.rows > 0 or self._step.rows_encoder > 0

    def poll(self) -> list[Request]:
        """Takes what is there, at most EVENTS. The requests that got something."""
        count = lib.quire_engine_poll(self.engine, self._events, self.EVENTS)
        touched: list[Request] = []
        requests = self.requests
        for _, key, _, detail, kind, index, token, _, logprob, finish, status, last in self.EVENT.iter_unpack(
                self._bytes[:count * self.EVENT.size]):
            request = requests[key]
            if not request.is_touched:
                request.is_touched = True
                touched.append(request)
            output = request.outputs[index]
            if kind == _TOKEN:
                if not output.is_stopped:
                    output.token_ids.append(token)
                    if request.has_details:
                        request.take_detail(output, token, logprob, detail)
            elif kind == _FINISHED:
                output.finish(request, finish, status, detail)
                if last:
                    request.is_finished = True
                    del requests[key]
            else:
                request.take_prompt_token(token, logprob, detail)
        for request in touched:
            request.is_touched = False
            if request.stop and request.find_stop() and not request.is_finished:
                self.cancel(request)
        return touched

    # ---- looking in ----

    def _stats(self) -> Any:
        stats = ffi.new("quire_stats *", {"size": ffi.sizeof("quire_stats")})
        lib.quire_engine_stats(self.engine, stats)
        return stats

    def stats(self) -> dict[str, Any]:
        stats = as_dict(self._stats())
        return stats | {"wait_ns": by_name(stats["wait_ns"], wait_reason),
                        "finished_by": by_name(stats["finished_by"], lambda i: FINISHES.get(i) if i > 0 else None)}

    def check(self) -> str | None:
        broken = lib.quire_engine_check(self.engine)
        return None if broken == ffi.NULL else text_of(broken)

    def explain(self, request: Request) -> dict[str, Any]:
        explanation = ffi.new("quire_explanation *", {"size": ffi.sizeof("quire_explanation")})
        status = lib.quire_engine_explain(self.engine, request.handle, explanation)
        if status != lib.QUIRE_OK:
            raise QuireError(STATUSES[status], f"request {request.request_id}: {text_of(lib.quire_status_text(status))}")
        return {"reason": wait_reason(explanation.reason), "missing_blocks": explanation.missing_blocks,
                "wait_ns": by_name(explanation.wait_ns, wait_reason)}

    def flush_cache(self) -> None:
        lib.quire_engine_flush_cache(self.engine)
