"""The extension as Python sees it: names of its numbers, errors, structs."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ._quire import ffi, lib
from .request import QuireError


def names_of(enum: str, prefix: str) -> dict[int, str]:
    return {value: name.removeprefix(prefix) for value, name in ffi.typeof(enum).elements.items()}


STATUSES = names_of("quire_status", "QUIRE_")
FINISHES = {value: name.lower() for value, name in names_of("quire_finish", "QUIRE_FINISH_").items()}
CACHE_EVENTS: dict[int, Any] = {
    value: name.lower() for value, name in names_of("quire_cache_event_kind", "QUIRE_CACHE_").items()}
WAIT_REASONS = [ffi.string(lib.quire_wait_reason_name(i)).decode() for i in range(lib.QUIRE_WAIT_REASONS)]

# Members of quire_request whose name in Python is another one.
PYTHON_NAMES = {"prompt_count": "prompt", "encoder_count": "encoder_input", "encoder_frames": "encoder_features",
                "stop": "stop_token_ids", "stop_count": "stop_token_ids", "prompt_top_logprobs": "prompt_logprobs",
                "timeout_ns": "timeout", "queue_timeout_ns": "queue_timeout", "logit_bias_count": "logit_bias"}
for _list in ("allowed", "banned", "first_banned", "first_allowed", "last_allowed"):
    PYTHON_NAMES[_list] = PYTHON_NAMES[_list + "_count"] = _list + "_token_ids"


def text_of(pointer: Any) -> str:
    return str(ffi.string(pointer), "utf-8", "replace")


def error_of(status: int, error: Any) -> QuireError:
    """"member: sentence" of a request is told with the member's name in Python."""
    name, message = STATUSES.get(status, str(status)), text_of(error.message) or text_of(lib.quire_status_text(status))
    message = message.removeprefix("request: ")
    member = re.match(r"([a-z_]+)(?=: |\[| is NULL)", message) if name in ("ERR_INVALID", "ERR_TOO_LONG") else None
    if member is None:
        return QuireError(name, message)
    field = PYTHON_NAMES.get(member[1], member[1])
    return QuireError(name, field + message[member.end():], field)


def invalid(field: str, sentence: str) -> QuireError:
    return QuireError("ERR_INVALID", f"{field}: {sentence}", field)


def no_tokenizer(field: str, why: str = "") -> QuireError:
    return invalid(field, f"is text, and there is no tokenizer{why}: give token ids")


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
            value = text_of(value) if field.type.item.cname == "char" else list(value)
        if name != "size":
            result[name] = value
    return result


def build_info() -> str:
    return text_of(lib.quire_build_info())
