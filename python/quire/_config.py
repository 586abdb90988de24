"""Options: the library's configuration, filled from a file, the environment and arguments."""
from __future__ import annotations

import difflib
import json
import numbers
import os
import re
from collections.abc import Mapping
from typing import Any

from ._binding import attempt, invalid, text_of
from ._quire import ffi, lib


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
    """Of a text or a path."""
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:
        raise invalid(what, f"{text!r} is not text") from None
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


def read_assignments(assignments: list[str]) -> dict[str, str]:
    """`options` from the values of the flag --set."""
    options = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise invalid("options", f"--set {assignment}: expected SECTION.KEY=VALUE")
        options[key.strip()] = value.strip()
    return options


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
        try:
            text = value if isinstance(value, (str, bytes, os.PathLike)) else _toml(value)
        except TypeError:
            raise invalid(origin, f"{value!r} is no value of the configuration") from None
        attempt(lib.quire_config_set_value, config, _bytes(key, "options"), _bytes(text, key), origin.encode())

    if model is not None:
        is_path = "/" in str(model) or str(model).startswith(".") or os.path.exists(model)
        assign("model", "model.path" if is_path else "model.preset", model)
    for key, value in options.items():
        assign("options", key, value)
    names = _argument_names(_keys(config))
    for name, value in arguments.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise invalid(name, "unknown option" + (f", did you mean {near[0]}?" if near else ""))
        assign(name, names[name], value)
    attempt(lib.quire_config_check, config)
    return config
