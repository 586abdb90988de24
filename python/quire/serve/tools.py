"""Tools: what an answer may call, and the calls in what a model wrote.

A model's chat template tells it of the tools, and how to call them. Two ways are understood: Hermes' and Qwen's,
<tool_call>{"name": ..., "arguments": {...}}</tool_call> as often as it likes, and Llama's, an answer that is the object
{"name": ..., "parameters": {...}} itself. Where a call is demanded the answer is made to be one, by a JSON schema."""
from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from .errors import bad
from .protocol import ChatRequest

FORMATS = ("hermes", "llama3_json", "none")
OPEN, CLOSE = "<tool_call>", "</tool_call>"
TAG = "<|python_tag|>"  # of Llama, before a call
NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
Call = dict[str, Any]


def format_of(template: str | None) -> str:
    """The one that a chat template asks for."""
    if template is None or "<function=" in template:
        return "none"
    return "hermes" if OPEN in template else "llama3_json" if '"parameters"' in template else "none"


class Reader(Protocol):
    """Finds calls in a text that comes in pieces."""

    calls: list[Call]

    def push(self, text: str) -> str:
        """The text that is certainly no part of a call."""

    def finish(self) -> str:
        """What is left of it at the end."""


class Tools:
    """The tools of a request, and which of them its answer may or must call."""

    def __init__(self, request: ChatRequest, form: str):
        self._functions = _functions(request.tools or [])
        self._form = "none" if request.tool_choice == "none" else form
        self._single = request.parallel_tool_calls is False
        self._wanted = self._choice(request.tool_choice)

    def _choice(self, choice: Any) -> list[str]:
        """Those of which one must be called. None: it is for the model to choose."""
        if choice in (None, "none", "auto"):
            return []
        name = None
        if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("function"), dict):
            name = choice["function"].get("name")
        if choice != "required" and not isinstance(name, str):
            raise bad('tool_choice: expected "none", "auto", "required" or {"type": "function", "function": {"name": ...}}',
                      "tool_choice")
        if not self._functions:
            raise bad("tool_choice: there are no tools", "tool_choice")
        if name is not None and name not in self._functions:
            raise bad(f"tool_choice: {name[:64]!r} is none of the tools", "tool_choice")
        self._single |= name is not None
        return list(self._functions) if name is None else [name]

    def schema(self) -> dict[str, Any] | None:
        """What the answer must be, where a call is demanded."""
        if not self._wanted:
            return None
        shared: dict[str, dict[str, Any]] = {"$defs": {}, "definitions": {}}
        calls = [_call_schema(name, self._functions[name], shared) for name in self._wanted]
        one: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
        whole = one if self._single else {"type": "array", "minItems": 1, "items": one}
        return {**whole, **{key: value for key, value in shared.items() if value}}

    def reader(self) -> Reader | None:
        """For one sequence. None: its text has no calls."""
        if self._wanted:
            return _Whole(self._functions, self._single, always=True)
        if not self._functions or self._form == "none":
            return None
        return _Tagged(self._functions, self._single) if self._form == "hermes" else _Whole(self._functions, self._single)


def _functions(tools: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The schema of its arguments by a function's name."""
    functions: dict[str, dict[str, Any]] = {}
    for i, tool in enumerate(tools):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise bad(f'tools[{i}]: expected {{"type": "function", "function": {{"name": ..., "parameters": {{...}}}}}}', "tools")
        name, parameters = function.get("name"), function.get("parameters")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise bad(f"tools[{i}].function.name: expected 1 to 64 letters, digits, _, - and .", "tools")
        if name in functions:
            raise bad(f"tools[{i}].function.name: {name!r} is another tool's, too", "tools")
        if parameters is not None and not isinstance(parameters, dict):
            raise bad(f"tools[{i}].function.parameters: expected an object", "tools")
        functions[name] = parameters or {"type": "object"}
    return functions


def _call_schema(name: str, parameters: dict[str, Any], shared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """References are relative to the whole schema, so what they refer to moves to its top."""
    for key, definitions in shared.items():
        for title, definition in (parameters.get(key) or {}).items():
            if definitions.setdefault(title, definition) != definition:
                raise bad(f"tools: {key}.{title} is not the same in all of them", "tools")
    arguments = {key: value for key, value in parameters.items() if key not in shared}
    return {"type": "object", "properties": {"name": {"const": name}, "arguments": arguments},
            "required": ["name", "arguments"], "additionalProperties": False}


# ---- reading ----

class _Reader:
    def __init__(self, functions: Mapping[str, Any], single: bool):
        self._functions, self._single = functions, single
        self._text = ""  # held back
        self.calls: list[Call] = []

    def _take(self, found: Any) -> bool:
        """Whether it is a call, or several."""
        calls = [self._call(each) for each in (found if isinstance(found, list) else [found])]
        if not calls or None in calls:
            return False
        self.calls += [call for call in calls if call is not None]
        if self._single:
            del self.calls[1:]
        return True

    def _call(self, found: Any) -> Call | None:
        if not isinstance(found, dict) or found.get("name") not in self._functions:
            return None
        arguments = found.get("arguments", found.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = _json(arguments)
        if not isinstance(arguments, dict):
            return None
        return {"id": f"call_{uuid.uuid4().hex}", "type": "function",
                "function": {"name": found["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}}


class _Tagged(_Reader):
    """Between <tool_call> and </tool_call>. The space around a call is no text."""

    _is_behind_call = False

    def push(self, text: str) -> str:
        self._text += text
        said = ""
        while (begin := self._text.find(OPEN)) >= 0:
            said += self._said(self._text[:begin].rstrip())
            self._text = self._text[begin:]
            if (end := self._text.find(CLOSE)) < 0:
                return said
            inside, self._text = self._text[:end + len(CLOSE)], self._text[end + len(CLOSE):]
            if self._take(_json(inside.removeprefix(OPEN).removesuffix(CLOSE))):
                self._is_behind_call = True
            else:
                said += self._said(inside)
        kept = _beginning(self._text)
        said += self._said(self._text[:kept])
        self._text = self._text[kept:]
        return said

    def _said(self, text: str) -> str:
        text = text.lstrip() if self._is_behind_call else text
        self._is_behind_call &= not text
        return text

    def finish(self) -> str:
        """The last call may lack its end."""
        text, self._text = self._text, ""
        if text.startswith(OPEN) and self._take(_json(text.removeprefix(OPEN))):
            return ""
        return self._said(text)


class _Whole(_Reader):
    """The answer is a call, or several with ; between, or it has none."""

    def __init__(self, functions: Mapping[str, Any], single: bool, always: bool = False):
        super().__init__(functions, single)
        self._is_held = True
        self._always = always

    def push(self, text: str) -> str:
        self._text += text
        begin = self._text.lstrip()
        self._is_held &= self._always or TAG.startswith(begin) or begin.removeprefix(TAG).lstrip()[:1] in ("", "{", "[")
        if self._is_held:
            return ""
        text, self._text = self._text, ""
        return text

    def finish(self) -> str:
        text, self._text = self._text, ""
        found = _values(text.strip().removeprefix(TAG).lstrip()) if self._is_held else []
        return "" if found and self._take(found) else text


def _beginning(text: str) -> int:
    """Where something begins that may become a call: half a tag, and the space before it."""
    for length in range(min(len(OPEN) - 1, len(text)), 0, -1):
        if text.endswith(OPEN[:length]):
            return len(text[:-length].rstrip())
    return len(text.rstrip())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _values(text: str) -> list[Any]:
    """JSON values with space or ; between; none if anything else is there."""
    values, place = [], 0
    decode = json.JSONDecoder().raw_decode
    try:
        while place < len(text):
            value, place = decode(text, place)
            values += value if isinstance(value, list) else [value]
            rest = text[place:].lstrip(" \n\r\t;")
            place = len(text) - len(rest)
    except (ValueError, RecursionError):
        return []
    return values
